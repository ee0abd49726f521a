"""What a caller gets from a state machine, and what its handlers may say, under mypy --strict and pyright strict. Checked, not run."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import Enum, auto
from typing import Generic, Protocol, TypeVar, assert_type

from beamish import (
    Answer,
    Begin,
    Call,
    Cast,
    ChildSpec,
    Event,
    EventTimeout,
    GenericTimeout,
    GenServer,
    Info,
    Internal,
    Keep,
    Message,
    Next,
    Postpone,
    Repeat,
    StateMachine,
    StateTimeout,
    Stop,
    Transition,
    UnhandledEvent,
    call,
    cast,
    when,
)

K = TypeVar("K")


class Door(Enum):
    LOCKED = auto()
    OPEN = auto()


@dataclass
class Lock:
    code: str


class CodeLock(StateMachine[Door, Lock]):
    """States that are members of an Enum: the checker proves that each of them answers each call."""

    def init(self, code: str) -> Begin[Door, Lock]:
        return Begin(Door.LOCKED, Lock(code))

    @call
    def press(self, state: Door, lock: Lock, key: str) -> Answer[bool]:
        match state:
            case Door.LOCKED:
                return Next(Door.OPEN, StateTimeout(10.0), reply=True) if key == lock.code else Keep(reply=False)
            case Door.OPEN:
                return Postpone()

    @call
    def code(self, state: Door, lock: Lock) -> str:
        return lock.code

    @call
    async def slowly(self, state: Door, lock: Lock, *, seconds: float = 0.0) -> int:
        await asyncio.sleep(seconds)
        return 1

    @call
    async def slow_answer(self, state: Door, lock: Lock, /) -> Answer[bytes | None]:
        return Next(Door.OPEN, Postpone())

    @call
    def leave(self, state: Door, lock: Lock) -> Answer[str]:
        return Stop("done", reply="bye")

    @cast
    def change(self, state: Door, lock: Lock, code: str) -> None:
        lock.code = code

    @cast
    def force(self, state: Door, lock: Lock) -> Transition:
        return Repeat(Internal("forced"), data=Lock(""))

    @cast
    async def later(self, state: Door, lock: Lock, n: int) -> Transition | None:
        return Keep(EventTimeout(1.0)) if n else None

    def handle_enter(self, state: Door, lock: Lock, before: Door) -> Transition | None:
        return Keep(StateTimeout.cancel()) if state is Door.OPEN else None

    def handle_event(self, state: Door, lock: Lock, event: Event) -> Transition:
        match state, event:
            case Door.OPEN, StateTimeout(content=content):
                return Keep() if content else Next(Door.LOCKED)
            case _, GenericTimeout("idle"):
                return Stop("idle")
            case _:
                raise UnhandledEvent(self, state, event)

    def terminate(self, state: Door, lock: Lock, reason: object) -> None:
        assert_type(state, Door)


@dataclass(frozen=True)
class Connecting:
    attempt: int


@dataclass(frozen=True)
class Connected:
    peer: str


Conn = Connecting | Connected


@dataclass(frozen=True)
class Peer(Message[str | None]):
    """Who is at the other end?"""


class Connection(StateMachine[Conn, list[str]]):
    """States that hold what belongs to them: each has a function of its own, and there they are narrowed."""

    def init(self) -> Begin[Conn, list[str]]:
        return Begin(Connecting(1), [], GenericTimeout("idle", 60.0))

    @when(Connecting)
    def connecting(self, state: Connecting, log: list[str], event: Event) -> Transition | None:
        assert_type(state.attempt, int)
        match event:
            case Info(str(peer)):
                return Next(Connected(peer))
            case Cast():
                return Postpone()
            case _:
                return None

    @when(Connected)
    async def connected(self, state: Connected, log: list[str], event: Event) -> Transition | None:
        match event:
            case Call(Peer()):
                return Keep(reply=state.peer)
            case _:
                return None

    async def handle_event(self, state: Conn, log: list[str], event: Event) -> Transition:
        return Keep(GenericTimeout.update("idle", event), data=[*log, "?"])


class Cell(StateMachine[str, K], Generic[K]):
    """A generic one."""

    @call
    def get(self, state: str, data: K) -> K | None:
        return data

    @call
    def swap(self, state: str, data: K, value: K) -> Answer[K]:
        return Keep(data=value, reply=data)


class Louder(CodeLock):
    @call
    def press(self, state: Door, lock: Lock, key: str) -> Answer[bool]:
        return Keep(reply=True)


class Presses(Protocol):
    async def press(self, key: str) -> bool: ...


class Plain(GenServer[int]):
    """A server beside it: the same decorators."""

    @call
    def add(self, state: int, n: int) -> Answer[int]:
        return Stop("why", reply=n)

    @cast
    def put(self, state: int, n: int) -> None: ...


async def use() -> None:
    lock = CodeLock("front")
    assert_type(await lock.start_link("12"), CodeLock)
    assert_type(await CodeLock.start_link(code="12"), CodeLock)
    assert_type(lock.child_spec("12"), ChildSpec[CodeLock])
    assert_type(await CodeLock.options(timeout=2.0).start_link("12"), CodeLock)
    assert_type(await lock.press("1"), bool)
    assert_type(await lock.with_timeout(0.2).press(key="1"), bool)
    assert_type(await CodeLock.press(lock, "1"), bool)
    assert_type(await lock.code(), str)
    assert_type(await lock.slowly(seconds=1.0), int)
    assert_type(await lock.slow_answer(), bytes | None)
    assert_type(await lock.leave(), str)
    assert_type(await Louder("l").press("1"), bool)
    lock.change("12")
    lock.force()
    lock.later(1)
    client: Presses = lock
    assert_type(await client.press("1"), bool)
    assert_type(await Connection("c").call(Peer()), str | None)
    cell = Cell[int]("cell")
    assert_type(await cell.get(), int | None)
    assert_type(await cell.swap(1), int)
    assert_type(await Plain("p").add(1), int)
    Plain("p").put(1)


async def wrong(lock: CodeLock, cell: Cell[int], plain: Plain) -> None:
    await lock.press(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await lock.press()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await lock.press(Lock(""), "1")  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue]
    lock.change(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await lock.start_link(12)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await cell.swap("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await plain.add()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Keep("rubbish")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    Next(Door.OPEN, 10.0)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]


def wrong_reply() -> Answer[bool]:
    return Keep(reply="text")  # type: ignore[arg-type]  # pyright: ignore[reportReturnType]


class Wrong(StateMachine[Door, Lock]):
    def init(self) -> Begin[Door, Lock]:
        return Begin("locked", Lock(""))  # type: ignore[arg-type]  # pyright: ignore[reportReturnType]

    @call
    def press(self, state: Door, lock: Lock) -> Answer[bool]:  # type: ignore[return]  # pyright: ignore[reportReturnType]
        match state:  # a state that does not answer  # pyright: ignore[reportMatchNotExhaustive]
            case Door.LOCKED:
                return Keep(reply=True)

    @cast  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType, reportUntypedFunctionDecorator]
    def put(self, state: Door, lock: Lock) -> int:
        return 1

    def handle_event(self, state: Door, lock: Lock, event: Event) -> str:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        return "x"
