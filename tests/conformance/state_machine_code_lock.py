from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from beamish import (
    Answer,
    Begin,
    CallExit,
    Cast,
    Crash,
    Event,
    Info,
    Internal,
    Keep,
    Next,
    Postpone,
    Repeat,
    StateMachine,
    StateTimeout,
    Transition,
    UnhandledEvent,
    call,
    cast,
    monitor,
    send,
    when,
)
from conformance.words import down, out, sec, settle, try_


@dataclass
class Data:
    code: list[int]
    pressed: list[int] = field(default_factory=list[int])


class Lock(StateMachine[str, Data]):
    """A door with a code lock, one function for each state. What the states have in common is one more function."""

    def init(self, code: list[int]) -> Begin[str, Data]:
        return Begin("locked", Data(code))

    def handle_enter(self, state: str, data: Data, before: str) -> Transition | None:
        match state:
            case "locked":
                out("  lock")
                data.pressed = []
                return None
            case _:
                out("  unlock")
                return Keep(StateTimeout(0.3, "lock"))

    @when("locked")
    def locked(self, state: str, data: Data, event: Event) -> Transition | None:
        match event:
            case StateTimeout(content="forget"):
                out("  forget")
                data.pressed = []
                return Keep()
            case Cast(("press", int(button))):
                pressed = [*data.pressed, button][-len(data.code) :]
                if pressed == data.code:
                    return Next("open")
                data.pressed = pressed
                return Keep(StateTimeout(0.15, "forget"))
            case _:
                return None

    @when("open")
    def open(self, state: str, data: Data, event: Event) -> Transition | None:
        match event:
            case StateTimeout(content="lock"):
                return Next("locked")
            case Cast(("press", _)):
                return Postpone()
            case Internal("walked"):
                out("  somebody walks in")
                return Next("locked")
            case _:
                return None

    def handle_event(self, state: str, data: Data, event: Event) -> Transition | None:
        match event:
            case Info(message):
                out(f"  {state}: a message", message)
                return Keep()
            case _:
                return None

    @call
    def state(self, state: str, data: Data) -> tuple[str, int]:
        return state, len(data.pressed)

    @call
    def hold(self, state: str, data: Data) -> Answer[str]:
        if state != "open":
            raise UnhandledEvent(self, state, "hold")
        return Keep(StateTimeout(0.6, "lock"), reply="held")

    @call
    def walk_in(self, state: str, data: Data) -> Answer[str]:
        if state != "open":
            raise UnhandledEvent(self, state, "walk_in")
        return Keep(Internal("walked"), reply="welcome")

    @cast
    def new_code(self, state: str, data: Data, code: list[int]) -> Transition:
        data.code = code
        return Repeat()

    def terminate(self, state: str, data: Data, reason: Any) -> None:
        out(f"  terminate {state}", _short(reason))


lock = Lock("lock")


def _short(reason: object) -> object:
    return "function_clause" if isinstance(reason, Crash) and isinstance(reason.error, UnhandledEvent) else reason


def press(buttons: list[int]) -> None:
    for button in buttons:
        lock.cast(("press", button))


async def ask(request: str) -> None:
    how, value = await try_(getattr(lock, request))
    await settle(10)
    out(f"  {request}", (how, _short(value.reason) if isinstance(value, CallExit) else value))


async def scenario() -> None:
    sec("opened, and locked again")
    await lock.start([1, 2, 3])
    press([9, 1, 2])
    await ask("state")
    press([3])
    await ask("state")
    await settle(450)
    await ask("state")

    sec("too slow")
    press([1, 2])
    await settle(300)
    press([3])
    await ask("state")
    await settle(300)

    sec("keys pressed while it is open wait until it is locked")
    press([1, 2, 3, 1, 2, 3])
    await ask("state")
    await settle(450)
    await ask("state")
    press([1])
    await settle(450)
    await ask("state")
    await settle(300)

    sec("held open")
    press([1, 2, 3])
    await ask("hold")
    await settle(450)
    await ask("state")
    await settle(300)
    await ask("state")

    sec("an internal event")
    press([1, 2, 3])
    await ask("walk_in")
    await ask("state")

    sec("another code")
    lock.new_code([5])
    press([1, 2, 3, 5])
    await ask("state")
    send(lock, "hello")
    await settle(450)

    sec("no state takes that")
    ref = monitor(lock)
    lock.cast("kick")
    out("  DOWN", _short(await down(ref)))
    await lock.start([1])
    ref = monitor(lock)
    await ask("hold")
    out("  DOWN", _short(await down(ref)))
    await lock.start([1])
    ref = monitor(lock)
    send(lock, "hello")
    press([1])
    await ask("walk_in")
    await ask("state")
    await lock.stop()
    out("  stop", "ok")
    out("  DOWN", await down(ref))
