"""Waiting for tasks in other ways: await_many, yield_, yield_many; and letting go of them: shutdown, ignore."""

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
    Failed,
    Ok,
    Shutdown,
    Task,
    TaskExit,
    TaskTimeout,
)
from beamish.testing import ManualClock, capture_crashes, settle
from conftest import both_roads
from task_words import boom, in_process, leave, mail, never, runs, tell, told


class TestAwaitMany:
    @both_roads
    async def test_values_come_in_the_order_of_the_tasks(self, inline: bool) -> None:
        tasks = [Task.async_(told) for _ in range(3)]
        waiting = asyncio.create_task(Task.await_many(tasks))
        for task, value in ((tasks[2], "c"), (tasks[0], "a"), (tasks[1], "b")):
            await asyncio.sleep(0)
            tell(task, value)
        assert await waiting == ["a", "b", "c"]

    async def test_of_none_it_is_empty(self) -> None:
        assert await Task.await_many([]) == []

    async def test_what_has_ended_before_counts(self) -> None:
        done = Task.async_(lambda: 1)
        await settle()
        assert await Task.await_many([done, Task.completed(2), Task.async_(told_at_once)]) == [1, 2, 3]

    async def test_what_was_awaited_before_counts_too(self) -> None:
        first, second = Task.async_(lambda: 1), Task.async_(told_at_once)
        assert await first == 1
        assert await Task.await_many([first, second, first]) == [1, 3, 1]
        assert await Task.yield_many([second, first], limit=2) == [(second, Ok(3)), (first, Ok(1))]

    async def test_one_that_was_given_up_is_a_failure(self) -> None:
        gone, other = Task.async_(never), Task.async_(told_at_once)
        gone.ignore()
        with pytest.raises(TaskExit, match="given up"):
            await Task.await_many([other, gone])
        assert gone.pid is not None
        beamish.exit(gone.pid, KILL)

    async def test_other_messages_stay_and_its_own_go(self) -> None:
        async def owner() -> None:
            tasks = [Task.async_(lambda: 1), Task.async_(told_at_once)]
            await settle()
            beamish.send(beamish.current(), "other")
            assert await Task.await_many(tasks) == [1, 3]
            assert mail() == ["other"]

        await in_process(owner)

    async def test_one_timeout_for_all(self, clock: ManualClock) -> None:
        async def owner() -> None:
            tasks = [Task.async_(lambda: 1), Task.async_(told), Task.async_(told)]
            with pytest.raises(TaskTimeout, match="told") as caught:
                await Task.await_many(tasks, timeout=1.0)
            assert caught.value.request == "await_many"
            tell(tasks[1], "late")
            await settle()
            assert mail() == []
            assert await tasks[1].yield_() is None
            await tasks[2].shutdown()

        waiting = asyncio.create_task(in_process(owner))
        await clock.advance(1.0)
        await waiting

    @pytest.mark.parametrize("fn", [boom, lambda: leave("bad"), lambda: leave(NORMAL)], ids=["crash", "exit", "normal"])
    async def test_the_first_that_ends_without_a_value_is_raised_at_once(self, fn: Any) -> None:
        async def owner() -> None:
            beamish.flag(trap_exit=True)

            async def fails() -> None:
                await told()
                fn()

            slow, bad, good = Task.async_(told), Task.async_(fails), Task.async_(told)
            waiting = asyncio.ensure_future(Task.await_many([slow, bad, good]))
            await settle()
            tell(good, 1)
            await settle()
            assert not waiting.done()
            tell(bad, "now")
            with pytest.raises(TaskExit) as caught:
                await waiting
            assert caught.value.task is bad
            assert [type(one) for one in mail()] == [Exited, Exited]  # of the one with a value, and of the bad one
            assert runs(slow)
            tell(slow, "late")
            await settle()
            assert [type(one) for one in mail()] == [Exited, Exited, Exited]

        with capture_crashes():
            await in_process(owner)

    async def test_a_failure_that_has_happened_is_raised_without_waiting(self) -> None:
        with capture_crashes():
            bad, slow = Task.async_(boom), Task.async_(never)
            await settle()
            with pytest.raises(TaskExit, match="ValueError: boom"):
                await Task.await_many([slow, bad], timeout=None)
        await slow.shutdown()


