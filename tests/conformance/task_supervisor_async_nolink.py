from __future__ import annotations

from typing import Any

from beamish import (
    Agent,
    Exit,
    MaxChildren,
    Pid,
    Task,
    TaskSupervisor,
    alive,
    ancestors,
    callers,
    current,
    monitor,
    receive,
    send,
    spawn_monitor,
)
from conformance.words import Alias, down, flush, forever, in_proc, out, sec, settle, sleep, try_


def boom() -> None:
    raise Exit("boom")


def oops() -> None:
    raise RuntimeError("oops")


async def scenario() -> None:
    tasks = TaskSupervisor("tsup")
    await tasks.start_link()
    sec("async_nolink: crash leaves the caller alive; messages are {ref, value} and {:DOWN, ...}")
    one: Task[Any] = tasks.async_nolink(boom)
    out("messages", await flush())
    two = tasks.async_nolink(lambda: "v")
    out("messages of a success", await flush())
    out("owner", one.owner == current() and two.owner == current())
    _, error = await try_(lambda: tasks.async_nolink(boom).await_(0.5))
    out("await ->", (error.reason, Alias("Task"), error.request.rstrip("_")))
    out("yield ->", await tasks.async_nolink(oops).yield_(0.5))
    sec("async (linked): crash kills a non trapping caller")

    async def linked() -> None:
        tasks.async_(boom)
        await sleep(100)

    out("->", await in_proc(linked))
    sec("caller dies: async task dies, async_nolink task goes on")
    for kind in ("async", "async_nolink"):
        start = tasks.async_ if kind == "async" else tasks.async_nolink
        _, ref = spawn_monitor(starts_and_dies, start, current())
        task = (await receive(lambda message: isinstance(message, tuple) and message[0] == "task"))[1]
        of_task = monitor(task)
        await down(ref)
        out(f"{kind} task down", await down(of_task))
        out("  finished", await flush())
    sec("start_child: fire and forget, default restart temporary")
    pid = await tasks.start_child(boom)
    await settle()
    out("alive", alive(pid))
    out("children", await tasks.children())
    sec("start_child restart: :transient is restarted on abnormal exit")
    runs = await Agent.start_link(lambda: 0)

    async def flaky() -> None:
        run = await runs.get_and_update(lambda n: (n, n + 1))
        out(f"run {run}")
        if run < 2:
            raise Exit("boom")

    await tasks.start_child(flaky, restart="transient")
    await settle(80)
    sec("max_children")
    small = await TaskSupervisor.start_link(max_children=1)
    await small.start_child(forever)
    out("start_child", await refused(small))
    out("async raises", (await try_(lambda: small.async_(lambda: 1)))[0])
    sec("terminate_child, stop: running tasks get shutdown")
    pid = await tasks.start_child(forever)
    ref = monitor(pid)
    out("terminate_child", "ok" if await tasks.terminate_child(pid) is None else "not ok")
    out("down", await down(ref))
    running = tasks.async_nolink(forever)
    assert running.pid is not None
    await tasks.terminate_child(running.pid)
    out("yield of a terminated task", await running.yield_(0.1))
    sec("$callers and $ancestors")
    me = current()

    async def nested() -> tuple[bool, object, bool]:
        outer = current()
        return callers() == (me,), ancestors()[0], await Task.async_(lambda: callers() == (outer, me))

    out("callers", await tasks.async_(nested))


async def refused(tasks: TaskSupervisor) -> Any:
    try:
        return await tasks.start_child(lambda: 1)
    except MaxChildren:
        return "error", "max_children"


async def starts_and_dies(start: Any, me: Pid) -> None:
    async def work() -> None:
        send(me, ("task", current()))
        await sleep(120)
        send(me, "finished")

    start(work)
    await sleep(30)
    raise Exit("boom")
