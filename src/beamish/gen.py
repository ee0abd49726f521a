"""What every kind of server shares: start it, call it, stop it. `gen_server` and `supervisor` are written with this.

A call takes one of two roads. The short one (generated in `_client`) runs a `def` handler of an idle server on the caller's
stack. Everything else comes to `request` here: it looks at what is in the way, runs the handler on the stack where that
is possible all the same, else puts the request into the mailbox and waits.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import sleep
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from beamish import _report, telemetry
from beamish._address import Address, At, at, check_timeout
from beamish._answers import UNCHANGED, Stop
from beamish._bounded import Full
from beamish._loop import ServerProcess, is_coroutine
from beamish._runtime.client import ANSWERED, LATE, PENDING, REFUSED, Client
from beamish._runtime.node import NODES, Node, exiting, here, here_key
from beamish._runtime.process import CURRENT, DEAD, EXITING, IDLE, LOOK, QUEUED, RUNNING, WAITING, Entry, MonitorRef, Process
from beamish._runtime.signals import NOTICE, REQUEST, SYSTEM, Mark
from beamish.errors import (
    NOCONNECTION,
    NORMAL,
    CallingSelf,
    CallTimeout,
    Deadlock,
    NoProcess,
    Overloaded,
    ServerDown,
    WrongLoop,
    WrongServer,
    short,
)
from beamish.process import awaited

#: Spans of every call while somebody listens; `CALLS` is the one guard for the three on the hot road.
CALL_START, CALL_STOP = telemetry.event("beamish.gen_server.call.start"), telemetry.event("beamish.gen_server.call.stop")
CALL_EXCEPTION = telemetry.event("beamish.gen_server.call.exception")
CALLS = telemetry.Guard(CALL_START, CALL_STOP, CALL_EXCEPTION)
CAST = telemetry.event("beamish.gen_server.cast")


@dataclass(frozen=True, slots=True)
class Request:
    """A generated call or cast, as `handle_call` and `handle_cast` see it in a class that overrides them."""

    name: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict[str, Any])


# --- calling ----------------------------------------------------------------------------------------------------------


async def request(address: Address, name: str | Mark, args: Any, kwargs: Any) -> Any:
    """A call by the long road. The public face is a @call method, `address.call` and `sys`."""
    node = here()
    me = node.me()
    process = await _find(address, node, name, args, kwargs)
    await not_dead(me)
    if node.budget <= node.floor and not node.spend():
        await sleep(0)
        process = await _find(address, node, name, args, kwargs)
    node.budget -= 1
    name, args, kwargs = _as_request(address, process, name, args, kwargs, call=True)
    client = Client(process, describe(name, args), me)
    entry: Entry = (name, args, kwargs, client)
    if CALLS.handlers:
        return await _traced(address, process, node, me, entry)
    return await _ask(address, process, node, me, entry)


async def not_dead(me: Process | None) -> None:
    """The dead ask nothing and start nothing; a cancellation that is pending is delivered here."""
    if me is not None and exiting(me):
        await sleep(0)
        if me in me.node.ghosts:
            raise asyncio.CancelledError


async def _ask(address: Address, process: ServerProcess, node: Node, me: Process | None, entry: Entry) -> Any:
    client = entry[3]
    assert client is not None
    edge = edge_of(me, node)
    if edge is not None:
        check_cycle(edge, process, address, entry)
        edge.waiting = client
    try:
        if process.status == EXITING:
            client.failed(process.reason)  # it is not alive any more, whatever its finally blocks still do
        elif _clear(process, node, system=entry[0] is SYSTEM):
            process.status = RUNNING
            _on_this_stack(process, node, process.handle, entry)
        else:
            process.post(entry)
        return await outcome(address, process, me, entry, client)
    finally:
        if edge is not None:
            edge.waiting = None


async def outcome(address: Address, process: ServerProcess, me: Process | None, entry: Entry, client: Client) -> Any:
    """The reply, or the error that says why there is none."""
    node = process.node
    timeout = address._timeout  # pyright: ignore[reportPrivateUsage]
    if process.status == DEAD:
        client.failed(process.reason)
    if not client.outcome:
        # Written out here, not in two functions: 0.4 µs less of a call that waits.
        waiters = process.waiters
        if waiters is None:
            process.waiters = waiters = {}
        waiters[client] = None
        future: asyncio.Future[None] = asyncio.Future(loop=node.loop)
        client.future = future
        late = None if timeout is None else node.timeouts.add(client, timeout)
        try:
            await future
        finally:
            if late is not None:
                late.pop(client, None)
            waiters.pop(client, None)
    if me is not None and exiting(me):
        await sleep(0)  # we died during our own call: the cancellation is delivered here
    if client.outcome == ANSWERED:
        return client.value
    if client.outcome == LATE:
        raise CallTimeout.of(address, text(entry), timeout)
    if client.outcome == REFUSED:
        raise client.value
    if type(client.value) is Full:
        raise Overloaded.of(address, text(entry), client.value.limit)
    if node.runq:
        await window(node)
    raise ServerDown(address, entry, client.value, text)


def _clear(process: ServerProcess, node: Node, *, system: bool) -> bool:
    """Make way for a handler on this stack: queued mail goes first, a Timeout is cancelled by any message."""
    if node.depth >= node.limit:
        return False
    if process.status == QUEUED and process.mbox is not None:
        mail = len(process.mbox)
        if mail >= node.budget:
            return False
        node.budget -= mail
        process.drain(mail)
    if process.status == WAITING and not system:
        process.disarm()
        process.status = process.rest
    return process.status == IDLE


def _on_this_stack(process: ServerProcess, node: Node, act: Callable[..., bool], *args: Any) -> None:
    """`act` as the process, one handler deeper; it says whether the process is free again afterwards."""
    outer = node.current
    node.current = process
    node.depth += 1
    try:
        if act(*args):
            process.release()
    finally:
        node.current = outer
        node.depth -= 1


async def took(address: Address, process: ServerProcess, value: Any, name: str, args: Any, kwargs: Any) -> Any:
    """The rest of a call on the short road whose handler returned more than a value, or to which something happened."""
    node = process.node
    me = node.me()
    client = process.client
    if type(client) is not Client:
        process.client = client = Client(process, name, me)
    entry: Entry = (name, args, kwargs, client)
    edge = None if me is None else edge_of(me, node)
    if edge is not None:
        edge.waiting = client
    try:
        if is_coroutine(value) and process.status == RUNNING:
            process.go_async(value, entry)
        else:
            _on_this_stack(process, node, process.took, value, entry)
        return await outcome(address, process, me, entry, client)
    finally:
        if edge is not None:
            edge.waiting = None


async def raised(address: Address, process: ServerProcess, error: BaseException, name: str, args: Any, kwargs: Any) -> Any:
    """The rest of a call on the short road whose handler raised."""
    node = process.node
    me = node.me()
    client = process.client if isinstance(process.client, Client) else Client(process, name, me)
    entry: Entry = (name, args, kwargs, client)
    _on_this_stack(process, node, process.raised, error, entry)
    return await outcome(address, process, me, entry, client)


async def window(node: Node) -> None:
    """The restart window: what is in the run queue goes first, so that a supervisor has restarted a dead server."""
    if node.runq and not (node.depth < node.limit and node.run_once()):
        await node.turn()


async def _find(address: Address, node: Node, name: str | Mark, args: Any, kwargs: Any) -> ServerProcess:
    """Who is behind the address now; the restart window for one who is not."""
    for last in (False, True):
        process = address._process  # pyright: ignore[reportPrivateUsage]
        if process is None:
            process = node.whereis(address._name)  # pyright: ignore[reportPrivateUsage]
        elif process.node is not node:
            raise WrongLoop.of(address, text((name, args, kwargs, None)))
        if process is not None and process.status != DEAD:
            if not isinstance(process, ServerProcess):
                raise WrongServer.of(address, text((name, args, kwargs, None)), type(process))
            return process
        if not last:
            await window(node)
    if isinstance(address._name, At) and not address._name.local:  # pyright: ignore[reportPrivateUsage]
        raise ServerDown(address, (name, args, kwargs, None), NOCONNECTION, text)
    name_of = address._name  # pyright: ignore[reportPrivateUsage]
    elsewhere = any(name_of in other.names for other in list(NODES.values()) if other is not node)
    raise NoProcess.of(address, text((name, args, kwargs, None)), name_of, node.names, elsewhere=elsewhere)


def _as_request(address: Address, process: ServerProcess, name: str | Mark, args: Any, kwargs: Any, *, call: bool) -> tuple[Any, Any, Any]:
    """A generated call in the form that the server's class takes it; WrongServer if it knows no such name."""
    if not isinstance(name, str) or name in process.calls:
        return name, args, kwargs
    if process.cls.__overrides__[0 if call else 1]:
        return (REQUEST if call else NOTICE), Request(name, args, dict(kwargs or {})), None
    raise WrongServer.of(address, name, process.cls)


