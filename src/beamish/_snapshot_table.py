"""A table that is kept in a file: see `snapshot.keep`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from concurrent.futures import Future, wait
from time import perf_counter
from typing import Any

from beamish._ets_file import data_of, is_table
from beamish._ets_words import NoTable
from beamish._runtime.extra import finish
from beamish._runtime.process import DEAD
from beamish._runtime.timers import Timer
from beamish._snapshot_claim import TABLES, Claim, threads
from beamish.errors import Normal, Shutdown
from beamish.ets import Table
from beamish.snapshot import FAILED, LOADED, SAVED, Loaded, Snapshot, SnapshotError, chunks_of, tell, when

_log = logging.getLogger("beamish.snapshot")

#: Objects that are put in at a time: the loop has its turn between two.
SLICE = 1000
#: Seconds that the end of the loop waits for a write.
PATIENCE = 5.0

Rows = list[tuple[Any, Any]]


async def keep(table: Table[Any, Any], snapshot: Snapshot) -> TableKeeper:
    if snapshot.changes is not None:
        raise ValueError(f"a table is saved by time: Snapshot(…, every=seconds), without changes=. Got: changes={snapshot.changes}")
    if table.info() is None:
        raise NoTable.of(table)
    if table._keeper is not None:  # pyright: ignore[reportPrivateUsage]
        raise ValueError(f"{table!r} is kept in a file already: stop that first")
    keeper = TableKeeper(table, snapshot)
    await keeper.begin()
    return keeper


class TableKeeper:
    """Keeps one table. `await save()`: now, and not at the next beat. `await stop()`: once more, and no more."""

    __slots__ = ("_claim", "_last", "_late", "_node", "_saving", "_stopped", "_table", "_timer", "_write", "snapshot")

    def __init__(self, table: Table[Any, Any], snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._table = table
        self._node = table._node  # pyright: ignore[reportPrivateUsage]
        self._claim = Claim(snapshot, table, TABLES)
        self._timer: Timer | None = None
        self._saving: asyncio.Future[int | None] | None = None
        self._write: Future[int | None] | None = None  # the last one, in its thread
        self._last: Rows | None = None  # what is in the file; None: nobody knows
        self._late = False  # a beat has come while a write was under way
        self._stopped = False

    async def begin(self) -> None:
        self._claim.begin()
        try:
            found, asides = await asyncio.wrap_future(threads(self._node).submit(self._claim.open))
            tell(asides, self._table, found, f"no older one is left: nothing is put into {self._table!r}")
            if found is not None:
                await self._fill(found)
            if self._table.info() is None:
                raise NoTable.of(self._table)
        except BaseException:
            self._claim.close()
            raise
        self._table._keeper = self._ended  # pyright: ignore[reportPrivateUsage]
        self._arm()

    async def _fill(self, found: Loaded) -> None:
        kind = self._table.info().kind  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
        if not is_table(found.data):
            raise SnapshotError(f"the snapshot {found.path} holds no table. The file was left as it is")
        if ("bag" in found.data["kind"] or "bag" in kind) and found.data["kind"] != kind:
            raise SnapshotError(f"the snapshot {found.path} holds a {found.data['kind']}, and {self._table!r} is a {kind}")
        objects, loaded = found.data["objects"], Rows()
        for start in range(0, len(objects), SLICE):
            loaded += self._put(objects[start : start + SLICE], bags="bag" in kind)
            await asyncio.sleep(0)
        self._last = loaded  # what is there besides, by now or from before, is not saved yet
        _log.info("%r is filled with the snapshot %s, of %s", self._table, found.path, when(found))
        if LOADED.handlers:
            LOADED.execute({"saved_at": found.saved_at}, {"server": self._table, "path": str(found.path)})

    def _put(self, objects: Rows, bags: bool) -> Rows:
        """What was saved, as it is stored now. What is there under one of its keys is newer: in a bag both stay."""
        table: Any = self._table
        pairs: Rows = table._pairs(objects)
        table._may_write("insert_new")
        with table._lock:
            table._rows.put_all(pairs if bags else [pair for pair in pairs if pair[0] not in table._data])
        return pairs

    # -- when

    async def save(self) -> None:
        """Save the table now, if it has changed.

        Raises what the save has failed with: SnapshotError, CodecError. That is logged too, and tried again at the next beat.
        """
        if not self._stopped:
            await self._done()
            self._save()
            saving = self._saving
            await self._done()
            if saving is not None:
                saving.result()

    async def stop(self) -> None:
        """Save the table once more, and keep it no longer. Raises as `save` does; it is kept no longer then either."""
        try:
            await self.save()
        finally:
            if not self._stopped:
                self._let_go()
                self._claim.close()

    def _arm(self) -> None:
        if self.snapshot.every is not None and not self._stopped:
            self._timer = self._node.wheel.arm(self._node.clock.now() + self.snapshot.every, self._beat)

    def _beat(self, timer: Timer) -> None:
        self._arm()
        if self._saving is None:
            self._save()
        else:
            self._late = True  # `_saved` looks again

    # -- one save

    def _rows(self) -> Rows:
        """The objects of this moment. What is stored is never changed in place, so a thread may look at it."""
        table: Any = self._table
        with table._lock:
            found = table._rows.moment()
        return [(key, one) for key, group in found for one in group] if table._many else found

    def _save(self) -> None:
        rows = self._rows()
        self._saving = saving = asyncio.wrap_future(self._written_in_a_thread(rows), loop=self._node.loop)
        begin = perf_counter()
        saving.add_done_callback(lambda done: self._saved(done, rows, begin))

    def _written_in_a_thread(self, rows: Rows) -> Future[int | None]:
        before, about = self._write, self._table.info()

        def chunks() -> Iterator[bytes] | None:
            if before is not None:
                wait([before])  # at the end a write may be under way
            if self._last is not None and about is not None and about.values != "shared" and _same(rows, self._last):
                return None  # of values that are shared nobody knows whether they have changed
            return chunks_of(self.snapshot, data_of(about, rows))

        self._claim.begin()
        self._write = write = threads(self._node).submit(self._claim.save, chunks)
        return write

    def _saved(self, future: asyncio.Future[int | None], rows: Rows, begin: float) -> None:
        self._saving = None
        facts = {"server": self._table, "path": str(self.snapshot.path)}
        error = future.exception() if not future.cancelled() else RuntimeError("the loop was ended before it was written")
        if error is not None:
            self._tell(error)
            if FAILED.handlers:
                FAILED.execute({"changes": len(rows)}, {**facts, "error": error})
        elif (size := future.result()) is not None:
            self._last = rows
            if SAVED.handlers:
                SAVED.execute({"duration": perf_counter() - begin, "bytes": size, "changes": len(rows)}, facts)
        late, self._late = self._late, False
        if late and error is None and not self._stopped:
            self._save()

    def _tell(self, error: BaseException) -> None:
        lost = f". It is gone, and what has changed in it since {self.snapshot.path} was saved is lost" if self._stopped else ""
        _log.error("%r was not saved: %s%s", self._table, error, lost)

    async def _done(self) -> None:
        while self._saving is not None:
            await asyncio.wait([self._saving])
            await asyncio.sleep(0)  # `_saved` has its turn

    # -- the end of the table

    def _let_go(self) -> None:
        self._stopped = True
        self._table._keeper = None  # pyright: ignore[reportPrivateUsage]
        if self._timer is not None:
            self._node.wheel.cancel(self._timer)
            self._timer = None

    def _ended(self) -> None:
        """It is about to be gone. Whoever keeps a table in this file next waits until the file is written."""
        self._let_go()
        owner: Any = self._table._owner  # pyright: ignore[reportPrivateUsage]
        if owner.status == DEAD and not isinstance(owner.reason, (Normal, Shutdown)):
            self._claim.close()
            return
        rows = self._rows()
        write = self._written_in_a_thread(rows)
        self._claim.close()
        if owner is self._node.root and self._node.closing:
            wait([write], PATIENCE)  # the loop is at its very end: nothing runs on it any more that could be held up
            error = write.exception() if write.done() else TimeoutError(f"the disk took more than {PATIENCE} seconds")
            if error is not None:
                self._tell(error)
        else:
            finish(self._last_words(write, rows), self._ended, self._table, self._node)

    async def _last_words(self, write: Future[int | None], rows: Rows) -> None:
        begin, wrapped = perf_counter(), asyncio.wrap_future(write)
        await asyncio.wait([wrapped])
        self._saved(wrapped, rows, begin)


def _same(rows: Rows, others: Rows) -> bool:
    """Whether the very same objects are there, in the same order."""
    if len(rows) != len(others):
        return False
    return all(one[0] is other[0] and one[1] is other[1] for one, other in zip(rows, others, strict=True))
