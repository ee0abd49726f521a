"""DynamicSupervisor and Supervisor under adverse conditions: odd children, odd specs, races of their ends and starts."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
from tests.conftest import both_roads

from beamish import (
    KILL,
    KILLED,
    SHUTDOWN,
    CallExit,
    ChildSpec,
    DynamicSupervisor,
    Exit,
    Exited,
    GenServer,
    Ignore,
    Ignored,
    Init,
    MaxChildren,
    NotFound,
    StartError,
    Supervisor,
    alive,
    call,
    cast,
    child,
    current,
    down,
    exit,
    flag,
    link,
    receive,
    register,
    spawn_link,
    stop,
    sys,
    unlink,
    unregister,
)
from beamish.testing import ManualClock, World, capture_crashes, settle

pytestmark = both_roads


class Room(GenServer[list[Any]]):
    def init(self, *names: Any) -> list[Any]:
        return list(names)

    @call
    def names(self, state: list[Any]) -> list[Any]:
        return state

    @cast
    def crash(self, state: list[Any]) -> None:
        raise Exit("boom")

    @call
    def do(self, state: list[Any], function: Callable[[], Any]) -> Any:
        return function()


async def supervisor(world: World, **options: Any) -> DynamicSupervisor:
    return await world.start_supervised(DynamicSupervisor.child_spec(**options).replace(id=object()))


async def forever() -> None:
    await receive(int)


# --- what the specs may hold ------------------------------------------------------------------------------------------


async def test_a_spec_whose_options_have_no_hash(world: World) -> None:
    top = await supervisor(world)
    seen: list[Any] = []

    def note(state: list[Any], event: sys.Event, server: object) -> list[Any]:
        seen.append(event)
        return state

    room = await top.start_child(Room.options(debug=[("install", (note, []))]).child_spec("a"))
    assert await room.names() == ["a"]
    assert len(seen) == 2


async def test_a_start_function_that_has_no_hash(world: World) -> None:
    class Start:
        __hash__ = None  # type: ignore[assignment]

        async def __call__(self) -> Any:
            return spawn_link(forever)

    top = await supervisor(world)
    pid = await top.start_child(ChildSpec("id", Start(), restart="temporary"))
    assert alive(pid)


# --- names ------------------------------------------------------------------------------------------------------------


async def test_a_child_that_registers_itself_in_its_init_is_restarted(world: World) -> None:
    class Own(Room):
        def init(self, *names: Any) -> list[Any]:
            register("mine")
            return list(names)

    top = await supervisor(world)
    own = await top.start_child(Own.child_spec("a"))
    with capture_crashes():
        own.crash()
        await settle()
    assert await Own("mine").names() == ["a"]
    assert await top.count_children() == await top.count_children()
    assert (await top.count_children()).active == 1


async def test_a_child_that_has_given_up_its_name_is_restarted_under_it(world: World) -> None:
    top = await supervisor(world)
    room = await top.start_child(Room("room").child_spec("a"))
    pid = room.pid()
    assert pid is not None
    unregister("room")
    with capture_crashes():
        exit(pid, "boom")
        await settle()
    assert await Room("room").names() == ["a"]


# --- counting ---------------------------------------------------------------------------------------------------------


async def test_a_start_function_that_returns_a_child_it_has_started_before(world: World) -> None:
    """Elixir's table is by pid: the same one twice is one child."""
    top = await supervisor(world, max_children=2)
    started: list[Any] = []

    async def start() -> Any:
        if not started:
            started.append(spawn_link(forever))
        return started[0]

    spec = child(start).replace(restart="temporary")
    assert await top.start_child(spec) == await top.start_child(spec)
    assert (await top.count_children()).specs == 1
    exit(started[0], "boom")
    with capture_crashes():
        await settle()
    assert (await top.count_children()).specs == 0
    await top.start_child(Room("a").child_spec())
    await top.start_child(Room("b").child_spec())
    with pytest.raises(MaxChildren):
        await top.start_child(Room("c").child_spec())


async def test_a_child_that_unlinks_and_links_itself_again_is_one_child(world: World) -> None:
    top = await supervisor(world, max_children=1)
    room = await top.start_child(Room.child_spec())
    await room.do(lambda: unlink(top))
    await room.do(lambda: link(top))
    assert (await top.count_children()).specs == 1
    assert len(await top.which_children()) == 1
    await top.terminate_child(room)
    assert await top.start_child(Room.child_spec())
    with pytest.raises(MaxChildren):
        await top.start_child(Room.child_spec())


