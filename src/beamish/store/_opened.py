"""A store that runs: what its clients share, and use without going through its process."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

from beamish import telemetry
from beamish._runtime.ids import Pid
from beamish.errors import KILL, Normal, Shutdown, short
from beamish.process import exit
from beamish.store._copies import Copies
from beamish.store._query import Query
from beamish.store._rows import Rows
from beamish.store._table import Table
from beamish.store.engine import Engine, Writes
from beamish.store.errors import Conflict, NoTable, StoreClosed, StoreFailed
from beamish.store.transaction import Transaction
from beamish.timer import monotonic

R = TypeVar("R")

_log = logging.getLogger("beamish.store")

ATTEMPTS = 100
TRANSACTION = telemetry.event("beamish.store.transaction")


def used_by(engine: Engine) -> Opened | None:
    """Who has opened this very engine object."""
    found: Opened | None = getattr(engine, "_opened_by", None)
    return found


def in_use_by(engine: Any, opened: Opened | None) -> None:
    engine._opened_by = opened


class Opened:
    """The state of a `Store`."""

    def __init__(self, server: object, engine: Engine, tables: dict[type[Any], Table[Any]]) -> None:
        self.server = server
        self.engine = engine
        self.tables = tables
        self.waiting: dict[asyncio.Future[None], None] = {}
        self.copies: Copies | None = None  # of ram=True tables, where the engine has none itself
        self.wakes = 0
        self.closed = False
        self.orderly = False  # it was stopped
        self.follower: Pid | None = None  # who keeps them fresh
        self.sweeper: Pid | None = None  # who deletes what has expired, while it does
        self.asked = 0
        self._epoch = time.time() - monotonic()  # the clock of the node then goes on from there

    # -- tables

    def table(self, cls: type[R]) -> Table[R]:
        try:
            return self.tables[cls]
        except (KeyError, TypeError):
            raise NoTable.of(cls, [one.__name__ for one in self.tables]) from None

    def now(self) -> float:
        """Seconds since 1970."""
        return self._epoch + monotonic()

    def expired(self, table: Table[Any], record: Any) -> bool:
        if table.expires is None:
            return False
        until = getattr(record, table.expires)
        return until is not None and until <= self.now()

    def stamped(self, table: Table[R], record: R) -> R:
        """With its time to live, if it has none of its own."""
        if table.ttl is None or getattr(record, table.expires or "") is not None:
            return record
        found: Any = record
        made: R = replace(found, **{table.expires or "": self.now() + table.ttl})
        return made

    def living(self, table: Table[Any], query: Query) -> Query:
        """The same query, for what has not expired."""
        if table.expires is None:
            return query
        where = query.where
        name, now = table.expires, self.now()

        def lives(record: Any) -> bool:
            until = getattr(record, name)
            return (until is None or until > now) and (where is None or bool(where(record)))

        return replace(query, where=lives)

    # -- transactions

    def begin(self, attempt: int = 1) -> Transaction:
        self._running()
        tx = Transaction(self, self.engine.begin(attempt=attempt))
        if TRANSACTION.handlers:
            tx.began = monotonic()
        return tx

    def dirty(self) -> Transaction:
        """For reads outside of any transaction."""
        self._running()
        return Transaction(self, self.engine.begin(dirty=True))

    def _running(self) -> None:
        if self.closed:  # the engine may have been opened anew meanwhile, by the store's next start
            raise StoreClosed("the store has ended, or was started again, since this began")

    async def run(self, fn: Callable[..., Awaitable[Any]], args: Any, kwargs: Any) -> Any:
        """`fn` in a transaction, again and again until nobody else gets between."""
        for attempt in range(1, ATTEMPTS + 1):
            tx = self.begin(attempt)
            try:
                work = fn(tx, *args, **kwargs)
                if not hasattr(work, "__await__"):
                    raise TypeError(
                        f"transaction takes an async function: async def …(tx, …). Got: {short(fn)}, which returned {short(work)}"
                    )
                value = await work
                await tx._commit()  # pyright: ignore[reportPrivateUsage]
            except Conflict as error:
                await tx._abort()  # pyright: ignore[reportPrivateUsage]
                self.told(tx, "conflict", attempt)
                if attempt == ATTEMPTS:
                    why = "and another transaction was quicker each time. Is it long, or what it reads much used? "
                    hint = "Does it begin another transaction of the same store? That is a rival; use tx.nested()"
                    raise Conflict(f"{short(fn)} was run {attempt} times, {why}{hint}") from error
            except BaseException:
                await tx._abort()  # pyright: ignore[reportPrivateUsage]
                self.told(tx, "abort", attempt)
                raise
            else:
                if TRANSACTION.handlers:
                    self.told(tx, "commit", attempt)
                return value
            await asyncio.sleep(0)
        raise AssertionError("the last attempt returns or raises")

    def told(self, tx: Transaction, outcome: str, attempt: int = 1) -> None:
        if TRANSACTION.handlers:
            duration = 0.0 if tx.began is None else monotonic() - tx.began
            TRANSACTION.execute({"duration": duration, "attempt": attempt}, {"store": self.server, "outcome": outcome})

    # -- events

    def wake(self) -> None:
        """There may be new events."""
        self.wakes += 1
        if self.waiting:
            waiting, self.waiting = self.waiting, {}
            for future in waiting:
                if not future.done():
                    future.set_result(None)

    async def news(self, seen: int) -> None:
        """Wait until there may be events that were not there when `wakes` was `seen`, or for the end of the store."""
        if self.closed or self.wakes != seen:
            return
        future = asyncio.get_running_loop().create_future()
        self.waiting[future] = None
        try:
            await future
        finally:
            self.waiting.pop(future, None)

    def resident(self, table: Table[Any]) -> Rows:
        """The table in memory."""
        found = self.engine.resident(table)
        if found is None and self.copies is not None:
            found = self.copies.rows.get(table)
        if found is None:
            raise NoTable(f"there is no copy of {table.name} in memory; its @record has to say ram=True")
        return found

    def closing(self, reason: object) -> None:
        """Nobody gets in any more."""
        self.closed = True
        self.orderly = isinstance(reason, Normal | Shutdown)
        self.wake()

    async def shown(self, writes: Writes) -> None:
        """After a commit: wait until the copies in memory have it."""
        if self.copies is not None and not self.copies.rows.keys().isdisjoint(writes):
            try:
                await self.copies.passed()
            except StoreFailed as error:  # it has happened all the same; nobody may be told the opposite
                _log.warning("%r: its copies in memory do not show yet what was committed: %s", self.server, error)

    def close(self) -> None:
        self.closed = True
        if self.copies is not None:
            self.copies.close()
        for helper in (self.follower, self.sweeper):
            if helper is not None:
                exit(helper, KILL)  # a link says nothing to them where the store was stopped as NORMAL
        in_use_by(self.engine, None)
        self.engine.drop()
        self.wake()
