"""Processes over a clock of numbers, for `model`: what is to be done at an instant, timers, lives with a parent and an end.

What happens is written down as events, each a tuple: ("init", who, outcome), ("terminate", who, reason), ("end", who, reason), and
("gone", who) of what never ran. `who` is a path of (id, number) pairs: the number counts the starts of that child by that very parent,
so that every process has a name of its own.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from supervision.model import Supervisor

Who = tuple[tuple[str, int], ...]
NORMAL, SHUTDOWN, KILL, KILLED = "normal", "shutdown", "kill", "killed"


class Ambiguous(Exception):
    """Two things happen at one time, and OTP promises no order: nothing to compare."""


@dataclass(frozen=True)
class Tree:
    """The flags and children of a supervisor; "dynamic" is no strategy but another kind of supervisor."""

    strategy: str = "one_for_one"
    max_restarts: int = 3
    max_seconds: float = 5.0
    auto_shutdown: str = "never"
    max_children: int | None = None
    children: tuple[Spec, ...] = ()


@dataclass(frozen=True)
class Spec:
    """A child: a worker, or a supervisor if it has a `tree`."""

    id: str
    restart: str = "permanent"
    shutdown: float | str | None = 5.0
    significant: bool = False
    tree: Tree | None = None
    traps: bool = True
    starts_in: float | None = None  # seconds that init takes; 0.0 is async all the same, None is not
    timeout: float | None = None  # seconds that init may take
    stops_in: float | None = None  # seconds that terminate takes
    plan: tuple[str, ...] = ()  # how each start goes: "ok", "ignore", "fail"; "ok" for ever after
    by_function: bool = False  # started by a function, not by its class
    named: bool = False


def outcome_of(spec: Spec, who: Who) -> str:
    """How this start goes: the plan goes on with every new start of the child and of those above it."""
    number = sum(n - 1 for _, n in who)
    return spec.plan[number] if number < len(spec.plan) else "ok"


def clean(reason: Any) -> bool:
    return reason in (NORMAL, SHUTDOWN) or (isinstance(reason, tuple) and reason[0] == SHUTDOWN)


# --- time -------------------------------------------------------------------------------------------------------------


@dataclass(order=True)
class Timer:
    when: float
    order: int
    run: Callable[[], None] = field(compare=False)
    matters: Callable[[], bool] = field(compare=False)  # whether anybody could tell the order
    live: bool = field(default=True, compare=False)

    def cancel(self) -> None:
        self.live = False


class Simulation:
    """The clock, what is to be done at this instant, and the events."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.ready: deque[Callable[[], None]] = deque()
        self.timers: list[Timer] = []
        self.armed = 0
        self.events: list[tuple[Any, ...]] = []
        self.procs: list[Proc] = []
        self.numbers: dict[tuple[Who, str], int] = {}

    def number(self, parent: Who, id: str) -> Who:
        key = parent, id
        self.numbers[key] = self.numbers.get(key, 0) + 1
        return (*parent, (id, self.numbers[key]))

    def after(self, seconds: float, run: Callable[[], None], matters: Callable[[], bool] = lambda: True) -> Timer:
        self.armed += 1
        timer = Timer(self.now + seconds, self.armed, run, matters)
        heapq.heappush(self.timers, timer)
        return timer

    def settle(self) -> None:
        while self.ready:
            self.ready.popleft()()

    def busy(self) -> bool:
        return any(timer.live for timer in self.timers)

    def _next(self, end: float) -> Timer | None:
        while self.timers and not self.timers[0].live:
            heapq.heappop(self.timers)
        if not self.timers or self.timers[0].when > end:
            return None
        timer = heapq.heappop(self.timers)
        near = [one for one in self.timers if one.live and one.when < timer.when + 0.02 and one.matters()]
        if near and timer.matters():
            raise Ambiguous
        return timer

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        self.settle()
        while (timer := self._next(end)) is not None:
            self.now = timer.when
            timer.live = False
            timer.run()
            self.settle()
        if any(timer.live and timer.when < end + 0.02 for timer in self.timers):
            raise Ambiguous
        self.now = end

    def quiesce(self) -> float:
        """Go on until nothing is to come; how long that took."""
        start = self.now
        self.settle()
        while (timer := self._next(float("inf"))) is not None:
            self.now = timer.when
            timer.live = False
            timer.run()
            self.settle()
        return self.now - start


# --- processes --------------------------------------------------------------------------------------------------------


class Proc:
    """What workers and supervisors share: a life with a parent, an end with a reason."""

    def __init__(self, sim: Simulation, who: Who, spec: Spec, parent: Supervisor | None) -> None:
        self.sim = sim
        self.who = who
        self.spec = spec
        self.parent = parent
        self.alive = True
        self.acked: tuple[Any, ...] | None = None
        self.heard: list[Callable[[], None]] = []  # who waits for the start or for the end
        sim.procs.append(self)

    def ack(self, *result: Any) -> None:
        self.acked = result
        self.tell()

    def tell(self) -> None:
        heard, self.heard = self.heard, []
        self.sim.ready.extend(heard)

    def die(self, reason: Any) -> None:
        if not self.alive:
            return
        self.alive = False
        self.sim.events.append(("end", self.who, reason) if self.acked == ("ok",) else ("gone", self.who))
        if self.parent is not None:
            self.parent.post("EXIT", self, reason)
        self.tell()

    def signal(self, reason: Any, *, parent: bool = False) -> None:
        raise NotImplementedError

    def give_up(self) -> None:
        """Whoever starts it has died. OTP lets it start, and end then; Beamish ends the start: with KILL, or a supervisor's in order."""
        raise NotImplementedError


class Worker(Proc):
    def __init__(self, sim: Simulation, who: Who, spec: Spec, parent: Supervisor) -> None:
        super().__init__(sim, who, spec, parent)
        self.ending = False
        if spec.starts_in:
            sim.after(spec.starts_in, self.begun)
        else:
            sim.ready.append(self.begun)

    def begun(self) -> None:
        if not self.alive:
            return
        outcome = outcome_of(self.spec, self.who)
        self.sim.events.append(("init", self.who, outcome))
        match outcome:
            case "ok":
                self.ack("ok")
            case "ignore":
                self.ack("ignore")
                self.die(NORMAL)
            case _:
                self.ack("error", "unready")
                self.die("unready")

    def signal(self, reason: Any, *, parent: bool = False) -> None:
        if not self.alive:
            return
        if reason == KILL and not parent:
            self.die(KILLED)
        elif self.spec.traps:
            if parent:
                self.end(reason)
        elif reason != NORMAL:
            self.die(reason)

    def give_up(self) -> None:
        self.die(KILLED)

    def end(self, reason: Any) -> None:
        """Through terminate, which may take its time."""
        if not self.alive or self.ending:
            return
        self.ending = True
        self.sim.events.append(("terminate", self.who, reason))
        if self.spec.stops_in:
            self.sim.after(
                self.spec.stops_in, lambda: self.die(reason), lambda: self.parent is not None and self.parent.alive and self.parent.ordered
            )
        else:
            self.die(reason)
