"""What a caller gets from a server, under mypy --strict and pyright strict. Checked, not run (but importable)."""

from __future__ import annotations

import asyncio
from typing import Generic, Protocol, TypeVar, assert_type

from beamish import (
    Answer,
    ChildSpec,
    Down,
    GenServer,
    NoReply,
    Pid,
    Reply,
    Stop,
    Supervisor,
    blocking,
    call,
    cast,
    down as await_down,
    run,
    supervise,
)

K = TypeVar("K")
V = TypeVar("V")


class State:
    def __init__(self, limit: int) -> None:
        self.entries: dict[str, bytes] = {}
        self.limit = limit


class Cache(GenServer[State]):
    def init(self, *, limit: int = 10) -> State:
        return State(limit)

    @call
    def fetch(self, state: State, query: str) -> bytes | None:
        return state.entries.get(query)

    @call
    async def size(self, state: State) -> int:
        return len(state.entries)

    @cast
    def put(self, state: State, query: str, value: bytes) -> None:
        state.entries[query] = value

    @cast
    async def put_slowly(self, state: State, query: str, value: bytes) -> None:
        await asyncio.sleep(0)
        state.entries[query] = value

    @call
    def later(self, state: State) -> Answer[int]:
        return NoReply()

    @call
    async def bye(self, state: State) -> Answer[str]:
        return Stop("done", reply="bye")


class Table(GenServer[dict[K, V]], Generic[K, V]):
    def init(self) -> dict[K, V]:
        return {}

    @call
    def get(self, state: dict[K, V], key: K) -> V | None:
        return state.get(key)

    @call
    def swap(self, state: dict[K, V], key: K, value: V) -> Answer[V | None]:
        return Reply(state.get(key), state={**state, key: value})


class Louder(Cache):
    """Overrides a call, inherits `init`."""

    @call
    def fetch(self, state: State, query: str) -> bytes | None:
        return b"!"


class Fetches(Protocol):
    """What any client of a cache may ask for."""

    async def fetch(self, query: str) -> bytes | None: ...


async def use() -> None:
    cache = Cache("cache")
    assert_type(await cache.start_link(limit=3), Cache)
    assert_type(await Cache.start_link(limit=3), Cache)
    assert_type(await cache.start(), Cache)
    assert_type(await Cache.options(timeout=2.0).start_link(limit=3), Cache)
    assert_type(cache.child_spec(limit=1), ChildSpec[Cache])
    assert_type(await cache.started(), Cache)
    assert_type(cache.pid(), Pid | None)
    assert_type(await cache.fetch("q"), bytes | None)
    assert_type(await Cache.fetch(cache, "q"), bytes | None)
    assert_type(await cache.size(), int)
    assert_type(await cache.later(), int)
    assert_type(await cache.bye(), str)
    assert_type(await cache.with_timeout(0.2).fetch("q"), bytes | None)
    cache.put("q", b"x")
    cache.put_slowly("q", b"x")
    table = Table[str, int]("t")
    assert_type(await table.get("a"), int | None)
    assert_type(await table.swap("a", 1), int | None)
    # A class that inherits `init`: by name it is itself under both; on the class mypy finds the base where init was written.
    assert_type(await Louder("l").start_link(limit=1), Louder)
    client: Fetches = cache
    assert_type(await client.fetch("q"), bytes | None)
    assert_type(await await_down(cache), Down)
    async with supervise([cache.child_spec(), Louder("l").child_spec(limit=2)]) as sup:
        assert_type(sup, Supervisor)


def use_from_threads() -> None:
    cache = Cache("cache")
    assert_type(blocking.call(cache.fetch, "q"), bytes | None)
    with blocking.run([cache.child_spec()]) as rt:
        assert_type(rt.call(cache.size), int)


async def number() -> int:
    return 1


def use_run() -> None:
    assert_type(run(number), int | None)


async def wrong(cache: Cache) -> None:
    await cache.fetch(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await cache.fetch()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    cache.put("q", "text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await cache.start_link(size=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    cache.child_spec(limit="3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
