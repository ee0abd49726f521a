"""Tasks: one function, run beside the code that started it, whose value is awaited.

    task = Task.async_(fetch, url)              # a process of its own, linked to this one; fetch is async or plain
    ...
    page = await task                           # its value; TaskExit if it ended without one, TaskTimeout after 5 s

    async for result in Task.async_stream(urls, fetch, max_concurrency=8):
        match result:
            case Ok(page): ...
            case Failed(reason): ...

A task's crash is its owner's crash, by the link between them; where a failure is to be looked at instead, start the task with
`TaskSupervisor.async_nolink`. Plain asyncio code that owns a task is not ended by it: there the failure is what `await` raises.
Blocking functions go to threads: `Task.blocking(fn, …)`.
"""

from __future__ import annotations

from asyncio import CancelledError, sleep
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Generator, Iterable
from typing import Any, Generic, ParamSpec, TypeVar, cast, overload

from beamish import _report, _task_many
from beamish._runtime.extra import extra_of
from beamish._runtime.ids import Pid
from beamish._runtime.node import Node, exiting, here, here_key
from beamish._runtime.process import DEAD, MonitorRef, Process, TaskProcess
from beamish._runtime.signals import ITEM, Down
from beamish._task_blocking import Threads as Threads, default_threads
from beamish._task_many import OnTimeout
from beamish._task_process import NOTHING, Job, check_function, hold, named
from beamish._task_results import (
    ANSWERED,
    DOWN,
    PENDING,
    Failed as Failed,
    NotOwner as NotOwner,
    Ok as Ok,
    Replied as Replied,
    TaskExit as TaskExit,
    TaskTimeout as TaskTimeout,
)
from beamish._task_stream import OnItemTimeout, TaskStream as TaskStream
from beamish._task_wait import Shut, TaskRef, Wait, awaiting, check_shutdown, shut_down, wait_for, withdraw
from beamish.child_spec import ChildSpec
from beamish.errors import NOPROC, Killed, Shutdown, WrongLoop

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A")
T_co = TypeVar("T_co", covariant=True)


