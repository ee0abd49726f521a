"""Copies in memory: at dict speed, fresh when a commit returns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from beamish.store import BadRecord, Engine, Event, Memory, NoTable, StoreClosed, StoreFailed, Transaction
from beamish.testing import Kit, settle
from storing import Account, Counter, Kind, Tag, durable, fill, open_shop

Make = Callable[[], Engine]


async def test_a_copy_is_a_mapping_that_shows_each_commit_at_once(engine: Make) -> None:
    async with open_shop(engine()) as shop:
        await fill(shop, Counter("a", 1))
        counters = await shop.ram(Counter)
        assert counters["a"] == Counter("a", 1)
        assert counters.get("b") is None
        assert counters.get("b", 7) == 7
        assert "b" not in counters
        with pytest.raises(KeyError):
            counters["b"]
        async with shop.transaction() as tx:
            tx.write(Counter("b", 2))
            tx.delete(Counter, "a")
            assert dict(counters) == {"a": Counter("a", 1)}
        assert dict(counters) == {"b": Counter("b", 2)}
        assert len(counters) == 1


async def test_a_copy_can_be_asked_like_a_table(engine: Make) -> None:
    async with open_shop(engine()) as shop:
        await fill(shop, *(Counter(name, n) for n, name in enumerate("dcba")))
        counters = await shop.ram(Counter)
        assert [one.name for one in counters.query()] == ["a", "b", "c", "d"]
        assert [one.name for one in counters.query(low="b", limit=2, reverse=True)] == ["d", "c"]
        assert [one.name for one in counters.query(where=lambda one: one.n > 1)] == ["a", "b"]
        with pytest.raises(BadRecord):
            counters.query(index="n")


async def test_no_reader_sees_half_a_transaction(engine: Make) -> None:
    async def move(tx: Transaction, by: int) -> None:
        a, b = await tx.read(Counter, "a"), await tx.read(Counter, "b")
        assert a is not None
        assert b is not None
        tx.write(replace(a, n=a.n - by))
        tx.write(replace(b, n=b.n + by))

    async with open_shop(engine()) as shop:
        await fill(shop, Counter("a", 50), Counter("b", 50))
        counters = await shop.ram(Counter)
        sums: set[int] = set()
        done = asyncio.Event()

        async def watch() -> None:
            while not done.is_set():
                sums.add(sum(one.n for one in counters.values()))
                await asyncio.sleep(0)

        watching = asyncio.ensure_future(watch())
        await asyncio.gather(*(shop.transaction(move, n) for n in range(20)))
        done.set()
        await watching
        assert sums == {100}
        assert counters["b"].n == 50 + sum(range(20))


async def test_a_copy_ends_with_its_store(engine: Make) -> None:
    async with open_shop(engine()) as shop:
        counters = await shop.ram(Counter)
        await shop.stop()
        with pytest.raises(StoreClosed):
            counters.get("a")
        with pytest.raises(StoreClosed):
            len(counters)


class Elsewhere(Memory):
    """An engine like one on another machine: it holds nothing here, and what has happened there can't always be read."""

    away = False

    def resident(self, table: object) -> None:
        return None

    async def events(self, after: int, limit: int) -> list[Event[Any]]:
        if self.away:
            raise StoreFailed("it can't be reached")
        return await super().events(after, limit)


async def test_a_commit_does_not_wait_for_copies_that_cannot_be_kept_fresh(beamish: Kit, caplog: pytest.LogCaptureFixture) -> None:
    engine = Elsewhere()
    async with open_shop(engine) as shop:
        counters = await shop.ram(Counter)
        engine.away = True
        await fill(shop, Counter("a", 1))
        assert dict(counters) == {}
        assert "do not show yet what was committed: they can't be kept fresh now: it can't be reached" in caplog.text
        engine.away = False
        await fill(shop, Counter("b", 2))
        assert dict(counters) == {"a": Counter("a", 1), "b": Counter("b", 2)}


class Silent(Elsewhere):
    async def events(self, after: int, limit: int) -> list[Event[Any]]:
        await asyncio.Event().wait()
        raise AssertionError


async def test_a_store_that_is_stopped_leaves_nobody_waiting_for_its_engine() -> None:
    async with open_shop(Silent()) as shop:
        await shop.ram(Counter)
        await settle()


@durable
async def test_a_copy_is_there_after_a_restart(engine: Make) -> None:
    async with open_shop(engine()) as shop:
        await fill(shop, Counter("a", 1), Counter("b", 2))
    async with open_shop(engine()) as shop:
        assert dict(await shop.ram(Counter)) == {"a": Counter("a", 1), "b": Counter("b", 2)}


async def test_only_tables_with_one_record_for_a_key_that_say_ram_have_one(engine: Make, kind: Kind) -> None:
    async with open_shop(engine()) as shop:
        with pytest.raises((BadRecord, NoTable)):
            await shop.ram(Tag)
        if kind.durable:
            with pytest.raises(NoTable, match="ram=True"):
                await shop.ram(Account)
