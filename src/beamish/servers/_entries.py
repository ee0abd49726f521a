"""The table of a cache: at most `limit` entries, dropped by age or by disuse, for good after `ttl` seconds.

No process, no clock and no loop in here: every verb is given `now`, in seconds of a monotonic clock, which never goes back.
`SearchCache` is this table behind a GenServer.

No verb but `clear` walks the table: each does a fixed number of dictionary steps, and drops at most `SWEEP` expired entries in passing.

Some caches of this kind evict the smallest key and call it the oldest, evict although a key is only updated, or take a cached None or
False for a miss. This one does not.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from math import inf
from operator import itemgetter
from typing import Generic, Literal, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
D = TypeVar("D")

Policy = Literal["oldest", "lru"]

SWEEP = 2
"""Expired entries dropped in passing by one operation. An operation adds one entry at most, so two always catch up."""


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What a cache has done since it started. The books balance: insertions - evictions - expirations - removals == size.

    >>> CacheStats(size=2, limit=100, hits=3, misses=1, insertions=2).hit_rate
    0.75
    """

    size: int
    """Entries held now. Expired ones that nobody has met yet are among them."""
    limit: int
    """Entries held at most."""
    hits: int = 0
    """Fetches that found a live entry, whatever its value."""
    misses: int = 0
    """Fetches that did not: never stored, dropped, or expired."""
    insertions: int = 0
    """Keys stored that were not there."""
    updates: int = 0
    """Values replaced under a key that was there."""
    evictions: int = 0
    """Live entries dropped to make room."""
    expirations: int = 0
    """Entries dropped because their time was over."""
    removals: int = 0
    """Live entries dropped by invalidate, and all that clear dropped."""

    @property
    def hit_rate(self) -> float:
        """Hits per fetch, from 0.0 to 1.0; 0.0 before the first fetch."""
        fetches = self.hits + self.misses
        return self.hits / fetches if fetches else 0.0


