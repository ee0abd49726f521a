"""`sys`: looking into a running server, suspending it, changing its code and state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.conftest import both_roads

from beamish import (
    NORMAL,
    CallTimeout,
    GenServer,
    NoProcess,
    NoReply,
    Overloaded,
    Status,
    TimedOut,
    Timeout,
    call,
    cast,
    client,
    down,
    flag,
    info,
    send,
    spawn,
    sys,
    telemetry,
)
from beamish.testing import ManualClock, World, settle


class Cell(GenServer[Any]):
    def init(self, value: Any = 0) -> Any:
        return [value]

    @call
    def get(self, state: list[Any]) -> Any:
        return state[0]

    @call
    async def get_later(self, state: list[Any]) -> Any:
        return state[0]

    @cast
    def put(self, state: list[Any], value: Any) -> None:
        state[0] = value

    def handle_info(self, state: list[Any], message: Any) -> None:
        state.append(message)

    def code_change(self, state: list[Any], version: Any, extra: Any) -> Any:
        return [(version, state[0], extra)]

    def format_status(self, status: Status) -> Status:
        status.state = "hidden"
        return status


@both_roads
async def test_the_state_can_be_had_and_replaced(world: World) -> None:
    cell = await world.start_supervised(Cell("cell").child_spec(1))
    assert await sys.get_state(cell) == [1]
    assert await sys.replace_state("cell", lambda state: [state[0] + 1]) == [2]
    with pytest.raises(ZeroDivisionError):
        await sys.replace_state(cell, lambda state: 1 / 0)
    assert await cell.get() == 2
    with pytest.raises(NoProcess):
        await sys.get_state("absent")


@both_roads
async def test_a_suspended_server_serves_nothing_but_requests_of_sys(world: World, clock: ManualClock) -> None:
    cell = await world.start_supervised(Cell("cell").child_spec(1))
    await sys.suspend(cell)
    await sys.suspend(cell)
    cell.put(99)
    send(cell, "hello")
    with pytest.raises(CallTimeout):
        await cell.with_timeout(0.0).get()
    assert await sys.get_state(cell) == [1]
    assert await sys.replace_state(cell, lambda state: [10]) == [10]
    status = await sys.get_status(cell)
    assert (status.module, status.status, status.debug, status.state) == (Cell, "suspended", [], "hidden")
    found = info(cell)
    assert found is not None
    assert found.message_queue_len == 3
    await sys.resume(cell)
    assert await cell.get() == 99
    assert await sys.get_state(cell) == [99, "hello"]
    assert (await sys.get_status(cell)).status == "running"


@both_roads
async def test_code_is_changed_while_the_server_is_suspended(world: World) -> None:
    cell = await world.start_supervised(Cell.child_spec(1))
    with pytest.raises(sys.NotSuspended, match="suspend"):
        await sys.change_code(cell, "v1")
    await sys.suspend(cell)
    await sys.change_code(cell, "v1", "extra")
    await sys.resume(cell)
    assert await cell.get() == ("v1", 1, "extra")


@both_roads
async def test_an_async_code_change(world: World) -> None:
    class Later(Cell):
        async def code_change(self, state: Any, version: Any, extra: Any) -> Any:  # type: ignore[override]
            if extra == "fail":
                raise ValueError(version)
            return [version]

    cell = await world.start_supervised(Later.child_spec(1))
    await sys.suspend(cell)
    with pytest.raises(ValueError, match="v1"):
        await sys.change_code(cell, "v1", "fail")
    await sys.change_code(cell, "v2")
    await sys.resume(cell)
    assert await cell.get() == "v2"


@both_roads
async def test_statistics_count_from_when_they_are_switched_on(world: World) -> None:
    cell = await world.start_supervised(Cell.child_spec(1))
    assert await sys.statistics(cell) is None
    await sys.statistics(cell, True)
    await cell.get()
    await cell.get_later()
    cell.put(6)
    send(cell, "x")
    counted = await sys.statistics(cell, "get")
    assert counted is not None
    assert (counted.messages_in, counted.messages_out) == (4, 2)
    await sys.statistics(cell, False)
    assert await sys.statistics(cell) is None


@both_roads
async def test_the_log_keeps_the_last_events(world: World) -> None:
    cell = await world.start_supervised(Cell.child_spec(1))
    await sys.log(cell, 4)
    await cell.get()
    cell.put(7)
    events = await sys.log(cell)
    match events:
        case [sys.In("get()", "call"), sys.Out(1, _, _), sys.In("put(7)", "cast"), sys.Kept([7])]:
            pass
        case _:
            pytest.fail(repr(events))
    await cell.get_later()
    assert isinstance((await sys.log(cell))[-1], sys.Out)
    await sys.log(cell, False)
    assert await sys.log(cell) == []


async def test_trace_prints_and_log_to_file_writes(world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    cell = await world.start_supervised(Cell("cell").child_spec(1))
    await sys.trace(cell, True)
    await sys.log_to_file(cell, tmp_path / "log")
    await cell.get()
    await sys.trace(cell, False)
    await cell.get()
    await sys.log_to_file(cell, False)
    await cell.get()
    printed = capsys.readouterr().out
    assert printed == "*DBG* Cell('cell') got call 'get()' from None\n*DBG* Cell('cell') sent 1 to None, new state [1]\n"
    assert (tmp_path / "log").read_text() == printed * 2
    with pytest.raises(OSError, match="nowhere"):
        await sys.log_to_file(cell, tmp_path / "nowhere" / "log")
    assert await sys.log(cell, "print") == []


@both_roads
async def test_a_debug_function_sees_each_event_and_keeps_a_state(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    cell = await world.start_supervised(Cell("cell").child_spec(1))
    seen: list[Any] = []

    def count(n: int, event: sys.Event, server: object) -> int:
        seen.append((n, type(event), server))
        return n + 1

    await sys.install(cell, count, 0)
    await sys.install(cell, count, 100)  # there already
    await cell.get()
    await sys.remove(cell, count)
    await cell.get()
    assert seen == [(0, sys.In, cell), (1, sys.Out, cell)]
    await sys.install(cell, lambda _n, _e, _s: sys.DONE, 0, id="once")
    await sys.install(cell, lambda n, _e, _s: n / 0, 1, id="broken")
    assert (await sys.get_status(cell)).debug == ["install", "install"]
    await cell.get()
    assert (await sys.get_status(cell)).debug == []
    assert "ZeroDivisionError" in capsys.readouterr().err
    await sys.install(cell, count, 0)
    await sys.no_debug(cell)
    await cell.get()
    assert len(seen) == 2


@both_roads
async def test_terminate_through_sys(world: World) -> None:
    ended: list[Any] = []

    class Last(Cell):
        def terminate(self, state: Any, reason: Any) -> None:
            ended.append(reason)

    cell = await Last.start(1)
    await sys.suspend(cell)
    await sys.terminate(cell, NORMAL)
    assert ended == [NORMAL]
    with pytest.raises(NoProcess):
        await sys.get_state(cell)


@both_roads
async def test_the_parents_exit_ends_even_a_suspended_server_that_traps(world: World) -> None:
    cells: list[Cell] = []

    class Trapping(Cell):
        def init(self, value: Any = 0) -> Any:
            flag(trap_exit=True)
            return [value]

    async def parent() -> None:
        cells.append(await Trapping.start_link(1))
        await sys.suspend(cells[0])

    spawn(parent)
    await settle()
    assert (await down(cells[0])).reason in (NORMAL, NoProcess) or cells[0].pid() is None


async def test_what_is_on_from_birth(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[Any] = []
    options = ["trace", ("log", 2), "statistics", ("install", (lambda n, event, _s: seen.append(event), None))]
    cell = await world.start_supervised(Cell("cell").options(debug=options).child_spec(1))
    await cell.get()
    assert len(seen) == 2
    assert len(await sys.log(cell)) == 2
    counted = await sys.statistics(cell)
    assert counted is not None
    assert counted.messages_in == 1
    assert "got call" in capsys.readouterr().out
    with pytest.raises(ValueError, match="log_to_file"):
        Cell.options(debug=["everything"])


async def test_an_idle_timeout_waits_while_the_server_is_suspended(world: World, clock: ManualClock) -> None:
    class Waiter(Cell):
        @cast
        def wait(self, state: Any) -> NoReply:
            return NoReply(then=Timeout(1.0))

    waiter = await world.start_supervised(Waiter.child_spec(1))
    waiter.wait()
    await settle()
    await sys.suspend(waiter)
    await clock.advance(5.0)
    await sys.resume(waiter)
    assert await sys.get_state(waiter) == [1]
    await clock.advance(1.0)
    assert await sys.get_state(waiter) == [1, TimedOut()]


class Slow(GenServer[list[Any]]):
    def init(self) -> list[Any]:
        return []

    @call
    def hold(self, state: list[Any]) -> NoReply:  # type: ignore[type-var]
        state.append(client())
        return NoReply()

    @call
    async def wait(self, state: list[Any], gate: Any) -> str:
        await gate
        return "done"

    @call
    def ask(self, state: list[Any]) -> str:
        return "answer"

    @cast
    def note(self, state: list[Any], what: Any) -> None:
        state.append(what)

    def handle_info(self, state: list[Any], message: Any) -> None:
        state.append(message)


@both_roads
async def test_a_full_mailbox_refuses_calls_and_drops_casts_but_takes_requests_of_the_system(world: World) -> None:
    import asyncio

    refused: list[Any] = []
    telemetry.attach("refused", "beamish.gen_server.overloaded", lambda _e, measured, facts, _c: refused.append((facts["kind"], measured)))
    slow = await world.start_supervised(Slow("slow").options(max_queue=2).child_spec())
    gate = asyncio.get_running_loop().create_future()
    busy = asyncio.ensure_future(slow.wait(gate))
    await settle()
    waiting = asyncio.ensure_future(slow.ask())
    await settle()
    slow.note("in")
    slow.note("dropped")
    send(slow, "dropped too")
    with pytest.raises(Overloaded, match="max_queue"):
        await slow.ask()
    state = asyncio.ensure_future(sys.get_state(slow))
    await settle()
    gate.set_result(None)
    assert await busy == "done"
    assert await waiting == "answer"
    assert await state == ["in"]
    assert await slow.ask() == "answer"
    assert [kind for kind, _ in refused] == ["cast", "message", "call"]
    assert refused[0][1] == {"queue_len": 2}
    telemetry.detach("refused")


async def test_a_bound_is_a_number_of_requests() -> None:
    for wrong in (0, -1, True, 1.5):
        with pytest.raises(ValueError, match="max_queue"):
            Slow.options(max_queue=wrong)  # type: ignore[arg-type]
