"""What the verbs of a table give, to both type checkers."""

from __future__ import annotations

from typing import Any, assert_type

import pytest

from beamish import ets, persistent_term
from beamish.ets import Incr, Page, Table, TableFile, TableInfo


async def test_a_table_of_keys_and_values() -> None:
    table = Table[str, int]("t", kind="ordered_set")
    table.insert("a", 1)
    table.insert_many({"b": 2})
    table.insert_many([("c", 3)])
    assert_type(table["a"], int)
    assert_type(table.lookup("a"), list[int])
    assert_type(table.get("a"), int | None)
    assert_type(table.get("a", "none"), int | str)
    assert_type(table.take("c"), list[int])
    assert_type(table.insert_new("a", 1), bool)
    assert_type(table.first(), str | None)
    assert_type(table.next("a", 0), str | int)
    assert_type(list(table), list[str])
    assert_type(table.to_list(), list[tuple[str, int]])
    assert_type(next(table.items()), tuple[str, int])
    assert_type(table.foldl(lambda acc, key, value: acc + value, 0.5), float)
    assert_type(table.info(), TableInfo | None)


async def test_counters() -> None:
    table = Table[str, int]()
    assert_type(table.update_counter("a", default=0), int)
    assert_type(table.update_counter("a", 5, threshold=9, set_to=0), int)
    assert_type(table.update_counter("a", [Incr(1)]), list[int])


async def test_select() -> None:
    table = Table[str, int]()
    assert_type(table.select(), list[tuple[str, int]])
    assert_type(table.select(lambda key, value: value > 1, low="a"), list[tuple[str, int]])
    assert_type(table.select(give=lambda key, value: value / 2), list[float])
    page = table.select(limit=2)
    assert_type(page, Page[tuple[str, int]])
    assert_type(page.next(), Page[tuple[str, int]])
    assert_type(table.select(give=lambda key, value: key, limit=2), Page[str])


async def test_by_name() -> None:
    with pytest.raises(ets.NoTable):
        assert_type(ets.table("t"), Table[Any, Any])
    assert_type(ets.whereis("t"), Table[Any, Any] | None)
    assert_type(ets.tables(), list[Table[Any, Any]])


def of_files(file: TableFile) -> None:
    assert_type(file.objects, list[tuple[Any, Any]])
    assert_type(ets.read_file("t.tab"), TableFile)
    assert_type(ets.from_file(file), Table[Any, Any])


def test_persistent_terms() -> None:
    assert_type(persistent_term.get("none of that name", 1), Any | int)
    assert_type(persistent_term.erase("none of that name"), bool)
    assert_type(persistent_term.items(), list[tuple[Any, Any]])
