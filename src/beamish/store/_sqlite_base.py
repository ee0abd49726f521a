"""What is durable of a table in SQLite, as the event loop sees it: a cache of some records, or all of them; the rest by a thread."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from beamish.store._query import Query
from beamish.store._rows import Records, Rows
from beamish.store._sqlite_sql import Sql
from beamish.store._table import Table
from beamish.store.errors import StoreClosed

T = TypeVar("T")
#: Runs a function of a connection in a thread that reads.
Read = Callable[[Callable[[sqlite3.Connection], T]], asyncio.Future[T]]


class Resident:
    """A table with `ram=True`: all of it is here."""

    def __init__(self, table: Table[Any]) -> None:
        self.rows = Rows(table)
        self.put = self.rows.put
        self._rows = self.rows.rows

    def get(self, key: Any) -> Records | None:
        return self._rows.get(key, ())

    async def fetch(self, key: Any) -> Records:
        return self._rows.get(key, ())

    async def select(self, query: Query) -> list[Any]:
        return self.rows.select(query)

    def forget(self) -> None:
        self.rows.clear()


class Cached:
    """A table of which the recently used keys are here: those used in this generation, and in the one before."""

    def __init__(self, sql: Sql, keys: Read[Any], queries: Read[Any], limit: int) -> None:
        self._sql = sql
        self._read_keys = keys
        self._read_query = queries
        self._limit = max(limit // 2, 1)
        self._young: dict[Any, Records] = {}
        self._old: dict[Any, Records] = {}
        self._asked: dict[Any, asyncio.Future[Records]] = {}
        self._next: list[tuple[Any, asyncio.Future[Records]]] = []

    def get(self, key: Any) -> Records | None:
        found = self._young.get(key)
        if found is None:
            found = self._old.get(key)
            if found is not None:
                self._keep(key, found)
        return found

    def _keep(self, key: Any, records: Records) -> None:
        if len(self._young) >= self._limit:
            self._old, self._young = self._young, {}
        self._young[key] = records

    def put(self, key: Any, records: Records) -> None:
        self._asked.pop(key, None)  # what is on its way may be older
        self._keep(key, records)

    def forget(self) -> None:
        self._young, self._old = {}, {}
        self._asked.clear()

    async def fetch(self, key: Any) -> Records:
        """From the file; those that are asked for in one turn of the loop together."""
        future = self._asked.get(key)
        if future is None:
            loop = asyncio.get_running_loop()
            future = self._asked[key] = loop.create_future()
            if not self._next:
                loop.call_soon(self._send)
            self._next.append((key, future))
        return await asyncio.shield(future)

    def _send(self) -> None:
        asked, self._next = self._next, []
        keys = [key for key, _ in asked]
        job = self._read_keys(lambda db: fetched(db, self._sql, keys))
        job.add_done_callback(lambda job: self._fetched(asked, job))

    def _fetched(self, asked: list[tuple[Any, asyncio.Future[Records]]], job: asyncio.Future[dict[Any, Records]]) -> None:
        error = StoreClosed("the store has ended") if job.cancelled() else job.exception()
        for key, future in asked:
            records = () if error is not None else job.result().get(key, ())
            if self._asked.get(key) is future:  # else it has been written meanwhile, and this may be older
                del self._asked[key]
                if error is None:
                    self._keep(key, records)
            if future.done():
                continue
            if error is None:
                future.set_result(records)
            else:
                future.set_exception(error)
                future.exception()  # it may be that nobody waits any more

    async def select(self, query: Query) -> list[Any]:
        found: list[Any] = await self._read_query(lambda db: selected(db, self._sql, query))
        return found


# --- in a thread ------------------------------------------------------------------------------------------------------


def fetched(db: sqlite3.Connection, sql: Sql, keys: Sequence[Any]) -> dict[Any, Records]:
    make, key_of = sql.table.make, sql.table.key_of
    found: dict[Any, Records] = {}
    for text, values in sql.by_keys(keys):
        for row in db.execute(text, values).fetchall():
            record = make(row)
            key = key_of(record)
            found[key] = (*found.get(key, ()), record)
    return found


def selected(db: sqlite3.Connection, sql: Sql, query: Query) -> list[Any]:
    text, values = sql.select(query)
    make, where, limit = sql.table.make, query.where, query.limit
    if limit == 0:
        return []
    rows = db.execute(text, values)
    if where is None:
        return [make(row) for row in rows.fetchall()]
    found: list[Any] = []
    while part := rows.fetchmany(200):
        for row in part:
            record = make(row)
            if where(record):
                found.append(record)
                if len(found) == limit:
                    rows.close()
                    return found
    return found
