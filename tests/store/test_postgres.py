"""The PostgreSQL engine's own: several programs on one database, the order of events, names, large things, schemas."""

from __future__ import annotations

import asyncio
import math
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, make_dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import postgres
from beamish import StartError, store
from beamish.store import CannotOpen, Event, Store, StoreFailed, Subscription, Transaction, WrongSchema
from beamish.testing import ManualClock
from storing import SHOP, TABLES, Account, Counter, Session, Tag, Thing, fill

WHY = postgres.missing()
pytestmark = [pytest.mark.skipif(WHY is not None, reason=str(WHY)), pytest.mark.timeout(60)]
if WHY is None:
    from beamish.store.postgres import Postgres


@pytest.fixture
def schema(tmp_path: Path) -> str:
    return postgres.schema_of(tmp_path)


@pytest.fixture
def url() -> str:
    return postgres.shared().url("shared")


@asynccontextmanager
async def watched(url: str) -> AsyncIterator[Any]:
    """A connection that looks from outside."""
    import psycopg

    connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def stores(url: str, schema: str, count: int, tables: list[type[Any]] | None = None, **options: Any) -> AsyncIterator[list[Store]]:
    """So many programs, as it were: each has an engine and a store of its own."""
    async with AsyncExitStack() as stack:
        found = []
        for _ in range(count):
            one = await Store.start_link(engine=Postgres(url, schema=schema, **options), tables=tables or TABLES)
            stack.push_async_callback(one.stop)
            found.append(one)
        yield found


async def take(events: Subscription[Any], count: int) -> list[Event[Any]]:
    return [await anext(events) for _ in range(count)]


async def one_more(tx: Transaction, name: str = "x") -> int:
    return await tx.update_counter(Counter, name)


class TestSeveralPrograms:
    async def test_they_have_the_same_records_and_events(self, url: str, schema: str) -> None:
        async with stores(url, schema, 3) as [one, other, third]:
            followed = [await each.subscribe() for each in (one, other, third)]
            copies = [await each.ram(Counter) for each in (one, other, third)]
            await asyncio.gather(*(each.transaction(one_more) for each in (one, other, third) for _ in range(10)))
            seen = [await take(events, 30) for events in followed]
            assert seen[0] == seen[1] == seen[2]
            assert [event.position for event in seen[0]] == list(range(1, 31))
            assert [event.record.n for event in seen[0]] == list(range(1, 31))
            for each, copy in zip((one, other, third), copies, strict=True):
                assert await each.position() == 30
                while copy["x"].n < 30:  # noqa: ASYNC110
                    await asyncio.sleep(0)  # noqa: ASYNC110, RUF100

    async def test_they_open_a_new_schema_at_the_same_moment(self, url: str, schema: str) -> None:
        opened = await asyncio.gather(*(Store.start_link(engine=Postgres(url, schema=schema), tables=TABLES) for _ in range(6)))
        await opened[0].dirty_write(Account(1, "ann"))
        assert [await one.dirty_read(Account, 1) for one in opened] == [Account(1, "ann")] * 6
        for one in opened:
            await one.stop()

    async def test_one_hot_record_of_many_writers(self, url: str, schema: str) -> None:
        """All get through, and none gives up after a hundred runs."""
        async with stores(url, schema, 2) as [one, other]:
            await asyncio.gather(*(each.transaction(one_more) for each in (one, other) for _ in range(40)))
            assert await one.dirty_read(Counter, "x") == Counter("x", 80)

    async def test_a_newer_program_changes_a_table_while_an_older_one_runs(self, url: str, schema: str) -> None:
        async with stores(url, schema, 1, [Account, Thing]) as [older]:
            await fill(older, *(Account(n, "ann", n) for n in range(1500)), Thing(b"x"))
            with pytest.raises(StoreFailed, match="newer version of this program"):  # not: the table is empty
                async with older.transaction() as tx:
                    await tx.read(Thing, b"x")
                    async with stores(url, schema, 1, [NewAccount, Thing]) as [newer]:
                        assert await newer.dirty_read(NewAccount, 7) == NewAccount(7, "ANN", 7, "new")
                        await newer.dirty_write(NewAccount(8, "BOB", 8, "more"))
                        with pytest.raises(StoreFailed, match="newer version of this program"):
                            await tx.read(Account, 7)
            for attempt in (partial(older.dirty_read, Account, 7), partial(older.transaction, _touch)):
                with pytest.raises(StoreFailed, match="newer version of this program"):
                    await attempt()
            assert await older.dirty_read(Thing, b"x") == Thing(b"x")
        with pytest.raises(StartError) as caught:
            await SHOP.start(engine=Postgres(url, schema=schema), tables=[Account])
        assert isinstance(caught.value.__cause__, WrongSchema)
        assert "Run the newer program" in str(caught.value.__cause__)

    async def test_schemas_are_stores_of_their_own(self, url: str, schema: str) -> None:
        async with stores(url, schema, 1) as [one], stores(url, f'{schema} "two"; --', 1) as [other]:
            await one.dirty_write(Account(1, "ann"))
            assert await other.dirty_query(Account) == []
            assert await other.position() == 0


