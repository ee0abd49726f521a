# mypy: ignore-errors
"""Plain asyncio, by hand: the reference for the others."""

import asyncio

from answers import median_ns_async, say, seen

from benchmarks.baselines import AServer, RestartedServer


async def main():
    async with AServer() as server:

        async def calls():
            for _ in range(2_000):
                await server.call(1)

        async def casts():
            for _ in range(10_000):
                server.cast(1)
            await server.call(1)

        say("call", await median_ns_async(2_000, calls))
        say("cast", await median_ns_async(10_000, casts))
    async with RestartedServer() as server:
        say("crash seen by its client", await seen(server.call(0)))
        say("restart", f"a loop around the loop: {await seen(server.call(1))}")
        for _ in range(10):
            await seen(server.call(0))
        say("restart limit", f"10 restarts after 10 crashes, then {await seen(server.call(1))}; no limit unless it is written")
    say("stop order of a, b, c", "none unless it is written")


asyncio.run(main())
