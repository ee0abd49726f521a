"""Who goes next: the strategies of a simulation. Each answers one question, `choose`; 0 is always the plain order.

* `Plain`: what production does.
* `Random`: any, equally likely.
* `Pct`: Burckhardt et al., "A randomized scheduler with probabilistic guarantees of finding bugs" (2010): actors have random priorities,
  the highest goes; at `depth - 1` random steps the one that goes falls below all others. `fair`: one that starves others for long
  falls too.
* `Pos`: Yuan et al., "Partial order aware concurrency sampling" (2018): each step that is ready gets a random priority of its own.
* `Tape`: the answers of an earlier run again, and the plain order after its end.
"""

from __future__ import annotations

import math
import random
from collections.abc import Hashable, Sequence
from typing import Protocol


class Chooser(Protocol):
    def choose(self, kind: str, options: Sequence[Hashable]) -> int:
        """The index of one of `options`. `kind` says of what the choice is: "run", "inline", "pause", "burst", "bury", a fault."""
        ...


class Plain:
    def choose(self, kind: str, options: Sequence[Hashable]) -> int:
        return 0


#: How often a choice that is not about who runs departs from the plain order.
ODDS = {"inline": 0.25, "pause": 0.25, "burst": 0.5, "slice": 0.5, "bury": 0.25, "crash": 0.03, "kill": 0.02, "late": 0.02, "slow": 0.05}


class Random:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed).random

    def choose(self, kind: str, options: Sequence[Hashable]) -> int:
        odds = ODDS.get(kind)
        if odds is None:
            return self._run(options)
        if self.random() >= odds:
            return 0
        return 1 + int(self.random() * (len(options) - 1))

    def _run(self, options: Sequence[Hashable]) -> int:
        return int(self.random() * len(options))


class Pct(Random):
    def __init__(self, seed: int, *, depth: int = 3, steps: int = 200, fair: bool = False) -> None:
        super().__init__(seed)
        self.priorities: dict[Hashable, float] = {}
        self.step = 0
        self.changes = {int(self.random() * steps) for _ in range(depth - 1)}
        self.lowest = 0.0
        self.fair = fair
        self.streak = 0
        self.last: Hashable = None

    def _run(self, options: Sequence[Hashable]) -> int:
        self.step += 1
        best = self._best(options)
        if self.step in self.changes or (self.fair and self._starves(options[best])):
            self._sink(options[best])
            best = self._best(options)
        return best

    def _best(self, options: Sequence[Hashable]) -> int:
        priorities = self.priorities
        best, highest = 0, -math.inf
        for index, one in enumerate(options):
            priority = priorities.get(one)
            if priority is None:
                priority = priorities[one] = self.random() + 1.0
            if priority > highest:
                best, highest = index, priority
        return best

    def _sink(self, one: Hashable) -> None:
        self.lowest -= 1.0
        self.priorities[one] = self.lowest

    def _starves(self, one: Hashable) -> bool:
        self.streak = self.streak + 1 if one == self.last else 0
        self.last = one
        return self.streak > 20


class Pos(Random):
    """A step keeps its priority as long as it waits, and gets a new one each time its actor is ready again."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.priorities: dict[Hashable, float] = {}

    def _run(self, options: Sequence[Hashable]) -> int:
        before, ready = self.priorities, dict[Hashable, float]()
        best, highest = 0, -1.0
        for index, one in enumerate(options):
            priority = before.get(one)
            if priority is None:
                priority = self.random()
            ready[one] = priority
            if priority > highest:
                best, highest = index, priority
        del ready[options[best]]
        self.priorities = ready
        return best


class Tape:
    def __init__(self, answers: Sequence[int]) -> None:
        self.answers = answers
        self.position = 0

    def choose(self, kind: str, options: Sequence[Hashable]) -> int:
        position, self.position = self.position, self.position + 1
        answer = self.answers[position] if position < len(self.answers) else 0
        return answer if answer < len(options) else 0


class Recorder:
    """Asks another chooser, and keeps the answers: the tape of the run."""

    def __init__(self, inner: Chooser) -> None:
        self.inner = inner
        self.answers: list[int] = []
        self.sizes: list[int] = []
        self._answered, self._sized = self.answers.append, self.sizes.append

    def choose(self, kind: str, options: Sequence[Hashable]) -> int:
        answer = self.inner.choose(kind, options)
        self._answered(answer)
        self._sized(len(options))
        return answer
