from __future__ import annotations

from typing import Any

from beamish import (
    KILL,
    KILLED,
    NORMAL,
    SHUTDOWN,
    Exit,
    Exited,
    Pid,
    Shutdown,
    alive,
    current,
    exit,
    flag,
    link,
    monitor,
    receive,
    register,
    send,
    spawn,
    spawn_link,
    spawn_monitor,
    unlink,
)
from conformance.exit_signal_matrix import what_happened
from conformance.words import down, f, in_proc, n, out, sec, settle, sleep
from conformance.words_more import raised, true


async def scenario() -> None:
    me = current()
    for trap in (False, True):
        for reason in (NORMAL, SHUTDOWN, Shutdown("x"), "boom", KILL, KILLED):

            async def one(trap: bool = trap, reason: Any = reason) -> None:
                flag(trap_exit=trap)
                peer = spawn(exits_at("go", reason))
                link(peer)
                send(me, ("peer", peer))
                send(me, ("got", n(await receive())))
                await sleep(1_000_000)

            p, ref = spawn_monitor(one)
            _, peer = await receive(is_peer)
            send(peer, "go")
            out(f"linked peer exits {f(reason)}, trap={str(trap).lower()} ->", await what_happened(ref))
            exit(p, KILL)
            await down(ref, 20)

    sec("a peer killed by exit(pid, :kill) propagates :killed, which is not untrappable")

    async def trapping() -> None:
        flag(trap_exit=True)
        peer = spawn_link(sleep, 1_000_000)
        send(me, ("peer", peer))
        raise Exit(("got", n(await receive())))

    _, ref = spawn_monitor(trapping)
    _, peer = await receive(is_peer)
    exit(peer, KILL)
    out("trapping peer", await down(ref))

    sec("chain a-b-c-d, c traps: a crashes, b dies, c gets the message, d lives")

    async def mk(name: str, link_to: str | None, trap: bool) -> Pid:
        async def body() -> None:
            register(name)
            flag(trap_exit=trap)
            if link_to:
                link(link_to)
            send(me, "up")
            while True:
                match await receive():
                    case "die", r:
                        raise Exit(r)
                    case Exited(reason=r):
                        out(f"{name} got", ("EXIT", r))
                    case other:
                        out(f"{name} got", other)

        pid = spawn(body)
        await receive("up")
        return pid

    a, b = await mk("a", None, False), await mk("b", "a", False)
    c, d = await mk("c", "b", True), await mk("d", "c", False)
    mons = [monitor(p) for p in (a, b)]
    send(a, ("die", "boom"))
    await settle(80)
    for m in mons:
        out("down", await down(m))
    await settle()
    out("alive a,b,c,d", [alive(p) for p in (a, b, c, d)])

    sec("link to a dead pid: trapping gets noproc, non trapping is raised/exits noproc")
    dead = spawn(lambda: "ok")
    await settle()
    assert not alive(dead)

    async def not_trapping() -> None:
        raise Exit(("link", n(raised(lambda: true(link(dead))))))

    out("non trapping", await in_proc(not_trapping))

    async def trapping_too() -> None:
        flag(trap_exit=True)
        r = n(raised(lambda: true(link(dead))))
        raise Exit(("link", r, n(await receive(timeout=0.06))))

    out("trapping", await in_proc(trapping_too))

    sec("unlink, then the peer crashes: nothing")

    async def unlinked() -> None:
        p = spawn_link(exits_at("go", "boom"))
        unlink(p)
        send(p, "go")
        await sleep(50)
        raise Exit("survived")

    out("survivor", await in_proc(unlinked))

    sec("links are not counted: link twice, unlink once")

    async def linked_twice() -> None:
        p = spawn_link(exits_at("go", "boom"))
        link(p)
        unlink(p)
        send(p, "go")
        await sleep(50)
        raise Exit("survived")

    out("survivor", await in_proc(linked_twice))


def is_peer(message: Any) -> bool:
    return isinstance(message, tuple) and message[0] == "peer"


def exits_at(word: str, reason: Any) -> Any:
    """A function for a process: it waits for `word`, then exits with `reason`."""

    async def body() -> None:
        await receive(word)
        raise Exit(reason)

    return body
