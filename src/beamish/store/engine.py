"""What keeps the data: the protocol behind which memory, SQLite and PostgreSQL are the same to a `Store`.

An engine is given whole keys: all the records under a key, in a tuple. In a set that is one record or none; in a bag any number.
Records are values: neither side changes one that it was given. A record's columns (`table.row(record)`, already checked) travel
beside it, so that no engine needs to know of Python types. Buffering what a transaction wrote, nesting and partial rollback, ttl, copies of
mutable values, re-running and telemetry are the store's; isolation, durability and the order of events are the engine's.

What an engine promises:

* **Serializable.** The transactions that commit are as if they had run one after the other. One that can't be so gets `Conflict`: from
  `read`, from `query` or from `commit`, and nothing of it happens. A transaction never sees a state that no order of commits gives, not
  even one that is bound to fail later.
* **Atomic, and durable** as the engine's own settings say, when `commit` returns. An error from `commit` means that nothing has happened,
  except `CommitUnknown`.
* **Events.** Each change of a committed transaction is one event; positions are 1, 2, 3 … without gap, a transaction's changes side by
  side. What a transaction has read or overwritten comes before its own events, and so does a commit that had returned before it began.
  They are as durable as the changes.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from beamish.store._query import Query
    from beamish.store._rows import Rows
    from beamish.store._table import Row, Table

R = TypeVar("R")

Op = Literal["write", "delete", "delete_record", "restore"]


class Write(NamedTuple):
    """All that is under a key from now on; nothing, if it was deleted."""

    records: tuple[Any, ...]
    rows: tuple[Row, ...]


GONE = Write((), ())

#: What a transaction has written: by table and key, in the order of first writing.
Writes = Mapping["Table[Any]", Mapping[Any, Write]]


class Change(NamedTuple):
    """One event before it has a position. `record` and `row` are None for "delete" and "restore", `key` is None for "restore"."""

    op: Op
    table: Table[Any]
    key: Any
    record: Any
    row: Row | None


@dataclass(frozen=True, slots=True)
class Event(Generic[R]):
    """Something that has happened to a table.

    * "write": `record` is there. In a bag: beside others of its key.
    * "delete": nothing is under `key` any more. "delete_record": a bag has `record` no more.
    * "restore": the whole table was replaced by a backup; `key` and `record` are None.

    `position` counts the events of the whole store; to go on after this one, subscribe `from_=event.position`.
    """

    position: int
    op: Op
    table: type[R]
    key: Any
    record: R | None = None


class EngineTransaction(Protocol):
    """One transaction, begun by `engine.begin()`. After `commit`, `abort` or a Conflict it is over, and `abort` does nothing."""

    async def read(self, table: Table[Any], key: Any) -> tuple[Any, ...]:
        """The records under `key`. What this transaction itself wrote is not the engine's business: it has not been told."""
        ...

    async def query(self, table: Table[Any], query: Query) -> list[Any]:
        """The records that match, in the order of `Query.sort`, `query.limit` of them at most.

        Part of what must be serializable: a record that is committed meanwhile and would match is a Conflict (a phantom).
        `query.where` is the user's predicate, pure; it may be run in a thread.
        """
        ...

    async def commit(self, writes: Writes, changes: Sequence[Change]) -> None:
        """Make `writes` happen, and `changes` the events of it. Both empty: only settle that what was read is serializable, and as
        durable as a commit would be.

        Raises Conflict, StoreFailed, CommitUnknown, StoreClosed. If this coroutine is cancelled, the transaction happens or does not.
        """
        ...

    async def abort(self) -> None:
        """Forget it. Never raises because the engine is gone."""
        ...


class Engine(Protocol):
    """An engine is made by the user (`SQLite("shop.db")`), and opened by each start of the store: after a crash, the same object again."""

    async def open(self, tables: Sequence[Table[Any]], *, keep_events: int, wake: Callable[[], None]) -> None:
        """Be ready for these tables: made if they are new, migrated if they are older (`table.migrations`), indexes as declared.

        Tables of an earlier start that are not named stay as they are. At least the last `keep_events` events are kept.
        `wake()` is to be called, on the loop, whenever there may be new events. Raises CannotOpen.
        """
        ...

    async def close(self) -> None:
        """In order: what is committed is finished first. Transactions that are open get StoreClosed."""
        ...

    def drop(self) -> None:
        """At once, since the store's process is gone (called after `close` too, and more than once). When this returns, the data can be
        opened anew; commits that have not returned are StoreClosed or done."""
        ...

    def begin(self, *, dirty: bool = False, attempt: int = 1) -> EngineTransaction:
        """A transaction; nothing need happen before its first read. `attempt` counts the runs of one that others were quicker than, so that
        an engine may let those go first which have lost often. A dirty one only reads: each read for itself sees what is committed
        then, and none is ever a Conflict. Raises StoreClosed."""
        ...

    async def position(self) -> int:
        """That of the last event, 0 if there was none. Every commit that has returned is in it."""
        ...

    async def events(self, after: int, limit: int) -> list[Event[Any]]:
        """Those that follow position `after`, the oldest first: at most `limit`, none if there are none yet. Raises PositionGone if the
        very next one is not kept any more; ValueError if `after` is beyond `position()`. Events of tables that are not declared now
        have the table's name (a str) for their `table` and no record."""
        ...

    def resident(self, table: Table[Any]) -> Rows | None:
        """All that is committed of a table, kept in memory by the engine itself and up to date when `commit` returns; None if it does not.
        (The store then keeps a copy of a `ram=True` table by itself, from `dump` and `events`.)"""
        ...

    async def dump(self, tables: Sequence[Table[Any]]) -> tuple[int, AsyncIterator[tuple[Table[Any], list[Any]]]]:
        """The position of this moment, and all records of these tables as they are now, in pieces. Others go on meanwhile.

        If the pieces hold anything, they are an async generator, and it has been started: its `aclose` lets go.
        """
        ...

    async def load(self, tables: Sequence[Table[Any]], records: AsyncIterable[tuple[Table[Any], list[Any]]]) -> None:
        """Replace the contents of `tables` by `records`, in one atomic step, with one "restore" event for each table. Transactions that
        are open get Conflict. If `records` raises, nothing has happened."""
        ...
