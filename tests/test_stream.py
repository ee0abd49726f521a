"""`self.stream(source)` and `self.own(closer)`: what a server listens to, and what is closed with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.conftest import both_roads

from beamish import (
    KILL,
    NORMAL,
    SHUTDOWN,
    CallExit,
    Crash,
    Ended,
    Exit,
    GenServer,
    Stream,
    call,
    cast,
    disown,
    down,
    exit,
    own,
    receive,
    send,
    spawn,
    sys,
)
from beamish.testing import World, capture_crashes, settle


class Source:
    """An async iterator that a test feeds: `put` an item, an exception or None for its end; it notes what is asked of it."""

    def __init__(self) -> None:
        self.items: asyncio.Queue[Any] = asyncio.Queue()
        self.asked = 0
        self.closed = False

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        self.asked += 1
        item = await self.items.get()
        if item is None:
            raise StopAsyncIteration
        if isinstance(item, Exception):
            raise item
        return item

    async def aclose(self) -> None:
        self.closed = True


class Listener(GenServer[list[Any]]):
    def init(self) -> list[Any]:
        return []

    @call
    def listen(self, state: list[Any], source: Source, max_in_flight: int = 1) -> Stream:
        return self.stream(source, max_in_flight)

    @call
    def seen(self, state: list[Any]) -> list[Any]:
        return list(state)

    @cast
    async def wait(self, state: list[Any], gate: asyncio.Future[None]) -> None:
        await gate

    async def handle_info(self, state: list[Any], message: Any) -> None:
        state.append(message)
        if isinstance(message, asyncio.Future):
            await message


@both_roads
async def test_items_come_in_order_and_the_end_after_them(world: World) -> None:
    listener, source = await world.start_supervised(Listener("listener").child_spec()), Source()
    stream = await listener.listen(source)
    for item in (1, 2, None):
        source.items.put_nowait(item)
    await down(stream)
    assert await listener.seen() == [1, 2, Ended(NORMAL, stream)]
    assert source.closed


@both_roads
async def test_the_next_item_is_asked_for_when_those_before_are_handled(world: World) -> None:
    listener, source = await world.start_supervised(Listener("listener").child_spec()), Source()
    gates: list[asyncio.Future[None]] = [asyncio.get_running_loop().create_future() for _ in range(3)]
    for gate in gates:
        source.items.put_nowait(gate)
    await listener.listen(source, 2)
    for handled, gate in enumerate(gates):
        await settle()
        assert source.asked == min(2 + handled, 4)
        gate.set_result(None)
    await settle()
    assert len(await listener.seen()) == 3


@both_roads
async def test_an_error_of_the_source_comes_as_the_reason_and_ends_nothing(world: World) -> None:
    listener = await world.start_supervised(Listener("listener").child_spec())
    reasons = []
    for error in (ValueError("bad"), Exit("over")):
        source = Source()
        source.items.put_nowait(error)
        with capture_crashes() as reports:
            stream = await listener.listen(source)
            await down(stream)
        reasons.append((await listener.seen())[-1].reason)
        assert len(reports) == isinstance(error, ValueError)
    assert isinstance(reasons[0], Crash)
    assert reasons[1] == "over"


@both_roads
@pytest.mark.parametrize("reason", [KILL, SHUTDOWN])
async def test_the_source_is_closed_when_the_server_ends(world: World, reason: object) -> None:
    listener, source = await Listener.start(), Source()
    stream = await listener.listen(source)
    await settle()
    exit(listener, reason)
    await down(stream)
    assert source.closed


@both_roads
async def test_a_stream_can_be_closed(world: World) -> None:
    listener, source = await world.start_supervised(Listener("listener").child_spec()), Source()
    stream = await listener.listen(source)
    source.items.put_nowait(1)
    await settle()
    stream.close()
    stream.close()
    assert (await down(stream)).reason == SHUTDOWN or stream not in world.node.procs
    assert await listener.seen() == [1]
    assert source.closed


@both_roads
async def test_items_are_held_while_the_server_is_suspended(world: World) -> None:
    listener, source = await world.start_supervised(Listener("listener").child_spec()), Source()
    await listener.listen(source)
    await sys.suspend(listener)
    for item in (1, 2):
        source.items.put_nowait(item)
    await settle()
    assert source.asked == 1
    await sys.resume(listener)
    await settle()
    assert await listener.seen() == [1, 2]


async def test_what_is_refused(world: World) -> None:
    listener = await world.start_supervised(Listener("listener").options(max_queue=1).child_spec())
    with pytest.raises(RuntimeError, match="handlers"):
        listener.stream(Source())
    with capture_crashes():
        with pytest.raises(CallExit, match="async iterable"):
            await listener.listen([1, 2])  # type: ignore[arg-type]
        with pytest.raises(CallExit, match="max_in_flight"):
            await listener.listen(Source(), 0)


async def test_a_bounded_mailbox_takes_every_item(world: World) -> None:
    listener, source = await world.start_supervised(Listener("listener").options(max_queue=1).child_spec()), Source()
    gate = asyncio.get_running_loop().create_future()
    listener.wait(gate)
    for item in (1, 2, 3, None):
        source.items.put_nowait(item)
    await settle()
    send(listener, "fills it")
    gate.set_result(None)
    await settle()
    assert [item for item in await listener.seen() if isinstance(item, int)] == []
    stream = await listener.listen(source, 3)
    await down(stream)
    assert [item for item in await listener.seen() if isinstance(item, int)] == [1, 2, 3]


# --- own --------------------------------------------------------------------------------------------------------------


class Owner(GenServer[None]):
    def init(self, closed: list[str]) -> None:
        self.own(lambda: closed.append("first"))
        self.own(lambda: closed.append("second"))
        self.own(self.broken)

        async def later() -> None:
            closed.append("later")

        self.own(later)

    @staticmethod
    def broken() -> None:
        raise OSError("closed already")

    @call
    def keep(self, state: None) -> bool:
        return self.disown(self.broken)

    @call
    def crash(self, state: None) -> None:
        raise ValueError


@both_roads
@pytest.mark.parametrize("way", ["stop", "kill", "crash"])
async def test_what_a_server_owns_is_closed_last_first_however_it_ends(world: World, way: str) -> None:
    closed: list[str] = []
    owner = await Owner.start(closed)
    with capture_crashes() as reports:
        match way:
            case "stop":
                await owner.stop()
            case "kill":
                exit(owner, KILL)
            case _:
                with pytest.raises(CallExit):
                    await owner.crash()
        assert closed[:2] == ["second", "first"]
        await settle()
        assert closed[2:] == ["later"]
    assert any("closed already" in str(report.exc_info) for report in reports)


async def test_what_is_disowned_is_not_closed(world: World) -> None:
    owner = await Owner.start([])
    assert await owner.keep()
    assert not await owner.keep()
    with capture_crashes() as reports:
        await owner.stop()
    assert not reports


async def test_it_is_closed_before_anybody_hears_of_the_end(world: World) -> None:
    closed: list[str] = []

    async def child() -> None:
        own(lambda: closed.append("closed"))
        own(print)
        disown(print)
        await receive()

    pid = spawn(child)
    await settle()
    exit(pid, KILL)
    await down(pid)
    assert closed == ["closed"]
    with pytest.raises(TypeError, match="own takes"):
        own(3)  # type: ignore[arg-type]
