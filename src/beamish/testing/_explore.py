"""Every interleaving of a small test that can make a difference: `@simulate(exhaustive=True)`.

Stateless model checking with dynamic partial-order reduction (Flanagan and Godefroid, POPL 2005) and sleep sets (Godefroid, 1996). A step
is what one actor does at a time: a task until it awaits, a process with one message. Two steps commute unless they touch the same process
or the same name; only the order of those that do not is tried both ways. What a test keeps outside of processes is not seen: keep what
matters in servers.

With faults, every run has one of them at most, at every point where it may happen: a branch of the step that is being made, of which each
is tried.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from beamish._runtime.node import Node
from beamish._runtime.process import QUEUED, Entry, Process, TaskProcess
from beamish.testing._choosers import Plain
from beamish.testing._faults import KINDS
from beamish.testing._simulated import SimulatedLoop, SimulatedNode, Trace
from beamish.testing._world import World

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from beamish.testing._simulate import Run

#: What a step touched, and whether it changed it: the mail or the state of a process (by its label, which is the same in every run), a
#: name. To put mail behind and to handle what is in front commute.
Footprint = dict[Hashable, bool]


#: Touched by a death, which links, monitors and waiting callers anywhere may hear of: it commutes with nothing.
EVERYTHING = "everything"


def commute(one: Footprint, other: Footprint) -> bool:
    if EVERYTHING in one or EVERYTHING in other:
        return False
    small, large = (one, other) if len(one) < len(other) else (other, one)
    return not any(key in large and (changed or large[key]) for key, changed in small.items())


class Pruned(BaseException):
    """Every step that is possible now was tried in an equivalent run."""


class _Step:
    """One step of the run that is being made, and what is known of the choice that led to it."""

    __slots__ = ("actor", "before", "chosen", "done", "enabled", "footprint", "origin", "sleep", "todo", "whole")

    def __init__(self, enabled: list[Hashable], chosen: Hashable, sleep: dict[Hashable, Footprint]) -> None:
        self.enabled = enabled
        self.chosen = chosen
        self.sleep = sleep  # actors whose step here was tried in a run before, and commutes with what came since
        self.done: dict[Hashable, Footprint] = {}  # actors whose step here was tried, and what it touched
        self.todo: set[Hashable] = set()
        self.actor = chosen  # whose step it is
        self.footprint: Footprint = {}
        self.whole: Footprint = {}  # the footprints of all its branches
        self.origin = -1  # the step that made this one possible
        self.before = 0  # bits of the steps that happened before it


class _Branch(_Step):
    """What happens in a step, where faults may: each of the `enabled` is to be tried, whatever it touches."""

    __slots__ = ()

    def __init__(self, options: list[Hashable], actor: Hashable) -> None:
        super().__init__(options, options[0], {})
        self.todo = set(options)
        self.actor = actor


class Explorer:
    """Makes the choices of one run after the other."""

    def __init__(self) -> None:
        self.steps: list[_Step] = []
        self.depth = 0
        self.last: _Step | None = None  # whose footprint is being made

    # -- during a run

    def begin(self) -> None:
        self.depth = 0
        self.last = None

    def choose(self, actors: list[Hashable], origins: dict[Hashable, int]) -> Hashable:
        if self.depth < len(self.steps):
            step = self._as_before(actors)
        else:
            sleep = self._sleep()
            awake = [actor for actor in actors if actor not in sleep]
            if not awake:
                raise Pruned
            step = _Step(actors, awake[0], sleep)
            self.steps.append(step)
        step.actor = step.chosen
        step.origin = origins.get(step.chosen, -1)
        self.depth += 1
        self.last = step
        return step.chosen

    def branch(self, options: list[Hashable]) -> int:
        """What happens within the step that is being made: the index of one of `options`, the first of which is the usual."""
        if self.depth < len(self.steps):
            step = self._as_before(options)
        else:
            step = _Branch(options, self.last.actor if self.last is not None else None)
            self.steps.append(step)
        self.depth += 1
        return step.enabled.index(step.chosen)

    def _as_before(self, options: list[Hashable]) -> _Step:
        step = self.steps[self.depth]
        if step.enabled != options:
            raise RuntimeError(
                f"the test does not do the same in the same order of steps, so its interleavings can't be explored: there were "
                f"{step.enabled}, and now {options}. Time, threads, random numbers or the order of a set of objects are what does that"
            )
        return step

    def _sleep(self) -> dict[Hashable, Footprint]:
        last = self.last
        if last is None:
            return {}
        tried = {**last.sleep, **last.done}
        tried.pop(last.chosen, None)
        return {actor: footprint for actor, footprint in tried.items() if commute(footprint, last.footprint)}

    def touched(self, footprint: Footprint) -> None:
        """What the last step touched."""
        if self.last is not None:
            self.last.footprint = footprint
            for key, changed in footprint.items():
                self.last.whole[key] = changed or self.last.whole.get(key, False)

    # -- between two runs

    def next(self) -> bool:
        """Find the races of the run that was made, and the next run to make. False: there is none."""
        self._races()
        while self.steps:
            step = self.steps[-1]
            step.done[step.chosen] = step.whole
            left = [actor for actor in step.enabled if actor in step.todo and actor not in step.done and actor not in step.sleep]
            if left:
                step.chosen = left[0]
                step.footprint, step.whole = {}, {}
                return True
            self.steps.pop()
        return False

    def _races(self) -> None:
        last_of: dict[Hashable, int] = {}
        for index, step in enumerate(self.steps):
            before = 0
            for cause in (last_of.get(step.actor, -1), step.origin):
                if cause >= 0:
                    before |= self.steps[cause].before | 1 << cause
            for earlier in range(index - 1, -1, -1):
                if before >> earlier & 1:
                    continue
                other = self.steps[earlier]
                if other.actor != step.actor and not commute(other.footprint, step.footprint):
                    led = [self.steps[i].actor for i in range(earlier + 1, index) if before >> i & 1]
                    other.todo.update(_first(other, step.actor, led))
                    before |= other.before | 1 << earlier
            step.before = before
            last_of[step.actor] = index


def _first(other: _Step, actor: Hashable, led: list[Hashable]) -> list[Hashable]:
    """Who is to go in the place of `other`, so that a step of `actor` comes before it: that one, or any one whose steps led there."""
    if actor in other.enabled:
        return [actor]
    ways = [one for one in led if one in other.enabled]
    return [next((one for one in ways if one in other.todo or one in other.done), ways[0])] if ways else other.enabled


# --- a run that tells what each step touches --------------------------------------------------------------------------


class _Names(dict[str, Process]):
    def __init__(self, node: ExploredNode) -> None:
        super().__init__()
        self.node = node

    def get(self, key: Any, default: Any = None) -> Any:
        self.node.touch(("name", key), changed=False)
        return super().get(key, default)

    def __setitem__(self, key: str, process: Process) -> None:
        self.node.touch(("name", key))
        super().__setitem__(key, process)

    def __delitem__(self, key: str) -> None:
        self.node.touch(("name", key))
        super().__delitem__(key)


class _Processes(dict[Process, None]):
    def __init__(self, node: ExploredNode, before: dict[Process, None]) -> None:
        super().__init__(before)
        self.node = node

    def __delitem__(self, process: Process) -> None:
        self.node.touch(EVERYTHING)
        super().__delitem__(process)


class _Mail(deque[Entry]):
    """A mailbox that tells of what is put behind."""

    def __init__(self, node: ExploredNode) -> None:
        super().__init__()
        self.node = node
        self.owner: Process | None = None

    def append(self, entry: Entry, /) -> None:
        if self.owner is None:
            self.owner = next((process for process in self.node.procs if process.mbox is self), None)
        if self.owner is not None:
            self.node.touch(("mail", self.node.label(self.owner)))
        super().append(entry)


class _Pool(list[Any]):
    """Where the runtime takes empty mailboxes from."""

    def __init__(self, node: ExploredNode) -> None:
        super().__init__()
        self.node = node

    def __bool__(self) -> bool:
        return True

    def pop(self, index: Any = -1, /) -> Any:
        return _Mail(self.node)

    def append(self, mail: Any, /) -> None: ...


class _Branches:
    """The chooser of an explored run: of the choices other than whose step it is, those of faults are made by the explorer."""

    def __init__(self, explorer: Explorer) -> None:
        self.explorer = explorer

    def choose(self, kind: str, options: Sequence[Hashable]) -> int:
        return self.explorer.branch(list(options)) if kind in KINDS else 0


class ExploredNode(SimulatedNode):
    """Each process in the run queue is an actor of its own, handles one message at a time, and every call goes by the mailbox."""

    __slots__ = ("_current", "footprint")

    def __init__(self, loop: ExploredLoop, faults: frozenset[str] = frozenset()) -> None:
        self._current: Process | None = None
        self.footprint: Footprint = {}
        super().__init__(loop, faults)
        if self.faults is not None:
            self.chooser = _Branches(loop.explorer)
            self.faults.most = 1
        self.names = _Names(self)
        self.procs = _Processes(self, self.procs)
        self.pool = _Pool(self)
        loop.node = self

    def touch(self, what: Hashable, *, changed: bool = True) -> None:
        self.footprint[what] = changed or self.footprint.get(what, False)

    @property
    def current(self) -> Process | None:
        return self._current

    @current.setter
    def current(self, process: Process | None) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self._current = process
        if process is not None:
            self.touch(("state", self.label(process)))

    @property
    def limit(self) -> int:
        return 0

    @limit.setter
    def limit(self, value: int) -> None: ...

    def spend(self) -> bool:
        return False  # each call is a step of its own: what its caller has sent before may be handled before it

    def enqueue(self, process: Process) -> None:
        process.status = QUEUED
        self.runq.append(process)
        self.loop.call_soon(_Turn(self, process).take)

    def run_once(self, *, all: bool = False) -> bool:
        for process in list(self.runq):
            _Turn(self, process).take()
        return True

    def bury(self) -> None:
        """A death is told of in a step of its own: others may come before it."""
        self.burying = True
        self.loop.call_soon(_Burial(self).take)


class _Burial:
    __slots__ = ("node",)

    def __init__(self, node: ExploredNode) -> None:
        self.node = node

    def take(self) -> None:
        self.node.touch(EVERYTHING)
        Node.bury(self.node)


class _Turn:
    __slots__ = ("node", "process")

    def __init__(self, node: ExploredNode, process: Process) -> None:
        self.node = node
        self.process = process

    def take(self) -> None:
        node, process = self.node, self.process
        try:
            node.runq.remove(process)
        except ValueError:
            return  # it had its turn already
        if process.status == QUEUED:
            mail = getattr(process, "mbox", None)
            if mail and node.faults is not None and node.faults.strike(process):
                return
            if mail:
                node.trace.add(f"{node.label(process)} handles {node.shown(mail[0])}")
            process.drain(1)


class ExploredLoop(SimulatedLoop):
    def __init__(self, explorer: Explorer, trace: Trace) -> None:
        super().__init__(Plain(), trace)
        self.explorer = explorer
        self.node: ExploredNode | None = None
        self.origins: dict[Any, int] = {}

    def _pick(self, ready: Any) -> Any:
        self._account(ready)
        first: dict[Hashable, int] = {}
        for index, handle in enumerate(ready):
            if self.node is not None and getattr(handle._callback, "__self__", None) is self.node.keeper:
                del ready[index]
                return handle  # it waits for the end of the loop, and is nobody's affair before
            first.setdefault(self._actor(handle), index)
        actors = list(first)
        chosen = self.explorer.choose(actors, {actor: self.origins.get(ready[index], -1) for actor, index in first.items()})
        handle = ready[first[chosen]]
        del ready[first[chosen]]
        self.origins.pop(handle, None)
        if chosen != actors[0]:
            self.trace.add(f"{chosen} goes before {actors[0]}")
        return handle

    def _account(self, ready: Any) -> None:
        """The step that is over: what it touched, and what it has made ready."""
        if self.node is not None:
            self.explorer.touched(self.node.footprint)
            self.node.footprint = {}
        for handle in ready:
            self.origins.setdefault(handle, self.explorer.depth - 1)

    def _actor(self, handle: Any) -> Hashable:
        owner = getattr(handle._callback, "__self__", None)
        if isinstance(owner, _Turn):
            return self.node.label(owner.process) if self.node is not None else "the run queue"
        return "the telling of a death" if isinstance(owner, _Burial) else super()._actor(handle)


@contextmanager
def _inboxes_tell() -> Iterator[None]:
    """Spawned functions and tasks have no `_Mail`; while runs are explored, their mail is told of too."""
    plain = TaskProcess.post

    def post(self: TaskProcess, entry: Entry) -> None:
        if isinstance(self.node, ExploredNode):
            self.node.touch(("mail", self.node.label(self)))
        plain(self, entry)

    TaskProcess.post = post  # type: ignore[method-assign]
    try:
        yield
    finally:
        TaskProcess.post = plain  # type: ignore[method-assign]


def explored(
    test: Callable[[World], Awaitable[object]], explorer: Explorer, faults: frozenset[str] = frozenset()
) -> tuple[BaseException | None, list[str]]:
    """One run, whose steps `explorer` chooses: how it ended, and what happened. Raises Pruned when it need not go on."""
    from beamish.testing._simulate import failed, finish

    trace = Trace()
    loop = ExploredLoop(explorer, trace)
    world = World(node=lambda: ExploredNode(loop, faults))
    explorer.begin()

    async def body() -> None:
        async with world:
            with trace.failing():
                await test(world)

    passed = False
    try:
        with _inboxes_tell():
            loop.run_until_complete(body())
        passed = True
    except BaseException as error:
        if not failed(error):
            raise
        return error, trace.until_failure()
    finally:
        loop.explorer = Explorer()  # what is left to end is no part of the run
        finish(loop, passed)
    return None, trace.lines


def explore(
    test: Callable[[World], Awaitable[object]], bound: int, check: Callable[[Run, str], None], faults: frozenset[str] = frozenset()
) -> tuple[int, bool]:
    """How many runs there were, and whether they were all that can differ. `check(run, tape)` raises when one has failed."""
    from beamish.testing._simulate import Run, written

    explorer = Explorer()
    runs = 0
    while True:
        try:
            error, lines = explored(test, explorer, faults)
        except Pruned:
            pass
        else:
            runs += 1
            tape = [step.enabled.index(step.chosen) for step in explorer.steps]
            check(Run(error, tape, [len(step.enabled) for step in explorer.steps], lines), written(tape, "e"))
        if not explorer.next():
            return runs, True
        if runs >= bound:
            return runs, False


class Guided(Explorer):
    """The way of an earlier run again; the plain one after its end."""

    def __init__(self, tape: list[int]) -> None:
        super().__init__()
        self.tape = tape

    def choose(self, actors: list[Hashable], origins: dict[Hashable, int]) -> Hashable:
        answer = self.tape[self.depth] if self.depth < len(self.tape) else 0
        chosen = actors[answer if answer < len(actors) else 0]
        self.steps.append(_Step(actors, chosen, {}))
        self.depth += 1
        return chosen

    def branch(self, options: list[Hashable]) -> int:
        answer = self.tape[self.depth] if self.depth < len(self.tape) else 0
        self.depth += 1
        return answer if answer < len(options) else 0
