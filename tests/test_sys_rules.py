"""`sys` under adverse conditions: servers in every status, debug functions that misbehave, watching that begins and ends."""

from __future__ import annotations

import asyncio
import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import both_roads

from beamish import (
    KILL,
    KILLED,
    NORMAL,
    SHUTDOWN,
    Agent,
    Begin,
    CallExit,
    CallTimeout,
    Continue,
    Exit,
    Exited,
    GenServer,
    Hibernate,
    Init,
    Keep,
    NoReply,
    Reply,
    ServerDown,
    StateMachine,
    Stop,
    TimedOut,
    Timeout,
    alive,
    call,
    cast,
    client,
    current,
    down,
    exit,
    flag,
    link,
    receive,
    reply,
    send,
    spawn,
    stop,
    sys,
)
from beamish.testing import ManualClock, World, capture_crashes, settle

pytestmark = both_roads


class Cell(GenServer[list[Any]]):
    def init(self, *items: Any) -> Any:
        return list(items)

    @call
    def items(self, state: list[Any]) -> list[Any]:
        return list(state)

    @call
    def do(self, state: list[Any], function: Callable[[], Any]) -> Any:
        return function()

    @call
    async def wait(self, state: list[Any], gate: Any) -> str:
        await gate
        return "done"

    @call
    async def ask(self, state: list[Any], request: Callable[[], Any]) -> Any:
        return await request()

    @call
    def hold(self, state: list[Any]) -> NoReply:  # type: ignore[type-var]
        state.append(client())
        return NoReply()

    @call
    def then(self, state: list[Any], then: Any) -> Reply[str]:
        return Reply("ok", then=then)

    @call
    def end(self, state: list[Any], reason: Any) -> Stop[str]:
        return Stop(reason, reply="bye")

    @cast
    def put(self, state: list[Any], item: Any) -> None:
        state.append(item)

    @cast
    def crash(self, state: list[Any]) -> None:
        raise Exit("boom")

    @cast
    async def crash_later(self, state: list[Any]) -> None:
        await asyncio.sleep(0)
        raise Exit("boom")

    def handle_info(self, state: list[Any], message: Any) -> None:
        state.append(message)

    def handle_continue(self, state: list[Any], arg: Any) -> NoReply | None:
        state.append(arg)
        return NoReply(then=Continue(arg - 1)) if arg else None


def nothing(state: Any, event: sys.Event, server: object) -> Any:
    return state


def gate() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()


# --- a server in every status -----------------------------------------------------------------------------------------


async def test_a_request_waits_its_turn_behind_mail_and_handlers(world: World) -> None:
    cell = await world.start_supervised(Cell("cell").child_spec())
    opened = gate()
    waiting = asyncio.ensure_future(cell.wait(opened))
    await settle()
    cell.put(1)
    asking = asyncio.ensure_future(sys.get_state(cell))
    await settle()
    cell.put(2)
    assert not asking.done()
    opened.set_result(None)
    state = await asking
    assert state[:1] == [1]
    assert await waiting == "done"
    assert await cell.items() == [1, 2]


async def test_a_request_in_an_async_init_waits_for_its_end(world: World) -> None:
    opened = gate()

    class Later(Cell):
        async def init(self, *items: Any) -> Any:
            await opened
            return list(items)

    starting = asyncio.ensure_future(Later("later").start(1))
    await settle()
    suspending = asyncio.ensure_future(sys.suspend("later"))
    asking = asyncio.ensure_future(sys.get_state("later"))
    await settle()
    assert not suspending.done()
    opened.set_result(None)
    later = await starting
    await suspending
    assert await asking == [1]
    assert (await sys.get_status(later)).status == "suspended"
    await stop(later)


async def test_a_request_to_one_that_ends_fails_with_its_reason(world: World) -> None:
    class Slow(Cell):
        async def terminate(self, state: list[Any], reason: Any) -> None:
            await opened

    opened = gate()
    slow = await Slow("slow").start()
    stopping = asyncio.ensure_future(stop(slow, SHUTDOWN))
    await settle()
    asking = [asyncio.ensure_future(one) for one in (sys.get_state(slow), sys.suspend(slow), sys.resume(slow), sys.log(slow, True))]
    await settle()
    opened.set_result(None)
    await stopping
    for one in asking:
        with pytest.raises(ServerDown) as failed:
            await one
        assert failed.value.reason == SHUTDOWN


