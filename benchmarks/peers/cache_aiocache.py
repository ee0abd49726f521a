# mypy: ignore-errors
"""aiocache: its in-memory cache, and the decorators around coroutine functions."""

import asyncio

from aiocache import SimpleMemoryCache, cached, cached_stampede
from answers import median_ns_async, say

SIZE = 10_000


async def speed():
    cache = SimpleMemoryCache()
    for key in range(SIZE):
        await cache.set(key, key, ttl=60)

    async def hits():
        for key in range(SIZE):
            await cache.get(key)

    say("hit", await median_ns_async(SIZE, hits))
    entries = len(cache._cache)
    say("put that evicts", f"no limit can be given: {entries} entries are kept until their time is over")


async def callers(decorator):
    loads = []

    @decorator
    async def load(key):
        loads.append(key)
        await asyncio.sleep(0.05)
        return "value"

    await asyncio.gather(*(load(1) for _ in range(100)))
    return len(loads)


async def none():
    loads = []

    @cached(ttl=60)
    async def load(key):
        loads.append(key)

    await load(1)
    await load(1)
    return len(loads)


async def main():
    await speed()
    plain, guarded = await callers(cached(ttl=60)), await callers(cached_stampede(lease=2, ttl=60))
    say("100 callers, one key: loads", f"{plain} with cached, {guarded} with cached_stampede")
    say("a cached None", "is a hit" if await none() == 1 else "is a miss: loaded again")


asyncio.run(main())
