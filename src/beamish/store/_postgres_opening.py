"""What there is from `open` to `close` of a store in PostgreSQL."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from beamish.errors import KILL
from beamish.process import exit, spawn_link
from beamish.store._postgres_errors import failure
from beamish.store._postgres_pool import Address, Pool, Turns
from beamish.store._postgres_schema import BEGIN, COMMIT, Names, Opener, pieces
from beamish.store._postgres_sql import BYTES, Numbering, Sql, array, numbers
from beamish.store._postgres_stream import Stream
from beamish.store._postgres_transaction import BEGIN as BEGIN_SERIALIZABLE, Outbox, Transaction
from beamish.store._postgres_wire import Gone, Refused, Statement, Wire
from beamish.store._schema import Schema
from beamish.store._table import Table
from beamish.store.engine import Change
from beamish.store.errors import CannotOpen, CommitUnknown, StoreError, StoreFailed

#: One moment for all that is read: pg_dump's level, too.
BEGIN_DUMP = Statement("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
NO_TIMEOUT = Statement("SET statement_timeout = 0")


class Opening:
    def __init__(self, address: Address, schema: str, size: int, timeout: float, patience: float, tables: Sequence[Table[Any]]) -> None:
        self.names = Names(schema)
        self.tables = tables
        self.pool = Pool(address, size, timeout, patience, self._lost)
        self.sql: dict[Table[Any], Sql[Table[Any]]] = {}
        self.schemas: dict[tuple[str, int], Schema] = {}
        self.turns = Turns()
        self.active: set[Transaction] = set()
        self.stream: Stream

    async def begin(self, keep: int, wake: Callable[[], None], poll: float) -> None:
        try:
            async with self.long() as wire:
                opener = Opener(wire, self.names, self.tables)
                await opener.run()
        except StoreFailed as error:  # there is no connection
            raise CannotOpen(str(error)) from None
        self.sql, self.schemas = opener.sql, opener.schemas
        self.outbox = Outbox(self)
        self.stream = Stream(self, keep, wake, poll)
        self.stream.follower = spawn_link(self.stream.follow)  # without it the store could not go on

    async def connect(self) -> Wire:
        """A connection of its own, for what may take its time."""
        wire = await self.pool.connect()
        try:
            await wire.send([NO_TIMEOUT()])
        except BaseException:
            wire.lose(Gone("given up"))
            raise
        wire.timeout = math.inf
        return wire

    @asynccontextmanager
    async def long(self) -> AsyncIterator[Wire]:
        """The same for a block, with the errors that a user gets."""
        wire: Wire | None = None
        try:
            wire = await self.connect()
            yield wire
        except (Refused, Gone) as error:
            self.pool.check()
            raise failure(error) from None
        finally:
            if wire is not None:
                wire.lose(Gone("it is not needed any more"))

    def _lost(self, wire: Wire) -> None:
        if hasattr(self, "stream"):
            self.stream.lost(wire)

    async def finish(self) -> None:
        """No transaction begins or goes on; those that are committing come to their end."""
        self.pool.closed = True
        committing = [tx.committing for tx in self.active if tx.committing is not None]
        if committing:
            await asyncio.wait(committing)

    def drop(self) -> None:
        self.pool.drop()
        if hasattr(self, "stream"):
            self.stream.drop()
            if self.stream.follower is not None:
                exit(self.stream.follower, KILL)
        self.active.clear()

    # -- backup

    async def dump(self, tables: Sequence[Table[Any]]) -> tuple[int, AsyncIterator[tuple[Table[Any], list[Any]]]]:
        try:
            reading = await self.connect()
        except Gone as error:
            self.pool.check()
            raise failure(error) from None
        try:
            position = await self._freeze(reading)
        except BaseException:
            reading.lose(Gone("given up"))
            raise
        return position, self._dumped(reading, tables)

    async def _freeze(self, reading: Wire) -> int:
        """Let `reading` see one moment from now on, and return the position that belongs to it.

        What has no position yet is in the outbox, and the snapshot says which of it is seen. That gets the next positions, while nobody
        else can give any.
        """
        async with self.long() as locking:
            await locking.send([BEGIN(), self.names.lock()])
            [seen] = (
                await reading.send([BEGIN_DUMP(), Statement(f"SELECT token FROM {self.names.pending} WHERE count > 0 AND part = 0")()])
            )[1:]
            tokens = array(BYTES, [seen.get_value(n, 0) for n in range(seen.ntuples)])
            last = Statement(f"SELECT last FROM {self.names.head}")
            answers = await locking.send([*([self.stream.place_only(tokens)] if seen.ntuples else []), last(), COMMIT()])
            return next(numbers(answers[-2]))

    async def _dumped(self, reading: Wire, tables: Sequence[Table[Any]]) -> AsyncIterator[tuple[Table[Any], list[Any]]]:
        try:
            for table in tables:
                sql = self.sql[table]
                async for rows in pieces(reading, sql.everything, sql.rows):
                    yield table, [table.make(row) for row in rows]
        except (Refused, Gone) as error:
            self.pool.check()
            raise failure(error) from None
        finally:
            reading.lose(Gone("it is not needed any more"))

    async def load(self, tables: Sequence[Table[Any]], records: AsyncIterable[tuple[Table[Any], list[Any]]]) -> None:
        """The tables are locked against writers first: then there is nobody to conflict with, and `records` come only once."""
        names = ", ".join(self.sql[table].name for table in sorted(tables, key=lambda one: one.name))
        changes = [Change("restore", table, None, None, None) for table in tables]
        token, seen = self.outbox.token(), self.stream.seen
        async with self.long() as wire:
            await wire.send([BEGIN_SERIALIZABLE(), Statement(f"LOCK TABLE {names} IN EXCLUSIVE MODE")()])
            await wire.send([Statement(f"DELETE FROM {self.sql[table].name}")() for table in tables])
            numbering = Numbering()
            async for table, piece in records:
                await wire.send(self.sql[table].adds(numbering.rows(table, piece)))
            try:
                await wire.send([*self.outbox.add(token, changes), COMMIT()])
            except Gone as error:
                if not await self.has_happened(token, seen, error):
                    raise
        for tx in self.active:
            tx.doom = "all was replaced by a backup"
        self.stream.told()

    async def has_happened(self, token: bytes, seen: int, broken: Gone) -> bool:
        """The connection broke in the middle of a commit: what became of it? CommitUnknown if nobody can tell."""
        happened: bool | None = None
        try:
            wire = await self.pool.acquire()
            try:
                happened = await self.outbox.has(wire, token, seen)
            finally:
                self.pool.release(wire)
        except (Refused, Gone, StoreError):  # the store's end among them
            pass
        if happened is None:
            raise CommitUnknown(
                f"{broken}, in the middle of a commit, and the database can't be asked whether it has happened. "
                "It is there as a whole, or not at all: look before you repeat it"
            )
        return happened
