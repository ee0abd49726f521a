# pyright: reportPrivateUsage=false
"""Several tasks at once: what `Task.await_many` and `Task.yield_many` do, and what becomes of tasks whose `await` is cancelled."""

from __future__ import annotations

from asyncio import CancelledError, sleep
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from beamish._runtime.node import exiting
from beamish._runtime.process import Process
from beamish._task_process import Job
from beamish._task_results import ANSWERED, DOWN, Failed, Ok
from beamish._task_wait import shut_down, until
from beamish.errors import short

if TYPE_CHECKING:
    from beamish.task import Task

T = TypeVar("T")

OnTimeout = Literal["nothing", "ignore", "kill_task"]


async def await_many(tasks: list[Task[T]], timeout: float | None) -> list[T]:
    me = _asker(tasks, "await_many")
    pending = [task for task in tasks if not task._outcome]
    if pending and not any(task._closed for task in pending) and all(task._outcome != DOWN for task in tasks):
        try:
            await until(pending, timeout, len(pending), strict=True)
        except CancelledError:
            await abandon(pending, me)
            raise
    if exiting(me):
        await sleep(0)  # the link has taken us along; the cancellation is delivered here
    # One that has ended without a value, else one that was given up before, else one that is late.
    bad = min(tasks, key=lambda task: (task._outcome == ANSWERED, task._outcome != DOWN, not task._closed), default=None)
    error = bad._failure("await_many", timeout) if bad is not None and bad._outcome != ANSWERED else None
    for task in tasks:
        if task._outcome:
            task._take()
        else:
            task._give_up()
    if error is not None:
        raise error
    return [task._value for task in tasks]


async def yield_many(
    tasks: list[Task[T]], timeout: float | None, on_timeout: OnTimeout, limit: int | None
) -> list[tuple[Task[T], Ok[T] | Failed | None]]:
    if on_timeout not in ("nothing", "ignore", "kill_task"):
        raise ValueError(f'on_timeout is "nothing", "ignore" or "kill_task". Got: {short(on_timeout)}')
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"limit is how many tasks to wait for, an int of 1 or more, or None for all. Got: {short(limit)}")
    me = _asker(tasks, "yield_many")
    pending = [task for task in tasks if not task._outcome and not task._closed]
    enough = len(pending) if limit is None else min(len(pending), limit - (len(tasks) - len(pending)))
    if enough > 0:
        await until(pending, timeout, enough)
        if sum(bool(task._outcome) for task in pending) < enough:
            await _time_is_over([task for task in pending if not task._outcome], me, on_timeout)
    if exiting(me):
        await sleep(0)
    return [(task, task._look()) for task in tasks]


async def _time_is_over(tasks: Sequence[Task[Any]], me: Process | None, on_timeout: OnTimeout) -> None:
    if on_timeout == "kill_task":
        jobs = [cast(Job, task.pid) for task in tasks]
        for task, job in zip(tasks, jobs, strict=True):
            job.detach(cast("Process | None", task.owner))
        await shut_down(jobs, me, "brutal_kill")
    elif on_timeout == "ignore":
        for task in tasks:
            task.ignore()


async def abandon(tasks: Sequence[Task[Any]], me: Process | None) -> None:
    """Whoever awaited was cancelled: the tasks must not be left behind."""
    if exiting(me):
        return  # it ends, and its links take them along
    jobs = [cast(Job, task.pid) for task in tasks if not task._outcome]
    for task in tasks:
        task.ignore()
    await shut_down(jobs, me, 5.0)


def _asker(tasks: Sequence[Task[Any]], verb: str) -> Process | None:
    me = None
    for task in tasks:
        me = task._asker(verb)
    return me
