"""SearchCache, as its clients see it. The table underneath has tests of its own, in test_entries."""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import asdict
from typing import Any

import pytest

import beamish
from beamish import KILL, Ignore, Init, Killed, NoProcess, NoReply, Reply, ServerDown, StartError, Stop, blocking, call, supervise
from beamish.servers import CacheStats, SearchCache
from beamish.testing import ManualClock, World, capture_crashes, settle
from capturing import events
from conftest import both_roads

Cache = SearchCache[Any, Any]


class Contrary:
    """A query that a table cannot look up: it hashes as another one, and will not be compared with it."""

    def __hash__(self) -> int:
        return hash("otp")

    def __eq__(self, other: object) -> bool:
        raise ArithmeticError("not to be compared")


@both_roads
class TestFetch:
    async def test_what_was_cached_is_found(self, world: World) -> None:
        cache = await world.start_supervised(Cache("cache").child_spec())
        assert await cache.fetch("otp") is None
        cache.cache("otp", ["supervisor"])
        assert await cache.fetch("otp") == ["supervisor"]

    async def test_a_miss_is_the_default(self, world: World) -> None:
        cache = await world.start_supervised(Cache.child_spec())
        assert await cache.fetch("otp", "nothing") == "nothing"
        assert await cache.fetch("otp", default=[]) == []

    @pytest.mark.parametrize("result", [None, False, 0, "", []])
    async def test_a_false_result_is_a_hit(self, world: World, result: Any) -> None:
        cache = await world.start_supervised(Cache.child_spec())
        cache.cache("otp", result)
        assert await cache.fetch("otp", "miss") is result
        assert (await cache.stats()).hits == 1

    async def test_a_result_that_is_the_default_is_a_hit_too(self, world: World) -> None:
        cache = await world.start_supervised(Cache.child_spec())
        with events("search_cache.fetch") as heard:
            cache.cache("otp", "same")
            await cache.fetch("otp", "same")
        assert heard[0].measurements == {"hit": True}

    async def test_queries_are_any_hashable_value(self, world: World) -> None:
        cache = await world.start_supervised(Cache.child_spec())
        for query in ("otp", ("otp", 27), frozenset({"a"}), None, 7):
            await cache.put(query, repr(query))
            assert await cache.fetch(query) == repr(query)


@both_roads
class TestCache:
    async def test_a_cast_is_done_before_the_clients_next_call(self, world: World) -> None:
        cache = await world.start_supervised(Cache.child_spec(limit=1000))
        for n in range(500):
            cache.cache(n, n + 1)
            assert await cache.fetch(n) == n + 1

    async def test_put_is_the_same_as_a_call(self, world: World) -> None:
        cache = await world.start_supervised(Cache.child_spec())
        await cache.put("otp", 1)
        assert await cache.fetch("otp") == 1

    async def test_the_oldest_entry_makes_room(self, world: World) -> None:
        cache = await world.start_supervised(Cache.child_spec(limit=2))
        for query in "zab":  # by key, "a" would be the first to go
            cache.cache(query, query)
        assert [await cache.fetch(query) for query in "zab"] == [None, "a", "b"]

    async def test_an_update_costs_nobody_the_place(self, world: World) -> None:
        cache = await world.start_supervised(Cache.child_spec(limit=2))
        for query, result in [("a", 1), ("b", 2), ("b", 3)]:
            cache.cache(query, result)
        assert [await cache.fetch(query) for query in "ab"] == [1, 3]
        assert (await cache.stats()).evictions == 0

    async def test_lru_keeps_what_is_fetched(self, world: World) -> None:
        cache = await world.start_supervised(Cache.child_spec(limit=2, policy="lru"))
        cache.cache("a", 1)
        cache.cache("b", 2)
        await cache.fetch("a")
        cache.cache("c", 3)
        assert [await cache.fetch(query) for query in "abc"] == [1, None, 3]

    async def test_a_cast_to_nobody_is_no_error_and_a_put_is(self, world: World) -> None:
        Cache("nobody").cache("otp", 1)
        with pytest.raises(NoProcess, match="'nobody'"):
            await Cache("nobody").put("otp", 1)


