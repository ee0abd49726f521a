"""kill -9 of writers and of the server: what was acknowledged is there, what was refused is not, no half transaction, no gap."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import postgres
from beamish import store
from beamish.store import CommitUnknown, StoreFailed, Transaction
from seeds import seeds
from storing import open_shop

WHY = postgres.missing()
pytestmark = [pytest.mark.skipif(WHY is not None, reason=str(WHY)), pytest.mark.timeout(150), pytest.mark.slow]
if WHY is None:
    from beamish.store.postgres import Postgres

WRITER = Path(__file__).parent / "postgres_writer.py"
CLIENTS = 6
KILLS = 15
#: In each of them two writers are killed; it takes a quarter of a second.
ROUNDS = seeds(30, 100)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the writers are forked")
def test_writers_that_are_killed_at_random_moments() -> None:
    with postgres.server() as server:
        command = [sys.executable, str(WRITER), server.database(), str(ROUNDS), "7"]
        environment = os.environ | {"PYTHONPATH": str(Path(store.__file__).parents[2])}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=140, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{2 * ROUNDS} kills" in done.stdout
    print(done.stdout)


@store.record(key="id")
@dataclass(frozen=True, slots=True)
class Left:
    id: int


@store.record(key="id")
@dataclass(frozen=True, slots=True)
class Right:
    id: int


@store.record(key="name")
@dataclass(frozen=True, slots=True)
class Total:
    name: str
    n: int = 0


async def both(tx: Transaction, number: int) -> None:
    tx.write(Left(number))
    tx.write(Right(number))
    await tx.update_counter(Total, f"of {number % 3}")


async def test_a_server_that_is_killed_at_random_moments() -> None:
    """Clients that write, one that follows, and a server that dies again and again under them."""
    chance = random.Random(5)
    numbers = itertools.count()
    done: set[int] = set()
    refused: set[int] = set()
    unknown: set[int] = set()
    ended = False

    with postgres.server() as server:
        async with open_shop(Postgres(server.database(), patience=30.0), [Left, Right, Total]) as shop:
            events = await shop.subscribe(Left)
            news = asyncio.Event()

            async def client() -> None:
                while not ended:
                    number = next(numbers)
                    try:
                        await shop.transaction(both, number)
                        done.add(number)
                    except StoreFailed:
                        refused.add(number)
                    except CommitUnknown:
                        unknown.add(number)
                    news.set()

            clients = [asyncio.ensure_future(client()) for _ in range(CLIENTS)]
            for _ in range(KILLS):
                wanted = len(done) + chance.randrange(1, 60)
                while len(done) < wanted:
                    news.clear()
                    await news.wait()
                for _ in range(chance.randrange(20)):
                    await asyncio.sleep(0)
                server.kill()
                server.start()
            ended = True
            await asyncio.gather(*clients)

            there = {one.id for one in await shop.dirty_query(Left)}
            assert there == {one.id for one in await shop.dirty_query(Right)}
            assert sum(one.n for one in await shop.dirty_query(Total)) == len(there)
            assert there >= done
            assert not there & refused
            assert there - done <= unknown
            seen = [await anext(events) for _ in range(len(there))]
            assert {one.key for one in seen} == there
            assert [one.position % 3 for one in seen] == [1] * len(there)
            assert [one.position for one in seen] == list(range(1, 3 * len(there), 3))
    assert refused, "no kill has hit a transaction"
