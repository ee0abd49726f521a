from __future__ import annotations

from beamish import SHUTDOWN, Agent, Exit, Task, alive, exit, info, monitor, spawn, spawn_link, sys
from conformance.words import down, in_proc, out, sec, settle, sleep


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
    out("info of dead", info(d))
    a = await Agent[int].start_link(lambda: 1)
    await sys.suspend(a)
    await sys.resume(a)
    out("hibernate keeps mailbox", await a.get(lambda state: state))

    sec("spawn_monitor reason shapes for tasks and agents started plain")

    async def raises_later() -> None:
        await sleep(20)
        raises()

    out("Task.start raise", await down(monitor(Task.start(raises_later))))

    async def starts_task() -> None:
        Task.start_link(exits)
        await sleep(100)

    out("Task.start_link under in_proc", await in_proc(starts_task))


def raises() -> None:
    raise RuntimeError("oops")


def exits() -> None:
    raise Exit("boom")
