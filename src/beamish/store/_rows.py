"""All records of a table in memory: by key, in the order of the keys, and by index."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from beamish.store._query import UNBOUNDED, Query
from beamish.store._table import Table

Records = tuple[Any, ...]
FEW = 64


class Order:
    """Values in their order. What comes and goes is noted, and sorted in when somebody looks: all at once if it is much."""

    __slots__ = ("_added", "_sorted", "_gone")

    def __init__(self) -> None:
        self._sorted: list[Any] = []
        self._added: dict[Any, None] = {}
        self._gone: dict[Any, None] = {}

    def add(self, value: Any) -> None:
        if value in self._gone:
            del self._gone[value]
        else:
            self._added[value] = None

    def remove(self, value: Any) -> None:
        if value in self._added:
            del self._added[value]
        else:
            self._gone[value] = None

    def between(self, query: Query) -> list[Any]:
        """The values of the query's range, in its direction."""
        if self._gone or self._added:
            self._settle()
        found, low, high = self._sorted, query.low, query.high
        begin = 0 if low is UNBOUNDED else (bisect_left if query.bounds[0] == "[" else bisect_right)(found, low)
        end = len(found) if high is UNBOUNDED else (bisect_right if query.bounds[1] == "]" else bisect_left)(found, high)
        found = found[begin:end]
        if query.reverse:
            found.reverse()
        return found

    def _settle(self) -> None:
        found, gone = self._sorted, self._gone
        if len(gone) > FEW:
            found[:] = [value for value in found if value not in gone]
        else:
            for value in gone:
                del found[bisect_left(found, value)]
        if len(self._added) > FEW:
            found.extend(self._added)
            found.sort()  # two sorted runs, nearly: Python's sort merges them
        else:
            for value in self._added:
                found.insert(bisect_left(found, value), value)
        self._added.clear()
        gone.clear()


class Index:
    """The keys under each value of a field."""

    __slots__ = ("field", "keys", "order")

    def __init__(self, field: str) -> None:
        self.field = field
        self.keys: dict[Any, dict[Any, int]] = {}  # how many records, since those of a bag share a key
        self.order = Order()

    def add(self, key: Any, records: Records) -> None:
        for record in records:
            value = getattr(record, self.field)
            keys = self.keys.get(value)
            if keys is None:
                self.keys[value] = {key: 1}
                if value is not None:
                    self.order.add(value)
            else:
                keys[key] = keys.get(key, 0) + 1

    def remove(self, key: Any, records: Records) -> None:
        for record in records:
            value = getattr(record, self.field)
            keys = self.keys[value]
            if keys[key] > 1:
                keys[key] -= 1
            else:
                del keys[key]
                if not keys:
                    del self.keys[value]
                    if value is not None:
                        self.order.remove(value)

    def find(self, query: Query) -> Iterator[tuple[Any, Any]]:
        """(value, key) in the query's order."""
        if query.exact:
            values: Iterable[Any] = (query.low,) if query.low in self.keys else ()
        else:
            values = self.order.between(query)
            if query.everything and None in self.keys:
                values = chain(values, (None,)) if query.reverse else chain((None,), values)
        for value in values:
            for key in sorted(self.keys[value], reverse=query.reverse):
                yield value, key


class Rows:
    """A whole table. `rows` is the dict itself, for those who only look."""

    __slots__ = ("indexes", "order", "rows", "table")

    def __init__(self, table: Table[Any]) -> None:
        self.table = table
        self.rows: dict[Any, Records] = {}
        self.order = Order()
        self.indexes = {field: Index(field) for field in table.indexes}

    def put(self, key: Any, records: Records) -> None:
        """What is under `key` from now on; nothing, if there are no records."""
        before = self.rows.get(key)
        if records:
            self.rows[key] = records
            if before is None:
                self.order.add(key)
        elif before is not None:
            del self.rows[key]
            self.order.remove(key)
        for index in self.indexes.values():
            if before is not None:
                index.remove(key, before)
            index.add(key, records)

    def fill(self, records: Iterable[Any]) -> None:
        """Add many; those of a bag to the others of their key."""
        key_of, bag = self.table.key_of, self.table.bag
        for record in records:
            key = key_of(record)
            self.put(key, (*self.rows.get(key, ()), record) if bag else (record,))

    def clear(self) -> None:
        self.rows.clear()
        self.order = Order()
        self.indexes = {field: Index(field) for field in self.table.indexes}

    def select(self, query: Query) -> list[Any]:
        """The records that match."""
        found: list[Any] = []
        where, limit = query.where, query.limit
        if limit == 0:
            return found
        for record in self._candidates(query):
            if where is None or where(record):
                found.append(record)
                if limit is not None and len(found) >= limit:
                    break
        return found

    def _candidates(self, query: Query) -> Iterator[Any]:
        rows = self.rows
        if query.index == self.table.key:
            keys = ([query.low] if query.low in rows else []) if query.exact else self.order.between(query)
            for key in keys:
                yield from rows[key]
            return
        for value, key in self.indexes[query.index].find(query):
            for record in rows[key]:
                if getattr(record, query.index) == value:
                    yield record
