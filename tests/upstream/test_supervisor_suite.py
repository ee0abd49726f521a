"""supervisor_SUITE and supervisor_test.exs: starting and stopping children. See also …_children and …_restarts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import beamish
from beamish import (
    NORMAL,
    SHUTDOWN,
    Application,
    BadChildSpec,
    ChildCounts,
    ChildSpec,
    Crash,
    DynamicSupervisor,
    Exit,
    Exited,
    FailedToStart,
    GenServer,
    Ignore,
    Ignored,
    Killed,
    NotFound,
    Shutdown,
    StartError,
    Stop,
    Supervisor,
    Task,
    Via,
    application,
    call,
    cast,
    child,
    down,
    exit,
    flag,
    receive,
    send,
    spawn,
    unlink,
    whereis,
)
from beamish.testing import ManualClock, World, capture_crashes, settle
from conftest import both_roads
from upstream.words import Book


class Worker(GenServer[Any]):
    """A child that says what its init and its terminate are to do."""

    def init(self, what: Any = None, *, ends: Any = None, log: list[Any] | None = None, name: str = "") -> Any:
        if log is not None:
            log.append(name)
        match what:
            case "ignore":
                return Ignore()
            case "fail":
                raise ValueError("fail")
            case "stop":
                return Stop("reason")
        if ends is not None:
            flag(trap_exit=True)
        return ends

    @call
    def get(self, state: Any) -> Any:
        return state

    @cast
    def leave(self, state: Any, reason: object) -> Stop[Any]:
        return Stop(reason)

    async def terminate(self, state: Any, reason: Any) -> None:
        if isinstance(state, asyncio.Event):
            await state.wait()
        elif state is not None:
            raise Exit(state)


def counts(specs: int, active: int, supervisors: int = 0) -> ChildCounts:
    return ChildCounts(specs, active, supervisors, specs - supervisors)


async def ids(supervisor: Supervisor) -> list[Any]:
    return [(one.id, one.child is not None) for one in await supervisor.which_children()]


@both_roads
class TestStart:
    async def test_normal(self, world: World) -> None:
        """sup_start_normal, start_link/3 (with local, global, via): it runs, and ends with its parent."""

        async def parent(name: Any) -> None:
            await Supervisor(name).start_link([])
            send(tester, "started")
            await receive()

        tester = beamish.current()
        for name in ("sup_test", Via(Book(), "sup_test")):
            pid = spawn(parent, name)
            await receive("started")
            assert await Supervisor(name).which_children() == []
            ref = beamish.monitor(Supervisor(name))
            exit(pid, SHUTDOWN)
            assert (await down(ref)).reason == SHUTDOWN

    async def test_an_init_of_its_own_may_ignore_or_fail(self, world: World) -> None:
        """sup_start_ignore_init, sup_start_error_return, sup_start_fail, start_link/3."""

        class Own(Supervisor):
            async def init(self, what: Any) -> Any:  # type: ignore[override]
                match what:
                    case "ignore":
                        return Ignore()
                    case "stop":
                        return Stop("no")
                    case "fail":
                        raise ValueError("fail")
                    case "rubbish":
                        return beamish.Reply("rubbish")
                return await super().init([Worker("stat_stack").child_spec()])

        flag(trap_exit=True)
        with pytest.raises(Ignored):
            await Own.start_link("ignore")
        assert (await receive(Exited)).reason == NORMAL
        with capture_crashes():
            for what, error in (("stop", None), ("fail", ValueError), ("rubbish", beamish.BadReturn)):
                with pytest.raises(StartError) as failed:
                    await Own.start_link(what)
                reason: Any = failed.value.reason
                assert reason == "no" if error is None else isinstance(reason.error, error)
                assert (await receive(Exited)).reason == reason
        own = await Own.start_link("go")
        assert await Worker("stat_stack").get() is None
        await own.stop()

    async def test_a_child_that_ignores(self, world: World) -> None:
        """sup_start_ignore_child, sup_start_ignore_temporary_child, …_start_child: kept without a process, unless it is temporary."""
        ignores = Worker("ignores").child_spec("ignore")
        passes = ignores.replace(id="temporary", restart="temporary")
        supervisor = await Supervisor.start_link([ignores, passes, Worker("runs").child_spec()])
        assert await ids(supervisor) == [("runs", True), ("ignores", False)]
        assert await supervisor.count_children() == counts(2, 1)
        assert await supervisor.start_child(passes) is None
        assert await supervisor.start_child(ignores.replace(id="later")) is None
        assert await ids(supervisor) == [("later", False), ("runs", True), ("ignores", False)]
        await supervisor.stop()

    @pytest.mark.parametrize("restart", ["permanent", "temporary"])
    async def test_a_dynamic_child_that_ignores(self, world: World, restart: Any) -> None:
        """sup_start_ignore_temporary_child_start_child_simple, …_permanent_…: the spec is not kept."""
        supervisor = await DynamicSupervisor.start_link()
        with pytest.raises(Ignored):
            await supervisor.start_child(Worker.child_spec("ignore").replace(restart=restart))
        await supervisor.start_child(Worker.child_spec().replace(restart=restart))
        assert await supervisor.count_children() == counts(1, 1)
        await supervisor.stop(SHUTDOWN)  # without an error: nothing of the one that ignored is left

    @pytest.mark.parametrize(("what", "reason"), [("stop", "reason"), ("fail", Crash)])
    async def test_a_child_that_fails(self, world: World, what: str, reason: Any) -> None:
        """sup_start_child_returns_error, sup_start_restart_child_returns_error, …_simple."""

        def is_it(found: Any) -> bool:
            return isinstance(found, reason) if isinstance(reason, type) else bool(found == reason)

        flag(trap_exit=True)
        with capture_crashes():
            with pytest.raises(StartError) as failed:
                await Supervisor.start_link([Worker("bad").child_spec(what)])
            assert isinstance(failed.value.reason, Shutdown)
            detail = failed.value.reason.detail
            assert isinstance(detail, FailedToStart)
            assert detail.id == "bad"
            assert is_it(detail.reason)
            assert isinstance((await receive(Exited)).reason, Shutdown)
            outcome: list[Any] = [None]

            async def start() -> Any:
                return await Worker.start_link(outcome[0])

            for supervisor in (await Supervisor.start_link([]), await DynamicSupervisor.start_link()):
                with pytest.raises(StartError) as failed:
                    await supervisor.start_child(Worker("bad").child_spec(what))
                assert is_it(failed.value.reason)
                assert await supervisor.which_children() == []
                await supervisor.stop()
            supervisor = await Supervisor.start_link([child(start, id="later")])
            await supervisor.terminate_child("later")
            outcome[0] = what
            with pytest.raises(StartError) as failed:
                await supervisor.restart_child("later")
            assert is_it(failed.value.reason)
            assert await ids(supervisor) == [("later", False)]
            await supervisor.stop()

    async def test_specs_and_their_defaults(self, world: World) -> None:
        """sup_start_map, init/2 (with old and new child specs), start_link/2 (with old and new specs), child_spec/2."""
        plain: ChildSpec[Any] = ChildSpec("child1", Worker)
        specs = [plain, ChildSpec("child2", Worker, shutdown="brutal_kill"), ChildSpec("child3", Worker, type="supervisor")]
        supervisor = await Supervisor.start_link([*specs, child(Worker.start_link, id="child4"), Worker("child5").child_spec()])
        found = [await supervisor.get_childspec(f"child{n}") for n in (1, 2, 3, 4, 5)]
        assert [(one.restart, one.shutdown, one.type) for one in found] == [
            ("permanent", 5.0, "worker"),
            ("permanent", "brutal_kill", "worker"),
            ("permanent", None, "supervisor"),
            ("permanent", 5.0, "worker"),
            ("permanent", 5.0, "worker"),
        ]
        assert found[0].replace(id="other", restart="transient", shutdown=None) == ChildSpec(
            "other", Worker, restart="transient", shutdown=None
        )
        with pytest.raises(NotFound):
            await supervisor.get_childspec("child6")
        await supervisor.stop()

    async def test_faulty_specs_and_flags(self, world: World) -> None:
        """sup_start_map_faulty_specs, sup_flags, init/2."""
        with pytest.raises(TypeError, match="id"):
            ChildSpec(start=Worker)  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="start"):
            ChildSpec(id="child2")  # type: ignore[call-arg]
        with pytest.raises(BadChildSpec, match="silly_flag"):
            Worker.child_spec().replace(silly_flag=True)
        flag(trap_exit=True)
        with capture_crashes():
            for wrong, text in (
                ({"strategy": "none_for_one"}, "one_for_all"),
                ({"max_restarts": None}, "max_restarts"),
                ({"max_seconds": 0}, "max_seconds"),
                ({"max_seconds": None}, "max_seconds"),
                ({"auto_shutdown": "maybe"}, "auto_shutdown"),
            ):
                with pytest.raises(StartError, match=text):
                    await Supervisor.start_link([], **wrong)
            with pytest.raises(StartError, match="child4"):
                await Supervisor.start_link(["child4"])  # type: ignore[list-item]
            with pytest.raises(StartError, match="silly_flag"):
                await Supervisor.start_link([], silly_flag=True)  # type: ignore[call-arg]

    async def test_an_application_whose_tree_does_not_start(self, world: World) -> None:
        """faulty_application_shutdown: the child's own error is what the start fails with."""

        class Faulty(Application):
            def start(self) -> Any:
                return [Worker("app_faulty").child_spec("fail")]

        with capture_crashes(), pytest.raises(StartError) as failed:
            await application.start(Faulty)
        reason: Any = failed.value.reason
        assert reason.detail.id == "app_faulty"
        assert isinstance(reason.detail.reason.error, ValueError)
        assert application.which_applications() == []


