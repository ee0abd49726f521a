"""The connections of one opening of a PostgreSQL store: made when they are needed, and again when they are lost."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import conninfo, pq

from beamish._runtime.clock import LoopClock
from beamish.store._postgres_wire import Gone, Refused, Statement, Wire, line
from beamish.store.errors import StoreClosed, StoreError, StoreFailed

#: Between two attempts to connect: from, to (seconds).
FIRST_PAUSE, LAST_PAUSE = 0.05, 1.0
#: What a server says that will take connections soon. It is the only thing to go by: a refused connection has no SQLSTATE.
SOON = ("starting up", "shutting down", "recovery mode", "too many clients", "too many connections", "remaining connection slots")
#: A statement waits for a lock, or works, no longer than its client waits for it.
TIMEOUT = Statement("SELECT set_config('statement_timeout', $1, false)", 1)
#: Good to have, and unknown to some databases that speak PostgreSQL's protocol. A scan of a small table instead of its index would be
#: quicker and a reading of all of it: every change of the table a conflict. A plan for each value would cost more than it brings.
WANTED = ("SET enable_seqscan = off", "SET plan_cache_mode = force_generic_plan", "SET jit = off")
ROLLBACK = Statement("ROLLBACK")
#: Unless the address says otherwise. A connection that lies idle is lost without a word, if a router between here and there forgets it.
DEFAULTS = {"fallback_application_name": "beamish", "keepalives_idle": "30", "keepalives_interval": "10", "keepalives_count": "3"}


class Address:
    """Where the database is. Its password is nowhere to be seen."""

    __slots__ = ("_text", "shown")

    def __init__(self, url: str) -> None:
        try:
            parts = conninfo.conninfo_to_dict(url)
        except (psycopg.Error, TypeError, ValueError, AttributeError):  # their texts show the URL
            raise ValueError(
                "a PostgreSQL address is like postgresql://user@host:5432/database (or key=value words). "
                "The one that was given is not shown, since it may hold a password"
            ) from None
        self._text = conninfo.make_conninfo(url, **{name: value for name, value in DEFAULTS.items() if name not in parts})
        host, port = parts.get("host") or "localhost", parts.get("port") or 5432
        user = f"{parts['user']}@" if parts.get("user") else ""
        self.shown = f"{user}{host}:{port}/{parts.get('dbname') or ''}"

    async def connect(self, seconds: float) -> psycopg.AsyncConnection[Any]:
        """One attempt."""
        given = conninfo.conninfo_to_dict(self._text).get("connect_timeout")
        timeout = int(given) if given else max(2, round(seconds))
        return await psycopg.AsyncConnection.connect(self._text, autocommit=True, connect_timeout=timeout)


def clock_of_loop() -> LoopClock:
    """For waiting for a server: it lives in real time, whatever the node's clock is told by a test."""
    return LoopClock(asyncio.get_running_loop())


class Turns:
    """One at a time, who came first first; but nobody waits longer than a second, since whoever is in may be waiting for him."""

    MOST = 1.0

    def __init__(self) -> None:
        self._busy = False
        self._waiting: deque[asyncio.Future[bool]] = deque()

    async def take(self) -> bool:
        """Whether it is this one's turn; if so, `leave` is to follow."""
        if not self._busy:
            self._busy = True
            return True
        clock = clock_of_loop()
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        alarm = clock.call_at(clock.now() + self.MOST, lambda: None if future.done() else future.set_result(False))
        self._waiting.append(future)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.result():
                self.leave()
            raise
        finally:
            alarm.cancel()

    def leave(self) -> None:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(True)
                return
        self._busy = False


