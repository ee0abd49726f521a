"""What the fixture `beamish` gives, under mypy --strict and pyright strict. Checked, not run (but importable)."""

from __future__ import annotations

from logging import LogRecord
from typing import Any, assert_type

from beamish import GenServer, Pid, call
from beamish.testing import Heard, Kit, like, simulate


class Counter(GenServer[int]):
    def init(self) -> int:
        return 0

    @call
    def count(self, state: int) -> int:
        return state


async def servers(beamish: Kit, pid: Pid) -> None:
    counter = await beamish.start_supervised(Counter("counter").child_spec())
    assert_type(counter, Counter)
    assert_type(await beamish.crash(counter), Counter)
    assert_type(await beamish.crash(pid, ValueError), Pid)
    assert_type(await beamish.stop_supervised("counter"), None)


async def messages(beamish: Kit) -> None:
    assert_type(await beamish.assert_receive(int, like(Pid), timeout=0.5), Any)
    assert_type(await beamish.refute_receive(), None)


async def the_rest(beamish: Kit) -> None:
    async def later() -> str:
        return "now"

    assert_type(await beamish.eventually(later), str)
    assert_type(await beamish.eventually(lambda: 3), int)
    assert_type(beamish.clock.now(), float)
    with beamish.capture_crashes() as reports, beamish.capture_telemetry("a.b") as heard:
        assert_type(reports, list[LogRecord])
        assert_type(heard, list[Heard])


def plain(beamish: Kit) -> None:
    async def body() -> int:
        return 1

    assert_type(beamish.run(body), int)


@simulate(seeds=10)
async def simulated(beamish: Kit) -> None: ...


def a_simulation_is_a_plain_function(kit: Kit) -> None:
    assert_type(simulated(kit), None)
