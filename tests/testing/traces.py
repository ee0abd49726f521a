"""Run the same seeds, and print what happened: on every Python the same, to the byte. See test_replay."""

from __future__ import annotations

import hashlib
import logging

from beamish.testing._choosers import Chooser, Pct, Pos, Random
from beamish.testing._simulate import run_once
from testing.races import RACES

FAULTS = frozenset({"crash", "kill", "late", "slow"})


def choosers(seed: int) -> list[Chooser]:
    return [Random(seed), Pct(seed), Pct(seed, fair=True), Pos(seed)]


def main() -> None:
    logging.disable(logging.CRITICAL)
    for race in RACES:
        for form, test in (("broken", race.broken), ("repaired", race.repaired)):
            for faults in (race.faults, FAULTS):
                for seed in range(12):
                    for chooser in choosers(seed):
                        run = run_once(test, chooser, faults)
                        told = hashlib.sha256("\n".join(run.lines).encode()).hexdigest()[:16]
                        tape = ".".join(map(str, run.tape))
                        print(race.name, form, len(faults), seed, type(chooser).__name__, type(run.error).__name__, told, tape, sep="\t")


if __name__ == "__main__":
    main()