def test_generates_child_spec() -> None:
    """generates child_spec/1 of a Supervisor, and what is no child (child_spec/2)."""

    class Sup(Supervisor): ...

    class Custom(Supervisor, restart="temporary"): ...

    spec = Sup.child_spec(["hello"])  # type: ignore[list-item]
    assert (spec.id, spec.start, spec.args, spec.type, spec.restart, spec.shutdown) == (
        Sup,
        Sup,
        (["hello"],),
        "supervisor",
        "permanent",
        None,
    )
    spec = Custom("id").child_spec([])
    assert (spec.id, spec.type, spec.restart) == ("id", "supervisor", "temporary")
    assert Task.child_spec(len, []).restart == "temporary"


@both_roads
class TestStop:
    """sup_stop_…: every child by its own shutdown, the supervisor waits for all."""

    async def stop(self, world: World, kind: Any, specs: list[ChildSpec[Any]], clock: ManualClock, seconds: float) -> list[Any]:
        """What the children end with, `seconds` after the supervisor is told to stop; it has ended then, too."""
        flag(trap_exit=True)
        supervisor = await kind.start_link()
        refs = [beamish.monitor(await supervisor.start_child(spec)) for spec in specs]
        stopping = asyncio.ensure_future(supervisor.stop(SHUTDOWN))
        await clock.advance(seconds)
        await stopping
        return [(await down(ref)).reason for ref in refs]

    @pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
    @pytest.mark.parametrize("type", ["worker", "supervisor"])
    async def test_infinity(self, world: World, clock: ManualClock, kind: Any, type: Any) -> None:
        flag(trap_exit=True)
        gate = asyncio.Event()
        supervisor = await kind.start_link()
        spec = Worker.child_spec(ends=gate).replace(shutdown=None, type=type)
        ref = beamish.monitor(await supervisor.start_child(spec))
        stopping = asyncio.ensure_future(supervisor.stop(SHUTDOWN))
        await clock.advance(1_000_000.0)
        assert not stopping.done()
        gate.set()
        await stopping
        assert (await down(ref)).reason == SHUTDOWN

    @pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
    async def test_timeout(self, world: World, clock: ManualClock, kind: Any) -> None:
        specs = [Worker.child_spec().replace(shutdown=1.0, id=1), Worker.child_spec(ends=asyncio.Event()).replace(shutdown=1.0, id=2)]
        with capture_crashes():
            assert await self.stop(world, kind, specs, clock, 1.0) == [SHUTDOWN, Killed()]

    @pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
    async def test_brutal_kill(self, world: World, clock: ManualClock, kind: Any) -> None:
        specs = [Worker.child_spec().replace(shutdown=1.0, id=0)]
        specs += [Worker.child_spec(ends=asyncio.Event()).replace(shutdown="brutal_kill", id=n) for n in range(1, 10)]
        with capture_crashes() as reports:
            assert await self.stop(world, kind, specs, clock, 0.0) == [SHUTDOWN] + [Killed()] * 9
        assert reports == []

    @pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
    async def test_reasons_of_their_own(self, world: World, clock: ManualClock, kind: Any) -> None:
        """sup_stop_non_shutdown_exit_dynamic: the supervisor itself ends with SHUTDOWN all the same; what is wrong is reported."""
        reasons = [NORMAL, SHUTDOWN, Shutdown("test"), "other"]
        every = [(restart, reason) for restart in ("temporary", "transient", "permanent") for reason in reasons]
        specs = [Worker.child_spec(ends=reason).replace(id=n, restart=restart) for n, (restart, reason) in enumerate(every)]
        with capture_crashes() as reports:
            assert await self.stop(world, kind, specs, clock, 0.0) == [reason for _, reason in every]
        told: list[Any] = [one for one in reports if one.name == "beamish.supervisor"]
        wrong = [(r, why) for r, why in every if why == "other" or (r == "permanent" and why != SHUTDOWN)]
        assert sorted((one.restart, repr(one.reason)) for one in told) == sorted((r, repr(why)) for r, why in wrong)

    async def test_children_that_end_by_themselves_meanwhile(self, world: World) -> None:
        """sup_stop_race: the last child takes its time, and the others leave before they are told to."""
        flag(trap_exit=True)
        supervisor, gate = await Supervisor.start_link([]), asyncio.Event()
        reasons = [NORMAL, SHUTDOWN, Shutdown("test"), "other"]
        every = [(restart, reason) for restart in ("temporary", "transient", "permanent") for reason in reasons]
        workers = [await supervisor.start_child(Worker.child_spec().replace(id=n, restart=r)) for n, (r, _) in enumerate(every)]
        refs = [beamish.monitor(worker) for worker in workers]
        await supervisor.start_child(Worker.child_spec(ends=gate).replace(id="z"))
        with capture_crashes():
            stopping = asyncio.ensure_future(supervisor.stop(SHUTDOWN))
            await settle()
            for worker, (_, reason) in zip(workers, every, strict=True):
                worker.leave(reason)
            await settle()
            assert not stopping.done()
            gate.set()
            await stopping
        assert [(await down(ref)).reason for ref in refs] == [reason for _, reason in every]
        assert (await receive(Exited)).reason == SHUTDOWN

    async def test_a_child_that_unlinks_itself_hangs_nobody(self, world: World) -> None:
        """child_unlink."""

        class Naughty(Worker):
            @call
            def leave_alone(self, state: Any, whom: Any) -> None:
                unlink(whom)

        supervisor = await Supervisor.start_link([])
        naughty: Any = await supervisor.start_child(Naughty("naughty_child").child_spec())
        await naughty.leave_alone(supervisor)
        ending = asyncio.ensure_future(supervisor.terminate_child("naughty_child"))
        with capture_crashes():
            send(supervisor, "foo")
            await ending
            assert whereis("naughty_child") is None
            assert await ids(supervisor) == [("naughty_child", False)]
        await supervisor.stop()
