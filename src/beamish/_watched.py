"""A server that `sys` looks at: its events are told to debug functions, and while it is suspended its mail waits.

Looking changes the class of the process (`watch`), so that one nobody looks at pays nothing; and its status at rest, so that
every call goes by the mailbox, where it can be seen.
"""

from __future__ import annotations

import asyncio
import sys as python_sys
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from beamish._runtime.client import ANSWERED, Client, Unheard
from beamish._runtime.extra import extra_of
from beamish._runtime.ids import Pid
from beamish._runtime.process import DEAD, EXITING, RUNNING, WATCHED, Entry
from beamish._runtime.signals import ACK, INFO, SYSTEM, Exited
from beamish.errors import short
from beamish.gen import Request, text

if TYPE_CHECKING:
    from beamish._loop import ServerProcess

    _Base = ServerProcess
else:
    _Base = object


# --- what happens in a server -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class In:
    """A request or message came to be handled. `client` is the process that called, None for others and plain asyncio code."""

    message: Any
    kind: str
    client: Pid | None = None


@dataclass(frozen=True, slots=True)
class Out:
    """A call was answered; `state` is the server's afterwards."""

    reply: Any
    client: Pid | None
    state: Any


@dataclass(frozen=True, slots=True)
class Kept:
    """Something was handled that had no reply (or none yet) (OTP's `{noreply, State}`)."""

    state: Any


Event = In | Out | Kept


class Done:
    """What a debug function returns to be taken off (OTP's `done`)."""


DONE = Done()

#: (its state, the event, the server) → its next state, or DONE.
DebugFunction = Callable[[Any, Event, object], Any]


@dataclass(frozen=True, slots=True)
class Statistics:
    """Since they were switched on, by the node's clock (seconds)."""

    start_time: float
    current_time: float
    messages_in: int
    messages_out: int


class Debug:
    """What is switched on at one process."""

    __slots__ = ("counts", "file", "functions", "log", "since", "suspended", "timeout", "trace")

    def __init__(self) -> None:
        self.suspended = False
        self.timeout: float | None = None  # an idle timeout that goes on when it is resumed
        self.counts: list[int] | None = None
        self.since = 0.0
        self.log: deque[Event] | None = None
        self.file: Path | None = None
        self.trace = False
        self.functions: dict[Any, tuple[DebugFunction, Any]] = {}

    def idle(self) -> bool:
        """Nothing is switched on."""
        return not (
            self.suspended or self.trace or self.functions or self.counts is not None or self.log is not None or self.file is not None
        )

    def names(self) -> list[str]:
        """What is switched on, for `get_status`."""
        found = {
            "statistics": self.counts is not None,
            "log": self.log is not None,
            "trace": self.trace,
            "log_to_file": self.file is not None,
        }
        return [name for name, on in found.items() if on] + ["install"] * len(self.functions)

    def event(self, process: ServerProcess, event: Event) -> None:
        if self.counts is not None and not isinstance(event, Kept) and not (isinstance(event, In) and event.kind == "continue"):
            self.counts[isinstance(event, Out)] += 1
        if self.log is not None:
            self.log.append(event)
        if self.trace or self.file is not None:
            self._write(process, f"*DBG* {process.label()!r} {shown(event)}\n")
        for id, (function, state) in list(self.functions.items()):
            self._tell(process, id, function, state, event)

    def _write(self, process: ServerProcess, line: str) -> None:
        """Where that is not possible any more it is switched off, and said so: the server goes on."""
        if self.trace:
            try:
                python_sys.stdout.write(line)
            except (OSError, ValueError) as error:
                self.trace = False
                _complain(process, f"its trace was switched off, stdout can't be written: {error}")
        if self.file is not None:
            try:
                with self.file.open("a", encoding="utf-8") as file:
                    file.write(line)
            except OSError as error:
                self.file = None
                _complain(process, f"its log_to_file was switched off: {error}")

    def _tell(self, process: ServerProcess, id: Any, function: DebugFunction, state: Any, event: Event) -> None:
        try:
            after = function(state, event, process.label())
        except (Exception, asyncio.CancelledError) as error:  # as in OTP: one that fails is taken off, the server goes on
            if process.status not in (EXITING, DEAD):  # by exit() of its own, say: see `Watched.told`
                _complain(process, f"a debug function was taken off, it raised {short(error)}")
            after = DONE
        if id not in self.functions:
            return
        if after is DONE:
            del self.functions[id]
        else:
            self.functions[id] = (function, after)


