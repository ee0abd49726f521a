"""TaskSupervisor: tasks in one place, with a bound. The trace of OTP itself is in tests/conformance."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import pytest

import beamish
from beamish import (
    KILL,
    NORMAL,
    SHUTDOWN,
    ChildCounts,
    Crash,
    Down,
    DynamicSupervisor,
    Exit,
    Failed,
    MaxChildren,
    NoProcess,
    PartitionSupervisor,
    Registry,
    Replied,
    TaskExit,
    TaskSupervisor,
    TaskTimeout,
    Via,
    WrongServer,
    supervise,
)
from beamish.testing import ManualClock, World, capture_crashes, settle
from conftest import both_roads
from task_words import boom, died, double, in_process, leave, links, mail, never, tell, told

NONE_THERE = ChildCounts(specs=0, active=0, supervisors=0, workers=0)


async def started(world: World, **options: Any) -> TaskSupervisor:
    return await world.start_supervised(TaskSupervisor("tasks").child_spec(**options))


class TestAsAChild:
    async def test_it_is_a_supervisor_by_its_name(self) -> None:
        spec = TaskSupervisor("tasks").child_spec()
        assert (spec.id, spec.type, spec.shutdown, spec.restart) == ("tasks", "supervisor", None, "permanent")
        assert TaskSupervisor.child_spec().id is TaskSupervisor
        async with supervise([spec]):
            assert beamish.whereis("tasks") is not None

    async def test_several_of_them_by_name_via_a_registry_and_by_class(self) -> None:
        names = Registry("names")
        by_name, via = TaskSupervisor("simple"), TaskSupervisor(Via(names, "via"))
        specs = [names.child_spec(keys="unique"), by_name.child_spec(), via.child_spec(), TaskSupervisor.child_spec()]
        async with supervise(specs, strategy="one_for_all") as top:
            for one in (by_name, via):
                assert await one.children() == []
                assert await one.async_nolink(double, 1) == 2
            with pytest.raises(beamish.AlreadyStarted):
                await top.start_child(TaskSupervisor.child_spec())

    async def test_one_for_each_part_of_the_keys(self) -> None:
        """As in the documentation of Elixir's PartitionSupervisor: when one supervisor is too few."""
        parts = PartitionSupervisor("parts")
        async with supervise([parts.child_spec(TaskSupervisor.child_spec(), partitions=2)]):
            for key in (0, 1):
                tasks = TaskSupervisor(Via(parts, key))
                assert await tasks.async_nolink(double, key) == 2 * key
                await tasks.start_child(never)
                assert len(await tasks.children()) == 1

    async def test_it_counts_and_lists_its_tasks(self, world: World) -> None:
        tasks = await started(world)
        assert await tasks.count_children() == NONE_THERE
        one, two = tasks.async_nolink(told), tasks.async_nolink(told)
        assert await tasks.children() == [one.pid, two.pid]
        assert await tasks.count_children() == ChildCounts(specs=2, active=2, supervisors=0, workers=2)
        assert [(info.id, info.child, info.type) for info in await tasks.which_children()] == [
            (None, one.pid, "worker"),
            (None, two.pid, "worker"),
        ]
        tell(one, 1)
        await one
        assert await tasks.children() == [two.pid]
        assert await tasks.count_children() == ChildCounts(specs=1, active=1, supervisors=0, workers=1)

    async def test_it_is_a_dynamic_supervisor(self, world: World) -> None:
        tasks = await started(world)
        pid = await tasks.start_child(told)
        await DynamicSupervisor("tasks").terminate_child(pid)
        assert await tasks.count_children() == NONE_THERE

    async def test_bad_options_fail_its_start(self) -> None:
        with capture_crashes():
            for options in ({"shutdown": -1}, {"max_children": -1}, {"max_restarts": -1}):
                with pytest.raises(beamish.StartError):
                    await TaskSupervisor.start_link(**options)


