from __future__ import annotations

from collections.abc import Callable
from typing import Any

from beamish import (
    KILL,
    NORMAL,
    SHUTDOWN,
    Exit,
    GenServer,
    Pid,
    Stop,
    alive,
    current,
    exit,
    flag,
    link,
    monitor,
    receive,
    send,
    spawn,
)
from conformance.words import down, f, out, sec, settle, sleep


class S(GenServer[bool]):
    def init(self, trap: bool) -> bool:
        flag(trap_exit=trap)
        return trap

    def handle_cast(self, state: bool, request: Any) -> Any:
        match request:
            case "raise":
                raise RuntimeError("oops")
            case "exit", reason:
                raise Exit(reason)
            case "bad":
                return "bad"
            case "stop", reason:
                return Stop(reason)

    def handle_info(self, state: bool, message: Any) -> None:
        out("  info", message)

    def terminate(self, state: bool, reason: Any) -> None:
        out("  terminate", reason)


async def go(label: str, trap: bool, act: Callable[[S], Any]) -> None:
    out(f"trap={f(trap)} {label}")
    p = await S.start(trap)
    ref = monitor(p)
    act(p)
    why = await down(ref, 80)
    if why == "no_down":
        out("  still alive")
        await p.stop()
    else:
        out("  DOWN", why)


async def said(p: S, parent: Pid, ms: float = 100) -> None:
    ref = monitor(p)
    send(parent, "go")
    why = await down(ref, ms)
    if why == "no_down":
        out("  still alive")
    else:
        out("  DOWN", why)


async def scenario() -> None:
    for trap in (False, True):
        await go("cast raises", trap, lambda p: p.cast("raise"))
        await go("cast exits boom", trap, lambda p: p.cast(("exit", "boom")))
        await go("cast exits normal", trap, lambda p: p.cast(("exit", NORMAL)))
        await go("cast bad return", trap, lambda p: p.cast("bad"))
        await go("cast stop normal", trap, lambda p: p.cast(("stop", NORMAL)))
        await go("exit/2 shutdown from stranger", trap, lambda p: exit(p, SHUTDOWN))
        await go("exit/2 kill from stranger", trap, lambda p: exit(p, KILL))
        await go("exit/2 normal from stranger", trap, lambda p: exit(p, NORMAL))

    sec("exit signal from the PARENT (the process that called start_link)")
    me = current()

    async def signalling(trap: bool, reason: Any) -> None:
        flag(trap_exit=True)
        p = await S.start_link(trap)
        send(me, p)
        await receive("go")
        exit(p, reason)
        await sleep(300)

    for trap in (False, True):
        for reason in (SHUTDOWN, "boom", NORMAL):
            out(f"trap={f(trap)} parent sends {f(reason)}")
            parent = spawn(signalling, trap, reason)
            p = await receive(S)
            await said(p, parent)
            exit(parent, KILL)
            exit(p, KILL)
            await settle(20)

    sec("the parent itself dies")

    async def dying(trap: bool, reason: Any) -> None:
        p = await S.start_link(trap)
        send(me, p)
        await receive("go")
        raise Exit(reason)

    for trap in (False, True):
        for reason in (NORMAL, "boom"):
            out(f"trap={f(trap)} parent exits {f(reason)}")
            parent = spawn(dying, trap, reason)
            p = await receive(S)
            await said(p, parent)
            exit(p, KILL)
            await settle(20)

    sec("a linked non-parent dies; trapping server gets handle_info({:EXIT, ...})")
    p = await S.start(True)

    async def peer() -> None:
        link(p)
        await receive("go")
        raise Exit("boom")

    other = spawn(peer)
    await settle(10)
    send(other, "go")
    await settle()
    out("alive", alive(p))
