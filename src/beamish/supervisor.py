"""A supervisor: starts its children in order, restarts those that end, stops them last to first.

    async with supervise([cache.child_spec(), limiter.child_spec()]) as sup:      # or, inside another tree:
        ...
    tree = Supervisor("tree").child_spec([cache.child_spec()], strategy="rest_for_one")

What can go wrong: a child that does not start ends the supervisor's start; children that end more often than `max_restarts`
times in `max_seconds` (3 in 5 s) end the supervisor with SHUTDOWN, which is its own supervisor's to decide about.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast as as_type

from beamish import gen, telemetry
from beamish._address import Address
from beamish._answers import Stop
from beamish._client import call
from beamish._loop import ServerProcess, exc_info, exit_reason
from beamish._restart import Fate, Restarts, check_options, decide
from beamish._runtime.ids import Pid
from beamish._runtime.node import Node
from beamish._runtime.process import DEAD, EXITING, IDLE, MonitorRef, Process
from beamish._runtime.signals import INFO, Down, Exited
from beamish.child_spec import ChildSpec, validate
from beamish.errors import (
    KILLED,
    SHUTDOWN,
    AlreadyStarted,
    BadReturn,
    BeamishError,
    Ignored,
    Killed,
    Normal,
    Shutdown,
    StartError,
    clean,
    short,
)  # fmt: skip
from beamish.gen_server import GenServer, ServerMeta
from beamish.process import awaited, find

Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]

RESTARTED, GAVE_UP = telemetry.event("beamish.supervisor.restart"), telemetry.event("beamish.supervisor.gave_up")
_log = logging.getLogger("beamish.supervisor")


class SupervisorError(BeamishError):
    """A request that a supervisor refuses; it goes on."""


class NotFound(SupervisorError):
    """No child has that id."""


class AlreadyPresent(SupervisorError):
    """A child with that id is there, but does not run: `restart_child` or `delete_child` it."""


class StillRunning(SupervisorError):
    """The child runs: `terminate_child` it first."""


class Restarting(SupervisorError):
    """The child is between two attempts to restart it."""


@dataclass(frozen=True, slots=True)
class FailedToStart:
    """The detail of the Shutdown that a supervisor ends with when a child did not start."""

    id: Any
    reason: object


@dataclass(frozen=True, slots=True)
class ChildInfo:
    """One child, as `which_children` shows it. `child` is its address or pid, None, or "restarting"."""

    id: Any
    child: Address | Pid | Literal["restarting"] | None
    type: str
    start: Any


@dataclass(frozen=True, slots=True)
class ChildCounts:
    """`specs` in all, `active` (alive) ones, and how many of the specs are supervisors and workers."""

    specs: int
    active: int
    supervisors: int
    workers: int


class Child:
    """The supervisor's note about one child; the child's process refers to it (`record`)."""

    __slots__ = ("extra", "process", "restarting", "spec")

    def __init__(self, spec: ChildSpec[Any]) -> None:
        self.spec = spec
        self.process: Process | None = None
        self.restarting = False
        self.extra: tuple[Any, ...] = ()  # what a start function returned beside the process

    def started(self) -> Any:
        """What `start_child` and `restart_child` answer: what the start function returned."""
        return (self.address(), *self.extra) if self.extra and self.process is not None else self.address()

    def address(self) -> Any:
        if self.process is None:
            return None
        return self.process.label()


class Tree:
    """The state of a supervisor."""

    __slots__ = ("children", "me", "restarts", "strategy")

    def __init__(self, me: ServerProcess, strategy: Strategy, max_restarts: int, max_seconds: float) -> None:
        self.me = me
        self.strategy = strategy
        self.restarts = Restarts(max_restarts, max_seconds)
        self.children: dict[Any, Child] = {}  # in start order


@dataclass(frozen=True, slots=True)
class _TryAgain:
    """A failed restart, as a message of the supervisor to itself: other requests, and a shutdown, may come first."""

    child: Child


class Supervisor(GenServer[Tree]):
    """`Supervisor("name").start_link([specs], strategy=, max_restarts=, max_seconds=)`, `.child_spec(…)`; see the module.

    Strategies: "one_for_one" restarts the child that ended; "one_for_all" stops the others, last to first, and starts all
    again; "rest_for_one" does so for it and those started after it. Every method waits as long as it takes (as in OTP).
    """

    __timeout__: ClassVar[float | None] = None
    __shutdown__: ClassVar[Any] = None
    __kind__: ClassVar[Any] = "supervisor"

    async def init(
        self,
        children: Iterable[ChildSpec[Any]] = (),
        *,
        strategy: Strategy = "one_for_one",
        max_restarts: int = 3,
        max_seconds: float = 5.0,
    ) -> Tree | Stop[Any]:
        check_options(strategy, max_restarts, max_seconds)
        me = as_type(ServerProcess, self._process)
        me.trap = True
        tree = Tree(me, strategy, max_restarts, max_seconds)
        try:
            return await self._start_children(tree, validate(children))
        except asyncio.CancelledError:
            await _stop_all(tree)  # the start was given up
            raise

    async def _start_children(self, tree: Tree, specs: list[ChildSpec[Any]]) -> Tree | Stop[Any]:
        for spec in specs:
            child = Child(spec)
            tree.children[spec.id] = child
            problem = _start(tree, child)
            if problem is not None and not isinstance(problem, _Failed):
                problem = await problem
            if problem is not None:
                _report(tree, child, "start_error", problem.reason, problem.info)
                del tree.children[spec.id]
                await _stop_all(tree)
                return Stop(Shutdown(FailedToStart(spec.id, problem.reason)))
        return tree

    def handle_info(self, state: Tree, message: Any) -> Any:
        match message:
            case Exited(pid=Process() as process, reason=reason):
                child = process.record
                process.record = None
                if isinstance(child, Child) and child.process is process:
                    child.process = None
                    return _ended(state, child, reason)
            case _TryAgain(child=child):
                if child.restarting and state.children.get(child.spec.id) is child:
                    return _restart(state, child)
            case _:
                _log.error("%r got an unexpected message: %s", self, short(message))
        return None

    async def terminate(self, state: Tree, reason: Any) -> None:
        await _stop_all(state)

    # -- the client's side

    async def start_child(self, spec: ChildSpec[Any]) -> Any:
        """Add a child, last in the order, and start it: its address or pid, or None if its init returned Ignore().

        Raises AlreadyStarted, AlreadyPresent, StartError (the spec is not kept), BadChildSpec.
        """
        validate([spec])
        return _unwrap(await self._start_child(spec))

    async def terminate_child(self, id: Any) -> None:
        """Stop a child and keep its spec (a temporary one's is forgotten). NotFound."""
        _unwrap(await self._terminate_child(id))

    async def restart_child(self, id: Any) -> Any:
        """Start a child that does not run. NotFound, StillRunning, Restarting, StartError."""
        return _unwrap(await self._restart_child(id))

    async def delete_child(self, id: Any) -> None:
        """Forget a child that does not run. NotFound, StillRunning, Restarting."""
        _unwrap(await self._delete_child(id))

    async def get_childspec(self, id: Any) -> ChildSpec[Any]:
        """The spec of a child. NotFound."""
        return as_type("ChildSpec[Any]", _unwrap(await self._get_childspec(id)))

    @call
    def which_children(self, state: Tree) -> list[ChildInfo]:
        """The children, last started first."""
        found = [
            ChildInfo(child.spec.id, "restarting" if child.restarting else child.address(), child.spec.type, child.spec.start)
            for child in state.children.values()
        ]
        return found[::-1]

    @call
    def count_children(self, state: Tree) -> ChildCounts:
        """How many there are, and how many of them run."""
        children = state.children.values()
        supervisors = sum(child.spec.type == "supervisor" for child in children)
        active = sum(child.process is not None and child.process.alive for child in children)
        return ChildCounts(len(children), active, supervisors, len(children) - supervisors)

    @call
    def _start_child(self, state: Tree, spec: ChildSpec[Any]) -> Any:
        there = state.children.get(spec.id)
        if there is not None:
            if there.process is not None:
                return _Refused(AlreadyStarted(there.address(), spec.id))
            return _Refused(AlreadyPresent(f"a child {short(spec.id)} is there, but does not run: restart_child or delete_child it"))
        child = Child(spec)
        state.children[spec.id] = child
        problem = _start(state, child)
        return _added(state, child, problem) if problem is None or isinstance(problem, _Failed) else _adding(state, child, problem)

    @call
    async def _terminate_child(self, state: Tree, id: Any) -> object:
        child = state.children.get(id)
        if child is None:
            return _not_found(state, id)
        child.restarting = False
        await _stop_child(state, child)
        if child.spec.restart == "temporary":
            del state.children[id]
        return None

    @call
    async def _restart_child(self, state: Tree, id: Any) -> object:
        child = state.children.get(id)
        refused = _refuse(state, child, id)
        if refused is not None or child is None:
            return refused
        problem = _start(state, child)
        if problem is not None and not isinstance(problem, _Failed):
            problem = await problem
        if problem is not None:
            _report(state, child, "start_error", problem.reason, problem.info)
            return _Refused(StartError(problem.reason, child.spec.id))
        return child.started()

    @call
    def _delete_child(self, state: Tree, id: Any) -> Any:
        child = state.children.get(id)
        refused = _refuse(state, child, id)
        if refused is None:
            del state.children[id]
        return refused

    @call
    def _get_childspec(self, state: Tree, id: Any) -> Any:
        child = state.children.get(id)
        return _not_found(state, id) if child is None else child.spec


@dataclass(frozen=True, slots=True)
class _Refused:
    """An error for the client: raised there, not here."""

    error: BaseException


def _unwrap(answer: Any) -> Any:
    if isinstance(answer, _Refused):
        raise answer.error
    return answer


def _not_found(tree: Tree, id: Any) -> _Refused:
    return _Refused(NotFound(f"no child has the id {short(id)}. There are: {short(list(tree.children))}"))


def _refuse(tree: Tree, child: Child | None, id: Any) -> _Refused | None:
    if child is None:
        return _not_found(tree, id)
    if child.restarting:
        return _Refused(Restarting(f"the child {short(id)} is being restarted"))
    if child.process is not None:
        return _Refused(StillRunning(f"the child {short(id)} runs: terminate_child it first"))
    return None


# --- starting one child -----------------------------------------------------------------------------------------------


class _Failed:
    """A start that failed, and what of."""

    __slots__ = ("info", "reason")

    def __init__(self, reason: object, info: Any = None) -> None:
        self.reason = reason
        self.info = info


def _start(tree: Tree, child: Child) -> _Failed | Coroutine[Any, Any, _Failed | None] | None:
    """Start a child: None when it runs (or is ignored), the failure, or a coroutine that comes to one of the two."""
    spec = child.spec
    child.restarting = False
    if not isinstance(spec.start, ServerMeta):
        return _start_function(tree, child)
    try:
        process = gen.begin(tree.me.node, as_type(Any, spec.start), spec.args, spec.kwargs, tree.me, spec.name, child)
    except BaseException as error:
        return _start_failed(tree, child, error)
    child.process = process
    if process.status == IDLE:
        return None
    return _finish_start(tree, child, process)


async def _finish_start(tree: Tree, child: Child, process: ServerProcess) -> _Failed | None:
    try:
        await gen.begun(process, child.spec.timeout)
    except BaseException as error:
        if process.alive:
            raise  # cancelled when it ran already: it is stopped in its turn
        process.record = child.process = None
        return _start_failed(tree, child, error)
    return None


async def _start_function(tree: Tree, child: Child) -> _Failed | None:
    spec = child.spec
    try:
        value = await spec.start(*spec.args, **spec.kwargs)
        found: Any = as_type(Any, value[0] if isinstance(value, tuple) and value else value)
        if not isinstance(found, Address | Pid):
            raise BadReturn(f"the start function of {short(spec.id)}", value, "the address or pid of what it started")
        process = find(found)
    except BaseException as error:
        return _start_failed(tree, child, error)
    if process is None or process.status == DEAD:
        return _Failed(process.reason if process is not None else KILLED)
    child.process = process
    process.record = child
    child.extra = value[1:] if isinstance(value, tuple) else ()
    return None


def _start_failed(tree: Tree, child: Child, error: BaseException) -> _Failed | None:
    match error:
        case Ignored():
            if child.spec.restart == "temporary":
                tree.children.pop(child.spec.id, None)
            return None
        case AlreadyStarted():
            return _Failed(error)
        case StartError(reason=reason):
            return _Failed(reason)
        case Exception():
            info = exc_info(error)
            return _Failed(exit_reason(error), info)
        case _:
            raise error


def _added(tree: Tree, child: Child, problem: _Failed | None) -> Any:
    if problem is None:
        return child.started()
    tree.children.pop(child.spec.id, None)
    _report(tree, child, "start_error", problem.reason, problem.info)
    if isinstance(problem.reason, AlreadyStarted):
        return _Refused(problem.reason)
    return _Refused(StartError(problem.reason, short(child.spec.id)))


async def _adding(tree: Tree, child: Child, start: Coroutine[Any, Any, _Failed | None]) -> Any:
    return _added(tree, child, await start)


# --- a child ended ----------------------------------------------------------------------------------------------------


def _ended(tree: Tree, child: Child, reason: object) -> Any:
    """By itself: what its restart type and the reason say."""
    if tree.me.node.ending():
        return None  # everything is being stopped: nothing is restarted any more
    fate = decide(child.spec.restart, reason)
    if fate is Fate.RESTART or not clean(reason):
        _report(tree, child, "child_terminated", reason)
    if fate is Fate.RESTART:
        return _restart(tree, child, reason)
    if fate is Fate.FORGET:
        del tree.children[child.spec.id]
    return None


def _restart(tree: Tree, child: Child, reason: object = None) -> Any:
    """One restart, counted; a coroutine where it takes waiting, Stop when it is one too many."""
    child.restarting = True
    if tree.restarts.add(tree.me.node.clock.now()):
        _report(tree, child, "shutdown", "reached_max_restart_intensity")
        if GAVE_UP.handlers:
            GAVE_UP.execute(
                {"restarts": len(tree.restarts.seconds)},
                {"supervisor": tree.me.label(), "pid": tree.me, "id": child.spec.id, "reason": reason},
            )
        child.restarting = False
        return Stop(SHUTDOWN)
    if tree.strategy != "one_for_one":
        return _restart_group(tree, child, reason)
    problem = _start(tree, child)
    if problem is None:
        _restarted(tree, child, reason)
    elif isinstance(problem, _Failed):
        _try_again(tree, child, problem)
    else:
        return _restart_later(tree, child, problem, reason)
    return None


async def _restart_later(tree: Tree, child: Child, start: Coroutine[Any, Any, _Failed | None], reason: object) -> None:
    problem = await start
    if problem is None:
        _restarted(tree, child, reason)
    else:
        _try_again(tree, child, problem)


async def _restart_group(tree: Tree, child: Child, reason: object) -> None:
    """one_for_all, rest_for_one: stop the others last to first (temporary ones for good), start them all in order."""
    everyone = list(tree.children.values())
    group = everyone if tree.strategy == "one_for_all" else everyone[everyone.index(child) :]
    for sibling in reversed(group):
        await _stop_child(tree, sibling)
        if sibling is not child and sibling.spec.restart == "temporary":
            del tree.children[sibling.spec.id]
    for sibling in group:
        if tree.children.get(sibling.spec.id) is not sibling:
            continue
        problem = _start(tree, sibling)
        if problem is not None and not isinstance(problem, _Failed):
            problem = await problem
        if problem is not None:
            child.restarting = False
            _try_again(tree, sibling, problem)
            return
        _restarted(tree, sibling, reason)


def _restarted(tree: Tree, child: Child, reason: object) -> None:
    if RESTARTED.handlers:
        facts = {"supervisor": tree.me.label(), "id": child.spec.id, "pid": child.process, "reason": reason, "strategy": tree.strategy}
        RESTARTED.execute({"count": len(tree.restarts.seconds)}, facts)


def _try_again(tree: Tree, child: Child, problem: _Failed) -> None:
    _report(tree, child, "start_error", problem.reason, problem.info)
    child.restarting = True
    tree.me.post((INFO, _TryAgain(child), None, None))


# --- stopping children ------------------------------------------------------------------------------------------------


async def _stop_all(tree: Tree) -> None:
    for child in reversed(list(tree.children.values())):
        if tree.me.status != DEAD:
            await _stop_child(tree, child)


async def _stop_child(tree: Tree, child: Child) -> None:
    """Ask it to end, wait for its shutdown time, then KILL. Its Exited, when it comes, means nothing any more."""
    process, child.process = child.process, None
    child.restarting = False
    if process is None:
        return
    process.record = None
    if process.status == DEAD:
        return
    reason = await shut_down(tree.me, process, child.spec.shutdown)
    fine = isinstance(reason, Killed) if _brutal(child.spec.shutdown) else isinstance(reason, Shutdown) and reason.detail is None
    if not fine and not (child.spec.restart != "permanent" and isinstance(reason, Shutdown | Normal)):
        _report(tree, child, "shutdown_error", reason)


async def shut_down(source: Process, process: Process, shutdown: float | str | None) -> object:
    """End `process` as a supervisor does, and wait until it is dead. The reason that it died of."""
    ref = MonitorRef(None, process, process)
    if _brutal(shutdown):
        process.kill()
    else:
        process.signal(source, SHUTDOWN, by_link=False)
    down = await _through_the_end(source, ref, as_type("float | None", shutdown))
    if down is None:
        process.kill()
        down = await _through_the_end(source, ref, None)
    assert down is not None
    return down.reason


async def _through_the_end(source: Process, ref: MonitorRef, timeout: float | None) -> Down | None:
    """Wait, also while asyncio cancels every task because the loop ends: this is what is to be done then."""
    while True:
        try:
            return await awaited(ref, timeout)
        except asyncio.CancelledError:
            if not source.node.ending() or source.status in (EXITING, DEAD):
                raise


def _brutal(shutdown: object) -> bool:
    return shutdown == "brutal_kill" or shutdown == 0


async def _stop_tree(process: Process) -> None:
    """How the end of the loop stops what plain asyncio code has started: supervisors take their time, others 5 s."""
    shutdown = process.cls.__shutdown__ if isinstance(process, ServerProcess) else 5.0
    await shut_down(process.node.root, process, shutdown)


Node.stop_tree = staticmethod(_stop_tree)


# --- reports ----------------------------------------------------------------------------------------------------------


def _report(tree: Tree, child: Child, what: str, reason: object, info: Any = None) -> None:
    """OTP's supervisor reports: child_terminated, start_error, shutdown, shutdown_error."""
    if not _log.isEnabledFor(logging.ERROR):
        return
    facts = {"supervisor": tree.me.label(), "context": what, "reason": reason, "child": child.spec.id, "restart": child.spec.restart}
    _log.error(
        "%r: %s\n  child: %s (%s)\n  reason: %s",
        facts["supervisor"],
        what,
        short(child.spec.id),
        child.spec.restart,
        short(reason),
        exc_info=info,
        extra=facts,
    )