async def told_at_once() -> int:
    await asyncio.sleep(0)
    return 3


class TestYield:
    @both_roads
    async def test_a_value_a_failure_or_nothing_yet(self, inline: bool) -> None:
        task = Task.async_(told)
        assert await task.yield_(0) is None
        tell(task, "v")
        assert await task.yield_() == Ok("v")
        with capture_crashes():
            found = await Task.async_(boom).yield_()
        assert isinstance(found, Failed)
        assert isinstance(found.reason, Crash)
        assert await Task.async_(leave, NORMAL).yield_() == Failed(NORMAL)

    async def test_nothing_is_lost_by_a_timeout(self, clock: ManualClock) -> None:
        task = Task.async_(told)
        asking = asyncio.create_task(task.yield_(1.0))
        await clock.advance(1.0)
        assert await asking is None
        tell(task, "v")
        assert await task == "v"

    async def test_its_messages_are_taken(self) -> None:
        async def owner() -> None:
            task = Task.async_(told_at_once)
            await settle()
            assert len(mail()) == 2
            assert await task.yield_() == Ok(3)
            assert mail() == []

        await in_process(owner)


class TestYieldMany:
    async def test_each_with_what_has_become_of_it(self, clock: ManualClock) -> None:
        good, bad, slow = Task.async_(told_at_once), Task.async_(leave, NORMAL), Task.async_(never)
        asking = asyncio.create_task(Task.yield_many([slow, bad, good], 1.0))
        await clock.advance(1.0)
        assert await asking == [(slow, None), (bad, Failed(NORMAL)), (good, Ok(3))]
        assert runs(slow)
        await slow.shutdown()

    async def test_it_is_done_when_all_are(self) -> None:
        tasks = [Task.async_(told_at_once), Task.async_(lambda: 3)]
        assert await Task.yield_many(tasks, None) == [(tasks[0], Ok(3)), (tasks[1], Ok(3))]
        assert await Task.yield_many([]) == []

    async def test_late_ones_can_be_killed(self, clock: ManualClock) -> None:
        slow, good = Task.async_(never), Task.async_(lambda: 1)
        asking = asyncio.create_task(Task.yield_many([slow, good], 1.0, on_timeout="kill_task"))
        await clock.advance(1.0)
        assert await asking == [(slow, Failed(KILLED)), (good, Ok(1))]
        assert not runs(slow)

    async def test_late_ones_can_be_let_go(self, clock: ManualClock) -> None:
        async def owner() -> None:
            slow, good = Task.async_(told), Task.async_(lambda: 1)
            assert await Task.yield_many([slow, good], 1.0, on_timeout="ignore") == [(slow, None), (good, Ok(1))]
            info = beamish.info()
            assert info is not None
            assert info.links == ()
            tell(slow, "late")
            await settle()
            assert mail() == []

        waiting = asyncio.create_task(in_process(owner))
        await clock.advance(1.0)
        await waiting

    async def test_a_limit_ends_it_sooner_and_lets_the_others_run(self) -> None:
        tasks = [Task.async_(told) for _ in range(3)]
        asking = asyncio.create_task(Task.yield_many(tasks, None, limit=2, on_timeout="kill_task"))
        tell(tasks[2], 2)
        await settle()
        assert not asking.done()
        tell(tasks[0], 0)
        assert await asking == [(tasks[0], Ok(0)), (tasks[1], None), (tasks[2], Ok(2))]
        assert runs(tasks[1])
        await tasks[1].shutdown()

    async def test_a_limit_counts_what_has_ended_before(self) -> None:
        done, slow = Task.async_(lambda: 1), Task.async_(never)
        await settle()
        assert await Task.yield_many([slow, done], None, limit=1) == [(slow, None), (done, Ok(1))]
        await slow.shutdown()

    async def test_a_limit_above_their_number_is_all_of_them(self) -> None:
        tasks = [Task.async_(told_at_once), Task.async_(told_at_once)]
        assert await Task.yield_many(tasks, None, limit=10) == [(task, Ok(3)) for task in tasks]

    async def test_a_limit_that_is_not_reached_in_time_leads_to_on_timeout(self, clock: ManualClock) -> None:
        tasks = [Task.async_(never), Task.async_(never), Task.async_(lambda: 1)]
        asking = asyncio.create_task(Task.yield_many(tasks, 1.0, limit=2, on_timeout="kill_task"))
        await clock.advance(1.0)
        assert await asking == [(tasks[0], Failed(KILLED)), (tasks[1], Failed(KILLED)), (tasks[2], Ok(1))]

    async def test_bad_options_are_refused(self) -> None:
        for options, text in (({"on_timeout": "x"}, "on_timeout is"), ({"limit": 0}, "limit is"), ({"limit": True}, "limit is")):
            with pytest.raises(ValueError, match=text):
                await Task.yield_many([], **options)  # type: ignore[arg-type]


