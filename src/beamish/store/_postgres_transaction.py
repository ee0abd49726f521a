"""Transactions in PostgreSQL: its own SERIALIZABLE ones, in as few round trips as there can be.

Nothing is sent before the first read, which goes together with BEGIN. What was written comes with the commit, all at once: the records,
the events and COMMIT in one round trip; in the order of tables and keys, so that transactions seldom wait for each other in a circle.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from beamish._runtime.node import here
from beamish._task_blocking import default_threads
from beamish.store._events import encode_events
from beamish.store._postgres_errors import UNKNOWN, failure, said
from beamish.store._postgres_schema import BEGIN as BEGIN_PLAIN, COMMIT
from beamish.store._postgres_sql import Sql, number, numbers
from beamish.store._postgres_wire import Gone, Refused, Request, Slow, Statement, Wire
from beamish.store._query import Query
from beamish.store._table import Table
from beamish.store.engine import Change, Writes
from beamish.store.errors import Conflict, StoreError, StoreFailed, TransactionOver

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

    from beamish.store._postgres_opening import Opening

#: So many records are made in a thread.
MANY = 2000
#: The most events of one row of the outbox.
PART = 500
#: Records that are looked at for a query with a predicate and a limit: so many, then so many times more. All in all that is little more
#: than the last time alone, and needs no cursor.
AT_FIRST, GROWTH = 100, 8
#: After so many runs a transaction waits a little before the next (seconds, and up to ten times that): programs elsewhere have no turns.
PATIENT, LATER = 3, 0.005

BEGIN = Statement("BEGIN ISOLATION LEVEL SERIALIZABLE")


class Outbox:
    """Where a transaction writes its events, under a token of its own by which it is found again."""

    def __init__(self, opening: Opening) -> None:
        pending, events = opening.names.pending, opening.names.events
        self._first = Statement(f"INSERT INTO {pending} (token, part, count, body) VALUES ($1, 0, $2, $3)", 3)
        self._next = Statement(
            f"INSERT INTO {pending} (token, part, id, count, body) SELECT $1, $2, id, $3, $4 FROM {pending} WHERE token = $1 AND part = 0",
            4,
        )
        self._claim = Statement(f"INSERT INTO {pending} (token, part, count, body) VALUES ($1, 0, 0, '') ON CONFLICT DO NOTHING", 1)
        self._look = Statement(
            f"SELECT (SELECT count(*) FROM {pending} WHERE token = $1 AND count > 0) + (SELECT count(*) FROM {events} WHERE token = $1)", 1
        )
        self._oldest = Statement(f"SELECT oldest FROM {opening.names.head}")
        self._prefix = os.urandom(8)
        self._numbers = itertools.count()

    def token(self) -> bytes:
        return self._prefix + number(next(self._numbers))

    def add(self, token: bytes, changes: Sequence[Change]) -> list[Request]:
        found: list[Request] = []
        for part, begin in enumerate(range(0, len(changes), PART)):
            piece = changes[begin : begin + PART]
            count, body = number(len(piece)), encode_events(piece).encode()
            found.append(self._next(token, number(part), count, body) if part else self._first(token, count, body))
        return found

    async def has(self, wire: Wire, token: bytes, seen: int) -> bool | None:
        """Whether the transaction with this token has happened; if it has not, it can't any more. `seen`: a position of before it.

        It may still be on its way: its connection broke, but its last words arrive. So its token is claimed. That waits for the
        transaction, if it is under way, and if it has not come yet it will find the token taken. None if its events may be gone already.
        """
        await wire.send([BEGIN_PLAIN(), self._claim(token)])
        answer = await wire.send([self._look(token), self._oldest(), COMMIT()])
        found, oldest = next(numbers(answer[0])), next(numbers(answer[1]))
        return True if found else (None if oldest > seen else False)


class Transaction:
    """See `EngineTransaction`."""

    __slots__ = ("_attempt", "_failed", "_opening", "_over", "_turn", "_wire", "committing", "doom")

    def __init__(self, opening: Opening, attempt: int = 1) -> None:
        self._opening = opening
        self._attempt = attempt
        self._turn = False
        self._failed: StoreError | None = None
        self._wire: Wire | None = None
        self._over = False
        self.doom: str | None = None
        self.committing: asyncio.Future[Any] | None = None
        opening.active.add(self)

    async def read(self, table: Table[Any], key: Any) -> tuple[Any, ...]:
        sql = self._opening.sql[table]
        make = table.make
        return tuple([make(row) for row in sql.rows(await self._ask(sql.read(key)))])

    async def query(self, table: Table[Any], query: Query) -> list[Any]:
        return await found_by(query, self._opening.sql[table], self._ask)

    async def _ask(self, request: Request) -> PGresult:
        self._check()
        try:
            if self._wire is None:
                answer = await self._first(request)
            else:
                answer = (await self._wire.send((request,)))[0]
        except (Refused, Gone) as error:
            self._end()
            self._opening.pool.check()
            self._failed = failure(error)
            raise self._failed from None
        self._check()
        return answer

    async def _first(self, request: Request) -> PGresult:
        """A connection that was lost while nobody used it is not the transaction's fault: it has done nothing yet."""
        for _ in range(self._opening.pool.size):
            wire = await self._connected()
            try:
                return (await wire.send((BEGIN(), request)))[1]
            except Slow:
                raise
            except Gone:
                self._opening.pool.check()
        return (await (await self._connected()).send((BEGIN(), request)))[1]

    async def _connected(self) -> Wire:
        """A connection. Those that others have been quicker than go one at a time, and a little later if that goes on: on a record that
        many change, each would otherwise be as likely as the others to lose again."""
        if self._attempt > 1 and not self._turn:
            self._turn = await self._opening.turns.take()
            if self._attempt > PATIENT:
                await asyncio.sleep(random.uniform(0.0, LATER * min(self._attempt, 10)))
        self._wire = wire = await self._opening.pool.acquire()
        return wire

    async def commit(self, writes: Writes, changes: Sequence[Change]) -> None:
        self._check()
        if not changes:
            await self._settle()
            return
        opening = self._opening
        blind = self._wire is None
        requests: list[Request] = []
        for table, keys in sorted(writes.items(), key=lambda one: one[0].name):
            requests += opening.sql[table].writes(sorted(keys.items(), key=lambda one: one[0]))
        try:
            while (gone := await self._sent(requests, changes)) is not None:
                if not blind or isinstance(gone, Slow):
                    raise failure(gone)
                blind = False  # it has read nothing that could be otherwise now: once more
        finally:
            # Cancelled, it may have happened all the same: whoever follows the events hears of it then.
            undone = self._end()
            if self.committing is not None and undone is not None:
                undone.add_done_callback(lambda done: opening.stream.told())
        opening.stream.told()

    async def _sent(self, requests: Sequence[Request], changes: Sequence[Change]) -> Gone | None:
        """All of it, and COMMIT. If the connection broke and nothing has happened, why it broke."""
        opening = self._opening
        token, seen = opening.outbox.token(), opening.stream.seen
        rest = [*requests, *opening.outbox.add(token, changes), COMMIT()]
        if self._wire is None:
            await self._connected()
            rest.insert(0, BEGIN())
        assert self._wire is not None
        if self._wire.lost is not None:
            opening.pool.check()
            return self._wire.lost
        try:
            self.committing = self._wire.send(rest)
            await self.committing
        except Refused as error:
            if error.state != UNKNOWN:
                raise failure(error) from None
            broken = Gone(str(error))
        except Gone as error:
            broken = error
        else:
            return None
        wire, self._wire = self._wire, None
        opening.pool.release(wire)
        return None if await opening.has_happened(token, seen, broken) else broken

    async def _settle(self) -> None:
        """It has only read: that can be serializable or not."""
        try:
            if self._wire is not None:
                await self._wire.send((COMMIT(),))
        except (Refused, Gone) as error:
            self._opening.pool.check()
            raise failure(error) from None
        finally:
            self._end()

    async def abort(self) -> None:
        self._end()

    def _end(self) -> asyncio.Future[Any] | None:
        if self._over:
            return None
        self._over = True
        self._opening.active.discard(self)
        if self._turn:
            self._opening.turns.leave()
        wire, self._wire = self._wire, None
        return self._opening.pool.release(wire) if wire is not None else None

    def _check(self) -> None:
        if self.doom is not None:
            self._end()
            raise Conflict(f"the transaction can't commit any more: {self.doom}. Run it again")
        self._opening.pool.check()
        if self._failed is not None:  # whoever caught the error can't go on all the same
            raise type(self._failed)(str(self._failed))
        if self._over:
            raise TransactionOver("this transaction is over; use its tx inside of its block or function only")