@both_roads
class TestTtl:
    async def test_an_entry_lives_for_ttl_after_it_was_stored(self, world: World, clock: ManualClock) -> None:
        cache = await world.start_supervised(Cache.child_spec(ttl=10.0, stats_every=None))
        await cache.put("otp", 1)
        await clock.advance(9.9)
        assert await cache.fetch("otp") == 1
        await clock.advance(0.2)
        assert await cache.fetch("otp") is None
        assert (await cache.stats()).expirations == 1

    async def test_storing_it_again_gives_it_another_ttl(self, world: World, clock: ManualClock) -> None:
        cache = await world.start_supervised(Cache.child_spec(ttl=10.0))
        await cache.put("otp", 1)
        await clock.advance(9.0)
        await cache.put("otp", 2)
        await clock.advance(9.0)
        assert await cache.fetch("otp") == 2

    async def test_without_one_it_lives_for_ever(self, world: World, clock: ManualClock) -> None:
        cache = await world.start_supervised(Cache.child_spec(stats_every=None))
        await cache.put("otp", 1)
        await clock.advance(1e9)
        assert await cache.fetch("otp") == 1


@both_roads
class TestInvalidateAndClear:
    async def test_invalidate_says_whether_there_was_something(self, world: World, clock: ManualClock) -> None:
        cache = await world.start_supervised(Cache.child_spec(ttl=10.0))
        await cache.put("otp", None)
        assert await cache.invalidate("otp") is True
        assert await cache.invalidate("otp") is False
        await cache.put("otp", 1)
        await clock.advance(10.0)
        assert await cache.invalidate("otp") is False

    async def test_clear_says_how_many_there_were(self, world: World) -> None:
        cache = await world.start_supervised(Cache.child_spec())
        await cache.put("a", 1)
        await cache.put("b", 2)
        assert await cache.clear() == 2
        assert await cache.fetch("a", "gone") == "gone"
        assert await cache.stats() == CacheStats(size=0, limit=100, misses=1, insertions=2, removals=2)


@both_roads
class TestStart:
    async def test_its_defaults(self, world: World) -> None:
        cache = await world.start_supervised(Cache.child_spec())
        assert await cache.stats() == CacheStats(size=0, limit=100)

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            ({"limit": 0}, "limit must be 1 or more. Got: 0"),
            ({"policy": "newest"}, "policy must be 'oldest' or 'lru'. Got: 'newest'"),
            ({"ttl": 0.0}, "ttl must be more than 0 seconds"),
            ({"stats_every": 0.0}, "more than 0. Got: 0.0"),
        ],
    )
    async def test_a_value_that_makes_no_sense_is_refused(self, world: World, arguments: dict[str, Any], text: str) -> None:
        with capture_crashes(), pytest.raises(StartError, match=text) as failed:
            await Cache("cache").start(**arguments)
        assert isinstance(failed.value.__cause__, ValueError)
        assert beamish.whereis("cache") is None


UNHASHABLE: list[Any] = [["otp"], {"q": "otp"}, ("otp", ["nested"]), {1}]


@both_roads
class TestUnhashableQueries:
    @pytest.mark.parametrize("query", UNHASHABLE)
    async def test_they_are_refused_in_the_client_and_the_server_lives(self, world: World, query: Any) -> None:
        cache = await world.start_supervised(Cache("cache").child_spec())
        pid = cache.pid()
        await cache.put("otp", 1)
        for ask in (cache.fetch, cache.invalidate):
            with pytest.raises(TypeError, match=r"a query must be hashable.*Pass a str, a tuple or a frozen dataclass"):
                await ask(query)
        for tell in (cache.put, cache.cache):
            with pytest.raises(TypeError, match=f"Got a {type(query).__name__}"):
                tell(query, 1)
        await settle()
        assert cache.pid() is pid
        assert await cache.fetch("otp") == 1

    async def test_they_are_not_even_sent(self, world: World) -> None:
        with pytest.raises(TypeError, match="hashable"):  # and not NoProcess
            await Cache("nobody").fetch([])


