"""`@call` and `@cast`: turn a handler into the client's method of the same name.

The method is generated source, because it must have the client's exact signature and because a call of an idle server is
this function and nothing else: look at one integer, run the handler, put three things back. Anything unusual leaves for
`gen.request`, `gen.took` or `gen.raised`, which are the same by the long road. Measured: 0.5-0.7 µs, where any call through a
mailbox costs two turns of the loop (5 µs).
"""

from __future__ import annotations

import inspect
import linecache
import sys
from collections.abc import Awaitable, Callable, Coroutine, Generator
from types import CoroutineType, coroutine
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, overload

from beamish import gen
from beamish._answers import CONTROL, Answer, NoReply, Stop
from beamish._runtime.client import ANSWERED, Client
from beamish._runtime.node import NODES, here_key
from beamish._runtime.process import RUNNING

if TYPE_CHECKING:
    from beamish.state_machine import StateMachine

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
G = TypeVar("G")
D = TypeVar("D")
M = TypeVar("M", bound="StateMachine[Any, Any]")

CastResult = None | NoReply | Stop[Any]

_KEY_IS_NOT = "is not" if sys.version_info >= (3, 12) else "!="  # a loop object, or a thread's id

# Where the server is, and that it is idle.
_FIND = """
async def {name}(self{signature}):
    process_ = self._process
    if process_ is None:
        node_ = nodes_.get(key_())
        if node_ is None:
            return await request_(self, {name!r}, ({positional}), {keywords})
        process_ = node_.names.get(self._name)
        if process_ is None:
            process_ = node_.whereis(self._name)
        if process_ is None or process_.status:
            return await request_(self, {name!r}, ({positional}), {keywords})
    else:
        node_ = process_.node
        if process_.status or key_() {is_not} node_.key:
            return await request_(self, {name!r}, ({positional}), {keywords})
"""

# That the turn still has something to spend, and the stack is not too deep.
# `floor`: half of the turn's budget; below it `spend` arms the marker that refills it, and says when to yield. `limit`: how
# deep handlers may nest; 0 while every call is to take the long road (a dead process's code still runs; inlining is off).
_SPEND = """    node_.budget = budget_ = node_.budget - 1
    if budget_ <= node_.floor and not node_.spend():
        await pause_()
        if process_.status:
            return await request_(self, {name!r}, ({positional}), {keywords})
    if node_.depth >= node_.limit or calls_.handlers:
        return await request_(self, {name!r}, ({positional}), {keywords})
"""

_CALL = (
    _FIND
    + """\
    try:
        handler_ = process_.calls[{name!r}]
    except KeyError:
        return await request_(self, {name!r}, ({positional}), {keywords})
"""
    + _SPEND
    + """\
    process_.client = outer_ = node_.current
    node_.current = process_
    node_.depth += 1
    process_.status = {running}
    try:
        context_ = process_.ctx
        if context_ is None:
            context_ = process_.context()
        value_ = context_.run(handler_, process_.server, process_.state, {arguments})
    except BaseException as error_:
        node_.depth -= 1
        node_.current = outer_
        return await raised_(self, process_, error_, {name!r}, ({positional}), {keywords})
    node_.depth -= 1
    node_.current = outer_
    if process_.status != {running} or type(value_) in control_:
        return await took_(self, process_, value_, {name!r}, ({positional}), {keywords})
    if process_.mbox is None:
        process_.status = 0
    else:
        node_.enqueue(process_)
    return value_
"""
)

# The same for an `async def` handler: to make its coroutine runs nothing of it, so there is nothing to put back. What overrides it
# in a subclass, and calls made by processes (which may wait for each other in a circle), take the ways that are longer by a step.
_CALL_ASYNC = (
    _FIND
    + """\
    if process_.calls.get({name!r}) is not own_:
        return await request_(self, {name!r}, ({positional}), {keywords})
"""
    + _SPEND
    + """\
    process_.status = {running}
    process_.client = client_ = client_type_(process_, {name!r}, node_.me())
    value_ = own_(process_.server, process_.state, {arguments})
    if client_.caller is not None:
        return await took_(self, process_, value_, {name!r}, ({positional}), {keywords})
    entry_ = ({name!r}, ({positional}), {keywords}, client_)
    process_.go_async(value_, entry_)
    if client_.outcome == {answered}:
        return client_.value
    return await outcome_(self, process_, None, entry_, client_)
"""
)

