"""What a supervisor decides, apart from how it acts: whether to restart a child, and whether that is too often."""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Any, Literal

from beamish.errors import clean


class Fate(Enum):
    """What becomes of a child that has ended by itself."""

    RESTART = "restart"
    KEEP = "keep the spec, without a process"
    FORGET = "forget the spec"


RESTART, KEEP, FORGET = Fate  # an enum's members are slow to reach on 3.11


def decide(restart: str, reason: object) -> Fate:
    """The table of the supervisor manual."""
    if restart == "permanent":
        return RESTART
    if restart == "transient":
        return KEEP if clean(reason) else RESTART
    return FORGET  # temporary


class Restarts:
    """The restarts of a supervisor, to tell when there are more than `max_restarts` within `max_seconds`.

    As OTP counts: in whole monotonic seconds, both ends of the window included, so that `max_restarts` within `max_seconds`
    are tolerated and one more is not; 0 tolerates none. Adding costs O(1) amortised, whatever the limit.
    """

    __slots__ = ("max_restarts", "max_seconds", "seconds")

    def __init__(self, max_restarts: int, max_seconds: float) -> None:
        self.max_restarts = max_restarts
        self.max_seconds = max_seconds
        self.seconds: deque[int] = deque()  # oldest first

    def add(self, now: float) -> bool:
        """Count a restart at `now` (seconds). True when it is one too many."""
        seconds = self.seconds
        second = int(now)
        while seconds and seconds[0] < second - self.max_seconds:
            seconds.popleft()
        seconds.append(second)
        return len(seconds) > self.max_restarts


def check_options(strategy: Any, max_restarts: Any, max_seconds: Any, auto_shutdown: Any = "never") -> None:
    """Refuse flags that no supervisor could work with; the text shows the value."""
    if strategy not in STRATEGIES:
        raise ValueError(f'strategy must be "one_for_one", "one_for_all" or "rest_for_one". Got: {strategy!r}')
    if isinstance(max_restarts, bool) or not isinstance(max_restarts, int) or max_restarts < 0:
        raise ValueError(f"max_restarts must be an int, 0 or more. Got: {max_restarts!r}")
    if isinstance(max_seconds, bool) or not isinstance(max_seconds, int | float) or not max_seconds > 0:
        raise ValueError(f"max_seconds must be seconds, more than 0. Got: {max_seconds!r}")
    if auto_shutdown not in AUTO_SHUTDOWNS:
        raise ValueError(f'auto_shutdown must be "never", "any_significant" or "all_significant". Got: {auto_shutdown!r}')


Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]
STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one")
AutoShutdown = Literal["never", "any_significant", "all_significant"]
AUTO_SHUTDOWNS = ("never", "any_significant", "all_significant")