def _complain(process: ServerProcess, text: str) -> None:
    python_sys.stderr.write(f"*DBG* {process.label()!r}: {text}\n")


def shown(event: Event) -> str:
    """An event as `trace` prints it."""
    match event:
        case In(message=message, kind="call", client=client):
            return f"got call {short(message)} from {client!r}"
        case In(message=message, kind="cast"):
            return f"got cast {short(message)}"
        case In(message=message):
            return f"got {short(message)}"
        case Out(reply=reply, client=client, state=state):
            return f"sent {short(reply)} to {client!r}, new state {short(state)}"
        case Kept(state=state):
            return f"new state {short(state)}"


# --- the process ------------------------------------------------------------------------------------------------------


class Watched(_Base):
    """What is mixed into the class of a process that is watched."""

    __slots__ = ()

    rest: ClassVar[int] = WATCHED

    def drain(self, limit: int) -> None:
        node = self.node
        outer = node.current
        node.current = self
        node.depth += 1
        try:
            debug = debug_of(self)
            timeout = None if self.idle is None else self.disarm()
            self.status = RUNNING
            self.client = False
            while limit > 0:
                entry = self._next(debug)
                if entry is None:
                    break
                limit -= 1
                if entry[0] is not SYSTEM and entry[0] is not ACK:
                    timeout = None
                if not self.handle(entry):
                    return
                self.client = False
                if self.rest != WATCHED:
                    break  # nobody looks any more: the rest of its mail goes the usual way
            if timeout is not None:
                self.arm(timeout)
            unwatch(self)  # a debug function may have taken itself off
            self.release()
        finally:
            node.current = outer
            node.depth -= 1

    def arm(self, seconds: float) -> None:
        debug = debug_of(self)
        if debug.suspended:
            debug.timeout = seconds  # begins anew when it is resumed, as after any request of the system
        else:
            super().arm(seconds)

    def _next(self, debug: Debug) -> Entry | None:
        """The next mail to handle. Of a suspended server: only what is served all the same; the rest stays, in its order."""
        mbox = self.mbox
        if not mbox:
            return None
        if not debug.suspended:
            return mbox.popleft()
        for index, entry in enumerate(mbox):
            if self._served(entry):
                del mbox[index]
                return entry
        return None

    def _served(self, entry: Entry) -> bool:
        """Whether a suspended server handles it: requests of the system, and the exit of who started it."""
        return entry[0] is SYSTEM or (entry[0] is INFO and type(entry[1]) is Exited and entry[1].pid is self.parent)

    def post(self, entry: Entry) -> None:
        super().post(entry)
        if self.status == WATCHED and self.mbox and self._served(entry):
            self.node.enqueue(self)  # other mail waits there, which did not put it into the run queue

    def release(self) -> None:
        if self.mbox and debug_of(self).suspended and not any(map(self._served, self.mbox)):
            self.client = False
            self.status = WATCHED
        else:
            super().release()

    def handle(self, entry: Entry) -> bool:
        ours = entry[0] is not SYSTEM and entry[0] is not ACK
        if ours and not self._told(_came(entry)):
            return False
        free = super().handle(entry)
        return self._handled(entry) if free and ours else free

    def _told(self, event: Event) -> bool:
        """Tell an event. False: a debug function has ended the server."""
        debug_of(self).event(self, event)
        return self.status == RUNNING or self.looked()

    async def main(self, coro: Coroutine[Any, Any, Any], entry: Entry | None) -> None:
        await super().main(coro, entry)
        if self.rest == WATCHED and entry is not None and entry[0] is not SYSTEM and entry[0] is not ACK:
            self._handled(entry)

    def _handled(self, entry: Entry) -> bool:
        if self.status in (EXITING, DEAD):
            return False
        client = entry[3]
        if client is not None and (client.outcome == ANSWERED or type(client.value) is Unheard):
            reply = client.value if client.outcome == ANSWERED else client.value.reply
            event: Event = Out(reply, client.caller, self.state)
        else:
            event = Kept(self.state)
        if self.status == RUNNING:
            return self._told(event)
        debug_of(self).event(self, event)  # after an async handler: the process is at rest again
        return True


