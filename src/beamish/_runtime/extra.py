"""What only few processes have: a label, a dictionary, aliases, things to close. Made at first use; the others pay one slot."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from beamish._runtime.node import Node
    from beamish._runtime.process import Alias, Process

_log = logging.getLogger("beamish.process")


class Extra:
    """`extra_of(process)`, made when it is first needed."""

    __slots__ = ("aliases", "ancestors", "callers", "closers", "debug", "dictionary", "initial_call", "keeper", "label", "limit")

    def __init__(self) -> None:
        self.label: object = None
        self.ancestors: tuple[object, ...] = ()  # of one that was started without a link, and so has no parent
        self.callers: tuple[Process, ...] = ()  # OTP's $callers: for whom a task works, nearest first
        self.initial_call: object = None
        self.dictionary: dict[Any, Any] | None = None
        self.aliases: dict[Alias, None] | None = None
        self.closers: dict[Callable[[], object], None] | None = None  # run at its end, last first, before anybody hears of it
        self.debug: Any = None  # of `sys`, while it watches the process
        self.limit: int | None = None  # max_queue
        self.keeper: Any = None  # of a server with a snapshot

    def close(self, process: Process) -> None:
        """The process has ended: nothing of this outlives it."""
        if self.aliases is not None:
            for alias in self.aliases:
                alias.active = False
            self.aliases = None
        closers, self.closers = self.closers, None
        for closer in reversed(closers or {}):
            _close(closer, process)
        self.dictionary = self.debug = None


def extra_of(process: Process) -> Extra:
    extra = process.extra
    if extra is None:
        process.extra = extra = Extra()
    return extra


def _close(closer: Callable[[], object], process: Process) -> None:
    """One closer, run as nobody: not as the dead, whose sends are dropped, and not as whoever has ended it.

    What it raises is logged: it may not change how the process ends, nor keep the others from their turn.
    """
    node = process.node
    outer, node.current = node.current, node.root
    before = node.root.status
    try:
        rest = closer()
    except (Exception, asyncio.CancelledError):
        _log.exception("%r: what it owned could not be closed: %r", process.label(), closer)
        return
    finally:
        node.current = outer
        if node.root.status != before:  # the closer has ended somebody: whoever is below on the stack is to look
            node.root.status = before
            node.look()
    if rest is not None and inspect.isawaitable(rest):
        finish(rest, closer, process.label(), node)


def finish(rest: Any, closer: Any, label: object, node: Node) -> None:
    """An async closer: a task of nobody, since its process is gone. The end of the loop waits for it, and only that may cancel it."""

    async def run() -> None:
        try:
            await rest
        except Exception:
            _log.exception("%r: what it owned could not be closed: %r", label, closer)

    if node.loop.is_closed():
        return
    task = asyncio.Task(run(), loop=node.loop, name="beamish-close", context=Context())
    asyncio._unregister_task(task)  # asyncio.run cancels every task that it knows before the keeper has its turn
    node.closers[task] = None
    task.add_done_callback(node.closers.pop)
