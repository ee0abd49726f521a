"""An application: a part of a program that is started and stopped as a whole, after the parts that it needs. OTP's `application`.

    class Shop(Application):
        applications = (Database, Mailer)                # these run before it does
        env = {"limit": 100}                             # its configuration, by default

        def start(self) -> list[ChildSpec[Any]]:         # its supervision tree
            return [Orders("orders").child_spec(application.get_env(self, "limit"))]

    beamish.run(Shop)                                    # a program that is this application and those it needs

    await application.ensure_all_started(Shop)           # or inside of one
    await application.stop(Shop)

What can go wrong: NotStarted (it needs another one that does not run), DependencyCycle, StartError, and ApplicationTerminated,
which ends the program when a "permanent" application has ended by itself. Applications belong to one event loop, as servers do.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeGuard, cast as as_type

from beamish import _starting, gen
from beamish._address import Address
from beamish._application_master import ApplicationMaster, Running, master_name
from beamish._restart import Strategy
from beamish._runtime.ids import Pid
from beamish._runtime.node import Node, here
from beamish._runtime.process import MonitorRef, Process
from beamish.child_spec import ChildSpec, Restart
from beamish.errors import NORMAL, AlreadyStarted, BeamishError, CallExit, Crash, Normal, ServerDown, StartError, short
from beamish.process import awaited, spawn

_log = logging.getLogger("beamish.application")

#: The tree of an application: the children of its supervisor, or a process that was started for it.
Tree = list[ChildSpec[Any]] | Address | Pid
#: What `start` returns: the tree, or the pair of it and a state for `prep_stop` and `stop`.
Started = Tree | tuple[Tree, Any]


class ApplicationError(BeamishError):
    """What is refused about applications, or went wrong with one."""


class NotStarted(ApplicationError):
    """The application does not run. `name` says which."""

    def __init__(self, name: str, needed_by: str | None = None) -> None:
        if needed_by is None:
            text = f"the application {name!r} does not run, so there is nothing to stop or to ask"
        else:
            text = (
                f"the application {needed_by!r} needs {name!r}, which does not run: start that first, "
                "or use ensure_all_started, which starts all that is needed, in order"
            )
        super().__init__(text)
        self.name = name


class ApplicationAlreadyStarted(AlreadyStarted, ApplicationError):
    """The application runs already. `name` says which."""

    def __str__(self) -> str:
        return f"the application {self.name!r} runs already: stop it first, or use ensure_all_started, which passes over those that run"


class DependencyCycle(ApplicationError):
    """Applications that need each other, so that none can be the first. `cycle` has their names."""

    def __init__(self, cycle: tuple[str, ...]) -> None:
        super().__init__(f"no application can be started first, for each needs the next: {' → '.join((*cycle, cycle[0]))}")
        self.cycle = cycle


class ApplicationTerminated(ApplicationError):
    """An application ended by itself, and it was one that the program is not to go on without."""

    def __init__(self, name: str, type: Restart, reason: object) -> None:
        super().__init__(
            f"the {type} application {name!r} ended: {short(reason)}. The log says what its supervisor died of; "
            'an application without which the program is to go on is started as "temporary"'
        )
        self.name = name
        self.reason = reason
        if isinstance(reason, Crash):
            self.__cause__ = reason.error


class Application:
    """Derive from it; `start` is all that most need. The instance is made when the application is started.

    * `name`: by default the class's name in snake case. One application of a name runs at a time.
    * `applications`: those that it needs, as classes (or instances): they must run before it is started.
    * `env`: its configuration, by default; see `get_env` and `put_env`.
    * `start_phases`: phase → arguments; see `start_phase`.
    * `strategy`, `max_restarts` (3) and `max_seconds` (5.0) of its supervisor.

    Each callback may be `async def`. What is configured per program goes into `__init__`: `run(Shop(port=8000))`.
    """

    name: ClassVar[str] = "application"
    applications: ClassVar[Sequence[type[Application] | Application]] = ()
    env: Mapping[str, Any] = {}  # nobody changes it: put_env keeps its values elsewhere
    start_phases: ClassVar[Mapping[str, Any]] = {}
    strategy: ClassVar[Strategy] = "one_for_one"
    max_restarts: ClassVar[int] = 3
    max_seconds: ClassVar[float] = 5.0

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "name" not in cls.__dict__:
            cls.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", cls.__name__).lower()
        _check(cls)

    def start(self) -> Started | Awaitable[Started]:
        """Start the tree: return its children, for a supervisor that is made here, or the address of what you have started.

        `return tree, state` keeps a state for `prep_stop` and `stop` (else that is None). What it raises fails the start. One that
        does not override it has an empty tree: it stands for those that it needs.
        """
        return []

    def start_phase(self, phase: str, args: Any) -> object:
        """After `start`, for each of `start_phases` in their order. What it raises ends the tree again, and fails the start."""
        raise NotImplementedError(f"{type(self).__name__} has start_phases, so it needs a method start_phase(phase, args)")

    def prep_stop(self, state: Any) -> Any:
        """Before the tree is shut down, or when it has ended by itself. What it returns is the state that `stop` gets."""
        return state

    def stop(self, state: Any) -> object:
        """After the tree is down: release here what is not in it."""

    def __repr__(self) -> str:
        return f"<application {self.name!r}>"


AnApplication = type[Application] | Application


def _check(cls: type[Application]) -> None:
    """Refuse what no start could work with, where it is written."""
    name: Any = cls.name
    if not isinstance(name, str) or not name:
        raise TypeError(f"{cls.__name__}.name must be a non-empty str. Got: {name!r}")
    needed: Any = cls.applications
    if not isinstance(needed, tuple | list) or not all(is_application(one) for one in as_type("Iterable[Any]", needed)):
        got = short(cls.applications)
        raise TypeError(f"{cls.__name__}.applications must be a tuple of Application classes, such as (Database, Mailer). Got: {got}")
    for what in ("env", "start_phases"):
        if not isinstance(getattr(cls, what), Mapping):
            raise TypeError(f"{cls.__name__}.{what} must be a dict. Got: {short(getattr(cls, what))}")


def is_application(one: object) -> TypeGuard[AnApplication]:
    """Whether it is an Application class or an instance of one."""
    return isinstance(one, Application) or (isinstance(one, type) and issubclass(one, Application))


# --- the verbs --------------------------------------------------------------------------------------------------------


async def start(app: AnApplication, type: Restart = "temporary") -> None:
    """Start an application whose `applications` run. Returns when its `start` and its start phases are done.

    `type` says what its end means to the program, unless it is stopped: "temporary": a report; "permanent": the program ends
    too (ApplicationTerminated); "transient": so, unless the reason is NORMAL (which that of a supervisor never is).

    Raises NotStarted (one that it needs), ApplicationAlreadyStarted, StartError. If it is being started by somebody else, this
    waits for that. To be cancelled undoes the start.
    """
    await _start(_instance(app), type)


async def ensure_all_started(*apps: AnApplication, type: Restart = "temporary") -> list[Application]:
    """Start applications and all that they need, in order; returns those that did not run before, in the order of their start.

    If one of them does not start, those that were started here are stopped again. Raises DependencyCycle, StartError.
    """
    started: list[Application] = []
    try:
        for app in _order(apps):
            if not _table().runs(app) and await _start(app, type):
                started.append(app)  # noqa: PERF401  # one at a time: what is needed first
    except BaseException:
        for app in reversed(started):
            await _stop(app.name)
        raise
    return started


async def stop(app: AnApplication) -> None:
    """Stop an application: its prep_stop, its tree (each child within its shutdown time), its stop. NotStarted.

    Those that need it are not stopped; that order is the caller's business, as in OTP.
    """
    await _stop(_found(app).app.name)


async def stop_all() -> None:
    """Stop every application, last started first: what `run` does at the end of the program."""
    running = _table().running
    while running:
        await _stop(next(reversed(running)))


def which_applications() -> list[Application]:
    """The applications that run, last started first."""
    return [one.app for one in reversed(_table().running.values())]


def get_supervisor(app: AnApplication) -> Any:
    """The address (or pid) of an application's topmost process. NotStarted."""
    return _found(app).tree.label()


