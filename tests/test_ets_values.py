"""What is in a table changes by the table's verbs alone: what goes in and what comes out are values of their own."""

from __future__ import annotations

import datetime
import decimal
import enum
import functools
import ipaddress
import pathlib
import re
import threading
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings, strategies as st

from beamish import GenServer, Registry, Via, current, monitor
from beamish._ets_values import Box, copied, lasting
from beamish.ets import Table


class Colour(enum.Enum):
    RED = "red"


class Pair(NamedTuple):
    left: Any
    right: Any


class Tagged(Pair):
    """A tuple with attributes."""


@dataclass(frozen=True)
class Frozen:
    value: Any


@dataclass(frozen=True, slots=True)
class FrozenSlots:
    value: Any


class Thawed(Frozen):
    """A frozen dataclass's subclass, which is none itself."""


@dataclass
class Open:
    value: Any = None
    more: list[Any] = field(default_factory=list)


class Plain:
    def __init__(self) -> None:
        self.items: list[int] = []

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plain) and other.items == self.items

    __hash__ = None  # type: ignore[assignment]


class Own:
    """It says itself that there is no need to copy it."""

    def __deepcopy__(self, memo: Any) -> Own:
        return self


class Address(GenServer[None]):
    pass


def function() -> None: ...


LASTING: list[Any] = [
    None, True, 1, 2**99, 1.5, 1j, "text", b"bytes", range(3), ..., Colour.RED, int, Plain, function, len, re.compile("a"),
    decimal.Decimal(1), datetime.date.min, datetime.datetime.now(datetime.UTC), datetime.timedelta(1), uuid.uuid4(), pathlib.Path("a"),
    Fraction(1, 3), ipaddress.ip_network("10.0.0.0/8"),
    (), (1, "a"), ((1,), frozenset([(2,)])), Pair(1, 2), Pair((1,), None), Frozen(1), Frozen((1, Frozen("a"))), FrozenSlots(1), Own(),
    (Own(), Colour.RED), Address("a"), Via(Registry[str, None]("r"), "k"),
]  # fmt: skip


def changing() -> list[Any]:
    tagged = Tagged(1, 2)
    tagged.note = []
    thawed = Thawed(1)
    object.__setattr__(thawed, "more", [])
    return [
        [], {}, {1}, bytearray(b"a"), deque([1]), [1, (2,)], {"a": 1}, {"a": [1]}, [[1]], ([],), (1, {"a": 1}), Pair([], 1), Frozen([]),
        FrozenSlots({"a": []}), Frozen((1, [2])), tagged, thawed, Open(), Open(1, [Open()]), Plain(), functools.partial(int, "1"),
    ]  # fmt: skip


def parts(value: Any) -> list[Any]:
    """Everything in `value` that could be changed through it."""
    if isinstance(value, list | tuple | set | frozenset | deque):
        inner = list(value)
    elif isinstance(value, dict):
        inner = list(value.values())
    else:
        inner = []
    inner += list(getattr(value, "__dict__", {}).values())
    inner += [getattr(value, name) for name in getattr(type(value), "__slots__", ())]
    return [value, *(deeper for one in inner for deeper in parts(one))]


class TestWhatLasts:
    @pytest.mark.parametrize("value", LASTING, ids=lambda value: type(value).__name__)
    async def test_is_shared(self, value: Any) -> None:
        table = Table[str, Any]()
        table.insert("k", value)
        assert lasting(value)
        assert table["k"] is value
        assert Table[str, Any](values="immutable").insert("k", value) is None

    async def test_pids_and_references_and_tables_too(self) -> None:
        table = Table[str, Any]()
        for value in (current(), monitor(current()), table):
            assert lasting(value)
            table.insert("k", (value,))
            assert table["k"][0] is value

    @pytest.mark.parametrize("value", changing(), ids=lambda value: type(value).__name__)
    async def test_what_does_not_is_copied_on_the_way_in_and_on_the_way_out(self, value: Any) -> None:
        table = Table[str, Any]()
        table.insert("k", value)
        first, second = table["k"], table["k"]
        for one, other in ((first, value), (first, second)):
            assert type(one) is type(other)
            shared = {id(part) for part in parts(one)} & {id(part) for part in parts(other)}
            assert [part for part in parts(one) if id(part) in shared and not lasting(part)] == []

    @pytest.mark.parametrize("value", changing(), ids=lambda value: type(value).__name__)
    async def test_what_does_not_is_refused_by_an_immutable_table(self, value: Any) -> None:
        table = Table[str, Any](values="immutable")
        for insert in (table.insert, table.insert_new, lambda key, value: table.insert_many({key: value})):
            with pytest.raises(TypeError, match=r'values="immutable" takes only what can not change.*Got: '):
                insert("k", value)
        assert len(table) == 0

    async def test_the_part_that_changes_is_named(self) -> None:
        with pytest.raises(TypeError, match=r"Got: \[1\], a list in \('a', Frozen\(value=\[1\]\)\)"):
            Table[str, Any](values="immutable").insert("k", ("a", Frozen([1])))

    @pytest.mark.parametrize("value", changing(), ids=lambda value: type(value).__name__)
    async def test_a_shared_table_hands_out_the_object_itself(self, value: Any) -> None:
        table = Table[str, Any](values="shared")
        table.insert("k", value)
        assert table["k"] is value

    @pytest.mark.parametrize("value", [threading.Lock(), (threading.Lock(),), [(i for i in ())]], ids=lambda value: type(value).__name__)
    async def test_what_cannot_be_copied_is_refused_with_what_to_do(self, value: Any) -> None:
        table = Table[str, Any]()
        with pytest.raises(TypeError, match=r'no copy of it can be made.*values="shared"'):
            table.insert("k", value)
        assert len(table) == 0

    def test_a_flat_container_is_copied_flatly(self) -> None:
        for value, flat in (({"a": 1}, True), ([(1, 2)], True), ({"a": [1]}, False), ([[1]], False)):
            box = copied(value)
            assert isinstance(box, Box)
            assert (box._copier.__class__.__name__ == "methodcaller") is flat

    async def test_a_circle_is_copied_as_one(self) -> None:
        table, circle = Table[str, Any](), list[Any]()
        circle.append(circle)
        table.insert("k", circle)
        found = table["k"]
        assert found is not circle
        assert found[0] is found

    async def test_a_broken_equality_hurts_only_who_asks_for_it(self) -> None:
        class Broken:
            def __eq__(self, other: object) -> bool:
                raise ZeroDivisionError

            __hash__ = None  # type: ignore[assignment]

        table = Table[str, Any](kind="bag")
        table.insert("k", Broken())
        with pytest.raises(ZeroDivisionError):
            table.insert("k", Broken())
        assert (len(table), len(table.lookup("k"))) == (1, 1)


