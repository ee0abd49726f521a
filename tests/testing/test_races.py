"""Servers with known races: a plain run passes, the simulation finds them, and their repaired forms hold."""

from __future__ import annotations

from typing import Any

import pytest

from beamish.testing import World, capture_crashes
from beamish.testing._choosers import Plain
from beamish.testing._explore import explore
from beamish.testing._simulate import Run, Strategy, run_once, simulate
from seeds import seeds
from testing.races import RACES, Race

races = pytest.mark.parametrize("race", RACES, ids=lambda race: race.name)


def simulated(race: Race, test: Any, count: int, strategy: Strategy = "mixed", **options: Any) -> None:
    @simulate(count, strategy=strategy, faults=race.faults, **options)  # type: ignore[arg-type]
    async def run(world: World) -> None:
        await test(world)

    with capture_crashes():
        run(world=None)  # type: ignore[arg-type]


@races
def test_a_plain_run_passes(race: Race) -> None:
    assert run_once(race.broken, Plain(), race.faults).error is None


@races
@pytest.mark.parametrize("strategy", ["random", "pct", "fair_pct", "pos"])
def test_every_strategy_finds_it_within_500_seeds(race: Race, strategy: Strategy) -> None:
    with pytest.raises(Exception) as found:
        simulated(race, race.broken, 500, strategy)
    told = "\n".join(getattr(found.value, "__notes__", []))
    assert "Again: --beamish-seed=" in told or "Traceback of the server" in told


@races
def test_few_deviations_find_it_too(race: Race) -> None:
    with pytest.raises(Exception):  # noqa: B017
        simulated(race, race.broken, 1000, "deepening")


@races
def test_its_repaired_form_holds(race: Race) -> None:
    simulated(race, race.repaired, seeds(100, 10_000))


@races
def test_its_repaired_form_holds_in_every_interleaving(race: Race) -> None:
    simulated(race, race.repaired, 1, exhaustive=True, bound=10_000 if race.small else seeds(500, 10_000))


@races
def test_every_interleaving_holds_the_race(race: Race) -> None:
    class Found(Exception): ...

    def check(run: Run, tape: str) -> None:
        if run.error is not None:
            raise Found(tape)

    with capture_crashes(), pytest.raises(Found):
        explore(race.broken, 10_000, check, race.faults)
