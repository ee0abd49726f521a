"""What callers get from typed messages, multi_call, streams, dynamic supervisors and sys, under pyright and mypy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, assert_type

from beamish import (
    Alias,
    At,
    ChildSpec,
    DynamicSupervisor,
    GenServer,
    Message,
    MonitorRef,
    MultiCall,
    Pid,
    ProcessInfo,
    Stream,
    Supervisor,
    Via,
    alias,
    call,
    child,
    demonitor,
    info,
    monitor,
    send,
    sys,
)


class Fetch(Message[str | None]):
    pass


class Cache(GenServer[dict[str, str]]):
    def init(self, limit: int) -> dict[str, str]:
        return {}

    @call
    def size(self, state: dict[str, str]) -> int:
        return len(state)


async def numbers() -> AsyncIterator[int]:
    yield 1


async def start(n: int) -> Pid:
    raise NotImplementedError


async def processes(cache: Cache, top: DynamicSupervisor, tree: Supervisor) -> None:
    assert_type(await cache.call(Fetch()), str | None)
    assert_type(await cache.call("anything"), Any)
    assert_type(await cache.multi_call(Fetch()), MultiCall[str | None])
    assert_type((await cache.multi_call(Fetch())).replies, list[tuple[str, str | None]])
    assert_type(cache.stream(numbers()), Stream)

    assert_type(Cache.child_spec(3), ChildSpec[Cache])
    assert_type(await top.start_child(Cache.child_spec(3)), Cache)
    assert_type(await top.start_child(Cache("c").child_spec(3).replace(restart="temporary")), Cache)
    assert_type(await (await top.start_child(Cache.child_spec(3))).size(), int)
    assert_type(await top.start_child(child(start, 3)), Any)
    assert_type(await top.terminate_child(cache), None)
    assert_type(await Cache.options(max_queue=3, debug=["trace"]).start_link(3), Cache)
    assert_type(Cache(Via(book(), "key")).pid(), Pid | None)
    assert_type(await Cache(At("cache", "node")).size(), int)

    ref = monitor(cache, alias="demonitor")
    assert_type(ref, MonitorRef)
    assert_type(demonitor(ref), bool)
    assert_type(alias(reply=True), Alias)
    assert_type(send(ref, 3), Any)
    assert_type(info(cache), ProcessInfo | None)
    assert_type(await sys.statistics(cache), sys.Statistics | None)
    assert_type(await sys.log(cache, "get"), list[sys.In | sys.Out | sys.Kept])

    await top.start_child(Cache)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await Cache.options(max_queue=3).start_link("three")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    monitor(cache, alias="sometimes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    del tree


def book() -> Any: ...


def test_the_types_are_proved_by_the_type_checkers() -> None:
    assert asyncio.iscoroutinefunction(processes)
