"""What can go wrong, as values: exit reasons, and the exceptions of failed calls and starts.

Exit reasons (the right-hand side of a `Down`, an `Exited`, a `terminate`) are frozen values, matched by class::

    match reason:
        case Normal() | Shutdown(): ...     # a clean end
        case Killed(): ...                  # somebody sent KILL
        case Crash(error=ValueError()): ... # a handler raised
        case other: ...                     # whatever `raise Exit(other)` or `Stop(other)` said

Exceptions::

    BeamishError
    ├── CallExit            a call, stop or sys request that got no answer
    │   ├── NoProcess       nobody there: dead pid, unknown name
    │   ├── CallTimeout     no reply in time (also a TimeoutError); the server goes on
    │   ├── ServerDown      the server ended before it replied; its error is the __cause__
    │   ├── CallingSelf     a server called itself and would wait for ever
    │   ├── Deadlock        the same, through others; the text shows the cycle
    │   ├── Overloaded      the mailbox is full
    │   ├── WrongServer     that server has no such call; it is not disturbed
    │   └── WrongLoop       the server belongs to another event loop (or thread)
    ├── StartError          `init` failed, or was late
    │   └── AlreadyStarted  the name is taken; `.address` is who has it
    ├── Ignored             `init` returned Ignore()
    ├── Exit                raise Exit(reason): OTP's exit/1
    └── SupervisorGaveUp    the tree of a `supervise` block ended itself
"""

from __future__ import annotations

import difflib
import os
import reprlib
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, cast

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 120
_short.maxlevel = 4


def short(value: object) -> str:
    """A bounded `repr` that never raises: what errors and reports show of users' values."""
    try:
        return _short.repr(value)
    except Exception as error:  # a broken __repr__ must not hide the error that is being reported
        return f"<{type(value).__name__} whose repr raised {type(error).__name__}>"


# --- exit reasons -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Normal:
    """The process did what it was for and ended (OTP's `:normal`)."""


@dataclass(frozen=True, slots=True)
class Shutdown:
    """Ended in order, usually by its supervisor (`:shutdown`, `{:shutdown, detail}`)."""

    detail: object = None


@dataclass(frozen=True, slots=True)
class Kill:
    """What is *sent* to end a process that does not listen; it dies of `Killed()`."""


@dataclass(frozen=True, slots=True)
class Killed:
    """The process was ended by KILL: no handler, no `terminate` ran."""


@dataclass(frozen=True, slots=True)
class NoProc:
    """There was no such process when it was linked, monitored or called."""


@dataclass(frozen=True, slots=True)
class NoConnection:
    """The node of that process is not reachable."""


Frame = tuple[str, int, str]


@dataclass(frozen=True, slots=True)
class Crash:
    """An exception nobody caught. `error` has its traceback cleared: a kept one would keep the dead state alive.

    `frames` are (file, line, function), innermost last; `text()` renders them when somebody reads
    (formatting costs 100-200 µs, a crash that is only restarted should not pay that).
    """

    error: BaseException
    frames: tuple[Frame, ...] = field(default=(), repr=False, compare=False)

    @classmethod
    def of(cls, error: BaseException, tb: TracebackType | None = None) -> Crash:
        """The crash that `error` is, its traceback (from `tb` on, if given) made frames."""
        crash: Any = _new(_Draft)
        crash.error = error
        crash.frames = _frames(tb or error.__traceback__)
        error.__traceback__ = None
        if error.__context__ is not None or error.__cause__ is not None or hasattr(error, "exceptions"):
            _clear(error)
        crash.__class__ = cls
        made: Crash = crash
        return made

    def text(self) -> str:
        """The error as Python would print it, from the remembered frames."""
        return "".join(self.lines())

    def lines(self) -> Iterator[str]:
        if self.frames:
            yield "Traceback of the server (most recent call last):\n"
            yield from traceback.StackSummary.from_list([(file, line, name, None) for file, line, name in self.frames]).format()
        yield from traceback.format_exception(self.error)


class _Draft:
    """A Crash while it is made: the generated __init__ of a frozen dataclass, which may not assign, takes 0.8 µs more."""

    __slots__ = ("error", "frames")


_new = object.__new__
_HERE = os.path.dirname(__file__)
_RUNTIME = {
    os.path.join(_HERE, name)
    for name in (
        "_loop.py",
        "_watched.py",
        "_machine.py",
        "_kept.py",
        "_task_process.py",
        "_task_wait.py",
        "_task_blocking.py",
        "task.py",
        "gen.py",
        "_client.py",
    )
}


def is_runtime(file: str) -> bool:
    """Whether a frame of that file is the machinery above a handler, which nobody wants to see in a traceback."""
    return file in _RUNTIME or file.startswith(("<@call ", "<@cast "))


def _frames(tb: TracebackType | None) -> tuple[Frame, ...]:
    frames: list[Frame] = []
    while tb is not None:
        code = tb.tb_frame.f_code
        if not is_runtime(code.co_filename):
            frames.append((code.co_filename, tb.tb_lineno, code.co_name))
        tb = tb.tb_next
    return tuple(frames)