@store.record(
    key="id", indexes=("owner", "balance"), name="Account", version=2, migrations={1: lambda old: {**old, "owner": old["owner"].upper()}}
)
@dataclass(frozen=True, slots=True)
class NewAccount:
    id: int
    owner: str
    balance: int = 0
    note: str = "new"


async def _touch(tx: Transaction) -> None:
    tx.write(Account(7, "old"))


class TestOrder:
    async def test_who_commits_late_is_not_left_out(self, url: str, schema: str) -> None:
        """A transaction draws its number, another one commits and is seen, and then the first one commits."""
        async with stores(url, schema, 1) as [shop], watched(url) as late:
            events = await shop.subscribe()
            await late.execute("BEGIN")
            body = '[[0,"Account",1,[1,"late",0]],[0,"Account",1,[2,"late",0]]]'
            await late.execute(f"""INSERT INTO "{schema}"."#pending" (token, part, count, body) VALUES ('late', 0, 2, '{body}')""")
            await shop.dirty_write(Account(3, "early"))
            assert await anext(events) == Event(1, "write", Account, 3, Account(3, "early"))
            assert await shop.position() == 1
            await late.execute("COMMIT")
            assert await shop.position() == 3
            await shop.dirty_write(Account(4, "last"))
            found = await take(events, 3)
            assert [(one.position, one.key) for one in found] == [(2, 1), (3, 2), (4, 4)]

    async def test_what_notify_does_not_tell_is_found_by_looking(self, url: str, schema: str, clock: ManualClock) -> None:
        async with stores(url, schema, 1, poll=5.0) as [shop], watched(url) as other:
            events = await shop.subscribe()
            waiting = asyncio.ensure_future(anext(events))
            body = '[[0,"Account",1,[1,"quiet",0]]]'
            await other.execute(f"""INSERT INTO "{schema}"."#pending" (token, part, count, body) VALUES ('quiet', 0, 1, '{body}')""")
            await clock.advance(5.0)
            assert (await waiting).record == Account(1, "quiet")

    async def test_notify_wakes_without_looking(self, url: str, schema: str) -> None:
        async with stores(url, schema, 2, poll=900_000.0) as [one, other]:
            events = await other.subscribe()
            for number in range(3):
                await one.dirty_write(Account(number, "ann"))
                assert (await anext(events)).key == number

    async def test_a_reader_who_loses_its_connection_misses_nothing(self, url: str, schema: str) -> None:
        async with stores(url, schema, 2) as [one, other], watched(url) as look:
            events = await other.subscribe()
            for number in range(5):
                await look.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE %s", ("%LISTEN%",))
                await one.dirty_write(Account(number, "ann"))
                assert (await anext(events)).key == number

    async def test_a_large_transaction_is_side_by_side(self, url: str, schema: str) -> None:
        """More events than a row of the outbox takes, beside others that commit."""
        async with stores(url, schema, 1) as [shop]:
            events = await shop.subscribe()
            many = [fill(shop, *(Account(1000 * n + m, f"of {n}") for m in range(900))) for n in range(3)]
            few = [shop.dirty_write(Counter(str(n))) for n in range(20)]
            await asyncio.gather(*many, *few)
            seen = await take(events, 2720)
            assert [one.position for one in seen] == list(range(1, 2721))
            owners = [one.record.owner for one in seen if one.table is Account]
            assert sum(one != other for one, other in pairwise(owners)) == 2
            places = [n for n, one in enumerate(seen) if one.table is Counter]
            runs = [seen[n - 1].key for n in places if n and seen[n - 1].table is Account]
            assert {key % 1000 for key in runs} <= {899}  # a transaction's events are not interrupted

    async def test_a_backup_is_of_one_moment_though_commits_have_no_position_yet(self, url: str, schema: str) -> None:
        """What it holds, and the events after its position, make the present: nothing twice, nothing left out."""
        engine = Postgres(url, schema=schema)
        shop = await Store.start_link(engine=engine, tables=TABLES)
        stop = asyncio.Event()

        async def write(name: str) -> None:
            while not stop.is_set():
                await shop.transaction(one_more, name)

        writers = [asyncio.ensure_future(write(name)) for name in "abcd"]
        counter = next(one for one in engine._opened.tables if one.name == "Counter")
        for _ in range(10):
            position, pieces = await engine.dump([counter])
            found = {one.name: one.n async for _, records in pieces for one in records}
            events = await shop.subscribe(Counter, from_=position)
            for event in await take(events, 8):
                assert event.record.n == found.get(event.key, 0) + 1
                found[event.key] = event.record.n
        stop.set()
        await asyncio.gather(*writers)
        await shop.stop()

    async def test_a_table_that_another_program_has_made_meanwhile(self, url: str, schema: str) -> None:
        async with stores(url, schema, 1, [Account]) as [one], stores(url, schema, 1, [Account, Tag]) as [other]:
            events = await one.subscribe(from_=0)
            await other.dirty_write(Tag(1, "new"))
            await other.dirty_write(Account(1, "ann"))
            assert (await anext(events)).record == Account(1, "ann")


