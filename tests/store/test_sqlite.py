"""The SQLite engine's own: one owner for a file, bad files, full disks, much at once, threads."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from beamish import StartError, store
from beamish.store import CannotOpen, Damaged, Locked, NotAStore, SQLite, Store, StoreFailed, WrongSchema
from beamish.testing import Kit
from storing import SHOP, TABLES, Account, Counter, Tag, fill, open_shop


async def refused(engine: SQLite) -> BaseException | None:
    with pytest.raises(StartError) as caught:
        await Store("second").start(engine=engine, tables=TABLES)
    return caught.value.__cause__


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """A full disk, as it looks to a program: the kernel refuses to let a file grow."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A file system of its own, in memory; where one may be mounted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], capture_output=True, check=False)


class TestOneOwner:
    async def test_a_second_store_in_this_process(self, tmp_path: Path) -> None:
        async with open_shop(SQLite(tmp_path / "shop.db")) as shop:
            error = await refused(SQLite(tmp_path / "shop.db"))
            assert isinstance(error, Locked)
            assert f"process {os.getpid()}" in str(error)
            await fill(shop, Account(1, "a"))
        async with open_shop(SQLite(tmp_path / "shop.db")) as shop:
            assert await shop.dirty_read(Account, 1) == Account(1, "a")

    async def test_a_second_store_by_a_link(self, tmp_path: Path) -> None:
        (tmp_path / "link.db").symlink_to(tmp_path / "shop.db")
        async with open_shop(SQLite(tmp_path / "shop.db")):
            assert isinstance(await refused(SQLite(tmp_path / "link.db")), Locked)

    async def test_a_second_process(self, tmp_path: Path) -> None:
        program = (
            "import asyncio, sys; from storing import *\n"
            "async def main():\n"
            "    try: await SHOP.start(engine=store.SQLite(sys.argv[1]), tables=TABLES)\n"
            "    except Exception as error: print(type(error.__cause__).__name__, error.__cause__)\n"
            "asyncio.run(main())"
        )
        async with open_shop(SQLite(tmp_path / "shop.db")):
            path = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "src")])
            command = [sys.executable, "-c", program, str(tmp_path / "shop.db")]
            done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
            assert done.stdout.startswith("Locked"), done.stderr
            assert f"process {os.getpid()}" in done.stdout


class TestBadFiles:
    async def test_a_file_of_something_else_is_left_as_it_is(self, tmp_path: Path) -> None:
        path = tmp_path / "shop.db"
        path.write_text("dear diary" * 100)
        error = await refused(SQLite(path))
        assert isinstance(error, NotAStore)
        assert path.read_text() == "dear diary" * 100

    async def test_a_database_of_something_else_is_left_as_it_is(self, tmp_path: Path) -> None:
        path = tmp_path / "shop.db"
        db = sqlite3.connect(path)
        db.execute("CREATE TABLE diary (day)")
        db.commit()
        db.close()
        before = path.read_bytes()
        assert isinstance(await refused(SQLite(path)), NotAStore)
        assert path.read_bytes() == before

    async def test_a_file_that_is_cut_off(self, tmp_path: Path) -> None:
        path = tmp_path / "shop.db"
        async with open_shop(SQLite(path)) as shop:
            await fill(shop, *(Account(n, "x" * 100) for n in range(1000)))
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        error = await refused(SQLite(path))
        assert isinstance(error, Damaged)
        assert "cut off" in str(error)

    async def test_a_file_with_damaged_pages(self, tmp_path: Path) -> None:
        path = tmp_path / "shop.db"
        async with open_shop(SQLite(path)) as shop:
            await fill(shop, *(Account(n, "x" * 100) for n in range(1000)))
        whole = bytearray(path.read_bytes())
        whole[4096 * 2 : 4096 * 6] = os.urandom(4096 * 4)
        path.write_bytes(whole)
        assert isinstance(await refused(SQLite(path)), Damaged)

    async def test_a_file_of_a_newer_format(self, tmp_path: Path) -> None:
        path = tmp_path / "shop.db"
        async with open_shop(SQLite(path)):
            pass
        db = sqlite3.connect(path)
        db.execute("PRAGMA user_version = 99")
        db.close()
        error = await refused(SQLite(path))
        assert isinstance(error, WrongSchema)
        assert "newer version of Beamish" in str(error)

    async def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        error = await refused(SQLite(tmp_path / "nowhere" / "shop.db"))
        assert isinstance(error, CannotOpen)
        assert "make it first" in str(error)

    async def test_a_path_that_is_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "shop.db").mkdir()
        assert isinstance(await refused(SQLite(tmp_path / "shop.db")), CannotOpen)

    async def test_a_folder_without_the_right_to_write(self, tmp_path: Path) -> None:
        with mounted(tmp_path / "readonly", "ro") as folder:  # root may write everywhere else
            error = await refused(SQLite(folder / "shop.db"))
            assert isinstance(error, CannotOpen)
            assert "nothing can be written beside it" in str(error)

    @pytest.mark.parametrize("options", [{"durability": "off"}, {"cache": 0}, {"cache": True}])
    def test_options_that_make_no_sense(self, options: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="Got: "):
            SQLite("shop.db", **options)
        with pytest.raises(ValueError, match="the engine Memory"):
            SQLite(":memory:")


