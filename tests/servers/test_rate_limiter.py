"""RateLimiter, as its clients see it. The window underneath has tests of its own, in test_window."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Hashable
from math import inf
from typing import Any

import pytest

import beamish
from beamish import KILL, ServerDown, StartError, blocking, supervise
from beamish.servers import Decision, RateLimiter
from beamish.testing import ManualClock, World, capture_crashes, settle
from capturing import events
from conftest import both_roads


class Contrary:
    """A key that a table cannot look up: it hashes as another one, and will not be compared with it."""

    def __hash__(self) -> int:
        return hash("ann")

    def __eq__(self, other: object) -> bool:
        raise ArithmeticError("not to be compared")


async def track(limiter: RateLimiter, key: Hashable, times: int) -> list[bool]:
    return [(await limiter.track(key)).allowed for _ in range(times)]


@both_roads
class TestTrack:
    async def test_five_a_minute_for_each_key(self, world: World, clock: ManualClock) -> None:
        limiter = await world.start_supervised(RateLimiter("limiter").child_spec())
        assert await track(limiter, "ann", 6) == [True] * 5 + [False]
        assert await track(limiter, "bob", 6) == [True] * 5 + [False]
        await clock.advance(59.9)
        assert await track(limiter, "ann", 1) == [False]
        await clock.advance(0.1)
        assert await track(limiter, "ann", 6) == [True] * 5 + [False]

    async def test_the_window_slides(self, world: World, clock: ManualClock) -> None:
        limiter = await world.start_supervised(RateLimiter.child_spec(limit=2, per=10.0))
        assert await track(limiter, "ann", 1) == [True]
        await clock.advance(9.0)
        assert await track(limiter, "ann", 2) == [True, False]
        await clock.advance(1.0)  # the first has left, the second has not: a counter per 10 s would let two pass now
        assert await track(limiter, "ann", 2) == [True, False]

    async def test_a_denied_request_does_not_count(self, world: World, clock: ManualClock) -> None:
        limiter = await world.start_supervised(RateLimiter.child_spec(limit=1, per=10.0))
        assert await track(limiter, "ann", 100) == [True] + [False] * 99
        await clock.advance(10.0)
        assert await track(limiter, "ann", 1) == [True]

    async def test_retry_after_is_enough(self, world: World, clock: ManualClock) -> None:
        limiter = await world.start_supervised(RateLimiter.child_spec(limit=3, per=60.0))
        for _ in range(3):
            await limiter.track("ann")
            await clock.advance(7.0)
        denied = await limiter.track("ann")
        assert denied == Decision(allowed=False, limit=3, remaining=0, retry_after=39.0, reset_after=53.0)
        await clock.advance(denied.retry_after)
        assert await limiter.track("ann")

    async def test_a_request_may_cost_more(self, world: World, clock: ManualClock) -> None:
        limiter = await world.start_supervised(RateLimiter.child_spec(limit=5, per=60.0))
        assert (await limiter.track("ann", cost=3)).remaining == 2
        assert not await limiter.track("ann", 3)
        assert (await limiter.track("ann", 2)).remaining == 0
        never = await limiter.track("bob", 6)
        assert (never.allowed, never.retry_after) == (False, inf)

    async def test_when_the_table_is_full_new_keys_are_denied_and_nobody_is_forgiven(self, world: World, clock: ManualClock) -> None:
        limiter = await world.start_supervised(RateLimiter.child_spec(limit=1, per=60.0, max_keys=2))
        assert await track(limiter, "ann", 1) == await track(limiter, "bob", 1) == [True]
        await clock.advance(20.0)
        turned_away = await limiter.track("eve")
        assert (turned_away.allowed, turned_away.retry_after) == (False, 40.0)
        assert await track(limiter, "ann", 1) == [False]
        await clock.advance(40.0)
        assert await track(limiter, "eve", 1) == [True]


@both_roads
class TestPeekAndReset:
    async def test_peek_counts_nothing(self, world: World, clock: ManualClock) -> None:
        limiter = await world.start_supervised(RateLimiter.child_spec(limit=1))
        for _ in range(3):
            assert await limiter.peek("ann") == Decision(allowed=True, limit=1, remaining=1, retry_after=0.0, reset_after=0.0)
        await limiter.track("ann")
        assert not await limiter.peek("ann")
        assert (await limiter.peek("ann", cost=2)).retry_after == inf

    async def test_reset_forgives(self, world: World, clock: ManualClock) -> None:
        limiter = await world.start_supervised(RateLimiter.child_spec(limit=1))
        assert await limiter.reset("ann") is False
        assert await track(limiter, "ann", 2) == [True, False]
        assert await limiter.reset("ann") is True
        assert await track(limiter, "ann", 1) == [True]


@both_roads
class TestBadRequests:
    @pytest.mark.parametrize("key", [["ann"], {"ann": 1}, ("ann", [])])
    async def test_an_unhashable_key_is_refused_in_the_client(self, world: World, key: Any) -> None:
        limiter = await world.start_supervised(RateLimiter("limiter").child_spec(limit=1))
        pid = limiter.pid()
        await limiter.track("ann")
        for ask in (limiter.track, limiter.peek, limiter.reset):
            with pytest.raises(TypeError, match="a key must be hashable, and all that is in it"):
                await ask(key)
        assert limiter.pid() is pid
        assert not await limiter.track("ann")

    @pytest.mark.parametrize(("cost", "error"), [(0, ValueError), (-1, ValueError), (1.0, TypeError), ("1", TypeError)])
    async def test_so_is_a_cost_that_is_none(self, world: World, cost: Any, error: type[Exception]) -> None:
        limiter = await world.start_supervised(RateLimiter("limiter").child_spec(limit=1))
        await limiter.track("ann")
        for ask in (limiter.track, limiter.peek):
            with pytest.raises(error):
                await ask("ann", cost)
        assert not await limiter.track("ann")

    async def test_they_are_not_even_sent(self, world: World) -> None:
        with pytest.raises(TypeError, match="hashable"):  # and not NoProcess
            await RateLimiter("nobody").track([])  # type: ignore[arg-type]


@both_roads
class TestStart:
    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            ({"limit": 0}, "limit must be 1 or more. Got: 0"),
            ({"per": 0}, "per must be more than 0 seconds, and finite. Got: 0"),
            ({"max_keys": 0}, "max_keys must be 1 or more. Got: 0"),
            ({"stats_every": -1.0}, "more than 0. Got: -1.0"),
        ],
    )
    async def test_a_value_that_makes_no_sense_is_refused(self, world: World, arguments: dict[str, Any], text: str) -> None:
        with capture_crashes(), pytest.raises(StartError, match=text):
            await RateLimiter("limiter").start(**arguments)
        assert beamish.whereis("limiter") is None


@both_roads
class TestCrash:
    async def test_a_restarted_limiter_starts_from_nothing(self, world: World, clock: ManualClock) -> None:
        limiter = await world.start_supervised(RateLimiter("limiter").child_spec(limit=1))
        assert await track(limiter, "ann", 2) == [True, False]
        with capture_crashes(), pytest.raises(ServerDown) as down:
            await limiter.track(Contrary())
        assert isinstance(down.value.__cause__, ArithmeticError)
        assert await track(limiter, "ann", 2) == [True, False]

    async def test_its_tick_goes_with_it(self, world: World, clock: ManualClock) -> None:
        limiter = await world.start_supervised(RateLimiter("limiter").child_spec())
        await clock.advance(30.0)
        beamish.exit(limiter, KILL)
        await limiter.started()
        with events("rate_limiter.stats") as heard:
            await clock.advance(59.0)
            assert heard == []
            await clock.advance(2.0)
            assert len(heard) == 1


@both_roads
class TestTelemetry:
    async def test_a_track_tells_what_was_decided(self, world: World, clock: ManualClock) -> None:
        limiter = await world.start_supervised(RateLimiter("limiter").child_spec(limit=1))
        with events("rate_limiter.track") as heard:
            await track(limiter, "ann", 2)
            await limiter.peek("ann")
            await limiter.reset("ann")
        assert [(one.measurements, one.metadata["key"]) for one in heard] == [
            ({"allowed": True, "remaining": 0}, "ann"),
            ({"allowed": False, "remaining": 0}, "ann"),
        ]
        assert {one.metadata["server"].pid() for one in heard} == {limiter.pid()}

    async def test_stats_come_every_minute(self, world: World, clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
        limiter = await world.start_supervised(RateLimiter("limiter").child_spec(per=90.0))
        await limiter.track("ann")
        with events("rate_limiter.stats") as heard:
            await clock.advance(60.1)
            await clock.advance(60.0)
        assert [one.measurements for one in heard] == [
            {"keys": 1, "max_keys": 100_000, "turned_away": 0},
            {"keys": 0, "max_keys": 100_000, "turned_away": 0},
        ]
        assert caplog.records == []

    async def test_keys_that_were_turned_away_are_a_warning_once(
        self, world: World, clock: ManualClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        limiter = await world.start_supervised(RateLimiter("limiter").child_spec(max_keys=1))
        await limiter.track("ann")
        assert await track(limiter, "eve", 3) == [False] * 3
        with events("rate_limiter.stats") as heard, caplog.at_level(logging.WARNING, logger="beamish.servers.rate_limiter"):
            await clock.advance(60.1)
            await clock.advance(60.0)
        assert [one.measurements["turned_away"] for one in heard] == [3, 0]
        assert ["turned away 3 requests of new keys" in record.getMessage() for record in caplog.records] == [True]

    async def test_none_turns_them_off(self, world: World, clock: ManualClock) -> None:
        await world.start_supervised(RateLimiter.child_spec(stats_every=None))
        with events("rate_limiter.stats") as heard:
            await clock.advance(10_000.0)
        assert heard == []

    async def test_the_tick_forgets_idle_keys(self, world: World, clock: ManualClock) -> None:
        limiter = await world.start_supervised(RateLimiter.child_spec(per=1.0))
        for key in range(1500):
            await limiter.track(key)
        with events("rate_limiter.stats") as heard:
            await clock.advance(60.1)
            await clock.advance(60.0)
        assert [one.measurements["keys"] for one in heard] == [500, 0]

    async def test_another_message_is_logged_as_unexpected(self, world: World) -> None:
        limiter = await world.start_supervised(RateLimiter.child_spec())
        with capture_crashes() as logged:
            beamish.send(limiter, "hello")
            await settle()
        assert ["hello" in record.getMessage() for record in logged] == [True]


@both_roads
class TestManyClients:
    async def test_at_no_time_are_more_than_the_limit_in_the_window(self, world: World, clock: ManualClock) -> None:
        limiter = await world.start_supervised(RateLimiter("limiter").child_spec(limit=7, per=10.0))
        passed: list[float] = []

        async def client() -> None:
            if await limiter.track("door"):
                passed.append(beamish.monotonic())

        for _ in range(60):
            await asyncio.gather(*(client() for _ in range(20)))
            await clock.advance(0.7)
        assert len(passed) > 7
        for number, last in enumerate(passed):
            assert len([at for at in passed[: number + 1] if at > last - 10.0]) <= 7
        assert len(passed) >= 7 * 4  # and nobody is kept out who need not be

    async def test_exactly_the_limit_of_those_who_come_at_once(self, world: World, clock: ManualClock) -> None:
        limiter = await world.start_supervised(RateLimiter("limiter").child_spec(limit=10))
        decisions = await asyncio.gather(*(limiter.track("door") for _ in range(300)))
        assert sum(decision.allowed for decision in decisions) == 10
        assert sorted(decision.remaining for decision in decisions if decision) == list(range(10))


def test_threads_ask_it_through_blocking() -> None:
    limiter = RateLimiter("limiter")
    with blocking.run([limiter.child_spec(limit=1)]) as rt:
        assert [bool(rt.call(limiter.track, "ann")) for _ in range(2)] == [True, False]


async def test_at_the_end_of_its_tree_nothing_is_left() -> None:
    limiter = RateLimiter("limiter")
    async with supervise([limiter.child_spec(limit=5)]):
        assert await limiter.track("ann")
    assert limiter.pid() is None
