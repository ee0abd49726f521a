"""Subscriptions: every change after its commit, in order, without gap, from any position that is kept; on every engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from beamish.store import Aborted, Engine, Event, PositionGone, Subscription
from storing import Account, Counter, Tag, fill, open_shop

Make = Callable[[], Engine]


async def take(events: Subscription[Any], n: int) -> list[Event[Any]]:
    return [await anext(events) for _ in range(n)]


def brief(events: list[Event[Any]]) -> list[Any]:
    return [(one.position, one.op, one.record if one.record is not None else one.key) for one in events]


async def test_changes_come_after_their_commit_and_in_order(engine: Make) -> None:
    async with open_shop(engine()) as shop:
        events = await shop.subscribe(Account)
        with pytest.raises(Aborted):
            async with shop.transaction() as tx:
                tx.write(Account(6, "never"))
                tx.abort()
        async with shop.transaction() as tx:
            tx.write(Account(1, "a"))
            tx.write(Account(1, "b"))
            tx.write(Counter("x"))
            tx.delete(Account, 5)
        await shop.dirty_write(Account(2, "c"))
        found = await take(events, 3)
        assert brief(found) == [(1, "write", Account(1, "b")), (2, "delete", 5), (4, "write", Account(2, "c"))]
        assert [one.table for one in found] == [Account] * 3
        assert events.position == 4
        assert await shop.position() == 4


async def test_all_tables_or_some(engine: Make) -> None:
    async with open_shop(engine()) as shop:
        both, every = await shop.subscribe(Account, Counter), await shop.subscribe()
        await fill(shop, Tag(1, "x"), Counter("y"), Account(1, "z"))
        assert [one.record for one in await take(both, 2)] == [Counter("y"), Account(1, "z")]
        assert [one.record for one in await take(every, 3)] == [Tag(1, "x"), Counter("y"), Account(1, "z")]


async def test_a_subscription_goes_on_from_any_position(engine: Make) -> None:
    async with open_shop(engine()) as shop:
        for n in range(600):
            await shop.dirty_write(Account(n, "x"))
        for begin in (0, 1, 255, 256, 599):
            events = await shop.subscribe(Account, from_=begin)
            found = await take(events, 600 - begin)
            assert [one.position for one in found] == list(range(begin + 1, 601))
            assert [one.key for one in found] == list(range(begin, 600))
        events = await shop.subscribe(from_=600)
        await shop.dirty_write(Account(1000, "x"))
        assert (await anext(events)).position == 601


async def test_who_waits_is_woken(engine: Make) -> None:
    async with open_shop(engine()) as shop:
        events = await shop.subscribe(Account)
        waiting = asyncio.ensure_future(anext(events))
        await shop.dirty_write(Counter("other table"))
        await shop.dirty_write(Account(1, "x"))
        assert (await waiting).record == Account(1, "x")


async def test_the_store_says_when_it_ends(engine: Make) -> None:
    async with open_shop(engine()) as shop:
        events = await shop.subscribe(Account)

        async def follow() -> int:
            async for _ in events:
                raise AssertionError
            return events.position

        waiting = asyncio.ensure_future(follow())
        await asyncio.sleep(0)
        await shop.stop()
        assert await waiting == 0


async def test_bags_tell_each_record(engine: Make) -> None:
    async with open_shop(engine()) as shop:
        events = await shop.subscribe(Tag)
        await fill(shop, Tag(1, "a"), Tag(1, "b"))
        await fill(shop, Tag(1, "b"), Tag(1, "c"))
        await shop.dirty_delete_record(Tag(1, "a"))
        await shop.dirty_delete_record(Tag(1, "nobody"))
        async with shop.transaction() as tx:
            tx.delete(Tag, 1)
            tx.write(Tag(1, "d"))
        assert [(one.op, one.record) for one in await take(events, 6)] == [
            ("write", Tag(1, "a")),
            ("write", Tag(1, "b")),
            ("write", Tag(1, "c")),
            ("delete_record", Tag(1, "a")),
            ("delete", None),
            ("write", Tag(1, "d")),
        ]


async def test_only_the_last_events_are_kept(engine: Make) -> None:
    async with open_shop(engine(), keep_events=100) as shop:
        late = await shop.subscribe(from_=0)
        for begin in range(0, 5000, 500):
            await fill(shop, *(Account(n, "x") for n in range(begin, begin + 500)))
        with pytest.raises(PositionGone) as caught:
            await anext(late)
        assert caught.value.position == 0
        assert 0 < caught.value.oldest <= 4900
        events = await shop.subscribe(from_=caught.value.oldest)
        assert (await anext(events)).position == caught.value.oldest + 1
        assert (await anext(await shop.subscribe(from_=4900))).position == 4901


@pytest.mark.parametrize("position", [1, 1000])
async def test_a_position_that_is_not_there_yet_is_refused(engine: Make, position: int) -> None:
    async with open_shop(engine()) as shop:
        with pytest.raises(ValueError, match="positions of this store go from 0 to 0"):
            await anext(await shop.subscribe(from_=position))


@pytest.mark.parametrize("position", [-1, "1", True])
async def test_what_is_no_position_is_refused_at_once(engine: Make, position: Any) -> None:
    async with open_shop(engine()) as shop:
        with pytest.raises(ValueError, match="from_ is the position"):
            await shop.subscribe(from_=position)


async def test_a_slow_reader_holds_nobody_up_and_misses_nothing(engine: Make) -> None:
    async with open_shop(engine()) as shop:
        events = await shop.subscribe(Counter)
        numbers: list[int] = []

        async def read() -> None:
            async for event in events:
                assert event.record is not None
                numbers.append(event.record.n)
                if len(numbers) % 50 == 0:
                    await asyncio.sleep(0)
                if len(numbers) == 1000:
                    return

        async def write(begin: int) -> None:
            for _ in range(begin, begin + 100):
                await shop.dirty_update_counter(Counter, "x")

        await asyncio.gather(read(), *(write(n * 100) for n in range(10)))
        assert numbers == list(range(1, 1001))
