"""Tables: state that is read without asking anybody, from any process and any thread, and that goes when its owner goes. OTP's ETS.

    prices = ets.Table[str, int]("prices", kind="ordered_set")    # this process owns it
    prices.insert("apple", 3)
    prices.update_counter("apple", 2)                             # 5
    prices["apple"], prices.lookup("pear"), "pear" in prices      # 5, [], False
    prices.select(lambda name, price: price > 4, low="a", high="b")

    ets.table("prices")["apple"]                                  # from anywhere on this event loop, by its name

An object is a key with a value. Nothing is awaited. What a process reads are values of its own: what can change is copied, in and out, so
that nobody changes a table but by its verbs. A table is gone with its owner before anybody hears of that end, unless it has a heir.

In an ordered_set, and in ranges, keys have this order: None, numbers (True is 1), str, bytes, tuples (part by part), then all other classes
with an order, by the names of the classes (dates, UUIDs, pids, references, dataclasses with order=True); a class of yours
needs `__lt__` and `__eq__`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from threading import get_ident
from types import EllipsisType
from typing import Any, Generic, TypeVar, cast, overload

from beamish._ets_file import TableFile as TableFile, read_file as read_file, write
from beamish._ets_life import Tables
from beamish._ets_update import changed, counted, part, steps_of
from beamish._ets_values import ATOMS, Box, content, is_a, out
from beamish._ets_walk import Traversed
from beamish._ets_words import (
    Access,
    Incr as Incr,
    NameTaken as NameTaken,
    NoAccess as NoAccess,
    NoKey as NoKey,
    NoTable as NoTable,
    Page as Page,
    TableError as TableError,
    TableInfo as TableInfo,
    Transfer as Transfer,
    WrongKind as WrongKind,
)
from beamish._runtime.node import here
from beamish._runtime.process import CURRENT
from beamish.errors import short
from beamish.process import Target
from beamish.snapshot import Codec

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")

_NOTHING: Any = object()
_current = CURRENT.get


class Table(Traversed[K, V], Generic[K, V]):
    """`ets.Table[str, int]("name", kind=…)`: a table that belongs to the process that makes it; see the module.

    * `name`: what `ets.table(name)` finds it by. NameTaken when a table of this event loop has it. Without one it is passed around.
    * `kind`: "set", one value for a key; "ordered_set", the same in the order of the keys; "bag", several different values for a key;
      "duplicate_bag", equal ones too.
    * `access`: "protected", others read; "public", they write too; "private", they can't even read.
    * `heir`: who becomes the owner when the owner ends, and is sent `Transfer(table, owner, heir_data)`: a pid, an address, or a name that
      is looked up then. Where nobody is there, the table ends.
    * `values`: "copied", a value that can change is copied in and out, one that can't is shared (a frozen dataclass, a tuple of numbers;
      lookups of these cost nothing more); "immutable", a value that can change is refused with a TypeError; "shared", no isolation: the
      object itself is kept and handed out, and who changes it changes it for all.

    Keys are those of a dict: hashable, and compared by `==`, so that 1, 1.0 and True are one key. They are not copied. The values of a bag
    are compared in the same way. Made by plain asyncio code, a table belongs to the event loop as a whole and ends with it.

    Reads are for any thread, writes of a public table too; a protected one is written by its owner, on its own loop. Each verb is atomic:
    nobody sees half of it (but those that go through the table, as `items`, the folds and `select`, do it object by object). A table that
    is gone raises NoTable; what somebody may not do, NoAccess. There is no bound to how much is kept.
    """

    __slots__ = ()

    # -- writing

    def insert(self, key: K, value: V) -> None:
        """Put `value` under `key`: in a set in the place of what is there, in a bag beside it."""
        if type(value) not in ATOMS:
            value = self._seal(value)
        if self._closed:  # `_may_write`, written out
            node = self._node
            if (node.current or _current()) is not self._writer or get_ident() != node.thread:
                self._is_owner("insert")
            if self._alone:
                self._data[key] = value
                return
        elif self._node.ghosts:
            self._alive()
        self._lock.acquire()  # `with` would take 0.1 µs more
        try:
            self._rows.put(key, value)
        finally:
            self._lock.release()

    def insert_many(self, objects: Mapping[K, V] | Iterable[tuple[K, V]]) -> None:
        """`insert` for a mapping or for pairs: all of them or, when one is refused, none. Readers see all at once."""
        pairs = self._pairs(objects)
        self._may_write("insert_many")
        with self._lock:
            self._rows.put_all(pairs)

    def insert_new(self, key: K, value: V) -> bool:
        """Put `value` under `key` if nothing is there. Whether that was so."""
        return self._insert_new("insert_new", [(key, self._seal(value))])

    def insert_new_many(self, objects: Mapping[K, V] | Iterable[tuple[K, V]]) -> bool:
        """Insert all of them if nothing is there under any of their keys, else none. Whether that was so."""
        return self._insert_new("insert_new_many", self._pairs(objects))

    def _insert_new(self, verb: str, pairs: list[tuple[K, Any]]) -> bool:
        self._may_write(verb)
        with self._lock:
            if any(key in self._data for key, _ in pairs):
                return False
            self._rows.put_all(pairs)
        return True

    def _pairs(self, objects: Any) -> list[tuple[K, Any]]:
        given: Iterable[Any] = objects.items() if is_a(objects, Mapping) else objects
        pairs: list[tuple[K, Any]] = []
        for one in given:
            try:
                key, value = one
            except (TypeError, ValueError):
                raise TypeError(f"objects are a mapping, or pairs (key, value). Got: {short(one)}") from None
            hash(key)
            pairs.append((key, value if type(value) in ATOMS else self._seal(value)))
        return pairs

    def take(self, key: K) -> list[V]:
        """Take everything under `key` out of the table: what it was."""
        self._may_read("take")
        self._may_write("take")
        with self._lock:
            found = self._rows.drop(key)
        return [out(one) for one in found]

    def delete(self, key: K) -> None:
        """Delete everything under `key`. Nothing there is no error."""
        self._may_write("delete")
        with self._lock:
            self._rows.drop(key)

    def delete_object(self, key: K, value: V) -> None:
        """Delete under `key` what is equal to `value`, and leave the rest. Nothing there is no error."""
        self._may_write("delete_object")
        with self._lock:
            self._rows.drop_object(key, value)

    def delete_all_objects(self) -> None:
        """Empty the table."""
        self._may_write("delete_all_objects")
        with self._lock:
            self._rows.clear()
            self._data = self._rows.data

    # -- changing a part

    @overload
    def update_counter(
        self,
        key: K,
        incr: int = 1,
        *,
        at: int | str | None = None,
        threshold: int | None = None,
        set_to: int | None = None,
        default: V = ...,
    ) -> int: ...
    @overload
    def update_counter(self, key: K, incr: Sequence[Incr], *, default: V = ...) -> list[int]: ...
    def update_counter(
        self, key: K, incr: int | Sequence[Incr] = 1, *, at: int | str | None = None, threshold: int | None = None,
        set_to: int | None = None, default: Any = _NOTHING,
    ) -> Any:  # fmt: skip
        """Add `incr` to the int under `key`, and return what it is then; nobody comes between.

            hits.update_counter(page, default=0)                        # one more; the first one is 1
            stats.update_counter("eu", at="errors")                     # in a field of a dataclass or NamedTuple, a key of a dict
            ids.update_counter("next", at=0, threshold=9999, set_to=1)  # in a tuple or list; beyond 9999 it is 1 again
            stats.update_counter("eu", [Incr(1, at="calls"), Incr(ms, at="time")])

        * `threshold`, `set_to`: a result that goes beyond the threshold, in the direction of `incr`, is `set_to` instead.
        * `default`: the whole value to begin with when nothing is under `key`; without it that is NoKey.
        * A list of steps is done as a whole, with a list of results, or not at all.

        TypeError when there is no int, ValueError when there is no such part, WrongKind in bags; nothing is changed then.
        """
        self._one_value("update_counter")
        if at is threshold is set_to is None and type(incr) is int:  # the plain counter, in a quarter of the time
            self._lock.acquire()
            try:
                number = self._data.get(key)
                if type(number) is int:
                    self._data[key] = number = number + incr
                    return number
            finally:
                self._lock.release()
        steps = steps_of(incr, at, threshold, set_to)
        with self._lock:
            stored = self._data.get(key, _NOTHING)
            if stored is _NOTHING:
                if default is _NOTHING:
                    raise NoKey(self, key)
                stored = default
            value, results = counted(content(stored), steps)
            self._rows.put(key, value if type(value) is int else self._seal(value))
        return results[0] if isinstance(incr, int) else results

    def update_element(self, key: K, parts: Mapping[Any, Any]) -> bool:
        """Replace parts of the value under `key`: `update_element(key, {"errors": 0})`. False when nothing is there.

        Parts are named as in `update_counter`. ValueError when one of them is not there, WrongKind in bags; nothing is changed then.
        """
        self._one_value("update_element")
        if not isinstance(parts, Mapping) or not parts:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"parts are a mapping, as {{0: value}} or {{'field': value}}. Got: {short(parts)}")
        with self._lock:
            stored = self._data.get(key, _NOTHING)
            if stored is _NOTHING:
                return False
            value = content(stored)
            for at in parts:
                part(value, at)
            self._rows.put(key, self._seal(changed(value, parts)))
        return True

    def _one_value(self, verb: str) -> None:
        if self._many:
            raise WrongKind.of(self, verb, self._kind)
        self._may_write(verb)

    # -- reading

    def lookup(self, key: K) -> list[V]:
        """What is under `key`: in a set one value or none, in a bag any number, in the order of insertion."""
        if self._guard is not None:
            self._may_read("lookup")
        try:
            found = self._data[key]
        except KeyError:
            return []
        if self._many:
            return [one.copy() if type(one) is Box else one for one in found]
        return [found.copy() if type(found) is Box else found]

    @overload
    def get(self, key: K) -> V | None: ...
    @overload
    def get(self, key: K, default: D) -> V | D: ...
    def get(self, key: K, default: Any = None) -> Any:
        """The value under `key`, or `default`. WrongKind in bags."""
        if self._guard is not None:
            self._may_read("get")
        if self._many:
            raise WrongKind.of(self, "get", self._kind)
        found = self._data.get(key, default)
        return found.copy() if type(found) is Box else found

    def __getitem__(self, key: K) -> V:
        """The value under `key` (OTP's lookup_element). NoKey, a KeyError, when there is none; WrongKind in bags."""
        if self._guard is not None:
            self._may_read("get")
        if self._many:
            raise WrongKind.of(self, "table[key]", self._kind)
        try:
            found = self._data[key]
        except KeyError:
            raise NoKey(self, key) from None
        return cast(V, found.copy() if type(found) is Box else found)

    def __contains__(self, key: object) -> bool:
        """Whether something is under `key` (OTP's member)."""
        if self._guard is not None:
            self._may_read("member")
        return key in self._data

    def __len__(self) -> int:
        """How many objects there are."""
        if self._guard is not None:
            self._may_read("len")
        return self._rows.size()

    # -- files

    def to_file(self, path: str | os.PathLike[str], *, codec: Codec = "json") -> int:
        """Write all objects of this moment to a file (OTP's tab2file). Returns its size in bytes.

            await asyncio.to_thread(prices.to_file, "prices.tab")

        It blocks, so it is for a thread, unless the table is small or private. Whatever dies meanwhile, there is the old file or the new
        one, whole and on the disk. `codec="json"` writes what `beamish.codec` knows, "pickle" anything that can be pickled. Raises
        SnapshotError when the file can't be written, CodecError for what can't be encoded; the old file stays then.

        To have a table written now and then, and loaded at the start, see `beamish.snapshot`.
        """
        about = self.info()
        if about is None:
            raise NoTable.of(self)
        return write(path, codec, about, self._moment("to_file"))


def from_file(
    source: str | os.PathLike[str] | TableFile, *, name: str | EllipsisType | None = ..., access: Access | None = None,
    heir: Target | None = None, heir_data: object = None, codec: Codec = "json",
) -> Table[Any, Any]:  # fmt: skip
    """A table of this process with what `to_file` wrote (OTP's file2tab): of the same kind, name and access, unless told otherwise.

        prices = ets.from_file("prices.tab")
        prices = ets.from_file(await asyncio.to_thread(ets.read_file, "prices.tab"), name=None)

    Raises what `read_file` does, and NameTaken.
    """
    found = source if isinstance(source, TableFile) else read_file(source, codec=codec)
    made = Table[Any, Any](
        found.name if isinstance(name, EllipsisType) else name, kind=found.kind, access=access or found.access, heir=heir,
        heir_data=heir_data, values=found.values,
    )  # fmt: skip
    try:
        made.insert_many(found.objects)
    except BaseException:
        made.delete_table()
        raise
    return made


def whereis(name: str) -> Table[Any, Any] | None:
    """The table of that name on this event loop, or None. (A table that is empty is false: compare with None.)"""
    return cast("Table[Any, Any] | None", Tables.of(here()).names.get(name))


def table(name: str) -> Table[Any, Any]:
    """The table of that name on this event loop. Raises NoTable when there is none."""
    tables = Tables.of(here())
    try:
        return cast("Table[Any, Any]", tables.names[name])
    except KeyError:
        raise NoTable.named(name, tables.names) from None


def tables() -> list[Table[Any, Any]]:
    """All tables of this event loop, in the order of their making."""
    return cast("list[Table[Any, Any]]", list(Tables.of(here()).all))