async def test_a_server_asked_by_what_it_asks_itself(world: World) -> None:
    one = await world.start_supervised(Cell("one").child_spec())
    two = await world.start_supervised(Cell("two").child_spec())
    with capture_crashes(), pytest.raises(CallExit, match=r"wait"):
        await one.ask(lambda: two.ask(lambda: sys.get_state(one)))
    assert await two.ask(lambda: sys.get_state(one)) == []
    with capture_crashes(), pytest.raises(CallExit, match="itself"):
        await one.ask(lambda: sys.suspend(one))


async def test_a_task_of_a_handler_may_look_at_the_server(world: World) -> None:
    cell = await world.start_supervised(Cell("cell").child_spec(1))
    tasks: list[asyncio.Task[Any]] = []
    await cell.do(lambda: tasks.append(asyncio.ensure_future(sys.get_state("cell"))))
    assert await tasks[0] == [1]


# --- suspend, resume, kill --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("watched", [False, True])
async def test_what_waits_in_a_suspended_server_fails_when_it_is_killed(world: World, watched: bool) -> None:
    cell = await Cell("cell").start()
    if watched:
        await sys.log(cell, True)
    await sys.suspend(cell)
    asking = [asyncio.ensure_future(cell.items()) for _ in range(3)]
    cell.put(1)
    await settle()
    assert not any(one.done() for one in asking)
    exit(cell, KILL)
    for one in asking:
        with pytest.raises(ServerDown) as failed:
            await one
        assert failed.value.reason == KILLED
    assert cell.pid() is None


async def test_order_is_kept_over_suspend_and_resume(world: World) -> None:
    cell = await world.start_supervised(Cell("cell").child_spec())
    cell.put(0)
    suspending = asyncio.ensure_future(sys.suspend(cell))
    await asyncio.sleep(0)
    cell.put(1)
    await suspending
    cell.put(2)
    asking = asyncio.ensure_future(cell.items())
    await settle()
    cell.put(3)
    send(cell, 4)
    resuming = asyncio.ensure_future(sys.resume(cell))
    await asyncio.sleep(0)
    cell.put(5)
    await resuming
    cell.put(6)
    assert await asking == [0, 1, 2]
    assert await cell.items() == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("trap", [False, True])
async def test_exits_while_suspended(world: World, trap: bool) -> None:
    cell = await Cell.start()
    await cell.do(lambda: flag(trap_exit=trap))
    await sys.suspend(cell)
    exit(cell, "boom")
    await settle()
    assert alive(cell) is trap
    if trap:
        await sys.resume(cell)
        (message,) = await cell.items()
        assert isinstance(message, Exited)
        assert message.reason == "boom"
        await stop(cell)


async def test_a_stop_reaches_a_suspended_server_ahead_of_its_mail(world: World) -> None:
    ended: list[Any] = []

    class Last(Cell):
        def terminate(self, state: list[Any], reason: Any) -> None:
            ended.append((list(state), reason))

    cell = await Last("cell").start()
    await sys.suspend(cell)
    cell.put(1)
    asking = asyncio.ensure_future(cell.items())
    await settle()
    await stop(cell, SHUTDOWN)
    assert ended == [([], SHUTDOWN)]
    with pytest.raises(ServerDown):
        await asking


async def test_a_call_that_came_too_late_leaves_nothing_behind(world: World, clock: ManualClock) -> None:
    cell = await world.start_supervised(Cell("cell").child_spec())
    await sys.suspend(cell)
    asking = asyncio.ensure_future(cell.with_timeout(1.0).items())
    await settle()
    await clock.advance(1.0)
    with pytest.raises(CallTimeout):
        await asking
    process: Any = cell.pid()
    assert not process.waiters
    await sys.resume(cell)
    await settle()
    assert await cell.items() == []


async def test_nothing_of_watching_is_left_when_everything_is_off(world: World) -> None:
    cell = await world.start_supervised(Cell("cell").child_spec())
    process: Any = cell.pid()
    plain = type(process)
    await sys.statistics(cell)
    await sys.log(cell)
    await sys.resume(cell)
    await sys.no_debug(cell)
    await sys.remove(cell, nothing)
    assert type(process) is plain
    assert process.extra is None or process.extra.debug is None


async def test_a_debug_function_that_is_done_is_the_end_of_watching(world: World) -> None:
    cell = await world.start_supervised(Cell("cell").child_spec())
    process: Any = cell.pid()
    plain = type(process)
    await sys.install(cell, lambda _s, _e, _n: sys.DONE, None)
    await cell.items()
    await cell.items()
    assert type(process) is plain
    assert process.status == 0


