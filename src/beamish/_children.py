"""One child of a supervisor: how it is started, and how it is stopped. What a supervisor decides is not here."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Coroutine, Iterator, Mapping
from typing import Any, Never, cast as as_type

from beamish import _starting, telemetry
from beamish._address import Address
from beamish._answers import Stop
from beamish._loop import ServerProcess, exc_info, exit_reason
from beamish._restart import AutoShutdown, Restarts, Strategy
from beamish._runtime.ids import Pid
from beamish._runtime.node import Node
from beamish._runtime.process import DEAD, EXITING, IDLE, MonitorRef, Process
from beamish._runtime.signals import SYSTEM, Down
from beamish.child_spec import ChildSpec
from beamish.errors import KILLED, SHUTDOWN, AlreadyStarted, BadReturn, Ignored, Killed, Normal, Shutdown, StartError, short
from beamish.gen import Stopper
from beamish.gen_server import ServerMeta
from beamish.process import awaited, find

RESTARTED, GAVE_UP = telemetry.event("beamish.supervisor.restart"), telemetry.event("beamish.supervisor.gave_up")
_log = logging.getLogger("beamish.supervisor")


class Child:
    """The supervisor's note about one child; the child's process refers to it (`record`)."""

    __slots__ = ("extra", "process", "restarting", "spec", "tree")

    def __init__(self, tree: Tree, spec: ChildSpec[Any]) -> None:
        self.tree = tree
        self.spec = spec
        self.process: Process | None = None
        self.restarting = False
        self.extra: tuple[Any, ...] = ()  # what a start function returned beside the process

    @property
    def supervisor(self) -> Process:
        return self.tree.me

    def unlinked(self, process: Process, other: Process) -> None:
        """The child has unlinked itself: it stays in the table and is stopped in its turn, but its end is not heard of."""

    def started(self) -> Any:
        """What `start_child` and `restart_child` answer: what the start function returned."""
        return (self.address(), *self.extra) if self.extra and self.process is not None else self.address()

    def address(self) -> Any:
        if self.process is None:
            return None
        return self.process.label()


class Tree:
    """The state of a supervisor."""

    __slots__ = ("auto_shutdown", "children", "me", "restarts", "strategy")

    def __init__(self, me: ServerProcess, strategy: Strategy, max_restarts: int, max_seconds: float, auto_shutdown: AutoShutdown) -> None:
        self.me = me
        self.strategy: Strategy = strategy
        self.auto_shutdown: AutoShutdown = auto_shutdown
        self.restarts = Restarts(max_restarts, max_seconds)
        self.children: dict[Any, Child] = {}  # in start order


class Failed:
    """A start that failed, and what of."""

    __slots__ = ("info", "reason")

    def __init__(self, reason: object, info: Any = None) -> None:
        self.reason = reason
        self.info = info


Launched = Failed | Coroutine[Any, Any, Failed | None] | None

#: So many children are started with the garbage collector waiting.
MANY = 1000


def launch_row(tree: Tree, specs: Iterator[ChildSpec[Any]], *, many: bool) -> tuple[Child | None, Launched]:
    """Start the next children on this stack, up to one that fails or takes longer: that one, and what `launch` said of it.

    With many the garbage collector waits meanwhile: next to nothing becomes garbage here, and each of its full collections
    looks at all children again (100,000 of them: a quarter of the time). It is never off across an await.
    """
    collects, told = many and gc.isenabled(), _log.isEnabledFor(logging.INFO)
    if collects:
        gc.disable()
    try:
        for spec in specs:
            tree.children[spec.id] = child = Child(tree, spec)
            problem = launch(tree, child)
            if problem is not None:
                return child, problem
            if told:
                progress(tree.me, spec, child.process)
        return None, None
    finally:
        if collects:
            gc.enable()


def launch(tree: Tree, child: Child) -> Launched:
    """Start a child: None when it runs (or is ignored), the failure, or a coroutine that comes to one of the two."""
    spec = child.spec
    child.restarting = False
    cls: Any = spec.start
    if not isinstance(spec.start, ServerMeta):
        return _start_function(tree, child)
    try:
        process = _starting.begin(tree.me.node, cls, spec.args, spec.kwargs, tree.me, spec.name, child, spec.setup)
    except BaseException as error:
        return _start_failed(tree, child, error)
    child.process = process
    if process.status == IDLE:
        return None
    return _finish_start(tree, child, process)


async def _finish_start(tree: Tree, child: Child, process: ServerProcess) -> Failed | None:
    try:
        await _starting.begun(process, child.spec.timeout)
    except BaseException as error:
        if process.alive:
            raise  # cancelled when it ran already: it is stopped in its turn
        process.record = child.process = None
        return _start_failed(tree, child, error)
    return None


async def _start_function(tree: Tree, child: Child) -> Failed | None:
    try:
        process, child.extra = await started_by(child.spec, child.spec.args, child.spec.kwargs)
        refuse_stranger(tree.me, process)
    except BaseException as error:
        return _start_failed(tree, child, error)
    child.process = process
    process.record = child
    return None


def refuse_stranger(me: Process, process: Process) -> None:
    """A process has one supervisor: two would each restart it, and each think that the other's was its own."""
    other = process.record.supervisor if process.record is not None else me
    if other is not me and other.status != DEAD:
        raise StartError(f"{process.label()!r} is a child of {other.label()!r} already", f"a child of {me.label()!r}")


