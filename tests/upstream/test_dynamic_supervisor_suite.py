"""dynamic_supervisor_test.exs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import beamish
from beamish import (
    NORMAL,
    SHUTDOWN,
    AlreadyStarted,
    BadChildSpec,
    ChildCounts,
    ChildSpec,
    Crash,
    DynamicSupervisor,
    Exit,
    Exited,
    Ignored,
    Killed,
    MaxChildren,
    NotFound,
    Registry,
    Shutdown,
    StartError,
    Supervisor,
    Task,
    Via,
    child,
    down,
    exit,
    flag,
    info,
    receive,
    spawn_link,
    whereis,
)
from beamish.testing import ManualClock, World, capture_crashes, settle
from conftest import both_roads

pytestmark = both_roads


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with capture_crashes():
        yield


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def start(how: str) -> Any:
    """A start function with every outcome."""
    match how:
        case "ok":
            return spawn_link(forever)
        case "ok with more":
            return spawn_link(forever), "extra"
        case "ignore":
            raise Ignored
        case "error":
            raise StartError("found")
        case "raise":
            raise RuntimeError("oops")
        case "exit":
            raise Exit("oops")
    return how


def restarting(how: str) -> ChildSpec[Any]:
    """A child that starts, and at each restart does what `how` says."""
    started: list[str] = []

    async def start_or_not() -> Any:
        if not started:
            started.append(how)
            return spawn_link(forever)
        return await start(how)

    return child(start_or_not)


def sleepy(restart: Any = "permanent", **changes: Any) -> ChildSpec[Any]:
    return child(start, "ok").replace(restart=restart, **changes)


def leaving(reason: object) -> Callable[[], Any]:
    """A start function of processes that trap, and end with `reason` when they are told to end. None: that do not end."""

    async def leaves(ready: asyncio.Event) -> None:
        flag(trap_exit=True)
        ready.set()
        await receive(Exited)
        if reason is None:
            await forever()
        raise Exit(reason)

    async def started() -> Any:
        ready = asyncio.Event()
        pid = spawn_link(leaves, ready)
        await ready.wait()
        return pid

    return started


async def kill(target: Any, reason: object) -> None:
    """End a process, and wait until it has ended; what its supervisor does then is done before it answers anybody."""
    ref = beamish.monitor(target)
    exit(target, reason)
    await down(ref)


async def counts(supervisor: DynamicSupervisor) -> tuple[int, int]:
    found = await supervisor.count_children()
    return found.workers, found.active


async def stopped(supervisor: DynamicSupervisor, children: list[Any]) -> list[object]:
    """What the children end with when the supervisor is told to end by a signal, as its own supervisor does it."""
    refs = [beamish.monitor(one) for one in children]
    flag(trap_exit=True)
    exit(supervisor, SHUTDOWN)
    reasons = [(await down(ref)).reason for ref in refs]
    assert (await receive(Exited)).reason == SHUTDOWN
    return reasons


# --- in a tree --------------------------------------------------------------------------------------------------------


async def test_can_be_supervised_directly(world: World) -> None:
    await world.start_supervised(DynamicSupervisor("dyn_sup_spec_test").child_spec())
    assert await DynamicSupervisor("dyn_sup_spec_test").which_children() == []


async def test_several_are_told_apart_by_their_names(world: World) -> None:
    registry = await world.start_supervised(Registry[str, None]("DynSup.Registry").child_spec(keys="unique"))
    addresses = [DynamicSupervisor("simple_name"), DynamicSupervisor(Via(registry, "via_name"))]
    top = await Supervisor.start_link([one.child_spec() for one in addresses])
    anonymous: DynamicSupervisor = await top.start_child(DynamicSupervisor.child_spec())
    for one in (*addresses, anonymous):
        assert await one.which_children() == []
    with pytest.raises(AlreadyStarted) as there:
        await top.start_child(DynamicSupervisor.child_spec())
    assert there.value.address == anonymous
    await top.stop()


async def test_child_specs(world: World) -> None:
    """use/2 generates child_spec/1, init/1 set default options."""

    class Simple(DynamicSupervisor): ...

    class Custom(DynamicSupervisor, restart="temporary", shutdown=3.0): ...

    spec = Simple.child_spec(max_children=1)
    assert (spec.id, spec.start, spec.kwargs, spec.type) == (Simple, Simple, {"max_children": 1}, "supervisor")
    assert (spec.restart, spec.shutdown) == ("permanent", None)
    spec = Custom.child_spec().replace(id="id")
    assert (spec.id, spec.restart, spec.shutdown, spec.type) == ("id", "temporary", 3.0, "supervisor")


async def test_default_options(world: World) -> None:
    """init/1 set default options: three restarts in five seconds, no bound, no arguments."""
    flag(trap_exit=True)
    supervisor = await DynamicSupervisor.start_link()
    children = [await supervisor.start_child(sleepy()) for _ in range(100)]
    for one in children[:3]:
        await kill(one, "boom")
    assert await counts(supervisor) == (100, 100)
    await kill(children[3], "boom")
    assert (await receive(Exited)).reason == SHUTDOWN


async def test_options_that_can_not_work(world: World) -> None:
    """start_link/3 with non-ok init."""
    flag(trap_exit=True)
    flags: list[dict[str, Any]] = [
        {"strategy": "unknown"},
        {"max_restarts": -1},
        {"max_seconds": 0},
        {"max_children": -1},
        {"extra_arguments": -1},
    ]
    for wrong in flags:
        (name,) = wrong
        with pytest.raises(StartError) as failed:
            await DynamicSupervisor.start_link(**wrong)
        assert isinstance(failed.value.reason, Crash)
        if name != "extra_arguments":
            assert name in str(failed.value)
    with pytest.raises(StartError, match="auto_shutdown"):
        await DynamicSupervisor.start_link(auto_shutdown="any_significant")  # type: ignore[call-arg]


async def test_with_a_name(world: World) -> None:
    """start_link/3 with registered process, sets initial call."""

    async def me() -> list[Any]:
        found = info(beamish.current())
        assert found is not None
        return list(found.links)

    supervisor = await DynamicSupervisor("a name").start_link()
    flag(trap_exit=True)
    beamish.link(supervisor)
    assert supervisor.pid() in await me()
    assert whereis("a name") == supervisor.pid()
    found = info(supervisor)
    assert found is not None
    assert found.initial_call == "DynamicSupervisor.init"
    await supervisor.stop()
    assert whereis("a name") is None


async def test_changed_options(world: World) -> None:
    """code_change/3: with ok init, with non-ok init. What a class of one's own makes of a new version is its state."""

    class Growing(DynamicSupervisor):
        def code_change(self, state: Any, version: Any, extra: Any) -> Any:
            if extra < 0:
                raise ValueError(extra)
            state.max_children = extra
            return state

    supervisor = await Growing.start_link()
    await supervisor.start_child(sleepy())
    await beamish.sys.suspend(supervisor)
    with pytest.raises(ValueError, match="-1"):
        await beamish.sys.change_code(supervisor, 123, -1)
    await beamish.sys.change_code(supervisor, 123, 1)
    await beamish.sys.resume(supervisor)
    assert await counts(supervisor) == (1, 1)
    with pytest.raises(MaxChildren):
        await supervisor.start_child(sleepy())
    await supervisor.stop()


