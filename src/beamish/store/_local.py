"""The engines whose data belongs to this very process: who may commit is decided in memory, on the event loop.

A transaction notes what it reads: in `Shelf.readers` the keys, in `Shelf.scans` the queries. One that commits always may; its writes
*doom* those who have read what it changes, be it a key, a record that a query had found, or one that it would find now. The doomed learn it
at their next step (Conflict). So a transaction that is not doomed sees the newest state in all it has read, from its first read to its
commit (or to its last read, if it writes nothing): that is serializable, and costs a few dict operations, however many run.

What is decided goes to the journal, which makes it durable: at once, in memory; else in a thread, many at a time. Until then it is
`pending`: other transactions see it, and are answered after it; whoever only looks (dirty reads, RAM copies, events) does not. If the
disk refuses, all that is pending is forgotten, and who has seen it is doomed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

from beamish.store._query import Query
from beamish.store._rows import Records
from beamish.store._table import Table
from beamish.store.engine import Change, Writes
from beamish.store.errors import Conflict, StoreClosed, TransactionOver


class Base(Protocol):
    """What is durable of one table."""

    def get(self, key: Any) -> Records | None:
        """What is under `key`; None if only `fetch` can tell."""
        ...

    async def fetch(self, key: Any) -> Records: ...

    async def select(self, query: Query) -> list[Any]: ...


class Journal(Protocol):
    """What makes decided transactions durable, in their order."""

    async def append(self, number: int, writes: Writes, changes: Sequence[Change]) -> None: ...

    async def until(self, number: int) -> None:
        """Wait until the transaction of this number is durable; with no changes of its own."""
        ...


class Scan:
    """A query that a transaction has made, or is making: then `found` is None, and `touched` has what changes meanwhile."""

    __slots__ = ("found", "query", "touched", "tx")

    def __init__(self, tx: Transaction, query: Query) -> None:
        self.tx = tx
        self.query = query
        self.found: set[Any] | None = None
        self.touched: set[Any] = set()

    def done(self, keys: Iterable[Any]) -> None:
        self.found = set(keys)
        if self.touched & self.found:
            self.tx.doom = "a record that its query found was changed meanwhile"

    def see(self, key: Any, records: Records) -> bool:
        """Whether the transaction is doomed by what is under `key` now."""
        if self.found is None:
            self.touched.add(key)
        elif key in self.found:
            return True
        try:
            return any(map(self.query.matches, records))
        except Exception:
            return (
                True  # a predicate that fails is its author's problem, not that of whoever commits: he gets a Conflict, and runs it again
            )


class Shelf:
    """One table of a core."""

    __slots__ = ("base", "pending", "readers", "scans", "table")

    def __init__(self, table: Table[Any], base: Base) -> None:
        self.table = table
        self.base = base
        self.pending: dict[Any, tuple[int, Records]] = {}
        self.readers: dict[Any, set[Transaction]] = {}
        self.scans: dict[Scan, None] = {}

    def changed(self, key: Any, records: Records) -> None:
        """Doom those who have read it."""
        readers = self.readers.get(key)
        if readers:
            for reader in readers:
                reader.doom = f"{self.table.name} {key!r}, which it had read, was changed"
        for scan in self.scans:
            if scan.see(key, records):
                scan.tx.doom = f"{self.table.name} {key!r}, which belongs or would belong to what its query found, was changed"


class Core:
    """One opening of a local engine."""

    def __init__(self, journal: Journal, bases: Iterable[tuple[Table[Any], Base]]) -> None:
        self.journal = journal
        self.shelves = {table: Shelf(table, base) for table, base in bases}
        self.active: set[Transaction] = set()
        self.number = 0  # of the last transaction that was decided
        self.durable = 0
        self.closed = False
        self.held: asyncio.Future[None] | None = None

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        """Nobody commits meanwhile; and who is open then, can't any more."""
        while self.held is not None:
            await asyncio.shield(self.held)
        self.held = asyncio.get_running_loop().create_future()
        try:
            yield
        finally:
            self.doom_all("all was replaced by a backup, or was changed")
            self.held.set_result(None)
            self.held = None

    def begin(self, dirty: bool) -> Transaction | DirtyTransaction:
        if self.closed:
            raise StoreClosed("the store has ended")
        return DirtyTransaction(self) if dirty else Transaction(self)

    def settled(self, number: int, writes: Writes) -> None:
        """The transactions up to this number are durable; `writes` are all of theirs, and in the bases now."""
        self.durable = number
        for table, keys in writes.items():
            pending = self.shelves[table].pending
            for key in keys:
                entry = pending.get(key)
                if entry is not None and entry[0] <= number:
                    del pending[key]

    def doom_all(self, why: str) -> None:
        """What was pending is no more, or all has changed."""
        for tx in self.active:
            tx.doom = why
            tx.lost = tx.lost or tx.after > self.durable
        for shelf in self.shelves.values():
            shelf.pending.clear()

    def close(self) -> None:
        self.closed = True
        self.doom_all("the store has ended")


