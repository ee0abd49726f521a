"""An engine without a disk: all in memory, nothing survives the store's process. For tests, caches, and what can be made anew."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Sequence
from typing import Any

from beamish.store._events import Tail
from beamish.store._local import Core, DirtyTransaction, Transaction
from beamish.store._query import Query
from beamish.store._rows import Records, Rows
from beamish.store._table import Table
from beamish.store.engine import Change, Event, Writes
from beamish.store.errors import StoreClosed

PIECE = 1000


class Memory:
    """The engine for `Store(…).child_spec(engine=Memory(), …)`. Each start of the store begins empty.

    It grows with what is stored and with the events that are kept. Nothing of it blocks but what is large: a query that looks
    through a whole table, a backup (a copy of the tables' dicts, 10 ms for a million records).
    """

    def __init__(self) -> None:
        self._core: Core | None = None
        self._journal: _Journal | None = None

    async def open(self, tables: Sequence[Table[Any]], *, keep_events: int, wake: Callable[[], None]) -> None:
        bases = {table: _Base(table) for table in tables}
        self._journal = _Journal(bases, Tail(keep_events, wake))
        self._core = self._journal.core = Core(self._journal, bases.items())

    async def close(self) -> None:
        self.drop()

    def drop(self) -> None:
        if self._core is not None:
            self._core.close()
        self._core = self._journal = None

    def begin(self, *, dirty: bool = False, attempt: int = 1) -> Transaction | DirtyTransaction:
        return self._opened.core.begin(dirty)

    async def position(self) -> int:
        return self._opened.tail.position

    async def events(self, after: int, limit: int) -> list[Event[Any]]:
        return self._opened.tail.after(after, limit)

    def resident(self, table: Table[Any]) -> Rows | None:
        return self._opened.bases[table].rows

    async def dump(self, tables: Sequence[Table[Any]]) -> tuple[int, AsyncIterator[tuple[Table[Any], list[Any]]]]:
        journal = self._opened
        copies = [(table, list(journal.bases[table].rows.rows.values())) for table in tables]

        async def pieces() -> AsyncIterator[tuple[Table[Any], list[Any]]]:
            for table, rows in copies:
                for begin in range(0, len(rows), PIECE):
                    yield table, [record for records in rows[begin : begin + PIECE] for record in records]

        return journal.tail.position, pieces()

    async def load(self, tables: Sequence[Table[Any]], records: AsyncIterable[tuple[Table[Any], list[Any]]]) -> None:
        found: dict[Table[Any], list[Any]] = {table: [] for table in tables}
        async for table, piece in records:
            found[table].extend(piece)
        journal = self._opened
        journal.core.doom_all("all was replaced by a backup")
        for table in tables:
            journal.bases[table].replace(found[table])
        journal.tail.add([Change("restore", table, None, None, None) for table in tables])

    @property
    def _opened(self) -> _Journal:
        if self._journal is None:
            raise StoreClosed("the store has ended")
        return self._journal


class _Base:
    """A table: all of it is here, and at once."""

    def __init__(self, table: Table[Any]) -> None:
        self.rows = Rows(table)
        self.put = self.rows.put
        self._rows = self.rows.rows

    def get(self, key: Any) -> Records:
        return self._rows.get(key, ())

    async def fetch(self, key: Any) -> Records:
        return self.get(key)

    async def select(self, query: Query) -> list[Any]:
        return self.rows.select(query)

    def replace(self, records: Iterable[Any]) -> None:
        self.rows.clear()
        self.rows.fill(records)


class _Journal:
    """Durable as soon as it is decided."""

    core: Core

    def __init__(self, bases: dict[Table[Any], _Base], tail: Tail) -> None:
        self.bases = bases
        self.tail = tail

    async def append(self, number: int, writes: Writes, changes: Sequence[Change]) -> None:
        for table, keys in writes.items():
            put = self.bases[table].put
            for key, write in keys.items():
                put(key, write.records)
        self.core.settled(number, writes)
        self.tail.add(changes)

    async def until(self, number: int) -> None: ...
