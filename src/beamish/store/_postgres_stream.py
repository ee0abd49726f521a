"""The events of a store in PostgreSQL: in one order for everybody, without gap, although transactions commit out of order.

A number that a transaction draws says nothing of when it commits: who reads up to 7 while 6 is still under way would never see 6. So a
transaction leaves its events in the outbox without a position, and positions are given afterwards, by whoever reads: under the lock of
"#head", to all that is committed by then, in the order of the numbers that the transactions drew when they wrote (each after all that
it had seen was committed). Then a position is given once, all up to it are given, and what a transaction saw comes before it. That is
plain SQL, and neither a transaction that stays open for hours nor one of another database holds up the others' events.

NOTIFY wakes readers and carries nothing: what it misses is found by looking, every `poll` seconds. It is sent after the commit and not
in it, where all that notify would commit one after the other.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from beamish._runtime.clock import Alarm
from beamish._runtime.ids import Pid
from beamish._runtime.node import here
from beamish.messages import receive, send
from beamish.store._events import EventReader
from beamish.store._postgres_errors import CONFLICTS, said
from beamish.store._postgres_pool import FIRST_PAUSE, LAST_PAUSE, clock_of_loop
from beamish.store._postgres_schema import BEGIN, COMMIT, Names, read_schemas
from beamish.store._postgres_sql import number, numbers, quoted
from beamish.store._postgres_wire import Gone, Refused, Request, Slow, Statement, Wire
from beamish.store.engine import Event
from beamish.store.errors import PositionGone, StoreClosed, StoreFailed

if TYPE_CHECKING:
    from psycopg.pq import PGnotify
    from psycopg.pq.abc import PGresult

    from beamish.store._postgres_opening import Opening

#: The most rows that are read at once; each is a transaction, or 500 events of one.
ROWS = 64
#: At most one NOTIFY in so many seconds.
QUIET = 0.02
#: How often what nobody reads is put in order, and claims of broken commits are taken away (seconds).
TIDY = 60.0
ATTEMPTS = 20

_log = logging.getLogger("beamish.store")


class Stream:
    """One connection that listens, gives positions, and reads events."""

    def __init__(self, opening: Opening, keep: int, wake: Callable[[], None], poll: float) -> None:
        names = opening.names
        self._opening = opening
        self._names = names
        self._keep = keep
        self._most = keep + max(keep // 4, 1000)  # so that events are deleted seldom
        self._wake = wake
        self._poll = poll
        self._wire: Wire | None = None
        self._listening = False
        self._waiting: list[asyncio.Future[None]] = []
        self._news = True  # whether there may be something without a position
        self._quiet: Alarm | None = None
        self._due = False
        self.seen = 0  # the last position that was seen
        self.follower: Pid | None = None
        self.reader = EventReader(opening.tables, opening.schemas)
        self._channel = f"beamish {hashlib.blake2b(names.schema.encode(), digest_size=8).hexdigest()}"  # 63 bytes at most
        self._notify = Statement("SELECT pg_notify($1, '')", 1)(self._channel.encode())
        self._place = Statement(_place(names, "count > 0"))
        self.place_only = Statement(_place(names, "token = ANY($1::bytea[])"), 1)
        self._read = Statement(
            f"SELECT h.last, h.oldest, (SELECT count(*) FROM {names.pending} WHERE count > 0), e.last, e.count, e.body FROM {names.head} h "
            f"LEFT JOIN (SELECT last, count, body FROM {names.events} WHERE last > $1 ORDER BY last LIMIT $2) e ON true ORDER BY e.last",
            2,
        )
        self._trim = [
            Statement(f"DELETE FROM {names.events} WHERE last <= (SELECT last - $1 FROM {names.head})", 1)(number(keep)),
            Statement(
                f"UPDATE {names.head} SET oldest = coalesce((SELECT last - count FROM {names.events} ORDER BY last LIMIT 1), last)"
            )(),
        ]
        self._forget_claims = Statement(f"DELETE FROM {names.pending} WHERE count = 0 AND made < now() - interval '1 day'")()

    # -- being told, and telling

    def told(self) -> None:
        """This process has committed something."""
        self._news = True
        self._wake()
        if self._quiet is not None:
            self._due = True
        elif self._listening and self._wire is not None:
            self._ring(self._wire)

    def _ring(self, wire: Wire) -> None:
        self._due = False
        wire.send((self._notify,)).add_done_callback(_forget)
        clock = clock_of_loop()
        self._quiet = clock.call_at(clock.now() + QUIET, self._ring_again)

    def _ring_again(self) -> None:
        self._quiet = None
        if self._due and self._wire is not None:
            self._ring(self._wire)

    def _notified(self, notification: PGnotify) -> None:
        if self._wire is not None and notification.be_pid != self._wire.backend:
            self._news = True
            self._wake()

    # -- the connection

    async def follow(self) -> None:
        """A process of its own: keeps the connection, and looks every `poll` seconds."""
        opening = self._opening
        told_of_it = False
        wait = FIRST_PAUSE
        while not opening.pool.closed:
            try:
                wire = await opening.pool.connect(self._notified, patience=0.0)
            except StoreClosed:
                return
            except StoreFailed as error:
                if not told_of_it:
                    _log.warning("the store's events can't be followed until there is a connection: %s", error)
                told_of_it = True
                await asyncio.sleep(wait)
                wait = min(wait * 2, LAST_PAUSE)
                continue
            told_of_it, wait = False, FIRST_PAUSE
            await self._keep_watch(wire)

    async def _keep_watch(self, wire: Wire) -> None:
        self._wire = wire
        try:
            await wire.send((Statement(f"LISTEN {quoted(self._channel)}")(),))
            self._listening = True
        except Refused:
            self._listening = False  # a database without it: looking has to do
        except Gone:
            pass
        self._let_in()
        next_tidying = 0.0
        while wire.lost is None:
            self._wake()
            with suppress(TimeoutError):
                await receive(timeout=self._poll)
            if here().clock.now() >= next_tidying and wire.lost is None:
                next_tidying = here().clock.now() + TIDY
                with suppress(Refused, Gone, StoreFailed, StoreClosed):
                    await self._tidy()
        self._wire, self._listening = None, False

    def lost(self, wire: Wire) -> None:
        """The follower is to make another one."""
        if wire is self._wire:
            self._wire, self._listening = None, False
            if self.follower is not None:
                send(self.follower, "lost")

    def _let_in(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def _ready(self) -> Wire:
        """The connection; while there is none, as much patience as for others."""
        pool, clock = self._opening.pool, clock_of_loop()
        until = clock.now() + pool.patience
        while self._wire is None or self._wire.lost is not None:
            pool.check()
            if clock.now() >= until:
                raise StoreFailed(f"PostgreSQL at {pool.address.shown} can't be reached, so events can't be read now")
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            alarm = clock.call_at(until, self._let_in)
            try:
                await future
            finally:
                alarm.cancel()
        return self._wire

    def drop(self) -> None:
        if self._quiet is not None:
            self._quiet.cancel()
        self._let_in()

    # -- positions

    async def position(self) -> int:
        last, _, _ = await self._look(0, 0)
        return last

    async def events(self, after: int, limit: int) -> list[Event[Any]]:
        try:
            last, oldest, rows = await self._look(after, ROWS)
        except StoreClosed:
            raise StoreClosed(f"the store has ended; its events were read up to position {after}") from None
        if not 0 <= after <= last:
            raise ValueError(f"positions of this store go from 0 to {last} now. Got: {after!r}")
        if after < oldest:
            raise PositionGone(after, oldest)
        found: list[Event[Any]] = []
        for end, body in rows:
            found += await self._decoded(body, end)
            if found[-1].position - after >= limit:
                break
        first = next((n for n, event in enumerate(found) if event.position > after), len(found))
        return found[first : first + limit]

    async def _decoded(self, body: str, end: int) -> list[Event[Any]]:
        try:
            return self.reader.read(body, end)
        except KeyError:  # a table that another program has made since we have opened the store
            self._opening.schemas.update(await read_schemas(await self._ready(), self._names))
            return self.reader.read(body, end)

    async def _look(self, after: int, rows: int) -> tuple[int, int, list[tuple[int, str]]]:
        """The last position, the last one that is gone, and what follows `after`: all of one moment, and every commit before it."""
        read = self._read(number(after), number(rows))
        news, self._news = self._news, False
        try:
            answer = (await self._ask(*(self.placing if news else ()), read))[-1]
            last, oldest, pending = list(numbers(answer))[:3]
            if pending:
                answer = (await self._ask(*self.placing, read))[-1]
                last, oldest, pending = list(numbers(answer))[:3]
            if last - oldest > self._most:
                answer = (await self._ask(BEGIN(), self._names.lock(), *self._trim, COMMIT(), read))[-1]
                last, oldest, pending = list(numbers(answer))[:3]
        except BaseException:
            self._news = True
            raise
        self.seen = max(self.seen, last)
        return last, oldest, list(_bodies(answer))

    @property
    def placing(self) -> tuple[Request, ...]:
        """Give positions to all that is committed."""
        return BEGIN(), self._names.lock(), self._place(), COMMIT()

    async def _ask(self, *requests: Request) -> list[PGresult]:
        """On the one connection; an error in it leaves a transaction open, so it is closed then."""
        for attempt in range(1, ATTEMPTS + 1):
            wire = await self._ready()
            try:
                return await wire.send(requests)
            except Refused as error:
                wire.lose(Gone(said(error)))
                if error.state not in CONFLICTS or attempt == ATTEMPTS:
                    raise StoreFailed(f"the store's events can't be read: {said(error)}") from None
            except Gone as error:
                self._opening.pool.check()
                if attempt == ATTEMPTS or isinstance(error, Slow):
                    raise StoreFailed(f"the store's events can't be read: {error}") from None
        raise AssertionError  # the last attempt returns or raises

    async def _tidy(self) -> None:
        await self.position()
        await self._ask(self._forget_claims)


def _place(names: Names, which: str) -> str:
    """Numbers within a transaction are those of its parts; `at` counts events up to and with a part."""
    return f"""
        WITH taken AS (DELETE FROM {names.pending} WHERE {which} RETURNING token, part, id, count, body),
        counted AS (SELECT token, count, body, CAST(sum(count) OVER (ORDER BY id, part) AS bigint) AS at FROM taken),
        placed AS (
            INSERT INTO {names.events} (last, count, token, body)
            SELECT h.last + c.at, c.count, c.token, c.body FROM counted c CROSS JOIN {names.head} h RETURNING last)
        UPDATE {names.head} SET last = p.last FROM (SELECT max(last) AS last FROM placed) p WHERE p.last IS NOT NULL
    """


def _bodies(answer: PGresult) -> Any:
    for row in range(answer.ntuples):
        body = answer.get_value(row, 5)
        if body is not None:
            yield int.from_bytes(answer.get_value(row, 3) or b"", "big", signed=True), body.decode()


def _forget(done: asyncio.Future[Any]) -> None:
    if not done.cancelled():
        done.exception()
