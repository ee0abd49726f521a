"""`handle(Counter.add, state, 3)`: one handler, run without a process; what it returned and the state after it, as values.

    def test_a_lock_is_given_to_one_at_a_time() -> None:
        reply, state = handle(Lock.acquire, [], "ann")
        assert (reply, state) == (True, ["ann"])

Nothing is started. The handler's `self` is the address of a process that is none: what needs a process says so (`NoProcessHere`).
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Concatenate, NoReturn, ParamSpec, TypeVar, cast as as_type, overload

from beamish import Action, Answer, Client, Continue, GenServer, Hibernate, Message, NoReply, Reply, StateMachine, Stop, Timeout
from beamish._answers import UNCHANGED, Refuse
from beamish._loop import ServerProcess
from beamish._runtime.client import ANSWERED
from beamish._runtime.clock import ManualClock
from beamish._runtime.node import _BY_LOOP, NODES, Node, here, here_key  # pyright: ignore[reportPrivateUsage]
from beamish._runtime.process import Entry, Process
from beamish.gen_server import Server
from beamish.testing._handled_machine import after, asked_first, asked_first_now, checked, is_transition, pair_of

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
Q = TypeVar("Q")
D = TypeVar("D")

_CALLBACKS = ("handle_call", "handle_cast", "handle_info", "handle_continue", "handle_event", "handle_enter", "terminate")


class NoProcessHere(RuntimeError):
    """A handler that `handle` runs used what only a process has. Start the server in such a test."""


class Handled(tuple[R, S]):
    """What one handler did: `reply, state = handle(…)`.

    The reply is what the client gets. Where it gets none (now), it is the `NoReply()` or `Stop(reason)` that the handler returned.
    """

    answer: Answer[R]
    """What the handler returned; a plain value is `Reply(value)`. Of a state machine: Next, Keep, …"""
    client: Client | None
    """What `beamish.client()` gave in the handler, if that asked."""

    @property
    def reply(self) -> R:
        return self[0]

    @property
    def state(self) -> S:
        return self[1]

    @property
    def then(self) -> Continue | Timeout | Hibernate | tuple[Action, ...] | None:
        """`then=` of the answer: what the server would do next. Of a state machine the tuple of its timeouts and events."""
        answer: Any = self.answer
        return getattr(answer, "then", None)

    @property
    def stopped(self) -> object:
        """The reason of a Stop, or None: the server goes on."""
        return self.answer.reason if isinstance(self.answer, Stop) else None

    def later(self) -> R:
        """What `beamish.reply(client, value)` has answered since then, after a NoReply. AssertionError as long as nobody did."""
        if self.client is None:
            raise AssertionError(f"nobody can answer this call later: its handler did not ask for client(), and returned {self.answer!r}")
        if self.client.outcome != ANSWERED:
            raise AssertionError(f"nobody has answered this call yet: no beamish.reply({self.client!r}, …)")
        return as_type(R, self.client.value)

    def __repr__(self) -> str:
        return f"Handled({self.answer!r}, state={self.state!r})"


# The order matters: a call's client method, a cast's, then callbacks, which have the state among their own parameters. The methods of
# an address (`Cache("c").fetch`) come last.
@overload
def handle(  # type: ignore[overload-overlap]
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], state: S, /, *args: P.args, **kwargs: P.kwargs
) -> Handled[R, S]: ...
@overload
def handle(  # type: ignore[overload-overlap]
    method: Callable[Concatenate[Any, P], None], state: S, /, *args: P.args, **kwargs: P.kwargs
) -> Handled[None, S]: ...
@overload
def handle(method: Callable[[Any, S, Any, Client], Any], state: S, request: Message[R], /) -> Handled[R, S]: ...
@overload
def handle(method: Callable[[Any, S, Q, Client], R | Reply[R]], state: S, request: Q, /) -> Handled[R, S]: ...
@overload
def handle(method: Callable[[Any, S, Q], object], state: S, message: Q, /) -> Handled[None, S]: ...
@overload
def handle(method: Callable[[Any, S, D, Q], object], state: tuple[S, D], event: Q, /) -> Handled[None, tuple[S, D]]: ...
@overload
def handle(method: Callable[P, Coroutine[Any, Any, R]], state: S, /, *args: P.args, **kwargs: P.kwargs) -> Handled[R, S]: ...
@overload
def handle(method: Callable[P, None], state: S, /, *args: P.args, **kwargs: P.kwargs) -> Handled[None, S]: ...
def handle(method: Callable[..., Any], state: Any, /, *args: Any, **kwargs: Any) -> Handled[Any, Any]:
    """Run the handler behind `method` once, on `state`: `reply, state = handle(SearchCache.fetch, state, "otp")`.

    `method` is a @call or @cast, a method that makes one (the client's side of a server), a callback (`Clicks.handle_info`,
    `handle_continue`, `handle_cast`, `handle_call`: its `client` is added), or one of an address, `Cache("cache").fetch`, where the
    class inherits it. A state machine has a pair in the place of the state, `reply, (state, data) = handle(Door.push, ("open", data))`;
    its callbacks are `handle_event`, `handle_enter` and the functions with @when, which leave to `handle_event` what they return None
    for. What the handler raises is raised here: the server would have crashed of it.

    No event loop is needed; without one the time of `monotonic()` is 1000.0. Where one runs, the handler may use other servers.
    For `async def` handlers: `await handle_async(…)`; TypeError here.
    """
    __tracebackhide__ = True
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        with_loop = False
    else:
        with_loop = True
    if with_loop:
        return _Run(here(), method, state).now(args, kwargs)
    with _nowhere() as node:
        return _Run(node, method, state).now(args, kwargs)


@overload
async def handle_async(  # type: ignore[overload-overlap]
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], state: S, /, *args: P.args, **kwargs: P.kwargs
) -> Handled[R, S]: ...
@overload
async def handle_async(  # type: ignore[overload-overlap]
    method: Callable[Concatenate[Any, P], None], state: S, /, *args: P.args, **kwargs: P.kwargs
) -> Handled[None, S]: ...
@overload
async def handle_async(method: Callable[[Any, S, Any, Client], Any], state: S, request: Message[R], /) -> Handled[R, S]: ...
@overload
async def handle_async(method: Callable[[Any, S, Q, Client], Awaitable[R | Reply[R]]], state: S, request: Q, /) -> Handled[R, S]: ...
@overload
async def handle_async(method: Callable[[Any, S, Q], object], state: S, message: Q, /) -> Handled[None, S]: ...
@overload
async def handle_async(method: Callable[[Any, S, D, Q], object], state: tuple[S, D], event: Q, /) -> Handled[None, tuple[S, D]]: ...
@overload
async def handle_async(method: Callable[P, Coroutine[Any, Any, R]], state: S, /, *args: P.args, **kwargs: P.kwargs) -> Handled[R, S]: ...
@overload
async def handle_async(method: Callable[P, None], state: S, /, *args: P.args, **kwargs: P.kwargs) -> Handled[None, S]: ...
async def handle_async(method: Callable[..., Any], state: Any, /, *args: Any, **kwargs: Any) -> Handled[Any, Any]:
    """`handle` for `async def` handlers (and others): `reply, state = await handle_async(Gateway.search, state, "otp")`."""
    return await _Run(here(), method, state).later(args, kwargs)


class _Run:
    """One handler, on its way."""

    def __init__(self, node: Node, method: Any, state: Any) -> None:
        __tracebackhide__ = True
        self.cls, self.function = _found(method)
        self.process = Alone(node, self.cls, self.function.__name__)
        self.machine = issubclass(self.cls, StateMachine)
        self.process.state = pair_of(state, self.function) if self.machine else state
        self.event: Any = None  # what a machine's callback got
        self.answer: Any = None  # of the last handler that ran
        self.called = False  # that was a call
        self.on_loop = False  # whether an async handler may be awaited

    def now(self, args: Any, kwargs: Any) -> Handled[Any, Any]:
        if self._is_handler():
            return self._handled(self._settled(self._value(self.function, args, kwargs)))
        returned = self._client_side(args, kwargs)
        if inspect.isawaitable(returned):
            returned = _driven(returned, self._refuse_async)
        return self._handled(returned)

    async def later(self, args: Any, kwargs: Any) -> Handled[Any, Any]:
        self.on_loop = True
        if self._is_handler():
            value = self._value(self.function, args, kwargs)
            return self._handled(self._settled(await self._awaited(value) if inspect.isawaitable(value) else value))
        returned = self._client_side(args, kwargs)
        return self._handled(await returned if inspect.isawaitable(returned) else returned)

    def _is_handler(self) -> bool:
        return hasattr(self.function, "handler") or self.function.__name__ in _CALLBACKS or hasattr(self.function, "__when__")

    def _value(self, function: Any, args: Any, kwargs: Any) -> Any:
        """What the handler returns, or its coroutine, which has not begun."""
        self.function = function
        node, process = self.process.node, self.process
        name = function.__name__
        self.called = name == "handle_call" or getattr(function, "kind", None) == "call"
        process.client = None if self.called else False  # None: made when the handler asks for it
        if name == "handle_call" and len(args) == 1:
            process.client = Client(process, name, None)
            args = (*args, process.client)
        outer, node.current = node.current, process
        try:
            handler = getattr(function, "handler", function)
            given = process.state if self.machine else (process.state,)
            if hasattr(function, "__when__"):
                handler = partial(
                    asked_first if inspect.iscoroutinefunction(function) else asked_first_now, function, self.cls.handle_event
                )
            self.event = args[0] if args else None
            value = process.context().run(handler, process.server, *given, *args, **kwargs)
        finally:
            node.current = outer
        if inspect.isawaitable(value) and not self.on_loop:
            _close(value)
            self._refuse_async()
        return value

    def _refuse_async(self) -> NoReturn:
        name = self.function.__qualname__
        raise TypeError(f"{name} is async: reply, state = await handle_async({name}, state, …)")

    async def _awaited(self, value: Awaitable[Any]) -> Any:
        """Await a handler's coroutine in a task of its own, whose code is that of the process."""
        process = self.process

        async def body() -> Any:
            process.task = asyncio.current_task()
            return await value

        task = asyncio.get_running_loop().create_task(body(), name="beamish-handle", context=process.task_context())
        try:
            return await task
        finally:
            task.cancel()
            process.task = None

    def _client_side(self, args: Any, kwargs: Any) -> Any:
        """Run a method that clients run; the requests that it makes are handled in place of being sent."""

        def ask(name: str, request: Any) -> Callable[..., Any]:
            async def called(_: object, *args: Any, **kwargs: Any) -> Any:
                value = self._value(request, args, kwargs)
                return self._settled(await self._awaited(value) if inspect.isawaitable(value) else value)

            def told(_: object, *args: Any, **kwargs: Any) -> None:
                self._settled(self._value(request, args, kwargs))

            return called if request.kind == "call" else told

        face = type(self.cls)(self.cls.__name__, (self.cls,), {"__module__": self.cls.__module__})
        for name, request in self.cls.__requests__.items():
            setattr(face, name, ask(name, request))
        return self.function(face(self.process), *args, **kwargs)

    def _settled(self, value: Any) -> Any:
        """Take the state and the answer from what a handler returned. The reply, or NoReply or Stop where there is none."""
        called = self.called
        if isinstance(value, Refuse):
            raise value.error
        moves = self.machine and (not called or is_transition(value))
        if moves:
            self.answer = checked(value, self.function, self.process, self.event)
        elif isinstance(value, NoReply | Stop) or (called and isinstance(value, Reply)):
            self.answer = value
        elif called or value is None:
            self.answer = Reply(value)
        else:
            what = self.function.__qualname__
            raise TypeError(f"{what} returned {value!r}, of which the server would crash. Expected: None, NoReply(…) or Stop(reason)")
        if moves:
            self.process.state = after(self.answer, self.process.state)
        elif self.answer.state is not UNCHANGED:
            self.process.state = self.answer.state
        if not called:
            return None
        answer: Any = self.answer
        reply = getattr(answer, "value", getattr(answer, "reply", UNCHANGED))
        return answer if reply is UNCHANGED else reply

    def _handled(self, reply: Any) -> Handled[Any, Any]:
        if self.answer is None:
            raise TypeError(
                f"{self.function.__qualname__} is no handler of {self.cls.__name__} and asked none of its handlers, so there is nothing to "
                "run. handle() takes a @call, a @cast, a callback, or a method that makes a request"
            )
        handled: Handled[Any, Any] = Handled((reply, self.process.state))
        handled.answer = self.answer
        handled.client = self.process.client if isinstance(self.process.client, Client) else None
        return handled


