"""A task: starting it and awaiting it. The trace of OTP itself is in tests/conformance."""

from __future__ import annotations

import asyncio
import contextvars
import functools
from typing import Any

import pytest

import beamish
from beamish import (
    KILL,
    KILLED,
    NOPROC,
    NORMAL,
    SHUTDOWN,
    CallTimeout,
    Crash,
    Deadlock,
    Exit,
    Failed,
    GenServer,
    NotOwner,
    Ok,
    Replied,
    Task,
    TaskExit,
    TaskTimeout,
    WrongLoop,
    call,
    supervise,
)
from beamish.testing import ManualClock, capture_crashes, settle
from conftest import both_roads
from task_words import boom, died, double, mail, never


async def later_boom() -> None:
    await asyncio.sleep(0)
    raise ValueError("boom")


class TestAsync:
    @both_roads
    async def test_the_function_runs_as_a_process_and_its_value_is_awaited(self, inline: bool) -> None:
        me = beamish.current()

        async def who() -> beamish.Pid:
            await asyncio.sleep(0)
            return beamish.current()

        task = Task.async_(who)
        assert task.owner == me
        assert await task == task.pid != me

    @both_roads
    async def test_plain_functions_and_whatever_is_awaitable_will_do(self, inline: bool) -> None:
        async def nested() -> Task[int]:
            return Task.async_(double, 4)

        assert await Task.async_(lambda: 1) == 1
        assert await Task.async_(double, n=3) == 6
        assert await Task.async_(functools.partial(double, 5)) == 10
        assert await Task.async_(lambda: Task.async_(double, 4)) == 8
        assert await Task.async_(lambda: asyncio.ensure_future(double(1))) == 2
        assert isinstance(await Task.async_(lambda: nested), object)

    async def test_it_begins_at_once_up_to_its_first_await(self) -> None:
        seen: list[str] = []

        async def work() -> None:
            seen.append("began")
            await asyncio.sleep(0)
            seen.append("went on")

        task = Task.async_(work)
        assert seen == ["began"]
        await task
        assert seen == ["began", "went on"]

    async def test_a_turn_that_has_done_enough_leaves_it_to_the_next(self) -> None:
        begun: list[int] = []
        tasks = [Task.async_(begun.append, number) for number in range(100)]
        assert 0 < len(begun) < 100
        await Task.await_many(tasks)
        assert sorted(begun) == list(range(100))

    async def test_tasks_that_start_tasks_do_not_grow_the_stack(self) -> None:
        async def nest(depth: int) -> int:
            return 0 if depth == 0 else 1 + await Task.async_(nest, depth - 1)

        assert await Task.async_(nest, 500) == 500

    async def test_a_loop_of_tasks_lets_others_run(self) -> None:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        beside = asyncio.create_task(other())
        for _ in range(1000):
            await Task.async_(lambda: 1)
        beside.cancel()
        assert turns > 10

    async def test_it_knows_its_starters_context_and_keeps_its_own(self) -> None:
        request = contextvars.ContextVar("request", default="none")
        request.set("r1")

        def work() -> str:
            seen = request.get()
            request.set("changed")
            return seen

        assert await Task.async_(work) == "r1"
        assert request.get() == "r1"

    async def test_what_is_no_function_is_refused(self) -> None:
        coroutine = double(1)
        with pytest.raises(TypeError, match=r"Task.async_\(fetch, url\), not Task.async_\(fetch\(url\)\)"):
            Task.async_(coroutine)  # type: ignore[call-overload]
        coroutine.close()

    @both_roads
    async def test_callers_and_ancestors_are_known(self, inline: bool) -> None:
        me = beamish.current()

        async def outer() -> tuple[Any, ...]:
            mine = beamish.current()
            inner = await Task.async_(lambda: (beamish.callers(), beamish.ancestors()))
            return beamish.callers(), beamish.ancestors(), inner == ((mine, me), (mine, me)), beamish.dictionary()["$callers"]

        assert await Task.async_(outer) == ((me,), (me,), True, (me,))

    async def test_plain_code_is_no_caller(self) -> None:
        assert await Task.async_(beamish.callers) == ()

    async def test_info_shows_the_function_and_what_it_does(self) -> None:
        task = Task.async_(never)
        assert task.pid is not None
        found = beamish.info(task.pid)
        assert found is not None
        assert found.initial_call == "task_words.never"
        assert found.status == "waiting"
        assert repr(task) == f"<Task task_words.never {task.pid!r} running>"
        await task.shutdown()

    async def test_a_process_function_may_receive(self) -> None:
        async def work() -> Any:
            return await beamish.receive()

        task = Task.async_(work)
        assert task.pid is not None
        beamish.send(task.pid, "hello")
        assert await task == "hello"