async def _start(app: Application, type: Restart) -> bool:
    """Whether it was started here; False when somebody else was at it, and it runs now."""
    if type not in ("permanent", "transient", "temporary"):
        raise ValueError(f'an application is "permanent", "transient" or "temporary". Got: {type!r}')
    node, table = here(), _table()
    await gen.not_dead(node.me())
    for needed in app.applications:
        if not table.runs(needed):
            raise NotStarted(needed.name, needed_by=app.name)
    name = master_name(app.name)
    while (there := node.whereis(name)) is not None:
        running = table.running.get(app.name)
        if running is None:
            await _joined(app)
            return False
        if not running.leaving:
            raise ApplicationAlreadyStarted(running.master, app.name)
        await awaited(MonitorRef(None, there, there), None)
    running = Running(app, type, table.up, table.over)
    try:
        # Under the root, so that a start that fails raises here instead of ending the process that asks for it.
        await _starting.begun(_starting.begin(node, ApplicationMaster, (running,), {}, node.root, name))
    except StartError as failed:
        raise StartError(failed.reason, app) from failed.__cause__
    except BaseException:
        running.requested = running.leaving = True  # given up by us, not ended by itself
        raise
    return True


async def _joined(app: Application) -> None:
    """Wait for a start that is on its way."""
    try:
        await ApplicationMaster(master_name(app.name)).ready()
    except ServerDown as down:
        raise StartError(down.reason, app) from down.__cause__


