"""What `@record` takes for a table, and for a record of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from beamish import store
from beamish.store import BadRecord, NoTable, table_of
from storing import Account, Tag, Thing


@dataclass(frozen=True)
class Plain:
    id: int
    word: str = ""
    maybe: int | None = None
    many: tuple[int, ...] = ()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"key": "nope"}, "has no field 'nope'"),
        ({"key": "id", "indexes": ("nope",)}, "has no field 'nope'"),
        ({"key": "many"}, "has an order"),
        ({"key": "maybe"}, "can't be None"),
        ({"key": "id", "indexes": ("id",)}, "named once"),
        ({"key": "id", "indexes": ("word", "word")}, "named once"),
        ({"key": "id", "kind": "duplicate_bag"}, 'kind is "set"'),
        ({"key": "id", "version": 0}, "version is 1 or more"),
        ({"key": "id", "version": 2, "migrations": {2: dict}}, "each below it"),
        ({"key": "id", "expires": "word"}, "expires= names a field"),
        ({"key": "id", "ttl": 5.0}, "goes with expires="),
        ({"key": "id", "name": "sqlite_master"}, "does not begin with"),
        ({"key": "id", "name": "\0"}, "does not begin with"),
    ],
)
def test_what_makes_no_table_is_refused_when_the_class_is_made(options: dict[str, Any], says: str) -> None:
    with pytest.raises(TypeError, match=says):
        store.record(**options)(Plain)


def test_a_record_is_a_frozen_dataclass_made_by_place() -> None:
    @dataclass
    class Loose:
        id: int

    @dataclass(frozen=True)
    class Odd:
        id: int
        made: int = field(default=0, init=False)

    @dataclass(frozen=True)
    class Twice:
        id: int
        ID: int

    with pytest.raises(TypeError, match="upper and lower case"):
        store.record(key="id")(Twice)
    with pytest.raises(TypeError, match="frozen dataclass"):
        store.record(key="id")(Loose)
    with pytest.raises(TypeError, match="frozen dataclass"):
        store.record(key="id")(int)
    with pytest.raises(TypeError, match=r"by place\. Not so: made"):
        store.record(key="id")(Odd)


def test_a_class_without_a_table_is_named() -> None:
    class Sub(Account):
        pass

    with pytest.raises(NoTable, match=r"@store\.record"):
        table_of(int)
    with pytest.raises(NoTable, match="Sub"):
        table_of(Sub)
    assert table_of(Tag).bag


@pytest.mark.parametrize(
    "record",
    [
        Thing(b"k", 1, 2.5, "ä", True, b"\0\xff", (1, (b"x", None)), {"a": [1, {2}]}),
        Thing(b""),
        Thing(b"k", -(2**63), float("inf"), "", False, b""),
        Thing(b"k", parts=(2**70,)),
    ],
)
def test_a_record_comes_back_from_its_row(record: Thing) -> None:
    table = table_of(Thing)
    row = table.row(record)
    assert table.make(row) == record
    assert all(type(one) in (int, float, str, bytes, bool, type(None)) for one in row)


@pytest.mark.parametrize(
    "record",
    [
        Account("1", "ann"),  # type: ignore[arg-type]
        Account(True, "ann"),
        Account(2**63, "ann"),
        Account(1, None),  # type: ignore[arg-type]
        Account(1, b"ann"),  # type: ignore[arg-type]
        Account(1, "\ud800"),
        Account(1, "a\0"),
        Thing(b"", weight=float("nan")),
        Thing(b"", weight=2**53 + 1),
        Thing(b"", parts=(object(),)),
    ],
)
def test_a_value_that_does_not_fit_its_field_is_refused(record: Any) -> None:
    with pytest.raises(BadRecord, match="Got: "):
        table_of(type(record)).row(record)


@pytest.mark.parametrize("key", ["1", 1.0, True, None, 2**63, (1,)])
def test_a_key_of_another_type_is_refused(key: Any) -> None:
    with pytest.raises(BadRecord, match=r"Account\.id is of type int"):
        table_of(Account).check_key(key)


def test_a_value_that_is_too_long_is_refused_before_it_gets_to_the_database() -> None:
    with pytest.raises(BadRecord, match="a column takes 67,108,864"):
        table_of(Account).row(Account(1, "x" * (2**26 + 1)))
    with pytest.raises(BadRecord, match="a column takes 67,108,864"):
        table_of(Thing).row(Thing(b"", parts=(b"x" * 2**26,)))