class TestShutdown:
    """Every way in which a task may have ended, or may end, when it is told to."""

    @both_roads
    @pytest.mark.parametrize("how", [5.0, "brutal_kill"])
    async def test_one_that_runs_ends_of_it(self, inline: bool, how: Any) -> None:
        task = Task.async_(never)
        assert await task.shutdown(how) is None
        assert not runs(task)
        assert await task.shutdown(how) is None
        with pytest.raises(TaskExit):
            await task

    @pytest.mark.parametrize("how", [5.0, "brutal_kill"])
    async def test_a_value_that_is_there_is_returned(self, how: Any) -> None:
        for fn in (lambda: "v", told_at_once):
            task: Task[Any] = Task.async_(fn)
            await settle()
            assert isinstance(await task.shutdown(how), Ok)

    @pytest.mark.parametrize(
        ("how", "reason", "found"),
        [
            (5.0, "bad", Failed("bad")),
            (5.0, NORMAL, Failed(NORMAL)),
            (5.0, SHUTDOWN, None),
            (5.0, Shutdown("why"), Failed(Shutdown("why"))),
            (5.0, KILL, Failed(KILLED)),
            ("brutal_kill", "bad", Failed("bad")),
            ("brutal_kill", NORMAL, Failed(NORMAL)),
            ("brutal_kill", SHUTDOWN, Failed(SHUTDOWN)),
            ("brutal_kill", KILL, None),
        ],
    )
    async def test_of_one_that_has_ended_without_a_value_the_reason(self, how: Any, reason: Any, found: Any) -> None:
        with capture_crashes():
            if reason == KILL:
                task = Task.async_(never)
                assert task.pid is not None
                beamish.exit(task.pid, KILL)
            else:
                task = Task.async_(leave, reason)
            await settle()
            assert await task.shutdown(how) == found

    async def test_a_value_that_comes_while_it_ends_is_returned(self) -> None:
        async def polite() -> str:
            beamish.flag(trap_exit=True)
            await beamish.receive(Exited)
            return "in time"

        task = Task.async_(polite)
        await settle()
        assert await task.shutdown() == Ok("in time")

    async def test_what_it_ends_with_is_returned(self) -> None:
        async def rude() -> None:
            beamish.flag(trap_exit=True)
            await beamish.receive(Exited)
            raise Exit("no")

        with capture_crashes():
            task = Task.async_(rude)
            await settle()
            assert await task.shutdown() == Failed("no")

    async def test_one_that_does_not_listen_is_killed(self, clock: ManualClock) -> None:
        async def deaf() -> None:
            beamish.flag(trap_exit=True)
            await never()

        task = Task.async_(deaf)
        ending = asyncio.create_task(task.shutdown(2.0))
        await clock.advance(1.9)
        assert not ending.done()
        await clock.advance(0.2)
        assert await ending == Failed(KILLED)

    async def test_its_finally_blocks_run(self) -> None:
        seen: list[str] = []

        async def work() -> None:
            try:
                await never()
            finally:
                await asyncio.sleep(0)
                seen.append("done")

        task = Task.async_(work)
        assert await task.shutdown() is None
        assert seen == ["done"]

    async def test_what_it_returns_after_the_signal_is_nobodys(self) -> None:
        async def late() -> str:
            try:
                await never()
            except asyncio.CancelledError:
                return "swallowed"
            return "never"

        assert await Task.async_(late).shutdown() is None

    async def test_no_exited_comes_of_it(self) -> None:
        async def owner() -> None:
            beamish.flag(trap_exit=True)
            await Task.async_(never).shutdown()
            await Task.async_(never).shutdown("brutal_kill")
            await settle()
            assert mail() == []

        await in_process(owner)

    async def test_of_a_completed_one_the_value(self) -> None:
        assert await Task.completed(1).shutdown() == Ok(1)
        assert await Task.completed(1).shutdown("brutal_kill") == Ok(1)

    async def test_cancelled_it_kills(self) -> None:
        async def deaf() -> None:
            beamish.flag(trap_exit=True)
            await never()

        task = Task.async_(deaf)
        ending = asyncio.create_task(task.shutdown())
        await settle()
        ending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await ending
        assert not runs(task)

    async def test_one_that_has_not_begun_never_does(self) -> None:
        begun: list[int] = []
        tasks = [Task.async_(begun.append, number) for number in range(100)]
        for task in tasks:
            await task.shutdown("brutal_kill")
        await settle()
        assert 0 < len(begun) < 100

    async def test_a_bad_time_is_refused(self) -> None:
        task = Task.async_(never)
        for bad in (-1, "soon", None, True):
            with pytest.raises(ValueError, match='seconds \\(0 or more\\) or "brutal_kill"'):
                await task.shutdown(bad)  # type: ignore[arg-type]
        await task.shutdown()