#: Every way to get a value out of a table.
WAYS_OUT: list[Callable[[Table[str, Any]], Any]] = [
    lambda t: t["k"],
    lambda t: t.get("k"),
    lambda t: t.lookup("k")[0],
    lambda t: t.to_list()[0][1],
    lambda t: next(t.items())[1],
    lambda t: t.select()[0][1],
    lambda t: t.select(limit=1)[0][1],
    lambda t: t.select(give=lambda key, value: value)[0],
    lambda t: seen_by(lambda see: t.select(see)),
    lambda t: seen_by(lambda see: t.select_count(see)),
    lambda t: seen_by(lambda see: t.select_delete(lambda k, v: see(k, v) or False)),
    lambda t: seen_by(lambda see: t.select_replace(lambda k, v: 1, lambda k, v: see(k, v) or False)),
    lambda t: t.foldl(lambda acc, key, value: value, None),
    lambda t: t.foldr(lambda acc, key, value: value, None),
    lambda t: (t.take("k"), t.insert("k", ORIGINAL))[0][0],
]
ORIGINAL = {"list": [1, {"deep": {1}}], "pair": Pair([1], Open(2, [3]))}


def seen_by(run: Callable[[Callable[[str, Any], Any]], Any]) -> Any:
    seen: list[Any] = []
    run(lambda key, value: seen.append(value))
    return seen[0]


def spoil(value: Any) -> None:
    """Change all that can be changed."""
    for part in parts(value):
        match part:
            case list():
                part.append("spoilt")
            case dict():
                part["spoilt"] = True
            case set():
                part.add("spoilt")
            case Open():
                part.value = "spoilt"


class TestIsolation:
    @pytest.mark.parametrize("kind", ["set", "ordered_set"])
    @pytest.mark.parametrize("way", range(len(WAYS_OUT)))
    async def test_what_came_out_may_be_spoilt(self, kind: Any, way: int) -> None:
        table = Table[str, Any](kind=kind)
        table.insert("k", ORIGINAL)
        pristine = repr(ORIGINAL)
        spoil(WAYS_OUT[way](table))
        assert repr(ORIGINAL) == pristine
        assert repr(table["k"]) == pristine

    async def test_what_goes_in_may_be_spoilt_afterwards(self) -> None:
        for insert in (
            lambda t, v: t.insert("k", v),
            lambda t, v: t.insert_new("k", v),
            lambda t, v: t.insert_many([("k", v)]),
            lambda t, v: t.insert_new_many({"k": v}),
            lambda t, v: (t.insert("k", 1), t.select_replace(lambda key, value: v)),
            lambda t, v: (t.insert("k", {"list": 0, "n": 0}), t.update_element("k", v)),
            lambda t, v: t.update_counter("k", at="n", default=v),
        ):
            table, value = Table[str, Any](), {"list": [1], "n": 0}
            insert(table, value)
            before = repr(table["k"])
            spoil(value)
            assert repr(table["k"]) == before

    @settings(max_examples=200, deadline=None)
    @given(
        st.recursive(
            st.none() | st.integers() | st.text(max_size=3),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.text(max_size=2), inner, max_size=3)
                | st.tuples(inner, inner)
                | st.builds(Frozen, inner)
                | st.builds(Open, inner)
                | st.builds(Pair, inner, inner)
            ),
            max_leaves=12,
        )
    )
    def test_any_value(self, value: Any) -> None:
        box = copied(value)
        assert isinstance(box, Box) is not lasting(value)
        if isinstance(box, Box):
            before = repr(value)
            out = box.copy()
            assert out == value == box.value
            spoil(out)
            spoil(value)
            assert repr(box.value) == repr(box.copy()) == before
