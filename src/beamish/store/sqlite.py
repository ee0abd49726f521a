"""The engine for one program on one machine: a SQLite file, off the event loop, many transactions to one fsync."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from beamish.errors import short
from beamish.store._events import EventReader, Tail
from beamish.store._local import Core, DirtyTransaction, Transaction
from beamish.store._rows import Rows
from beamish.store._sqlite_base import Cached, Resident
from beamish.store._sqlite_file import File
from beamish.store._sqlite_journal import Journal
from beamish.store._table import Table
from beamish.store._worker import Worker
from beamish.store.engine import Event
from beamish.store.errors import Damaged, PositionGone, StoreClosed, StoreFailed

T = TypeVar("T")
Durability = Literal["full", "normal"]

PIECE = 1000
RECENT = 10_000
"""Events that are kept in memory too, for subscribers that keep up."""


class SQLite:
    """`SQLite("shop.db")`: a file, made if there is none, that belongs to one store at a time (`shop.db.lock` sees to that).

    `durability`: what a commit that has returned survives.

    * "full": power failure, too. Every commit waits for the disk; those that wait at the same time share one fsync.
    * "normal": the death of this program, kill -9 included, but not that of the machine: the last moments may be missing then. Never a
      part of a transaction, and never one before another.

    `cache`: how many keys of each table are kept in memory, those used most recently; others are read in a thread. Tables with `ram=True`
    are in memory as a whole. Transactions are serializable, see `_local`; writes are made by one thread, reads of keys
    by a second one, queries by a third.
    """

    def __init__(self, path: str | PathLike[str], *, durability: Durability = "full", cache: int = 100_000) -> None:
        if durability not in get_args(Durability):
            raise ValueError(f'durability is "full" or "normal". Got: {durability!r}')
        if str(path) == ":memory:":
            raise ValueError("a store that is to live in memory has the engine Memory(). Got: ':memory:'")
        if type(cache) is not int or cache < 2:
            raise ValueError(f"cache is how many keys of a table are kept in memory, an int of 2 or more. Got: {short(cache)}")
        self.path = Path(path)
        self.durability: Durability = durability
        self.cache = cache
        self._opening: _Opening | None = None

    async def open(self, tables: Sequence[Table[Any]], *, keep_events: int, wake: Callable[[], None]) -> None:
        self._opening = opening = _Opening(self, tables, keep_events)
        try:
            await opening.begin(wake)
        except BaseException:
            self.drop()
            raise

    async def close(self) -> None:
        if self._opening is not None:
            self._opening.core.closed = True
            await self._opening.journal.finish()
            self.drop()

    def drop(self) -> None:
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.end()

    def begin(self, *, dirty: bool = False, attempt: int = 1) -> Transaction | DirtyTransaction:
        return self._opened.core.begin(dirty)

    async def position(self) -> int:
        return self._opened.tail.position

    async def events(self, after: int, limit: int) -> list[Event[Any]]:
        opening = self._opened
        opening.tail.check(after)
        if after >= opening.tail.oldest:
            return opening.tail.after(after, limit)
        found = await opening.queries.read(lambda db: opening.older(db, after, limit))
        last = opening.tail.position  # what is in the file already may not have been answered yet
        return [event for event in found if event.position <= last]

    def resident(self, table: Table[Any]) -> Rows | None:
        base = self._opened.bases[table]
        return base.rows if isinstance(base, Resident) else None

    async def dump(self, tables: Sequence[Table[Any]]) -> tuple[int, AsyncIterator[tuple[Table[Any], list[Any]]]]:
        return await self._opened.dump(tables)

    async def load(self, tables: Sequence[Table[Any]], records: AsyncIterable[tuple[Table[Any], list[Any]]]) -> None:
        await self._opened.load(tables, records)

    @property
    def _opened(self) -> _Opening:
        if self._opening is None or not hasattr(self._opening, "core"):
            raise StoreClosed("the store is not open")
        return self._opening


class _Opening:
    """What there is from `open` to `close`: the file, three threads, and the core."""

    def __init__(self, engine: SQLite, tables: Sequence[Table[Any]], keep_events: int) -> None:
        self.file = File(engine.path.resolve(), engine.durability, keep_events)  # one lock, by whatever links it is reached
        self.tables = tables
        self.cache = engine.cache
        self.loop = asyncio.get_running_loop()
        self.writer = Worker(self.loop, "writer")
        self.keys = _Reader(self, "keys")  # two of them, so that a read of a key does not wait for somebody's long query
        self.queries = _Reader(self, "queries")
        self.bases: dict[Table[Any], Cached | Resident] = {}

    async def begin(self, wake: Callable[[], None]) -> None:
        await self.writer.run(lambda: self.file.open(self.tables))
        await self.keys.open()
        await self.queries.open()
        self.tail = Tail(min(self.file.keep, RECENT), wake, self.file.position)
        self.event_reader = EventReader(self.tables, self.file.schemas)
        for table in self.tables:
            if table.ram:
                self.bases[table] = base = Resident(table)
                await self.queries.read(partial(self._fill, base.rows))
            else:
                self.bases[table] = Cached(self.file.sql[table], self.keys.read, self.queries.read, self.cache)
        self.journal = Journal(self.file, self.writer, self.bases, self.tail)
        self.core = self.journal.core = Core(self.journal, self.bases.items())

    def _fill(self, rows: Rows, db: sqlite3.Connection) -> None:
        """In the thread; nobody else has seen the rows yet."""
        table = rows.table
        found = db.execute(self.file.sql[table].everything())
        while part := found.fetchmany(PIECE):
            rows.fill(table.make(row) for row in part)

    def end(self) -> None:
        """Now. Waits for what a thread is doing at this moment: some milliseconds, or until the disk answers."""
        if hasattr(self, "core"):
            self.core.close()
            self.journal.drop()
        self.keys.end()
        self.queries.end()
        self.writer.end()
        self.file.close()

    # -- events that are not in memory any more

    def older(self, db: sqlite3.Connection, after: int, limit: int) -> list[Event[Any]]:
        found: list[Event[Any]] = []
        rows = db.execute("SELECT last, count, body FROM beamish_events WHERE last > ? ORDER BY last LIMIT 100", (after,)).fetchall()
        if rows[0][0] - rows[0][1] > after:
            raise PositionGone(after, rows[0][0] - rows[0][1])
        for last, _, body in rows:
            found += self.event_reader.read(body, last)
            if last >= after + limit:
                break
        return [event for event in found if event.position > after][:limit]

    # -- backup and restore

    async def dump(self, tables: Sequence[Table[Any]]) -> tuple[int, AsyncIterator[tuple[Table[Any], list[Any]]]]:
        """By a connection of its own, whose one transaction sees one moment, and a thread of its own, so that readers do not wait."""
        pieces = self._dump(tables)
        position: Any = await anext(pieces)
        return position, pieces

    async def _dump(self, tables: Sequence[Table[Any]]) -> AsyncGenerator[Any, None]:
        """First the position, then the pieces."""
        reader = _Reader(self, "dump")
        try:
            await reader.open()
            yield await reader.read(_moment)
            rest = await reader.read(lambda db: self._pieces(db, tables))
            while (piece := await reader.read(lambda _: next(rest, None))) is not None:
                yield piece
        finally:
            reader.end()

    def _pieces(self, db: sqlite3.Connection, tables: Sequence[Table[Any]]) -> Iterator[tuple[Table[Any], list[Any]]]:
        for table in tables:
            rows = db.execute(self.file.sql[table].everything())
            while part := rows.fetchmany(PIECE):
                yield table, [table.make(row) for row in part]

    async def load(self, tables: Sequence[Table[Any]], records: AsyncIterable[tuple[Table[Any], list[Any]]]) -> None:
        pieces = [piece async for piece in records]
        # A task of its own: cancelled half-way, the file would be one thing and what is in memory another.
        self.restoring = asyncio.ensure_future(self.journal.replace(tables, pieces))
        await asyncio.shield(self.restoring)


class _Reader:
    """A thread with a connection that only reads."""

    def __init__(self, opening: _Opening, name: str) -> None:
        self.file = opening.file
        self.thread = Worker(opening.loop, name)
        self.db: sqlite3.Connection | None = None

    async def open(self) -> None:
        self.db = await self.thread.run(lambda: self.file.connect(reads=True))

    def read(self, fn: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """`fn(connection)` in the thread. Its errors are the store's."""

        def job() -> T:
            assert self.db is not None
            try:
                return fn(self.db)
            except sqlite3.DatabaseError as error:
                if "interrupted" in str(error):
                    raise StoreClosed("the store has ended") from error
                kind = Damaged if "malformed" in str(error) else StoreFailed
                raise kind(f"{self.file.path} can't be read: {error}") from error

        try:
            return self.thread.run(job)
        except RuntimeError as error:
            raise StoreClosed("the store has ended") from error

    def end(self) -> None:
        if self.db is not None:
            self.db.interrupt()
        self.thread.end()
        if self.db is not None:
            self.db.close()
            self.db = None


def _moment(db: sqlite3.Connection) -> int:
    """From now on the connection sees what is there now: the position."""
    db.execute("BEGIN")
    position: int = db.execute("SELECT ifnull(max(last), 0) FROM beamish_events").fetchone()[0]
    return position
