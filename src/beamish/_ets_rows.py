"""What a table keeps, by kind: one value for a key, in any order or in that of the keys; or many of them. Knows nothing of processes."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any, ClassVar

from beamish._ets_order import NATIVE, SortedKeys
from beamish._ets_values import content

_ABSENT: Any = object()
Stored = Any


class Rows:
    """A set: one value for a key."""

    __slots__ = ("data", "deleted", "walk")

    many: ClassVar[bool] = False

    def __init__(self) -> None:
        self.data: dict[Any, Stored] = {}
        self.deleted = 0  # keys, ever
        self.walk: Walk | None = None

    def size(self) -> int:
        return len(self.data)

    def of(self, key: Any) -> list[Stored]:
        found = self.data.get(key, _ABSENT)
        return [] if found is _ABSENT else [found]

    def put(self, key: Any, value: Stored) -> None:
        self.data[key] = value

    def put_all(self, pairs: list[tuple[Any, Stored]]) -> None:
        """All or none; and to readers in other threads all at once."""
        self.data.update(pairs)

    def drop(self, key: Any) -> list[Stored]:
        """Take everything under `key` out."""
        found = self.data.pop(key, _ABSENT)
        if found is _ABSENT:
            return []
        self.deleted += 1
        return [found]

    def drop_object(self, key: Any, value: Any) -> None:
        """Take out what is under `key` and equal to `value`."""
        if any(content(one) == value for one in self.of(key)):
            self.drop(key)

    def drop_same(self, key: Any, value: Stored) -> bool:
        """Take out this very object, if it is still there."""
        return self.data.get(key, _ABSENT) is value and bool(self.drop(key))

    def swap(self, key: Any, old: Stored, new: Stored) -> bool:
        """Put another value into the place of this very one, if it is still there."""
        if self.data.get(key, _ABSENT) is not old:
            return False
        self.data[key] = new
        return True

    def clear(self) -> dict[Any, Any]:
        """Take out everything: what there was."""
        data, self.data = self.data, {}
        self.deleted += len(data)
        return data

    def moment(self) -> list[tuple[Any, Any]]:
        """All keys, each with what is under it (in a bag a tuple), at one moment: in C, so that nobody has to wait for it."""
        while True:
            try:
                return list(self.data.items())
            except RuntimeError:  # the owner has written to it meanwhile, on another thread
                pass

    # -- going through the keys. `start` is a key, or `_ABSENT` for an end of the table.

    def keys(self, *, backwards: bool = False) -> list[Any]:
        """All keys as they are now."""
        keys = _listed(self.data)
        return keys[::-1] if backwards else keys

    def end(self, *, backwards: bool, fixed: bool) -> list[Any]:
        """The first or the last key, in a list; or an empty one."""
        return self._walk(fixed).end(self.data, backwards=backwards)

    def neighbour(self, key: Any, *, backwards: bool, fixed: bool) -> list[Any]:
        """The key behind or before `key`. KeyError when `key` is not there, nor was while the table was fixed."""
        walk = self.walk
        if key not in self.data and not (fixed and walk is not None and key in walk.places):
            raise KeyError(key)
        if walk is None or key not in walk.places:
            walk = self._walk(fixed)
        found = walk.neighbour(self.data, key, backwards=backwards)
        if not found and not fixed:
            self.walk = None
        return found

    def _walk(self, fixed: bool) -> Walk:
        """One that has all keys; those that are not there any more too, while the table is fixed, else not many of them."""
        walk = self.walk
        if walk is None or (not fixed and len(walk.row) > 100 + 2 * len(self.data)):
            self.walk = walk = Walk()
        walk.catch_up(self)
        return walk

    def fix(self) -> None:
        """From now on `neighbour` is asked for keys that have been deleted."""
        self._walk(True)


class Walk:
    """The keys of a table in a row, for going from one to the next; those that have been deleted are passed over."""

    __slots__ = ("_back", "_front", "_seen", "places", "row")

    def __init__(self) -> None:
        self.row: list[Any] = []
        self.places: dict[Any, int] = {}
        self._seen = 0  # how many keys had ever come to the table
        self._front = self._back = 0  # between these are the keys that are there

    def catch_up(self, rows: Rows) -> None:
        """Add the keys that have come since. They are the last ones of the dict."""
        while True:
            ever = len(rows.data) + rows.deleted
            if ever == self._seen:
                return
            new = _listed(rows.data) if not self.row else _last(rows.data, ever - self._seen)
            if ever == len(rows.data) + rows.deleted:  # else the owner has inserted another one meanwhile, on another thread
                break
        for key in new:
            place = self.places.setdefault(key, len(self.row))
            if place == len(self.row):
                self.row.append(key)
            self._front, self._back = min(self._front, place), max(self._back, place + 1)  # it may have gone, and come again
        self._seen = ever

    def end(self, data: dict[Any, Any], *, backwards: bool) -> list[Any]:
        # What was found deleted at an end is not looked at again: "take the first, delete it" is not quadratic.
        while self._front < self._back and self.row[self._front] not in data:
            self._front += 1
        while self._front < self._back and self.row[self._back - 1] not in data:
            self._back -= 1
        return [] if self._front == self._back else [self.row[self._back - 1 if backwards else self._front]]

    def neighbour(self, data: dict[Any, Any], key: Any, *, backwards: bool) -> list[Any]:
        step = -1 if backwards else 1
        place = self.places[key] + step
        while 0 <= place < len(self.row):
            if self.row[place] in data:
                return [self.row[place]]
            place += step
        return []


class OrderedRows(Rows):
    """An ordered_set: one value for a key, in the order of the keys."""

    __slots__ = ("order",)

    def __init__(self) -> None:
        super().__init__()
        self.order = SortedKeys()

    def put(self, key: object, value: Stored) -> None:
        data = self.data
        if key not in data:
            order = self.order
            if NATIVE.get(type(key)) == order.group and key == key:  # `add`, written out
                order.pending[key] = key
            else:
                order.add(key)
        data[key] = value

    def put_all(self, pairs: list[tuple[Any, Stored]]) -> None:
        new = [key for key in dict(pairs) if key not in self.data]
        added: list[Any] = []
        try:
            for key in new:
                self.order.add(key)
                added.append(key)
        except BaseException:  # one that has no place in the order: none of them is there
            for key in added:
                self.order.discard(key)
            raise
        self.data.update(pairs)

    def drop(self, key: Any) -> list[Stored]:
        found = super().drop(key)
        if found:
            self.order.discard(key)
        return found

    def clear(self) -> dict[Any, Any]:
        self.order.clear()
        return super().clear()

    def moment(self) -> list[tuple[Any, Any]]:
        keys = self.order.all()
        return list(zip(keys, map(self.data.__getitem__, keys), strict=True))

    def end(self, *, backwards: bool, fixed: bool) -> list[Any]:
        return self.order.highest(1) if backwards else self.order.lowest(1)

    def neighbour(self, key: Any, *, backwards: bool, fixed: bool) -> list[Any]:
        return self.order.before(key, limit=1) if backwards else self.order.after(key, limit=1)

    def fix(self) -> None:
        """A key that was deleted has its place in the order all the same."""

    def some(self, start: Any, *, backwards: bool, including: bool = False) -> list[Any]:
        """The next keys from `start` on."""
        if start is _ABSENT:
            return self.order.highest() if backwards else self.order.lowest()
        return self.order.before(start, including=including) if backwards else self.order.after(start, including=including)


class BagRows(Rows):
    """A bag: any number of values for a key, no two of them equal. In the order of insertion."""

    # The list of a key only grows in place. Where something goes, another list takes its place: others may be reading it.
    __slots__ = ("_size",)

    many = True

    def __init__(self) -> None:
        super().__init__()
        self._size = 0

    def size(self) -> int:
        return self._size

    def of(self, key: Any) -> list[Stored]:
        return list(self.data.get(key, ()))

    def moment(self) -> list[tuple[Any, Any]]:
        groups: Iterable[Any] = map(tuple, self.data.values())
        return list(zip(self.data, groups, strict=True))

    def put(self, key: Any, value: Stored) -> None:
        values = self.data.get(key)
        if values is None:
            self.data[key] = [value]
        elif self.takes(values, value):
            values.append(value)
        else:
            return
        self._size += 1

    def takes(self, values: list[Stored], value: Stored) -> bool:
        """Whether another `value` is to be kept beside these."""
        return value not in values

    def put_all(self, pairs: list[tuple[Any, Stored]]) -> None:
        groups: dict[Any, list[Stored]] = {}
        new = 0
        for key, value in pairs:
            values = groups.get(key)
            if values is None:
                groups[key] = values = self.of(key)
            if self.takes(values, value):
                values.append(value)
                new += 1
        self.data.update(groups)
        self._size += new

    def drop(self, key: Any) -> list[Stored]:
        values = self.data.pop(key, ())
        if values:
            self.deleted += 1
            self._size -= len(values)
        return list(values)

    def drop_object(self, key: Any, value: Any) -> None:
        self._keep(key, [one for one in self.of(key) if content(one) != value])

    def drop_same(self, key: Any, value: Stored) -> bool:
        """One of them, if there are several: equal numbers may be one object."""
        values = self.of(key)
        for place, one in enumerate(values):
            if one is value:
                del values[place]
                self._keep(key, values)
                return True
        return False

    def _keep(self, key: Any, values: list[Stored]) -> None:
        if not values:
            self.drop(key)
        else:
            self._size -= len(self.data[key]) - len(values)
            self.data[key] = values

    def swap(self, key: Any, old: Stored, new: Stored) -> bool:
        values = self.of(key)
        for place, one in enumerate(values):
            if one is old:
                del values[place]
                if self.takes(values, new):
                    values.insert(place, new)
                self._keep(key, values)
                return True
        return False

    def clear(self) -> dict[Any, Any]:
        self._size = 0
        return super().clear()


class DuplicateBagRows(BagRows):
    """A duplicate_bag: the same, equal ones too."""

    __slots__ = ()

    def takes(self, values: list[Stored], value: Stored) -> bool:
        return True


ROWS: dict[str, type[Rows]] = {"set": Rows, "ordered_set": OrderedRows, "bag": BagRows, "duplicate_bag": DuplicateBagRows}


def _listed(keys: Iterable[Any]) -> list[Any]:
    """`list(keys)` of a dict to which another thread may be writing."""
    while True:
        try:
            return list(keys)
        except RuntimeError:  # it has changed meanwhile; seldom, for no other code runs between two keys
            pass


def _last(data: dict[Any, Any], number: int) -> list[Any]:
    """So many of the keys that came last, in their order, or all."""
    while True:
        try:
            return list(islice(reversed(data), number))[::-1]
        except RuntimeError:  # as above
            pass


#: Where a walk starts that starts at an end of the table.
AT_END = _ABSENT
