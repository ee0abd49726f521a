"""The process behind a task: one function, run once. `task`, `_task_stream` and `task_supervisor` start these.

    launch ── the turn grants it ──▶ begin: the function, up to its first await, on the stack of whoever starts it
           └─ else the run queue ──▶ begin, in one of the next turns
    begin ── value ──▶ returned ──▶ end(NORMAL) ──▶ notify: the sink (who waits) first, then monitors and links
          └─ raises ─▶ failed ──▶ report ──▶ end(reason) ──▶ notify

A task that is done when `launch` returns has cost no turn of the loop; `asyncio.create_task` and `await` take two.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from types import CoroutineType
from typing import Any, ClassVar, Protocol, cast

from beamish import _report
from beamish._loop import ORDINARY, exc_info
from beamish._runtime.node import Node
from beamish._runtime.process import CURRENT, DEAD, EXITING, QUEUED, RUNNING, STARTED, STOPPED, SUSPENDED, Process, TaskProcess
from beamish._runtime.tasks import eager
from beamish.errors import NORMAL, SHUTDOWN, Crash, Exit, clean, short
from beamish.process import living

_log = logging.getLogger("beamish.task")

#: The value of a job that has not returned one.
NOTHING: Any = object()
_NO_KWARGS: dict[str, Any] = {}
_AT_AN_END = (EXITING, DEAD)
_BEGUN: int = RUNNING  # an int to type checkers, which would believe for ever that a status they have seen set is that one


#: Functions that only run their first argument with the others: a report shows that one.
WRAPPERS: set[Callable[..., Any]] = set()


def check_function(fn: object) -> None:
    if not callable(fn):
        example = "Task.async_(fetch, url), not Task.async_(fetch(url))"
        raise TypeError(f"a task takes a function and its arguments: {example}. Got: {short(fn)}")


class Sink(Protocol):
    """Who is told when a job has ended: its value is in `job.value` (or NOTHING), what it died of in `job.reason`."""

    def _ended(self, job: Job) -> None: ...


class Job(TaskProcess):
    """A process that runs one function, plain or async."""

    __slots__ = ("args", "fn", "held", "kwargs", "sink", "starter", "value")

    behaves: ClassVar[bool] = True

    def __init__(
        self,
        node: Node,
        parent: Process | None,
        starter: Process | None,
        fn: Callable[..., Any],
        args: Any,
        kwargs: Any,
        sink: Sink | None,
        context: Context | None = None,
    ) -> None:
        if not callable(fn):
            check_function(fn)
        if node.ghosts:
            living(node)
        Process.__init__(self, node, parent, None)  # and TaskProcess's own, written out: a step less for every task
        self.status = SUSPENDED
        self.inbox = []
        self.receiver = None
        self.fn = fn
        self.args = args
        self.kwargs = kwargs
        self.starter = starter
        self.sink = sink
        self.value: Any = NOTHING
        self.held: _Held | None = None
        # As asyncio's tasks do: it knows what its starter knows, and what it sets is its own.
        self.ctx = ctx = copy_context() if context is None else context.copy()
        ctx.run(CURRENT.set, self)

    def initial_call(self) -> object:
        return named(self.work()[0])

    def work(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """The user's function and its arguments."""
        if self.args and getattr(self.fn, "__func__", None) in WRAPPERS:
            return self.args[0], self.args[1:]
        return self.fn, self.args

    def callers(self) -> tuple[Process, ...]:
        return () if self.starter is None else (self.starter, *self.starter.callers())

    # -- running

    def launch(self) -> None:
        """Begin now, on this stack, if that is not too deep and the turn has something to spend; else when its turn comes."""
        if STARTED.handlers:
            self.started()
        node = self.node
        if node.depth < node.limit and (node.budget > node.floor or node.spend()):
            node.budget -= 1
            self.begin()
        else:
            node.enqueue(self)

    def launch_later(self) -> None:
        """Begin in one of the next turns: whoever starts it has its pid before anything happens."""
        if STARTED.handlers:
            self.started()
        self.node.enqueue(self)

    def drain(self, limit: int) -> None:
        self.begin()

    def begin(self) -> None:
        node, ctx = self.node, self.ctx
        assert ctx is not None
        outer = node.current
        node.current = self
        node.depth += 1
        self.status = _BEGUN
        try:
            try:
                value: Any = ctx.run(self.fn, *self.args, **self.kwargs)
            except BaseException as error:
                self.failed(error)
                if not isinstance(error, ORDINARY):
                    raise
                return
            kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
            if kind is not CoroutineType and not hasattr(kind, "__await__"):
                self.returned(value)
            elif self.status in _AT_AN_END:  # before it awaited anything
                if kind is CoroutineType:
                    value.close()
                self.returned(None)
            elif eager(self.main(value), loop=node.loop, context=ctx).done():
                self.lay()
            elif self.status not in _AT_AN_END:
                self.status = SUSPENDED
        finally:
            node.current = outer
            node.depth -= 1

    async def main(self, work: Any) -> None:
        """The rest of an async function, in a task of its own."""
        self.task = asyncio.current_task()
        try:
            value = await work
        except BaseException as error:
            if type(error) is GeneratorExit:
                raise  # closed after a KILL
            self.failed(error)
            if not isinstance(error, ORDINARY):
                raise
        else:
            self.returned(value)
        finally:
            self.task = None

    def returned(self, value: Any) -> None:
        if self.status == EXITING:
            self.end(self.reason)  # it was told to end first: what it returned after that is nobody's
        elif self.status == DEAD:
            self.lay()
        else:
            if self.sink is not None:
                self.value = value
            self.end(NORMAL)

    def failed(self, error: BaseException) -> None:
        if self.status == DEAD:
            self.lay()
        elif self.status == EXITING:
            self.end(self.reason)
        elif type(error) is asyncio.CancelledError and self.node.ending():
            self.end(SHUTDOWN)
        else:
            info = exc_info(error)
            reason = error.reason if isinstance(error, Exit) else Crash.of(error, info[2])
            if not clean(reason):
                self.report(reason, info)
            self.end(reason)

    # -- the end

    def begin_exit(self, reason: object) -> None:
        if self.status == QUEUED:
            self.end(reason)  # it has not begun, so nothing of it is to be unwound
        else:
            super().begin_exit(reason)

    def clear(self) -> None:
        self.inbox = []
        self.receiver = None
        self.fn, self.args, self.kwargs = _gone, (), _NO_KWARGS
        self.ctx = None  # it refers to this job: without the circle no garbage is left for the collector (2 µs a task)

    def notify(self) -> None:
        held, self.held = self.held, None
        if held is not None:
            held.jobs.pop(self, None)
        sink, self.sink = self.sink, None
        if sink is not None:
            sink._ended(self)  # pyright: ignore[reportPrivateUsage]
            self.value = NOTHING
        if self.linked or self.links is not None or self.monitors is not None or self.waiters is not None or STOPPED.handlers:
            super().notify()

    def detach(self, other: Process | None) -> None:
        """No exit signal goes between this job and `other` (None: the plain asyncio code that started it) any more."""
        if other is not None:
            other.unlink_from(self)
            self.unlink_from(other)
        elif self.held is not None:
            self.held.jobs.pop(self, None)
            self.held = None

    def report(self, reason: object, info: Any) -> None:
        """OTP's report of a task that ended abnormally, `{Task.Supervisor, :terminating}`."""
        if not _log.isEnabledFor(logging.ERROR):
            return
        fn, args = self.work()
        facts = {
            **_report.facts(self), "context": "terminating", "starter": self.starter, "function": fn, "arguments": args, "reason": reason,
        }  # fmt: skip
        label = facts["label"]
        arguments = [*map(short, args), *(f"{key}={short(one)}" for key, one in self.kwargs.items())]
        _log.error(
            "task %r%s, started by %s, terminating\n  function: %s(%s)\n  reason: %s",
            self.label(), "" if label is None else f" {short(label)}",
            "plain asyncio code" if self.starter is None else repr(self.starter.label()),
            named(fn), ", ".join(arguments), short(reason),
            exc_info=info, extra=facts,
        )  # fmt: skip


