"""Functions that block: in threads, with a bound, and with the truth about what cannot be stopped."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import Any

import pytest

import beamish
from beamish import (
    KILL,
    KILLED,
    Crash,
    Failed,
    GenServer,
    Ok,
    Task,
    TaskExit,
    TaskSupervisor,
    TaskTimeout,
    Threads,
    WrongLoop,
    blocking,
    call,
    cast,
)
from beamish._runtime.node import here
from beamish.testing import ManualClock, World, capture_crashes, settle
from task_words import mail, others


class Cell(GenServer[list[Any]]):
    def init(self) -> list[Any]:
        return []

    @call
    def put(self, state: list[Any], value: Any) -> int:
        state.append(value)
        return len(state)

    @cast
    def add(self, state: list[Any], value: Any) -> None:
        state.append(value)

    @call
    def all(self, state: list[Any]) -> list[Any]:
        return list(state)


class Gate:
    """A function that blocks until the test lets it go, and says when it has begun."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, value: Any = "value") -> Any:
        self.begun.set()
        assert self.go.wait(30)
        return value

    async def has_begun(self) -> None:
        assert await asyncio.to_thread(self.begun.wait, 30)


async def until(condition: Callable[[], object]) -> None:
    """A thread is not the loop's: it takes the time that it takes."""
    for _ in range(3000):
        if condition():
            return
        await asyncio.sleep(0.001)  # real time: a thread's end is nobody's event
    raise AssertionError("it never happens")


class TestBlocking:
    async def test_it_runs_in_a_thread_and_the_loop_goes_on(self) -> None:
        gate = Gate()
        task = Task.blocking(gate, 42)
        await gate.has_begun()
        assert (await asyncio.wait_for(asyncio.ensure_future(task.yield_(0)), 30)) is None
        gate.go.set()
        assert await task == 42
        assert await Task.blocking(threading.get_ident) != threading.get_ident()

    async def test_arguments_context_and_names(self) -> None:
        request = contextvars.ContextVar("request", default="none")
        request.set("r1")

        def work(*args: Any, **kwargs: Any) -> Any:
            seen = request.get()
            request.set("changed")
            return seen, args, kwargs

        task = Task.blocking(work, 1, key=2)
        assert await task == ("r1", (1,), {"key": 2})
        assert request.get() == "r1"
        assert "work" in repr(task)
        assert "Threads" not in repr(task)

    async def test_an_error_is_the_tasks_and_its_traceback_begins_in_the_function(self) -> None:
        def inner() -> None:
            raise ValueError("deep")

        def work() -> None:
            inner()

        me = beamish.current()
        with capture_crashes() as reports:
            found = await asyncio.create_task(in_plain_code(work))
        assert isinstance(found, Failed)
        assert isinstance(found.reason, Crash)
        assert [frame[2] for frame in found.reason.frames][-2:] == ["work", "inner"]
        [report] = reports
        assert vars(report)["function"] is work
        assert "work()" in report.getMessage()
        assert beamish.alive(me)

    async def test_a_stop_iteration_is_told_as_any_other_error(self) -> None:
        empty: list[int] = []
        with capture_crashes(), pytest.raises(TaskExit, match="raised StopIteration") as caught:
            await Task.blocking(next, iter(empty))
        assert caught.value.__cause__ is not None
        assert isinstance(caught.value.__cause__.__cause__, StopIteration)

    async def test_servers_are_reached_from_inside(self) -> None:
        cell = Cell("cell")
        await cell.start_link()
        me = beamish.current()

        def work() -> int:
            blocking.cast(cell.add, "cast")
            with pytest.raises(WrongLoop):
                beamish.send(me, "no")
            return blocking.call(cell.put, "called")

        assert await Task.blocking(work) == 2
        assert await cell.all() == ["cast", "called"]
        await cell.stop()

    async def test_calls_from_inside_are_the_tasks(self) -> None:
        class Who(GenServer[None]):
            @call
            async def ask(self, state: None) -> Any:
                return beamish.client().pid

        who = await Who.start_link()
        task = Task.blocking(lambda: blocking.call(who.ask))
        assert await task == task.pid
        await who.stop()

    async def test_under_a_supervisor(self, world: World) -> None:
        tasks = await world.start_supervised(TaskSupervisor("tasks").child_spec())
        threads = Threads(2)
        assert await tasks.async_nolink(threads.run, pow, 2, 10) == 1024
        with capture_crashes() as reports:
            found = await tasks.async_nolink(threads.run, int, "x").yield_()
        assert isinstance(found, Failed)
        assert vars(reports[0])["function"] is int
        threads.close()

    async def test_for_each_item_of_a_stream(self) -> None:
        threads = Threads(4)
        stream = Task.async_stream(range(20), lambda n: threads.run(pow, n, 2), max_concurrency=8)
        assert [one async for one in stream] == [Ok(n * n) for n in range(20)]
        threads.close()

    async def test_what_is_no_function_is_refused(self) -> None:
        with pytest.raises(TypeError, match="a function and its arguments"):
            Task.blocking(1)  # type: ignore[arg-type]