class Transaction:
    """See the module."""

    __slots__ = ("after", "core", "doom", "lost", "over", "reads", "scans")

    def __init__(self, core: Core) -> None:
        self.doom: str | None = None
        self.core = core
        self.reads: list[tuple[dict[Any, set[Transaction]], Any]] = []
        self.scans: list[tuple[Shelf, Scan]] = []
        self.after = 0  # what it has seen is durable when this transaction is
        self.lost = False  # what it has seen will never be
        self.over = False
        core.active.add(self)

    async def read(self, table: Table[Any], key: Any) -> Records:
        if self.doom is not None or self.over:
            self.fail()
        shelf = self.core.shelves[table]
        readers = shelf.readers.get(key)
        if readers is None:
            shelf.readers[key] = {self}
            self.reads.append((shelf.readers, key))
        elif self not in readers:
            readers.add(self)
            self.reads.append((shelf.readers, key))
        if key in shelf.pending:
            number, records = shelf.pending[key]
            self.after = max(self.after, number)
            return records
        found = shelf.base.get(key)
        if found is None:
            found = await shelf.base.fetch(key)
            if self.doom is not None or self.over:
                self.fail()
        return found

    async def query(self, table: Table[Any], query: Query) -> list[Any]:
        if self.doom is not None or self.over:
            self.fail()
        shelf = self.core.shelves[table]
        scan = Scan(self, query)
        self.scans.append((shelf, scan))
        shelf.scans[scan] = None
        if shelf.pending:
            self.after = self.core.number
            found = await merged(shelf, query, {key: records for key, (_, records) in shelf.pending.items()})
        else:
            found = await shelf.base.select(query)
        if not self.over:
            scan.done(map(table.key_of, found))
        if self.doom is not None or self.over:
            self.fail()
        return found

    async def commit(self, writes: Writes, changes: Sequence[Change]) -> None:
        core = self.core
        if not writes and not changes:
            await self.conclude()
            return
        while core.held is not None:
            await asyncio.shield(core.held)
        if self.doom is not None or self.over:
            self.fail()
        self.end()
        core.number = number = core.number + 1
        for table, keys in writes.items():
            shelf = core.shelves[table]
            pending, watched = shelf.pending, shelf.readers or shelf.scans
            for key, write in keys.items():
                pending[key] = number, write.records
                if watched:
                    shelf.changed(key, write.records)
        await core.journal.append(number, writes, changes)

    async def conclude(self) -> None:
        """The commit of one that has only read. All of it was true at its last read: what has changed since does not matter."""
        if self.over or self.lost or self.core.closed:
            self.fail()
        self.end()
        if self.after > self.core.durable:
            await self.core.journal.until(self.after)

    async def abort(self) -> None:
        if not self.over:
            self.end()

    def end(self) -> None:
        """It has read nothing any more."""
        self.over = True
        self.core.active.discard(self)
        for readers, key in self.reads:
            them = readers[key]
            if len(them) == 1:
                del readers[key]
            else:
                them.discard(self)
        for shelf, scan in self.scans:
            del shelf.scans[scan]

    def fail(self) -> None:
        if not self.over:
            self.end()
        if self.core.closed:
            raise StoreClosed("the store has ended since this transaction began")
        if self.doom is None:
            raise TransactionOver("this transaction is over; use its tx inside of its block or function only")
        raise Conflict(f"the transaction can't commit any more: {self.doom} by another one. Run it again")


class DirtyTransaction:
    """Reads, each for itself, of what is durable."""

    __slots__ = ("core",)

    def __init__(self, core: Core) -> None:
        self.core = core

    async def read(self, table: Table[Any], key: Any) -> Records:
        shelf = self._shelf(table)
        records = shelf.base.get(key)
        return records if records is not None else await shelf.base.fetch(key)

    async def query(self, table: Table[Any], query: Query) -> list[Any]:
        return await self._shelf(table).base.select(query)

    async def commit(self, writes: Writes, changes: Sequence[Change]) -> None:
        assert not writes
        assert not changes

    async def abort(self) -> None: ...

    def _shelf(self, table: Table[Any]) -> Shelf:
        if self.core.closed:
            raise StoreClosed("the store has ended")
        return self.core.shelves[table]


async def merged(shelf: Any, query: Query, over: dict[Any, Records]) -> list[Any]:
    """What the query finds where `over` has taken the place of what is below: in `shelf.base`, or in an engine's transaction."""
    found = await shelf.base.select(widened(query, shelf.table, len(over)))
    return overlaid(found, query, shelf.table, over)


def widened(query: Query, table: Table[Any], by: int) -> Query:
    """So many more, since what is found under that many keys may not count."""
    if query.limit is None:
        return query
    limit = None if table.bag else query.limit + by
    return Query(query.index, query.low, query.high, query.bounds, query.where, limit, query.reverse)


def overlaid(found: list[Any], query: Query, table: Table[Any], over: dict[Any, Records]) -> list[Any]:
    """`found`, but with what is under the keys of `over` from there."""
    key_of = table.key_of
    rest = [record for record in found if key_of(record) not in over]
    new = [record for records in over.values() for record in records if query.matches(record)]
    found = query.sort([*rest, *new], table.key) if new else rest
    return found if query.limit is None else found[: query.limit]
