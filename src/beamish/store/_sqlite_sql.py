"""The SQL of one table in SQLite."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from beamish.store._query import UNBOUNDED, Query
from beamish.store._table import Row, Table

MOST_VALUES = 900
"""SQLite takes at least 999 of them in a statement."""


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


class Sql:
    """Statements for `table`; under another `name` while it is being migrated.

    Columns have no type, so that SQLite gives back what it was given (only an int key has: it is the rowid then). Records of a bag are in
    the order of their rowid, `"#"`.
    """

    def __init__(self, table: Table[Any], name: str | None = None) -> None:
        self.table = table
        self.name = quoted(name or table.name)
        self.key = quoted(table.key)
        self.columns = ", ".join(quoted(one.name) for one in table.fields)
        insert = f"INSERT OR REPLACE INTO {self.name} ({self.columns}) VALUES "
        values = f"({', '.join('?' * len(table.fields))})"
        # Few statements with many rows each: every statement lets go of Python's lock, and must get it back from a busy loop.
        # They come in few sizes, so that SQLite has them prepared.
        self._inserts = {size: insert + ", ".join([values] * size) for size in _powers(MOST_VALUES // len(table.fields))}
        self._in = {size: f"{self.key} IN ({', '.join('?' * size)})" for size in _powers(MOST_VALUES)}

    def create(self) -> str:
        table = self.table
        if table.bag:
            return f'CREATE TABLE {self.name} ("#" INTEGER PRIMARY KEY, {self.columns})'
        if table.field(table.key).type is int:
            columns = ", ".join(f"{quoted(one.name)}{' INTEGER PRIMARY KEY' * (one.name == table.key)}" for one in table.fields)
            return f"CREATE TABLE {self.name} ({columns})"
        return f"CREATE TABLE {self.name} ({self.columns}, PRIMARY KEY ({self.key})) WITHOUT ROWID"

    def indexes(self) -> dict[str, str]:
        """The statement that makes each index, by the index's name."""
        fields = [*self.table.indexes, *([self.table.key] if self.table.bag else [])]
        names = {field: f"{self.table.name}.{field}" for field in fields}
        return {
            name: f"CREATE INDEX {quoted(name)} ON {self.name} ({quoted(field)}{f', {self.key}' if field != self.table.key else ''})"
            for field, name in names.items()
        }

    def upserts(self, rows: Sequence[Row]) -> Iterator[tuple[str, Sequence[Any]]]:
        """Statements, with their values, that put these rows in, in place of others of their keys."""
        if len(rows) == 1:
            yield self._inserts[1], rows[0]
            return
        for begin, size in _pieces(len(rows), self._inserts):
            yield self._inserts[size], list(chain.from_iterable(rows[begin : begin + size]))

    def deletes(self, keys: Sequence[Any]) -> Iterator[tuple[str, Sequence[Any]]]:
        for begin, size in _pieces(len(keys), self._in):
            yield f"DELETE FROM {self.name} WHERE {self._in[size]}", keys[begin : begin + size]

    def by_keys(self, keys: Sequence[Any]) -> Iterator[tuple[str, Sequence[Any]]]:
        """The rows under these keys, those of a bag in their order."""
        order = ' ORDER BY "#"' if self.table.bag else ""
        for begin, size in _pieces(len(keys), self._in):
            yield f"SELECT {self.columns} FROM {self.name} WHERE {self._in[size]}{order}", keys[begin : begin + size]

    def select(self, query: Query) -> tuple[str, list[Any]]:
        """What the query wants, but for its predicate; and for its limit, if it has one."""
        index = quoted(query.index)
        tests: list[str] = []
        values: list[Any] = []
        if query.exact:
            tests.append(f"{index} IS ?")
            values.append(query.low)
        else:
            for end, sign, closed in ((query.low, ">", query.bounds[0] == "["), (query.high, "<", query.bounds[1] == "]")):
                if end is not UNBOUNDED:
                    tests.append(f"{index} {sign}{'=' * closed} ?")
                    values.append(end)
        direction = " DESC" * query.reverse
        order = [f"{one}{direction}" for one in dict.fromkeys((index, self.key))] + ['"#"'] * self.table.bag
        text = f"SELECT {self.columns} FROM {self.name}{' WHERE ' * bool(tests)}{' AND '.join(tests)} ORDER BY {', '.join(order)}"
        if query.limit is not None and query.where is None:
            text += " LIMIT ?"
            values.append(query.limit)
        return text, values

    def everything(self) -> str:
        order = '"#"' if self.table.bag else self.key
        return f"SELECT {self.columns} FROM {self.name} ORDER BY {order}"


def _powers(most: int) -> list[int]:
    """… 8, 4, 2, 1: not more than `most`."""
    return [1 << bit for bit in reversed(range(max(most, 1).bit_length()))]


def _pieces(count: int, sizes: Iterable[int]) -> Iterator[tuple[int, int]]:
    """`count` things in pieces of these sizes, largest first: (where it begins, how many)."""
    begin = 0
    for size in sizes:
        while count - begin >= size:
            yield begin, size
            begin += size
