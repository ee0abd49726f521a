from __future__ import annotations

from beamish import Cancelled, Ref, cancel_timer, current, info, monotonic, read_timer, register, send_after, spawn
from conformance.words import flush, out, settle, sleep
from conformance.words_more import ok, raised


async def scenario() -> None:
    me = current()
    r = send_after(0.03, me, "a")
    out("read is an integer <= 30", 0 <= read_timer(r) <= 0.03)
    found = info(me)
    assert found is not None
    out("nothing yet", ("message_queue_len", found.message_queue_len))
    await sleep(60)
    out("fired", await flush())
    out("read after firing", read_timer(r))
    out("cancel after firing", cancel_timer(r))
    r = send_after(10.0, me, "b")
    left = cancel_timer(r)
    out("cancel returns the milliseconds left", 9.9 <= left <= 10.0)
    out("cancel again", cancel_timer(r))
    out("read cancelled", read_timer(r))
    out("foreign ref", cancel_timer(Ref()))  # type: ignore[arg-type]
    r = send_after(0.01, me, "c")
    await sleep(40)
    out("cancel too late: false, and the message is in the mailbox", (cancel_timer(r), await flush()))
    r = send_after(10.0, me, "d")
    out("info: false", ok(cancel_timer(r, info=False)))
    r = send_after(10.0, me, "e")
    out("async", ok(cancel_timer(r, asynchronous=True)))
    out("async result message", [("cancel_timer", one.left > 9) for one in await flush() if isinstance(one, Cancelled) and one.ref is r])
    for i, seconds in ((1, 0.06), (2, 0.02), (3, 0.04)):
        send_after(seconds, me, i)
    await sleep(100)
    out("order of due time", await flush())
    for i in range(1, 6):
        send_after(0.02, me, i)
    await sleep(60)
    out("same due time: order of arming", await flush())
    send_after(0.0, me, "zero")
    await settle()
    out("0 ms", await flush())
    send_after(0.0, "nobody", "x")
    await settle()
    out("to an absent name: silently dropped", "ok")
    p = spawn(sleep, 20)
    r = send_after(10.0, p, "x")
    await settle(80)
    out("timers to a dead pid are cancelled", read_timer(r))
    out("negative raises", raised(lambda: send_after(-1, me, "x"))[0])
    register("me")
    send_after(0.01, "me", "named")
    await sleep(40)
    out("to a name", await flush())
    deadline = monotonic() + 0.02
    send_after(deadline - monotonic(), me, "abs")
    await sleep(50)
    out("abs", await flush())
