from __future__ import annotations

from collections.abc import Callable
from typing import Any

from beamish import KILL, AlreadyRegistered, Exit, Pid, Registry, current, exit, info, monitor, receive, send, spawn, stop, unlink
from conformance.words import down, flush, forever, out, sec, settle
from conformance.words_more import ok, raised

R = Registry[str, int]("R")
ABSENT = object()


def tried(register: Callable[[], Any]) -> Any:
    """`{:ok, owner}` or `{:error, {:already_registered, pid}}`."""
    try:
        return "ok", register()
    except AlreadyRegistered as error:
        return "error", ("already_registered", error.pid)


def found(pid: Pid | None) -> Any:
    return "undefined" if pid is None else pid


def meta(key: str) -> Any:
    value = R.meta(key, ABSENT)
    return "error" if value is ABSENT else ("ok", value)


async def scenario() -> None:
    await R.start_link(keys="unique")
    me = current()

    async def owner(key: str, value: int) -> tuple[Pid, Any]:
        async def run() -> None:
            send(me, ("reg", tried(lambda: R.register(key, value))))
            match await receive("die", "unreg"):
                case "die":
                    raise Exit("boom")
                case _:
                    R.unregister(key)
                    send(me, "done")
                    await forever()

        pid = spawn(run)
        _, r = await receive(tuple)
        return pid, r

    p, r = await owner("k", 1)
    out("register", r)
    out("lookup", R.lookup("k") == [(p, 1)])
    _p2, r = await owner("k", 2)
    out("second register", r)
    R.register("mine", 1)
    out("same process again", tried(lambda: R.register("mine", 2)) == ("error", ("already_registered", me)))
    out("keys of self", R.keys(me))
    out("values", R.values("mine", me))
    out("values other pid", R.values("mine", p))
    out("count", R.count())
    out("update_value own", R.update_value("mine", lambda value: value + 1))
    out("update_value foreign", R.update_value("k", lambda value: value + 1) or "error")
    out("unregister foreign is a no-op", (ok(R.unregister("k")), len(R.lookup("k"))))
    sec("automatic clean up on death")
    ref = monitor(p)
    send(p, "die")
    await down(ref)
    out("whereis right after DOWN already says undefined", found(R.whereis_name("k")))
    _p3, r = await owner("k", 3)
    out("key can be taken at once", r)
    await settle()
    out("count", R.count())
    sec("unregister")
    p4, _ = await owner("u", 4)
    send(p4, "unreg")
    await receive("done")
    out("lookup", R.lookup("u"))
    out("unregister absent key", ok(R.unregister("never")))
    sec("whereis_name/send/register_name/unregister_name (the via protocol)")
    out("whereis_name", R.whereis_name("mine") is me)
    out("whereis absent", found(R.whereis_name("absent")))
    out("send", R.send("mine", "hello"))
    out("mailbox", await flush())
    out("send absent", raised(lambda: R.send("absent", "x")))
    out("register_name taken", "yes" if R.register_name("mine", me) else "no")
    sec("dispatch to a unique key calls the function with one entry")
    R.dispatch("mine", lambda entries: out("entries", len(entries)))
    out("dispatch absent", ok(R.dispatch("absent", lambda _: out("never"))))
    sec("meta")
    out("meta absent", meta("m"))
    out("put_meta", ok(R.put_meta("m", 1)))
    out("meta", meta("m"))
    out("delete_meta", ok(R.delete_meta("m")))
    out("meta absent", meta("m"))
    sec("unknown registry raises")
    out("lookup", raised(lambda: Registry[str, int]("Nope").lookup("k"))[0])
    sec("killing a process linked by registration: the registry partition is linked to it but traps, so it survives")
    p5, _ = await owner("z", 5)
    about = info(p5)
    assert about is not None
    out("linked", len(about.links) > 0)
    exit(p5, KILL)
    await settle()
    out("registry alive", R.count() >= 1)
    sec("stopping a registry takes the processes registered in it down (they are linked to its partition)")
    r2 = await Registry[str, int]("R2").start_link(keys="unique")
    unlink(r2)

    async def run() -> None:
        r2.register("k", 1)
        await forever()

    p = spawn(run)
    await settle()
    ref = monitor(p)
    await stop(r2)
    out("registered process down", await down(ref))
