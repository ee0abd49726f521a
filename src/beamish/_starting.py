"""Starting a server: make the process, run its `init` on this stack, wait for an async one.

What can go wrong is decided here too: a taken name, an init that fails, says no, comes too late, or whose starter gives up.
"""

from __future__ import annotations

import asyncio
from asyncio import sleep
from collections.abc import Callable
from contextvars import Context
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from beamish import _report, gen
from beamish._address import Address, At, Via
from beamish._answers import CONTROL
from beamish._loop import ORDINARY, ServerProcess, exc_info, exit_reason
from beamish._runtime.client import ANSWERED, LATE, PENDING, Client
from beamish._runtime.extra import extra_of
from beamish._runtime.node import Node, exiting, here
from beamish._runtime.process import DEAD, EXITING, IDLE, LOOK, RUNNING, STARTED, MonitorRef, Process
from beamish._runtime.signals import SYSTEM
from beamish.errors import NORMAL, SHUTDOWN, AlreadyStarted, BeamishError, CallTimeout, NoProcess, StartError
from beamish.process import Late, awaited

if TYPE_CHECKING:
    from beamish._setup import Setup
    from beamish.gen_server import GenServer


def begin(
    node: Node,
    cls: type[GenServer[Any]],
    args: Any,
    kwargs: Any,
    parent: Process | None,
    name: Any = None,
    record: Any = None,
    setup: Setup | None = None,
) -> ServerProcess:
    """Make the process and run its init on this stack. An async init that waits leaves an acknowledgement: see `begun`.

    Raises StartError, AlreadyStarted or Ignored when it is known at once that no server runs.
    """
    if name is not None:
        if isinstance(name, At):
            raise TypeError(f"a server is started on its own node, under a str or a Via(registry, key). Got: {name!r}")
        taken = node.whereis(name)
        if taken is not None and taken.status != DEAD:
            raise AlreadyStarted(taken.label(), name)
    process: ServerProcess = cls.__process__(node, cls, parent, name if type(name) is str else None)
    try:
        if type(name) is Via:
            _register(process, name)
        if setup is not None:
            setup.apply(process)
    except BaseException:
        _never_was(process)
        raise
    ctx = node.scratch.pop() if node.scratch else Context()
    outer = node.current
    node.current = process
    node.depth += 1
    try:
        value: Any = ctx.run(cls.init, process.server, *args, **kwargs) if kwargs else ctx.run(cls.init, process.server, *args)
        kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
        dying = process.status in (EXITING, DEAD)  # it died meanwhile: that is what it died of, whatever its init returned
        if kind not in CONTROL and cls.__process__ is ServerProcess and not (dying or STARTED.handlers or node.awaited):
            process.state = value  # `begun`, for the usual case
            problem = None
        else:
            if kind is not CoroutineType and not dying:
                value = process.loading(value)
                kind = type(value)  # pyright: ignore[reportUnknownVariableType]
            if kind is CoroutineType:
                process.ctx = ctx
                process.client = ack = Client(process, "init", None)
                process.go_async(process.begin_later(value, ack), None)
                if ack.outcome == PENDING and process.status != DEAD:
                    process.record = record
                    return process
                problem = ack.value if ack.outcome == ANSWERED else _died(process)
            elif dying:
                problem = None
            else:
                problem = process.begun(value)
                if problem is not None:
                    process.abandon(problem)
    except BaseException as error:
        info = exc_info(error)
        problem = _init_raised(process, error, info)
    finally:
        node.current = outer
        node.depth -= 1
    if process.ctx is None:
        if len(ctx):
            process.ctx = ctx
        elif len(node.scratch) < 8:
            node.scratch.append(ctx)
    if problem is not None:
        raise problem
    if process.status == RUNNING and process.mbox is None and process.idle is None:
        process.client = False  # `release`, for the usual case
        process.status = process.rest
    elif process.status in (RUNNING, LOOK):
        process.release()
    elif process.status == EXITING:
        process.end(process.reason)
    if process.status == DEAD:
        process.lay()
        raise _died(process)
    process.record = record
    return process


def _register(process: ServerProcess, name: Via) -> None:
    """Give a new process a name that leads through a registry, before its init runs."""
    if not name.module.register_name(name.key, process):
        holder = name.process(process.node)
        raise AlreadyStarted(name if holder is None else holder.label(), name)
    process.name = name
    if process.status in (EXITING, DEAD):  # whoever registers it has ended it
        raise StartError(process.reason, process.label())


def _never_was(process: ServerProcess) -> None:
    """A start that failed before `init`: nobody hears of the process."""
    if process.status == DEAD:
        process.lay()
    else:
        _unlink_from_starter(process)
        process.end(process.reason if process.status == EXITING else NORMAL)


def _init_raised(process: ServerProcess, error: BaseException, info: Any) -> BeamishError:
    if process.status == DEAD:
        process.lay()
        return _died(process)
    reason = process.reason if process.status == EXITING else exit_reason(error)
    _report.init_failed(process, reason, info)
    process.end(reason)
    if not isinstance(error, ORDINARY):
        raise error
    return _died(process)


def _died(process: ServerProcess) -> StartError:
    return StartError(process.reason, process.label())