async def test_a_process_that_is_another_supervisors_child_is_refused(world: World) -> None:
    """OTP lets both believe that it is theirs; each would restart it."""
    one, two = await supervisor(world), await supervisor(world)
    pid: Any = None

    async def first() -> Any:
        nonlocal pid
        pid = spawn_link(forever)
        return pid

    async def second() -> Any:
        link(pid)
        return pid

    await one.start_child(child(first))
    with capture_crashes(), pytest.raises(StartError, match="is a child of"):
        await two.start_child(child(second))
    assert (await two.count_children()).specs == 0
    with capture_crashes():
        exit(pid, "boom")
        await settle()
    assert (await one.count_children()).active == 1


@pytest.mark.parametrize("seed", range(20))
async def test_the_bound_never_drifts(world: World, seed: int) -> None:
    """Random lives against a model that knows each child by its pid."""
    dice = random.Random(seed)
    bound = 4
    top = await supervisor(world, max_children=bound, max_restarts=1_000_000)

    class Odd(Room):
        async def init(self, how: str, *names: Any) -> Any:  # type: ignore[override]
            if how == "later":
                await asyncio.sleep(0)
            elif how == "fails":
                await asyncio.sleep(0)
                raise Exit("no")
            elif how == "ignores":
                return Ignore()
            return []

    model: dict[Any, str] = {}
    with capture_crashes():
        for _ in range(60):
            match dice.randrange(6):
                case 0 | 1:
                    restart = dice.choice(["permanent", "transient", "temporary"])
                    how = dice.choice(["now", "later", "fails", "ignores"])
                    spec = (Odd.child_spec(how) if dice.random() < 0.7 else child(Odd.start_link, how)).replace(restart=restart)
                    if len(model) >= bound:
                        with pytest.raises(MaxChildren):
                            await top.start_child(spec)
                    elif how in ("fails", "ignores"):
                        with pytest.raises(Ignored if how == "ignores" else StartError):
                            await top.start_child(spec)
                    else:
                        model[(await top.start_child(spec)).pid()] = restart
                case 2 if model:
                    pid = dice.choice(list(model))
                    await top.terminate_child(pid)
                    del model[pid]
                case 3 | 4 if model:
                    pid = dice.choice(list(model))
                    reason = dice.choice(["boom", SHUTDOWN, KILL])
                    exit(pid, reason)
                    if dice.random() < 0.3:
                        try:
                            await top.terminate_child(pid)
                            ended = True
                        except NotFound:
                            ended = False
                        await settle()
                    else:
                        await settle()
                        ended = False
                    restart = model.pop(pid)
                    back = not ended and (restart == "permanent" or (restart == "transient" and reason != SHUTDOWN))
                    if back:
                        (new,) = {one.child.pid() for one in await top.which_children()} - set(model)  # type: ignore[union-attr]
                        model[new] = restart
                case _:
                    pass
            counts = await top.count_children()
            assert counts.specs == counts.active == len(model)
            assert {one.child.pid() for one in await top.which_children()} == set(model)  # type: ignore[union-attr]


# --- terminate_child --------------------------------------------------------------------------------------------------


async def test_a_child_that_is_being_restarted_can_be_terminated_by_its_old_pid(world: World) -> None:
    """As in Elixir, whose table keeps one that can't be restarted under the pid that it had."""
    top = await supervisor(world, max_restarts=1_000_000)
    fail = False

    async def start() -> Any:
        if fail:
            await asyncio.sleep(0)
            raise StartError("not now")
        return spawn_link(forever)

    pid = await top.start_child(child(start))
    fail = True
    with capture_crashes():
        exit(pid, "boom")
        await settle()
        assert [one.child for one in await top.which_children()] == ["restarting"]
        await top.terminate_child(pid)
        assert (await top.count_children()).specs == 0
        await settle()
        assert (await top.count_children()).specs == 0


async def test_a_request_gets_its_turn_in_a_storm_of_restarts(world: World) -> None:
    top = await supervisor(world, max_restarts=1_000_000)
    fail = False

    async def start() -> Any:
        if fail:
            raise StartError("not now")
        return spawn_link(forever)

    pid = await top.start_child(child(start))
    fail = True
    with capture_crashes():
        exit(pid, "boom")
        await settle()
        assert [one.child for one in await top.which_children()] == ["restarting"]
        other = await top.start_child(Room.child_spec("a"))
        assert await other.names() == ["a"]
        fail = False
        await settle()
        assert (await top.count_children()).active == 2