@both_roads
class TestWhatIsNoResult:
    async def test_a_coroutine_somebody_forgot_to_await(self, world: World) -> None:
        async def search() -> str:
            return "found"

        cache = await world.start_supervised(Cache("cache").child_spec())
        for use in (lambda one: cache.cache("otp", one), lambda one: cache.put("otp", one), lambda one: cache.fetch("otp", one)):
            forgotten = search()
            with pytest.raises(TypeError, match=r"Got a coroutine: .*search\. Await it first"):
                use(forgotten)
            forgotten.close()
        assert await cache.fetch("otp", "not there") == "not there"

    @pytest.mark.parametrize("value", [Stop("now"), Reply(1), NoReply(), Init(1), Ignore()])
    async def test_what_callbacks_answer_with(self, world: World, value: Any) -> None:
        cache = await world.start_supervised(Cache("cache").child_spec())
        with pytest.raises(TypeError, match="a result may not be what callbacks answer with"):
            cache.cache("otp", value)
        with pytest.raises(TypeError, match="a default may not"):
            await cache.fetch("otp", value)
        assert await cache.fetch("otp") is None


@both_roads
class TestCrash:
    async def test_a_restarted_cache_is_empty_and_limits_as_before(self, world: World) -> None:
        cache = await world.start_supervised(Cache("cache").child_spec(limit=2))
        await cache.put("otp", 1)
        with capture_crashes() as crashes, pytest.raises(ServerDown) as down:
            await cache.fetch(Contrary())
        assert isinstance(down.value.__cause__, ArithmeticError)
        assert len(crashes) >= 1
        assert await cache.fetch("otp", "empty") == "empty"
        assert await cache.stats() == CacheStats(size=0, limit=2, misses=1)

    async def test_its_tick_goes_with_it_and_the_new_one_has_its_own(self, world: World, clock: ManualClock) -> None:
        cache = await world.start_supervised(Cache("cache").child_spec(stats_every=60.0))
        await clock.advance(30.0)
        beamish.exit(cache, KILL)
        await cache.started()
        with events("search_cache.stats") as heard:
            await clock.advance(59.0)
            assert heard == []
            await clock.advance(2.0)
            assert len(heard) == 1
            await clock.advance(60.0)
            assert len(heard) == 2

    async def test_who_waits_hears_at_once(self, world: World) -> None:
        class Busy(SearchCache[str, int]):
            @call
            async def think(self, state: object) -> None:
                await asyncio.Event().wait()

        cache = await Busy("busy").start()
        waiting: list[asyncio.Future[Any]] = [asyncio.ensure_future(cache.think())]
        await settle()
        waiting += [asyncio.ensure_future(cache.fetch("otp")) for _ in range(10)]
        await settle()
        beamish.exit(cache, KILL)
        for one in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(one, ServerDown)
            assert one.reason == Killed()