def edge_of(me: Process | None, node: Node) -> Process | None:
    """`me`, if it is its own handler that will wait; a task that the handler started makes no edge."""
    if me is None:
        return None
    own = node.current is me if me.task is None else me.task is asyncio.current_task(node.loop)
    return me if own else None


def check_cycle(me: Process, server: Process, address: Address, entry: Entry) -> None:
    """Follow who waits for whom from `server`: back to `me` is a circle that nobody leaves."""
    way = [me]
    one = server
    while one is not me:
        way.append(one)
        if one.waiting is None or one.waiting.outcome != PENDING or len(way) > 1000:
            return  # nobody waits there, or whoever does has its answer and will see it at its next turn
        one = one.waiting.server
    if server is me:
        raise CallingSelf.of(address, text(entry))
    raise Deadlock.of(address, text(entry), tuple(process.label() for process in way))


async def _traced(address: Address, process: ServerProcess, node: Node, me: Process | None, entry: Entry) -> Any:
    facts = {"server": address, "pid": process, "request": entry[3].request if entry[3] is not None else "", "caller": me}
    begin = node.clock.now()
    if CALL_START.handlers:
        CALL_START.execute({"monotonic_time": begin}, facts)
    try:
        value = await _ask(address, process, node, me, entry)
    except BaseException as error:
        if CALL_EXCEPTION.handlers:
            CALL_EXCEPTION.execute({"duration": node.clock.now() - begin}, {**facts, "reason": error})
        raise
    if CALL_STOP.handlers:
        CALL_STOP.execute({"duration": node.clock.now() - begin}, facts)
    return value


