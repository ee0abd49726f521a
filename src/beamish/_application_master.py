"""The process behind a running application: it starts the tree, watches it, and says the last words. OTP's application master.

    start → start phases → Running … stop() or the tree's own end … prep_stop → tree down → stop → `over`

It is linked to the node's root, not to whoever starts the application, so that the end of the loop stops it in its turn.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, cast as as_type

from beamish._address import Address
from beamish._answers import Stop
from beamish._children import shut_down
from beamish._client import call
from beamish._loop import ServerProcess
from beamish._runtime.ids import Pid
from beamish._runtime.process import DEAD, MonitorRef, Process
from beamish._runtime.signals import Exited
from beamish.child_spec import Restart, validate
from beamish.errors import AlreadyStarted, BadReturn, StartError
from beamish.gen_server import GenServer
from beamish.process import find
from beamish.supervisor import Supervisor

if TYPE_CHECKING:
    from beamish.application import Application

_log = logging.getLogger("beamish.application")


class Running:
    """One application, from its start to its end."""

    __slots__ = ("app", "leaving", "over", "requested", "state", "tree", "type", "up")

    tree: Process

    def __init__(self, app: Application, type: Restart, up: Callable[[Running], None], over: Callable[[Running, object], None]) -> None:
        self.app = app
        self.type: Restart = type
        self.state: Any = None  # the application's own
        self.requested = False  # whether somebody has asked for its end
        self.leaving = False  # whether it is on its way, asked for or not
        self.up = up
        self.over = over

    @property
    def master(self) -> ApplicationMaster:
        return ApplicationMaster(master_name(self.app.name))


def master_name(name: str) -> str:
    """What the process of the application `name` is registered as."""
    return f"application:{name}"


class ApplicationMaster(GenServer[Running]):
    """The address of an application's own process; its name is "application:<name>"."""

    __timeout__: ClassVar[float | None] = None
    __shutdown__: ClassVar[Any] = None
    __kind__: ClassVar[Any] = "supervisor"

    async def init(self, running: Running) -> Running | Stop[Any]:
        me = as_type(ServerProcess, self._process)
        me.trap = True
        try:
            running.tree, running.state = await _started(running.app, me)
            for phase, args in running.app.start_phases.items():
                await _done(running.app.start_phase(phase, args))
        except BaseException as error:
            await _undo(me)
            if isinstance(error, StartError) and not isinstance(error, AlreadyStarted):
                return Stop(error.reason)
            raise
        if running.tree.status == DEAD:
            return Stop(running.tree.reason)
        _Watch(me, running)
        running.up(running)
        return running

    @call
    def ready(self, state: Running) -> None:
        """Answered when it runs; ServerDown when it does not come to that."""

    def handle_info(self, state: Running, message: Any) -> Stop[Any] | None:
        if type(message) is Exited and message.pid is state.tree:
            return Stop(message.reason)
        return None

    async def terminate(self, state: Running, reason: Any) -> None:
        state.leaving = True
        app, kept = state.app, state.state
        try:
            kept = await _done(app.prep_stop(kept))
        except Exception as error:
            _log.error("prep_stop of %r raised %s; it is stopped all the same", app, type(error).__name__, exc_info=error)
        if state.tree.status != DEAD:
            await shut_down(as_type(Process, self._process), state.tree, None)
        try:
            await _done(app.stop(kept))
        except Exception as error:
            _log.error("stop of %r raised %s; it is stopped all the same", app, type(error).__name__, exc_info=error)


class _Watch(MonitorRef):
    """Acts at once when an application is over, however it came to that: by a KILL, say."""

    __slots__ = ("running",)

    def __init__(self, process: Process, running: Running) -> None:
        self.running = running
        super().__init__(None, process, process)

    def fire(self, reason: object) -> None:
        self.stop()
        self.running.over(self.running, reason)


async def _done(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


async def _started(app: Application, me: Process) -> tuple[Process, Any]:
    """Run the application's `start`: its topmost process, linked to `me`, and the state that it returned."""
    value: Any = await _done(app.start())
    tree, state = _pair(value)
    if isinstance(tree, list):
        specs = validate(tree)
        tree = await Supervisor.start_link(specs, strategy=app.strategy, max_restarts=app.max_restarts, max_seconds=app.max_seconds)
    process = find(tree) if isinstance(tree, Address | Pid) else None
    if process is None:
        expected = "a list of child specs, the address of what it has started, or one of these and a state: return tree, state"
        raise BadReturn(f"{type(app).__name__}.start", value, expected)
    if process.status == DEAD:
        raise StartError(process.reason)
    if process.parent is not me or not process.linked:  # it would not listen when it is told to stop
        raise BadReturn(f"{type(app).__name__}.start", value, "what `start` itself has started and linked: start_link, not start")
    return process, state


def _pair(value: Any) -> tuple[Any, Any]:
    """What `start` returned, as (tree, state)."""
    is_pair = isinstance(value, tuple) and len(value) == 2  # pyright: ignore[reportUnknownArgumentType]
    return value if is_pair else (value, None)  # pyright: ignore[reportUnknownVariableType]


async def _undo(me: Process) -> None:
    """A start that failed: what it had started is stopped, last first, before anybody is told."""
    for process in reversed(list(me.links or ())):
        if process.status != DEAD:
            await shut_down(me, process, None)
