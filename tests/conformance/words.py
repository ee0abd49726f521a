"""What every port is written with: the counterpart of `_helper.exs`, in the same words.

A port prints its trace with `out` and `sec`. `f` writes our values as Elixir's `inspect` writes its own, so that a trace can
be compared letter by letter with what the real OTP printed:

    "boom"  :boom          Text("oops")  "oops"        Shutdown("x")  {:shutdown, :x}      Crash(e)  {{:exc, Name, "text"}, :STACK}
    None    nil            [("a", 1)]    [a: 1]        KILLED         :killed              BadReturn {:bad_return_value, value}
    a pid   :PID, or :"pid:name"         a ref  :REF   a class  Name                       CallExit  {reason, {GenServer, :call, [...]}}

Time is virtual: it jumps to the next alarm when nothing else can run (`VirtualClock.drive`), so `settle(40)`, `sleep(300)`
and `receive(timeout=…)` take the milliseconds of the script and no time at all.
"""

from __future__ import annotations

import ast
import asyncio
import dataclasses
import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypedDict, Unpack

import beamish
from beamish import (
    Answer,
    BadReturn,
    CallExit,
    ChildSpec,
    Crash,
    Down,
    Exit,
    Exited,
    Failed,
    FailedToStart,
    GenServer,
    Ignore,
    Ignored,
    Init,
    Kill,
    Killed,
    NoConnection,
    NoProc,
    Normal,
    Ok,
    Pid,
    Ref,
    Registry,
    Replied,
    Reply,
    Shutdown,
    StartError,
    StateMachine,
    Stop,
    SupervisorError,
    TaskExit,
    TaskTimeout,
    TimedOut,
    Via,
)
from beamish.testing import ManualClock, settle as turns

# --- the trace --------------------------------------------------------------------------------------------------------

_trace: list[str] = []
_NOTHING: Any = object()


def out(label: str, value: Any = _NOTHING) -> None:
    """Print one event: a label, and a value in Elixir's words."""
    _trace.append(label if value is _NOTHING else f"{label} {f(value)}")


def sec(title: str) -> None:
    """Print the headline of a section."""
    out(f"== {title}")


# --- time -------------------------------------------------------------------------------------------------------------


class VirtualClock(ManualClock):
    """A clock that moves by itself, to the next alarm, when nothing else can run."""

    async def drive(self, task: asyncio.Task[Any]) -> None:
        """Run `task` to its end. A task that waits for nothing that is ever to come is an error."""
        while True:
            await turns()
            if task.done():
                return
            if not self._alarms:
                task.cancel()
                raise AssertionError("the scenario waits for ever: nothing can run, and no alarm is armed")
            await self.advance(max(0.0, self._alarms[0][0] - self.now()))


_clock = VirtualClock()


def begin(clock: VirtualClock) -> list[str]:
    """A fresh trace, and the clock that `sleep` waits on. Called by the runner."""
    global _clock, _trace
    _clock, _trace = clock, []
    return _trace


async def sleep(ms: float) -> None:
    """`Process.sleep(ms)`, in virtual time. In any process, the script itself included."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    _clock.call_at(_clock.now() + ms / 1000, lambda: None if future.done() else future.set_result(None))
    await future


async def settle(ms: float = 40) -> None:
    """`T.settle(ms)`: let everything happen that happens by itself."""
    await sleep(ms)


async def forever() -> None:
    """`Process.sleep(:infinity)`."""
    await asyncio.get_running_loop().create_future()


# --- Elixir's inspect -------------------------------------------------------------------------------------------------


class Text(str):
    """An Elixir binary, printed with quotes; a plain `str` is an atom here, for that is what our reasons and requests use."""

    __slots__ = ()


class Alias(str):
    """An Elixir module name: `GenServer`, `RuntimeError`."""

    __slots__ = ()


#: Python's exception where Elixir raises another one for the same thing; all others keep their name.
EXCEPTIONS: dict[type[BaseException], str] = {
    ValueError: "ArgumentError",
    ZeroDivisionError: "ArithmeticError",
}

_REASONS: dict[type, str] = {Normal: "normal", Kill: "kill", Killed: "killed", NoProc: "noproc", NoConnection: "noconnection"}


def f(value: Any) -> str:
    """`T.f`: a value in Elixir's words, without pids, refs, functions and stack traces."""
    return _inspect(n(value))