# --- a watched server -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["crash", "crash_later", "kill", "stop", "exit"])
async def test_a_watched_server_ends_as_any_other(world: World, how: str) -> None:
    cell = await Cell("cell").start()
    await sys.log(cell, True)
    await sys.install(cell, nothing, None)
    ended = asyncio.ensure_future(down(cell))
    await settle()
    with capture_crashes() as reports:
        match how:
            case "crash":
                cell.crash()
            case "crash_later":
                cell.crash_later()
            case "kill":
                exit(cell, KILL)
            case "stop":
                assert await cell.end("boom") == "bye"
            case _:
                exit(cell, "boom")
        assert (await ended).reason == (KILLED if how == "kill" else "boom")
    if how in ("crash", "crash_later", "stop"):
        (report,) = reports
        assert [type(event) for event in report.log] == [sys.In]  # type: ignore[attr-defined]
    assert cell.pid() is None
    with pytest.raises(CallExit):
        await sys.get_state(cell)


@pytest.mark.parametrize("watched", [False, True])
async def test_continue_timeout_and_hibernate(world: World, clock: ManualClock, watched: bool) -> None:
    cell = await world.start_supervised(Cell("cell").child_spec())
    if watched:
        await sys.statistics(cell, True)
    assert await cell.then(Continue(2)) == "ok"
    assert await cell.items() == [2, 1, 0]
    assert await cell.then(Hibernate()) == "ok"
    assert await cell.then(Timeout(1.0)) == "ok"
    await clock.advance(0.5)
    await sys.get_state(cell)
    await clock.advance(0.9)
    assert await sys.get_state(cell) == [2, 1, 0]
    await clock.advance(1.0)
    assert await sys.get_state(cell) == [2, 1, 0, TimedOut()]
    assert await cell.then(Timeout(1.0)) == "ok"
    await cell.items()
    await clock.advance(5.0)
    assert await sys.get_state(cell) == [2, 1, 0, TimedOut()]
    assert await cell.then(Timeout(0.0)) == "ok"
    await settle()
    assert await sys.get_state(cell) == [2, 1, 0, TimedOut(), TimedOut()]


async def test_watching_begins_and_ends_while_a_timeout_runs(world: World, clock: ManualClock) -> None:
    cell = await world.start_supervised(Cell("cell").child_spec())
    await cell.then(Timeout(1.0))
    await clock.advance(0.5)
    await sys.statistics(cell, True)
    await clock.advance(0.5)
    await sys.statistics(cell, False)
    await clock.advance(0.5)
    assert (await sys.get_status(cell)).state == []
    await clock.advance(1.0)
    assert await cell.items() == [TimedOut()]


async def test_a_timeout_does_not_begin_while_mail_waits_in_a_suspended_server(world: World, clock: ManualClock) -> None:
    cell = await world.start_supervised(Cell("cell").child_spec())
    await cell.then(Timeout(1.0))
    await sys.suspend(cell)
    cell.put(1)
    await clock.advance(2.0)
    await sys.resume(cell)
    await clock.advance(2.0)
    assert await cell.items() == [1]


@pytest.mark.parametrize("watched", [False, True])
async def test_a_reply_that_comes_later(world: World, watched: bool) -> None:
    cell = await world.start_supervised(Cell("cell").child_spec())
    if watched:
        await sys.log(cell, True)
    asking = asyncio.ensure_future(cell.hold())
    await settle()
    (held,) = await cell.items()
    reply(held, "late")
    reply(held, "second")
    assert await asking == "late"
    if watched:
        events = await sys.log(cell)
        assert [type(event) for event in events] == [sys.In, sys.Kept, sys.In, sys.Out]


async def test_an_answer_to_a_client_that_has_gone_counts_as_sent(world: World, clock: ManualClock) -> None:
    """OTP's {out, …} is what the server sends, whoever listens."""
    cell = await world.start_supervised(Cell("cell").child_spec())
    await sys.statistics(cell, True)
    opened = gate()
    asking = asyncio.ensure_future(cell.with_timeout(1.0).wait(opened))
    await settle()
    await clock.advance(1.0)
    with pytest.raises(CallTimeout):
        await asking
    opened.set_result(None)
    await settle()
    counted = await sys.statistics(cell)
    assert counted is not None
    assert (counted.messages_in, counted.messages_out) == (1, 1)


