"""Starts that take their time: what init says reaches the starter, and a start that is given up is undone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import beamish
from beamish import Continue, Down, GenServer, Ignore, Ignored, Init, StartError, call, cast
from beamish.testing import World, capture_crashes, settle
from conftest import both_roads


class Doing(GenServer[list[Any]]):
    def init(self) -> list[Any]:
        return []

    @call
    async def do_async(self, state: list[Any], fn: Callable[[], Awaitable[Any]]) -> object:
        return await fn()

    @cast
    def put(self, state: list[Any], value: Any) -> None:
        state.append(value)


async def never() -> None:
    await asyncio.Event().wait()


class Beginning(GenServer[None]):
    """An async init of every kind."""

    async def init(self, what: str) -> Any:
        await asyncio.sleep(0)
        if what == "wait":
            await never()
        if what == "raise":
            raise ValueError(what)
        return {"ignore": Ignore(), "stop": beamish.Stop("no"), "continue": Init(None, then=Continue())}[what]

    def handle_continue(self, state: None, arg: Any) -> None:
        raise beamish.Exit("at once")


@both_roads
class TestAsyncStarts:
    async def test_what_init_says_reaches_the_starter(self, world: World) -> None:
        with pytest.raises(Ignored):
            await Beginning("one").start("ignore")
        with capture_crashes():
            with pytest.raises(StartError) as failed:
                await Beginning("one").start("stop")
            assert failed.value.reason == "no"
            with pytest.raises(StartError) as failed:
                await Beginning("one").start("raise")
        assert isinstance(failed.value.__cause__, ValueError)
        assert beamish.whereis("one") is None

    async def test_a_cancelled_start_is_undone_and_harms_nobody(self, world: World) -> None:
        async def give_up() -> str:
            try:
                async with asyncio.timeout(0.0):
                    await Beginning("half").start_link("wait")
            except TimeoutError:
                return "gave up"
            return "started"

        server = await Doing.start()
        assert await server.do_async(give_up) == "gave up"
        await settle()
        assert (beamish.alive(server), beamish.whereis("half")) == (True, None)
        await server.stop()

    async def test_a_start_given_up_in_its_last_moment_harms_nobody(self, world: World) -> None:
        class Cancelling(GenServer[None]):
            async def init(self, starter: asyncio.Task[Any]) -> None:
                await asyncio.sleep(0)
                starter.cancel()

        async def give_up() -> str:
            task = asyncio.current_task()
            assert task is not None
            try:
                await Cancelling("whole").start_link(task)
            except asyncio.CancelledError:
                task.uncancel()
                return "gave up"
            return "started"

        server = await Doing.start()
        assert await server.do_async(give_up) == "gave up"
        await settle()
        assert (beamish.alive(server), beamish.whereis("whole")) == (True, None)
        await server.stop()

    async def test_an_init_that_is_dead_before_it_returns_has_not_started(self, world: World) -> None:
        class Dying(GenServer[str]):
            def init(self, reason: Any, returns: Any) -> Any:
                if reason == "by a link":
                    beamish.link(other)
                    beamish.exit(other, reason)
                    return returns
                try:
                    beamish.exit(beamish.current(), reason)
                except asyncio.CancelledError:
                    pass
                return returns

        for reason, died_of in [("by a link", "by a link"), (beamish.KILL, beamish.KILLED), ("mine", "mine")]:
            for returns in ("a state", Ignore(), beamish.Stop("no"), Init("a state", then=Continue())):
                other = await Doing.start()
                with capture_crashes(), pytest.raises(StartError) as failed:
                    await Dying("dying").start(reason, returns)
                assert failed.value.reason == died_of
                assert beamish.whereis("dying") is None
                if beamish.alive(other):
                    await other.stop()

    async def test_start_monitor_misses_nothing(self, world: World) -> None:
        other = await Doing.start()

        async def start() -> Down:
            other.put("so that the run queue is on its way already")
            _, ref = await Beginning.start_monitor("continue")
            return await beamish.down(ref)

        with capture_crashes():
            assert (await start()).reason == "at once"
        await other.stop()
