from __future__ import annotations

from collections.abc import Callable
from typing import Any

from beamish import (
    Begin,
    Cast,
    Event,
    EventTimeout,
    GenericTimeout,
    Internal,
    Keep,
    Next,
    Postpone,
    Repeat,
    StateMachine,
    StateTimeout,
    Transition,
    monotonic,
)
from beamish.state_machine import Action
from beamish.sys import get_state, resume, suspend
from conformance.words import out, sec, settle, sleep

Table = dict[Any, Any]


class M(StateMachine[str, Table]):
    """A machine that prints each event with the state it came in, and does what its table says for that pair."""

    def init(self, state: str, table: Table, actions: tuple[Action, ...] = ()) -> Begin[str, Table]:
        return Begin(state, table, *actions)

    def handle_event(self, state: str, table: Table, event: Event) -> Transition:
        match event:
            case Cast(what):
                kind = "cast"
            case Internal(what):
                kind = "internal"
            case StateTimeout(content=what):
                kind = "state_timeout"
            case EventTimeout(content=what):
                kind = "timeout"
            case GenericTimeout(name, content=what):
                kind = f"timeout {name}"
            case _:
                raise AssertionError(event)
        out(f"  {state}: {kind}", what)
        found = table.get((state, what), Keep())
        answer: Transition = found() if callable(found) else found
        return answer


async def cast_all(p: M, events: list[str]) -> None:
    """Cast them all, with the machine held back until they are all there."""
    await suspend(p)
    for event in events:
        p.cast(event)
    await resume(p)
    await settle()


async def cast(p: M, event: str, ms: float = 0) -> None:
    p.cast(event)
    await sleep(ms)


def named(name: str, ms: float, content: str) -> GenericTimeout:
    return GenericTimeout(name, ms / 1000, content)


def state(ms: float, content: str) -> StateTimeout:
    return StateTimeout(ms / 1000, content)


def after(ms: float, content: str) -> EventTimeout:
    return EventTimeout(ms / 1000, content)


