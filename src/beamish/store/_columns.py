"""The fields of a record, as columns: which types they may have, and the look at each value before it is stored."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from beamish import codec
from beamish.store.errors import BadRecord

#: A record's columns, in the order of its fields: int, float, str, bytes, bool or None; bytes of the codec for any other type.
Row: TypeAlias = tuple[Any, ...]

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


def fields_of(cls: Any) -> tuple[Field, ...]:
    params = getattr(cls, "__dataclass_params__", None)
    if params is None or not params.frozen or not params.eq:
        raise TypeError(f"a record is a frozen dataclass: @store.record(…) above @dataclass(frozen=True). Got: {cls!r}")
    members = dataclasses.fields(cls)
    odd = [one.name for one in members if not one.init or one.kw_only]
    if odd:
        raise TypeError(f"{cls.__name__}: each field of a record is an argument of its class, by place. Not so: {', '.join(odd)}")
    return tuple(Field(one.name, *_type_of(hint_of(cls, one.name))) for one in members)


def hint_of(cls: Any, name: str) -> Any:
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


def shown(field: Field) -> str:
    return f"{field.type.__name__ if field.type else 'any'}{' or None' if field.optional else ''}"


def is_int(value: int) -> bool:
    """What every database stores."""
    return -0x8000_0000_0000_0000 <= value <= 0x7FFF_FFFF_FFFF_FFFF


def is_text(value: str) -> bool:
    """What every database stores: no lone surrogate, no NUL."""
    if value.isascii():
        return "\0" not in value
    try:
        return b"\0" not in value.encode()
    except UnicodeEncodeError:
        return False


# --- looking at values ------------------------------------------------------------------------------------------------

LONGEST = 64 << 20
"""Characters or bytes in a column. Beyond a gigabyte databases refuse, and then those who commit at the same time suffer."""

#: What most values pass, as an expression; what does not is looked at closely.
_QUICK = {
    int: "type({0}) is int and -0x8000000000000000 <= {0} <= 0x7FFFFFFFFFFFFFFF",
    float: "type({0}) is float and {0} == {0}",
    str: "type({0}) is str and {0}.isascii() and '\\0' not in {0} and len({0}) <= LONGEST",
    bytes: "type({0}) is bytes and len({0}) <= LONGEST",
    bool: "type({0}) is bool",
}


def row_of(cls: type[Any], fields: tuple[Field, ...], close_look: Callable[[Any], Row]) -> Callable[[Any], Row]:
    """The function from a record to its columns. Written out, as dataclasses write out `__init__`: a loop takes four times as long."""
    if any(field.type is None for field in fields):
        return close_look
    names = [f"v{number}" for number in range(len(fields))]
    tests = ["type(record) is cls"]
    for name, field in zip(names, fields, strict=True):
        quick = _QUICK[field.type or int].format(name)
        tests.append(f"({name} is None or {quick})" if field.optional else quick)
    source = f"""
def row(record):
    if type(record) is cls:
        {"; ".join(f"{name} = record.{field.name}" for name, field in zip(names, fields, strict=True))}
        if {" and ".join(tests[1:])}:
            return ({", ".join(names)},)
    return close_look(record)
"""
    made: dict[str, Any] = {"cls": cls, "close_look": close_look, "LONGEST": LONGEST}
    exec(source, made)
    row: Callable[[Any], Row] = made["row"]
    return row


def is_quick(field: Field) -> Callable[[Any], bool]:
    """The quick look at one value."""
    assert field.type is not None
    test: Callable[[Any], bool] = eval(f"lambda value: {_QUICK[field.type].format('value')}")
    return test


def column_of(field: Field, value: Any) -> Any:
    """The column of a value. BadRecord, with the reason, if it can't be one."""
    if value is None and field.optional:
        return None
    if field.type is None:
        try:
            encoded = codec.encode(value)
        except (TypeError, ValueError) as error:
            raise BadRecord(f"can't be stored: {error}") from error
        return _short_enough(encoded)
    if type(value) not in PLAIN[field.type]:
        raise BadRecord(f"is of type {shown(field)}")
    if field.type is float and type(value) is int and abs(value) > 2**53:
        raise BadRecord("is of type float, which has no place for every int as large as that")
    if type(value) is int and not is_int(value):
        raise BadRecord("is of type int, of 64 bits, signed")
    if type(value) is str and not is_text(value):
        raise BadRecord("has a lone surrogate or a NUL, which no database stores")
    if type(value) in (str, bytes):
        return _short_enough(value)
    return "nan" if field.type is float and value != value else value  # SQLite would make it NULL


def _short_enough(value: Any) -> Any:
    if len(value) > LONGEST:
        raise BadRecord(
            f"has {len(value):,} characters or bytes; a column takes {LONGEST:,}. Keep such a thing in a file, and its path here"
        )
    return value


def value_of(field: Field, column: Any) -> Any:
    """The way back; bool and float come back as such from databases that know only numbers."""
    if column is None:
        return None
    if field.type is None:
        return codec.decode(column)
    return field.type(column) if field.type is bool or (field.type is float and type(column) is not float) else column
