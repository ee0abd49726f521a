"""Any mixture of transactions, nested ones, queries, restarts, backups and subscriptions, against plain dicts; on every engine."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from beamish.store import Aborted, Event, Store, Subscription, Transaction
from beamish.testing import World
from storing import ENGINES, SHOP, Account, Counter, Kind, Tag

T = TypeVar("T")

KEYS = st.integers(0, 4)
RECORDS = st.one_of(
    st.builds(Account, KEYS, st.sampled_from("ab"), st.integers(0, 3)),
    st.builds(Counter, st.sampled_from("xyz"), st.integers(0, 3)),
    st.builds(Tag, KEYS, st.sampled_from("vw")),
)
STEPS = st.one_of(
    st.tuples(st.just("write"), RECORDS),
    st.tuples(st.just("delete"), RECORDS),
    st.tuples(st.just("delete_record"), st.builds(Tag, KEYS, st.sampled_from("vw"))),
    st.tuples(st.just("count"), st.sampled_from("xyz")),
)
#: A transaction: steps, and nested transactions as (their steps, whether they abort).
PLANS = st.lists(st.one_of(STEPS, st.tuples(st.lists(STEPS, max_size=3), st.booleans())), max_size=6)
KEY = {Account: "id", Counter: "name", Tag: "post"}

Rows = dict[tuple[type, Any], list[Any]]


def key_of(record: Any) -> Any:
    return getattr(record, KEY[type(record)])


class Model:
    """All records, in lists by table and key."""

    def __init__(self, rows: Rows | None = None) -> None:
        self.rows: Rows = {place: list(records) for place, records in (rows or {}).items()}

    def do(self, step: Any) -> None:
        what, value = step
        if what == "count":
            before = self.rows.get((Counter, value), [Counter(value, 0)])[0]
            self.do(("write", Counter(value, before.n + 1)))
            return
        place = type(value), key_of(value)
        here = self.rows.setdefault(place, [])
        if what == "write" and type(value) is not Tag:
            here[:] = [value]
        elif what == "write":
            here.append(value) if value not in here else None
        elif what == "delete":
            here.clear()
        elif value in here:
            here.remove(value)
        if not here:
            del self.rows[place]

    def table(self, cls: type) -> list[Any]:
        found = [record for (kind, _), records in self.rows.items() for record in records if kind is cls]
        return sorted(found, key=key_of)


class Stores(RuleBasedStateMachine):
    kind: Kind

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.model, self.replayed, self.saved = Model(), Model(), None
        self.position = 0
        self.shop: Store = SHOP

    def run(self, work: Awaitable[T]) -> T:
        return self.loop.run_until_complete(work)

    @initialize()
    def begin(self) -> None:
        async def begin() -> None:
            self.world = World()
            await self.world.__aenter__()
            await self.start()

        self.run(begin())

    async def start(self) -> None:
        engine = self.kind.make(Path(self.folder.name))
        await SHOP.start_link(engine=engine, tables=[Account, Counter, Tag])
        self.counters = await SHOP.ram(Counter)
        self.events: Subscription[Any] = await SHOP.subscribe(from_=self.position)

    def teardown(self) -> None:
        async def end() -> None:
            await SHOP.stop()
            await self.world.__aexit__(None, None, None)

        if hasattr(self, "world"):
            self.run(end())
        self.loop.close()
        self.folder.cleanup()

    # -- what is done

    @rule(plan=PLANS, aborts=st.sampled_from([False, False, False, True]))
    def transaction(self, plan: list[Any], aborts: bool) -> None:
        model = Model(self.model.rows)

        async def run(tx: Transaction) -> None:
            for one in plan:
                if isinstance(one[0], str):
                    await self.step(tx, model, one)
                    continue
                steps, inner_aborts = one
                before = Model(model.rows)
                try:
                    async with tx.nested() as inner:
                        for step in steps:
                            await self.step(inner, model, step)
                        if inner_aborts:
                            inner.abort("inner")
                except Aborted:
                    model.rows = before.rows
                await self.same(tx, model)
            if aborts:
                tx.abort("outer")

        try:
            self.run(SHOP.transaction(run))
        except Aborted:
            return
        self.model = model

    async def step(self, tx: Transaction, model: Model, step: Any) -> None:
        what, value = step
        model.do(step)
        if what == "write":
            tx.write(value)
        elif what == "delete":
            tx.delete(type(value), key_of(value))
        elif what == "delete_record":
            tx.delete_record(value)
        else:
            assert await tx.update_counter(Counter, value) == model.rows[Counter, value][0].n

    async def same(self, tx: Transaction, model: Model) -> None:
        for cls in (Account, Counter, Tag):
            found: list[Any] = await tx.query(cls)
            assert sorted(map(repr, found)) == sorted(map(repr, model.table(cls)))
        for key in range(5):
            assert await tx.read_all(Tag, key) == model.rows.get((Tag, key), [])

    @rule(low=KEYS, high=KEYS, owner=st.sampled_from("abc"), limit=st.integers(0, 3), reverse=st.booleans())
    def query(self, low: int, high: int, owner: str, limit: int, reverse: bool) -> None:
        every = self.model.table(Account)
        wanted = [one for one in every if low <= one.id < high]
        found = self.run(SHOP.dirty_query(Account, low=low, high=high, limit=limit, reverse=reverse))
        assert found == (wanted[::-1] if reverse else wanted)[:limit]
        assert self.run(SHOP.dirty_query(Account, index="owner", key=owner)) == [one for one in every if one.owner == owner]
        by_balance = sorted(every, key=lambda one: (one.balance, one.id))
        assert self.run(SHOP.dirty_query(Account, index="balance", limit=limit)) == by_balance[:limit]

    @precondition(lambda self: self.kind.durable)
    @rule()
    def restart(self) -> None:
        async def again() -> None:
            await SHOP.stop()
            await self.start()

        self.run(again())

    @rule()
    def backup(self) -> None:
        self.follow()  # a "restore" event that is still to come means the backup of before
        assert self.run(SHOP.backup(Path(self.folder.name) / "backup")) == sum(map(len, self.model.rows.values()))
        self.saved = Model(self.model.rows)

    @precondition(lambda self: self.saved is not None)
    @rule()
    def restore(self) -> None:
        assert self.saved is not None
        self.run(SHOP.restore(Path(self.folder.name) / "backup"))
        self.model = Model(self.saved.rows)

    @rule()
    def follow(self) -> None:
        """What a subscriber makes of the events is what is there."""

        async def take() -> None:
            end = await SHOP.position()
            while self.position < end:
                event: Event[Any] = await anext(self.events)
                assert event.position == self.position + 1
                self.position = event.position
                if event.op == "restore":
                    restored = self.saved.rows if self.saved is not None else {}
                    kept = {place: rows for place, rows in self.replayed.rows.items() if place[0] is not event.table}
                    self.replayed = Model(kept | {place: rows for place, rows in restored.items() if place[0] is event.table})
                elif event.op == "delete":
                    self.replayed.rows.pop((event.table, event.key), None)
                else:
                    self.replayed.do((event.op, event.record))

        self.run(take())
        assert self.replayed.rows == self.model.rows

    @invariant()
    def all_is_there(self) -> None:
        if not hasattr(self, "world"):
            return
        for cls in (Account, Counter):
            assert self.run(SHOP.dirty_query(cls)) == self.model.table(cls)
        for key in range(5):
            assert self.run(SHOP.dirty_read_all(Tag, key)) == self.model.rows.get((Tag, key), [])
        assert sorted(self.counters.values(), key=key_of) == self.model.table(Counter)


@pytest.mark.parametrize("name", list(ENGINES))
def test_a_store_is_what_plain_dicts_say(name: str) -> None:
    kind = ENGINES[name]

    class Machine(Stores):
        pass

    Machine.kind = kind
    examples = 40 if name != "postgres" else 8
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        Machine,
        settings=settings(max_examples=examples, stateful_step_count=20, deadline=None, suppress_health_check=checks, database=None),
    )
