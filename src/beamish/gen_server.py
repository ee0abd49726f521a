"""A server: a process that holds a state and answers calls and casts, one at a time.

    class Counter(GenServer[list[int]]):
        def init(self) -> list[int]:
            return [0]

        @call
        def add(self, state: list[int], n: int) -> int:
            state[0] += n
            return state[0]

    counter = Counter("counter")            # an address; nothing runs yet
    await counter.start_link()              # or counter.child_spec() in a supervisor
    await counter.add(1)                    # typed as the handler, without the state

The object is an address, outside the process and inside (`self`); the state is a value of its own that only handlers are
given. See `GenServer` for every callback, and `beamish.gen` for how a call travels.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from dataclasses import dataclass
from os import PathLike
from types import CoroutineType, EllipsisType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, ParamSpec, Protocol, Self, TypeVar, cast as as_type, overload

from beamish import _kept, _starting, gen, process as _process, timer as _timer
from beamish._address import Address, At, named
from beamish._client import CastResult
from beamish._loop import ServerProcess
from beamish._report import Status
from beamish._runtime.client import Client
from beamish._runtime.process import MonitorRef
from beamish._runtime.signals import NOTICE, REQUEST
from beamish._runtime.timers import Timer
from beamish._setup import Setup
from beamish._stream import Stream, stream as _stream
from beamish.child_spec import ChildSpec, Restart, spec_of
from beamish.errors import NORMAL, CallExit, short
from beamish.gen import Request
from beamish.snapshot import Snapshot

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")
G = TypeVar("G")
G_contra = TypeVar("G_contra", contravariant=True)

_log = logging.getLogger("beamish.gen_server")


class _ServerClass(Protocol[P, G_contra]):
    def init(self: Any, server: G_contra, /, *args: P.args, **kwargs: P.kwargs) -> Any: ...


class _Starter:
    """A way to start a server, on its class (anonymous) or on a named address; its arguments are those of `init`."""

    __slots__ = ("doc", "start")

    def __init__(self, start: Callable[..., Any]) -> None:
        self.start = start

    def bind(self, obj: Any, owner: Any) -> Any:
        start, options = self.start, Options(owner, _name_of(obj))

        def begin(*args: Any, **kwargs: Any) -> Any:
            return start(options, args, kwargs)

        return begin


class StartLink(_Starter):
    """`await Server.start_link(…)`: started, and linked to whoever starts it; returns its address.

    Raises StartError (or what `init` says: Ignored, AlreadyStarted). Returns when `init` is done, before any `Continue`.
    """

    @overload
    def __get__(self, obj: None, owner: _ServerClass[P, G]) -> Callable[P, CoroutineType[Any, Any, G]]: ...
    @overload
    def __get__(self, obj: G, owner: _ServerClass[P, Any]) -> Callable[P, CoroutineType[Any, Any, G]]: ...
    def __get__(self, obj: Any, owner: Any) -> Any:
        return self.bind(obj, owner)


class StartMonitor(_Starter):
    """`address, ref = await Server.start_monitor(…)`: not linked, and monitored from its first moment on."""

    @overload
    def __get__(self, obj: None, owner: _ServerClass[P, G]) -> Callable[P, CoroutineType[Any, Any, tuple[G, MonitorRef]]]: ...
    @overload
    def __get__(self, obj: G, owner: _ServerClass[P, Any]) -> Callable[P, CoroutineType[Any, Any, tuple[G, MonitorRef]]]: ...
    def __get__(self, obj: Any, owner: Any) -> Any:
        return self.bind(obj, owner)


class Spec(_Starter):
    """`Server.child_spec(…)`: how a supervisor is to start this server. Its id is the server's name, else its class."""

    @overload
    def __get__(self, obj: None, owner: _ServerClass[P, G]) -> Callable[P, ChildSpec[G]]: ...
    @overload
    def __get__(self, obj: G, owner: _ServerClass[P, Any]) -> Callable[P, ChildSpec[G]]: ...
    def __get__(self, obj: Any, owner: Any) -> Any:
        return self.bind(obj, owner)


