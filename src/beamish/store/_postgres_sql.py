"""The SQL of one table in PostgreSQL, and its values in PostgreSQL's binary format.

Each field is a column of its own type, so that the data can be read by others; names are quoted, values are parameters, always.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

from beamish.store._postgres_wire import Request, Statement, Value
from beamish.store._query import UNBOUNDED, Query
from beamish.store._table import Field, Row, Table
from beamish.store.engine import Write
from beamish.store.errors import CannotOpen

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

#: Longer names are cut short by PostgreSQL, without a word.
LONGEST_NAME = 63
#: Up to so many rows are a statement each; more come as arrays.
FEW = 3
#: The most rows of one statement.
MANY = 1000


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def checked_name(name: str, what: str) -> str:
    """CannotOpen for a name that PostgreSQL does not take."""
    if "\0" in name or not 0 < len(name.encode("utf-8", "replace")) <= LONGEST_NAME or name.startswith("#"):
        raise CannotOpen(f"{what} has from 1 to {LONGEST_NAME} bytes in PostgreSQL, and does not begin with #. Got: {name!r}")
    return name


_INT = struct.Struct("!q")
_FLOAT = struct.Struct("!d")
_ARRAY = struct.Struct("!iiIii")
_LENGTH = struct.Struct("!i")


class Kind(NamedTuple):
    """A type of column. `oid` is PostgreSQL's number for it, which its arrays bear."""

    sql: str
    oid: int
    dump: Callable[[Any], bytes]
    load: Callable[[bytes], Any]


def _same(value: bytes) -> bytes:
    return value


def _int(value: bytes) -> int:
    return int.from_bytes(value, "big", signed=True)


def _dump_float(value: Any) -> bytes:
    return _FLOAT.pack(float(value))  # NaN comes as text


def _float(value: bytes) -> float:
    found: float = _FLOAT.unpack(value)[0]
    return found


def _dump_bool(value: Any) -> bytes:
    return b"\1" if value else b"\0"


BYTES = Kind("bytea", 17, _same, _same)
INT = Kind("bigint", 20, _INT.pack, _int)
KINDS: dict[type | None, Kind] = {
    int: INT,
    float: Kind("double precision", 701, _dump_float, _float),
    # In the order of code points, as Python has it; the database's own collation may have another every year.
    str: Kind('text COLLATE "C"', 25, str.encode, bytes.decode),
    bytes: BYTES,
    bool: Kind("boolean", 16, _dump_bool, b"\1".__eq__),
    None: BYTES,
}


def array(kind: Kind, values: Iterable[Any]) -> bytes:
    """A one-dimensional array."""
    parts: list[bytes] = []
    nulls = count = 0
    for value in values:
        count += 1
        if value is None:
            nulls = 1
            parts.append(b"\xff\xff\xff\xff")
        else:
            data = kind.dump(value)
            parts.append(_LENGTH.pack(len(data)))
            parts.append(data)
    return _ARRAY.pack(1, nulls, kind.oid, count, 1) + b"".join(parts)


