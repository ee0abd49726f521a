"""`then=Timeout(…)`: what cancels it, what starts it anew, and what it is too late for."""

from __future__ import annotations

import asyncio
from typing import Any

import beamish
from beamish import Answer, GenServer, Reply, TimedOut, Timeout, call, cast
from beamish.testing import ManualClock, World
from conftest import both_roads


class Idle(GenServer[list[Any]]):
    def init(self) -> list[Any]:
        return []

    @call
    def arm(self, state: list[Any], seconds: float) -> Answer[None]:
        return Reply(None, then=Timeout(seconds))

    @call
    async def arm_slowly(self, state: list[Any], seconds: float) -> Answer[None]:
        return Reply(None, then=Timeout(seconds))

    @call
    def all(self, state: list[Any]) -> list[Any]:
        return list(state)

    @cast
    def put(self, state: list[Any], value: Any) -> None:
        state.append(value)

    def handle_info(self, state: list[Any], message: Any) -> None:
        state.append(message)


@both_roads
class TestATimeout:
    async def test_is_too_late_for_a_message_of_the_same_moment(self, world: World, clock: ManualClock) -> None:
        server = await world.start_supervised(Idle.child_spec())
        beamish.send_after(1.0, server, "first")
        await server.arm(1.0)
        await clock.advance(3.0)
        assert await server.all() == ["first"]

    async def test_is_cancelled_by_any_message(self, world: World, clock: ManualClock) -> None:
        server = await world.start_supervised(Idle.child_spec())
        await server.arm(1.0)
        server.put("a cast")
        await clock.advance(3.0)
        assert await server.all() == ["a cast"]

    async def test_is_started_anew_by_a_request_of_the_system(self, world: World, clock: ManualClock) -> None:
        server = await world.start_supervised(Idle.child_spec())
        await server.arm_slowly(1.0)
        await clock.advance(0.9)
        assert await beamish.sys.get_state(server) == []
        await clock.advance(0.9)
        assert await beamish.sys.get_state(server) == []
        await clock.advance(1.1)
        assert await server.all() == [TimedOut()]

    async def test_is_not_lost_to_requests_of_the_system_that_queue(self, world: World, clock: ManualClock) -> None:
        for turns in (1, 40):  # more than one burst, too
            server = await world.start_supervised(Idle.child_spec().replace(id=turns))
            server.put("queued")
            await asyncio.gather(server.arm(1.0), *(beamish.sys.get_state(server) for _ in range(turns)))
            await clock.advance(1.1)
            assert await server.all() == ["queued", TimedOut()]
