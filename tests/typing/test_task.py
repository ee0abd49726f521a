"""What tasks are to a type checker, under mypy --strict and pyright strict. Checked, not run (but importable)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar, assert_type

from beamish import ChildSpec, Down, Failed, GenServer, MonitorRef, Ok, Pid, Replied, Task, TaskStream, TaskSupervisor, Threads, call

T = TypeVar("T")


async def fetch(url: str, *, retries: int = 3) -> bytes:
    return url.encode()


def parse(page: bytes) -> list[str]:
    return page.decode().split()


def later(number: int) -> asyncio.Future[int]:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    future.set_result(number)
    return future


def used(value: object) -> None:
    """A task that is made and not awaited is an error to mypy (unused-awaitable), as it should be."""


async def pages() -> AsyncIterator[str]:
    yield "page"


class Cache(GenServer[dict[str, bytes]]):
    def init(self) -> dict[str, bytes]:
        return {}

    @call
    def get(self, state: dict[str, bytes], key: str) -> bytes | None:
        return state.get(key)

    def handle_info(self, state: dict[str, bytes], message: object) -> None:
        match message:
            case Replied(ref, value):
                state[repr(ref)] = value
            case Down(reason=reason):
                state["reason"] = repr(reason).encode()
            case _:
                super().handle_info(state, message)


async def starting(cache: Cache) -> None:
    used(assert_type(Task.async_(fetch, "url"), Task[bytes]))
    used(assert_type(Task.async_(fetch, "url", retries=1), Task[bytes]))
    used(assert_type(Task.async_(parse, b""), Task[list[str]]))
    used(assert_type(Task.async_(later, 1), Task[int]))
    # A limit: mypy takes the Any in what a @call method returns for an ambiguity, and says Task[Any]. An async def around it helps.
    used(assert_type(Task.async_(cache.get, "key"), Task[bytes | None]))  # type: ignore[assert-type]
    used(assert_type(Task.completed(1), Task[int]))
    assert_type(Task.start(fetch, "url"), Pid)
    assert_type(Task.start_link(fetch, "url", retries=1), Pid)
    assert_type(Task.child_spec(fetch, "url"), ChildSpec[Pid])
    used(assert_type(Task.blocking(parse, b""), Task[list[str]]))
    assert_type(await Threads(2).run(parse, b""), list[str])
    used(assert_type(Threads(2).async_(parse, b""), Task[list[str]]))

    Task.async_(fetch, 1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    Task.async_(fetch)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    Task.start(fetch, "url", retry=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Task.blocking(parse, "text")  # type: ignore[arg-type, unused-awaitable]  # pyright: ignore[reportArgumentType]


async def waiting(task: Task[bytes], tasks: list[Task[int]]) -> None:
    assert_type(await task, bytes)
    assert_type(await task.await_(timeout=None), bytes)
    assert_type(await task.yield_(1.0), Ok[bytes] | Failed | None)
    assert_type(await task.shutdown("brutal_kill"), Ok[bytes] | Failed | None)
    assert_type(task.ignore(), Ok[bytes] | Failed | None)
    assert_type(task.pid, Pid | None)
    assert_type(task.owner, Pid | None)
    assert_type(task.ref, MonitorRef)
    assert_type(await Task.await_many(tasks), list[int])
    assert_type(await Task.yield_many(tasks, limit=1), list[tuple[Task[int], Ok[int] | Failed | None]])
    await task.shutdown("gently")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await Task.yield_many(tasks, on_timeout="kill")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    match await task.yield_():
        case Ok(value):
            assert_type(value, bytes)
        case Failed(reason):
            assert_type(reason, object)
        case None:
            pass


async def beside_asyncio(one: Task[bytes], other: Task[int]) -> None:
    assert_type(await asyncio.gather(one, other), tuple[bytes, int])
    assert_type(await asyncio.wait_for(one, 1.0), bytes)
    async with asyncio.TaskGroup() as group:
        used(assert_type(group.create_task(one.await_()), asyncio.Task[bytes]))
    used(assert_type(asyncio.ensure_future(one), asyncio.Task[bytes]))


def covariant(task: Task[bool], spread: TaskStream[bool]) -> tuple[Task[int], TaskStream[int]]:
    return task, spread


async def streams(threads: Threads) -> None:
    assert_type(Task.async_stream(["a"], fetch), TaskStream[bytes])
    assert_type(Task.async_stream(pages(), fetch, max_concurrency=2, ordered=False), TaskStream[bytes])
    assert_type(Task.async_stream((b"a",), parse, on_timeout="kill_task", zip_input_on_exit=True), TaskStream[list[str]])
    assert_type(Task.async_stream([1], later, timeout=None), TaskStream[int])

    async def parsed(page: bytes) -> list[str]:
        return await threads.run(parse, page)

    assert_type(Task.async_stream([b""], parsed), TaskStream[list[str]])
    async for result in Task.async_stream(["a"], fetch):
        assert_type(result, Ok[bytes] | Failed)
    Task.async_stream([1], fetch)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
    Task.async_stream(["a"], fetch, on_timeout="kill")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


async def supervised(tasks: TaskSupervisor) -> None:
    assert_type(TaskSupervisor("tasks").child_spec(max_children=10, shutdown="brutal_kill"), ChildSpec[TaskSupervisor])
    assert_type(await TaskSupervisor.start_link(), TaskSupervisor)
    used(assert_type(tasks.async_(fetch, "url"), Task[bytes]))
    used(assert_type(tasks.async_nolink(parse, b""), Task[list[str]]))
    used(assert_type(tasks.async_nolink(fetch, "url", retries=1), Task[bytes]))
    assert_type(await tasks.start_child(fetch, "url", restart="transient"), Pid)
    assert_type(await tasks.children(), list[Pid])
    assert_type(await tasks.terminate_child((await tasks.children())[0]), None)
    assert_type(tasks.async_stream(["a"], fetch, shutdown=1.0), TaskStream[bytes])
    assert_type(tasks.async_stream_nolink(pages(), lambda page: len(page)), TaskStream[int])
    tasks.async_(fetch, 1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    tasks.async_nolink(parse)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await tasks.start_child(fetch, restart="always")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def generic(fn: T) -> T:
    return await Task.async_(lambda: fn)
