"""Backups: of one moment, while others write; whole or not at all; into any engine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from beamish import store
from beamish.store import Conflict, Damaged, Engine, Memory, NoTable, NotAStore, StoreFailed, Transaction, WrongSchema
from storing import Account, Counter, Tag, Thing, fill, open_shop

Make = Callable[[], Engine]
THINGS = [Thing(b"\0", 1, float("inf"), "ä\n", True, b"\xff", (1, b"x"), {1: [2]}), Thing(b"", weight=0.5)]


async def test_what_was_backed_up_is_restored(engine: Make, tmp_path: Path) -> None:
    path = tmp_path / "backup"
    async with open_shop(engine()) as shop:
        await fill(shop, Account(1, "a", 1), Account(2, "b"), Counter("x", 3), Tag(1, "b"), Tag(1, "a"), *THINGS)
        assert await shop.backup(path) == 7
        await fill(shop, Account(1, "changed"), Account(9, "new"), Counter("y"), Tag(1, "c"))
        counters = await shop.ram(Counter)
        assert await shop.restore(path) == 7
        assert await shop.dirty_query(Account) == [Account(1, "a", 1), Account(2, "b")]
        assert await shop.dirty_query(Account, index="owner", key="changed") == []
        assert await shop.dirty_read_all(Tag, 1) == [Tag(1, "b"), Tag(1, "a")]
        assert await shop.dirty_query(Thing) == [THINGS[1], THINGS[0]]
        assert dict(counters) == {"x": Counter("x", 3)}


async def test_some_tables_only(engine: Make, tmp_path: Path) -> None:
    path = tmp_path / "backup"
    async with open_shop(engine()) as shop:
        await fill(shop, Account(1, "a"), Counter("x", 3))
        await shop.backup(path)
        await fill(shop, Account(1, "changed"), Counter("x", 4))
        assert await shop.restore(path, Counter) == 1
        assert await shop.dirty_read(Account, 1) == Account(1, "changed")
        assert await shop.dirty_read(Counter, "x") == Counter("x", 3)
    async with open_shop(engine(), [Account]) as shop:
        with pytest.raises(NoTable, match="no table 'Counter' in this store"):
            await shop.restore(path)


async def test_a_backup_goes_into_another_engine(engine: Make, tmp_path: Path) -> None:
    async with open_shop(engine()) as shop:
        await fill(shop, Account(1, "a"), *THINGS)
        await shop.backup(tmp_path / "backup")
    async with open_shop(Memory()) as shop:
        await shop.restore(tmp_path / "backup")
        assert await shop.dirty_query(Thing) == [THINGS[1], THINGS[0]]
        await shop.backup(tmp_path / "second")
    async with open_shop(engine()) as shop:
        await fill(shop, Account(2, "b"))
        await shop.restore(tmp_path / "second")
        assert await shop.dirty_query(Account) == [Account(1, "a")]


async def test_it_is_of_one_moment_though_others_write(engine: Make, tmp_path: Path) -> None:
    async def move(tx: Transaction, n: int) -> None:
        a, b = await tx.read(Counter, "a"), await tx.read(Counter, "b")
        assert a is not None
        assert b is not None
        tx.write(Counter("a", a.n - n))
        tx.write(Counter("b", b.n + n))

    async with open_shop(engine()) as shop:
        await fill(shop, Counter("a", 0), Counter("b", 0), *(Account(n, "x") for n in range(3000)))
        done = asyncio.Event()

        async def write(n: int) -> None:
            while not done.is_set():
                await shop.transaction(move, n)
                await asyncio.sleep(0)

        writers = [asyncio.ensure_future(write(n)) for n in range(4)]
        for n in range(5):
            await shop.backup(tmp_path / f"backup{n}")
        done.set()
        await asyncio.gather(*writers)
        for n in range(5):
            await shop.restore(tmp_path / f"backup{n}", Counter)
            assert sum(one.n for one in await shop.dirty_query(Counter)) == 0
            assert len(await shop.dirty_query(Account)) == 3000


async def test_subscribers_are_told_and_open_transactions_can_not_commit(engine: Make, tmp_path: Path) -> None:
    async with open_shop(engine()) as shop:
        await fill(shop, Account(1, "a"))
        await shop.backup(tmp_path / "backup")
        events = await shop.subscribe(Account)
        with pytest.raises(Conflict):
            async with shop.transaction() as tx:
                assert await tx.read(Account, 1) == Account(1, "a")
                await shop.restore(tmp_path / "backup")
                tx.write(Account(1, "b"))
        event = await anext(events)
        assert (event.op, event.table, event.key, event.record) == ("restore", Account, None, None)
        await fill(shop, Account(2, "b"))
        while (event := await anext(events)).op == "restore":
            pass
        assert event.record == Account(2, "b")


async def test_transactions_that_are_decided_come_before_a_restore(engine: Make, tmp_path: Path) -> None:
    async with open_shop(engine()) as shop:
        await fill(shop, Account(1, "a"))
        await shop.backup(tmp_path / "backup")
        writers = [asyncio.ensure_future(shop.dirty_write(Account(n, "w"))) for n in range(2, 30)]
        await asyncio.sleep(0)
        await shop.restore(tmp_path / "backup")
        await asyncio.gather(*writers)
        left = await shop.dirty_query(Account)
        assert Account(1, "a") in left
        by_event = {1: Account(1, "a")}
        events = await shop.subscribe(from_=0)
        for _ in range(await shop.position()):
            event = await anext(events)
            if event.op == "restore":
                by_event = {1: Account(1, "a")}
            elif event.record is not None:
                by_event[event.key] = event.record
        assert {one.id: one for one in left} == by_event


@store.record(
    key="id", name="Account", version=3, migrations={1: lambda old: old | {"owner": old["owner"].upper()}, 2: lambda old: old | {"x": 1}}
)
@dataclass(frozen=True)
class Account3:
    id: int
    owner: str
    balance: int
    x: int


async def test_an_older_backup_is_migrated(engine: Make, tmp_path: Path) -> None:
    async with open_shop(Memory()) as shop:
        await fill(shop, Account(1, "ann", 5))
        await shop.backup(tmp_path / "backup")
    async with open_shop(engine(), [Account3]) as shop:
        assert await shop.restore(tmp_path / "backup", Account3) == 1
        assert await shop.dirty_query(Account3) == [Account3(1, "ANN", 5, 1)]
        await shop.backup(tmp_path / "newer")
    async with open_shop(Memory()) as shop:
        with pytest.raises(WrongSchema, match="version 3"):
            await shop.restore(tmp_path / "newer")


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _cut_line(data: bytes) -> bytes:
    return b"\n".join(data.split(b"\n")[:-2]) + b"\n"


def _bad_first_line(data: bytes) -> bytes:
    return data.replace(b'"format":1', b'"format":"x"', 1)


def _flip(data: bytes) -> bytes:
    return data.replace(b"ann", b"anx")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (_cut, Damaged),
        (_cut_line, Damaged),
        (_flip, Damaged),
        (_bad_first_line, Damaged),
        (lambda _: b"", NotAStore),
        (lambda _: b"SQLite format 3\0" * 9, NotAStore),
    ],
)
async def test_a_bad_backup_changes_nothing(engine: Make, tmp_path: Path, change: Any, error: type[Exception]) -> None:
    path = tmp_path / "backup"
    async with open_shop(engine()) as shop:
        await fill(shop, Account(1, "ann"), *(Account(n, "x") for n in range(2, 50)))
        await shop.backup(path)
        path.write_bytes(change(path.read_bytes()))
        await fill(shop, Account(1, "bob"))
        with pytest.raises(error, match="backup"):
            await shop.restore(path)
        with pytest.raises(NotAStore, match="no backup"):
            await shop.restore(tmp_path / "nowhere")
        assert await shop.dirty_read(Account, 1) == Account(1, "bob")


async def test_a_backup_that_can_not_be_written_leaves_the_old_one(engine: Make, tmp_path: Path) -> None:
    async with open_shop(engine()) as shop:
        await fill(shop, Account(1, "ann"))
        with pytest.raises(StoreFailed, match="could not be written"):
            await shop.backup(tmp_path / "nowhere" / "backup")
        (tmp_path / "taken").mkdir()
        with pytest.raises(StoreFailed, match="could not be written"):
            await shop.backup(tmp_path / "taken")
        assert not [name for name in os.listdir(tmp_path) if "new" in name]
        assert await shop.dirty_read(Account, 1) == Account(1, "ann")


async def test_two_backups_to_one_path_are_each_whole(tmp_path: Path) -> None:
    async with open_shop(store.Memory()) as shop:
        await fill(shop, *(Account(n, "x" * 50) for n in range(2000)))
        counts = await asyncio.gather(*(shop.backup(tmp_path / "backup") for _ in range(4)))
        assert counts == [2000] * 4
        assert await shop.restore(tmp_path / "backup") == 2000
    assert os.listdir(tmp_path) == ["backup"]


async def test_a_cancelled_backup_leaves_nothing(tmp_path: Path) -> None:
    async with open_shop(store.Memory()) as shop:
        await fill(shop, *(Account(n, "x" * 50) for n in range(500)))
        for turns in range(12):
            task = asyncio.ensure_future(shop.backup(tmp_path / "backup"))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert os.listdir(tmp_path) in ([], ["backup"])


@store.record(key="id", name="Account", version=4, migrations={n: lambda old: {"id": 1} for n in range(1, 4)})
@dataclass(frozen=True)
class Merged:
    id: int


async def test_a_migration_that_makes_one_key_of_two_restores_nothing(tmp_path: Path) -> None:
    async with open_shop(Memory(), [Account]) as shop:
        await fill(shop, Account(1, "a"), Account(2, "b"))
        await shop.backup(tmp_path / "backup")
    async with open_shop(Memory(), [Merged]) as shop:
        await fill(shop, Merged(7))
        with pytest.raises(WrongSchema, match="two records have the key 1"):
            await shop.restore(tmp_path / "backup")
        assert await shop.dirty_query(Merged) == [Merged(7)]
