"""What the fixture `beamish` gives to a test."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import AbstractContextManager
from logging import LogRecord
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, cast, overload

import beamish
from beamish import ChildSpec, Kill, NoProcess, NotFound, Pid, Supervisor
from beamish._address import check_timeout
from beamish._runtime.node import here
from beamish._runtime.process import DEAD, TaskProcess
from beamish._runtime.signals import SYSTEM
from beamish.errors import short
from beamish.process import Target, find, myself, name_of
from beamish.testing import _patterns
from beamish.testing._captures import Heard, capture_crashes, capture_telemetry
from beamish.testing._crashing import raiser, settled, supervisors_of
from beamish.testing._faults import KINDS
from beamish.testing._scene import Crashed, LeftBehind, NotAwaited, Scene, quiet
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
        self._faults = _known(faults)
        self._scene: Scene | None = None
        self.clock = KitClock(self)

    # -- the life of a test

    def run(self, body: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run `body()`, an `async def`, in a fresh world, on an event loop of its own: for plain `def` tests, several times if need be."""
        __tracebackhide__ = True
        _refuse_body(body)
        try:
            with asyncio.Runner(loop_factory=None if self._real_time else VirtualLoop) as runner:
                return runner.run(self.play(body))
        except (LeftBehind, NotAwaited, Crashed) as failure:
            raise failure.with_traceback(None) from failure.__cause__  # no line is to blame

    async def play(self, body: Callable[[], Awaitable[T]]) -> T:
        """Run `body()` as the test: what the plugin does with an `async def` test."""
        __tracebackhide__ = True
        async with self:
            awaited = body()
            if not inspect.isawaitable(awaited):
                raise TypeError(f"run takes an async def function, and {_name(body)} returned {short(awaited)}, which is not awaited")
            return await awaited

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
            scene.abandon()
            raise RuntimeError(
                "a fixture used `beamish` on an event loop that was closed before the test ended: nothing could be stopped there"
            )
        failure = scene.loop.run_until_complete(scene.end(None))
        if failure is not None:
            raise failure

    @property
    def begun(self) -> bool:
        """Whether it has a world at this moment: a test runs, or a fixture has started something."""
        return self._scene is not None

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
        if not callable(callback):
            raise TypeError(f"on_exit takes a function without parameters: beamish.on_exit(server.close). Got: {short(callback)}")
        self._begun().callbacks.append(callback)

    # -- servers

    async def start_supervised(self, spec: ChildSpec[R]) -> R:
        """Start a server under the test's own supervisor, which restarts it as its spec says and never gives up.

        Stopped after the test, last one first. Returns its address. Raises AlreadyStarted when the id is taken, StartError.
        """
        __tracebackhide__ = True
        scene = self._begun()
        if scene.supervisor is None:
            scene.supervisor = await Supervisor.start([], max_restarts=1_000_000, max_seconds=1.0)  # not linked to the test
        return cast(R, await scene.supervisor.start_child(spec))

    async def stop_supervised(self, id: Any) -> None:
        """Stop what `start_supervised` started under this id (of its spec: the server's name, or its class), and forget it. NotFound."""
        __tracebackhide__ = True
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

        `error`: an exception (or its class), which is raised in the server after the mail that it has now; `KILL`; or any other exit
        reason. By default RuntimeError. A server that is not restarted (temporary, transient and a clean reason, not supervised) is
        waited for until it is down. A supervisor in between that gives up (by default at the fourth crash within 5 s) is restarted by
        the one above it, with all its children, which is waited for too.

        Raises NoProcess when nobody is there, CallExit when the topmost supervisor gave up. What crashes meanwhile is expected.
        """
        __tracebackhide__ = True
        process = find(server)
        if process is None or process.status == DEAD:
            known = process.node.names if process is not None else here().names
            raise NoProcess.of(server, "crash", name_of(server), known)
        if isinstance(process, TaskProcess):
            raise TypeError(f"crash is for servers. End {server!r} with beamish.exit(pid, reason)")
        record = process.record  # its supervisor's note about it
        above = supervisors_of(process)
        with capture_crashes(), capture_telemetry("beamish.supervisor.restart") as restarts:
            if isinstance(error, Kill):
                beamish.exit(process, error)
            else:
                process.post((SYSTEM, raiser(error), None, None))
            await beamish.down(process)
            await settled(above)
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
        __tracebackhide__ = True
        check_timeout(timeout)
        return await beamish.receive(_patterns.either(patterns), timeout=timeout)

    async def assert_receive(self, *patterns: Any, timeout: float = 1.0) -> Any:
        """Take the oldest message to this process that matches one of the patterns, or wait for it, and return it.

        Where none comes the test fails, shows its mailbox, and why the nearest message does not match. Patterns are those of
        `beamish.testing.like`: a class, a tuple, a dict, a predicate, a value.

        `timeout`: 1.0 second of the test's time, where ExUnit waits 0.1: in virtual time waiting costs nothing. 0.0 looks at what
        is there now.
        """
        __tracebackhide__ = True
        _refuse_timeout(timeout)
        try:
            return await self.receive(*patterns, timeout=timeout)
        except TimeoutError:
            pass
        waited = f"within {timeout:g} s" if timeout else "so far"
        text = f"the test received no {_patterns.wanted(patterns)} {waited}; {_patterns.mailbox(patterns, self._inbox())}"
        if len(patterns) > 1 and type(patterns[-1]) in (int, float):
            text += f"\n{patterns[-1]} is a pattern here, as all that is given without a name; for seconds: timeout={patterns[-1]}"
        raise AssertionError(text)

    async def refute_receive(self, *patterns: Any, timeout: float = 0.1) -> None:
        """Fail if a message comes within `timeout` seconds that matches one of the patterns (none: any message)."""
        __tracebackhide__ = True
        _refuse_timeout(timeout)
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
        if not callable(predicate):
            raise TypeError(f"eventually takes a function, plain or async, to look again and again: lambda: found. Got: {short(predicate)}")
        _refuse_timeout(timeout)
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
        __tracebackhide__ = True
        scene = self._kit._begun()  # pyright: ignore[reportPrivateUsage]
        if not isinstance(seconds, int | float):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"advance takes seconds: beamish.clock.advance(60.0). Got: {seconds!r}")
        if not 0 <= seconds < math.inf:
            raise ValueError(f"time goes on, by a finite number of seconds: it does not go back. Got: {seconds!r}")
        if not scene.virtual:
            raise RuntimeError("this test runs in real time, as its marker says: nothing can move that on")
        await quiet(scene.loop)
        await asyncio.sleep(seconds)
        await quiet(scene.loop)
        if scene.overdue():
            await asyncio.sleep(0.001)
            await quiet(scene.loop)


async def _looked(predicate: Callable[[], Any]) -> tuple[Any, AssertionError | None]:
    __tracebackhide__ = True
    try:
        value = predicate()
        return (await value if inspect.isawaitable(value) else value), None
    except AssertionError as error:
        return None, error


# --- what is given to it, looked at ------------------------------------------------------------------------------------


def _known(faults: Iterable[str]) -> frozenset[str]:
    kinds = frozenset([faults]) if isinstance(faults, str) else frozenset(faults)
    if isinstance(faults, str) or kinds - KINDS:
        raise ValueError(f'faults is a tuple of "crash", "kill", "late", "slow": Kit(faults=("crash",)). Got: {faults!r}')
    return kinds


def _refuse_body(body: Any) -> None:
    """What `run` can't run; a coroutine is closed, for nobody awaits it."""
    __tracebackhide__ = True
    if inspect.iscoroutine(body):
        body.close()
        raise TypeError(f"run takes the function, beamish.run({body.__name__}), and not what it returns, {body.__name__}()")
    if not callable(body):
        raise TypeError(f"run takes an async def function without parameters. Got: {short(body)}")
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(f"run is for plain def tests, and here a loop runs already: in an async test, await {_name(body)}()")


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", function))


def _refuse_timeout(seconds: Any) -> None:
    __tracebackhide__ = True
    if seconds is None or isinstance(seconds, bool):
        raise ValueError(f"a timeout is seconds (0 or more); to wait for ever, receive(…). Got: {seconds!r}")
    check_timeout(seconds)
    if math.isnan(seconds):
        raise ValueError("a timeout is seconds (0 or more). Got: nan")