async def test_a_continue_is_no_message(world: World) -> None:
    """OTP tells {continue, Arg}, not {in, …}: it has come from nowhere."""
    cell = await world.start_supervised(Cell("cell").child_spec())
    await sys.statistics(cell, True)
    await cell.then(Continue(2))
    counted = await sys.statistics(cell)
    assert counted is not None
    assert (counted.messages_in, counted.messages_out) == (1, 1)


async def test_watched_from_birth_with_an_init_that_goes_on(world: World) -> None:
    class Going(Cell):
        def init(self, *items: Any) -> Any:
            send(current(), "to itself")
            return Init(list(items), then=Continue(1))

    class Later(Going):
        async def init(self, *items: Any) -> Any:
            await asyncio.sleep(0)
            return super().init(*items)

    for kind in (Going, Later):
        cell = await world.start_supervised(kind.options(debug=[("log", 20)]).child_spec().replace(id=kind))
        assert await cell.items() == [1, 0, "to itself"]
        assert len(await sys.log(cell)) == 8


async def test_the_class_of_the_process_changes_in_the_middle_of_a_drain(world: World) -> None:
    cell = await world.start_supervised(Cell("cell").child_spec())
    for _ in range(3):
        cell.put("before")
        requests = [asyncio.ensure_future(one) for one in (sys.log(cell, 50), sys.get_state(cell), sys.no_debug(cell))]
        for n in range(20):
            cell.put(n)
            if n % 5 == 0:
                requests += [asyncio.ensure_future(sys.log(cell, True)), asyncio.ensure_future(sys.no_debug(cell))]
                await asyncio.sleep(0)
        await asyncio.gather(*requests)
    assert await cell.items() == ["before", *range(20)] * 3


# --- several classes of process at once -------------------------------------------------------------------------------


class Door(StateMachine[str, list[Any]]):
    def init(self) -> Any:
        return Begin("shut", [])

    def handle_event(self, state: str, data: list[Any], event: Any) -> Any:
        data.append(event)
        return Keep(data=data)


async def test_a_state_machine_with_a_bound_is_watched_and_left(world: World) -> None:
    door = await world.start_supervised(Door.options(max_queue=2).child_spec())
    process: Any = door.pid()
    bounded = type(process)
    await sys.suspend(door)
    for n in range(4):
        send(door, n)
    await sys.log(door, 10)
    await sys.resume(door)
    state, data = await sys.get_state(door)
    assert state == "shut"
    assert len(data) == 2
    assert len(await sys.log(door)) == 4
    await sys.no_debug(door)
    assert type(process) is bounded
    for n in range(4):
        send(door, n)
    assert len((await sys.get_state(door))[1]) == 4


async def test_an_agent_and_a_machine_are_looked_at(world: World) -> None:
    agent = await world.start_supervised(Agent.child_spec(lambda: 1))
    await sys.suspend(agent)
    asking = asyncio.ensure_future(agent.get(lambda state: state))
    await settle()
    assert not asking.done()
    await sys.replace_state(agent, lambda state: 2)
    await sys.resume(agent)
    assert await asking == 2


# --- debug functions that misbehave -----------------------------------------------------------------------------------


async def test_a_debug_function_that_casts_and_sends(world: World) -> None:
    cell = await world.start_supervised(Cell("cell").child_spec())

    def echo(left: int, event: sys.Event, server: Any) -> Any:
        if not left:
            return sys.DONE
        server.put(left)
        send(server, ("sent", left))
        return left - 1

    await sys.install(cell, echo, 2)
    assert await cell.items() == []
    assert await cell.items() == [2, ("sent", 2), 1, ("sent", 1)]


@pytest.mark.parametrize("reason", ["boom", KILL])
@pytest.mark.parametrize("request_", ["items", "wait"])
async def test_a_debug_function_that_ends_the_server(world: World, reason: Any, request_: str) -> None:
    cell = await Cell("cell").start()

    def ends(state: Any, event: sys.Event, server: Any) -> Any:
        exit(server, reason)
        return state

    await sys.install(cell, ends, None)
    opened = gate()
    opened.set_result(None)
    asking = asyncio.ensure_future(cell.items() if request_ == "items" else cell.wait(opened))
    await settle()
    assert asking.done()
    with pytest.raises(ServerDown):
        await asking
    assert cell.pid() is None
    assert not world.node.ghosts
    other = await world.start_supervised(Cell("other").child_spec())
    assert await other.items() == []