class Entries(Generic[K, V]):
    """A bounded table of answers. When it is full, a new key costs the oldest one, or the one used longest ago, its place.

    `limit` is how many entries it holds, 1 or more (default 100). `policy` says which one goes (default "oldest"): "oldest" is the one
    inserted longest ago, and an update does not make it younger; "lru" is the one neither fetched nor written for longest.
    `ttl` is how many seconds an entry lives after it was last written; None (the default) is for ever. An entry written at t is live
    before t + ttl and gone at t + ttl. An expired entry always goes before a live one.

    Raises ValueError for a limit, policy or ttl that makes no sense. An unhashable key raises TypeError and changes nothing; clients
    should not let it come so far (see `_keys.check_key`).

    >>> entries: Entries[str, int] = Entries(limit=2)
    >>> entries.put("a", 1, now=0.0)
    >>> entries.put("b", 2, now=0.0)
    >>> entries.put("a", 3, now=1.0)                     # an update: nobody has to go, and "a" is still the oldest
    >>> entries.put("c", 4, now=2.0)
    >>> [entries.fetch(key, None, now=3.0) for key in "abc"]
    [None, 2, 4]
    """

    # fmt: off
    __slots__ = (
        "limit", "policy", "ttl", "_lru", "_values", "_deadlines", "_soonest",
        "_hits", "_misses", "_insertions", "_updates", "_evictions", "_expirations", "_removals",
    )
    # fmt: on

    def __init__(self, limit: int = 100, policy: Policy = "oldest", ttl: float | None = None) -> None:
        if not limit >= 1:
            raise ValueError(f"limit must be 1 or more. Got: {limit!r}")
        if policy not in ("oldest", "lru"):
            raise ValueError(f"policy must be 'oldest' or 'lru'. Got: {policy!r}")
        if ttl is not None and not ttl > 0:
            raise ValueError(f"ttl must be more than 0 seconds, or None for no expiry. Got: {ttl!r}")
        self.limit = limit
        self.policy: Policy = policy
        self.ttl = ttl
        self._lru = policy == "lru"
        # First to be evicted first. Not a dict: finding the first key of one that is emptied from the front takes O(n).
        self._values: OrderedDict[K, V] = OrderedDict()
        # First to expire first: in the order of the writes, since every entry has the same ttl. Empty without a ttl.
        self._deadlines: OrderedDict[K, float] = OrderedDict()
        self._soonest = inf  # No entry expires before this: one comparison spares a fetch the deadlines.
        self._hits = self._misses = self._insertions = self._updates = 0
        self._evictions = self._expirations = self._removals = 0

    def __len__(self) -> int:
        """Entries held now, expired ones that nobody has met yet among them; never more than `limit`."""
        return len(self._values)

    def fetch(self, key: K, default: D, now: float) -> V | D:
        """The value stored under `key`, else `default`. A stored None, False or [] is a hit; pass a default of your own to tell.

        >>> entries: Entries[str, None] = Entries(ttl=60.0)
        >>> entries.put("unknown word", None, now=0.0)
        >>> entries.fetch("unknown word", "miss", now=59.9), entries.fetch("unknown word", "miss", now=60.0)
        (None, 'miss')
        """
        if now >= self._soonest:
            self._expire(key, now)
        try:  # 57 ns less than get for a hit, 240 more for a miss, which will cost a search anyway
            value = self._values[key]
        except KeyError:
            self._misses += 1
            return default
        self._hits += 1
        if self._lru:
            self._values.move_to_end(key)
        return value

    def put(self, key: K, value: V, now: float) -> None:
        """Store `value` under `key`, live for another ttl. Only a new key in a full table evicts, and never more than one entry."""
        if now >= self._soonest:
            self._expire(key, now)
        values = self._values
        if key in values:
            self._updates += 1
            if self._lru:
                values.move_to_end(key)
        else:
            if len(values) >= self.limit:
                self._evict()
            self._insertions += 1
        values[key] = value
        if self.ttl is not None:
            deadline = now + self.ttl
            self._deadlines[key] = deadline
            self._deadlines.move_to_end(key)
            if deadline < self._soonest:
                self._soonest = deadline

    def invalidate(self, key: K, now: float) -> bool:
        """Drop `key`. True if it was there, and live."""
        if now >= self._soonest:
            self._expire(key, now)
        if key not in self._values:
            return False
        self._drop(key)
        self._removals += 1
        return True

    def clear(self) -> int:
        """Drop everything and say how many that were; the counts go on. The one verb whose time grows with the table."""
        dropped = len(self._values)
        self._values.clear()
        self._deadlines.clear()
        self._soonest = inf
        self._removals += dropped
        return dropped

    def sweep(self, now: float, most: int = SWEEP) -> int:
        """Drop expired entries, `most` of them at most, first expired first, and say how many.

        Every other verb does so in passing. A table that nobody asks keeps its dead; a server that ticks may call this as well.
        """
        deadlines = self._deadlines
        for dropped in range(most):
            if not deadlines:
                self._soonest = inf
                return dropped
            first, deadline = next(iter(deadlines.items()))
            if deadline > now:
                self._soonest = deadline
                return dropped
            self._drop(first)
            self._expirations += 1
        return most

    def pieces(self, now: float, size: int = 1000) -> Iterator[tuple[list[K], list[V], list[float]]]:
        """Every entry, first to be evicted first, some at a time: keys, values, and the seconds left (none at all without a ttl).

        Between two pieces the table may be used. An entry is then given as it is when its piece is made; one that comes later is
        not given, nor one that has gone. To begin takes 0.25 µs for each entry with "lru", next to nothing with "oldest".

        >>> entries: Entries[str, int] = Entries(ttl=60.0)
        >>> entries.put("a", 1, now=0.0)
        >>> list(entries.pieces(now=20.0))
        [(['a'], [1], [40.0])]
        """
        values, deadlines = self._values, self._deadlines
        # The order of an OrderedDict takes 0.25 µs a key, that of the dict below it a twentieth: the same, until a key is moved.
        every = list(values) if self._lru else list(dict[K, V].keys(values))
        for begin in range(0, len(every), size):
            keys = [key for key in every[begin : begin + size] if key in values]
            yield keys, [values[key] for key in keys], [deadlines[key] - now for key in keys] if self.ttl is not None else []

    def load(self, rows: Iterable[tuple[K, V, float | None]], now: float) -> None:
        """Fill an empty table with what `rows` gave. Expired ones are left out, and the first ones if there is no room for all.

        None has more left than the table's own ttl.

        >>> entries: Entries[str, int] = Entries(ttl=60.0)
        >>> entries.load([("a", 1, 40.0), ("b", 2, 0.0), ("c", 3, None)], now=100.0)
        >>> list(entries.pieces(now=100.0))
        [(['a', 'c'], [1, 3], [40.0, 60.0])]
        """
        live = [row for row in rows if row[2] is None or row[2] > 0][-self.limit :]
        for key, value, _ in live:
            self._values[key] = value
        self._insertions += len(self._values)
        if self.ttl is None or not live:
            return
        most = self.ttl
        deadlines = ((now + (most if left is None else min(left, most)), key) for key, _, left in live)
        for deadline, key in sorted(deadlines, key=itemgetter(0)):
            self._deadlines[key] = deadline
        self._soonest = next(iter(self._deadlines.values()))

    def stats(self) -> CacheStats:
        """The counts since the start."""
        return CacheStats(
            size=len(self._values),
            limit=self.limit,
            hits=self._hits,
            misses=self._misses,
            insertions=self._insertions,
            updates=self._updates,
            evictions=self._evictions,
            expirations=self._expirations,
            removals=self._removals,
        )

    def _expire(self, key: K, now: float) -> None:
        # The key asked for goes if it is due, whether the sweep gets as far or not: an expired value is never handed out.
        if self._deadlines.get(key, inf) <= now:
            self._drop(key)
            self._expirations += 1
        self.sweep(now)

    def _evict(self) -> None:
        # Only called after a sweep that stopped short of SWEEP or made room: if an entry had expired, the table would not be full.
        key, _ = self._values.popitem(last=False)
        self._deadlines.pop(key, None)
        self._evictions += 1

    def _drop(self, key: K) -> None:
        del self._values[key]
        self._deadlines.pop(key, None)
