"""Writers on PostgreSQL that are killed: run by test_postgres_crash.py as a program of its own, so that it can fork them cheaply.

    python postgres_writer.py URL ROUNDS SEED

Each round two children open the store and write from several clients at once. Each transaction writes a record to two tables and adds one
to a counter; what was acknowledged is told through a pipe. At a random moment both get SIGKILL. Then the database is looked at.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import sys
import time
from dataclasses import dataclass

import psycopg

from beamish import store
from beamish.store.postgres import Postgres

CLIENTS = 4
WRITERS = 2
A_WRITER = 1_000_000
EVENTS = 1_000_000
SHOP = store.Store("shop")


@store.record(key="id")
@dataclass(frozen=True, slots=True)
class Left:
    id: int
    word: str


@store.record(key="id", indexes=("left",))
@dataclass(frozen=True, slots=True)
class Right:
    id: str
    left: int


@store.record(key="name", ram=True)
@dataclass(frozen=True, slots=True)
class Total:
    name: str
    n: int = 0


TABLES = [Left, Right, Total]


async def both(tx: store.Transaction, number: int) -> None:
    tx.write(Left(number, "x" * (number % 50)))
    tx.write(Right(f"r{number}", number))
    await tx.update_counter(Total, "all")


async def write(url: str, first: int, told: int) -> None:
    numbers = itertools.count(first)
    await SHOP.start_link(engine=Postgres(url, connections=CLIENTS), tables=TABLES, keep_events=EVENTS)

    async def client() -> None:
        for number in numbers:
            await SHOP.transaction(both, number)
            os.write(told, number.to_bytes(8, "little"))

    await asyncio.gather(*(client() for _ in range(CLIENTS)))


def writer(url: str, first: int) -> tuple[int, int]:
    """A child that writes: its process id, and where what it was told is to be heard."""
    heard, told = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(heard)
        try:
            asyncio.run(write(url, first, told))
        finally:
            os._exit(1)
    os.close(told)
    return child, heard


def killed(children: list[tuple[int, int]], seconds: float) -> list[int]:
    """The numbers that were acknowledged to them before their end."""
    time.sleep(seconds)  # real time: a child is to be killed at a random moment
    found: list[int] = []
    for child, _ in children:
        os.kill(child, signal.SIGKILL)
    for child, heard in children:
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), "a writer ended by itself: see its traceback"
        data = b""
        while part := os.read(heard, 65536):
            data += part
        os.close(heard)
        found += [int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data) - len(data) % 8, 8)]
    return found


def look(url: str, acknowledged: set[int]) -> set[int]:
    """The transactions that are there, each as a whole, with all that were acknowledged among them."""
    with psycopg.connect(url) as connection:  # one moment: a connection of a dead child may still be committing
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        if connection.execute("SELECT to_regclass('beamish.\"Total\"')").fetchone() == (None,):
            assert not acknowledged
            return set()  # killed before it had made its tables
        left = {number for [number] in connection.execute('SELECT id FROM beamish."Left"')}
        right = {number for [number] in connection.execute('SELECT "left" FROM beamish."Right"')}
        total = connection.execute('SELECT n FROM beamish."Total"').fetchone()
    assert left == right, f"half a transaction: {sorted(left ^ right)}"
    assert left >= acknowledged, f"acknowledged, and not there: {sorted(acknowledged - left)}"
    assert (total[0] if total else 0) == len(left), f"the counter says {total}, of {len(left)} transactions"
    return left


async def at_the_end(url: str, numbers: set[int]) -> None:
    """The store itself reads it all; the events are those of the transactions, three each, side by side, without gap or repeat."""
    shop = await SHOP.start_link(engine=Postgres(url), tables=TABLES, keep_events=EVENTS)
    assert {one.id for one in await shop.dirty_query(Left)} == numbers
    assert (await shop.ram(Total)).get("all") == (Total("all", len(numbers)) if numbers else None)
    events = await shop.subscribe(from_=0)
    seen: set[int] = set()
    for count in range(1, len(numbers) + 1):
        left, right, total = [await anext(events) for _ in range(3)]
        assert [left.position, right.position, total.position] == [3 * count - 2, 3 * count - 1, 3 * count]
        assert (left.table, right.record.left, total.record) == (Left, left.key, Total("all", count))
        seen.add(left.key)
    assert seen == numbers
    assert await shop.position() == 3 * len(numbers)
    await shop.stop()


def main(url: str, rounds: int, seed: int) -> None:
    chance = random.Random(seed)
    acknowledged: set[int] = set()
    for number in range(rounds):
        children = [writer(url, (WRITERS * number + n) * A_WRITER) for n in range(WRITERS)]
        acknowledged |= set(killed(children, chance.uniform(0.0, 0.4)))
        if number % 10 == 0:
            look(url, acknowledged)
    numbers = look(url, acknowledged)
    asyncio.run(at_the_end(url, numbers))
    print(f"{rounds * WRITERS} kills; {len(acknowledged)} acknowledged, all there; {len(numbers - acknowledged)} more were there whole")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
