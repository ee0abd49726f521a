from __future__ import annotations

import operator
from typing import Any

from beamish import Exit, Ok, Task, TaskSupervisor, flag
from conformance.words import flush, in_proc, out, sec, sleep, try_


async def slow(ms: int) -> int:
    await sleep(ms)
    return ms


async def all_of(stream: Any) -> list[Any]:
    return [result async for result in stream]


def booms(item: int) -> int:
    if item == 2:
        raise Exit("boom")
    return item


async def scenario() -> None:
    sec("ordered (default): input order")
    out("->", await all_of(Task.async_stream([120, 40, 80], slow, max_concurrency=3)))
    sec("ordered: false: completion order")
    out("->", await all_of(Task.async_stream([120, 40, 80], slow, max_concurrency=3, ordered=False)))
    sec("max_concurrency 1 is sequential")

    async def traced(item: int) -> None:
        out(f"start {item}")
        await sleep(20)
        out(f"end {item}")

    await all_of(Task.async_stream([1, 2, 3], traced, max_concurrency=1))
    sec("peak concurrency is max_concurrency")
    now = peak = 0

    async def counted(_: int) -> None:
        nonlocal now, peak
        now += 1
        peak = max(peak, now)
        await sleep(30)
        now -= 1

    await all_of(Task.async_stream(range(1, 13), counted, max_concurrency=4))
    out("peak", peak)
    sec("lazy: nothing runs until enumerated; early halt kills the running ones")

    def ran(item: int) -> int:
        out(f"ran {item}")
        return item

    stream = Task.async_stream([1, 2, 3], ran, max_concurrency=1)
    out("created")
    taken: list[Any] = []
    async for result in stream:
        taken.append(result)
        break
    out("take 1", taken)
    sec("on_timeout: :exit (default): the caller exits")
    out("->", await in_proc(lambda: all_of(Task.async_stream([10, 5000], slow, timeout=0.08))))
    sec("on_timeout: :kill_task: {:exit, :timeout} in place")
    items = [10, 5000, 20]
    out("->", await all_of(Task.async_stream(items, slow, timeout=0.12, on_timeout="kill_task", max_concurrency=3)))
    zipped = Task.async_stream(items, slow, timeout=0.12, on_timeout="kill_task", max_concurrency=3, zip_input_on_exit=True)
    out("zip ->", await all_of(zipped))
    sec("a crash in a linked stream task kills a non trapping caller; a trapping one gets {:exit, reason}")
    out("non trapping ->", await in_proc(lambda: all_of(Task.async_stream([2, 2], booms))))

    async def trapping() -> None:
        flag(trap_exit=True)
        out("trapping ->", await all_of(Task.async_stream([1, 2, 3], booms)))
        out("mailbox", await flush())

    await in_proc(trapping)
    sec("bad options raise")
    out("max_concurrency 0", (await try_(lambda: all_of(Task.async_stream([1], slow, max_concurrency=0))))[0])
    sec("empty input")
    nothing: list[int] = []
    out("->", await all_of(Task.async_stream(nothing, slow)))
    sec("mfa form: element is the first argument")
    out("->", await all_of(Task.async_stream([5, 6], lambda item: operator.sub(item, 1))))
    sec("Task.Supervisor.async_stream_nolink: a crash is {:exit, reason} and the caller lives")
    tasks = await TaskSupervisor.start_link()
    out("->", await all_of(tasks.async_stream_nolink([1, 2, 3], booms)))
    sec("max_children reached raises")
    tasks = await TaskSupervisor.start_link(max_children=1)
    out("->", (await try_(lambda: all_of(tasks.async_stream([60, 60, 60], slow, max_concurrency=3))))[0])
    assert taken == [Ok(1)]
