"""Supervisors that end with their significant children, and supervisors with a class of their own."""

from __future__ import annotations

from typing import Any

import pytest
from tests.conftest import both_roads

from beamish import (
    NORMAL,
    SHUTDOWN,
    BadChildSpec,
    ChildSpec,
    Exited,
    GenServer,
    StartError,
    Supervisor,
    SupervisorGaveUp,
    call,
    flag,
    link,
    receive,
    supervise,
)
from beamish.testing import World, capture_crashes, settle


class Worker(GenServer[None]):
    def init(self, ended: list[str] | None = None, name: str = "") -> None:
        flag(trap_exit=True)
        if ended is not None:
            self.own(lambda: ended.append(name))

    @call
    def ping(self, state: None) -> str:
        return "pong"


def significant(name: str, restart: str, ended: list[str] | None = None) -> ChildSpec[Any]:
    return Worker(name).child_spec(ended, name).replace(restart=restart, significant=True)


async def start(children: list[ChildSpec[Any]], auto_shutdown: Any) -> Supervisor:
    flag(trap_exit=True)
    top = await Supervisor.start_link(children, auto_shutdown=auto_shutdown)
    link(top)
    return top


@both_roads
@pytest.mark.parametrize(
    ("restart", "reason"), [("transient", NORMAL), ("transient", SHUTDOWN), ("temporary", NORMAL), ("temporary", "boom")]
)
async def test_the_first_significant_child_that_leaves_ends_it(world: World, restart: str, reason: object) -> None:
    ended: list[str] = []
    specs = [Worker("a").child_spec(ended, "a"), significant("b", restart, ended), Worker("c").child_spec(ended, "c")]
    await start(specs, "any_significant")
    with capture_crashes():
        await Worker("b").stop(reason)
        assert (await receive(Exited)).reason == SHUTDOWN
    assert ended == ["b", "c", "a"]


@both_roads
async def test_a_significant_child_that_is_restarted_ends_nothing(world: World) -> None:
    top = await start([significant("a", "transient")], "any_significant")
    with capture_crashes():
        await Worker("a").stop("boom")
        assert await (await Worker("a").started()).ping() == "pong"
    await top.stop()
    await receive(Exited)


@both_roads
async def test_the_last_significant_child_that_leaves_ends_it(world: World) -> None:
    await start([significant("a", "temporary"), significant("b", "transient"), Worker("c").child_spec()], "all_significant")
    await Worker("b").stop()
    await settle()
    assert await Worker("c").ping() == "pong"
    await Worker("a").stop()
    assert (await receive(Exited)).reason == SHUTDOWN


@both_roads
async def test_what_the_supervisor_itself_stops_ends_nothing(world: World) -> None:
    top = await start([significant("a", "transient"), significant("b", "temporary")], "any_significant")
    await top.terminate_child("a")
    await top.terminate_child("b")
    await settle()
    assert (await top.count_children()).specs == 1
    await top.stop()
    await receive(Exited)


@both_roads
async def test_it_climbs(world: World) -> None:
    inner = Supervisor("inner").child_spec([significant("a", "transient")], auto_shutdown="any_significant")
    await start([inner.replace(restart="transient", significant=True), Worker("b").child_spec()], "any_significant")
    await Worker("a").stop()
    assert (await receive(Exited)).reason == SHUTDOWN
    assert Worker("b").pid() is None


async def test_wrong_combinations_are_refused_where_they_are_made(world: World) -> None:
    with pytest.raises(BadChildSpec, match="permanent"):
        Worker.child_spec().replace(significant=True)
    top = await world.start_supervised(Supervisor("top").child_spec([]))
    with pytest.raises(BadChildSpec, match="any_significant"):
        await top.start_child(significant("a", "transient"))
    flag(trap_exit=True)
    with capture_crashes():
        with pytest.raises(StartError, match="any_significant"):
            await Supervisor.start_link([significant("a", "transient")])
        with pytest.raises(StartError, match="auto_shutdown must be"):
            await Supervisor.start_link([], auto_shutdown="sometimes")  # type: ignore[arg-type]


async def test_a_supervise_block_ends_with_its_significant_child(world: World) -> None:
    async def block() -> None:
        async with supervise([significant("a", "transient")], auto_shutdown="any_significant"):
            await Worker("a").stop()
            await receive()

    with pytest.raises(SupervisorGaveUp):
        await block()


class Shop(Supervisor):
    async def init(self, first: str, second: str) -> Any:  # type: ignore[override]
        return await super().init([Worker(first).child_spec(), Worker(second).child_spec()], strategy="one_for_all")


@both_roads
async def test_a_supervisor_with_a_class_and_arguments_of_its_own(world: World) -> None:
    spec = Shop("shop").child_spec("a", "b")
    assert (spec.id, spec.type, spec.shutdown) == ("shop", "supervisor", None)
    shop = await world.start_supervised(spec)
    pids = [Worker(name).pid() for name in "ab"]
    with capture_crashes():
        await Worker("a").stop("boom")
        await Worker("a").started()  # b, which is stopped after a's crash and started after a, may be the old one until then
        await Worker("b").started()
    assert all(now is not None and now not in pids for now in (Worker("a").pid(), Worker("b").pid()))
    assert [one.id for one in await shop.which_children()] == ["b", "a"]