class Pool:
    """At most `size` connections for transactions, and those that are shared or have a task of their own."""

    def __init__(self, address: Address, size: int, timeout: float, patience: float, on_lost: Callable[[Wire], None]) -> None:
        self.address = address
        self.size = size
        self.timeout = timeout
        self.patience = patience
        self.closed = False
        self._on_lost = on_lost
        self._wires: set[Wire] = set()
        self._idle: list[Wire] = []
        self._members: set[Wire] = set()  # those for transactions
        self._made = 0  # their number, with those in the making
        self._waiting: deque[asyncio.Future[Wire | None]] = deque()
        self._shared: Wire | None = None
        self._sharing = asyncio.Lock()

    # -- one connection

    async def connect(self, notified: Callable[[pq.PGnotify], None] | None = None, patience: float | None = None) -> Wire:
        """A new connection. Tries for `patience` seconds while the server is not there, or not ready. StoreFailed."""
        clock = clock_of_loop()
        until = clock.now() + (self.patience if patience is None else patience)
        wait = FIRST_PAUSE
        while True:
            try:
                return await self._connect(max(until - clock.now(), 1.0), notified)
            except (psycopg.Error, OSError, Gone) as error:
                self.check()
                text = line(error)
                if clock.now() + wait >= until or not _may_be_there_soon(text):
                    raise StoreFailed(f"PostgreSQL at {self.address.shown} can't be reached: {text}") from None  # it might show more
            await asyncio.sleep(wait)
            self.check()
            wait = min(wait * 2, LAST_PAUSE)

    async def _connect(self, seconds: float, notified: Callable[[pq.PGnotify], None] | None) -> Wire:
        connection = await self.address.connect(seconds)
        if self.closed:
            connection.pgconn.finish()
            self.check()
        wire = Wire(connection, self.timeout, self._lost, notified)
        self._wires.add(wire)
        try:
            timeout = TIMEOUT(str(round(self.timeout * 1000)).encode())
            for answer in [wire.send([one]) for one in (timeout, *(Statement(text)() for text in WANTED))]:
                with suppress(Refused):
                    await answer
        except BaseException:
            wire.lose(Gone("given up"))
            raise
        return wire

    def check(self) -> None:
        if self.closed:
            raise StoreClosed("the store has ended")

    # -- for transactions

    async def acquire(self) -> Wire:
        """A connection for one transaction, to be released. Who comes first is served first."""
        self.check()
        while True:
            if self._idle:
                wire = self._idle.pop()
                if wire.lost is None:
                    return wire
            elif self._made < self.size:
                return await self._new_member()
            elif (found := await self._wait()) is not None:
                return found

    async def _new_member(self) -> Wire:
        self._made += 1
        try:
            wire = await self.connect()
        except BaseException:
            self._made -= 1
            self._next(None)
            raise
        self._members.add(wire)
        return wire

    async def _wait(self) -> Wire | None:
        """For a connection that somebody releases; None if there is room for a new one."""
        clock = clock_of_loop()
        future: asyncio.Future[Wire | None] = asyncio.get_running_loop().create_future()
        alarm = clock.call_at(clock.now() + self.timeout, lambda: None if future.done() else future.set_exception(self._none_free()))
        self._waiting.append(future)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None and (wire := future.result()) is not None:
                self.release(wire)
            raise
        finally:
            alarm.cancel()

    def _none_free(self) -> StoreError:
        return StoreFailed(
            f"none of the {self.size} connections has come free within {self.timeout:g} s. Are transactions begun within others, or kept "
            "open for long? Else raise connections= of Postgres"
        )

    def release(self, wire: Wire) -> asyncio.Future[Any] | None:
        """Give it back. What it was in the middle of is undone, after what is still on its way; then the future is done."""
        if wire.lost is not None:
            return None
        if wire.idle:
            self._free(wire)
            return None
        future = wire.send([ROLLBACK()])
        future.add_done_callback(lambda done: self._free(wire))
        return future

    def _free(self, wire: Wire) -> None:
        if wire.lost is not None:
            return
        if not wire.idle:
            wire.lose(Gone("it is in an odd state"))
        elif not self._next(wire):
            self._idle.append(wire)

    def _next(self, wire: Wire | None) -> bool:
        """Wake the one who waits longest."""
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(wire)
                return True
        return False

    # -- for single statements

    async def shared(self) -> Wire:
        """A connection that many use at once, for single statements: who holds one for a transaction never waits for another."""
        self.check()
        if self._shared is None:
            async with self._sharing:
                if self._shared is None:
                    self._shared = await self.connect()
        return self._shared

    # -- the end

    def _lost(self, wire: Wire) -> None:
        self._wires.discard(wire)
        if wire is self._shared:
            self._shared = None
        if wire in self._members:
            self._members.discard(wire)
            self._made -= 1
            self._next(None)
        if wire in self._idle:
            self._idle.remove(wire)
        self._on_lost(wire)

    def drop(self) -> None:
        """Close every connection, now. What is on its way happens or does not."""
        self.closed = True
        for wire in list(self._wires):
            wire.lose(Gone("the store has ended"))
        waiting, self._waiting = self._waiting, deque()
        for future in waiting:
            if not future.done():
                future.set_exception(StoreClosed("the store has ended"))


def _may_be_there_soon(text: str) -> bool:
    """No answer, or an answer that asks for patience. What else a server says about a connection will be the same in a second."""
    return "FATAL" not in text or any(word in text for word in SOON)
