"""Watches the tree of the service: who was restarted, when, and of what. Its source is telemetry, as it would be for anybody else."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from beamish import CallExit, Crash, GenServer, Killed, Pid, Supervisor, alive, call, cast, monotonic, telemetry

RESTARTED, GAVE_UP = "beamish.supervisor.restart", "beamish.supervisor.gave_up"


@dataclass(frozen=True, slots=True)
class Restart:
    """One restart. `at` is the wall clock's time, for people."""

    name: str
    reason: str
    at: float


@dataclass(slots=True)
class State:
    begin: float = field(default_factory=monotonic)
    restarts: dict[str, int] = field(default_factory=dict[str, int])
    since: dict[str, float] = field(default_factory=dict[str, float])
    last: deque[Restart] = field(default_factory=lambda: deque[Restart](maxlen=50))


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen: restarts by name and the last of them in order; since when (seconds ago) each restarted server has been up."""

    restarts: dict[str, int]
    up: dict[str, float]
    begin: float
    last: tuple[Restart, ...]


class Observer(GenServer[State]):
    """Counts since its own start: after a crash of its own it begins anew, as everybody does."""

    def init(self) -> State:
        # A crash leaves no time for detach; whoever has this id now is dead.
        id = ("search_service.observer", self.__class__)
        telemetry.detach(id)
        telemetry.attach(id, RESTARTED, _restarted, self)
        return State()

    @cast
    def restarted(self, state: State, name: str, reason: str) -> None:
        state.restarts[name] = state.restarts.get(name, 0) + 1
        state.since[name] = monotonic()
        state.last.append(Restart(name, reason, time.time()))

    @call
    def seen(self, state: State) -> Seen:
        now = monotonic()
        return Seen(dict(state.restarts), {name: now - at for name, at in state.since.items()}, now - state.begin, tuple(state.last))


def _restarted(event: telemetry.EventName, measurements: telemetry.Measurements, metadata: telemetry.Metadata, observer: Observer) -> None:
    observer.restarted(str(metadata["id"]), _why(metadata["reason"]))


def _why(reason: object) -> str:
    """The kind of an exit reason. What the error said may hold anything, and stays in the log."""
    match reason:
        case Crash(error=error):
            return type(error).__name__
        case Killed():
            return "killed"
        case _:
            return type(reason).__name__


@dataclass(frozen=True, slots=True)
class Node:
    """A process of the tree, as the page shows it."""

    name: str
    kind: str
    pid: str | None
    status: str
    restarts: int
    up: float | None
    children: tuple[Node, ...] = ()


async def tree(top: Supervisor, observer: Observer) -> Node:
    """The supervision tree, with what the observer has seen of its members."""
    try:
        seen = await observer.seen()
    except CallExit:
        seen = Seen({}, {}, 0.0, ())
    return Node(_name(top), "supervisor", _pid(top.pid()), "running", 0, seen.begin, await _children(top, seen))


async def _children(supervisor: Supervisor, seen: Seen) -> tuple[Node, ...]:
    found: list[Node] = []
    for info in reversed(await supervisor.which_children()):
        name = str(info.id)
        child: Any = info.child
        up = seen.up.get(name, seen.begin)
        if child is None or child == "restarting":
            found.append(Node(name, info.type, None, "stopped" if child is None else "restarting", seen.restarts.get(name, 0), None))
            continue
        below = await _children(child, seen) if isinstance(child, Supervisor) else ()
        pid = child if isinstance(child, Pid) else child.pid()
        status = "running" if alive(child) else "restarting"
        found.append(Node(name, info.type, _pid(pid), status, seen.restarts.get(name, 0), up, below))
    return tuple(found)


def _name(supervisor: Supervisor) -> str:
    return repr(supervisor).partition("'")[2].partition("'")[0] or "supervisor"


def _pid(pid: Pid | None) -> str | None:
    return None if pid is None else repr(pid)
