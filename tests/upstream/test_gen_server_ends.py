"""gen_server_SUITE and gen_server_test.exs: stopping, parents, an init of its own kind, and callbacks that are not there."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import beamish
from beamish import (
    NORMAL,
    Answer,
    At,
    CallTimeout,
    Continue,
    GenServer,
    Init,
    NoProcess,
    NoReply,
    ServerDown,
    Stop,
    TimedOut,
    Timeout,
    Via,
    call,
    cast,
    down,
    exit,
    flag,
    node,
    receive,
    send,
    spawn,
    whereis,
)
from beamish.testing import ManualClock, World, capture_crashes, settle
from conftest import both_roads
from upstream.words import Book


class Cell(GenServer[Any]):
    def init(self, value: Any = 0) -> Any:
        return value

    @call
    def get(self, state: Any) -> Any:
        return state

    @call
    def leave(self, state: Any, reason: object) -> Answer[str]:
        return Stop(reason, reply="ok")


#: The ways in which a server may be named: not at all, by a name of this loop, by way of another name server.
NAMES = [None, "my_test_name", Via(Book(), "my_test_name"), At("my_test_name", "nonode@nohost")]


@both_roads
class TestStop:
    """stop1 to stop7, stop/3."""

    @pytest.mark.parametrize("name", NAMES, ids=["anonymous", "local", "via", "at"])
    async def test_by_any_name(self, world: World, name: Any) -> None:
        anonymous = await Cell.start() if name is None else await Cell("my_test_name" if isinstance(name, At) else name).start()
        server = anonymous if name is None else Cell(name)
        pid: Any = server.pid()
        await server.stop()
        assert not beamish.alive(pid)
        with pytest.raises(NoProcess):
            await server.stop()

    async def test_with_another_reason(self, world: World) -> None:
        server = await Cell.start()
        with capture_crashes():
            await server.stop("other_reason")
        assert server.pid() is None

    async def test_with_a_timeout_that_is_none(self, world: World) -> None:
        server = await Cell.start()
        for wrong in ("invalid", -1.0):
            with pytest.raises((TypeError, ValueError)):
                await server.stop(timeout=wrong)  # type: ignore[arg-type]
        assert beamish.alive(server)
        await server.stop()

    async def test_one_that_ends_otherwise_says_so(self, world: World) -> None:
        class Stubborn(Cell):
            def terminate(self, state: Any, reason: Any) -> None:
                raise beamish.Exit("not like this")

        server = await Stubborn.start()
        with capture_crashes(), pytest.raises(ServerDown) as failed:
            await server.stop()
        assert failed.value.reason == "not like this"

    async def test_one_that_takes_too_long(self, world: World, clock: ManualClock) -> None:
        class Slow(Cell):
            async def terminate(self, state: Any, reason: Any) -> None:
                await state.wait()

        gate = asyncio.Event()
        server = await Slow.start(gate)
        stopping = asyncio.ensure_future(server.stop(timeout=1.0))
        await clock.advance(1.0)
        with pytest.raises(CallTimeout):
            await stopping
        gate.set()
        await down(server)


@both_roads
async def test_whereis(world: World) -> None:
    """whereis/1."""
    book = Book()
    for name in ("whereis_server", Via(book, "whereis_server")):
        assert whereis(name) is None
        assert Cell(name).pid() is None
        server = await Cell(name).start()
        assert whereis(name) == Cell(name).pid() == server.pid() is not None
        await server.stop()
        assert whereis(name) is None
    server = await Cell("whereis_server").start()
    assert whereis(At("whereis_server", node())) == server.pid()
    assert whereis(At("whereis_server", "foo@bar")) is None
    await server.stop()


@both_roads
class TestAParentWithAName:
    """spec_init_local_registered_parent, spec_init_global_registered_parent: it is known as the parent all the same."""

    @pytest.mark.parametrize("ends", ["by itself", "with its parent"])
    async def test_terminate_runs(self, world: World, ends: str) -> None:
        told = beamish.current()

        class Child(Cell):
            def init(self, value: Any = None) -> Any:
                flag(trap_exit=True)

            def terminate(self, state: Any, reason: Any) -> None:
                send(told, "stopped")

        async def parent() -> None:
            beamish.register("foobar")
            send(told, await Child("my_server").start_link())
            await receive()

        pid = spawn(parent)
        server = await receive(Child)
        if ends == "by itself":
            await server.leave(NORMAL)
        else:
            exit(pid, NORMAL)  # nothing, from a stranger
            send(pid, "go")
        assert await receive() == "stopped"
        await settle()
        assert server.pid() is None
        exit(pid, beamish.KILL)


@both_roads
class TestInit:
    """spec_init: what enter_loop is for, an init that does its own things first, is an async init here."""

    async def test_of_its_own_kind(self, world: World) -> None:
        class Special(Cell):
            async def init(self, gate: asyncio.Future[int]) -> Init:  # type: ignore[override]
                beamish.register("my_server")
                return Init(await gate, then=Timeout(0.0))

            def handle_info(self, state: Any, message: Any) -> Any:
                assert message == TimedOut()
                return NoReply(state=state + 1)

        gate: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        starting = asyncio.ensure_future(Special.start(gate))
        await settle()
        assert not starting.done()
        gate.set_result(6)
        server = await starting
        await settle()
        assert await Special("my_server").get() == 7
        assert whereis("my_server") == server.pid()
        await server.stop()
        assert whereis("my_server") is None


@both_roads
class TestMissingCallbacks:
    """The undef group: what a class has not written."""

    async def test_init(self, world: World) -> None:
        class Bare(GenServer[None]):
            pass

        server = await Bare.start()
        assert await beamish.sys.get_state(server) is None
        await server.stop()

    async def test_handle_call_handle_cast_and_handle_continue_end_the_server(self, world: World) -> None:
        class Continuing(Cell):
            @cast
            def go_on(self, state: Any) -> NoReply:
                return NoReply(then=Continue("on"))

        with capture_crashes():
            server = await Continuing.start()
            with pytest.raises(ServerDown, match="no handle_call"):
                await server.call("what")
            for how in ("cast", "go_on"):
                other: Any
                other, ref = await Continuing.start_monitor()
                if how == "cast":
                    other.cast("what")
                else:
                    other.go_on()
                reason: Any = (await down(ref)).reason
                assert isinstance(reason.error, RuntimeError)
                assert "has no handle_c" in str(reason.error)

    async def test_handle_info_is_a_line_in_the_log(self, world: World) -> None:
        server = await Cell.start(1)
        with capture_crashes() as reports:
            send(server, "hello")
            assert await server.get() == 1
        assert [one.context for one in reports] == ["no_handle_info"]  # type: ignore[attr-defined]
        await server.stop()

    @pytest.mark.parametrize("reason", [NORMAL, "my own"])
    async def test_terminate_changes_nothing(self, world: World, reason: object) -> None:
        server, ref = await Cell.start_monitor()
        with capture_crashes() as reports:
            await server.leave(reason)
            assert (await down(ref)).reason == reason
        assert len(reports) == (reason != NORMAL)

    @pytest.mark.parametrize("where", ["terminate", "handle_info"])
    async def test_a_function_that_a_callback_misses_is_an_error_of_the_callback(self, world: World, where: str) -> None:
        class Careless(Cell):
            def terminate(self, state: Any, reason: Any) -> None:
                if where == "terminate":
                    self.no_such_function()  # type: ignore[attr-defined]

            def handle_info(self, state: Any, message: Any) -> Any:
                if where == "handle_info":
                    self.no_such_function()  # type: ignore[attr-defined]
                return Stop(NORMAL)

        server, ref = await Careless.start_monitor()
        with capture_crashes() as reports:
            send(server, "hello")
            reason: Any = (await down(ref)).reason
        assert isinstance(reason.error, AttributeError)
        assert [one.context for one in reports] == ["terminate"]  # type: ignore[attr-defined]


def test_generates_child_spec() -> None:
    """generates child_spec/1."""
    spec = Cell.child_spec("hello")
    assert (spec.id, spec.start, spec.args, spec.restart, spec.shutdown) == (Cell, Cell, ("hello",), "permanent", 5.0)

    class Custom(Cell, restart="temporary", shutdown=None): ...

    spec = Custom.child_spec("hello")
    assert (spec.id, spec.start, spec.args, spec.restart, spec.shutdown) == (Custom, Custom, ("hello",), "temporary", None)
    spec = spec.replace(id="id", shutdown="brutal_kill")
    assert (spec.id, spec.restart, spec.shutdown) == ("id", "temporary", "brutal_kill")
