"""Going through a table: from key to key, object by object, or by predicates and ranges of keys; while it is being changed, too."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Generic, TypeVar, get_args, overload

from beamish._ets_life import Owned
from beamish._ets_order import rank
from beamish._ets_rows import AT_END, OrderedRows
from beamish._ets_values import out
from beamish._ets_words import Inclusive, NoKey, Page
from beamish.errors import short

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")
A = TypeVar("A")
T = TypeVar("T")


class Traversed(Owned[K, V], Generic[K, V]):
    """The verbs that look at more than one key."""

    __slots__ = ()

    # -- from key to key

    @overload
    def first(self) -> K | None: ...
    @overload
    def first(self, default: D) -> K | D: ...
    def first(self, default: Any = None) -> Any:
        """The first key, or `default` when the table is empty. The order is that of the keys in an ordered_set, any other elsewhere."""
        return self._end_key("first", default, backwards=False)

    @overload
    def last(self) -> K | None: ...
    @overload
    def last(self, default: D) -> K | D: ...
    def last(self, default: Any = None) -> Any:
        """The last key, or `default` when the table is empty."""
        return self._end_key("last", default, backwards=True)

    @overload
    def next(self, key: K) -> K | None: ...
    @overload
    def next(self, key: K, default: D) -> K | D: ...
    def next(self, key: Any, default: Any = None) -> Any:
        """The key that follows `key`, or `default` behind the last one.

        In an ordered_set `key` need not be there. Elsewhere that is NoKey, unless it was there when a `fixed()` block began that goes on.
        """
        return self._neighbour("next", key, default, backwards=False)

    @overload
    def prev(self, key: K) -> K | None: ...
    @overload
    def prev(self, key: K, default: D) -> K | D: ...
    def prev(self, key: Any, default: Any = None) -> Any:
        """The key that precedes `key`, or `default` before the first one; see `next`."""
        return self._neighbour("prev", key, default, backwards=True)

    def _end_key(self, verb: str, default: Any, *, backwards: bool) -> Any:
        if self._guard is not None:
            self._may_read(verb)
        with self._lock:
            found = self._rows.end(backwards=backwards, fixed=self._fixed > 0)
        return found[0] if found else default

    def _neighbour(self, verb: str, key: Any, default: Any, *, backwards: bool) -> Any:
        if self._guard is not None:
            self._may_read(verb)
        try:
            with self._lock:
                found = self._rows.neighbour(key, backwards=backwards, fixed=self._fixed > 0)
        except KeyError:
            raise NoKey(self, key) from None
        return found[0] if found else default

    @contextmanager
    def fixed(self) -> Iterator[None]:
        """A block in which `next` and `prev` find their way although keys are deleted (OTP's safe_fixtable).

        Every key that is there all the time is met exactly once; those that come meanwhile may be met or not. `items()`, `select` and
        the folds need no such block. Until it ends the table keeps a list of its keys. Blocks may be nested.
        """
        self._may_read("fixed")
        with self._lock:
            if not self._fixed:
                self._rows.fix()
            self._fixed += 1
        try:
            yield
        finally:
            with self._lock:
                self._fixed -= 1
                if not self._fixed:
                    self._rows.walk = None

    # -- object by object

    def __iter__(self) -> Iterator[K]:
        """The keys, each once. As `items()`."""
        self._may_read("iter")
        return self._live_keys(self._keys(None, None, "low", reverse=False))

    def __reversed__(self) -> Iterator[K]:
        """The same, the last one first."""
        self._may_read("reversed")
        return self._live_keys(self._keys(None, None, "low", reverse=True))

    def _live_keys(self, batches: Iterator[list[K]]) -> Iterator[K]:
        for batch in batches:
            for key in batch:
                if key in self._data:
                    yield key

    def items(self, *, reverse: bool = False) -> Iterator[tuple[K, V]]:
        """Key and value of each object, one after the other, in the order of `first` and `next`.

        The table may change meanwhile: what is there all the time is met exactly once, what is deleted before its turn is not met, what
        comes may be met or not. NoTable when the table is gone before the end.
        """
        self._may_read("items")
        return ((key, out(stored)) for key, stored in self._scan(None, None, "low", reverse=reverse))

    def to_list(self) -> list[tuple[K, V]]:
        """All objects as they are at one moment, as (key, value) (OTP's tab2list)."""
        return [(key, out(stored)) for key, stored in self._moment("to_list")]

    def _moment(self, verb: str) -> Iterator[tuple[K, Any]]:
        """Keys and stored values of the moment when it is called. It may be gone through later, by another thread too.

        Who only looks at them may look at a Box's content: nobody changes that in place.
        """
        self._may_read(verb)
        with self._lock:
            objects = self._rows.moment()
        return ((key, one) for key, group in objects for one in group) if self._many else iter(objects)

    def foldl(self, function: Callable[[A, K, V], A], initial: A) -> A:
        """`function(accumulator, key, value)` for each object, the first one first: what the last of them returned. As `items()`."""
        for key, value in self.items():
            initial = function(initial, key, value)
        return initial

    def foldr(self, function: Callable[[A, K, V], A], initial: A) -> A:
        """The same, the last one first."""
        for key, value in self.items(reverse=True):
            initial = function(initial, key, value)
        return initial

    # -- by predicates and ranges

    @overload
    def select(
        self, where: Callable[[K, V], object] | None = None, *, low: K | None = None, high: K | None = None, inclusive: Inclusive = "low",
        reverse: bool = False,
    ) -> list[tuple[K, V]]: ...  # fmt: skip
    @overload
    def select(
        self, where: Callable[[K, V], object] | None = None, *, limit: int, low: K | None = None, high: K | None = None,
        inclusive: Inclusive = "low", reverse: bool = False,
    ) -> Page[tuple[K, V]]: ...  # fmt: skip
    @overload
    def select(
        self, where: Callable[[K, V], object] | None = None, *, give: Callable[[K, V], T], low: K | None = None, high: K | None = None,
        inclusive: Inclusive = "low", reverse: bool = False,
    ) -> list[T]: ...  # fmt: skip
    @overload
    def select(
        self, where: Callable[[K, V], object] | None = None, *, give: Callable[[K, V], T], limit: int, low: K | None = None,
        high: K | None = None, inclusive: Inclusive = "low", reverse: bool = False,
    ) -> Page[T]: ...  # fmt: skip
    def select(
        self, where: Callable[[K, V], object] | None = None, *, give: Callable[[K, V], Any] | None = None, low: K | None = None,
        high: K | None = None, inclusive: Inclusive = "low", limit: int | None = None, reverse: bool = False,
    ) -> Any:  # fmt: skip
        """The objects for which `where(key, value)` is true (all, without it), as (key, value) or as `give(key, value)` makes them.

            orders.select(lambda number, order: order.open, low=1000, high=2000, give=lambda number, order: number)

        * `low`, `high`: keys between these, in the order of an ordered_set (see the module). `inclusive` says which of them belongs to
          it: "low" (as in `range`), "high", "both" or "neither". An ordered_set finds the range, others look at each key.
        * `limit`: so many at first, as a `Page`; its `next()` gives the following ones, empty at the end.
        * `reverse`: the last ones first.

        The table may change meanwhile, as for `items()`; `to_list` has all objects of one moment.
        """
        self._may_read("select")
        _check_function("where", where)
        _check_function("give", give)
        if limit is not None and (not isinstance(limit, int) or limit < 1):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"limit is an int, 1 or more. Got: {short(limit)}")
        found = self._found(where, give, self._scan(low, high, inclusive, reverse=reverse))
        return list(found) if limit is None else Page(found, limit, partial(self._may_read, "select"))

    def _found(
        self, where: Callable[[K, V], object] | None, give: Callable[[K, V], Any] | None, objects: Iterator[tuple[K, Any]]
    ) -> Iterator[Any]:
        for key, stored in objects:
            value = out(stored)
            if where is None or where(key, value):
                yield (key, value) if give is None else give(key, value)

    def select_count(
        self, where: Callable[[K, V], object] | None = None, *, low: K | None = None, high: K | None = None, inclusive: Inclusive = "low"
    ) -> int:
        """How many `select` finds."""
        self._may_read("select_count")
        return sum(1 for _ in self._matches(where, low, high, inclusive))

    def select_delete(
        self, where: Callable[[K, V], object] | None = None, *, low: K | None = None, high: K | None = None, inclusive: Inclusive = "low"
    ) -> int:
        """Delete what `select` finds: how many objects that were. One after the other; one that has been changed meanwhile stays."""
        self._may_write("select_delete")
        count = 0
        for key, stored in self._matches(where, low, high, inclusive):
            with self._lock:
                count += self._rows.drop_same(key, stored)
        return count

    def select_replace(
        self, replace: Callable[[K, V], V], where: Callable[[K, V], object] | None = None, *, low: K | None = None,
        high: K | None = None, inclusive: Inclusive = "low",
    ) -> int:  # fmt: skip
        """Put `replace(key, value)` into the place of the values that `select` finds: how many that were. Keys stay.

        Each object is replaced by itself, if it has not been changed meanwhile. When `replace` raises, the earlier ones are replaced.
        """
        self._may_write("select_replace")
        _check_function("replace", replace)
        count = 0
        for key, stored in self._matches(where, low, high, inclusive):
            value = self._seal(replace(key, out(stored)))
            with self._lock:
                count += self._rows.swap(key, stored, value)
        return count

    def _matches(self, where: Callable[[K, V], object] | None, low: Any, high: Any, inclusive: Inclusive) -> Iterator[tuple[K, Any]]:
        _check_function("where", where)
        for key, stored in self._scan(low, high, inclusive, reverse=False):
            if where is None or where(key, out(stored)):
                yield key, stored

    # -- how they look

    def _scan(self, low: Any, high: Any, inclusive: Inclusive, *, reverse: bool) -> Iterator[tuple[K, Any]]:
        """Keys and stored values, as they are when it is their turn."""
        if inclusive not in get_args(Inclusive):
            raise ValueError(f"inclusive is one of {', '.join(map(repr, get_args(Inclusive)))}. Got: {short(inclusive)}")
        batches = self._keys(low, high, inclusive, reverse=reverse)
        if self._many:
            return ((key, one) for batch in batches for key in batch for one in self._rows.of(key))
        return ((key, one) for batch in batches for key in batch if (one := self._data.get(key, AT_END)) is not AT_END)

    def _keys(self, low: Any, high: Any, inclusive: Inclusive, *, reverse: bool) -> Iterator[list[K]]:
        """The keys of a range in batches, which may have gone when they are looked at."""
        rows = self._rows
        with_low, with_high = inclusive in ("low", "both"), inclusive in ("high", "both")
        if isinstance(rows, OrderedRows):
            yield from self._ordered_keys(rows, low, high, with_low, with_high, backwards=reverse)
        else:
            with self._lock:
                keys = rows.keys(backwards=reverse)
            if low is not None:
                bound = rank(low)
                keys = [key for key in keys if bound < rank(key) or (with_low and key == low)]
            if high is not None:
                bound = rank(high)
                keys = [key for key in keys if rank(key) < bound or (with_high and key == high)]
            yield keys
        self._may_read("iter")  # a table that ended meanwhile has not been gone through

    def _ordered_keys(
        self, rows: OrderedRows, low: Any, high: Any, with_low: bool, with_high: bool, *, backwards: bool
    ) -> Iterator[list[K]]:
        start, including = (high, with_high) if backwards else (low, with_low)
        stop = low if backwards else high
        within = _until(stop, with_low if backwards else with_high, backwards=backwards)
        start = AT_END if start is None else start
        while True:
            with self._lock:
                keys = rows.some(start, backwards=backwards, including=including)
            inside = within(keys)
            yield inside
            if not keys or len(inside) < len(keys):
                return
            start, including = keys[-1], False


def _until(stop: Any, including: bool, *, backwards: bool) -> Callable[[list[Any]], list[Any]]:
    """What cuts a row of keys off where the range ends."""
    if stop is None:
        return lambda keys: keys
    bound = rank(stop)

    def cut(keys: list[Any]) -> list[Any]:
        if backwards:
            upwards = keys[::-1]
            return keys[: len(keys) - (bisect_left if including else bisect_right)(upwards, bound, key=rank)]
        return keys[: (bisect_right if including else bisect_left)(keys, bound, key=rank)]

    return cut


def _check_function(name: str, one: Any) -> None:
    if one is not None and not callable(one):
        raise TypeError(f"{name} is a function of an object: {name}=lambda key, value: … Got: {short(one)}")
