"""Deadlock: a circle of servers that wait for each other is an error at once; whatever only looks like one is none."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

import beamish
from beamish import Answer, CallingSelf, Client, Deadlock, GenServer, NoReply, ServerDown, call, cast
from beamish.testing import ManualClock, World, capture_crashes, settle
from conftest import both_roads


class Peer(GenServer[dict[str, Any]]):
    """One of several that call each other."""

    def init(self, name: str = "") -> dict[str, Any]:
        return {"name": name, "clients": []}

    @call
    def name(self, state: dict[str, Any]) -> str:
        return str(state["name"])

    @call
    async def through(self, state: dict[str, Any], *others: Peer) -> str:
        """Ask the first of `others` to ask the rest; the last one says its name."""
        if not others:
            return str(state["name"])
        return await others[0].through(*others[1:])

    @call
    async def after(self, state: dict[str, Any], turns: int, *others: Peer) -> str:
        for _ in range(turns):
            await asyncio.sleep(0)
        return await others[0].through(*others[1:])

    @call
    async def careful(self, state: dict[str, Any], *others: Peer) -> object:
        try:
            return await others[0].through(*others[1:])
        except Deadlock as error:
            return error

    @call
    async def ask_careful(self, state: dict[str, Any], other: Peer) -> object:
        return await other.careful(self)

    @call
    def delegate(self, state: dict[str, Any], other: Peer, back: Peer) -> Answer[str]:
        """Another one will answer; meanwhile ask the caller something."""
        other.answer(beamish.client())
        beamish.send(self, back)
        return NoReply()

    async def handle_info(self, state: dict[str, Any], message: Any) -> None:
        state["name"] = await message.name()

    @cast
    def answer(self, state: dict[str, Any], client: Client) -> None:
        beamish.reply(client, "from " + str(state["name"]))

    @call
    async def ask_delegate(self, state: dict[str, Any], other: Peer, third: Peer) -> str:
        return await other.delegate(third, self)

    @call
    async def reply_first(self, state: dict[str, Any], back: Peer) -> Answer[str]:
        beamish.reply(beamish.client(), "early")
        state["name"] = await back.name()
        return NoReply()

    @call
    async def ask_reply_first(self, state: dict[str, Any], other: Peer) -> str:
        return await other.reply_first(self)

    @call
    async def in_a_group(self, state: dict[str, Any], other: Peer) -> list[str]:
        """Its children ask; the handler itself only waits for them, so it could be told of a time limit, say."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(other.careful_name(self)) for _ in range(2)]
        return [task.result() for task in tasks]

    @call
    async def careful_name(self, state: dict[str, Any], back: Peer) -> str:
        try:
            return await back.with_timeout(1.0).name()
        except beamish.CallExit as error:
            return type(error).__name__

    @call
    def in_the_background(self, state: dict[str, Any], other: Peer, tasks: list[Any]) -> None:
        tasks.append(asyncio.ensure_future(other.slow_name(self)))

    @call
    async def eagerly(self, state: dict[str, Any], other: Peer, tasks: list[Any]) -> str:
        tasks.append(asyncio.ensure_future(other.slow_name(self)))
        await asyncio.wait(tasks, timeout=0.0)  # not for its end: it has asked, and will be asked
        for _ in range(5):
            await asyncio.sleep(0)
        return "went on"

    @call
    async def slow_name(self, state: dict[str, Any], back: Peer) -> str:
        await asyncio.sleep(0)
        return await back.name()


async def peers(*names: str) -> list[Peer]:
    return [await Peer(name).start(name) for name in names]


async def stop(*some: Peer) -> None:
    for one in some:
        if beamish.alive(one):
            await one.stop()


def root_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


