"""A seed is the same run again: in this process, in another, on another Python; and a tape that is shrunk still fails."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from beamish.testing import World, _simulate, capture_crashes
from beamish.testing._choosers import Plain, Random, Tape
from beamish.testing._explore import explore
from beamish.testing._simulate import Run, run_once, simulate
from testing.races import RACES, Race, lost_update

ROOT = Path(__file__).parents[2]
races = pytest.mark.parametrize("race", RACES, ids=lambda race: race.name)


def traces(python: str, hash_seed: str) -> str:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT / 'tests'}", "PYTHONHASHSEED": hash_seed}
    run = subprocess.run([python, "-m", "testing.traces"], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=50)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.fixture(scope="module")
def ours() -> str:
    return traces(sys.executable, "1")


def pythons() -> dict[str, str]:
    """The Pythons of this machine, by version: "3.11" and a path."""
    script = ROOT / "scripts" / "find_pythons.sh"
    found = subprocess.run(["sh", str(script)], capture_output=True, text=True, timeout=50).stdout if script.exists() else ""
    return {".".join(version.split(".")[:2]): path for version, _, path in (line.partition(" ") for line in found.splitlines())}


def test_in_another_process(ours: str) -> None:
    assert ours.count("\n") == 2112
    assert traces(sys.executable, "2") == ours


@pytest.mark.parametrize("version", [one for one in ("3.11", "3.12", "3.13") if one != "{}.{}".format(*sys.version_info)])
def test_on_another_python(version: str, ours: str) -> None:
    path = pythons().get(version)
    if path is None:
        pytest.skip(f"no Python {version} on this machine")
    theirs = traces(path, "0")
    for mine, other in zip(ours.splitlines(), theirs.splitlines(), strict=True):
        assert other == mine


@races
def test_a_tape_is_the_same_run_again(race: Race) -> None:
    with capture_crashes():
        for seed in range(20):
            run = run_once(race.broken, Random(seed), race.faults)
            again = run_once(race.broken, Tape(run.tape), race.faults)
            assert (again.lines, again.tape, type(again.error)) == (run.lines, run.tape, type(run.error))


def failure(test: Any, seeds: int = 500, **options: Any) -> str:
    """What the failure of a simulation says."""

    @simulate(seeds, **options)
    async def simulated(world: World) -> None:
        await test(world)

    with capture_crashes(), pytest.raises(AssertionError) as found:
        simulated(world=None)  # type: ignore[arg-type]
    return found.value.__notes__[0]


class TestWhatAFailureSays:
    def test_the_seed_and_the_shortest_tape_are_the_way_to_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        told = failure(lost_update)
        seed = re.search(r"Again: --beamish-seed=(\d+); the shortest way: --beamish-seed=(t[\d.]+)", told)
        assert seed is not None
        for way in seed.groups():
            monkeypatch.setattr(_simulate, "replayed", way)
            assert f"Again: --beamish-seed={way}" in failure(lost_update)
        assert "2 deviations" in failure(lost_update)  # of the tape: a call goes by the mailbox, and the other client before it
        assert "cell handles set(1)" in told

    def test_a_tape_of_an_exhaustive_run_is_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        told = failure(lost_update, exhaustive=True)
        way = re.search(r"--beamish-seed=(e[\d.]*)", told)
        assert way is not None
        monkeypatch.setattr(_simulate, "replayed", way[1])
        assert failure(lost_update, exhaustive=True).splitlines()[2:] == told.splitlines()[2:]

    def test_a_seed_that_passes_passes_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_simulate, "replayed", "t")

        @simulate(500)
        async def simulated(world: World) -> None:
            await lost_update(world)

        simulated(world=None)  # type: ignore[arg-type]


@races
def test_shrinking_leaves_the_deviations_that_matter(race: Race) -> None:
    with capture_crashes():
        campaign = _simulate.Campaign(race.name, race.broken, race.faults, "random")
        found = next(run for run in (campaign.run(Random(seed)) for seed in range(500)) if run.error is not None)
        shrunk = campaign._shrunk(found)
        assert shrunk.same_failure(found)
        deviations = [index for index, answer in enumerate(shrunk.tape) if answer]
        assert 1 <= len(deviations) <= 6
        for index in deviations:  # each one matters
            tape = [0 if position == index else answer for position, answer in enumerate(shrunk.tape)]
            assert not run_once(race.broken, Tape(tape), race.faults).same_failure(found)


def test_a_tape_for_another_program_is_no_error() -> None:
    async def test(world: World) -> None: ...

    assert run_once(test, Tape([9, 9, 9])).error is None


def test_the_plain_tape_is_empty_and_the_first_of_an_exploration() -> None:
    runs: list[Run] = []
    explore(lambda world: lost_update_passes(world), 100, lambda run, tape: runs.append(run))
    assert len({tuple(run.lines) for run in runs}) == len(runs)
    assert not any(run_once(lost_update, Plain()).tape)


async def lost_update_passes(world: World) -> None:
    try:
        await lost_update(world)
    except AssertionError:
        pass