async def test_terminate_races_with_the_childs_own_end(world: World) -> None:
    top = await supervisor(world, max_restarts=100)
    for turns in range(8):
        room = await top.start_child(Room.child_spec())
        with capture_crashes():
            asking = asyncio.ensure_future(top.terminate_child(room))
            for _ in range(turns):
                await asyncio.sleep(0)
            exit(room, "boom")
            try:
                await asking
                left = 0
            except NotFound:
                left = 1  # it had been restarted before
            await settle()
        assert (await top.count_children()).active == left
        for one in await top.which_children():
            await top.terminate_child(one.child)  # type: ignore[arg-type]


async def test_shutdown_times_are_the_childs_own(world: World, clock: ManualClock) -> None:
    class Slow(Room):
        def init(self, *names: Any) -> list[Any]:
            flag(trap_exit=True)
            return list(names)

        async def terminate(self, state: list[Any], reason: Any) -> None:
            await asyncio.get_running_loop().create_future()

    top = await supervisor(world)
    slow = [await top.start_child(Slow.child_spec().replace(shutdown=seconds, id=seconds)) for seconds in (1.0, 2.0)]
    brutal = await top.start_child(Slow.child_spec().replace(shutdown="brutal_kill"))
    refs = [asyncio.ensure_future(down(one)) for one in slow]
    with capture_crashes():
        stopping = asyncio.ensure_future(stop(top, SHUTDOWN))
        await settle()
        assert not alive(brutal)
        assert [ref.done() for ref in refs] == [False, False]
        await clock.advance(1.0)
        assert [ref.done() for ref in refs] == [True, False]
        await clock.advance(1.0)
        await settle()
        assert refs[1].result().reason == KILLED
        await stopping


async def test_a_supervisor_that_is_killed_while_it_stops_a_child_leaves_none(world: World, clock: ManualClock) -> None:
    class Slow(Room):
        def init(self, *names: Any) -> list[Any]:
            flag(trap_exit=True)
            return list(names)

        async def terminate(self, state: list[Any], reason: Any) -> None:
            await asyncio.get_running_loop().create_future()

    top = await DynamicSupervisor.start()
    slow, other = await top.start_child(Slow.child_spec()), await top.start_child(Room.child_spec())
    stopping = asyncio.ensure_future(top.terminate_child(slow))
    await settle()
    with capture_crashes():
        exit(top, KILL)
        await asyncio.gather(stopping, return_exceptions=True)
        await settle()
        assert not alive(other)
        await clock.advance(5.0)
        await settle()
    assert not alive(slow)


# --- starts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turns", range(8))
@pytest.mark.parametrize("kind", ["server", "function"])
async def test_a_start_whose_asker_is_cancelled_is_finished_or_never_was(world: World, turns: int, kind: str) -> None:
    class Later(Room):
        async def init(self, *names: Any) -> list[Any]:  # type: ignore[override]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            return list(names)

    top = await supervisor(world, max_children=1)
    asking = asyncio.ensure_future(top.start_child(Later.child_spec() if kind == "server" else child(Later.start_link)))
    for _ in range(turns):
        await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await settle()
    counts = await top.count_children()
    assert counts.specs == counts.active == len(await top.which_children())
    for one in await top.which_children():
        await top.terminate_child(one.child)  # type: ignore[arg-type]
    assert await top.start_child(Room.child_spec())


@pytest.mark.parametrize("turns", range(8))
@pytest.mark.parametrize("reason", [KILL, SHUTDOWN, "boom"])
async def test_a_child_that_dies_at_any_turn_of_its_start(world: World, turns: int, reason: Any) -> None:
    pids: list[Any] = []

    class Later(Room):
        async def init(self, *names: Any) -> list[Any]:  # type: ignore[override]
            pids.append(current())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            return list(names)

    top = await supervisor(world, max_children=1)
    with capture_crashes():
        asking = asyncio.ensure_future(top.start_child(Later.child_spec().replace(restart="temporary")))
        for _ in range(turns):
            await asyncio.sleep(0)
        if pids:
            exit(pids[0], reason)
        await asyncio.gather(asking, return_exceptions=True)
        await settle()
    left = (await top.count_children()).specs
    assert left == len(await top.which_children()) == sum(alive(pid) for pid in pids)


