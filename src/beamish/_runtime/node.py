"""One node per event loop: process table, names, run queue, clock, and the order in which the dead are buried.

Nothing else is global, so a test gets a fresh world with a fresh loop.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from time import monotonic
from typing import Any, ClassVar, cast

from beamish._runtime.clock import Clock, LoopClock
from beamish._runtime.names import At, Via
from beamish._runtime.process import CURRENT, DEAD, EXITING, IDLE, LOOK, QUEUED, RUNNING, Entry, Process, TaskProcess
from beamish._runtime.timers import Timeouts, Wheel
from beamish.errors import SHUTDOWN, WrongLoop

_log = logging.getLogger("beamish.node")

#: Handler runs that nest on one stack, drains included; deeper ones go through the mailbox.
MAX_DEPTH = 20
#: A slice of the run queue, and what a turn of the loop should cost at most (seconds).
SLICE = 0.001
#: Messages that one process handles before the next has its turn; when there is no next one, as many as a turn grants.
BURST = 8
#: Handler runs per loop turn, callers' stacks included: adaptive between the two.
MIN_GRANT, MAX_GRANT = 2, 32
#: Deaths told of in one go; a longer row goes on in the next turn of the loop.
BURIALS = 2000

LOOPS_ARE_KEYS = sys.version_info >= (3, 12)
if sys.version_info >= (3, 12):
    here_key: Callable[[], Any] = asyncio._get_running_loop  # pyright: ignore[reportPrivateUsage]
else:
    # get_running_loop costs 230 ns on 3.11 (it asks for the process id each time), the thread's id 35. Two loops that
    # take turns on one thread are told apart in `here()`.
    here_key: Callable[[], Any] = threading.get_ident

_INDIRECT = (Via, At)  # a tuple: `Via | At` makes a new union at each look, 0.3 µs

#: The nodes that live, by what `here_key()` says where they run; and by their loops, which on 3.11 may take turns on a thread.
NODES: dict[Any, Node] = {}
_BY_LOOP: dict[asyncio.AbstractEventLoop, Node] = {}


class Node:
    """The runtime of one event loop. `inline=False` sends every call through the mailbox: same traces, for tests."""

    __slots__ = (
        "adopted", "armed", "at_end", "awaited", "budget", "burying", "clock", "closers", "closing", "current",
        "dead", "depth", "floor", "freeze", "ghosts", "grant", "half", "inline", "keeper", "key", "limit", "loop", "marked",
        "names", "pool", "procs", "root", "runq", "scratch", "shelf", "since", "stopwatch", "thread", "timeouts",
        "wheel",
    )  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock | None = None, *, inline: bool = True) -> None:
        self.loop = loop
        self.thread = threading.get_ident()
        self.key: Any = here_key()
        self.clock: Clock = clock or LoopClock(loop)
        self.wheel = Wheel(self.clock)
        self.timeouts = Timeouts(self.clock)
        self.procs: dict[Process, None] = {}
        self.names: dict[str, Process] = {}
        self.runq: deque[Process] = deque()
        self.stopwatch: Callable[[], float] = monotonic  # what slices and grants are measured by, in seconds
        self.armed = False  # whether a call_soon of `run` is on its way
        self.pool: list[deque[Entry]] = []
        self.current: Process | None = None  # whose handler is on the stack
        self.inline = inline
        self.depth = 0  # handlers on the stack, one in another
        self.limit = MAX_DEPTH if inline else 0  # of depth; 0 sends every call by the long road
        self.budget = self.grant = MAX_GRANT
        self.floor = MAX_GRANT // 2
        self.marked = False
        self.since = 0.0  # when the marker was set, with `half` of the runs to go
        self.half = 1
        self.dead: deque[Process] = deque()
        self.burying = False
        self.ghosts: dict[Process, None] = {}  # dead ones whose code still runs: only then do sends look at who is sending
        self.adopted: dict[asyncio.Task[Any], TaskProcess] = {}
        self.shelf: dict[Any, Any] = {}  # what other layers keep for this loop
        self.awaited: dict[object, list[asyncio.Future[None]]] = {}  # names, or processes in their init, that somebody waits for
        self.scratch: list[Context] = []  # empty contexts for `init`, which seldom leaves anything in one
        self.at_end: list[Callable[[], None]] = []  # what is to be done when the loop has ended
        self.closers: dict[asyncio.Task[None], None] = {}  # async closers of processes that have ended
        self.closing = False
        self.freeze = False  # whether to hide from the garbage collector what a tree has started
        self.root = Root(self)
        self.keeper = loop.create_task(self._keep(), name="beamish-keeper")
        cast(Any, self.keeper)._log_destroy_pending = False  # a loop that is closed without ending its tasks is its owner's affair
        _forget_closed()
        NODES[self.key] = _BY_LOOP[loop] = self

    #: How the end of the loop stops one tree; the supervisor's module sets it.
    stop_tree: ClassVar[Callable[[Process], Coroutine[Any, Any, None]] | None] = None

    # -- the run queue

    def enqueue(self, process: Process) -> None:
        process.status = QUEUED
        self.runq.append(process)
        if not self.armed:
            self.armed = True
            self.loop.call_soon(self.run)

    def run(self) -> None:
        """One slice of the run queue; what is left goes on in the next turn of the loop."""
        runq = self.runq
        stopwatch = self.stopwatch
        end = stopwatch() + SLICE
        try:
            while runq:
                process = runq.popleft()
                if process.status == QUEUED:
                    process.drain(BURST if runq else max(BURST, self.grant))
                if stopwatch() > end:
                    break
        finally:
            self.armed = bool(runq)
            if runq:
                self.loop.call_soon(self.run)

    def run_once(self, *, all: bool = False) -> bool:
        """Those that are in the queue now, on this stack, within a slice. False: not all of them had their turn.

        With `all` they have it however long it takes, for who can't wait for the rest.
        """
        runq, stopwatch = self.runq, self.stopwatch
        end = stopwatch() + SLICE
        for _ in range(len(runq)):
            if not runq:
                break
            if stopwatch() > end and not all:
                return False
            process = runq.popleft()
            if process.status == QUEUED:
                process.drain(BURST)
        return True

    def turn(self) -> asyncio.Future[None]:
        """Done when everything that is in the queue now has had its turn, however long that takes."""
        future = self.loop.create_future()
        self.enqueue(cast(Process, _Turn(future)))
        return future

    # -- fairness: one budget per turn of the loop, refilled only by a marker that the loop itself runs

    def spend(self) -> bool:
        """Called when half of the budget is gone. False: the caller is to yield before its call."""
        if not self.marked:
            self.marked = True
            self.half = max(self.floor, 1)
            self.floor = 0
            self.since = self.stopwatch()
            self.loop.call_soon(self._refill)
        if self.budget > 0:
            return True
        each = (self.stopwatch() - self.since) / self.half
        if each > 0:
            self.grant = max(MIN_GRANT, min(MAX_GRANT, int(SLICE / each)))
        return False

    def _refill(self) -> None:
        self.marked = False
        self.budget = self.grant
        self.floor = self.grant // 2
        self.grant = min(MAX_GRANT, self.grant * 2)

    # -- who is running

    def me(self) -> Process | None:
        """The process whose code this is, or None in plain asyncio code that was not adopted."""
        if self.current is not None:
            return self.current
        process = CURRENT.get()
        if process is not None or not self.adopted:
            return process
        task = asyncio.current_task(self.loop)
        return self.adopted.get(task) if task is not None else None

    def haunt(self, process: Process) -> None:
        """A dead process's code still runs. While there is one, every call takes the long road, which looks at who asks."""
        self.ghosts[process] = None
        self.limit = 0

    def lay(self, process: Process) -> None:
        """It has come to its end."""
        self.ghosts.pop(process, None)
        if self.inline and not self.ghosts:
            self.limit = MAX_DEPTH

    def silenced(self) -> bool:
        """Whether the code that runs belongs to a dead process: what it sends never arrives."""
        me = self.me()
        return me is not None and me.status == DEAD

    def look(self) -> None:
        """Something happened to a process whose code may be below us on the stack: its inlined call is to look."""
        if self.current is not None and self.current.status == RUNNING:
            self.current.status = LOOK

    # -- deaths

    def bury(self) -> None:
        """Tell of all deaths, one after the other: a chain of 3,000 links is a long queue, not a deep stack."""
        self.burying = True
        try:
            for _ in range(BURIALS):
                if not self.dead:
                    self.burying = False
                    return
                self.dead.popleft().notify()
        except BaseException:
            self.loop.call_soon(self.bury)  # the others are told all the same
            raise
        self.loop.call_soon(self.bury)

    def cut_off(self, process: Process, task: asyncio.Task[Any]) -> None:
        """Cancel the task of a killed process; if it swallows that, close it, and never wait for it."""
        task.cancel()
        task.add_done_callback(lambda _: _laid(process, task))
        self.loop.call_soon(self.loop.call_soon, self._close, process, task)

    def _close(self, process: Process, task: asyncio.Task[Any]) -> None:
        if task.done():
            return
        if task in self.adopted:
            _log.error("%r was killed, but its task swallowed the cancellation: it lives on as plain asyncio code", process.label())
            del self.adopted[task]  # asyncio's to end; as a ghost it would send every call by the long road
            self.lay(process)
            return
        _log.error("%r was killed, but its code swallowed the cancellation or awaits in a finally block: it is cut off", process.label())
        try:
            cast(Any, task.get_coro()).close()
        except (RuntimeError, ValueError) as error:  # it ignores GeneratorExit, or is running this moment
            _log.error("%r does not let itself be closed: %s", process.label(), error)
        task.cancel()

    # -- names

    def whereis(self, name: object) -> Process | None:
        """The live process of that name. An exiting one keeps its name and is found."""
        if type(name) is str:
            return self.names.get(name)
        return name.process(self) if isinstance(name, _INDIRECT) else None

    def arrived(self, who: object) -> None:
        """A server of that name, or that process, runs now."""
        waiting = self.awaited.pop(who, None)
        if waiting is not None:
            futures = list(waiting)
            waiting.clear()
            for future in futures:
                if not future.done():
                    future.set_result(None)

    # -- the end

    async def _keep(self) -> None:
        """Live as long as the loop. `asyncio.run` cancels everything at its end: stop the trees then, in order."""
        try:
            await self.loop.create_future()
        finally:
            self.closing = True
            try:
                await self.root.stop_trees()
                if self.closers:
                    _, late = await asyncio.wait(self.closers, timeout=5.0)
                    for task in late:
                        _log.error("%r is still closing something after 5 s: it is cut off", task)
                        task.cancel()
            finally:
                self._close_down()

    def _close_down(self) -> None:
        self.wheel.close()
        self.timeouts.close()
        for callback in list(self.at_end):
            callback()
        if NODES.get(self.key) is self:
            del NODES[self.key]
        if _BY_LOOP.get(self.loop) is self:
            del _BY_LOOP[self.loop]

    def ending(self) -> bool:
        """Whether the loop is being ended: handlers cancelled now were not signalled by anybody."""
        return self.closing or self.keeper.done() or self.keeper.cancelling() > 0