# --- start_child/2 ----------------------------------------------------------------------------------------------------


class TestStartChild:
    async def test_every_form_of_a_spec(self, world: World) -> None:
        """supports old child spec, supports new child spec (as tuple)."""
        supervisor = await DynamicSupervisor.start_link()
        for spec in (Task.child_spec(forever), child(start, "ok"), ChildSpec("any id", start, ("ok",)), sleepy(id="any id")):
            assert beamish.alive(await supervisor.start_child(spec))
        assert await counts(supervisor) == (4, 4)
        await supervisor.stop()

    async def test_extra_arguments(self, world: World) -> None:
        """supports extra arguments, restarting a child with extra_arguments successfully restarts child."""
        told: list[Any] = []

        async def noting(*args: Any) -> Any:
            told.append(args)
            return spawn_link(forever)

        supervisor = await DynamicSupervisor.start_link(extra_arguments=("extra",))
        pid = await supervisor.start_child(child(noting, 1).replace(restart="transient"))
        assert told == [("extra", 1)]
        await kill(pid, "oops")
        await settle()
        assert told == [("extra", 1)] * 2
        assert await counts(supervisor) == (1, 1)
        await supervisor.stop()

    async def test_an_invalid_child_spec(self, world: World) -> None:
        """with invalid child spec, with invalid valid shutdown: refused before anybody is asked."""
        nobody = DynamicSupervisor("not_used")
        refused: tuple[Any, ...] = ({}, (1, 2, 3, 4, 5, 6), "other", None)
        for wrong in refused:
            with pytest.raises(BadChildSpec):
                await nobody.start_child(wrong)
        with pytest.raises(BadChildSpec, match="bar"):
            ChildSpec("1", "bar")  # type: ignore[arg-type]
        with pytest.raises(BadChildSpec, match="-1"):
            sleepy(shutdown=-1)
        with pytest.raises(BadChildSpec, match="significant"):
            await nobody.start_child(sleepy("temporary", significant=True))

    async def test_different_returns(self, world: World) -> None:
        """with different returns, with throw/error/exit."""
        supervisor = await DynamicSupervisor.start_link()
        assert (await supervisor.start_child(child(start, "ok with more")))[1:] == ("extra",)
        assert beamish.alive(await supervisor.start_child(child(start, "ok")))
        with pytest.raises(Ignored):
            await supervisor.start_child(child(start, "ignore"))
        for how, reason in (("error", "found"), ("exit", "oops"), ("raise", RuntimeError), ("unknown", beamish.BadReturn)):
            with pytest.raises(StartError) as failed:
                await supervisor.start_child(child(start, how))
            found: Any = failed.value.reason
            assert isinstance(found.error, reason) if isinstance(reason, type) else found == reason
        assert await counts(supervisor) == (2, 2)
        await supervisor.stop()

    async def test_max_children(self, world: World) -> None:
        supervisor = await DynamicSupervisor.start_link(max_children=0)
        with pytest.raises(MaxChildren):
            await supervisor.start_child(sleepy())
        await supervisor.stop()

    @pytest.mark.parametrize(("restart", "left"), [("temporary", [0, 0, 0, 0]), ("transient", [0, 0, 0, 1]), ("permanent", [1, 2, 3, 4])])
    async def test_restart_types(self, world: World, restart: Any, left: list[int]) -> None:
        """temporary child is not restarted, transient child is restarted unless …, permanent child is restarted regardless."""
        supervisor = await DynamicSupervisor.start_link(max_restarts=100_000)
        for reason, rest in zip((NORMAL, SHUTDOWN, Shutdown("signal"), "whatever"), left, strict=True):
            pid = await supervisor.start_child(child(leaving(reason)).replace(restart=restart))
            await kill(pid, "leave")
            assert await counts(supervisor) == (rest, rest)
        await supervisor.stop()

    @pytest.mark.parametrize(
        ("how", "left"), [("ok", (1, 1)), ("ok with more", (1, 1)), ("ignore", (0, 0)), ("error", (1, 0)), ("unknown", (1, 0))]
    )
    async def test_restarts_with_different_values(self, world: World, how: str, left: tuple[int, int]) -> None:
        """child is restarted with different values."""
        supervisor = await DynamicSupervisor.start_link(max_restarts=100_000)
        pid = await supervisor.start_child(restarting(how))
        (one,) = await supervisor.which_children()
        assert (one.id, one.child, one.type) == (None, pid, "worker")
        await kill(pid, SHUTDOWN)
        assert await counts(supervisor) == left
        found = [one.child for one in await supervisor.which_children()]
        assert ("restarting" in found) == (left == (1, 0))
        assert pid not in found
        await supervisor.stop()

    @pytest.mark.parametrize(("how", "active"), [("error", 0), ("ok", 1)])
    async def test_those_that_restart_count_for_max_children(self, world: World, how: str, active: int) -> None:
        """restarting on init children counted in max_children, restarting on exit children counted in max_children."""
        supervisor = await DynamicSupervisor.start_link(max_children=1, max_restarts=100_000)
        await kill(await supervisor.start_child(restarting(how)), SHUTDOWN)
        assert await counts(supervisor) == (1, active)
        with pytest.raises(MaxChildren):
            await supervisor.start_child(sleepy())
        await supervisor.stop()

    async def test_a_restart_that_is_tried_again(self, world: World) -> None:
        """child is restarted when trying again."""
        tried: list[bool] = []

        async def every_other() -> Any:
            tried.append(not tried or not tried[-1])
            if tried[-1]:
                return spawn_link(forever)
            raise StartError("try_again")

        supervisor = await DynamicSupervisor.start_link(max_restarts=2)
        await kill(await supervisor.start_child(child(every_other)), SHUTDOWN)
        await settle()
        assert tried == [True, False, True]
        assert await counts(supervisor) == (1, 1)
        await supervisor.stop()

    @pytest.mark.parametrize("max_restarts", [1, 10])
    async def test_restarts_that_are_too_many(self, world: World, max_restarts: int) -> None:
        """child triggers maximum restarts, child triggers maximum intensity when trying again."""
        flag(trap_exit=True)
        supervisor = await DynamicSupervisor.start_link(max_restarts=max_restarts)
        await kill(await supervisor.start_child(restarting("error")), SHUTDOWN)
        assert (await receive(Exited)).reason == SHUTDOWN

    async def test_valid_shutdowns(self, world: World) -> None:
        """with valid shutdown."""
        supervisor = await DynamicSupervisor.start_link()
        for shutdown in (0, 0.0, 1, 1.5, None, "brutal_kill"):
            pid = await supervisor.start_child(sleepy(shutdown=shutdown))
            ref = beamish.monitor(pid)
            await supervisor.terminate_child(pid)
            assert (await down(ref)).reason == (Killed() if shutdown in (0, "brutal_kill") else SHUTDOWN)
        await supervisor.stop()


