"""Whose end is whose: tasks and the processes, or the plain asyncio code, that have started them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import beamish
from beamish import (
    KILL,
    KILLED,
    NORMAL,
    SHUTDOWN,
    Crash,
    Exit,
    Exited,
    Task,
    TaskExit,
)
from beamish.testing import capture_crashes, settle
from conftest import both_roads
from task_words import boom, died, double, failing, mail, never


async def later_boom() -> None:
    await asyncio.sleep(0)
    raise ValueError("boom")


class TestTheLink:
    @both_roads
    async def test_a_crash_ends_an_owner_that_does_not_trap(self, inline: bool) -> None:
        async def awaits() -> None:
            await Task.async_(later_boom)

        async def does_not() -> None:
            Task.async_(boom)
            await never()

        for owner in (awaits, does_not):
            reason = await died(owner)
            assert isinstance(reason, Crash)
            assert isinstance(reason.error, ValueError)

    async def test_an_owner_that_traps_gets_an_exited_after_the_failure(self) -> None:
        async def owner() -> None:
            beamish.flag(trap_exit=True)
            task = Task.async_(later_boom)
            with pytest.raises(TaskExit) as caught:
                await task
            assert mail() == [Exited(task.pid, caught.value.reason)]

        assert await died(owner) == NORMAL

    async def test_a_normal_end_ends_nobody(self) -> None:
        async def owner() -> None:
            await Task.async_(lambda: 1)
            task = Task.async_(leave)
            with pytest.raises(TaskExit):
                await task

        def leave() -> None:
            raise Exit(NORMAL)

        assert await died(owner) == NORMAL

    async def test_the_owners_bad_end_is_the_tasks(self) -> None:
        tasks: list[Task[None]] = []

        async def owner() -> None:
            tasks.append(Task.async_(never))
            await asyncio.sleep(0)
            raise Exit("bad")

        assert await died(owner) == "bad"
        await settle()
        assert tasks[0].pid is not None
        assert not beamish.alive(tasks[0].pid)

    async def test_the_owners_normal_end_is_not(self) -> None:
        tasks: list[Task[None]] = []

        async def owner() -> None:
            tasks.append(Task.async_(never))

        assert await died(owner) == NORMAL
        assert tasks[0].pid is not None
        assert beamish.alive(tasks[0].pid)
        beamish.exit(tasks[0].pid, SHUTDOWN)

    async def test_one_that_dies_of_its_owner_before_it_began_never_does(self) -> None:
        begun: list[int] = []

        async def owner() -> None:
            for number in range(100):
                Task.async_(begun.append, number)
            beamish.exit(beamish.current(), KILL)

        assert await died(owner) == KILLED
        await settle()
        assert 0 < len(begun) < 100


class TestPlainCode:
    """An owner that is no process."""

    async def test_a_crash_does_not_cancel_it(self) -> None:
        with capture_crashes() as reports:
            Task.async_(boom)
            await settle()
        assert len(reports) == 1
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    async def test_its_tasks_end_with_it_when_it_is_cancelled(self) -> None:
        tasks: list[Task[None]] = []

        async def owner() -> None:
            tasks.extend([Task.async_(never), Task.async_(never)])
            await tasks[0].await_(None)

        running = asyncio.create_task(owner())
        await settle()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await settle()
        assert [beamish.alive(task.pid) for task in tasks if task.pid is not None] == [False, False]

    async def test_its_tasks_end_with_it_when_it_raises(self) -> None:
        tasks: list[Task[None]] = []
        reasons: list[Any] = []

        async def owner() -> None:
            tasks.append(Task.async_(never))
            assert tasks[0].pid is not None
            reasons.append(asyncio.create_task(beamish.down(tasks[0].pid)))
            raise ValueError("oh")

        with pytest.raises(ValueError, match="oh"):
            await asyncio.create_task(owner())
        found = await reasons[0]
        assert isinstance(found.reason, Crash)
        assert str(found.reason.error) == "oh"

    async def test_its_normal_end_leaves_them_running(self) -> None:
        async def owner() -> Task[None]:
            return Task.async_(never)

        task = await asyncio.create_task(owner())
        await settle()
        assert task.pid is not None
        assert beamish.alive(task.pid)
        await task.shutdown()

    async def test_whoever_inherits_its_context_does_not_own_them(self) -> None:
        async def child() -> Task[None]:
            return Task.async_(never)

        first = Task.async_(never)
        second = await asyncio.create_task(child())
        inner = asyncio.create_task(failing())
        with pytest.raises(ValueError, match="inner"):
            await inner
        await settle()
        assert first.pid is not None
        assert second.pid is not None
        assert beamish.alive(first.pid)
        assert beamish.alive(second.pid)
        await first.shutdown()
        await second.shutdown()

    async def test_a_callback_of_the_loop_may_start_one(self) -> None:
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(lambda: Task.async_(lambda: done.set_result(1)))
        assert await done == 1

    async def test_one_of_a_main_that_was_adopted_later_is_still_its_own(self) -> None:
        task = Task.async_(double, 1)
        beamish.current()
        assert await task == 2
