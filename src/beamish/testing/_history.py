# pyright: reportPrivateUsage=false
"""What the clients of a server saw: who asked what, when it was answered, and with what. For `linearizable`.

    with History(cache) as history:             # told of the cache's ends, which lose its state
        await history.call("ann", cache.fetch, "otp")
        history.cast("ann", cache.cache, "otp", pages)

An operation has taken effect at one moment between `begin` and `end`, or, where nobody can know, perhaps not at all: a call that timed out
(it may happen any time later), one whose server ended (before the caller heard of that, or never), a cast.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from math import inf
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, cast as as_type

from beamish import (
    CallingSelf,
    CallTimeout,
    Deadlock,
    NoProcess,
    Overloaded,
    Request,
    ServerDown,
    WrongLoop,
    WrongServer,
    telemetry,
)
from beamish._address import Address
from beamish._runtime.extra import extra_of
from beamish._runtime.node import Node, here
from beamish._runtime.process import Process
from beamish.errors import short

P = ParamSpec("P")
R = TypeVar("R")

#: What says that a request never reached the server.
_NOT_ASKED = (NoProcess, Overloaded, WrongServer, WrongLoop, CallingSelf, Deadlock)


@dataclass(frozen=True, slots=True)
class Raised:
    """The reply of a call that raised an error of the server's face. A model replies `Raised(AlreadyRegistered)` in turn."""

    kind: type[BaseException]


class Unknown:
    """The reply of an operation that had none."""

    def __repr__(self) -> str:
        return "?"


UNKNOWN: Any = Unknown()


@dataclass(slots=True, eq=False)
class Operation:
    """What a client did. `begin` and `end` are the order of the moments, not times."""

    client: Hashable
    request: Request
    begin: float
    end: float = inf
    reply: Any = UNKNOWN
    certain: bool = False
    """Whether it has taken effect for sure; else perhaps, by `end` at the latest."""
    server: object = None
    waiting: bool = True
    """Whether the client has heard nothing yet."""
    cast: bool = False
    crash: bool = False
    """Whether it is the end of `server`, which nobody asked for."""

    def __str__(self) -> str:
        """`fetch('otp') → None`"""
        if self.crash:
            return "crashed"
        args = [short(one) for one in self.request.args] + [f"{key}={short(one)}" for key, one in self.request.kwargs.items()]
        return f"{self.request.name}({', '.join(args)}) → {short(self.reply) if self.certain else '?'}"


