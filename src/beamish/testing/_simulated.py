# pyright: reportPrivateUsage=false
"""A loop and a node whose choices are made by a `Chooser`: the plain ones, with one method overridden for each kind of choice.

Nothing in the runtime asks a chooser, so production pays nothing.

* run: whose step is next, among those ready in the loop. An actor is a task, a node's run queue, a timer that is due, or everything else;
  the steps of one actor keep their order, so the order of messages between two processes is never broken.
* slice, burst: whether the run queue goes on, and with how many messages of a process.
* inline: whether a call runs on its caller's stack. pause: whether it yields before.
* bury: whether a death is told of now, or after others had their turn.
* crash, kill, late, slow: faults, where they were asked for: see `_faults`.
"""

from __future__ import annotations

import asyncio
import heapq
import sys
from collections.abc import Callable, Hashable
from typing import Any, cast

from beamish._runtime.clock import Clock
from beamish._runtime.node import BURST, MAX_DEPTH, MAX_GRANT, Node
from beamish._runtime.process import CURRENT, QUEUED, Process
from beamish._runtime.timers import Wheel, _Table
from beamish.testing._choosers import Chooser
from beamish.testing._faults import Faults, InjectedCrash as InjectedCrash
from beamish.testing._telling import Trace as Trace
from beamish.testing._virtual import VirtualLoop

#: Processes that have their turn in one slice of the run queue, at most.
TURNS = 50
#: How many tasks of a run are kept in mind before those that have ended are forgotten.
MANY = 1000
#: Steps in which no virtual time passes, after which a run is believed to go on for ever.
PATIENCE = 100_000
#: Those of the runtime; the others are asyncio's.
_TIMERS: dict[type, str] = {Wheel: "the timers of servers", _Table: "the time limit of a call"}


class Livelock(RuntimeError):
    """The run goes on for ever, at one moment of virtual time."""


class SimulatedLoop(VirtualLoop):
    """One step at a time, and whose it is, is chosen."""

    def __init__(self, chooser: Chooser, trace: Trace) -> None:
        super().__init__()
        self.chooser = chooser
        self.trace = trace
        self.steps = 0
        self._handles: list[Any] = []  # what is ready, and whose step each is: named when there is a choice
        self._actors: list[Hashable] = []
        self._looked = 0.0
        self._patience = PATIENCE
        self.between: Callable[[], None] | None = None  # called between two steps
        self._tasks: list[asyncio.Task[Any]] = []
        self._many = MANY

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = super().create_task(coro, **options)
        if len(self._tasks) >= self._many:
            self._tasks = list(self.pending())
            self._many = MANY + 2 * len(self._tasks)
        self._tasks.append(task)
        return task

    def pending(self) -> set[asyncio.Task[Any]]:
        """The tasks that were made here, and not by the runtime for its processes, and that have not ended."""
        return {task for task in self._tasks if not task.done()}

    def _run_once(self) -> None:
        me = cast(Any, self)
        ready = me._ready
        handles = self._handles
        selector = me._selector
        if (
            not (ready or handles)
            or (me._scheduled and me._scheduled[0]._when <= self._virtual)
            or ((self._jobs or selector.made is not None) and self.outside())
        ):
            self._poll(me)
        if self.between is not None:
            self.between()
        if ready or handles:
            handle = self._pick(ready)
            if not handle._cancelled:
                self.steps += 1
                if self.steps > self._patience:
                    self._look(handle)
                handle._run()

    def _look(self, handle: Any) -> None:
        """Whether time has passed since the last look."""
        if self._virtual == self._looked:
            self._patience += PATIENCE  # what is cleaned up after the error has its steps too
            raise Livelock(f"{PATIENCE} steps, and no time has passed. What goes on for ever? The next step is {self._actor(handle)}'s")
        self._looked = self._virtual
        self._patience = self.steps + PATIENCE

    def _poll(self, me: Any) -> None:
        """What `BaseEventLoop._run_once` does before it runs handles."""
        scheduled = me._scheduled
        while scheduled and scheduled[0]._cancelled:
            me._timer_cancelled_count -= 1
            heapq.heappop(scheduled)._scheduled = False
        timeout = None
        if me._ready or self._handles or me._stopping:
            timeout = 0
        elif scheduled:
            timeout = max(0.0, scheduled[0]._when - self._virtual)
        me._process_events(me._selector.select(timeout))
        while scheduled and scheduled[0]._when <= self._virtual + 1e-9:
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            me._ready.append(handle)

    def _pick(self, ready: Any) -> Any:
        handles, actors = self._handles, self._actors
        while ready:  # no `extend` and `clear`: a thread may append meanwhile
            handles.append(ready.popleft())
        if len(handles) == 1:
            actors.clear()
            return handles.pop()
        for handle in handles[len(actors) :]:
            actors.append(self._actor(handle))
        # The steps of one actor keep their order: the first of them is asked about.
        options = actors if len(set(actors)) == len(actors) else list(dict.fromkeys(actors))
        chosen = self.chooser.choose("run", options) if len(options) > 1 else 0
        if chosen:
            self.trace.add(f"{options[chosen]} goes before {options[0]}")
        index = chosen if options is actors else actors.index(options[chosen])
        del actors[index]
        return handles.pop(index)

    def close(self) -> None:
        super().close()
        self.between = None
        self.trace.forget()

    def _actor(self, handle: Any) -> Hashable:
        owner: Any = getattr(handle._callback, "__self__", None)
        kind: type[Any] = owner.__class__
        if issubclass(kind, asyncio.Task):
            return self.trace.named(owner) or self.trace.task(owner, handle._context.get(CURRENT))
        if type(handle) is asyncio.TimerHandle:
            return self.trace.name(handle, _TIMERS.get(kind, "a timer"))
        return "the run queue" if issubclass(kind, Node) else "the loop"


