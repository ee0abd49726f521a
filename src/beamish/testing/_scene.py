# pyright: reportPrivateUsage=false
"""One test from its first moment to its last: its world, its time, its process, and what it may not leave behind."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any, cast

from beamish import SHUTDOWN, CallExit, Crash, Supervisor, stop
from beamish._runtime.clock import settle
from beamish._runtime.process import DEAD, EXITING, Process
from beamish._runtime.timers import Timer
from beamish.errors import short
from beamish.process import myself
from beamish.testing._captures import EXPECTED
from beamish.testing._forgotten import Forgotten
from beamish.testing._mock import NotVerified, verify_mocks
from beamish.testing._simloom import is_simloom, tell, with_faults
from beamish.testing._virtual import Stalled, virtual_time
from beamish.testing._waiting import shown, to_the_last_line_of_the_test, waiting
from beamish.testing._world import World


class Failure(AssertionError):
    """A test that came to its end fails all the same, or was ended: the kinds of it are below."""


class LeftBehind(Failure):
    """A test has left processes, timers or tasks behind."""


class Crashed(Failure):
    """A server crashed, and the test did not expect it."""


class NotAwaited(Failure):
    """A test has called a server, or a verb of the fixture, without `await`: nothing has happened."""


class Signalled(Failure):
    """The test's own process got an exit signal, from something that it is linked to."""


