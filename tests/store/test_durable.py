"""What survives the store's process: data, events, schemas; and how older data becomes today's. On every durable engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from beamish import KILL, StartError, exit, store, supervise
from beamish.store import CommitUnknown, Engine, Store, StoreClosed, WrongSchema, table_of
from storing import SHOP, TABLES, Account, Counter, Tag, Thing, durable, fill, open_shop

Make = Callable[[], Engine]
THING = Thing(b"\0", 1, float("inf"), "ä", True, b"\xff", (1, b"x"), {1: [2]})


pytestmark = durable


async def test_data_and_events_are_there_after_a_restart(engine: Make) -> None:
    async with open_shop(engine()) as shop:
        await fill(shop, Account(1, "a", 5), Account(2, "b"), Tag(1, "y"), Tag(1, "x"), THING)
        await shop.dirty_delete(Account, 2)
    async with open_shop(engine()) as shop:
        assert await shop.dirty_query(Account) == [Account(1, "a", 5)]
        assert await shop.dirty_query(Account, index="owner", key="a") == [Account(1, "a", 5)]
        assert await shop.dirty_read_all(Tag, 1) == [Tag(1, "y"), Tag(1, "x")]
        assert await shop.dirty_read(Thing, b"\0") == THING
        assert await shop.position() == 6
        events = await shop.subscribe(from_=3)
        await fill(shop, Counter("new"))
        found = [await anext(events) for _ in range(4)]
        assert [one.position for one in found] == [4, 5, 6, 7]
        assert [one.record for one in found] == [Tag(1, "x"), THING, None, Counter("new")]


async def test_a_killed_store_is_started_again_by_its_supervisor_with_all_it_had(engine: Make) -> None:
    async with open_shop(engine()) as shop:
        await fill(shop, Account(1, "a"))
    async with supervise([SHOP.child_spec(engine=engine(), tables=TABLES)], max_restarts=10):
        events = await SHOP.subscribe(from_=0)
        await anext(events)
        for n in range(2, 5):
            tx = SHOP.transaction()
            open_one = await tx.__aenter__()
            open_one.write(Account(99, "lost"))
            writing = asyncio.ensure_future(SHOP.dirty_write(Account(n, "b")))
            await writing
            pid = SHOP.pid()
            assert pid is not None
            exit(pid, KILL)
            with pytest.raises(StoreClosed):
                await tx.__aexit__(None, None, None)
            await SHOP.started()
            assert await SHOP.dirty_read(Account, n) == Account(n, "b")
        with pytest.raises(StoreClosed, match="position 1"):
            while True:
                assert (await anext(events)).position > 0
        assert [one.id for one in await SHOP.dirty_query(Account)] == [1, 2, 3, 4]


async def test_a_commit_in_the_moment_of_the_kill_is_there_or_not(engine: Make) -> None:
    async with supervise([SHOP.child_spec(engine=engine(), tables=TABLES)], max_restarts=10):
        for n in range(5):
            writing = [asyncio.ensure_future(SHOP.transaction(_pair, n * 100 + k)) for k in range(10)]
            for _ in range(n + 1):
                await asyncio.sleep(0)
            pid = SHOP.pid()
            assert pid is not None
            exit(pid, KILL)
            results = await asyncio.gather(*writing, return_exceptions=True)
            assert all(one is None or isinstance(one, StoreClosed | CommitUnknown) for one in results), results
            await SHOP.started()
            for k, result in enumerate(results):
                key = n * 100 + k
                one, other = await SHOP.dirty_read(Account, key), await SHOP.dirty_read(Counter, str(key))
                assert (one is None) == (other is None)
                if result is None:
                    assert one is not None
                if isinstance(result, StoreClosed):
                    assert one is None


async def _pair(tx: store.Transaction, key: int) -> None:
    tx.write(Account(key, "x"))
    tx.write(Counter(str(key)))


def _grown(fields: dict[str, Any]) -> dict[str, Any]:
    return {"id": str(fields["id"]), "name": fields["owner"].title(), "tags": [fields["balance"]]}


@store.record(key="id", indexes=("name",), name="Account", version=2, migrations={1: _grown})
@dataclass(frozen=True)
class Account2:
    id: str
    name: str
    tags: list[int]


@store.record(key="id", name="Account", version=3, migrations={1: _grown, 2: lambda old: {"id": old["id"], "n": len(old["tags"])}})
@dataclass(frozen=True)
class Account3:
    id: str
    n: int | None


@store.record(key="id", name="Account", version=3)
@dataclass(frozen=True)
class NoWay:
    id: str


@store.record(key="id", name="Account")
@dataclass(frozen=True)
class SameVersion:
    id: int
    owner: str
    balance: str


@store.record(key="id", name="Account", version=2, migrations={1: lambda old: {"id": old["balance"], "n": 1}})
@dataclass(frozen=True)
class SameKeys:
    id: int
    n: int


@store.record(key="id", name="Account", version=2, migrations={1: lambda old: {"id": old["nope"], "n": 1}})
@dataclass(frozen=True)
class Failing:
    id: int
    n: int


async def test_an_engine_object_belongs_to_one_store(engine: Make) -> None:
    used = engine()
    async with open_shop(used) as shop:
        with pytest.raises(StartError, match="give each store one of its own"):
            await Store("second").start(engine=used, tables=TABLES)
        await fill(shop, Account(1, "a"))
    async with open_shop(used) as shop:
        assert await shop.dirty_read(Account, 1) == Account(1, "a")


class TestMigrations:
    async def test_older_data_becomes_todays_events_too(self, engine: Make) -> None:
        async with open_shop(engine()) as shop:
            await fill(shop, Account(1, "ann", 5), Account(20, "bob", 6))
        async with open_shop(engine(), [Account2, Counter]) as shop:
            assert await shop.dirty_query(Account2) == [Account2("1", "Ann", [5]), Account2("20", "Bob", [6])]
            assert await shop.dirty_query(Account2, index="name", key="Bob") == [Account2("20", "Bob", [6])]
            events = await shop.subscribe(Account2, from_=0)
            assert (await anext(events)).record == Account2("1", "Ann", [5])
            await fill(shop, Account2("3", "Eve", []))
        async with open_shop(engine(), [Account3]) as shop:
            assert await shop.dirty_query(Account3) == [Account3("1", 1), Account3("20", 1), Account3("3", 0)]
            events = await shop.subscribe(Account3, from_=0)
            assert [(await anext(events)).record for _ in range(3)] == [Account3("1", 1), Account3("20", 1), Account3("3", 0)]

    async def test_two_versions_at_once(self, engine: Make) -> None:
        async with open_shop(engine()) as shop:
            await fill(shop, Account(1, "ann", 5))
        async with open_shop(engine(), [Account3]) as shop:
            assert await shop.dirty_query(Account3) == [Account3("1", 1)]

    @pytest.mark.parametrize(
        ("table", "says"),
        [
            (NoWay, "needs migrations={1: fn}"),
            (SameVersion, "but under the same version 1"),
            (SameKeys, "two records have the key 5"),
            (Failing, "could not be migrated: KeyError"),
        ],
    )
    async def test_data_that_does_not_fit_is_left_as_it_is(self, engine: Make, table: type[Any], says: str) -> None:
        async with open_shop(engine()) as shop:
            await fill(shop, Account(1, "ann", 5), Account(2, "bob", 5))
        with pytest.raises(StartError) as caught:
            await SHOP.start(engine=engine(), tables=[table, Counter])
        assert isinstance(caught.value.__cause__, WrongSchema)
        assert says in str(caught.value.__cause__)
        async with open_shop(engine()) as shop:
            assert await shop.dirty_query(Account) == [Account(1, "ann", 5), Account(2, "bob", 5)]

    async def test_an_older_program_leaves_newer_data_alone(self, engine: Make) -> None:
        async with open_shop(engine(), [Account2]) as shop:
            await fill(shop, Account2("1", "Ann", []))
        with pytest.raises(StartError, match="version 2, this program declares version 1"):
            await SHOP.start(engine=engine(), tables=[Account])

    async def test_indexes_come_and_go_without_a_version(self, engine: Make) -> None:
        fields = {"__annotations__": {"id": int, "owner": str, "balance": int}}
        plain: Any = store.record(key="id", name="Account")(dataclass(frozen=True)(type("Plain", (), dict(fields))))
        async with open_shop(engine(), [plain]) as shop:
            await fill(shop, plain(1, "ann", 5))
        async with open_shop(engine(), [Account]) as shop:
            assert await shop.dirty_query(Account, index="owner", key="ann") == [Account(1, "ann", 5)]
        async with open_shop(engine(), [plain]) as shop:
            assert await shop.dirty_query(plain) == [plain(1, "ann", 5)]

    async def test_a_table_that_is_not_named_stays(self, engine: Make) -> None:
        async with open_shop(engine()) as shop:
            await fill(shop, Account(1, "ann"), Counter("x"))
        async with open_shop(engine(), [Account]) as shop:
            await fill(shop, Account(2, "bob"))
            events = await shop.subscribe(from_=0)
            assert [(await anext(events)).position for _ in range(2)] == [1, 3]
        async with open_shop(engine()) as shop:
            assert await shop.dirty_read(Counter, "x") == Counter("x")
            assert table_of(Account).version == 1