async def begun(process: ServerProcess, timeout: float | None = None) -> ServerProcess:
    """Wait for an async init. Late, or with the starter cancelled, the half-started process is killed and its name free."""
    ack = process.client
    if not isinstance(ack, Client) or ack.request != "init":
        return process
    if not ack.outcome:
        edge = gen.edge_of(process.node.me(), process.node)  # an init that calls whoever waits for it is a circle too
        if edge is not None:
            edge.waiting = ack
        try:
            await _expect(ack, process.node, timeout)
        except BaseException:
            await _give_up(process, ack)
            raise
        finally:
            _forget(ack, process.node, timeout)
            if edge is not None:
                edge.waiting = None
    if ack.outcome == ANSWERED:
        if ack.value is not None:
            raise ack.value
        return process
    if ack.outcome == LATE:
        _unlink_from_starter(process)
        process.kill()
        raise StartError("timeout", process.label())
    raise _died(process)


def _expect(client: Client, node: Node, timeout: float | None) -> asyncio.Future[None]:
    """Become one who really waits: the future is done when there is a reply, the server is dead, or it is too late."""
    server = client.server
    if server.waiters is None:
        server.waiters = {client: None}
    else:
        server.waiters[client] = None
    client.future = future = node.loop.create_future()
    if timeout is not None:
        node.timeouts.add(client, timeout)
    return future


def _forget(client: Client, node: Node, timeout: float | None) -> None:
    """The waiting is over, one way or another."""
    if timeout is not None:
        node.timeouts.remove(client, timeout)
    waiters = client.server.waiters
    if waiters is not None:
        waiters.pop(client, None)


async def _give_up(process: ServerProcess, ack: Client) -> None:
    """The starter was cancelled. A server whose init had just ended runs: it is asked to end, and its terminate runs."""
    if ack.outcome == ANSWERED:
        if ack.value is None and process.record is None:  # a supervisor's child stays, to be stopped in its turn
            _unlink_from_starter(process)
            process.post((SYSTEM, gen.Stopper(SHUTDOWN), None, None))
        return
    _unlink_from_starter(process)
    if process.cls.__kind__ != "supervisor":
        process.kill()
        return
    ref = MonitorRef(None, process, process)
    process.begin_exit(SHUTDOWN)  # what it has started is stopped in order first
    await awaited(ref, None)


def _unlink_from_starter(process: ServerProcess) -> None:
    """As in OTP: no EXIT comes of a start that timed out, nor of one that its starter gave up."""
    if process.linked and process.parent is not None:
        process.parent.unlink_from(process)
        process.linked = False


async def start(
    cls: type[GenServer[Any]],
    args: Any,
    kwargs: Any,
    *,
    name: Any = None,
    link: bool = True,
    timeout: float | None = None,
    setup: Setup | None = None,
    on_begin: Callable[[ServerProcess], object] | None = None,
) -> ServerProcess:
    """Start a server for whoever runs this: linked to the process, or to the node's root when plain asyncio code asks."""
    node = here()
    me = node.me()
    await gen.not_dead(me)
    try:
        process = begin(node, cls, args, kwargs, (me or node.root) if link else None, name, None, setup)
        if not link and me is not None:
            extra_of(process).ancestors = (me.name if me.name is not None else me, *_report.ancestors(me))
        if on_begin is not None:
            on_begin(process)
        if process.status != IDLE:
            await begun(process, timeout)
    except StartError:
        if exiting(me):  # the link has taken us along; the cancellation is delivered here
            await sleep(0)
        raise
    return process


async def started(address: Address, timeout: float | None) -> None:
    """Wait until a server runs there, its init done."""
    node = here()
    deadline = None if timeout is None else node.clock.now() + timeout
    while True:
        process = address._process  # pyright: ignore[reportPrivateUsage]
        name = address._name  # pyright: ignore[reportPrivateUsage]
        if process is None:
            process = node.whereis(name)
        elif not process.alive:
            raise NoProcess.of(address, "started", None, ())
        if process is not None and process.alive and not _starting(process):
            return
        # A Via may come to lead elsewhere without any of its own being started: look again whenever anybody arrives.
        if not await _arrival(node, process if name is None else Via if type(name) is Via else name, deadline):
            raise CallTimeout.of(address, "started", timeout)


def _starting(process: Process) -> bool:
    ack = process.client if isinstance(process, ServerProcess) else None
    return isinstance(ack, Client) and ack.request == "init" and ack.outcome == PENDING


async def _arrival(node: Node, who: object, deadline: float | None) -> bool:
    """Wait for one `Node.arrived(who)`; False when the deadline came first."""
    future = node.loop.create_future()
    waiting = node.awaited.setdefault(who, [])
    waiting.append(future)
    late = Late(future)
    seconds = None if deadline is None else max(0.0, deadline - node.clock.now())
    if seconds is not None:
        node.timeouts.add(late, seconds)
    try:
        await future
    finally:
        if seconds is not None:
            node.timeouts.remove(late, seconds)
        arrived = future not in waiting
        if not arrived:
            waiting.remove(future)
            if not waiting:
                node.awaited.pop(who, None)
    return arrived