def describe(name: str | Mark, args: Any) -> str:
    """What a request is, in a word."""
    if isinstance(name, str):
        return name
    return str(getattr(args, "verb", name.label)) if name is SYSTEM else name.label


def text(entry: Entry) -> str:
    """The request as errors show it."""
    name, args = entry[0], entry[1]
    if isinstance(args, Request):
        return str(_report.message((args.name, args.args, args.kwargs, None)))
    if isinstance(name, str):
        return str(_report.message(entry))
    return describe(name, args) if name is SYSTEM else short(args)


# --- casting ----------------------------------------------------------------------------------------------------------


def notify(address: Address, name: str | Mark, args: Any, kwargs: Any) -> None:
    """A cast by the long road: nobody there is no error, as in OTP."""
    node = here()
    process = address._process  # pyright: ignore[reportPrivateUsage]
    if process is None:
        process = node.whereis(address._name)  # pyright: ignore[reportPrivateUsage]
    elif process.node is not node:
        raise WrongLoop.of(address, text((name, args, kwargs, None)))
    if node.ghosts and node.silenced():
        return
    if process is None or process.status == DEAD:
        return
    if not isinstance(process, ServerProcess):
        raise WrongServer.of(address, text((name, args, kwargs, None)), type(process))
    name, args, kwargs = _as_request(address, process, name, args, kwargs, call=False)
    if CAST.handlers:
        CAST.execute(
            {"monotonic_time": node.clock.now()}, {"server": address, "pid": process, "request": describe(name, args), "caller": node.me()}
        )
    process.post((name, args, kwargs, None))


