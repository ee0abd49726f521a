"""Fairness: whoever asks as fast as it can leaves room for the others; whoever asks now and then is never held up."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import beamish
from beamish import Answer, GenServer, Reply, Watchdog, call, cast
from beamish.testing import World, settle
from conftest import both_roads

#: What one turn of the loop may cost, in handler runs: the largest budget, and the burst of one process.
BUDGET = 32


class FakeTime:
    """Time that passes in handlers only; by it, and not by a test's count, a world's slices are measured here."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


class Busy(GenServer[list[int]]):
    """Counts its handler runs in `state`; each takes some seconds of the fake time."""

    def init(self, counter: list[int], time: FakeTime | None = None, cost: float = 0.0) -> list[Any]:
        return [counter, time, cost]

    @call
    def ask(self, state: list[Any]) -> int:
        counter, time, cost = state
        counter[0] += 1
        if time is not None:
            time.now += cost
        return int(counter[0])

    @call
    async def ask_async(self, state: list[Any]) -> int:
        return Busy.ask.handler(self, state)  # type: ignore[attr-defined, no-any-return]

    @call
    def ask_for_an_answer(self, state: list[Any]) -> Answer[int]:
        return Reply(Busy.ask.handler(self, state))  # type: ignore[attr-defined]

    @cast
    def tell(self, state: list[Any]) -> None:
        Busy.ask.handler(self, state)  # type: ignore[attr-defined]


class Heartbeat:
    """Counts turns of the loop, and the most handler runs between two of them."""

    def __init__(self, counter: list[int]) -> None:
        self.counter = counter
        self.turns = self.most = 0
        self.last = counter[0]
        self.going = True
        asyncio.get_running_loop().call_soon(self.beat)

    def beat(self) -> None:
        self.turns += 1
        self.most = max(self.most, self.counter[0] - self.last)
        self.last = self.counter[0]
        if self.going:
            asyncio.get_running_loop().call_soon(self.beat)


def steps(coroutine: Any) -> int:
    """Drive a coroutine by hand: how often it gave way before it was done."""
    turns = 0
    try:
        while True:
            coroutine.send(None)
            turns += 1
    except StopIteration:
        return turns


@both_roads
class TestAFlood:
    @pytest.mark.parametrize("handler", ["ask", "ask_async", "ask_for_an_answer"])
    async def test_of_calls_leaves_turns_to_the_others(self, world: World, time: FakeTime, handler: str) -> None:
        world.node.stopwatch = time
        counter = [0]
        server = await world.start_supervised(Busy.child_spec(counter, time, 1e-6))
        heart = Heartbeat(counter)
        ask = getattr(server, handler)
        for _ in range(2000):
            await ask()
        heart.going = False
        assert heart.turns >= 2000 // BUDGET - 1
        assert heart.most <= BUDGET
        await settle()

    async def test_of_slow_calls_gives_way_sooner(self, world: World, time: FakeTime) -> None:
        world.node.stopwatch = time
        counter = [0]
        server = await world.start_supervised(Busy.child_spec(counter, time, 0.0005))  # two of these are a slice
        heart = Heartbeat(counter)
        for _ in range(100):
            await server.ask()
        heart.most = 0
        for _ in range(500):
            await server.ask()
        heart.going = False
        assert heart.most <= 6  # and not 32: 0.5 ms each
        await settle()

    async def test_of_many_callers_of_many_servers(self, world: World, time: FakeTime) -> None:
        world.node.stopwatch = time
        counter = [0]
        servers = [await world.start_supervised(Busy.child_spec(counter, time, 1e-6).replace(id=i)) for i in range(20)]

        async def ask(server: Busy) -> None:
            for _ in range(100):
                await server.ask()

        heart = Heartbeat(counter)
        await asyncio.gather(*map(ask, servers))
        heart.going = False
        assert heart.turns >= 2000 / (BUDGET + len(servers))
        assert heart.most <= BUDGET + len(servers)  # one call each after the budget is spent
        await settle()

    async def test_that_comes_by_casts_counts_too(self, world: World, time: FakeTime) -> None:
        """Drained on the caller's stack, or by the run queue: what was queued is part of the turn."""
        world.node.stopwatch = time
        counter = [0]
        server = await world.start_supervised(Busy.child_spec(counter, time, 1e-6))
        heart = Heartbeat(counter)
        for _ in range(60):
            for _ in range(60):
                server.tell()
            await server.ask()
        heart.going = False
        assert counter[0] == 60 * 61
        assert heart.most <= 3 * BUDGET  # the budget, and one burst of the run queue
        await settle()

    async def test_of_casts_to_many_servers_gives_way_by_time(self, world: World, time: FakeTime) -> None:
        world.node.stopwatch = time
        counter = [0]
        servers = [await world.start_supervised(Busy.child_spec(counter, time, 0.0001).replace(id=i)) for i in range(16)]
        for server in servers:
            for _ in range(60):
                server.tell()
        heart = Heartbeat(counter)
        for _ in range(4):
            await settle()
        heart.going = False
        assert counter[0] == 16 * 60
        assert heart.most <= BUDGET + 10  # a slice is 1 ms, so ten of these, and what one process handles in a row
        await settle()