class Configured(Generic[P, G]):
    """What `options(…)` gives: the ways to start, with those options."""

    __slots__ = ("_options",)

    def __init__(self, options: Options) -> None:
        self._options = options

    async def start_link(self, *args: P.args, **kwargs: P.kwargs) -> G:
        return as_type(G, await _start_link(self._options, args, kwargs))

    async def start(self, *args: P.args, **kwargs: P.kwargs) -> G:
        return as_type(G, await _start(self._options, args, kwargs))

    async def start_monitor(self, *args: P.args, **kwargs: P.kwargs) -> tuple[G, MonitorRef]:
        return as_type("tuple[G, MonitorRef]", await _start_monitor(self._options, args, kwargs))

    def child_spec(self, *args: P.args, **kwargs: P.kwargs) -> ChildSpec[G]:
        return as_type("ChildSpec[G]", _child_spec(self._options, args, kwargs))


class Configure:
    """`Server.options(timeout=2.0, max_queue=1000).start_link(…)`: ways to start it otherwise than usual.

    * `timeout`: how long `init` may take (seconds; None: as long as it wants); then StartError("timeout").
    * `max_queue`: how many calls, casts and messages may wait for it (None: no bound). Beyond that a call raises Overloaded, a
      cast or message is dropped, with the telemetry event beamish.gen_server.overloaded; requests of the system always get in.
    * `debug`: what of `sys` is on from its birth: "trace", "log", ("log", n), "statistics", ("log_to_file", path),
      ("install", (function, state)).
    * `hibernate_after`: OTP's word; Python has nothing to compact, so it changes nothing.
    """

    @overload
    def __get__(self, obj: None, owner: _ServerClass[P, G]) -> Callable[..., Configured[P, G]]: ...
    @overload
    def __get__(self, obj: G, owner: _ServerClass[P, Any]) -> Callable[..., Configured[P, G]]: ...
    def __get__(self, obj: Any, owner: Any) -> Any:
        def options(
            *, timeout: float | None = None, max_queue: int | None = None, debug: Iterable[Any] = (), hibernate_after: float | None = None
        ) -> Configured[Any, Any]:
            return Configured(Options(owner, _name_of(obj), timeout, Setup.of(max_queue, debug)))

        return options


class Options:
    """What is started, under which name, and how."""

    __slots__ = ("cls", "name", "setup", "timeout")

    def __init__(self, cls: type[GenServer[Any]], name: Any, timeout: float | None = None, setup: Setup | None = None) -> None:
        self.cls = cls
        self.name = name
        self.timeout = timeout
        self.setup = setup


def _name_of(obj: Any) -> Any:
    if obj is None:
        return None
    if obj._name is None:
        raise TypeError(f"{obj!r} is the address of a process that runs already; start another from its class or from a name")
    return obj._name


async def _start_link(options: Options, args: Any, kwargs: Any) -> Any:
    process = await _starting.start(options.cls, args, kwargs, name=options.name, timeout=options.timeout, setup=options.setup)
    return _address(options, process)


async def _start(options: Options, args: Any, kwargs: Any) -> Any:
    process = await _starting.start(options.cls, args, kwargs, name=options.name, link=False, timeout=options.timeout, setup=options.setup)
    return _address(options, process)


async def _start_monitor(options: Options, args: Any, kwargs: Any) -> Any:
    refs: list[MonitorRef] = []

    def watch(process: Any) -> None:
        refs.append(_process.monitor(_address(options, process)))

    try:
        process = await _starting.start(
            options.cls, args, kwargs, name=options.name, link=False, timeout=options.timeout, setup=options.setup, on_begin=watch
        )
    except BaseException:
        for ref in refs:
            _process.demonitor(ref, flush=True)  # nothing runs: its Down is nobody's
        raise
    return _address(options, process), refs[0]


def _address(options: Options, process: Any) -> Any:
    return named(options.cls, options.name) if options.name is not None else process.server


def _child_spec(options: Options, args: Any, kwargs: Any) -> ChildSpec[Any]:
    return spec_of(options.cls, options.name, args, kwargs, options.timeout, options.setup)


_RESERVED = frozenset({
    "abcast", "call", "cast", "child_spec", "code_change", "disown", "format_status", "handle_call", "handle_cast", "handle_continue",
    "handle_info", "init", "multi_call", "options", "own", "pid", "send_after", "send_interval", "start", "start_link",
    "start_monitor", "started", "stop", "stream", "terminate", "with_timeout",
})  # fmt: skip


#: Callbacks that are given the state, right after self.
_WITH_STATE = {"handle_call", "handle_cast", "handle_continue", "handle_info", "terminate", "code_change"}


def _check_state(where: str, fn: Any) -> None:
    """Elixir's order has the state last; written so here, the arguments would be taken for each other."""
    code = getattr(fn, "__code__", None)
    if code is not None and "state" in code.co_varnames[2 : code.co_argcount]:
        raise TypeError(f"{where}: the state comes right after self, before all else. Got: {inspect.signature(fn)}")


