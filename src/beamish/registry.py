"""A registry: processes under keys of any kind, which are gone with them. For names, for properties, for publish and subscribe.

    rooms = Registry[str, int]("rooms")                 # an address; nothing runs yet
    await rooms.start_link(keys="unique")               # or rooms.child_spec(keys="unique") in a supervisor

    room = await Room(Via(rooms, "lobby")).start_link() # found by its key from now on
    await Room(Via(rooms, "lobby")).say("hello")

    events = Registry[str, None]("events")              # keys="duplicate": any number of processes under a key
    events.register("news")                             # this process
    events.dispatch("news", lambda entries: [send(pid, "extra!") for pid, _ in entries])

The methods are not awaited: the table is on the same event loop and is changed at once. A process that ends is not found
any more when anybody hears of its end. Where no registry runs under the name, they raise NoProcess.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from types import CoroutineType, EllipsisType, UnionType
from typing import Any, ClassVar, Generic, Literal, TypeAlias, TypeVar, cast as as_type, overload

from beamish import _starting
from beamish._address import Address, Via
from beamish._loop import ServerProcess
from beamish._registry_lock import Lock, close
from beamish._registry_table import GONE, Duplicate, Registrant, Table, Unique
from beamish._registry_words import (
    AlreadyRegistered as AlreadyRegistered,
    Registered as Registered,
    RegistryEntry as RegistryEntry,
    Unregistered as Unregistered,
)
from beamish._runtime.ids import Pid
from beamish._runtime.node import NODES, here, here_key
from beamish._runtime.process import DEAD, Process
from beamish._runtime.signals import INFO, Exited
from beamish.errors import SHUTDOWN, NoProcess, WrongLoop, WrongServer, short
from beamish.gen_server import GenServer
from beamish.messages import matcher, send as _send
from beamish.process import Target, find, myself, own

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")

#: What `match` and its kin compare values with, as `receive` does messages: a class, a predicate, or a value to be equal to.
Pattern: TypeAlias = "Callable[[V], object] | type[object] | UnionType | V"

_TABLES = (Unique, Duplicate)
_log = logging.getLogger("beamish.registry")


class Partition(GenServer[None]):
    """Who the processes of a registry are linked to, so that it takes them along when it ends."""

    def init(self, table: Table[Any, Any]) -> None:
        me = as_type(Process, self._process)
        me.trap = True
        own(partial(table.abandon, me))

    def handle_info(self, state: None, message: Any) -> None:
        if type(message) is not Exited:  # of one that linked itself here without being registered
            super().handle_info(state, message)


class Registry(GenServer[Table[K, V]], Generic[K, V]):
    """`Registry[str, int]("name")`, then `.start_link(keys="unique" | "duplicate", …)` or `.child_spec(…)`; see the module.

    * `keys`: "unique", one process for a key; "duplicate", any number of them, and a process as often as it likes.
    * `partitions` (1): the processes that those who register are linked to, in turn. On one event loop they make nothing
      faster; `dispatch` goes by them.
    * `partition_by` ("pid"): with "key", `dispatch` takes all entries of a key for one partition's and calls once.
    * `listeners`: names of processes that are sent `Registered` and `Unregistered`. Where nobody has the name, nothing is sent.
    * `meta`: what `meta(key)` gives.

    A process that registers is linked to the registry as long as it has a key: when that stops, they get an exit signal,
    SHUTDOWN (plain asyncio code is adopted by `register`, and cancelled then). A restarted registry is empty. Keys are
    compared as those of a dict are, so 1, 1.0 and True are one key. There is no bound to how many there may be.
    """

    __shutdown__: ClassVar[Any] = None
    __kind__: ClassVar[Any] = "supervisor"

    def init(
        self,
        *,
        keys: Literal["unique", "duplicate"],
        partitions: int = 1,
        partition_by: Literal["pid", "key"] = "pid",
        listeners: Iterable[str | Address | Via] = (),
        meta: Mapping[Any, Any] | None = None,
    ) -> Table[K, V]:
        if keys not in ("unique", "duplicate"):
            raise ValueError(f'keys must be "unique" or "duplicate". Got: {short(keys)}')
        if partition_by not in ("pid", "key"):
            raise ValueError(f'partition_by must be "pid" or "key". Got: {short(partition_by)}')
        if not isinstance(partitions, int) or partitions < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"partitions must be an int, 1 or more. Got: {short(partitions)}")
        me = as_type(ServerProcess, self._process)
        me.trap = True
        table: Table[K, V] = Unique() if keys == "unique" else Duplicate(by_key=partition_by == "key")
        table.node = me.node
        table.address = me.label()
        table.listeners = _listeners(listeners)
        table.meta = dict(meta or {})
        table.start_partition = partial(_starting.begin, me.node, Partition, (table,), {}, me)
        table.partitions = [table.start_partition() for _ in range(partitions)]
        own(partial(_close_locks, table))
        return table

    def handle_info(self, state: Table[K, V], message: Any) -> None:
        if type(message) is not Exited:
            super().handle_info(state, message)
            return
        for number, partition in enumerate(state.partitions):
            if partition is message.pid and not partition.node.ending():
                _log.error("%r: a partition ended, and what was registered there: %s", state.address, short(message.reason))
                state.partitions[number] = state.start_partition()

    def terminate(self, state: Table[K, V], reason: Any) -> None:
        for partition in state.partitions:
            partition.begin_exit(SHUTDOWN)

    # -- registering

    @overload
    def register(self: Registry[K, None], key: K) -> Pid: ...
    @overload
    def register(self, key: K, value: V) -> Pid: ...
    def register(self, key: K, value: Any = None) -> Pid:
        """Put this process under `key`. Returns the partition that it is linked to from now on.

        Raises AlreadyRegistered (with `.pid`) when the key of a unique registry is taken, by this process too.
        """
        table = self._table("register")
        process = table.node.me() or myself()
        if process.status == DEAD:
            raise asyncio.CancelledError("this process is dead")
        held = table.holder(key)
        if held is not None:
            raise AlreadyRegistered(self, key, held)
        return _add(table, process, key, value)

    def unregister(self, key: K) -> None:
        """Take back all that this process has under `key`. What others have there stays; nothing there is no error."""
        table = self._table("unregister")
        registrant = _own(table)
        if registrant is not None and table.drop(registrant, key):
            _tell(table, Unregistered(table.address, key, registrant.process))

    def unregister_match(self, key: K, pattern: Pattern[V]) -> None:
        """The same for those entries of this process whose values match; see `match`."""
        table = self._table("unregister_match")
        registrant = _own(table)
        if registrant is not None:
            matches = matcher((pattern,))
            chosen = {number for number, value in table.numbered(registrant, key) if matches(value)}
            if table.drop(registrant, key, chosen):
                _tell(table, Unregistered(table.address, key, registrant.process))

    def update_value(self, key: K, update: Callable[[V], V]) -> tuple[V, V] | None:
        """Replace the value of this process under `key` by `update(value)`: (new, old), or None if the key is not its own.

        For unique registries; ValueError in others.
        """
        table = self._unique("update_value")
        registrant = _own(table)
        if registrant is None or key not in registrant.keys:
            return None
        old = table.entries[key][1]
        new = update(old)
        if key in registrant.keys:
            table.entries[key] = registrant.process, new
        return new, old

    # -- looking

    def lookup(self, key: K) -> list[tuple[Pid, V]]:
        """Who is registered under `key`, with their values, in the order of registering. None of them is dead."""
        # `_table` and `pairs`, written out for a named, unique registry: half the time.
        table: Unique[K, V] | Duplicate[K, V] | None = None
        if self._process is None:
            try:
                table = as_type(Any, NODES[here_key()].names[self._name]).state
            except (KeyError, AttributeError):
                pass
        if type(table) is not Unique:
            return table.pairs(key) if type(table) is Duplicate else self._table("lookup").pairs(key)
        try:
            pair = table.entries[key]
        except KeyError:
            return []
        return [] if pair[0].status in GONE else [pair]

    def match(self, key: K, pattern: Pattern[V]) -> list[tuple[Pid, V]]:
        """Those of `lookup(key)` whose values match: are of a class, fulfil a predicate, or are equal, as in `receive`."""
        matches = matcher((pattern,))
        return [pair for pair in self._table("match").pairs(key) if matches(pair[1])]

    def keys(self, target: Target) -> list[K]:
        """The keys of a process in the order of registering, those of a duplicate registry as often as it has them."""
        table = self._table("keys")
        registrant = table.registrants.get(as_type(Process, find(target)))
        return [] if registrant is None else table.keys_of(registrant)

    def values(self, key: K, target: Target) -> list[V]:
        """The values that a process has under `key`."""
        table = self._table("values")
        registrant = table.registrants.get(as_type(Process, find(target)))
        return [] if registrant is None else [value for _, value in table.numbered(registrant, key)]

    def count(self) -> int:
        """How many entries there are. A process that is exiting has its own until its end, though nobody finds them."""
        return len(self._table("count"))

    def count_match(self, key: K, pattern: Pattern[V]) -> int:
        """How many `match` finds."""
        return len(self.match(key, pattern))

    @overload
    def select(self, where: Callable[[K, Pid, V], object] | None = None) -> list[RegistryEntry[K, V]]: ...
    @overload
    def select(self, where: Callable[[K, Pid, V], object] | None = None, *, give: Callable[[K, Pid, V], T]) -> list[T]: ...
    def select(self, where: Callable[[K, Pid, V], object] | None = None, *, give: Callable[[K, Pid, V], Any] | None = None) -> list[Any]:
        """All entries for which `where(key, pid, value)` is true (all, without it), as `RegistryEntry` tuples or as `give(…)` makes them.

            registry.select(lambda key, pid, value: value > 2, give=lambda key, pid, value: key)

        It walks over the whole table.
        """
        for name, one in (("where", where), ("give", give)):
            if one is not None and not callable(one):
                raise TypeError(f"{name} is a function of an entry: {name}=lambda key, pid, value: … Got: {short(one)}")
        make: Callable[..., Any] = RegistryEntry if give is None else give
        return [make(*row) for row in self._table("select").rows() if where is None or where(*row)]

    def count_select(self, where: Callable[[K, Pid, V], object]) -> int:
        """How many `select(where)` finds."""
        return len(self.select(where, give=lambda key, pid, value: None))

    def dispatch(self, key: K, handle: Callable[[list[tuple[Pid, V]]], object]) -> None:
        """Call `handle` with what is registered under `key`, here and now; not at all when there is nothing.

        In a duplicate registry with several partitions it is called once for each that has entries. What it raises comes to
        the caller. It is a plain function, since there is nothing to run it beside (OTP's `parallel:` has no counterpart):
        where more is to be done than to send messages, spawn a process there.
        """
        for entries in self._table("dispatch").groups(key):
            rest = handle(entries)
            if type(rest) is CoroutineType:
                rest.close()
                raise TypeError(f"dispatch calls a plain function, {short(handle)} is async: let it spawn what has to wait")

    # -- what is kept beside the entries

    def meta(self, key: Hashable, default: Any = None) -> Any:
        """What was put under `key`, or `default`. The registry's own, until it ends."""
        return self._table("meta").meta.get(key, default)

    def put_meta(self, key: Hashable, value: Any) -> None:
        """Keep a value beside the entries, for `meta(key)`."""
        self._table("put_meta").meta[key] = value

    def delete_meta(self, key: Hashable) -> None:
        """Forget it; nothing there is no error."""
        self._table("delete_meta").meta.pop(key, None)

    def lock(self, key: Hashable) -> AbstractAsyncContextManager[None]:
        """`async with registry.lock(key):` one at a time, first come, first served. These keys have nothing to do with entries.

        Given back when the block ends or its process dies. Entered twice by the same code: RuntimeError. NoProcess in those
        who wait when the registry ends. It may take as long as the others want; `asyncio.timeout` limits that.
        """
        return Lock(self._table("lock").locks, key)

    # -- names that lead through it: what `Via(registry, key)` asks

    def via(self, key: K, value: V | EllipsisType = ...) -> Via:
        """The name `key` in this registry: `Cache(registry.via("eu")).start_link()`. `value` is registered with it, else None."""
        return Via(self if isinstance(value, EllipsisType) else Valued(self, value), key)

    def register_name(self, key: K, pid: Pid, /, value: Any = None) -> bool:
        """Put a process that is starting under `key`. False when it is taken (or the process dead)."""
        table, process = self._unique("a name"), as_type(Process, pid)
        if table.holder(key) is not None or process.status == DEAD:
            return False
        _add(table, process, key, value)
        return True

    def unregister_name(self, key: K, /) -> None:
        """Take `key` from a process that has ended: what its end asks for. Who is alive takes it back with `unregister`."""
        try:
            table = self._table("unregister_name")
        except NoProcess:
            return  # gone with its names
        # Others may have the key by now, even the process that is running here: it is nobody's but the dead's.
        held = table.holder(key)
        if held is not None and held.status == DEAD:
            table.drop(table.registrants[held], key)

    def whereis_name(self, key: K, /) -> Pid | None:
        """Who has `key` and is alive, or None; None too when no registry runs under this name."""
        try:
            table = self._table("a name")
        except NoProcess:
            return None
        if not table.unique:
            self._unique("a name")  # raises
        held = table.holder(key)
        return None if held is None or held.status in GONE else held

    def send(self, key: K, message: Any, /) -> Any:
        """Send a message to who has `key`, and return it. NoProcess when nobody has it."""
        return _send(Via(self, key), message)

    # -- where the table is

    def _table(self, verb: str) -> Table[K, V]:
        table: Any = None
        if self._process is None:
            try:
                table = as_type(Any, NODES[here_key()].names[self._name]).state
            except (KeyError, AttributeError):
                pass
        return table if type(table) in _TABLES else self._seek(verb)

    def _seek(self, verb: str) -> Table[K, V]:
        """By a pid, by another kind of name, on a loop that has no node yet; or the error that says why there is none."""
        node = here()
        found: Any = self._process
        if found is None:
            found = node.whereis(self._name)
        elif found.node is not node:
            raise WrongLoop.of(self, verb)
        if found is None or found.status == DEAD:
            raise NoProcess.of(self, verb, self._name, node.names)
        table: Any = getattr(found, "state", None)
        if type(table) in _TABLES:
            return as_type("Table[K, V]", table)
        kind: Any = getattr(found, "cls", Process)
        raise WrongServer.of(self, verb, kind)

    def _unique(self, verb: str) -> Unique[K, V]:
        table = self._table(verb)
        if isinstance(table, Unique):
            return table
        raise ValueError(f'{verb} needs a registry with keys="unique": under a key of {self!r} there may be many processes')


@dataclass(frozen=True, slots=True)
class Valued(Generic[K, V]):
    """A registry that registers a value with the names that go through it: what `Registry.via(key, value)` leads through."""

    registry: Registry[K, V]
    value: V

    def __hash__(self) -> int:
        return hash(self.registry)  # the value may have none

    def register_name(self, key: K, pid: Pid, /) -> bool:
        return self.registry.register_name(key, pid, self.value)

    def unregister_name(self, key: K, /) -> None:
        self.registry.unregister_name(key)

    def whereis_name(self, key: K, /) -> Pid | None:
        return self.registry.whereis_name(key)

    def send(self, key: K, message: Any, /) -> Any:
        return self.registry.send(key, message)


def _add(table: Table[K, V], process: Process, key: K, value: V) -> Pid:
    partition = table.add(process, key, value)
    if table.listeners:
        _tell(table, Registered(table.address, key, process, value))
    return partition


def _own(table: Table[K, V]) -> Registrant[K, V] | None:
    """What the process whose code this is has there."""
    me = table.node.me()
    return None if me is None else table.registrants.get(me)


def _listeners(given: Iterable[Any]) -> tuple[Any, ...]:
    listeners = () if isinstance(given, str) else tuple(given)
    if isinstance(given, str) or not all(isinstance(one, str | Address | Via) for one in listeners):
        raise ValueError(f'listeners are names of processes, as ("name", …). Got: {short(given)}')
    return listeners


def _tell(table: Table[Any, Any], message: object) -> None:
    for listener in table.listeners:
        process = find(listener)
        if process is not None:
            process.post((INFO, message, None, None))


def _close_locks(table: Table[Any, Any]) -> None:
    close(table.locks, NoProcess.of(table.address, "lock", None, ()))