class TestAsync:
    @both_roads
    async def test_tasks_run_under_it_and_are_linked_to_both(self, world: World, inline: bool) -> None:
        tasks = await started(world)

        async def owner() -> None:
            task = tasks.async_(told)
            assert await tasks.children() == [task.pid]
            assert task.owner == beamish.current()
            assert task.pid in links()
            tell(task, "done")
            await settle()
            assert mail() == [Replied(task.ref, "done"), Down(task.ref, task.pid, NORMAL)]
            assert await task == "done"
            assert await tasks.async_(double, n=4) == 8
            assert await tasks.async_(lambda: 1) == 1

        await in_process(owner)
        assert await tasks.count_children() == NONE_THERE

    async def test_a_crash_is_the_owners(self, world: World) -> None:
        tasks = await started(world)

        async def owner() -> None:
            tasks.async_(boom)
            await never()

        with capture_crashes() as reports:
            assert isinstance(await died(owner), Crash)
            await settle()
        assert [one.name for one in reports] == ["beamish.task", "beamish.supervisor"]
        assert await tasks.count_children() == NONE_THERE

    async def test_the_owners_bad_end_is_the_tasks(self, world: World) -> None:
        tasks = await started(world)

        async def owner() -> None:
            tasks.async_(never)
            raise Exit("bad")

        with capture_crashes():
            assert await died(owner) == "bad"
            await settle()
        assert await tasks.count_children() == NONE_THERE

    async def test_callers_and_ancestors(self, world: World) -> None:
        tasks = await started(world)
        me = beamish.current()
        above = tasks.pid()
        assert above is not None
        ancestors = ("tasks", *beamish.ancestors(above))

        async def outer() -> None:
            mine = beamish.current()
            assert (beamish.callers(), beamish.ancestors()) == ((me,), ancestors)
            assert await tasks.async_(lambda: (beamish.callers(), beamish.ancestors())) == ((mine, me), ancestors)

        await tasks.async_(outer)

    async def test_there_is_a_bound(self, world: World) -> None:
        tasks = await started(world, max_children=1)
        task = tasks.async_nolink(told)
        for start in (tasks.async_, tasks.async_nolink):
            with pytest.raises(MaxChildren, match=r"TaskSupervisor\('tasks'\) has 1 tasks, and max_children=1"):
                start(double, 1)
        with pytest.raises(MaxChildren):
            await tasks.start_child(never)
        tell(task, 1)
        await task
        assert await tasks.async_(double, 1) == 2  # its place is free as soon as it has ended

    async def test_of_one_that_crashed_the_place_is_free_too(self, world: World) -> None:
        tasks = await started(world, max_children=1)
        with capture_crashes():
            await tasks.async_nolink(boom).yield_()
            await settle()
        assert await tasks.async_nolink(double, 1) == 2

    async def test_plain_code_that_ends_badly_takes_them_along(self, world: World) -> None:
        tasks = await started(world)

        async def owner() -> None:
            tasks.async_(never)
            raise LookupError

        with capture_crashes(), pytest.raises(LookupError):
            await asyncio.create_task(owner())
        await settle()
        with capture_crashes():
            await settle()
        assert await tasks.children() == []

    async def test_absent_wrong_and_dead_supervisors(self, world: World) -> None:
        with pytest.raises(NoProcess, match="nothing is registered as 'nobody'"):
            TaskSupervisor("nobody").async_nolink(double, 1)
        await world.start_supervised(DynamicSupervisor("other").child_spec())
        with pytest.raises(WrongServer):
            TaskSupervisor("other").async_(double, 1)
        with pytest.raises(TypeError, match="a function and its arguments"):
            TaskSupervisor("nobody").async_(1)  # type: ignore[call-overload]

    async def test_one_that_has_just_crashed_is_back(self) -> None:
        tasks = TaskSupervisor("tasks")
        with capture_crashes():
            async with supervise([tasks.child_spec()]):
                pid = tasks.pid()
                assert pid is not None
                beamish.exit(pid, KILL)
                assert await tasks.async_nolink(double, 1) == 2


class TestAsyncNolink:
    @both_roads
    async def test_tasks_run_under_it_and_are_not_linked_to_the_caller(self, world: World, inline: bool) -> None:
        tasks = await started(world)

        async def owner() -> None:
            task = tasks.async_nolink(told)
            assert await tasks.children() == [task.pid]
            assert links() == ()
            tell(task, "done")
            await settle()
            assert mail() == [Replied(task.ref, "done"), Down(task.ref, task.pid, NORMAL)]
            assert await task == "done"

        await in_process(owner)

    async def test_a_crash_is_a_down_a_value_or_an_exception(self, world: World) -> None:
        tasks = await started(world)

        async def owner() -> None:
            task = tasks.async_nolink(boom)
            await settle()
            [message] = mail()
            assert isinstance(message, Down)
            assert message.ref is task.ref
            found = await task.yield_()
            assert found == Failed(message.reason)
            with pytest.raises(TaskExit, match="ValueError: boom"):
                await task
            assert mail() == []

        with capture_crashes():
            await in_process(owner)

    async def test_it_survives_its_caller(self, world: World) -> None:
        tasks = await started(world)
        for _ in range(2):

            async def owner() -> None:
                tasks.async_nolink(told)
                raise Exit("bad")

            with capture_crashes():
                assert await died(owner) == "bad"

        async def plain() -> None:
            tasks.async_nolink(told)
            raise LookupError

        with pytest.raises(LookupError):
            await asyncio.create_task(plain())
        await settle()
        assert len(await tasks.children()) == 3

    async def test_await_that_times_out_drops_what_is_late(self, world: World, clock: ManualClock) -> None:
        tasks = await started(world)

        async def owner() -> None:
            task = tasks.async_nolink(told)
            with pytest.raises(TaskTimeout):
                await task.await_(1.0)
            assert task.pid is not None
            ref = beamish.monitor(task.pid)
            tell(task, "late")
            await settle()
            [message] = mail()
            assert message.ref is ref

        waiting = asyncio.create_task(in_process(owner))
        await clock.advance(1.0)
        await waiting

    @pytest.mark.parametrize("trap", [True, False])
    async def test_awaiting_one_that_fails_raises_as_for_any_task(self, world: World, trap: bool) -> None:
        tasks = await started(world)

        async def owner() -> None:
            beamish.flag(trap_exit=trap)
            for fn, reason in ((boom, Crash), (lambda: leave("unknown"), str)):
                with pytest.raises(TaskExit) as caught:
                    await tasks.async_nolink(fn)
                assert isinstance(caught.value.reason, reason)
            assert mail() == []

        with capture_crashes():
            await in_process(owner)


