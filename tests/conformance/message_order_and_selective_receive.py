from __future__ import annotations

from typing import Any

from beamish import Agent, Exit, current, flag, monitor, receive, send, spawn_link, spawn_monitor
from conformance.words import flush, n, out, sec, settle


async def scenario() -> None:
    me = current()
    for message in (1, ("x", 2), 3, ("x", 4)):
        send(me, message)
    out("selective receive takes the oldest match", ((await receive(tuple))[1], (await receive(tuple))[1]))
    out("the others keep their order", await flush())
    try:
        out("after 0 with no match", await receive("never", timeout=0.0))
    except TimeoutError:
        out("after 0 with no match", "none")
    send(me, "queued")
    agent = await Agent[int].start_link(lambda: 5)
    out("a call inside does not eat unrelated messages", (await agent.get(lambda state: state), await flush()))

    sec("order from one sender is preserved; exit signal after messages arrives after them")
    flag(trap_exit=True)
    await flush()

    def counts() -> None:
        for i in range(1, 6):
            send(me, i)
        raise Exit("done")

    spawn_link(counts)
    out("mailbox", await flush())

    sec("monitor DOWN arrives after the messages the dead process sent")

    def speaks() -> None:
        send(me, "last_words")
        raise Exit("bye")

    spawn_monitor(speaks)
    out("mailbox", await flush())

    sec("a linked AND monitored process gives both")
    monitor(spawn_link(boom))  # it begins in the next turn, so this is in time
    out("both", sorted(await flush(), key=size))

    sec("changing trap_exit takes effect at once; EXITs already queued stay messages")
    spawn_link(boom)
    await settle()
    flag(trap_exit=False)
    out("flag returns the old value", flag(trap_exit=False))
    out("still there", await flush())


def boom() -> None:
    raise Exit("boom")


def size(message: Any) -> int:
    """Erlang's order of tuples begins with their sizes."""
    return len(n(message))
