"""`@record`: a frozen dataclass as a table; what is known of its fields, and the way from a record to its columns and back."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Generic, Literal, TypeAlias, TypeVar, cast

from beamish import codec
from beamish.errors import short
from beamish.store._query import BOUNDS, UNBOUNDED, Inclusive, Query
from beamish.store.errors import BadRecord, NoTable

R = TypeVar("R")
C = TypeVar("C", bound=type)

Kind = Literal["set", "ordered_set", "bag"]
#: A record's columns, in the order of its fields: int, float, str, bytes, bool or None; bytes of the codec for any other type.
Row: TypeAlias = tuple[Any, ...]
#: From the fields of a record of an older version to those of the next one.
Migration = Callable[[dict[str, Any]], dict[str, Any]]

PLAIN: dict[type, tuple[type, ...]] = {int: (int,), float: (float, int), str: (str,), bytes: (bytes,), bool: (bool,)}
"""What is a column of its own, and which types a value of it may have."""


@dataclass(frozen=True, slots=True)
class Field:
    """A column. `type` is one of `PLAIN`, or None for what goes through the codec."""

    name: str
    type: type | None
    optional: bool

    @property
    def column(self) -> str:
        """How it is kept, in a word that is written into the schema of a store."""
        return f"{self.type.__name__ if self.type else 'codec'}{'?' if self.optional else ''}"


class Table(Generic[R]):
    """What `@record` knows of a class; engines get it, users need it seldom (`table_of(Account)`)."""

    __slots__ = (
        "_get", "_good", "_ints", "_key_type", "_odd", "_texts", "_types", "bag", "cls", "expires", "fields", "indexes", "key",
        "kind", "migrations", "mutable", "name", "plain", "ram", "ttl", "version",
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
        names = [one.name for one in self.fields]
        get: Any = attrgetter(*names)
        self._get: Callable[[Any], Row] = get if len(names) > 1 else lambda record: (get(record),)
        self._types = tuple((*PLAIN[one.type], *((type(None),) if one.optional else ())) if one.type else () for one in self.fields)
        self._good: set[tuple[type, ...]] = set()
        self._ints = tuple(place for place, one in enumerate(self.fields) if one.type is int)
        self._texts = tuple(place for place, one in enumerate(self.fields) if one.type is str)
        self._key_type = next((one.type for one in self.fields if one.name == key), None)
        self._odd = tuple(place for place, one in enumerate(self.fields) if one.type is None or one.type is float)
        self.bag = kind == "bag"
        self.mutable = any(one.type is None for one in self.fields)
        self.plain = not self.mutable and expires is None  # nothing is to be done to what is read or written
        self._check()

    def field(self, name: str) -> Field:
        return next(one for one in self.fields if one.name == name)

    def counter(self) -> str:
        """The field that `update_counter` means when nobody says."""
        found = [one.name for one in self.fields if one.type is int and one.name != self.key]
        if len(found) != 1:
            raise BadRecord(f"{self.name} has not one int field beside its key but {found}; say which with field=")
        return found[0]

    # -- records and rows

    def row(self, record: R) -> Row:
        """The record's columns. BadRecord for a value that its field does not allow."""
        if type(record) is not self.cls:
            raise BadRecord(f"{self.name} holds records of {self.cls.__name__}. Got: {short(record)}")
        row = self._get(record)
        kinds = (*map(type, row),)
        if kinds not in self._good:
            self._learn(record, row, kinds)
        for place in self._ints:
            if row[place] is not None and not _is_int(row[place]):
                self._refuse(record, row)
        for place in self._texts:
            if row[place] is not None and not _is_text(row[place]):
                self._refuse(record, row)
        return self._with_odd(record, row) if self._odd else row

    def _learn(self, record: R, row: Row, kinds: tuple[type, ...]) -> None:
        """Types that fit are looked at once."""
        if all(not allowed or kind in allowed for kind, allowed in zip(kinds, self._types, strict=True)):
            if len(self._good) < 100:  # of the fields that take anything there may be any number of types
                self._good.add(kinds)
        else:
            self._refuse(record, row)

    def _with_odd(self, record: R, row: Row) -> Row:
        columns = list(row)
        for place in self._odd:
            value, field = columns[place], self.fields[place]
            if field.type is float:
                if value is not None and value != value:
                    if field.name == self.key or field.name in self.indexes:
                        raise BadRecord(
                            f"{self.cls.__name__}.{field.name} has a place in an order, so it can't be NaN. Got: {short(record)}"
                        )
                    columns[place] = "nan"  # SQLite would make it NULL
            elif not (value is None and field.optional):
                try:
                    columns[place] = codec.encode(value)
                except (TypeError, ValueError) as error:
                    raise BadRecord(f"{self.cls.__name__}.{field.name} can't be stored: {error} Got: {short(record)}") from error
        return tuple(columns)

    def make(self, row: Row) -> R:
        """The record of a row that an engine has kept; bool and float come back as such from databases that know only numbers."""
        columns: list[Any] = list(row)
        for place, field in enumerate(self.fields):
            value = columns[place]
            if value is None:
                continue
            if field.type is bool or (field.type is float and type(value) is not float):
                columns[place] = field.type(value)
            elif field.type is None:
                columns[place] = codec.decode(cast(bytes, value))
        return self.cls(*columns)

    def own(self, record: R) -> R:
        """The record, or a copy if somebody could change it in place: what is stored is nobody's but the store's."""
        return self.make(self.row(record)) if self.mutable else record

    # -- keys and queries

    def key_of(self, record: R) -> Any:
        return getattr(record, self.key)

    def check_key(self, key: Any) -> Any:
        """The key, if it may be one."""
        kind: Any = type(key)  # pyright: ignore[reportUnknownVariableType]
        if kind is self._key_type and ((kind is int and _is_int(key)) or (kind is str and _is_text(key))):
            return key
        self._check_value(self.key, key, "key")
        return key

    def _check_value(self, name: str, value: Any, what: str) -> None:
        field = self.field(name)
        assert field.type is not None
        if value is None and field.optional:
            return
        fits = type(value) in PLAIN[field.type] and value == value
        if fits and not (type(value) is int and not _is_int(value)) and not (type(value) is str and not _is_text(value)):
            return
        raise BadRecord(f"{self.name}.{name} is of type {_shown(field)}, and so is a {what} of it. Got: {short(value)}")

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

    # -- refusing

    def _refuse(self, record: R, row: Row) -> None:
        for field, value, allowed in zip(self.fields, row, self._types, strict=True):
            if allowed and type(value) not in allowed:
                raise BadRecord(f"{self.cls.__name__}.{field.name} is of type {_shown(field)}. Got: {short(value)} in {short(record)}")
            if allowed and type(value) is int and not _is_int(value):
                raise BadRecord(f"{self.cls.__name__}.{field.name}: an int column has 64 bits, signed. Got: {short(value)}")
            if type(value) is str and not _is_text(value):
                raise BadRecord(
                    f"{self.cls.__name__}.{field.name} has a lone surrogate or a NUL, which no database stores. Got: {short(value)}"
                )

    def _check(self) -> None:
        name, names = self.cls.__name__, [one.name for one in self.fields]
        if self.kind not in ("set", "ordered_set", "bag"):
            raise TypeError(f'{name}: kind is "set", "ordered_set" or "bag". Got: {self.kind!r}')
        for one in (self.key, *self.indexes):
            if one not in names:
                raise TypeError(f"{name} has no field {one!r} for a key or an index. It has: {', '.join(names)}")
            if self.field(one).type is None:
                hint = _hint(self.cls, one)
                raise TypeError(f"{name}.{one}: a key or an index has an order: int, float, str, bytes or bool. Got: {hint}")
        if self.field(self.key).optional:
            raise TypeError(f"{name}.{self.key}: a key can't be None. Got: {_hint(self.cls, self.key)}")
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

    A field of type int, float, str, bytes, bool, or one of these `| None`, takes exactly such values; an int has 64 bits. Any other
    type goes through `beamish.codec`. Records are values: frozen, compared by their fields. What can be changed in place (a list in a
    field) is copied when it is written and when it is read. TypeError for what makes no table.
    """

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


def fields_of(cls: Any) -> tuple[Field, ...]:
    params = getattr(cls, "__dataclass_params__", None)
    if params is None or not params.frozen or not params.eq:
        raise TypeError(f"a record is a frozen dataclass: @store.record(…) above @dataclass(frozen=True). Got: {cls!r}")
    members = dataclasses.fields(cls)
    odd = [one.name for one in members if not one.init or one.kw_only]
    if odd:
        raise TypeError(f"{cls.__name__}: each field of a record is an argument of its class, by place. Not so: {', '.join(odd)}")
    return tuple(Field(one.name, *_type_of(_hint(cls, one.name))) for one in members)


def _hint(cls: Any, name: str) -> Any:
    try:
        return typing.get_type_hints(cls)[name]
    except NameError:  # a class of a function's body: its plain types are known all the same
        found = next(one.type for one in dataclasses.fields(cls) if one.name == name)
        names = {one.__name__: one for one in PLAIN}
        try:
            return eval(found, {"__builtins__": {}}, names) if isinstance(found, str) else found
        except NameError:
            return found


def _type_of(hint: Any) -> tuple[type | None, bool]:
    """The plain type, or None; and whether None is a value of it."""
    members = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    rest = [one for one in members if one is not type(None)]
    plain = rest[0] if len(rest) == 1 and rest[0] in PLAIN else None
    return plain, len(rest) < len(members)


def _shown(field: Field) -> str:
    return f"{field.type.__name__ if field.type else 'any'}{' or None' if field.optional else ''}"


def _is_int(value: int) -> bool:
    """What every database stores."""
    return -0x8000_0000_0000_0000 <= value <= 0x7FFF_FFFF_FFFF_FFFF


def _is_text(value: str) -> bool:
    """What every database stores: no lone surrogate, no NUL."""
    if value.isascii():
        return "\0" not in value
    try:
        return b"\0" not in value.encode()
    except UnicodeEncodeError:
        return False