class Scene:
    """Begun on the running loop, in the test's own task or in that of a fixture; ended in the test's."""

    def __init__(self, world: World | None = None, *, real_time: bool = False, faults: frozenset[str] = frozenset()) -> None:
        self.loop = loop = asyncio.get_running_loop()
        self.virtual = not real_time
        self._time = contextlib.ExitStack()
        self._simloom = is_simloom(loop)  # whose time is virtual, whose standstill is told by itself
        if self.virtual and not self._simloom:
            self._time.enter_context(virtual_time(loop))
            _round(loop)
        self._tasks = asyncio.all_tasks(loop)  # those of whoever runs the test
        self._handles = _scheduled(loop)
        self._own_world = world is None
        self.world = World(node=with_faults(faults) if faults else None).enter() if world is None else world
        self.node = self.world.node
        self.supervisor: Supervisor | None = None
        self.callbacks: list[Callable[[], object]] = []
        self._forgotten = Forgotten()
        self._forgotten.begin()
        self._crashes = _Crashes()
        logging.getLogger("beamish").addHandler(self._crashes)
        self._stalled: Stalled | None = None
        self._test: Process | None = None
        self._task: asyncio.Task[Any] | None = None
        self._runners = frozenset[asyncio.Task[Any]]()

    def overdue(self) -> bool:
        """Whether a timer is due that waits for the next tick: the runtime's wheel turns by milliseconds."""
        now = self.loop.time() + 1e-9
        return any(timer.when <= now for timer in _armed(self.node))

    # -- the test's own process

    def adopt(self) -> None:
        """The running task is the test: a process, to which others send, and which ends with it."""
        self._test = myself()
        self._task = asyncio.current_task()
        self._runners = frozenset(self._tasks - {self._task})
        self._tasks |= asyncio.all_tasks(self.loop)  # where a fixture began: its tasks are its own to end, and a runner's may be new
        if self.virtual and not self._simloom:
            self._catch_stall()

    def _catch_stall(self) -> None:
        """When nothing can happen any more, the test fails, and not whoever runs the loop: that goes on with the next test."""
        loop, task = cast(Any, self.loop), self._task
        plain = loop.stall

        def stall() -> None:
            if self._stalled is not None or task is None:
                plain()  # the second time: the test does not let itself be cancelled
                return
            try:
                plain()
            except Stalled as stalled:
                self._stalled = stalled if type(stalled) is not Stalled else Stalled(waiting(self.node, task, self._runners))
                task.cancel()

        loop.stall = stall
        self._time.callback(loop.__dict__.pop, "stall", None)

    async def take_signal(self, error: BaseException | None) -> BaseException | None:
        """What the test fails of: a cancellation that was an exit signal, or a standstill, is told as what it is."""
        test, task = self._test, self._task
        if test is None or task is None:
            return error
        signalled = test.status == EXITING
        if not signalled and self._stalled is None:
            return error
        if error is None:
            try:
                await asyncio.sleep(0)  # the test ended before the cancellation came: take it here
            except asyncio.CancelledError:
                pass
        task.uncancel()
        if error is not None and not isinstance(error, asyncio.CancelledError):
            return error  # what it raised is worth more than what would have ended it
        where = to_the_last_line_of_the_test(error.__traceback__) if error is not None else None  # that waited
        if self._stalled is not None:
            return self._stalled.with_traceback(where)
        reason = test.reason
        ended = Signalled(
            f"the test's process got an exit signal, with the reason {short(reason)}, from something that it is linked to (start_link, "
            "spawn_link, link). start_supervised keeps a test apart from its servers; flag(trap_exit=True) makes the signal a message"
        )
        ended.__cause__ = reason.error if isinstance(reason, Crash) else None
        return ended.with_traceback(where)

    # -- the end

    async def end(self, error: BaseException | None) -> BaseException | None:
        """End all in ExUnit's order: the test's process, what it has started (last first), its callbacks (last first).

        Then look what is to be seen: doubles that were not asked what was expected, leftovers, crashes. What the test fails of, or
        None. A failure of the test itself is told what else there was, in notes.
        """
        problems: list[BaseException] = []
        try:
            self._end_test()
            await self._stop_supervisor()
            problems += await self._call_back()
            problems += _verified() if error is None else []
            problems += await self._sweep()
            problems += self._not_awaited()
            problems += self._unexpected()
        finally:
            self.abandon()
            try:
                if self._own_world:
                    await self.world.leave()
            finally:
                self._time.close()
        failure = _one(error, problems)
        tell(self.node, failure)
        return failure

    def abandon(self) -> None:
        """Let go of what is not the loop's, which may be closed."""
        logging.getLogger("beamish").removeHandler(self._crashes)
        self._forgotten.end()

    def _end_test(self) -> None:
        test, task = self._test, self._task
        if test is None or task is None:
            return
        self.node.adopted.pop(task, None)
        if test.status != DEAD:
            test.end(SHUTDOWN)  # as ExUnit ends it; what is linked to it ends too

    async def _stop_supervisor(self) -> None:
        if self.supervisor is not None:
            try:
                await stop(self.supervisor, SHUTDOWN)
            except CallExit:
                pass  # the test has ended it

    async def _call_back(self) -> list[BaseException]:
        problems: list[BaseException] = []
        for callback in reversed(self.callbacks):
            try:
                value = callback()
                if inspect.isawaitable(value):
                    await cast("Awaitable[object]", value)
            except Exception as error:  # the others have things to put away too; all are raised in the end
                problems.append(error)
        return problems

    async def _sweep(self) -> list[BaseException]:
        """What is left, found and ended: the next test, perhaps on the same loop, is not to meet it."""
        await quiet(self.loop)
        processes = self.world.processes()
        lines = [f"process {shown(process)}" for process in processes]
        theirs = {process.task for process in processes}
        for process in processes:
            if process.status != DEAD:
                process.kill()
        lines += [f"timer {_shown(timer)}" for timer in _armed(self.node)]
        tasks = asyncio.all_tasks(self.loop) - self._tasks - theirs - {asyncio.current_task(), self.node.keeper}
        lines += sorted(f"task {_place(task)}" for task in tasks if not _of_runtime(task))
        if self.virtual:
            handles = [one for one in _scheduled(self.loop) - self._handles if not _of_node(one, self.node)]
            waits = {id(one) for one in handles if tasks and _wakes_a_task(one)}
            lines += [f"timer {_shown_handle(one)}" for one in handles if id(one) not in waits]
        for task in sorted(tasks, key=lambda task: (len(task.get_name()), task.get_name())):  # in an order that can be replayed
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=5.0)
        if not lines:
            return []
        return [LeftBehind("left behind by the test:\n" + "\n".join(f"  {line}" for line in lines))]

    def _not_awaited(self) -> list[BaseException]:
        found = self._forgotten.found
        if not found:
            return []
        return [NotAwaited("never awaited, so that nothing of it has happened:\n" + "\n".join(f"  await {one}" for one in found))]

    def _unexpected(self) -> list[BaseException]:
        if getattr(self.node, "faults", None):
            return []  # the simulation makes them happen, and what follows from them
        found = [record for record in self._crashes.found if not getattr(record, EXPECTED, False)]
        if not found:
            return []
        many = "a server" if len(found) == 1 else f"{len(found)} servers"
        lines = "".join(f"\n  {_crash_shown(record)}" for record in found[:10])
        crashed = Crashed(f"{many} crashed, and the test did not expect it (capture_crashes() and crash() do):{lines}")
        reason = cast(Any, found[0]).reason
        crashed.__cause__ = reason.error if isinstance(reason, Crash) else None
        return [crashed]


