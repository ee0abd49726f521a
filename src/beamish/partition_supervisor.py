"""Many servers of one kind in place of one, each for its part of the keys. Elixir's `PartitionSupervisor`.

    caches = PartitionSupervisor[Cache]("caches")
    caches.child_spec(Cache.child_spec(limit=100), partitions=8)        # under a supervisor: 8 caches, with the ids 0 to 7

    await caches.at("otp").fetch("otp")                                 # the cache that has the key "otp"
    await Cache(Via(caches, "otp")).fetch("otp")                        # the same, as a name like any other

For state that falls into parts by a key, and for what would otherwise queue at one server: a slow `async def` handler, 100,000
children of one DynamicSupervisor. All of it runs on one event loop: partitions take turns, they do not compute in parallel.

A partition that ends is restarted by itself, empty; while it is down its keys lead nowhere, as the name of any server then.
"""

from __future__ import annotations

import asyncio
import os
import struct
from binascii import crc32
from collections.abc import Callable, Iterable
from typing import Any, Generic, Never, TypeVar, cast as as_type

from beamish._address import Via
from beamish._answers import Refuse, Stop
from beamish._children import Child, Failed, Tree, launch, progress, report, stop_all, stop_child
from beamish._client import call
from beamish._loop import ServerProcess
from beamish._restart import Strategy, check_options
from beamish._runtime.ids import Pid
from beamish._runtime.node import here
from beamish._runtime.process import DEAD, Process
from beamish.child_spec import ChildSpec, validate
from beamish.errors import NoProcess, StartError, WrongServer, short
from beamish.gen_server import ServerMeta
from beamish.messages import send
from beamish.process import find
from beamish.supervisor import Supervisor, SupervisorError

R = TypeVar("R")
WithArguments = Callable[[tuple[Any, ...], int], Iterable[Any]]


class _Partitions(Tree):
    """A supervisor's state, and how many of its children are in use: 0 to `count`."""

    __slots__ = ("count", "limit")

    count: int
    limit: int


class PartitionSupervisor(Supervisor, Generic[R]):
    """`PartitionSupervisor[Cache]("caches").child_spec(Cache.child_spec(…), partitions=8)`, `.start_link(…)`; see the module.

    * `child`: the spec that each partition is started by, or a function that is given the number of the partition and returns
      its spec: `lambda i: Cache.child_spec(file=f"cache-{i}")`.
    * `partitions`: how many; by default as many as the machine has processors.
    * `with_arguments`: Elixir's way to tell a partition its number: a function of the spec's positional arguments (a tuple) and
      the number, which returns those to start with.
    * `strategy`, `max_restarts` (3) and `max_seconds` (5.0) are those of `Supervisor`.

    **Which partition has a key?** An integer k has `abs(k) % n`, a str `crc32` of its UTF-8 `% n`; None, bytes, floats and tuples
    have that of a canonical form. So these are the same in every run and on every machine, and those that are equal lead to one
    partition (1, 1.0 and True are one key). What else is hashable (a pid, say) goes by its own `hash()`, which may be another
    one in the next run.
    """

    async def init(  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]  # its children are all alike
        self,
        child: ChildSpec[R] | Callable[[int], ChildSpec[R]],
        *,
        partitions: int | None = None,
        with_arguments: WithArguments | None = None,
        strategy: Strategy = "one_for_one",
        max_restarts: int = 3,
        max_seconds: float = 5.0,
    ) -> Tree | Stop[Any]:
        check_options(strategy, max_restarts, max_seconds)
        count = (os.cpu_count() or 1) if partitions is None else _checked(partitions, 1)
        specs = validate([_spec(child, number, with_arguments) for number in range(count)], "never")
        me = as_type(ServerProcess, self._process)
        me.trap = True
        tree = _Partitions(me, strategy, max_restarts, max_seconds, "never")
        tree.count = tree.limit = count
        try:
            return await self._start_children(tree, specs)
        except asyncio.CancelledError:
            await stop_all(tree)  # the start was given up
            raise

    # -- routing: asked where the caller is, without a message, as OTP reads its table

    def at(self, key: Any) -> R:
        """The address of the partition that has `key`, looked up at every call. NoProcess if this supervisor does not run."""
        tree = self._tree()
        child = None if tree is None else tree.children.get(_number(self, tree, key))
        if child is None:
            raise NoProcess.of(self, f"at({short(key)})", self._name, here().names)
        cls: Any = child.spec.start
        if not isinstance(cls, ServerMeta):
            raise TypeError(f"the partitions of {self!r} are no servers: send them messages, send(Via({self!r}, {short(key)}), …)")
        return as_type(R, as_type(Any, cls)(Via(self, key)))

    def whereis_name(self, key: Any, /) -> Pid | None:
        """The partition that has `key`, or None while it does not run. ValueError after `resize(0)`."""
        tree = self._tree()
        child = tree.children.get(_number(self, tree, key)) if tree is not None else None
        process = child.process if child is not None else None
        return process if process is not None and process.status != DEAD else None

    def send(self, key: Any, message: Any, /) -> Any:
        """Put `message` into the mailbox of the partition that has `key`, and return it. NoProcess."""
        return send(Via(self, key), message)

    def register_name(self, key: Any, pid: Pid, /) -> Never:
        """Refused: partitions are started by their supervisor, not under its keys."""
        raise SupervisorError(f"nothing is started as {Via(self, key)!r}: that leads to a partition, and {self!r} starts those itself")

    def unregister_name(self, key: Any, /) -> None:
        """Nothing is registered here."""

    def _tree(self) -> _Partitions | None:
        """The state of the supervisor, where it lies; None while nobody is there, or is still in its init."""
        process: Any = find(self) if self._name is None else here().whereis(self._name)
        if process is None or process.status == DEAD:
            return None
        cls = process.cls if isinstance(process, ServerProcess) else Process
        if not issubclass(cls, PartitionSupervisor):
            raise WrongServer.of(self, "whereis_name", cls)
        return as_type("_Partitions | None", process.state)

    # -- the client's side

    @call
    def partitions(self, state: _Partitions) -> int:
        """How many partitions are in use."""
        return state.count

    async def resize(self, partitions: int) -> int:
        """Use another number of partitions, from 0 to what it was started with; returns what it was.

        Fewer: those with the highest numbers are stopped. More: they are started again; StartError if one does not start, and
        then nothing is changed. Nearly all keys lead elsewhere afterwards, and what the partitions know does not move along.
        """
        return as_type(int, await self._resize(_checked(partitions, 0)))

    async def start_child(self, spec: ChildSpec[Any]) -> Never:
        """Refused: there are partitions only, all alike. See `resize`."""
        raise SupervisorError(f"{self!r} has no children but its partitions: resize(n) says how many run; others belong under a Supervisor")

    async def delete_child(self, id: Any) -> Never:
        """Refused: the specs of its partitions are kept. See `resize`."""
        raise SupervisorError(f"{self!r} keeps the specs of all its partitions: resize(n) says how many run")

    @call
    async def _resize(self, state: _Partitions, count: int) -> object:
        before = state.count
        if count > state.limit:
            return Refuse(ValueError(f"{self!r} was started with {state.limit} partitions, and can't have more. Got: {count}"))
        if count < before:
            state.count = count  # nobody is led to them any more
            await _stop_partitions(state, count, before)
        for number in range(before, count):
            problem = await _start_partition(state, number)
            if problem is not None:
                await _stop_partitions(state, before, number)
                return Refuse(StartError(problem.reason, f"partition {number} of {self!r}"))
        state.count = count
        return before


