"""An agent: a state, and functions that are run on it, one at a time, in a process of its own. Elixir's `Agent`.

    counter = Agent[int]("counter")                          # an address, as every server's is
    await counter.start_link(lambda: 0)                      # or counter.child_spec(lambda: 0) in a supervisor
    await counter.update(lambda n: n + 1)
    await counter.get(lambda n: n * 10)                      # 10
    await counter.get_and_update(lambda n: (n, n + 5))       # 1: the reply; then the new state
    counter.cast(lambda n: 0)                                # an update that nobody waits for

The functions run in the agent: a slow one keeps all others waiting, one that raises ends the agent (a supervised one is
started again, by its first function) and its caller gets ServerDown. Work that does not need the state to stand still belongs
outside: get what it needs, then compute. What has rules, messages or timers of its own is a `GenServer`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from types import CoroutineType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from beamish import gen
from beamish._answers import CONTROL, Init, Reply
from beamish._client import call
from beamish._loop import is_coroutine
from beamish._runtime.process import DEAD
from beamish.errors import BadReturn, short
from beamish.gen_server import GenServer

S = TypeVar("S")
R = TypeVar("R")
P = ParamSpec("P")
M = TypeVar("M", bound=Callable[..., Any])


class _Inside:
    """What runs in the agent. Where a function gives a coroutine, the rest is done when that is."""

    @call
    def get(self: Any, state: Any, fn: Any) -> Any:
        value = fn(state)
        if type(value) in CONTROL:
            return _replied(value) if is_coroutine(value) else Reply(value)  # whatever it is, it is the reply
        return value

    @call
    def update(self: Any, state: Any, fn: Any) -> Any:
        value = fn(state)
        if is_coroutine(value):
            return _updated(self, value)
        _keep(self, value)
        return None

    @call
    def get_and_update(self: Any, state: Any, fn: Any) -> Any:
        value = fn(state)
        return _both_later(self, value) if is_coroutine(value) else _both(self, value)


_inside: Any = _Inside  # asked with an agent where its own `self` would stand


async def _replied(value: Coroutine[Any, Any, Any]) -> Any:
    return Reply(await value)


async def _updated(agent: Any, value: Coroutine[Any, Any, Any]) -> None:
    _keep(agent, await value)


async def _both_later(agent: Any, value: Coroutine[Any, Any, Any]) -> Any:
    return _both(agent, await value)


def _both(agent: Any, value: Any) -> Any:
    if not isinstance(value, tuple) or len(value) != 2:  # pyright: ignore[reportUnknownArgumentType]
        raise BadReturn("the function of get_and_update", value, "a tuple (reply, new state)")
    reply, state = value  # pyright: ignore[reportUnknownVariableType]
    _keep(agent, state)
    return Reply(reply) if type(reply) in CONTROL else reply  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def _keep(agent: Any, state: Any) -> None:
    """Put a new state in place without a `Reply`, which would take the call off its short road."""
    process = agent._process
    if process.status != DEAD:  # the function may have ended its own agent: the dead keep nothing
        process.state = state


async def _made(state: Coroutine[Any, Any, Any]) -> Init:
    return Init(await state)


class _With:
    """A function with the arguments that come after the state."""

    __slots__ = ("args", "fn", "kwargs")

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.fn = fn
        self.args = args
        self.kwargs = kwargs

    def __call__(self, state: Any) -> Any:
        return self.fn(state, *self.args, **self.kwargs)

    def __repr__(self) -> str:
        more = [*map(short, self.args), *(f"{key}={short(one)}" for key, one in self.kwargs.items())]
        return f"{short(self.fn)} with {', '.join(more)}"


def _serves(inside: Any) -> Callable[[M], M]:
    """Make a method the client's side of a handler: what it adds are the types, the words, and a check before anything is sent."""

    def mark(method: M) -> M:
        face: Any = method
        face.handler, face.kind = inside.handler, inside.kind
        return method

    return mark


def _refused(agent: Any, verb: str, fn: object) -> TypeError:
    wait = "" if verb == "cast" else "await "
    back = "(reply, new_state)" if verb == "get_and_update" else "…"
    return TypeError(
        f"an agent is given functions of its state, which run in it: {wait}{agent!r}.{verb}(lambda state: {back}). Got: {short(fn)}"
    )


