from __future__ import annotations

from beamish import SHUTDOWN, Exit, alive, exit, monitor, spawn, spawn_link
from conformance.words import down, in_proc, out, settle, sleep


async def scenario() -> None:
    async def with_linked() -> None:
        spawn_link(raises)
        await sleep(100)

    out("spawn_link of a raising fun, caller dies with", await in_proc(with_linked))

    async def with_spawned() -> None:
        spawn(raises)
        await sleep(50)
        raise Exit("fine")

    out("spawn of a raising fun, caller lives", await in_proc(with_spawned))

    def catches() -> None:
        try:
            raise Exit("boom")
        except Exit as error:
            raise Exit(("caught", error.reason)) from None

    out("exit is catchable", await in_proc(catches))

    def after() -> None:
        try:
            raise Exit("boom")
        finally:
            out("after ran")

    out("try/after runs on exit/1 but not on kill", await in_proc(after))

    async def never() -> None:
        try:
            await sleep(1_000_000)
        finally:
            out("NEVER")

    p = spawn(never)
    ref = monitor(p)
    await settle(10)
    exit(p, SHUTDOWN)
    out("an exit SIGNAL is not catchable and runs no after block", await down(ref))
    d = spawn(lambda: "ok")
    await settle()
    out("Process.exit to a dead pid", exit(d, "boom"))
    out("alive?", alive(d))


def raises() -> None:
    raise RuntimeError("oops")