def _close(value: Any) -> None:
    close = getattr(value, "close", None)
    if close is not None:
        close()


def _driven(coro: Any, refuse: Callable[[], NoReturn]) -> Any:
    """The result of a client's side, which waits for nothing else than its requests."""
    steps = coro.__await__()
    try:
        steps.send(None)
    except StopIteration as done:
        return done.value
    steps.close()
    refuse()


def _found(method: Any) -> tuple[Any, Any]:
    """The server's class, and the function."""
    __tracebackhide__ = True
    owner, function = getattr(method, "__self__", None), getattr(method, "__func__", method)
    cls = _class_of(function) if owner is None else as_type(Any, type(owner))
    if not inspect.isfunction(function) or cls is None:
        raise TypeError(
            "handle takes a method of a server, as Counter.add, then the state, then its arguments: handle(Counter.add, [0], 3). "
            f"Got: {method!r}"
        )
    if function.__name__ == "init":
        raise TypeError(
            f"{function.__qualname__} makes the first state: it is no handler, which is given one. To see what it makes, start the server: "
            f"state = await sys.get_state(await start_supervised({cls.__name__}.child_spec(…)))"
        )
    return cls, function


def _class_of(function: Any) -> Any:
    """The class in whose body it stands: its name may be that of something local to a function."""
    name = getattr(function, "__name__", "")
    pending: list[Any] = [Server]
    while pending:
        cls = pending.pop()
        if cls.__dict__.get(name) is function:
            return cls
        pending += cls.__subclasses__()
    return None


