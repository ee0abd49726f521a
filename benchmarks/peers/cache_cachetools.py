# mypy: ignore-errors
"""cachetools: a TTLCache is a mapping; `cached` wraps plain functions."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from answers import described, median_ns, say
from cachetools import TTLCache, cached

SIZE = 10_000
cache = TTLCache(SIZE, 60)
for key in range(SIZE):
    cache[key] = key


def hits():
    for key in range(SIZE):
        cache.get(key)


fresh = iter(range(SIZE, 10 * SIZE))


def evicting_puts():
    for _ in range(SIZE):
        cache[next(fresh)] = 1


say("hit", median_ns(SIZE, hits))
say("put that evicts", median_ns(SIZE, evicting_puts))

loads = []


def load(key):
    loads.append(key)
    time.sleep(0.1)


shared = cached(TTLCache(SIZE, 60), condition=threading.Condition())(load)
with ThreadPoolExecutor(100) as threads:
    list(threads.map(shared, [1] * 100))
with_threads = len(loads)


@cached(TTLCache(SIZE, 60))
async def load_async(key):
    await asyncio.sleep(0.01)
    return key


async def two():
    await load_async(1)
    try:
        await load_async(1)
    except RuntimeError as error:
        return described(error)
    return "works"


say("100 callers, one key: loads", f"{with_threads} (threads, condition=); a coroutine function: the 2nd caller gets {asyncio.run(two())}")

loads.clear()
nothing = cached(TTLCache(SIZE, 60))(load)
nothing(1)
nothing(1)
say("a cached None", "is a hit" if len(loads) == 1 else "is a miss: loaded again")