class Agent(GenServer[S], Generic[S]):
    """`Agent[int]("counter")` is an address; `start_link(fn, *args)` starts it with the state `fn(*args)`. See the module.

    Functions are given the state first, then the arguments that follow them: `await agent.get(operator.add, 100)`. They may be
    `async def`; nothing else happens in the agent until they are done. They raise in the caller as every call does: NoProcess,
    CallTimeout (after 5.0 s; `agent.with_timeout(0.2).get(…)`), ServerDown; CallingSelf and Deadlock too.

    A derived class, `class Counter(Agent[int])`, has its own default id as a child, class keywords such as `restart=`, and may
    have methods that say what is done: `async def next(self) -> int: return await self.get_and_update(lambda n: (n, n + 1))`.
    Messages that are sent to an agent are ignored, as in Elixir.
    """

    def init(self, fn: Callable[..., S | Coroutine[Any, Any, S]], *args: Any, **kwargs: Any) -> Any:
        if not callable(fn):
            name = type(self).__name__
            raise TypeError(f"an agent is started with a function that makes its state: {name}.start_link(lambda: …). Got: {short(fn)}")
        state: Any = fn(*args, **kwargs)
        if is_coroutine(state):
            return _made(state)
        return Init(state) if type(state) in CONTROL else state

    def handle_info(self, state: S, message: Any) -> None:
        """Ignored."""

    def code_change(self, state: S, version: Any, extra: Any) -> S:
        """`extra` is a function of the state; what it returns is the new one."""
        changed: S = extra(state)
        return changed

    @overload
    def get(
        self, fn: Callable[Concatenate[S, P], Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> CoroutineType[Any, Any, R]: ...
    @overload
    def get(self, fn: Callable[Concatenate[S, P], R], /, *args: P.args, **kwargs: P.kwargs) -> CoroutineType[Any, Any, R]: ...
    @_serves(_inside.get)
    def get(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        """`await agent.get(fn, *args)`: what `fn(state, *args)` returns. The object itself, not a copy."""
        if not callable(fn):
            raise _refused(self, "get", fn)
        return _inside.get(self, _With(fn, args, kwargs) if args or kwargs else fn)

    @_serves(_inside.update)
    def update(
        self, fn: Callable[Concatenate[S, P], S | Coroutine[Any, Any, S]], /, *args: P.args, **kwargs: P.kwargs
    ) -> CoroutineType[Any, Any, None]:
        """`await agent.update(fn, *args)`: what `fn(state, *args)` returns is the new state."""
        if not callable(fn):
            raise _refused(self, "update", fn)
        asked: CoroutineType[Any, Any, None] = _inside.update(self, _With(fn, args, kwargs) if args or kwargs else fn)
        return asked

    @overload
    def get_and_update(
        self, fn: Callable[Concatenate[S, P], Coroutine[Any, Any, tuple[R, S]]], /, *args: P.args, **kwargs: P.kwargs
    ) -> CoroutineType[Any, Any, R]: ...
    @overload
    def get_and_update(
        self, fn: Callable[Concatenate[S, P], tuple[R, S]], /, *args: P.args, **kwargs: P.kwargs
    ) -> CoroutineType[Any, Any, R]: ...
    @_serves(_inside.get_and_update)
    def get_and_update(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        """`await agent.get_and_update(fn, *args)`: `fn` returns the tuple (reply, new state). Anything else ends the agent."""
        if not callable(fn):
            raise _refused(self, "get_and_update", fn)
        return _inside.get_and_update(self, _With(fn, args, kwargs) if args or kwargs else fn)

    def cast(  # type: ignore[override, unused-ignore]  # an agent has no messages but functions
        self, fn: Callable[Concatenate[S, P], S | Coroutine[Any, Any, S]], /, *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """`agent.cast(fn, *args)`: an `update` that nobody waits for; nothing tells whether it arrived."""
        if not callable(fn):
            raise _refused(self, "cast", fn)
        gen.notify(self, "update", (_With(fn, args, kwargs) if args or kwargs else fn,), None)
