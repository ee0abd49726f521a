"""A process: mailbox, links, monitors, and the one door through which every process ends.

A process is not a task. It is a small object that enters the node's run queue when it has mail; what runs it is a
subclass (`_loop.ServerProcess`, and those of spawned functions and adopted tasks in `process`).

The way of a death: `signal` (somebody sends an exit signal) or a handler's end → `begin_exit`/`kill` → `end` (the name
and what else it held is free) → `Node.bury`, one FIFO, tells waiting clients, monitors and links.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Any, ClassVar

from beamish import telemetry
from beamish._runtime.extra import Extra, extra_of
from beamish._runtime.ids import Pid, Ref
from beamish._runtime.names import Via
from beamish._runtime.signals import INFO, Down, Mark, exited
from beamish.errors import KILLED, NOPROC, Kill, Normal

if TYPE_CHECKING:
    from beamish._runtime.client import Client
    from beamish._runtime.node import Node
    from beamish._runtime.timers import Timer

#: What a process is doing. Everything but IDLE sends a call off the fast road, so that the fast road tests one integer.
IDLE = 0  # no mail, no handler
QUEUED = 1  # has mail, stands in the run queue
RUNNING = 2  # a handler is on the stack (a def handler, or the first step of an async one)
SUSPENDED = 3  # an async handler awaits something
DEAD = 4  # gone; nothing brings it back
WAITING = 5  # idle, with a Timeout armed
EXITING = 6  # got an exit signal; its handler, or that handler's finally blocks, still run
LOOK = 7  # RUNNING, and something happened that the caller must look at when the handler returns
WATCHED = 8  # idle, and `sys` traces or has suspended it: every call goes by the mailbox

#: Nothing to do: mail that comes now puts the process into the run queue.
AT_REST = (IDLE, WAITING, WATCHED)

#: (handler name or Mark, positional arguments or the message, keyword arguments or None, the client who waits or None)
Entry = tuple[str | Mark, Any, dict[str, Any] | None, "Client | None"]

#: The process whose code runs, in the context of an async handler or a spawned function. On the stack of a def handler
#: `node.current` says it; see `Node.me`.
CURRENT: ContextVar[Process | None] = ContextVar("beamish_current", default=None)

STARTED, STOPPED = telemetry.event("beamish.process.start"), telemetry.event("beamish.process.stop")
_log = logging.getLogger("beamish.process")


class Process(Pid):
    """What every kind of process has. Its methods are the runtime's; users see a `Pid`."""

    __slots__ = (
        "ctx", "extra", "linked", "links", "mbox", "monitors", "name", "node", "parent", "reason", "record", "status", "task",
        "timers", "trap", "waiters", "waiting", "watching",
    )  # fmt: skip

    name: Any  # a str, or a Via

    def __init__(self, node: Node, parent: Process | None, name: str | None) -> None:
        self._number = 0
        self.node = node
        self.status: int = RUNNING
        self.mbox: deque[Entry] | None = None  # made when mail comes, from the node's pool: an empty deque costs 760 B
        self.name = name
        self.parent = parent  # who started it, linked; the link itself is `linked`, to save each child a dict
        self.linked = parent is not None
        self.links: dict[Process, None] | None = None
        self.monitors: dict[MonitorRef, None] | None = None  # who watches it
        self.watching: dict[MonitorRef, None] | None = None  # whom it watches
        self.trap = False
        self.ctx: Context | None = None
        self.waiters: dict[Client, None] | None = None  # clients that really wait for it, deferred ones included
        self.waiting: Client | None = None  # the call that its handler's own task awaits: an edge for deadlock detection
        self.timers: dict[Timer, None] | None = None  # timers aimed at it vanish with it
        self.task: asyncio.Task[Any] | None = None
        self.reason: object = None  # of its end: set when EXITING or DEAD
        self.record: Any = None  # its supervisor's note about it; saves that one a dict of 75 B a child
        self.extra: Extra | None = None
        node.procs[self] = None
        if name is not None:
            node.names[name] = self
        if parent is not None:
            if parent.links is None:
                parent.links = {}
            parent.links[self] = None

    # -- what the kinds of process differ in

    def post(self, entry: Entry) -> None:
        """Put `entry` into the mailbox. Dropped when the process is gone."""
        raise NotImplementedError

    def drain(self, limit: int) -> None:
        """Handle up to `limit` entries of the mailbox. Called by the run queue, status QUEUED."""
        raise NotImplementedError

    def begin_exit(self, reason: object) -> None:
        """Die of `reason`: now, or when the handler that runs has come to its end."""
        raise NotImplementedError

    def label(self) -> object:
        """How reports and errors call it: the address of a server, else the pid."""
        return self

    def clear(self) -> None:
        """Let go of the state: what is dead keeps nothing alive."""

    def mail(self) -> list[Entry]:
        """What waits to be handled, oldest first: for looking."""
        return list(self.mbox or ())

    def mail_length(self) -> int:
        return len(self.mail())

    #: Whether it is of a behaviour (a server, a task) and so knows its ancestors, as what OTP starts by proc_lib.
    behaves: ClassVar[bool] = False

    def initial_call(self) -> object:
        """What it began with, for `info`: a function, by its qualified name."""
        return self.extra.initial_call if self.extra is not None else None

    def callers(self) -> tuple[Process, ...]:
        """For whom it works, nearest first (OTP's `$callers`)."""
        return self.extra.callers if self.extra is not None else ()

    # -- being alive

    @property
    def alive(self) -> bool:
        return self.status != DEAD and self.status != EXITING

    def context(self) -> Context:
        """Its own contextvars, made lazily and empty (a Context with one variable is 200 B larger)."""
        if self.ctx is None:
            self.ctx = Context()
        return self.ctx

    def task_context(self) -> Context:
        """The same for code that will be suspended: there `node.current` cannot say who runs, so CURRENT does."""
        ctx = self.context()
        if CURRENT not in ctx:
            ctx.run(CURRENT.set, self)
        return ctx

    def started(self) -> None:
        if STARTED.handlers:
            STARTED.execute({"monotonic_time": self.node.clock.now()}, {"pid": self, "server": self.label(), "name": self.name})

    # -- links

    def peers(self) -> Iterator[Process]:
        if self.linked and self.parent is not None:
            yield self.parent
        if self.links is not None:
            yield from list(self.links)

    def link_to(self, other: Process) -> None:
        """One half of a link; the other half is `other.link_to(self)`."""
        if self.parent is other:
            self.linked = True
        elif self.links is None:
            self.links = {other: None}
        else:
            self.links[other] = None

    def unlink_from(self, other: Process) -> None:
        if self.parent is other:
            self.linked = False
        elif self.links is not None:
            self.links.pop(other, None)

    # -- exit signals

    def signal(self, source: Process, reason: object, *, by_link: bool) -> None:
        """One exit signal, after the table in OTP's manual: KILL by exit() is untrappable, NORMAL from others is nothing."""
        if self.status == DEAD:
            return
        if type(reason) is Kill and not by_link:
            self.kill()
        elif self.status == EXITING:
            return  # the first reason stays
        elif self.trap:
            self.post((INFO, exited(source, reason), None, None))
        elif type(reason) is not Normal or source is self:
            self.begin_exit(reason)

    def kill(self) -> None:
        """End at once: everything is freed now, a handler that is on its way is cut off and never waited for."""
        status, task = self.status, self.task
        on_stack = status in (RUNNING, LOOK) or (status == EXITING and task is None)
        self.end(KILLED)
        if on_stack or (task is not None and not task.done()):
            self.node.haunt(self)  # until its code returns: what it sends meanwhile is dropped
            self.node.look()
        if task is not None:
            self.node.cut_off(self, task)

    def lay(self) -> None:
        """The code of a killed process has come to its end."""
        if self.node.ghosts:
            self.node.lay(self)

    def end(self, reason: object) -> None:
        """The one door out: free what it held, then tell the others, in the node's FIFO."""
        node = self.node
        self.status = DEAD
        self.reason = reason
        del node.procs[self]
        if self.name is not None:
            self.give_up_name()
        if self.timers is not None:
            for timer in list(self.timers):
                node.wheel.cancel(timer)
            self.timers = None
        if self.watching is not None:
            for ref in self.watching:
                if ref.watched is not None and ref.watched.monitors is not None:
                    ref.watched.monitors.pop(ref, None)
            self.watching = None
        try:
            if self.extra is not None:
                self.extra.close(self)
        finally:  # whatever a closer did (KeyboardInterrupt), others hear of the end
            self.mbox = None
            self.ctx = None  # it refers back (CURRENT): a circle that only the garbage collector would find
            self.waiting = None
            self.clear()
            node.dead.append(self)
            if not node.burying:
                node.bury()

    def give_up_name(self) -> None:
        name, names = self.name, self.node.names
        if type(name) is Via:
            try:
                if name.module.whereis_name(name.key) in (None, self):  # else a successor has it
                    name.module.unregister_name(name.key)
            except Exception:  # a registry that is gone, say: the end of this process goes on
                _log.exception("%r could not be unregistered", name)
        elif names.get(name) is self:
            del names[name]

    def notify(self) -> None:
        """Tell clients, monitors and links of the death. Called once, from the node's FIFO, when names are free."""
        reason = self.reason
        if STOPPED.handlers:
            STOPPED.execute(
                {"monotonic_time": self.node.clock.now()}, {"pid": self, "server": self.label(), "name": self.name, "reason": reason}
            )
        if self.monitors is not None:
            for ref in list(self.monitors):
                ref.fire(reason)
            self.monitors = None
        parent = self.parent
        if self.linked and parent is not None:
            parent.unlink_from(self)
            parent.signal(self, reason, by_link=True)
        if self.links is not None:
            for peer in list(self.links):
                peer.unlink_from(self)
                peer.signal(self, reason, by_link=True)
        self.links = None
        self.linked = False
        self.parent = None  # a dead parent must not keep its own parents alive
        if self.waiters is not None:
            for client in list(self.waiters):
                client.failed(reason)
            self.waiters = None