class TestFullDisk:
    async def test_what_was_acknowledged_stays_what_was_refused_is_not_there(self, tmp_path: Path) -> None:
        path = tmp_path / "shop.db"
        acknowledged: list[int] = []
        refused: list[int] = []

        async def write(shop: Store, n: int) -> None:
            try:
                await shop.dirty_write(Account(n, "x" * 2000))
            except StoreFailed:
                refused.append(n)
            else:
                acknowledged.append(n)

        async with open_shop(SQLite(path, cache=2)) as shop:
            events = await shop.subscribe()
            with files_no_larger_than(600_000):
                for begin in range(0, 400, 20):
                    await asyncio.gather(*(write(shop, n) for n in range(begin, begin + 20)))
            assert refused
            assert acknowledged
            assert await shop.dirty_read(Account, refused[0]) is None
            assert [one.id for one in await shop.dirty_query(Account)] == sorted(acknowledged)
            await fill(shop, Account(1000, "room again"))
            told = [await anext(events) for _ in range(len(acknowledged) + 1)]
            assert [one.position for one in told] == list(range(1, len(acknowledged) + 2))
            assert [one.key for one in told] == [*acknowledged, 1000]
        async with open_shop(SQLite(path)) as shop:
            assert [one.id for one in await shop.dirty_query(Account)] == [*sorted(acknowledged), 1000]

    async def test_who_has_seen_what_was_refused_falls_with_it(self, tmp_path: Path) -> None:
        async def read_on(shop: Store) -> int:
            async with shop.transaction() as tx:
                found = await tx.read(Account, 1)
                return -1 if found is None else found.balance

        async with open_shop(SQLite(tmp_path / "shop.db", durability="normal")) as shop:
            await fill(shop, Account(1, "a", 1), Counter("c"))
            with files_no_larger_than(1):
                first = asyncio.ensure_future(shop.dirty_write(Account(1, "x" * 5000, 2)))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                second = asyncio.ensure_future(read_on(shop))
                third = asyncio.ensure_future(shop.dirty_update_counter(Account, 1, field="balance"))
                results = await asyncio.gather(first, second, third, return_exceptions=True)
            assert isinstance(results[0], StoreFailed)
            assert isinstance(results[1], store.StoreError) or results[1] == 1
            assert isinstance(results[2], StoreFailed) or results[2] == 2
            assert await shop.dirty_read(Account, 1) in (Account(1, "a", 1), Account(1, "a", 2))

    async def test_a_disk_that_is_full_in_the_middle_of_a_checkpoint(self, tmp_path: Path) -> None:
        """The header of the file is ahead of the file then; the journal beside it has the rest."""
        path, done = tmp_path / "shop.db", 0
        with files_no_larger_than(6_000_000):
            async with open_shop(SQLite(path)) as shop:
                with pytest.raises(StoreFailed):
                    while True:
                        await fill(shop, *(Account(n, "x" * 500) for n in range(done, done + 500)))
                        done += 500
        async with open_shop(SQLite(path)) as shop:
            assert len(await shop.dirty_query(Account)) == done

    async def test_a_small_disk(self, tmp_path: Path) -> None:
        with mounted(tmp_path / "small", "size=1m") as folder:
            async with open_shop(SQLite(folder / "shop.db")) as shop:
                done = 0
                with pytest.raises(StoreFailed, match="full"):
                    while True:
                        await shop.dirty_write(Account(done, "x" * 5000))
                        done += 1
                assert len(await shop.dirty_query(Account)) == done
                with pytest.raises(StoreFailed, match="could not be written"):
                    await shop.backup(folder / "backup")
                await shop.backup(tmp_path / "backup")
            async with open_shop(SQLite(tmp_path / "large.db")) as shop:
                assert await shop.restore(tmp_path / "backup") == done