class TestSparseCalls:
    async def test_never_give_way(self, world: World) -> None:
        counter = [0]
        server = await world.start_supervised(Busy.child_spec(counter))
        gave_way = 0
        for _ in range(400):
            gave_way += steps(server.ask())
            await asyncio.sleep(0)
        assert gave_way == 0

    async def test_half_a_budget_in_each_turn_neither(self, world: World) -> None:
        counter = [0]
        server = await world.start_supervised(Busy.child_spec(counter))
        gave_way = 0
        for _ in range(100):
            for _ in range(BUDGET // 2 - 1):
                gave_way += steps(server.ask())
            await asyncio.sleep(0)
        assert gave_way == 0

    async def test_a_budget_that_is_spent_is_one_turn_for_each_caller(self, world: World) -> None:
        counter = [0]
        server = await world.start_supervised(Busy.child_spec(counter))
        order: list[str] = []

        async def ask(name: str) -> None:
            for _ in range(200):
                await server.ask()
            order.append(name)

        await asyncio.gather(ask("a"), ask("b"))
        assert order == ["a", "b"]


@both_roads
async def test_handlers_nest_to_a_limit_and_go_on_through_mailboxes(world: World) -> None:
    class Chained(GenServer[Any]):
        def init(self, following: Any) -> Any:
            return following

        @call
        async def deep(self, state: Any, depths: list[int]) -> int:
            depths.append(world.node.depth)
            return 1 if state is None else 1 + await state.deep(depths)

    first: Any = None
    chain = []
    for _ in range(300):
        first = await Chained.start(first)
        chain.append(first)
    depths: list[int] = []
    assert await first.deep(depths) == 300
    assert max(depths) <= 20
    assert world.node.depth == 0
    for one in chain:
        await one.stop()


class TestTheWatchdog:
    @pytest.fixture
    def told(self) -> Iterator[list[logging.LogRecord]]:
        found: list[logging.LogRecord] = []

        class Collect(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                found.append(record)
                heard.set()

        logger = logging.getLogger("beamish.watchdog")
        handler = Collect(logging.WARNING)
        logger.addHandler(handler)
        yield found
        logger.removeHandler(handler)

    async def test_names_who_holds_the_loop_up_and_where(self, world: World, told: list[logging.LogRecord]) -> None:
        """The handler really holds the loop up, until the watchdog (a thread) has seen it."""

        class Blocking(GenServer[None]):
            def init(self) -> None: ...

            @call
            def hold_the_loop_up(self, state: None) -> bool:
                return heard.wait(10.0)

        heard.clear()
        dog = Watchdog(0.02)
        server = await world.start_supervised(Blocking("the culprit").child_spec())
        try:
            assert await server.hold_the_loop_up()
        finally:
            dog.stop()
        text = told[0].getMessage()
        assert "Blocking('the culprit')" in text
        assert "hold_the_loop_up" in text

    async def test_an_async_handler_is_named_too(self, world: World, told: list[logging.LogRecord]) -> None:
        class Blocking(GenServer[None]):
            def init(self) -> None: ...

            @call
            async def hold_the_loop_up(self, state: None) -> bool:
                await asyncio.sleep(0)
                return heard.wait(10.0)

        heard.clear()
        dog = Watchdog(0.02)
        server = await world.start_supervised(Blocking("the culprit").child_spec())
        try:
            assert await server.hold_the_loop_up()
        finally:
            dog.stop()
        text = told[0].getMessage()
        assert "Blocking('the culprit')" in text
        assert "hold_the_loop_up" in text

    async def test_is_silent_about_a_loop_that_comes_round(self, told: list[logging.LogRecord]) -> None:
        dog = Watchdog(60.0)
        await settle()
        dog.stop()
        assert told == []

    async def test_wants_a_threshold(self) -> None:
        with pytest.raises(ValueError, match="more than 0"):
            beamish.Watchdog(0.0)


heard = threading.Event()