class ServerMeta(type):
    """Collects a class's handlers, and makes its instances addresses without a place for attributes."""

    def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], /, **keywords: Any) -> ServerMeta:
        namespace.setdefault("__slots__", ())
        if namespace["__slots__"] != () and name != "GenServer":
            raise TypeError(f"{name} may not have __slots__: a server object is an address; what it knows belongs into its state")
        if "__init__" in namespace:
            raise TypeError(f"{name}.__init__: a server object is an address; what start_link and child_spec are given goes to init")
        for key in _WITH_STATE & namespace.keys():
            _check_state(f"{name}.{key}", namespace[key])
        for key, value in namespace.items():
            if hasattr(value, "handler"):
                _check_state(f"{name}.{key}", value.handler)
            if key in _RESERVED and hasattr(value, "handler"):
                raise TypeError(f"{name}.{key}: every server has a {key!r} of its own; give the handler another name")
        made = super().__new__(cls, name, bases, namespace, **keywords)
        _collect(as_type(Any, made))
        return made

    if not TYPE_CHECKING:  # for type checkers `Counter("counter")` is a Counter, by Address.__init__

        def __call__(cls, *args: Any, **kwargs: Any) -> Any:
            if kwargs or len(args) != 1:
                shown = ", ".join([*map(short, args), *(f"{k}={short(v)}" for k, v in kwargs.items())])
                raise TypeError(
                    f"{cls.__name__}(…) is the address of a server, and takes its name. To start one: "
                    f"await {cls.__name__}.start_link({shown}), or in a supervisor: {cls.__name__}.child_spec({shown})"
                )
            return super().__call__(*args)


def _collect(cls: Any) -> None:
    """The handlers by name, those of base classes included; a plain function that overrides one is an error."""
    requests: dict[str, Any] = {}
    bases: list[Any] = list(reversed(cls.__mro__[1:]))
    for base in bases:
        inherited = as_type("dict[str, Any]", base.__dict__)
        requests.update({key: value for key, value in inherited.items() if hasattr(value, "handler")})
    own = as_type("dict[str, Any]", dict(cls.__dict__))
    for key, value in own.items():
        if hasattr(value, "handler"):
            requests[key] = value
        elif key in requests:
            raise TypeError(
                f"{cls.__name__}.{key} overrides a handler of a base class, so it needs the same decorator: @{requests[key].kind}"
            )
    root = next((base for base in cls.__mro__ if base.__dict__.get("__root__")), cls)
    calls, casts, cls.__terminates__ = (
        getattr(cls, name, None) is not getattr(root, name, None) for name in ("handle_call", "handle_cast", "terminate")
    )
    cls.__overrides__ = (calls, casts)
    cls.__requests__ = requests
    cls.__handlers__ = {key: one.handler for key, one in requests.items() if not (calls if one.kind == "call" else casts)}


class Message(Generic[R_co]):
    """A request that says what its reply is: `class Fetch(Message[Page | None])`, a dataclass, say.

    `await address.call(Fetch("otp"))` is then a `Page | None` for type checkers. The server matches it in `handle_call`.
    """

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class MultiCall(Generic[R_co]):
    """What `multi_call` gathered: the replies by node, and the nodes that gave none in time."""

    replies: list[tuple[str, R_co]]
    bad_nodes: list[str]


