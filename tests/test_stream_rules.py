"""`stream` and `own` under adverse conditions: sources that misbehave, owners that end in every state, closers that do too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from tests.conftest import both_roads

import beamish
from beamish import (
    KILL,
    KILLED,
    NORMAL,
    SHUTDOWN,
    Continue,
    Crash,
    Ended,
    Exit,
    Exited,
    GenServer,
    Init,
    NoProcess,
    NoReply,
    Stream,
    Supervisor,
    TimedOut,
    Timeout,
    alive,
    call,
    cast,
    current,
    disown,
    down,
    exit,
    flag,
    monitor,
    own,
    receive,
    spawn,
    spawn_link,
    stop,
    sys,
)
from beamish.testing import World, capture_crashes, settle

pytestmark = both_roads


class Source:
    """An async iterator that a test feeds: items, exceptions to raise, None for its end. What was done to it is in `log`."""

    def __init__(self, *items: Any, iter_fails: bool = False, close: Callable[[], Any] | None = None) -> None:
        self.items: asyncio.Queue[Any] = asyncio.Queue()
        for item in items:
            self.items.put_nowait(item)
        self.iter_fails = iter_fails
        self.close = close
        self.log: list[str] = []

    def __aiter__(self) -> AsyncIterator[Any]:
        if self.iter_fails:
            raise OSError("can't begin")
        return self

    async def __anext__(self) -> Any:
        self.log.append("next")
        item = await self.items.get()
        if item is None:
            raise StopAsyncIteration
        if isinstance(item, BaseException):
            raise item
        return item

    async def aclose(self) -> None:
        self.log.append("close")
        if self.close is not None:
            await self.close()

    @property
    def closed(self) -> int:
        return self.log.count("close")


class Listener(GenServer[list[Any]]):
    def init(self, *items: Any) -> Any:
        return list(items)

    @call
    def listen(self, state: list[Any], source: Any, max_in_flight: int = 1) -> Stream:
        return self.stream(source, max_in_flight)

    @call
    def seen(self, state: list[Any]) -> list[Any]:
        return list(state)

    @call
    def do(self, state: list[Any], function: Callable[[], Any]) -> Any:
        return function()

    @cast
    def listen_and_crash(self, state: list[Any], source: Any) -> None:
        self.stream(source)
        raise Exit("boom")

    @cast
    async def wait(self, state: list[Any], gate: Any) -> None:
        await gate

    def handle_info(self, state: list[Any], message: Any) -> Any:
        if message == "crash":
            raise Exit("boom")
        if isinstance(message, asyncio.Future):
            return self.later(state, message)
        state.append(message)
        return None

    async def later(self, state: list[Any], gate: asyncio.Future[Any]) -> None:
        await gate
        state.append("later")


def gate() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()


async def listener(world: World) -> Listener:
    return await world.start_supervised(Listener("listener").child_spec())


# --- sources that misbehave -------------------------------------------------------------------------------------------


async def test_a_source_that_can_not_be_begun_ends_nothing_else(world: World) -> None:
    server = await listener(world)
    source = Source(iter_fails=True)
    with capture_crashes():
        stream = await server.listen(source)
        await down(stream)
        (ended,) = await server.seen()
    assert isinstance(ended, Ended)
    assert isinstance(ended.reason, Crash)


async def test_a_source_that_can_not_be_closed_ends_nothing_else(world: World) -> None:
    server = await listener(world)

    async def fails() -> None:
        raise OSError("closed already")

    with capture_crashes() as reports:
        stream = await server.listen(Source(1, None, close=fails))
        await down(stream)
        assert await server.seen() == [1, Ended(NORMAL, stream)]
    assert "closed already" in repr([one.exc_info for one in reports])


async def test_a_source_that_was_cancelled_itself_ends_nothing_else(world: World) -> None:
    """It awaited something that somebody cancelled: nobody has cancelled the stream."""
    server = await listener(world)
    with capture_crashes():
        stream = await server.listen(Source(1, asyncio.CancelledError()))
        await down(stream)
        one, ended = await server.seen()
    assert one == 1
    assert isinstance(ended.reason, Crash)


async def test_a_generator_that_swallows_its_cancellation_is_ended_all_the_same(world: World) -> None:
    async def stubborn() -> AsyncIterator[int]:
        n = 0
        while True:
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                n += 1
                if n > 3:
                    raise
            yield n

    server = await listener(world)
    stream = await server.listen(stubborn())
    await settle()
    stream.close()
    await settle()
    assert stream not in world.node.procs
    assert await server.seen() == []


@pytest.mark.parametrize("end", ["close", "kill the stream"])
async def test_a_close_that_hangs_holds_nobody_up(world: World, end: str) -> None:
    server = await Listener("listener").start()
    source = Source(close=lambda: asyncio.get_running_loop().create_future())
    stream = await server.listen(source)
    await settle()
    stream.close() if end == "close" else exit(server, KILL)
    await settle()
    assert alive(server) is (end == "close")
    exit(server, KILL)
    exit(stream, KILL)
    with capture_crashes():
        await settle()
    assert stream not in world.node.procs


# --- a source is closed whatever happens ------------------------------------------------------------------------------


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("how", ["close", "kill", "kill the stream", "shutdown", "shut the stream down"])
async def test_a_source_is_closed_once_at_whatever_turn_it_ends(
    world: World, how: str, turns: int, inline: bool, request: pytest.FixtureRequest
) -> None:
    server = await Listener("listener").start()
    source = Source()
    stream = await server.listen(source)
    for _ in range(turns):
        await asyncio.sleep(0)
    match how:
        case "close":
            stream.close()
        case "kill":
            exit(server, KILL)
        case "kill the stream":
            exit(stream, KILL)
        case "shutdown":
            exit(server, SHUTDOWN)
        case _:
            exit(stream, SHUTDOWN)
    await settle()
    assert source.closed == 1
    assert stream not in world.node.procs
    assert alive(server) is (how == "close")
    if how == "close":
        await stop(server)


async def test_a_source_is_closed_when_the_handler_that_began_it_crashes(world: World) -> None:
    server = await Listener("listener").start()
    source = Source()
    with capture_crashes():
        server.listen_and_crash(source)
        await settle()
    assert server.pid() is None
    assert source.closed == 1


@pytest.mark.parametrize("where", ["init", "async init", "continue", "terminate"])
async def test_a_stream_may_begin_anywhere(world: World, where: str, request: pytest.FixtureRequest) -> None:
    source = Source(1, 2, None)

    class Anywhere(Listener):
        def init(self, *items: Any) -> Any:
            if where == "init":
                self.stream(source)
            elif where == "async init":
                return self.init_later()
            return Init([], then=Continue() if where == "continue" else None)

        async def init_later(self) -> list[Any]:
            self.stream(source)
            await settle(5)
            return []

        def handle_continue(self, state: list[Any], arg: Any) -> None:
            self.stream(source)

        def terminate(self, state: list[Any], reason: Any) -> None:
            if where == "terminate":
                self.stream(source)

    server = await Anywhere("anywhere").start()
    await settle()
    if where != "terminate":
        seen = await server.seen()
        assert seen[:2] == [1, 2]
        assert isinstance(seen[2], Ended)
    await stop(server)
    await settle()
    assert source.closed == 1


async def test_an_init_that_fails_closes_what_it_listens_to(world: World) -> None:
    source = Source()

    class Fails(Listener):
        async def init(self, *items: Any) -> Any:
            self.stream(source)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            raise Exit("no")

    with capture_crashes(), pytest.raises(beamish.StartError):
        await Fails("fails").start()
    await settle()
    assert source.closed == 1


async def test_a_dead_server_listens_to_nothing_more(world: World) -> None:
    """KILL does not wait for its code, which goes on to its next await: what that begins must not live for ever."""
    source = Source()

    class Ghost(Listener):
        @cast
        async def haunt(self, state: list[Any]) -> None:
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                self.stream(source)

    server = await Ghost("ghost").start()
    server.haunt()
    await settle()
    exit(server, KILL)
    with capture_crashes():
        await settle()
    assert [p for p in world.node.procs if isinstance(p, Stream)] == []


# --- order and counting -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_in_flight", [1, 2, 5])
async def test_never_more_under_way_than_allowed(world: World, max_in_flight: int) -> None:
    server = await listener(world)
    gates = [gate() for _ in range(10)]
    source = Source(*gates, None)
    stream = await server.listen(source, max_in_flight)
    for handled, one in enumerate(gates):
        await settle()
        assert source.log.count("next") <= handled + max_in_flight
        assert stream.in_flight <= max_in_flight
        one.set_result(None)
    await down(stream)
    assert await server.seen() == ["later"] * 10 + [Ended(NORMAL, stream)]
    assert stream.in_flight == 0


async def test_several_streams_keep_their_orders(world: World) -> None:
    server = await listener(world)
    streams = [await server.listen(Source(*[(n, m) for m in range(20)], None), n + 1) for n in range(4)]
    for stream in streams:
        await down(stream)
    seen = await server.seen()
    for n, stream in enumerate(streams):
        assert [item for item in seen if item == Ended(NORMAL, stream) or (isinstance(item, tuple) and item[0] == n)] == [
            *[(n, m) for m in range(20)], Ended(NORMAL, stream),
        ]  # fmt: skip


async def test_a_stream_that_is_closed_leaves_the_others_alone(world: World) -> None:
    server = await listener(world)
    one, two = Source(), Source()
    first, second = await server.listen(one), await server.listen(two)
    await settle()
    first.close()
    two.items.put_nowait("two")
    two.items.put_nowait(None)
    await down(second)
    assert await server.seen() == ["two", Ended(NORMAL, second)]
    assert one.closed == 1


async def test_a_trapping_server_is_told_of_the_end_of_the_process_too(world: World) -> None:
    server = await listener(world)
    await server.do(lambda: flag(trap_exit=True))
    stream = await server.listen(Source(1, None))
    await down(stream)
    await settle()
    assert await server.seen() == [1, Ended(NORMAL, stream), Exited(stream, NORMAL)]
    stream = await server.listen(Source())
    await settle()
    exit(stream, "boom")
    await settle()
    assert (await server.seen())[3:] == [Exited(stream, "boom")]


async def test_a_timeout_after_an_item_is_not_cancelled_by_its_acknowledgement(world: World, clock: beamish.testing.ManualClock) -> None:
    class Patient(Listener):
        def handle_info(self, state: list[Any], message: Any) -> Any:
            state.append(message)
            return NoReply(then=Timeout(1.0)) if message == 1 else None

    server = await world.start_supervised(Patient("patient").child_spec())
    await server.listen(Source(1))
    await settle()
    await clock.advance(1.0)
    assert await sys.get_state(server) == [1, TimedOut()]


async def test_a_handler_that_crashes_at_an_item_ends_the_stream_and_the_next_life_begins_anew(world: World) -> None:
    sources: list[Source] = []

    class Again(Listener):
        def init(self, *items: Any) -> Any:
            source = Source(1, "crash" if not sources else 2)
            sources.append(source)
            self.stream(source, 3)
            return []

    with capture_crashes():
        server = await world.start_supervised(Again("again").child_spec())
        await settle()
    assert await server.seen() == [1, 2]
    assert [source.closed for source in sources] == [1, 0]


async def test_items_wait_while_the_server_is_suspended_and_its_stream_is_closed(world: World) -> None:
    server = await listener(world)
    source = Source(1, 2)
    stream = await server.listen(source, 2)
    await sys.suspend(server)
    await settle()
    stream.close()
    await settle()
    assert source.closed == 1
    await sys.resume(server)
    assert (await server.seen())[:1] in ([1], [])


async def test_the_supervisor_is_not_held_up_by_a_stream(world: World) -> None:
    top = await Supervisor.start()
    server = await top.start_child(Listener("listener").child_spec())
    source = Source()
    await server.listen(source)
    await settle()
    await stop(top, SHUTDOWN)
    await settle()
    assert source.closed == 1


# --- own --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [OSError("broken"), asyncio.CancelledError(), Exit("odd")], ids=["error", "cancelled", "exit"])
async def test_whatever_a_closer_raises_everybody_hears_of_the_end(
    world: World, error: BaseException, request: pytest.FixtureRequest
) -> None:
    closed: list[str] = []

    def broken() -> None:
        raise error

    async def parent() -> None:
        flag(trap_exit=True)
        pid = spawn_link(child)
        ref = monitor(pid)
        heard.append(await receive(Exited))
        heard.append((await down(ref)).reason)

    async def child() -> None:
        own(lambda: closed.append("first"))
        own(broken)
        own(lambda: closed.append("last"))
        raise Exit("boom")

    heard: list[Any] = []
    with capture_crashes():
        spawn(parent)
        await settle()
    assert closed == ["last", "first"]
    assert [one.reason if isinstance(one, Exited) else one for one in heard] == ["boom", "boom"]


async def test_a_caller_hears_of_a_server_whose_closer_is_cancelled(world: World) -> None:
    server = await Listener("listener").start()

    def cancelled() -> None:
        raise asyncio.CancelledError

    await server.do(lambda: own(cancelled))
    opened = gate()
    server.wait(opened)
    asking = asyncio.ensure_future(server.seen())
    await settle()
    with capture_crashes():
        try:
            exit(server, KILL)
        except asyncio.CancelledError:
            pass
        await settle()
    assert asking.done()
    with pytest.raises(beamish.ServerDown):
        await asking


async def test_a_closer_that_asks_the_server_finds_nobody(world: World) -> None:
    found: list[Any] = []
    server = await Listener("listener").start()

    async def ask() -> None:
        try:
            await server.seen()
        except NoProcess as error:
            found.append(error)

    await server.do(lambda: own(ask))
    await stop(server)
    await settle()
    assert len(found) == 1


async def test_a_closer_runs_as_nobody(world: World) -> None:
    """What a closer does is not done by whoever happens to have ended the process."""
    closed: list[str] = []

    def close() -> None:
        own(lambda: closed.append("owned while closing"))

    server, killer = await Listener("listener").start(), await Listener("killer").start()
    await server.do(lambda: own(close))
    with capture_crashes():
        await killer.do(lambda: exit(server, KILL))
    process: Any = killer.pid()
    assert process.extra is None or not process.extra.closers
    await stop(killer)


async def test_an_async_closer_runs_as_nobody(world: World) -> None:
    who: list[Any] = []

    class Killer(Listener):
        @call
        async def kill(self, state: list[Any], target: Any) -> None:
            await asyncio.sleep(0)
            exit(target, KILL)

    async def close() -> None:
        who.append(world.node.me())

    server, killer = await Listener("listener").start(), await Killer("killer").start()
    await server.do(lambda: own(close))
    await killer.kill(server)
    await settle()
    assert killer.pid() not in who
    await stop(killer)


async def test_what_a_dead_server_owns_is_closed(world: World) -> None:
    """KILL does not wait for its code: what that opens afterwards is nobody's unless it is closed at once, or refused."""
    closed: list[str] = []
    refused: list[BaseException] = []

    class Ghost(Listener):
        @cast
        async def haunt(self, state: list[Any]) -> None:
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                try:
                    self.own(lambda: closed.append("closed"))
                except BaseException as error:
                    refused.append(error)
                    raise

    server = await Ghost("ghost").start()
    server.haunt()
    await settle()
    exit(server, KILL)
    await settle()
    assert closed == ["closed"] or refused


