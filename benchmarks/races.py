"""In how many runs each strategy finds each known race of tests/testing/races.py, as a table.

    python -m benchmarks.races [--runs 1000] [--peers PYTHON]

PYTHON is one (3.12 or newer) with simloom and simloop: the same races, written as plain asyncio tasks, are then run by these too.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from beamish.testing._choosers import Chooser, Pct, Plain, Pos, Random
from beamish.testing._explore import explore
from beamish.testing._simulate import Campaign, Run, run_once

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from testing.races import RACES, Race  # type: ignore[import-not-found]  # noqa: E402

Strategy = Callable[[int, int], Chooser]
STRATEGIES: dict[str, Strategy] = {
    "random": lambda seed, steps: Random(seed),
    "pct": lambda seed, steps: Pct(seed, steps=steps),
    "fair_pct": lambda seed, steps: Pct(seed, steps=steps, fair=True),
    "pos": lambda seed, steps: Pos(seed),
}
BOUND = 2_000


class _Found(Exception):
    pass


def sampled(race: Race, strategy: Strategy, runs: int) -> str:
    steps = max(10, len(run_once(race.broken, Plain(), race.faults).tape))
    return str(sum(run_once(race.broken, strategy(seed, steps), race.faults).error is not None for seed in range(runs)))


def deepening(race: Race) -> str:
    campaign = Campaign(race.name, race.broken, race.faults, "deepening")
    try:
        campaign.sample(BOUND)
    except Exception:
        return f"run {campaign.runs}"
    return "–"


def exhaustive(race: Race, *, repaired: bool) -> str:
    count = 0

    def check(run: Run, tape: str) -> None:
        nonlocal count
        count += 1
        if run.error is not None:
            raise _Found

    try:
        runs, complete = explore(race.repaired if repaired else race.broken, BOUND, check, race.faults)
    except _Found:
        return f"run {count}"
    return f"all {runs} pass" if complete else f"{runs} pass, more left"


def table(runs: int, peers: str | None) -> str:
    columns: dict[str, dict[str, str]] = {}
    begin, count = perf_counter(), 0
    for name, strategy in STRATEGIES.items():
        columns[name] = {race.name: sampled(race, strategy, runs) for race in RACES}
        count += runs * len(RACES)
    each = (perf_counter() - begin) / count
    columns["deepening"] = {race.name: deepening(race) for race in RACES}
    columns["exhaustive"] = {race.name: exhaustive(race, repaired=False) for race in RACES}
    columns["repaired, exhaustive"] = {race.name: exhaustive(race, repaired=True) for race in RACES}
    if peers is not None:
        command = [peers, "-W", "ignore", str(HERE / "races_asyncio.py"), str(runs)]
        columns.update(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout))
    lines = [f"| race | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {race.name} | {' | '.join(column[race.name] for column in columns.values())} |" for race in RACES]
    return "\n".join([*lines, "", f"{runs} runs each; one of ours takes {each * 1000:.2f} ms."])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--peers", help="a Python with simloom and simloop")
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    print(table(given.runs, given.peers))


if __name__ == "__main__":
    main()