def _came(entry: Entry) -> In:
    name, args, _, client = entry
    message = text(entry) if isinstance(name, str) or isinstance(args, Request) else args
    kind = "call" if client is not None else "cast" if isinstance(name, str) or name.label == "cast" else name.label
    return In(message, kind, caller(client))


def caller(client: Client | None) -> Pid | None:
    return None if client is None else client.caller


def debug_of(process: ServerProcess) -> Debug:
    extra = extra_of(process)
    if extra.debug is None:
        extra.debug = Debug()
    found: Debug = extra.debug
    return found


def looked_at(process: ServerProcess) -> Debug | None:
    """What is switched on, without making a place for it."""
    found: Debug | None = process.extra.debug if process.extra is not None else None
    return found


_MIXED: dict[Any, Any] = {}


def mixed(mixin: Any, kind: Any) -> Any:
    """The class of a process with `mixin` in front. The same slots, so that a living process can be given it."""
    made = _MIXED.get((mixin, kind))
    if made is None:
        made = _MIXED[mixin, kind] = type(f"{mixin.__name__}{kind.__name__}", (mixin, kind), {"__slots__": ()})
    return made


def watch(process: ServerProcess) -> Debug:
    """Look at `process` from now on."""
    debug = debug_of(process)
    if process.rest != WATCHED:
        process.__class__ = mixed(Watched, type(process))
    return debug


def unwatch(process: ServerProcess) -> None:
    """Look away, if nothing is switched on any more."""
    extra = process.extra
    if extra is None or extra.debug is None or not extra.debug.idle():
        return
    extra.debug = None
    if process.rest == WATCHED:
        kind: Any = type(process).__mro__[2]
        process.__class__ = kind


# --- switching on -----------------------------------------------------------------------------------------------------


def check_option(option: Any) -> None:
    match option:
        case "trace" | "log" | "statistics" | ("log_to_file", str() | Path()):
            return
        case ("log", int(n)) if n > 0 and not isinstance(n, bool):
            return
        case ("install", (function, _)) if callable(function):
            return
        case _:
            raise ValueError(
                'debug takes "trace", "log", ("log", n), "statistics", ("log_to_file", path) and ("install", (function, state)). '
                f"Got: {short(option)}"
            )


def writable(path: Path) -> None:
    """OSError if a log can't be written there: said to whoever asks for it, and not in the server."""
    with path.open("a", encoding="utf-8"):
        pass


def switch_on(process: ServerProcess, option: Any) -> None:
    debug = watch(process)
    match option:
        case "trace":
            debug.trace = True
        case "log":
            debug.log = deque(debug.log or (), 10)
        case ("log", int(n)):
            debug.log = deque(debug.log or (), n)
        case "statistics":
            debug.counts, debug.since = [0, 0], process.node.clock.now()
        case ("log_to_file", path):
            debug.file = Path(path)
        case ("install", (function, state)):
            debug.functions[function] = (function, state)
        case _:
            check_option(option)


def suspend(process: ServerProcess) -> None:
    watch(process).suspended = True


def resume(process: ServerProcess) -> None:
    """The mail that came meanwhile goes first, in its order."""
    debug = looked_at(process)
    if debug is None or not debug.suspended:
        return
    debug.suspended = False
    timeout, debug.timeout = debug.timeout, None
    if timeout is not None:
        process.arm(timeout)
    unwatch(process)