async def test_owned_twice_is_closed_once_and_disowned_means_not(world: World) -> None:
    closed: list[int] = []

    class Connection:
        def __init__(self, n: int) -> None:
            self.n = n

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Connection)

        __hash__ = None  # type: ignore[assignment]

        def close(self) -> None:
            closed.append(self.n)

    one, two, three = Connection(1), Connection(2), Connection(3)

    async def owner() -> None:
        for connection in (one, two, three, one):
            own(connection.close)
        assert disown(two.close)
        assert not disown(two.close)

    pid = spawn(owner)
    await down(pid)
    assert closed == [3, 1]


async def test_a_close_that_is_on_its_way_is_waited_for_by_the_end_of_the_loop(world: World) -> None:
    """`asyncio.run` cancels every task at its end; what a process owned is closed all the same, as `own` promises."""
    closed: list[str] = []

    async def main() -> None:
        async def close() -> None:
            for _ in range(5):
                await asyncio.sleep(0)
            closed.append("closed")

        server = await Listener.start()
        await server.do(lambda: own(close))
        await server.stop()

    def run() -> None:
        asyncio.run(main())

    await asyncio.to_thread(run)
    assert closed == ["closed"]


async def test_what_is_owned_when_the_loop_ends_is_closed(world: World) -> None:
    closed: list[str] = []

    async def main() -> None:
        async def close() -> None:
            await asyncio.sleep(0)
            closed.append("async")

        server = await Listener.start()
        await server.do(lambda: own(close))
        await server.do(lambda: own(lambda: closed.append("plain")))

    await asyncio.to_thread(lambda: asyncio.run(main()))
    assert closed == ["plain", "async"]


async def test_a_killed_server_is_closed_while_its_handler_runs(world: World) -> None:
    order: list[str] = []
    server = await Listener("listener").start()

    def ends() -> None:
        own(lambda: order.append("closed"))
        try:
            exit(current(), KILL)
        finally:
            order.append("unwound")

    with pytest.raises(beamish.ServerDown) as failed:
        await server.do(ends)
    assert failed.value.reason == KILLED
    assert order == ["closed", "unwound"]
    assert not world.node.ghosts
