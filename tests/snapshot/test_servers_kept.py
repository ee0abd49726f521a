"""The ready-made servers over a restart: a cache without what expired meanwhile, a limiter that has forgiven nobody."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice, repeat
from math import inf
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from beamish import Snapshot, snapshot
from beamish.servers import RateLimiter, SearchCache
from beamish.servers._entries import Entries
from beamish.servers._window import SlidingWindow
from beamish.testing import ManualClock, World

Sleep = Callable[[float], None]
ALL: Any = {"stats_every": None}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kept.snap"


@pytest.fixture
def pass_by(monkeypatch: pytest.MonkeyPatch) -> Sleep:
    """Let so many seconds of the wall clock pass, while no program runs."""
    now = [1_000_000.0]
    for module in ("search_cache", "rate_limiter"):
        monkeypatch.setattr(f"beamish.servers.{module}.wall_clock", lambda: now[0])

    def pass_by(seconds: float) -> None:
        now[0] += seconds

    return pass_by


def rows(entries: Entries[Any, Any], now: float) -> list[tuple[Any, Any, float | None]]:
    return [row for keys, values, lefts in entries.pieces(now, 3) for row in zip(keys, values, lefts or repeat(None), strict=False)]


class TestSearchCache:
    async def test_it_begins_with_what_it_held(self, world: World, path: Path) -> None:
        cache = SearchCache[Any, Any]("cache")
        for n in range(3):
            await world.start_supervised(cache.child_spec(snapshot=path, **ALL))
            assert [await cache.fetch(("otp", n)) for n in range(n)] == [[1, n] for n in range(n)]
            await cache.put(("otp", n), [1, n])
            await world.stop_supervised("cache")

    async def test_by_default_it_begins_empty(self, world: World, path: Path) -> None:
        cache = SearchCache[str, int]("cache")
        await world.start_supervised(cache.child_spec(**ALL))
        assert (await cache.stats()).size == 0
        assert list(path.parent.iterdir()) == []

    async def test_an_entry_lives_no_longer_for_it(self, world: World, clock: ManualClock, path: Path, pass_by: Sleep) -> None:
        cache = SearchCache[str, int]("cache")
        spec = cache.child_spec(ttl=100.0, snapshot=path, **ALL)
        await world.start_supervised(spec)
        await cache.put("old", 1)
        await clock.advance(50.0)
        await cache.put("young", 2)
        await world.stop_supervised("cache")
        pass_by(60.0)
        await world.start_supervised(spec)
        assert [await cache.fetch(query) for query in ("old", "young")] == [None, 2]
        await clock.advance(39.0)
        assert await cache.fetch("young") == 2
        await clock.advance(1.0)
        assert await cache.fetch("young") is None

    async def test_a_wall_clock_that_was_set_back_gives_no_time(self, world: World, clock: ManualClock, path: Path, pass_by: Sleep) -> None:
        cache = SearchCache[str, int]("cache")
        spec = cache.child_spec(ttl=100.0, snapshot=path, **ALL)
        await world.start_supervised(spec)
        await cache.put("a", 1)
        await world.stop_supervised("cache")
        pass_by(-5000.0)
        await world.start_supervised(spec)
        await clock.advance(100.0)
        assert await cache.fetch("a") is None

    async def test_the_order_of_eviction_stays(self, world: World, path: Path) -> None:
        cache = SearchCache[str, int]("cache")
        spec = cache.child_spec(limit=3, policy="lru", ttl=100.0, snapshot=path, **ALL)
        await world.start_supervised(spec)
        for n, query in enumerate("abc"):
            await cache.put(query, n)
        await cache.fetch("a")
        await world.stop_supervised("cache")
        await world.start_supervised(spec)
        await cache.put("d", 4)
        assert [await cache.fetch(query) for query in "abcd"] == [0, None, 2, 4]

    async def test_with_another_limit_and_ttl(self, world: World, clock: ManualClock, path: Path, pass_by: Sleep) -> None:
        cache = SearchCache[int, int]("cache")
        await world.start_supervised(cache.child_spec(snapshot=path, **ALL))
        for n in range(5):
            await cache.put(n, n)
        await world.stop_supervised("cache")
        await world.start_supervised(cache.child_spec(limit=2, ttl=10.0, snapshot=path, **ALL))
        assert [await cache.fetch(n) for n in range(5)] == [None, None, None, 3, 4]
        await clock.advance(10.0)
        assert await cache.fetch(4) is None

    async def test_the_books_balance(self, world: World, path: Path) -> None:
        cache = SearchCache[int, int]("cache")
        spec = cache.child_spec(snapshot=path, **ALL)
        await world.start_supervised(spec)
        await cache.put(1, 1)
        await world.stop_supervised("cache")
        await world.start_supervised(spec)
        stats = await cache.stats()
        assert (stats.size, stats.insertions) == (1, 1)

    @pytest.mark.parametrize("codec", ["json", "pickle"])
    async def test_either_codec(self, world: World, path: Path, codec: Any) -> None:
        cache = SearchCache[int, Any]("cache")
        spec = cache.child_spec(snapshot=Snapshot(path, codec=codec), **ALL)
        await world.start_supervised(spec)
        await cache.put(1, {"a": (1,)})
        await world.stop_supervised("cache")
        await world.start_supervised(spec)
        assert await cache.fetch(1) == {"a": (1,)}

    @settings(deadline=None)
    @given(
        st.lists(st.tuples(st.integers(0, 9), st.integers(0, 20))),
        st.one_of(st.none(), st.integers(1, 50)),
        st.integers(1, 8),
        st.sampled_from(["oldest", "lru"]),
        st.integers(0, 60),
    )
    def test_rows_and_load_are_the_same_table_later(
        self, puts: list[tuple[int, int]], ttl: int | None, limit: int, policy: Any, later: int
    ) -> None:
        one, now = Entries[int, float](limit, policy, ttl), 0.0
        for key, passed in puts:
            now += passed
            one.put(key, now, now)
        other = Entries[int, float](limit, policy, ttl)
        other.load([(key, value, None if left is None else left - later) for key, value, left in rows(one, now)], 7000.0)
        live = [(key, value) for key, value, left in rows(one, now) if left is None or left - later > 0]
        assert [(key, value) for key, value, _ in rows(other, 7000.0)] == live
        assert other.stats().insertions == len(live)
        for key, value in live:
            assert other.fetch(key, None, 7000.0) == value

    @given(st.lists(st.tuples(st.integers(0, 20), st.sampled_from(["put", "fetch", "invalidate"]))), st.sampled_from(["oldest", "lru"]))
    def test_what_stays_is_in_some_piece_whatever_happens_between_them(self, steps: list[tuple[int, str]], policy: Any) -> None:
        entries, touched = Entries[int, int](100, policy, 60.0), set[int]()
        for key in range(10):
            entries.put(key, key, 0.0)
        found: dict[int, int] = {}
        moves = iter(steps)
        for keys, values, lefts in entries.pieces(0.0, 2):
            assert len(keys) == len(values) == len(lefts)
            found |= zip(keys, values, strict=True)
            for key, verb in islice(moves, 3):
                if verb == "put":
                    entries.put(key, key, 0.0)
                elif verb == "fetch":
                    entries.fetch(key, None, 0.0)
                else:
                    touched.add(key)
                    entries.invalidate(key, 0.0)
        left = {key for keys, _, _ in entries.pieces(0.0) for key in keys}
        assert {key: key for key in range(10) if key in left and key not in touched}.items() <= found.items()


class TestRateLimiter:
    async def test_who_is_denied_stays_denied(self, world: World, clock: ManualClock, path: Path, pass_by: Sleep) -> None:
        limiter = RateLimiter("limiter")
        spec = limiter.child_spec(limit=2, per=60.0, snapshot=path, **ALL)
        await world.start_supervised(spec)
        assert await limiter.track("ann")
        await clock.advance(10.0)
        assert await limiter.track("ann")
        assert not await limiter.track("ann")
        await world.stop_supervised("limiter")
        pass_by(20.0)
        await world.start_supervised(spec)
        decision = await limiter.track("ann")
        assert not decision
        assert decision.retry_after == pytest.approx(30.0)
        await clock.advance(30.001)
        assert await limiter.track("ann")
        assert not await limiter.track("ann")

    async def test_what_has_left_the_window_meanwhile_is_forgiven(self, world: World, path: Path, pass_by: Sleep) -> None:
        limiter = RateLimiter("limiter")
        spec = limiter.child_spec(limit=1, snapshot=path, **ALL)
        await world.start_supervised(spec)
        await limiter.track("ann")
        await world.stop_supervised("limiter")
        pass_by(61.0)
        await world.start_supervised(spec)
        assert await limiter.track("ann")

    async def test_a_wall_clock_that_was_set_back_forgives_nothing(
        self, world: World, clock: ManualClock, path: Path, pass_by: Sleep
    ) -> None:
        limiter = RateLimiter("limiter")
        spec = limiter.child_spec(limit=1, snapshot=path, **ALL)
        await world.start_supervised(spec)
        await limiter.track("ann")
        await world.stop_supervised("limiter")
        pass_by(-5000.0)
        await world.start_supervised(spec)
        assert (await limiter.peek("ann")).retry_after == pytest.approx(60.0)

    async def test_costs_and_other_limits(self, world: World, clock: ManualClock, path: Path, pass_by: Sleep) -> None:
        limiter = RateLimiter("limiter")
        await world.start_supervised(limiter.child_spec(limit=10, per=60.0, snapshot=path, **ALL))
        for cost in (1, 4, 3):
            assert await limiter.track("ann", cost)
        await limiter.track("bob")
        await world.stop_supervised("limiter")
        await world.start_supervised(limiter.child_spec(limit=10, per=60.0, snapshot=path, **ALL))
        assert (await limiter.peek("ann")).remaining == 2
        await limiter.track("bob")
        await world.stop_supervised("limiter")
        await world.start_supervised(limiter.child_spec(limit=4, per=100.0, max_keys=1, snapshot=path, **ALL))
        assert (await limiter.peek("bob")).remaining == 2
        assert (await limiter.peek("bob")).reset_after == pytest.approx(100.0)
        assert not await limiter.track("ann")  # no room: the one who was last is kept

    @pytest.mark.parametrize("codec", ["json", "pickle"])
    async def test_either_codec(self, world: World, path: Path, codec: Any) -> None:
        limiter = RateLimiter("limiter")
        spec = limiter.child_spec(limit=1, snapshot=Snapshot(path, codec=codec), **ALL)
        await world.start_supervised(spec)
        await limiter.track(("ann", 1))
        await world.stop_supervised("limiter")
        found = snapshot.load(Snapshot(path, codec=codec))
        assert found is not None
        assert type(found.data) is dict
        await world.start_supervised(spec)
        assert not await limiter.track(("ann", 1))

    @settings(deadline=None)
    @given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 4), st.floats(0, 30))), st.booleans())
    def test_rows_and_load_are_the_same_window_later(self, tracks: list[tuple[str, int, float]], ones: bool) -> None:
        one, now = SlidingWindow[str](5, 60.0, 100), 0.0
        for key, cost, passed in tracks:
            now += passed
            one.track(key, now, 1 if ones else cost)
        other = SlidingWindow[str](5, 60.0, 100)
        for keys, counts, lefts, costs in one.pieces(0.0):
            ends, prices = iter(lefts), iter(costs)
            other.load([(key, list(islice(ends, n)), list(islice(prices, n))) for key, n in zip(keys, counts, strict=True)], now)
        for key in "abc":
            for cost in (1, 2, 5, 6):
                assert other.peek(key, now, cost) == one.peek(key, now, cost)
        now += 25.0
        for key in "abc":
            assert other.track(key, now, 2) == one.track(key, now, 2)
        assert one.peek("d", now, 6).retry_after == inf