class Server(Address, Generic[S], metaclass=ServerMeta):
    """What a GenServer and a StateMachine have in common: how they are started, and the client's side."""

    __slots__ = ()

    __root__: ClassVar[bool] = True
    __restart__: ClassVar[Restart] = "permanent"
    __shutdown__: ClassVar[Any] = 5.0
    __kind__: ClassVar[Any] = "worker"
    __process__: ClassVar[Any] = ServerProcess  # the class of its processes
    __snapshot__: ClassVar[Snapshot | None] = None
    __handlers__: ClassVar[dict[Any, Callable[..., Any]]]
    __requests__: ClassVar[dict[str, Any]]
    __overrides__: ClassVar[tuple[bool, bool]]
    __terminates__: ClassVar[bool]

    start_link = StartLink(_start_link)
    start = StartLink(_start)
    start_monitor = StartMonitor(_start_monitor)
    child_spec = Spec(_child_spec)
    options = Configure()

    def __init_subclass__(
        cls,
        *,
        restart: Restart | None = None,
        shutdown: Any = ...,
        hibernate_after: float | None = None,
        **keywords: Any,
    ) -> None:
        if "snapshot" in keywords:
            raise TypeError(
                f"{cls.__name__}: snapshot= is for a GenServer, whose state is all there is to keep: timeouts, postponed events and "
                "children would be lost. Keep the data in a GenServer, or use beamish.snapshot.load in init and save"
            )
        if keywords:
            raise TypeError(
                f"{cls.__name__} takes the class keywords restart=, shutdown=, hibernate_after= and (a GenServer) snapshot=; a name "
                f"belongs to an address, {cls.__name__}('name'). Got: {', '.join(keywords)}"
            )
        super().__init_subclass__()
        if restart is not None:
            cls.__restart__ = restart
        if shutdown is not ...:
            cls.__shutdown__ = shutdown
        ChildSpec(id=cls, start=cls, restart=cls.__restart__, shutdown=cls.__shutdown__)  # refuses bad values, with the text

    # -- callbacks: override those you need; each may be `async def`

    def init(self, *args: Any, **kwargs: Any) -> Any:
        """Make the state. Returns it, or `Init(state, then=…)`, `Ignore()`, `Stop(reason)`; what it raises fails the start."""
        if args or kwargs:
            raise TypeError(f"{type(self).__name__} has no init, so it takes no arguments. Got: {short(args or kwargs)}")
        return None

    def format_status(self, status: Status) -> Status:
        """What a crash report and `sys.get_status` show: change `status.state` to hide what must not be logged."""
        return status

    def code_change(self, state: S, version: Any, extra: Any) -> S:
        """The state for a new version of the code."""
        return state

    # -- the client's side

    @overload
    async def call(self, request: Message[R], timeout: float | EllipsisType | None = ...) -> R: ...
    @overload
    async def call(self, request: Any, timeout: float | EllipsisType | None = ...) -> Any: ...
    async def call(self, request: Any, timeout: float | EllipsisType | None = ...) -> Any:
        """Send `request` to `handle_call` and await the reply. `timeout` in seconds, by default that of the address (5.0).

        The reply of a `Message[R]` is an R.
        """
        address = self if isinstance(timeout, EllipsisType) else self.with_timeout(timeout)
        return await gen.request(address, REQUEST, request, None)

    def cast(self, request: Any) -> None:
        """Send `request` to `handle_cast`; nothing tells whether it arrived."""
        gen.notify(self, NOTICE, request, None)

    @overload
    async def multi_call(self, request: Message[R], *, nodes: Iterable[str] | None = None, timeout: float | None = 5.0) -> MultiCall[R]: ...
    @overload
    async def multi_call(self, request: Any, *, nodes: Iterable[str] | None = None, timeout: float | None = 5.0) -> MultiCall[Any]: ...
    async def multi_call(self, request: Any, *, nodes: Iterable[str] | None = None, timeout: float | None = 5.0) -> MultiCall[Any]:
        """Call the server of this name on each of `nodes` (by default on this one), and wait `timeout` seconds for all of them.

        A node where there is none, where it ended or did not answer in time is in `bad_nodes`; late replies are dropped.
        """
        where = [_process.node()] if nodes is None else list(nodes)
        ones = [self._at(name).with_timeout(timeout) for name in where]
        answers = await asyncio.gather(*(one.call(request) for one in ones), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, CallExit):
                raise answer
        pairs = list(zip(where, answers, strict=True))
        return MultiCall(
            [(name, answer) for name, answer in pairs if not isinstance(answer, CallExit)],
            [name for name, answer in pairs if isinstance(answer, CallExit)],
        )

    def abcast(self, request: Any, *, nodes: Iterable[str] | None = None) -> None:
        """Cast to the server of this name on each of `nodes` (by default on this one); nothing tells where it arrived."""
        for name in [_process.node()] if nodes is None else nodes:
            self._at(name).cast(request)

    def _at(self, node: str) -> Self:
        if not isinstance(self._name, str):
            raise TypeError(
                f"{self!r} has no name that could be looked up on other nodes; use an address such as {type(self).__name__}('name')"
            )
        return named(type(self), At(self._name, node))

    async def started(self, timeout: float | None = 5.0) -> Self:
        """Wait until a server runs under this name (again); CallTimeout after `timeout` seconds."""
        await _starting.started(self, timeout)
        return self

    async def stop(self, reason: object = NORMAL, timeout: float | None = None) -> None:
        """End the server after the mail it has; see `beamish.stop`."""
        await gen.stop(self, reason, timeout)

    # -- in handlers

    def own(self, closer: Callable[[], object]) -> None:
        """Have `closer()` called when this server ends, for whatever reason, KILL included; see `beamish.own`."""
        _process.own(closer)

    def disown(self, closer: Callable[[], object]) -> bool:
        """Take back what `own` was told. Whether it was there."""
        return _process.disown(closer)

    def stream(self, source: AsyncIterable[Any], max_in_flight: int = 1) -> Stream:
        """Get what `source` gives as messages, one after the other, and `Ended(reason, stream)` after the last.

        A process of its own, linked to this server, waits for the items; it takes the next one when fewer than `max_in_flight`
        of them wait to be handled. An error of the source comes as Ended(Crash(error)) and ends nothing else. The source is
        closed (`aclose`) when the server ends, or by `stream.close()`. Items are never refused by `max_queue`.
        """
        owner = _process.myself()
        if not isinstance(owner, ServerProcess):
            raise RuntimeError(f"{self!r}.stream(…) is for the handlers of the server: it sends to the server whose code runs")
        return _stream(owner, source, max_in_flight)

    def send_after(self, seconds: float, message: Any) -> Timer:
        """Send `message` to this server's handle_info in `seconds`."""
        return _timer.send_after(seconds, self, message)

    def send_interval(self, seconds: float, message: Any) -> Timer:
        """Send `message` to this server's handle_info every `seconds`, until cancelled or the server's end."""
        return _timer.send_interval(seconds, self, message)


