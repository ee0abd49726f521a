"""gen_server_SUITE's send_request: a call is a coroutine here, so asyncio's own tools are what OTP has

    send_request                                 asyncio.create_task(server.method())
    wait_response, receive_response              await, asyncio.wait_for, asyncio.timeout
    check_response                               task.done(), task.result()
    request id collections                       a set of tasks: asyncio.wait, as_completed, gather
    abandoning a request                         task.cancel()

and what OTP promises of those holds: order, late replies that go nowhere, errors that name the request, nobody left waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

import beamish
from beamish import (
    KILL,
    Answer,
    At,
    CallTimeout,
    Client,
    GenServer,
    Killed,
    NoConnection,
    NoProcess,
    NoReply,
    ServerDown,
    Stop,
    Via,
    call,
    cast,
    exit,
    reply,
    send,
    spawn,
)
from beamish.testing import ManualClock, World, capture_crashes, settle
from conftest import both_roads
from upstream.words import Book, mail

pytestmark = both_roads


class Server(GenServer[dict[Any, Client]]):
    """Answers when it is told to."""

    def init(self) -> dict[Any, Client]:
        return {}

    @call
    def at_once(self, state: dict[Any, Client], what: Any) -> Any:
        return what

    @call
    def later(self, state: dict[Any, Client], key: Any) -> Answer[Any]:
        state[key] = beamish.client()
        return NoReply()

    @call
    async def slowly(self, state: dict[Any, Client], gate: asyncio.Future[Any]) -> Any:
        return await gate

    @cast
    def answer(self, state: dict[Any, Client], key: Any, value: Any) -> None:
        reply(state.pop(key), value)

    @call
    def leave(self, state: dict[Any, Client], reason: object) -> Answer[None]:
        return Stop(reason)


def send_request(call: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    return asyncio.create_task(call)


class TestOne:
    """send_request."""

    @pytest.mark.parametrize("name", [None, "my_test_name", Via(Book(), "my_test_name")], ids=["anonymous", "local", "via"])
    async def test_is_sent_first_and_awaited_when_it_suits(self, world: World, name: Any) -> None:
        server = await (Server if name is None else Server(name)).start()
        request = send_request(server.at_once("hello"))
        assert not request.done()
        assert await request == "hello"
        assert request.result() == "hello"  # as often as one likes
        await server.stop()

    async def test_is_waited_for_in_vain_and_then_again(self, world: World, clock: ManualClock) -> None:
        """wait_response: a wait that times out abandons nothing."""
        server = await Server.start()
        request = send_request(server.with_timeout(None).later("a"))
        waiting = asyncio.create_task(asyncio.wait({request}, timeout=0))
        await settle()
        assert (await waiting) == (set(), {request})
        assert not request.done()  # check_response: no_reply
        server.answer("a", "delayed")
        assert await request == "delayed"
        await server.stop()

    async def test_is_given_up_when_its_time_is_over(self, world: World, clock: ManualClock) -> None:
        """receive_response: the request is abandoned, and its late reply is dropped."""
        server = await Server.start()
        request = send_request(server.with_timeout(1.0).later("a"))
        await clock.advance(1.0)
        with pytest.raises(CallTimeout, match=r"later\('a'\)"):
            await request
        server.answer("a", "late")
        assert await server.at_once("next") == "next"
        assert await mail() == []
        await server.stop()

    async def test_is_given_up_by_asyncios_own_timeout(self, world: World) -> None:
        server = await Server.start()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await server.later("a")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(server.later("b"), 0)
        request = send_request(server.later("c"))
        await settle()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        waiting = await beamish.sys.get_state(server)
        assert "c" in waiting
        for key in list(waiting):
            server.answer(key, "late")
        assert await server.at_once("next") == "next"
        assert await mail() == []
        await server.stop()

    async def test_that_was_given_up_leaves_nobody_waiting(self, world: World, clock: ManualClock) -> None:
        """Neither at the server nor among the timeouts, however many there were."""
        server = await Server.start()
        for n in range(100):
            request = send_request(server.with_timeout(10.0 + n).later("the same"))
            await settle()
            request.cancel()
            await asyncio.gather(request, return_exceptions=True)
        process: Any = server.pid()
        assert not process.waiters
        exit(server, KILL)
        await clock.advance(200.0)  # nobody is told anything
        assert await mail() == []

    async def test_of_one_who_dies_meanwhile_has_no_effect(self, world: World) -> None:
        async def asks() -> None:
            await server.later("a")

        server = await Server.start()
        pid = spawn(asks)
        await settle()
        exit(pid, KILL)
        server.answer("a", "nobody")
        assert await server.at_once("next") == "next"
        await server.stop()


class TestErrors:
    """send_request: what a request ends with that gets no answer."""

    async def test_of_a_server_that_ends(self, world: World) -> None:
        server = await Server("my_test_name").start()
        waiting = send_request(server.later("a"))
        last = send_request(server.leave("stopped"))
        behind = send_request(server.at_once("too late"))
        with capture_crashes():
            found = await asyncio.gather(waiting, last, return_exceptions=True)
            with pytest.raises((ServerDown, NoProcess)):
                await behind
        assert [type(one) for one in found] == [ServerDown, ServerDown]
        for error, request in zip(found, ("later('a')", "leave('stopped')"), strict=True):
            assert isinstance(error, ServerDown)
            assert (error.server, error.request, error.reason) == (server, request, "stopped")

    async def test_of_nobody(self, world: World) -> None:
        server = await Server.start()
        await server.stop()
        for address in (server, Server("absent"), Server(Via(Book(), "absent")), Server(At("absent", beamish.node()))):
            with pytest.raises(NoProcess):
                await send_request(address.at_once(1))
        with pytest.raises(ServerDown) as failed:
            await send_request(Server(At("absent", "foo@bar")).at_once(1))
        assert isinstance(failed.value.reason, NoConnection)

    async def test_that_nobody_looks_at_is_no_message(self, world: World) -> None:
        server = await Server.start()
        request = send_request(server.later("a"))
        await settle()
        exit(server, KILL)
        await settle()
        assert request.done()
        error = request.exception()
        assert isinstance(error, ServerDown)
        assert isinstance(error.reason, Killed)
        assert await mail() == []


class TestMany:
    """send_request_receive_/wait_/check_reqid_collection: a set of tasks, each with what it is known by."""

    async def test_come_in_the_order_of_their_answers(self, world: World) -> None:
        server = await Server.start()
        requests = {send_request(server.later(n)): n for n in range(4)}
        await settle()
        came = []
        for n in (2, 0, 3, 1):
            server.answer(n, n * 10)
            done, _ = await asyncio.wait(requests, return_when=asyncio.FIRST_COMPLETED)
            (request,) = done
            came.append((requests.pop(request), await request))
        assert came == [(2, 20), (0, 0), (3, 30), (1, 10)]
        assert requests == {}  # no_request
        await server.stop()

    async def test_are_served_in_the_order_of_their_sending(self, world: World) -> None:
        server = await Server.start()
        order: list[Any] = []

        class Noting(Server):
            @call
            def note(self, state: dict[Any, Client], what: int) -> None:
                order.append(what)

        noting: Any = await Noting.start()
        await asyncio.gather(*(noting.note(n) for n in range(50)))
        assert order == list(range(50))
        await noting.stop()
        await server.stop()

    async def test_are_checked_without_waiting(self, world: World) -> None:
        server = await Server.start()
        requests = {send_request(server.later(n)): n for n in range(3)}
        await settle()
        assert [request for request in requests if request.done()] == []  # no_reply
        server.answer(1, "one")
        await settle()
        assert [(requests[request], request.result()) for request in requests if request.done()] == [(1, "one")]
        for n in (0, 2):
            server.answer(n, "…")
        await asyncio.wait(requests)
        await server.stop()

    async def test_to_several_servers_some_of_which_fail(self, world: World) -> None:
        good, ends, killed = await Server.start(), await Server.start(), await Server.start()
        asked = [good.later("a"), ends.later("a"), killed.later("a"), Server("absent").later("a")]
        requests = [send_request(one) for one in asked]
        await settle()
        with capture_crashes():
            ends_too = send_request(ends.leave("stopped"))
            exit(killed, KILL)
            good.answer("a", "answer")
            found = await asyncio.gather(*requests, ends_too, return_exceptions=True)
        assert found[0] == "answer"
        assert [getattr(one, "reason", None) for one in found[1:]] == ["stopped", Killed(), beamish.NOPROC, "stopped"]
        await good.stop()

    async def test_are_given_up_together(self, world: World) -> None:
        """receive_response of a collection: those that have not come in time are abandoned, those that have are kept."""
        server = await Server.start()
        gate: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        requests = [send_request(server.later("a")), send_request(server.later("b")), send_request(server.slowly(gate))]
        await settle()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*requests), 0)
        await settle()
        assert all(request.cancelled() for request in requests)
        gate.set_result("done all the same")  # the server is not disturbed by who gives up
        assert await server.at_once("next") == "next"
        assert set(await beamish.sys.get_state(server)) == {"a", "b"}
        process: Any = server.pid()
        assert not process.waiters
        assert await mail() == []
        await server.stop()

    async def test_leave_other_mail_alone(self, world: World) -> None:
        server = await Server.start()
        me = beamish.current()
        send(me, "before")
        requests = [send_request(server.later(n)) for n in range(3)]
        await settle()
        send(me, "between")
        for n in range(3):
            server.answer(n, n)
        assert await asyncio.gather(*requests) == [0, 1, 2]
        assert await mail() == ["before", "between"]
        await server.stop()
