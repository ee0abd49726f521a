# mypy: ignore-errors
"""Beamish: GenServers and supervisors on asyncio."""

import asyncio
import logging

from answers import median_ns_async, say, seen

from beamish import GenServer, call, cast, flag, supervise

logging.disable(logging.CRITICAL)
stopped = []


class Counter(GenServer[list[int]]):
    def init(self):
        return [0]

    @call
    def add(self, state, by):
        state[0] += 10 // by
        return state[0]

    @cast
    def increase(self, state, by):
        state[0] += by


class Named(GenServer[str]):
    def init(self, name):
        flag(trap_exit=True)
        return name

    def terminate(self, state, reason):
        stopped.append(state)


counter = Counter("counter")


async def main():
    async with supervise([counter.child_spec()], max_restarts=3, max_seconds=5):

        async def calls():
            for _ in range(2_000):
                await counter.add(1)

        async def casts():
            for _ in range(10_000):
                counter.increase(1)
            await counter.add(1)

        say("call", await median_ns_async(2_000, calls))
        say("cast", await median_ns_async(10_000, casts))
        say("crash seen by its client", await seen(counter.add(0)))
        say("restart", f"the name has the new one: {await seen(counter.add(1))}")
    say("restart limit", await limit())
    async with supervise([Named.child_spec(name).replace(id=name) for name in "abc"]):
        pass
    say("stop order of a, b, c", " ".join(stopped) or "terminate is not called when the tree is stopped")


async def limit():
    crashes = 0
    try:
        async with supervise([counter.child_spec()], max_restarts=3, max_seconds=5):
            for _ in range(10):
                await asyncio.sleep(0.05)
                crashes += 1
                await seen(counter.add(0))
    except Exception as error:
        return f"{crashes - 1} restarts with 3 allowed, then the block ends with {type(error).__name__}"
    return f"{crashes} restarts with 3 allowed, the supervisor goes on"


asyncio.run(main())