class Alias(Ref):
    """Another name of a process, for one purpose: it is sent to (`send(alias, message)`) and can be switched off.

    Messages to an alias that is not active are dropped: how a late reply is kept out of a mailbox. Made by `alias()`.
    """

    __slots__ = ("active", "explicit", "monitor", "once", "process")

    def __init__(self, process: Process, *, once: bool = False, explicit: bool = True, monitor: MonitorRef | None = None) -> None:
        self.process = process
        self.once = once
        self.explicit = explicit  # only `unalias` ends it; else its monitor's end does too
        self.monitor = monitor  # which ends with the first message
        self.active = True
        extra = extra_of(process)
        if extra.aliases is None:
            extra.aliases = {}
        extra.aliases[self] = None

    def deliver(self, message: Any) -> None:
        if not self.active:
            return
        if self.once:
            self.stop()
            if self.monitor is not None:
                self.monitor.stop()
        self.process.post((INFO, message, None, None))

    def stop(self) -> bool:
        """False when it was off already."""
        active, self.active = self.active, False
        extra = self.process.extra
        if extra is not None and extra.aliases is not None:
            extra.aliases.pop(self, None)
        return active


class MonitorRef(Ref):
    """One monitor. Its Down goes to the watcher's mailbox, or to the future of whoever awaits it."""

    __slots__ = ("active", "alias", "delivered", "future", "target", "watched", "watcher")

    def __init__(self, watcher: Process | None, watched: Process | None, target: object, absent: object = NOPROC) -> None:
        self.alias: Alias | None = None  # `monitor(…, alias=…)`: an alias that lives as long as this
        self.watcher = watcher  # None: only awaited
        self.watched = watched
        self.target = target
        self.active = True
        self.future: asyncio.Future[Down] | None = None
        self.delivered: Down | None = None
        if watched is None or watched.status == DEAD:
            self.fire(absent)
            return
        if watched is watcher:
            return  # monitoring oneself never fires
        if watched.monitors is None:
            watched.monitors = {}
        watched.monitors[self] = None
        if watcher is not None:
            if watcher.watching is None:
                watcher.watching = {}
            watcher.watching[self] = None

    def fire(self, reason: object) -> None:
        self.stop()
        self.delivered = down = Down(self, self.target, reason)
        if self.future is not None:
            if not self.future.done():
                self.future.set_result(down)
        elif self.watcher is not None:
            self.watcher.post((INFO, down, None, None))

    def stop(self) -> bool:
        """No Down after this. False when it was over already."""
        active, self.active = self.active, False
        watched, watcher = self.watched, self.watcher
        if watched is not None and watched.monitors is not None:
            watched.monitors.pop(self, None)
        if watcher is not None and watcher.watching is not None:
            watcher.watching.pop(self, None)
        if self.alias is not None and not self.alias.explicit:
            self.alias.stop()
        return active


