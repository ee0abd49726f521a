"""A table in memory, to be read like a dict."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from beamish.store._opened import Opened
from beamish.store._query import UNBOUNDED, Inclusive
from beamish.store._rows import Rows
from beamish.store._table import Table
from beamish.store.errors import BadRecord, StoreClosed

R = TypeVar("R")


class Ram(Mapping[Any, R]):
    """`accounts = await store.ram(Account)`; then `accounts[1]`, `accounts.get(1)`, `in`, `len`, `accounts.query(…)`: no await.

    It shows what is committed, and changes with each commit, before whoever has committed goes on. It belongs to this start of the
    store: StoreClosed when that has ended (get it anew). Read on the loop's thread. A whole walk (`items`, a query over all) holds up
    the loop as long as it takes, 0.1 µs and more for each record.
    """

    __slots__ = ("_opened", "_rows", "_select", "_table")

    def __init__(self, opened: Opened, rows: Rows) -> None:
        self._opened = opened
        self._table: Table[R] = rows.table
        self._rows = rows.rows
        self._select = rows.select

    def __getitem__(self, key: Any) -> R:
        record: R | None = self.get(key)
        if record is None:
            raise KeyError(key)
        return record

    def get(self, key: Any, default: Any = None) -> Any:
        """The record under `key`, else `default`."""
        try:
            return self._rows[key][0]
        except KeyError:
            self._alive()
            self._table.check_key(key)  # one of another type is never there
            return default

    def __contains__(self, key: object) -> bool:
        return self.get(key) is not None

    def __iter__(self) -> Iterator[Any]:
        """The keys, in no order that is promised."""
        self._alive()
        return iter([key for key in self._rows if self.get(key) is not None])

    def __len__(self) -> int:
        """How many records there are, those included that have expired and are not swept away yet."""
        self._alive()
        return len(self._rows)

    def query(
        self,
        *,
        index: str | None = None,
        key: Any = UNBOUNDED,
        low: Any = UNBOUNDED,
        high: Any = UNBOUNDED,
        inclusive: Inclusive = "low",
        where: Callable[[R], bool] | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> list[R]:
        """See `Transaction.query`."""
        self._alive()
        table = self._table
        query = self._opened.living(table, table.query(index, key, low, high, inclusive, where, limit, reverse))
        return [table.own(one) for one in self._select(query)]

    def _alive(self) -> None:
        if self._opened.closed:
            self._ended()

    def _ended(self) -> None:
        raise StoreClosed("the store has ended since this copy was made; get it anew: await store.ram(…)")

    def __repr__(self) -> str:
        return f"<copy of {self._table.name}: {len(self._rows)} records>"


class CarefulRam(Ram[R]):
    """Of a table whose records expire, or can be changed in place."""

    __slots__ = ()

    def get(self, key: Any, default: Any = None) -> Any:
        self._alive()
        records = self._rows.get(self._table.check_key(key))
        if not records or self._opened.expired(self._table, records[0]):
            return default
        return self._table.own(records[0])


def ram_of(opened: Opened, rows: Rows) -> Ram[Any]:
    table = rows.table
    if table.bag:
        raise BadRecord(f"{table.name} is a bag: a copy in memory is read like a dict, with one record for a key")
    return (Ram if table.plain else CarefulRam)(opened, rows)
