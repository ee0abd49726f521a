"""Copies in memory of `ram=True` tables, for engines that have none: made once, then kept fresh by the events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from beamish.store._rows import Rows
from beamish.store._table import Table
from beamish.store.engine import Engine, Event
from beamish.store.errors import PositionGone, StoreClosed, StoreError, StoreFailed

if TYPE_CHECKING:
    from beamish.store._opened import Opened

BATCH = 500
AGAIN = 1.0
"""Seconds to wait after an error of the engine."""

_log = logging.getLogger("beamish.store")


class Copies:
    """All copies of one store are at the same position."""

    def __init__(self, engine: Engine, tables: Iterable[Table[Any]]) -> None:
        self.engine = engine
        self.rows = {table: Rows(table) for table in tables}
        self.position = 0
        self._waiting: dict[asyncio.Future[None], int] = {}
        self._by_class = {table.cls: rows for table, rows in self.rows.items()}

    async def fill(self) -> None:
        """From the tables as they are now."""
        position, pieces = await self.engine.dump(list(self.rows))
        found: dict[Table[Any], list[Any]] = {table: [] for table in self.rows}
        async for table, records in pieces:
            found[table] += records
        for table, records in found.items():
            self.rows[table].clear()
            self.rows[table].fill(records)
        self._at(position)

    async def follow(self, opened: Opened) -> None:
        """A process, linked to the store's."""
        stale = away = False
        while not opened.closed:
            seen = opened.wakes
            try:
                if stale:
                    await self.fill()
                    stale = False
                events = await self.engine.events(self.position, BATCH)
                away = False
                if not events:
                    await opened.news(seen)
                elif any(event.op == "restore" and event.table in self._by_class for event in events):
                    stale = True
                else:
                    self.apply(events)
            except PositionGone:
                stale = True
            except StoreClosed:
                return
            except StoreError as error:
                if not away:  # each commit has it tried again
                    _log.exception("%r: its copies in memory can't be kept fresh; trying again every %s s", opened.server, AGAIN)
                away = True
                self._give_up(StoreFailed(f"they can't be kept fresh now: {error}"))
                with suppress(TimeoutError):
                    await asyncio.wait_for(opened.news(opened.wakes), AGAIN)

    def apply(self, events: Iterable[Event[Any]]) -> None:
        last = self.position
        for event in events:
            last = event.position
            rows = self._by_class.get(event.table)
            if rows is None:
                continue
            before = rows.rows.get(event.key, ()) if rows.table.bag else ()
            match event.op:
                case "write":
                    rows.put(event.key, (*before, event.record))
                case "delete":
                    rows.put(event.key, ())
                case "delete_record":
                    rows.put(event.key, tuple(one for one in before if one != event.record))
                case "restore":
                    pass
        self._at(last)

    def _at(self, position: int) -> None:
        self.position = position
        for future, wanted in list(self._waiting.items()):
            if wanted <= position and not future.done():
                future.set_result(None)

    async def passed(self) -> None:
        """Wait until they show all that is committed now."""
        wanted = await self.engine.position()
        if wanted > self.position:
            future = asyncio.get_running_loop().create_future()
            self._waiting[future] = wanted
            try:
                await future
            finally:
                del self._waiting[future]

    def close(self) -> None:
        """Nobody is to wait any more."""
        self._give_up(StoreClosed("it is committed, but the store has ended before its copies in memory showed it"))

    def _give_up(self, error: StoreError) -> None:
        """A commit does not wait for an engine that is away: it has happened."""
        for future in self._waiting:
            if not future.done():
                future.set_exception(error)
