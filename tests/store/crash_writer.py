"""Writers that are killed: run as a program by test_crash.py, in a process of its own, so that it can fork them cheaply.

    python crash_writer.py FILE DURABILITY ROUNDS SEED

Each round a child opens the store and writes from several clients at once. Each transaction writes a record to two tables and adds one to
a counter; what was acknowledged is told through a pipe. At a random moment the child gets SIGKILL. Then the file is looked at.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import signal
import sqlite3
import sys
import time
from dataclasses import dataclass

from beamish import store

CLIENTS = 6
A_ROUND = 1_000_000
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


async def both(tx: store.Transaction, number: int) -> None:
    tx.write(Left(number, "x" * (number % 50)))
    tx.write(Right(f"r{number}", number))
    await tx.update_counter(Total, "all")


async def write(path: str, durability: store.sqlite.Durability, first: int, told: int) -> None:
    numbers = itertools.count(first)
    await SHOP.start_link(engine=store.SQLite(path, durability=durability), tables=[Left, Right, Total], keep_events=EVENTS)

    async def client() -> None:
        for number in numbers:
            await SHOP.transaction(both, number)
            os.write(told, number.to_bytes(8, "little"))

    await asyncio.gather(*(client() for _ in range(CLIENTS)))


def killed(path: str, durability: store.sqlite.Durability, first: int, seconds: float) -> list[int]:
    """One round: the numbers that were acknowledged."""
    heard, told = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(heard)
        try:
            asyncio.run(write(path, durability, first, told))
        finally:
            os._exit(1)
    os.close(told)
    time.sleep(seconds)  # real time: a child is to be killed at a random moment
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the writer ended by itself: see its traceback"
    data = b""
    while part := os.read(heard, 65536):
        data += part
    os.close(heard)
    return [int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data) - len(data) % 8, 8)]


class Looker:
    """Looks at what a round has left, with nothing but sqlite3; only at what is new, but for the counts."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.position = 0
        self.seen: set[int] = set()

    def look(self, first: int, acknowledged: list[int]) -> None:
        db = sqlite3.connect(self.path)
        try:
            if not db.execute("SELECT 1 FROM sqlite_master").fetchone():
                assert not acknowledged
                return  # killed before it had made its tables
            left = {number for [number] in db.execute('SELECT id FROM "Left" WHERE id >= ?', (first,))}
            right = {number for [number] in db.execute('SELECT left FROM "Right" WHERE left >= ?', (first,))}
            assert left == right, f"half a transaction: {sorted(left ^ right)}"
            assert left >= set(acknowledged), f"acknowledged, and not there: {sorted(set(acknowledged) - left)}"
            self.seen |= left
            total = db.execute('SELECT n FROM "Total"').fetchone()
            assert (total[0] if total else 0) == len(self.seen), f"the counter says {total}, of {len(self.seen)} transactions"
            self._events(db)
        finally:
            db.close()

    def _events(self, db: sqlite3.Connection) -> None:
        """Three for each transaction, side by side, numbered without gap or repeat."""
        numbers: list[int] = []
        rows = db.execute("SELECT last, count, body FROM beamish_events WHERE last > ? ORDER BY last", (self.position,)).fetchall()
        events = []
        for last, count, body in rows:
            found = json.loads(body)
            assert len(found) == count
            assert last - count == self.position, f"events {self.position} … {last - count} are missing, or there twice"
            self.position = last
            events += found
        for one, other, total in zip(events[::3], events[1::3], events[2::3], strict=True):
            assert (one[1], other[1], total[1]) == ("Left", "Right", "Total")
            assert one[3][0] == other[3][1]
            numbers.append(one[3][0])
        assert self.position == 3 * len(self.seen)
        assert len(set(numbers)) == len(numbers)
        assert set(numbers) <= self.seen


async def at_the_end(path: str, count: int) -> None:
    """The store itself reads it all."""
    shop = await SHOP.start_link(engine=store.SQLite(path), tables=[Left, Right, Total], keep_events=EVENTS)
    assert len(await shop.dirty_query(Left)) == len(await shop.dirty_query(Right)) == count
    assert (await shop.ram(Total))["all"] == Total("all", count)
    events = await shop.subscribe(Total, from_=0)
    assert [(await anext(events)).record for _ in range(count)] == [Total("all", n) for n in range(1, count + 1)]
    await shop.stop()


def main(path: str, durability: store.sqlite.Durability, rounds: int, seed: int) -> None:
    chance = random.Random(seed)
    looker = Looker(path)
    first, told, acknowledged = 0, [], 0
    for number in range(rounds):
        told += killed(path, durability, number * A_ROUND, chance.uniform(0.0, 0.09))
        if number % 2 or number == rounds - 1:  # every other time it is the store that finds what was left
            looker.look(first, told)
            acknowledged += len(told)
            first, told = (number + 1) * A_ROUND, []
    asyncio.run(at_the_end(path, len(looker.seen)))
    more = len(looker.seen) - acknowledged
    print(f"{rounds} kills; {acknowledged} acknowledged, all there; {more} more were there whole; {looker.position} events")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))  # type: ignore[arg-type]
