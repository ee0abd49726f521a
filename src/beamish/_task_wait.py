"""Waiting for tasks: one future for one of them or many, their end, and what an owner's mailbox has to do with it."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast

from beamish import gen
from beamish._loop import ServerProcess
from beamish._runtime.client import Client
from beamish._runtime.ids import Ref
from beamish._runtime.node import Node
from beamish._runtime.process import DEAD, MonitorRef, Process, TaskProcess
from beamish._task_process import Job
from beamish.errors import SHUTDOWN, short
from beamish.process import Late

if TYPE_CHECKING:
    from beamish.task import Task

T = TypeVar("T")

#: How long a task that is told to end may take: seconds, or not at all.
Shut = float | Literal["brutal_kill"]


def check_timeout(timeout: object) -> None:
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout >= 0):
        raise ValueError(f"a timeout is seconds (0 or more), or None for ever. Got: {short(timeout)}")


def check_shutdown(shutdown: object) -> None:
    if shutdown != "brutal_kill" and (isinstance(shutdown, bool) or not isinstance(shutdown, int | float) or not shutdown >= 0):
        raise ValueError(f'how long a shutdown may take is seconds (0 or more) or "brutal_kill". Got: {short(shutdown)}')


class awaiting(Generic[T]):
    """`await awaiting(generator)`, for a generator that `__await__` returns too: a coroutine between them would be 0.5 µs."""

    __slots__ = ("generator",)

    def __init__(self, generator: Generator[Any, None, T]) -> None:
        self.generator = generator

    def __await__(self) -> Generator[Any, None, T]:
        return self.generator


class Wait(Late):
    """Over when `left` more have ended; with `strict`, when one has ended without a value; or when it is late."""

    __slots__ = ("edge", "left", "strict", "timeouts")

    def __init__(self, node: Node, left: int, strict: bool = False) -> None:
        self.future: asyncio.Future[Any] = asyncio.Future(loop=node.loop)
        self.left = left
        self.strict = strict
        self.timeouts: dict[Any, float] | None = None  # where it stands while it may come to be late
        self.edge: Process | None = None  # whose handler waits

    def told(self, ok: bool) -> None:
        self.left -= 1
        if (not self.left or (self.strict and not ok)) and not self.future.done():
            self.future.set_result(None)

    def over(self, task: Task[Any]) -> None:
        """Nobody waits any more, one way or another."""
        if self.timeouts is not None:
            self.timeouts.pop(self, None)
        if self.edge is not None:
            self.edge.waiting = None
        if self.left:
            _stop_waiting(task, self)


def wait_for(task: Task[Any], me: Process | None, timeout: float | None) -> Wait | None:
    """Begin to wait for `task`, which runs: await `.future`, then say `.over(task)`. None: there is no time to wait."""
    if timeout != 5.0:
        check_timeout(timeout)
        if timeout == 0:
            return None
    node = task._node  # pyright: ignore[reportPrivateUsage]
    edge = None if me is None else _edge(task, me, node)
    wait = Wait(node, 1)
    wait.edge = edge
    if task._waits is None:  # pyright: ignore[reportPrivateUsage]
        task._waits = [wait]  # pyright: ignore[reportPrivateUsage]
    else:
        task._waits.append(wait)  # pyright: ignore[reportPrivateUsage]
    if timeout is not None:
        wait.timeouts = node.timeouts.add(wait, timeout)
    return wait


async def until(tasks: Sequence[Task[Any]], timeout: float | None, enough: int, *, strict: bool = False) -> None:
    """Wait until `enough` of `tasks`, which all run, have ended, or (`strict`) one without a value, or for `timeout` seconds."""
    check_timeout(timeout)
    if timeout == 0:
        return
    node = tasks[0]._node  # pyright: ignore[reportPrivateUsage]
    wait = Wait(node, enough, strict)
    for task in tasks:
        waits = task._waits  # pyright: ignore[reportPrivateUsage]
        task._waits = [wait] if waits is None else [*waits, wait]  # pyright: ignore[reportPrivateUsage]
    late = None if timeout is None else node.timeouts.add(wait, timeout)
    try:
        await wait.future
    finally:
        if late is not None:
            late.pop(wait, None)
        for task in tasks:
            _stop_waiting(task, wait)


def _stop_waiting(task: Task[Any], wait: Wait) -> None:
    waits = task._waits  # pyright: ignore[reportPrivateUsage]
    if waits is not None and wait in waits:
        waits.remove(wait)
        if not waits:
            task._waits = None  # pyright: ignore[reportPrivateUsage]


def _edge(task: Task[Any], me: Process, node: Node) -> Process | None:
    """A handler that awaits a task which calls the handler's server is a circle, as two servers that call each other are."""
    edge, job = gen.edge_of(me, node), cast(Any, task.pid)
    if edge is None or job is None:
        return None
    gen.check_cycle(edge, job, cast(Any, task), ("await_", (), None, None))
    edge.waiting = Client(job, "await_", me)
    return edge


# --- ending them ------------------------------------------------------------------------------------------------------


async def shut_down(jobs: Sequence[Job], source: Process | None, shutdown: Shut) -> None:
    """Tell `jobs` to end and wait until they have. What is there after that time, or when this is cancelled, gets a KILL."""
    check_shutdown(shutdown)
    running = [job for job in jobs if job.status != DEAD]
    for job in running:
        if shutdown in ("brutal_kill", 0):
            job.kill()
        else:
            job.signal(source or job.node.root, SHUTDOWN, by_link=False)
    running = [job for job in running if job.status != DEAD]
    if not running:
        return
    node = running[0].node
    wait = Wait(node, len(running))
    refs = [_Gone(wait, job) for job in running]
    late = node.timeouts.add(wait, cast(float, shutdown))
    try:
        await wait.future
    finally:
        late.pop(wait, None)
        for ref in refs:
            ref.stop()
        for job in running:
            if job.status != DEAD:
                job.kill()


class _Gone(MonitorRef):
    """Watches one job to its end."""

    __slots__ = ("wait",)

    def __init__(self, wait: Wait, job: Job) -> None:
        self.wait = wait
        super().__init__(None, job, job)

    def fire(self, reason: object) -> None:
        self.stop()
        self.wait.told(True)


# --- the owner's mailbox ----------------------------------------------------------------------------------------------


class TaskRef(MonitorRef):
    """The reference of a task: what its owner's messages about it carry, and what `demonitor` takes. Made when it is needed."""

    __slots__ = ()

    def __init__(self, owner: Process | None, job: Process | None) -> None:
        Ref.__init__(self)
        self.alias = None
        self.watcher = owner
        self.watched = job
        self.target = job
        self.active = True
        self.future = None
        self.delivered = None

    def stop(self) -> bool:
        active, self.active = self.active, False
        return active


def withdraw(process: Process, message: object) -> None:
    """Take one message out of a mailbox, if it is still there."""
    if isinstance(process, TaskProcess):
        inbox = process.inbox
        for position, one in enumerate(inbox):
            if one is message:
                del inbox[position]
                return
    elif isinstance(process, ServerProcess) and process.mbox is not None:
        mbox = process.mbox
        for position, entry in enumerate(mbox):
            if entry[1] is message:
                del mbox[position]
                return
