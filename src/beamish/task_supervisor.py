"""A supervisor of tasks: what a program has started in passing, in one place, with a bound, and stopped with its tree.

    tasks = TaskSupervisor("tasks")                              # in a tree: tasks.child_spec(max_children=1000)

    task = tasks.async_nolink(fetch, url)                        # its failure is a value, and ends nobody else
    match await task.yield_(2.0) or await task.shutdown():
        case Ok(page): ...
        case Failed(reason): ...
        case None: ...                                           # too late, and shut down

    await tasks.start_child(send_mail, order)                    # nobody waits for it; a crash is in the log

It is a DynamicSupervisor: its tasks are temporary unless `start_child` says otherwise, and get 5 seconds to end when it stops.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from contextvars import Context, copy_context
from functools import partial
from typing import Any, ParamSpec, TypeVar, cast as as_type, overload

from beamish._client import call
from beamish._loop import ServerProcess
from beamish._restart import Restarts
from beamish._runtime.ids import Pid
from beamish._runtime.node import Node, here
from beamish._runtime.process import Process
from beamish._task_process import Job, check_function
from beamish._task_stream import OnItemTimeout, TaskStream
from beamish._task_wait import Shut, check_shutdown
from beamish.child_spec import ChildSpec, Restart
from beamish.dynamic_supervisor import Crowd, DynamicSupervisor, MaxChildren
from beamish.errors import NoProcess, WrongLoop, WrongServer, clean
from beamish.task import Task, launch

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A")


class _Tasks(Crowd):
    """The state of a task supervisor."""

    __slots__ = ("note_of_all", "shutdown")

    def __init__(self, me: ServerProcess, max_children: int | None, restarts: Restarts, shutdown: Shut) -> None:
        super().__init__(me, max_children, (), restarts)
        self.shutdown: Shut = shutdown
        self.note_of_all = self.note(_spec("temporary", shutdown), ())

    def note_of(self, shutdown: Shut | None) -> Any:
        """What it knows about a task that is never restarted."""
        if shutdown is None or shutdown == self.shutdown:
            return self.note_of_all
        return self.note(_spec("temporary", shutdown), ())


def _spec(restart: Restart, shutdown: Shut, *args: Any) -> ChildSpec[Pid]:
    return ChildSpec(id=Task, start=_start_again, args=args, restart=restart, shutdown=shutdown)


class SupervisedJob(Job):
    """The process of a supervised task; its parent is the supervisor."""

    __slots__ = ()

    def notify(self) -> None:
        note = self.record
        # The usual end needs no message: the supervisor would only count it, and its place is free at once.
        if note is not None and note.spec.restart == "temporary" and clean(self.reason) and self.parent is note.crowd.me:
            self.record = None
            note.crowd.count -= 1
            note.crowd.strays.pop(self, None)
            self.detach(self.parent)
        super().notify()


class TaskSupervisor(DynamicSupervisor):
    """`TaskSupervisor("tasks").start_link(max_children=None, shutdown=5.0)`, `.child_spec(…)`; see the module.

    * `max_children`: how many tasks there may be; starting more raises MaxChildren. None (the default) is no bound.
    * `shutdown`: how long each task may take to end when the supervisor stops (seconds, or "brutal_kill").
    * `max_restarts` in `max_seconds`: what tasks with another restart type than "temporary" may use up, as in any supervisor.
    """

    def init(  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        self, *, max_children: int | None = None, shutdown: Shut = 5.0, max_restarts: int = 3, max_seconds: float = 5.0
    ) -> Crowd:
        check_shutdown(shutdown)
        crowd = super().init(max_children=max_children, max_restarts=max_restarts, max_seconds=max_seconds)
        return _Tasks(crowd.me, crowd.max_children, crowd.restarts, shutdown)

    # -- tasks that somebody waits for

    @overload
    def async_(self, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]: ...
    @overload
    def async_(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]: ...
    def async_(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Task[Any]:
        """`Task.async_`, under this supervisor: linked to it and to this process, whose end by a crash it is, and the other way.

        Raises MaxChildren when there are too many, NoProcess when the supervisor does not run.
        """
        node, me, task = self._task(fn)
        job = self._job(node, me, fn, args, kwargs, task, None)
        _link(job, me)
        return launch(task, job, me)

    @overload
    def async_nolink(self, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]: ...
    @overload
    def async_nolink(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]: ...
    def async_nolink(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Task[Any]:
        """The same, not linked to this process: the task's crash is a value (`yield_`) or an exception (`await`), not an exit signal.

        A server that does not wait gets `Replied(ref, value)`, or only the `Down(ref, pid, reason)` of one that failed, in
        `handle_info`. The end of this process does not end the task.
        """
        node, me, task = self._task(fn)
        return launch(task, self._job(node, me, fn, args, kwargs, task, None), me, linked=False)

    @overload
    def async_stream(
        self, items: Iterable[A] | AsyncIterable[A], fn: Callable[[A], Awaitable[T]], *, max_concurrency: int | None = None,
        ordered: bool = True, timeout: float | None = 5.0, on_timeout: OnItemTimeout = "exit", zip_input_on_exit: bool = False,
        shutdown: Shut | None = None,
    ) -> TaskStream[T]: ...  # fmt: skip
    @overload
    def async_stream(
        self, items: Iterable[A] | AsyncIterable[A], fn: Callable[[A], T], *, max_concurrency: int | None = None,
        ordered: bool = True, timeout: float | None = 5.0, on_timeout: OnItemTimeout = "exit", zip_input_on_exit: bool = False,
        shutdown: Shut | None = None,
    ) -> TaskStream[T]: ...  # fmt: skip
    def async_stream(self, items: Any, fn: Callable[[Any], Any], **options: Any) -> TaskStream[Any]:
        """`Task.async_stream`, each task under this supervisor. `shutdown`: how long one may take to end, if not as all others.

        Reading raises MaxChildren, and ends what runs, when there is no room for the next task.
        """
        return self._stream(items, fn, linked=True, **options)

    @overload
    def async_stream_nolink(
        self, items: Iterable[A] | AsyncIterable[A], fn: Callable[[A], Awaitable[T]], *, max_concurrency: int | None = None,
        ordered: bool = True, timeout: float | None = 5.0, on_timeout: OnItemTimeout = "exit", zip_input_on_exit: bool = False,
        shutdown: Shut | None = None,
    ) -> TaskStream[T]: ...  # fmt: skip
    @overload
    def async_stream_nolink(
        self, items: Iterable[A] | AsyncIterable[A], fn: Callable[[A], T], *, max_concurrency: int | None = None,
        ordered: bool = True, timeout: float | None = 5.0, on_timeout: OnItemTimeout = "exit", zip_input_on_exit: bool = False,
        shutdown: Shut | None = None,
    ) -> TaskStream[T]: ...  # fmt: skip
    def async_stream_nolink(self, items: Any, fn: Callable[[Any], Any], **options: Any) -> TaskStream[Any]:
        """The same, not linked to this process: a crash is a `Failed(reason)` in the item's place."""
        return self._stream(items, fn, linked=False, **options)

    # -- tasks that nobody waits for

    async def start_child(  # type: ignore[override]
        self, fn: Callable[..., object], /, *args: Any, restart: Restart = "temporary", shutdown: Shut | None = None, **kwargs: Any
    ) -> Pid:
        """Run `fn(*args)` under this supervisor, for its effects only; its pid. It begins in the next turn.

        `restart`: "temporary" (the default: never), "transient" (after an abnormal end), "permanent". Raises MaxChildren.
        """
        check_function(fn)
        node = here()
        me, crowd = node.me(), self._crowd(node)
        shutdown = crowd.shutdown if shutdown is None else shutdown
        check_shutdown(shutdown)
        if restart == "temporary":
            note: Any = crowd.note_of(shutdown)
        else:
            spec = _spec(restart, shutdown, fn, args, kwargs, me, copy_context())
            note = crowd.note(spec, spec.args)
        job = SupervisedJob(node, crowd.me, me, fn, args, kwargs, None)
        _take_in(crowd, job, note)
        job.launch_later()
        return job

    @call
    def children(self, state: Crowd) -> list[Pid]:
        """The tasks that run, in the order of their starts."""
        return [process for process, _ in state.children()]

    # -- how they are started

    def _crowd(self, node: Node) -> _Tasks:
        """The supervisor's state, with room for one more. It is not asked but looked at: nothing of it ever waits."""
        process = self._process if self._process is not None else node.whereis(self._name)
        if process is None and node.runq:
            node.run_once(all=True)  # its own supervisor may be about to restart it
            process = node.whereis(self._name)
        if process is None or not process.alive:
            raise NoProcess.of(self, "a task", self._name, node.names)
        if process.node is not node:
            raise WrongLoop.of(self, "a task")
        crowd: Any = process.state if isinstance(process, ServerProcess) else None
        if not isinstance(crowd, _Tasks):
            raise WrongServer.of(self, "async_", process.cls if isinstance(process, ServerProcess) else type(process))
        if crowd.max_children is not None and crowd.count >= crowd.max_children:
            raise MaxChildren(f"{self!r} has {crowd.count} tasks, and max_children={crowd.max_children}")
        return crowd

    def _task(self, fn: Callable[..., Any]) -> tuple[Node, Process | None, Task[Any]]:
        check_function(fn)
        node = here()
        me = node.me()
        return node, me, Task(node, me, fn)

    def _job(
        self, node: Node, me: Process | None, fn: Callable[..., Any], args: Any, kwargs: Any, sink: Any, shutdown: Shut | None
    ) -> SupervisedJob:
        crowd = self._crowd(node)
        job = SupervisedJob(node, crowd.me, me, fn, args, kwargs, sink)
        _take_in(crowd, job, crowd.note_of(shutdown))
        return job

    def _stream(
        self, items: Any, fn: Callable[[Any], Any], *, linked: bool, max_concurrency: int | None = None, ordered: bool = True,
        timeout: float | None = 5.0, on_timeout: OnItemTimeout = "exit", zip_input_on_exit: bool = False, shutdown: Shut | None = None,
    ) -> TaskStream[Any]:  # fmt: skip
        return TaskStream(
            items, fn, partial(self._start_item, linked, shutdown), max_concurrency=max_concurrency, ordered=ordered, timeout=timeout,
            on_timeout=on_timeout, zip_input_on_exit=zip_input_on_exit, shutdown=5.0 if shutdown is None else shutdown,
        )  # fmt: skip

    def _start_item(
        self, linked: bool, shutdown: Shut | None, node: Node, me: Process | None, fn: Callable[..., Any], args: Any, sink: Any
    ) -> Job:
        job = self._job(node, me, fn, args, {}, sink, shutdown)
        if linked:
            _link(job, me)
        return job


def _link(job: Job, me: Process | None) -> None:
    if me is not None:
        me.link_to(job)
        job.link_to(me)


def _take_in(crowd: Crowd, job: Job, note: Any) -> None:
    job.record = note
    crowd.count += 1


async def _start_again(fn: Callable[..., object], args: Any, kwargs: Any, starter: Process | None, context: Context) -> Pid:
    """How the supervisor restarts a task, as itself."""
    node = here()
    job = SupervisedJob(node, as_type(Process, node.me()), starter, fn, args, kwargs, None, context)
    job.launch_later()
    return job
