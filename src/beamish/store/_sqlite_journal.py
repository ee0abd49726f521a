"""How decided transactions get into the file: all that wait, as one transaction of SQLite's, with one fsync."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from beamish.store._events import Tail
from beamish.store._local import Core
from beamish.store._sqlite_base import Cached, Resident
from beamish.store._sqlite_file import File
from beamish.store._table import Table
from beamish.store._worker import Worker
from beamish.store.engine import Change, Writes
from beamish.store.errors import CommitUnknown, Conflict, StoreClosed, StoreError, StoreFailed

MOST = 2000
"""Transactions in one batch."""


class Entry:
    """One transaction on its way."""

    __slots__ = ("changes", "done", "number", "writes")

    def __init__(self, number: int, writes: Writes, changes: Sequence[Change], done: asyncio.Future[None]) -> None:
        self.number = number
        self.writes = writes
        self.changes = changes
        self.done = done


class Journal:
    """One batch is in the thread (`flying`), the next one gathers (`waiting`)."""

    core: Core

    def __init__(self, file: File, thread: Worker, bases: dict[Table[Any], Cached | Resident], tail: Tail) -> None:
        self.file = file
        self.loop = asyncio.get_running_loop()
        self.thread = thread
        self.bases = bases
        self.tail = tail
        self.waiting: list[Entry] = []
        self.flying: list[Entry] = []
        self.busy = False  # a batch flies, or is about to
        self.followers: list[tuple[int, asyncio.Future[None]]] = []
        self.crowd = False  # the last batch had company: wait for others of this turn

    async def append(self, number: int, writes: Writes, changes: Sequence[Change]) -> None:
        done = self.loop.create_future()
        self.waiting.append(Entry(number, writes, changes, done))
        if not self.busy:
            self.busy = True
            if self.crowd:
                self.loop.call_soon(self._send)
            else:
                self._send()
        await done

    async def until(self, number: int) -> None:
        if number > self.core.durable:
            await self._follow(number)

    def _follow(self, number: int) -> asyncio.Future[None]:
        """A future of one's own: that of a transaction is cancelled with whoever waits for it."""
        future: asyncio.Future[None] = self.loop.create_future()
        self.followers.append((number, future))
        return future

    async def finish(self) -> None:
        """Wait until nothing is on its way."""
        while self.flying or self.waiting:
            await asyncio.wait([self._follow((self.waiting or self.flying)[-1].number)])

    def _send(self) -> None:
        if not self.waiting or (self.core.closed and not self.busy):
            self.busy = False
            return
        self.flying, self.waiting = self.waiting[:MOST], self.waiting[MOST:]
        batch = [(entry.writes, entry.changes) for entry in self.flying]
        self.thread.call(self._sent, lambda: self.file.write(batch))

    def _sent(self, writes: Writes, error: BaseException | None) -> None:
        flown, self.flying = self.flying, []
        if not flown:
            return  # dropped
        self.crowd = len(flown) > 1
        if error is not None:
            self._failed([*flown, *self.waiting], error)
            return
        for table, keys in writes.items():
            put = self.bases[table].put
            for key, write in keys.items():
                put(key, write.records)
        self.core.settled(flown[-1].number, writes)
        for entry in flown:
            if not entry.done.done():
                entry.done.set_result(None)
        self._tell(flown[-1].number, None)
        self.tail.add([change for entry in flown for change in entry.changes])
        if self.waiting:
            self.loop.call_soon(self._send)  # after those who were answered just now, and whose next transactions may join
        else:
            self.busy = False

    def _failed(self, entries: list[Entry], error: BaseException) -> None:
        """Those that were decided after these may have seen what will not be: they fall with them."""
        self.waiting, self.busy = [], False
        self.core.doom_all("what it had seen was not taken by the disk, or was changed")
        for entry in entries:
            if entry.done.done():
                continue
            if isinstance(error, StoreError):
                own: Exception = type(error)(*error.args)
                own.__cause__ = error.__cause__
            else:
                own = StoreFailed(f"{self.file.path} did not take it: {error!r}")
                own.__cause__ = error
            entry.done.set_exception(own)
            entry.done.exception()  # whoever waited may be gone
        if entries:
            lost: StoreError = Conflict("what this transaction had read was not taken by the disk. Run it again")
            self._tell(entries[-1].number, StoreClosed("the store has ended") if self.core.closed else lost)

    def _tell(self, number: int, error: StoreError | None) -> None:
        """Those that wait for a transaction up to this one."""
        told = [future for wanted, future in self.followers if wanted <= number and not future.done()]
        self.followers = [one for one in self.followers if one[0] > number]
        for future in told:
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)
                future.exception()

    def drop(self) -> None:
        flown, self.flying, waiting = self.flying, [], self.waiting
        self._failed(flown, CommitUnknown("the store's process ended while it was committing: it has happened as a whole, or not at all"))
        self._failed(waiting, StoreClosed("the store has ended before this was committed: nothing of it has happened"))

    async def replace(self, tables: Sequence[Table[Any]], pieces: list[tuple[Table[Any], list[Any]]]) -> None:
        """All contents anew. What is on its way gets there before; transactions that are open can't commit any more."""
        async with self.core.hold():
            await self.finish()
            try:
                await self.thread.run(lambda: self.file.replace(tables, iter(pieces)))
            except RuntimeError as error:
                raise StoreClosed("the store has ended before the restore") from error
            for table in tables:
                self.bases[table].forget()
            for table, part in pieces:
                base = self.bases[table]
                if isinstance(base, Resident):
                    base.rows.fill(part)
        self.tail.add([Change("restore", table, None, None, None) for table in tables])
