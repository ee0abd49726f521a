"""Tasks: started and awaited, in threads, and one for each of many items; beside what asyncio has for it."""

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable

from beamish import Failed, Ok, Task, TaskSupervisor, down, spawn_monitor, stop
from benchmarks.harness import Suite, timed

suite = Suite()
AT_A_TIME = 100


async def at_once(n: int) -> int:
    return n


async def next_turn(n: int) -> int:
    await asyncio.sleep(0)
    return n


async def by_task(n: int, fn: Callable[[int], Awaitable[int]]) -> float:
    with timed(n) as clock:
        for number in range(n):
            await Task.async_(fn, number)
    return clock.each


async def in_a_process(n: int, fn: Callable[[int], Awaitable[int]]) -> float:
    figures: list[float] = []

    async def owner() -> None:
        figures.append(await by_task(n, fn))

    _, ref = spawn_monitor(owner)
    await down(ref)
    return figures[0]


@suite.variant("task", "asyncio: create_task, await", n=20_000, baseline=True)
async def task_of_asyncio(n: int) -> float:
    with timed(n) as clock:
        for number in range(n):
            await asyncio.create_task(at_once(number))
    return clock.each


@suite.variant("task", "Beamish: Task.async_, await", n=20_000)
async def task(n: int) -> float:
    return await by_task(n, at_once)


@suite.variant("task", "Beamish: the same in a process, linked to it", n=20_000)
async def task_in_a_process(n: int) -> float:
    return await in_a_process(n, at_once)


@suite.variant("task", "Beamish: TaskSupervisor.async_nolink, await", n=20_000)
async def supervised(n: int) -> float:
    tasks = await TaskSupervisor.start_link()
    with timed(n) as clock:
        for number in range(n):
            await tasks.async_nolink(at_once, number)
    await stop(tasks)
    return clock.each


@suite.variant("task that suspends", "asyncio: create_task, await", n=20_000, baseline=True)
async def suspending_of_asyncio(n: int) -> float:
    with timed(n) as clock:
        for number in range(n):
            await asyncio.create_task(next_turn(number))
    return clock.each


@suite.variant("task that suspends", "Beamish: Task.async_, await", n=20_000)
async def suspending(n: int) -> float:
    return await by_task(n, next_turn)


@suite.variant("task that suspends", "Beamish: the same in a process, linked to it", n=20_000)
async def suspending_in_a_process(n: int) -> float:
    return await in_a_process(n, next_turn)


@suite.variant("task in a thread", "asyncio: to_thread", n=2_000, baseline=True)
async def to_thread(n: int) -> float:
    with timed(n) as clock:
        for number in range(n):
            await asyncio.to_thread(abs, number)
    return clock.each


@suite.variant("task in a thread", "Beamish: Task.blocking, await", n=2_000)
async def blocking(n: int) -> float:
    with timed(n) as clock:
        for number in range(n):
            await Task.blocking(abs, number)
    return clock.each


async def gathered(n: int, fn: Callable[[int], Awaitable[int]]) -> float:
    """What is written by hand: all tasks at once, a semaphore for the limit, all results at the end."""
    limit = asyncio.Semaphore(AT_A_TIME)

    async def one(number: int) -> int:
        async with limit:
            return await fn(number)

    with timed(n) as clock:
        results = await asyncio.gather(*(one(number) for number in range(n)))
    assert len(results) == n
    return clock.each


async def read(n: int, stream: AsyncIterable[Ok[int] | Failed]) -> float:
    with timed(n) as clock:
        async for result in stream:
            assert type(result) is Ok
    return clock.each


@suite.variant("async_stream, 100 at a time", "asyncio: a semaphore, gather", n=10_000, baseline=True)
async def gather(n: int) -> float:
    return await gathered(n, at_once)


@suite.variant("async_stream, 100 at a time", "Beamish: Task.async_stream", n=10_000)
async def stream(n: int) -> float:
    return await read(n, Task.async_stream(range(n), at_once, max_concurrency=AT_A_TIME))


@suite.variant("async_stream, 100 at a time", "Beamish: the same, as they are ready", n=10_000)
async def stream_unordered(n: int) -> float:
    return await read(n, Task.async_stream(range(n), at_once, max_concurrency=AT_A_TIME, ordered=False))


@suite.variant("async_stream of tasks that suspend", "asyncio: a semaphore, gather", n=10_000, baseline=True)
async def gather_suspending(n: int) -> float:
    return await gathered(n, next_turn)


@suite.variant("async_stream of tasks that suspend", "Beamish: Task.async_stream", n=10_000)
async def stream_suspending(n: int) -> float:
    return await read(n, Task.async_stream(range(n), next_turn, max_concurrency=AT_A_TIME))


@suite.variant("async_stream of tasks that suspend", "Beamish: TaskSupervisor.async_stream_nolink", n=10_000)
async def supervised_stream(n: int) -> float:
    tasks = await TaskSupervisor.start_link()
    figure = await read(n, tasks.async_stream_nolink(range(n), next_turn, max_concurrency=AT_A_TIME))
    await stop(tasks)
    return figure