@both_roads
class TestACircle:
    @pytest.mark.parametrize("size", [2, 3, 7])
    async def test_of_any_size_is_found_and_named(self, world: World, size: int) -> None:
        ring = await peers(*(f"p{i}" for i in range(size)))
        with capture_crashes(), pytest.raises(ServerDown) as down:
            await ring[0].through(*ring[1:], ring[0])
        cause = root_cause(down.value)
        assert isinstance(cause, Deadlock)
        assert len(cause.cycle) == size
        assert {repr(one) for one in cause.cycle} == {repr(one) for one in ring}
        assert all(f"p{i}" in str(cause) for i in range(size))

    async def test_that_one_enters_from_outside_is_found(self, world: World) -> None:
        a, b, c = await peers("a", "b", "c")
        with capture_crashes(), pytest.raises(ServerDown) as down:
            await a.through(b, c, b)
        cause = root_cause(down.value)
        assert isinstance(cause, Deadlock)
        assert {repr(one) for one in cause.cycle} == {"Peer('b')", "Peer('c')"}

    async def test_of_requests_that_only_queue_is_found(self, world: World) -> None:
        a, b = await peers("a", "b")
        with capture_crashes():
            both = [asyncio.ensure_future(a.after(5, b)), asyncio.ensure_future(b.after(5, a))]
            ends = await asyncio.gather(*both, return_exceptions=True)
        # The second one to ask closes the circle; the first then hears that the other is down, and dies or is answered.
        causes = [root_cause(end) for end in ends if isinstance(end, BaseException)]
        assert any(isinstance(cause, Deadlock) for cause in causes)

    async def test_ends_who_asked_last_and_does_not_catch_it(self, world: World) -> None:
        a, b = await peers("a", "b")
        with capture_crashes(), pytest.raises(ServerDown) as down:
            await a.careful(b, a)
        assert isinstance(root_cause(down.value), Deadlock)  # raised in b, which does not catch it
        assert not beamish.alive(b)
        await stop(a, b)

    async def test_is_an_error_that_a_handler_may_catch(self, world: World) -> None:
        a, b = await peers("a", "b")
        assert isinstance(await a.ask_careful(b), Deadlock)
        assert [await a.name(), await b.name()] == ["a", "b"]
        await stop(a, b)

    async def test_of_one(self, world: World) -> None:
        (a,) = await peers("a")
        with capture_crashes(), pytest.raises(ServerDown) as down:
            await a.through(a)
        assert isinstance(root_cause(down.value), CallingSelf)
        assert beamish.whereis("a") is None


@both_roads
class TestNoCircle:
    async def test_a_delegated_reply(self, world: World) -> None:
        a, b, c = await peers("a", "b", "c")
        assert await a.ask_delegate(b, c) == "from c"
        await settle()
        assert await b.name() == "a"  # which b has asked while a waited for c's answer
        await stop(a, b, c)

    async def test_a_call_back_after_the_reply(self, world: World) -> None:
        a, b = await peers("a", "b")
        assert await a.ask_reply_first(b) == "early"
        await settle()
        assert await b.name() == "a"
        await stop(a, b)

    async def test_children_of_a_task_group_make_no_edge(self, world: World, clock: ManualClock) -> None:
        a, b = await peers("a", "b")
        asking = asyncio.ensure_future(a.in_a_group(b))
        await clock.advance(2.5)
        assert await asking == ["CallTimeout", "CallTimeout"]  # not Deadlock: a's handler might have been cancelled, say
        await stop(a, b)

    async def test_a_background_task_of_an_idle_server_makes_no_edge(self, world: World) -> None:
        a, b = await peers("a", "b")
        tasks: list[Any] = []
        await a.in_the_background(b, tasks)
        assert await tasks[0] == "a"
        await stop(a, b)

    @pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
    async def test_nor_one_that_is_begun_eagerly(self, world: World) -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined, unused-ignore]
        a, b = await peers("a", "b")
        tasks: list[Any] = []
        assert await a.eagerly(b, tasks) == "went on"
        assert await tasks[0] == "a"
        await stop(a, b)

    async def test_an_edge_ends_with_its_call(self, world: World, clock: ManualClock) -> None:
        class Impatient(GenServer[list[str]]):
            def init(self) -> list[str]:
                return []

            @call
            async def ask(self, state: list[str], other: Any) -> str:
                try:
                    return str(await other.with_timeout(0.5).ask_slowly(self))
                except beamish.CallTimeout:
                    await settle()
                    return "late"

            @call
            def hello(self, state: list[str]) -> str:
                return "hello"

            @call
            async def ask_slowly(self, state: list[str], back: Any) -> str:
                await clock_reached.wait()
                state.append(await back.hello())
                return state[-1]

            @call
            def seen(self, state: list[str]) -> list[str]:
                return state

        clock_reached = asyncio.Event()
        a, b = await Impatient.start(), await Impatient.start()
        asking = asyncio.ensure_future(a.ask(b))
        await clock.advance(0.6)
        clock_reached.set()
        assert await asking == "late"
        assert await b.seen() == ["hello"]
        for one in (a, b):
            await one.stop()
