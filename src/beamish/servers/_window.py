"""The arithmetic of a rate limiter: an exact sliding window per key, in memory that has a bound.

No process, no clock and no loop in here: every verb is given `now`, in seconds of a monotonic clock, which never goes back.
`RateLimiter` is this table behind a GenServer.

The rule: an event at t is in the window before t + per and out of it at t + per; at no time are more than `limit` units in it. That is
exact, up to the rounding of one float addition, because the events themselves are kept: 8 bytes for each that was allowed, none for one
that was denied. A counter per minute lets twice the limit through around the full minute; a wall clock forgives when it is set forward.

Nothing in the window is ever forgotten, and that decides what happens when `max_keys` keys are held: see `SlidingWindow`.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import inf, nextafter
from operator import index
from typing import Any, Generic, TypeVar, cast

K = TypeVar("K", bound=Hashable)

SWEEP = 2
"""Idle keys forgotten in passing by one operation. An operation adds one key at most, so two always catch up."""


@dataclass(frozen=True, slots=True)
class Decision:
    """May this request pass? In a condition a decision is its `allowed`, so that `if decision:` cannot let everybody in.

    >>> bool(Decision(allowed=False, limit=5, remaining=0, retry_after=12.5, reset_after=60.0))
    False
    """

    allowed: bool
    """Whether the request may pass."""
    limit: int
    """Units allowed in a window."""
    remaining: int
    """Units left in the window: after this request if it was counted, else as it is."""
    retry_after: float
    """Seconds until a request of the same cost is allowed, if no other comes first: 0.0 if this one is, inf if none ever will be."""
    reset_after: float
    """Seconds until the window is empty: 0.0 if it is."""

    def __bool__(self) -> bool:
        return self.allowed


class _Draft:
    """Makes a Decision in 390 ns where the generated __init__ of a frozen dataclass, which may not assign, takes 1060."""

    __slots__ = ("allowed", "limit", "remaining", "retry_after", "reset_after")

    def __init__(self, allowed: bool, limit: int, remaining: int, retry_after: float, reset_after: float) -> None:
        self.allowed = allowed
        self.limit = limit
        self.remaining = remaining
        self.retry_after = retry_after
        self.reset_after = reset_after
        self.__class__ = Decision  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]


_decision: Callable[[bool, int, int, float, float], Decision] = cast("Any", _Draft)


class _Log:
    """What one key has in the window, as of the last `trim`. Between two requests it is never empty."""

    __slots__ = ("ends", "head", "used", "before")

    def __init__(self, end: float, cost: int) -> None:
        self.ends = array("d", (end,))  # When each event leaves the window, in order. An array: 8 bytes each, nothing for the collector.
        self.head = 0  # The first event that counts; those before it are dropped when they are half of all.
        self.used = cost  # Units of the events that count.
        self.before: list[int] | None = None if cost == 1 else [0]  # Units before each event; None while every event costs 1.

    def add(self, end: float, cost: int) -> None:
        if cost != 1 and self.before is None:
            self.before = list(range(len(self.ends)))
        if self.before is not None:
            self.before.append(self.before[self.head] + self.used if self.used else 0)
        self.ends.append(end)
        self.used += cost

    def trim(self, now: float) -> None:
        """Leave out the events that are out of the window. Looks at log2(len(ends)) of them."""
        start = bisect_right(self.ends, now, self.head)
        self.used = self.units(start)
        self.head = start
        if start == len(self.ends):
            self._cut(start)
            self.before = None
        elif start >= 8 and 2 * start >= len(self.ends):
            self._cut(start)

    def units(self, start: int) -> int:
        """Units of the events from `start`, which is not before `head`."""
        if self.before is None:
            return len(self.ends) - start
        return self.used - (self.before[start] - self.before[self.head]) if start < len(self.before) else 0

    def costs(self) -> list[int] | None:
        """What each event that counts has cost. None: 1."""
        if self.before is None:
            return None
        before = self.before[self.head :]
        return [after - one for one, after in pairwise([*before, before[0] + self.used])]

    def frees(self, start: int, units: int) -> float:
        """When the first `units` (1 or more) of the events from `start` have left the window."""
        if self.before is None:
            return self.ends[start + units - 1]
        return self.ends[bisect_left(self.before, self.before[start] + units, start + 1) - 1]

    def _cut(self, start: int) -> None:
        # Moves no more numbers than it drops, in one memmove: O(1) per event in the long run.
        del self.ends[:start]
        if self.before is not None:
            del self.before[:start]
        self.head = 0


class SlidingWindow(Generic[K]):
    """At most `limit` units per key in any `per` seconds, for at most `max_keys` keys at a time.

    `limit` is 1 or more (default 5), `per` is in seconds (default 60.0), `max_keys` 1 or more (default 100_000). ValueError otherwise.

    **Memory.** A key is held while it has units in the window. When its window has run out it is idle: it is forgotten in passing, in
    the order in which keys became idle, and nothing is lost by that. A key takes about 260 bytes, and 8 for each event in its window (17
    to 50 if it asks with costs above 1; twice that at worst, before what has left is dropped): 100_000 keys of 5 events are 30 MB.

    **When there is no room.** If `max_keys` keys all have units in the window, a new key is denied, with a `retry_after` of when the
    first of them can become idle: the limiter fails closed. It does not forget a key to make room, as an LRU would: whoever is denied
    could then send requests under new names until he is forgotten and forgiven. Nor does it forget one with 3 of 5 units used, for that
    forgives 3. So `max_keys` has to be more than the keys that are seen in `per` seconds, and `turned_away` counts when it was not. If
    anybody can invent keys, put a limit on something coarser (a network, say) in front.

    Raises ValueError for a cost below 1. It and the TypeError for an unhashable key change nothing; but raised in a server they would
    end it, and everybody would be forgiven, so clients check both first (see `check_cost` and `_keys.check_key`).

    >>> window: SlidingWindow[str] = SlidingWindow(limit=2, per=60.0)
    >>> window.track("ann", now=0.0)
    Decision(allowed=True, limit=2, remaining=1, retry_after=0.0, reset_after=60.0)
    >>> window.track("ann", now=15.0).remaining
    0
    >>> window.track("ann", now=30.0)
    Decision(allowed=False, limit=2, remaining=0, retry_after=30.0, reset_after=45.0)
    >>> window.track("ann", now=60.0).allowed            # the first has left the window
    True
    """

    __slots__ = ("_granted", "_logs", "_soonest", "limit", "max_keys", "per", "turned_away")

    def __init__(self, limit: int = 5, per: float = 60.0, max_keys: int = 100_000) -> None:
        if not limit >= 1:
            raise ValueError(f"limit must be 1 or more. Got: {limit!r}")
        if not 0 < per < inf:
            raise ValueError(f"per must be more than 0 seconds, and finite. Got: {per!r}")
        if not max_keys >= 1:
            raise ValueError(f"max_keys must be 1 or more. Got: {max_keys!r}")
        self.limit = limit
        self.per = per
        self.max_keys = max_keys
        self.turned_away = 0  # Requests denied because there was no room for their key.
        # Idle first first: a key moves to the end when an event is counted, and all windows are equally long.
        self._logs: OrderedDict[K, _Log] = OrderedDict()
        self._soonest = inf  # No key is idle before this: one comparison spares a request the look at the first key.
        self._granted: dict[int, Decision] = {}  # By what remains: nothing else differs in the answers to those who may pass.

    def __len__(self) -> int:
        """Keys held now, idle ones that nobody has met yet among them; never more than `max_keys`."""
        return len(self._logs)

    def track(self, key: K, now: float, cost: int = 1) -> Decision:
        """Ask to pass with `cost` units (default 1), and count them if the answer is yes. A denied request is not counted.

        A cost above the limit is denied for ever: its `retry_after` is inf.
        """
        if not 0 < cost <= self.limit:
            return self.peek(key, now, cost)
        if now >= self._soonest:
            self.sweep(now)
        log = self._logs.get(key)
        if log is None:
            return self._admit(key, now, cost)
        if log.ends[log.head] <= now:
            log.trim(now)
        left = self.limit - log.used - cost
        if left < 0:
            return _denied(self.limit, left + cost, now, log.frees(log.head, -left), log.ends[-1])
        if cost == 1 and log.before is None:  # As log.add does, without the call.
            log.ends.append(now + self.per)
            log.used += 1
        else:
            log.add(now + self.per, cost)
        self._logs.move_to_end(key)
        try:
            return self._granted[left]
        except KeyError:
            return self._grant(left)

    def peek(self, key: K, now: float, cost: int = 1) -> Decision:
        """What `track` would answer, without counting or changing anything; `remaining` is what is left before the request.

        >>> window: SlidingWindow[str] = SlidingWindow(limit=2)
        >>> window.peek("ann", now=0.0)
        Decision(allowed=True, limit=2, remaining=2, retry_after=0.0, reset_after=0.0)
        """
        check_cost(cost)
        log = self._logs.get(key)
        if log is None:
            return self._peek_new(now, cost)
        start = bisect_right(log.ends, now, log.head)
        left = self.limit - log.units(start)
        if cost <= left:
            return _decision(True, self.limit, left, 0.0, _until(log.ends[-1], now))
        retry_at = log.frees(start, cost - left) if cost <= self.limit else inf
        return _denied(self.limit, left, now, retry_at, max(log.ends[-1], now))

    def reset(self, key: K) -> bool:
        """Forgive `key` what it has used. True if there was something to forget."""
        return self._logs.pop(key, None) is not None

    def sweep(self, now: float, most: int = SWEEP) -> int:
        """Forget idle keys, `most` of them at most, first idle first, and say how many.

        `track` does so in passing. A limiter that nobody asks keeps its idle keys; a server that ticks may call this as well.
        """
        logs = self._logs
        for forgotten in range(most):
            if not logs:
                self._soonest = inf
                return forgotten
            key, log = next(iter(logs.items()))
            if log.ends[-1] > now:
                self._soonest = log.ends[-1]
                return forgotten
            del logs[key]
        return most

    def pieces(self, now: float, size: int = 1000) -> Iterator[tuple[list[K], list[int], list[float], list[int]]]:
        """What each key has in the window, in no order, about `size` events at a time: keys, and how many events each has;
        of these events, one after the other, the seconds until they leave it, and what each cost.

        Between two pieces the window may be used. A key is then given as it is when its piece is made, and not if it comes later.

        >>> window: SlidingWindow[str] = SlidingWindow(limit=2, per=60.0)
        >>> window.track("ann", now=10.0).allowed
        True
        >>> list(window.pieces(now=20.0))
        [(['ann'], [1], [50.0], [1])]
        """
        keys: list[K] = []
        counts: list[int] = []
        lefts: list[float] = []
        costs: list[int] = []
        every = list(dict[K, _Log].keys(self._logs))  # in no order: that of an OrderedDict takes 0.25 µs a key in one go
        for seen, key in enumerate(every, 1):
            log = self._logs.get(key)
            if log is not None and log.ends[-1] > now:
                ends = log.ends[log.head :]
                keys.append(key)
                counts.append(len(ends))
                lefts += [end - now for end in ends]
                costs += log.costs() or [1] * len(ends)
            if len(costs) >= size or seen % size == 0:  # of idle keys, too, no more are passed over in one go
                yield keys, counts, lefts, costs
                keys, counts, lefts, costs = [], [], [], []
        yield keys, counts, lefts, costs

    def load(self, rows: Iterable[tuple[K, list[float], list[int]]], now: float) -> None:
        """Fill an empty window with events: of each key, when they leave the window, in order, and what each cost.

        What has left it is left out. Where there is more than `limit` and `max_keys` have room for, what leaves last stays.

        >>> window: SlidingWindow[str] = SlidingWindow(limit=2, per=60.0)
        >>> window.load([("ann", [30.0, 40.0], [1, 1]), ("bob", [9.0], [1])], now=10.0)
        >>> window.peek("ann", now=10.0)
        Decision(allowed=False, limit=2, remaining=0, retry_after=20.0, reset_after=30.0)
        >>> len(window)
        1
        """
        found = [(key, log) for key, ends, costs in rows if (log := _log_of(ends, costs, now, self.limit)) is not None]
        found.sort(key=lambda one: one[1].ends[-1])
        self._logs.update(found[-self.max_keys :])
        self._soonest = min((log.ends[-1] for _, log in found), default=inf)

    def _admit(self, key: K, now: float, cost: int) -> Decision:
        if len(self._logs) >= self.max_keys:
            # A sweep has just been, or was not due: no key is idle, and only idle keys may be forgotten.
            self.turned_away += 1
            return self._peek_new(now, cost)
        end = now + self.per
        self._logs[key] = _Log(end, cost)
        if end < self._soonest:
            self._soonest = end
        left = self.limit - cost
        return self._granted.get(left) or self._grant(left)

    def _peek_new(self, now: float, cost: int) -> Decision:
        """The answer to a key that is not held: there is room for it, or there will be."""
        if cost > self.limit:
            return _denied(self.limit, self.limit, now, inf, now)
        if len(self._logs) >= self.max_keys:
            room = next(iter(self._logs.values())).ends[-1]
            if room > now:
                return _denied(self.limit, 0, now, room, now)
        return _decision(True, self.limit, self.limit, 0.0, 0.0)

    def _grant(self, left: int) -> Decision:
        decision = _decision(True, self.limit, left, 0.0, self.per)
        if len(self._granted) < 1024:
            self._granted[left] = decision
        return decision


def _log_of(ends: list[float], costs: list[int], now: float, limit: int) -> _Log | None:
    """The newest of these events that are in the window, `limit` units at most."""
    room, start = limit, len(ends)
    while start and ends[start - 1] > now and costs[start - 1] <= room:
        start -= 1
        room -= costs[start]
    if start == len(ends):
        return None
    log = _Log(ends[start], costs[start])
    for end, cost in zip(ends[start + 1 :], costs[start + 1 :], strict=True):
        log.add(end, cost)
    return log


def check_cost(cost: int) -> int:
    """Raise ValueError if `cost` is below 1, TypeError if it is not an int; else return it.

    >>> check_cost(0)
    Traceback (most recent call last):
        ...
    ValueError: cost must be 1 or more. Got: 0
    """
    if index(cost) < 1:
        raise ValueError(f"cost must be 1 or more. Got: {cost!r}")
    return cost


def _until(end: float, now: float) -> float:
    """Seconds from `now` to `end`: the least that the caller can add to `now` and be there. 0.0 if `end` has been."""
    if end <= now:
        return 0.0
    wait = end - now
    # The difference is rounded; one step up always makes up for it.
    return wait if now + wait >= end else nextafter(wait, inf)


def _denied(limit: int, remaining: int, now: float, retry_at: float, reset_at: float) -> Decision:
    # As _until does, twice, without the calls. Nobody is denied more often than who attacks: this is the path to be fast on.
    retry_after = retry_at - now
    if now + retry_after < retry_at:
        retry_after = nextafter(retry_after, inf)
    reset_after = reset_at - now
    if now + reset_after < reset_at:
        reset_after = nextafter(reset_after, inf)
    return _decision(False, limit, remaining, retry_after, reset_after)
