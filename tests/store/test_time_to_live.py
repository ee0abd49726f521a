"""Records that expire: nobody finds them any more, and the sweep deletes them."""

from __future__ import annotations

from collections.abc import Callable

from beamish.store import Engine
from beamish.testing import ManualClock
from storing import Session, fill, open_shop

Make = Callable[[], Engine]


async def test_an_expired_record_is_not_there_any_more(engine: Make, clock: ManualClock) -> None:
    async with open_shop(engine(), sweep_every=None) as shop:
        await fill(shop, Session("a", "ann"), Session("b", "ann", until=4e9))
        found = await shop.dirty_read(Session, "a")
        assert found is not None
        assert found.until is not None
        await clock.advance(59.0)
        assert len(await shop.dirty_query(Session, index="user", key="ann")) == 2
        await clock.advance(1.5)
        async with shop.transaction() as tx:
            assert await tx.read(Session, "a") is None
            assert await tx.read_all(Session, "a") == []
            assert [one.id for one in await tx.query(Session)] == ["b"]
            assert [one.id for one in await tx.query(Session, index="user", key="ann", limit=1)] == ["b"]
            tx.write(Session("a", "eve"))
            assert await tx.read(Session, "a") is not None
        assert await shop.dirty_read(Session, "a") is not None


async def test_the_sweep_deletes_what_has_expired_and_says_so(engine: Make, clock: ManualClock) -> None:
    async with open_shop(engine(), sweep_every=10.0) as shop:
        await fill(shop, *(Session(f"s{n:04}") for n in range(1200)), Session("stays", until=4e9))
        events = await shop.subscribe(Session)
        await clock.advance(61.0)
        assert [one.id for one in await shop.dirty_query(Session)] == ["stays"]
        position = events.position
        while position < 2401:
            await clock.advance(10.0)  # a beat that comes while a sweep is at it does nothing
            position = await shop.position()
        gone = [await anext(events) for _ in range(1200)]
        assert {one.op for one in gone} == {"delete"}
        assert sorted(one.key for one in gone) == [f"s{n:04}" for n in range(1200)]
        assert [one.id for one in await shop.dirty_query(Session)] == ["stays"]
        await clock.advance(30.0)
        assert await shop.dirty_read(Session, "stays") is not None