def n(value: Any) -> Any:
    """`T.n`: our values as OTP's shapes; tuples, lists, maps, atoms (`str`), binaries (`Text`) and module names (`Alias`)."""
    match value:
        case Normal() | Kill() | Killed() | NoProc() | NoConnection():
            return _REASONS[type(value)]
        case Shutdown(detail=None):
            return "shutdown"
        case Shutdown(detail=detail):
            return "shutdown", n(detail)
        case FailedToStart(id=id, reason=reason):
            return "failed_to_start_child", n(id), n(reason)
        case Crash(error=error):
            return _crash(error)
        case Exited(pid=pid, reason=reason):
            return "EXIT", n(pid), n(reason)
        case Down(ref=ref, target=target, reason=reason):
            return "DOWN", n(ref), "process", _watched(target), n(reason)
        case TimedOut():
            return "timeout"
        case Ok(value=found):
            return "ok", n(found)
        case Failed(reason=reason, input=None):
            return "exit", n(reason)
        case Failed(reason=reason, input=item):
            return "exit", (n(item), n(reason))
        case Replied(ref=ref, value=found):
            return n(ref), n(found)
        case Pid():
            name = getattr(value, "name", None)
            return f"pid:{name}" if name is not None and beamish.alive(value) else "PID"
        case Ref():
            return "REF"
        case GenServer() | StateMachine():
            pid = value.pid()
            return "PID" if pid is None else n(pid)
        case Via(module=Registry() as registry, key=key):
            return "via", Alias("Registry"), (Alias(registry._name), n(key))
        case BaseException():
            return _error(value)
        case Answer() | Init() | Ignore():
            return _returned(value)
        case type():
            return Alias(value.__name__)
        case tuple():
            return tuple(map(n, value))
        case list():
            return list(map(n, value))
        case Mapping():
            return {n(key): n(one) for key, one in value.items()}
        case _ if dataclasses.is_dataclass(value):
            fields = {one.name: n(getattr(value, one.name)) for one in dataclasses.fields(value)}
            return "struct", Alias(type(value).__name__), fields
        case _ if callable(value):
            return "FUN"
        case _:
            return value


def _crash(error: BaseException) -> Any:
    """What OTP's process dies of when ours dies of an exception."""
    match error:
        case BadReturn(value=value):
            return "bad_return_value", n(value)
        case CallExit():
            return _call_exit(error)
        case _:
            return _error(error), "STACK"


def _error(error: BaseException) -> Any:
    match error:
        case CallExit():
            return _call_exit(error)
        case Exit(reason=reason) | StartError(reason=reason):
            return n(reason)
        case _:
            return "exc", Alias(EXCEPTIONS.get(type(error), type(error).__name__)), Text(error)


def _returned(value: Answer[Any] | Init | Ignore) -> Any:
    """What a callback returned. A state that was not given has no counterpart."""
    match value:
        case Init(state=state, then=None):
            return "ok", n(state)
        case Init(state=state, then=then):
            return "ok", n(state), n(then)
        case Ignore():
            return "ignore"
        case Reply(value=reply):
            return "reply", n(reply)
        case Stop(reason=reason):
            return "stop", n(reason)
        case _:
            return "noreply"


def _call_exit(error: CallExit) -> Any:
    """`{reason, {GenServer, :call, [server, request, timeout]}}`, from what the error says about itself."""
    if isinstance(error, TaskExit | TaskTimeout):
        return _task_exit(error)
    server = error.server
    timeout = "infinity"
    if isinstance(server, GenServer | StateMachine):
        seconds = server._timeout
        timeout = "infinity" if seconds is None else n(round(seconds * 1000))
        server = server if server._name is None else server._name
    return n(error.reason), (Alias("GenServer"), "call", [n(server), n(_request(error.request)), timeout])