def _checked(partitions: Any, least: int) -> int:
    if isinstance(partitions, bool) or not isinstance(partitions, int) or partitions < least:
        raise ValueError(f"partitions must be an int, {least} or more. Got: {partitions!r}")
    return partitions


def _spec(child: Any, number: int, with_arguments: Any) -> ChildSpec[Any]:
    """The child spec of one partition."""
    made = child(number) if callable(child) and not isinstance(child, type) else child
    (spec,) = validate([made])  # refuses what is none, and says what to write
    if spec.name is not None and made is child:
        raise ValueError(
            f"each partition would be {spec.name!r}, and a name is for one: give the spec of the class, "
            "Server.child_spec(…), or a function of the number that makes the spec"
        )
    if with_arguments is None:
        return spec.replace(id=number)
    if not callable(with_arguments):
        raise ValueError(f"with_arguments must be a function of the arguments and the partition's number. Got: {short(with_arguments)}")
    args = with_arguments(spec.args, number)
    if not isinstance(args, tuple | list):
        raise ValueError(f"with_arguments must return the arguments as a tuple or list. Got: {short(args)}")
    return spec.replace(id=number, args=tuple(as_type("Iterable[Any]", args)))


# --- stopping and starting one ----------------------------------------------------------------------------------------


async def _stop_partitions(tree: _Partitions, begin: int, end: int) -> None:
    """Last to first. Their specs stay."""
    for number in reversed(range(begin, end)):
        child = tree.children.get(number)
        if child is not None:
            child.restarting = False
            await stop_child(tree, child)


async def _start_partition(tree: _Partitions, number: int) -> Failed | None:
    child = tree.children.get(number)
    if child is None or child.process is not None:  # a temporary one that has ended; one that was started by hand
        return None
    problem = launch(tree, child)
    if problem is not None and not isinstance(problem, Failed):
        problem = await problem
    _told(tree, child, problem)
    return problem


def _told(tree: _Partitions, child: Child, problem: Failed | None) -> None:
    if problem is not None:
        report(tree.me, child.spec, "start_error", problem.reason, problem.info)
    else:
        progress(tree.me, child.spec, child.process)


# --- which partition has a key ----------------------------------------------------------------------------------------


def _number(supervisor: object, tree: _Partitions, key: Any) -> int:
    if not tree.count:
        raise ValueError(f"{supervisor!r} was resized to 0 partitions, so the key {short(key)} leads nowhere: resize it before it is used")
    return partition_of(key, tree.count)


def partition_of(key: Any, partitions: int) -> int:
    """Which of so many partitions has `key`: the rule of `PartitionSupervisor`."""
    if isinstance(key, str):
        return crc32(key.encode("utf-8", "surrogatepass")) % partitions
    if isinstance(key, int):
        return abs(key) % partitions
    if isinstance(key, float) and key.is_integer():
        return abs(int(key)) % partitions  # it is equal to that int
    return crc32(_canonical(key)) % partitions


def _canonical(key: Any) -> bytes:
    """Bytes that are the same for equal keys, in every run. Python's own hash of a str is another one each time."""
    match key:
        case str():
            kind, body = b"s", key.encode("utf-8", "surrogatepass")
        case bytes():
            kind, body = b"b", key
        case int():
            kind, body = b"i", key.to_bytes(key.bit_length() // 8 + 1, "little", signed=True)
        case float() if key.is_integer():
            return _canonical(int(key))
        case float():
            kind, body = b"f", struct.pack("<d", key)
        case tuple():
            kind, body = b"t", b"".join(map(_canonical, key))  # pyright: ignore[reportUnknownArgumentType]
        case None:
            kind, body = b"n", b""
        case _:
            kind, body = b"h", hash(key).to_bytes(8, "little", signed=True)
    return kind + len(body).to_bytes(4, "little") + body