def _gone() -> None:
    """In place of the function of a job that has ended, so that its pid keeps nothing alive."""


def named(fn: Callable[..., Any]) -> str:
    """A function as reports show it."""
    name = getattr(fn, "__qualname__", None)
    return short(fn) if name is None else f"{getattr(fn, '__module__', None)}.{name}"


# --- jobs of plain asyncio code ---------------------------------------------------------------------------------------


class _Held:
    """The jobs of one asyncio task that is no process: in place of links. When it ends badly, so do they; never the other way."""

    __slots__ = ("jobs", "owner")

    def __init__(self, owner: asyncio.Task[Any]) -> None:
        self.owner: asyncio.Task[Any] | None = owner
        self.jobs: dict[Job, None] = {}

    def over(self, task: asyncio.Task[Any]) -> None:
        self.owner = None  # contexts that were copied from the task's own may live on
        # Not task.exception(): whoever owns the task is to retrieve that, or to be told that nobody did.
        error: BaseException | None = None if task.cancelled() else cast(Any, task)._exception
        if error is None and not task.cancelled():
            return  # a normal end is no reason for others to end, as in OTP
        reason = SHUTDOWN if error is None else error.reason if isinstance(error, Exit) else Crash(error)
        for job in list(self.jobs):
            job.held = None
            job.signal(job.node.root, reason, by_link=True)


_HELD: ContextVar[_Held | None] = ContextVar("beamish_held", default=None)


def hold(job: Job) -> None:
    """Plain asyncio code has started `job`, which still runs."""
    task = asyncio.current_task()
    if task is None:
        return  # a callback of the loop: there is nobody whose end could be its end
    held = _HELD.get()
    if held is None or held.owner is not task:
        held = _Held(task)
        _HELD.set(held)
        task.add_done_callback(held.over)
    held.jobs[job] = None
    job.held = held