class TestTheOthersWaysToStart:
    async def test_start_is_linked_to_nobody(self) -> None:
        done: list[Any] = []

        async def starter() -> None:
            done.append(Task.start(waits, done))
            raise Exit("gone")

        async def waits(seen: list[Any]) -> None:
            seen.append(beamish.ancestors())
            await beamish.receive("go")
            seen.append("done")

        parent, ref = beamish.spawn_monitor(starter)
        assert (await beamish.down(ref)).reason == "gone"
        await settle()
        assert beamish.alive(done[0])
        assert done[1] == (parent,)
        assert beamish.callers(done[0]) == (parent,)
        beamish.send(done[0], "go")
        await beamish.down(done[0])
        assert done[2] == "done"

    async def test_start_link_is_linked_and_begins_in_the_next_turn(self) -> None:
        seen: list[str] = []

        async def starter() -> None:
            pid = Task.start_link(seen.append, "ran")
            seen.append("started")
            found = beamish.info()
            assert found is not None
            assert found.links == (pid,)
            assert (await beamish.down(beamish.monitor(pid))).reason == NORMAL
            Task.start_link(boom)
            await never()

        reason = await died(starter)
        assert seen == ["started", "ran"]
        assert isinstance(reason.error, ValueError)

    async def test_nobody_gets_the_value(self) -> None:
        beamish.current()
        pid = Task.start_link(lambda: 1)
        await beamish.down(pid)
        assert mail() == []

    async def test_of_plain_code_start_link_hangs_on_the_root(self) -> None:
        pid = Task.start_link(boom)
        with capture_crashes():
            assert isinstance((await beamish.down(pid)).reason, Crash)

    async def test_as_a_child_of_a_supervisor_it_is_temporary(self) -> None:
        ran: list[int] = []
        spec = Task.child_spec(ran.append, 1)
        assert (spec.restart, spec.type, spec.shutdown) == ("temporary", "worker", 5.0)
        async with supervise([spec]) as top:
            await settle()
            assert ran == [1]
            assert await top.which_children() == []

    async def test_with_another_restart_type_it_is_restarted(self) -> None:
        runs: list[int] = []

        async def flaky() -> None:
            runs.append(len(runs))
            if len(runs) < 3:
                raise ValueError("again")
            await never()

        with capture_crashes() as reports:
            async with supervise([Task.child_spec(flaky).replace(restart="transient")]) as top:
                await settle()
                assert runs == [0, 1, 2]
                assert beamish.callers((await top.which_children())[0].child) == (top.pid(),)
        assert [one.name for one in reports] == ["beamish.task", "beamish.supervisor"] * 2

    async def test_two_of_one_function_need_ids_of_their_own(self) -> None:
        spec = Task.child_spec(never)
        async with supervise([spec, spec.replace(id="other")]) as top:
            assert [one.id for one in await top.which_children()] == ["other", never]

    async def test_it_is_stopped_with_its_supervisor(self) -> None:
        seen: list[str] = []

        async def work() -> None:
            try:
                await never()
            finally:
                seen.append("cleaned up")

        async with supervise([Task.child_spec(work)]):
            await settle()
        assert seen == ["cleaned up"]

    async def test_a_completed_task_has_no_process(self) -> None:
        task = Task.completed(42)
        assert task.pid is None
        assert task.owner is None
        assert await task == 42
        assert await task.yield_() == Ok(42)
        assert await task.shutdown() == Ok(42)
        assert task.ignore() == Ok(42)

    async def test_the_value_of_a_completed_task_is_mail_until_it_is_awaited(self) -> None:
        beamish.current()
        task = Task.completed("v")
        assert mail() == [Replied(task.ref, "v")]
        assert await task == "v"
        assert mail() == []


