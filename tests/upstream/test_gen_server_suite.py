"""gen_server_SUITE and gen_server_test.exs: starting, calling, casting, going on. Its end: test_gen_server_ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import beamish
from beamish import (
    NORMAL,
    AlreadyStarted,
    Answer,
    At,
    BadReturn,
    CallingSelf,
    CallTimeout,
    Client,
    Continue,
    Crash,
    Exited,
    GenServer,
    Ignore,
    Ignored,
    Init,
    NoProcess,
    NoReply,
    Reply,
    ServerDown,
    StartError,
    Stop,
    TimedOut,
    Timeout,
    Via,
    call,
    cast,
    down,
    flag,
    info,
    node,
    receive,
    reply,
    send,
    spawn,
    whereis,
)
from beamish.testing import ManualClock, World, capture_crashes, settle
from conftest import both_roads
from upstream.words import Book, mail


class Server(GenServer[list[Any]]):
    """Every form of start, and every form of answer."""

    def init(self, what: Any = None) -> Any:
        match what:
            case "ignore":
                return Ignore()
            case "stop":
                return Stop("stopped")
            case "sleep":
                return self.sleeps()
        return []

    async def sleeps(self) -> list[Any]:
        await asyncio.Event().wait()
        return []

    @call
    def started_p(self, state: list[Any]) -> bool:
        return True

    @call
    def delayed(self, state: list[Any], seconds: float) -> Answer[str]:
        self.send_after(seconds, beamish.client())
        return NoReply()

    @call
    def call_within(self, state: list[Any], seconds: float) -> Answer[None]:
        state.append("waits")
        return Reply(None, then=Timeout(seconds))

    @call
    def next_call(self, state: list[Any]) -> bool:
        return bool(state and state.pop() == "waits")

    @call
    def wrong(self, state: list[Any]) -> Any:
        return Ignore()

    @call
    def leave(self, state: list[Any], reason: object = "stopped") -> Answer[str]:
        return Stop(reason, reply="ok")

    @cast
    def tell(self, state: list[Any], whom: Any, what: Any) -> None:
        send(whom, what)

    @cast
    def tell_later(self, state: list[Any], whom: Any, what: Any, seconds: float) -> NoReply:
        state.append((whom, what))
        return NoReply(then=Timeout(seconds))

    @cast
    def end(self, state: list[Any], whom: Any) -> Stop[Any]:
        return Stop(NORMAL, state=[whom])

    def handle_info(self, state: list[Any], message: Any) -> Any:
        match message:
            case Client():
                reply(message, "delayed")
            case TimedOut() if state and state[-1] == "waits":
                state.clear()
            case TimedOut():
                send(*state.pop())
            case ("tell", whom, what):
                send(whom, what)
            case ("tell_later", whom, what, seconds):
                return NoReply(state=[(whom, what)], then=Timeout(seconds))
            case ("end", whom):
                return Stop(NORMAL, state=[whom])
        return None

    def terminate(self, state: list[Any], reason: Any) -> None:
        if state:
            send(state[0], "stopped")


class Cell(GenServer[Any]):
    def init(self, value: Any = 0) -> Any:
        return value

    @call
    def get(self, state: Any) -> Any:
        return state


#: The ways in which a server may be named: not at all, by a name of this loop, by way of another name server.
def names() -> list[Any]:
    return [None, "my_test_name", Via(Book(), "my_test_name")]


def of(name: Any) -> Any:
    return Server if name is None else Server(name)


@both_roads
class TestStart:
    """start; start_link/3 (with via, with local), start/2, nil name."""

    @pytest.mark.parametrize("name", names(), ids=["anonymous", "local", "via"])
    async def test_not_linked(self, world: World, name: Any) -> None:
        server = await of(name).start()
        assert await server.started_p()
        found = info(server)
        assert found is not None
        assert list(found.links) == []
        if name is not None:
            with pytest.raises(AlreadyStarted) as taken:
                await of(name).start()
            there: Any = taken.value.address
            assert there.pid() == server.pid()
        assert await server.leave(NORMAL) == "ok"
        with pytest.raises(NoProcess):
            await server.started_p()
        assert await mail() == []

    @pytest.mark.parametrize("name", names(), ids=["anonymous", "local", "via"])
    async def test_linked(self, world: World, name: Any) -> None:
        flag(trap_exit=True)
        server = await of(name).start_link()
        pid = server.pid()
        if name is not None:
            with pytest.raises(AlreadyStarted):
                await of(name).start_link()
        with capture_crashes():
            assert await server.leave() == "ok"
            ended = await receive(Exited)
        assert (ended.pid, ended.reason) == (pid, "stopped")
        assert await mail() == []  # no second one, of the start that found the name taken

    async def test_monitored(self, world: World) -> None:
        server, ref = await Server.start_monitor()
        assert await server.started_p()
        with capture_crashes():
            await server.leave()
            assert (await down(ref)).reason == "stopped"

    async def test_init_in_time_and_late(self, world: World, clock: ManualClock) -> None:
        server = await Server.options(timeout=1.0).start()
        assert await server.started_p()
        await server.stop()
        late = asyncio.ensure_future(Server.options(timeout=0.1).start("sleep"))
        await clock.advance(0.2)
        with pytest.raises(StartError) as failed:
            await late
        assert failed.value.reason == "timeout"

    @pytest.mark.parametrize("name", names()[1:], ids=["local", "via"])
    async def test_the_name_of_one_that_did_not_start_is_free_at_once(self, world: World, name: Any) -> None:
        flag(trap_exit=True)
        for _ in range(10):
            with pytest.raises(Ignored):
                await of(name).start("ignore")
            assert whereis(name) is None
            with pytest.raises(Ignored):
                await of(name).start_link("ignore")
            assert whereis(name) is None
            with capture_crashes(), pytest.raises(StartError) as failed:
                await of(name).start("stop")
            assert failed.value.reason == "stopped"
            assert whereis(name) is None
        assert {one.reason for one in await mail()} == {NORMAL}  # of start_link: it was linked when it ended

    async def test_what_is_no_name_is_refused(self, world: World) -> None:
        for wrong in (5, "", None, True, ("via", "book", "key"), b"name", Cell):
            with pytest.raises(TypeError, match=r"addressed by a name \(a str, Via\(registry, key\)"):
                Server(wrong)


@both_roads
class TestCall:
    """call, call/3 exit messages, calling_self."""

    async def test_forms_of_answers(self, world: World, clock: ManualClock) -> None:
        server = await Server("my_test_name").start()
        assert await server.started_p()
        later = asyncio.ensure_future(server.delayed(1.0))
        await clock.advance(1.0)
        assert await later == "delayed"
        await server.call_within(1.0)
        await clock.advance(0.5)
        assert await server.next_call()
        await server.call_within(1.0)
        await clock.advance(1.5)
        assert not await server.next_call()
        await server.stop()

    async def test_in_time_and_late(self, world: World, clock: ManualClock) -> None:
        server = await Server.start()
        in_time = asyncio.ensure_future(server.with_timeout(30.0).delayed(1.0))
        late = asyncio.ensure_future(server.with_timeout(1.0).delayed(30.0))
        await clock.advance(1.0)
        assert await in_time == "delayed"
        with pytest.raises(CallTimeout):
            await late
        await clock.advance(30.0)
        assert await mail() == []  # the late answer has come, and went nowhere
        await server.stop()

    async def test_a_bad_return_value_ends_the_server(self, world: World) -> None:
        server = await Server.start()
        with capture_crashes(), pytest.raises(ServerDown) as failed:
            await server.wrong()
        assert isinstance(failed.value.reason, Crash)
        assert isinstance(failed.value.reason.error, BadReturn)

    async def test_calling_and_stopping_oneself(self, world: World) -> None:
        class Narcissus(Cell):
            @call
            async def look(self, state: Any, address: Any, how: str) -> str:
                try:
                    await (address.stop() if how == "stop" else address.get())
                except CallingSelf as error:
                    return str(error.reason)
                return "?"

        server = await Narcissus("me").start()
        for address in (server, Narcissus(At("me", node()))):
            for how in ("call", "stop"):
                assert await server.look(address, how) == "calling_self"
        await server.stop()

    async def test_costs_the_same_whatever_waits_in_the_callers_mailbox(self, world: World) -> None:
        """call_with_huge_message_queue: who waits for an answer does not look through its mail."""

        class Untouchable:
            def __eq__(self, other: object) -> bool:
                raise AssertionError("looked at")

            __hash__ = None  # type: ignore[assignment]

        async def caller() -> None:
            waiting = [Untouchable() for _ in range(10_000)]
            for one in waiting:
                send(beamish.current(), one)
            for _ in range(10):
                assert await server.get() == 7
            send(tester, [one is other for one, other in zip(await mail(), waiting, strict=True)])

        server, tester = await Cell.start(7), beamish.current()
        spawn(caller)
        assert all(await receive(list))
        await server.stop()

    async def test_an_answer_by_way_of_another_process(self, world: World) -> None:
        """reply_by_alias_with_payload: who is to be answered is a value, which travels with whatever goes with it."""

        async def answers() -> None:
            _, client, payload = await receive()
            reply(client, payload)

        class Passing(Cell):
            @call
            def ask(self, state: Any, payload: Any) -> Answer[Any]:
                send(state, ("please", beamish.client(), payload))
                return NoReply()

        server: Any = await Passing.start(spawn(answers))
        assert await server.ask({"pay": "load"}) == {"pay": "load"}
        await server.stop()


@both_roads
class TestCast:
    """cast, cast_fast, info, abcast, abcast/3, multicall, multicall_down, multi_call/4."""

    @pytest.mark.parametrize("road", ["cast", "abcast", "info"])
    async def test_forms_of_answers(self, world: World, clock: ManualClock, road: str) -> None:
        class Told(Server):
            def handle_cast(self, state: list[Any], request: Any) -> Any:
                return self.handle_info(state, request)

        server = await Told("my_test_name").start()
        me = beamish.current()
        tell: Any = {"cast": server.cast, "abcast": server.abcast, "info": lambda what: send(server, what)}[road]
        tell(("tell", me, "handled"))
        assert await receive() == "handled"
        tell(("tell_later", me, "delayed", 1.0))
        await clock.advance(0.9)
        assert await mail() == []
        await clock.advance(0.1)
        assert await receive() == "delayed"
        tell(("end", me))
        assert await receive() == "stopped"
        await settle()
        assert whereis("my_test_name") is None

    async def test_generated_casts(self, world: World, clock: ManualClock) -> None:
        server = await Server.start()
        me = beamish.current()
        server.tell(me, "handled")
        assert await receive() == "handled"
        server.tell_later(me, "delayed", 1.0)
        await clock.advance(1.0)
        assert await receive() == "delayed"
        server.end(me)
        assert await receive() == "stopped"

    async def test_to_a_node_that_is_not_there_returns_at_once(self, world: World) -> None:
        for address in (Server(At("my_test_name", "hopp@false")), Server("absent"), Server(Via(Book(), "absent"))):
            address.cast("hopp")
            address.tell(beamish.current(), "hopp")
        Server("absent").abcast("hopp")
        Server("absent").abcast("hopp", nodes=[node(), "foo@bar"])
        assert await mail() == []

    async def test_multi_call(self, world: World, clock: ManualClock) -> None:
        class Told(Server):
            def handle_call(self, state: list[Any], request: Any, client: Client) -> Any:
                match request:
                    case "late":
                        self.send_after(1.0, client)
                        return NoReply()
                    case "stop":
                        return Stop("stopped", reply="ok")
                return super().handle_call(state, request, client)

        flag(trap_exit=True)
        server = await Told("my_test_name").start_link()
        asking = asyncio.ensure_future(server.multi_call("late"))
        await clock.advance(1.0)
        found = await asking
        assert (found.replies, found.bad_nodes) == ([(node(), "delayed")], [])
        asking = asyncio.ensure_future(server.multi_call("late", nodes=[node(), "foo@bar"], timeout=0.5))
        await clock.advance(0.5)
        found = await asking
        assert (found.replies, found.bad_nodes) == ([], [node(), "foo@bar"])
        await clock.advance(1.0)
        with capture_crashes():
            found = await server.multi_call("stop", nodes=[node()])
            assert (found.replies, found.bad_nodes) == ([(node(), "ok")], [])
            assert (await receive(Exited)).reason == "stopped"
        assert await mail() == []  # the late reply is nowhere


class Going(GenServer[list[Any]]):
    """Goes on from each of its callbacks."""

    def init(self, then: Any, whom: Any) -> Init:
        return Init([whom], then=then)

    @call
    def with_reply(self, state: list[Any], arg: Any) -> Answer[str]:
        return Reply("ok", then=Continue(arg))

    @call
    def without(self, state: list[Any], arg: Any) -> Answer[str]:
        return NoReply(then=Continue((beamish.client(), arg)))

    @cast
    def by_cast(self, state: list[Any], arg: Any) -> NoReply:
        return NoReply(then=Continue(arg))

    def handle_info(self, state: list[Any], message: Any) -> NoReply:
        return NoReply(then=Continue(message))

    def handle_continue(self, state: list[Any], arg: Any) -> Any:
        match arg:
            case (Client() as client, rest):
                reply(client, "by continue")
                arg = rest
            case ("again", rest):
                send(state[0], "again")
                return NoReply(then=Continue(rest))
            case "stop":
                return Stop(NORMAL)
        send(state[0], arg)
        return None


@both_roads
async def test_continue_comes_from_each_callback(world: World) -> None:
    """continue: and always before what waits."""
    me = beamish.current()
    server = await Going.start(Continue(("again", "init")), me)
    await settle()
    assert await mail() == ["again", "init"]
    server.by_cast("cast")
    send(server, "info")
    assert await server.with_reply("call") == "ok"
    assert await server.without("noreply") == "by continue"
    await settle()
    assert await mail() == ["cast", "info", "call", "noreply"]
    server.by_cast("stop")
    send(server, "never")
    await down(server)
    assert await mail() == []