async def test_a_debug_function_that_is_cancelled(world: World) -> None:
    cell = await world.start_supervised(Cell("cell").child_spec().replace(shutdown=0))

    def cancelled(state: Any, event: sys.Event, server: Any) -> Any:
        raise asyncio.CancelledError

    await sys.install(cell, cancelled, None)
    asking = asyncio.ensure_future(cell.items())
    await settle()
    assert asking.done()
    assert await asking == []
    assert (await sys.get_status(cell)).debug == []


async def test_a_log_file_that_can_be_written_no_more(world: World, tmp_path: Path) -> None:
    """OTP opened it once; what can't be told of a server may not end it, nor stop it from serving."""
    cell = await world.start_supervised(Cell("cell").child_spec(1).replace(shutdown=0))
    folder = tmp_path / "folder"
    folder.mkdir()
    await sys.log_to_file(cell, folder / "log")
    (folder / "log").unlink()
    folder.rmdir()
    asking = asyncio.ensure_future(cell.items())
    await settle()
    assert asking.done()
    assert await asking == [1]
    opened = gate()
    opened.set_result(None)
    assert await cell.wait(opened) == "done"


async def test_a_trace_on_a_closed_stdout(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = await world.start_supervised(Cell("cell").child_spec(1).replace(shutdown=0))
    await sys.trace(cell, True)
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr("sys.stdout", closed)
    asking = asyncio.ensure_future(cell.items())
    await settle()
    assert asking.done()
    assert await asking == [1]


# --- what is on from birth --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", [("log", 0), ("log", -1), ("log", True), ("install", (3, None)), ("install", ([], None))])
async def test_an_option_that_can_not_work_is_refused_where_it_is_written(world: World, option: Any) -> None:
    with pytest.raises(ValueError, match="debug takes"):
        Cell("cell").options(debug=[option])


async def test_a_log_file_that_can_not_be_written_fails_the_start_and_leaves_nothing(world: World, tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises((OSError, ValueError), match="nowhere"):
            await Cell("cell").options(debug=[("log_to_file", tmp_path / "nowhere" / "log")]).start()
        assert Cell("cell").pid() is None


# --- requests ---------------------------------------------------------------------------------------------------------


async def test_a_change_that_waits_is_refused_or_awaited(world: World) -> None:
    cell = await world.start_supervised(Cell("cell").child_spec(1))

    async def change(state: Any) -> Any:
        return [*state, 2]

    try:
        await sys.replace_state(cell, change)
    except TypeError:
        assert await cell.items() == [1]
    else:
        assert await cell.items() == [1, 2]


async def test_a_change_that_ends_the_server(world: World) -> None:
    cell = await Cell("cell").start()

    def change(state: Any) -> Any:
        exit(current(), "boom")
        return state

    with capture_crashes(), pytest.raises(ServerDown) as failed:
        await sys.replace_state(cell, change)
    assert failed.value.reason == "boom"


async def test_an_async_code_change_of_a_server_that_is_killed_meanwhile(world: World) -> None:
    opened = gate()

    class Changing(Cell):
        async def code_change(self, state: list[Any], version: Any, extra: Any) -> list[Any]:  # type: ignore[override]
            await opened
            return [version]

    cell = await Changing("cell").start(1)
    await sys.suspend(cell)
    changing = asyncio.ensure_future(sys.change_code(cell, "v2"))
    await settle()
    cell.put(7)
    looking = asyncio.ensure_future(sys.get_state(cell))
    await settle()
    assert not looking.done()
    opened.set_result(None)
    await changing
    assert await looking == ["v2"]
    assert (await sys.get_status(cell)).status == "suspended"
    opened = gate()
    changing = asyncio.ensure_future(sys.change_code(cell, "v3"))
    await settle()
    exit(cell, KILL)
    with pytest.raises(ServerDown):
        await changing


async def test_format_status_that_raises_is_the_askers_error(world: World) -> None:
    class Shy(Cell):
        def format_status(self, status: Any) -> Any:
            raise LookupError("shy")

    cell = await world.start_supervised(Shy("cell").child_spec(1))
    with pytest.raises(LookupError):
        await sys.get_status(cell)
    assert await cell.items() == [1]


async def test_a_linked_parent_that_ends_ends_a_suspended_server_that_traps(world: World) -> None:
    ended: list[Any] = []

    class Trapping(Cell):
        def init(self, *items: Any) -> Any:
            flag(trap_exit=True)
            return []

        def terminate(self, state: list[Any], reason: Any) -> None:
            ended.append(reason)

    async def parent() -> None:
        cell = await Trapping("cell").start_link()
        await sys.suspend(cell)
        cell.put(1)
        await receive("end")

    pid = spawn(parent)
    await settle()
    send(pid, "end")
    await settle()
    assert Cell("cell").pid() is None
    assert ended == [NORMAL]


async def test_a_stranger_that_ends_waits_in_the_mail_of_a_suspended_server(world: World) -> None:
    cell = await world.start_supervised(Cell("cell").child_spec())
    await cell.do(lambda: flag(trap_exit=True))

    async def stranger() -> None:
        link("cell")
        raise Exit("gone")

    await sys.suspend(cell)
    spawn(stranger)
    await settle()
    await sys.resume(cell)
    (message,) = await cell.items()
    assert message.reason == "gone"


async def test_a_failing_state_change_of_a_watched_server_is_no_crash(world: World) -> None:
    cell = await world.start_supervised(Cell("cell").child_spec(1))
    await sys.log(cell, True)
    with pytest.raises(ZeroDivisionError):
        await sys.replace_state(cell, lambda state: 1 / 0)
    assert await cell.items() == [1]


# --- in any order -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"max_queue": 1000}, {"debug": ["statistics"]}, {"max_queue": 1000, "debug": [("log", 3)]}], ids=str
)
@pytest.mark.parametrize("seed", range(12))
async def test_whatever_is_switched_on_and_off_order_is_kept_and_everybody_answered(
    world: World, clock: ManualClock, seed: int, options: Any
) -> None:
    """Casts, messages, calls of both kinds and requests of `sys` by one sender, against the order in which they were sent."""
    dice = random.Random(seed)

    class Ordered(Cell):
        @call
        def add(self, state: list[Any], n: int) -> int:
            state.append(n)
            return n

        @call
        async def add_later(self, state: list[Any], n: int) -> int:
            for _ in range(n % 3):
                await asyncio.sleep(0)
            state.append(n)
            return n

        @call
        def add_and_go_on(self, state: list[Any], n: int) -> Reply[int]:
            state.append(n)
            return Reply(n, then=dice.choice([None, Timeout(1000.0), Hibernate()]))

    cell = await Ordered("cell").options(**options).start()
    sent: list[int] = []
    asking: list[tuple[int, asyncio.Task[Any]]] = []
    looking: list[asyncio.Task[Any]] = []
    suspended = False
    for n in range(120):
        match dice.randrange(12):
            case 0 | 1:
                cell.put(n)
                sent.append(n)
            case 2:
                send(cell, n)
                sent.append(n)
            case 3 | 4 | 5:
                method = dice.choice([cell.add, cell.add_later, cell.add_and_go_on])
                asking.append((n, asyncio.ensure_future(method(n))))
                await asyncio.sleep(0)
                sent.append(n)
            case 6 | 7:
                suspended = not suspended
                looking.append(asyncio.ensure_future(sys.suspend(cell) if suspended else sys.resume(cell)))
                await asyncio.sleep(0)
            case 8:
                looking.append(asyncio.ensure_future(dice.choice([sys.log, sys.statistics])(cell, dice.choice([True, False]))))
                await asyncio.sleep(0)
            case 9:
                looking.append(asyncio.ensure_future(sys.install(cell, lambda s, _e, _n: sys.DONE if s > 2 else s + 1, 0)))
                await asyncio.sleep(0)
            case 10:
                looking.append(asyncio.ensure_future(dice.choice([sys.no_debug, sys.get_status, sys.get_state])(cell)))
                await asyncio.sleep(0)
            case _:
                for _ in range(dice.randrange(4)):
                    await asyncio.sleep(0)
    kill = seed % 3 == 0
    if kill:
        exit(cell, KILL)
        await settle()
        assert all(task.done() for _, task in asking)
        assert all(task.done() for task in looking)
        await asyncio.gather(*(task for _, task in asking), *looking, return_exceptions=True)
        return
    await sys.resume(cell)
    await asyncio.gather(*looking)
    assert [await task for _, task in asking] == [n for n, _ in asking]
    assert await cell.items() == sent
    process: Any = cell.pid()
    await sys.no_debug(cell)
    assert "Watched" not in type(process).__name__
    assert process.mbox is None
    assert not process.waiters
    await stop(cell)