_CAST = """
def {name}(self{signature}):
    process_ = self._process
    if process_ is None:
        node_ = nodes_.get(key_())
        process_ = node_.names.get(self._name) if node_ is not None else None
        if process_ is None and node_ is not None:
            process_ = node_.whereis(self._name)
        if process_ is None:
            return notify_(self, {name!r}, ({positional}), {keywords})
    else:
        node_ = process_.node
        if key_() {is_not} node_.key:
            return notify_(self, {name!r}, ({positional}), {keywords})
    if node_.ghosts or cast_.handlers or {name!r} not in process_.calls:
        return notify_(self, {name!r}, ({positional}), {keywords})
    mail_ = process_.mbox
    if mail_ is not None:
        mail_.append(({name!r}, ({positional}), {keywords}, None))
    else:
        process_.post(({name!r}, ({positional}), {keywords}, None))
"""


@coroutine
def pause() -> Generator[None, None, None]:
    """One turn of the loop: what `asyncio.sleep(0)` does, without its coroutine."""
    yield


_GLOBALS: dict[str, Any] = {
    "nodes_": NODES, "key_": here_key, "request_": gen.request, "took_": gen.took, "raised_": gen.raised, "control_": CONTROL,
    "calls_": gen.CALLS, "pause_": pause, "client_type_": Client, "outcome_": gen.outcome, "notify_": gen.notify, "cast_": gen.CAST,
}  # fmt: skip