class Task(Generic[T_co]):
    """A function that runs as a process of its own, and the one place where its value arrives.

    * `pid`: the process (None for `Task.completed`); `owner`: who started it and alone may wait for it (None: plain asyncio code).
    * `ref`: what messages about it carry. An owner that does not wait gets `Replied(ref, value)` and `Down(ref, pid, reason)` in
      its mailbox: that is how a server has work done without standing still.

    `await task` is `await task.await_()`: it waits 5 seconds, as in OTP; `await task.await_(timeout=None)` for ever. A task
    that has ended can be asked as often as one likes. Cancelling an `await` shuts the task down, as with asyncio's own.
    """

    __slots__ = ("_closed", "_fn", "_mail", "_node", "_outcome", "_ref", "_value", "_waits", "owner", "pid")

    def __init__(self, node: Node, owner: Process | None, fn: Callable[..., Any]) -> None:
        self.pid: Pid | None = None
        self.owner: Pid | None = owner
        self._node = node
        self._fn = fn
        self._outcome = PENDING
        self._value: Any = None  # or the exit reason
        self._closed = False  # its owner has it, or has given it up: nothing more goes to the mailbox
        self._ref: TaskRef | None = None
        self._mail: Replied | None = None  # what was put into the owner's mailbox
        self._waits: list[Wait] | None = None

    # -- starting

    @overload
    @staticmethod
    def async_(fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]: ...
    @overload
    @staticmethod
    def async_(fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]: ...
    @staticmethod
    def async_(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Task[Any]:
        """Run `fn(*args)`, async or plain, as a process linked to this one, whose value is to be awaited.

        It begins at once, up to its first await, unless this turn of the loop has done enough already. It sees this code's
        context variables, as an asyncio task would. Its crash is logged, and ends this process by the link (plain asyncio
        code only hears of it when it awaits); the end of this process ends the task, unless that is a normal one.
        """
        node = here()
        me = node.me()
        task: Task[Any] = Task(node, me, fn)
        return launch(task, Job(node, me, me, fn, args, kwargs, task), me)

    @staticmethod
    def start(fn: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> Pid:
        """Run `fn(*args)` as a process, for its effects only: not linked, and nobody gets its value. Begins in the next turn."""
        node = here()
        me = node.me()
        job = Job(node, None, me, fn, args, kwargs, None)
        if me is not None:
            extra_of(job).ancestors = (me.name if me.name is not None else me, *_report.ancestors(me))
        job.launch_later()
        return job

    @staticmethod
    def start_link(fn: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> Pid:
        """The same, linked to this process (in plain asyncio code to the node's root, as `spawn_link`)."""
        node = here()
        me = node.me()
        job = Job(node, me or node.root, me, fn, args, kwargs, None)
        job.launch_later()
        return job

    @staticmethod
    def child_spec(fn: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> ChildSpec[Pid]:
        """A task as a child of a supervisor: temporary (never restarted) unless `.replace(restart=…)`. Its id is `fn`."""
        check_function(fn)
        return ChildSpec(id=fn, start=_start_child, args=(fn, args, kwargs), restart="temporary")

    @staticmethod
    def completed(value: T) -> Task[T]:
        """A task that has ended already, with `value`: for a function that returns a task and has nothing to do. No process."""
        node = here()
        task: Task[T] = Task(node, node.me(), Task.completed)
        task._outcome, task._value = ANSWERED, value
        task._post()
        return task

    @staticmethod
    def blocking(fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]:
        """`async_` for a function that blocks: it runs in a thread, at most 32 of them at a time (see `Threads` for another bound).

        The thread sees this code's context variables, and reaches servers by `beamish.blocking.call(server.method, …)`. It can't
        be stopped: a shutdown ends the task, and the function runs on, holding its place, until it returns by itself.
        """
        return default_threads(here()).async_(fn, *args, **kwargs)

    @overload
    @staticmethod
    def async_stream(
        items: Iterable[A] | AsyncIterable[A], fn: Callable[[A], Awaitable[T]], *, max_concurrency: int | None = None,
        ordered: bool = True, timeout: float | None = 5.0, on_timeout: OnItemTimeout = "exit", zip_input_on_exit: bool = False,
    ) -> TaskStream[T]: ...  # fmt: skip
    @overload
    @staticmethod
    def async_stream(
        items: Iterable[A] | AsyncIterable[A], fn: Callable[[A], T], *, max_concurrency: int | None = None,
        ordered: bool = True, timeout: float | None = 5.0, on_timeout: OnItemTimeout = "exit", zip_input_on_exit: bool = False,
    ) -> TaskStream[T]: ...  # fmt: skip
    @staticmethod
    def async_stream(
        items: Iterable[Any] | AsyncIterable[Any],
        fn: Callable[[Any], Any],
        *,
        max_concurrency: int | None = None,
        ordered: bool = True,
        timeout: float | None = 5.0,
        on_timeout: OnItemTimeout = "exit",
        zip_input_on_exit: bool = False,
    ) -> TaskStream[Any]:
        """`fn(item)` for each item, each in a linked task of its own, `max_concurrency` at a time (default: one per processor).

            async for result in Task.async_stream(urls, fetch, max_concurrency=8):
                match result:
                    case Ok(page): ...
                    case Failed(reason): ...         # processes that trap exits and plain asyncio code; others end with the task

        Lazy: items, of a plain or async iterable, are taken as results are read. Results come in the order of the items, or with
        `ordered=False` as they are ready. `timeout` is for each item, in seconds (None: for ever): on_timeout="exit" raises
        TaskTimeout and ends the others, "kill_task" ends that task and gives `Failed("timeout")` in its place. With
        `zip_input_on_exit` an Failed has the item as its `input`. Leaving the loop early ends what still runs.
        """
        return TaskStream(
            items, fn, _start_item, max_concurrency=max_concurrency, ordered=ordered, timeout=timeout, on_timeout=on_timeout,
            zip_input_on_exit=zip_input_on_exit, shutdown=5.0,
        )  # fmt: skip

    # -- waiting

    def __await__(self) -> Generator[Any, None, T_co]:
        return self._get(5.0)

    async def await_(self, timeout: float | None = 5.0) -> T_co:
        """The value, when it is there. `timeout` in seconds (None: for ever).

        Raises TaskExit if the task ended, or ends, without one; TaskTimeout (also a TimeoutError) if it is late: it goes on
        then, but its value is dropped; NotOwner if another process started it; Deadlock if it waits for this very handler.
        """
        return await awaiting(self._get(timeout))

    def _get(self, timeout: float | None) -> Generator[Any, None, T_co]:
        node = self._node
        me = node.me()
        if me is not self.owner or here_key() != node.key:
            self._asker("await_")
        if not self._outcome and not self._closed:
            wait = wait_for(self, me, timeout)
            if wait is not None:
                try:
                    yield from wait.future
                except CancelledError:
                    yield from _task_many.abandon((self,), me).__await__()
                    raise
                finally:
                    wait.over(self)
        if me is not None and exiting(me):
            yield from sleep(0).__await__()  # the link has taken us along; the cancellation is delivered here
        if self._outcome != ANSWERED:
            raise self._failure("await_", timeout)
        self._closed = True
        if self._ref is not None:
            self._take()
        value: T_co = self._value
        return value

    async def yield_(self, timeout: float | None = 5.0) -> Ok[T_co] | Failed | None:
        """The value as `Ok(value)`, `Failed(reason)` if there is none, or None if the task still runs after `timeout` seconds.

        Nothing is lost by that: ask again, `shutdown` it, or `ignore` it.
        """
        me = self._asker("yield_")
        if not self._outcome and not self._closed:
            wait = wait_for(self, me, timeout)
            if wait is not None:
                try:
                    await wait.future
                finally:
                    wait.over(self)
        if exiting(me):
            await sleep(0)
        return self._look()

    async def shutdown(self, timeout: Shut = 5.0) -> Ok[T_co] | Failed | None:
        """End the task: unlink it, tell it to end, and after `timeout` seconds KILL it ("brutal_kill": at once).

        Returns `Ok(value)` if it had one by then, None if it ended of that, `Failed(reason)` if of something else. Its finally
        blocks run. A thread of `Task.blocking` cannot be stopped: the task is gone, the thread runs on to its own end.
        """
        me = self._asker("shutdown")
        check_shutdown(timeout)
        job = cast("Job | None", self.pid)
        if job is not None and job.status != DEAD:
            job.detach(cast("Process | None", self.owner))
            await shut_down((job,), me, timeout)
        if exiting(me):
            await sleep(0)
        found = self._look()
        if isinstance(found, Ok) or job is None:
            return found
        reason = job.reason
        if isinstance(reason, Killed) if timeout == "brutal_kill" else isinstance(reason, Shutdown) and reason.detail is None:
            return None
        return Failed(reason)

    def ignore(self) -> Ok[T_co] | Failed | None:
        """Let the task go: not linked any more, and its value dropped. What has become of it so far, or None if it still runs."""
        self._asker("ignore")
        if self.pid is not None:
            cast(Job, self.pid).detach(cast("Process | None", self.owner))
        found = self._look()
        if found is None:
            self._give_up()
        return found

    @staticmethod
    def await_many(tasks: Iterable[Task[T]], timeout: float | None = 5.0) -> Coroutine[Any, Any, list[T]]:
        """The values of all `tasks`, in their order, with one timeout for all of them.

        The first that ends without a value raises TaskExit at once; TaskTimeout if one is late. The others go on then (a process
        that does not catch it takes them along), but their values are dropped.
        """
        return _task_many.await_many(list(tasks), timeout)

    @staticmethod
    def yield_many(
        tasks: Iterable[Task[T]], timeout: float | None = 5.0, *, on_timeout: OnTimeout = "nothing", limit: int | None = None
    ) -> Coroutine[Any, Any, list[tuple[Task[T], Ok[T] | Failed | None]]]:
        """Each task with what has become of it (as `yield_` says) when all have ended, or `limit` of them, or after `timeout`.

        What still runs after `timeout` seconds goes on ("nothing"), is let go ("ignore"), or is killed ("kill_task"). When
        `limit` is reached first, the others just go on.
        """
        return _task_many.yield_many(list(tasks), timeout, on_timeout, limit)

    @property
    def ref(self) -> MonitorRef:
        """The reference of the messages about it. `demonitor(task.ref, flush=True)` when its Replied has come: no Down then."""
        if self._ref is not None:
            return self._ref
        ref = self._make_ref()
        if self._closed and self._outcome and self.pid is not None:  # it was awaited, so no message came of it
            ref.stop()
            ref.delivered = Down(ref, self.pid, cast(Job, self.pid).reason)
        return ref

    def _make_ref(self) -> TaskRef:
        self._ref = ref = TaskRef(cast("Process | None", self.owner), cast("Job | None", self.pid))
        return ref

    # -- what has become of it

    def _ended(self, job: Job) -> None:
        """The process is gone; called once, before its monitors and links hear of it."""
        if self._closed:
            return
        answered = job.value is not NOTHING
        self._outcome = ANSWERED if answered else DOWN
        self._value = job.value if answered else job.reason
        waits, self._waits = self._waits, None
        if not waits:
            if waits is LAUNCHING and not job.monitors and not cast(Process, self.owner).trap:
                self._node.enqueue(cast(Process, _Post(self)))  # most owners await it at once; it is their first look at it anyway
            else:
                self._post()
            return
        for wait in waits:
            wait.told(answered)

    def _post(self) -> None:
        """Nobody waits at the moment: what has become of it goes to the owner's mailbox, if it has one."""
        owner = cast("Process | None", self.owner)
        if owner is None and self._ref is None:
            return
        ref = self._ref or self._make_ref()
        if not ref.active:
            return  # demonitored: the reply would have gone to the same alias
        if self._outcome == ANSWERED and owner is not None:
            self._mail = Replied(ref, self._value)
            owner.post((ITEM, self._mail, None, None))  # gets in even where the mailbox has a bound, as its Down does
        if self.pid is not None:
            ref.fire(cast(Job, self.pid).reason)

    def _take(self) -> None:
        """Its owner has it now: no messages about it."""
        self._closed = True
        ref, owner = self._ref, cast("Process | None", self.owner)
        if ref is None:
            return
        ref.stop()
        if owner is not None:
            for message in (self._mail, ref.delivered):
                if message is not None:
                    withdraw(owner, message)
            self._mail = None

    def _give_up(self) -> None:
        self._closed = True
        if self._ref is not None:
            self._ref.stop()

    def _look(self) -> Ok[T_co] | Failed | None:
        if not self._outcome:
            return None
        self._take()
        return Ok(self._value) if self._outcome == ANSWERED else Failed(self._value)

    def _failure(self, request: str, timeout: float | None) -> TaskExit | TaskTimeout:
        if self._outcome == DOWN:
            self._take()
            return TaskExit(self, self._value, request, timeout)
        if self._closed:
            return TaskExit(self, NOPROC, request, timeout)
        self._give_up()
        return TaskTimeout.after(self, timeout, request)

    def _asker(self, verb: str) -> Process | None:
        """Who asks, if it may."""
        node = self._node
        if here_key() != node.key:
            raise WrongLoop.of(self, verb)
        me = node.me()
        owner = cast("Process | None", self.owner)
        # What gather or a TaskGroup run for plain asyncio code that was adopted is not adopted with it.
        if me is not owner and not (_is_plain(me) and _is_plain(owner) and None in (me, owner)):
            raise NotOwner(self, verb, owner, me)
        return me

    def __repr__(self) -> str:
        state = ("running", "returned", "ended")[self._outcome]
        return f"<Task {named(self._fn)} {self.pid!r} {state}>"


def launch(task: Task[T], job: Job, me: Process | None, *, linked: bool = True) -> Task[T]:
    """Begin the job of a task whose owner is `me`."""
    task.pid = job
    if me is None:
        job.launch()
        if linked and job.status != DEAD:
            hold(job)
    else:
        task._waits = LAUNCHING  # pyright: ignore[reportPrivateUsage]
        job.launch()
        if task._waits is LAUNCHING:  # pyright: ignore[reportPrivateUsage]
            task._waits = None  # pyright: ignore[reportPrivateUsage]
    return task


#: In place of who waits, while a task is launched by a process.
LAUNCHING: list[Wait] = []


class _Post:
    """Stands in the run queue for a task that was done when its start returned: if nobody has awaited it by then, it is mail."""

    __slots__ = ("status", "task")

    def __init__(self, task: Task[Any]) -> None:
        self.task = task

    def drain(self, limit: int) -> None:
        if not self.task._closed:  # pyright: ignore[reportPrivateUsage]
            self.task._post()  # pyright: ignore[reportPrivateUsage]


def _is_plain(process: Process | None) -> bool:
    """Whether that is asyncio code which is no process, or was adopted as one."""
    return process is None or (isinstance(process, TaskProcess) and not process.ours)


def _start_item(node: Node, me: Process | None, fn: Callable[..., Any], args: tuple[Any, ...], sink: Any) -> Job:
    return Job(node, me, me, fn, args, {}, sink)


async def _start_child(fn: Callable[..., object], args: Any, kwargs: Any) -> Pid:
    """What a supervisor runs to start a task."""
    node = here()
    job = Job(node, node.me(), node.me(), fn, args, kwargs, None)
    job.launch_later()
    return job
