"""`@record`: a frozen dataclass as a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, Literal, TypeVar, cast

from beamish.errors import short
from beamish.store._columns import Field as Field, Row as Row, column_of, fields_of, hint_of, is_quick, is_text, row_of, value_of
from beamish.store._query import BOUNDS, UNBOUNDED, Inclusive, Query
from beamish.store.errors import BadRecord, NoTable

R = TypeVar("R")
C = TypeVar("C", bound=type)

Kind = Literal["set", "ordered_set", "bag"]
#: From the fields of a record of an older version to those of the next one.
Migration = Callable[[dict[str, Any]], dict[str, Any]]


class Table(Generic[R]):
    """What `@record` knows of a class; engines get it, users need it seldom (`table_of(Account)`)."""

    __slots__ = (
        "_is_key", "bag", "cls", "expires", "fields", "indexes", "key", "kind", "migrations", "mutable", "name", "plain", "ram", "row",
        "ttl", "version",
    )  # fmt: skip

    def __init__(
        self,
        cls: type[R],
        name: str,
        *,
        key: str,
        indexes: tuple[str, ...],
        kind: Kind,
        ram: bool,
        version: int,
        migrations: Mapping[int, Migration],
        ttl: float | None,
        expires: str | None,
    ) -> None:
        self.cls = cls
        self.name = name
        self.key = key
        self.indexes = indexes
        self.kind: Kind = kind
        self.ram = ram
        self.version = version
        self.migrations = dict(migrations)
        self.ttl = ttl
        self.expires = expires
        self.fields = fields_of(cls)
        self.bag = kind == "bag"
        self.mutable = any(one.type is None for one in self.fields)
        self.plain = not self.mutable and expires is None  # nothing is to be done to what is read or written
        self._check()
        self._is_key = is_quick(self.field(key))
        #: The record's columns. BadRecord for a value that its field does not allow.
        self.row: Callable[[R], Row] = row_of(cls, self.fields, self._row)

    def field(self, name: str) -> Field:
        return next(one for one in self.fields if one.name == name)

    def counter(self) -> str:
        """The field that `update_counter` means when nobody says."""
        found = [one.name for one in self.fields if one.type is int and one.name != self.key]
        if len(found) != 1:
            raise BadRecord(f"{self.name} has not one int field beside its key but {found}; say which with field=")
        return found[0]

    # -- records and rows

    def _row(self, record: R) -> Row:
        """`row`, with a close look at each value."""
        if type(record) is not self.cls:
            raise BadRecord(f"{self.name} holds records of {self.cls.__name__}. Got: {short(record)}")
        columns: list[Any] = []
        for field in self.fields:
            value = getattr(record, field.name)
            try:
                columns.append(column_of(field, value))
            except BadRecord as error:
                raise BadRecord(f"{self.cls.__name__}.{field.name} {error}. Got: {short(value)} in {short(record)}") from error.__cause__
            if field.type is float and value != value and (field.name == self.key or field.name in self.indexes):
                raise BadRecord(f"{self.cls.__name__}.{field.name} has a place in an order, so it can't be NaN. Got: {short(record)}")
        return tuple(columns)

    def make(self, row: Row) -> R:
        """The record of a row that an engine has kept."""
        return self.cls(*map(value_of, self.fields, row))

    def own(self, record: R) -> R:
        """The record, or a copy if somebody could change it in place: what is stored is nobody's but the store's."""
        return self.make(self.row(record)) if self.mutable else record

    # -- keys and queries

    def key_of(self, record: R) -> Any:
        return getattr(record, self.key)

    def check_key(self, key: Any) -> Any:
        """The key, if it may be one."""
        if not self._is_key(key):
            self._check_value(self.key, key, "key")
        return key

    def _check_value(self, name: str, value: Any, what: str) -> None:
        field = self.field(name)
        try:
            column_of(field, value)
        except BadRecord as error:
            raise BadRecord(f"{self.name}.{name} {error}, and so is a {what} of it. Got: {short(value)}") from None
        if field.type is float and value != value:
            raise BadRecord(f"{self.name}.{name}: NaN has no place in an order, so it is no {what}")

    def query(
        self,
        index: str | None,
        key: Any,
        low: Any,
        high: Any,
        inclusive: Inclusive,
        where: Callable[[R], bool] | None,
        limit: int | None,
        reverse: bool,
    ) -> Query:
        """A query from what a user said, checked."""
        name = index or self.key
        if name != self.key and name not in self.indexes:
            known = ", ".join(self.indexes) or "none"
            raise BadRecord(f"{self.name} has no index {name!r} (it has: {known}); add it to indexes= of its @record, or use where=")
        if inclusive not in BOUNDS:
            raise BadRecord(f'inclusive is "low", "high", "both" or "neither": the ends that belong to the range. Got: {inclusive!r}')
        bounds = BOUNDS[inclusive]
        if key is not UNBOUNDED:
            if low is not UNBOUNDED or high is not UNBOUNDED:
                raise BadRecord(f"key= looks for one value, low= and high= for a range; not both. Got: key={short(key)}")
            low, high, bounds = key, key, "[]"
        for value in (low, high):
            if value is not UNBOUNDED:
                self._check_value(name, value, "bound")
        if key is UNBOUNDED and (low is None or high is None):
            raise BadRecord(f"None has no place in a range; the records without a {name} are those of key=None")
        if limit is not None and (type(limit) is not int or limit < 0):
            raise BadRecord(f"limit is how many records are wanted, an int of 0 or more, or None. Got: {short(limit)}")
        if where is not None and not callable(where):
            raise BadRecord(f"where is a function of a record that returns whether it is wanted. Got: {short(where)}")
        return Query(name, low, high, bounds, where, limit, reverse)

    # -- what makes no table

    def _check(self) -> None:
        name, names = self.cls.__name__, [one.name for one in self.fields]
        if not is_text(self.name) or not self.name or self.name.lower().startswith(("sqlite_", "beamish_", "pg_")):
            raise TypeError(f"{name}: a table's name is a str that does not begin with sqlite_, pg_ or beamish_. Got: {self.name!r}")
        if len({one.lower() for one in names}) < len(names):
            raise TypeError(f"{name}: to a database, fields that differ only in upper and lower case are the same. Got: {', '.join(names)}")
        if self.kind not in ("set", "ordered_set", "bag"):
            raise TypeError(f'{name}: kind is "set", "ordered_set" or "bag". Got: {self.kind!r}')
        for one in (self.key, *self.indexes):
            if one not in names:
                raise TypeError(f"{name} has no field {one!r} for a key or an index. It has: {', '.join(names)}")
            if self.field(one).type is None:
                types = "int, float, str, bytes or bool (a UUID as str(uuid), a time as its timestamp())"
                raise TypeError(f"{name}.{one}: a key or an index has an order: {types}. Got: {hint_of(self.cls, one)}")
        if self.field(self.key).optional:
            raise TypeError(f"{name}.{self.key}: a key can't be None. Got: {hint_of(self.cls, self.key)}")
        if self.key in self.indexes or len(set(self.indexes)) < len(self.indexes):
            raise TypeError(f"{name}: an index is named once, and the key needs none. Got: {self.indexes!r}")
        if self.version < 1 or not all(1 <= one < self.version for one in self.migrations):
            raise TypeError(
                f"{name}: version is 1 or more, and migrations={{n: fn}} go from version n to n + 1, each below it. "
                f"Got: version={self.version}, migrations of {sorted(self.migrations)}"
            )
        if self.expires is not None and (self.expires not in self.indexes or self.field(self.expires).type is not float):
            raise TypeError(f"{name}: expires= names a field of type float or float | None that is in indexes=. Got: {self.expires!r}")
        if self.ttl is not None and (self.expires is None or not self.ttl > 0 or not self.field(self.expires).optional):
            raise TypeError(
                f"{name}: ttl= is seconds, more than 0, and goes with expires=, the name of a field `float | None`. Got: {self.ttl!r}"
            )

    def __repr__(self) -> str:
        return f"<table {self.name} of {self.cls.__name__}>"


def record(
    *,
    key: str,
    indexes: Iterable[str] = (),
    kind: Kind = "set",
    name: str | None = None,
    ram: bool = False,
    version: int = 1,
    migrations: Mapping[int, Migration] | None = None,
    ttl: float | None = None,
    expires: str | None = None,
) -> Callable[[C], C]:
    """Make a table of a frozen dataclass:

        @store.record(key="id", indexes=("owner",))
        @dataclass(frozen=True, slots=True)
        class Account:
            id: int
            owner: str
            balance: int = 0

    * `key`: the field by which records are found; of type int, float, str, bytes or bool.
    * `indexes`: fields that queries may look for, of these types or None. Others are looked through with `where=`.
    * `kind`: "set" and "ordered_set" hold one record for a key (they are the same here: queries are always in order); a "bag" any number
      of different ones.
    * `ram`: every store keeps a copy of the whole table in memory, see `Store.ram`.
    * `version`: to be raised when the fields change; `migrations={1: fn}` has for each older version a function from the dict of its
      fields to that of the next version. It runs when a store with older data is opened, or an older backup restored.
    * `expires`: an indexed field of type `float | None`: the time (seconds since 1970, UTC) from which on the record is not there any
      more. `ttl`: what is written with None there lives so many seconds from then on.
    * `name`: of the table, by default the class's. It is what stays when the class is renamed or moved.

    A field of type int, float, str, bytes, bool, or one of these `| None`, takes exactly such values (a float field ints, too, which may
    come back as floats); an int has 64 bits. Any other type goes through `beamish.codec`. Records are values: frozen, compared by their
    fields. What can be changed in place (a list in a field) is copied when it is written and when it is read. TypeError for what makes no
    table.
    """

    if isinstance(indexes, str):
        raise TypeError(f"indexes= are the names of fields, in a tuple. Got: {indexes!r}; write indexes=({indexes!r},)")

    def decorate(cls: C) -> C:
        table = Table(
            cast("type[Any]", cls), name or cls.__name__, key=key, indexes=tuple(indexes), kind=kind, ram=ram, version=version,
            migrations=migrations or {}, ttl=ttl, expires=expires,
        )  # fmt: skip
        cast("Any", cls).__table__ = table
        return cls

    return decorate


def table_of(cls: type[R]) -> Table[R]:
    """The table of a class that `@record` decorates. NoTable for another."""
    found = getattr(cls, "__table__", None)
    table = cast("Table[R]", found)
    if not isinstance(found, Table) or table.cls is not cls:  # of a base class, say
        raise NoTable(f"{short(cls)} is no table: decorate the frozen dataclass with @store.record(key=…)")
    return table
