"""A function run for each of many items, several at a time: what `Task.async_stream` returns.

    TaskStream ── aiter ──▶ Results (what the `async for` holds) ──▶ Flow (what the tasks know) ──▶ Item ──▶ Job

Only `Results` is let go when the loop is left early; then it closes the flow, and what runs is told to end.
"""

from __future__ import annotations

import asyncio
import os
from asyncio import CancelledError, sleep
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import Any, Literal, TypeVar, cast

from beamish._runtime.node import Node, exiting, here, here_key
from beamish._runtime.process import DEAD, Process
from beamish._runtime.timers import Timer
from beamish._task_process import NOTHING, Job, check_function, hold, named
from beamish._task_results import Failed, Ok, TaskTimeout
from beamish._task_wait import Shut, check_shutdown, check_timeout, shut_down
from beamish.errors import SHUTDOWN, Normal, WrongLoop, short

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

OnItemTimeout = Literal["exit", "kill_task"]
#: Makes the job of one item: (node, who started it, the function, its arguments, who is told).
Start = Callable[[Node, Process | None, Callable[..., Any], tuple[Any, ...], Any], Job]

#: Results that may wait behind one that is late, times max_concurrency.
BEHIND = 10


class TaskStream(AsyncIterable[Ok[T_co] | Failed]):
    """Results of a function for each of many items, to be read by `async for`: nothing runs before that, and each one runs anew.

    Leaving the loop early ends what runs. To wait until it has ended: `async with contextlib.aclosing(aiter(stream)) as results`.
    """

    __slots__ = ("_fn", "_items", "_options", "_start")

    def __init__(
        self,
        items: Iterable[Any] | AsyncIterable[Any],
        fn: Callable[..., Any],
        start: Start,
        *,
        max_concurrency: int | None,
        ordered: bool,
        timeout: float | None,
        on_timeout: OnItemTimeout,
        zip_input_on_exit: bool,
        shutdown: Shut,
    ) -> None:
        check_function(fn)
        if not isinstance(items, Iterable | AsyncIterable):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"async_stream takes something to iterate over, and a function of one item. Got: {short(items)}")
        if max_concurrency is None:
            max_concurrency = os.cpu_count() or 1
        if isinstance(max_concurrency, bool) or not isinstance(max_concurrency, int) or max_concurrency < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"max_concurrency is how many run at a time, an int of 1 or more. Got: {short(max_concurrency)}")
        if on_timeout not in ("exit", "kill_task"):
            raise ValueError(f'on_timeout is "exit" or "kill_task". Got: {short(on_timeout)}')
        check_timeout(timeout)
        check_shutdown(shutdown)
        self._items = items
        self._fn = fn
        self._start = start
        self._options = Options(max_concurrency, ordered, timeout, on_timeout == "kill_task", zip_input_on_exit, shutdown)

    def __aiter__(self) -> Results[T_co]:
        return Results(Flow(self._items, self._fn, self._start, self._options))

    def __repr__(self) -> str:
        return f"<TaskStream of {named(self._fn)}>"


class Options:
    """How a stream runs."""

    __slots__ = ("kills", "max_concurrency", "ordered", "shutdown", "timeout", "zips")

    def __init__(self, max_concurrency: int, ordered: bool, timeout: float | None, kills: bool, zips: bool, shutdown: Shut) -> None:
        self.max_concurrency = max_concurrency
        self.ordered = ordered
        self.timeout = timeout
        self.kills = kills
        self.zips = zips
        self.shutdown: Shut = shutdown


class Results(AsyncIterator[Ok[T_co] | Failed]):
    """One run of a stream."""

    __slots__ = ("_flow",)

    def __init__(self, flow: Flow) -> None:
        self._flow = flow

    async def __anext__(self) -> Ok[T_co] | Failed:
        return cast("Ok[T_co] | Failed", await self._flow.next())

    async def aclose(self) -> None:
        """End what runs, and wait until it has."""
        await self._flow.aclose()

    def __del__(self) -> None:
        self._flow.let_go()


