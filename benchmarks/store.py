"""The store: transactions on SQLite, alone and in a crowd, beside a loop written by hand; reads of a table in memory.

A transaction reads a record of each of two tables and writes one to each.
"""

import asyncio
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from beamish import store
from beamish.store import Engine, Memory, SQLite, Store, Transaction
from benchmarks.harness import Suite, timed

suite = Suite()

SHOP = Store("shop")
RECORDS = 1000
CLIENTS = 64

ALONE = "store: transaction, one client"
NORMAL = "store: transaction, 64 clients, normal"
FULL = "store: transaction, 64 clients, full"
READ = "store: read of a table in memory"
DIRTY = "store: single read and write"

BY_HAND = "sqlite3 by hand: BEGIN, 2 SELECT, 2 INSERT, COMMIT"
Durability = Literal["full", "normal"]


@store.record(key="id")
@dataclass(frozen=True, slots=True)
class Account:
    id: int
    owner: str
    balance: int


@store.record(key="id")
@dataclass(frozen=True, slots=True)
class Entry:
    id: int
    account: int
    amount: int


@store.record(key="id", ram=True)
@dataclass(frozen=True, slots=True)
class Price:
    id: int
    cents: int


async def move(tx: Transaction, key: int) -> None:
    account, entry = await tx.read(Account, key), await tx.read(Entry, key)
    assert account is not None
    assert entry is not None
    tx.write(Account(key, account.owner, account.balance + 1))
    tx.write(Entry(key, key, entry.amount - 1))


@asynccontextmanager
async def opened(make: Callable[[Path], Engine]) -> AsyncIterator[Store]:
    with tempfile.TemporaryDirectory() as folder:
        await SHOP.start_link(engine=make(Path(folder)), tables=[Account, Entry, Price])
        async with SHOP.transaction() as tx:
            for key in range(RECORDS):
                tx.write(Account(key, "ann", 0))
                tx.write(Entry(key, key, 0))
                tx.write(Price(key, key))
        yield SHOP
        await SHOP.stop()


async def clients(n: int, make: Callable[[Path], Engine], count: int) -> float:
    """`n` transactions of so many clients, each with keys of its own."""
    async with opened(make) as shop:

        async def client(number: int, times: int) -> None:
            keys = range(number, RECORDS, count)
            for turn in range(times):
                await shop.transaction(move, keys[turn % len(keys)])

        await asyncio.gather(*(client(number, 5) for number in range(count)))
        times = max(n // count, 1)
        with timed(times * count) as clock:
            await asyncio.gather(*(client(number, times) for number in range(count)))
        return clock.each


@contextmanager
def by_hand(durability: Durability) -> Iterator[Callable[[int], None]]:
    with tempfile.TemporaryDirectory() as folder:
        db = sqlite3.connect(Path(folder) / "shop.db", isolation_level=None)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA synchronous = {durability}")
        db.execute("CREATE TABLE account (id INTEGER PRIMARY KEY, owner, balance)")
        db.execute("CREATE TABLE entry (id INTEGER PRIMARY KEY, account, amount)")
        db.execute("BEGIN")
        for key in range(RECORDS):
            db.execute("INSERT INTO account VALUES (?, ?, ?)", (key, "ann", 0))
            db.execute("INSERT INTO entry VALUES (?, ?, ?)", (key, key, 0))
        db.execute("COMMIT")

        def transaction(key: int) -> None:
            db.execute("BEGIN IMMEDIATE")
            owner, balance = db.execute("SELECT owner, balance FROM account WHERE id = ?", (key,)).fetchone()
            [amount] = db.execute("SELECT amount FROM entry WHERE id = ?", (key,)).fetchone()
            db.execute("INSERT OR REPLACE INTO account VALUES (?, ?, ?)", (key, owner, balance + 1))
            db.execute("INSERT OR REPLACE INTO entry VALUES (?, ?, ?)", (key, key, amount - 1))
            db.execute("COMMIT")

        yield transaction
        db.close()


def loop_by_hand(n: int, durability: Durability) -> float:
    with by_hand(durability) as transaction, timed(n) as clock:
        for turn in range(n):
            transaction(turn % RECORDS)
    return clock.each


# --- one client ---------------------------------------------------------------------------------------------------------


@suite.variant(ALONE, BY_HAND + ", normal, on the loop", n=4_000, baseline=True)
def alone_by_hand(n: int) -> float:
    return loop_by_hand(n, "normal")


@suite.variant(ALONE, "Beamish: SQLite, normal", n=4_000)
async def alone_normal(n: int) -> float:
    return await clients(n, lambda folder: SQLite(folder / "shop.db", durability="normal"), 1)


@suite.variant(ALONE, "Beamish: SQLite, full", n=1_000)
async def alone_full(n: int) -> float:
    return await clients(n, lambda folder: SQLite(folder / "shop.db"), 1)


@suite.variant(ALONE, "Beamish: Memory", n=10_000)
async def alone_memory(n: int) -> float:
    return await clients(n, lambda _: Memory(), 1)


# --- 64 clients ---------------------------------------------------------------------------------------------------------


@suite.variant(NORMAL, BY_HAND, n=4_000, baseline=True)
def normal_by_hand(n: int) -> float:
    return loop_by_hand(n, "normal")


@suite.variant(NORMAL, "Beamish: SQLite", n=16_000)
async def normal(n: int) -> float:
    return await clients(n, lambda folder: SQLite(folder / "shop.db", durability="normal"), CLIENTS)


@suite.variant(FULL, BY_HAND, n=1_000, baseline=True)
def full_by_hand(n: int) -> float:
    return loop_by_hand(n, "full")


@suite.variant(FULL, "Beamish: SQLite", n=8_000)
async def full(n: int) -> float:
    return await clients(n, lambda folder: SQLite(folder / "shop.db"), CLIENTS)


# --- reading ------------------------------------------------------------------------------------------------------------


@suite.variant(READ, "Python: a dict", n=500_000, baseline=True)
def read_dict(n: int) -> float:
    prices = {key: Price(key, key) for key in range(RECORDS)}
    with timed(n) as clock:
        for key in range(n):
            prices.get(key % RECORDS)
    return clock.each


@suite.variant(READ, "Beamish: copy in memory, SQLite", n=500_000)
async def read_ram(n: int) -> float:
    async with opened(lambda folder: SQLite(folder / "shop.db", durability="normal")) as shop:
        prices = await shop.ram(Price)
        with timed(n) as clock:
            for key in range(n):
                prices.get(key % RECORDS)
        return clock.each


@suite.variant(DIRTY, "Beamish: dirty_read, SQLite, in the cache", n=50_000)
async def dirty_read(n: int) -> float:
    async with opened(lambda folder: SQLite(folder / "shop.db", durability="normal")) as shop:
        with timed(n) as clock:
            for key in range(n):
                await shop.dirty_read(Account, key % RECORDS)
        return clock.each


@suite.variant(DIRTY, "Beamish: dirty_read, SQLite, not in the cache", n=3_000)
async def dirty_read_thread(n: int) -> float:
    async with opened(lambda folder: SQLite(folder / "shop.db", durability="normal", cache=2)) as shop:
        with timed(n) as clock:
            for key in range(n):
                await shop.dirty_read(Account, key % RECORDS)
        return clock.each


@suite.variant(DIRTY, "Beamish: dirty_write, SQLite, normal", n=3_000)
async def dirty_write(n: int) -> float:
    async with opened(lambda folder: SQLite(folder / "shop.db", durability="normal")) as shop:
        with timed(n) as clock:
            for key in range(n):
                await shop.dirty_write(Account(key % RECORDS, "ann", key))
        return clock.each