class TestValues:
    async def test_many_at_once_of_each_type(self, url: str, schema: str) -> None:
        """They go as arrays, with their NULLs."""
        things = [
            Thing(bytes([n]), None if n % 3 else n - 5, [math.inf, -math.inf, -0.0, 5e-324, None][n % 5],
                  [None, "", "é\n\U0001f600'\"\\"][n % 3], [None, True, False][n % 3], [None, b"", b"\0\xff"][n % 3], (n, [n]), {n: "x"} if n % 2 else None)  # noqa: E501
            for n in range(50)
        ]  # fmt: skip
        async with stores(url, schema, 1) as [shop]:
            events = await shop.subscribe(Thing)
            await fill(shop, *things)
            assert await shop.dirty_query(Thing) == things
            assert [one.record for one in await take(events, 50)] == things
            async with shop.transaction() as tx:
                for one in things[::2]:
                    tx.delete(Thing, one.id)
            assert await shop.dirty_query(Thing) == things[1::2]

    async def test_a_record_of_some_megabytes_and_five_thousand_of_them(self, url: str, schema: str) -> None:
        async with stores(url, schema, 1) as [shop]:
            await shop.dirty_write(Thing(b"1", parts=("y" * 5_000_000,)))
            found = await shop.dirty_read(Thing, b"1")
            assert found is not None
            assert found.parts == ("y" * 5_000_000,)
            await fill(shop, *(Account(n, "x", n) for n in range(5000)))
            assert [one.id for one in await shop.dirty_query(Account, where=lambda one: one.balance % 1000 == 0)] == [
                0,
                1000,
                2000,
                3000,
                4000,
            ]
            assert len(await shop.dirty_query(Account, where=lambda one: one.balance % 2 == 0, limit=7)) == 7

    async def test_a_predicate_with_a_limit_looks_only_as_far_as_it_must(self, url: str, schema: str) -> None:
        seen: list[int] = []

        def rare(one: Account) -> bool:
            seen.append(one.id)
            return one.id % 700 == 699

        async with stores(url, schema, 1) as [shop]:
            await fill(shop, *(Account(n, "x", n) for n in range(3000)))
            for reverse, wanted in ((False, [699, 1399]), (True, [2799, 2099])):
                seen.clear()
                assert [one.id for one in await shop.dirty_query(Account, index="balance", where=rare, limit=2, reverse=reverse)] == wanted
                assert len(set(seen)) < 1500
            async with shop.transaction() as tx:
                assert [one.id for one in await tx.query(Account, where=rare, limit=9)] == [699, 1399, 2099, 2799]
                assert await tx.query(Account, where=rare, limit=0) == []

    async def test_a_bag_keeps_its_order(self, url: str, schema: str) -> None:
        async with stores(url, schema, 1) as [shop]:
            await fill(shop, *(Tag(n % 3, word) for n in range(3) for word in "zyxwv"))
            await shop.dirty_delete_record(Tag(1, "y"))
            await shop.dirty_write(Tag(1, "a"))
            assert [one.word for one in await shop.dirty_read_all(Tag, 1)] == ["z", "x", "w", "v", "a"]

    async def test_the_data_can_be_read_by_others(self, url: str, schema: str) -> None:
        async with stores(url, schema, 1) as [shop], watched(url) as look:
            await fill(shop, Account(1, "ann", 5), Thing(b"k", sold=True, weight=1.5, note="n"))
            assert await (await look.execute(f'SELECT * FROM "{schema}"."Account"')).fetchall() == [(1, "ann", 5)]
            assert await (await look.execute(f'SELECT sold, weight, note FROM "{schema}"."Thing"')).fetchall() == [(True, 1.5, "n")]
            indexes = await (
                await look.execute("SELECT count(*) FROM pg_indexes WHERE schemaname = %s AND tablename = 'Session'", (schema,))
            ).fetchone()
            assert indexes == (1 + len(store.table_of(Session).indexes),)