# --- a process that is none -------------------------------------------------------------------------------------------


class Alone(ServerProcess):
    """Stands where a handler's process would be: it has a state and serves a call, and no mail, links, timers or end."""

    __slots__ = ("doing",)

    def __init__(self, node: Node, cls: type[GenServer[Any]], doing: str) -> None:
        self.doing = f"{cls.__name__}.{doing}"
        super().__init__(node, cls, None, None)
        del node.procs[self]

    def teach(self, what: str) -> NoReturn:
        names, procs = self.node.names, self.node.procs
        for half_made in [one for one in procs if one.parent is self]:  # what was to be linked to us
            del procs[half_made]
            if names.get(half_made.name) is half_made:
                del names[half_made.name]
        raise NoProcessHere(
            f"{self.doing} runs in handle(), without a process, so there is none {what}. Test this in a started server: "
            f"await {self.cls.__name__}.start_link(…), or start_supervised"
        )

    def post(self, entry: Entry) -> None:
        name, args = entry[0], entry[1]
        self.teach(f"that could get a message from itself: {name}{args!r}" if isinstance(name, str) else f"that could get {args!r}")

    def signal(self, source: Process, reason: object, *, by_link: bool) -> None:
        self.teach(f"that could get an exit signal ({reason!r})")

    def begin_exit(self, reason: object) -> None:
        self.teach(f"that could exit ({reason!r})")

    def kill(self) -> None:
        self.teach("that could be killed")

    def link_to(self, other: Process) -> None:
        self.teach("to link")

    @property
    def alive(self) -> bool:
        self.teach("whose pid could be looked at")

    def __repr__(self) -> str:
        return f"<no process: {self.doing} in handle()>"