# --- terminate/2 ------------------------------------------------------------------------------------------------------


class TestTerminate:
    @pytest.mark.parametrize(("shutdown", "reason"), [("brutal_kill", Killed()), (None, SHUTDOWN), (1.0, SHUTDOWN)])
    async def test_of_children_of_a_kind(self, world: World, shutdown: Any, reason: object) -> None:
        """terminates children with brutal kill, with infinity shutdown, with integer shutdown."""
        flag(trap_exit=True)
        supervisor = await DynamicSupervisor.start_link()
        children = [await supervisor.start_child(sleepy(shutdown=shutdown)) for _ in range(3)]
        assert await stopped(supervisor, children) == [reason] * 3

    @pytest.mark.parametrize("shutdown", [None, 1.0])
    @pytest.mark.parametrize(("restart", "reason"), [("temporary", Shutdown("oops")), ("temporary", "oops"), ("permanent", NORMAL)])
    async def test_of_children_with_reasons_of_their_own(self, world: World, shutdown: Any, restart: Any, reason: object) -> None:
        """… infinity shutdown and abnormal reason, integer shutdown and abnormal reason, permanent restart and normal reason."""
        flag(trap_exit=True)
        supervisor = await DynamicSupervisor.start_link()
        spec = child(leaving(reason)).replace(shutdown=shutdown, restart=restart)
        children = [await supervisor.start_child(spec) for _ in range(3)]
        assert await stopped(supervisor, children) == [reason] * 3

    async def test_of_a_child_that_takes_too_long(self, world: World, clock: ManualClock) -> None:
        """terminates children with expired integer shutdown."""

        flag(trap_exit=True)
        supervisor = await DynamicSupervisor.start_link()
        specs = [sleepy(shutdown=0.001), child(leaving(None)).replace(shutdown=0.001), sleepy(shutdown=0.001)]
        refs = [beamish.monitor(await supervisor.start_child(spec)) for spec in specs]
        exit(supervisor, SHUTDOWN)
        await settle()
        await clock.advance(0.001)
        assert [(await down(ref)).reason for ref in refs] == [SHUTDOWN, Killed(), SHUTDOWN]

    async def test_of_mixed_children(self, world: World) -> None:
        """terminates with mixed children."""
        flag(trap_exit=True)
        supervisor = await DynamicSupervisor.start_link()
        children = [await supervisor.start_child(sleepy(shutdown=shutdown)) for shutdown in (None, "brutal_kill")]
        assert await stopped(supervisor, children) == [SHUTDOWN, Killed()]


