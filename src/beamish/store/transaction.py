# pyright: reportPrivateUsage=false
"""A transaction, as a user has it: `tx`. What it writes waits here until the commit, and is seen by its own reads."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, TypeVar

from beamish.errors import short
from beamish.store._local import overlaid, widened
from beamish.store._query import UNBOUNDED, Inclusive, Query
from beamish.store._table import Row, Table
from beamish.store.engine import GONE, Change, EngineTransaction, Op, Write
from beamish.store.errors import Aborted, BadRecord, Conflict, TransactionOver

if TYPE_CHECKING:
    from beamish.store._opened import Opened

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Edit(Generic[R]):
    """What is to be done to the records of a bag under one key: all are deleted first if `cleared`."""

    cleared: bool = False
    removed: tuple[R, ...] = ()
    added: tuple[R, ...] = ()

    def add(self, record: R) -> Edit[R]:
        return self if record in self.added else replace(self, added=(*self.added, record))

    def remove(self, record: R) -> Edit[R]:
        added = tuple(one for one in self.added if one != record)
        removed = self.removed if self.cleared or record in self.removed else (*self.removed, record)
        return replace(self, removed=removed, added=added)

    def of(self, before: tuple[R, ...]) -> tuple[R, ...]:
        removed = members(self.removed)
        left = () if self.cleared else tuple(one for one in before if one not in removed)
        there = members(left)
        return (*left, *(one for one in self.added if one not in there))


# What NamedTuple's own constructors do, in a third of the time.
_write: Callable[[tuple[Any, Any]], Write] = partial(tuple.__new__, Write)  # pyright: ignore[reportUnknownMemberType]
_change: Callable[[tuple[Op, Table[Any], Any, Any, Row | None]], Change] = partial(tuple.__new__, Change)  # pyright: ignore[reportUnknownMemberType]

_CLEARED: Edit[Any] = Edit(cleared=True)
_NO_EDIT: Edit[Any] = Edit()
_ABSENT: Any = object()


def members(records: tuple[R, ...]) -> Collection[R]:
    """To be asked who is in it: quick, unless the records can't be hashed."""
    try:
        return frozenset(records)
    except TypeError:
        return records


