"""What an owner that does not wait hears of its tasks, and what the log says of those that crash."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import pytest

import beamish
from beamish import (
    KILL,
    NORMAL,
    SHUTDOWN,
    Crash,
    Down,
    Exit,
    Exited,
    Failed,
    GenServer,
    Replied,
    Supervisor,
    Task,
    call,
    supervise,
)
from beamish.testing import World, capture_crashes, settle
from capturing import events
from conftest import both_roads
from task_words import boom, double, mail, never


async def later_boom() -> None:
    await asyncio.sleep(0)
    raise ValueError("boom")


class TestReports:
    @both_roads
    async def test_a_crash_is_reported_with_what_ran_and_for_whom(self, inline: bool) -> None:
        def work(a: int, *, b: str) -> None:
            raise ValueError("oops")

        me = beamish.current()
        with capture_crashes() as reports, pytest.raises(asyncio.CancelledError):
            await Task.async_(work, 1, b="x" * 1000)
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()
        [report] = reports
        facts = vars(report)
        assert report.name == "beamish.task"
        assert facts["function"] is work
        assert facts["arguments"] == (1,)
        assert facts["starter"] == me
        assert isinstance(facts["reason"], Crash)
        text = report.getMessage()
        assert "started by" in text
        assert "work(1, b=" in text
        assert len(text) < 800
        assert report.exc_info is not None
        assert report.exc_info[2] is not None
        assert report.exc_info[2].tb_frame.f_code.co_name == "work"

    async def test_an_exit_is_reported_too_but_for_clean_reasons(self) -> None:
        def leave(reason: Any) -> None:
            raise Exit(reason)

        with capture_crashes() as reports:
            for reason in (NORMAL, SHUTDOWN, beamish.Shutdown("why"), "bad"):
                await Task.async_(leave, reason).yield_()
        assert [vars(one)["reason"] for one in reports] == ["bad"]

    async def test_an_exit_signal_is_not(self) -> None:
        with capture_crashes() as reports:
            for reason in (KILL, "bad"):
                task = Task.async_(never)
                assert task.pid is not None
                beamish.exit(task.pid, reason)
                await task.yield_()
        assert reports == []

    async def test_a_label_is_shown(self) -> None:
        def work() -> None:
            beamish.set_label("import of users")
            boom()

        with capture_crashes() as reports:
            await Task.async_(work).yield_()
        assert "'import of users'" in reports[0].getMessage()
        assert vars(reports[0])["label"] == "import of users"

    async def test_a_broken_repr_breaks_nothing(self) -> None:
        class Bad:
            def __repr__(self) -> str:
                raise RuntimeError("no")

        def work(_: Bad) -> None:
            boom()

        with capture_crashes() as reports:
            found = await Task.async_(work, Bad()).yield_()
        assert isinstance(found, Failed)
        assert "work(<Bad" in reports[0].getMessage()


class TestMail:
    """An owner that does not wait gets messages."""

    async def test_a_server_has_work_done_without_standing_still(self) -> None:
        class Busy(GenServer[dict[Any, Any]]):
            def init(self) -> dict[Any, Any]:
                beamish.flag(trap_exit=True)
                return {}

            @call
            def begin(self, state: dict[Any, Any], fn: Any) -> None:
                task = Task.async_(fn)
                state[task.ref] = task

            @call
            def results(self, state: dict[Any, Any]) -> list[Any]:
                return state.get("results", [])

            def handle_info(self, state: dict[Any, Any], message: Any) -> None:
                results = state.setdefault("results", [])
                match message:
                    case Replied(ref, value) if ref in state:
                        beamish.demonitor(ref, flush=True)
                        del state[ref]
                        results.append(value)
                    case Down(ref, _, reason) if ref in state:
                        del state[ref]
                        results.append(reason)
                    case Exited():
                        pass
                    case other:
                        results.append(("unexpected", other))

        server = await Busy.start_link()
        with capture_crashes():
            for fn in (lambda: "at once", functools.partial(double, 21), boom, later_boom):
                await server.begin(fn)
            await settle()
        results = await server.results()
        assert sorted(map(repr, results)) == ["'at once'", "42", "Crash(error=ValueError('boom'))", "Crash(error=ValueError('boom'))"]
        await server.stop()

    async def test_value_then_down_and_awaiting_takes_both_back(self) -> None:
        beamish.current()
        task = Task.async_(double, 1)
        await settle()
        found = mail()
        assert [type(one) for one in found] == [Replied, Down]
        assert found[0] == Replied(task.ref, 2)
        assert (found[1].ref, found[1].target, found[1].reason) == (task.ref, task.pid, NORMAL)
        beamish.send(beamish.current(), "mine")
        assert await task == 2
        assert mail() == ["mine"]

    async def test_one_that_is_awaited_in_time_sends_none(self) -> None:
        beamish.current()
        for fn in (lambda: 1, functools.partial(double, 1)):
            await Task.async_(fn)
        await settle()
        assert mail() == []

    async def test_a_demonitored_one_sends_none_and_can_still_be_awaited(self) -> None:
        beamish.current()
        task = Task.async_(double, 1)
        assert beamish.demonitor(task.ref, info=True)
        await settle()
        assert mail() == []
        assert await task == 2

    async def test_a_full_mailbox_does_not_lose_it(self) -> None:
        class Small(GenServer[list[Any]]):
            def init(self) -> list[Any]:
                return []

            @call
            async def work(self, state: list[Any]) -> None:
                Task.async_(lambda: "value")
                for number in range(5):
                    beamish.send(self, number)
                await asyncio.sleep(0)
                await asyncio.sleep(0)

            @call
            def seen(self, state: list[Any]) -> list[Any]:
                return [one.value for one in state if isinstance(one, Replied)]

            def handle_info(self, state: list[Any], message: Any) -> None:
                state.append(message)

        server = await Small.options(max_queue=2).start_link()
        await server.work()
        await settle()
        assert await server.seen() == ["value"]
        await server.stop()

    async def test_an_async_handler_may_await_what_has_ended_already(self) -> None:
        class Patient(GenServer[list[Any]]):
            def init(self) -> list[Any]:
                return []

            @call
            async def work(self, state: list[Any]) -> int:
                task = Task.async_(double, 2)
                for _ in range(5):
                    await asyncio.sleep(0)
                return await task

            @call
            def seen(self, state: list[Any]) -> list[Any]:
                return list(state)

            def handle_info(self, state: list[Any], message: Any) -> None:
                state.append(message)

        server = await Patient.start_link()
        assert await server.work() == 4
        assert await server.seen() == []
        await server.stop()

    async def test_its_down_can_be_awaited_by_its_reference(self) -> None:
        task = Task.async_(double, 1)
        assert (await beamish.down(task.ref)).reason == NORMAL
        assert await task == 2
        other = Task.async_(double, 1)
        await other
        assert (await beamish.down(other.ref)).reason == NORMAL

    async def test_values_are_not_kept_by_the_dead(self) -> None:
        class Big:
            pass

        import gc
        import weakref

        big = Big()
        seen = weakref.ref(big)
        task = Task.async_(lambda it: it, big)
        pid = task.pid
        await task
        del big, task
        gc.collect()
        assert seen() is None
        assert pid is not None


class TestUnderASupervisor:
    async def test_a_servers_task_dies_with_it(self, world: World) -> None:
        class Owner(GenServer[list[Task[None]]]):
            def init(self) -> list[Task[None]]:
                return [Task.async_(never)]

            @call
            def task(self, state: list[Task[None]]) -> Any:
                return state[0].pid

        async with supervise([Owner("owner").child_spec()]) as top:
            pid = await Owner("owner").task()
            assert beamish.alive(pid)
            assert isinstance(top, Supervisor)
        assert not beamish.alive(pid)


class TestEvents:
    async def test_a_task_is_a_process_to_telemetry(self) -> None:
        with events("beamish.process.start", "beamish.process.stop") as heard:
            task = Task.async_(double, 1)
            await task
            pid = Task.start(never)
            beamish.exit(pid, KILL)
        assert [(one.event, one.metadata["pid"], one.metadata.get("reason")) for one in heard] == [
            ("beamish.process.start", task.pid, None),
            ("beamish.process.stop", task.pid, NORMAL),
            ("beamish.process.start", pid, None),
            ("beamish.process.stop", pid, beamish.KILLED),
        ]