def _absent(what: str, empty: object = None) -> Any:
    """An attribute that a process has and an `Alone` has not: it stays empty."""

    def put(self: Alone, value: Any) -> None:
        if value is empty:
            return
        for timer in value if what.startswith("for a timer") else ():
            self.node.wheel.cancel(timer)
        self.teach(what)

    return property(lambda _: empty, put)


for _name, _what, _empty in (
    ("extra", "that could own things, or have aliases, a label or a dictionary", None),
    ("links", "to link or to start others from", None),
    ("monitors", "to monitor", None),
    ("watching", "that could get the Down of a monitor", None),
    ("timers", "for a timer to send to", None),
    ("trap", "that could trap exits", False),
    ("reason", "that could exit; a handler that ends its server returns Stop(reason)", None),
):
    setattr(Alone, _name, _absent(_what, _empty))


class _NoLoop:
    """Stands for the running event loop while a handler runs in plain code."""

    def create_task(self, coro: Any, **_: Any) -> Any:
        coro.close()
        return _Keeper()

    def is_closed(self) -> bool:
        return False

    def call_soon_threadsafe(self, fn: Callable[..., object], *args: Any) -> None:
        fn(*args)  # of `reply`, to a call that was handled on another occasion

    def get_debug(self) -> bool:
        return False

    def __getattr__(self, name: str) -> Any:
        raise NoProcessHere(
            f"a handler that runs in handle() needs an event loop ({name}), and none runs. Make it an async test: there handle() has one"
        )


class _Keeper:
    """Stands for the task that lives as long as a loop."""

    def done(self) -> bool:
        return False

    def cancelling(self) -> int:
        return 0


@contextmanager
def _nowhere() -> Iterator[Node]:
    """A node without an event loop, for the time of one handler: it can tell the time, and knows nobody."""
    loop: Any = _NoLoop()
    asyncio._set_running_loop(loop)
    key = here_key()
    before = NODES.get(key)
    try:
        yield Node(loop, ManualClock())
    finally:
        asyncio._set_running_loop(None)
        del NODES[key]
        _BY_LOOP.pop(loop, None)
        if before is not None:
            NODES[key] = before
