"""DynamicSupervisor: children that come and go, known by pid, stopped all at once."""

from __future__ import annotations

from typing import Any

import pytest
from tests.conftest import both_roads

from beamish import (
    KILL,
    SHUTDOWN,
    AlreadyStarted,
    BadChildSpec,
    CallExit,
    DynamicSupervisor,
    Exit,
    Exited,
    GenServer,
    Ignore,
    Ignored,
    MaxChildren,
    NotFound,
    Shutdown,
    StartError,
    Supervisor,
    call,
    child,
    current,
    exit,
    flag,
    link,
    receive,
    spawn_link,
    stop,
    unlink,
)
from beamish.testing import ManualClock, World, capture_crashes, settle

pytestmark = both_roads


class Room(GenServer[list[str]]):
    def init(self, *names: str) -> list[str]:
        return list(names)

    @call
    def names(self, state: list[str]) -> list[str]:
        return state

    @call
    def crash(self, state: list[str]) -> None:
        raise Exit("boom")

    @call
    def leave(self, state: list[str], supervisor: DynamicSupervisor) -> None:
        unlink(supervisor)


class Choosy(GenServer[None]):
    def init(self, what: str) -> Ignore | None:
        if what == "ignore":
            return Ignore()
        raise Exit(what)


async def supervisor(world: World, **options: Any) -> DynamicSupervisor:
    return await world.start_supervised(DynamicSupervisor.child_spec(**options).replace(id=object()))


async def test_a_child_that_crashes_is_restarted_with_its_arguments_and_the_supervisors(world: World) -> None:
    top = await supervisor(world, extra_arguments=("first",))
    room = await top.start_child(Room("room").child_spec("second"))
    assert await room.names() == ["first", "second"]
    with capture_crashes():
        with pytest.raises(CallExit):
            await room.crash()
        assert await room.names() == ["first", "second"]


@pytest.mark.parametrize(("restart", "left"), [("permanent", 1), ("transient", 1), ("temporary", 0)])
async def test_restart_types(world: World, restart: str, left: int) -> None:
    top = await supervisor(world)
    room = await top.start_child(Room.child_spec().replace(restart=restart))
    with capture_crashes(), pytest.raises(CallExit):
        await room.crash()
    assert (await top.count_children()).active == left
    for one in await top.which_children():
        await stop(one.child, SHUTDOWN)
    assert (await top.count_children()).active == (1 if restart == "permanent" else 0)


async def test_max_children_counts_before_the_start(world: World) -> None:
    top = await supervisor(world, max_children=1)
    room = await top.start_child(Room("room").child_spec())
    with pytest.raises(MaxChildren, match="max_children=1"):
        await top.start_child(Room("room").child_spec())
    await top.terminate_child(room)
    with pytest.raises(NotFound):
        await top.terminate_child(room)
    assert await top.start_child(Room.child_spec())


async def test_what_a_start_may_say(world: World) -> None:
    top = await supervisor(world)
    with pytest.raises(Ignored):
        await top.start_child(Choosy.child_spec("ignore"))
    with capture_crashes(), pytest.raises(StartError) as failed:
        await top.start_child(Choosy.child_spec("boom"))
    assert failed.value.reason == "boom"
    await top.start_child(Room("room").child_spec())
    with pytest.raises(AlreadyStarted):
        await top.start_child(Room("room").child_spec())
    with pytest.raises(BadChildSpec, match="significant"):
        await top.start_child(Room.child_spec().replace(restart="transient", significant=True))
    with pytest.raises(BadChildSpec, match=r"Room\.child_spec"):
        await top.start_child(Room)  # type: ignore[arg-type]
    assert (await top.count_children()).specs == 1


async def test_a_start_function_is_prefixed_too_and_may_return_more(world: World) -> None:
    async def start(*args: object) -> tuple[object, ...]:
        return spawn_link(receive), "beside", args

    top = await supervisor(world, extra_arguments=(1,))
    pid, *beside = await top.start_child(child(start, 2))
    assert beside == ["beside", (1, 2)]
    await top.terminate_child(pid)


