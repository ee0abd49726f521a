from __future__ import annotations

from dataclasses import fields
from typing import Any

from beamish import (
    NORMAL,
    SHUTDOWN,
    Client,
    Exit,
    GenServer,
    NoReply,
    Pid,
    Status,
    alive,
    current,
    flag,
    monitor,
    receive,
    send,
    spawn,
    sys,
)
from conformance.words import Text, answer, down, out, sec, try_


class S(GenServer[Any]):
    def init(self, state: Any) -> Any:
        return state

    def handle_call(self, state: Any, request: Any, client: Client) -> Any:
        return state

    def handle_cast(self, state: Any, request: Any) -> Any:
        return NoReply(state=request[1])

    def handle_info(self, state: Any, message: Any) -> None:
        out("info", message)

    def code_change(self, state: Any, version: Any, extra: Any) -> Any:
        return "changed", version, state, extra

    def terminate(self, state: Any, reason: Any) -> None:
        out(f"terminate state={state}", reason)


class F(GenServer[Any]):
    def init(self, state: Any) -> Any:
        return state

    def format_status(self, status: Status) -> Status:
        status.state = "hidden"
        return status


def event(one: sys.Event) -> Any:
    """An event as gen_server writes it, but for who called: that is a pid here, and no reference of the call."""
    match one:
        case sys.In(message=message, kind="call", client=client):
            return "in", ("$gen_call", client, message)
        case sys.In(message=message, kind="cast"):
            return "in", ("$gen_cast", message)
        case sys.In(message=message):
            return "in", message
        case sys.Out(reply=reply, client=client, state=state):
            return "out", reply, client, state
        case sys.Kept(state=state):
            return "noreply", state


async def exited(target: Pid | str) -> Any:
    """`{:exited, {reason, {:sys, function, [target]}}}`, from what the error says about itself."""
    how, error = await try_(lambda: sys.get_state(target))
    return how, (error.reason, ("sys", error.request, [target]))


async def scenario() -> None:
    p = await S("srv").start(1)
    pid = p.pid()
    await state_and_suspension(p)
    await looking_on(p)
    sec("terminate through sys, absent process")
    out("terminate", await answer(sys.terminate(p, NORMAL)))
    assert pid is not None
    out("get_state dead", await exited(pid))
    out("get_state absent", await exited("absent"))
    await hiding_and_ending()


async def state_and_suspension(p: S) -> None:
    sec("get_state / replace_state")
    out("get_state", await sys.get_state(p))
    out("replace_state returns the new state", await sys.replace_state("srv", lambda state: state + 1))
    out("call sees it", await p.call("get"))

    def oops(state: Any) -> Any:
        raise RuntimeError("oops")

    out("a raising replace function leaves the state alone, the caller errors", (await try_(lambda: sys.replace_state(p, oops)))[0])
    out("state", await sys.get_state(p))
    out("process survived", alive(p))

    sec("suspend / resume: messages queue up, system messages are served")
    out("suspend", await answer(sys.suspend(p)))
    p.cast(("put", 99))
    send(p, "hello")
    out("call times out while suspended", (await try_(lambda: p.call("get", timeout=0.03)))[1].reason)
    out("get_state still answers, unchanged", await sys.get_state(p))
    out("replace_state works too", await sys.replace_state(p, lambda state: state * 10))
    status = await sys.get_status(p)
    out("status", (status.module, status.status, status.debug))
    out("suspend twice is ok", await answer(sys.suspend(p)))
    out("resume", await answer(sys.resume(p)))
    out("after resume the queue was handled in order", await p.call("get"))

    sec("change_code needs suspend")
    await sys.suspend(p)
    out("change_code", await answer(sys.change_code(p, Text("v1"), "extra")))
    await sys.resume(p)
    out("state", await sys.get_state(p))
    await sys.replace_state(p, lambda _: 5)


async def looking_on(p: S) -> None:
    sec("statistics")
    found = await sys.statistics(p, "get")
    out("get before", ("ok", "no_statistics" if found is None else found))
    out("on", await answer(sys.statistics(p, True)))
    await p.call("get")
    await p.call("get")
    p.cast(("put", 6))
    send(p, "x")
    found = await sys.statistics(p, "get")
    assert found is not None
    out("keys", [one.name for one in fields(found)])
    out("in/out", (found.messages_in, found.messages_out))
    out("off", await answer(sys.statistics(p, False)))

    sec("log")
    await sys.log(p, 4)
    out("on", "ok")
    await p.call("get")
    p.cast(("put", 7))
    out("events (oldest first)", list(map(event, await sys.log(p, "get"))))
    await sys.log(p, False)
    out("off", "ok")

    sec("install / remove a debug function")

    def count(calls: int, one: sys.Event, _: object) -> int:
        out(f"dbg {calls}", event(one))
        return calls + 1

    out("install", await answer(sys.install(p, count, 0)))
    await p.call("get")
    out("remove", await answer(sys.no_debug(p)))
    await p.call("get")

    sec("a debug function returning :done removes itself")

    def once(_: int, one: sys.Event, __: object) -> Any:
        out("once", event(one))
        return sys.DONE

    await sys.install(p, once, 0)
    await p.call("get")
    await p.call("get")


async def hiding_and_ending() -> None:
    sec("format_status hides state in get_status")
    p = await F.start("secret")
    shown = repr(await sys.get_status(p))
    out("misc has hidden", "hidden" in shown)
    out("misc has secret", "secret" in shown)
    out("get_state is not affected", await sys.get_state(p))

    sec("the parent's exit ends even a suspended trapping server")
    me = current()

    async def starts() -> None:
        send(me, await F.start_link(1))
        await receive("go")
        raise Exit(SHUTDOWN)

    parent = spawn(starts)
    p = await receive(F)
    await sys.replace_state(p, traps)
    await sys.suspend(p)
    ref = monitor(p)
    send(parent, "go")
    out("down", await down(ref))


def traps(state: Any) -> Any:
    flag(trap_exit=True)
    return state
