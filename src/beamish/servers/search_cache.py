"""A cache of answers that were expensive to get: a table with a bound, in a process of its own.

    >>> async def search(cache: SearchCache[str, list[str]], query: str) -> list[str]:
    ...     pages = await cache.fetch(query)
    ...     if pages is None:
    ...         pages = [f"all about {query}"]          # the expensive part
    ...         cache.cache(query, pages)
    ...     return pages

    >>> async def main() -> None:
    ...     cache = SearchCache[str, list[str]]("search_cache")
    ...     async with supervise([cache.child_spec(limit=1000, ttl=300.0)]):
    ...         print(await search(cache, "otp"))
    ...         print(await search(cache, "otp"), (await cache.stats()).hits)

    >>> import asyncio
    >>> from beamish import supervise
    >>> asyncio.run(main())
    ['all about otp']
    ['all about otp'] 1

It is an example to learn from, too. Its state is a plain class (`Entries`) that knows nothing of processes and is tested
without any; what a client typed is checked in the client; what happens is told by telemetry.
"""

from __future__ import annotations

import logging
from collections.abc import Coroutine, Generator, Hashable
from dataclasses import asdict
from enum import Enum
from itertools import repeat
from os import PathLike
from time import time as wall_clock
from typing import Any, Generic, TypeVar, overload

from beamish import GenServer, Init, Snapshot, call, cast, monotonic, telemetry

from ._entries import CacheStats, Entries, Policy
from ._keys import check_key, check_value

Query = TypeVar("Query", bound=Hashable)
Result = TypeVar("Result")
D = TypeVar("D")
T = TypeVar("T")

Async = Coroutine[Any, Any, T]
"""What a call returns before it is awaited."""

FETCH = telemetry.event("search_cache.fetch")
CACHE = telemetry.event("search_cache.cache")
STATS = telemetry.event("search_cache.stats")

SWEEP = 1000
"""Expired entries dropped by one tick, at most: half a millisecond's work."""

_log = logging.getLogger("beamish.servers.search_cache")


class _Miss(Enum):
    """Not there: a value of its own, since None may be a result."""

    MISS = "miss"


MISS = _Miss.MISS