def _task_exit(error: TaskExit | TaskTimeout) -> Any:
    """`{reason, {Task, :await, [task, timeout]}}`; of a stream `{:timeout, {Task.Supervised, :stream, [timeout]}}`, a charlist."""
    timeout = "infinity" if error.timeout is None else round(error.timeout * 1000)
    if error.request == "async_stream":
        return n(error.reason), (Alias("Task.Supervised"), "stream", Alias(f"'{chr(int(timeout))}'"))
    return n(error.reason), (Alias("Task"), error.request.rstrip("_"), ["task", timeout])


def _request(text: str) -> Any:
    """The request of an error's text: `'ping'` is :ping, `('stop', 'boom')` a tuple, `add(1)` is {:add, 1}, `get()` is :get."""
    try:
        parsed = ast.parse(text, mode="eval").body
        if isinstance(parsed, ast.Call) and isinstance(parsed.func, ast.Name):
            values = tuple(ast.literal_eval(one) for one in parsed.args)
            return (parsed.func.id, *values) if values else parsed.func.id
        return ast.literal_eval(parsed)
    except (SyntaxError, ValueError):
        return Text(text)


def _watched(target: Any) -> Any:
    """The object of a DOWN: the pid, or {name, node} when a name was monitored."""
    name = target if isinstance(target, str) else getattr(target, "_name", None)
    return n(target) if name is None else (name, "nonode@nohost")


_PLAIN_ATOM = re.compile(r"[a-zA-Z_][a-zA-Z0-9_@]*[?!]?")


def _inspect(value: Any) -> str:
    match value:
        case None:
            return "nil"
        case True | False:
            return str(value).lower()
        case Text():
            return _quoted(value)
        case Alias():
            return str(value)
        case str():
            return f":{_atom(value)}"
        case tuple():
            return "{" + ", ".join(map(_inspect, value)) + "}"
        case list() if value and all(_is_pair(one) for one in value):
            return "[" + ", ".join(f"{_atom(key)}: {_inspect(one)}" for key, one in value) + "]"
        case list():
            return "[" + ", ".join(map(_inspect, value)) + "]"
        case dict() if value and all(_is_atom(key) for key in value):
            return "%{" + ", ".join(f"{_atom(key)}: {_inspect(value[key])}" for key in sorted(value)) + "}"
        case dict():
            return "%{" + ", ".join(sorted(f"{_inspect(key)} => {_inspect(one)}" for key, one in value.items())) + "}"
        case _:
            return repr(value)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _atom(name: str) -> str:
    return str(name) if _PLAIN_ATOM.fullmatch(name) else _quoted(name)


def _is_atom(value: Any) -> bool:
    return isinstance(value, str) and not isinstance(value, Text | Alias)


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and _is_atom(value[0])


# --- what the scripts ask ---------------------------------------------------------------------------------------------


async def try_(fun: Callable[[], Any]) -> tuple[str, Any]:
    """`T.try_`: {:returned, value}, {:exited, reason} or {:raised, error}. `fun` is plain or async."""
    try:
        return "returned", await _awaited(fun())
    except Exit as exit:
        return "exited", exit.reason
    except CallExit as exit:
        return "exited", exit
    except Exception as error:
        return "raised", error


async def _awaited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


async def answer(work: Awaitable[Any]) -> Any:
    """What OTP returns where we return or raise: `{:ok, value}`, `:ok` for None, `:ignore`, `{:error, reason}`."""
    try:
        value = await work
    except Ignored:
        return "ignore"
    except beamish.AlreadyStarted as error:
        return "error", ("already_started", error.address)
    except StartError as error:
        return "error", error.reason
    except SupervisorError as error:
        return "error", _REFUSALS[type(error)]
    return "ok" if value is None else ("ok", value)


_REFUSALS: dict[type[SupervisorError], str] = {
    beamish.NotFound: "not_found",
    beamish.AlreadyPresent: "already_present",
    beamish.StillRunning: "running",
    beamish.Restarting: "restarting",
}


