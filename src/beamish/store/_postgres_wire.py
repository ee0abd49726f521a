"""One connection to PostgreSQL: many statements in one round trip.

psycopg makes the connection: its address, passwords, TLS. From then on its libpq wrapper (`psycopg.pq`) is used in pipeline mode: what is
sent together is one batch, ends with a synchronisation point, and is answered together; a second batch need not wait for the answers
to the first. A statement is prepared when a connection first sends it, in the same round trip. That costs a third of what the
cursors cost, and half the round trips: they, not the database, are what a small transaction takes its time for.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import pq

from beamish._runtime.clock import LoopClock

if TYPE_CHECKING:
    from beamish._runtime.clock import Alarm

    Future = asyncio.Future[list[pq.abc.PGresult]]

#: A value in PostgreSQL's binary format, or None for NULL.
Value = bytes | None

_BAD: Final = frozenset({pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.PIPELINE_ABORTED})
#: The last words of a connection. A commit that was under way may have happened before them.
_FATAL: Final = frozenset({b"FATAL", b"PANIC"})
#: The server it leads to has become a standby; what was prepared is not there any more. A new connection finds things as they are now.
_STALE: Final = frozenset({"25006", "26000", "0A000"})
_SYNC: Final = pq.ExecStatus.PIPELINE_SYNC


class Refused(Exception):
    """The server answered with an error. `state` is its SQLSTATE."""

    def __init__(self, state: str, text: str) -> None:
        super().__init__(text)
        self.state = state

    @classmethod
    def of(cls, result: pq.abc.PGresult) -> Refused:
        state = result.error_field(pq.DiagnosticField.SQLSTATE) or b""
        parts = [result.error_field(one) for one in (pq.DiagnosticField.MESSAGE_PRIMARY, pq.DiagnosticField.MESSAGE_DETAIL)]
        return cls(state.decode("ascii", "replace"), ": ".join(part.decode("utf-8", "replace") for part in parts if part))


class Gone(Exception):
    """There is no connection (any more); what was sent and not answered has happened or has not."""


class Slow(Gone):
    """Given up: there was no answer for too long."""


class Statement:
    """An SQL text with its parameters $1, $2 …; prepared once on each connection that uses it."""

    __slots__ = ("formats", "sql")

    def __init__(self, sql: str, parameters: int = 0) -> None:
        self.sql = sql.encode()
        self.formats = [1] * parameters or None

    def __call__(self, *values: Value) -> Request:
        """It, with values for its parameters."""
        return self, values

    def __repr__(self) -> str:
        return f"<{self.sql.decode()}>"


Request = tuple[Statement, Sequence[Value]]


class _Batch:
    """What was sent together, and is answered together."""

    __slots__ = ("answers", "deadline", "error", "future", "waiting")

    def __init__(self, future: Future, deadline: float) -> None:
        self.future = future
        self.deadline = deadline
        self.waiting: deque[Statement | None] = deque()  # for each answer to come: the statement it prepares, or None
        self.answers: list[pq.abc.PGresult] = []
        self.error: Refused | None = None


class Wire:
    """A connection that is open, until it is `lost`. Used on the loop's thread."""

    __slots__ = (
        "_alarm", "_batches", "_clock", "_connection", "_last_words", "_loop", "_names", "_notified", "_on_lost", "_pg", "_prepared",
        "_socket", "lost", "timeout",
    )  # fmt: skip

    def __init__(
        self,
        connection: psycopg.AsyncConnection[Any],
        timeout: float,
        on_lost: Callable[[Wire], None],
        notified: Callable[[pq.PGnotify], None] | None = None,
    ) -> None:
        self.lost: Gone | None = None
        self.timeout = timeout
        self._connection = connection  # it would close the socket when it is collected
        self._last_words = ""
        connection.add_notice_handler(self._heard)  # between two batches that is where libpq puts them
        self._pg = connection.pgconn
        self._pg.nonblocking = 1
        self._pg.enter_pipeline_mode()
        self._prepared: dict[Statement, bytes] = {}
        self._names = itertools.count()
        self._batches: deque[_Batch] = deque()
        self._alarm: Alarm | None = None
        self._on_lost = on_lost
        self._notified = notified
        self._loop = asyncio.get_running_loop()
        self._clock = LoopClock(self._loop)  # not the node's: a server does not wait for a clock that a test moves by hand
        self._socket = self._pg.socket  # libpq closes it by itself, and forgets which it was
        self._loop.add_reader(self._socket, self._readable)

    @property
    def idle(self) -> bool:
        """Whether nothing is on its way, and no transaction is open."""
        return not self._batches and self.lost is None and self._pg.transaction_status == pq.TransactionStatus.IDLE

    @property
    def backend(self) -> int:
        """The server's process for this connection."""
        return self._pg.backend_pid

    def send(self, requests: Iterable[Request]) -> Future:
        """The answers to these statements, one for each. `Refused` if one is: those after it were not looked at. `Gone`.

        It is sent before this returns, whether somebody waits for the answer or not; the answer to another batch comes after it.
        """
        future: Future = self._loop.create_future()
        if self.lost is not None:
            _fail(future, self.lost)
            return future
        batch = _Batch(future, self._clock.now() + self.timeout)
        pg, prepared, waiting = self._pg, self._prepared, batch.waiting
        try:
            for statement, values in requests:
                name = prepared.get(statement)
                if name is None:
                    name = prepared[statement] = b"s%d" % next(self._names)
                    pg.send_prepare(name, statement.sql)
                    waiting.append(statement)
                pg.send_query_prepared(name, values, statement.formats, 1)
                waiting.append(None)
            pg.pipeline_sync()
            self._batches.append(batch)
            self._flush()
        except psycopg.OperationalError as error:
            gone = self._broken(error)
            self.lose(gone)
            _fail(future, gone)
        if self._alarm is None and self.lost is None:
            self._alarm = self._clock.call_at(batch.deadline, self._late)
        return future

    def lose(self, why: Gone) -> None:
        """Close it, now. Who waits for an answer is told why."""
        if self.lost is not None:
            return
        self.lost = why
        if self._alarm is not None:
            self._alarm.cancel()
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._pg.finish()
        batches, self._batches = self._batches, deque()
        for batch in batches:
            _fail(batch.future, why)
        self._on_lost(self)

    # -- what the loop calls

    def _flush(self) -> None:
        """Send what libpq holds; the rest when the socket takes more (and while it does not, answers are read: no deadlock)."""
        if self._pg.flush():
            self._loop.add_writer(self._socket, self._writable)

    def _writable(self) -> None:
        try:
            if not self._pg.flush():
                self._loop.remove_writer(self._socket)
        except psycopg.OperationalError as error:
            self.lose(self._broken(error))

    def _readable(self) -> None:
        pg = self._pg
        broken: psycopg.OperationalError | None = None
        try:
            pg.consume_input()
        except psycopg.OperationalError as error:
            broken = error  # its last words are read first: a commit may be among them
        try:
            while broken is None and (notification := pg.notifies()):
                if self._notified is not None:
                    self._notified(notification)
            self._take_answers()
        except psycopg.OperationalError as error:
            broken = broken or error
        if broken is not None:
            self.lose(self._broken(broken))

    def _heard(self, notice: psycopg.errors.Diagnostic) -> None:
        if (notice.severity_nonlocalized or "").encode() in _FATAL:
            self._last_words = notice.message_primary or ""

    def _broken(self, error: Exception) -> Gone:
        text = self._last_words or line(error)
        return Gone(f"the connection to the database broke: {'the server closed it' if 'server closed the connection' in text else text}")

    def _take_answers(self) -> None:
        """All that have come. Each is followed by a None; a second one says that no more are there."""
        pg, batches = self._pg, self._batches
        after_answer = False
        while not pg.is_busy():
            answer = pg.get_result()
            if answer is None:
                if not after_answer:
                    return
                after_answer = False
            elif not batches:
                raise psycopg.OperationalError(Refused.of(answer).args[0] or "the server said something out of turn")
            elif answer.status == _SYNC:
                self._end(batches.popleft())
                if self.lost is not None:
                    return
            else:
                after_answer = True
                self._take(batches[0], answer)

    def _take(self, batch: _Batch, answer: pq.abc.PGresult) -> None:
        prepares = batch.waiting.popleft() if batch.waiting else None
        if answer.status in _BAD:
            if answer.error_field(pq.DiagnosticField.SEVERITY_NONLOCALIZED) in _FATAL:
                raise psycopg.OperationalError(Refused.of(answer).args[0])
            if prepares is not None:
                self._prepared.pop(prepares, None)
            if batch.error is None:
                batch.error = Refused.of(answer)
        elif prepares is None:
            batch.answers.append(answer)

    def _end(self, batch: _Batch) -> None:
        future = batch.future
        if future.done():  # whoever waited was cancelled
            return
        if batch.error is None:
            future.set_result(batch.answers)
        else:
            _fail(future, batch.error)
            if batch.error.state in _STALE:
                self.lose(Gone("another connection may fare better"))

    def _late(self) -> None:
        """One alarm for all batches: it looks at the oldest."""
        self._alarm = None
        if not self._batches:
            return
        if self._batches[0].deadline <= self._clock.now():
            self.lose(Slow(f"the database has not answered within {self.timeout:g} s"))
        else:
            self._alarm = self._clock.call_at(self._batches[0].deadline, self._late)


def _fail(future: Future, error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # nobody need be waiting for it


def line(error: Exception) -> str:
    """Its text, in one."""
    return " ".join(str(error).split())