def odd_table() -> type[Any]:
    cls = make_dataclass("Odd", [("select", str), ("user", int), ("größe", float)], frozen=True)
    return store.record(key="select", indexes=("user", "größe"), name='a "table"; DROP TABLE x; --')(cls)


def plain() -> type[Any]:
    """A new class with the fields of an account."""

    @dataclass(frozen=True)
    class Plain:
        id: int
        owner: str
        balance: int = 0

    return Plain


class TestWithoutPsycopg:
    @pytest.mark.parametrize("way", ["import beamish.store.postgres", "from beamish import store; store.Postgres"])
    def test_what_is_missing_is_said_and_the_rest_of_the_store_works(self, way: str) -> None:
        script = f"import sys; sys.modules['psycopg'] = None; from beamish import store; store.Memory()\n{way}"
        environment = os.environ | {"PYTHONPATH": str(Path(store.__file__).parents[2])}
        done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=50, check=False)
        assert done.stderr.splitlines()[-1] == "ImportError: beamish.store.postgres needs psycopg: pip install 'beamish[postgres]'"


class TestNames:
    async def test_words_of_sql_quotes_and_umlauts(self, url: str, schema: str) -> None:
        odd = odd_table()
        async with stores(url, schema, 1, [odd]) as [shop]:
            record = odd("'; DROP SCHEMA x; --", 1, 2.5)
            await shop.dirty_write(record)
            assert await shop.dirty_query(odd, index="user", key=1) == [record]
            assert await shop.dirty_query(odd, index="größe", low=2.0, high=3.0) == [record]

    @pytest.mark.parametrize("name", ["x" * 64, "ü" * 32, "#head", "a#2"])
    async def test_names_that_postgresql_would_cut_or_that_are_the_stores_own(self, url: str, schema: str, name: str) -> None:
        table = store.record(key="id", name=name)(plain())
        with pytest.raises(StartError) as caught:
            await SHOP.start(engine=Postgres(url, schema=schema), tables=[table])
        assert isinstance(caught.value.__cause__, CannotOpen)
        assert name in str(caught.value.__cause__)

    async def test_indexes_that_are_not_declared_any_more_go(self, url: str, schema: str) -> None:
        count = "SELECT count(*) FROM pg_indexes WHERE schemaname = %s AND tablename = 'Account'"
        async with watched(url) as look:
            for fields in (("owner",), ("balance", "owner"), ()):
                table = store.record(key="id", indexes=fields, name="Account")(plain())
                async with stores(url, schema, 1, [table]) as [shop]:
                    await shop.dirty_write(table(1, "ann", 5))
                    assert await (await look.execute(count, (schema,))).fetchone() == (1 + len(fields),)