@both_roads
class TestTelemetry:
    async def test_a_fetch_tells_hit_or_miss(self, world: World) -> None:
        cache = await world.start_supervised(Cache("cache").child_spec())
        with events("search_cache.fetch", "search_cache.cache") as heard:
            await cache.fetch("otp")
            cache.cache("otp", None)
            await cache.put("elixir", 1)
            await cache.fetch("otp")
        assert [(one.event, one.measurements, one.metadata["query"]) for one in heard] == [
            ("search_cache.fetch", {"hit": False}, "otp"),
            ("search_cache.cache", {"size": 1}, "otp"),
            ("search_cache.cache", {"size": 2}, "elixir"),
            ("search_cache.fetch", {"hit": True}, "otp"),
        ]
        assert {one.metadata["server"].pid() for one in heard} == {cache.pid()}

    async def test_a_handler_that_fails_costs_nobody_anything(self, world: World, caplog: pytest.LogCaptureFixture) -> None:
        cache = await world.start_supervised(Cache("cache").child_spec())

        def broken(*_: Any) -> None:
            raise ValueError("broken")

        beamish.telemetry.attach("broken", "search_cache.fetch", broken)
        with caplog.at_level(logging.CRITICAL, logger="beamish.telemetry"):
            assert await cache.fetch("otp", 7) == 7
        assert beamish.telemetry.list_handlers("search_cache") == []

    async def test_stats_come_every_minute_as_a_log_line_and_as_an_event(
        self, world: World, clock: ManualClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        cache = await world.start_supervised(Cache("cache").child_spec(limit=5))
        cache.cache("otp", 1)
        await cache.fetch("otp")
        await cache.fetch("elixir")
        with caplog.at_level(logging.INFO, logger="beamish.servers.search_cache"), events("search_cache.stats") as heard:
            await clock.advance(60.1)
        assert [one.measurements for one in heard] == [
            {**asdict(CacheStats(size=1, limit=5, hits=1, misses=1, insertions=1)), "hit_rate": 0.5},
        ]
        assert [record.getMessage().partition(")")[2] for record in caplog.records] == [
            " holds 1 of 5 entries; 1 hits, 1 misses (50 % hits)"
        ]

    async def test_none_turns_them_off(self, world: World, clock: ManualClock) -> None:
        await world.start_supervised(Cache("cache").child_spec(stats_every=None))
        with events("search_cache.stats") as heard:
            await clock.advance(10_000.0)
        assert heard == []

    async def test_the_tick_drops_what_expired_and_nobody_asked_for(self, world: World, clock: ManualClock) -> None:
        cache = await world.start_supervised(Cache.child_spec(limit=2000, ttl=1.0, stats_every=60.0))
        for n in range(1500):
            cache.cache(n, n)
        assert (await cache.stats()).size == 1500
        await clock.advance(60.1)
        assert (await cache.stats()).size == 500
        await clock.advance(60.0)
        assert (await cache.stats()).size == 0

    async def test_another_message_is_logged_as_unexpected(self, world: World) -> None:
        cache = await world.start_supervised(Cache.child_spec())
        with capture_crashes() as logged:
            beamish.send(cache, "hello")
            await cache.stats()
        assert ["hello" in record.getMessage() for record in logged] == [True]


@both_roads
class TestManyClients:
    async def test_they_find_what_they_stored_and_the_books_balance(self, world: World) -> None:
        cache = await world.start_supervised(Cache("cache").child_spec(limit=50, policy="lru"))

        async def client(number: int) -> int:
            chance = random.Random(number)
            fetches = 0
            for _ in range(50):
                query = chance.randrange(100)
                match chance.randrange(4):
                    case 0:
                        cache.cache(query, query)
                    case 1:
                        await cache.put(query, query)
                    case 2 if chance.random() < 0.1:
                        await cache.invalidate(query)
                    case _:
                        fetches += 1
                        assert await cache.fetch(query, query) == query
                if chance.random() < 0.2:
                    await asyncio.sleep(0)
            return fetches

        fetches = sum(await asyncio.gather(*(client(number) for number in range(100))))
        stats = await cache.stats()
        assert stats.hits + stats.misses == fetches
        assert stats.insertions - stats.evictions - stats.expirations - stats.removals == stats.size <= 50

    async def test_caches_do_not_know_each_other(self, world: World) -> None:
        one = await world.start_supervised(Cache("one").child_spec())
        other = await world.start_supervised(Cache("other").child_spec())
        await one.put("otp", 1)
        assert await other.fetch("otp") is None


def test_threads_ask_it_through_blocking() -> None:
    cache = SearchCache[str, int]("cache")
    with blocking.run([cache.child_spec()]) as rt:
        rt.call(cache.put, "otp", 1)
        assert rt.call(cache.fetch, "otp") == 1
        assert rt.call(cache.fetch, "elixir", 2) == 2


async def test_at_the_end_of_its_tree_nothing_is_left() -> None:
    cache = SearchCache[str, int]("cache")
    async with supervise([cache.child_spec(limit=5)]):
        await cache.put("otp", 1)
    assert cache.pid() is None
