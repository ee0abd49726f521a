from __future__ import annotations

from typing import Any

import beamish
from beamish import KILL, KILLED, NORMAL, SHUTDOWN, Down, Exit, Shutdown, current, exit, flag, receive, send, spawn_monitor
from conformance.words import down, f, in_proc, n, out, sec, sleep


async def scenario() -> None:
    for trap in (False, True):
        for reason in (NORMAL, SHUTDOWN, Shutdown("x"), "boom", KILL, KILLED):
            me = current()

            async def victim(me: beamish.Pid = me, trap: bool = trap) -> None:
                flag(trap_exit=trap)
                send(me, "ready")
                send(me, ("got", n(await receive())))
                await sleep(1_000_000)

            p, ref = spawn_monitor(victim)
            await receive("ready")
            exit(p, reason)
            out(f"exit/2 from other, trap={str(trap).lower()} reason={f(reason)} ->", await what_happened(ref))
            exit(p, KILL)
            await down(ref, 20)
    sec("exit/2 to self")
    for trap in (False, True):
        for reason in (NORMAL, "boom", KILL):

            async def suicidal(trap: bool = trap, reason: Any = reason) -> None:
                flag(trap_exit=trap)
                exit(current(), reason)
                try:
                    m = n(await receive(timeout=0.06))
                except TimeoutError:
                    m = "nothing_happened"
                raise Exit(("survived", m))

            out(f"self trap={str(trap).lower()} reason={f(reason)} ->", await in_proc(suicidal))


async def what_happened(ref: Any) -> Any:
    """The death of who is watched by `ref`, or the message that it got."""
    try:
        match await receive(lambda m: m[0] == "got" if isinstance(m, tuple) else isinstance(m, Down) and m.ref is ref, timeout=0.06):
            case Down(reason=reason):
                return "died", reason
            case _, message:
                return "message", message
    except TimeoutError:
        return "nothing_happened"