async def scenario() -> None:
    start: Callable[..., Any] = M.start

    sec("one of each kind; each fires once")
    p = await start("s", {("s", "set"): Keep(state(120, "state"), named("n", 240, "named"), after(60, "event"))})
    await cast(p, "set", 480)

    sec("any event cancels the event timeout, and only that")
    p = await start("s", {("s", "set"): Keep(after(120, "event"), state(180, "state"), named("n", 240, "named"))})
    await cast(p, "set", 30)
    await cast(p, "other", 480)

    sec("a timeout is an event too")
    p = await start("s", {("s", "set"): Keep(state(60, "state"), after(120, "event"))})
    await cast(p, "set", 300)

    sec("a request of the system is no event")
    p = await start("s", {("s", "set"): Keep(after(120, "event"))})
    await cast(p, "set", 60)
    out("  get_state", (await get_state(p))[0])
    await sleep(300)

    sec("a change of state cancels the state timeout, not the named ones")
    p = await start("s", {("s", "set"): Keep(state(120, "state"), named("n", 180, "named")), ("s", "go"): Next("t", data={})})
    await cast(p, "set", 30)
    await cast(p, "go", 360)

    sec("keeping, repeating and going to the same state are no change")
    p = await start("s", {("s", "set"): Keep(state(120, "state")), ("s", "repeat"): Repeat(), ("s", "same"): Next("s", data={})})
    await cast(p, "set", 30)
    await cast(p, "repeat", 0)
    await cast(p, "same", 300)

    sec("a state timeout set by the change belongs to the new state")
    p = await start("s", {("s", "set"): Keep(state(60, "old")), ("s", "go"): Next("t", state(120, "new"), data={})})
    await cast(p, "set", 30)
    await cast(p, "go", 300)

    sec("set again: from the beginning, with the new content")
    p = await start("s", {("s", "set"): Keep(named("n", 120, "first")), ("s", "again"): Keep(named("n", 240, "second"))})
    await cast(p, "set", 60)
    await cast(p, "again", 120)
    out("  not yet")
    await sleep(300)

    sec("cancel, infinity and update")
    p = await start("s", {
        ("s", "set"): Keep(state(120, "state"), named("n", 120, "named"), named("m", 180, "old")),
        ("s", "cancel"): Keep(StateTimeout.cancel(), GenericTimeout("n", None), GenericTimeout.update("m", "new")),
    })  # fmt: skip
    await cast(p, "set", 30)
    await cast(p, "cancel", 360)

    sec("to cancel what is not set is nothing; to update it is a timeout of zero")
    p = await start("s", {("s", "go"): Keep(GenericTimeout.cancel("n"), StateTimeout.cancel(), GenericTimeout.update("m", "updated"))})
    await cast_all(p, ["go", "queued"])

    sec("within one list of actions the last of a kind counts")
    both = Keep[Any](state(60, "first"), state(120, "second"), named("n", 60, "set"), GenericTimeout.cancel("n"))
    p = await start("s", {("s", "set"): both})
    await cast(p, "set", 300)

    sec("zero: after what is inserted, before what is queued, in the order in which they were set")
    p = await start("s", {("s", "go"): Keep(state(0, "state"), named("n", 0, "named"), Internal("x"), Internal("y"))})
    await cast_all(p, ["go", "queued"])

    sec("set twice, it counts as the later one; updated, it keeps its place")
    p = await start("s", {("s", "go"): Keep(named("n", 0, "first"), named("m", 0, "other"), named("n", 0, "second"))})
    await cast_all(p, ["go", "queued"])
    p = await start("s", {
        ("s", "go"): Keep(named("n", 0, "first"), named("m", 0, "other"), Internal("x")),
        ("s", "x"): Keep(GenericTimeout.update("n", "updated")),
    })  # fmt: skip
    await cast_all(p, ["go", "queued"])
    p = await start("s", {("s", "go"): Keep(named("n", 120, "set"), GenericTimeout.update("n", "updated"))})
    await cast_all(p, ["go", "queued"])

    sec("an event timeout of zero comes before what is queued, but not when anything is inserted or retried")
    p = await start("s", {("s", "go"): Keep(after(0, "event"))})
    await cast_all(p, ["go", "queued"])
    p = await start("s", {("s", "go"): Keep(after(0, "event"), Internal("x"))})
    await cast_all(p, ["go", "queued"])
    p = await start("s", {("s", "a"): Postpone(), ("s", "go"): Next("t", after(0, "event"), data={})})
    await cast_all(p, ["a", "go", "queued"])

    sec("an event timeout of zero beside another of zero")
    p = await start("s", {("s", "go"): Keep(after(0, "event"), state(0, "state"))})
    await cast_all(p, ["go", "queued"])
    p = await start("s", {("s", "go"): Keep(state(0, "state"), after(0, "event"))})
    await cast_all(p, ["go", "queued"])

    sec("a timeout of zero is retried and inserted events' later: what they insert comes first")
    p = await start("s", {
        ("s", "go"): Keep(named("n", 0, "zero"), Internal("x")),
        ("s", "x"): Keep(Internal("y"), named("m", 0, "later")),
    })  # fmt: skip
    await cast_all(p, ["go", "queued"])

    sec("a change of state cancels a state timeout of zero that has not come yet")
    p = await start("s", {("s", "go"): Keep(state(0, "state"), Internal("x")), ("s", "x"): Next("t", data={})})
    await cast_all(p, ["go", "queued"])

    sec("one that has fired, and waits behind other events, is cancelled as well")
    p = await start("s", {
        ("s", "set"): Keep(state(60, "state"), named("n", 60, "named")),
        ("s", "go"): Next("t", GenericTimeout.cancel("n"), data={}),
    })  # fmt: skip
    await cast(p, "set")
    await suspend(p)
    await cast(p, "go")
    await sleep(180)
    await resume(p)
    await settle()

    sec("it is updated, too, or set anew")
    p = await start("s", {
        ("s", "set"): Keep(named("n", 60, "old"), named("m", 60, "old")),
        ("s", "up"): Keep(GenericTimeout.update("n", "new"), named("m", 120, "new")),
    })  # fmt: skip
    await cast(p, "set")
    await suspend(p)
    await cast(p, "up")
    await sleep(180)
    await resume(p)
    await sleep(240)

    sec("what has fired waits in its turn")
    p = await start("s", {("s", "set"): Keep(state(60, "state"), named("n", 90, "named"))})
    await cast(p, "set")
    await suspend(p)
    await cast(p, "before")
    await sleep(180)
    await cast(p, "after")
    await resume(p)
    await settle()

    sec("init may set them")
    await start("s", {}, (state(60, "state"), named("n", 0, "zero"), Internal("x")))
    await settle(180)

    sec("an absolute time")
    p = await start("s", {
        ("s", "set"): lambda: Keep(
            GenericTimeout("past", monotonic() - 1.0, "past", absolute=True),
            GenericTimeout("soon", monotonic() + 0.04, "soon", absolute=True),
        )
    })  # fmt: skip
    await cast_all(p, ["set", "queued"])
    await settle()