class SimulatedNode(Node):
    """See the module."""

    __slots__ = ("_limit", "_mailed", "_spending", "_spent", "chooser", "faults", "trace")

    def __init__(self, loop: SimulatedLoop, faults: frozenset[str] = frozenset()) -> None:
        self._begin(loop, loop.chooser, loop.trace, faults)
        if self.faults is not None and "kill" in faults:
            loop.between = self.faults.kill_somebody

    def _begin(
        self, loop: asyncio.AbstractEventLoop, chooser: Chooser, trace: Trace, faults: frozenset[str], clock: Clock | None = None
    ) -> None:
        self._limit = MAX_DEPTH
        self._mailed = -1  # the step in which a call was sent by the mailbox: it looks at `limit` once more on its way
        self._spending = self._spent = 0  # the step, and the calls that were made in it
        self.chooser, self.trace = chooser, trace
        self.faults = Faults(self, faults) if faults else None
        Node.__init__(self, loop, clock)
        self.budget = 1 << 60  # never spent; `floor` above it has `spend` asked at every call
        self.floor = 1 << 61

    def step(self) -> int:
        """The step of the loop that is being made: another number for each."""
        return cast(SimulatedLoop, self.loop).steps

    # -- inline, pause

    @property
    def limit(self) -> int:
        step = self.step()
        if self._mailed == step:
            self._mailed = -1
            return 0
        if self._limit and self.depth < MAX_DEPTH and self.chooser.choose("inline", ("on the stack", "by the mailbox")):
            self.trace.add(f"a call of {self.who()} goes by the mailbox{self.trace.asked(sys._getframe(1), self, ': ')}")
            self._mailed = step
            return 0
        if self.trace.telling and (asked := self.trace.asked(sys._getframe(1), self)):
            self.trace.add(f"{self.who()} calls {asked}")
        return self._limit

    @limit.setter
    def limit(self, value: int) -> None:
        self._limit = value

    def spend(self) -> bool:
        step = self.step()
        self._spent = self._spent + 1 if self._spending == step else 1
        self._spending = step
        if self._spent >= MAX_GRANT:  # nobody goes on for ever, in the plain order neither
            self._spent = 0
            return False
        if self.chooser.choose("pause", ("goes on", "yields")):
            self.trace.add(f"{self.who()} yields before a call")
            return False
        return True

    def _refill(self) -> None:
        raise AssertionError("the budget is never spent")

    # -- slice, burst

    def run(self) -> None:
        runq = self.runq
        try:
            for _ in range(TURNS):
                if not runq:
                    break
                self._turn(self._next())
                if runq and self.chooser.choose("slice", ("goes on", "lets others go")):
                    break
        finally:
            self.armed = bool(runq)
            if runq:
                self.loop.call_soon(self.run)

    def run_once(self, *, all: bool = False) -> bool:
        for _ in range(len(self.runq)):
            if self.runq:
                self._turn(self._next())
        return True

    def _next(self) -> Process:
        runq = self.runq
        if len(runq) == 1:
            return runq.popleft()
        waiting: list[Process] = []
        for one in runq:
            if not isinstance(one, Process):  # pyright: ignore[reportUnnecessaryIsInstance]
                break  # somebody who waits until all before it had their turn (`Node.turn`): nobody overtakes it either
            waiting.append(one)
        if len(waiting) < 2:
            return runq.popleft()
        index = self.chooser.choose("run", [self.label(one) for one in waiting])
        process = runq[index]
        del runq[index]
        return process

    def _turn(self, process: Process) -> None:
        if process.status != QUEUED:
            return
        mail = getattr(process, "mbox", None)
        if self.faults is not None and mail and self.faults.strike(process):
            return
        many = self.chooser.choose("burst", ("many", "one"))
        if mail:
            self.trace.add(f"{self.label(process)} handles {self.shown(mail[0])}{'' if many else ' …'}")
        process.drain(1 if many else BURST)

    def shown(self, entry: Any) -> str:
        return self.trace.shown(entry, self)

    def label(self, process: Any) -> str:
        return self.trace.process(process) if isinstance(process, Process) else "a waiting caller"

    def who(self) -> str:
        """Whose code is running."""
        if self.current is not None:
            return self.label(self.current)
        task = asyncio.current_task(self.loop)
        return "the loop" if task is None else self.trace.task(task, CURRENT.get())

    # -- bury

    def bury(self) -> None:
        if self.chooser.choose("bury", ("at once", "later")):
            self.burying = True
            self.trace.add(f"the death of {self.label(self.dead[0]) if self.dead else 'nobody'} is told of later")
            self.loop.call_soon(super().bury)
        else:
            super().bury()
