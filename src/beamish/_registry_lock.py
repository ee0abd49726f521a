"""`Registry.lock`: one at a time under a key, first come, first served; given back when the block, or its process, ends."""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import Any

from beamish._runtime.node import here
from beamish._runtime.process import Process
from beamish.errors import short
from beamish.process import living, own

#: Who has the lock of a key, and behind it who waits for it.
Rows = dict[Any, "deque[Lock]"]


class Lock:
    """What `async with registry.lock(key)` enters. Called, it gives the lock back: when its process ends without doing so."""

    __slots__ = ("future", "key", "process", "rows", "task")

    def __init__(self, rows: Rows, key: Any) -> None:
        self.rows = rows
        self.key = key
        self.task: asyncio.Task[Any] | None = None
        self.process: Process | None = None
        self.future: asyncio.Future[None] | None = None

    async def __aenter__(self) -> None:
        node = here()
        living(node)
        self.task, self.future = asyncio.current_task(), None
        row = self.rows.get(self.key)
        if row is None:
            self.rows[self.key] = deque([self])
        elif row[0].task is self.task:
            raise RuntimeError(f"this code has the lock of {short(self.key)} already, and would wait for itself for ever")
        else:
            row.append(self)
            self.future = node.loop.create_future()
        self.process = process = node.me()
        if process is not None:
            own(self)
        if self.future is not None:
            try:
                await self.future
            except BaseException:
                self()
                raise

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self()

    def __call__(self) -> None:
        row = self.rows.get(self.key)
        if row is None or self not in row:
            return  # given back already, by the end of the process or of the registry
        first = row[0] is self
        row.remove(self)
        if not row:
            del self.rows[self.key]
        elif first:
            row[0].granted()
        if self.process is not None and self.process.extra is not None and self.process.extra.closers is not None:
            self.process.extra.closers.pop(self, None)

    def granted(self) -> None:
        if self.future is not None and not self.future.done():
            self.future.set_result(None)  # a cancelled one passes it on when its task has its turn


def close(rows: Rows, error: Exception) -> None:
    """The registry has ended: nobody waits any more."""
    for row in rows.values():
        for lock in row:
            if lock.future is not None and not lock.future.done():
                lock.future.set_exception(error)
    rows.clear()
