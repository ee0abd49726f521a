"""At most so many requests per key in a time: an exact sliding window, in a process that everybody asks.

    >>> async def main() -> None:
    ...     limiter = RateLimiter("rate_limiter")
    ...     async with supervise([limiter.child_spec(limit=2, per=60.0)]):
    ...         for _ in range(3):
    ...             decision = await limiter.track("203.0.113.7")
    ...             if decision:
    ...                 print("come in;", decision.remaining, "left")
    ...             else:
    ...                 print(f"too many requests; come back in {decision.retry_after:.0f} s")

    >>> import asyncio
    >>> from beamish import supervise
    >>> asyncio.run(main())
    come in; 1 left
    come in; 0 left
    too many requests; come back in 60 s

It is an example to learn from, too. The rule is a plain class (`SlidingWindow`) that is told the time; the server tells it
that of `monotonic()`, which never goes back (so nobody is let in early when the wall clock is set) and which a test moves by hand.
"""

from __future__ import annotations

import logging
from collections.abc import Coroutine, Generator, Hashable, Iterator
from os import PathLike
from time import time as wall_clock
from typing import Any, TypeVar

from beamish import GenServer, Init, Snapshot, call, monotonic, telemetry

from ._keys import check_key
from ._window import Decision, SlidingWindow, check_cost

T = TypeVar("T")

Key = Hashable
Async = Coroutine[Any, Any, T]
"""What a call returns before it is awaited."""

TRACK = telemetry.event("rate_limiter.track")
STATS = telemetry.event("rate_limiter.stats")

SWEEP = 1000
"""Idle keys forgotten by one tick, at most: half a millisecond's work."""

_log = logging.getLogger("beamish.servers.rate_limiter")


class RateLimiter(GenServer[SlidingWindow[Key]]):
    """Started with `limit=5, per=60.0, max_keys=100_000, stats_every=60.0, snapshot=None`; see `init`.

    At no time has a key more than `limit` units in the last `per` seconds. A restarted limiter starts from nothing, and lets
    each key use up to `limit` units again; with a `snapshot` it forgives only what was used since that was saved.

    **Memory**: about 260 bytes for each key that was let through in the last `per` seconds, and 8 for each time it was; requests
    that are denied take none. When `max_keys` keys are held, a new one is denied until one of those is idle (a limiter that
    forgot a key instead would forgive it); that is logged, and counted as `turned_away` in `rate_limiter.stats`.
    **Work**: each call takes about the same time, however many keys there are.

    **Errors**: an unhashable key or a cost that is no int from 1 raises where it was typed, and is not sent; in the server it
    would forgive everybody. ServerDown, NoProcess and CallTimeout are those of every call; the caller decides who may pass then.
    """

    def init(
        self,
        *,
        limit: int = 5,
        per: float = 60.0,
        max_keys: int = 100_000,
        stats_every: float | None = 60.0,
        snapshot: Snapshot | str | PathLike[str] | None = None,
    ) -> Init:
        """Nobody has used anything yet. ValueError, and no start, for a value that makes no sense.

        Every `stats_every` seconds (None: never) the limiter tells its stats, warns if there was no room for new keys, and
        forgets keys that are idle.

        `snapshot` is a path, or a `Snapshot`, where it is kept who has used what (None: nowhere). Keys must then be such as
        `beamish.codec` can write. They are taken some hundred at a time, between which the limiter goes on: what is let through
        meanwhile is saved or not. A thread does the rest.
        """
        if stats_every is not None:
            self.send_interval(stats_every, "tell_stats")
        return Init(SlidingWindow[Key](limit, per, max_keys), snapshot=snapshot)

    def dump(self, window: SlidingWindow[Key]) -> Generator[None, None, Any]:
        """What the snapshot holds. A monotonic clock means nothing to the next program, so it is seconds left, and the wall clock.

        See `SearchCache.dump`.
        """
        at, pieces = wall_clock(), list[Any]()
        for piece in window.pieces(monotonic()):
            pieces.append(piece)
            yield
        return {"at": at, "per": window.per, "pieces": pieces}

    def restore(self, window: SlidingWindow[Key], data: Any) -> SlidingWindow[Key]:
        gone = max(0.0, wall_clock() - data["at"])  # a wall clock that was set back forgives nothing
        now = monotonic()
        shift = now - gone + window.per - data["per"]  # an event leaves the window `per` after it was, whatever `per` was then
        window.load((row for piece in data["pieces"] for row in _rows(shift, *piece)), now)
        return window

    # --- the client's side: look at what was typed, then call

    def track(self, key: Key, cost: int = 1) -> Async[Decision]:
        """Ask to pass with `cost` units, and count them if the answer is yes. A request that is denied is not counted.

        In a condition the answer is its `allowed`. A cost above the limit is denied for ever: its `retry_after` is inf.
        """
        check_key(key)
        check_cost(cost)
        return self._track(key, cost)

    def peek(self, key: Key, cost: int = 1) -> Async[Decision]:
        """What `track` would answer now, and nothing is counted. `remaining` is what is left before the request."""
        check_key(key)
        check_cost(cost)
        return self._peek(key, cost)

    def reset(self, key: Key) -> Async[bool]:
        """Forgive `key` what it has used. True if there was something to forgive."""
        check_key(key)
        return self._reset(key)

    # --- the server's side

    @call
    def _track(self, window: SlidingWindow[Key], key: Key, cost: int) -> Decision:
        decision = window.track(key, monotonic(), cost)
        if TRACK.handlers:
            TRACK.execute({"allowed": decision.allowed, "remaining": decision.remaining}, {"key": key, "server": self})
        return decision

    @call
    def _peek(self, window: SlidingWindow[Key], key: Key, cost: int) -> Decision:
        return window.peek(key, monotonic(), cost)

    @call
    def _reset(self, window: SlidingWindow[Key], key: Key) -> bool:
        return window.reset(key)

    def handle_info(self, state: SlidingWindow[Key], message: object) -> None:
        match message:
            case "tell_stats":
                state.sweep(monotonic(), SWEEP)
                _tell(self, state)
            case _:
                super().handle_info(state, message)


def _rows(
    shift: float, keys: list[Key], counts: list[int], lefts: list[float], costs: list[int]
) -> Iterator[tuple[Key, list[float], list[int]]]:
    """Each key, when its events leave the window, and what they cost, from what `SlidingWindow.pieces` gave."""
    end = 0
    for key, count in zip(keys, counts, strict=True):
        begin, end = end, end + count
        yield key, [left + shift for left in lefts[begin:end]], costs[begin:end]


def _tell(server: object, window: SlidingWindow[Key]) -> None:
    turned_away, window.turned_away = window.turned_away, 0
    if turned_away:
        _log.warning(
            "%r turned away %d requests of new keys: it may hold %d keys, and holds them. Raise max_keys, or limit something coarser first",
            server, turned_away, window.max_keys, extra={"server": server, "turned_away": turned_away},
        )  # fmt: skip
    if STATS.handlers:
        STATS.execute({"keys": len(window), "max_keys": window.max_keys, "turned_away": turned_away}, {"server": server})