class DirtyTransaction:
    """Reads, each for itself."""

    __slots__ = ("_opening",)

    def __init__(self, opening: Opening) -> None:
        self._opening = opening

    async def read(self, table: Table[Any], key: Any) -> tuple[Any, ...]:
        sql = self._opening.sql[table]
        make = table.make
        return tuple([make(row) for row in sql.rows(await self._ask(sql.read(key)))])

    async def query(self, table: Table[Any], query: Query) -> list[Any]:
        return await found_by(query, self._opening.sql[table], self._ask)

    async def _ask(self, request: Request) -> PGresult:
        try:
            try:
                return (await (await self._opening.pool.shared()).send((request,)))[0]
            except Slow:
                raise
            except Gone:  # it changes nothing, so it may be done twice
                return (await (await self._opening.pool.shared()).send((request,)))[0]
        except (Refused, Gone) as error:
            self._opening.pool.check()
            raise StoreFailed(f"nothing was read: {said(error)}") from None

    async def commit(self, writes: Writes, changes: Sequence[Change]) -> None:
        assert not writes
        assert not changes

    async def abort(self) -> None: ...


async def found_by(query: Query, sql: Sql[Table[Any]], ask: Callable[[Request], Awaitable[PGresult]]) -> list[Any]:
    """The records that match. A predicate runs here: with a limit, more and more are asked for, until it has said yes often enough."""
    if query.where is None or query.limit is None:
        return await _matching(query, sql, await ask(sql.select(query, query.limit)))
    most = max(AT_FIRST, 2 * query.limit)
    while True:
        answer = await ask(sql.select(query, most))
        found = await _matching(query, sql, answer)
        if len(found) >= query.limit or answer.ntuples < most:
            return found
        most *= GROWTH


async def _matching(query: Query, sql: Sql[Table[Any]], answer: PGresult) -> list[Any]:
    make, where, limit = sql.table.make, query.where, query.limit

    def find() -> list[Any]:
        rows = sql.rows(answer)
        if where is None:
            return [make(row) for row in rows]
        records = (record for row in rows if where(record := make(row)))
        return list(itertools.islice(records, limit))

    return await default_threads(here()).run(find) if answer.ntuples > MANY else find()
