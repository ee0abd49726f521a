"""The store on PostgreSQL, beside what is written by hand with psycopg: a transaction reads an account, changes it, and writes an entry.

The server is a private one, with fsync as it comes (`tests/postgres.py`). By hand that is a loop over cursors, as psycopg's documentation
has it, and one in pipeline mode; both do less: they write no events, and nothing is typed.
"""

import asyncio
import atexit
import importlib
import itertools
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from beamish import store
from benchmarks.harness import Suite, timed

suite = Suite()

ACCOUNTS = 1000
CLIENTS = 64
CONNECTIONS = 10

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
try:
    postgres: Any = importlib.import_module("postgres")
    MISSING: str | None = postgres.missing()
except ImportError as error:  # an installed package without its tests
    MISSING = str(error)


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


ids = itertools.count(1)
Step = Callable[[int], Awaitable[None]]


@cache
def server() -> Any:
    one = postgres.Server(durable=True)
    one.start()
    atexit.register(one.__exit__)
    return one


async def repeated(n: int, clients: int, step: Step) -> float:
    """`n` transactions by so many clients at once, each on an account of its own."""
    await step(0)

    async def client(first: int) -> None:
        for number in range(first, n, clients):
            await step(number % ACCOUNTS)

    with timed(n) as clock:
        await asyncio.gather(*map(client, range(clients)))
    return clock.each


# --- by hand ----------------------------------------------------------------------------------------------------------

TABLES = (
    "CREATE TABLE account (id bigint PRIMARY KEY, owner text NOT NULL, balance bigint NOT NULL)",
    "CREATE TABLE entry (id bigint PRIMARY KEY, account bigint NOT NULL, amount bigint NOT NULL)",
    f"INSERT INTO account SELECT id, 'owner', 0 FROM generate_series(0, {ACCOUNTS - 1}) id",
)


@asynccontextmanager
async def connections(count: int, autocommit: bool) -> AsyncIterator[asyncio.Queue[Any]]:
    """A queue of connections: what takes one waits for it."""
    import psycopg

    url = server().database()
    found: asyncio.Queue[Any] = asyncio.Queue()
    one: Any = None
    for _ in range(count):
        one = await psycopg.AsyncConnection.connect(url, autocommit=autocommit, prepare_threshold=0)
        if not autocommit:
            await one.set_isolation_level(psycopg.IsolationLevel.SERIALIZABLE)
        await found.put(one)
    for text in TABLES:
        await one.execute(text)
    await one.commit()
    yield found
    while not found.empty():
        await found.get_nowait().close()


async def by_cursors(n: int, clients: int) -> float:
    import psycopg

    async with connections(min(clients, CONNECTIONS), autocommit=False) as free:

        async def step(account: int) -> None:
            connection = await free.get()
            try:
                while True:
                    try:
                        async with connection.transaction():
                            found = await connection.execute("SELECT balance FROM account WHERE id = %s", (account,))
                            [balance] = await found.fetchone()
                            await connection.execute("UPDATE account SET balance = %s WHERE id = %s", (balance + 1, account))
                            await connection.execute("INSERT INTO entry VALUES (%s, %s, 1)", (next(ids), account))
                        return
                    except psycopg.errors.SerializationFailure:
                        pass
            finally:
                free.put_nowait(connection)

        return await repeated(n, clients, step)


async def by_pipeline(n: int, clients: int) -> float:
    async with connections(1, autocommit=True) as free:
        connection = await free.get()

        async def step(account: int) -> None:
            async with connection.pipeline():
                await connection.execute("BEGIN ISOLATION LEVEL SERIALIZABLE")
                found = await connection.execute("SELECT balance FROM account WHERE id = %s", (account,))
                [balance] = await found.fetchone()
                await connection.execute("UPDATE account SET balance = %s WHERE id = %s", (balance + 1, account))
                await connection.execute("INSERT INTO entry VALUES (%s, %s, 1)", (next(ids), account))
                await connection.execute("COMMIT")

        figure = await repeated(n, clients, step)
        await free.put(connection)
        return figure


# --- the store --------------------------------------------------------------------------------------------------------


async def by_store(n: int, clients: int) -> float:
    from beamish.store.postgres import Postgres

    async def enter(tx: store.Transaction, number: int) -> None:
        account = await tx.read(Account, number)
        assert account is not None
        tx.write(replace(account, balance=account.balance + 1))
        tx.write(Entry(next(ids), number, 1))

    bank = await store.Store.start_link(engine=Postgres(server().database(), connections=CONNECTIONS), tables=[Account, Entry])
    async with bank.transaction() as tx:
        for number in range(ACCOUNTS):
            tx.write(Account(number, "owner", 0))

    async def step(number: int) -> None:
        await bank.transaction(enter, number)

    try:
        return await repeated(n, clients, step)
    finally:
        await bank.stop()


ROWS = {"PostgreSQL: two tables": (1, 1000), f"PostgreSQL: two tables, {CLIENTS} clients": (CLIENTS, 3000)}


def add(row: str, name: str, run: Callable[[int, int], Awaitable[float]], *, baseline: bool = False) -> None:
    clients, count = ROWS[row]

    async def body(n: int) -> float:
        return await run(n, clients)

    suite.variant(row, name, n=count, baseline=baseline)(body)


if MISSING is None:
    for one, (at_once, _) in ROWS.items():
        add(one, "psycopg: cursors", by_cursors, baseline=True)
        if at_once == 1:
            add(one, "psycopg: pipeline mode", by_pipeline)
        add(one, "Beamish: store.transaction", by_store)
