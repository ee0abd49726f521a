"""The servers of a soak, and the tree that they stand in: every kind of server and every kind of supervisor.

Each server answers `ask(n)` with 2 n, by whatever road its kind has, so that a wrong or lost answer is seen.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from enum import Enum, auto
from typing import Any

import beamish
from beamish import (
    Agent,
    Answer,
    Begin,
    ChildSpec,
    Client,
    Continue,
    DynamicSupervisor,
    Event,
    Exit,
    GenServer,
    Info,
    Keep,
    Next,
    NoReply,
    PartitionSupervisor,
    Postpone,
    Registry,
    Reply,
    StateMachine,
    StateTimeout,
    Stop,
    Supervisor,
    TaskSupervisor,
    Timeout,
    Transition,
    call,
    cast,
)


class Faulty(GenServer[Any]):
    """What all of them have: ways to end. `ask` of this one answers at once."""

    def init(self) -> Any:
        beamish.flag(trap_exit=True)
        return {}

    @call
    def ask(self, state: Any, n: int) -> Answer[int]:
        return Reply(2 * n)

    @call
    def fail(self, state: Any, how: str) -> Answer[int]:
        match how:
            case "exit":
                raise Exit("asked to")
            case "stop":
                return Stop("asked to", reply=0)
            case "leave":
                return Stop(beamish.NORMAL)
            case _:
                raise ValueError(how)

    @cast
    def fall(self, state: Any) -> None:
        raise LookupError("told to fall")

    def handle_info(self, state: Any, message: Any) -> Any:
        return None

    def handle_continue(self, state: Any, arg: Any) -> Any:
        return None


class Plain(Faulty):
    """Dies of any exit signal, and has nothing to clean up."""

    def init(self) -> Any:
        return {}


class Slow(Faulty):
    """Its handlers wait, sometimes longer than their callers; its init and its terminate wait, too."""

    async def init(self) -> Any:
        beamish.flag(trap_exit=True)
        await asyncio.sleep(random.random() / 500)
        return {}

    @call
    async def ask(self, state: Any, n: int) -> Answer[int]:
        await asyncio.sleep(random.choice((0, 0, 0.0005, 0.002)))
        return Reply(2 * n)

    async def terminate(self, state: Any, reason: Any) -> None:
        await asyncio.sleep(random.random() / 500)


class Later(Faulty):
    """Answers when it likes: from a timer, from a task of its own, or after a Continue; several clients wait at a time."""

    @call
    def ask(self, state: Any, n: int) -> Answer[int]:
        client = beamish.client()
        match n % 3:
            case 0:
                self.send_after(random.random() / 1000, (client, n))
                return NoReply()
            case 1:
                beamish.Task.start(_answer, client, n)
                return NoReply()
            case _:
                return NoReply(then=Continue((client, n)))

    def handle_continue(self, state: Any, arg: tuple[Client, int]) -> Any:
        client, n = arg
        beamish.reply(client, 2 * n)

    def handle_info(self, state: Any, message: Any) -> Any:
        match message:
            case (client, n):
                beamish.reply(client, 2 * n)


async def _answer(client: Client, n: int) -> None:
    await asyncio.sleep(0)
    beamish.reply(client, 2 * n)
    beamish.reply(client, -1)  # a second answer goes nowhere


class Busy(Faulty):
    """Timers, timeouts, intervals, monitors and links that come and go with every request."""

    def init(self) -> Any:
        self.send_interval(0.01, "tick")
        return {}

    @call
    def ask(self, state: Any, n: int) -> Answer[int]:
        beamish.cancel_timer(self.send_after(60.0, "never"))
        ref = beamish.monitor(f"plain {n % PER_GROUP}", alias="reply_demonitor" if n % 2 else None)
        beamish.demonitor(ref, flush=True)
        state["last"] = self.send_after(0.005, "soon") if n % 7 == 0 else state.get("last")
        return Reply(2 * n, then=Timeout(0.003))


class Chain(Faulty):
    """Asks the next one of its row, and that one the next; the last asks the first, now and then: a circle, which is told at once."""

    def init(self, number: int) -> Any:  # type: ignore[override]
        beamish.flag(trap_exit=True)
        return number

    @call
    async def ask(self, state: int, n: int) -> Answer[int]:
        if state + 1 < PER_GROUP:
            return Reply(await Chain(f"chain {state + 1}").ask(n))
        if n % 50 == 0:
            return Reply(await Chain("chain 0").ask(n))
        return Reply(2 * n)


class Full(Faulty):
    """A bounded mailbox, handlers that keep it full."""

    @call
    async def ask(self, state: Any, n: int) -> Answer[int]:
        await asyncio.sleep(0)
        return Reply(2 * n)


class Reader(Faulty):
    """Reads from a source without an end, and owns something that must be closed at its end."""

    def init(self) -> Any:
        OPEN.append(1)
        beamish.own(OPEN.pop)
        self.stream(_ticks(), max_in_flight=2)
        return {}


#: One entry for each reader that runs: what its end did not close is a leak.
OPEN: list[int] = []


async def _ticks() -> AsyncIterator[int]:
    while True:
        await asyncio.sleep(0.005)
        yield 1


class Light(Enum):
    RED = auto()
    GREEN = auto()


class Crossing(StateMachine[Light, Any]):
    """Changes by itself; asked while it is red, it answers when it is green."""

    def init(self) -> Begin[Light, Any]:
        return Begin(Light.RED, {}, StateTimeout(0.002))

    @call
    def ask(self, state: Light, data: Any, n: int) -> Answer[int]:
        return Postpone() if state is Light.RED and n % 2 else Keep(reply=2 * n)

    @call
    def fail(self, state: Light, data: Any, how: str) -> Answer[int]:
        raise Exit(how)

    @cast
    def fall(self, state: Light, data: Any) -> None:
        raise LookupError("told to fall")

    def handle_event(self, state: Light, data: Any, event: Event) -> Transition:
        match state, event:
            case Light.RED, StateTimeout():
                return Next(Light.GREEN, StateTimeout(0.002))
            case Light.GREEN, StateTimeout():
                return Next(Light.RED, StateTimeout(0.002))
            case _, Info():
                return Keep()
        return Keep()


class Sum(Agent[int]):
    """An agent under a name."""


class Room(Faulty, restart="transient"):
    """One of a crowd, found by its key in a registry, gone after a while by itself."""

    def init(self) -> Any:
        self.send_after(random.random() / 10, "close")
        return {}

    def handle_info(self, state: Any, message: Any) -> Any:
        return Stop(beamish.NORMAL) if message == "close" else None


#: Servers of each kind in a group.
PER_GROUP = 6
rooms = Registry[int, None]("rooms")
crowd = DynamicSupervisor("crowd")
tasks = TaskSupervisor("tasks")
parts = PartitionSupervisor[Plain]("parts")


def spec(cls: type[Any], number: int, *args: Any) -> ChildSpec[Any]:
    """`plain 0`, `slow 3`, …"""
    return cls(f"{cls.__name__.lower()} {number}").child_spec(*args)  # type: ignore[no-any-return]


def group(name: str, strategy: Any, children: list[ChildSpec[Any]], restarts: int = 20) -> ChildSpec[Any]:
    """A subtree: it gives up now and then, and is restarted as a whole."""
    return Supervisor(name).child_spec(children, strategy=strategy, max_restarts=restarts, max_seconds=1.0)


def tree() -> list[ChildSpec[Any]]:
    row = range(PER_GROUP)
    full: ChildSpec[Any] = Full("full 0").options(max_queue=8).child_spec()
    return [
        group("one for one", "one_for_one", [*(spec(Plain, i) for i in row), *(spec(Slow, i) for i in row)]),
        group("one for all", "one_for_all", [*(spec(Later, i) for i in row), *(spec(Busy, i) for i in row)], 40),
        group("rest for one", "rest_for_one", [spec(Chain, i, i) for i in reversed(row)], 40),
        group("nested", "rest_for_one", [
            group("nested one for all", "one_for_all", [spec(Reader, i) for i in row], 5),
            group("nested one for one", "one_for_one", [spec(Crossing, i) for i in row], 5),
        ]),
        group("others", "one_for_one", [full, *(Sum(f"sum {i}").child_spec(int) for i in row)]),
        rooms.child_spec(keys="unique", partitions=2),
        crowd.child_spec(max_children=50, max_restarts=50, max_seconds=1.0),
        tasks.child_spec(max_children=200),
        parts.child_spec(Plain.child_spec(), partitions=4, max_restarts=20, max_seconds=1.0),
    ]  # fmt: skip


def names() -> list[str]:
    """Those that must be there whenever nothing is going on."""
    kinds: list[type[Any]] = [Plain, Slow, Later, Busy, Chain, Reader, Crossing, Sum]
    return ["full 0", "rooms", "crowd", "tasks", "parts", *(f"{cls.__name__.lower()} {i}" for cls in kinds for i in range(PER_GROUP))]


SUPERVISORS = ["one for one", "one for all", "rest for one", "nested", "nested one for all", "nested one for one", "others"]
FAULTY: list[type[Any]] = [Plain, Slow, Later, Busy, Chain, Reader, Crossing]
