"""The newest events of a local engine, in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from beamish.store.engine import Change, Event
from beamish.store.errors import PositionGone


class Tail:
    """At least the last `keep` events. `position` is that of the last one of all; this tail begins after `oldest`."""

    __slots__ = ("_changes", "_most", "keep", "position", "wake")

    def __init__(self, keep: int, wake: Callable[[], None], position: int = 0) -> None:
        self.keep = keep
        self.wake = wake
        self.position = position
        self._changes: list[Change] = []
        self._most = keep + max(keep // 4, 1000)  # so that a list is cut seldom

    @property
    def oldest(self) -> int:
        return self.position - len(self._changes)

    def add(self, changes: Sequence[Change]) -> None:
        if not changes:
            return
        self._changes.extend(changes)
        self.position += len(changes)
        if len(self._changes) > self._most:
            del self._changes[: -self.keep]
        self.wake()

    def after(self, position: int, limit: int) -> list[Event[Any]]:
        """Those that follow; PositionGone if the tail begins later."""
        self.check(position)
        oldest = self.oldest
        if position < oldest:
            raise PositionGone(position, oldest)
        begin = position - oldest
        return [event_of(number, change) for number, change in enumerate(self._changes[begin : begin + limit], position + 1)]

    def check(self, position: int) -> None:
        if position < 0 or position > self.position:
            raise ValueError(f"positions of this store go from 0 to {self.position} now. Got: {position!r}")


def event_of(position: int, change: Change) -> Event[Any]:
    return Event(position, change.op, change.table.cls, change.key, change.record)
