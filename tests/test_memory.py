"""What is over leaves nothing behind: no process, timer, timeout or waiting client, and not the state of the dead."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import beamish
from beamish import KILL, Answer, CallTimeout, GenServer, NoReply, ServerDown, StartError, call, cast
from beamish.testing import ManualClock, World, capture_crashes, settle
from conftest import both_roads


class Thing:
    """Something large, to look whether it is still there."""


class Holder(GenServer[dict[str, Any]]):
    def init(self, thing: Thing | None = None, fail: bool = False) -> dict[str, Any]:
        if fail:
            raise ValueError("no", len(repr(thing)))
        return {"thing": thing, "clients": []}

    @call
    def fail(self, state: dict[str, Any], argument: Any = None) -> None:
        local = state["thing"]
        raise ValueError("why", len(repr(local)))

    @call
    async def fail_later(self, state: dict[str, Any], argument: Any = None) -> None:
        local = state["thing"]
        await asyncio.sleep(0)
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError("why", len(repr(local))) from error

    @call
    async def hang(self, state: dict[str, Any], argument: Any = None) -> None:
        local = state["thing"]
        try:
            await asyncio.Event().wait()
        finally:
            del local

    @call
    def later(self, state: dict[str, Any]) -> Answer[None]:
        state["clients"].append(beamish.client())
        return NoReply()

    @call
    def forget(self, state: dict[str, Any]) -> None:
        state["clients"].clear()

    @call
    def echo(self, state: dict[str, Any], value: Any) -> Any:
        return value

    @call
    async def echo_later(self, state: dict[str, Any], value: Any) -> object:
        await asyncio.sleep(0)
        return value

    @call
    async def through(self, state: dict[str, Any], other: Holder, value: Any) -> object:
        return await other.echo(value)

    @cast
    def note(self, state: dict[str, Any], value: Any) -> None: ...


def left(world: World) -> dict[str, int]:
    """What the node still holds, without its root."""
    node = world.node
    return {
        "processes": len(node.procs) - 1,
        "names": len(node.names),
        "run queue": len(node.runq),
        "dead": len(node.dead),
        "ghosts": len(node.ghosts),
        "adopted": len(node.adopted),
        "awaited": len(node.awaited),
        "timers": len(node.wheel),
        "timeouts": sum(len(table.waiting) for table in node.timeouts._tables.values()),
        "links of the root": len(node.root.links or ()),
        "depth": node.depth,
    }


NOTHING = dict.fromkeys(
    ["processes", "names", "run queue", "dead", "ghosts", "adopted", "awaited", "timers", "timeouts", "links of the root", "depth"], 0
)


async def freed(reference: weakref.ref[Any]) -> bool:
    await settle()  # the loop lets go of the callbacks that it is running
    gc.collect()
    return reference() is None


@both_roads
class TestTheStateOfTheDead:
    @pytest.mark.parametrize("handler", ["fail", "fail_later"])
    async def test_is_freed_although_the_error_is_kept(self, world: World, handler: str) -> None:
        thing = Thing()
        reference = weakref.ref(thing)
        server = await Holder.start(thing)
        del thing
        with capture_crashes() as crashes, pytest.raises(ServerDown) as down:
            await getattr(server, handler)()
        crashes.clear()  # a log record has the live traceback; whoever keeps it keeps that
        assert await freed(reference)
        assert isinstance(down.value.__cause__, ValueError)
        assert "fail" in "".join(down.value.__notes__)

    @pytest.mark.parametrize("reason", ["enough", KILL], ids=repr)
    async def test_is_freed_after_a_signal(self, world: World, reason: object) -> None:
        thing = Thing()
        reference = weakref.ref(thing)
        server = await Holder.start(thing)
        del thing
        waiting = asyncio.ensure_future(server.hang())
        await settle()
        beamish.exit(server, reason)
        with pytest.raises(ServerDown) as down:
            await waiting
        assert await freed(reference)
        assert down.value.server == server  # which is kept all the while, as an address of the dead

    async def test_is_freed_when_init_fails(self, world: World) -> None:
        thing = Thing()
        reference = weakref.ref(thing)
        kept: Any = None
        with capture_crashes() as crashes:
            try:
                await Holder.start(thing, fail=True)
            except StartError as error:
                kept = error.with_traceback(None)  # the starter's own frames have the arguments
        del thing
        crashes.clear()
        assert await freed(reference)
        assert isinstance(kept.__cause__, ValueError)

    async def test_without_the_garbage_collector(self, world: World) -> None:
        """An idle server makes no cycle with its state: reference counting is enough."""
        thing = Thing()
        reference = weakref.ref(thing)
        server = await Holder.start(thing)
        del thing
        gc.collect()
        gc.disable()
        try:
            beamish.exit(server, "enough")
            await settle()
            assert reference() is None
        finally:
            gc.enable()


@both_roads
class TestAnIdleServer:
    async def test_keeps_neither_requests_nor_replies(self, world: World) -> None:
        one, other = await Holder.start(), await Holder.start()

        async def in_turn(ask: Callable[[Thing], Awaitable[Any]]) -> bool:
            thing = Thing()
            reference = weakref.ref(thing)
            await ask(thing)
            del thing
            return await freed(reference)

        async def told(thing: Thing) -> None:
            one.note(thing)
            await settle()

        assert await in_turn(one.echo)
        assert await in_turn(one.echo_later)
        assert await in_turn(lambda thing: one.through(other, thing))
        assert await in_turn(told)
        for server in (one, other):
            await server.stop()


@both_roads
class TestAfterManyCalls:
    async def test_of_every_ending_nothing_is_left(self, world: World, clock: ManualClock) -> None:
        assert left(world) == NOTHING
        server = await Holder("server").start(Thing())
        late = [asyncio.ensure_future(server.with_timeout(0.1 + i / 100).later()) for i in range(100)]
        cancelled = [asyncio.ensure_future(server.later()) for _ in range(100)]
        await settle()
        for one in cancelled:
            one.cancel()
        await clock.advance(5.0)
        ends = await asyncio.gather(*late, return_exceptions=True)
        assert {type(end) for end in ends} == {CallTimeout}
        await server.forget()
        pid: Any = server.pid()
        assert not pid.waiters
        for i in range(100):
            assert await server.echo(i) == await server.echo_later(i)
            with pytest.raises(TimeoutError):
                await beamish.down(server, timeout=0.0)
            beamish.cancel_timer(beamish.send_after(10.0, server, i))
            beamish.demonitor(beamish.monitor(server))
        assert not pid.monitors
        assert not pid.timers
        beamish.exit(server, KILL)
        await settle()
        me = {"adopted": 1, "processes": 1}  # this test, which has monitored
        assert left(world) == NOTHING | me

    async def test_of_crashes_and_kills_nothing_is_left(self, world: World) -> None:
        for i in range(50):
            server = await Holder("server").start(Thing())
            waiting = [asyncio.ensure_future(server.hang()), *(asyncio.ensure_future(server.echo(i)) for _ in range(3))]
            beamish.send_after(1000.0, server.pid() or server, "vanishes with it")
            await settle()
            beamish.exit(server, KILL if i % 2 else "enough")
            ends = await asyncio.gather(*waiting, return_exceptions=True)
            assert {type(end) for end in ends} == {ServerDown}
            with capture_crashes():
                server = await Holder("server").start_link()
                with pytest.raises(ServerDown):
                    await server.fail()
        await settle()
        assert left(world) == NOTHING

    async def test_of_waiting_in_vain_for_a_name_nothing_is_left(self, world: World, clock: ManualClock) -> None:
        for _ in range(10):
            waiting = asyncio.ensure_future(Holder("nobody").started(timeout=0.1))
            given_up = asyncio.ensure_future(Holder("nobody").started())
            await clock.advance(0.2)
            given_up.cancel()
            with pytest.raises(CallTimeout):
                await waiting
        await settle()
        assert left(world) == NOTHING

    async def test_of_timeouts_of_many_lengths_few_tables_are_left(self, world: World, clock: ManualClock) -> None:
        server = await Holder.start()
        for i in range(1000):
            await server.with_timeout(1.0 + i).echo_later(i)
        assert len(world.node.timeouts._tables) <= 64
        await server.stop()
