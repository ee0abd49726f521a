"""The loop-lag watchdog: a thread that sees when the event loop does not come round, and says who holds it up."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from time import monotonic
from types import FrameType

from beamish import _report, telemetry
from beamish._loop import ServerProcess
from beamish._runtime.node import here
from beamish.process import body

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
        stack = "".join(traceback.format_stack(frame)) if frame is not None else "(no stack)"
        _log.warning("the event loop has been held up for %.2f s by %s:\n%s", late, self._who(frame), stack)

    def _who(self, frame: FrameType | None) -> str:
        """The process whose code is on the stack, and its handler: of async handlers and spawned functions, by their frames."""
        process = self._node.current
        if process is not None:
            return repr(process.label())
        while frame is not None:
            if frame.f_code is ServerProcess.main.__code__:
                entry = frame.f_locals["entry"]
                return f"{frame.f_locals['self'].label()!r}, in {_report.callback(frame.f_locals['self'].cls, entry)}"
            if frame.f_code is body.__code__:
                return f"a spawned function, {frame.f_locals['fn']!r}"
            frame = frame.f_back
        return "plain asyncio code"