# A handler takes (self, state, …); that of a StateMachine (self, state, data, …), and its class makes the method anew.
@overload
def call(  # type: ignore[overload-overlap]
    fn: Callable[Concatenate[M, S, D, P], Coroutine[Any, Any, Answer[R]]],
) -> Callable[Concatenate[M, P], CoroutineType[Any, Any, R]]: ...
@overload
def call(  # type: ignore[overload-overlap]
    fn: Callable[Concatenate[M, S, D, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[M, P], CoroutineType[Any, Any, R]]: ...
@overload
def call(  # type: ignore[overload-overlap]
    fn: Callable[Concatenate[M, S, D, P], Answer[R]],
) -> Callable[Concatenate[M, P], CoroutineType[Any, Any, R]]: ...
@overload
def call(fn: Callable[Concatenate[M, S, D, P], R]) -> Callable[Concatenate[M, P], CoroutineType[Any, Any, R]]: ...
@overload
def call(fn: Callable[Concatenate[G, S, P], Coroutine[Any, Any, Answer[R]]]) -> Callable[Concatenate[G, P], CoroutineType[Any, Any, R]]: ...
@overload
def call(fn: Callable[Concatenate[G, S, P], Coroutine[Any, Any, R]]) -> Callable[Concatenate[G, P], CoroutineType[Any, Any, R]]: ...
@overload
def call(fn: Callable[Concatenate[G, S, P], Answer[R]]) -> Callable[Concatenate[G, P], CoroutineType[Any, Any, R]]: ...
@overload
def call(fn: Callable[Concatenate[G, S, P], R]) -> Callable[Concatenate[G, P], CoroutineType[Any, Any, R]]: ...
def call(fn: Callable[..., Any]) -> Any:
    """A handler `(self, state, *args) -> reply` whose client awaits the reply: `await server.method(*args)`.

    The client raises NoProcess, CallTimeout (default 5 s, `with_timeout`), ServerDown, CallingSelf, Deadlock, WrongServer or
    WrongLoop. The handler may be `def` or `async def`; one that needs more than a reply is annotated `-> Answer[R]`.
    The plain function stays at `.handler`.
    """
    return _generate(fn, _CALL_ASYNC if inspect.iscoroutinefunction(fn) else _CALL, "call")


@overload
def cast(
    fn: Callable[Concatenate[M, S, D, P], Awaitable[Answer[Any] | None] | Answer[Any] | None],
) -> Callable[Concatenate[M, P], None]: ...
@overload
def cast(fn: Callable[Concatenate[G, S, P], Awaitable[CastResult] | CastResult]) -> Callable[Concatenate[G, P], None]: ...
def cast(fn: Callable[..., Any]) -> Any:
    """A handler `(self, state, *args) -> None` whose client does not wait: `server.method(*args)`.

    Nothing tells whether it arrived: an absent server is no error, a crash drops what is queued. Sends keep their order.
    """
    return _generate(fn, _CAST, "cast")


def _generate(fn: Any, template: str, kind: str) -> Any:
    if inspect.isasyncgenfunction(fn) or inspect.isgeneratorfunction(fn):
        raise TypeError(f"{fn.__qualname__} yields: a @{kind} handler returns its reply, or NoReply() and replies later")
    if not inspect.isfunction(fn):
        raise TypeError(f"@{kind} is put on a plain method (self, state, …). Got: {fn!r}")
    parameters = list(inspect.signature(fn).parameters.values())
    if len(parameters) < 2 or any(p.kind not in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters[:2]):
        raise TypeError(
            f"a @{kind} handler takes (self, state, …): the state is given to it right after self. "
            f"Got: {fn.__qualname__}{inspect.signature(fn)}"
        )
    names = _Names(parameters[2:], fn)
    source = template.format(
        name=fn.__name__, signature=names.signature, positional=names.positional, keywords=names.keywords, arguments=names.arguments,
        is_not=_KEY_IS_NOT, running=RUNNING, answered=ANSWERED,
    )  # fmt: skip
    file = f"<@{kind} {fn.__module__}.{fn.__qualname__}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)  # so that tracebacks show its lines
    namespace: dict[str, Any] = {**_GLOBALS, **names.defaults, "own_": fn}
    exec(compile(source, file, "exec"), namespace)
    method = namespace[fn.__name__]
    method.__qualname__, method.__module__, method.__doc__ = fn.__qualname__, fn.__module__, fn.__doc__
    method.__annotations__ = _annotations(fn, parameters[1].name, kind)
    method.handler = fn
    method.kind = kind
    return method


class _Names:
    """The client's parameters, in the four forms that the templates need."""

    def __init__(self, parameters: list[inspect.Parameter], fn: Any) -> None:
        self.defaults: dict[str, Any] = {}
        shown: list[str] = []
        positional: list[str] = []
        keywords: list[str] = []
        only_positional = star = False
        for p in parameters:
            if p.name.endswith("_") and p.name[:-1] in (
                "process",
                "node",
                "handler",
                "budget",
                "outer",
                "value",
                "error",
                "mail",
                *_GLOBALS,
            ):
                raise TypeError(f"{fn.__qualname__}: a parameter may not be called {p.name!r}; drop the underscore")
            if only_positional and p.kind is not p.POSITIONAL_ONLY:
                shown.append("/")
            only_positional = p.kind is p.POSITIONAL_ONLY
            if p.kind is p.KEYWORD_ONLY and not star:
                shown.append("*")
            star = star or p.kind in (p.VAR_POSITIONAL, p.KEYWORD_ONLY)
            prefix = "*" if p.kind is p.VAR_POSITIONAL else "**" if p.kind is p.VAR_KEYWORD else ""
            if p.default is not p.empty:
                self.defaults[f"default_{p.name}_"] = p.default
                shown.append(f"{p.name}=default_{p.name}_")
            else:
                shown.append(prefix + p.name)
            if p.kind is p.KEYWORD_ONLY:
                keywords.append(f"{p.name}={p.name}")
            elif p.kind is p.VAR_KEYWORD:
                keywords.append(f"**{p.name}")
            else:
                positional.append(prefix + p.name)
        if only_positional:
            shown.append("/")
        self.signature = "".join(f", {one}" for one in shown)
        self.positional = "".join(f"{one}, " for one in positional)
        self.keywords = f"dict({', '.join(keywords)})" if keywords else "None"
        self.arguments = ", ".join([*positional, *keywords])


def _annotations(fn: Any, state: str, kind: str) -> dict[str, Any]:
    try:
        found = dict(fn.__annotations__)
    except NameError:  # 3.14 evaluates annotations when they are read; a forward reference is no reason to fail here
        return {}
    found.pop(state, None)
    if kind == "cast":
        found["return"] = None
    return found