class TaskProcess(Process):
    """A process that runs in a task of its own: a spawned function, or plain asyncio code that was adopted.

    Its mail waits in `inbox` until `receive` takes the oldest match.
    """

    __slots__ = ("inbox", "receiver")

    #: Whether the runtime made the task, and so answers for its exception; an adopted one has another owner.
    ours: ClassVar[bool] = True

    def __init__(self, node: Node, parent: Process | None, name: str | None) -> None:
        super().__init__(node, parent, name)
        self.status = SUSPENDED
        self.inbox: list[Any] = []
        self.receiver: tuple[Callable[[Any], bool], asyncio.Future[Any]] | None = None

    def post(self, entry: Entry) -> None:
        if self.status == DEAD:
            return
        message = entry[1]
        if self.receiver is not None:
            matches, future = self.receiver
            try:
                if not future.done() and matches(message):
                    self.receiver = None
                    future.set_result(message)
                    return
            except Exception as error:  # a predicate that raises is the receiver's error, never the sender's
                self.receiver = None
                future.set_exception(error)
        self.inbox.append(message)

    def mail(self) -> list[Entry]:
        return [(INFO, message, None, None) for message in self.inbox]

    def drain(self, limit: int) -> None:
        raise AssertionError("a task process is never queued")

    def clear(self) -> None:
        self.inbox = []
        self.receiver = None

    def begin_exit(self, reason: object) -> None:
        self.status = EXITING
        self.reason = reason
        self.node.look()
        if self.task is not None:
            self.task.cancel()

    def finished(self, task: asyncio.Task[Any]) -> None:
        """Its task is done: return is NORMAL, an exception Crash, a cancellation that nobody signalled SHUTDOWN."""
        if self.status == DEAD:
            return  # killed: `Node.cut_off` sees to the rest
        if self.status == EXITING:
            if self.ours and not task.cancelled():
                task.exception()
            self.end(self.reason)
        else:
            self.end(self.exit_reason(task))

    def exit_reason(self, task: asyncio.Task[Any]) -> object:
        raise NotImplementedError