async def in_proc(fun: Callable[[], Any]) -> Any:
    """`T.in_proc`: run `fun` in a fresh process, and return how it died."""
    _, ref = beamish.spawn_monitor(fun)
    return await down(ref, 5000, "still_alive")


async def down(ref: Ref, ms: float = 3000, otherwise: Any = "no_down") -> Any:
    """`T.down`: wait for the Down of a monitor; its reason."""
    try:
        return (await beamish.receive(lambda m: isinstance(m, Down) and m.ref is ref, timeout=ms / 1000)).reason
    except TimeoutError:
        return otherwise


async def exit_of(who: Pid | GenServer[Any], ms: float = 1000, otherwise: Any = "no_exit") -> Any:
    """`T.exit_of`: wait for the Exited of a linked process; its reason."""

    def is_it(message: Any) -> bool:
        return isinstance(message, Exited) and (message.pid == who if isinstance(who, Pid) else type(who)(message.pid) == who)

    try:
        return (await beamish.receive(is_it, timeout=ms / 1000)).reason
    except TimeoutError:
        return otherwise


async def flush() -> list[Any]:
    """`T.flush`: every message until none comes for 30 ms."""
    found: list[Any] = []
    while True:
        try:
            found.append(await beamish.receive(timeout=0.03))
        except TimeoutError:
            return found


# --- the traced worker ------------------------------------------------------------------------------------------------


class Options(TypedDict, total=False):
    """How a worker differs: `init` is asked for init's answer, `term_sleep` is how long its terminate takes (ms)."""

    trap: bool
    init: Callable[[Any], Any]
    term_sleep: float


class Overrides(Options, total=False):
    restart: Any
    shutdown: Any
    significant: bool


class W(GenServer[tuple[str, Options]]):
    """A worker that prints its life. It traps exits (by default), so that its terminate shows the order of a shutdown."""

    @staticmethod
    def spec(id: str, **opts: Unpack[Overrides]) -> ChildSpec[W]:
        """`W.spec(id, opts)`: how a supervisor starts it, registered as `id`."""
        over: dict[str, Any] = {key: opts.pop(key) for key in ("restart", "shutdown", "significant") if key in opts}  # type: ignore[misc]
        return W(id).child_spec(id, opts).replace(**over)

    def init(self, id: str, opts: Options | None = None) -> Any:
        opts = opts or {}
        if opts.get("trap", True):
            beamish.flag(trap_exit=True)
        out(f"init {id}")
        state = id, opts
        return opts["init"](state) if "init" in opts else state

    def handle_call(self, state: tuple[str, Options], request: Any, client: Any) -> Any:
        match request:
            case "ping":
                return "pong"
            case "stop", reason:
                return Stop(reason, reply="ok")
        raise AssertionError(f"a worker has no call {request!r}")

    def handle_cast(self, state: tuple[str, Options], request: Any) -> Any:
        match request:
            case "stop", reason:
                return Stop(reason)
            case "exit", reason:
                raise Exit(reason)
            case "raise", text:
                raise RuntimeError(text)
        raise AssertionError(f"a worker has no cast {request!r}")

    def handle_info(self, state: tuple[str, Options], message: Any) -> None:
        out(f"info {state[0]}", message)

    async def terminate(self, state: tuple[str, Options], reason: Any) -> None:
        id, opts = state
        out(f"terminate {id}", reason)
        if "term_sleep" in opts:
            await sleep(opts["term_sleep"])
            out(f"terminated {id}")


async def crash(id: str, reason: Any) -> None:
    """`W.crash`: end a named worker with `reason` and wait until it is gone, and what comes of it has happened."""
    pid = beamish.whereis(id)
    assert pid is not None, f"no worker {id!r}"
    ref = beamish.monitor(pid)
    out(f"crash {id}", reason)
    if isinstance(reason, Kill):
        beamish.exit(pid, reason)
    else:
        W(pid).cast(("stop", reason))
    await beamish.receive(lambda m: isinstance(m, Down) and m.ref is ref)
    await settle()