class SearchCache(GenServer[Entries[Query, Result]], Generic[Query, Result]):
    """Started with `limit=100, policy="oldest" | "lru", ttl=None, stats_every=60.0, snapshot=None`; see `init`.

    A restarted cache is empty: what it held can be asked for again. With a `snapshot` it begins with what it held when that was
    saved, but for what has expired since. A result is handed out as it was stored, not copied, so nobody changes it.

    **Memory**: `limit` entries, and the casts that wait. **Work**: each call and cast takes the same time, however large the
    table is; only `clear` takes longer the more there is to drop.

    **Errors**: an unhashable query raises TypeError where it was typed, and is not sent; in the server it would cost everybody
    the whole table. So does a coroutine for a result, or for a default. ServerDown, NoProcess and CallTimeout are those of every
    call; who can do without an answer takes them for a miss.
    """

    def init(
        self,
        *,
        limit: int = 100,
        policy: Policy = "oldest",
        ttl: float | None = None,
        stats_every: float | None = 60.0,
        snapshot: Snapshot | str | PathLike[str] | None = None,
    ) -> Init:
        """An empty table of at most `limit` entries. ValueError, and no start, for a value that makes no sense.

        When the table is full, a new query costs another entry its place: the one stored first ("oldest"), or the one neither
        fetched nor stored for longest ("lru"). An entry lives for `ttl` seconds after it was last stored (None: for ever).
        Every `stats_every` seconds (None: never) the cache logs and tells its stats, and drops what expired unseen.

        `snapshot` is a path, or a `Snapshot`, where the entries are kept (None: nowhere). Queries and results must then be such as
        `beamish.codec` can write. They are taken a thousand at a time, between which the cache goes on: one that changes meanwhile is
        saved as it was before or after. A thread does the rest. With "lru" their order is taken in one go: 0.25 µs for each.
        """
        if stats_every is not None:
            self.send_interval(stats_every, "log_stats")
        return Init(Entries[Query, Result](limit, policy, ttl), snapshot=snapshot)

    def dump(self, entries: Entries[Query, Result]) -> Generator[None, None, Any]:
        """What the snapshot holds. A monotonic clock means nothing to the next program, so it is seconds left, and the wall clock.

        The garbage collector goes through what is new: a row for each of 200,000 entries, or one list of them all, would take it 25 ms.
        """
        at, pieces = wall_clock(), list[Any]()
        for piece in entries.pieces(monotonic()):
            pieces.append(piece)
            yield
        return {"at": at, "pieces": pieces}

    def restore(self, entries: Entries[Query, Result], data: Any) -> Entries[Query, Result]:
        gone = max(0.0, wall_clock() - data["at"])  # a wall clock that was set back lets nothing live longer than it had left
        rows = (
            (query, result, None if left is None else left - gone)
            for queries, results, lefts in data["pieces"]
            for query, result, left in zip(queries, results, lefts or repeat(None), strict=False)
        )
        entries.load(rows, monotonic())
        return entries

    # --- the client's side: look at what was typed, then call

    @overload
    def fetch(self, query: Query) -> Async[Result | None]: ...
    @overload
    def fetch(self, query: Query, default: D) -> Async[Result | D]: ...
    def fetch(self, query: Query, default: D | None = None) -> Async[Result | D | None]:
        """The result stored for `query`, else `default`. A stored None, False or [] is a hit; pass a default of your own to tell."""
        check_key(query, "query")
        if default is not None:
            check_value(default, "default")
        return self._fetch(query, default)

    def cache(self, query: Query, result: Result) -> None:
        """Store `result` for `query`, and do not wait for it. What the same client asks for later finds it."""
        check_key(query, "query")
        check_value(result, "result")
        self._cache(query, result)

    def put(self, query: Query, result: Result) -> Async[None]:
        """The same as a call: once it is awaited, the result is stored."""
        check_key(query, "query")
        check_value(result, "result")
        return self._put(query, result)

    def invalidate(self, query: Query) -> Async[bool]:
        """Drop what is stored for `query`. True if that was something, and had not expired."""
        check_key(query, "query")
        return self._invalidate(query)

    @call
    def stats(self, entries: Entries[Query, Result]) -> CacheStats:
        """What is in the table, and what became of all that was stored and asked for since the start."""
        return entries.stats()

    @call
    def clear(self, entries: Entries[Query, Result]) -> int:
        """Drop everything, and say how many entries that were. The counts go on."""
        return entries.clear()

    # --- the server's side

    @call
    def _fetch(self, entries: Entries[Query, Result], query: Query, default: D) -> Result | D:
        now = monotonic() if entries.ttl else 0.0  # without a ttl nobody looks at it, and a fetch is a quarter quicker
        found = entries.fetch(query, MISS, now)
        if FETCH.handlers:
            FETCH.execute({"hit": found is not MISS}, {"query": query, "server": self})
        return default if found is MISS else found

    @cast
    def _cache(self, entries: Entries[Query, Result], query: Query, result: Result) -> None:
        _store(self, entries, query, result)

    @call
    def _put(self, entries: Entries[Query, Result], query: Query, result: Result) -> None:
        _store(self, entries, query, result)

    @call
    def _invalidate(self, entries: Entries[Query, Result], query: Query) -> bool:
        return entries.invalidate(query, monotonic())

    def handle_info(self, state: Entries[Query, Result], message: object) -> None:
        match message:
            case "log_stats":
                state.sweep(monotonic(), SWEEP)
                _tell(self, state.stats())
            case _:
                super().handle_info(state, message)


def _store(server: object, entries: Entries[Query, Result], query: Query, result: Result) -> None:
    entries.put(query, result, monotonic())
    if CACHE.handlers:
        CACHE.execute({"size": len(entries)}, {"query": query, "server": server})


def _tell(server: object, stats: CacheStats) -> None:
    _log.info(
        "%r holds %d of %d entries; %d hits, %d misses (%.0f %% hits)",
        server, stats.size, stats.limit, stats.hits, stats.misses, 100 * stats.hit_rate, extra={"server": server, "stats": stats},
    )  # fmt: skip
    if STATS.handlers:
        STATS.execute({**asdict(stats), "hit_rate": stats.hit_rate}, {"server": server})