class TestAwait:
    @both_roads
    async def test_what_has_ended_can_be_asked_again(self, inline: bool) -> None:
        task = Task.async_(double, 2)
        assert [await task, await task, await task.await_(0)] == [4, 4, 4]
        assert await task.yield_() == Ok(4)
        assert await task.shutdown() == Ok(4)
        with capture_crashes():
            bad = Task.async_(boom)
            for _ in range(2):
                with pytest.raises(TaskExit):
                    await bad

    @both_roads
    async def test_one_that_crashes_raises_with_its_error_as_the_cause(self, inline: bool) -> None:
        for fn in (boom, later_boom):
            with capture_crashes(), pytest.raises(TaskExit, match="it crashed with ValueError: boom") as caught:
                await Task.async_(fn)
            assert isinstance(caught.value.__cause__, ValueError)
            assert isinstance(caught.value.reason, Crash)
            assert "in boom" in caught.value.__notes__[0] or "in later_boom" in caught.value.__notes__[0]
            assert "_task_process" not in caught.value.__notes__[0]

    async def test_one_that_exits_raises_whatever_the_reason_is(self) -> None:
        def leave(reason: Any) -> None:
            raise Exit(reason)

        for reason, text in ((NORMAL, "exited with Normal"), (SHUTDOWN, "was shut down"), ("why", "exited with 'why'")):
            with capture_crashes(), pytest.raises(TaskExit, match=text) as caught:
                await Task.async_(leave, reason)
            assert caught.value.reason == reason

    async def test_one_that_is_killed_raises(self) -> None:
        task = Task.async_(never)
        assert task.pid is not None
        beamish.exit(task.pid, KILL)
        with pytest.raises(TaskExit, match="it was killed") as caught:
            await task
        assert caught.value.reason == KILLED

    async def test_a_cancellation_that_nobody_signalled_is_a_crash(self) -> None:
        async def cancels() -> None:
            raise asyncio.CancelledError

        with capture_crashes(), pytest.raises(TaskExit) as caught:
            await Task.async_(cancels)
        assert isinstance(caught.value.__cause__, asyncio.CancelledError)

    async def test_it_waits_five_seconds_as_in_otp(self, clock: ManualClock) -> None:
        task = Task.async_(never)
        waiting = asyncio.ensure_future(task)
        await clock.advance(4.99)
        assert not waiting.done()
        await clock.advance(0.02)
        with pytest.raises(TaskTimeout, match=r"has no value after 5.0 s.*await_\(timeout=seconds\)"):
            await waiting
        await task.shutdown()

    async def test_none_waits_for_ever(self, clock: ManualClock) -> None:
        go = asyncio.Event()
        task = Task.async_(go.wait)
        waiting = asyncio.create_task(task.await_(None))
        await clock.advance(10_000.0)
        go.set()
        assert await waiting is True

    async def test_a_timeout_leaves_it_running_and_drops_its_late_value(self, clock: ManualClock) -> None:
        async def owner() -> None:
            go = asyncio.Event()
            task = Task.async_(go.wait)
            with pytest.raises(TimeoutError):
                await task.await_(1.0)
            assert task.pid is not None
            assert beamish.alive(task.pid)
            go.set()
            await beamish.down(task.pid)
            assert mail() == []
            with pytest.raises(TaskExit, match="given up") as caught:
                await task
            assert caught.value.reason == NOPROC
            assert await task.yield_() is None
            assert await task.shutdown() == Failed(NORMAL)

        ending = asyncio.create_task(died(owner))
        await clock.advance(1.0)
        assert await ending == NORMAL

    async def test_a_timeout_of_0_takes_what_is_there(self) -> None:
        assert await Task.async_(lambda: 1).await_(0) == 1
        task = Task.async_(never)
        with pytest.raises(CallTimeout):
            await task.await_(0)
        await task.shutdown()

    async def test_a_bad_timeout_is_refused(self) -> None:
        task = Task.async_(never)
        for bad in (-1, "soon", True):
            with pytest.raises(ValueError, match="a timeout is seconds"):
                await task.await_(bad)  # type: ignore[arg-type]
        await task.shutdown()

    async def test_only_its_owner_may_wait(self) -> None:
        task = Task.async_(never)
        asked: list[Any] = []

        async def stranger() -> None:
            for verb in (task.await_, task.yield_, task.shutdown, lambda: Task.await_many([task]), lambda: Task.yield_many([task])):
                with pytest.raises(NotOwner, match=r"belongs to plain asyncio code, and .* asked for"):
                    await verb()
            with pytest.raises(ValueError, match="only its owner gets its value"):
                task.ignore()
            with pytest.raises(NotOwner):
                await task
            asked.append(True)

        assert await died(stranger) == NORMAL
        assert asked
        await task.shutdown()

    async def test_nor_may_another_that_was_adopted(self) -> None:
        beamish.current()
        task = Task.async_(lambda: 1)

        async def other() -> None:
            beamish.current()
            await task

        with pytest.raises(NotOwner):
            await asyncio.create_task(other())
        assert await task == 1

    async def test_nor_another_loop(self) -> None:
        task = Task.async_(lambda: 1)

        async def elsewhere() -> None:
            await task

        with pytest.raises(WrongLoop):
            await asyncio.to_thread(asyncio.run, elsewhere())
        assert await task == 1

    async def test_a_handler_that_awaits_a_task_that_calls_its_server_is_a_deadlock(self) -> None:
        class Careless(GenServer[int]):
            def init(self) -> int:
                beamish.flag(trap_exit=True)
                return 0

            @call
            def get(self, state: int) -> int:
                return state

            @call
            async def at_once(self, state: int) -> Any:
                return await Task.async_(self._soon).yield_()

            async def _soon(self) -> int:
                await asyncio.sleep(0)
                return await self.get()

            @call
            async def before(self, state: int) -> Any:
                task = Task.async_(self.get)
                await asyncio.sleep(0)
                try:
                    await task
                except Deadlock as error:
                    await task.shutdown()
                    return error
                return None

            def handle_info(self, state: int, message: Any) -> None:
                pass

        server = await Careless.start_link()
        with capture_crashes():
            found = await server.at_once()
        assert isinstance(found, Failed)
        assert isinstance(found.reason, Crash)
        assert isinstance(found.reason.error, Deadlock)
        assert isinstance(await server.before(), Deadlock)
        await server.stop()
