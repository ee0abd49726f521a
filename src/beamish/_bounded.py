"""Mailboxes with a bound: `options(max_queue=100)`. A call that finds it full fails with Overloaded, a cast or message is dropped.

Messages of the runtime (requests of the system, Exited, Down, TimedOut, Cancelled, a stream's items) always get in.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from beamish import telemetry
from beamish._runtime.process import AT_REST, DEAD, EXITING, Entry
from beamish._runtime.signals import INFO, NOTICE, REQUEST, Cancelled, Down, Exited, TimedOut

if TYPE_CHECKING:
    from beamish._loop import ServerProcess

    _Base = ServerProcess
else:
    _Base = object

OVERLOADED = telemetry.event("beamish.gen_server.overloaded")
_RUNTIMES_OWN = (Exited, Down, TimedOut, Cancelled)


class Full:
    """Why a call failed at once: the exit reason's place is taken by this."""

    __slots__ = ("limit",)

    def __init__(self, limit: int) -> None:
        self.limit = limit


class Mail(deque[Entry]):
    """A deque that looks at its length when something is put behind. Casts append to it directly, so the bound is here."""

    def __init__(self, process: ServerProcess, limit: int) -> None:
        super().__init__()
        self.process = process
        self.limit = limit
        self.others = 0  # no fewer than there are entries that take no room

    def append(self, entry: Entry, /) -> None:
        if not _refusable(entry):
            self.others += 1
        elif len(self) >= self.limit and self._full():
            _refuse(self.process, entry, self.limit)
            return
        super().append(entry)

    def appendleft(self, entry: Entry, /) -> None:
        self.others += 1
        super().appendleft(entry)

    def _full(self) -> bool:
        """Exactly; but counted only when that may tell more than the bound does, so that refusing a flood costs little."""
        if len(self) - self.others < self.limit:
            self.others = len(self) - sum(map(_refusable, self))
        return len(self) - self.others >= self.limit


def _refusable(entry: Entry) -> bool:
    name = entry[0]
    if name is INFO:
        return not isinstance(entry[1], _RUNTIMES_OWN)
    return isinstance(name, str) or name is REQUEST or name is NOTICE


def _refuse(process: ServerProcess, entry: Entry, limit: int) -> None:
    name, _, _, client = entry
    if client is not None:
        client.failed(Full(limit))
    if OVERLOADED.handlers:
        kind = "call" if client is not None else "message" if name is INFO else "cast"
        facts = {"server": process.label(), "pid": process, "kind": kind, "request": name if isinstance(name, str) else None}
        OVERLOADED.execute({"queue_len": limit}, {**facts, "max_queue": limit})


class Bounded(_Base):
    """What is mixed into the class of a process whose mailbox has a bound (`extra.limit`). It stays as quick as the others."""

    __slots__ = ()

    def post(self, entry: Entry) -> None:
        if self.mbox is not None:
            self.mbox.append(entry)
            return
        status = self.status
        if status in (DEAD, EXITING):
            return
        self.mbox = self.new_mail()
        self.mbox.append(entry)
        if status in AT_REST:
            self.node.enqueue(self)

    def new_mail(self) -> deque[Entry]:
        extra: Any = self.extra
        return Mail(self, extra.limit)