class _Turn:
    """What stands in the run queue for somebody who waits until those before it had their turn."""

    __slots__ = ("future", "status")

    def __init__(self, future: asyncio.Future[None]) -> None:
        self.future = future
        self.status = QUEUED

    def drain(self, limit: int) -> None:
        if not self.future.done():
            self.future.set_result(None)


class Root(Process):
    """The parent of what plain asyncio code starts: lives as long as the node, traps exits and logs them."""

    __slots__ = ()

    def __init__(self, node: Node) -> None:
        super().__init__(node, None, None)
        self.trap = True

    def post(self, entry: Entry) -> None:
        ended = entry[1]
        _log.debug("%r, started outside of any process, ended: %r", ended.pid, ended.reason)

    def drain(self, limit: int) -> None:
        raise AssertionError("the root is never queued")

    def begin_exit(self, reason: object) -> None:
        raise AssertionError("the root traps exits")

    async def stop_trees(self) -> None:
        """Shut down every tree, last started first, each within its own shutdown time: the end of the loop.

        A tree hangs here, or on a task (a main that was adopted, say), or on nobody (`start`). Adopted tasks are asyncio's.
        """
        while tops := [process for process in self.node.procs if self._is_top(process)]:
            for process in reversed(tops):
                if process.status == IDLE and not process.trap:
                    process.begin_exit(SHUTDOWN)  # no handler and no terminate to wait for
                elif process.status != DEAD and Node.stop_tree is not None:
                    await Node.stop_tree(process)

    def _is_top(self, process: Process) -> bool:
        if process is self or (process.task is not None and process.task in self.node.adopted):
            return False
        parent = process.parent
        return parent is None or parent is self or parent.status == DEAD or isinstance(parent, TaskProcess)


def here() -> Node:
    """The node of the running loop, made at its first use."""
    node = NODES.get(here_key())
    if node is not None and (LOOPS_ARE_KEYS or node.loop is asyncio.get_running_loop()):
        return node
    return _come_here()


def _come_here() -> Node:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        raise WrongLoop(
            "no event loop runs in this thread, so no server can be reached from it. In a program without asyncio: "
            "with beamish.blocking.run([…]) as rt: rt.call(server.method, …); in a worker thread: beamish.blocking.call(server.method, …)"
        ) from None
    node = _BY_LOOP.get(loop)
    if node is None:
        return Node(loop)
    NODES[node.key] = node  # its loop's turn has come again
    return node


def _laid(process: Process, task: asyncio.Task[Any]) -> None:
    process.lay()
    if not task.cancelled():
        task.exception()  # retrieved: what a dead process raised concerns nobody


def _forget_closed() -> None:
    for key in [key for key, node in NODES.items() if node.loop.is_closed()]:
        del NODES[key]
    for loop in [loop for loop in _BY_LOOP if loop.is_closed()]:
        del _BY_LOOP[loop]


def exiting(process: Process | None) -> bool:
    return process is not None and (process.status == EXITING or process.status == DEAD)
