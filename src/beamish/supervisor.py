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

from beamish._address import Address
from beamish._answers import Refuse, Stop
from beamish._children import MANY, Child, Failed, Tree, gave_up, launch, launch_row, progress, report, restarted, stop_all, stop_child
from beamish._client import call
from beamish._loop import ServerProcess
from beamish._restart import FORGET, RESTART, AutoShutdown as AutoShutdown, Strategy as Strategy, check_options, decide
from beamish._runtime.ids import Pid
from beamish._runtime.process import Process
from beamish._runtime.signals import INFO, Exited
from beamish.child_spec import ChildSpec, insignificant, validate
from beamish.errors import (
    SHUTDOWN,
    AlreadyStarted,
    BeamishError,
    FailedToStart,
    Shutdown,
    StartError,
    clean,
    short,
)  # fmt: skip
from beamish.gen_server import GenServer

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


@dataclass(frozen=True, slots=True)
class _TryAgain:
    """A failed restart, as a message of the supervisor to itself: other requests, and a shutdown, may come first."""

    child: Child


class Supervisor(GenServer[Tree]):
    """`Supervisor("name").start_link([specs], strategy=, max_restarts=, max_seconds=)`, `.child_spec(…)`; see the module.

    Strategies: "one_for_one" restarts the child that ended; "one_for_all" stops the others, last to first, and starts all
    again; "rest_for_one" does so for it and those started after it. Every method waits as long as it takes (as in OTP).

    `auto_shutdown`: "never"; "any_significant": end with SHUTDOWN as soon as one child with `significant=True` has ended by
    itself and is not restarted; "all_significant": when the last of them has.

    A supervisor with a class of its own, and its own arguments::

        class Shop(Supervisor):
            async def init(self, limit: int) -> Any:  # type: ignore[override]
                return await super().init([Cache("cache").child_spec(limit)], strategy="rest_for_one")

        shop = Shop("shop").child_spec(100)
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
        auto_shutdown: AutoShutdown = "never",
    ) -> Tree | Stop[Any]:
        check_options(strategy, max_restarts, max_seconds, auto_shutdown)
        me = as_type(ServerProcess, self._process)
        me.trap = True
        tree = Tree(me, strategy, max_restarts, max_seconds, auto_shutdown)
        specs = validate(children, auto_shutdown)
        try:
            return await self._start_children(tree, specs)
        except asyncio.CancelledError:
            await stop_all(tree)  # the start was given up
            raise

    async def _start_children(self, tree: Tree, specs: list[ChildSpec[Any]]) -> Tree | Stop[Any]:
        rest = iter(specs)
        while True:
            child, problem = launch_row(tree, rest, many=len(specs) >= MANY)
            if child is None:
                return tree
            if problem is not None and not isinstance(problem, Failed):
                problem = await problem
            if problem is None:
                progress(tree.me, child.spec, child.process)
            else:
                report(tree.me, child.spec, "start_error", problem.reason, problem.info)
                del tree.children[child.spec.id]
                await stop_all(tree)
                return Stop(Shutdown(FailedToStart(child.spec.id, problem.reason)))

    def handle_info(self, state: Tree, message: Any) -> Any:
        if type(message) is Exited:  # by type: class patterns take 0.4 µs more
            process = as_type(Process, message.pid)
            child = process.record
            if type(child) is Child and child.process is process and child.tree is state:
                process.record = child.process = None
                return _ended(state, child, process, message.reason)
        elif type(message) is _TryAgain:
            child = message.child
            if child.restarting and state.children.get(child.spec.id) is child:
                return _restart(state, child)
        else:
            facts = {"context": "unexpected_message", "supervisor": self, "message_": message}
            _log.error("%r got an unexpected message: %s", self, short(message), extra=facts)
        return None

    async def terminate(self, state: Tree, reason: Any) -> None:
        await stop_all(state)

    # -- the client's side

    def start_child(self, spec: ChildSpec[Any]) -> Coroutine[Any, Any, Any]:
        """Add a child, last in the order, and start it: its address or pid, or None if its init returned Ignore().

        Raises AlreadyStarted, AlreadyPresent, StartError (the spec is not kept), BadChildSpec.
        """
        validate([spec])
        return self._start_child(spec)

    def terminate_child(self, id: Any) -> Coroutine[Any, Any, None]:
        """Stop a child and keep its spec (a temporary one's is forgotten). NotFound."""
        return as_type("Coroutine[Any, Any, None]", self._terminate_child(id))

    def restart_child(self, id: Any) -> Coroutine[Any, Any, Any]:
        """Start a child that does not run. NotFound, StillRunning, Restarting, StartError."""
        return self._restart_child(id)

    def delete_child(self, id: Any) -> Coroutine[Any, Any, None]:
        """Forget a child that does not run. NotFound, StillRunning, Restarting."""
        return as_type("Coroutine[Any, Any, None]", self._delete_child(id))

    def get_childspec(self, id: Any) -> Coroutine[Any, Any, ChildSpec[Any]]:
        """The spec of a child. NotFound."""
        return self._get_childspec(id)

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
        if spec.significant and state.auto_shutdown == "never":
            return Refuse(insignificant(spec))
        there = state.children.get(spec.id)
        if there is not None:
            if there.process is not None:
                return Refuse(AlreadyStarted(there.address(), spec.id))
            return Refuse(AlreadyPresent(f"a child {short(spec.id)} is there, but does not run: restart_child or delete_child it"))
        child = Child(state, spec)
        state.children[spec.id] = child
        problem = launch(state, child)
        return _added(state, child, problem) if problem is None or isinstance(problem, Failed) else _adding(state, child, problem)

    @call
    async def _terminate_child(self, state: Tree, id: Any) -> object:
        child = state.children.get(id)
        if child is None:
            return _not_found(state, id)
        child.restarting = False
        await stop_child(state, child)
        if child.spec.restart == "temporary":
            del state.children[id]
        return None

    @call
    async def _restart_child(self, state: Tree, id: Any) -> object:
        child = state.children.get(id)
        refused = _refuse(state, child, id)
        if refused is not None or child is None:
            return refused
        problem = launch(state, child)
        if problem is not None and not isinstance(problem, Failed):
            problem = await problem
        if problem is not None:
            report(state.me, child.spec, "start_error", problem.reason, problem.info)
            return Refuse(StartError(problem.reason, child.spec.id))
        progress(state.me, child.spec, child.process)
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


def _not_found(tree: Tree, id: Any) -> Refuse:
    return Refuse(NotFound(f"no child has the id {short(id)}. There are: {short(list(tree.children))}"))


def _refuse(tree: Tree, child: Child | None, id: Any) -> Refuse | None:
    if child is None:
        return _not_found(tree, id)
    if child.restarting:
        return Refuse(Restarting(f"the child {short(id)} is being restarted"))
    if child.process is not None:
        return Refuse(StillRunning(f"the child {short(id)} runs: terminate_child it first"))
    return None


# --- a new child----------------------------------------


def _added(tree: Tree, child: Child, problem: Failed | None) -> Any:
    if problem is None:
        progress(tree.me, child.spec, child.process)
        if child.spec.restart == "temporary":
            child.spec = child.spec.replace(args=(), kwargs={})  # never started again: nothing of them is kept, as in OTP
        return child.started()
    tree.children.pop(child.spec.id, None)
    report(tree.me, child.spec, "start_error", problem.reason, problem.info)
    if isinstance(problem.reason, AlreadyStarted):
        return Refuse(problem.reason)
    return Refuse(StartError(problem.reason, short(child.spec.id)))


async def _adding(tree: Tree, child: Child, start: Coroutine[Any, Any, Failed | None]) -> Any:
    return _added(tree, child, await start)


# --- a child ended ----------------------------------------------------------------------------------------------------


def _ended(tree: Tree, child: Child, process: Process, reason: object) -> Any:
    """By itself: what its restart type and the reason say."""
    if tree.me.node.ending():
        return None  # everything is being stopped: nothing is restarted any more
    fate = decide(child.spec.restart, reason)
    if fate is RESTART or not clean(reason):
        report(tree.me, child.spec, "child_terminated", reason, pid=process)
    if fate is RESTART:
        return _restart(tree, child, reason)
    if fate is FORGET:
        del tree.children[child.spec.id]
    return Stop(SHUTDOWN) if child.spec.significant and _shuts_down(tree) else None


def _shuts_down(tree: Tree) -> bool:
    """Whether the supervisor ends, now that a significant child has left by itself and is not restarted (OTP 24)."""
    if tree.auto_shutdown == "all_significant":
        return not any(child.spec.significant and (child.process is not None or child.restarting) for child in tree.children.values())
    return tree.auto_shutdown == "any_significant"


def _restart(tree: Tree, child: Child, reason: object = None) -> Any:
    """One restart, counted; a coroutine where it takes waiting, Stop when it is one too many."""
    child.restarting = True
    if tree.restarts.add(tree.me.node.clock.now()):
        child.restarting = False
        return gave_up(tree.me, child.spec, tree.restarts, reason)
    if tree.strategy != "one_for_one":
        return _restart_group(tree, child, reason)
    problem = launch(tree, child)
    if problem is None:
        _restarted(tree, child, reason)
    elif isinstance(problem, Failed):
        _try_again(tree, child, problem)
    else:
        return _restart_later(tree, child, problem, reason)
    return None


async def _restart_later(tree: Tree, child: Child, start: Coroutine[Any, Any, Failed | None], reason: object) -> None:
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
        await stop_child(tree, sibling)
        if sibling is not child and sibling.spec.restart == "temporary":
            del tree.children[sibling.spec.id]
    for sibling in group:
        if tree.children.get(sibling.spec.id) is not sibling:
            continue
        problem = launch(tree, sibling)
        if problem is not None and not isinstance(problem, Failed):
            problem = await problem
        if problem is not None:
            child.restarting = False
            _try_again(tree, sibling, problem)
            return
        _restarted(tree, sibling, reason)


def _restarted(tree: Tree, child: Child, reason: object) -> None:
    restarted(tree.me, child.spec, child.process, reason, tree.strategy, len(tree.restarts.seconds))


def _try_again(tree: Tree, child: Child, problem: Failed) -> None:
    report(tree.me, child.spec, "start_error", problem.reason, problem.info)
    child.restarting = True
    tree.me.post((INFO, _TryAgain(child), None, None))
