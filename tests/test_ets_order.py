"""The order of keys is total, agrees with Python's own, and a row of keys that come and go is always in it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings, strategies as st

import beamish._ets_order as order
from beamish import Ref
from beamish._ets_order import SortedKeys, rank
from beamish.ets import Table

numbers = st.one_of(
    st.integers(), st.booleans(), st.floats(allow_nan=False), st.decimals(allow_nan=False, places=2), st.fractions(max_denominator=99)
)
atoms = st.one_of(st.none(), numbers, st.text(max_size=3), st.binary(max_size=3))
others = st.dates() | st.datetimes() | st.datetimes(timezones=st.just(UTC)) | st.uuids() | st.timedeltas()
keys = st.recursive(atoms | others, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=6)
few = st.one_of(st.integers(-5, 5), st.sampled_from("abc"), st.none(), st.tuples(st.integers(0, 2), st.sampled_from(["x", None])))


@pytest.fixture(autouse=True, scope="module")
def _small_chunks() -> Iterator[None]:
    before, order.LOAD = order.LOAD, 4
    yield
    order.LOAD = before


class TestRank:
    @settings(max_examples=150, deadline=None)
    @given(keys, keys)
    def test_equal_keys_and_no_others_have_one_place(self, one: Any, other: Any) -> None:
        assert (rank(one) == rank(other)) is (one == other)

    @settings(max_examples=150, deadline=None)
    @given(keys, keys, keys)
    def test_of_two_different_keys_one_comes_first(self, one: Any, two: Any, three: Any) -> None:
        assert (rank(one) < rank(two)) is not (rank(two) <= rank(one))
        first, second, third = sorted([one, two, three], key=rank)
        assert rank(first) <= rank(second) <= rank(third)
        assert rank(first) <= rank(third)

    @settings(max_examples=150, deadline=None)
    @given(st.one_of(*(st.tuples(kind, kind) for kind in (numbers, st.text(), st.binary(), st.lists(st.text()).map(tuple), st.uuids()))))
    @example((Decimal("Infinity"), Fraction(1, 3)))
    @example((Decimal("0.5"), Fraction(1, 2)))
    def test_it_is_pythons_order_where_python_has_one(self, pair: tuple[Any, Any]) -> None:
        one, other = pair
        try:
            less = one < other
        except TypeError:  # Decimal and Fraction
            less = Fraction(one) < Fraction(other) if all(map(_finite, pair)) else float(one) < float(other)
        assert (rank(one) < rank(other)) is less

    def test_kinds_in_their_order(self) -> None:
        row = [None, 1, "a", b"a", (1,), date(2026, 1, 1), datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC)]
        assert [rank(one) < rank(two) for one, two in pairwise(row)][:5] == [True] * 5
        assert sorted(row[5:], key=rank) == row[5:]

    @pytest.mark.parametrize("key", [float("nan"), Decimal("nan"), (1, float("nan")), 1j, object(), frozenset(), len])
    def test_what_has_no_place(self, key: Any) -> None:
        with pytest.raises(TypeError, match=r"order|nan"):
            rank(key)


def _finite(one: Any) -> bool:
    return abs(one) != Decimal("Infinity")


class TestSortedKeys:
    @settings(max_examples=150, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, 3), few), max_size=150), st.sampled_from([int, object]))
    def test_it_is_a_sorted_list(self, steps: list[tuple[int, Any]], only: type) -> None:
        row, there = SortedKeys(), dict[Any, None]()
        for verb, key in steps:
            if not isinstance(key, only):
                continue
            if verb == 0 and key in there:
                row.discard(key)
                del there[key]
            elif verb in (1, 2) and key not in there:
                row.add(key)
                there[key] = None
            elif verb == 3:
                self.look(row, there, key)
        self.look(row, there, 0)

    def look(self, row: SortedKeys, there: dict[Any, None], key: Any) -> None:
        wanted = sorted(there, key=rank)
        assert row.all() == wanted
        assert len(row) == len(wanted)
        assert list(through(row)) == wanted
        assert list(backwards(row)) == wanted[::-1]
        for including in (True, False):
            above = [one for one in wanted if rank(one) > rank(key) or (including and one == key)]
            below = [one for one in wanted if rank(one) < rank(key) or (including and one == key)]
            assert row.after(key, including=including, limit=1) == above[:1]
            assert row.before(key, including=including, limit=1) == below[::-1][:1]

    def test_references_have_the_order_of_their_numbers(self) -> None:
        refs = sorted([Ref() for _ in range(20)], key=lambda ref: ref.id)
        row = SortedKeys()
        for ref in reversed(refs):
            row.add((1.5, ref))
        assert row.all() == [(1.5, ref) for ref in refs]

    def test_a_key_that_has_no_place_changes_nothing(self) -> None:
        row = SortedKeys()
        for key in (3, 1):
            row.add(key)
        with pytest.raises(TypeError):
            row.add(object())
        with pytest.raises(TypeError):
            row.add(float("nan"))
        assert row.all() == [1, 3]


def through(row: SortedKeys) -> Iterator[Any]:
    part = row.lowest()
    while part:
        yield from part
        part = row.after(part[-1])


def backwards(row: SortedKeys) -> Iterator[Any]:
    part = row.highest()
    while part:
        yield from part
        part = row.before(part[-1])


async def test_a_key_with_an_order_and_no_equality_is_refused() -> None:
    class Rank:
        def __init__(self, n: int) -> None:
            self.n = n

        def __lt__(self, other: Rank) -> bool:
            return self.n < other.n

    table = Table[Rank, str](kind="ordered_set")
    with pytest.raises(TypeError, match="__lt__ and __eq__"):
        table.insert(Rank(1), "a")
    assert len(table) == 0
