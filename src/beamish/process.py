"""The verbs on processes: spawn, names, link, monitor, own, exit. Elixir's `Process`; messages are in `messages`, timers in `timer`.

Wherever a pid is taken, an address of a server or a registered name is too. Called in plain asyncio code, the verbs that
need a mailbox of one's own (`current`, `link`, `monitor`, `receive`, `flag`) adopt the running task as a process until it
is done: its return is NORMAL, its exception a Crash, its cancellation SHUTDOWN, and an exit signal cancels it.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any, Literal, ParamSpec, cast, get_args

from beamish import _report
from beamish._address import Address, At, Via
from beamish._runtime.extra import extra_of
from beamish._runtime.ids import Pid
from beamish._runtime.names import LOCAL
from beamish._runtime.node import Node, here
from beamish._runtime.process import DEAD, EXITING, Alias, MonitorRef, Process, TaskProcess
from beamish._runtime.signals import INFO, Down, Exited
from beamish.errors import NOCONNECTION, NOPROC, NORMAL, SHUTDOWN, Crash, Exit, Kill, NoProcess, WrongLoop, short

P = ParamSpec("P")

#: What names a process: a pid, the address of a server, or a registered name.
Target = Pid | Address | str | Via | At


# --- who --------------------------------------------------------------------------------------------------------------


def current() -> Pid:
    """The pid of the process whose code this is (Elixir's `self()`). Plain asyncio code is adopted; see the module."""
    return myself()


def node() -> str:
    """The name of this node: "nonode@nohost" as long as it takes part in no cluster."""
    return LOCAL


def whereis(name: str | Via | At) -> Pid | None:
    """The pid registered under `name` on this event loop, or None."""
    process = here().whereis(name)
    return process if process is not None and process.alive else None


def alive(target: Target) -> bool:
    """Whether there is such a process, and it is not ending."""
    process = find(target)
    return process is not None and process.alive


def register(name: str, target: Target | None = None) -> None:
    """Give a process (by default this one) a name. ValueError when the name is taken, or it has one, or is dead."""
    node = here()
    process = myself() if target is None else find(target)
    if not isinstance(name, str) or not name:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"a name is a non-empty str. Got: {name!r}")
    if process is None or not process.alive:
        raise ValueError(f"can't register {name!r}: {target!r} is not alive")
    if name in node.names:
        raise ValueError(f"the name {name!r} is taken by {node.names[name].label()!r}")
    if process.name is not None:
        raise ValueError(f"{process!r} has the name {process.name!r} already, and a process has one at most")
    process.name = name
    node.names[name] = process
    if node.awaited:
        node.arrived(name)


def unregister(name: str) -> None:
    """Take a name back. ValueError when nobody has it."""
    node = here()
    process = node.names.pop(name, None)
    if process is None:
        raise ValueError(f"nothing is registered as {name!r}")
    process.name = None


def registered() -> list[str]:
    """The names that are taken on this event loop, in the order of registering."""
    return list(here().names)


def find(target: Target, node: Node | None = None) -> Process | None:
    """The runtime's process behind a target; None when a name leads nowhere. WrongLoop for one of another loop."""
    if node is None:
        node = here()
    found: Process | None
    if isinstance(target, Process):
        found = target
    elif isinstance(target, Address):
        found = target._process if target._process is not None else node.whereis(target._name)  # pyright: ignore[reportPrivateUsage]
    elif isinstance(target, str | Via | At):
        found = node.whereis(target)
    else:
        raise TypeError(f"expected a pid, an address or a name. Got: {target!r}")
    if found is not None and found.node is not node:
        raise WrongLoop.of(target, "a signal")
    return found


def name_of(target: Target) -> object:
    """The name that a target goes by, or None for a pid."""
    if isinstance(target, Address):
        return target._name  # pyright: ignore[reportPrivateUsage]
    return target if isinstance(target, str | Via | At) else None


def myself() -> Process:
    """The process whose code this is; plain asyncio code is adopted."""
    node = here()
    me = node.me()
    return me if me is not None else _adopt(node)


def _adopt(node: Node) -> Process:
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("this code runs in no task (a callback of the loop?), so it can't be a process; spawn one instead")
    process = _Adopted(node, None, None)
    process.task = task
    node.adopted[task] = process

    def done(task: asyncio.Task[Any]) -> None:
        node.adopted.pop(task, None)
        process.finished(task)

    task.add_done_callback(done)
    return process


class _Adopted(TaskProcess):
    """A task of plain asyncio code, while it is a process."""

    __slots__ = ()
    ours = False

    def exit_reason(self, task: asyncio.Task[Any]) -> object:
        if task.cancelled():
            return SHUTDOWN
        # Not task.exception(): whoever owns the task is to retrieve that, or to be told that nobody did.
        error: BaseException | None = cast(Any, task)._exception
        if error is None:
            return NORMAL
        return error.reason if isinstance(error, Exit) else Crash(error)


