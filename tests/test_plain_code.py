"""Plain asyncio code, other loops and threads: who is whose, and what is refused."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest

import beamish
from beamish import (  # fmt: skip
    KILL,
    KILLED,
    NORMAL,
    SHUTDOWN,
    Crash,
    Exited,
    GenServer,
    NoProcess,
    ServerDown,
    SupervisorGaveUp,
    WrongLoop,
    blocking,
    call,
    cast,
    supervise,
)
from beamish.testing import World, capture_crashes, settle
from conftest import both_roads


class Cell(GenServer[list[Any]]):
    def init(self, *values: Any) -> list[Any]:
        return list(values)

    @call
    def all(self, state: list[Any]) -> list[Any]:
        return list(state)

    @call
    async def slowly(self, state: list[Any]) -> list[Any]:
        await asyncio.sleep(0)
        return list(state)

    @call
    def divide(self, state: list[Any], by: int) -> float:
        return 1 / by

    @call
    def thread(self, state: list[Any]) -> int:
        return threading.get_ident()

    @cast
    def put(self, state: list[Any], value: Any) -> None:
        state.append(value)


async def never() -> None:
    await asyncio.Event().wait()


class TestTheRoot:
    async def test_what_plain_code_links_does_not_cancel_it(self) -> None:
        linked = await Cell.start_link()
        spawned = beamish.spawn_link(never)
        beamish.exit(linked, "enough")
        beamish.exit(spawned, KILL)
        await settle()
        assert not beamish.alive(linked)
        assert not beamish.alive(spawned)
        current = asyncio.current_task()
        assert current is not None
        assert current.cancelling() == 0

    async def test_it_is_the_source_of_plain_codes_exit_signals(self) -> None:
        async def trap() -> Any:
            beamish.flag(trap_exit=True)
            got.append(await beamish.receive())

        got: list[Any] = []
        pid = beamish.spawn(trap)
        await settle()
        beamish.exit(pid, "hello")
        await beamish.down(pid)
        assert [(type(one), one.reason) for one in got] == [(Exited, "hello")]


class TestAdoption:
    """`current`, `link`, `monitor`, `receive` and `flag` make the running task a process, until it is done."""

    async def ending(self, body: Callable[[], Any]) -> tuple[asyncio.Task[Any], Any]:
        pids: list[Any] = []

        async def adopted() -> Any:
            pids.append(beamish.current())
            return await body()

        task = asyncio.ensure_future(adopted())
        await settle()
        return task, pids[0]

    async def test_a_return_is_normal(self) -> None:
        go_on = asyncio.Event()
        task, pid = await self.ending(go_on.wait)
        assert beamish.alive(pid)
        go_on.set()
        assert (await beamish.down(pid)).reason == NORMAL
        assert await task is True

    async def test_an_exception_is_a_crash_and_stays_the_tasks_own(self) -> None:
        go_on = asyncio.Event()

        async def crash() -> None:
            await go_on.wait()
            raise ValueError("mine")

        task, pid = await self.ending(crash)
        go_on.set()
        reason = (await beamish.down(pid)).reason
        assert isinstance(reason, Crash)
        assert isinstance(reason.error, ValueError)
        with pytest.raises(ValueError, match="mine") as raised:
            await task
        assert raised.tb.tb_next is not None  # with its traceback, which is the task's

    @pytest.mark.parametrize("signalled", [False, True])
    async def test_an_exception_that_nobody_retrieves_is_not_hidden(self, signalled: bool) -> None:
        told: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["exception"]))

        async def crash() -> None:
            try:
                await go_on.wait()
            finally:
                raise ValueError("lost")

        go_on = asyncio.Event()
        task, pid = await self.ending(crash)
        if signalled:
            beamish.exit(pid, "enough")
        else:
            go_on.set()
        await beamish.down(pid)
        del task, pid
        await settle()
        gc.collect()
        assert [type(error) for error in told] == [ValueError]

    async def test_a_cancellation_is_a_shutdown(self) -> None:
        task, pid = await self.ending(never)
        task.cancel()
        assert (await beamish.down(pid)).reason == SHUTDOWN

    @pytest.mark.parametrize("reason", ["enough", KILL], ids=repr)
    async def test_an_exit_signal_cancels_it(self, reason: object) -> None:
        task, pid = await self.ending(never)
        ended = asyncio.ensure_future(beamish.down(pid))
        await settle()
        beamish.exit(pid, reason)
        assert (await ended).reason == (KILLED if reason is KILL else reason)
        with pytest.raises(asyncio.CancelledError):
            await task

    async def test_a_link_is_a_link(self) -> None:
        server = await Cell.start()

        async def linked() -> None:
            beamish.link(server)
            await never()

        task = asyncio.ensure_future(linked())
        await settle()
        with capture_crashes(), pytest.raises(ServerDown):
            await server.divide(0)
        with pytest.raises(asyncio.CancelledError):
            await task

    async def test_it_may_receive_what_it_traps(self) -> None:
        async def trapping() -> Any:
            beamish.flag(trap_exit=True)
            server = await Cell.start_link()
            beamish.exit(server, "enough")
            return await beamish.receive(Exited)

        found = await asyncio.ensure_future(trapping())
        assert found.reason == "enough"

    async def test_nothing_is_left_of_it(self, world: World) -> None:
        for _ in range(10):
            task, pid = await self.ending(never)
            task.cancel()
            await beamish.down(pid)
        await settle()
        assert (world.node.adopted, world.node.ghosts) == ({}, {})

    async def test_a_callback_of_the_loop_is_nobody(self) -> None:
        found: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def callback() -> None:
            try:
                found.set_result(beamish.current())
            except RuntimeError as error:
                found.set_result(str(error))

        asyncio.get_running_loop().call_soon(callback)
        assert "no task" in await found


@both_roads
@pytest.mark.parametrize("reason", [KILL, "enough"], ids=repr)
async def test_a_task_that_outlives_its_server_is_plain_code(world: World, reason: object) -> None:
    class Starting(GenServer[list[Any]]):
        def init(self) -> list[Any]:
            return []

        @call
        async def begin(self, state: list[Any]) -> asyncio.Task[Any]:
            return asyncio.ensure_future(outlive())

    async def outlive() -> list[Any]:
        await go_on.wait()
        seen = [await cell.all(), await cell.slowly()]
        cell.put("from the task")
        return [*seen, await cell.all()]

    go_on = asyncio.Event()
    cell, server = await Cell.start(), await Starting.start()
    task = await server.begin()
    beamish.exit(server, reason)
    await settle()
    go_on.set()
    assert await task == [[], [], ["from the task"]]
    await cell.stop()


def in_a_thread(fn: Callable[[], Any]) -> Any:
    """What `fn` returns or raises, in a thread of its own."""
    found: list[Any] = []

    def body() -> None:
        try:
            found.append(fn())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    return found[0]


class TestForeignLoops:
    async def test_a_thread_without_a_loop_is_refused(self) -> None:
        by_pid, by_name = await Cell.start(), await Cell("cell").start()
        pid: Any = by_pid.pid()
        for act in (
            lambda: by_pid.put(1),
            lambda: by_name.put(1),
            lambda: by_pid.cast(1),
            lambda: beamish.send(by_pid, 1),
            lambda: beamish.send(pid, 1),
            lambda: beamish.exit(pid, KILL),
        ):
            error = in_a_thread(act)
            assert isinstance(error, WrongLoop)
            assert "blocking" in str(error)
        assert (await by_pid.all(), await by_name.all()) == ([], [])
        for one in (by_pid, by_name):
            await one.stop()

    async def test_another_threads_loop_is_refused_by_pid(self) -> None:
        server = await Cell.start()

        def on_a_loop(act: Callable[[], Any]) -> Callable[[], Any]:
            async def body() -> Any:
                value = act()
                return await value if asyncio.iscoroutine(value) else value

            return lambda: asyncio.run(body())

        for act in (
            server.all,
            server.slowly,
            lambda: server.put(1),
            lambda: server.call("request"),
            lambda: server.cast("request"),
            lambda: beamish.send(server, 1),
            lambda: beamish.exit(server, KILL),
            lambda: beamish.monitor(server),
        ):
            assert isinstance(in_a_thread(on_a_loop(act)), WrongLoop)
        assert await server.all() == []
        await server.stop()

    async def test_a_name_is_one_of_the_running_loop(self) -> None:
        server = await Cell("cell").start("here")

        async def there() -> Any:
            with pytest.raises(NoProcess):
                await server.all()
            async with supervise([server.child_spec("there")]):
                return await server.all()

        assert in_a_thread(lambda: asyncio.run(there())) == ["there"]
        assert await server.all() == ["here"]
        await server.stop()

    def test_loops_that_take_turns_keep_their_servers(self) -> None:
        """On Python 3.11 a call tells loops apart by their thread, and all other verbs by the loop: one of these goes first."""

        async def ask() -> list[Any]:
            assert beamish.whereis("cell") is not None
            return await cell.all()

        loops = [asyncio.new_event_loop() for _ in range(2)]
        cell = Cell("cell")
        try:
            for loop in loops:
                loop.run_until_complete(cell.start(str(loops.index(loop))))
            for _ in range(2):
                assert [loop.run_until_complete(ask()) for loop in loops] == [["0"], ["1"]]
            for loop in loops:
                loop.run_until_complete(cell.stop())
        finally:
            for loop in loops:
                loop.run_until_complete(asyncio.sleep(0))
                loop.close()


class TestBlocking:
    def test_a_tree_of_its_own(self) -> None:
        cell = Cell("cell")
        with blocking.run([cell.child_spec("one")]) as rt:
            rt.cast(cell.put, "two")
            assert rt.call(cell.all) == ["one", "two"]
            assert rt.call(cell.slowly) == ["one", "two"]
            with capture_crashes(), pytest.raises(ServerDown):
                rt.call(cell.divide, 0)
            assert rt.call(cell.all) == ["one"]
            assert rt.call(cell.thread) != threading.get_ident()
            assert blocking.call(cell.all) == ["one"]  # the only loop that runs servers
        with pytest.raises(WrongLoop, match="ended"):
            rt.call(cell.all)

    def test_a_tree_that_gives_up(self) -> None:
        cell = Cell("cell")

        def use_it() -> None:
            with blocking.run([cell.child_spec()], max_restarts=0) as rt:
                with pytest.raises((ServerDown, WrongLoop)):
                    rt.call(cell.divide, 0)
                with pytest.raises((NoProcess, WrongLoop)):
                    rt.call(cell.all)

        with capture_crashes(), pytest.raises(SupervisorGaveUp):
            use_it()

    def test_a_child_that_does_not_start(self) -> None:
        class Failing(GenServer[None]):
            def init(self) -> None:
                raise ValueError("no")

        with capture_crashes(), pytest.raises(beamish.StartError), blocking.run([Failing.child_spec()]):
            raise AssertionError("never reached")

    async def test_a_worker_thread_of_a_running_application(self) -> None:
        cell = await Cell.start("one")
        assert await asyncio.to_thread(blocking.call, cell.all) == ["one"]
        await asyncio.to_thread(blocking.cast, cell.put, "two")
        assert await cell.all() == ["one", "two"]
        await cell.stop()

    async def test_the_loops_own_thread_is_told_instead_of_stopped(self) -> None:
        cell = await Cell.start()
        with pytest.raises(RuntimeError, match="await"):
            blocking.call(cell.all)
        await cell.stop()