class TestTerminateChild:
    @pytest.mark.parametrize(("shutdown", "reason"), [("brutal_kill", Killed()), (1.0, SHUTDOWN)])
    async def test_that_runs(self, world: World, shutdown: Any, reason: object) -> None:
        """terminates child with brutal kill, with integer shutdown."""
        supervisor = await DynamicSupervisor.start_link()
        pid = await supervisor.start_child(sleepy(shutdown=shutdown))
        ref = beamish.monitor(pid)
        await supervisor.terminate_child(pid)
        assert (await down(ref)).reason == reason
        with pytest.raises(NotFound):
            await supervisor.terminate_child(pid)
        assert await supervisor.count_children() == ChildCounts(0, 0, 0, 0)
        await supervisor.stop()

    async def test_that_is_being_restarted(self, world: World) -> None:
        """terminates restarting child."""
        supervisor = await DynamicSupervisor.start_link(max_restarts=100_000)
        pid = await supervisor.start_child(restarting("error"))
        await kill(pid, SHUTDOWN)
        assert await counts(supervisor) == (1, 0)
        await supervisor.terminate_child(pid)
        with pytest.raises(NotFound):
            await supervisor.terminate_child(pid)
        assert await supervisor.count_children() == ChildCounts(0, 0, 0, 0)
        await supervisor.stop()
