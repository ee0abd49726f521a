from __future__ import annotations

import itertools
from collections.abc import Awaitable
from typing import Any

from beamish import Agent, AlreadyStarted, ChildSpec, Ignored, StartError, Supervisor, child, flag, send, spawn_link, unlink, whereis
from conformance.words import W, answer, forever, out, sec, try_


async def error() -> Any:
    raise StartError("why")


async def raise_() -> Any:
    raise RuntimeError("oops")


async def rubbish() -> Any:
    return "rubbish"


async def ignore() -> Any:
    raise Ignored


async def extra() -> Any:
    return spawn_link(forever), "extra"


def once() -> Any:
    attempts = itertools.count()

    async def start() -> Any:
        if next(attempts) == 0:
            return spawn_link(forever)
        raise StartError("later")

    return start


async def kids(s: Supervisor) -> Any:
    return [(one.id, "undefined" if one.child is None else "running", one.type) for one in await s.which_children()]


async def added(work: Awaitable[Any]) -> Any:
    """start_child and restart_child as OTP answers them: who runs now, or why not and the child."""
    try:
        value = await work
    except StartError as failed:
        return "error", (failed.reason, "child" if failed.what == "'e'" else failed.what)
    if isinstance(value, tuple):
        return "ok", *value
    return "ok", "undefined" if value is None else value


def shown(spec: ChildSpec[Any]) -> Any:
    shutdown = "infinity" if spec.shutdown is None else round(float(spec.shutdown) * 1000)
    return [
        ("id", spec.id),
        ("modules", [spec.start]),
        ("restart", spec.restart),
        ("shutdown", shutdown),
        ("significant", spec.significant),
        ("type", spec.type),
    ]


async def scenario() -> None:
    flag(trap_exit=True)
    s = await Supervisor.start_link(
        [W.spec("a"), W.spec("b", restart="transient"), W.spec("t", restart="temporary")], strategy="one_for_one"
    )
    out("which_children (reverse start order)", await kids(s))
    try:
        await s.start_child(W.spec("a"))
    except AlreadyStarted as there:
        out("start_child existing running", ("already_started", there.address.pid() == whereis("a")))
    out("terminate_child", await answer(s.terminate_child("a")))
    out("which_children", await kids(s))
    counts = await s.count_children()
    out(
        "count_children",
        [("active", counts.active), ("specs", counts.specs), ("supervisors", counts.supervisors), ("workers", counts.workers)],
    )
    out("terminate_child twice is ok", await answer(s.terminate_child("a")))
    out("start_child of a stopped id", await answer(s.start_child(W.spec("a"))))
    out("restart_child", (await answer(s.restart_child("a")))[0] == "ok")
    out("restart_child running", await answer(s.restart_child("a")))
    out("delete_child running", await answer(s.delete_child("a")))
    out("terminate_child", await answer(s.terminate_child("a")))
    out("delete_child", await answer(s.delete_child("a")))
    out("delete_child absent", await answer(s.delete_child("a")))
    out("restart_child absent", await answer(s.restart_child("a")))
    out("terminate_child absent", await answer(s.terminate_child("a")))
    out("terminate temporary: spec is dropped", (await answer(s.terminate_child("t")), await kids(s)))
    out("start_child appends at the end of the start order", (await answer(s.start_child(W.spec("z"))))[0] == "ok")
    out("which_children", await kids(s))

    sec("start_child failures: the spec is not kept")
    out("error", await added(s.start_child(child(error, id="e"))))
    out("raise", await added(s.start_child(child(raise_, id="e"))))
    out("rubbish", await added(s.start_child(child(rubbish, id="e"))))
    out("ignore: spec kept with :undefined", await added(s.start_child(child(ignore, id="ig"))))
    out("ok with extra", await added(s.start_child(child(extra, id="ex"))))
    out("ignore temporary: not kept", await added(s.start_child(child(ignore, id="igt").replace(restart="temporary"))))
    out("which_children", await kids(s))
    await s.start_child(child(once(), id="once"))
    await s.terminate_child("once")
    out("restart_child that errors", await answer(s.restart_child("once")))

    sec("invalid specs")
    q = W.spec("q")
    out("bad restart", await try_(lambda: s.start_child(q.replace(restart="x"))))
    out("bad shutdown", await try_(lambda: s.start_child(q.replace(shutdown=-1))))
    out("bad type", await try_(lambda: s.start_child(q.replace(type="x"))))
    out("bad mfa", await try_(lambda: s.start_child(ChildSpec("q", "x"))))  # type: ignore[arg-type]
    out("missing start", type((await try_(lambda: s.start_child(ChildSpec("q"))))[1]))  # type: ignore[call-arg]
    out("module without child_spec", (await try_(lambda: s.start_child(enumerate)))[0])  # type: ignore[arg-type]
    out("get_childspec", ("ok", shown(await s.get_childspec("b"))))
    out("get_childspec absent", await answer(s.get_childspec("nope")))
    unlink(s)
    send(s, "hello")
    out("unexpected message is ignored", (await s.count_children()).specs > 0)
    await s.stop()

    sec("defaults filled by child specs")
    s = await Supervisor.start_link(
        [ChildSpec("w", Agent, (lambda: 0,)), ChildSpec("s", Supervisor, ([],), type="supervisor")], strategy="one_for_one"
    )
    for id in ("w", "s"):
        out(id, shown(await s.get_childspec(id)))

    sec("start_link with bad things")
    out("duplicate ids", await answer(Supervisor.start_link([W.spec("a"), W.spec("a")], strategy="one_for_one")))
    out("no strategy", (await try_(lambda: Supervisor.start_link([])))[0])
    out("bad strategy", await answer(Supervisor.start_link([], strategy="x")))  # type: ignore[arg-type]
    out("bad intensity", await answer(Supervisor.start_link([], strategy="one_for_one", max_restarts=-1)))
    out("bad period", await answer(Supervisor.start_link([], strategy="one_for_one", max_seconds=0)))
