"""PostgreSQL slow, gone, back, or answering errors: each is a clear error, nothing acknowledged is lost, and all goes on by itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

import postgres
from beamish import StartError, store
from beamish.store import CannotOpen, CommitUnknown, Store, StoreFailed, Transaction
from storing import SHOP, Account, Counter, open_shop as open_any

WHY = postgres.missing()
pytestmark = [pytest.mark.skipif(WHY is not None, reason=str(WHY)), pytest.mark.timeout(60)]
if WHY is None:
    from beamish.store.postgres import Postgres

SECRET = "hush-hush"


@store.record(key="name")
@dataclass(frozen=True, slots=True)
class Total:
    name: str
    n: int = 0


TABLES = [Account, Total]


@pytest.fixture(scope="module")
def one_server() -> Iterator[postgres.Server]:
    with postgres.server() as server:
        yield server


@pytest.fixture
def server(one_server: postgres.Server) -> Iterator[postgres.Server]:
    """To be treated badly: it runs again for the next test."""
    yield one_server
    if one_server.runs:
        one_server.resume()
    else:
        one_server.start()


def open_shop(engine: Postgres) -> AbstractAsyncContextManager[Store]:
    return open_any(engine, TABLES)


@asynccontextmanager
async def watched(url: str) -> AsyncIterator[Any]:
    """A connection that looks from outside."""
    import psycopg

    connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
    try:
        yield connection
    finally:
        await connection.close()


async def until(connection: Any, query: str, *values: Any) -> None:
    """Until the query finds something."""
    while not await (await connection.execute(query, values or None)).fetchone():
        pass


async def add(tx: Transaction, number: int) -> None:
    tx.write(Account(number, "ann", number))
    await tx.update_counter(Total, "all")


async def count(shop: Store) -> tuple[int, int]:
    found = await shop.dirty_read(Total, "all")
    return len(await shop.dirty_query(Account)), found.n if found else 0


class TestGone:
    async def test_the_store_does_not_start_without_its_database(self, server: postgres.Server) -> None:
        url = server.database()
        server.stop()
        with pytest.raises(StartError) as caught:
            await SHOP.start(engine=Postgres(url, patience=0.1), tables=TABLES)
        error = caught.value.__cause__
        assert isinstance(error, CannotOpen)
        assert "can't be reached" in str(error)

    async def test_a_database_that_is_not_there_is_said_at_once(self, server: postgres.Server) -> None:
        with pytest.raises(StartError) as caught:
            await SHOP.start(engine=Postgres(server.url("nowhere"), patience=1000.0), tables=TABLES)
        assert 'database "nowhere" does not exist' in str(caught.value.__cause__)

    async def test_it_waits_for_a_server_that_starts_and_goes_on_with_one_that_is_back(self, server: postgres.Server) -> None:
        url = server.database()
        server.stop()
        opening = asyncio.ensure_future(SHOP.start_link(engine=Postgres(url), tables=TABLES))
        await asyncio.sleep(0)
        server.start()
        shop = await opening
        await shop.transaction(add, 1)
        events = await shop.subscribe(Account)
        for number in (2, 3):
            server.kill()
            server.start()
            await shop.transaction(add, number)
            assert (await anext(events)).record == Account(number, "ann", number)
            assert await count(shop) == (number, number)
        await shop.stop()

    async def test_a_transaction_that_loses_its_connection_has_not_happened(self, server: postgres.Server) -> None:
        async with open_shop(Postgres(server.database())) as shop:
            await shop.transaction(add, 1)
            with pytest.raises(StoreFailed, match="Nothing of the transaction has happened"):
                async with shop.transaction() as tx:
                    await add(tx, 2)
                    server.kill()
                    server.start()
                    await add(tx, 3)
            assert await count(shop) == (1, 1)

    async def test_an_administrator_ends_all_connections(self, server: postgres.Server) -> None:
        url = server.database()
        async with open_shop(Postgres(url)) as shop, watched(url) as look:
            await shop.transaction(add, 1)
            with pytest.raises(StoreFailed, match="administrator"):
                async with shop.transaction() as tx:
                    await tx.read(Account, 1)
                    await look.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
                    await until(look, "SELECT 1 WHERE NOT EXISTS (SELECT FROM pg_locks WHERE pid <> pg_backend_pid())")
                    await tx.read(Account, 2)
            await shop.transaction(add, 2)
            assert await count(shop) == (2, 2)

    async def test_a_server_that_does_not_come_back_is_said_after_some_patience(self, server: postgres.Server) -> None:
        async with open_shop(Postgres(server.database(), patience=0.2)) as shop:
            await shop.transaction(add, 1)
            events = await shop.subscribe(from_=0)
            server.kill()
            for attempt in (shop.transaction(add, 2), shop.dirty_read(Account, 1), anext(events)):
                with pytest.raises(StoreFailed, match="can't be reached"):
                    await attempt
            server.start()
            await shop.transaction(add, 2)
            assert await count(shop) == (2, 2)


class TestInTheMiddleOfACommit:
    """What the client was not told, the engine finds out."""

    async def test_it_has_happened_and_the_answer_is_lost(self, server: postgres.Server) -> None:
        url = server.database()
        async with postgres.Proxy(server) as proxy, open_shop(Postgres(proxy.through(url))) as shop, watched(url) as look:
            await shop.transaction(add, 1)
            proxy.hold("answers")
            committing = asyncio.ensure_future(shop.dirty_write(Account(7, "late")))
            await until(look, 'SELECT 1 FROM beamish."Account" WHERE id = 7')
            proxy.cut("client")
            await committing
            proxy.release()
            assert await shop.dirty_read(Account, 7) == Account(7, "late")
            assert await shop.position() == 3

    @pytest.mark.parametrize("blind", [False, True])
    async def test_it_has_not_happened_and_never_will(self, server: postgres.Server, blind: bool) -> None:
        """Its bytes are on their way still; when they come, it is too late. One that had read nothing is simply sent again."""
        url = server.database()
        async with postgres.Proxy(server) as proxy, open_shop(Postgres(proxy.through(url))) as shop, watched(url) as look:
            await shop.transaction(add, 1)

            async def write() -> None:
                async with shop.transaction() as tx:
                    if not blind:
                        assert await tx.read(Account, 1) is not None
                    tx.write(Account(7, "once"))
                    proxy.hold("requests")

            committing = asyncio.ensure_future(write())
            await proxy.held.wait()
            proxy.cut("client")
            if blind:
                await committing
            else:
                with pytest.raises(StoreFailed, match="Nothing of the transaction has happened"):
                    await committing
            proxy.release()
            await until(look, "SELECT 1 WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE state LIKE 'idle in%')")
            assert await shop.dirty_read(Account, 7) == (Account(7, "once") if blind else None)
            assert await shop.position() == 2 + blind

    async def test_it_was_waiting_for_a_lock_when_the_server_was_killed(self, server: postgres.Server) -> None:
        url = server.database()
        async with open_shop(Postgres(url)) as shop:
            await shop.transaction(add, 1)
            async with watched(url) as look, watched(url) as other:
                await other.execute("BEGIN")
                await other.execute('SELECT FROM beamish."Account" WHERE id = 1 FOR UPDATE')
                committing = asyncio.ensure_future(shop.transaction(add, 1))
                await until(look, "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
                server.kill()
                server.start()
                with pytest.raises(StoreFailed, match="Nothing of the transaction has happened"):
                    await committing
            assert await count(shop) == (1, 1)

    async def test_nobody_can_be_asked(self, server: postgres.Server) -> None:
        url = server.database()
        async with postgres.Proxy(server) as proxy, open_shop(Postgres(proxy.through(url), patience=0.2)) as shop, watched(url) as look:
            await shop.transaction(add, 1)
            proxy.hold("answers")
            committing = asyncio.ensure_future(shop.dirty_write(Account(7, "late")))
            await until(look, 'SELECT 1 FROM beamish."Account" WHERE id = 7')
            server.kill()
            proxy.cut("client")
            with pytest.raises(CommitUnknown, match="as a whole, or not at all"):
                await committing
            proxy.release()
            server.start()
            assert await shop.dirty_read(Account, 7) == Account(7, "late")

    async def test_cancelled_it_happens_or_does_not_and_the_store_goes_on(self, server: postgres.Server) -> None:
        async with open_shop(Postgres(server.database(), connections=2)) as shop:
            events = await shop.subscribe(Account)
            for number in range(60):
                attempt = asyncio.ensure_future(shop.transaction(add, number))
                for _ in range(number % 20):
                    await asyncio.sleep(0)
                attempt.cancel()
            await shop.transaction(add, 1000)
            found, counted = await count(shop)
            assert found == counted
            seen = [await anext(events) for _ in range(found)]
            assert {one.key for one in seen} == {one.id for one in await shop.dirty_query(Account)}


class TestCopiesInMemory:
    async def test_a_commit_that_they_do_not_show_yet_is_a_commit(self, server: postgres.Server) -> None:
        """The server goes away between the two: whoever has committed may not be told that nothing has happened."""
        url = server.database()
        async with open_any(Postgres(url, patience=1.5), [Counter]) as shop:
            copy = await shop.ram(Counter)
            await shop.dirty_write(Counter("a"))
            committing = asyncio.ensure_future(shop.dirty_update_counter(Counter, "a"))
            async with watched(url) as look:
                await until(look, """SELECT 1 FROM beamish."Counter" WHERE n = 1""")
            server.kill()
            await committing
            server.start()
            await shop.dirty_write(Counter("b"))
            assert (copy["a"], copy["b"]) == (Counter("a", 1), Counter("b"))

    async def test_they_catch_up_and_a_store_may_end_while_they_cannot(self, server: postgres.Server) -> None:
        async with open_any(Postgres(server.database(), patience=1.5), [Counter]) as shop:
            copy = await shop.ram(Counter)
            server.kill()
            with pytest.raises(StoreFailed):
                await shop.dirty_write(Counter("lost"))
            server.start()
            await shop.dirty_write(Counter("a"))
            assert copy["a"] == Counter("a")
            assert "lost" not in copy
            server.kill()


class TestSlow:
    async def test_a_server_that_does_not_answer_is_given_up(self, server: postgres.Server) -> None:
        async with open_shop(Postgres(server.database(), patience=0.5, timeout=0.5)) as shop:
            await shop.transaction(add, 1)
            assert await shop.dirty_read(Account, 1) is not None
            server.pause()
            for attempt in [asyncio.ensure_future(one) for one in (shop.transaction(add, 2), shop.dirty_read(Account, 1))]:
                with pytest.raises(StoreFailed, match=r"has not answered within 0.5 s"):
                    await attempt
            server.resume()
            await shop.transaction(add, 3)
            assert await count(shop) == (2, 2)

    async def test_a_lock_that_somebody_keeps(self, server: postgres.Server) -> None:
        url = server.database()
        async with open_shop(Postgres(url, timeout=0.3)) as shop:
            await shop.transaction(add, 1)
            async with watched(url) as other:
                await other.execute("BEGIN")
                await other.execute('LOCK TABLE beamish."Account"')
                with pytest.raises(StoreFailed, match=r"longer than the timeout|has not answered"):
                    await shop.dirty_write(Account(1, "late"))
            await shop.dirty_write(Account(1, "there"))

    async def test_all_connections_are_in_use(self, server: postgres.Server) -> None:
        async with open_shop(Postgres(server.database(), connections=1, timeout=0.3)) as shop:
            async with shop.transaction() as tx:
                await tx.read(Account, 1)
                assert await shop.dirty_read(Account, 1) is None  # which needs none of them
                with pytest.raises(StoreFailed, match=r"none of the 1 connections has come free within 0.3 s"):
                    await shop.transaction(add, 1)
            await shop.transaction(add, 2)


class TestErrors:
    async def test_a_database_that_takes_no_changes_until_it_does(self, server: postgres.Server) -> None:
        """As after a failover: a new connection finds a server that takes them."""
        url = server.database()
        async with watched(url) as look:
            [name] = await (await look.execute("SELECT current_database()")).fetchone()
            async with open_shop(Postgres(url)) as shop:
                await shop.transaction(add, 1)
                await look.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
                others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = %s"
                await look.execute(others, (name,))
                for _ in range(2):
                    with pytest.raises(StoreFailed, match="takes no changes; it may be a standby"):
                        await shop.transaction(add, 2)
                assert await shop.dirty_read(Account, 1) == Account(1, "ann", 1)
                await look.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
                await shop.transaction(add, 2)
                assert await count(shop) == (2, 2)

    async def test_a_key_that_is_too_long_for_an_index(self, server: postgres.Server) -> None:
        from random import Random

        async with open_shop(Postgres(server.database())) as shop:
            with pytest.raises(StoreFailed, match="about 2,700 bytes"):
                await shop.dirty_write(Total(Random(1).randbytes(6000).hex()))
            await shop.dirty_write(Total("short"))

    async def test_a_table_that_was_taken_away(self, server: postgres.Server) -> None:
        url = server.database()
        async with open_shop(Postgres(url)) as shop, watched(url) as look:
            await shop.transaction(add, 1)
            await look.execute('DROP TABLE beamish."Account"')
            with pytest.raises(StoreFailed, match="newer version of this program"):
                await shop.transaction(add, 2)
            assert await shop.dirty_read(Total, "all") == Total("all", 1)

    async def test_a_full_disk(self, server: postgres.Server) -> None:
        """As the server puts it: a trigger says what a full disk would."""
        url = server.database()
        async with open_shop(Postgres(url)) as shop, watched(url) as look:
            await shop.transaction(add, 1)
            body = "BEGIN RAISE 'no space' USING ERRCODE = 'disk_full'; END"
            await look.execute(f"CREATE FUNCTION out_of_space() RETURNS trigger AS $${body}$$ LANGUAGE plpgsql")
            await look.execute('CREATE TRIGGER out_of_space BEFORE INSERT ON beamish."Account" EXECUTE FUNCTION out_of_space()')
            with pytest.raises(StoreFailed, match="the database's disk is full"):
                await shop.transaction(add, 2)
            assert await count(shop) == (1, 1)

    async def test_a_table_of_somebody_else_is_left_alone(self, server: postgres.Server) -> None:
        url = server.database()
        async with watched(url) as look:
            await look.execute("CREATE SCHEMA beamish")
            await look.execute('CREATE TABLE beamish."Account" (theirs int)')
            with pytest.raises(StartError) as caught:
                await SHOP.start(engine=Postgres(url), tables=TABLES)
            assert "is not the store's" in str(caught.value.__cause__)
            assert await (await look.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'beamish'")).fetchone() == (1,)


class TestSecrets:
    @pytest.mark.parametrize(
        "url",
        [
            f"postgresql://ann:{SECRET}@nowhere.invalid/shop",
            f"host=nowhere.invalid user=ann password={SECRET} dbname=shop",
            f"postgresql://ann@nowhere.invalid/shop?password={SECRET}",
        ],
    )
    async def test_the_password_is_in_no_error_and_no_log(self, url: str, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        engine = Postgres(url, patience=0.1)
        assert repr(engine) == "<Postgres ann@nowhere.invalid:5432/shop, schema beamish>"
        spec = SHOP.child_spec(engine=engine, tables=TABLES)
        with pytest.raises(StartError) as caught:
            await SHOP.start(engine=engine, tables=TABLES)
        for text in (caplog.text, repr(spec), str(caught.value), repr(caught.value.__cause__), str(caught.value.__cause__)):
            assert SECRET not in text
        assert "nowhere.invalid" in str(caught.value.__cause__)

    @pytest.mark.parametrize(
        "url", [f"postgresql://ann:{SECRET}@[::1/shop", f"postgresql://ann:{SECRET}%zz@x/y", f"password={SECRET} odd", SECRET]
    )
    def test_nor_in_the_error_for_a_url_that_is_none(self, url: str) -> None:
        with pytest.raises(ValueError, match="may hold a password") as caught:
            Postgres(url)
        assert SECRET not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__

    async def test_a_wrong_password_is_said_at_once(self, server: postgres.Server) -> None:
        server.database()
        server.execute(f"CREATE ROLE ann LOGIN PASSWORD '{SECRET}'")
        rules = server.folder / "data" / "pg_hba.conf"
        before = rules.read_text()
        rules.write_text(f"host all ann 127.0.0.1/32 scram-sha-256\n{before}")
        server.execute("SELECT pg_reload_conf()", "GRANT ALL ON DATABASE postgres TO ann")
        with pytest.raises(StartError) as caught:
            await SHOP.start(engine=Postgres(server.url(tcp=True, user="ann", password="wr@ng/pa%ss"), patience=1000.0), tables=TABLES)
        assert "password authentication failed" in str(caught.value.__cause__)
        assert "wr" not in str(caught.value.__cause__).replace("write", "")
        async with open_shop(Postgres(server.url(tcp=True, user="ann", password=SECRET))) as shop:
            await shop.transaction(add, 1)
        rules.write_text(before)


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ({"connections": 0}, "connections is how many"),
            ({"timeout": 0}, "timeout is seconds"),
            ({"poll": float("inf")}, "poll is seconds"),
            ({"patience": True}, "patience is seconds"),
            ({"schema": "#odd"}, "name of a schema"),
            ({"schema": "x" * 64}, "from 1 to 63 bytes"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, arguments: dict[str, Any], says: str) -> None:
        with pytest.raises(ValueError, match=says):
            Postgres("postgresql://host/shop", **arguments)
