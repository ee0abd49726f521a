from __future__ import annotations

from beamish import MonitorRef, alias, demonitor, monitor, receive, send, spawn, unalias
from conformance.words import flush, out, sleep


async def scenario() -> None:
    a = alias()
    send(a, "one")
    out("alias delivers", await flush())
    out("unalias", unalias(a))
    send(a, "two")
    out("after unalias dropped", await flush())
    out("unalias twice", unalias(a))
    a = alias(reply=True)
    send(a, "first")
    send(a, "second")
    out("alias [:reply] is used up by the first message", await flush())

    async def hi_and_late() -> None:
        to: MonitorRef = await receive()
        send(to, "hi")
        await sleep(50)
        send(to, "late")

    p = spawn(hi_and_late)
    m = monitor(p, alias="demonitor")
    send(p, m)
    out("monitor alias delivers", await flush())
    demonitor(m, flush=True)
    await sleep(80)
    out("after demonitor late message is dropped, no DOWN", await flush())

    async def hi_and_again() -> None:
        to: MonitorRef = await receive()
        send(to, "hi")
        send(to, "again")
        await sleep(30)

    p = spawn(hi_and_again)
    m = monitor(p, alias="reply_demonitor")
    send(p, m)
    await sleep(80)
    out("reply_demonitor: one reply, then neither a second nor DOWN", await flush())

    p = spawn(lambda: None)
    await sleep(20)
    m = monitor(p, alias="explicit_unalias")
    await flush()
    send(m, "still")
    out("explicit_unalias survives DOWN", await flush())