class Item:
    """One item: its job's sink, and the waiter of its timeout."""

    __slots__ = ("flow", "input", "job", "late_table", "result")

    def __init__(self, flow: Flow, input: Any) -> None:
        self.flow = flow
        self.input = input
        self.job: Job | None = None
        self.result: Ok[Any] | Failed | None = None
        self.late_table: dict[Any, float] | None = None

    def _ended(self, job: Job) -> None:
        flow = self.flow
        if self.late_table is not None:
            self.late_table.pop(self, None)
        del flow.running[self]
        me = flow.me
        if me is not None and (me.trap or type(job.reason) is Normal):
            job.detach(me)  # no Exited for each of thousands; one that does not trap is taken along by the others
        if self.result is None and not flow.closed:
            self.settle(Ok(job.value) if job.value is not NOTHING else self.without_value(job.reason))
        flow.wake()

    def without_value(self, reason: object) -> Failed:
        return Failed(reason, self.input if self.flow.options.zips else None)

    def settle(self, result: Ok[Any] | Failed) -> None:
        self.result = result
        if not self.flow.options.ordered:
            self.flow.results.append(self)

    def late(self) -> None:
        flow, job = self.flow, self.job
        if flow.closed or job is None:
            return
        if flow.options.kills:
            self.settle(self.without_value("timeout"))
            flow.end(job)
        elif flow.error is None:
            flow.error = _too_late(flow, self.input)
        flow.wake()


def _too_late(flow: Flow, input: Any) -> TaskTimeout:
    error = TaskTimeout(
        f"async_stream of {named(flow.fn)}: the task for {short(input)} had not ended after {flow.options.timeout} s, so the stream ended "
        'and the others with it. For another limit: timeout=seconds; to go on without it: on_timeout="kill_task"',
        server=None, request="async_stream", reason="timeout",
    )  # fmt: skip
    error.timeout = flow.options.timeout
    return error


