"""`@simulate`'s options, and what it says of a test that is no good for it."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Any

import pytest

from beamish import GenServer, call
from beamish.testing import Kit, World, simulate
from beamish.testing._simulate import summaries
from beamish.testing._virtual import Spinning, VirtualLoop
from testing.races import lost_update


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"seeds": 0}, "seeds is a number of runs, 1 or more. Got: 0"),
        ({"seeds": "3"}, "seeds is a number of runs, 1 or more. Got: '3'"),
        ({"seeds": 2.5}, "seeds is a number of runs"),
        ({"seeds": True}, "seeds is a number of runs"),
        ({"exhaustive": True, "bound": -1}, "bound is a number of runs"),
        ({"strategy": "nope"}, "strategy is one of 'mixed', 'random'"),
        ({"strategy": "pct", "exhaustive": True}, "nothing for a strategy to choose"),
        ({"faults": ["explode"]}, "faults are 'crash', .* Got: 'explode'"),
        ({"faults": "crash"}, "faults is a list or tuple of names"),
        ({"faults": None}, "faults is a list or tuple of names"),
    ],
)
def test_wrong_options_are_told_where_they_stand(options: dict[str, Any], text: str) -> None:
    with pytest.raises((ValueError, TypeError), match=text):
        simulate(**options)


def test_without_parentheses() -> None:
    async def test() -> None: ...

    with pytest.raises(TypeError, match=r"@simulate\(\) or @simulate\(seeds=1000\)"):
        simulate(test)  # type: ignore[arg-type]


def failure(test: Callable[[World], Any], **options: Any) -> str:
    @simulate(50, **options)
    async def simulated(world: World) -> None:
        await test(world)

    with pytest.raises(Exception) as raised:
        simulated(world=None)  # type: ignore[arg-type]
    return "\n".join(raised.value.__notes__)


async def by_chance(world: World) -> None:
    assert random.random() < 0.7


def test_a_test_that_fails_by_chance_is_no_race() -> None:
    random.seed(5)
    told = [failure(by_chance) for _ in range(5)]
    assert any("it depends on something that is no choice of the simulation" in one for one in told)


def test_the_runs_that_look_for_a_shorter_way_log_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Fragile(GenServer[None]):
        def init(self) -> None: ...

        @call
        def work(self, state: None) -> None: ...

    async def test(world: World) -> None:
        fragile = await world.start_supervised(Fragile("fragile").child_spec())
        for _ in range(5):
            await fragile.work()

    caplog.set_level(logging.ERROR)
    failure(test, faults=["crash"])
    told = [one.getMessage() for one in caplog.records if one.name.startswith("beamish")]
    assert 1 <= len(told) <= 6, told


class Tick(GenServer[None]):
    def init(self) -> None:
        self.send_after(1.0, "tick")

    def handle_info(self, state: None, message: object) -> None: ...


def test_a_timer_at_the_end_of_an_advance_can_be_explored() -> None:
    @simulate(exhaustive=True)
    async def test(beamish: Kit) -> None:
        await beamish.start_supervised(Tick("tick").child_spec())
        await beamish.clock.advance(1.0)

    test(beamish=None)  # type: ignore[arg-type]
    assert summaries.pop()[0].endswith("interleavings that can differ pass")


def test_an_exhaustive_failure_tells_what_happened() -> None:
    told = failure(lost_update, exhaustive=True)
    assert "(exhaustive)" in told
    assert "what happened:" in told
    assert ".0 " not in told.splitlines()[0]  # no zeros at the end of the tape


def test_who_spins_is_told_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("beamish.testing._virtual.TURNS", 1000)

    async def main() -> None:
        async with asyncio.timeout(10.0):
            while True:  # noqa: ASYNC110
                await asyncio.sleep(0)

    with (
        asyncio.Runner(loop_factory=VirtualLoop) as runner,
        pytest.raises(Spinning, match=r"no time has passed.*test_simulate.py:\d+ in main"),
    ):
        runner.run(main())


async def test_many_turns_with_time_between_are_none(beamish: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("beamish.testing._virtual.TURNS", 1000)
    for _ in range(50):
        for _ in range(100):
            await asyncio.sleep(0)
        await asyncio.sleep(0.001)


async def test_in_a_test_it_is_the_tests_failure(beamish: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("beamish.testing._virtual.TURNS", 1000)

    async def spin() -> None:
        while True:  # noqa: ASYNC110
            await asyncio.sleep(0)

    def run() -> None:
        Kit().run(spin)

    with pytest.raises(Spinning):
        await asyncio.to_thread(run)
