"""A supervisor of children that come and go: one per user, per connection, per job.

    rooms = DynamicSupervisor("rooms")                       # in a tree: rooms.child_spec(max_children=10_000)
    room = await rooms.start_child(Room.child_spec("lobby"))
    await rooms.terminate_child(room)

It starts without children, knows them by pid and not by id, restarts each on its own (one_for_one), and stops all of them at
the same time. A child costs it nothing but its link: it keeps no table, and of a temporary one not even the arguments.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import sleep
from collections.abc import Coroutine, Iterator, Mapping
from typing import Any, ClassVar, TypeVar, cast as as_type

from beamish import _starting
from beamish._answers import Refuse
from beamish._children import Failed, brutal, expected, failure, gave_up, given_up, refuse_stranger, report, restarted, started_by
from beamish._client import call
from beamish._loop import ServerProcess
from beamish._restart import FORGET, KEEP, RESTART, Restarts, check_options, decide
from beamish._runtime.node import SLICE
from beamish._runtime.process import DEAD, IDLE, MonitorRef, Process
from beamish._runtime.signals import INFO, Exited
from beamish.child_spec import BadChildSpec, ChildSpec, validate
from beamish.errors import SHUTDOWN, AlreadyStarted, Ignored, StartError, clean, short
from beamish.gen_server import GenServer, ServerMeta
from beamish.process import Target, find
from beamish.supervisor import ChildCounts, ChildInfo, NotFound, SupervisorError

R = TypeVar("R")
_log = logging.getLogger("beamish.supervisor")


class MaxChildren(SupervisorError):
    """The supervisor has as many children as its `max_children` allows, those being restarted included."""


class _Note:
    """What a supervisor knows about a child; the child's process refers to it (`record`).

    `spec` is without arguments and shared by all children of a kind; temporary ones share the whole note.
    """

    __slots__ = ("args", "crowd", "kwargs", "name", "spec")

    def __init__(self, crowd: Crowd, spec: ChildSpec[Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], name: Any = None) -> None:
        self.crowd = crowd
        self.spec = spec
        self.args = args  # those of the supervisor first
        self.kwargs = kwargs
        self.name = name  # that it is started under, not one that it takes itself

    @property
    def supervisor(self) -> Process:
        return self.crowd.me

    def unlinked(self, process: Process, other: Process) -> None:
        """The child has unlinked itself: it is stopped with the others all the same."""
        if other is self.crowd.me:
            self.crowd.strays[process] = None

    def shown(self, process: Process | None = None) -> ChildSpec[Any]:
        """The spec as a report shows it."""
        name = self.name if self.name is not None or process is None else process.name
        return self.spec if name is None else self.spec.replace(name=name)


class Crowd:
    """The state of a dynamic supervisor. Its children are those of its links that have a note of it."""

    __slots__ = ("count", "extra_arguments", "max_children", "me", "notes", "restarting", "restarts", "strays")

    def __init__(self, me: ServerProcess, max_children: int | None, extra_arguments: tuple[Any, ...], restarts: Restarts) -> None:
        self.me = me
        self.count = 0  # children that run, and those being restarted
        self.max_children = max_children
        self.extra_arguments = extra_arguments
        self.restarts = restarts
        self.restarting: dict[Process, _Waiting] = {}  # by the one that ended, by which clients know it
        self.strays: dict[Process, None] = {}  # children that have unlinked themselves
        self.notes: dict[Any, _Note] = {}  # by kind of child

    def children(self) -> Iterator[tuple[Process, _Note]]:
        """Those that run, in the order of their starts (strays last)."""
        for process in dict.fromkeys([*(self.me.links or ()), *self.strays]):
            note = process.record
            if type(note) is _Note and note.crowd is self and process.status != DEAD:
                yield process, note

    def note(self, spec: ChildSpec[Any], args: tuple[Any, ...]) -> _Note:
        """The note of a new child: for one that is never restarted the arguments need not be kept."""
        kind = (spec.start, None if spec.name is not None else spec.id, spec.restart, spec.shutdown, spec.type, spec.timeout, spec.setup)
        try:
            shared = self.notes.get(kind)
        except TypeError:  # a start function or debug option without a hash: nothing to share
            return self._note(spec, args)
        if shared is None:
            if len(self.notes) >= 100:
                self.notes.clear()  # every child has its own id: nothing to share
            id = spec.id if spec.name is None else spec.start
            shared = self.notes[kind] = _Note(self, spec.replace(id=id, args=(), kwargs={}, name=None), (), {})
        return shared if spec.restart == "temporary" else _Note(self, shared.spec, args, spec.kwargs, spec.name)

    def _note(self, spec: ChildSpec[Any], args: tuple[Any, ...]) -> _Note:
        kept = spec.restart != "temporary"
        return _Note(self, spec.replace(args=(), kwargs={}, name=None), args if kept else (), spec.kwargs if kept else {}, spec.name)


class _Waiting:
    """A child between two attempts to restart it; also the message that asks for the next one."""

    __slots__ = ("note", "pid")

    def __init__(self, note: _Note, pid: Process) -> None:
        self.note = note
        self.pid = pid  # of the one that ended


class DynamicSupervisor(GenServer[Crowd]):
    """`DynamicSupervisor("rooms").start_link(max_children=, extra_arguments=, max_restarts=3, max_seconds=5.0)`; see the module.

    * `max_children`: how many there may be; more raise MaxChildren. None (the default) is no bound.
    * `extra_arguments`: put before the arguments of every child, at its start and at every restart.
    """

    __timeout__: ClassVar[float | None] = None
    __shutdown__: ClassVar[Any] = None
    __kind__: ClassVar[Any] = "supervisor"

    def init(
        self, *, max_children: int | None = None, extra_arguments: tuple[Any, ...] = (), max_restarts: int = 3, max_seconds: float = 5.0
    ) -> Crowd:
        check_options("one_for_one", max_restarts, max_seconds)
        if max_children is not None and (isinstance(max_children, bool) or not isinstance(max_children, int) or max_children < 0):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"max_children must be an int, 0 or more, or None for no bound. Got: {max_children!r}")
        me = as_type(ServerProcess, self._process)
        me.trap = True
        return Crowd(me, max_children, tuple(extra_arguments), Restarts(max_restarts, max_seconds))

    def handle_info(self, state: Crowd, message: Any) -> Any:
        if type(message) is Exited:
            process: Any = message.pid
            note = process.record
            if type(note) is _Note and note.crowd is state:
                process.record = None
                return _ended(state, note, process, message.reason)
        elif type(message) is _Waiting:
            if message.pid in state.restarting:
                return _restart(state, message, None)
        else:
            facts = {"context": "unexpected_message", "supervisor": self, "message_": message}
            _log.error("%r got an unexpected message: %s", self, short(message), extra=facts)
        return None

    async def terminate(self, state: Crowd, reason: Any) -> None:
        state.restarting.clear()
        await _stop_all(state)

    # -- the client's side

    def start_child(self, spec: ChildSpec[R]) -> Coroutine[Any, Any, R]:
        """Start a child: its address or pid (with what a start function returned beside it, as a tuple).

        Raises MaxChildren, StartError (the child is not kept), AlreadyStarted, Ignored (its init said Ignore()), BadChildSpec.
        """
        if type(spec) is not ChildSpec or spec.significant:
            _refuse(spec)
        return as_type("Coroutine[Any, Any, R]", self._start_child(spec))

    def terminate_child(self, child: Target) -> Coroutine[Any, Any, None]:
        """Stop a child, named by its pid or address. NotFound."""
        process = find(child)
        if process is None:
            raise NotFound(f"{child!r} is no child of {self!r}: nobody is there")
        return as_type("Coroutine[Any, Any, None]", self._terminate_child(process))

    @call
    def which_children(self, state: Crowd) -> list[ChildInfo]:
        """The children, in the order of their starts. They have no ids of their own, so `id` is None."""
        found = [ChildInfo(None, process.label(), note.spec.type, note.spec.start) for process, note in state.children()]  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        return found + [ChildInfo(None, "restarting", one.note.spec.type, one.note.spec.start) for one in state.restarting.values()]

    @call
    def count_children(self, state: Crowd) -> ChildCounts:
        """How many there are, and how many of them run."""
        supervisors = sum(one.note.spec.type == "supervisor" for one in state.restarting.values())
        active = specs = 0
        for process, note in state.children():
            specs += 1
            active += process.alive
            supervisors += note.spec.type == "supervisor"
        specs += len(state.restarting)
        return ChildCounts(specs, active, supervisors, specs - supervisors)

    @call
    def _start_child(self, state: Crowd, spec: ChildSpec[Any]) -> Any:
        if state.max_children is not None and state.count >= state.max_children:
            return Refuse(MaxChildren(f"{state.me.label()!r} has {state.count} children, and max_children={state.max_children}"))
        args = state.extra_arguments + spec.args if state.extra_arguments else spec.args
        note = state.note(spec, args)
        if isinstance(spec.start, ServerMeta):
            try:
                process = _starting.begin(state.me.node, as_type(Any, spec.start), args, spec.kwargs, state.me, spec.name, note, spec.setup)
            except BaseException as error:
                return _refused(state, spec, failure(error) or Failed(error))
            state.count += 1
            return process.label() if process.status == IDLE else self._begun(state, process, spec, note)
        return self._started_by(state, note, spec, args)

    async def _begun(self, state: Crowd, process: ServerProcess, spec: ChildSpec[Any], note: _Note) -> Any:
        problem = await _finish(state, process, note)
        return process.label() if problem is None else _refused(state, spec, problem)

    async def _started_by(self, state: Crowd, note: _Note, spec: ChildSpec[Any], args: tuple[Any, ...]) -> Any:
        try:
            process, beside = await started_by(spec, args, spec.kwargs)
            _take_in(state, process, note)
        except BaseException as error:
            return _refused(state, spec, failure(error) or Failed(error))
        return (process.label(), *beside) if beside else process.label()

    @call
    async def _terminate_child(self, state: Crowd, process: Process) -> object:
        note = process.record
        if state.restarting.pop(process, None) is not None:
            state.count -= 1
            return None
        if type(note) is not _Note or note.crowd is not state:
            return Refuse(NotFound(f"{process.label()!r} is no child of {state.me.label()!r}"))
        await _stop(state, [(process, note)])
        return None


def _refuse(spec: Any) -> None:
    validate([spec])
    if spec.significant:
        raise BadChildSpec("a DynamicSupervisor never ends because of its children, so none of them is significant. Leave it out")


# --- a start ----------------------------------------------------------------------------------------------------------


async def _finish(state: Crowd, process: ServerProcess, note: _Note) -> Failed | None:
    """Wait for an async init."""
    try:
        await _starting.begun(process, note.spec.timeout)
    except BaseException as error:
        if process.alive:
            raise  # cancelled when it ran already: it is stopped with the others
        process.record = None
        state.count -= 1
        return failure(error) or Failed(error)
    return None


def _take_in(state: Crowd, process: Process, note: _Note) -> None:
    """A process that a start function has started. One that is a child here already stays one child, as in Elixir."""
    known = type(process.record) is _Note and process.record.crowd is state
    if not known:
        refuse_stranger(state.me, process)
        state.count += 1
    process.record = note
    me = state.me
    if not (me.links and process in me.links):
        process.link_to(me)  # its start function has not: only so it is known
        me.link_to(process)


def _refused(state: Crowd, spec: ChildSpec[Any], problem: Failed) -> Refuse:
    reason = problem.reason
    if isinstance(reason, Ignored | AlreadyStarted):
        return Refuse(reason)
    report(state.me, spec, "start_error", reason, problem.info)
    return Refuse(StartError(reason, short(spec.id)))


# --- a child ended ----------------------------------------------------------------------------------------------------


def _ended(state: Crowd, note: _Note, process: Process, reason: object) -> Any:
    if state.me.node.ending():
        return None  # everything is being stopped: nothing is restarted any more
    fate = decide(note.spec.restart, reason)
    if fate is RESTART or not clean(reason):
        report(state.me, note.shown(process), "child_terminated", reason, pid=process)
    if fate is RESTART:
        waiting = _Waiting(note, process)
        state.restarting[waiting.pid] = waiting
        return _restart(state, waiting, reason)
    assert fate in (KEEP, FORGET)  # a spec without a process is kept by nobody here
    state.count -= 1
    return None


def _restart(state: Crowd, waiting: _Waiting, reason: object) -> Any:
    note = waiting.note
    if state.restarts.add(state.me.node.clock.now()):
        return gave_up(state.me, note.shown(), state.restarts, reason)
    if not isinstance(note.spec.start, ServerMeta):
        return _restart_by(state, waiting, reason)
    try:
        process = _starting.begin(
            state.me.node, as_type(Any, note.spec.start), note.args, note.kwargs, state.me, note.name, note, note.spec.setup
        )
    except BaseException as error:
        return _restart_failed(state, waiting, failure(error))
    del state.restarting[waiting.pid]
    if process.status == IDLE:
        _restarted(state, waiting, process, reason)
        return None
    return _restart_begun(state, process, waiting, reason)


def _restarted(state: Crowd, waiting: _Waiting, process: Process, reason: object) -> None:
    restarted(state.me, waiting.note.shown(), process, reason, "one_for_one", len(state.restarts.seconds))


async def _restart_begun(state: Crowd, process: ServerProcess, waiting: _Waiting, reason: object) -> None:
    problem = await _finish(state, process, waiting.note)
    if problem is None:
        _restarted(state, waiting, process, reason)
        return
    state.restarting[waiting.pid] = waiting
    state.count += 1
    _restart_failed(state, waiting, None if isinstance(problem.reason, Ignored) else problem)


async def _restart_by(state: Crowd, waiting: _Waiting, reason: object) -> None:
    note = waiting.note
    try:
        process, _ = await started_by(note.spec, note.args, note.kwargs)
        _take_in(state, process, note)
    except BaseException as error:
        _restart_failed(state, waiting, failure(error))
        return
    del state.restarting[waiting.pid]
    state.count -= 1
    _restarted(state, waiting, process, reason)


def _restart_failed(state: Crowd, waiting: _Waiting, problem: Failed | None) -> None:
    """Try again by a message to itself, so that requests and a shutdown may come first. Ignored: it is forgotten."""
    if problem is None:
        del state.restarting[waiting.pid]
        state.count -= 1
        return
    report(state.me, waiting.note.shown(), "start_error", problem.reason, problem.info)
    state.me.post((INFO, waiting, None, None))


# --- stopping ---------------------------------------------------------------------------------------------------------


async def _stop_all(state: Crowd) -> None:
    await _stop(state, list(state.children()))


async def _stop(state: Crowd, children: list[tuple[Process, _Note]]) -> None:
    """Tell all of them at once, give each its own shutdown time, then KILL; wait until all are gone.

    In linear time: they are unlinked first, so that no Exited of theirs has to be handled, and most die where they are told.
    """
    me, awaited = state.me, _Awaited(state.me)
    stopwatch = me.node.stopwatch
    end = stopwatch() + SLICE
    for process, note in children:
        process.record = None
        process.unlink_from(me)
        me.unlink_from(process)
        state.strays.pop(process, None)
        state.count -= 1
        awaited.tell(process, note)
        if stopwatch() > end:  # 100,000 of them are no reason to hold the loop up
            try:
                await sleep(0)
            except asyncio.CancelledError:
                if given_up(me):
                    raise
            end = stopwatch() + SLICE
    await awaited.all_gone()


class _Awaited:
    """The children that were told to stop and have not ended yet."""

    __slots__ = ("future", "left", "me")

    def __init__(self, me: ServerProcess) -> None:
        self.me = me
        self.left = 0
        self.future: asyncio.Future[None] | None = None

    def tell(self, process: Process, note: _Note) -> None:
        if process.status == DEAD:
            return
        shutdown = note.spec.shutdown
        if brutal(shutdown):
            process.kill()
        else:
            process.signal(self.me, SHUTDOWN, by_link=False)
        if process.status == DEAD:
            _check(self.me, note, process)
        else:
            self.left += 1
            _Stopping(self, process, note, None if brutal(shutdown) else as_type("float | None", shutdown))

    async def all_gone(self) -> None:
        while self.left:
            self.future = self.me.node.loop.create_future()
            try:
                await self.future
            except asyncio.CancelledError:
                if given_up(self.me):
                    raise

    def gone(self) -> None:
        self.left -= 1
        if not self.left and self.future is not None and not self.future.done():
            self.future.set_result(None)


class _Stopping(MonitorRef):
    """Watches one child to its end, and kills it when its time is over."""

    __slots__ = ("note", "row", "seconds")

    def __init__(self, row: _Awaited, process: Process, note: _Note, seconds: float | None) -> None:
        self.row = row
        self.note = note
        self.seconds = seconds
        super().__init__(None, process, process)
        if seconds is not None:
            process.node.timeouts.add(self, seconds)

    def fire(self, reason: object) -> None:
        self.stop()
        if self.seconds is not None:
            self.row.me.node.timeouts.remove(self, self.seconds)
        if self.watched is not None:
            _check(self.row.me, self.note, self.watched)
        self.row.gone()

    def late(self) -> None:
        if self.active and self.watched is not None:
            self.watched.kill()


def _check(me: ServerProcess, note: _Note, process: Process) -> None:
    if not expected(process.reason, note.spec):
        report(me, note.shown(process), "shutdown_error", process.reason, pid=process)