@pytest.mark.parametrize("turns", range(8))
@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_a_supervisor_that_ends_at_any_turn_of_a_start_leaves_no_child(world: World, turns: int, how: str) -> None:
    pids: list[Any] = []

    class Later(Room):
        async def init(self, *names: Any) -> list[Any]:  # type: ignore[override]
            pids.append(current())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            return list(names)

    top = await DynamicSupervisor.start()
    asking = asyncio.ensure_future(top.start_child(Later.child_spec()))
    for _ in range(turns):
        await asyncio.sleep(0)
    with capture_crashes():
        if how == "kill":
            exit(top, KILL)
        else:
            await stop(top, SHUTDOWN)
        await asyncio.gather(asking, return_exceptions=True)
        await settle()
    assert not any(alive(pid) for pid in pids)
    assert asking.done()


async def test_start_child_in_a_childs_init_is_a_circle(world: World) -> None:
    top = await supervisor(world)

    class Greedy(Room):
        async def init(self, *names: Any) -> list[Any]:  # type: ignore[override]
            await asyncio.sleep(0)
            await top.start_child(Room.child_spec())
            return []

    with capture_crashes(), pytest.raises(StartError) as failed:
        await top.start_child(Greedy.child_spec())
    assert "Deadlock" in repr(failed.value.reason)
    assert (await top.count_children()).specs == 0


async def test_start_child_in_a_childs_handler_and_continue(world: World) -> None:
    top = await supervisor(world)

    class Greedy(Room):
        def init(self, *names: Any) -> Any:
            from beamish import Continue

            return Init(list(names), then=Continue())

        async def handle_continue(self, state: list[Any], arg: Any) -> None:  # type: ignore[override]
            state.append(await top.start_child(Room.child_spec("inner")))

    greedy = await top.start_child(Greedy.child_spec())
    (inner,) = await greedy.names()
    assert await inner.names() == ["inner"]
    assert (await top.count_children()).active == 2


async def test_a_storm_of_restarts_ends_the_supervisor_and_everybody(world: World) -> None:
    flag(trap_exit=True)
    top = await DynamicSupervisor.start_link(max_restarts=3)
    others = [await top.start_child(Room.child_spec(n)) for n in range(20)]
    with capture_crashes():
        for one in others[:4]:
            one.crash()
        ended = await receive(Exited)
    assert ended.reason == SHUTDOWN
    assert not any(alive(one) for one in others)


async def test_a_stop_between_two_attempts_ends_them(world: World) -> None:
    top = await DynamicSupervisor.start(max_restarts=1_000_000)
    fail = False
    attempts: list[int] = []

    async def start() -> Any:
        attempts.append(1)
        await asyncio.sleep(0)
        if fail:
            raise StartError("not now")
        return spawn_link(forever)

    pid = await top.start_child(child(start))
    fail = True
    with capture_crashes():
        exit(pid, "boom")
        await settle()
        await stop(top, SHUTDOWN)
        so_far = len(attempts)
        await settle()
    assert len(attempts) == so_far


async def test_ten_thousand_children_are_stopped_without_stalling_the_loop(world: World) -> None:
    top = await DynamicSupervisor.start()
    for n in range(10_000):
        await top.start_child(Room.child_spec(n))
    turns = 0
    stopping = asyncio.ensure_future(stop(top, SHUTDOWN))
    while not stopping.done():
        turns += 1
        await asyncio.sleep(0)
    await stopping
    assert turns > 10
    assert len(world.node.procs) == 1
    assert not world.node.timeouts._tables or not any(table.waiting for table in world.node.timeouts._tables.values())


# --- auto_shutdown ----------------------------------------------------------------------------------------------------


async def test_all_significant_waits_for_one_that_is_being_restarted(world: World) -> None:
    """OTP: a child that is {restarting, Pid} is not undefined, so it counts as one that is there."""
    flag(trap_exit=True)
    fail = False

    async def start() -> Any:
        if fail:
            raise StartError("not now")
        return spawn_link(forever)

    specs = [
        child(start, id="unlucky").replace(restart="transient", significant=True),
        child(lambda: _spawned(), id="other").replace(restart="temporary", significant=True),
    ]
    top = await Supervisor.start_link(specs, auto_shutdown="all_significant", max_restarts=1_000_000)
    children = {one.id: one.child for one in await top.which_children()}
    fail = True
    with capture_crashes():
        exit(children["unlucky"], "boom")  # type: ignore[arg-type]
        await settle()
        assert {one.id: one.child for one in await top.which_children()}["unlucky"] == "restarting"
        exit(children["other"], SHUTDOWN)  # type: ignore[arg-type]
        await settle()
        assert alive(top)
        fail = False
        await settle()
        assert (await top.count_children()).active == 1
        await stop(top, SHUTDOWN)


