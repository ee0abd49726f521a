"""Exits: the dead stay dead, exiting is a state, and a signal to oneself does not return."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import beamish
from beamish import KILL, KILLED, Answer, Crash, GenServer, Killed, NoProcess, Reply, ServerDown, call, cast
from beamish.testing import World, capture_crashes, settle
from conftest import both_roads


class Box(GenServer[list[Any]]):
    """Keeps what it gets."""

    def init(self, log: list[Any] | None = None) -> list[Any]:
        return [] if log is None else log

    @call
    def all(self, state: list[Any]) -> list[Any]:
        return list(state)

    @cast
    def put(self, state: list[Any], value: Any) -> None:
        state.append(value)

    def handle_info(self, state: list[Any], message: Any) -> None:
        state.append(message)


class Doing(GenServer[list[Any]]):
    """Does what it is told, in a `def` or an `async def` handler."""

    def init(self) -> list[Any]:
        return ["fresh"]

    @call
    def do(self, state: list[Any], fn: Callable[[list[Any]], Any]) -> Any:
        return fn(state)

    @call
    def do_and_replace(self, state: list[Any], fn: Callable[[list[Any]], Any]) -> Answer[Any]:
        return Reply(fn(state), state=["replaced"])

    @call
    async def do_async(self, state: list[Any], fn: Callable[[list[Any]], Awaitable[Any]]) -> object:
        return await fn(state)

    @cast
    def later(self, state: list[Any], fn: Callable[[list[Any]], Any]) -> None:
        fn(state)


async def never() -> None:
    await asyncio.Event().wait()


def swallowing(fn: Callable[[], Any]) -> Callable[[Any], str]:
    """A handler that catches everything that `fn` raises, as no handler should."""

    def handler(state: Any) -> str:
        try:
            fn()
        except BaseException:  # also the CancelledError of one's own death
            pass
        return "returned all the same"

    return handler


@both_roads
class TestTheDeadStayDead:
    @pytest.mark.parametrize("handler", ["do", "do_and_replace"])
    async def test_a_killed_def_handler_does_not_revive_its_process(self, world: World, handler: str) -> None:
        server = await Doing("victim").start()
        kill = swallowing(lambda: beamish.exit("victim", KILL))
        with pytest.raises(ServerDown) as down:
            await getattr(server, handler)(kill)
        assert down.value.reason == KILLED
        assert beamish.whereis("victim") is None
        with pytest.raises(NoProcess):
            await server.do(repr)

    @pytest.mark.parametrize("reason", [KILL, "enough", beamish.NORMAL, beamish.SHUTDOWN], ids=repr)
    async def test_an_exit_of_oneself_does_not_return(self, world: World, reason: object) -> None:
        reached: list[str] = []

        def leave(state: Any) -> None:
            beamish.exit(beamish.current(), reason)
            reached.append("def")

        async def leave_async(state: Any) -> None:
            await asyncio.sleep(0)
            beamish.exit(beamish.current(), reason)
            reached.append("async")

        for fn, handler in [(leave, "do"), (leave_async, "do_async")]:
            server = await Doing.start()
            with pytest.raises(ServerDown) as down:
                await getattr(server, handler)(fn)
            assert down.value.reason == (KILLED if reason is KILL else reason)
        assert reached == []

    async def test_a_swallowed_exit_of_oneself_ends_it_all_the_same(self, world: World) -> None:
        server = await Doing.start()
        with pytest.raises(ServerDown) as down:
            await server.do(swallowing(lambda: beamish.exit(beamish.current(), "enough")))
        assert down.value.reason == "enough"

    async def test_other_signals_wait_for_the_def_handler_and_drop_its_reply(self, world: World) -> None:
        seen: list[Any] = []
        server = await Doing("busy").start()
        other = await Doing.start()

        def told_to_leave(state: list[Any]) -> str:
            beamish.link(other)
            beamish.exit(other, "dying")  # comes back over the link, while this handler is on the stack
            seen.append((beamish.alive("busy"), beamish.whereis("busy")))
            return "dropped"

        with pytest.raises(ServerDown) as down:
            await server.do(told_to_leave)
        assert down.value.reason == "dying"
        assert seen == [(False, None)]  # exiting: not alive from that moment on

    async def test_what_queued_behind_a_crash_hears_of_it(self, world: World) -> None:
        go_on = asyncio.Event()

        async def crash(state: Any) -> None:
            await go_on.wait()
            raise ValueError("why")

        server = await Doing.start()
        with capture_crashes():
            waiting = [asyncio.ensure_future(server.do_async(crash)), *(asyncio.ensure_future(server.do(repr)) for _ in range(3))]
            await settle()
            go_on.set()
            ends = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(end.__cause__) for end in ends if isinstance(end, ServerDown)] == [ValueError] * 4


@both_roads
class TestADeadCaller:
    async def killed_by_its_callee(self, world: World, reason: object, log: list[Any], *, first_step: bool) -> ServerDown:
        box, caller, callee = await Box("box").start(log), await Doing("caller").start(), await Doing("callee").start()

        async def call_the_killer(state: Any) -> str:
            if not first_step:
                await asyncio.sleep(0)
            try:
                await Doing("callee").do(lambda state: beamish.exit("caller", reason))
                log.append("went on after its death")
            except asyncio.CancelledError:
                log.append("cancelled")
                if reason is KILL:
                    Box("box").put("a cast of the dead")
                    beamish.send("box", "a message of the dead")
                raise
            return "answered"

        with pytest.raises(ServerDown) as down:
            await caller.do_async(call_the_killer)
        await settle()
        for one in (box, callee):
            await one.stop()
        return down.value

    @pytest.mark.parametrize("first_step", [True, False])
    @pytest.mark.parametrize("reason", [KILL, "enough"], ids=repr)
    async def test_it_is_cancelled_at_its_call_and_sends_nothing(self, world: World, reason: object, first_step: bool) -> None:
        log: list[Any] = []
        down = await self.killed_by_its_callee(world, reason, log, first_step=first_step)
        assert down.reason == (KILLED if reason is KILL else reason)
        assert log == ["cancelled"]

    async def test_in_a_def_handler_nothing_that_it_does_has_an_effect(self, world: World) -> None:
        log: list[Any] = []
        box = await Box("box").start(log)
        started: list[Any] = []

        def go_on(state: Any) -> None:
            try:
                beamish.exit(beamish.current(), KILL)
            except asyncio.CancelledError:
                pass
            for act in (
                lambda: box.put("cast"),
                lambda: beamish.send("box", "sent"),
                lambda: beamish.send_after(0.0, "box", "sent later"),
                lambda: beamish.exit("box", "exit"),
                lambda: started.append(beamish.spawn(never)),
                lambda: started.append(beamish.spawn_link(never)),
                lambda: beamish.register("ghost"),
            ):
                try:
                    act()
                except (asyncio.CancelledError, ValueError):
                    pass

        server = await Doing.start()
        with pytest.raises(ServerDown):
            await server.do(go_on)
        await settle()
        assert (await box.all(), [one for one in started if beamish.alive(one)]) == ([], [])
        assert beamish.whereis("ghost") is None
        await box.stop()


@both_roads
class TestExiting:
    """Between an exit signal and the last line of a `finally` block."""

    async def started(self, world: World, log: list[Any], finishing: asyncio.Event) -> tuple[Doing, asyncio.Future[Any]]:
        async def work(state: Any) -> None:
            try:
                await never()
            finally:
                log.append("finally")
                beamish.send("box", "from the finally block")
                await finishing.wait()
                Box("box").put("and a cast")
                log.append("done")

        server = await Doing("exiting").start()
        waiting = asyncio.ensure_future(server.do_async(work))
        await settle()
        return server, waiting

    async def test_finally_blocks_run_and_delay_the_end(self, world: World) -> None:
        log: list[Any] = []
        box = await Box("box").start()
        finishing = asyncio.Event()
        server, waiting = await self.started(world, log, finishing)
        pid = server.pid()
        assert pid is not None
        ended = asyncio.ensure_future(beamish.down(pid))
        await settle()
        beamish.exit(server, "enough")
        await settle()
        assert (log, server.pid(), beamish.alive(server), ended.done()) == (["finally"], None, False, False)
        with pytest.raises(beamish.AlreadyStarted):  # it keeps its name
            await Doing("exiting").start()
        with pytest.raises(ServerDown) as down:  # calls fail at once
            await server.do(repr)
        assert down.value.reason == "enough"
        server.later(lambda state: log.append("a cast to the exiting"))
        beamish.exit(server, "a second reason")
        finishing.set()
        assert (await ended).reason == "enough"
        with pytest.raises(ServerDown) as down:
            await waiting
        assert down.value.reason == "enough"
        assert log == ["finally", "done"]
        assert await box.all() == ["from the finally block", "and a cast"]
        await box.stop()

    async def test_kill_overrides_and_frees_at_once(self, world: World) -> None:
        log: list[Any] = []
        box = await Box("box").start()
        server, waiting = await self.started(world, log, asyncio.Event())
        beamish.exit(server, "enough")
        await settle()
        with capture_crashes():
            beamish.exit(server, KILL)
            assert beamish.whereis("exiting") is None
            again = await Doing("exiting").start()
            with pytest.raises(ServerDown) as down:
                await waiting
            await settle()
        assert down.value.reason == KILLED
        assert log == ["finally"]
        assert await again.do(len) == 1
        assert await box.all() == ["from the finally block"]
        await again.stop()
        await box.stop()

    async def test_who_swallows_the_cancellation_is_cut_off_and_reported(self, world: World) -> None:
        log: list[Any] = []
        box = await Box("box").start()

        async def stubborn(state: Any) -> None:
            while True:
                try:
                    await never()
                except asyncio.CancelledError:
                    log.append("swallowed")
                    box.put("a cast of the dead")
                    beamish.send("box", "a message of the dead")

        server = await Doing("stubborn").start()
        waiting = asyncio.ensure_future(server.do_async(stubborn))
        await settle()
        beamish.exit(server, "please")
        await settle()
        assert log == ["swallowed"]
        assert (await box.all()) == ["a cast of the dead", "a message of the dead"]  # exiting is not dead yet
        with capture_crashes() as reports:
            beamish.exit(server, KILL)
            with pytest.raises(ServerDown) as down:
                await waiting
            await settle()
        assert down.value.reason == KILLED
        assert log == ["swallowed"] * 2
        assert len(await box.all()) == 2  # what it sent after its death is dropped
        assert any("cut off" in record.getMessage() for record in reports)
        await box.stop()

    async def test_an_exit_in_the_queue_drops_what_is_there(self, world: World) -> None:
        log: list[Any] = []
        server = await Doing.start()
        server.later(lambda state: log.append("never"))
        beamish.exit(server, "enough")
        await settle()
        assert (log, beamish.alive(server)) == ([], False)


@both_roads
class TestACancelledErrorNobodySignalled:
    async def test_is_a_crash_of_the_handler(self, world: World) -> None:
        async def raises(state: Any) -> None:
            raise asyncio.CancelledError

        async def awaits_a_cancelled_one(state: Any) -> None:
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await asyncio.sleep(0)
            await future

        def raises_at_once(state: Any) -> None:
            raise asyncio.CancelledError

        handlers: list[tuple[str, Any]] = [("do", raises_at_once), ("do_async", raises), ("do_async", awaits_a_cancelled_one)]
        for handler, fn in handlers:
            server = await Doing.start()
            with capture_crashes() as crashes, pytest.raises(ServerDown) as down:
                await getattr(server, handler)(fn)
            assert isinstance(down.value.__cause__, asyncio.CancelledError)
            assert len(crashes) == 1

    async def test_is_a_crash_of_a_spawned_function(self, world: World) -> None:
        async def awaits_a_cancelled_one() -> None:
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future

        with capture_crashes() as crashes:
            found = await beamish.down(beamish.spawn(awaits_a_cancelled_one))
        assert isinstance(found.reason, Crash)
        assert len(crashes) == 1


@both_roads
class TestTasksOfAHandler:
    """`current()` in a task that a handler has made is its server: an exit there ends the server, not only the task."""

    @pytest.mark.parametrize("reason", [KILL, "enough"], ids=repr)
    async def test_an_exit_in_a_background_task_of_an_idle_server(self, world: World, reason: object) -> None:
        tasks: list[asyncio.Task[None]] = []

        async def leave() -> None:
            beamish.exit(beamish.current(), reason)

        async def begin(state: Any) -> None:
            tasks.append(asyncio.ensure_future(leave()))

        server = await Doing("idle").start()
        ended = asyncio.ensure_future(beamish.down(server))
        await server.do_async(begin)
        await settle()
        assert beamish.whereis("idle") is None
        assert (await ended).reason == (KILLED if reason is KILL else reason)
        assert tasks[0].cancelled()

    @pytest.mark.parametrize("reason", [KILL, "enough"], ids=repr)
    async def test_an_exit_in_a_child_of_its_task_group(self, world: World, reason: object) -> None:
        async def leave() -> None:
            beamish.exit(beamish.current(), reason)

        async def work(state: Any) -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(leave())
                await never()

        server = await Doing("group").start()
        waiting = asyncio.ensure_future(server.do_async(work))
        await settle()
        assert beamish.whereis("group") is None
        with pytest.raises(ServerDown) as down:
            await waiting
        assert down.value.reason == (Killed() if reason is KILL else reason)