async def _stop(name: str) -> None:
    running = _table().running.get(name)
    if running is None:
        return
    running.requested = running.leaving = True
    try:
        await gen.stop(running.master, NORMAL)
    except CallExit as error:
        if error.reason == "calling_self":
            raise
        # else it ended by itself at the same moment: it is down, which is all that was wanted


# --- the environment --------------------------------------------------------------------------------------------------


def get_env(app: AnApplication, key: str, default: Any = None) -> Any:
    """What is configured for `app` under `key`: what was put there on this event loop, else what its class says, else `default`."""
    return get_all_env(app).get(key, default)


def fetch_env(app: AnApplication, key: str) -> Any:
    """The same for what must be there. KeyError, with the keys that are."""
    env = get_all_env(app)
    if key not in env:
        raise KeyError(f"{key!r} is not configured for the application {app.name!r}. There are: {', '.join(map(repr, env)) or 'none'}")
    return env[key]


def put_env(app: AnApplication, key: str, value: Any) -> None:
    """Configure `key`. It is read when somebody looks: what runs already is not told."""
    _table().env.setdefault(_checked(app).name, {})[key] = value


def delete_env(app: AnApplication, key: str) -> None:
    """Take back what was put there; the default of the class, if it has one, is in force again."""
    _table().env.get(_checked(app).name, {}).pop(key, None)


def get_all_env(app: AnApplication) -> dict[str, Any]:
    """All that is configured for `app`."""
    table, name = _table(), _checked(app).name
    running = table.running.get(name)
    return {**(app if running is None else running.app).env, **table.env.get(name, {})}


# --- what is kept for one event loop ----------------------------------------------------------------------------------


class _Table:
    """What runs, in the order of the starts, and what was configured."""

    __slots__ = ("env", "main", "node", "running")

    def __init__(self, node: Node) -> None:
        self.node = node
        self.running: dict[str, Running] = {}
        self.env: dict[str, dict[str, Any]] = {}
        self.main: Process | None = None  # of `run`: it ends with a permanent application

    def runs(self, app: AnApplication) -> bool:
        running = self.running.get(app.name)
        return running is not None and not running.leaving

    def up(self, running: Running) -> None:
        self.running[running.app.name] = running
        _log.info("%r started (%s)", running.app, running.type)

    def over(self, running: Running, reason: object) -> None:
        """An application has ended. If nobody has asked for that, the program may have to end too."""
        app = running.app
        del self.running[app.name]
        if running.requested or self.node.ending():
            _log.info("%r stopped", app)
            return
        _log.log(logging.INFO if isinstance(reason, Normal) else logging.ERROR, "%r (%s) ended: %s", app, running.type, short(reason))
        if running.type == "permanent" or (running.type == "transient" and not isinstance(reason, Normal)):
            self.end_program(ApplicationTerminated(app.name, running.type, reason))

    def end_program(self, error: ApplicationTerminated) -> None:
        if self.main is None:
            _log.critical("%s. There is no main of beamish.run to end, so all applications are stopped", error)
            spawn(stop_all)
        elif self.main.alive:
            self.main.begin_exit(Crash(error))


def _table() -> _Table:
    node = here()
    table: _Table | None = node.shelf.get(_Table)
    if table is None:
        table = node.shelf[_Table] = _Table(node)
    return table


def ends_with_applications(main: Process) -> None:
    """For `run`: the process that ends, with ApplicationTerminated, when a permanent application has."""
    _table().main = main


def _checked(app: AnApplication) -> AnApplication:
    if not is_application(app):
        raise TypeError(f"expected an Application class or instance. Got: {short(app)}")
    return app


def _instance(app: AnApplication) -> Application:
    _checked(app)
    return app() if isinstance(app, type) else app


def _found(app: AnApplication) -> Running:
    running = _table().running.get(_checked(app).name)
    if running is None:
        raise NotStarted(app.name)
    return running


def _order(apps: Iterable[AnApplication]) -> list[Application]:
    """These and all that they need, each after what it needs."""
    found: dict[str, Application] = {}
    path: list[str] = []

    def visit(one: AnApplication) -> None:
        if one.name in path:
            raise DependencyCycle(tuple(path[path.index(one.name) :]))
        if one.name in found:
            return
        app = _instance(one)
        path.append(app.name)
        for needed in app.applications:
            visit(needed)
        found[path.pop()] = app

    for one in apps:
        visit(_checked(one))
    return list(found.values())
