"""At most so many requests per key in a time: an exact sliding window, in a process that everybody asks.

    limiter = RateLimiter("rate_limiter")

    async with supervise([limiter.child_spec(limit=5, per=60.0)]):
        decision = await limiter.track(client_address)
        if not decision:
            raise TooManyRequests(retry_after=decision.retry_after)

It is also an example to learn from: the rule is a plain class (`SlidingWindow`) that is given the time; the server gives it
the time of its node, which never goes back, and which a test moves by hand.
"""

from __future__ import annotations

from collections.abc import Hashable
from types import CoroutineType
from typing import Any

from beamish import GenServer, call, monotonic, telemetry

from ._keys import check_key
from ._window import Decision, SlidingWindow, check_cost

TRACK = telemetry.event("rate_limiter.track")


class RateLimiter(GenServer[SlidingWindow[Hashable]]):
    """Started with `limit=5, per=60.0, max_keys=100_000`; see `init`.

    At no time are more than `limit` units in the last `per` seconds of a key. A restarted limiter has forgotten everything:
    it lets up to `limit` units through again.

    **Memory**: about 260 bytes for each key that has been let through within `per` seconds, and 8 for each time it was.
    `max_keys` is the bound; when that many keys are in use, a new one is denied until one of them is idle.
    **Work**: every call takes about the same time, however many keys there are.

    Keys must be hashable, and a cost is an int, 1 or more; anything else raises in the client that typed it, and the server
    never sees it.
    """

    def init(self, *, limit: int = 5, per: float = 60.0, max_keys: int = 100_000) -> SlidingWindow[Hashable]:
        """At most `limit` units per key in any `per` seconds, for at most `max_keys` keys at a time."""
        return SlidingWindow(limit, per, max_keys)

    # -- the client's side: what it typed is checked here, for in the server it would be everybody's crash

    def track(self, key: Hashable, cost: int = 1) -> CoroutineType[Any, Any, Decision]:
        """Ask to pass with `cost` units, and count them if the answer is yes; a request that is denied is not counted.

        In a condition the answer is its `allowed`. A cost above the limit is denied for ever (`retry_after` is inf).
        """
        check_key(key)
        check_cost(cost)
        return self._track(key, cost)

    def peek(self, key: Hashable, cost: int = 1) -> CoroutineType[Any, Any, Decision]:
        """What `track` would answer now, without counting anything; `remaining` is what is left before the request."""
        check_key(key)
        check_cost(cost)
        return self._peek(key, cost)

    def reset(self, key: Hashable) -> CoroutineType[Any, Any, bool]:
        """Forgive `key` what it has used. True if there was something to forgive."""
        check_key(key)
        return self._reset(key)

    # -- the server's side

    @call
    def _track(self, window: SlidingWindow[Hashable], key: Hashable, cost: int) -> Decision:
        decision = window.track(key, monotonic(), cost)
        if TRACK.handlers:
            TRACK.execute({"allowed": decision.allowed, "remaining": decision.remaining}, {"key": key, "server": self})
        return decision

    @call
    def _peek(self, window: SlidingWindow[Hashable], key: Hashable, cost: int) -> Decision:
        return window.peek(key, monotonic(), cost)

    @call
    def _reset(self, window: SlidingWindow[Hashable], key: Hashable) -> bool:
        return window.reset(key)
