"""The two ways in: `run(main)` for a whole program, `supervise([…])` for a tree inside asyncio code."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import signal
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, TypeVar, cast, overload

from beamish import _starting, _watchdog, application, gen
from beamish._runtime.node import Node, here
from beamish._runtime.process import EXITING, MonitorRef, Process
from beamish.application import Application
from beamish.child_spec import ChildSpec
from beamish.errors import SHUTDOWN, CallExit, Crash, Shutdown, SupervisorGaveUp, short
from beamish.process import current
from beamish.supervisor import AutoShutdown, Strategy, Supervisor

T = TypeVar("T")

_log = logging.getLogger("beamish")


class supervise:  # used as a function: `async with supervise([…]) as sup:`
    """Run a supervision tree around a block.

    The children are started in order before the block, and stopped last to first after it. If the supervisor ends by itself
    meanwhile (too many restarts), the block is cancelled and SupervisorGaveUp raised. A child that does not start raises
    StartError. `strategy`, `max_restarts` (3), `max_seconds` (5.0) and `auto_shutdown` ("never") are those of `Supervisor`.
    """

    def __init__(
        self,
        children: Iterable[ChildSpec[Any]],
        *,
        strategy: Strategy = "one_for_one",
        max_restarts: int = 3,
        max_seconds: float = 5.0,
        auto_shutdown: AutoShutdown = "never",
        name: str | None = None,
    ) -> None:
        if isinstance(children, ChildSpec):
            raise TypeError(f"supervise takes a list: supervise([…]). Got one child spec, of {children.id!r}")
        self._children = list(children)
        self._options: dict[str, Any] = {
            "strategy": strategy, "max_restarts": max_restarts, "max_seconds": max_seconds, "auto_shutdown": auto_shutdown,
        }  # fmt: skip
        self._name = name
        self._reason: object = None
        self._gave_up = False
        self._leaving = False

    async def __aenter__(self) -> Supervisor:
        node = here()
        me = node.me()
        # Started under the root, so that a failing start raises here instead of ending the process that asks for it.
        self._process = process = _starting.begin(node, Supervisor, (self._children,), self._options, node.root, self._name)
        await _starting.begun(process)
        if me is not None:
            node.root.unlink_from(process)
            process.parent = me
            process.linked = True
            me.link_to(process)
        self._task = asyncio.current_task()
        self._cancelling = self._task.cancelling() if self._task is not None else 0
        self._guard = _Guard(self, process)
        _freeze(node)
        return cast(Supervisor, process.label())

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._leaving = True
        if not self._gave_up:
            self._guard.stop()
            self._let_go(self._process)
            try:
                await gen.stop(self._process, SHUTDOWN)
            except CallExit:
                pass  # it ended by itself at the same moment: the tree is down, which is all that was wanted
            return
        if error is None:
            try:
                await asyncio.sleep(0)  # the block ended before the cancellation came: take it here
            except asyncio.CancelledError:
                pass
        if self._task is not None and self._task.uncancel() > self._cancelling:
            return  # somebody else cancelled it too: that goes on, as with asyncio.timeout
        if error is None or isinstance(error, asyncio.CancelledError | CallExit):
            # The cancellation is this block's own way of stopping; what else the block raised is worth showing.
            raise SupervisorGaveUp(self._process.label(), self._reason) from (None if isinstance(error, asyncio.CancelledError) else error)

    def _let_go(self, process: Process) -> None:
        """The block ends its tree; that the tree ends must not end the process whose block it is."""
        for peer in list(process.peers()):
            peer.unlink_from(process)
            process.unlink_from(peer)

    def _ended(self, process: Process, reason: object) -> None:
        if self._leaving:
            return
        self._gave_up = True
        self._reason = reason
        self._let_go(process)  # the block is told by cancelling it, not by the link
        if self._task is not None:
            self._task.cancel()


class _Guard(MonitorRef):
    """Acts at once when the tree is down, before its links are told."""

    __slots__ = ("block",)

    def __init__(self, block: supervise, process: Process) -> None:
        self.block = block
        super().__init__(None, process, process)

    def fire(self, reason: object) -> None:
        self.stop()
        if self.watched is not None:
            self.block._ended(self.watched, reason)  # pyright: ignore[reportPrivateUsage]


@overload
def run(
    main: type[Application] | Application, *, watchdog: float | None = 1.0, debug: bool | None = None, loop_factory: Any = None
) -> None: ...
@overload
def run(
    main: Callable[[], Awaitable[T]] | Awaitable[T], *, watchdog: float | None = 1.0, debug: bool | None = None, loop_factory: Any = None
) -> T | None: ...
def run(main: Any, *, watchdog: float | None = 1.0, debug: bool | None = None, loop_factory: Any = None) -> Any:
    """`asyncio.run` for a program of processes: `main` is one, so it may link, monitor and receive.

    `main` is an async function, or an `Application`: then that and all that it needs are started as "permanent", and run until
    the program is asked to end. StartError when one does not start, ApplicationTerminated when one ends by itself.

    SIGINT and SIGTERM end it with SHUTDOWN: applications, last started first, and trees are stopped in order, each within its
    shutdown times, and `run` returns None (exit code 0); a second one cuts that short. `watchdog`: log the process, handler and
    stack that hold the loop up for longer than that (seconds; None: do not look). What is alive after a `supervise` block, or
    the application, has started is taken out of the garbage collector's sight: a full collection beside 100,000 processes stops a
    loop for 80-100 ms.
    """
    with asyncio.Runner(debug=debug, loop_factory=loop_factory) as runner:
        return runner.run(_main(main, watchdog))


def _asked_to_end(main: Process, number: signal.Signals) -> None:
    """The first signal ends in order, as long as that takes; the next one cuts main short; one more is the system's own."""
    if main.alive:
        _log.info("asked to end by %s", number.name)
        main.signal(main.node.root, SHUTDOWN, by_link=False)
    elif main.task is not None:
        main.node.loop.remove_signal_handler(number)
        main.task.cancel()


async def _main(main: Any, watchdog: float | None) -> Any:
    node = here()
    node.freeze = True
    me: Any = current()
    loop = node.loop
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, _asked_to_end, me, number)
        except (NotImplementedError, RuntimeError, ValueError):  # not the main thread, or a system without them
            break
    dog = _watchdog.Watchdog(watchdog) if watchdog is not None else None
    application.ends_with_applications(me)
    value = None
    try:
        value = await _body(main)
    except asyncio.CancelledError:
        if me.status != EXITING or not isinstance(me.reason, Shutdown | Crash):
            raise
    finally:
        try:
            await application.stop_all()
        finally:
            if dog is not None:
                dog.stop()
    if me.status == EXITING and isinstance(me.reason, Crash):
        raise me.reason.error  # of what main was linked to, or of an application that it may not outlive
    return value  # None when it was asked to end, by a signal or by exit()


async def _body(main: Any) -> Any:
    if application.is_application(main):
        return await _serve(main)
    if not callable(main) and not inspect.isawaitable(main):
        raise TypeError(
            f"run takes an async function or an Application; to run children: async with supervise([…]) inside of one. Got: {short(main)}"
        )
    value = main() if callable(main) else main
    return await value if inspect.isawaitable(value) else value


async def _serve(app: type[Application] | Application) -> None:
    """An application as a program."""
    await application.ensure_all_started(app, type="permanent")
    _freeze(here())
    await asyncio.get_running_loop().create_future()


def _freeze(node: Node) -> None:
    if node.freeze:
        gc.collect()
        gc.freeze()