async def test_a_start_that_fails_at_a_restart_is_tried_again_until_that_is_too_often(world: World) -> None:
    flag(trap_exit=True)
    attempts = []

    async def start() -> object:
        attempts.append(len(attempts))
        if len(attempts) > 1:
            raise StartError("nope")
        return spawn_link(receive)

    top = await DynamicSupervisor.start_link(max_restarts=3)
    link(top)
    pid = await top.start_child(child(start))
    with capture_crashes() as reports:
        exit(pid, "boom")
        ended = await receive(Exited)
    assert ended.reason == SHUTDOWN
    assert attempts == [0, 1, 2, 3]
    assert [one.context for one in reports] == [  # type: ignore[attr-defined]
        "child_terminated", "start_error", "start_error", "start_error", "shutdown",
    ]  # fmt: skip


async def test_all_children_are_told_at_once_and_killed_each_in_its_time(clock: ManualClock, world: World) -> None:
    flag(trap_exit=True)
    told = []

    class Stubborn(GenServer[None]):
        def init(self) -> None:
            flag(trap_exit=True)

        async def terminate(self, state: None, reason: object) -> None:
            told.append(reason)
            await receive_for_ever()

    async def receive_for_ever() -> None:
        import asyncio

        await asyncio.get_running_loop().create_future()

    top = await DynamicSupervisor.start_link()
    link(top)
    for seconds in (1.0, 2.0, 3.0):
        await top.start_child(Stubborn.child_spec().replace(shutdown=seconds))
    quick = await top.start_child(Stubborn.child_spec().replace(shutdown="brutal_kill"))
    with capture_crashes() as reports:
        exit(top, SHUTDOWN)
        await settle()
        assert told == [Shutdown()] * 3
        assert quick.pid() is None
        for left in (2, 1, 0):
            await clock.advance(1.0)
            assert len(world.node.procs) - 2 - (1 if left else 0) == left
        assert (await receive(Exited)).reason == SHUTDOWN
    assert [one.context for one in reports if hasattr(one, "context")] == ["shutdown_error"] * 3  # type: ignore[attr-defined]


async def test_a_child_that_unlinks_itself_is_stopped_with_the_others(world: World) -> None:
    top = await DynamicSupervisor.start_link()
    room = await top.start_child(Room.child_spec())
    await room.leave(top)
    assert (await top.count_children()).active == 1
    await top.stop()
    assert room.pid() is None


async def test_a_child_linked_to_another_supervisor_is_not_taken_for_its_own(world: World) -> None:
    one, other = await supervisor(world), await supervisor(world)

    class Friend(Room):
        @call
        def befriend(self, state: list[str], whom: DynamicSupervisor) -> None:
            link(whom)

    friend = await one.start_child(Friend("friend").child_spec())
    await friend.befriend(other)
    assert (await other.count_children()).specs == 0
    with pytest.raises(NotFound):
        await other.terminate_child(friend)
    with capture_crashes():
        exit(friend, KILL)
        await settle()
    assert await friend.names() == []


async def test_it_stands_in_a_tree(world: World) -> None:
    top = await Supervisor.start_link([DynamicSupervisor("rooms").child_spec(max_children=2), DynamicSupervisor.child_spec()])
    assert [one.id for one in await top.which_children()] == [DynamicSupervisor, "rooms"]
    assert (await top.count_children()).supervisors == 2
    await top.stop()


async def test_its_options_are_checked(world: World) -> None:
    current()
    flag(trap_exit=True)
    with capture_crashes(), pytest.raises(StartError, match="max_children"):
        await DynamicSupervisor.start_link(max_children=-1)
    with capture_crashes(), pytest.raises(StartError, match="max_restarts"):
        await DynamicSupervisor.start_link(max_restarts=-1)
