"""What callers of the ready-made servers get. Checked by mypy and pyright; nothing here is run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_type

from beamish import ChildSpec, blocking, call, supervise
from beamish.servers import CacheStats, Decision, RateLimiter, SearchCache


@dataclass(frozen=True)
class Page:
    title: str


async def the_cache_is_parametrised_where_it_is_named() -> None:
    cache = SearchCache[str, Page]("cache")
    assert_type(cache.child_spec(limit=5), ChildSpec[SearchCache[str, Page]])
    assert_type(await cache.start_link(limit=5, policy="lru", ttl=60.0, stats_every=None), SearchCache[str, Page])
    assert_type(await SearchCache[str, Page].start_link(limit=5), SearchCache[str, Page])
    async with supervise([cache.child_spec(), SearchCache[int, bytes].child_spec(limit=5)]):
        pass


async def what_a_fetch_gives(cache: SearchCache[str, Page], maybe: SearchCache[tuple[str, int], Page | None]) -> None:
    assert_type(await cache.fetch("q"), Page | None)
    assert_type(await cache.fetch("q", None), Page | None)
    assert_type(await cache.fetch("q", False), Page | bool)
    assert_type(await cache.fetch("q", default=Page("none")), Page)
    assert_type(await SearchCache[str, Page].fetch(cache, "q"), Page | None)
    assert_type(await cache.with_timeout(0.2).fetch("q", 0), Page | int)
    assert_type(await maybe.fetch(("q", 1), "miss"), Page | str | None)


async def what_the_other_verbs_give(cache: SearchCache[str, Page]) -> None:
    assert_type(cache.cache("q", Page("")), None)
    assert_type(await cache.put("q", Page("")), None)
    assert_type(await cache.invalidate("q"), bool)
    assert_type(await cache.clear(), int)
    assert_type(await cache.stats(), CacheStats)


def what_threads_get(cache: SearchCache[str, Page], limiter: RateLimiter) -> None:
    assert_type(blocking.call(cache.fetch, "q"), Page | None)
    assert_type(blocking.call(cache.fetch, "q", 1), Page | int)
    assert_type(blocking.call(limiter.track, "ann"), Decision)


async def what_the_cache_refuses(cache: SearchCache[str, Page]) -> None:
    await cache.fetch(1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    cache.cache("q", "page")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await cache.put(["q"], Page(""))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    cache.child_spec(size=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    cache.child_spec(policy="newest")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    found: Page = await cache.fetch("q")  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    print(found)


async def what_the_limiter_gives(limiter: RateLimiter) -> None:
    assert_type(await RateLimiter.start_link(limit=10, per=1.0, max_keys=1000), RateLimiter)
    assert_type(limiter.child_spec(limit=10), ChildSpec[RateLimiter])
    assert_type(await limiter.track("ann"), Decision)
    assert_type(await limiter.track(("ann", 1), cost=3), Decision)
    assert_type(await limiter.peek("ann"), Decision)
    assert_type(await limiter.reset("ann"), bool)
    if decision := await limiter.track("ann"):
        assert_type(decision.remaining, int)


async def what_the_limiter_refuses(limiter: RateLimiter) -> None:
    await limiter.track(["ann"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await limiter.track("ann", cost="3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    limiter.child_spec(limit="5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class Counting(SearchCache[str, Page]):
    """A subclass may add calls of its own."""

    @call
    def two(self, state: object) -> int:
        return 2


async def what_a_subclass_gives() -> None:
    counting = await Counting("counting").start_link(limit=5)
    assert_type(counting, Counting)
    assert_type(await counting.fetch("q"), Page | None)
    assert_type(await counting.two(), int)
