"""`self.stream(source)`: what an async iterator gives comes as messages. A socket's bytes, a queue, a watch on files.

A process of its own, linked to the server, waits for the items, so that the server never does. It is given the next one only
when the server has handled those before: `max_in_flight` of them may be under way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from typing import Any

from beamish import _report
from beamish._loop import ServerProcess
from beamish._runtime.extra import finish
from beamish._runtime.ids import Pid
from beamish._runtime.node import Node
from beamish._runtime.process import DEAD, EXITING, Process, TaskProcess
from beamish._runtime.signals import ACK, ITEM
from beamish.errors import NORMAL, SHUTDOWN, Crash, Exit, Normal, short
from beamish.process import living

#: Seconds that the `aclose` of a source may take.
CLOSING = 5.0
_log = logging.getLogger("beamish.process")


@dataclass(frozen=True, slots=True)
class Ended:
    """A stream has ended: NORMAL when its source had no more, Crash(error) when that raised. Comes after its last item."""

    reason: object
    stream: Pid


class Stream(TaskProcess):
    """The process of one stream, as `self.stream(…)` returns it: a pid that can be closed."""

    __slots__ = ("free", "in_flight", "max_in_flight", "owner", "unopened")

    behaves = True

    def __init__(self, node: Node, owner: ServerProcess, source: AsyncIterable[Any], max_in_flight: int) -> None:
        super().__init__(node, owner, None)
        self.owner = owner
        self.unopened: AsyncIterable[Any] | None = source  # until the first step of its task, which closes it from then on
        self.max_in_flight = max_in_flight
        self.in_flight = 0  # sent, and not handled yet
        self.free: asyncio.Future[None] | None = None

    def initial_call(self) -> object:
        return "GenServer.stream"

    def close(self) -> None:
        """End it. Items that were sent already are still handled; no Ended comes."""
        self.owner.unlink_from(self)
        self.unlink_from(self.owner)
        if self.status not in (EXITING, DEAD):
            self.begin_exit(SHUTDOWN)

    def signal(self, source: Process, reason: object, *, by_link: bool) -> None:
        """A stream never outlives its server, whatever that ends with: NORMAL would be nothing to another linked process."""
        over = by_link and source is self.owner and isinstance(reason, Normal)
        super().signal(source, SHUTDOWN if over else reason, by_link=by_link)

    async def pump(self, source: AsyncIterable[Any]) -> None:
        """Its task."""
        self.unopened = None
        items: Any = source
        reason: object = NORMAL
        try:
            items = aiter(source)
            await self._pass_on(items)
        except Exception as error:
            reason = self._failed(error)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if not self.alive or self.node.ending() or (task is not None and task.cancelling()):
                raise
            reason = self._failed(error)  # of something that the source awaited; nobody wants to end the stream
        finally:
            await self._closed(items)
        if self.alive:
            self.owner.post((ITEM, Ended(reason, self), None, None))

    async def _pass_on(self, items: AsyncIterator[Any]) -> None:
        while True:
            if self.in_flight >= self.max_in_flight:
                self.free = self.node.loop.create_future()
                await self.free
            try:
                item = await anext(items)
            except StopAsyncIteration:
                return
            if not self.alive:
                return  # the source has swallowed the cancellation
            self.in_flight += 1
            self.owner.post((ITEM, item, None, None))
            self.owner.post((ACK, self._handled, None, None))  # the next mail after the item's handler is done

    async def _closed(self, items: Any) -> None:
        """Close the source. What that raises ends nothing; what it hangs on is waited for a while."""
        close = getattr(items, "aclose", None)
        if close is None:
            return
        try:
            async with asyncio.timeout(CLOSING):
                await close()
        except Exception as error:
            _log.exception("%r: its source could not be closed: %s", self, error)

    def finished(self, task: asyncio.Task[Any]) -> None:
        if self.unopened is not None:  # it ended before its first step
            close = getattr(self.unopened, "aclose", None)
            if close is not None:
                finish(close(), close, self.label(), self.node)
        super().finished(task)

    def _handled(self, process: ServerProcess) -> None:
        self.in_flight -= 1
        if self.free is not None and not self.free.done():
            self.free.set_result(None)

    def _failed(self, error: BaseException) -> object:
        info = type(error), error, error.__traceback__
        reason = error.reason if isinstance(error, Exit) else Crash.of(error)
        _report.task_ended(self, reason, info)
        return reason

    def exit_reason(self, task: asyncio.Task[Any]) -> object:
        if task.cancelled():
            return SHUTDOWN if self.node.ending() else Crash(asyncio.CancelledError("cancelled, but not by an exit signal"))
        error = task.exception()
        return NORMAL if error is None else Crash.of(error)


def stream(owner: ServerProcess, source: AsyncIterable[Any], max_in_flight: int) -> Stream:
    """Start one, for a server whose handler is running."""
    if not hasattr(source, "__aiter__"):
        raise TypeError(f"stream takes an async iterable: an async generator called, a StreamReader, … Got: {short(source)}")
    if isinstance(max_in_flight, bool) or not isinstance(max_in_flight, int) or max_in_flight < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"max_in_flight is a number of items, 1 or more. Got: {max_in_flight!r}")
    node = owner.node
    living(node)
    process = Stream(node, owner, source, max_in_flight)
    process.started()
    process.task = asyncio.Task(process.pump(source), loop=node.loop, name=f"beamish-stream-{process!r}", context=process.task_context())
    process.task.add_done_callback(process.finished)
    return process
