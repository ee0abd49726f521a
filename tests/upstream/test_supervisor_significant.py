"""supervisor_SUITE: supervisors that end with their significant children."""

from __future__ import annotations

from typing import Any

import pytest

import beamish
from beamish import (
    NORMAL,
    SHUTDOWN,
    ChildSpec,
    DynamicSupervisor,
    Exited,
    GenServer,
    Shutdown,
    Stop,
    Supervisor,
    call,
    cast,
    flag,
    receive,
    whereis,
)
from beamish.testing import World, capture_crashes, settle
from conftest import both_roads

pytestmark = both_roads


class Worker(GenServer[str]):
    def init(self, name: str = "") -> str:
        return name

    @call
    def get(self, state: str) -> str:
        return state

    @cast
    def leave(self, state: str, reason: object) -> Stop[Any]:
        return Stop(reason)


def workers(*names: str) -> list[ChildSpec[Any]]:
    return [Worker(name).child_spec(name) for name in names]


def pids(*names: str) -> list[Any]:
    return [whereis(name) for name in names]


async def end(name: str, reason: object = "abnormal") -> None:
    with capture_crashes():
        Worker(name).leave(reason)
        await settle()


async def ended(supervisor: Any) -> object:
    """What the supervisor ended with, whom this process is linked to."""
    message: Any = await receive(lambda one: isinstance(one, Exited), timeout=0)
    assert supervisor.pid() is None
    return message.reason


REASONS = [NORMAL, SHUTDOWN, Shutdown("some_info"), "abnormal"]


async def tree(auto_shutdown: Any, **restarts: str) -> Supervisor:
    """Children a and b, significant where they have a restart type here, and c, which is not."""
    flag(trap_exit=True)
    specs = [one.replace(restart=restarts[one.id], significant=True) if one.id in restarts else one for one in workers("a", "b", "c")]
    return await Supervisor.start_link(specs, auto_shutdown=auto_shutdown)


@pytest.mark.parametrize("restart", ["temporary", "transient"])
@pytest.mark.parametrize("auto_shutdown", ["never", "any_significant", "all_significant"])
async def test_insignificant_children_end_nothing(world: World, restart: Any, auto_shutdown: Any) -> None:
    """nonsignificant_temporary, nonsignificant_transient."""
    specs = [one.replace(restart=restart) for one in workers("a", "b")]
    supervisor = await Supervisor.start_link(specs, auto_shutdown=auto_shutdown)
    await end("a", NORMAL)
    assert await Worker("b").get() == "b"
    await supervisor.terminate_child("b")
    assert beamish.alive(supervisor)
    await supervisor.stop()


@pytest.mark.parametrize("reason", REASONS, ids=["normal", "shutdown", "shutdown_info", "abnormal"])
@pytest.mark.parametrize("restart", ["temporary", "transient"])
async def test_the_first_and_the_last_significant_child(world: World, restart: str, reason: object) -> None:
    """significant_temporary, significant_transient: any_significant ends with the first that leaves, all_significant with the last."""
    leaves = restart == "temporary" or reason != "abnormal"
    supervisor = await tree("any_significant", a=restart, b=restart)
    await end("a", reason)
    if leaves:
        assert await ended(supervisor) == SHUTDOWN
    else:
        assert None not in pids("a", "b", "c")
        await supervisor.stop()
        await ended(supervisor)
    supervisor = await tree("all_significant", a=restart, b=restart)
    await end("a", reason)
    assert await Worker("c").get() == "c"
    await end("b", reason)
    if not leaves:
        assert None not in pids("a", "b", "c")
        await supervisor.stop()
    assert await ended(supervisor) == (SHUTDOWN if leaves else NORMAL)
    assert pids("a", "b", "c") == [None] * 3


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
async def test_a_significant_bystander(world: World, strategy: Any) -> None:
    """significant_bystander: one that is ended because of a sibling has not left by itself, though it does not come back."""
    flag(trap_exit=True)
    a, b, c = workers("a", "b", "c")
    specs = [a, b.replace(restart="temporary", significant=True), c.replace(restart="transient", significant=True)]
    supervisor = await Supervisor.start_link(specs, strategy=strategy, auto_shutdown="any_significant")
    await end("a")
    assert pids("b") == [None]
    assert None not in pids("a", "c")
    await end("c", NORMAL)
    assert await ended(supervisor) == SHUTDOWN


async def test_significance_climbs(world: World) -> None:
    """significant_escalation."""
    flag(trap_exit=True)
    (a,) = workers("a")
    inner = Supervisor("inner").child_spec([a.replace(restart="transient", significant=True)], auto_shutdown="any_significant")
    outer = Supervisor("outer").child_spec(
        [inner.replace(restart="transient", significant=True), *workers("b")], auto_shutdown="all_significant"
    )
    top = await Supervisor.start_link(
        [outer.replace(restart="temporary", significant=True), *workers("c")], auto_shutdown="any_significant"
    )
    await end("a", NORMAL)
    assert await ended(top) == SHUTDOWN
    assert pids("a", "b", "c", "inner", "outer") == [None] * 5


async def test_dynamic_children_are_never_significant(world: World) -> None:
    """significant_simple: simple_one_for_one may have them in OTP; a DynamicSupervisor, as Elixir's, may not."""
    supervisor = await DynamicSupervisor.start_link()
    with pytest.raises(beamish.BadChildSpec, match="significant"):
        await supervisor.start_child(Worker.child_spec().replace(restart="temporary", significant=True))
    await supervisor.stop()
