from __future__ import annotations

from collections.abc import Callable
from typing import Any

from beamish import KILL, NORMAL, SHUTDOWN, Exit, Pid, Task, alive, current, exit, flag, monitor, receive, send, spawn_monitor
from conformance.words import down, flush, forever, in_proc, out, sec, settle, sleep, try_

Fun = Callable[[], Any]


def raises() -> None:
    raise RuntimeError("oops")


def exits(reason: object) -> Fun:
    def fun() -> None:
        raise Exit(reason)

    return fun


def kills_itself() -> None:
    exit(current(), KILL)


async def scenario() -> None:
    sec("the caller does not trap exits: a crashing linked task kills it before await can return")
    ends: dict[str, Fun] = {"raise": raises, "exit": exits("boom"), "exit_normal": exits(NORMAL), "shutdown": exits(SHUTDOWN)}
    for name, fun in ends.items():
        out(f"{name} ->", await in_proc(lambda fun=fun: not_trapping(fun)))
    sec("the caller traps exits: await exits with {reason, {Task, :await, [task, timeout]}} and an EXIT message stays")
    ends = {"raise": raises, "exit": exits("boom"), "exit_normal": exits(NORMAL), "killed": kills_itself}
    for name, fun in ends.items():
        await in_proc(lambda name=name, fun=fun: trapping(name, fun))
    sec("success leaves: nothing when not trapping, an EXIT normal when trapping")
    await in_proc(lambda: success(trap=False))
    await in_proc(lambda: success(trap=True))
    sec("await timeout: caller exits; when caught, the task goes on and its late reply is dropped")
    await in_proc(caught_timeout)
    sec("uncaught await timeout: the caller dies, the linked task dies with it")
    me = current()
    _, ref = spawn_monitor(uncaught_timeout, me)
    task = (await receive(lambda message: isinstance(message, tuple) and message[0] == "task"))[1]
    of_task = monitor(task)
    caller, followed = await down(ref), await down(of_task)
    out("caller down", caller)
    out("task down with the same reason", followed)
    assert caller == followed
    sec("await by a non-owner raises")
    one = Task.async_(lambda: 1)

    async def other() -> None:
        raise Exit((await try_(lambda: one.await_()))[0])

    out("other", await in_proc(other))
    out("owner still can", await one)
    sec("awaiting twice: second times out (the monitor is gone)")
    one = Task.async_(lambda: 1)
    out("first", await one)
    how, what = await try_(lambda: one.await_(0.02))
    out("second", what if how == "returned" else what.reason)
    sec("await_many: results in input order, one timeout for all, first failure exits")

    async def after(ms: int) -> int:
        await sleep(ms)
        return ms

    out("await_many", await Task.await_many([Task.async_(after, ms) for ms in (30, 10, 20)]))

    async def late() -> None:
        await Task.await_many([Task.async_(lambda: 1), Task.async_(forever)], 0.03)

    out("timeout", (await in_proc(late)).error.reason)


async def not_trapping(fun: Fun) -> None:
    task = Task.async_(fun)
    await sleep(40)
    raise Exit(("alive", await try_(lambda: task.await_())))


async def trapping(name: str, fun: Fun) -> None:
    flag(trap_exit=True)
    task = Task.async_(fun)
    _, error = await try_(lambda: task.await_(0.5))
    out(f"{name} ->", error)
    out("  mailbox", await flush())


async def success(*, trap: bool) -> None:
    flag(trap_exit=trap)
    out("value", await Task.async_(lambda: 42))
    out("  mailbox", await flush())


async def caught_timeout() -> None:
    async def slow() -> str:
        await sleep(80)
        out("task finished anyway")
        return "late"

    task = Task.async_(slow)
    _, error = await try_(lambda: task.await_(0.02))
    out("await ->", error)
    assert task.pid is not None
    out("task alive", alive(task.pid))
    await settle(120)
    out("mailbox", await flush())


async def uncaught_timeout(me: Pid) -> None:
    task = Task.async_(forever)
    send(me, ("task", task.pid))
    await sleep(40)
    await task.await_(0.02)
