# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false, reportAttributeAccessIssue=false, reportArgumentType=false
"""Virtual time: an event loop whose clock jumps to the next timer as soon as nothing else can happen.

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())

`asyncio.sleep`, `asyncio.timeout`, `loop.call_later` and every timer of Beamish run on it. Real input and output (a socket, a pipe,
a thread, a subprocess) is waited for in real time, which then passes for the virtual clock too, and is never jumped over. A socket that
only listens is not waited for: a connection to it is.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

#: Seconds that a loop with nothing to do waits for a thread to wake it, before it says that nothing can ever happen.
PATIENCE = 5.0
#: Turns of the loop in which no time passes, after which somebody is believed to spin for ever: half a minute.
TURNS = 5_000_000
_ASYNCIO = os.path.dirname(asyncio.__file__)


class Stalled(RuntimeError):
    """Nothing is runnable, no timer is armed, no input or output is awaited: the program would wait for ever."""

    def __init__(self, waiting: list[str]) -> None:
        shown = "".join(f"\n  {one}" for one in waiting)
        super().__init__(f"nothing can happen any more: no task can run, no timer is armed. Who waits:{shown or ' nobody'}")


class Spinning(Stalled):
    """Somebody runs all the time, so virtual time never passes."""

    def __init__(self, running: list[str]) -> None:
        RuntimeError.__init__(
            self,
            f"the loop has made {TURNS:,} turns, and no time has passed: it passes only when nothing can run, so that a loop around "
            f"`await asyncio.sleep(0)` never sees a timeout. Who runs: {', '.join(running) or 'callbacks'}",
        )


class _Selector:
    """Stands between the loop and its real selector: where the loop would wait, virtual time may pass instead.

    The real one is made when something is registered or really waited for: most loops of a simulation never do.
    """

    def __init__(self, real: selectors.BaseSelector | None = None) -> None:
        self.made = real
        self.loop: Any = None
        self.turns = 0  # since time has passed

    @property
    def real(self) -> selectors.BaseSelector:
        if self.made is None:
            self.made = selectors.DefaultSelector()
        return self.made

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return {} if self.made is None else self.made.get_map()

    def close(self) -> None:
        if self.made is not None:
            self.made.close()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        loop = self.loop
        if loop is None:
            return self.real.select(timeout)
        if timeout is not None and timeout <= 0:
            self.turns += 1
            if self.turns > TURNS:
                loop.stall()
            return self.real.select(0) if loop.outside() else []
        self.turns = 0
        if not loop.outside():
            found = self.real.select(0) if self.made is not None else []
            if found or loop._ready or loop.wake_idlers():  # ready: a thread that we know nothing of has called call_soon_threadsafe
                return found
            if timeout is not None:
                loop.jump(timeout)
                return []
            return self._wait_for_threads(loop)
        loop.wakeable()
        if loop._ready:
            return []  # a thread was quicker than the pipe that it is to wake us by
        found = self.real.select(0)
        if found or (not loop._jobs and loop.wake_idlers()):  # a connection nothing comes from keeps nobody who waits for idleness
            return found
        begin = time.monotonic()
        found = self.real.select(timeout)
        loop.jump(time.monotonic() - begin)
        return found

    def _wait_for_threads(self, loop: Any) -> list[tuple[selectors.SelectorKey, int]]:
        if threading.active_count() == 1:
            loop.stall()
        loop.wakeable()
        found = self.real.select(0 if loop._ready else PATIENCE)
        if not found and not loop._ready:
            loop.stall()
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


class _Virtual(asyncio.SelectorEventLoop):
    """What makes a loop virtual; its `__init__` is that of the loop it is put upon."""

    _virtual: float
    _jobs: int  # in threads and subprocesses, not done yet
    _own: set[int]  # the pipe that wakes the loop
    _idlers: list[asyncio.Future[None]]

    def _begin(self, selector: _Selector, now: float) -> None:
        self._virtual = now
        self._jobs = 0
        self._idlers = []
        self._own = set(selector.get_map())
        selector.loop = self

    def time(self) -> float:
        return self._virtual

    def wakeable(self) -> None:
        """Called before the loop really waits: threads can wake it from now on."""

    def jump(self, seconds: float) -> None:
        """Let virtual time pass."""
        self._virtual += seconds

    def idle(self) -> asyncio.Future[None]:
        """Done when nothing can run any more at this moment of virtual time."""
        future = self.create_future()
        self._idlers.append(future)
        return future

    def wake_idlers(self) -> bool:
        idlers, self._idlers = self._idlers, []
        for future in idlers:
            if not future.done():
                future.set_result(None)
        return bool(idlers)

    def outside(self) -> bool:
        """Whether something of the real world is awaited: a job in a thread, a socket or pipe that is not only listening."""
        if self._jobs:
            return True
        keys = self._selector.get_map()  # type: ignore[attr-defined]
        return len(keys) > len(self._own) and any(fd not in self._own and not _listens(key.fileobj) for fd, key in keys.items())

    def stall(self) -> None:
        """Nothing can ever happen: end whoever runs the loop with an error that says who waits for what."""
        selector = self._selector  # type: ignore[attr-defined]
        if selector.turns > TURNS:
            selector.turns = 0
            owners = [getattr(handle._callback, "__self__", None) for handle in self._ready]  # type: ignore[attr-defined]
            raise Spinning(sorted({_waiting(task) for task in owners if isinstance(task, asyncio.Task)}))
        waiting = [_waiting(task) for task in asyncio.all_tasks(self) if not task.done() and task.get_name() != "beamish-keeper"]
        raise Stalled(sorted(waiting))

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:  # type: ignore[override]
        future = super().run_in_executor(executor, func, *args)
        self._jobs += 1
        future.add_done_callback(self._job_done)
        return future

    def _job_done(self, _: object) -> None:
        self._jobs -= 1

    async def shutdown_default_executor(self, *args: Any) -> None:
        self._jobs += 1  # a thread joins the others: its time limit is real time
        try:
            await super().shutdown_default_executor(*args)
        finally:
            self._jobs -= 1

    async def _make_subprocess_transport(self, *args: Any, **kwargs: Any) -> Any:
        transport = await super()._make_subprocess_transport(*args, **kwargs)  # type: ignore[misc]
        self._jobs += 1
        asyncio.Task(transport._wait(), loop=self, name="beamish-subprocess").add_done_callback(self._job_done)
        return transport


class VirtualLoop(_Virtual):
    """See the module. Its time, `loop.time()`, begins at 1000.0."""

    # The pipe by which threads wake the loop; made when it first really waits (20 µs, and two files, that most never need).
    _ssock: socket.socket | None = None
    _csock: socket.socket | None = None

    def __init__(self) -> None:
        self._virtual = 1000.0
        selector = _Selector()
        super().__init__(selector)  # type: ignore[arg-type]
        self._begin(selector, self._virtual)

    def _make_self_pipe(self) -> None: ...

    def wakeable(self) -> None:
        if self._csock is None:
            super()._make_self_pipe()  # type: ignore[misc]
            assert self._ssock is not None
            self._own.add(self._ssock.fileno())

    def _close_self_pipe(self) -> None:
        if self._ssock is not None:
            super()._close_self_pipe()  # type: ignore[misc]

    def add_signal_handler(self, sig: int, callback: Callable[..., Any], *args: Any) -> None:  # type: ignore[override]
        self.wakeable()
        super().add_signal_handler(sig, callback, *args)


@contextmanager
def virtual_time(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Make the time of a loop virtual that somebody else has made and runs: for tests under other pytest plugins."""
    if isinstance(loop, _Virtual):
        yield
        return
    if not isinstance(loop, asyncio.SelectorEventLoop):
        raise RuntimeError(
            "virtual time needs asyncio's own event loop, whose waiting can be replaced. "
            f"Got: {type(loop).__module__}.{type(loop).__name__}. Run this test under asyncio's loop (under pytest-asyncio: its "
            "event_loop_policy fixture; with anyio: backend_options use_uvloop=False)"
        )
    made: Any = loop
    kind, real = type(loop), made._selector
    made._selector = selector = _Selector(real)
    made.__class__ = _class_on(kind)
    made._begin(selector, kind.time(loop))
    try:
        yield
    finally:
        selector.loop = None
        made._selector = real
        made.__class__ = kind


