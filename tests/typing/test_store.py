"""What clients of a store get. Checked by mypy and pyright; nothing here is run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, assert_type

from beamish import ChildSpec, store
from beamish.store import Event, Memory, Ram, SQLite, Store, Subscription, Transaction


@store.record(key="id")
@dataclass(frozen=True)
class Account:
    id: int
    balance: int = 0


def a_record_stays_its_class() -> None:
    assert_type(Account(1), Account)
    assert_type(Store("shop").child_spec(engine=SQLite("shop.db"), tables=[Account]), ChildSpec[Store])
    assert_type(Store("shop").child_spec(engine=store.Postgres("postgresql://host/shop"), tables=[Account]), ChildSpec[Store])


async def move(tx: Transaction, key: int, by: int = 1) -> str | None:
    assert_type(await tx.read(Account, key), Account | None)
    assert_type(await tx.read_all(Account, key), list[Account])
    assert_type(await tx.query(Account, low=1, where=lambda one: one.balance > by), list[Account])
    assert_type(await tx.update_counter(Account, key), int)
    assert_type(tx.write(Account(key)), None)
    async with tx.nested() as inner:
        assert_type(inner, Transaction)
    return None


async def both_forms(shop: Store) -> None:
    assert_type(await shop.transaction(move, 1, by=2), str | None)
    async with shop.transaction() as tx:
        assert_type(tx, Transaction)
    await shop.transaction(move, "1")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    await shop.transaction(move)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


async def the_rest(shop: Store) -> None:
    await Store("shop").start_link(engine=Memory(), tables=[Account])
    assert_type(await shop.dirty_read(Account, 1), Account | None)
    assert_type(await shop.dirty_query(Account, key=1), list[Account])
    copy = await shop.ram(Account)
    assert_type(copy, Ram[Account])
    assert_type(copy[1], Account)
    events: Subscription[Any] = await shop.subscribe(Account)
    async for event in events:
        assert_type(event, Event[Any])
    assert_type(await shop.backup("file"), int)
