from __future__ import annotations

from collections.abc import Callable
from typing import Any

from beamish import (
    Begin,
    Call,
    Cast,
    Event,
    GenericTimeout,
    Info,
    Internal,
    Keep,
    Next,
    Postpone,
    Repeat,
    StateMachine,
    Transition,
    current,
    send,
    spawn,
)
from conformance.words import flush, out, sec, settle, try_

Table = dict[Any, Any]


class M(StateMachine[str, Table]):
    """A machine that prints each event with the state it came in, and does what its table says for that pair."""

    def init(self, state: str, table: Table) -> Begin[str, Table]:
        return Begin(state, table)

    def handle_event(self, state: str, table: Table, event: Event) -> Transition:
        match event:
            case Call(request):
                kind, what = "call", request
            case Cast(what):
                kind = "cast"
            case Info(what):
                kind = "info"
            case Internal(what):
                kind = "internal"
            case GenericTimeout(name, content=what):
                kind = f"timeout {name}"
            case _:
                raise AssertionError(event)
        out(f"  {state}: {kind}", what)
        found: Transition = table.get((state, what), Keep())
        return found


async def cast_all(p: StateMachine[Any, Any], events: list[Any]) -> None:
    for event in events:
        p.cast(event)
    await settle()


async def ask(p: M, request: str, ms: float = 1000) -> None:
    """Call from a process of its own; the answers are collected."""
    me = current()

    async def asking() -> None:
        send(me, (request, await try_(lambda: p.call(request, timeout=ms / 1000))))

    spawn(asking)
    await settle()


class L(StateMachine[tuple[str, int], None]):
    def init(self) -> Begin[tuple[str, int], None]:
        return Begin(("level", 1), None)

    def handle_event(self, state: tuple[str, int], data: None, event: Event) -> Transition:
        match state, event:
            case ("level", 1), Cast("a"):
                out("  a postponed")
                return Postpone()
            case _, Cast(("level", int(n))):
                out("  level", n)
                return Next(("level", n))
            case _:
                out("  a in", state)
                return Keep()


async def scenario() -> None:
    start: Callable[..., Any] = M.start
    opened = Next("open", data={})

    sec("postponed events wait for a change of state, oldest first, ahead of what is queued")
    table: Table = {("shut", "a"): Postpone(), ("shut", "b"): Postpone(), ("shut", "open"): opened}
    await cast_all(await start("shut", table), ["a", "b", "open", "c"])

    sec("no change of state, no retry")
    table = {("shut", "a"): Postpone(), ("shut", "keep"): Keep(), ("shut", "repeat"): Repeat()}
    table["shut", "same"] = Next("shut", data={**table, ("shut", "open"): opened})
    await cast_all(await start("shut", table), ["a", "keep", "repeat", "same", "open"])

    sec("postponed again in the next state, retried in the one after")
    table = {("one", "a"): Postpone(), ("two", "a"): Postpone(), ("two", "b"): Postpone()}
    table["one", "go"] = Next("two", data={**table, ("two", "go"): Next("three", data={})})
    await cast_all(await start("one", table), ["a", "go", "b", "go"])

    sec("the event that changes the state may be postponed itself: it is retried in the new state, after older ones")
    table = {("shut", "a"): Postpone(), ("shut", "open"): Next("open", Postpone(), data={})}
    await cast_all(await start("shut", table), ["a", "open", "b"])

    sec("a retried event changes the state again: the rest is retried there, what was postponed meanwhile included")
    table = {("one", "a"): Postpone(), ("one", "b"): Postpone(), ("one", "c"): Postpone(), ("two", "a"): Postpone()}
    table["two", "b"] = Next("three", data=dict(table))
    table["one", "go"] = Next("two", data=dict(table))
    await cast_all(await start("one", table), ["a", "b", "c", "go", "d"])

    sec("inserted events come before retried ones, and these before what is queued")
    table = {("shut", "a"): Postpone(), ("shut", "b"): Postpone()}
    table["shut", "open"] = Next("open", Internal("x"), Internal("y"), data={})
    await cast_all(await start("shut", table), ["a", "b", "open", "c"])

    sec("all kinds of events can be postponed: a call, a message, an internal event, a timeout")
    answered: Table = {("open", "call"): Keep(reply="answered")}
    table = {("shut", what): Postpone() for what in ("call", "message", "inserted", "late")}
    table["shut", "start"] = Keep(Internal("inserted"), GenericTimeout("t", 0.0, "late"))
    table["shut", "open"] = Next("open", data=answered)
    p = await start("shut", table)
    p.cast("start")
    await settle()
    await ask(p, "call")
    send(p, "message")
    await settle()
    await cast_all(p, ["open"])
    out("answer", await flush())

    sec("the timeout of a caller counts while its call is postponed, and the late answer goes nowhere")
    late: Table = {("open", "call"): Keep(reply="late")}
    table = {("shut", "call"): Postpone(), ("shut", "open"): Next("open", data=late)}
    p = await start("shut", table)
    await ask(p, "call", 20)
    out("answer", [(request, how, error.reason) for request, (how, error) in await flush()])
    await cast_all(p, ["open"])
    out("mail", await flush())

    sec("a reply does not end a postponed call's life: it is retried all the same")
    second: Table = {("open", "call"): Keep(reply="second")}
    table = {("shut", "call"): Keep(Postpone(), reply="first"), ("shut", "open"): Next("open", data=second)}
    p = await start("shut", table)
    await ask(p, "call")
    await cast_all(p, ["open"])
    out("answer", await flush())

    sec("states are compared as values")
    await cast_all(await L.start(), ["a", ("level", 1), ("level", 2)])
