"""The engine for a PostgreSQL database, used by any number of programs at once. Needs `pip install 'beamish[postgres]'`."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from importlib.util import find_spec
from typing import Any

if find_spec("psycopg") is None:
    raise ImportError("beamish.store.postgres needs psycopg: pip install 'beamish[postgres]'")

from beamish.errors import short
from beamish.store._postgres_opening import Opening
from beamish.store._postgres_pool import Address
from beamish.store._postgres_sql import checked_name
from beamish.store._postgres_transaction import DirtyTransaction, Transaction
from beamish.store._rows import Rows
from beamish.store._table import Table
from beamish.store.engine import Event
from beamish.store.errors import CannotOpen, StoreClosed


class Postgres:
    """`Postgres("postgresql://user@host/database")`: tables in the schema `schema` of a database, made if they are not there.

    Every program that opens the same schema has the same store: the same records, and the same events at the same positions.
    Transactions are PostgreSQL's own serializable ones, and as durable as it is told to be (`synchronous_commit`). Of two that can't
    be in any order one gets Conflict; `store.transaction(fn)` runs it again.

    * `connections`: for transactions; more of these at a time wait for one. Two others are for the rest, and one for a backup or a restore.
      Between here and the server there may be a pool that keeps a connection for a session, not one that changes it with each transaction.
    * `timeout`: the longest that an answer may take, and the longest wait for a connection that others have (seconds).
    * `patience`: how long a lost server is looked for, before what needs it fails (seconds).
    * `poll`: how often new events of other programs are looked for, beside NOTIFY, which tells of them at once (seconds).

    When the server goes away, transactions get StoreFailed, and nothing of them has happened. If it goes away in the middle of a
    commit, this engine finds out what became of it as soon as it is back; CommitUnknown if that takes longer than `patience`.
    Afterwards all goes on by itself. The password of the URL is not shown anywhere.

    A transaction's events are side by side, and come after those of all that it had seen or overwritten. Of two transactions that ran at
    the same time, and of which one overwrote what the other had only read, either may come first.
    """

    def __init__(
        self,
        url: str,
        *,
        schema: str = "beamish",
        connections: int = 10,
        timeout: float = 30.0,
        patience: float = 10.0,
        poll: float = 1.0,
    ) -> None:
        if type(connections) is not int or connections < 1:
            raise ValueError(f"connections is how many transactions run at a time, an int of 1 or more. Got: {short(connections)}")
        for name, seconds in (("timeout", timeout), ("patience", patience), ("poll", poll)):
            if type(seconds) not in (int, float) or not 0 < seconds < 1e6:
                raise ValueError(f"{name} is seconds, more than 0. Got: {short(seconds)}")
        try:
            self.schema = checked_name(schema, "the name of a schema")
        except CannotOpen as error:
            raise ValueError(str(error)) from None
        self.connections = connections
        self.timeout = float(timeout)
        self.patience = float(patience)
        self.poll = float(poll)
        self._address = Address(url)
        self._opening: Opening | None = None

    def __repr__(self) -> str:
        return f"<Postgres {self._address.shown}, schema {self.schema}>"

    async def open(self, tables: Sequence[Table[Any]], *, keep_events: int, wake: Callable[[], None]) -> None:
        self._opening = opening = Opening(self._address, self.schema, self.connections, self.timeout, self.patience, tables)
        try:
            await opening.begin(keep_events, wake, self.poll)
        except BaseException:
            self.drop()
            raise

    async def close(self) -> None:
        if self._opening is not None:
            await self._opening.finish()
            self.drop()

    def drop(self) -> None:
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.drop()

    def begin(self, *, dirty: bool = False, attempt: int = 1) -> Transaction | DirtyTransaction:
        return DirtyTransaction(self._opened) if dirty else Transaction(self._opened, attempt)

    async def position(self) -> int:
        return await self._opened.stream.position()

    async def events(self, after: int, limit: int) -> list[Event[Any]]:
        return await self._opened.stream.events(after, limit)

    def resident(self, table: Table[Any]) -> Rows | None:
        return None

    async def dump(self, tables: Sequence[Table[Any]]) -> tuple[int, AsyncIterator[tuple[Table[Any], list[Any]]]]:
        return await self._opened.dump(tables)

    async def load(self, tables: Sequence[Table[Any]], records: AsyncIterable[tuple[Table[Any], list[Any]]]) -> None:
        await self._opened.load(tables, records)

    @property
    def _opened(self) -> Opening:
        if self._opening is None:
            raise StoreClosed("the store has ended")
        return self._opening
