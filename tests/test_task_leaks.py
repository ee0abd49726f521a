"""After any use of tasks: no process, timer, timeout, asyncio task or thread is left, and a dead task keeps nothing alive."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import weakref
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

import beamish
from beamish import KILL, KILLED, SHUTDOWN, CallExit, Exit, Task, TaskSupervisor, Threads
from beamish._runtime.node import here
from beamish.testing import ManualClock, World, capture_crashes, settle
from task_words import after, boom, deaf, never, others

FUNCTIONS: list[Any] = [lambda: 1, lambda: after(2), boom, never, deaf, lambda: after(30)]
ACTIONS = ["await", "await_late", "yield", "shutdown", "brutal", "ignore", "cancel", "kill", "drop", "many", "yield_many", "demonitor"]
STARTS = ["async", "supervised", "nolink", "blocking", "stream", "stream_nolink", "child", "start_link"]


class Program:
    """Starts tasks in some way, and does something with each."""

    def __init__(self, seed: int, length: int, tasks: TaskSupervisor, threads: Threads) -> None:
        self.random = random.Random(seed)
        self.length = length
        self.tasks = tasks
        self.threads = threads
        self.let_go: list[Any] = []  # what may outlive its owner

    async def run(self) -> None:
        for _ in range(self.length):
            start, fn, action = self.random.choice(STARTS), self.random.choice(FUNCTIONS), self.random.choice(ACTIONS)
            if start.startswith("stream"):
                await self.stream(start, fn)
            elif start == "child":
                self.let_go.append(await self.tasks.start_child(fn))
            elif start == "start_link":
                self.let_go.append(Task.start_link(fn))
            else:
                task = self.begin(start, fn)
                if fn is deaf:
                    self.let_go.append(task.pid)
                await self.use(task, action)
            if self.random.random() < 0.3:
                await asyncio.sleep(0)
        raise Exit("the end")

    def begin(self, start: str, fn: Any) -> Task[Any]:
        match start:
            case "async":
                return Task.async_(fn)
            case "supervised":
                return self.tasks.async_(fn)
            case "nolink":
                task = self.tasks.async_nolink(fn)
                self.let_go.append(task.pid)
                return task
            case _:
                return Task.async_(self.threads.run, len, "abc")

    async def stream(self, start: str, fn: Any) -> None:
        make = Task.async_stream if start == "stream" else self.tasks.async_stream_nolink
        options: Any = {"timeout": 0.5, "on_timeout": "kill_task", "max_concurrency": 3, "ordered": self.random.random() < 0.5}
        left = self.random.randrange(5)
        async for _ in make(range(6), lambda _: fn(), **options):
            left -= 1
            if left <= 0:
                break

    async def use(self, task: Task[Any], action: str) -> None:
        try:
            match action:
                case "await":
                    await task.await_(0.2)
                case "await_late":
                    await task.await_(0)
                case "yield":
                    await task.yield_(0.2)
                case "shutdown":
                    await task.shutdown(1.0)
                case "brutal":
                    await task.shutdown("brutal_kill")
                case "ignore":
                    task.ignore()
                    self.let_go.append(task.pid)
                case "cancel":
                    waiting = asyncio.ensure_future(task.await_(None))
                    waiting.add_done_callback(lambda future: future.cancelled() or future.exception())
                    await asyncio.sleep(0)
                    waiting.cancel()
                    await asyncio.wait([waiting])
                case "kill":
                    assert task.pid is not None
                    beamish.exit(task.pid, KILL)
                case "many":
                    await Task.await_many([task, Task.async_(lambda: 1)], 0.2)
                case "yield_many":
                    await Task.yield_many([task], 0.2, on_timeout="kill_task")
                case "demonitor":
                    beamish.demonitor(task.ref, flush=True)
                case _:
                    pass
        except CallExit:
            pass


async def in_a_world(program: Program, how: str, clock: ManualClock) -> None:
    """Run it in plain code, or in a process that traps exits or does not, to its bad end."""

    async def trapping() -> None:
        beamish.flag(trap_exit=True)
        await program.run()

    if how == "plain":
        running = asyncio.create_task(program.run())
    else:
        _, ref = beamish.spawn_monitor(trapping if how == "trapping" else program.run)
        running = asyncio.create_task(beamish.down(ref))  # type: ignore[arg-type]
    while not running.done():
        await clock.advance(0.1)
    running.cancelled() or running.exception()  # retrieved
    for pid in program.let_go:
        if pid is not None:
            beamish.exit(pid, KILL)


class TestNothingIsLeft:
    @settings(max_examples=60, deadline=None)
    @given(
        seed=st.integers(0, 10**6), length=st.integers(1, 12), how=st.sampled_from(["plain", "trapping", "process"]), inline=st.booleans()
    )  # fmt: skip
    def test_after_any_program(self, seed: int, length: int, how: str, inline: bool) -> None:
        threads = Threads(2)

        async def main() -> dict[str, Any]:
            clock = ManualClock()
            async with World(clock, inline=inline, check_leaks=False) as world:
                tasks = await world.start_supervised(TaskSupervisor("tasks").child_spec(shutdown=1.0))
                await in_a_world(Program(seed, length, tasks, threads), how, clock)
                await clock.advance(20.0)  # deaf ones are killed in their time
                found = await left(tasks)
                for pid in others():
                    if beamish.info(pid).initial_call not in SUPERVISORS:  # type: ignore[union-attr]
                        beamish.exit(pid, KILL)
            found["asyncio tasks"] = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            return found

        with capture_crashes():
            found = asyncio.run(main())
        threads.close()
        for thread in threading.enumerate():
            if thread.name.startswith("beamish-task"):
                thread.join(30)
        found["threads"] = threads.busy
        assert {what: which for what, which in found.items() if which} == {}


SUPERVISORS = ("TaskSupervisor.init", "Supervisor.init")


async def left(tasks: TaskSupervisor) -> dict[str, Any]:
    node = here()
    return {
        "processes": [pid for pid in others() if beamish.info(pid).initial_call not in SUPERVISORS],  # type: ignore[union-attr]
        "children": await tasks.children(),
        "counted": (await tasks.count_children()).specs,
        "timers": len(node.wheel),
        "timeouts": [table.waiting for table in node.timeouts._tables.values() if table.waiting],
        "ghosts": node.ghosts,
        "names": [name for name in node.names if name != "tasks"],
    }


class Big:
    """Something that must not be kept."""


class TestNothingIsKept:
    @pytest.mark.parametrize("start", ["async_", "start", "supervised", "blocking"])
    async def test_arguments_and_values_go_with_the_handle(self, world: World, start: str) -> None:
        tasks = await world.start_supervised(TaskSupervisor("tasks").child_spec())
        big = Big()
        seen = weakref.ref(big)

        def same(it: Big) -> Big:
            return it

        pid: Any
        if start == "start":
            pid = Task.start(same, big)
            await beamish.down(pid)
        else:
            begin: Any = {"async_": Task.async_, "supervised": tasks.async_nolink, "blocking": Task.blocking}[start]
            task = begin(same, big)
            assert await task is big
            pid = task.pid
            del task
        del big
        for _ in range(3):
            await asyncio.sleep(0.001)  # real time: a thread lets go of its last value when it likes
            gc.collect()
        assert seen() is None
        assert not beamish.alive(pid)

    async def test_a_done_task_is_no_garbage_for_the_collector(self) -> None:
        async def work() -> None:
            await asyncio.sleep(0)

        await Task.async_(work)
        await Task.async_(len, "abc")
        gc.collect()
        gc.disable()
        try:
            for _ in range(10):
                await Task.async_(work)
                await Task.async_(len, "abc")
            assert gc.collect() < 10
        finally:
            gc.enable()

    async def test_plain_code_that_starts_many_keeps_none_of_them(self) -> None:
        seen: list[Any] = []

        def work(it: Big) -> None:
            seen.append(weakref.ref(it))

        for _ in range(100):
            await Task.async_(work, Big())
        gc.collect()
        assert [one() for one in seen] == [None] * 100

    async def test_a_killed_owner_takes_its_tasks_reasons_along(self) -> None:
        async def owner() -> None:
            task = Task.async_(never)
            refs.append(beamish.monitor(task.pid))  # type: ignore[arg-type]
            reasons.append(asyncio.create_task(beamish.down(task.pid)))  # type: ignore[arg-type]
            await task

        refs: list[Any] = []
        reasons: list[Any] = []
        pid, ref = beamish.spawn_monitor(owner)
        await settle()
        beamish.exit(pid, KILL)
        assert (await beamish.down(ref)).reason == KILLED
        await settle()
        assert reasons[0].done()
        assert not isinstance(reasons[0].result().reason, type(SHUTDOWN))
