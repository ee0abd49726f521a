"""Tables against a plain list of objects: any mixture of verbs, in each kind, with owners that give away and end."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

import beamish._ets_order as order
from beamish import KILL, ets, exit, receive, spawn
from beamish._ets_order import rank
from beamish.ets import Incr, NoAccess, NoKey, NoTable, Table, Transfer
from beamish.testing import World, capture_crashes, settle

T = TypeVar("T")
KEYS: list[Any] = [0, 1, 2.5, 3, -1, "a", "b", "", b"b", None, (1, "a"), (1, 2), ()]
VALUES: list[Any] = [0, 1, 7, "x", (1, 2), (2, "y"), [1], [1, [2]], {"a": 1}, None]
keys, values = st.sampled_from(KEYS), st.sampled_from(VALUES)
pairs = st.lists(st.tuples(keys, values), max_size=4)
bounds = st.none() | st.sampled_from([*KEYS, 2, 99, "ab"])
inclusives = st.sampled_from(["low", "high", "both", "neither"])


def inside(step: Callable[..., None]) -> Callable[..., None]:
    """A step as code of the event loop, to which the table belongs."""

    @functools.wraps(step)
    def run(self: Tables, **given: Any) -> None:
        async def there() -> None:
            step(self, **given)

        self.run(there())

    return run


class Tables(RuleBasedStateMachine):
    """The model: `rows`, the objects in the order of insertion, in a dict of lists."""

    table: Table[Any, Any]

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.reports = capture_crashes()
        self.reports.__enter__()
        self.load, order.LOAD = order.LOAD, 4  # many chunks of few keys

    def run(self, work: Awaitable[T]) -> T:
        return self.loop.run_until_complete(work)

    @initialize(kind=st.sampled_from(["set", "ordered_set", "bag", "duplicate_bag"]), access=st.sampled_from(["protected", "public"]))
    def start(self, kind: Any, access: Any) -> None:
        self.kind, self.public = kind, access == "public"
        self.many, self.ordered = kind not in ("set", "ordered_set"), kind == "ordered_set"
        self.rows: dict[Any, list[Any]] = {}

        async def begin() -> None:
            self.world = World()
            await self.world.__aenter__()
            self.table = Table("t", kind=kind, access=access)

        self.run(begin())

    def teardown(self) -> None:
        order.LOAD = self.load
        if hasattr(self, "world"):
            self.run(self.world.__aexit__(None, None, None))
        self.loop.close()
        self.reports.__exit__(None, None, None)

    def row(self) -> list[Any]:
        return sorted(self.rows, key=rank) if self.ordered else list(self.rows)

    def objects(self) -> list[tuple[Any, Any]]:
        return [(key, value) for key in self.row() for value in self.rows[key]]

    def put(self, key: Any, value: Any) -> None:
        if not self.many:
            self.rows[key] = [value]
        elif self.kind == "duplicate_bag" or value not in self.rows.get(key, []):
            self.rows.setdefault(key, []).append(value)

    def drop(self, key: Any, value: Any) -> None:
        self.rows[key].remove(value)
        if not self.rows[key]:
            del self.rows[key]

    def between(self, low: Any, high: Any, inclusive: str) -> list[tuple[Any, Any]]:
        def inside(key: Any) -> bool:
            above = low is None or rank(low) < rank(key) or (rank(low) == rank(key) and inclusive in ("low", "both"))
            below = high is None or rank(key) < rank(high) or (rank(key) == rank(high) and inclusive in ("high", "both"))
            return above and below

        return [(key, value) for key, value in self.objects() if inside(key)]

    # -- writing

    @rule(key=keys, value=values)
    @inside
    def insert(self, key: Any, value: Any) -> None:
        self.table.insert(key, value)
        self.put(key, value)

    @rule(objects=pairs, bad=st.booleans())
    @inside
    def insert_many(self, objects: list[Any], bad: bool) -> None:
        if bad:
            try:
                self.table.insert_many([*objects, ([], 1)])
            except TypeError:
                return
            raise AssertionError
        self.table.insert_many(objects)
        for key, value in objects:
            self.put(key, value)

    @rule(objects=pairs)
    @inside
    def insert_new(self, objects: list[Any]) -> None:
        new = not any(key in self.rows for key, _ in objects)
        assert self.table.insert_new_many(objects) is new
        for key, value in objects if new else ():
            self.put(key, value)

    @rule(key=keys, value=values)
    @inside
    def insert_new_one(self, key: Any, value: Any) -> None:
        assert self.table.insert_new(key, value) is (key not in self.rows)
        self.rows.setdefault(key, [value])

    @rule(key=keys)
    @inside
    def take(self, key: Any) -> None:
        assert self.table.take(key) == self.rows.pop(key, [])

    @rule(key=keys)
    @inside
    def delete(self, key: Any) -> None:
        self.table.delete(key)
        self.rows.pop(key, None)

    @rule(key=keys, value=values)
    @inside
    def delete_object(self, key: Any, value: Any) -> None:
        self.table.delete_object(key, value)
        for one in [one for one in self.rows.get(key, []) if one == value]:
            self.drop(key, one)

    @precondition(lambda self: len(self.rows) > 6)
    @rule()
    @inside
    def delete_all(self) -> None:
        self.table.delete_all_objects()
        self.rows = {}

    @precondition(lambda self: not self.many)
    @rule(key=keys, incr=st.integers(-3, 3), threshold=st.none() | st.integers(-2, 5), default=st.none() | st.integers(0, 2))
    @inside
    def count(self, key: Any, incr: int, threshold: int | None, default: int | None) -> None:
        set_to = None if threshold is None else 0
        extra: Any = {} if default is None else {"default": default}
        old = self.rows[key][0] if key in self.rows else default
        try:
            found = self.table.update_counter(key, incr, threshold=threshold, set_to=set_to, **extra)
        except NoKey:
            assert old is None
            assert key not in self.rows
        except TypeError:
            assert type(old) is not int
        else:
            new = old + incr
            if threshold is not None and (new > threshold if incr >= 0 else new < threshold):
                new = 0
            assert found == new
            self.rows[key] = [new]

    @precondition(lambda self: not self.many)
    @rule(key=keys, ats=st.lists(st.sampled_from([0, 1, "a"]), max_size=3))
    @inside
    def count_parts(self, key: Any, ats: list[Any]) -> None:
        try:
            found = self.table.update_counter(key, [Incr(1, at=at) for at in ats])
        except (NoKey, TypeError, ValueError):
            return
        value, results = self.rows[key][0], []
        for at in ats:
            new = value[at] + 1
            results.append(new)
            value = {**value, at: new} if isinstance(value, dict) else type(value)([*value[:at], new, *value[at + 1 :]])
        assert found == results
        self.rows[key] = [value]

    @rule(low=bounds, high=bounds, inclusive=inclusives, only=st.sampled_from([int, list, object]))
    @inside
    def select_delete(self, low: Any, high: Any, inclusive: Any, only: type) -> None:
        gone = [(key, value) for key, value in self.between(low, high, inclusive) if isinstance(value, only)][:5]
        left = list(gone)

        def where(key: Any, value: Any) -> bool:
            if (key, value) in left:
                left.remove((key, value))
                return True
            return False

        assert self.table.select_delete(where, low=low, high=high, inclusive=inclusive) == len(gone)
        for key, value in gone:
            self.drop(key, value)

    @precondition(lambda self: not self.many)
    @rule(low=bounds, high=bounds)
    @inside
    def select_replace(self, low: Any, high: Any) -> None:
        found = self.between(low, high, "low")
        assert self.table.select_replace(lambda key, value: [str(value)[:9], key], low=low, high=high) == len(found)
        for key, value in found:
            self.rows[key] = [[str(value)[:9], key]]

    # -- life

    @rule(name=st.sampled_from(["t", "u", None]))
    @inside
    def rename(self, name: str | None) -> None:
        self.table.rename(name)
        assert [ets.whereis(one) is self.table for one in ("t", "u")] == [one == name for one in ("t", "u")]

    @rule(inherit=st.booleans())
    def another_owner(self, inherit: bool) -> None:
        """It is given to a process that ends, inherited or not, gone in the end, and made again."""
        self.run(self._another_owner(inherit))

    async def _another_owner(self, inherit: bool) -> None:
        async def keep() -> None:
            await receive(Transfer)
            await receive("for ever")

        heir, owner = spawn(keep), spawn(keep)
        await settle()
        self.table.set_heir(heir if inherit else None, "data")
        self.table.give_away(owner, "gift")
        await settle()
        before = self.table.to_list()
        exit(owner, KILL)
        info = self.table.info()
        if inherit:
            assert info is not None
            assert (info.owner, self.table.to_list()) == (heir, before)
        exit(heir, KILL)
        assert self.table.info() is None
        assert ets.tables() == []
        try:
            self.table.lookup(1)
        except NoTable:
            pass
        else:
            raise AssertionError
        self.table = Table("t", kind=self.kind, access="public" if self.public else "protected")
        self.table.insert_many(before)

    @rule(key=keys)
    def a_stranger_writes(self, key: Any) -> None:
        found: list[Any] = []

        def write() -> None:
            try:
                self.table.insert(key, 1)
            except NoAccess as error:
                found.append(error)

        async def there() -> None:
            spawn(write)
            await settle()

        self.run(there())
        assert len(found) == (not self.public)
        if self.public:
            self.put(key, 1)

    # -- what must be so

    @rule(low=bounds, high=bounds, inclusive=inclusives, limit=st.integers(1, 4))
    @inside
    def ranges(self, low: Any, high: Any, inclusive: Any, limit: int) -> None:
        wanted = self.between(low, high, inclusive)
        found = self.table.select(low=low, high=high, inclusive=inclusive)
        assert found == wanted
        keyed = [key for key, _ in self.table.select(low=low, high=high, inclusive=inclusive, reverse=True)]
        assert keyed == [key for key, _ in wanted][::-1]
        page, pages = self.table.select(low=low, high=high, inclusive=inclusive, limit=limit), []
        while page:
            pages.append(page)
            page = page.next()
        assert [one for page in pages for one in page] == wanted
        assert all(len(page) == limit for page in pages[:-1])
        assert self.table.select_count(low=low, high=high, inclusive=inclusive) == len(wanted)

    @rule(key=st.sampled_from([*KEYS, 2, "zz"]))
    @inside
    def neighbours(self, key: Any) -> None:
        row = self.row()
        if self.ordered:
            assert self.table.next(key, "end") == next((one for one in row if rank(one) > rank(key)), "end")
            assert self.table.prev(key, "end") == next((one for one in row[::-1] if rank(one) < rank(key)), "end")
        elif key in self.rows:
            place = [one for one, _ in self.table.to_list()]
            assert self.table.next(key, "end") in [*place, "end"]

    @invariant()
    @inside
    def agrees(self) -> None:
        if not hasattr(self, "table"):
            return
        table, objects = self.table, self.objects()
        assert table.to_list() == list(table.items()) == objects
        assert list(table) == self.row()
        assert len(table) == len(objects)
        assert [table.lookup(key) for key in KEYS] == [self.rows.get(key, []) for key in KEYS]
        assert [key in table for key in KEYS] == [key in self.rows for key in KEYS]
        walked, key = [], table.first("end")
        while key != "end":
            walked.append(key)
            key = table.next(key, "end")
        assert walked == self.row()
        walked, key = [], table.last("end")
        while key != "end":
            walked.append(key)
            key = table.prev(key, "end")
        assert walked == self.row()[::-1]
        assert table.foldr(lambda acc, key, value: [*acc, value], []) == [value for key in self.row()[::-1] for value in self.rows[key]]


def test_a_table_agrees_with_a_plain_list() -> None:
    run_state_machine_as_test(Tables, settings=settings(max_examples=80, stateful_step_count=30, deadline=None))
