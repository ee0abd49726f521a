"""What the fixture `beamish` gives to a test."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import AbstractContextManager
from logging import LogRecord
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, cast, overload

import beamish
from beamish import CallExit, ChildSpec, Exit, Kill, NoProcess, NotFound, Pid, Supervisor, sys
from beamish._runtime.process import DEAD, Process, TaskProcess
from beamish._runtime.signals import SYSTEM
from beamish.process import Target, find, myself
from beamish.testing import _patterns
from beamish.testing._captures import Heard, capture_crashes, capture_telemetry
from beamish.testing._scene import Scene, quiet
from beamish.testing._virtual import VirtualLoop
from beamish.testing._world import World

R = TypeVar("R")
T = TypeVar("T")
S = TypeVar("S", bound=Target)

Fault = Literal["crash", "kill", "late", "slow"]

#: How long `eventually` lets pass between two looks, in seconds of the test's time.
STEP = 0.01


class Kit:
    """The fixture `beamish`: a fresh world for each test, and the verbs to test servers with.

    The world has a virtual clock, which jumps as soon as nothing can run, and the test is a process in it: others send to
    `current()`. After the test its process ends, then what `start_supervised` has started, last one first, then the callbacks of
    `on_exit`; what is alive then fails the test, and so does a server that crashed without being expected to.

    A plain `def` test runs its async part with `run`, in a world of its own each time.
    """

    def __init__(self, world: World | None = None, *, real_time: bool = False, faults: Iterable[Fault] = ()) -> None:
        """In a test that simloom runs: `async with Kit() as beamish:`, and there are `faults` (see `simulate`) when they are asked for."""
        self._world = world
        self._real_time = real_time
        self._faults = frozenset[str](faults)
        self._scene: Scene | None = None
        self.clock = KitClock(self)

    # -- the life of a test

    def run(self, body: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run `body()` in a fresh world, on an event loop of its own: for plain `def` tests, which may do so several times."""
        with asyncio.Runner(loop_factory=None if self._real_time else VirtualLoop) as runner:
            return runner.run(self.play(body))

    async def play(self, body: Callable[[], Awaitable[T]]) -> T:
        """Run `body()` as the test: what the plugin does with an `async def` test."""
        async with self:
            return await body()

    async def __aenter__(self) -> Self:
        self._begun().adopt()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        __tracebackhide__ = True
        scene = self._begun()
        try:
            failure = await scene.end(await scene.take_signal(error))
        finally:
            self._scene = None
        if failure is not None and failure is not error:
            raise failure from failure.__cause__

    def close(self) -> None:
        """After a fixture has begun a world and no async test has ended it."""
        scene, self._scene = self._scene, None
        if scene is None:
            return
        if scene.loop.is_closed():
            raise RuntimeError(
                "a fixture used `beamish` on an event loop that was closed before the test ended: nothing could be stopped there"
            )
        failure = scene.loop.run_until_complete(scene.end(None))
        if failure is not None:
            raise failure

    def _begun(self) -> Scene:
        """The scene of the running loop; an async fixture may be what begins it."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(
                "no asyncio event loop runs here. In a plain def test: beamish.run(body), with an async body; under anyio's plugin, "
                'choose its backend: the fixture anyio_backend returns "asyncio"'
            ) from None
        if self._scene is None:
            self._scene = Scene(self._world, real_time=self._real_time, faults=self._faults)
        elif self._scene.loop is not loop:
            raise RuntimeError(
                "this test's world belongs to another event loop: the fixture that began it runs on a loop of a wider scope than the "
                "test's. Give both the same loop_scope"
            )
        return self._scene

    def on_exit(self, callback: Callable[[], object]) -> None:
        """Call `callback()`, plain or async, after the test, when what was supervised has stopped; last one first."""
        self._begun().callbacks.append(callback)

    # -- servers

    async def start_supervised(self, spec: ChildSpec[R]) -> R:
        """Start a server under the test's own supervisor, which restarts it as its spec says and never gives up.

        Stopped after the test, last one first. Returns its address. Raises AlreadyStarted when the id is taken, StartError.
        """
        scene = self._begun()
        if scene.supervisor is None:
            scene.supervisor = await Supervisor.start([], max_restarts=1_000_000, max_seconds=1.0)  # not linked to the test
        return cast(R, await scene.supervisor.start_child(spec))

    async def stop_supervised(self, id: Any) -> None:
        """Stop what `start_supervised` started under this id (of its spec: the server's name, or its class), and forget it. NotFound."""
        supervisor = self._begun().supervisor
        if supervisor is None:
            raise NotFound(f"nothing was started with start_supervised, so there is no {id!r} to stop")
        await supervisor.terminate_child(id)
        try:
            await supervisor.delete_child(id)
        except NotFound:
            pass  # a temporary child is forgotten as soon as it is stopped

    async def crash(self, server: S, error: object = None) -> S:
        """Make a server crash, and wait until its supervisor has restarted it. Returns its address, new where it was a pid.

        `error`: an exception, which is raised in the server after the mail that it has now; `KILL`; or any other exit reason. By
        default RuntimeError. A server that is not restarted (temporary, transient and a clean reason, not supervised) is waited for
        until it is down. Raises NoProcess when nobody is there, CallExit when the supervisor gave up. What crashes meanwhile is
        expected.
        """
        process = find(server)
        if process is None or process.status == DEAD:
            raise NoProcess.of(server, "crash", None, ())
        if isinstance(process, TaskProcess):
            raise TypeError(f"crash is for servers. End {server!r} with beamish.exit(pid, reason)")
        record = process.record  # its supervisor's note about it
        above = _supervisors(process)
        with capture_crashes(), capture_telemetry("beamish.supervisor.restart") as restarts:
            if isinstance(error, Kill):
                beamish.exit(process, error)
            else:
                process.post((SYSTEM, _raiser(error), None, None))
            await beamish.down(process)
            await _settled(above)
            await quiet(self._begun().loop)
        if isinstance(server, str) or getattr(server, "_name", None) is not None:
            return server
        again = [one.metadata["pid"] for one in restarts if record is not None and one.metadata["id"] == record.spec.id]
        if not again:
            return server
        return cast(S, again[-1] if isinstance(server, Pid) else cast(Any, type(server))(again[-1]))

    # -- messages to the test

    async def receive(self, *patterns: Any, timeout: float | None = None) -> Any:
        """Take the oldest message to this process that matches one of the patterns, or wait for it. TimeoutError.

        Patterns are those of `beamish.testing.like`; `timeout` in seconds, None waits for ever.
        """
        return await beamish.receive(_patterns.either(patterns), timeout=timeout)

    async def assert_receive(self, *patterns: Any, timeout: float = 1.0) -> Any:
        """The same, with a failure that shows the mailbox and why the nearest message does not match.

        `timeout`: 1.0 second of the test's time, where ExUnit waits 0.1: in virtual time waiting costs nothing. 0.0 looks at what
        is there now.
        """
        __tracebackhide__ = True
        try:
            return await self.receive(*patterns, timeout=timeout)
        except TimeoutError:
            pass
        waited = f"within {timeout:g} s" if timeout else "so far"
        text = f"the test received no {_patterns.wanted(patterns)} {waited}; {_patterns.mailbox(patterns, self._inbox())}"
        raise AssertionError(text)

    async def refute_receive(self, *patterns: Any, timeout: float = 0.1) -> None:
        """Fail if a message comes within `timeout` seconds that matches one of the patterns (none: any message)."""
        __tracebackhide__ = True
        try:
            message = await self.receive(*patterns, timeout=timeout)
        except TimeoutError:
            return
        raise AssertionError(f"the test received what it should not, {_patterns.wanted(patterns)}:\n  {message!r}")

    @staticmethod
    def _inbox() -> list[Any]:
        me = myself()
        return list(me.inbox) if isinstance(me, TaskProcess) else []

    # -- what happens

    def capture_crashes(self) -> AbstractContextManager[list[LogRecord]]:
        """`with beamish.capture_crashes() as reports:` the reports of what crashes in the block, expected and not logged.

        See `beamish.testing.capture_crashes`.
        """
        return capture_crashes()

    def capture_telemetry(self, *names: str) -> AbstractContextManager[list[Heard]]:
        """`with beamish.capture_telemetry("search_cache") as heard:` the events of that name, and below it, in the block.

        See `beamish.testing.capture_telemetry`.
        """
        return capture_telemetry(*names)

    @overload
    async def eventually(self, predicate: Callable[[], Coroutine[Any, Any, T]], timeout: float = 5.0) -> T: ...
    @overload
    async def eventually(self, predicate: Callable[[], T], timeout: float = 5.0) -> T: ...
    async def eventually(self, predicate: Callable[[], Any], timeout: float = 5.0) -> Any:
        """Wait until `predicate()`, plain or async, is true, and return what it returned.

        An AssertionError that it raises is a no. `timeout`: seconds of the test's time; then it fails.
        """
        __tracebackhide__ = True
        loop = self._begun().loop
        end = loop.time() + timeout
        while True:
            value, error = await _looked(predicate)
            if value:
                return value
            if loop.time() >= end:
                break
            await quiet(loop)
            value, error = await _looked(predicate)
            if value:
                return value
            await asyncio.sleep(min(STEP, max(0.0, end - loop.time())))
        last = f"it last raised {error}" if error is not None else f"it last said {value!r}"
        raise AssertionError(f"{_patterns.shown(predicate)} did not come true within {timeout:g} s; {last}") from error

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            module = name in beamish.__all__ or hasattr(beamish, name)
            hint = f". The fixture hides the module of that name: from beamish import {name}" if module else ""
            raise AttributeError(f"the fixture `beamish` has no {name!r}{hint}")


class KitClock:
    """The time of a test."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def now(self) -> float:
        """Seconds, monotonic: the time of the event loop and of every server."""
        return self._kit._begun().loop.time()  # pyright: ignore[reportPrivateUsage]

    async def advance(self, seconds: float) -> None:
        """Let `seconds` of virtual time pass: everything that is due meanwhile happens in its order, and what follows from it."""
        scene = self._kit._begun()  # pyright: ignore[reportPrivateUsage]
        if seconds < 0:
            raise ValueError(f"time does not go back. Got: {seconds!r}")
        if not scene.virtual:
            raise RuntimeError("this test runs in real time, as its marker says: nothing can move that on")
        await quiet(scene.loop)
        await asyncio.sleep(seconds)
        await quiet(scene.loop)
        if scene.overdue():
            await asyncio.sleep(0.001)
            await quiet(scene.loop)


async def _looked(predicate: Callable[[], Any]) -> tuple[Any, AssertionError | None]:
    try:
        value = predicate()
        return (await value if inspect.isawaitable(value) else value), None
    except AssertionError as error:
        return None, error


# --- crashes ----------------------------------------------------------------------------------------------------------


def _raiser(error: Any) -> Callable[[Process], None]:
    raised = _made(error)

    def crash(_: Process) -> None:
        raise raised

    return crash


def _made(error: Any) -> Exception:
    if error is None:
        return RuntimeError("crashed by its test")
    if isinstance(error, Exception):
        return error
    if isinstance(error, type) and issubclass(cast(Any, error), Exception):
        return cast(Exception, error("crashed by its test"))
    return Exit(error)


def _supervisors(process: Process) -> list[Process]:
    """Its supervisor, that one's supervisor, and so on up."""
    found: list[Process] = []
    while process.record is not None:
        process = process.record.supervisor
        found.append(process)
    return found


async def _settled(supervisors: list[Process]) -> None:
    """Wait until the first has dealt with an exit that is on its way to it; if that ended it, until the next one has."""
    for supervisor in supervisors:
        try:
            await _restarted(supervisor)
            return
        except CallExit:
            if supervisor is supervisors[-1]:
                raise


async def _restarted(supervisor: Process) -> None:
    for _ in range(100):
        await sys.get_state(supervisor, timeout=None)  # served in turn: after the exit, and after the restart
        children = await cast(Any, supervisor.label()).which_children()
        if not any(one.child == "restarting" for one in children):
            return
    raise AssertionError(f"{supervisor.label()!r} has tried a hundred times to restart its child: its init fails each time")
