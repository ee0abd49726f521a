"""Tables and engines for the tests of the store. A new engine is one entry in ENGINES: the whole suite runs with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import postgres
from beamish import store
from beamish.store import Engine, Store


class Kind(NamedTuple):
    """How an engine is made in a test. `make(folder)` gives another one on the same data each time."""

    make: Callable[[Path], Engine]
    durable: bool  # whether data survives the store


def _postgres(folder: Path) -> Engine:
    if (why := postgres.missing()) is not None:
        pytest.skip(why)
    from beamish.store.postgres import Postgres

    return Postgres(postgres.shared().url("shared"), schema=postgres.schema_of(folder))


ENGINES: dict[str, Kind] = {
    "memory": Kind(lambda _: store.Memory(), durable=False),
    "sqlite": Kind(lambda folder: store.SQLite(folder / "shop.db", durability="normal", cache=4), durable=True),
    "postgres": Kind(_postgres, durable=True),
}


#: For tests of what survives: `@durable`.
durable = pytest.mark.parametrize("kind", [name for name, kind in ENGINES.items() if kind.durable], indirect=True)


@store.record(key="id", indexes=("owner", "balance"))
@dataclass(frozen=True, slots=True)
class Account:
    id: int
    owner: str
    balance: int = 0


@store.record(key="name", kind="ordered_set", ram=True)
@dataclass(frozen=True, slots=True)
class Counter:
    name: str
    n: int = 0


@store.record(key="post", indexes=("word",), kind="bag")
@dataclass(frozen=True, slots=True)
class Tag:
    post: int
    word: str


@store.record(key="id", indexes=("until", "user"), expires="until", ttl=60.0)
@dataclass(frozen=True, slots=True)
class Session:
    id: str
    user: str | None = None
    until: float | None = None


@store.record(key="id", indexes=("size", "weight", "note", "sold", "code"))
@dataclass(frozen=True)
class Thing:
    """Each plain type, and one that is not."""

    id: bytes
    size: int | None = None
    weight: float | None = None
    note: str | None = None
    sold: bool | None = None
    code: bytes | None = None
    parts: tuple[Any, ...] = ()
    box: dict[Any, Any] | None = None


TABLES = [Account, Counter, Tag, Session, Thing]
SHOP = Store("shop")


@asynccontextmanager
async def open_shop(engine: Engine, tables: list[type[Any]] | None = None, **options: Any) -> AsyncIterator[Store]:
    """A store that runs in the block."""
    shop = await SHOP.start_link(engine=engine, tables=tables or TABLES, **options)
    try:
        yield shop
    finally:
        if shop.pid() is not None:
            await shop.stop()


async def fill(shop: Store, *records: Any) -> None:
    async def write(tx: store.Transaction) -> None:
        for one in records:
            tx.write(one)

    await shop.transaction(write)  # as often as it takes: an engine may see a conflict where there is none


class Steps:
    """Transactions of several clients, made to take their steps in an order that a test says."""

    def __init__(self) -> None:
        self._events: dict[str, asyncio.Event] = {}

    def done(self, step: str) -> None:
        self._events.setdefault(step, asyncio.Event()).set()

    async def after(self, step: str) -> None:
        await self._events.setdefault(step, asyncio.Event()).wait()