class Columns(Protocol):
    """What is asked of a table, be it one of today or of an older version."""

    @property
    def name(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def fields(self) -> tuple[Field, ...]: ...
    @property
    def bag(self) -> bool: ...
    def field(self, name: str) -> Field: ...


T = TypeVar("T", bound=Columns)


class Sql(Generic[T]):
    """Statements for `table`, which has this name in the schema."""

    def __init__(self, table: T, schema: str, name: str) -> None:
        self.table = table
        self.name = f"{quoted(schema)}.{quoted(checked_name(name, 'the name of a table'))}"
        self.kinds = [KINDS[one.type] for one in table.fields]
        for one in table.fields:
            checked_name(one.name, f"the name of a field of {table.name}")
        names = [quoted(one.name) for one in table.fields]
        self.columns = ", ".join(names)
        self.key = quoted(table.key)
        self._loads = [(n, kind.load) for n, kind in enumerate(self.kinds)]
        self._key_kind = KINDS[table.field(table.key).type]
        self._order = ["#"] if table.bag else []
        self._queries: dict[Any, Statement] = {}
        self.by_key = Statement(f"SELECT {self.columns} FROM {self.name} WHERE {self.key} = $1{_ordered(self._order)}", 1)
        self._delete = Statement(f"DELETE FROM {self.name} WHERE {self.key} = $1", 1)
        self._delete_many = Statement(f"DELETE FROM {self.name} WHERE {self.key} = ANY($1::{_array_type(self._key_kind)})", 1)
        kinds, columns, clash = list(self.kinds), self.columns, self._clash(names)
        if table.bag:
            kinds, columns, clash = [*kinds, INT], f'{columns}, "#"', ""
        self._row_kinds = kinds
        places = [f"${n}" for n in range(1, len(kinds) + 1)]
        arrays = [f"{place}::{_array_type(kind)}" for place, kind in zip(places, kinds, strict=True)]
        into = f"INSERT INTO {self.name} ({columns})"
        self._insert = Statement(f"{into} VALUES ({', '.join(places)}){clash}", len(kinds))
        self._insert_many = Statement(f"{into} SELECT * FROM unnest({', '.join(arrays)}){clash}", len(kinds))
        self._add_many = Statement(f"{into} SELECT * FROM unnest({', '.join(arrays)})", len(kinds))

    def _clash(self, names: Sequence[str]) -> str:
        others = [f"{name} = EXCLUDED.{name}" for name in names if name != self.key]
        return f" ON CONFLICT ({self.key}) DO {'UPDATE SET ' + ', '.join(others) if others else 'NOTHING'}"

    # -- making the table

    def create(self) -> str:
        """Room is left in each page, so that a record is mostly changed in place, without a new entry in every index."""
        columns = [f"{quoted(one.name)} {kind.sql}" for one, kind in zip(self.table.fields, self.kinds, strict=True)]
        if self.table.bag:
            columns.append('"#" bigint')
        key = ", ".join([self.key, *map(quoted, self._order)])
        return f"CREATE TABLE {self.name} ({', '.join(columns)}, PRIMARY KEY ({key})) WITH (fillfactor = 85)"

    def index(self, field: str) -> str:
        """The column, then the key: the order in which queries want it."""
        return f"({quoted(field)} NULLS FIRST, {self.key})"

    # -- writing

    def writes(self, writes: Iterable[tuple[Any, Write]]) -> Iterator[Request]:
        """The statements for what is under these keys from now on."""
        if self.table.bag:
            yield from self._bag_writes(writes)
            return
        gone: list[Any] = []
        rows: list[Row] = []
        for key, write in writes:
            if write.rows:
                rows.append(write.rows[0])
            else:
                gone.append(key)
        yield from self.deletes(gone)
        yield from self.inserts(rows)

    def _bag_writes(self, writes: Iterable[tuple[Any, Write]]) -> Iterator[Request]:
        found = list(writes)
        yield from self.deletes([key for key, _ in found])
        yield from self.inserts([(*row, n) for _, write in found for n, row in enumerate(write.rows)])

    def deletes(self, keys: Sequence[Any]) -> Iterator[Request]:
        if len(keys) <= FEW:
            dump = self._key_kind.dump
            for key in keys:
                yield self._delete(dump(key))
        else:
            for begin in range(0, len(keys), MANY):
                yield self._delete_many(array(self._key_kind, keys[begin : begin + MANY]))

    def inserts(self, rows: Sequence[Row]) -> Iterator[Request]:
        """Rows of a bag have their number among those of their key in the end."""
        kinds = self._row_kinds
        if len(rows) <= FEW:
            for row in rows:
                yield self._insert(*[None if value is None else kind.dump(value) for value, kind in zip(row, kinds, strict=True)])
        else:
            for begin in range(0, len(rows), MANY):
                columns = zip(*rows[begin : begin + MANY], strict=True)
                yield self._insert_many(*map(array, kinds, columns))

    def adds(self, rows: Sequence[Row]) -> Iterator[Request]:
        """The same for rows of keys that are not there; one that is makes it fail."""
        for begin in range(0, len(rows), MANY):
            columns = zip(*rows[begin : begin + MANY], strict=True)
            yield self._add_many(*map(array, self._row_kinds, columns))

    # -- reading

    def read(self, key: Any) -> Request:
        return self.by_key(self._key_kind.dump(key))

    def select(self, query: Query, most: int | None) -> Request:
        """The records of the query's range, whatever its predicate says of them; the first `most` in its order."""
        limited = most is not None
        shape = (
            query.index,
            query.exact,
            query.low is None,
            query.low is UNBOUNDED,
            query.high is UNBOUNDED,
            query.bounds,
            query.reverse,
            limited,
        )
        statement = self._queries.get(shape)
        if statement is None:
            statement = self._queries[shape] = self._statement(query, limited)
        dump = KINDS[self.table.field(query.index).type].dump
        ends = (query.low,) if query.exact else (query.low, query.high)
        values: list[Value] = [dump(end) for end in ends if end is not UNBOUNDED and end is not None]
        if most is not None:
            values.append(_INT.pack(most))
        return statement(*values)

    def _statement(self, query: Query, limited: bool) -> Statement:
        index = quoted(query.index)
        tests: list[str] = []
        count = 0
        if query.exact:
            count = 0 if query.low is None else 1
            tests.append(f"{index} = $1" if count else f"{index} IS NULL")
        else:
            for end, sign, closed in ((query.low, ">", query.bounds[0] == "["), (query.high, "<", query.bounds[1] == "]")):
                if end is not UNBOUNDED:
                    count += 1
                    tests.append(f"{index} {sign}{'=' * closed} ${count}")
        # A column that is the same in all that is found is no part of the order: what is left of it is the index's.
        fields = [query.index, self.table.key] if query.index != self.table.key else [self.table.key]
        wanted = [one for one in fields if not (query.exact and one == query.index)]
        order = _ordered(wanted, query.reverse, self._order)
        where = f" WHERE {' AND '.join(tests)}" if tests else ""
        text = f"SELECT {self.columns} FROM {self.name}{where}{order}"
        if limited:
            count += 1
            text += f" LIMIT ${count}"
        return Statement(text, count)

    def rows(self, answer: PGresult) -> list[Row]:
        """The rows of an answer, as they were written."""
        get, loads = answer.get_value, self._loads
        found: list[Row] = []
        for number in range(answer.ntuples):
            row: list[Any] = []
            for n, load in loads:
                value = get(number, n)
                row.append(None if value is None else load(value))
            found.append(tuple(row))
        return found

    @property
    def everything(self) -> str:
        return f"SELECT {self.columns} FROM {self.name}{_ordered([self.table.key, *self._order])}"


def _ordered(fields: Sequence[str], reverse: bool = False, then: Sequence[str] = ()) -> str:
    """None is before all others."""
    direction = " DESC NULLS LAST" if reverse else " NULLS FIRST"
    parts = [f"{quoted(one)}{direction}" for one in fields] + [quoted(one) for one in then]
    return f" ORDER BY {', '.join(parts)}" if parts else ""


def _array_type(kind: Kind) -> str:
    return f"{kind.sql.partition(' COLLATE')[0]}[]"


class Numbering:
    """Rows with a number at the end, if their table is a bag: that of a record among those of its key."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, Any], int] = {}

    def rows(self, table: Table[Any], records: Iterable[Any]) -> list[Row]:
        if not table.bag:
            return list(map(table.row, records))
        return [(*table.row(one), self._next((table.name, table.key_of(one)))) for one in records]

    def _next(self, key: tuple[str, Any]) -> int:
        found = self._counts[key] = self._counts.get(key, -1) + 1
        return found


def number(value: int) -> bytes:
    return _INT.pack(value)


def numbers(answer: PGresult, row: int = 0) -> Iterator[int]:
    """The integers of a row; those that are NULL are 0."""
    for column in range(answer.nfields):
        value = answer.get_value(row, column)
        yield int.from_bytes(value or b"", "big", signed=True)