# --- answering later ---------------------------------------------------------------------------------------------------


def client() -> Client:
    """The client of the call in hand (OTP's `from`): keep it, return NoReply(), and `reply` when the answer is there.

    Only inside a call handler; elsewhere RuntimeError.
    """
    process = here().me()
    if not isinstance(process, ServerProcess):
        raise RuntimeError("client() is for call handlers: no server's handler is running here")
    found = process.client
    if isinstance(found, Client):
        return found
    # One that was told to exit meanwhile dies when this handler returns, and still serves the call until then.
    doomed = process.status == EXITING and process.node.current is process and process.task is None
    if found is False or not (process.status in (RUNNING, LOOK) or doomed):
        raise RuntimeError("client() is for call handlers: this handler serves no call, so nobody waits for a reply")
    process.client = found = Client(process, "call", found if found is not None else _caller(process.node))
    if not doomed:
        process.status = LOOK
    return found


def _caller(node: Node) -> Process | None:
    """Whose task is making the inlined call in hand: asked only by `client()`, so the short road does not note it."""
    task = asyncio.current_task(node.loop)
    if task is None:
        return None
    adopted = node.adopted.get(task)
    if adopted is not None:
        return adopted
    if sys.version_info >= (3, 12):
        return task.get_context().get(CURRENT)
    context = getattr(task, "_context", None)
    return context.get(CURRENT) if context is not None else None


def reply(client: Client, value: Any) -> None:
    """Answer a call, from any process or thread, at any time. Second and late replies are dropped; so is one from the dead."""
    if not isinstance(client, Client):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"reply takes the client that beamish.client() gave the handler, then the value. Got: {short(client)}")
    node = client.server.node
    if here_key() != node.key:  # a worker thread: the loop has to be woken, and only it may touch the client's future
        if not node.loop.is_closed():  # else nobody waits any more
            node.loop.call_soon_threadsafe(client.answered, value)
    elif not (node.ghosts and node.silenced()):
        client.answered(value)


# --- stopping ---------------------------------------------------------------------------------------------------------


async def stop(server: Any, reason: object = NORMAL, timeout: float | None = None) -> None:
    """Ask a server to end with `reason` after the mail it has, and wait until it is gone (`timeout` seconds; None: for ever).

    Raises ServerDown if it ends with another reason, NoProcess if nobody is there, CallTimeout if it is not gone in time
    (it goes on stopping), CallingSelf.
    """
    check_timeout(timeout)
    node = here()
    address = server if isinstance(server, Address) else at(_class_of(server), server)
    process = await _find(address, node, SYSTEM, None, None)
    me = node.me()
    if process is me:
        raise CallingSelf.of(address, "stop")
    ref = MonitorRef(None, process, address)
    process.post((SYSTEM, Stopper(reason), None, None))
    try:
        actual = await down(ref, timeout)
    finally:
        ref.stop()
    if exiting(me):
        await sleep(0)
    if actual is UNCHANGED:
        raise CallTimeout.of(address, "stop", timeout)
    if actual != reason:
        raise ServerDown(address, "stop", actual)


class Stopper:
    """The system request to stop."""

    __slots__ = ("reason",)
    verb = "stop"

    def __init__(self, reason: object) -> None:
        self.reason = reason

    def __call__(self, process: ServerProcess) -> Stop[Any]:
        return Stop(self.reason)


def _class_of(process: Any) -> Any:
    if not isinstance(process, ServerProcess):
        raise TypeError(f"only servers can be stopped so; send an exit signal instead: exit({process!r}, SHUTDOWN). Got: {process!r}")
    return process.cls


async def down(ref: MonitorRef, timeout: float | None = None) -> Any:
    """The reason of the Down of a monitor nobody else hears, or UNCHANGED when it did not come in time."""
    found = await awaited(ref, timeout)
    return UNCHANGED if found is None else found.reason
