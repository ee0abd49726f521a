"""The same on uvloop: calls of every kind, timers, a crash and the restart, the end of the loop."""

from __future__ import annotations

import asyncio

import pytest

from beamish import GenServer, ServerDown, call, cast, supervise
from beamish.testing import capture_crashes

uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed")


class Counter(GenServer[list[int]]):
    def init(self) -> list[int]:
        self.send_after(0.0, 100)
        return [0]

    @call
    def add(self, state: list[int], n: int) -> int:
        state[0] += 10 // n
        return state[0]

    @call
    async def add_slowly(self, state: list[int], n: int) -> int:
        await asyncio.sleep(0)
        state[0] += n
        return state[0]

    @cast
    def increase(self, state: list[int], n: int) -> None:
        state[0] += n

    def handle_info(self, state: list[int], message: int) -> None:
        state[0] += message


def test_the_life_of_a_server() -> None:
    async def main() -> list[int]:
        counter = Counter("counter")
        seen: list[int] = []
        async with supervise([counter.child_spec()]):
            while await counter.add_slowly(0) < 100:  # the timer's message
                pass
            counter.increase(1)
            seen.append(await counter.add(1))
            with capture_crashes(), pytest.raises(ServerDown):
                await counter.add(0)
            seen.append(await counter.add_slowly(7) % 100)
            seen.append(len(await asyncio.gather(*(counter.add_slowly(1) for _ in range(50)))))
        return seen

    assert uvloop.run(main()) == [111, 7, 50]
