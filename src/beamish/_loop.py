"""The process of a server: its message loop, written once for every kind of callback.

    entry in the mailbox ── drain ──▶ run the handler ──▶ value      ──▶ reply
    call of an idle server ─(_client)─▶       │       ──▶ control    ──▶ settle ──▶ reply, state, then | stop
                                              │       ──▶ coroutine  ──▶ go_async: the same, in a task that begins here
                                              └─raises──▶ fail ──▶ terminate ──▶ report ──▶ Process.end

`settle` and `fail` return None, or a coroutine that does the rest where a callback turned out to be async. They run inside
the process's own context: on the stack through `ctx.run`, in a task because that is its context.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Coroutine
from types import CoroutineType, TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeGuard

from beamish import _report
from beamish._address import at, named
from beamish._answers import CONTROL, UNCHANGED, Continue, Hibernate, Ignore, Init, NoReply, Refuse, Reply, Stop, Timeout
from beamish._runtime.client import Client
from beamish._runtime.names import Via
from beamish._runtime.node import Node
from beamish._runtime.process import AT_REST, CURRENT, DEAD, EXITING, IDLE, LOOK, RUNNING, STARTED, SUSPENDED, WAITING, Entry, Process
from beamish._runtime.signals import ACK, CONTINUE, INFO, ITEM, SYSTEM, Exited, Mark, TimedOut
from beamish._runtime.tasks import eager
from beamish._runtime.timers import Timer
from beamish.errors import NORMAL, SHUTDOWN, BadReturn, BeamishError, Crash, Exit, Ignored, StartError, is_runtime

if TYPE_CHECKING:
    from beamish.gen_server import GenServer


def is_coroutine(value: Any) -> TypeGuard[CoroutineType[Any, Any, Any]]:
    return type(value) is CoroutineType


#: What comes after: nothing, or the rest of it as a coroutine (which returns UNCHANGED: it is nobody's reply).
Rest = Coroutine[Any, Any, Any] | None

#: What ends a process and nothing else. KeyboardInterrupt and the like end the program too. (A union here costs 0.2 µs a look.)
ORDINARY = (Exception, asyncio.CancelledError)

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]

_TIMED_OUT: Entry = (INFO, TimedOut(), None, None)


class ServerProcess(Process):
    """One running server."""

    __slots__ = ("calls", "client", "cls", "idle", "server", "state")

    def __init__(self, node: Node, cls: type[GenServer[Any]], parent: Process | None, name: str | None) -> None:
        Process.__init__(self, node, parent, name)  # super() is 0.15 µs dearer on 3.11
        self.cls = cls
        self.calls = cls.__handlers__
        self.state: Any = None
        self.client: Client | Process | Literal[False] | None = False  # of the request in hand; see `gen.client`
        self.idle: Timer | None = None  # then=Timeout(…), while it runs
        self.server: Any = at(cls, self)

    def label(self) -> object:
        return self.server if self.name is None else named(self.cls, self.name)

    def kill(self) -> None:
        client = self.client
        super().kill()
        if self in self.node.ghosts:
            self.client = client  # its code still runs: what it had answered before was sent before its death

    def lay(self) -> None:
        self.client = False
        super().lay()

    def clear(self) -> None:
        self.state = None
        self.client = False
        if self.idle is not None:
            self.node.wheel.cancel(self.idle)
            self.idle = None

    behaves = True
    #: The status when there is nothing to do: IDLE, where a call may run on its caller's stack, or WATCHED.
    rest: ClassVar[int] = IDLE

    def initial_call(self) -> object:
        return f"{self.cls.__qualname__}.init"

    # -- mail

    def post(self, entry: Entry) -> None:
        mbox = self.mbox
        if mbox is not None:
            mbox.append(entry)
            return
        status = self.status
        if status in (DEAD, EXITING):
            return
        pool = self.node.pool
        self.mbox = mbox = pool.pop() if pool else deque[Entry]()
        mbox.append(entry)
        if status in AT_REST:
            self.node.enqueue(self)

    def drain(self, limit: int) -> None:
        node = self.node
        outer = node.current
        node.current = self
        node.depth += 1
        try:
            mbox, handler_of, server = self.mbox, self.calls.get, self.server
            assert mbox is not None
            run = self.context().run
            timeout = None if self.idle is None else self.disarm()
            self.status = RUNNING
            self.client = False
            while mbox and limit > 0:
                limit -= 1
                name, args, kwargs, client = entry = mbox.popleft()
                handler = handler_of(name)
                if client is not None or kwargs or timeout is not None:
                    if name is not SYSTEM and name is not ACK:
                        timeout = None  # any ordinary message cancels it
                    if not self.handle(entry):
                        return
                    self.client = False
                    if self.rest:
                        break  # it is watched from now on: the rest of its mail goes the way that can be seen
                    continue
                # What `handle` does, written out for casts and messages: 0.3 µs of 0.9.
                try:
                    value = run(handler, server, self.state, *args) if handler is not None else run(self.special, name, args, None)
                except BaseException as error:
                    self.raised(error, entry)
                    return
                if (value is not None or self.status != RUNNING) and not self.took(value, entry):
                    return
            if timeout is not None:
                self.arm(timeout)  # a request of the system restarts the full interval
            self.release()
        finally:
            node.current = outer
            node.depth -= 1

    def handle(self, entry: Entry) -> bool:
        """Run the handler of one entry. False: the process is gone, or a task of its own does the rest."""
        name, args, kwargs, client = entry
        self.client = client if client is not None else False
        run = self.context().run
        try:
            handler = self.calls.get(name)
            if handler is not None:
                value = run(handler, self.server, self.state, *args, **kwargs) if kwargs else run(handler, self.server, self.state, *args)
            else:
                value = run(self.special, name, args, client)
        except BaseException as error:
            return self.raised(error, entry)
        return self.took(value, entry)

    def took(self, value: Any, entry: Entry) -> bool:
        """What a handler on the stack returned. False as in `handle`."""
        client, status = entry[3], self.status
        if is_coroutine(value):
            if status == DEAD:
                value.close()
                self.lay()
                return False
            self.go_async(value, entry)
            return False
        if status != RUNNING and not self.looked():
            return False  # it died meanwhile: its answer and its state are dropped
        if client is not None and type(value) not in CONTROL:
            client.answered(value)
        elif value is not None:
            run = self.context().run
            try:
                rest = run(self.settle, value, entry)
            except BaseException as error:
                return self.raised(error, entry)
            if rest is not None:
                self.go_async(rest, entry)
                return False
            return self.status == RUNNING
        return True

    def raised(self, error: BaseException, entry: Entry) -> bool:
        """A handler on the stack raised. Always False."""
        rest = self.context().run(self.fail, error, entry)
        if rest is not None:
            self.go_async(rest, entry)
        if not isinstance(error, ORDINARY):
            raise error  # KeyboardInterrupt and the like end the program; the process is restored and gone
        return False

    def special(self, mark: str | Mark, args: Any, client: Client | None) -> Any:
        """Everything that is not a generated call or cast, by the mark that stands in place of a name."""
        cls, server, state = self.cls, self.server, self.state
        if mark is INFO or mark is ITEM:
            if type(args) is Exited and args.pid is self.parent:
                return Stop(args.reason)  # whoever started it is gone: so is the server, even for NORMAL
            return cls.handle_info(server, state, args)
        if mark is CONTINUE:
            return cls.handle_continue(server, state, args)
        if mark is SYSTEM or mark is ACK:
            return args(self)
        if client is not None:
            return cls.handle_call(server, state, args, client)
        return cls.handle_cast(server, state, args)

    def release(self) -> None:
        """The handler is done and the process lives: on to the next mail, or idle."""
        self.client = False  # it holds the reply, which may be large, and who asked
        mbox = self.mbox
        if mbox:
            self.node.enqueue(self)
            return
        if mbox is not None:
            self.mbox = None
            if len(self.node.pool) < 256 and type(mbox) is deque:
                self.node.pool.append(mbox)
        self.status = self.rest if self.idle is None else WAITING

    def looked(self) -> bool:
        """After a handler on the stack: what became of the process meanwhile. True when it just goes on."""
        status = self.status
        if status == LOOK:
            self.status = RUNNING
            return True
        if status == EXITING:
            self.end(self.reason)
        elif status == DEAD:
            self.lay()
        return status == RUNNING

    # -- what a callback returned

    def settle(self, value: Any, entry: Entry) -> Rest:
        """Apply what a handler returned. The plain reply of a call never comes here."""
        kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
        client = entry[3]
        if kind is Reply and client is not None:
            self.go_on(value.state, value.then)
            client.answered(value.value)
        elif kind is NoReply:
            self.go_on(value.state, value.then)
            if client is not None:
                client.deferred()
        elif kind is Refuse and client is not None:
            client.refused(value.error)
        elif kind is Stop:
            if value.state is not UNCHANGED:
                self.state = value.state
            return self.stop(value.reason, entry, reply=value.reply)
        elif value is not None:
            raise BadReturn(_report.callback(self.cls, entry), value, _EXPECTED_CALL if client is not None else _EXPECTED)
        return None

    def go_on(self, state: Any, then: Any) -> None:
        if state is not UNCHANGED:
            self.state = state
        if then is None:
            return
        match then:
            case Continue(arg=arg):
                self.put_first((CONTINUE, arg, None, None))
            case Timeout(seconds=seconds):
                self.arm(seconds)
            case Hibernate():
                pass
            case _:
                raise BadReturn("then=", then, "Continue(arg), Timeout(seconds) or Hibernate()")

    def put_first(self, entry: Entry) -> None:
        """Ahead of the queue. The status is RUNNING or SUSPENDED, so `release` finds it."""
        if self.mbox is None:
            self.mbox = self.new_mail()
        self.mbox.appendleft(entry)

    def new_mail(self) -> deque[Entry]:
        return self.node.pool.pop() if self.node.pool else deque[Entry]()

    # -- then=Timeout(…)

    def arm(self, seconds: float) -> None:
        if seconds == math.inf or (self.mbox and any(entry[0] is not SYSTEM and entry[0] is not ACK for entry in self.mbox)):
            return  # a message waits (requests of the system do not count): it cancels the timeout before it begins
        if seconds == 0:
            self.post(_TIMED_OUT)
        else:
            self.idle = self.node.wheel.arm(self.node.clock.now() + seconds, self.fired, None, seconds)

    def fired(self, timer: Timer) -> None:
        if self.status == WAITING:  # else mail has come: an ordinary message cancels, one of the system starts it anew
            self.idle = None
            self.post(_TIMED_OUT)

    def disarm(self) -> float | None:
        """Cancel the Timeout that is armed; its seconds."""
        timer, self.idle = self.idle, None
        if timer is None:
            return None
        seconds: float = timer.message
        self.node.wheel.cancel(timer)
        return seconds

    # -- async handlers

    def go_async(self, coro: Coroutine[Any, Any, Any], entry: Entry | None) -> None:
        """Run a callback's coroutine in an eager task; when that is done the process is released, or has ended."""
        node = self.node
        ctx = self.ctx
        if ctx is None or CURRENT not in ctx:
            ctx = self.task_context()
        outer = node.current
        node.current = self
        node.depth += 1
        try:
            task = eager(self.main(coro, entry), loop=node.loop, context=ctx)
        finally:
            node.current = outer
            node.depth -= 1
        if task.done():
            self.lay()
        elif self.status != EXITING and self.status != DEAD:
            self.status = SUSPENDED

    async def main(self, coro: Coroutine[Any, Any, Any], entry: Entry | None) -> None:
        """The body of a callback's task. What died meanwhile keeps its death: its answer and its state are dropped."""
        self.task = asyncio.current_task()
        try:
            value = await coro
            status = self.status
            if value is not UNCHANGED and status != EXITING and status != DEAD:
                client = entry[3] if entry is not None else None
                if client is not None and type(value) not in CONTROL:
                    client.answered(value)
                elif entry is not None:
                    rest = self.settle(value, entry)
                    if rest is not None:
                        await rest
        except BaseException as error:
            if type(error) is GeneratorExit:
                raise  # closed after a KILL
            more = self.fail(error, entry)
            if more is not None:
                await self.last_words(more)
            self.task = None
            if not isinstance(error, ORDINARY):
                raise
        else:
            self.task = None
            status = self.status
            if status == EXITING:
                self.end(self.reason)
            elif status != DEAD:
                if self.mbox is None and self.idle is None:
                    self.client = False  # `release`, for the usual case
                    self.status = self.rest
                else:
                    self.release()

    async def last_words(self, more: Coroutine[Any, Any, Any]) -> None:
        """An async terminate after a crash. What it raises is the reason then."""
        try:
            await more
        except BaseException as error:
            if type(error) is GeneratorExit:
                raise
            self.end_unless_dead(self.reason if self.status == EXITING else exit_reason(error))

    # -- the end

    def begin_exit(self, reason: object) -> None:
        if self.status in (RUNNING, SUSPENDED, LOOK):
            self.status = EXITING
            self.reason = reason
            self.mbox = None  # casts are dropped; the clients in it are failed when it is dead
            self.node.look()
            if self.task is not None:
                self.task.cancel()
        else:
            self.end(reason)

    def stop(self, reason: object, entry: Entry | None, *, reply: Any = UNCHANGED, info: ExcInfo | None = None) -> Rest:
        """terminate → reply → report → exit. An error in terminate becomes the reason; the reply is still sent."""
        if self.cls.__terminates__:
            try:
                rest = self.terminate(reason)
            except BaseException as raised:
                info = exc_info(raised)
                self.stopped(exit_reason(raised), entry, reply, info)
                if not isinstance(raised, ORDINARY):
                    raise
                return None
            if type(rest) is CoroutineType:
                return self.stop_later(rest, reason, entry, reply, info)
        self.stopped(reason, entry, reply, info)
        return None

    def terminate(self, reason: object) -> Any:
        return self.cls.terminate(self.server, self.state, reason)

    async def stop_later(self, rest: Any, reason: object, entry: Entry | None, reply: Any, info: ExcInfo | None) -> Any:
        try:
            await rest
        except (Exception, asyncio.CancelledError) as raised:
            if isinstance(raised, Exception) or not (self.status in (EXITING, DEAD) or self.node.ending()):
                info = exc_info(raised)
                reason = exit_reason(raised)
        self.stopped(reason, entry, reply, info)
        return UNCHANGED

    def stopped(self, reason: object, entry: Entry | None, reply: Any, info: ExcInfo | None) -> None:
        if self.status == DEAD:
            return
        if self.status == EXITING:
            reason = self.reason
        if reply is not UNCHANGED and entry is not None and entry[3] is not None:
            entry[3].answered(reply)
        _report.server_ended(self, reason, entry, info)
        self.end(reason)

    def fail(self, error: BaseException, entry: Entry | None) -> Rest:
        """A callback raised. `entry` is None when it was `init`: no terminate, and the name is free before anyone is told."""
        if self.status == DEAD:
            self.lay()
            return None
        if self.status == EXITING:
            self.end(self.reason)
            return None
        if type(error) is asyncio.CancelledError and self.node.ending():
            self.end(SHUTDOWN)  # the loop is being ended; nobody is to restart it
            return None
        info = exc_info(error)
        reason = error.reason if isinstance(error, Exit) else Crash.of(error, info[2])
        if entry is not None:
            return self.stop(reason, entry, info=info)
        _report.init_failed(self, reason, info)
        self.end(reason)
        return None

    # -- the beginning

    def loading(self, value: Any) -> Any:
        """What `init` returned; or, if the state is kept in a file, a coroutine that loads it first."""
        if type(value) is Init and value.snapshot is not None:
            from beamish import _kept

            _kept.keep(self)
            return self.loading(value)
        return value

    def begun(self, value: Any) -> BeamishError | None:
        """What `init` returned. None when the server runs now, else what its starter is to be told."""
        kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
        if kind not in CONTROL:
            self.state = value
        elif kind is Init:
            self.state = value.state
            self.go_on(UNCHANGED, value.then)
        elif kind is Ignore:
            return Ignored(self.cls.__name__)
        elif kind is Stop:
            return StartError(value.reason, self.cls.__name__)
        else:
            raise BadReturn(f"{self.cls.__name__}.init", value, "the state, Init(state, then=…), Ignore() or Stop(reason)")
        if STARTED.handlers:
            self.started()
        if self.node.awaited:
            self.node.arrived(self)
            self.node.arrived(self.name)
            self.node.arrived(Via)
        return None

    async def begin_later(self, coro: Coroutine[Any, Any, Any], ack: Client) -> Any:
        """An async init. `ack` is what the starter waits for: None, or the exception to raise there."""
        value = await coro
        if self.status != EXITING and self.status != DEAD and is_coroutine(value := self.loading(value)):
            value = await value
        if self.status != EXITING and self.status != DEAD:
            problem = self.begun(value)
            ack.answered(problem)  # before the end: that would fail all who wait
            if problem is not None:
                self.abandon(problem)
        return UNCHANGED

    def abandon(self, problem: BeamishError) -> None:
        """`init` said that no server is to run."""
        reason = problem.reason if isinstance(problem, StartError) else NORMAL
        _report.init_failed(self, reason, None)
        self.end(reason)

    def end_unless_dead(self, reason: object) -> None:
        if self.status != DEAD:
            self.end(reason)


def exc_info(error: BaseException) -> ExcInfo:
    """For the log, before `Crash.of` clears the traceback; it begins in the handler, not in the runtime above it."""
    tb = error.__traceback__
    while tb is not None and tb.tb_next is not None and is_runtime(tb.tb_frame.f_code.co_filename):
        tb = tb.tb_next
    return type(error), error, tb


def exit_reason(error: BaseException) -> object:
    """What a process dies of when `error` leaves its code: the reason of an Exit, else the crash."""
    return error.reason if isinstance(error, Exit) else Crash.of(error)


_EXPECTED_CALL = "the reply, or Reply(value, state=…, then=…), NoReply(then=…), Stop(reason, reply=…)"
_EXPECTED = "None, NoReply(state=…, then=…) or Stop(reason)"
