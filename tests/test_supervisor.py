"""Supervisors: starting, restarting, stopping and administering children. The traces of OTP itself are in tests/conformance."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import beamish
from beamish import (
    KILL,
    SHUTDOWN,
    AlreadyPresent,
    AlreadyStarted,
    BadChildSpec,
    ChildCounts,
    ChildSpec,
    Exit,
    FailedToStart,
    GenServer,
    Ignore,
    Killed,
    NotFound,
    Restarting,
    ServerDown,
    Shutdown,
    StartError,
    StillRunning,
    Supervisor,
    SupervisorGaveUp,
    call,
    cast,
    child,
    down,
    supervise,
)  # fmt: skip
from beamish.testing import ManualClock, World, capture_crashes, settle
from conftest import both_roads


class Worker(GenServer[list[str]]):
    """Notes its life in a list that the test gives it."""

    def init(self, log: list[str], name: str = "w", *, trap: bool = True) -> list[str]:
        beamish.flag(trap_exit=trap)
        log.append(f"init {name}")
        return _Note(name, log)

    @call
    def ping(self, state: Any) -> str:
        return "pong"

    @cast
    def crash(self, state: Any, reason: object) -> None:
        raise Exit(reason)

    def terminate(self, state: Any, reason: Any) -> None:
        state.log.append(f"terminate {state.name}")


class _Note(list[str]):
    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log


class Slow(GenServer[int]):
    """Its init takes as long as the event that it is given."""

    async def init(self, ready: asyncio.Event) -> int:
        await ready.wait()
        return 7

    @call
    def get(self, state: int) -> int:
        return state


class Stubborn(GenServer[None]):
    """Will not end when it is asked to."""

    def init(self) -> None:
        beamish.flag(trap_exit=True)

    async def terminate(self, state: None, reason: Any) -> None:
        await asyncio.Event().wait()


def workers(log: list[str], *names: str) -> list[ChildSpec[Worker]]:
    return [Worker(name).child_spec(log, name) for name in names]


@both_roads
class TestStart:
    async def test_children_start_in_order_and_stop_in_reverse(self, world: World) -> None:
        log: list[str] = []
        async with supervise(workers(log, "a", "b", "c")):
            assert log == ["init a", "init b", "init c"]
        assert log[3:] == ["terminate c", "terminate b", "terminate a"]

    async def test_a_child_with_an_async_init_is_waited_for(self, world: World) -> None:
        log: list[str] = []
        ready = asyncio.Event()
        starting = asyncio.ensure_future(Supervisor("s").start_link([Slow("slow").child_spec(ready), *workers(log, "after")]))
        await settle()
        assert log == []
        ready.set()
        sup = await starting
        assert await Slow("slow").get() == 7
        assert log == ["init after"]
        await sup.stop(SHUTDOWN)

    async def test_a_failing_child_takes_back_the_others(self, world: World) -> None:
        class Failing(GenServer[None]):
            def init(self) -> None:
                raise ValueError("no disk")

        log: list[str] = []
        with pytest.raises(StartError) as failed, capture_crashes():
            await Supervisor.start_link([*workers(log, "a", "b"), Failing.child_spec()])
        assert log[2:] == ["terminate b", "terminate a"]
        assert isinstance(failed.value.reason, Shutdown)
        detail = failed.value.reason.detail
        assert isinstance(detail, FailedToStart)
        assert detail.id is Failing

    async def test_any_async_function_may_start_a_child(self, world: World) -> None:
        async def forever() -> None:
            await beamish.receive()

        async def start(what: str) -> Any:
            return beamish.spawn_link(forever)

        async with supervise([child(start, "x", id="plain")]) as sup:
            (info,) = await sup.which_children()
            before = info.child
            assert isinstance(before, beamish.Pid)
            beamish.exit(before, KILL)
            await settle()
            (info,) = await sup.which_children()
            assert info.child != before
            assert info.id == "plain"


@both_roads
class TestRestart:
    async def test_a_slow_child_is_awaited_with_started(self, world: World) -> None:
        ready = asyncio.Event()
        ready.set()
        slow = Slow("slow")
        async with supervise([slow.child_spec(ready)]):
            ready.clear()
            beamish.exit(slow, KILL)
            waiting = asyncio.ensure_future(slow.started())
            await settle()
            assert not waiting.done()
            ready.set()
            assert await (await waiting).get() == 7

    async def test_a_failed_restart_is_tried_again(self, world: World) -> None:
        fails = [0]

        class Moody(GenServer[None]):
            def init(self) -> None:
                if fails[0]:
                    fails[0] -= 1
                    raise ValueError("not yet")

            @call
            def ping(self, state: None) -> str:
                return "pong"

        moody = Moody("moody")
        async with supervise([moody.child_spec()], max_restarts=5):
            fails[0] = 3
            with capture_crashes():
                beamish.exit(moody, "crash")
                await settle()
            assert await moody.ping() == "pong"

    async def test_too_many_restarts_end_the_block(self, world: World) -> None:
        log: list[str] = []
        with capture_crashes(), pytest.raises(SupervisorGaveUp):  # noqa: PT012  # the block is what is tested
            async with supervise(workers(log, "a", "b"), max_restarts=1):
                Worker("a").crash("one")
                await settle()
                Worker("a").crash("two")
                await asyncio.Event().wait()
        assert beamish.whereis("b") is None
        await asyncio.sleep(0)  # the cancellation was taken back: this task goes on

    async def test_a_window_that_has_passed_is_forgotten(self, world: World, clock: ManualClock) -> None:
        log: list[str] = []
        with capture_crashes():
            async with supervise(workers(log, "a"), max_restarts=1, max_seconds=5.0):
                for _ in range(4):
                    Worker("a").crash("now and then")
                    await clock.advance(7.0)
                assert await Worker("a").ping() == "pong"


@both_roads
class TestStop:
    async def test_a_stubborn_child_is_killed_after_its_shutdown_time(self, world: World, clock: ManualClock) -> None:
        sup = await Supervisor("s").start_link([Stubborn("stubborn").child_spec().replace(shutdown=2.0)])
        ending = asyncio.ensure_future(sup.stop(SHUTDOWN))
        with capture_crashes() as reports:
            await clock.advance(1.9)
            assert not ending.done()
            await clock.advance(0.2)
        assert ending.done()
        assert isinstance(reports[-1].reason, Killed)  # type: ignore[attr-defined]

    async def test_brutal_kill_asks_nobody(self, world: World) -> None:
        log: list[str] = []
        async with supervise([Worker("a").child_spec(log, "a").replace(shutdown="brutal_kill")]):
            pass
        assert log == ["init a"]

    async def test_the_supervisors_death_is_its_childrens(self, world: World) -> None:
        log: list[str] = []
        sup = await Supervisor("s").start([Worker("a").child_spec(log, "a"), Worker("b").child_spec(log, "b", trap=False)])
        beamish.exit(sup, KILL)
        await settle()
        assert beamish.whereis("a") is None
        assert beamish.whereis("b") is None
        assert log[2:] == ["terminate a"]


@both_roads
class TestAdministration:
    async def test_the_life_of_a_child(self, world: World) -> None:
        log: list[str] = []
        sup = await Supervisor("s").start_link([])
        a = Worker("a")
        assert await sup.start_child(a.child_spec(log, "a")) == a
        with pytest.raises(AlreadyStarted):
            await sup.start_child(a.child_spec(log, "a"))
        with pytest.raises(StillRunning):
            await sup.delete_child("a")
        with pytest.raises(StillRunning):
            await sup.restart_child("a")
        await sup.terminate_child("a")
        assert [(one.id, one.child) for one in await sup.which_children()] == [("a", None)]
        with pytest.raises(AlreadyPresent):
            await sup.start_child(a.child_spec(log, "a"))
        assert await sup.restart_child("a") == a
        assert await sup.count_children() == ChildCounts(specs=1, active=1, supervisors=0, workers=1)
        await sup.terminate_child("a")
        await sup.delete_child("a")
        for verb in (sup.terminate_child, sup.restart_child, sup.delete_child, sup.get_childspec):
            with pytest.raises(NotFound, match="'a'"):
                await verb("a")
        await sup.stop()

    async def test_a_child_that_ignores_is_kept_without_a_process(self, world: World) -> None:
        class Shy(GenServer[None]):
            def init(self) -> Any:
                return Ignore()

        async with supervise([Shy.child_spec()]) as sup:
            (info,) = await sup.which_children()
            assert info.child is None
            assert await sup.restart_child(Shy) is None

    async def test_a_child_between_two_attempts(self, world: World) -> None:
        ok = [True]

        class Once(GenServer[None]):
            async def init(self) -> None:
                if not ok[0]:
                    raise ValueError("down")

        async with supervise([Once("once").child_spec()], max_restarts=100_000) as sup:
            ok[0] = False
            with capture_crashes():
                beamish.exit("once", KILL)
                await asyncio.sleep(0)
                with pytest.raises(Restarting):
                    await sup.delete_child("once")
                ok[0] = True
                await settle()
            assert beamish.alive("once")

    async def test_a_crash_is_seen_by_who_monitors_the_child(self, world: World) -> None:
        log: list[str] = []
        async with supervise(workers(log, "a")):
            pid = Worker("a").pid()
            assert pid is not None
            ref = beamish.monitor(pid)
            with capture_crashes():
                Worker("a").crash("oops")
                assert (await down(ref)).reason == "oops"


class TestSpecs:
    def test_what_is_wrong_is_said(self) -> None:
        log: list[str] = []
        spec = Worker.child_spec(log)
        for change, text in [
            ({"restart": "always"}, '"permanent", "transient" or "temporary"'),
            ({"shutdown": -1}, "0 or more"),
            ({"shutdown": True}, "seconds"),
            ({"type": "boss"}, '"worker" or "supervisor"'),
            ({"color": "red"}, "has no 'color'"),
        ]:
            with pytest.raises(BadChildSpec, match=text):
                spec.replace(**change)
        with pytest.raises(BadChildSpec, match="async function"):
            ChildSpec("x", "not callable")  # type: ignore[arg-type]

    async def test_a_class_is_not_a_spec(self) -> None:
        with pytest.raises(StartError) as failed, capture_crashes():
            await Supervisor.start_link([Worker])  # type: ignore[list-item]
        assert "Worker.child_spec(" in str(failed.value.__cause__)

    async def test_two_children_of_one_id(self) -> None:
        log: list[str] = []
        with pytest.raises(StartError, match="two children have the id"), capture_crashes():
            await Supervisor.start_link([Worker.child_spec(log), Worker.child_spec(log)])

    async def test_a_caller_that_waits_hears_of_the_crash(self, world: World) -> None:
        class Bad(GenServer[None]):
            @call
            async def never(self, state: None) -> None:
                await asyncio.Event().wait()

        async with supervise([Bad("bad").child_spec()], max_restarts=3):
            waiting = asyncio.ensure_future(Bad("bad").never())
            await settle()
            beamish.exit("bad", "gone")
            with pytest.raises(ServerDown):
                await waiting