class TestIgnore:
    async def test_it_runs_on_unlinked_and_its_value_is_dropped(self) -> None:
        async def owner() -> None:
            beamish.flag(trap_exit=True)
            task = Task.async_(told)
            assert task.ignore() is None
            tell(task, "late")
            await settle()
            assert mail() == []
            assert await task.yield_() is None
            with pytest.raises(TaskExit, match="given up"):
                await task

        await in_process(owner)

    async def test_so_is_its_failure(self) -> None:
        async def owner() -> None:
            async def fails() -> None:
                await told()
                boom()

            task = Task.async_(fails)
            assert task.ignore() is None
            tell(task, "now")
            await settle()
            assert mail() == []

        with capture_crashes() as reports:
            await in_process(owner)
        assert [one.name for one in reports] == ["beamish.task"]

    async def test_what_is_there_is_returned_and_its_messages_are_gone(self) -> None:
        async def owner() -> None:
            beamish.flag(trap_exit=True)
            good, bad = Task.async_(lambda: 1), Task.async_(boom)
            await settle()
            assert good.ignore() == Ok(1)
            failed = bad.ignore()
            assert isinstance(failed, Failed)
            assert [type(one) for one in mail()] == [Exited, Exited]

        with capture_crashes():
            await in_process(owner)

    async def test_of_plain_code_it_outlives_its_owner(self) -> None:
        async def owner() -> Task[Any]:
            task = Task.async_(never)
            task.ignore()
            raise LookupError(task)

        with pytest.raises(LookupError) as caught:
            await asyncio.create_task(owner())
        [task] = caught.value.args
        assert runs(task)
        beamish.exit(task.pid, SHUTDOWN)
