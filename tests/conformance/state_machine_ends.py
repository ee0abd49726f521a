from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from beamish import (
    KILL,
    NORMAL,
    SHUTDOWN,
    Begin,
    Call,
    CallExit,
    Cast,
    Client,
    Event,
    Exit,
    Exited,
    Ignore,
    Info,
    Internal,
    Keep,
    Postpone,
    StateMachine,
    StateTimeout,
    Stop,
    Transition,
    current,
    demonitor,
    exit,
    flag,
    monitor,
    receive,
    reply,
    send,
    spawn,
)
from conformance.words import answer, down, flush, out, sec, settle, try_

Data = tuple[Any, dict[Any, Any]]


class M(StateMachine[str, Data]):
    """A machine that does what its table says, with a terminate that shows what it is given."""

    def init(self, table: dict[Any, Any], trap: bool) -> Begin[str, Data]:
        flag(trap_exit=trap)
        return Begin("up", ("data", table))

    def handle_event(self, state: str, data: Data, event: Event) -> Transition:
        client: Client | None = None
        match event:
            case Call(what, client):
                kind = "call"
            case Cast(what):
                kind = "cast"
            case Info(Exited(reason=reason)):
                kind, what = "info", ("EXIT", reason)
            case Internal(what):
                kind = "internal"
            case StateTimeout(content=what):
                kind = "state_timeout"
            case _:
                raise AssertionError(event)
        out(f"  {state}: {kind}", what)
        found = data[1][what]
        answer: Transition = found(client, data) if callable(found) else found
        return answer

    def terminate(self, state: str, data: Data, reason: Any) -> None:
        out("  terminate", (reason, state, data[0]))


async def ask(p: M, request: str) -> None:
    """Call from a process of its own; the answers are collected."""
    me = current()

    async def asking() -> None:
        how, value = await try_(lambda: p.call(request))
        send(me, (request, (how, value.reason if isinstance(value, CallExit) else value)))

    spawn(asking)
    await settle()


Act = Callable[[M], Any]


async def go(label: str, table: dict[Any, Any], act: Act, trap: bool = False) -> None:
    """Do something to a machine with two callers waiting, and show what becomes of all three."""
    sec(label)
    p = await M.start({("EXIT", "boom"): Keep(), "a": Keep(), "b": Postpone(), **table}, trap)
    ref = monitor(p)
    await ask(p, "a")
    await ask(p, "b")
    done = act(p)
    if isinstance(done, Awaitable):
        await done
    why = await down(ref, 200)
    if why == "no_down":
        out("  still alive")
        demonitor(ref)
        exit(p, KILL)
    else:
        out("  DOWN", why)
    await settle(10)
    out("  callers", sorted(await flush(), key=lambda pair: str(pair[0])))


def cast(event: str) -> Act:
    return lambda p: p.cast(event)


def call(event: str) -> Act:
    return lambda p: ask(p, event)


def oops(client: Client | None, data: Data) -> Transition:
    raise RuntimeError("oops")


def boom(client: Client | None, data: Data) -> Transition:
    raise Exit("boom")


def bye_to_both(client: Client | None, data: Data) -> Transition:
    reply(data[0], "at_last")
    return Stop(NORMAL, reply="bye", state=("up", ("gone", data[1])))


async def scenario() -> None:
    await go("stop", {"x": Stop(NORMAL)}, cast("x"))
    await go("stop with a reason", {"x": Stop("why")}, cast("x"))
    await go("stop with a reason and new data", {"x": lambda _, data: Stop("why", state=("up", ("new", data[1])))}, cast("x"))
    await go("stop and reply", {"x": Stop("why", reply="bye")}, call("x"))
    await go("stop in a call without a reply", {"x": Stop("why")}, call("x"))
    remember = {"a": lambda client, data: Keep(data=(client, data[1]))}
    await go("stop and reply, to one who waits for long", {**remember, "x": bye_to_both}, call("x"))
    await go("raise", {"x": oops}, cast("x"))
    await go("exit", {"x": boom}, cast("x"))
    await go("raise in a call", {"x": oops}, call("x"))
    await go("a reply stays one when what follows crashes", {"x": Keep(Internal("y"), reply="done"), "y": boom}, call("x"))
    await go("an internal event that stops", {"x": Keep(Internal("y")), "y": Stop("why")}, cast("x"))
    await go("a timeout that stops", {"x": Keep(StateTimeout(0.01, "y")), "y": Stop("why")}, cast("x"))
    await go("stopped from outside", {}, lambda p: p.stop())
    await go("stopped from outside, with a reason", {}, lambda p: p.stop("why", 1.0))
    await go("exit signal", {}, lambda p: exit(p, "boom"))
    await go("exit signal, trapped: an event like others", {}, lambda p: exit(p, "boom"), True)
    await go("kill", {}, lambda p: exit(p, KILL))

    sec("the parent of one that traps")
    me = current()

    async def parent(reason: object) -> None:
        send(me, await M.start_link({}, True))
        await receive("go")
        raise Exit(reason)

    for reason in (NORMAL, SHUTDOWN, "boom"):
        starter = spawn(parent, reason)
        p = await receive(M)
        ref = monitor(p)
        send(starter, "go")
        out("  DOWN", await down(ref))

    sec("states and replies of a start")

    class I(StateMachine[str, None]):  # noqa: E742
        def init(self, f: Callable[[], Any]) -> Any:
            return f()

        def terminate(self, state: str, data: None, reason: Any) -> None:
            out("TERMINATE CALLED")

    for name, f in [
        ("ok", lambda: Begin("up", None)), ("ignore", Ignore), ("stop", lambda: Stop("why")),
        ("raise", lambda: oops(None, (None, {}))), ("exit", lambda: boom(None, (None, {}))), ("rubbish", lambda: "rubbish"),
    ]:  # fmt: skip
        out(f"  {name}", await answer(I.start(f)))
