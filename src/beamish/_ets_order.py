"""A total order of keys of any types, and a sorted collection of keys that takes new ones at once and sorts them when somebody looks.

The order is: None, numbers (among each other, bools too), str, bytes, tuples (part by part; of two that begin alike the shorter one first),
then every other class that has an order, the classes by their names. Pids and references are ordered by their numbers.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable
from datetime import datetime, time
from decimal import Decimal
from itertools import chain
from math import isfinite
from numbers import Rational
from typing import Any

from beamish._ets_values import is_a, type_of
from beamish._runtime.ids import Pid, Ref
from beamish.errors import short

#: Keys per chunk. Twice as many are split, a quarter is joined to its neighbour.
LOAD = 800

#: What Python itself compares as wanted: a table that has keys of one of these groups only needs no other sort keys.
NATIVE: dict[type, int] = {int: 1, float: 1, bool: 1, str: 2, bytes: 3}
_MIXED, _UNKNOWN = 0, -1
#: Of these, comparing never raises.
_SAFE = {type(None): 0, int: 1, float: 1, bool: 1, str: 2, bytes: 3}
_TUPLE, _OTHER, _END = 4, 5, -1


def rank(key: Any) -> tuple[Any, ...]:
    """What stands for `key` where keys of all types are compared: the number of its kind, then what tells it from others of that kind.

    TypeError for one that has no place in an order.
    """
    cls = type_of(key)
    kind = _SAFE.get(cls)
    if kind is not None:
        if key != key:
            raise TypeError("nan can not be a key of an ordered_set: it is neither less than, nor equal to, nor greater than anything")
        return (0,) if key is None else (kind, key)
    if is_a(key, tuple):
        return _rank_of_tuple(key)
    if isinstance(key, int | float | Rational):
        return 1, key
    if isinstance(key, Decimal):
        if key.is_nan():
            return rank(float("nan"))
        from fractions import Fraction  # which alone can be compared with Decimals and with Fractions; few need it

        return 1, Fraction(key) if isfinite(key) else float(key)
    if isinstance(key, str | bytes):
        return (2 if isinstance(key, str) else 3), key
    name = f"{cls.__module__}.{cls.__qualname__}"
    if isinstance(key, Pid):
        return _OTHER, "beamish.pid", int(repr(key).split(".")[1])
    if isinstance(key, Ref):
        return _OTHER, "beamish.ref", key.id
    if not _has_order(key):
        raise TypeError(
            "the keys of an ordered_set have an order: None, numbers, str, bytes, tuples of such, and classes with __lt__ and __eq__. "
            f"Got: {short(key)}, and {name} has none. Take a key that has one, or the kind 'set'"
        )
    if isinstance(key, datetime | time) and key.utcoffset() is not None:
        name += " with time zone"  # those with and those without can not be compared
    return _OTHER, name, key


def _rank_of_tuple(key: tuple[Any, ...]) -> tuple[Any, ...]:
    """In one row: a tuple in a tuple would be slower to compare, and dear to the garbage collector."""
    row: list[Any] = [_TUPLE]
    for part in key:
        kind = _SAFE.get(type_of(part))
        if kind and part == part:
            row += (kind, part)
        else:
            row += rank(part)
    row.append(_END)
    return tuple(row)


def _has_order(key: Any) -> bool:
    if is_a(key, frozenset):
        return False  # what < says of these is no order of all of them
    equality: Any = type(key).__eq__
    if equality is object.__eq__:
        return False  # two that are neither smaller than the other would be different keys in one place
    try:
        return (key < key) in (True, False)
    except TypeError:
        return False


def _safe(key: Any) -> bool:
    """Whether comparing `key` with other keys runs no code of a class of theirs, which could fail."""
    return (
        type_of(key) in _SAFE
        or is_a(key, (Pid, Ref))
        or (is_a(key, tuple) and (_SAFE.keys() >= set(map(type, key)) or all(map(_safe, key))))
    )


class SortedKeys:
    """The keys of an ordered_set, in chunks. `add` takes 0.2 µs: new keys wait until somebody looks at the order.

    What is in the chunks are keys as long as all of them are natively ordered, else their ranks with the key behind. Not for several
    threads at once.
    """

    __slots__ = ("_chunks", "_highest", "_size", "group", "pending")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self._chunks: list[list[Any]] = []
        self._highest: list[Any] = []  # of each chunk
        self.pending: dict[Any, Any] = {}  # key → what stands for it in a chunk
        self._size = 0  # of the chunks
        self.group = _UNKNOWN

    def __len__(self) -> int:
        return self._size + len(self.pending)

    # -- changes

    def add(self, key: object) -> None:
        """A key that is not there. TypeError, and nothing is changed, when it has no place in the order."""
        if NATIVE.get(type(key)) == self.group and key == key:
            self.pending[key] = key
        else:
            self._add(key)

    def _add(self, key: object) -> None:
        first = rank(key)
        group = NATIVE.get(type(key), _MIXED)
        if self.group == _UNKNOWN:
            self.group = group
        elif self.group != group:
            self._mix()
        if self.group != _MIXED:
            self.pending[key] = key
        elif _OTHER not in first or _safe(key):  # the one is said quickly
            self.pending[key] = (*first, key)
        else:
            self._settle()
            self._insort((*first, key))  # now, since a comparison that fails is to fail here

    def discard(self, key: Any) -> None:
        """A key that is there."""
        if self.pending.pop(key, self) is not self:
            return
        number, index = self._locate(key, bisect_left)
        chunk = self._chunks[number]
        del chunk[index]
        self._size -= 1
        if not chunk:
            del self._chunks[number], self._highest[number]
            if not self:
                self.group = _UNKNOWN
        elif len(chunk) < LOAD // 4 and len(self._chunks) > 1:
            self._join(max(number - 1, 0))
        else:
            self._highest[number] = chunk[-1]

    # -- looking

    def after(self, key: Any, *, including: bool = False, limit: int = LOAD) -> list[Any]:
        """Some of the keys that follow `key` (or begin with it), in order: at least one, if there are any."""
        self._settle()
        number, index = self._locate(key, bisect_left if including else bisect_right)
        return self._keys(self._chunks[number][index : index + limit]) if number < len(self._chunks) else []

    def before(self, key: Any, *, including: bool = False, limit: int = LOAD) -> list[Any]:
        """Some of the keys that precede `key` (or begin with it), backwards."""
        self._settle()
        return self._backwards(*self._locate(key, bisect_right if including else bisect_left), limit)

    def lowest(self, limit: int = LOAD) -> list[Any]:
        """Some of the first keys, in order."""
        self._settle()
        return self._keys(self._chunks[0][:limit]) if self._chunks else []

    def highest(self, limit: int = LOAD) -> list[Any]:
        """Some of the last keys, backwards."""
        self._settle()
        return self._backwards(len(self._chunks), 0, limit)

    def all(self) -> list[Any]:
        """All keys, in order."""
        self._settle()
        return self._keys(list(chain.from_iterable(self._chunks)))

    def _backwards(self, number: int, index: int, limit: int) -> list[Any]:
        if index == 0:
            number -= 1
            if number < 0:
                return []
            index = len(self._chunks[number])
        return self._keys(self._chunks[number][max(0, index - limit) : index][::-1])

    def _locate(self, key: Any, find: Callable[[list[Any], Any], int]) -> tuple[int, int]:
        """Where `find` finds `key`: the chunk's number and the place in it."""
        place = self._place(key)
        number = find(self._highest, place)
        return (number, 0) if number == len(self._chunks) else (number, find(self._chunks[number], place))

    def _place(self, key: object) -> Any:
        """What to compare what is in the chunks with."""
        if NATIVE.get(type(key)) == self.group and key == key:
            return key
        first = rank(key)
        if self.group == _MIXED:
            return (*first, key)
        return first[1] if first[0] == self.group else _Beyond(up=first[0] > self.group)

    def _keys(self, entries: list[Any]) -> list[Any]:
        return entries if self.group != _MIXED else [entry[-1] for entry in entries]

    # -- how it is kept

    def _mix(self) -> None:
        """From now on there are keys of several groups."""
        if self.group != _MIXED:
            self.group = _MIXED
            self._chunks = [[(*rank(key), key) for key in chunk] for chunk in self._chunks]
            self._highest = [chunk[-1] for chunk in self._chunks]
            self.pending = {key: (*rank(key), key) for key in self.pending}

    def _settle(self) -> None:
        """Put the keys that wait into their places: one by one, or all together when that is less work."""
        if not self.pending:
            return
        new = sorted(self.pending.values())
        if len(new) * 16 < self._size:
            for entry in new:
                self._insort(entry)
        else:
            # Two runs in order: sorting them is merging them.
            entries = sorted([*chain.from_iterable(self._chunks), *new]) if self._size else new
            self._chunks = [entries[start : start + LOAD] for start in range(0, len(entries), LOAD)]
            self._highest = [chunk[-1] for chunk in self._chunks]
            self._size = len(entries)
        self.pending = {}

    def _insort(self, entry: Any) -> None:
        number = bisect_left(self._highest, entry)
        if number == len(self._chunks):
            if not number:
                self._chunks, self._highest, self._size = [[entry]], [entry], 1
                return
            number -= 1
            self._chunks[number].append(entry)
        else:
            insort(self._chunks[number], entry)
        self._size += 1
        self._highest[number] = self._chunks[number][-1]
        if len(self._chunks[number]) > 2 * LOAD:
            self._split(number)

    def _split(self, number: int) -> None:
        chunk = self._chunks[number]
        half = len(chunk) // 2
        self._chunks[number : number + 1] = [chunk[:half], chunk[half:]]
        self._highest[number : number + 1] = [chunk[half - 1], chunk[-1]]

    def _join(self, number: int) -> None:
        """A chunk that has become small and its neighbour are one."""
        self._chunks[number : number + 2] = [self._chunks[number] + self._chunks[number + 1]]
        self._highest[number : number + 2] = [self._chunks[number][-1]]
        if len(self._chunks[number]) > 2 * LOAD:
            self._split(number)


class _Beyond:
    """A place below, or above, all keys of a table whose keys are of another group."""

    __slots__ = ("up",)

    def __init__(self, *, up: bool) -> None:
        self.up = up

    def __lt__(self, other: object) -> bool:
        return not self.up

    def __gt__(self, other: object) -> bool:
        return self.up