_CLASSES: dict[type, type] = {}


def _class_on(kind: type) -> type:
    found = _CLASSES.get(kind)
    if found is None:
        found = _CLASSES[kind] = type(f"Virtual{kind.__name__}", (_Virtual, kind), {})
    return found


def _listens(file: Any) -> bool:
    """Of a server: asyncio registers its listening socket by the number of its descriptor."""
    if not isinstance(file, int):
        return isinstance(file, socket.socket) and _accepts(file)
    try:
        found = socket.socket(fileno=file)
    except OSError:
        return False  # no socket: a pipe
    try:
        return _accepts(found)
    finally:
        found.detach()


def _accepts(one: socket.socket) -> bool:
    try:
        return bool(one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:
        return False


def _waiting(task: asyncio.Task[Any]) -> str:
    """A task, and the innermost line of its own that waits: not one of asyncio's."""
    coro: Any = task.get_coro()
    frame = None
    while coro is not None:
        here = getattr(coro, "cr_frame", None) or getattr(coro, "gi_frame", None) or getattr(coro, "ag_frame", None)
        if here is not None and not here.f_code.co_filename.startswith(_ASYNCIO):
            frame = here
        coro = getattr(coro, "cr_await", None) or getattr(coro, "gi_yieldfrom", None) or getattr(coro, "ag_await", None)
    where = "" if frame is None else f" at {frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
    return f"{task.get_name()}{where}"