class Transaction:
    """What `async with store.transaction() as tx` and `await store.transaction(fn)` give: reads, and writes that wait for the commit.

    It sees its own writes; nobody else does before the commit. It is over when its block or function ends. One transaction is used by
    one task at a time.
    """

    __slots__ = ("_aborted", "_engine", "_opened", "_over", "_undo", "_writes", "began")

    def __init__(self, opened: Opened, engine: EngineTransaction) -> None:
        self._opened = opened
        self._engine = engine
        self._writes: dict[Table[Any], dict[Any, Write | Edit[Any]]] = {}
        self._undo: list[tuple[dict[Any, Any], Any, Any]] | None = None
        self._over = False
        self._aborted: Aborted | None = None
        self.began: float | None = None  # when somebody wants to know how long it takes

    # -- reading

    async def read(self, table: type[R], key: Any) -> R | None:
        """The record under `key`, or None. Of a bag use `read_all`."""
        found = self._opened.table(table)
        if found.bag:
            raise BadRecord(f"{found.name} is a bag, with any number of records for a key: read_all({table.__name__}, {short(key)})")
        found.check_key(key)
        if self._writes or self._over:
            records = await self._under(found, key)
        else:
            records = await self._engine.read(found, key)
        if not records:
            return None
        record: R = records[0]
        if found.plain:
            return record
        return None if self._opened.expired(found, record) else found.own(record)

    async def read_all(self, table: type[R], key: Any) -> list[R]:
        """All records under `key`: of a bag in the order of writing, else one or none."""
        found = self._opened.table(table)
        records = await self._under(found, found.check_key(key))
        return [found.own(one) for one in records if not self._opened.expired(found, one)]

    async def query(
        self,
        table: type[R],
        *,
        index: str | None = None,
        key: Any = UNBOUNDED,
        low: Any = UNBOUNDED,
        high: Any = UNBOUNDED,
        inclusive: Inclusive = "low",
        where: Callable[[R], bool] | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> list[R]:
        """The records that match, in the order of the `index` (by default the key), then of the key.

        * `key`: that value of the index; or `low`, `high`: from, to. `inclusive` says which ends belong to it: "low" (as in `range`),
          "high", "both" or "neither". Of an index that allows None: key=None finds the records without a value, a range never does.
        * `where`: a predicate on records, pure: it may run in a thread, and more than once. It looks at all that the index gives.
        * `limit`: so many at most, the first ones in that order; `reverse`: from the end.
        """
        found = self._opened.table(table)
        query = self._opened.living(found, found.query(index, key, low, high, inclusive, where, limit, reverse))
        own = self._writes.get(found)
        if not own:
            self._check()
            records = await self._engine.query(found, query)
        else:
            over = {key: await self._under(found, key) for key in list(own)}
            records = await self._engine.query(found, widened(query, found, len(over)))
            records = overlaid(records, query, found, over)
        return [found.own(one) for one in records] if found.mutable else records

    async def expired(self, table: Table[Any], now: float, limit: int) -> list[Any]:
        """For the sweep: records that no other read finds any more."""
        assert table.expires is not None
        return await self._engine.query(table, Query(table.expires, high=now, limit=limit))

    async def _under(self, table: Table[Any], key: Any) -> tuple[Any, ...]:
        """The records under a key as this transaction sees them."""
        if self._over:
            self._check()
        write = self._writes[table].get(key) if table in self._writes else None
        if write is None:
            return await self._engine.read(table, key)
        if type(write) is Write:
            return write.records
        assert isinstance(write, Edit)
        return write.of(() if write.cleared else await self._engine.read(table, key))

    # -- writing

    def write(self, record: Any) -> None:
        """Store a record: in place of the one under its key, or in a bag beside the others (unless an equal one is there).

        Waits in the transaction until its commit; in a bag it then counts as a read of the key, too. BadRecord for a value that does not
        fit its field; NoTable.
        """
        kind: type[Any] = type(record)  # pyright: ignore[reportUnknownVariableType]
        table = self._opened.table(kind)
        if not table.plain:
            record = self._opened.stamped(table, table.own(record))
        row = table.row(record)
        key = getattr(record, table.key)
        if table.bag:
            self._put(table, key, self._edit(table, key).add(record))
        else:
            self._put(table, key, _write(((record,), (row,))))

    def delete(self, table: type[Any], key: Any) -> None:
        """Delete all that is under `key`, if anything is."""
        found = self._opened.table(table)
        self._put(found, found.check_key(key), _CLEARED if found.bag else GONE)

    def delete_record(self, record: Any) -> None:
        """Take this one record out of a bag, if it is there."""
        kind: type[Any] = type(record)  # pyright: ignore[reportUnknownVariableType]
        table = self._opened.table(kind)
        if not table.bag:
            raise BadRecord(f"{table.name} is no bag, it has one record for a key: delete({table.cls.__name__}, key)")
        table.row(record)
        key = getattr(record, table.key)
        self._put(table, key, self._edit(table, key).remove(record))

    async def update_counter(self, table: type[Any], key: Any, by: int = 1, *, field: str | None = None) -> int:
        """Add to a counter, and return what it is then. A record that is not there is made, with 0 to begin with.

        `field` may be left out where the record has one int field beside its key. To make a record, its other fields need defaults.
        """
        found = self._opened.table(table)
        name = field or found.counter()
        if name == found.key or not any(one.name == name and one.type is int for one in found.fields):
            raise BadRecord(f"{found.name} has no int field {name!r} beside its key to count in")
        record = await self.read(table, key)
        if record is None:
            try:
                record = found.cls(**{found.key: key, name: 0})
            except TypeError as error:
                raise BadRecord(
                    f"there is no {found.name} {short(key)} to count in, and none can be made of its key alone: {error}"
                ) from error
        value: int = getattr(record, name) + by
        self.write(replace(record, **{name: value}))
        return value

    def _edit(self, table: Table[Any], key: Any) -> Edit[Any]:
        write = self._writes.get(table, {}).get(key, _NO_EDIT)
        assert isinstance(write, Edit)
        return write

    def _put(self, table: Table[Any], key: Any, write: Write | Edit[Any]) -> None:
        if self._over:
            self._check()
        own = self._writes.get(table)
        if own is None:
            own = self._writes[table] = {}
        if self._undo is not None:
            self._undo.append((own, key, own.get(key, _ABSENT)))
        own[key] = write

    # -- nested transactions

    def nested(self) -> Nested:
        """A part that may be undone for itself: `async with tx.nested() as inner: …`

        When the block raises, Aborted by `inner.abort()` included, what was written in it is undone, and the error goes on: catch it
        outside of the block to go on with the rest. What a nested transaction has committed is undone with the outer one.
        """
        self._check()
        return Nested(self)

    def abort(self, reason: object = None) -> NoReturn:
        """End this transaction with Aborted(reason): nothing of it happens, whoever may catch the exception on its way."""
        self._check()
        self._over = True
        self._aborted = Aborted(reason)
        raise self._aborted

    def _inner(self) -> Transaction:
        """A nested transaction: what it writes is among the writes of this one."""
        inner = Transaction(self._opened, self._engine)
        inner._writes, inner._undo = self._writes, self._undo
        return inner

    def _undo_to(self, mark: int) -> None:
        undo = self._undo or []
        while len(undo) > mark:
            own, key, before = undo.pop()
            if before is _ABSENT:
                del own[key]
            else:
                own[key] = before

    # -- the end

    async def _commit(self) -> None:
        if self._aborted is not None:
            raise self._aborted
        self._check()
        writes: dict[Table[Any], dict[Any, Write]] = {}
        changes: list[Change] = []
        for table, own in self._writes.items():
            if not own:
                continue
            settled = writes[table] = {}
            for key, write in own.items():
                if type(write) is Write:
                    settled[key] = write
                    records = write.records
                    if records:
                        changes.append(_change(("write", table, key, records[0], write.rows[0])))
                    else:
                        changes.append(_change(("delete", table, key, None, None)))
                elif isinstance(write, Edit):
                    before = await self._engine.read(table, key)
                    after = write.of(before)
                    rows = tuple(map(table.row, after))
                    settled[key] = Write(after, rows)
                    changes.extend(_bag_changes(table, key, write, before, after, rows))
        self._over = True
        await self._engine.commit(writes, changes)
        if self._opened.copies is not None:
            await self._opened.shown(writes)

    async def _abort(self) -> None:
        self._over = True
        await self._engine.abort()

    def _check(self) -> None:
        if self._aborted is not None:
            raise TransactionOver("this transaction was aborted: nothing of it happens, so there is nothing to be done in it any more")
        if self._over:
            raise TransactionOver("this transaction is over; use its tx inside of its block or function only")


def _bag_changes(
    table: Table[Any], key: Any, edit: Edit[Any], before: tuple[Any, ...], after: tuple[Any, ...], rows: tuple[Row, ...]
) -> list[Change]:
    """The events of an edited bag: what a reader of events is to do to get from `before` to `after`."""
    found: list[Change] = []
    if edit.cleared:
        found.append(Change("delete", table, key, None, None))
        before = ()
    old, new = members(before), members(after)
    found.extend(Change("delete_record", table, key, one, table.row(one)) for one in before if one not in new)
    found.extend(Change("write", table, key, one, row) for one, row in zip(after, rows, strict=True) if one not in old)
    return found


class Nested:
    """The block of a nested transaction."""

    __slots__ = ("_inner", "_mark", "_outermost", "_tx")

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    async def __aenter__(self) -> Transaction:
        tx = self._tx
        tx._check()
        self._outermost = tx._undo is None
        if tx._undo is None:
            tx._undo = []
        self._mark = len(tx._undo)
        self._inner = tx._inner()
        return self._inner

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        tx, inner = self._tx, self._inner
        inner._over = True
        if error is not None or inner._aborted is not None:
            tx._undo_to(self._mark)
        if self._outermost:
            tx._undo = None
        if error is None and inner._aborted is not None:
            raise inner._aborted


class Block:
    """`async with store.transaction() as tx`: committed at its end, undone if it raises."""

    __slots__ = ("_begin", "_tx")

    def __init__(self, begin: Callable[[], Any]) -> None:
        self._begin = begin

    async def __aenter__(self) -> Transaction:
        opened: Opened = await self._begin()
        self._tx = tx = opened.begin()
        return tx

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> Literal[False]:
        tx = self._tx
        outcome = "abort"
        try:
            if error is None:
                await tx._commit()
                outcome = "commit"
        except Conflict:
            outcome = "conflict"
            raise
        finally:
            await tx._abort()
            tx._opened.told(tx, outcome)
        return False
