"""TaskSupervisor: the end of tasks and of their supervisor, streams, and the idiom of a server that has its work done."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import beamish
from beamish import (
    KILL,
    KILLED,
    SHUTDOWN,
    ChildCounts,
    Crash,
    Down,
    Exited,
    Failed,
    GenServer,
    MaxChildren,
    NotFound,
    Ok,
    Replied,
    TaskSupervisor,
    call,
    supervise,
)
from beamish.testing import ManualClock, World, capture_crashes, settle
from conftest import both_roads
from task_words import after, boom, died, in_process, leave, links, mail, never

NONE_THERE = ChildCounts(specs=0, active=0, supervisors=0, workers=0)


async def started(world: World, **options: Any) -> TaskSupervisor:
    return await world.start_supervised(TaskSupervisor("tasks").child_spec(**options))


class TestTheEnd:
    async def test_terminate_child(self, world: World) -> None:
        tasks = await started(world)
        pid = await tasks.start_child(never)
        task = tasks.async_nolink(never)
        assert task.pid is not None
        ref = beamish.monitor(pid)
        await tasks.terminate_child(pid)
        assert (await beamish.down(ref)).reason == SHUTDOWN
        await tasks.terminate_child(task.pid)
        assert await task.yield_() == Failed(SHUTDOWN)
        assert await tasks.children() == []
        with pytest.raises(NotFound):
            await tasks.terminate_child(pid)

    async def test_its_end_is_theirs(self) -> None:
        ended: list[str] = []

        async def work(name: str) -> None:
            try:
                await never()
            finally:
                await asyncio.sleep(0)
                ended.append(name)

        tasks = TaskSupervisor("tasks")
        async with supervise([tasks.child_spec()]):
            kept = tasks.async_nolink(work, "nolink")
            await tasks.start_child(work, "child")
            await settle()
        assert sorted(ended) == ["child", "nolink"]
        assert await kept.yield_() == Failed(SHUTDOWN)

    async def test_brutal_kill_for_all(self) -> None:
        tasks = await TaskSupervisor.start(shutdown="brutal_kill")

        async def deaf() -> None:
            beamish.flag(trap_exit=True)
            await never()

        linked, unlinked = tasks.async_(deaf), tasks.async_nolink(deaf)
        await settle()
        await tasks.stop(SHUTDOWN)
        assert await linked.yield_() == Failed(KILLED)
        assert await unlinked.yield_() == Failed(KILLED)

    async def test_killed_it_leaves_none_behind(self) -> None:
        tasks = await TaskSupervisor.start()
        pid = tasks.pid()
        assert pid is not None
        task = tasks.async_nolink(never)
        beamish.exit(pid, KILL)
        assert await task.yield_() == Failed(KILLED)

    async def test_a_task_shut_down_by_its_owner_makes_room(self, world: World) -> None:
        tasks = await started(world, max_children=1)
        for how in (5.0, "brutal_kill"):
            assert await tasks.async_(never).shutdown(how) is None
            with capture_crashes():
                await settle()
            assert await tasks.count_children() == NONE_THERE


class TestStreams:
    linked = pytest.mark.parametrize("linked", [True, False])

    @staticmethod
    def stream(tasks: TaskSupervisor, linked: bool) -> Any:
        return tasks.async_stream if linked else tasks.async_stream_nolink

    @linked
    @both_roads
    async def test_results_in_order_and_nothing_left(self, world: World, linked: bool, inline: bool) -> None:
        tasks = await started(world)

        async def owner() -> None:
            for items in ([1, 2, 3, 4], [4, 3, 2, 1]):
                found = [one async for one in self.stream(tasks, linked)(items, after)]
                assert found == [Ok(item) for item in items]
            assert mail() == []
            assert links() == ()

        await in_process(owner)
        assert await tasks.count_children() == NONE_THERE

    async def test_a_crash_in_an_unlinked_one_is_a_failure(self, world: World) -> None:
        tasks = await started(world)

        async def owner() -> None:
            assert [one async for one in tasks.async_stream_nolink([1, 2], leave)] == [Failed(1), Failed(2)]
            await settle()
            assert mail() == []

        with capture_crashes():
            await in_process(owner)

    async def test_in_a_linked_one_it_is_the_owners_unless_it_traps(self, world: World) -> None:
        tasks = await started(world)

        async def trapping() -> None:
            beamish.flag(trap_exit=True)
            assert [one async for one in tasks.async_stream([1, 2], leave, zip_input_on_exit=True)] == [Failed(1, 1), Failed(2, 2)]
            await settle()
            assert mail() == []

        async def not_trapping() -> None:
            async for _ in tasks.async_stream(["bad"], leave):
                raise AssertionError("it goes on")

        with capture_crashes():
            await in_process(trapping)
            assert await died(not_trapping) == "bad"

    @linked
    async def test_leaving_early_ends_what_runs(self, world: World, linked: bool) -> None:
        tasks = await started(world)

        async def owner() -> None:
            async for one in self.stream(tasks, linked)([0, 10**9, 10**9], after, max_concurrency=3):
                assert one == Ok(0)
                break
            await settle()
            assert await tasks.children() == []
            assert mail() == []
            assert links() == ()

        await in_process(owner)

    @linked
    async def test_no_room_ends_the_stream(self, world: World, linked: bool) -> None:
        tasks = await started(world, max_children=1)

        async def owner() -> None:
            with pytest.raises(MaxChildren):
                [one async for one in self.stream(tasks, linked)([10**9] * 3, after, max_concurrency=2)]
            assert await tasks.children() == []
            assert mail() == []

        await in_process(owner)

    async def test_timeouts_with_their_items(self, world: World, clock: ManualClock) -> None:
        tasks = await started(world)

        async def slow(item: int) -> int:
            return item if item < 100 else await never()

        async def owner() -> None:
            stream = tasks.async_stream([1, 100], slow, timeout=1.0, on_timeout="kill_task", zip_input_on_exit=True)
            assert [one async for one in stream] == [Ok(1), Failed("timeout", 100)]

        waiting = asyncio.create_task(in_process(owner))
        await clock.advance(1.0)
        await waiting

    async def test_callers_and_ancestors(self, world: World) -> None:
        tasks = await started(world)
        me = beamish.current()
        [found] = [one async for one in tasks.async_stream([1], lambda _: (beamish.callers(), beamish.ancestors()[0]))]
        assert found == Ok(((me,), "tasks"))

    async def test_read_in_another_process(self, world: World) -> None:
        tasks = await started(world)
        seen: list[int] = []
        stream = tasks.async_stream([1, 2, 3], seen.append)

        async def reader() -> None:
            assert [one async for one in stream] == [Ok(None)] * 3

        await in_process(reader)
        assert seen == [1, 2, 3]

    async def test_how_long_a_task_may_take_to_end(self, world: World, clock: ManualClock) -> None:
        tasks = await started(world)

        async def deaf(item: int) -> None:
            beamish.flag(trap_exit=True)
            await never()

        stream = tasks.async_stream_nolink([1], deaf, timeout=1.0, on_timeout="kill_task", shutdown=2.0)
        reading = asyncio.create_task(anext(aiter(stream)))
        await clock.advance(1.0)
        assert await reading == Failed("timeout")
        await clock.advance(1.9)
        assert len(await tasks.children()) == 1
        with capture_crashes():
            await clock.advance(0.2)
        assert await tasks.children() == []
        with pytest.raises(ValueError, match="brutal_kill"):
            tasks.async_stream([1], deaf, shutdown=-1)


class TestInAServer:
    async def test_the_idiom_of_a_server_that_has_its_work_done(self, world: World) -> None:
        """As in the documentation of Elixir's async_nolink."""
        tasks = await started(world)

        class Worker(GenServer[dict[Any, str]]):
            def init(self) -> dict[Any, str]:
                return {}

            @call
            def begin(self, state: dict[Any, str], job: str) -> None:
                state[tasks.async_nolink(work, job).ref] = job

            @call
            def log(self, state: dict[Any, str]) -> list[str]:
                return log

            def handle_info(self, state: dict[Any, str], message: Any) -> None:
                match message:
                    case Replied(ref, value):
                        beamish.demonitor(ref, flush=True)
                        log.append(f"{state.pop(ref)} gave {value}")
                    case Down(ref, _, Crash(error)):
                        log.append(f"{state.pop(ref)} failed: {error}")
                    case Exited():
                        raise AssertionError(message)

        log: list[str] = []

        async def work(job: str) -> int:
            await asyncio.sleep(0)
            if job == "bad":
                boom()
            return len(job)

        worker = await world.start_supervised(Worker("worker").child_spec())
        with capture_crashes():
            for job in ("good", "bad", "better"):
                await worker.begin(job)
            await settle()
        assert sorted(await worker.log()) == ["bad failed: boom", "better gave 6", "good gave 4"]