class TestCancelled:
    async def test_whoever_reads_what_a_cancelled_client_commits_is_not_cancelled_with_it(self, tmp_path: Path) -> None:
        async def read(shop: Store) -> Account | None:
            async with shop.transaction() as tx:
                return await tx.read(Account, 1)

        async with open_shop(SQLite(tmp_path / "shop.db")) as shop:
            await fill(shop, Account(1, "a"))
            assert await read(shop) == Account(1, "a")
            writer = asyncio.ensure_future(shop.dirty_write(Account(1, "b")))
            await asyncio.sleep(0)
            reader = asyncio.ensure_future(read(shop))
            await asyncio.sleep(0)
            writer.cancel()
            assert await reader in (Account(1, "a"), Account(1, "b"))
            await shop.stop()  # which waits for what is on its way, whoever was to hear of it

    async def test_a_cancelled_restore_is_made_as_a_whole_or_not_at_all(self, tmp_path: Path) -> None:
        async with open_shop(SQLite(tmp_path / "shop.db")) as shop:
            await fill(shop, *(Account(n, "old") for n in range(300)), Counter("x", 1))
            await shop.backup(tmp_path / "backup")
            for turns in range(0, 60, 3):
                await fill(shop, Account(1, "new"), Counter("x", 2))
                restoring = asyncio.ensure_future(shop.restore(tmp_path / "backup"))
                for _ in range(turns):
                    await asyncio.sleep(0)
                restoring.cancel()
                await asyncio.gather(restoring, return_exceptions=True)
                await fill(shop, Tag(1, "x"))  # after it, if it happens
                old = (await shop.dirty_read(Account, 1)) == Account(1, "old")
                assert (await shop.ram(Counter))["x"] == Counter("x", 1 if old else 2)
                assert [one.owner for one in await shop.dirty_query(Account, key=1)] == ["old" if old else "new"]


@store.record(key="k", kind="bag")
@dataclass(frozen=True)
class Odd:
    k: int
    rowid: int


async def test_a_field_may_have_any_name(tmp_path: Path) -> None:
    async with open_shop(SQLite(tmp_path / "shop.db"), [Odd]) as shop:
        await fill(shop, Odd(1, 3), Odd(1, 1), Odd(1, 2))
        await shop.backup(tmp_path / "backup")
        await shop.restore(tmp_path / "backup")
        assert [one.rowid for one in await shop.dirty_read_all(Odd, 1)] == [3, 1, 2]


async def _three(tx: store.Transaction, n: int) -> None:
    tx.write(Account(n, "x"))
    tx.write(Tag(n % 7, str(n)))
    tx.write(Counter(str(n)))


