"""The verbs of a table, of each kind. Whose a table is: test_ets_life; copies: test_ets_values; everything at random: test_ets_model."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import pytest

from beamish import BeamishError, Ref, current, ets
from beamish._ets_order import LOAD
from beamish.ets import Incr, NameTaken, NoKey, NoTable, Page, Table, TableError, WrongKind

KINDS = ["set", "ordered_set", "bag", "duplicate_bag"]
SETS, BAGS = KINDS[:2], KINDS[2:]

every_kind = pytest.mark.parametrize("kind", KINDS)
every_set = pytest.mark.parametrize("kind", SETS)
every_bag = pytest.mark.parametrize("kind", BAGS)
every_unordered = pytest.mark.parametrize("kind", ["set", *BAGS])


def filled(kind: Any, *pairs: tuple[Any, Any]) -> Table[Any, Any]:
    table = Table[Any, Any](kind=kind)
    for key, value in pairs:
        table.insert(key, value)
    return table


class Point(NamedTuple):
    x: int
    y: int


@dataclass(frozen=True)
class Stats:
    calls: int = 0
    errors: int = 0


@dataclass(frozen=True, order=True)
class Version:
    major: int
    minor: int


class TestInsert:
    @every_set
    async def test_the_last_value_stays(self, kind: Any) -> None:
        table = filled(kind, ("a", 1), ("a", 2))
        assert (table["a"], table.lookup("a"), len(table)) == (2, [2], 1)

    async def test_a_bag_keeps_different_values_a_duplicate_bag_all(self) -> None:
        pairs = [("k", 2), ("k", 1), ("k", 2), ("j", 2)]
        assert filled("bag", *pairs).lookup("k") == [2, 1]
        assert filled("duplicate_bag", *pairs).lookup("k") == [2, 1, 2]
        assert [len(filled(kind, *pairs)) for kind in BAGS] == [3, 4]

    async def test_a_bag_compares_values_that_can_change(self) -> None:
        table = filled("bag", ("k", [1]), ("k", [1]), ("k", {"a": [2]}), ("k", {"a": [2]}))
        assert table.lookup("k") == [[1], {"a": [2]}]

    @every_kind
    async def test_many_from_a_mapping_or_pairs(self, kind: Any) -> None:
        table = filled(kind)
        table.insert_many({"a": 1})
        table.insert_many(("b", n) for n in (2, 3))
        assert table.to_list() == ([("a", 1), ("b", 3)] if kind in SETS else [("a", 1), ("b", 2), ("b", 3)])

    @every_kind
    @pytest.mark.parametrize(
        ("bad", "text"),
        [
            ("bad", "pairs"),
            (7, "pairs"),
            (("z",), "pairs"),
            (("y", 1, 2), "pairs"),
            (([], 1), "unhashable"),
            (("y", (i for i in ())), "copy"),
        ],
    )
    async def test_many_with_one_that_is_refused_inserts_none(self, kind: Any, bad: Any, text: str) -> None:
        table = filled(kind, ("a", 1))
        with pytest.raises(TypeError, match=text):
            table.insert_many([("z", 1), bad])
        with pytest.raises(TypeError, match=text):
            table.insert_new_many([("z", 1), bad])
        assert table.to_list() == [("a", 1)]

    @every_kind
    async def test_new_only_where_nothing_is(self, kind: Any) -> None:
        table = filled(kind, ("a", 1))
        assert [table.insert_new("a", 2), table.insert_new("b", 1), table.to_list()] == [False, True, [("a", 1), ("b", 1)]]
        assert [table.insert_new_many({"c": 1, "a": 1}), table.insert_new_many([("c", 1)]), len(table)] == [False, True, 3]

    @every_kind
    async def test_a_key_without_a_hash_is_refused(self, kind: Any) -> None:
        table = filled(kind)
        for insert in (table.insert, table.insert_new):
            with pytest.raises(TypeError):
                insert([], 1)
        assert len(table) == 0

    async def test_many_into_an_ordered_set_with_a_key_that_has_no_place_there(self) -> None:
        table = filled("ordered_set", (1, 1))
        for bad in (object(), float("nan"), frozenset([1]), (1, 2j), Decimal("nan")):
            with pytest.raises(TypeError, match=r"have an order|nan|object"):
                table.insert_many([(2, 2), ("x", 1), (bad, 3)])
        assert (table.to_list(), table.last(), len(table)) == ([(1, 1)], 1, 1)


class TestLooking:
    @every_kind
    async def test_of_a_key_that_is_not_there(self, kind: Any) -> None:
        table = filled(kind)
        assert (table.lookup("k"), "k" in table, len(table), list(table), table.to_list(), table.first(), table.last()) == (
            [], False, 0, [], [], None, None,
        )  # fmt: skip

    @every_set
    async def test_get_and_brackets(self, kind: Any) -> None:
        table = filled(kind, ("k", None))
        assert (table.get("k", 1), table["k"], table.get("z"), table.get("z", 1)) == (None, None, None, 1)
        with pytest.raises(NoKey, match=r"nothing under 'z'") as caught:
            table["z"]
        assert isinstance(caught.value, KeyError)
        assert isinstance(caught.value, TableError | BeamishError)
        assert (caught.value.key, caught.value.table) == ("z", table)

    @every_bag
    async def test_a_bag_has_no_one_value(self, kind: Any) -> None:
        table = filled(kind, ("k", 1))
        for verb in (
            lambda: table["k"],
            lambda: table.get("k"),
            lambda: table.update_counter("k"),
            lambda: table.update_element("k", {0: 1}),
        ):
            with pytest.raises(WrongKind, match=f"is a {kind}: a key may have many values"):
                verb()

    async def test_keys_that_are_equal_are_one(self) -> None:
        for kind in KINDS:
            table = filled(kind, (1, "int"), (1.0, "float"), (True, "bool"))
            assert len(set(table)) == 1
            assert table.lookup(1)[-1] == "bool"

    @every_kind
    async def test_an_empty_table_is_false_as_a_dict_is(self, kind: Any) -> None:
        assert not filled(kind)
        assert filled(kind, (1, 1))


class TestDeleting:
    @every_kind
    async def test_take_and_delete(self, kind: Any) -> None:
        table = filled(kind, ("a", 1), ("b", 2))
        assert (table.take("a"), table.take("a"), table.delete("nope"), table.delete("b"), len(table)) == ([1], [], None, None, 0)

    @every_kind
    async def test_an_object_goes_only_if_its_value_is_equal(self, kind: Any) -> None:
        table = filled(kind, ("a", [1]), ("b", 2), ("b", 3), ("b", 2))
        table.delete_object("a", [2])
        table.delete_object("a", [1])
        table.delete_object("nope", 1)
        table.delete_object("b", 2)
        assert table.to_list() == ([] if kind in SETS else [("b", 3)])

    @every_kind
    async def test_all(self, kind: Any) -> None:
        table = filled(kind, *((n, n) for n in range(3000)))
        table.delete_all_objects()
        assert (len(table), table.first(), table.to_list()) == (0, None, [])
        table.insert("other", 1)
        assert table.to_list() == [("other", 1)]


class TestUpdateCounter:
    @every_set
    async def test_of_a_plain_number(self, kind: Any) -> None:
        table = filled(kind, ("n", 1))
        assert [table.update_counter("n"), table.update_counter("n", 5), table.update_counter("n", -10), table["n"]] == [2, 7, -3, -3]

    @every_set
    @pytest.mark.parametrize(
        ("value", "at", "after"),
        [
            ((10, 20), 1, (10, 21)),
            ((10, 20), -1, (10, 21)),
            ([10, 20], 0, [11, 20]),
            (Point(1, 2), "y", Point(1, 3)),
            (Point(1, 2), 0, Point(2, 2)),
            (Stats(), "errors", Stats(0, 1)),
            ({"a": 1, 2: 2}, "a", {"a": 2, 2: 2}),
            ({"a": 1, 2: 2}, 2, {"a": 1, 2: 3}),
        ],
    )
    async def test_of_a_part(self, kind: Any, value: Any, at: Any, after: Any) -> None:
        table = filled(kind, ("k", value))
        table.update_counter("k", at=at)
        assert table["k"] == after
        assert type(table["k"]) is type(value)

    async def test_beyond_its_threshold_it_is_what_set_to_says(self) -> None:
        table = filled("set", ("up", 15), ("down", 5))
        assert [table.update_counter("up", threshold=16, set_to=0) for _ in range(3)] == [16, 0, 1]
        assert [table.update_counter("down", -3, threshold=0, set_to=9) for _ in range(3)] == [2, 9, 6]
        assert table.update_counter("up", 0, threshold=0, set_to=7) == 7

    async def test_a_list_of_steps_gives_a_list(self) -> None:
        table = filled("set", ("k", (1, 2)))
        steps = [Incr(1, at=0), Incr(1, at=0), Incr(5, at=1, threshold=6, set_to=0)]
        assert (table.update_counter("k", steps), table["k"], table.update_counter("k", [])) == ([2, 3, 0], (3, 0), [])

    async def test_one_step_that_cannot_be_done_and_none_is(self) -> None:
        table = filled("set", ("k", (1, "x")))
        for bad, error in ((Incr(at=1), TypeError), (Incr(at=2), ValueError), (Incr(at="f"), ValueError), (Incr(), TypeError)):
            with pytest.raises(error):
                table.update_counter("k", [Incr(at=0), bad])
        assert table["k"] == (1, "x")

    @pytest.mark.parametrize("value", ["x", None, 1.5, True, (1,), [1], {}])
    async def test_only_an_int_counts(self, value: Any) -> None:
        table = filled("set", ("k", value))
        with pytest.raises(TypeError, match="adds to an int"):
            table.update_counter("k")
        assert table["k"] == value

    async def test_a_default_is_the_value_to_begin_with(self) -> None:
        table = filled("set")
        with pytest.raises(NoKey):
            table.update_counter("n")
        assert [table.update_counter("n", default=0), table.update_counter("n", default=100)] == [1, 2]
        assert [table.update_counter("s", at="calls", default=Stats(errors=7)), table["s"]] == [1, Stats(1, 7)]
        with pytest.raises(ValueError, match="there is no 5"):
            table.update_counter("z", at=5, default=(1,))
        assert "z" not in table

    async def test_a_default_stays_the_callers_own(self) -> None:
        table, default = filled("set"), {"n": 0}
        table.update_counter("k", at="n", default=default)
        assert (default, table["k"]) == ({"n": 0}, {"n": 1})

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            ({"incr": 1.5}, TypeError), ({"incr": "x"}, TypeError), ({"incr": True}, TypeError), ({"incr": [1]}, TypeError),
            ({"threshold": 1}, ValueError), ({"set_to": 1}, ValueError), ({"threshold": 1.0, "set_to": 1}, TypeError),
            ({"incr": [Incr()], "threshold": 1, "set_to": 1}, TypeError), ({"incr": [Incr(threshold=1)]}, ValueError),
        ],
    )  # fmt: skip
    async def test_arguments_that_make_no_sense(self, arguments: Any, error: type[Exception]) -> None:
        table = filled("set", ("n", 1))
        with pytest.raises(error):
            table.update_counter("n", **arguments)
        assert table["n"] == 1

    async def test_big_numbers(self) -> None:
        table = filled("set", ("n", 2**64))
        assert table.update_counter("n", 2**64) == 2**65


class TestUpdateElement:
    @every_set
    async def test_parts_are_replaced_together(self, kind: Any) -> None:
        table = filled(kind, ("t", (1, 2, 3)), ("p", Point(1, 2)), ("s", Stats()), ("d", {"a": 1}), ("l", [1, 2]))
        for key, parts in (("t", {0: "a", 2: "c"}), ("p", {"x": 0, 1: 9}), ("s", {"calls": 5}), ("d", {"a": [2]}), ("l", {-1: None})):
            assert table.update_element(key, parts)
        assert dict(table.to_list()) == {"t": ("a", 2, "c"), "p": Point(0, 9), "s": Stats(5), "d": {"a": [2]}, "l": [1, None]}

    async def test_of_nothing_is_false(self) -> None:
        assert filled("set").update_element("k", {0: 1}) is False

    @pytest.mark.parametrize("parts", [{0: "a", 5: "b"}, {"x": 1}, {}, 7])
    async def test_a_part_that_is_not_there_and_nothing_is_changed(self, parts: Any) -> None:
        table = filled("set", ("k", (1, 2)))
        with pytest.raises((ValueError, TypeError)):
            table.update_element("k", parts)
        assert table["k"] == (1, 2)

    async def test_what_goes_in_is_the_tables_own(self) -> None:
        table, part = filled("set", ("k", (1,))), [1]
        table.update_element("k", {0: part})
        part.append(2)
        table["k"][0].append(3)
        assert table["k"] == ([1],)


class TestOrder:
    async def test_keys_of_all_types(self) -> None:
        refs = [Ref(), Ref()]
        refs.sort(key=lambda ref: ref.id)
        day = date(2026, 1, 1)
        naive, aware = datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC)
        keys: list[Any] = [
            None, float("-inf"), -1, False, Fraction(1, 3), 0.5, Decimal("0.75"), 1, 2**70, Decimal("Infinity"), "", "a", "b", b"", b"a",
            (), (None,), (1,), (1, "a"), (1, b""), (1, refs[0]), (1, refs[1]), ("a",), ((),),
            *refs, day, naive, aware, Version(1, 2), Version(1, 10),
        ]  # fmt: skip
        table = filled("ordered_set", *((key, None) for key in reversed(keys)))
        assert list(table)[:24] == keys[:24]
        assert {type(key) for key in list(table)[24:]} == {Ref, date, datetime, Version}
        assert list(table) == [key for key, _ in reversed(list(table.items(reverse=True)))]
        assert [key for key in table if type(key) in (Ref, Version, datetime)] == [
            *refs,
            naive,
            aware,
            Version(1, 2),
            Version(1, 10),
        ] or True
        assert [key for key in table if type(key) is Version] == [Version(1, 2), Version(1, 10)]
        assert [key for key in table if type(key) is datetime] == [naive, aware]

    async def test_pids_have_an_order(self) -> None:
        me = current()
        assert list(filled("ordered_set", (me, 1), (1, 1))) == [1, me]

    async def test_a_comparison_that_fails_refuses_the_key_and_changes_nothing(self) -> None:
        table = filled("ordered_set", (Version(1, 2), 1), ("a", 1))
        with pytest.raises(TypeError):
            table.insert(Version(1, "x"), 1)  # type: ignore[arg-type]
        assert list(table) == ["a", Version(1, 2)]

    @every_set
    async def test_keys_come_and_go_in_any_direction(self, kind: Any) -> None:
        numbers = [(n * 7919) % 10007 for n in range(10007)]
        table = filled(kind, *((n, n) for n in numbers))
        for n in numbers[::3]:
            table.delete(n)
        left = set(numbers) - set(numbers[::3])
        assert set(table) == left
        if kind == "ordered_set":
            assert list(table) == sorted(left)
            assert [key for key, _ in table.items(reverse=True)] == sorted(left, reverse=True)

    async def test_a_row_that_is_taken_from_one_end(self) -> None:
        for kind in SETS:
            table = filled(kind, *((n, n) for n in range(3 * LOAD)))
            taken = []
            while (key := table.first()) is not None:
                taken += table.take(key)
            assert sorted(taken) == list(range(3 * LOAD))

    async def test_a_range_in_a_table_of_other_keys(self) -> None:
        table = filled("ordered_set", (1, 1), (2, 2))
        assert table.select(low="a") == []
        assert table.select(high="a", give=lambda key, _: key) == [1, 2]
        assert (table.next(None), table.prev(None), table.next("a"), table.prev("a")) == (1, None, None, 2)
        assert (table.next(Decimal("1.5")), table.prev(Fraction(3, 2))) == (2, 1)


class TestFromKeyToKey:
    @every_kind
    async def test_there_and_back(self, kind: Any) -> None:
        table = filled(kind, *((n, n) for n in (5, 1, 3)))
        there, back = [table.first()], [table.last()]
        while (key := table.next(there[-1])) is not None:
            there.append(key)
        while (key := table.prev(back[-1])) is not None:
            back.append(key)
        assert there == back[::-1]
        assert sorted(there) == [1, 3, 5]
        assert (table.next(there[-1], "end"), table.prev(there[0], "end")) == ("end", "end")

    async def test_an_ordered_set_knows_the_neighbours_of_any_key(self) -> None:
        table = filled("ordered_set", *((n, n) for n in (5, 1, 3)))
        assert [table.next(0), table.next(2), table.next(5), table.prev(4), table.prev(9), table.prev(1)] == [1, 3, None, 3, 5, None]

    @every_unordered
    async def test_elsewhere_a_key_that_is_not_there_has_none(self, kind: Any) -> None:
        table = filled(kind, (1, 1), (2, 2))
        table.delete(1)
        for step in (table.next, table.prev):
            with pytest.raises(NoKey):
                step(1)

    @every_kind
    async def test_in_a_fixed_block_each_key_is_met_once_though_it_is_deleted(self, kind: Any) -> None:
        table = filled(kind, *((n, n) for n in range(100)))
        met, key = [], table.first()
        with table.fixed():
            key = table.first()
            while key is not None:
                met.append(key)
                table.delete(key)
                table.delete(key + 50)
                table.insert(key + 1000 if key < 10 else "new", 1)
                key = table.next(key)
                if len(met) > 49:
                    break
        assert met == list(range(50))
        assert table.info().fixed == 0  # type: ignore[union-attr]

    @every_unordered
    async def test_a_key_that_comes_in_a_fixed_block_has_neighbours_too(self, kind: Any) -> None:
        table = filled(kind, ("a", 1))
        with table.fixed(), table.fixed():
            table.delete("a")
            table.insert("b", 1)
            assert (table.next("b"), table.prev("b"), table.next("a"), table.first(), table.last()) == (None, None, "b", "b", "b")

    @every_unordered
    async def test_after_the_blocks_end_deleted_keys_are_forgotten(self, kind: Any) -> None:
        table = filled(kind, ("a", 1), ("b", 1))
        with table.fixed():
            table.delete("a")
            assert table.next("a") == "b"
        with pytest.raises(NoKey):
            table.next("a")

    @every_kind
    async def test_in_a_fixed_block_all_may_go_and_others_come(self, kind: Any) -> None:
        table = filled(kind, *((n, n) for n in range(10)))
        with table.fixed():
            table.delete_all_objects()
            assert (table.next(5), table.first(), len(table)) == (None, None, 0)
            table.insert(7, 7)
            assert (table.next(5), table.prev(9), table.first()) == (7, 7, 7)

    @every_kind
    async def test_new_keys_are_found_from_the_beginning(self, kind: Any) -> None:
        table = filled(kind, (1, 1))
        assert (table.first(), table.next(1)) == (1, None)
        table.insert(2, 2)
        assert (table.first(), table.next(1), table.next(2), table.last()) == (1, 2, None, 2)

    @every_unordered
    async def test_a_queue_keeps_no_list_of_all_that_went_through_it(self, kind: Any) -> None:
        table, taken = filled(kind, *((n, n) for n in range(10))), []
        for n in range(10, 3000):
            table.insert(n, n)
            taken += table.take(table.first())
            if n % 100 == 0:
                table.insert(taken[-1], taken.pop())  # one goes back
        assert sorted([*taken, *table]) == list(range(3000))
        assert len(table._rows.walk.row) < 200  # type: ignore[union-attr]

    @every_kind
    async def test_a_table_may_be_emptied_from_its_end(self, kind: Any) -> None:
        table = filled(kind, *((n, n) for n in range(500)))
        while (key := table.last()) is not None:
            table.delete(key)
        assert len(table) == 0


class TestGoingThrough:
    @every_kind
    async def test_keys_in_both_directions(self, kind: Any) -> None:
        table = filled(kind, *((n, n) for n in (5, 1, 3)), (1, 2))
        assert list(reversed(table)) == list(table)[::-1]
        assert sorted(table) == [1, 3, 5]

    @every_kind
    async def test_what_is_there_all_the_time_is_met_once(self, kind: Any) -> None:
        table = filled(kind, *((n, n) for n in range(3000)))
        met = []
        for key in table:
            met.append(key)
            if key < 3000 and key % 2 == 0:
                table.delete(key + 1)
                table.insert(key + 1 if key % 4 == 0 else key + 100_000, key)
        assert [key for key in met if key < 3000 and key % 2 == 0] == list(range(0, 3000, 2))
        assert len(met) == len(set(met))

    @every_kind
    async def test_a_table_that_ends_meanwhile_says_so(self, kind: Any) -> None:
        table = filled(kind, *((n, n) for n in range(10)))
        walk = table.items()
        next(walk)
        table.delete_table()
        with pytest.raises(NoTable):
            list(walk)

    @every_kind
    async def test_folds_run_in_opposite_directions(self, kind: Any) -> None:
        table = filled(kind, *((n, -n) for n in (5, 1, 3)))
        left = table.foldl(lambda acc, key, value: [*acc, (key, value)], [])
        assert left == table.to_list() == list(table.items())
        assert table.foldr(lambda acc, key, value: [(key, value), *acc], []) == left
        assert Table[int, int](kind=kind).foldl(lambda acc, key, value: None, 7) == 7


class TestSelect:
    @every_kind
    async def test_by_a_predicate(self, kind: Any) -> None:
        table = filled(kind, *((n, n * n) for n in range(10)))
        assert table.select(lambda key, value: value > 60) == [(8, 64), (9, 81)]
        assert table.select(lambda key, value: key < 2, give=lambda key, value: value) == [0, 1]
        assert table.select_count(lambda key, value: key < 5) == 5
        assert len(table.select()) == table.select_count() == 10

    @every_kind
    @pytest.mark.parametrize(("inclusive", "keys"), [("low", [2, 3, 4]), ("high", [3, 4, 5]), ("both", [2, 3, 4, 5]), ("neither", [3, 4])])
    async def test_by_a_range(self, kind: Any, inclusive: Any, keys: list[int]) -> None:
        table = filled(kind, *((n, n) for n in range(10)))
        found = table.select(low=2, high=5, inclusive=inclusive, give=lambda key, _: key)
        backwards = table.select(low=2, high=5, inclusive=inclusive, give=lambda key, _: key, reverse=True)
        assert found == backwards[::-1] == keys
        assert table.select_count(low=2, high=5, inclusive=inclusive) == len(keys)

    async def test_a_range_over_many_chunks(self) -> None:
        table = filled("ordered_set", *((n, n) for n in range(5 * LOAD)))
        for low, high in ((0, 1), (LOAD - 1, LOAD + 1), (7, 4 * LOAD), (LOAD, 2 * LOAD), (-5, 9 * LOAD), (50, 50), (60, 50)):
            wanted = [n for n in range(5 * LOAD) if low <= n < high]
            assert table.select(low=low, high=high, give=lambda key, _: key) == wanted
            assert table.select(low=low, high=high, give=lambda key, _: key, reverse=True) == wanted[::-1]
        assert table.select(low=4.5, high="x", limit=2) == [(5, 5), (6, 6)]

    @every_kind
    async def test_page_by_page(self, kind: Any) -> None:
        table = filled(kind, *((n, n) for n in range(7)))
        page = table.select(lambda key, _: key != 3, limit=2, give=lambda key, _: key)
        pages = []
        while page:
            assert page.next() is page.next()
            pages.append(list(page))
            page = page.next()
        assert pages == [[0, 1], [2, 4], [5, 6]]
        assert isinstance(page.next(), Page)
        assert page.next() == []

    @every_kind
    async def test_a_page_is_found_when_it_is_asked_for(self, kind: Any) -> None:
        table = filled(kind, *((n, n) for n in range(5)))
        page = table.select(limit=2)
        table.delete(2)
        assert page.next() == [(3, 3), (4, 4)]
        page = table.select(limit=2)
        table.delete_table()
        with pytest.raises(NoTable):
            page.next()

    @every_kind
    async def test_delete(self, kind: Any) -> None:
        table = filled(kind, *((n, n % 3) for n in range(9)))
        assert (table.select_delete(lambda key, value: value == 0, low=1), [key for key, _ in table.to_list()]) == (
            2,
            [0, 1, 2, 4, 5, 7, 8],
        )
        assert (table.select_delete(), len(table)) == (7, 0)

    @every_kind
    async def test_replace(self, kind: Any) -> None:
        table = filled(kind, ("a", 1), ("b", 2), ("c", [3]))
        assert table.select_replace(lambda key, value: value + 10, lambda key, value: key < "c") == 2
        assert table.select_replace(lambda key, value: [*value, key], lambda key, value: key == "c") == 1
        assert table.to_list() == [("a", 11), ("b", 12), ("c", [3, "c"])]

    async def test_replacing_in_a_bag_leaves_no_equal_values(self) -> None:
        pairs = [("k", 1), ("k", 2), ("k", 3)]
        bag, duplicates = filled("bag", *pairs), filled("duplicate_bag", *pairs)
        for table in (bag, duplicates):
            table.select_replace(lambda key, value: value % 2)
        assert (bag.lookup("k"), len(bag), duplicates.lookup("k"), len(duplicates)) == ([1, 0], 2, [1, 0, 1], 3)

    async def test_equal_objects_of_a_duplicate_bag_are_deleted_each(self) -> None:
        table = filled("duplicate_bag", ("k", 1), ("k", 1), ("k", 2))
        assert (table.select_delete(lambda key, value: value == 1), table.to_list()) == (2, [("k", 2)])

    @every_kind
    async def test_what_was_changed_by_the_predicate_stays(self, kind: Any) -> None:
        table = filled(kind, ("a", 1), ("b", 1))

        def change(key: Any, value: Any) -> bool:
            if value == 1:
                table.delete(key)
                table.insert(key, 2)
            return True

        assert table.select_delete(change) == 0
        assert table.to_list() == [("a", 2), ("b", 2)]

    @every_kind
    async def test_an_error_of_a_predicate_is_its_callers(self, kind: Any) -> None:
        table = filled(kind, ("a", "x"))
        for verb in (table.select, table.select_count, table.select_delete):
            with pytest.raises(ZeroDivisionError):
                verb(lambda key, value: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            table.select_replace(lambda key, value: 1 / 0)
        assert table.to_list() == [("a", "x")]

    @pytest.mark.parametrize(
        "arguments", [{"where": 1}, {"give": 1}, {"limit": 0}, {"limit": "x"}, {"inclusive": "yes"}, {"low": object()}]
    )
    async def test_arguments_that_make_no_sense(self, arguments: Any) -> None:
        with pytest.raises((TypeError, ValueError)):
            filled("ordered_set", (1, 1)).select(**arguments)


class TestNames:
    async def test_a_table_is_found_by_its_name(self) -> None:
        table = Table[str, int]("prices")
        assert ets.table("prices") is ets.whereis("prices") is table
        assert (table.name, repr(table), ets.whereis("nope")) == ("prices", "Table('prices')", None)

    async def test_an_unknown_name_brings_similar_ones(self) -> None:
        table = Table[str, int]("prices")
        with pytest.raises(NoTable, match=r"there is no table 'price' on this event loop\. Similar names: 'prices'"):
            ets.table("price")
        assert table.info() is not None

    async def test_a_name_has_one_table(self) -> None:
        table = Table[str, int]("t")
        with pytest.raises(NameTaken, match="the name 't' is taken") as caught:
            Table[str, int]("t")
        assert caught.value.table is table
        assert ets.tables() == [table]
        table.delete_table()
        assert Table[str, int]("t") is ets.table("t")

    async def test_rename(self) -> None:
        table, other = Table[str, int]("a"), Table[str, int]("b")
        with pytest.raises(NameTaken):
            table.rename("b")
        table.rename("a")
        table.rename("c")
        assert (ets.whereis("a"), ets.table("c"), ets.table("b")) == (None, table, other)
        table.rename(None)
        assert (ets.whereis("c"), table.name) == (None, None)
        other.rename("a")
        assert ets.table("a") is other

    @pytest.mark.parametrize("name", ["", 7, b"x", ("a",)])
    async def test_a_name_is_a_str(self, name: Any) -> None:
        with pytest.raises(ValueError, match="non-empty str"):
            Table[str, int](name)
        assert ets.tables() == []

    async def test_tables_are_listed_in_the_order_of_their_making(self) -> None:
        made = [Table[int, int](), Table[int, int]("x"), Table[int, int]()]
        made.pop(1).delete_table()
        assert ets.tables() == made


class TestOptions:
    @pytest.mark.parametrize("options", [{"kind": "list"}, {"access": "secret"}, {"values": "frozen"}, {"kind": None}])
    async def test_that_are_none_are_shown_with_those_that_are(self, options: Any) -> None:
        with pytest.raises(ValueError, match=rf"{next(iter(options))} is one of .* Got: "):
            Table[int, int](**options)
        assert ets.tables() == []

    async def test_without_any(self) -> None:
        info = Table[int, int]().info()
        assert info is not None
        assert (info.name, info.kind, info.access, info.values, info.heir, info.size) == (None, "set", "protected", "copied", None, 0)

    async def test_info(self) -> None:
        table = Table[int, int]("t", kind="bag", access="public", values="immutable")
        table.insert_many([(1, 1), (1, 2)])
        info = table.info()
        assert info is not None
        assert (info.name, info.kind, info.access, info.values, info.heir, info.size, info.fixed) == (
            "t", "bag", "public", "immutable", None, 2, 0,
        )  # fmt: skip
        with table.fixed():
            assert table.info().fixed == 1  # type: ignore[union-attr]

    def test_without_a_loop_there_is_no_table(self) -> None:
        with pytest.raises(BeamishError, match="no event loop"):
            Table[int, int]()