async def in_plain_code(work: Callable[[], Any]) -> Any:
    return await Task.blocking(work).yield_()


class TestWhatCannotBeStopped:
    async def test_a_shutdown_ends_the_task_and_not_the_function(self) -> None:
        gate, threads = Gate(), Threads(1)
        task = threads.async_(gate)
        await gate.has_begun()
        assert await task.shutdown() is None
        assert others() == []
        assert threads.busy == 1  # its place is taken until it returns
        waiting = Task.async_(threads.run, lambda: "next")
        assert await waiting.yield_(0) is None
        gate.go.set()
        assert await waiting == "next"
        await until(lambda: threads.busy == 0)
        threads.close()

    async def test_so_does_a_kill(self) -> None:
        gate = Gate()
        task = Task.blocking(gate)
        await gate.has_begun()
        assert task.pid is not None
        beamish.exit(task.pid, KILL)
        assert await task.yield_() == Failed(KILLED)
        gate.go.set()
        await settle()

    async def test_a_timeout_drops_what_comes_late(self, clock: ManualClock) -> None:
        async def owner() -> None:
            beamish.current()
            gate = Gate()
            task = Task.blocking(gate)
            await gate.has_begun()
            waiting = asyncio.ensure_future(task.await_(1.0))
            await clock.advance(1.0)
            with pytest.raises(TaskTimeout):
                await waiting
            gate.go.set()
            assert task.pid is not None
            await beamish.down(task.pid)
            assert mail() == []

        await asyncio.create_task(owner())

    async def test_what_has_not_begun_never_does(self) -> None:
        gate, threads, begun = Gate(), Threads(1), list[int]()
        first = Task.async_(threads.run, gate)
        await gate.has_begun()
        second = Task.async_(threads.run, begun.append, 1)
        assert await second.shutdown() is None
        gate.go.set()
        await first
        await threads.run(lambda: None)
        assert begun == []
        threads.close()

    def test_at_the_end_of_the_loop_its_value_is_dropped(self) -> None:
        gate = Gate()

        async def main() -> Threads:
            Task.blocking(gate)
            await gate.has_begun()
            found: Threads = here().shelf[Threads]
            return found

        threads = asyncio.run(main())
        assert threads.busy == 1
        gate.go.set()
        for thread in threading.enumerate():
            if thread.name.startswith("beamish-task"):
                thread.join(30)
        assert threads.busy == 0


class TestThreads:
    async def test_no_more_than_limit_run(self) -> None:
        threads, lock = Threads(3), threading.Lock()
        now = peak = 0
        together = threading.Barrier(3)

        def work() -> None:
            nonlocal now, peak
            with lock:
                now += 1
                peak = max(peak, now)
            together.wait(30)
            with lock:
                now -= 1

        await Task.await_many([Task.async_(threads.run, work) for _ in range(9)], timeout=30.0)
        assert peak == 3
        assert repr(threads) == "<Threads 0 of 3 busy>"
        threads.close()

    async def test_the_default_is_one_set_for_each_loop(self) -> None:
        names = await Task.await_many([Task.blocking(lambda: threading.current_thread().name) for _ in range(3)])
        assert all(name.startswith("beamish-task") for name in names)
        threads: Threads = here().shelf[Threads]
        assert 5 <= threads.limit <= 32
        assert threads.close in here().at_end

    async def test_closed_they_take_nothing_more(self) -> None:
        threads = Threads(1)
        assert await threads.run(lambda: 1) == 1
        threads.close()
        with pytest.raises(RuntimeError):
            await threads.run(lambda: 1)

    def test_a_bad_limit_is_refused(self) -> None:
        for bad in (0, -1, True, 1.5):
            with pytest.raises(ValueError, match="limit is how many"):
                Threads(bad)  # type: ignore[arg-type]

    def test_they_serve_any_loop(self) -> None:
        threads = Threads(1)
        assert [asyncio.run(threads.run(pow, 2, n)) for n in range(3)] == [1, 2, 4]
        threads.close()
