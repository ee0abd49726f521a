"""Where time comes from. A node has one clock, so that a test can move the time of everything by hand."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from typing import Protocol


class Alarm(Protocol):
    def cancel(self) -> None: ...


class Clock(Protocol):
    """Monotonic seconds, and a callback at a time."""

    def now(self) -> float: ...

    def call_at(self, when: float, callback: Callable[[], None]) -> Alarm: ...


class LoopClock:
    """The event loop's own time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        # asyncio's loop.time is a Python method around this very function; uvloop's is its own, and cached.
        self.now: Callable[[], float] = time.monotonic if type(loop).time is asyncio.BaseEventLoop.time else loop.time
        self.call_at = loop.call_at


class _ManualAlarm:
    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None

    def fire(self) -> None:
        callback, self.callback = self.callback, None
        if callback is not None:
            callback()


class ManualClock:
    """A clock that stands still until `advance` moves it. Timers, call timeouts and intensity windows all follow it."""

    def __init__(self, start: float = 1000.0) -> None:
        self._now = start
        self._alarms: list[tuple[float, int, _ManualAlarm]] = []
        self._order = itertools.count()

    def now(self) -> float:
        return self._now

    def call_at(self, when: float, callback: Callable[[], None]) -> Alarm:
        alarm = _ManualAlarm(callback)
        heapq.heappush(self._alarms, (when, next(self._order), alarm))
        if when <= self._now:  # due already: no time has to pass for it
            try:
                asyncio.get_running_loop().call_soon(self._due)
            except RuntimeError:
                pass  # no loop runs: whoever advances the clock will come by
        return alarm

    def _due(self) -> None:
        while self._alarms and self._alarms[0][0] <= self._now:
            heapq.heappop(self._alarms)[2].fire()

    async def advance(self, seconds: float) -> None:
        """Move on by `seconds`, stopping at each alarm on the way so that what it starts sees that moment."""
        if seconds < 0:
            raise ValueError(f"time does not go back. Got: {seconds!r}")
        end = self._now + seconds
        await settle()
        while self._alarms and self._alarms[0][0] <= end:
            when, _, alarm = heapq.heappop(self._alarms)
            if alarm.callback is not None:
                self._now = max(self._now, when)
                alarm.fire()
                await settle()
        self._now = end
        await settle()


async def settle(turns: int = 50) -> None:
    """Let everything that is runnable run: as many turns of the loop as a long chain of calls needs.

    On a loop of virtual time: until nothing can run any more.
    """
    idle = getattr(asyncio._get_running_loop(), "idle", None)  # None where a test drives this without a loop
    if idle is not None:
        await idle()
        return
    for _ in range(turns):
        await asyncio.sleep(0)