class Flow:
    """What runs, what has ended and was not read yet, and what is still to come.

    At most `max_concurrency` run, and as many are there unread. Where results are read in order, more may be unread behind one
    that is late, BEHIND times as many: enough to keep the others busy, and a bound. (OTP has none there.)
    """

    __slots__ = (
        "closed",
        "error",
        "feeder",
        "fn",
        "hungry",
        "me",
        "node",
        "options",
        "reading",
        "results",
        "running",
        "source",
        "start",
        "waiting",
    )

    def __init__(self, items: Any, fn: Callable[..., Any], start: Start, options: Options) -> None:
        self.source: Any = items  # then its iterator; None: nothing more comes
        self.fn = fn
        self.start = start
        self.options = options
        self.node: Node | None = None  # of who reads, known when it does
        self.me: Process | None = None
        self.results: deque[Item] = deque()  # unread ones: those that have ended, with `ordered` all
        self.running: dict[Item, None] = {}
        self.error: BaseException | None = None
        self.closed = False
        self.reading = False
        self.waiting: asyncio.Future[None] | None = None  # who reads
        self.feeder: asyncio.Task[None] | None = None  # takes items from an async iterable
        self.hungry: asyncio.Future[None] | None = None  # the feeder, while there is no room

    # -- reading

    async def next(self) -> Any:
        node = self.node or self.begin()
        if here_key() != node.key:
            raise WrongLoop.of(self.fn, "async_stream")
        if self.reading:
            raise RuntimeError("another task reads this stream: each `async for` over it is a run of its own")
        self.reading = True
        try:
            while not self.closed:
                self.fill()
                if exiting(self.me):
                    await sleep(0)  # a link has taken us along; the cancellation is delivered here
                if self.error is not None:
                    raise self.error
                result = self.take()
                if result is not None:
                    return result
                if not self.running and self.source is None:
                    break
                self.waiting = asyncio.Future(loop=node.loop)
                await self.waiting
        except CancelledError:
            if exiting(self.me):
                self.close()
            else:
                await self.aclose()
            raise
        except BaseException:
            await self.aclose()
            raise
        finally:
            self.reading = False
        self.close()
        raise StopAsyncIteration

    def begin(self) -> Node:
        """Whoever reads first owns the tasks."""
        self.node = node = here()
        self.me = node.me()
        if isinstance(self.source, AsyncIterable):
            self.feeder = node.loop.create_task(self.feed(), name="beamish-async_stream")
        else:
            self.source = iter(self.source)
        return node

    def take(self) -> Any:
        results = self.results
        return results.popleft().result if results and results[0].result is not None else None

    def wake(self) -> None:
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_result(None)

    # -- starting

    def room(self) -> bool:
        limit = self.options.max_concurrency
        running, results = len(self.running), self.results
        if running >= limit or self.closed or self.error is not None:
            return False
        if not self.options.ordered:
            return running + len(results) < limit
        return len(results) < limit or (results[0].result is None and len(results) < BEHIND * limit)

    def fill(self) -> None:
        if self.feeder is not None:
            if self.hungry is not None and not self.hungry.done() and self.room():
                self.hungry.set_result(None)
            return
        while self.source is not None and self.room():
            try:
                value = next(cast("Iterator[Any]", self.source))
            except StopIteration:
                self.source = None
                return
            self.launch(value)

    async def feed(self) -> None:
        """Take items from an async iterable, one at a time and only when there is room. In one task, so that it may have scopes."""
        source: AsyncIterator[Any] = aiter(self.source)
        try:
            while not self.closed:
                if not (self.reading and self.room()):
                    self.hungry = asyncio.Future()
                    await self.hungry
                    continue
                try:
                    value = await anext(source)
                except StopAsyncIteration:
                    break
                self.launch(value)
                self.wake()
        except Exception as error:
            self.error = self.error or error
        finally:
            self.source = None
            self.wake()
            close = getattr(source, "aclose", None)
            if close is not None:
                await close()

    def launch(self, value: Any) -> None:
        node, options = self.node, self.options
        assert node is not None
        item = Item(self, value)
        item.job = job = self.start(node, self.me, self.fn, (value,), item)
        self.running[item] = None
        if options.ordered:
            self.results.append(item)
        job.launch()
        if item not in self.running:
            return
        if options.timeout is not None:
            item.late_table = node.timeouts.add(item, options.timeout)
        if self.me is None:
            hold(job)

    # -- the end

    def close(self) -> None:
        """Nothing more is read: end what runs."""
        if self.closed:
            return
        self.closed = True
        self.source = None
        self.results.clear()
        if self.feeder is not None:
            self.feeder.cancel()
        for item in list(self.running):
            if item.late_table is not None:
                item.late_table.pop(item, None)
            if item.job is not None:
                self.end(item.job)

    async def aclose(self) -> None:
        running = [item.job for item in self.running if item.job is not None]
        self.close()
        try:
            await shut_down(running, self.me, self.options.shutdown)
        finally:
            if self.feeder is not None and self.feeder is not asyncio.current_task():
                await asyncio.wait([self.feeder])

    def let_go(self) -> None:
        """The loop over it was left, or given up."""
        node = self.node
        if self.closed or node is None or node.loop.is_closed():
            return
        if here_key() == node.key:
            self.close()
        else:
            node.loop.call_soon_threadsafe(self.close)

    def end(self, job: Job) -> None:
        """Tell a job to end, without waiting: unlinked, and with a KILL to come if it does not listen."""
        job.detach(self.me)
        shutdown = self.options.shutdown
        if shutdown == "brutal_kill" or shutdown == 0:
            job.kill()
            return
        node = job.node
        job.signal(self.me if self.me is not None else node.root, SHUTDOWN, by_link=False)
        if job.status != DEAD:
            timer = node.wheel.arm(node.clock.now() + shutdown, _kill, job)
            if job.timers is None:
                job.timers = {}
            job.timers[timer] = None  # it vanishes with the job


def _kill(timer: Timer) -> None:
    job: Job = timer.target
    if job.status != DEAD:
        job.kill()
