# mypy: ignore-errors
"""Beamish: a SearchCache, which is a server that everybody asks; and its table without the server."""

import asyncio

from answers import median_ns_async, say

from beamish.servers import SearchCache

SIZE = 10_000


async def main():
    cache = await SearchCache.start_link(limit=SIZE, ttl=60.0, stats_every=None)
    for key in range(SIZE):
        await cache.put(key, key)

    async def hits():
        for key in range(SIZE):
            await cache.fetch(key)

    fresh = iter(range(SIZE, 10 * SIZE))

    async def evicting_puts():
        for _ in range(SIZE):
            await cache.put(next(fresh), 1)

    say("hit", await median_ns_async(SIZE, hits))
    say("put that evicts", await median_ns_async(SIZE, evicting_puts))
    loads = []

    async def caller():
        if await cache.fetch("missing") is None:
            loads.append(1)
            await asyncio.sleep(0.05)
            cache.cache("missing", "value")

    await asyncio.gather(*(caller() for _ in range(100)))
    say("100 callers, one key: loads", f"{len(loads)}: it holds results, and who misses one loads it")
    missing = object()
    await cache.put("nothing", None)
    say("a cached None", "is a hit" if await cache.fetch("nothing", missing) is None else "is a miss: loaded again")


asyncio.run(main())