# --- spawning ---------------------------------------------------------------------------------------------------------


class _Function(TaskProcess):
    """A spawned function."""

    __slots__ = ("fn",)

    fn: Callable[..., Any]

    def initial_call(self) -> object:
        return getattr(self.fn, "__qualname__", repr(self.fn))

    def exit_reason(self, task: asyncio.Task[Any]) -> object:
        error = asyncio.CancelledError("cancelled, but not by an exit signal") if task.cancelled() else task.exception()
        if error is None:
            return NORMAL
        if task.cancelled() and self.node.ending():
            return SHUTDOWN
        info = type(error), error, error.__traceback__
        reason = error.reason if isinstance(error, Exit) else Crash.of(error)
        _report.task_ended(self, reason, info)
        return reason


def spawn(fn: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> Pid:
    """Run `fn(*args)`, async or plain, as a process of its own; it begins in the next turn of the loop.

    Its return is the exit reason NORMAL, `raise Exit(reason)` that reason, any other exception a Crash (which is logged).
    """
    return _spawn(None, fn, args, kwargs)


def spawn_link(fn: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> Pid:
    """The same, linked to this process from its first moment on (in plain asyncio code: to the node's root)."""
    node = here()
    return _spawn(node.me() or node.root, fn, args, kwargs)


def spawn_monitor(fn: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> tuple[Pid, MonitorRef]:
    """The same, monitored from its first moment on: its Down comes to this process, or to `await down(ref)`."""
    process = _spawn(None, fn, args, kwargs)
    return process, MonitorRef(myself(), process, process)


def _spawn(parent: Process | None, fn: Callable[..., Any], args: Any, kwargs: Any) -> Process:
    if not callable(fn):
        raise TypeError(f"spawn takes a function and its arguments: spawn(job, 1), not spawn(job(1)). Got: {short(fn)}")
    node = here()
    living(node)
    process = _Function(node, parent, None)
    process.fn = fn
    process.started()
    # Not by the loop's task factory: under asyncio.eager_task_factory it would begin before it has a task that can be cancelled.
    process.task = asyncio.Task(body(fn, args, kwargs), loop=node.loop, name=f"beamish-{process!r}", context=process.task_context())
    process.task.add_done_callback(process.finished)
    return process


def living(node: Node) -> None:
    """The dead start nothing and arm nothing: their code, which is still unwinding, is told so."""
    if node.ghosts and node.silenced():
        raise asyncio.CancelledError("this process is dead")


async def body(fn: Callable[..., Any], args: Any, kwargs: Any) -> None:
    """What the task of a spawned function runs."""
    value = fn(*args, **kwargs)
    if inspect.isawaitable(value):
        await value


# --- links, monitors, exits -------------------------------------------------------------------------------------------


def link(target: Target) -> None:
    """Tie this process to another: when one ends, the other gets an exit signal (see `exit`). Linking twice is linking once.

    To the dead: NoProcess, or an `Exited(pid, NOPROC)` message if this process traps exits.
    """
    me = myself()
    process = find(target)
    if process is me:
        return
    if process is None or process.status == DEAD:
        if process is not None and me.trap:
            me.post((INFO, Exited(process, NOPROC), None, None))
            return
        raise NoProcess.of(target, "link", name_of(target), here().names)
    me.link_to(process)
    process.link_to(me)


def unlink(target: Target) -> None:
    """Undo `link`: no exit signal of that process comes any more (an Exited that is in the mailbox stays)."""
    me = myself()
    process = find(target)
    if process is not None:
        me.unlink_from(process)
        process.unlink_from(me)
        for child, other in ((me, process), (process, me)):
            if child.record is not None:
                child.record.unlinked(child, other)


AliasMode = Literal["explicit_unalias", "demonitor", "reply_demonitor"]


def monitor(target: Target, *, alias: AliasMode | None = None) -> MonitorRef:
    """Be told of the end of `target`: one `Down(ref, target, reason)` comes, at once (NOPROC) if nobody is there.

    Each call is a monitor of its own. A server gets the Down in `handle_info`; others may `await down(ref)`.

    With `alias` the reference is an alias of this process too, to which others may `send`: until `unalias(ref)`
    ("explicit_unalias"); until that, `demonitor` or the Down ("demonitor"); until any of these or the first message, which
    also ends the monitor ("reply_demonitor").
    """
    if alias is not None and alias not in get_args(AliasMode):
        raise ValueError(f'alias is "explicit_unalias", "demonitor" or "reply_demonitor". Got: {alias!r}')
    here_now = here()
    me = here_now.current or here_now.me() or _adopt(here_now)
    process = find(target, here_now)
    if process is None and isinstance(name_of(target), At) and not cast("At", name_of(target)).local:
        ref = MonitorRef(me, None, target, NOCONNECTION)
    else:
        ref = MonitorRef(me, process, target)
    if alias is not None:
        once = alias == "reply_demonitor"
        ref.alias = Alias(me, once=once, explicit=alias == "explicit_unalias", monitor=ref if once else None)
        if not ref.active and not ref.alias.explicit:
            ref.alias.stop()  # the Down has come already
    return ref


def demonitor(ref: MonitorRef, *, flush: bool = False, info: bool = False) -> bool:
    """End a monitor. `flush`: take a Down that is in the mailbox out of it. Returns True; with `info`, whether it was active."""
    active = ref.stop()
    if flush and ref.delivered is not None:
        _take(ref)
    return active if info else True


async def down(target: Target | MonitorRef, timeout: float | None = None) -> Down:
    """Wait for the end of `target`, or for the Down of a monitor. TimeoutError after `timeout` seconds (None: for ever)."""
    ref = target if isinstance(target, MonitorRef) else MonitorRef(None, find(target), target)
    if ref.delivered is not None:
        _take(ref)
        return ref.delivered
    try:
        found = await awaited(ref, timeout)
    finally:
        if ref is not target:
            ref.stop()
    if found is None:
        raise TimeoutError(f"{ref.target!r} was still alive after {timeout} s")
    return found


async def awaited(ref: MonitorRef, timeout: float | None) -> Down | None:
    """The Down of `ref`, taken from the mailbox's way, or None after `timeout` seconds (the monitor goes on)."""
    if ref.delivered is not None:
        return ref.delivered
    node = here()
    ref.future = future = node.loop.create_future()
    late = Late(future)
    if timeout is not None:
        node.timeouts.add(late, timeout)
    try:
        await future
    finally:
        ref.future = None
        if timeout is not None:
            node.timeouts.remove(late, timeout)
    return ref.delivered


class Late:
    """A timeout that sets a future to None."""

    __slots__ = ("future",)

    def __init__(self, future: asyncio.Future[Any]) -> None:
        self.future = future

    def late(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


def _take(ref: MonitorRef) -> None:
    """Take the Down of `ref` out of its watcher's mail."""
    watcher = ref.watcher
    if isinstance(watcher, TaskProcess):
        watcher.inbox = [m for m in watcher.inbox if m is not ref.delivered]
    elif watcher is not None and watcher.mbox is not None:
        for entry in [entry for entry in watcher.mbox if entry[1] is ref.delivered]:
            watcher.mbox.remove(entry)


def own(closer: Callable[[], object]) -> None:
    """Have `closer()` called when this process ends, for whatever reason, KILL included: before anybody hears of the end.

    `own(connection.close)`. Several run last first, as code of no process. It may be async, and is then run in a task of its own,
    which the end of the loop waits for (5 s at most). What it raises is logged, and the others have their turn. `disown(closer)`
    takes it back: do that when you close something yourself, since a process keeps what it owns.
    """
    if not callable(closer):
        raise TypeError(f"own takes a function without arguments that closes something: own(file.close). Got: {short(closer)}")
    living(here())
    me = myself()
    if me is me.node.root:
        raise RuntimeError("a closer is code of no process, so it owns nothing: close it there, or own it in the process")
    extra = extra_of(me)
    if extra.closers is None:
        extra.closers = {}
    extra.closers[closer] = None


def disown(closer: Callable[[], object]) -> bool:
    """Take back what `own` was told. Whether it was there."""
    extra = myself().extra
    return extra is not None and extra.closers is not None and extra.closers.pop(closer, closer) is None


def exit(target: Target, reason: object) -> bool:
    """Send an exit signal. Always True, also for a dead pid; a signal that ends this very process does not return.

    KILL ends the target, always, with reason KILLED. NORMAL does nothing, unless sent to oneself. Any other reason ends it,
    or comes as `Exited(pid, reason)` if it traps exits.
    """
    process = find(target)
    node = here()
    if process is None or (node.ghosts and node.silenced()):
        return True
    me = node.me()
    if me is None or process is not me:
        process.signal(me if me is not None else node.root, reason, by_link=False)
        return True
    if type(reason) is Kill:
        me.kill()
    elif me.trap:
        me.post((INFO, Exited(me, reason), None, None))
        return True
    elif me.status not in (EXITING, DEAD):
        if node.current is me or me.task is asyncio.current_task():
            me.status, me.reason = EXITING, reason  # it dies when this, its own code, has unwound
            me.mbox = None
        else:
            me.begin_exit(reason)  # said in a task that it started
    raise asyncio.CancelledError(f"{me.label()!r} exits: {short(reason)}")


def flag(*, trap_exit: bool) -> bool:
    """Whether exit signals come as `Exited` messages from now on. Returns what it was."""
    me = myself()
    before, me.trap = me.trap, trap_exit
    return before