def _start_failed(tree: Tree, child: Child, error: BaseException) -> Failed | None:
    failed = failure(error)
    if failed is None and child.spec.restart == "temporary":
        tree.children.pop(child.spec.id, None)
    return failed


def failure(error: BaseException) -> Failed | None:
    """What an error of a start means to a supervisor; None for Ignored. What is no error of the start goes on."""
    match error:
        case Ignored():
            return None
        case AlreadyStarted():
            return Failed(error)
        case StartError(reason=reason):
            return Failed(reason)
        case Exception():
            info = exc_info(error)
            return Failed(exit_reason(error), info)
        case _:
            raise error


async def started_by(spec: ChildSpec[Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Process, tuple[Any, ...]]:
    """Run a start function: the process that it started, and what it returned beside it. StartError if that is gone already."""
    value: Any = await spec.start(*args, **kwargs)
    found: Any = as_type(Any, value[0] if isinstance(value, tuple) and value else value)
    if not isinstance(found, Address | Pid):
        raise BadReturn(f"the start function of {short(spec.id)}", value, "the address or pid of what it started")
    process = find(found)
    if process is None or process.status == DEAD:
        raise StartError(process.reason if process is not None else KILLED)
    return process, as_type(Any, value[1:]) if isinstance(value, tuple) else ()


# --- stopping children ------------------------------------------------------------------------------------------------


async def stop_all(tree: Tree) -> None:
    for child in reversed(list(tree.children.values())):
        if tree.me.status != DEAD:
            await stop_child(tree, child)


async def stop_child(tree: Tree, child: Child) -> None:
    """Ask it to end, wait for its shutdown time, then KILL. Its Exited, when it comes, means nothing any more."""
    process, child.process = child.process, None
    child.restarting = False
    if process is None:
        return
    process.record = None
    if process.status == DEAD:
        return
    reason = await shut_down(tree.me, process, child.spec.shutdown)
    if not expected(reason, child.spec):
        report(tree.me, child.spec, "shutdown_error", reason, pid=process)


def expected(reason: object, spec: ChildSpec[Any]) -> bool:
    """Whether a child that was told to stop ended as it should, so that there is nothing to report."""
    if brutal(spec.shutdown):
        return isinstance(reason, Killed)
    if isinstance(reason, Shutdown) and reason.detail is None:
        return True
    return spec.restart != "permanent" and isinstance(reason, Shutdown | Normal)


async def shut_down(source: Process, process: Process, shutdown: float | str | None) -> object:
    """End `process` as a supervisor does, and wait until it is dead. The reason that it died of."""
    ref = MonitorRef(None, process, process)
    if brutal(shutdown):
        process.kill()
    elif source is source.node.root and isinstance(process, ServerProcess) and process.parent is None and process.trap:
        process.post((SYSTEM, Stopper(SHUTDOWN), None, None))  # started without a link: it takes the root's signal for a stranger's
    else:
        process.signal(source, SHUTDOWN, by_link=False)
    down = await through_the_end(source, ref, as_type("float | None", shutdown))
    if down is None:
        process.kill()
        down = await through_the_end(source, ref, None)
    assert down is not None
    return down.reason


async def through_the_end(source: Process, ref: MonitorRef, timeout: float | None) -> Down | None:
    """Wait, also while asyncio cancels every task because the loop ends: this is what is to be done then."""
    while True:
        try:
            return await awaited(ref, timeout)
        except asyncio.CancelledError:
            if given_up(source):
                raise


def given_up(source: Process) -> bool:
    """After a cancellation: whether whoever stops its children is itself to end, and not only the loop."""
    return not source.node.ending() or source.status in (EXITING, DEAD)


def brutal(shutdown: object) -> bool:
    return shutdown == "brutal_kill" or shutdown == 0


async def _stop_tree(process: Process) -> None:
    """How the end of the loop stops what plain asyncio code has started: supervisors take their time, others 5 s."""
    shutdown = process.cls.__shutdown__ if isinstance(process, ServerProcess) else 5.0
    await shut_down(process.node.root, process, shutdown)


Node.stop_tree = staticmethod(_stop_tree)


# --- reports ----------------------------------------------------------------------------------------------------------


def report(supervisor: Process, spec: ChildSpec[Any], what: str, reason: object, info: Any = None, pid: Process | None = None) -> None:
    """OTP's supervisor reports: child_terminated, start_error, shutdown, shutdown_error."""
    if not _log.isEnabledFor(logging.ERROR):
        return
    facts = {**_offender(supervisor, spec, pid), "context": what, "reason": reason}
    _log.error(
        "%r: %s\n  child: %s (%s)\n  reason: %s", facts["supervisor"], what, short(spec.id), spec.restart, short(reason),
        exc_info=info, extra=facts,
    )  # fmt: skip


def _offender(supervisor: Process, spec: ChildSpec[Any], pid: Process | None) -> dict[str, Any]:
    """The facts of a supervisor's report: OTP's `offender`."""
    return {
        "supervisor": supervisor.label(), "pid": pid, "server": spec.name or spec.id, "child": spec.id, "start": spec.start,
        "restart": spec.restart, "shutdown": spec.shutdown, "type": spec.type,
    }  # fmt: skip


def progress(supervisor: Process, spec: ChildSpec[Any], process: Process | None, verb: str = "started") -> None:
    """OTP's progress report: a child runs."""
    if process is not None and _log.isEnabledFor(logging.INFO):
        facts = {**_offender(supervisor, spec, process), "context": "progress"}
        _log.info("%r: %s %s as %r", facts["supervisor"], verb, short(spec.id), process, extra=facts)


def restarted(supervisor: Process, spec: ChildSpec[Any], process: Process | None, reason: object, strategy: Strategy, count: int) -> None:
    progress(supervisor, spec, process, "restarted")
    if RESTARTED.handlers:
        told = {"supervisor": supervisor.label(), "id": spec.id, "pid": process, "reason": reason, "strategy": strategy}
        RESTARTED.execute({"count": count}, told)


def gave_up(supervisor: Process, spec: ChildSpec[Any], limit: Restarts, reason: object) -> Stop[Never]:
    """More restarts than allowed: report it, and end."""
    text = f"reached_max_restart_intensity (max_restarts={limit.max_restarts} in {limit.max_seconds} s)"
    report(supervisor, spec, "shutdown", text)
    if GAVE_UP.handlers:
        facts = {"supervisor": supervisor.label(), "pid": supervisor, "id": spec.id, "reason": reason}
        GAVE_UP.execute({"restarts": len(limit.seconds)}, facts)
    return Stop(SHUTDOWN)