class History:
    """Records operations. As a context manager it hears of the ends of the `servers` that it is given too."""

    def __init__(self, *servers: Address) -> None:
        for one in servers:
            if not isinstance(one, Address):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"a history is told of the ends of servers, by their addresses: History(Account('account')). Got: {one!r}")
        self.servers = servers
        self.operations: list[Operation] = []
        self._moment = 0
        self._asking: dict[Hashable, Operation] = {}
        self._node: Node | None = None

    def __iter__(self) -> Iterator[Operation]:
        return iter(self.operations)

    def __len__(self) -> int:
        return len(self.operations)

    # -- by hand

    def invoke(self, client: Hashable, name: str, *args: Any, **kwargs: Any) -> Operation:
        """An operation begins that something else carries out: then `complete` it, `give_up` waiting for its reply, or `forget` it.

        A client does one thing after the other; for two at once there are two clients. ValueError.
        """
        return self._begin(client, Request(name, args, kwargs), None)

    def complete(self, operation: Operation, reply: Any) -> None:
        """It was answered."""
        end = self._over(operation)
        operation.end, operation.reply, operation.certain = end, reply, True
        for one in self.operations:  # mail keeps its order: what this client has cast before is handled by now, or lost
            if (
                one.cast
                and one.end == inf
                and one.begin < operation.begin
                and one.client == operation.client
                and self._same(one, operation)
            ):
                one.end = end

    def give_up(self, operation: Operation, *, over: bool = False) -> None:
        """It has no answer, and may take effect any time yet. `over`: its server has ended, so what it has not done it never will."""
        end: float = self._over(operation)
        if over:
            ends = [one.end for one in self.operations if one.crash and one.end > operation.begin and self._same(one, operation)]
            operation.end = max(ends) - 0.5 if ends else end  # nothing that has died does anything after

    def forget(self, operation: Operation) -> None:
        """It never reached the server."""
        operation.waiting = False
        self.operations.remove(operation)

    def crashed(self, server: object = None) -> None:
        """The server has ended, and with it what it was to do."""
        now = self._now()
        name = "the server" if server is None else repr(server)
        ended = Operation(name, Request("crashed"), now, now, None, True, server, waiting=False, crash=True)
        for one in self.operations:
            if not one.waiting and one.end == inf and self._same(one, ended):
                one.end = now - 0.5  # before it
        self.operations.append(ended)

    def _begin(self, client: Hashable, request: Request, server: object) -> Operation:
        before = self._asking.get(client)
        if before is not None and before.waiting:
            raise ValueError(
                f"{client!r} still waits for {before}, and a client does one thing after the other: for two at once, two clients"
            )
        self._asking[client] = operation = Operation(client, request, self._now(), server=server)
        self.operations.append(operation)
        return operation

    def _over(self, operation: Operation) -> int:
        if not operation.waiting:
            raise ValueError(f"{operation.client!r} has heard of {operation} already")
        operation.waiting = False
        return self._now()

    def _now(self) -> int:
        self._moment += 1
        return self._moment

    @staticmethod
    def _same(one: Operation, other: Operation) -> bool:
        return one.server is None or other.server is None or one.server == other.server

    # -- around calls

    async def call(self, client: Hashable, method: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> R:
        """`await history.call("ann", cache.fetch, "otp")`: what `await cache.fetch("otp")` gives, or raises, on the record."""
        operation = self._asked(client, method, args, kwargs)
        try:
            reply = await method(*args, **kwargs)
        except BaseException as error:
            self._raised(operation, error)
            raise
        self.complete(operation, reply)
        return reply

    def do(self, client: Hashable, method: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """The same for a method that is not awaited and gives its reply at once: `history.do("ann", registry.lookup, "key")`."""
        operation = self._asked(client, method, args, kwargs)
        try:
            reply = method(*args, **kwargs)
        except BaseException as error:
            self._raised(operation, error)
            raise
        self._refuse_awaited(operation, method, reply)
        self.complete(operation, reply)
        return reply

    def cast(self, client: Hashable, method: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """The same for a cast: it takes effect any time later, or never when the server ends before."""
        operation = self._asked(client, method, args, kwargs)
        operation.cast = True
        try:
            reply = as_type("Callable[..., object]", method)(*args, **kwargs)
        except BaseException:
            self.forget(operation)
            raise
        self._refuse_awaited(operation, method, reply)
        operation.waiting = False

    def _asked(self, client: Hashable, method: Any, args: Any, kwargs: Any) -> Operation:
        if not callable(method):
            raise TypeError(
                "a history takes the client's name, the method, and its arguments: "
                f'history.call("ann", cache.fetch, "otp"). Got as the method: {short(method)}'
            )
        return self._begin(client, Request(_name(method), args, kwargs), _server(method))

    def _refuse_awaited(self, operation: Operation, method: Any, reply: object) -> None:
        if isinstance(reply, Awaitable):
            _close(reply)
            self.forget(operation)
            raise TypeError(f"{_name(method)} is awaited: await history.call({operation.client!r}, …)")

    def _raised(self, operation: Operation, error: BaseException) -> None:
        if isinstance(error, _NOT_ASKED):
            self.forget(operation)
        elif isinstance(error, ServerDown):
            self.give_up(operation, over=True)
        elif isinstance(error, CallTimeout) or not isinstance(error, Exception):
            self.give_up(operation)
        else:
            self.complete(operation, Raised(type(error)))

    # -- ends of servers

    def __enter__(self) -> Self:
        self._node = here()
        for server in self.servers:
            process = self._node.whereis(server._name) if server._process is None else server._process
            if process is not None:
                self._watch(process, server)
        telemetry.attach(self, "beamish.process.start", self._started)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._node = None
        telemetry.detach(self)

    def _started(self, event: tuple[str, ...], measurements: Mapping[str, Any], metadata: Mapping[str, Any], config: object) -> None:
        if metadata["server"] in self.servers:
            self._watch(metadata["pid"], metadata["server"])

    def _watch(self, process: Process, server: Address) -> None:
        """Be told in the moment in which it ends: a Down comes later, and others may have seen by then that it is gone."""
        if process.node is self._node:
            extra = extra_of(process)
            extra.closers = {**(extra.closers or {}), partial(self._ended, server): None}

    def _ended(self, server: Address) -> None:
        if self._node is not None:
            self.crashed(server)


def _server(method: Any) -> object:
    return getattr(method, "__self__", None)


def _name(method: Any) -> str:
    return str(getattr(method, "__name__", method))


def _close(reply: Any) -> None:
    if hasattr(reply, "close"):
        reply.close()
