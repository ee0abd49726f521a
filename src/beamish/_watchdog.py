"""The loop-lag watchdog: a thread that sees when the event loop does not come round, and says who holds it up."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from time import monotonic

from beamish import telemetry
from beamish._runtime.node import here

LAG = telemetry.event("beamish.loop.lag")
_log = logging.getLogger("beamish.watchdog")


class Watchdog:
    """Log the process, its handler and the stack whenever the loop is late by `threshold` seconds or more, once each time.

    It starts with the running loop and looks until `stop()`. Costs a timer of the loop each threshold / 4.
    """

    def __init__(self, threshold: float = 1.0) -> None:
        if not threshold > 0:
            raise ValueError(f"a watchdog's threshold is seconds, more than 0. Got: {threshold!r}")
        self._threshold = threshold
        self._node = here()
        self._beat = monotonic()
        self._told = 0.0
        self._stopped = threading.Event()
        self._tick()
        self._thread = threading.Thread(target=self._watch, name="beamish-watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._alarm.cancel()
        self._thread.join(timeout=self._threshold)

    def _tick(self) -> None:
        now = monotonic()
        late = now - self._beat - self._threshold / 4
        if late > self._threshold and LAG.handlers:
            LAG.execute({"lag": late}, {})
        self._beat = now
        self._alarm = self._node.loop.call_later(self._threshold / 4, self._tick)

    def _watch(self) -> None:
        while not self._stopped.wait(self._threshold / 2):
            beat = self._beat
            late = monotonic() - beat
            if late > self._threshold and beat != self._told:
                self._told = beat
                self._tell(late)

    def _tell(self, late: float) -> None:
        frame = sys._current_frames().get(self._node.thread)  # pyright: ignore[reportPrivateUsage]
        process = self._node.current
        who = "plain asyncio code, or an async handler" if process is None else repr(process.label())
        stack = "".join(traceback.format_stack(frame)) if frame is not None else "(no stack)"
        _log.warning("the event loop has been held up for %.2f s by %s:\n%s", late, who, stack)