class TestMuchAtOnce:
    async def test_a_long_query_does_not_hold_up_reads_of_keys_or_commits(self, tmp_path: Path) -> None:
        started, go_on = threading.Event(), threading.Event()

        def slow(one: Account) -> bool:
            started.set()
            return go_on.wait(20.0)

        async with open_shop(SQLite(tmp_path / "shop.db", cache=2)) as shop:
            await fill(shop, *(Account(n, "x") for n in range(10)))
            query = asyncio.ensure_future(shop.dirty_query(Account, where=slow))
            await asyncio.to_thread(started.wait)
            assert await shop.dirty_read(Account, 3) == Account(3, "x")
            await shop.dirty_write(Account(3, "y"))
            assert not query.done()
            go_on.set()
            assert len(await query) == 10

    async def test_many_clients_share_a_batch_and_each_transaction_is_whole(self, tmp_path: Path) -> None:
        async with open_shop(SQLite(tmp_path / "shop.db", cache=50)) as shop:
            await asyncio.gather(*(shop.transaction(_three, n) for n in range(500)))
            assert len(await shop.dirty_query(Account)) == len(await shop.dirty_query(Tag)) == 500
            assert await shop.position() == 1500
        db = sqlite3.connect(tmp_path / "shop.db")
        [rows] = db.execute("SELECT count(*) FROM beamish_events").fetchone()
        db.close()
        assert rows < 100  # many transactions to one of SQLite's

    async def test_a_large_transaction(self, tmp_path: Path) -> None:
        async with open_shop(SQLite(tmp_path / "shop.db")) as shop:
            await fill(shop, *(Account(n, "x") for n in range(5000)))
            async with shop.transaction() as tx:
                for n in range(0, 5000, 2):
                    tx.delete(Account, n)
            assert [one.id for one in await shop.dirty_query(Account)] == list(range(1, 5000, 2))

    async def test_records_that_are_not_in_the_cache_are_fetched(self, tmp_path: Path) -> None:
        async with open_shop(SQLite(tmp_path / "shop.db", cache=10)) as shop:
            await fill(shop, *(Account(n, "x", n) for n in range(100)), *(Tag(n % 10, str(n)) for n in range(100)))
            found = await asyncio.gather(*(shop.dirty_read(Account, n) for n in range(110)))
            assert [one and one.balance for one in found] == [*range(100), *[None] * 10]
            for n in range(10):
                assert [one.word for one in await shop.dirty_read_all(Tag, n)] == [str(k) for k in range(n, 100, 10)]

    async def test_a_cancelled_client_does_not_disturb_the_others(self, tmp_path: Path) -> None:
        async with open_shop(SQLite(tmp_path / "shop.db")) as shop:
            tasks = [asyncio.ensure_future(fill(shop, Account(n, "x"), Counter(str(n)))) for n in range(20)]
            for _ in range(3):
                await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            found = {one.id for one in await shop.dirty_query(Account)}
            assert found >= set(range(1, 20, 2))
            assert found == {int(one.name) for one in await shop.dirty_query(Counter)}


async def test_threads_are_waited_for_in_virtual_time(beamish: Kit, tmp_path: Path) -> None:
    async with open_shop(SQLite(tmp_path / "shop.db", cache=2), sweep_every=1.0) as shop:
        async with asyncio.timeout(0.5):
            for n in range(50):
                await fill(shop, Account(n, "x"), Counter(str(n)))
            assert len(await shop.dirty_query(Account)) == 50
        await asyncio.sleep(20.0)
        assert await shop.dirty_read(Account, 1) == Account(1, "x")


async def test_what_another_program_sees_is_plain_sql(tmp_path: Path) -> None:
    async with open_shop(SQLite(tmp_path / "shop.db")) as shop:
        await fill(shop, Account(1, "ann", 5))
        db = sqlite3.connect(tmp_path / "shop.db")
        assert db.execute('SELECT id, owner, balance FROM "Account"').fetchall() == [(1, "ann", 5)]
        db.close()
    assert SHOP.pid() is None