async def _spawned() -> Any:
    return spawn_link(forever)


# --- a supervisor that is looked at -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
async def test_the_children_of_a_suspended_supervisor_are_restarted_when_it_is_resumed(world: World, kind: Any) -> None:
    top = await kind.start()
    room = await top.start_child(Room("room").child_spec("a"))
    await sys.suspend(top)
    with capture_crashes():
        room.crash()
        await settle()
        assert room.pid() is None
        await sys.resume(top)
        await settle()
    assert await room.names() == ["a"]
    await stop(top)


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
@pytest.mark.parametrize("trap", [False, True])
async def test_a_suspended_child_is_stopped(world: World, clock: ManualClock, kind: Any, trap: bool) -> None:
    ended: list[Any] = []

    class Held(Room):
        def init(self, *names: Any) -> list[Any]:
            flag(trap_exit=trap)
            return list(names)

        def terminate(self, state: list[Any], reason: Any) -> None:
            ended.append(reason)

    top = await kind.start()
    held = await top.start_child(Held("held").child_spec())
    await sys.suspend(held)
    await stop(top, SHUTDOWN)
    assert held.pid() is None
    assert ended == ([SHUTDOWN] if trap else [])


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
async def test_a_suspended_supervisor_is_stopped_with_its_children(world: World, kind: Any) -> None:
    top = await kind.start()
    room = await top.start_child(Room("room").child_spec("a"))
    await sys.suspend(top)
    asking = asyncio.ensure_future(top.count_children())
    await settle()
    await stop(top, SHUTDOWN)
    with pytest.raises(CallExit):
        await asking
    assert room.pid() is None


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
async def test_a_bound_does_not_lose_a_supervisors_own_messages(world: World, kind: Any) -> None:
    fail = False

    async def start() -> Any:
        if fail:
            raise StartError("not now")
        return spawn_link(forever)

    top = await kind.options(max_queue=1).start(max_restarts=1_000_000)
    pid = await top.start_child(child(start, id="child"))
    fail = True
    with capture_crashes():
        await sys.suspend(top)
        exit(pid, "boom")
        asking = asyncio.ensure_future(sys.resume(top))
        for _ in range(30):
            await asyncio.sleep(0)
        fail = False
        await asking
        await settle()
    assert (await top.count_children()).active == 1
    await stop(top)


async def test_a_child_looked_at_from_its_birth(world: World) -> None:
    top = await supervisor(world)
    room = await top.start_child(Room("room").options(debug=["statistics"]).child_spec("a"))
    with capture_crashes():
        room.crash()
        await settle()
    assert await room.names() == ["a"]
    counted = await sys.statistics(room)
    assert counted is not None
    assert counted.messages_in == 1


# --- a child that its start function did not link ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
async def test_a_busy_child_that_was_not_linked_is_told_to_stop_as_any_other(
    world: World, clock: ManualClock, kind: Any, request: pytest.FixtureRequest
) -> None:
    """exit(Pid, shutdown) ends one that does not trap at once, whatever it does, and its terminate does not run."""
    ended: list[Any] = []

    class Busy(Room):
        @cast
        async def work(self, state: list[Any]) -> None:
            await asyncio.get_running_loop().create_future()

        def terminate(self, state: list[Any], reason: Any) -> None:
            ended.append(reason)

    top = await kind.start()
    busy = await top.start_child(child(Busy.start))
    busy.work()
    await settle()
    stopping = asyncio.ensure_future(stop(top, SHUTDOWN))
    await settle()
    done = stopping.done()
    await clock.advance(10.0)
    await stopping
    assert done
    assert ended == []


async def test_the_survivor_of_a_killed_supervisor_may_be_the_child_of_another(world: World) -> None:
    one, two = await DynamicSupervisor.start(), await supervisor(world)
    pid = spawn_link(forever)

    async def start() -> Any:
        return pid

    await one.start_child(child(start))
    unlink(pid)
    process: Any = pid
    process.trap = True  # it hears of the end of its supervisor, and goes on
    exit(one, KILL)
    await settle()
    assert alive(pid)
    assert await two.start_child(child(start)) is pid
