"""Tasks beside what asyncio has: cancellation, gather, groups, timeouts, the end of the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

import beamish
from beamish import (
    NORMAL,
    Task,
)
from beamish.testing import ManualClock, settle
from task_words import double, failing, never


async def later_boom() -> None:
    await asyncio.sleep(0)
    raise ValueError("boom")


class TestCancelling:
    async def test_a_cancelled_await_shuts_the_task_down_and_waits_for_its_end(self) -> None:
        seen: list[str] = []

        async def work() -> None:
            try:
                await never()
            finally:
                await asyncio.sleep(0)
                seen.append("cleaned up")

        task = Task.async_(work)
        waiting = asyncio.ensure_future(task)
        await settle()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert seen == ["cleaned up"]
        assert task.pid is not None
        assert not beamish.alive(task.pid)

    async def test_one_that_does_not_listen_is_killed_after_five_seconds(self, clock: ManualClock) -> None:
        async def stubborn() -> None:
            beamish.flag(trap_exit=True)
            await never()

        task = Task.async_(stubborn)
        waiting = asyncio.ensure_future(task)
        await settle()
        waiting.cancel()
        await clock.advance(4.9)
        assert not waiting.done()
        await clock.advance(0.2)
        assert waiting.cancelled()
        assert task.pid is not None
        assert not beamish.alive(task.pid)

    async def test_a_second_cancellation_kills_at_once(self) -> None:
        async def stubborn() -> None:
            beamish.flag(trap_exit=True)
            await never()

        task = Task.async_(stubborn)
        waiting = asyncio.ensure_future(task)
        await settle()
        waiting.cancel()
        await settle()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert task.pid is not None
        assert not beamish.alive(task.pid)

    async def test_an_owner_that_is_told_to_exit_takes_it_along_by_the_link(self) -> None:
        tasks: list[Task[None]] = []

        async def owner() -> None:
            tasks.append(Task.async_(never))
            await tasks[0].await_(None)

        pid, ref = beamish.spawn_monitor(owner)
        await settle()
        assert tasks[0].pid is not None
        of_task = beamish.monitor(tasks[0].pid)
        beamish.exit(pid, "enough")
        assert (await beamish.down(ref)).reason == "enough"
        assert (await beamish.down(of_task)).reason == "enough"

    async def test_of_await_many_all_are_shut_down(self) -> None:
        tasks = [Task.async_(never), Task.async_(never), Task.async_(lambda: None)]
        waiting = asyncio.ensure_future(Task.await_many(tasks))
        await settle()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert [task.pid is not None and beamish.alive(task.pid) for task in tasks] == [False] * 3

    async def test_a_cancelled_yield_leaves_it_alone(self) -> None:
        task = Task.async_(never)
        waiting = asyncio.ensure_future(task.yield_())
        await settle()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert task.pid is not None
        assert beamish.alive(task.pid)
        await task.shutdown()


class TestBesideAsyncio:
    """What asyncio's own tools do with a task. Each runs in plain code, and in a process."""

    @staticmethod
    async def in_both(fn: Callable[[], Awaitable[None]]) -> None:
        await fn()
        _, ref = beamish.spawn_monitor(fn)
        assert (await beamish.down(ref)).reason == NORMAL

        async def adopted() -> None:
            beamish.current()
            await fn()

        await asyncio.create_task(adopted())

    async def test_gather(self) -> None:
        async def work() -> None:
            assert await asyncio.gather(Task.async_(double, 1), Task.async_(lambda: 5), double(4)) == [2, 5, 8]

        await self.in_both(work)

    async def test_wait_takes_futures(self) -> None:
        async def work() -> None:
            futures = {asyncio.ensure_future(Task.async_(double, 1)), asyncio.ensure_future(Task.async_(double, 2))}
            done, pending = await asyncio.wait(futures)
            assert sorted(one.result() for one in done) == [2, 4]
            assert not pending

        await self.in_both(work)

    async def test_wait_for(self) -> None:
        async def work() -> None:
            assert await asyncio.wait_for(Task.async_(double, 1), 60.0) == 2
            task = Task.async_(never)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(task.await_(), 0)
            await task.shutdown()

        await self.in_both(work)

    async def test_a_task_group_whose_sibling_fails_ends_it(self) -> None:
        async def work() -> None:
            task = Task.async_(never)

            async def group_of_two() -> None:
                async with asyncio.TaskGroup() as group:
                    group.create_task(task.await_(None))
                    await asyncio.sleep(0)
                    group.create_task(failing())

            with pytest.raises(ExceptionGroup):
                await group_of_two()
            assert task.pid is not None
            assert not beamish.alive(task.pid)

        await self.in_both(work)

    async def test_a_task_group_waits_for_it(self) -> None:
        async def work() -> None:
            async with asyncio.TaskGroup() as group:
                one = group.create_task(Task.async_(double, 1).await_())
            assert one.result() == 2

        await self.in_both(work)

    async def test_two_may_wait_for_one(self) -> None:
        go = asyncio.Event()

        async def work() -> bool:
            return await go.wait()

        task = Task.async_(work)
        first, second = asyncio.create_task(task.await_()), asyncio.create_task(task.await_(60.0))
        await settle()
        go.set()
        assert await asyncio.gather(first, second) == [True, True]

    async def test_timeout_and_task_group_work_inside(self) -> None:
        async def work() -> int:
            async with asyncio.timeout(60.0), asyncio.TaskGroup() as group:
                one = group.create_task(double(2))
            return one.result()

        assert await Task.async_(work) == 4


class TestTheEndOfTheLoop:
    def test_what_still_runs_ends_in_order(self) -> None:
        seen: list[str] = []

        async def work(name: str) -> None:
            try:
                await never()
            finally:
                seen.append(name)

        async def main() -> None:
            Task.async_(work, "linked")
            Task.start(work, "started")
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        asyncio.run(main())
        assert sorted(seen) == ["linked", "started"]
