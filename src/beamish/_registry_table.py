"""What a Registry knows: which process is registered under which key, with which value.

Plain dictionaries on the event loop. A process that has entries is a `Registrant`: linked to one of the registry's partitions,
and with something to close, so that its entries are gone when it has ended, before anybody hears of that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from sys import getsizeof
from typing import Any, ClassVar, Generic, TypeVar

from beamish._registry_lock import Rows
from beamish._runtime.extra import extra_of
from beamish._runtime.ids import Pid
from beamish._runtime.node import Node
from beamish._runtime.process import DEAD, EXITING, Process

#: Whom nobody finds any more: the exiting keep their entries until their end, as they keep their names.
GONE = (DEAD, EXITING)

K = TypeVar("K")
V = TypeVar("V")


class Registrant(Generic[K, V]):
    """One process that has entries in a table. Called when the process ends."""

    __slots__ = ("keys", "partition", "process", "table")

    def __init__(self, table: Table[K, V], process: Process, partition: Process) -> None:
        self.table = table
        self.process = process
        self.partition = partition
        self.keys: dict[K, Any] = {}  # and, in a table of duplicates, the numbers of its entries there

    def __call__(self) -> None:
        self.table.forget(self)


class Table(Generic[K, V]):
    """What both kinds of table share: the registrants, their links, and what else a registry keeps."""

    __slots__ = ("address", "listeners", "locks", "meta", "node", "partitions", "registrants", "start_partition", "turn")

    unique: ClassVar[bool]
    address: Any  # of the registry, as its listeners are told
    node: Node
    start_partition: Callable[[], Process]

    def __init__(self) -> None:
        self.partitions: list[Process] = []
        self.turn = -1
        self.registrants: dict[Process, Registrant[K, V]] = {}
        self.listeners: tuple[Any, ...] = ()
        self.meta: dict[Any, Any] = {}
        self.locks: Rows = {}

    def __repr__(self) -> str:
        return f"<{'unique' if self.unique else 'duplicate'} keys: {len(self)} entries of {len(self.registrants)} processes>"

    # -- what the kinds differ in

    def __len__(self) -> int:
        """How many entries there are, those of exiting processes included."""
        raise NotImplementedError

    def holder(self, key: K) -> Process | None:
        """Who keeps others from registering under `key`."""
        raise NotImplementedError

    def add(self, process: Process, key: K, value: V) -> Process:
        """A new entry. The partition that its process is linked to."""
        raise NotImplementedError

    def drop(self, registrant: Registrant[K, V], key: K, chosen: set[int] | None = None) -> bool:
        """Remove what a process has under `key`, or those of it. True: there was something, and nothing is left."""
        raise NotImplementedError

    def clear(self, registrant: Registrant[K, V]) -> None:
        """Remove all that a process has; it is struck off by whoever asks."""
        raise NotImplementedError

    def pairs(self, key: K) -> list[tuple[Pid, V]]:
        """The entries under `key` of processes that are alive."""
        raise NotImplementedError

    def groups(self, key: K) -> list[list[tuple[Pid, V]]]:
        """The same by partitions, without empty ones."""
        raise NotImplementedError

    def keys_of(self, registrant: Registrant[K, V]) -> list[K]:
        raise NotImplementedError

    def numbered(self, registrant: Registrant[K, V], key: K) -> list[tuple[int, V]]:
        """The values that a process has under `key`, with the numbers that `drop` knows them by."""
        raise NotImplementedError

    def rows(self) -> Iterator[tuple[K, Pid, V]]:
        """All entries of processes that are alive."""
        raise NotImplementedError

    # -- registrants

    def join(self, process: Process) -> Registrant[K, V]:
        """A process has its first entry: it is linked to the partition whose turn it is."""
        self.turn = turn = (self.turn + 1) % len(self.partitions)
        partition = self.partitions[turn]
        if partition.status == DEAD:
            self.partitions[turn] = partition = self.start_partition()
        self.registrants[process] = registrant = Registrant(self, process, partition)
        process.link_to(partition)
        partition.link_to(process)
        extra = extra_of(process)
        if extra.closers is None:
            extra.closers = {}
        extra.closers[registrant] = None
        return registrant

    def leave(self, registrant: Registrant[K, V]) -> None:
        """It has no entry left."""
        process, partition = registrant.process, registrant.partition
        process.unlink_from(partition)
        partition.unlink_from(process)
        self._strike(registrant)

    def forget(self, registrant: Registrant[K, V]) -> None:
        """Its process has ended; the partition, which would trap that, is not to hear of it."""
        self.clear(registrant)
        self.leave(registrant)

    def abandon(self, partition: Process) -> None:
        """A partition has ended: its entries go, and their processes hear of it through their links."""
        for registrant in [one for one in self.registrants.values() if one.partition is partition]:
            self.clear(registrant)
            self._strike(registrant)

    def _strike(self, registrant: Registrant[K, V]) -> None:
        del self.registrants[registrant.process]
        extra = registrant.process.extra
        if extra is not None and extra.closers is not None:
            extra.closers.pop(registrant, None)


class Unique(Table[K, V]):
    """One process for a key."""

    __slots__ = ("entries",)

    unique = True

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[K, tuple[Process, V]] = {}

    def __len__(self) -> int:
        return len(self.entries)

    def holder(self, key: K) -> Process | None:
        pair = self.entries.get(key)
        return None if pair is None else pair[0]

    def add(self, process: Process, key: K, value: V) -> Process:
        registrant = self.registrants.get(process) or self.join(process)
        self.entries[key] = process, value
        registrant.keys[key] = None
        return registrant.partition

    def drop(self, registrant: Registrant[K, V], key: K, chosen: set[int] | None = None) -> bool:
        if key not in registrant.keys or (chosen is not None and not chosen):
            return False
        del self.entries[key], registrant.keys[key]
        if not registrant.keys:
            self.leave(registrant)
        return True

    def clear(self, registrant: Registrant[K, V]) -> None:
        for key in registrant.keys:
            del self.entries[key]
        registrant.keys = {}

    def pairs(self, key: K) -> list[tuple[Pid, V]]:
        pair = self.entries.get(key)
        if pair is None:
            return []
        return [] if pair[0].status in GONE else [pair]

    def groups(self, key: K) -> list[list[tuple[Pid, V]]]:
        pairs = self.pairs(key)
        return [pairs] if pairs else []

    def keys_of(self, registrant: Registrant[K, V]) -> list[K]:
        return list(registrant.keys)

    def numbered(self, registrant: Registrant[K, V], key: K) -> list[tuple[int, V]]:
        return [(0, self.entries[key][1])] if key in registrant.keys else []

    def rows(self) -> Iterator[tuple[K, Pid, V]]:
        for key, (process, value) in list(self.entries.items()):
            if process.alive:
                yield key, process, value


class Duplicate(Table[K, V]):
    """Any number of processes for a key, and of entries of one process there. Each entry has a number."""

    __slots__ = ("by_key", "entries", "numbers", "size")

    unique = False

    def __init__(self, *, by_key: bool) -> None:
        super().__init__()
        self.by_key = by_key
        self.entries: dict[K, dict[int, tuple[Process, V]]] = {}
        self.numbers = count()
        self.size = 0

    def __len__(self) -> int:
        return self.size

    def holder(self, key: K) -> Process | None:
        return None

    def add(self, process: Process, key: K, value: V) -> Process:
        entries = self.entries.get(key)
        if entries is None:
            self.entries[key] = entries = {}
        registrant = self.registrants.get(process) or self.join(process)
        number = next(self.numbers)
        entries[number] = process, value
        registrant.keys.setdefault(key, []).append(number)
        self.size += 1
        return registrant.partition

    def drop(self, registrant: Registrant[K, V], key: K, chosen: set[int] | None = None) -> bool:
        numbers: list[int] | None = registrant.keys.get(key)
        if numbers is None:
            return False
        left = [] if chosen is None else [number for number in numbers if number not in chosen]
        self._remove(key, numbers if chosen is None else [number for number in numbers if number in chosen])
        if left:
            registrant.keys[key] = left
            return False
        del registrant.keys[key]
        if not registrant.keys:
            self.leave(registrant)
        return True

    def clear(self, registrant: Registrant[K, V]) -> None:
        for key, numbers in registrant.keys.items():
            self._remove(key, numbers)
        registrant.keys = {}

    def _remove(self, key: K, numbers: list[int]) -> None:
        entries = self.entries[key]
        for number in numbers:
            del entries[number]
        self.size -= len(numbers)
        if not entries:
            del self.entries[key]
        elif getsizeof(entries) > 1024 + 256 * len(entries):
            self.entries[key] = dict(entries)  # one that was large once would be walked through at its old length

    def pairs(self, key: K) -> list[tuple[Pid, V]]:
        entries = self.entries.get(key)
        if entries is None:
            return []
        return [pair for pair in entries.values() if pair[0].status not in GONE]

    def groups(self, key: K) -> list[list[tuple[Pid, V]]]:
        pairs = self.pairs(key)
        if len(self.partitions) == 1 or self.by_key:
            return [pairs] if pairs else []
        groups: dict[Pid, list[tuple[Pid, V]]] = {partition: [] for partition in self.partitions}
        registrants: Any = self.registrants
        for pair in pairs:
            groups[registrants[pair[0]].partition].append(pair)
        return [group for group in groups.values() if group]

    def keys_of(self, registrant: Registrant[K, V]) -> list[K]:
        return [key for key, numbers in registrant.keys.items() for _ in numbers]

    def numbered(self, registrant: Registrant[K, V], key: K) -> list[tuple[int, V]]:
        entries = self.entries.get(key, {})
        return [(number, entries[number][1]) for number in registrant.keys.get(key, ())]

    def rows(self) -> Iterator[tuple[K, Pid, V]]:
        for key, entries in list(self.entries.items()):
            for process, value in list(entries.values()):
                if process.alive:
                    yield key, process, value
