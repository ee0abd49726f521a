"""The events of a store, one after the other, for whoever wants to follow it."""

from __future__ import annotations

from collections import deque
from typing import Any, Generic, TypeVar, cast

from beamish.store._opened import Opened
from beamish.store.engine import Event
from beamish.store.errors import StoreClosed

R = TypeVar("R")

BATCH = 256


class Subscription(Generic[R]):
    """`async for event in await store.subscribe(Account)`: each change, after its commit, in the order of the commits, without gap.

    Events are fetched when they are asked for: a slow reader costs no memory, and gets PositionGone when it has fallen behind
    by more than the store keeps (`keep_events`). It ends when the store is stopped, and raises StoreClosed when that crashes; subscribe
    again from `position` when it is back. A server gets them as messages by `self.stream(await store.subscribe(Account))`, and then
    `Ended(reason, stream)`. For one task at a time.
    """

    def __init__(self, opened: Opened, tables: frozenset[type[Any]], position: int) -> None:
        self._opened = opened
        self._tables = tables
        self._ready: deque[Event[Any]] = deque()
        self._fetched = position
        self._position = position
        self._ended = False

    @property
    def position(self) -> int:
        """All events up to this one have been given, or are of other tables: to go on later, `subscribe(…, from_=position)`."""
        return self._position

    def __aiter__(self) -> Subscription[R]:
        return self

    async def __anext__(self) -> Event[R]:
        while not self._ready:
            if self._ended:
                raise StopAsyncIteration
            await self._fetch()
        event = self._ready.popleft()
        self._position = event.position if self._ready else self._fetched
        return cast("Event[R]", event)

    async def _fetch(self) -> None:
        opened = self._opened
        seen = opened.wakes
        try:
            if opened.closed:
                raise StoreClosed
            found = await opened.engine.events(self._fetched, BATCH)
        except StoreClosed:
            if not opened.orderly:
                raise StoreClosed(f"the store has ended; this subscription had come to position {self._position}") from None
            self._ended = True
            return
        if not found:
            await opened.news(seen)
            return
        self._fetched = found[-1].position
        self._ready.extend(event for event in found if event.table in self._tables)
        if not self._ready:
            self._position = self._fetched

    async def aclose(self) -> None:
        """No more events; whoever waits for one is let go at the next change of the store."""
        self._ended = True
        self._ready.clear()