class GenServer(Server[S]):
    """Derive from it, with the type of the state: `class Cache(GenServer[dict[str, bytes]])`.

    Class keywords, inherited: `restart="permanent" | "transient" | "temporary"`, `shutdown=seconds | "brutal_kill" | None`,
    `snapshot=` a path or a Snapshot: the state is kept in a file (see `beamish.snapshot`; hooks `dump` and `restore`).

    The instances are addresses: `Cache("cache")` by name, `cache.pid()`, `cache.with_timeout(0.2)`. To start one use
    `start_link`, `start`, `start_monitor` (on the class: anonymous; on a named address: registered) or `child_spec`.
    """

    __slots__ = ()

    __root__ = True

    def __init_subclass__(cls, *, snapshot: Snapshot | str | PathLike[str] | None = None, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if snapshot is not None:
            cls.__snapshot__ = Snapshot.of(snapshot)
            cls.__process__ = _kept.kept_class(cls.__process__)

    # -- callbacks: override those you need, and `init`; each may be `async def`

    def handle_call(self, state: S, request: Any, client: Client) -> Any:
        """Every call that has no handler of its own, `address.call(request)`; all calls, in a class that overrides this.

        Returns the reply, or Reply, NoReply, Stop. By default it dispatches generated calls, and crashes on others.
        """
        if isinstance(request, Request):
            return self.__requests__[request.name].handler(self, state, *request.args, **request.kwargs)
        raise RuntimeError(f"attempted to call {type(self).__name__} with {short(request)}, but it has no handle_call for that")

    def handle_cast(self, state: S, request: Any) -> Any:
        """The same for casts. Returns None, NoReply or Stop."""
        if isinstance(request, Request):
            return self.__requests__[request.name].handler(self, state, *request.args, **request.kwargs)
        raise RuntimeError(f"attempted to cast {type(self).__name__} with {short(request)}, but it has no handle_cast for that")

    def handle_info(self, state: S, message: Any) -> CastResult | Awaitable[CastResult]:
        """Every other message: those of `send` and timers, `Down`, `Exited`, `TimedOut`. By default logged as unexpected."""
        facts = {"context": "no_handle_info", "server": self, "cls": type(self), "message_": message}
        _log.error("%r got an unexpected message: %s", self, short(message), extra=facts)
        return None

    def handle_continue(self, state: S, arg: Any) -> CastResult | Awaitable[CastResult]:
        """What `then=Continue(arg)` asked for: the next thing the server does, ahead of its queue."""
        raise RuntimeError(f"{type(self).__name__} returned then=Continue({short(arg)}), but it has no handle_continue")

    def terminate(self, state: S, reason: Any) -> object:
        """Before the end, when the server itself ends: Stop, an error in a handler, `stop()`, its parent's exit if it traps.

        Not called for KILL, nor for exit signals while it does not trap (`flag(trap_exit=True)` in init).
        """
        return None
