"""The caller's side of one request: a one-shot place for the reply. Late and second replies have nowhere to land."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from beamish._runtime.ids import Pid
    from beamish._runtime.process import Process

#: How a request ended, when not with a value.
PENDING, ANSWERED, DOWN, LATE, REFUSED = range(5)


class Unheard:
    """A reply to a client that has given up: nobody gets it, but `sys` may show it."""

    __slots__ = ("reply",)

    def __init__(self, reply: Any) -> None:
        self.reply = reply


class Client:
    """Who asked (OTP's `from`). Take it with `beamish.client()`, keep it, answer with `beamish.reply(client, value)`.

    `pid` is the process that waits, or None when plain asyncio code does.
    """

    __slots__ = ("caller", "future", "outcome", "request", "server", "value")

    def __init__(self, server: Process, request: str, caller: Process | None) -> None:
        self.server = server
        self.request = request
        self.caller = caller
        self.outcome = PENDING
        self.value: Any = None  # the reply, the exit reason, or the error to raise
        self.future: asyncio.Future[None] | None = None  # made when somebody really waits

    @property
    def pid(self) -> Pid | None:
        return self.caller

    def answered(self, value: Any) -> None:
        """The reply; only the first counts."""
        if not self.outcome:  # as in `_end`, written out for the hot road
            self.outcome = ANSWERED
            self.value = value
            future = self.future
            if future is not None and not future.done():
                future.set_result(None)
        elif self.outcome == LATE:
            self.value = Unheard(value)

    def failed(self, reason: object) -> None:
        self._end(DOWN, reason)

    def late(self) -> None:
        self._end(LATE, None)

    def refused(self, error: BaseException) -> None:
        self._end(REFUSED, error)

    def deferred(self) -> None:
        """The handler is done and will be answered for by somebody, some time: that is no edge of a deadlock."""
        if self.caller is not None and self.caller.waiting is self:
            self.caller.waiting = None

    def _end(self, outcome: int, value: Any) -> None:
        if self.outcome:
            return
        self.outcome = outcome
        self.value = value
        if self.future is not None and not self.future.done():
            self.future.set_result(None)

    def __repr__(self) -> str:
        return f"<client {self.caller!r} of {self.request}>"