def _clear(error: BaseException) -> None:
    """Drop the tracebacks of `error` and of all that is chained to it."""
    pending: list[BaseException | None] = [error]
    seen: set[int] = set()
    while pending:
        one = pending.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        one.__traceback__ = None
        pending += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            pending += cast("BaseExceptionGroup[BaseException]", one).exceptions


#: For passing, never for matching: `case NORMAL:` would capture everything.
NORMAL, SHUTDOWN, KILL, KILLED, NOPROC, NOCONNECTION = Normal(), Shutdown(), Kill(), Killed(), NoProc(), NoConnection()


_CLEAN = (Normal, Shutdown)  # a tuple: `Normal | Shutdown` makes a new union at each look, 0.3 µs


def clean(reason: object) -> bool:
    """Whether `reason` is an orderly end: no report, and no restart of a transient child."""
    return isinstance(reason, _CLEAN)


# --- exceptions -------------------------------------------------------------------------------------------------------


class BeamishError(Exception):
    """Everything that this library raises on its own account."""


class Exit(BeamishError):
    """`raise Exit(reason)` ends the process with `reason`: OTP's `exit/1`. It can be caught like any exception."""

    def __init__(self, reason: object = NORMAL) -> None:
        super().__init__(reason)
        self.reason = reason


class CallExit(BeamishError):
    """A request that got no answer. `server` is what was called, `request` what was asked, `reason` the exit reason."""

    def __init__(self, text: str, *, server: object = None, request: str = "", reason: object = None) -> None:
        super().__init__(text)
        self.server = server
        self.request = request
        self.reason = reason


def notes_of(error: BaseException, reason: object) -> list[str]:
    """The notes of an error that carries the server's crash: made at the first look, and kept, for `add_note`."""
    notes: list[str] | None = error.__dict__.get("_notes")
    if notes is None:
        error.__dict__["_notes"] = notes = [reason.text()] if isinstance(reason, Crash) and reason.frames else []
    return notes


class NoProcess(CallExit):
    """Nobody there: the pid is dead, or nothing is registered under the name."""

    @classmethod
    def of(cls, server: object, request: str, name: object, known: Iterable[object], *, elsewhere: bool = False) -> NoProcess:
        if name is None:
            why = "that process has ended; a pid never comes back. Keep the name of a supervised server rather than its pid"
        elif elsewhere:
            why = (
                f"nothing is registered as {name!r} on this event loop, but on another one there is. From a thread or a def endpoint: "
                "beamish.blocking.call(server.method, …)"
            )
        else:
            similar = difflib.get_close_matches(str(name), [str(n) for n in known], n=3)
            hint = f"Similar names: {', '.join(map(repr, similar))}. " if similar else ""
            why = f"nothing is registered as {name!r} on this event loop. {hint}Is it started, and by a supervisor that is up?"
        return cls(f"{server!r} did not get {request}: {why}", server=server, request=request, reason=NOPROC)


class CallTimeout(CallExit, TimeoutError):
    """No reply within the timeout. The server is not disturbed; a late reply is dropped."""

    @classmethod
    def of(cls, server: object, request: str, seconds: float | None) -> CallTimeout:
        text = (
            f"{server!r} did not answer {request} within {seconds} s. It goes on, and its late reply will be dropped. "
            "For another limit: await server.with_timeout(seconds).…; a handler that waits for others should be async."
        )
        return cls(text, server=server, request=request, reason="timeout")


_ADVICE = " A supervised server is restarted, with the state of its init or of its last snapshot: call again if that is safe."


class ServerDown(CallExit):
    """The server ended before it replied. `reason` says of what; an error of the server is the `__cause__`."""

    def __init__(self, server: object, request: Any, reason: object, show: Callable[[Any], str] = str) -> None:
        # `show(request)` makes the text when somebody reads it: most callers only catch this, and it takes 6 µs.
        BaseException.__init__(self)
        self.server = server
        self.reason = reason
        self._request = request
        self._show = show
        if isinstance(reason, Crash):
            self.__cause__ = reason.error

    @property
    def request(self) -> str:  # type: ignore[override]
        return self._show(self._request)

    def __str__(self) -> str:
        match self.reason:
            case Crash(error=error):
                why = f"it crashed with {type(error).__name__}: {str(error).removesuffix(_ADVICE).rstrip('. ')}"
            case Killed():
                why = "it was killed"
            case Normal() | Shutdown():
                why = f"it had stopped ({self.reason!r})"
            case _:
                why = f"it exited with {short(self.reason)}"
        return f"{self.server!r} did not answer {self.request}: {why}.{_ADVICE}"

    def __repr__(self) -> str:
        return f"ServerDown({self.server!r}, {self.request!r}, reason={short(self.reason)})"

    def __reduce__(self) -> Any:
        return type(self), (self.server, self.request, self.reason)

    @property
    def __notes__(self) -> list[str]:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]  # rendered only when somebody prints the traceback
        return notes_of(self, self.reason)