class _Crashes(logging.Handler):
    """The reports of servers and spawned functions that ended badly. What fails in its init tells whoever started it."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "context", None) in ("terminate", "error") and len(self.found) < 100:
            self.found.append(record)


def _verified() -> list[BaseException]:
    """What the doubles that were made in this world have to say: after the last call that a server may make in its end."""
    try:
        verify_mocks()
    except (NotVerified, ExceptionGroup) as error:
        return [cast(BaseException, error)]
    return []


def _one(error: BaseException | None, problems: list[BaseException]) -> BaseException | None:
    if error is not None:
        for one in problems:
            error.add_note(f"besides, {type(one).__name__}: {one}")
        return error
    if len(problems) < 2:
        return problems[0] if problems else None
    first, *others = problems
    for one in others:
        first.add_note(f"besides, {type(one).__name__}: {one}")
    return first


def _round(loop: Any) -> None:
    """Begin at a whole second, so that a minute from now is when a timer of a minute fires, to the last digit."""
    now: float = loop._virtual
    loop._virtual = float(math.ceil(now))


async def quiet(loop: asyncio.AbstractEventLoop) -> None:
    """Let everything run that can at this moment. Open connections are not waited for: there may always come something."""
    outside = getattr(loop, "outside", None)
    if outside is None or not outside():
        await settle()
        return
    for _ in range(50):
        await asyncio.sleep(0)


# --- what is left, as text --------------------------------------------------------------------------------------------


def _scheduled(loop: asyncio.AbstractEventLoop) -> set[asyncio.TimerHandle]:
    if is_simloom(loop):
        return set()
    return {handle for handle in getattr(loop, "_scheduled", ()) if not handle.cancelled()}


def _callback(handle: asyncio.TimerHandle) -> Any:
    return cast(Any, handle)._callback


def _of_node(handle: asyncio.TimerHandle, node: Any) -> bool:
    owner = getattr(_callback(handle), "__self__", None)
    return owner is node.wheel or any(owner is table for table in node.timeouts._tables.values())


def _wakes_a_task(handle: asyncio.TimerHandle) -> bool:
    """Of `asyncio.sleep` or `asyncio.timeout`: a task waits, which is told of already."""
    callback = _callback(handle)
    name = getattr(callback, "__qualname__", "")
    return name in ("_set_result_unless_cancelled", "Timeout._on_timeout")


def _armed(node: Any) -> list[Timer]:
    return [timer for bucket in node.wheel._buckets.values() for timer in bucket if timer.fire is not None]


def _of_runtime(task: asyncio.Task[Any]) -> bool:
    return task.get_name().startswith("beamish-")


def _shown(timer: Timer) -> str:
    target = timer.target
    who = f" to {target.label()!r}" if isinstance(target, Process) else f" to {target!r}" if target is not None else ""
    return f"of {short(timer.message)}{who}"


def _shown_handle(handle: asyncio.TimerHandle) -> str:
    callback = _callback(handle)
    return f"call_later({getattr(callback, '__qualname__', repr(callback))})"


def _place(task: asyncio.Task[Any]) -> str:
    coro: Any = task.get_coro()
    frame = getattr(coro, "cr_frame", None)
    where = f" at {frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else ""
    return f"{task.get_name()!r}, {getattr(coro, '__qualname__', coro)}{where}"


def _crash_shown(record: Any) -> str:
    message = getattr(record, "last_message", None)
    shown = "" if message is None else f"\n    last message: {message if isinstance(message, str) else short(message)}"
    reason = record.reason
    what = f"{type(reason.error).__name__}: {reason.error}" if isinstance(reason, Crash) else short(reason)
    return f"{record.server!r}: {what}{shown}"
