"""The log of what was asked, and how often each query was: two tables of the store, written to by one server.

Answers do not wait for it: each is told by a cast, and what has come in a quarter of a second is one transaction. So a kill -9 loses what
came in the last moment, and nothing of what was committed; while the store is away, rows wait here, up to a bound.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

from beamish import CallExit, GenServer, call, cast, flag, store

from .engine import Key

_log = logging.getLogger("beamish.search_service")

Outcome = Literal["hit", "miss", "failed"]

WRITE_EVERY = 0.25
"""Seconds between two transactions."""
BATCH = 2000
"""Rows in one transaction, at most."""
WAITING = 20_000
"""Rows that wait for the store, at most; then the oldest are dropped, and counted."""
TRIM_EVERY = 60.0
ROWS = 100_000
"""Rows that the log keeps."""
QUERIES = 10_000
"""Different queries that are counted, about: beyond it, those asked least are forgotten."""


@store.record(name="searches", key="id")
@dataclass(frozen=True, slots=True)
class Asked:
    """One row of the log. `at` is the wall clock's time."""

    id: int
    at: float
    query: str
    limit: int
    outcome: str
    seconds: float


@store.record(name="queries", key="query", indexes=("count",), ram=True)
@dataclass(frozen=True, slots=True)
class Popular:
    """How often a query was asked, and when last."""

    query: str
    count: int
    last: float


Row = tuple[float, str, int, Outcome, float]


@dataclass(slots=True)
class State:
    store: store.Store
    next: int = 1
    """The id of the next row."""
    waiting: deque[Row] = field(default_factory=lambda: deque[Row](maxlen=WAITING))
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class LogStatus:
    """Rows ever written to the log, those that wait for the store, and those dropped since the start; the queries asked most."""

    written: int
    waiting: int
    dropped: int
    popular: tuple[tuple[str, int], ...]


class QueryLog(GenServer[State], shutdown=5.0):
    """Started with the store that has the tables `Asked` and `Popular`. What it has not written is lost when it crashes."""

    async def init(self, log: store.Store) -> State:
        flag(trap_exit=True)
        newest = await log.dirty_query(Asked, reverse=True, limit=1)
        self.send_interval(WRITE_EVERY, "write")
        self.send_interval(TRIM_EVERY, "trim")
        return State(log, newest[0].id + 1 if newest else 1)

    @cast
    def asked(self, state: State, key: Key, outcome: Outcome, seconds: float) -> None:
        """A search was answered."""
        if len(state.waiting) == WAITING:
            state.dropped += 1
        query, limit = key
        # What no table takes as text: a NUL, and halves of UTF-16 pairs.
        shown = query.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
        state.waiting.append((time.time(), shown, limit, outcome, seconds))

    @call
    async def status(self, state: State) -> LogStatus:
        most = await state.store.dirty_query(Popular, index="count", reverse=True, limit=10)
        return LogStatus(state.next - 1, len(state.waiting), state.dropped, tuple((one.query, one.count) for one in most))

    @call
    async def write(self, state: State) -> None:
        """Write now what waits."""
        await _write(state)

    async def handle_info(self, state: State, message: object) -> None:
        if message not in ("write", "trim"):
            super().handle_info(state, message)
        elif message == "trim" or state.waiting:
            try:
                await (state.store.transaction(forget_rare) if message == "trim" else _write(state))
            except store.BadRecord:
                raise  # no table will ever take it: a crash costs what waits, to try again would cost all that follows too
            except (CallExit, store.StoreError) as error:  # it is down just now: what waits is written when it is back
                _log.warning("the query log could not be written, %d rows wait: %s", len(state.waiting), error)

    async def terminate(self, state: State, reason: object) -> None:
        await _write(state)


async def _write(state: State) -> None:
    while state.waiting:
        rows = list(islice(state.waiting, BATCH))
        await state.store.transaction(_written, state.next, rows)
        state.next += len(rows)
        for _ in rows:
            state.waiting.popleft()


async def _written(tx: store.Transaction, first: int, rows: list[Row]) -> None:
    """One transaction: the rows of the log, the oldest ones away, and the counts."""
    for number, (at, query, limit, outcome, seconds) in enumerate(rows, first):
        tx.write(Asked(number, at, query, limit, outcome, seconds))
        if number > ROWS:
            tx.delete(Asked, number - ROWS)
    last = {query: at for at, query, *_ in rows}
    for query, count in Counter(query for _, query, *_ in rows).items():
        known = await tx.read(Popular, query)
        tx.write(Popular(query, count + (known.count if known else 0), last[query]))


async def forget_rare(tx: store.Transaction) -> int:
    """Bring the table of counts back to its bound."""
    everything = await tx.query(Popular, index="count")
    rare = everything[: max(0, len(everything) - QUERIES)]
    for one in rare:
        tx.delete(Popular, one.query)
    return len(rare)
