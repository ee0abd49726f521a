"""What the runtime promises about calls: the restart window, async handlers, contexts, nesting, and what it puts back."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import beamish
from beamish import KILL, Answer, CallTimeout, GenServer, NoReply, ServerDown, StartError, Supervisor, call, cast
from beamish.testing import ManualClock, World, capture_crashes, settle
from conftest import both_roads


class Doing(GenServer[list[Any]]):
    """Does what it is told, in a `def` or an `async def` handler."""

    def init(self) -> list[Any]:
        return []

    @call
    def do(self, state: list[Any], fn: Callable[[], Any]) -> Any:
        return fn()

    @call
    async def do_async(self, state: list[Any], fn: Callable[[], Awaitable[Any]]) -> object:
        return await fn()

    @call
    def all(self, state: list[Any]) -> list[Any]:
        return list(state)

    @cast
    def put(self, state: list[Any], value: Any) -> None:
        state.append(value)

    @call
    async def slow_put(self, state: list[Any], value: Any, turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        state.append(value)


class Slow(Doing):
    """Its init waits for an event, from its second start on."""

    async def init(self, log: list[Any], go_on: asyncio.Event) -> list[Any]:  # type: ignore[override]
        log.append("init")
        if len(log) > 1:
            await go_on.wait()
        return []


async def never() -> None:
    await asyncio.Event().wait()


def crash() -> None:
    raise ValueError("why")


@both_roads
class TestTheRestartWindow:
    async def test_after_server_down_a_supervised_server_is_back(self, world: World) -> None:
        server = Doing("server")
        await world.start_supervised(server.child_spec())
        with capture_crashes():
            for _ in range(3):
                before = server.pid()
                with pytest.raises(ServerDown):
                    await server.do(crash)
                assert server.pid() not in (None, before)
                assert await server.all() == []

    async def test_on_a_machine_that_is_busy_too(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        times = itertools.count(step=2.0)  # two seconds pass from one look at the clock to the next
        monkeypatch.setattr("beamish._runtime.node.monotonic", lambda: next(times))
        server = Doing("server")
        await world.start_supervised(server.child_spec())
        with capture_crashes(), pytest.raises(ServerDown):
            await server.do(crash)
        assert server.pid() is not None
        beamish.exit(server, KILL)
        assert await server.all() == []

    async def test_after_a_death_without_a_call_too(self, world: World) -> None:
        server = Doing("server")
        await world.start_supervised(server.child_spec())
        beamish.exit(server, KILL)
        assert await server.all() == []  # a name that does not resolve gives the supervisor one turn before it is an error

    async def test_after_its_supervisor_gave_up(self, world: World) -> None:
        server = Doing("server")
        inner = Supervisor("inner").child_spec([server.child_spec()], max_restarts=0)
        await world.start_supervised(Supervisor("outer").child_spec([inner], max_restarts=10))
        with capture_crashes():
            for _ in range(3):
                with pytest.raises(ServerDown):
                    await server.do(crash)
                assert await server.all() == []

    async def test_in_a_handler_of_another_server(self, world: World) -> None:
        server = Doing("server")
        await world.start_supervised(server.child_spec())
        other = await world.start_supervised(Doing("other").child_spec())

        async def twice() -> list[Any]:
            with pytest.raises(ServerDown):
                await server.do(crash)
            return await server.all()

        with capture_crashes():
            assert await other.do_async(twice) == []

    async def test_a_slower_one_is_awaited(self, world: World, clock: ManualClock) -> None:
        server, log, go_on = Slow("slow"), list[Any](), asyncio.Event()
        await world.start_supervised(server.child_spec(log, go_on))
        with capture_crashes(), pytest.raises(ServerDown):
            await server.do(crash)
        late = asyncio.ensure_future(server.started(timeout=1.0))
        await clock.advance(1.1)
        with pytest.raises(CallTimeout):
            await late
        waiting = asyncio.ensure_future(server.started())
        await settle()
        assert not waiting.done()
        go_on.set()
        assert await waiting == server
        assert await server.all() == []


@both_roads
class TestAsyncHandlers:
    async def test_asyncios_own_tools_work_inside(self, world: World) -> None:
        async def within() -> str:
            try:
                async with asyncio.timeout(0.0):
                    await never()
            except TimeoutError:
                return "timeout"
            return "no timeout"

        async def group() -> list[int]:
            async with asyncio.TaskGroup() as tasks:
                made = [tasks.create_task(asyncio.sleep(0, i)) for i in range(3)]
            return [task.result() for task in made]

        async def failing_group() -> str:
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(never())
                    raise ValueError("inside")
            except ExceptionGroup as group:
                return str(group.exceptions[0])

        server = await Doing.start()
        for fn, expected in [(within, "timeout"), (group, [0, 1, 2]), (failing_group, "inside")]:
            assert await server.do_async(fn) == expected
        assert await server.do_async(lambda: asyncio.wait_for(asyncio.sleep(0, "fine"), 1.0)) == "fine"
        await server.stop()

    async def test_anyio_works_inside(self, world: World) -> None:
        anyio = pytest.importorskip("anyio", reason="anyio is not installed")

        async def scopes() -> list[Any]:
            found: list[Any] = []
            with anyio.move_on_after(0) as scope:
                await anyio.sleep_forever()
            found.append(scope.cancelled_caught)
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.lowlevel.checkpoint)
                await anyio.lowlevel.checkpoint()
            with pytest.raises(TimeoutError), anyio.fail_after(0):
                await anyio.sleep_forever()
            found.append(await server.all())
            return found

        server, asking = await Doing.start(), await Doing.start()
        assert await asking.do_async(scopes) == [True, []]
        for one in (server, asking):
            await one.stop()

    async def test_current_is_the_server_all_the_way(self, world: World) -> None:
        seen: list[Any] = []

        async def look() -> None:
            seen.append(beamish.current())
            await asyncio.sleep(0)
            seen.append(beamish.current())
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(in_a_child())
            seen.append(await other.do(beamish.current))
            seen.append(beamish.current())

        async def in_a_child() -> None:
            seen.append(beamish.current())

        server, other = await Doing.start(), await Doing.start()
        await server.do_async(look)
        assert seen == [server.pid(), server.pid(), server.pid(), other.pid(), server.pid()]
        for one in (server, other):
            await one.stop()

    async def test_a_cancelled_caller_never_cancels_the_server(self, world: World) -> None:
        server = await Doing.start()
        calling = asyncio.ensure_future(server.slow_put("done", 3))
        queued = asyncio.ensure_future(server.slow_put("done too", 1))
        await asyncio.sleep(0)
        for one in (calling, queued):
            one.cancel()
        await settle()
        assert calling.cancelled()
        assert queued.cancelled()
        assert await server.all() == ["done", "done too"]
        await server.stop()


class Later(GenServer[list[Any]]):
    """Answers later, from handlers of every kind."""

    def init(self, where: list[Any]) -> list[Any]:
        return where

    @call
    def in_def(self, state: list[Any]) -> Answer[str]:
        state.append(beamish.client())
        return NoReply()

    @call
    async def at_once(self, state: list[Any]) -> Answer[str]:
        state.append(beamish.client())
        return NoReply()

    @call
    async def after_a_turn(self, state: list[Any]) -> Answer[str]:
        await asyncio.sleep(0)
        state.append(beamish.client())
        return NoReply()


@both_roads
class TestClients:
    @pytest.mark.parametrize("handler", ["in_def", "at_once", "after_a_turn"])
    async def test_a_client_taken_in_any_handler_is_who_waits(self, world: World, handler: str) -> None:
        clients: list[Any] = []
        server = await Later.start(clients)
        waiting = asyncio.ensure_future(getattr(server, handler)())
        await settle()
        beamish.reply(clients[0], "here")
        beamish.reply(clients[0], "twice")
        assert await waiting == "here"
        await server.stop()

    @pytest.mark.parametrize("handler", ["in_def", "at_once", "after_a_turn"])
    async def test_a_deferred_client_hears_of_the_servers_death(self, world: World, handler: str) -> None:
        server = await Later.start([])
        waiting = asyncio.ensure_future(getattr(server, handler)())
        await settle()
        beamish.exit(server, "gone")
        with pytest.raises(ServerDown) as down:
            await waiting
        assert down.value.reason == "gone"

    @pytest.mark.parametrize("handler", ["in_def", "after_a_turn"])
    async def test_a_reply_from_a_thread_arrives(self, world: World, handler: str) -> None:
        clients: list[Any] = []
        server = await Later.start(clients)
        waiting = asyncio.ensure_future(getattr(server, handler)())
        await settle()
        await asyncio.to_thread(beamish.reply, clients[0], "from a thread")
        assert await waiting == "from a thread"
        await server.stop()

    async def test_who_serves_no_call_has_no_client(self, world: World) -> None:
        class Asking(GenServer[None]):
            def init(self) -> None:
                beamish.client()

        with capture_crashes(), pytest.raises(StartError) as failed:
            await Asking.start()
        assert isinstance(failed.value.__cause__, RuntimeError)


trace: contextvars.ContextVar[str] = contextvars.ContextVar("trace", default="none")


class Context(GenServer[None]):
    def init(self) -> None:
        trace.set("the server's")

    @call
    def get(self, state: None) -> str:
        return trace.get()

    @call
    async def get_async(self, state: None) -> str:
        await asyncio.sleep(0)
        return trace.get()

    @call
    def set(self, state: None, value: str) -> None:
        trace.set(value)

    @call
    async def set_async(self, state: None, value: str) -> None:
        await asyncio.sleep(0)
        trace.set(value)


@both_roads
async def test_each_process_has_contextvars_of_its_own(world: World) -> None:
    trace.set("the caller's")
    one, other, plain = await Context.start(), await Context.start(), await Doing.start()
    assert [await one.get(), await one.get_async()] == ["the server's"] * 2
    await one.set("changed")
    assert [await one.get_async(), await other.get(), trace.get()] == ["changed", "the server's", "the caller's"]
    await one.set_async("again")
    assert [await one.get(), await other.get_async(), trace.get()] == ["again", "the server's", "the caller's"]
    assert await plain.do(trace.get) == "none"
    for server in (one, other, plain):
        await server.stop()


def interrupt() -> None:
    raise KeyboardInterrupt


async def interrupt_async() -> None:
    raise KeyboardInterrupt


class TestWhatEndsTheProgram:
    """KeyboardInterrupt and the like, raised in a handler: everything is put back, whoever goes on can go on."""

    @both_roads
    @pytest.mark.parametrize("through", ["def", "async", "a server"])
    def test_leaves_a_world_that_works(self, inline: bool, through: str) -> None:
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda loop, context: None)
        world = World(inline=inline)

        async def begin() -> tuple[Doing, Doing, Doing]:
            await world.__aenter__()
            return await Doing.start(), await Doing.start(), await Doing.start()

        async def ask() -> str:
            try:
                match through:
                    case "def":
                        await one.do(interrupt)
                    case "async":
                        await one.do_async(interrupt_async)
                    case _:
                        await other.do_async(lambda: one.do(interrupt))
            except KeyboardInterrupt:
                return "in the caller"
            except ServerDown:
                return "down"
            return "answered"

        async def after() -> list[Any]:
            assert (world.node.current, world.node.depth, beamish.alive(one)) == (None, 0, False)
            third.put("alive")
            try:
                return await third.all()
            finally:
                for server in (other, third):
                    if beamish.alive(server):
                        await server.stop()
                await world.__aexit__(None, None, None)

        try:
            one, other, third = loop.run_until_complete(begin())
            asking = loop.create_task(ask())
            try:
                loop.run_until_complete(asking)
            except KeyboardInterrupt:
                pass  # out of the loop itself, as from a callback
            assert loop.run_until_complete(after()) == ["alive"]
            assert asking.result() in ("in the caller", "down")
        finally:
            loop.close()