class TestStartChild:
    @both_roads
    async def test_nobody_is_linked_and_nobody_hears_of_it(self, world: World, inline: bool) -> None:
        tasks = await started(world)
        seen: list[Any] = []

        async def work(*args: Any, **kwargs: Any) -> None:
            seen.append((beamish.callers(), beamish.ancestors()[0]))
            seen.append((await told(), args, kwargs))

        async def owner() -> None:
            pid = await tasks.start_child(work, 1, key=2)
            assert seen == []  # it begins in the next turn
            assert await tasks.children() == [pid]
            assert links() == ()
            await settle()
            tell(pid, "go")
            await settle()
            assert seen == [((beamish.current(),), "tasks"), ("go", (1,), {"key": 2})]
            assert mail() == []

        await in_process(owner)

    async def test_temporary_ones_are_not_restarted(self, world: World) -> None:
        tasks = await started(world)
        with capture_crashes() as reports:
            pid = await tasks.start_child(boom)
            await settle()
        assert [one.name for one in reports] == ["beamish.task", "beamish.supervisor"]
        assert not beamish.alive(pid)
        assert await tasks.count_children() == NONE_THERE

    async def test_transient_ones_are_after_an_abnormal_end(self, world: World) -> None:
        tasks = await started(world)
        request = contextvars.ContextVar("request", default="none")
        request.set("r1")
        runs: list[Any] = []

        def flaky(text: str, *, times: int) -> None:
            runs.append((text, request.get(), beamish.callers(), beamish.ancestors()[0]))
            request.set("changed")
            if len(runs) < times:
                boom()

        with capture_crashes():
            me = beamish.current()
            await tasks.start_child(flaky, "again", times=3, restart="transient")
            await settle()
        assert runs == [("again", "r1", (me,), "tasks")] * 3
        assert await tasks.count_children() == NONE_THERE

    async def test_permanent_ones_always_are(self, world: World) -> None:
        tasks = await started(world)
        pid = await tasks.start_child(told, restart="permanent")
        await settle()
        beamish.exit(pid, SHUTDOWN)
        with capture_crashes():
            await settle()
        [again] = await tasks.children()
        assert again != pid
        tell(again, "done")
        with capture_crashes():
            await settle()
        assert len(await tasks.children()) == 1

    async def test_too_many_restarts_end_the_supervisor(self) -> None:
        tasks = await TaskSupervisor.start(max_restarts=1)
        pid = tasks.pid()
        assert pid is not None
        with capture_crashes():
            await tasks.start_child(boom, restart="transient")
            assert (await beamish.down(pid)).reason == SHUTDOWN

    async def test_how_long_it_may_take_to_end(self, clock: ManualClock) -> None:
        async def deaf() -> None:
            beamish.flag(trap_exit=True)
            await never()

        tasks = await TaskSupervisor.start(shutdown=1.0)
        pids = [
            await tasks.start_child(deaf),
            await tasks.start_child(deaf, shutdown=3.0),
            await tasks.start_child(deaf, shutdown="brutal_kill"),
        ]
        pids.append(await tasks.start_child(deaf, shutdown=2.0, restart="permanent"))
        await settle()
        with capture_crashes():
            stopping = asyncio.create_task(tasks.stop(SHUTDOWN))
            alive: list[list[bool]] = []
            for seconds in (0.0, 1.0, 1.0, 1.0):
                await clock.advance(seconds)
                alive.append([beamish.alive(pid) for pid in pids])
            await stopping
        assert alive == [[True, True, False, True], [False, True, False, True], [False, True, False, False], [False] * 4]

    async def test_bad_options_are_refused(self, world: World) -> None:
        tasks = await started(world)
        with pytest.raises(ValueError, match="restart must be"):
            await tasks.start_child(never, restart="always")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="brutal_kill"):
            await tasks.start_child(never, shutdown=-1)
        with pytest.raises(TypeError, match="a function and its arguments"):
            await tasks.start_child(1)  # type: ignore[arg-type]
        assert await tasks.count_children() == NONE_THERE