class CallingSelf(CallExit):
    """A server that awaits its own answer would wait for ever."""

    @classmethod
    def of(cls, server: object, request: str) -> CallingSelf:
        text = (
            f"{server!r} called itself with {request} and would wait for ever. Call the plain function instead: "
            f"{type(server).__name__}.{request.partition('(')[0]}.handler(self, state, …)"
        )
        return cls(text, server=server, request=request, reason="calling_self")


class Deadlock(CallExit):
    """Servers that wait for each other in a circle. `cycle` lists them, the caller first."""

    cycle: tuple[object, ...] = ()

    @classmethod
    def of(cls, server: object, request: str, cycle: tuple[object, ...]) -> Deadlock:
        way = " → ".join(repr(one) for one in (*cycle, cycle[0]))
        text = (
            f"{server!r} can't answer {request}: each of these waits for the next: {way}. "
            "Make one of the calls a cast, or answer it later with reply()."
        )
        error = cls(text, server=server, request=request, reason="deadlock")
        error.cycle = cycle
        return error


class Overloaded(CallExit):
    """The server's mailbox is full, and has the bound that `options(max_queue=…)` gave it. The request did not get in."""

    @classmethod
    def of(cls, server: object, request: str, limit: int) -> Overloaded:
        text = (
            f"{server!r} did not take {request}: {limit} requests wait for it already, which is its max_queue. "
            "Try again later, send less, or spread the work over several servers (PartitionSupervisor)."
        )
        return cls(text, server=server, request=request, reason="overloaded")


class WrongServer(CallExit):
    """The server behind the address has no such call. It is not disturbed."""

    @classmethod
    def of(cls, server: object, request: str, found: type) -> WrongServer:
        if not hasattr(found, "__handlers__"):
            text = f"{server!r} is no server but a spawned function or an adopted task: it takes messages (send), not {request!r}"
            return cls(text, server=server, request=request, reason="wrong_server")
        text = (
            f"{server!r} is a {found.__name__}, which has no @call or @cast {request!r}. "
            f"Use an address of its own class: {found.__name__}(…)"
        )
        return cls(text, server=server, request=request, reason="wrong_server")


class WrongLoop(CallExit):
    """The server lives on another event loop. From a thread, use `beamish.blocking`."""

    @classmethod
    def of(cls, server: object, request: str) -> WrongLoop:
        text = (
            f"{server!r} belongs to another event loop than the one that asked for {request}. "
            "From a thread use beamish.blocking.call(server.method, …), for a cast blocking.cast; from another loop, start a server there."
        )
        return cls(text, server=server, request=request, reason="wrong_loop")


@dataclass(frozen=True, slots=True)
class FailedToStart:
    """The detail of the Shutdown that a supervisor ends with when a child did not start."""

    id: Any
    reason: object


def _root_of(reason: object) -> object:
    """What a start really died of, below the supervisors that only report it."""
    while isinstance(reason, Shutdown) and isinstance(reason.detail, FailedToStart):
        reason = reason.detail.reason
    return reason


class StartError(BeamishError):
    """A process that could not be started. `reason` is what its `init` died of, or "timeout"."""

    def __init__(self, reason: object, what: object = "the process") -> None:
        super().__init__(reason)
        self.reason = reason
        self.what = what
        root = _root_of(reason)
        if isinstance(root, Crash):
            self.__cause__ = root.error

    def __str__(self) -> str:
        match self.reason:
            case "timeout":
                why = "init did not return in time, so it was killed"
            case Crash(error=error):
                why = f"init raised {type(error).__name__}: {error}"
            case Shutdown(detail=FailedToStart(id=id, reason=reason)):
                why = str(StartError(reason, f"its child {short(id)}"))
            case _:
                why = f"its init ended with {short(self.reason)}"
        return f"{self.what!s} did not start: {why}"

    @property
    def __notes__(self) -> list[str]:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]
        return notes_of(self, self.reason)


class AlreadyStarted(StartError):
    """The name is taken. `address` is the server that has it."""

    def __init__(self, address: object, name: object = None) -> None:
        super().__init__("already_started", address)
        self.address = address
        self.name = name

    def __str__(self) -> str:
        return f"the name {self.name!r} is taken by {self.address!r}. Stop that one first, or start this one under another name"


class Ignored(BeamishError):
    """`init` returned Ignore(): there is no process, and that is no error of it."""

    def __init__(self, what: object = "the server") -> None:
        super().__init__(f"{what} chose not to run: its init returned Ignore()")


class BadReturn(BeamishError):
    """A callback returned something that it may not return."""

    def __init__(self, callback: str, value: Any, expected: str) -> None:
        super().__init__(f"{callback} returned {short(value)}. Expected: {expected}")
        self.value = value


class SupervisorGaveUp(BeamishError):
    """The supervisor of a `supervise` block ended by itself: more restarts than it allows, or it was stopped."""

    def __init__(self, supervisor: object, reason: object) -> None:
        super().__init__(
            f"{supervisor!r} ended inside its supervise block: {short(reason)}. "
            "The log has the children's crash reports; max_restarts and max_seconds say how many it takes."
        )
        self.supervisor = supervisor
        self.reason = reason
