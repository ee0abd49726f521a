"""A cache of answers that were expensive to get: a table with a bound, in a process of its own.

    cache = SearchCache[str, list[Page]]("search_cache")

    async with supervise([cache.child_spec(limit=1000, ttl=300.0)]):
        found = await cache.fetch("otp")
        if found is None:
            found = await search("otp")
            cache.cache("otp", found)

It is also an example to learn from: a server whose state is a plain class (`Entries`) that knows nothing of processes, whose
clients are refused where they err, and which tells what it does.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable
from dataclasses import asdict
from enum import Enum
from types import CoroutineType
from typing import Any, Final, Generic, TypeVar, overload

from beamish import GenServer, call, cast, monotonic, telemetry

from ._entries import CacheStats, Entries, Policy
from ._keys import check_key

Query = TypeVar("Query", bound=Hashable)
Result = TypeVar("Result")
D = TypeVar("D")

FETCH = telemetry.event("search_cache.fetch")
CACHE = telemetry.event("search_cache.cache")
STATS = telemetry.event("search_cache.stats")

SWEEP: Final = 1000
"""Expired entries dropped at most by one tick, which takes about half a millisecond then."""

_log = logging.getLogger("beamish.servers.search_cache")


class Nothing(Enum):
    """What stands for "not there", since None may well be a result."""

    HERE = "nothing"


class Tick(Enum):
    """The message that the server sends to itself."""

    STATS = "stats"


class SearchCache(GenServer[Entries[Query, Result]], Generic[Query, Result]):
    """Started with `limit=100, policy="oldest" | "lru", ttl=None, stats_every=60.0`; see `init`.

    A restarted cache is empty: what it held can be asked for again. Who needs more than that wants a store, not a cache.

    **Memory** is that of `limit` entries. **Work**: every call takes the same time, however large the table; only `clear` takes
    longer the more there is to drop.

    Queries must be hashable; an unhashable one raises TypeError in the client that typed it, and the server never sees it.
    """

    def init(
        self, *, limit: int = 100, policy: Policy = "oldest", ttl: float | None = None, stats_every: float | None = 60.0
    ) -> Entries[Query, Result]:
        """An empty table of at most `limit` entries.

        When it is full, a new query costs another entry its place: the one stored longest ago ("oldest"), or the one neither
        fetched nor stored for longest ("lru"). An entry lives `ttl` seconds (None: for ever) after it was last stored.
        Every `stats_every` seconds (None: never) it logs and tells its stats, and drops what has expired unmet.
        """
        if stats_every is not None:
            self.send_interval(stats_every, Tick.STATS)
        return Entries(limit, policy, ttl)

    # -- the client's side: a query is checked here, before it is sent, for in the server it would be everybody's crash

    @overload
    def fetch(self, query: Query) -> CoroutineType[Any, Any, Result | None]: ...
    @overload
    def fetch(self, query: Query, default: D) -> CoroutineType[Any, Any, Result | D]: ...
    def fetch(self, query: Query, default: Any = None) -> CoroutineType[Any, Any, Any]:
        """The result cached for `query`, else `default`. A cached None, False or [] is a hit: pass a default of your own to tell."""
        check_key(query, "query")
        return self._fetch(query, default)

    def cache(self, query: Query, result: Result) -> None:
        """Store `result`, without waiting: as every cast, it is done before any later call of the same client."""
        check_key(query, "query")
        self._cache(query, result)

    def put(self, query: Query, result: Result) -> CoroutineType[Any, Any, None]:
        """The same, awaited: when it returns, the result is stored."""
        check_key(query, "query")
        return self._put(query, result)

    def invalidate(self, query: Query) -> CoroutineType[Any, Any, bool]:
        """Drop `query`. True if it was there, and had not expired."""
        check_key(query, "query")
        return self._invalidate(query)

    @call
    def stats(self, entries: Entries[Query, Result]) -> CacheStats:
        """Size, hits and misses, and what became of all that was stored, since the start."""
        return entries.stats()

    @call
    def clear(self, entries: Entries[Query, Result]) -> int:
        """Drop everything and say how many entries that were. The counts go on."""
        return entries.clear()

    # -- the server's side

    @call
    def _fetch(self, entries: Entries[Query, Result], query: Query, default: D) -> Result | D:
        found = entries.fetch(query, Nothing.HERE, monotonic())
        if FETCH.handlers:
            FETCH.execute({"hit": found is not Nothing.HERE}, {"query": query, "server": self})
        return default if found is Nothing.HERE else found

    @call
    def _put(self, entries: Entries[Query, Result], query: Query, result: Result) -> None:
        self._store(entries, query, result)

    @cast
    def _cache(self, entries: Entries[Query, Result], query: Query, result: Result) -> None:
        self._store(entries, query, result)

    def _store(self, entries: Entries[Query, Result], query: Query, result: Result) -> None:
        entries.put(query, result, monotonic())
        if CACHE.handlers:
            CACHE.execute({"size": len(entries)}, {"query": query, "server": self})

    @call
    def _invalidate(self, entries: Entries[Query, Result], query: Query) -> bool:
        return entries.invalidate(query, monotonic())

    def handle_info(self, state: Entries[Query, Result], message: object) -> None:
        if message is not Tick.STATS:
            super().handle_info(state, message)
            return
        state.sweep(monotonic(), SWEEP)
        stats = state.stats()
        _log.info("%r: %d of %d entries, %.1f %% hits", self, stats.size, stats.limit, 100 * stats.hit_rate)
        if STATS.handlers:
            STATS.execute({**asdict(stats), "hit_rate": stats.hit_rate}, {"server": self})
