# mypy: ignore-errors
"""Beamish: a RateLimiter, which is a server that everybody asks. An exact sliding window, 100 requests a minute."""

import asyncio
import gc
import tracemalloc

from answers import median_ns_async, say

from beamish.servers import RateLimiter

KEYS = [f"key {number}" for number in range(1_000)]


async def limiter():
    return await RateLimiter.start_link(limit=100, per=60.0, stats_every=None)


async def main():
    one, hot = await limiter(), await limiter()

    async def decisions():
        for key in KEYS * 10:
            await one.track(key)

    async def denials():
        for _ in range(5_000):
            await hot.track("hot")

    say("decision", await median_ns_async(10_000, decisions))
    for _ in range(100):
        await hot.track("hot")
    say("denied hot key", await median_ns_async(5_000, denials))

    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    kept = await limiter()
    for number in range(20_000):
        await kept.track(f"key {number}")
    say("memory of a key, 1 request", (tracemalloc.get_traced_memory()[0] - before) / 20_000)
    tracemalloc.stop()

    for number in range(1_100):
        await hot.track(f"flood {number}")
    say("denied key after 1,100 other keys", "allowed again" if await hot.track("hot") else "still denied")


asyncio.run(main())
