"""Doubles: they answer what they were told, refuse the rest in whoever asks, and can't be told what their contract does not have."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from typing import Any, Protocol

import pytest

from beamish import (
    Agent,
    AlreadyStarted,
    CallTimeout,
    Client,
    GenServer,
    Init,
    Message,
    NoProcess,
    NoReply,
    Registry,
    ServerDown,
    StateMachine,
    Supervisor,
    Via,
    call,
    cast,
    send,
)
from beamish.servers import SearchCache
from beamish.testing import NotVerified, UnexpectedCall, World, capture_crashes, mock, settle, verify_mocks, world as fresh_world


@dataclass(frozen=True)
class Size(Message[int]):
    unit: str = "pages"


class Upstream(GenServer[None], restart="transient"):
    """What is doubled: its own code never runs here."""

    def init(self, *, key: str) -> Init:
        raise AssertionError("the real one was started")

    @call
    def fetch(self, state: None, query: str, limit: int = 10, *, fresh: bool = False) -> list[str]:
        raise AssertionError("the real one was asked")

    @call
    async def slow(self, state: None, query: str) -> str:
        raise AssertionError("the real one was asked")

    @cast
    def note(self, state: None, event: str) -> None:
        raise AssertionError("the real one was told")

    def handle_info(self, state: None, message: object) -> None:
        raise AssertionError("the real one was sent something")

    def terminate(self, state: None, reason: object) -> None:
        raise AssertionError("the real one was ended")

    async def fetch_all(self, *queries: str) -> list[list[str]]:
        """On the client's side."""
        return [await self.fetch(query) for query in queries]


class Gateway(GenServer[None]):
    """What is tested."""

    @call
    async def search(self, state: None, query: str) -> list[str]:
        return await Upstream("upstream").fetch(query)

    @call
    async def forgiving(self, state: None, query: str) -> list[str]:
        try:
            return await Upstream("upstream").fetch(query)
        except Exception:
            return []


class Sizes(GenServer[None]):
    def handle_call(self, state: None, request: Any, client: Client) -> Any:
        raise AssertionError("the real one was asked")


class Clock(Protocol):
    zone: str

    def now(self) -> float: ...
    async def sleep(self, seconds: float, *, jitter: float = 0.0) -> None: ...
    def ticks(self, every: float) -> AsyncIterator[float]: ...
    def later(self) -> Awaitable[int]: ...
    @property
    def name(self) -> str: ...


class Storage(ABC):
    def __init__(self, path: str) -> None:
        raise AssertionError("the real one was made")

    @abstractmethod
    def read(self, key: str) -> bytes: ...

    def read_all(self, *keys: str) -> list[bytes]:
        raise AssertionError("the real one was asked")

    def __len__(self) -> int:
        raise AssertionError("the real one was asked")


UPSTREAM = Upstream("upstream")


class TestADoubleOfAServer:
    async def test_answers_in_the_servers_place(self) -> None:
        double = mock(UPSTREAM)
        double.expect(Upstream.fetch, ["a page"])
        assert await double.start_link() == UPSTREAM
        assert await UPSTREAM.fetch("otp") == ["a page"]
        double.verify()
        await UPSTREAM.stop()

    async def test_replies_are_values_or_functions_of_the_arguments(self) -> None:
        double = mock(UPSTREAM)

        async def slowly(query: str) -> str:
            await asyncio.sleep(0)
            return query.upper()

        double.expect("fetch", lambda query, limit, *, fresh: [query, limit, fresh])
        double.expect("slow", slowly)
        double.expect("slow", "at once")
        await double.start_link()
        assert await UPSTREAM.fetch("otp", fresh=True) == ["otp", 10, True]
        assert [await UPSTREAM.slow("a"), await UPSTREAM.slow("b")] == ["A", "at once"]
        double.verify()
        await UPSTREAM.stop()

    async def test_casts_and_messages(self) -> None:
        told: list[object] = []
        double = mock(UPSTREAM)
        double.expect(Upstream.note, told.append, times=2)
        double.expect("handle_info", told.append)
        await double.start_link()
        UPSTREAM.note("a")
        UPSTREAM.note("b")
        send(UPSTREAM, "tick")
        await UPSTREAM.stop()
        assert told == ["a", "b", "tick"]
        double.verify()

    async def test_requests_that_are_no_methods(self) -> None:
        sizes = Sizes("sizes")
        double = mock(sizes)
        double.expect("handle_call", lambda request: 3 if request.unit == "pages" else 0, times=2)
        await double.start_link()
        assert [await sizes.call(Size()), await sizes.call(Size("bytes"))] == [3, 0]
        double.verify()
        await sizes.stop()

    async def test_in_a_supervisor_with_the_id_and_the_ways_of_the_real_one(self, world: World) -> None:
        double = mock(UPSTREAM)
        spec = double.child_spec()
        assert (spec.id, spec.restart) == ("upstream", "transient")
        await world.start_supervised(spec)
        double.stub("fetch", [])
        assert await UPSTREAM.fetch("otp") == []

    async def test_may_be_what_the_server_may_be(self) -> None:
        """Answer later, crash, be linked, stop: it is a process."""
        double = mock(UPSTREAM)
        double.expect("fetch", NoReply())
        await double.start_link()
        waiting = asyncio.create_task(UPSTREAM.with_timeout(None).fetch("otp"))
        await settle()
        assert not waiting.done()
        await UPSTREAM.stop()
        with pytest.raises(ServerDown):
            await waiting

    async def test_what_its_function_raises_ends_it_and_it_goes_on_when_restarted(self, world: World) -> None:
        def broken(query: str, limit: int, *, fresh: bool) -> list[str]:
            raise OSError("the cable")

        double = mock(UPSTREAM)
        double.expect("fetch", broken)
        double.expect("fetch", ["again"])
        await world.start_supervised(double.child_spec())
        with capture_crashes() as reports, pytest.raises(ServerDown) as down:
            await UPSTREAM.fetch("otp")
        assert isinstance(down.value.__cause__, OSError)
        assert len(reports) == 2
        assert await UPSTREAM.fetch("otp") == ["again"]
        double.verify()
        assert [one.answer for one in double.calls] == ["raised OSError", "['again']"]

    async def test_without_a_name(self) -> None:
        double = mock(Upstream)
        double.stub("fetch", ["x"])
        upstream = await double.start_link()
        assert isinstance(upstream, Upstream)
        assert await upstream.fetch("otp") == ["x"]
        with pytest.raises(TypeError, match=r"mock\(Upstream\) has no name: mock\(Upstream\('its name'\)\)"):
            _ = double.address
        assert double.child_spec().id is Upstream
        await upstream.stop()

    async def test_under_a_name_in_a_registry(self, world: World) -> None:
        rooms = Registry[str, None]("rooms")
        await world.start_supervised(rooms.child_spec(keys="unique"))
        room = Upstream(Via(rooms, "lobby"))
        double = mock(room)
        double.stub("fetch", ["x"])
        await world.start_supervised(double.child_spec())
        assert await room.fetch("otp") == ["x"]

    async def test_where_the_real_one_runs_already(self) -> None:
        await mock(UPSTREAM).start_link()
        with pytest.raises(AlreadyStarted):
            await mock(UPSTREAM).start_link()
        await UPSTREAM.stop()

    async def test_of_a_generic_server_of_the_library(self) -> None:
        cache = SearchCache[str, bytes]("cache")
        double = mock(cache)
        double.expect("_fetch", b"pages", args=("otp", None))
        await double.start_link()
        assert await cache.fetch("otp") == b"pages"
        double.verify()
        await cache.stop()

    async def test_of_an_agent(self) -> None:
        agent = Agent[int]("agent")
        double = mock(agent)
        double.expect("get", 5)
        double.expect("update", None, times=2)
        await double.start_link()
        assert await agent.get(str) == 5  # type: ignore[comparison-overlap]
        await agent.update(lambda n: n)
        agent.cast(lambda n: n)
        await agent.stop()
        double.verify()

    async def test_a_method_of_its_clients_runs_as_it_is(self) -> None:
        double = mock(UPSTREAM)
        double.expect("fetch", lambda query, limit, *, fresh: [query], times=2)
        await double.start_link()
        assert await UPSTREAM.fetch_all("a", "b") == [["a"], ["b"]]
        double.verify()
        await UPSTREAM.stop()


class TestWhatIsUnexpected:
    async def test_is_refused_in_the_caller_and_by_verify(self) -> None:
        double = mock(UPSTREAM)
        await double.start_link()
        with pytest.raises(UnexpectedCall, match=r"fetch\('otp', 10, fresh=False\) by .* is unexpected: nothing was said of it"):
            await UPSTREAM.fetch("otp")
        with pytest.raises(NotVerified, match="nothing was said of it"):
            double.verify()
        await UPSTREAM.stop()

    async def test_says_who_asked_even_where_the_caller_forgives_it(self, world: World) -> None:
        double = mock(UPSTREAM)
        gateway = Gateway("gateway")
        await world.start_supervised(double.child_spec())
        await world.start_supervised(gateway.child_spec())
        assert await gateway.forgiving("otp") == []
        with pytest.raises(NotVerified, match=r"1\. fetch\('otp', 10, fresh=False\) by Gateway\('gateway'\) → unexpected"):
            double.verify()

    async def test_in_a_server_it_is_the_crash_of_that(self, world: World) -> None:
        await world.start_supervised(mock(UPSTREAM).child_spec())
        await world.start_supervised(Gateway("gateway").child_spec())
        with capture_crashes(), pytest.raises(ServerDown) as down:
            await Gateway("gateway").search("otp")
        assert isinstance(down.value.__cause__, UnexpectedCall)

    async def test_once_too_often(self) -> None:
        double = mock(UPSTREAM)
        double.expect("fetch", [], times=2)
        await double.start_link()
        await UPSTREAM.fetch("a")
        await UPSTREAM.fetch("b")
        with pytest.raises(UnexpectedCall, match="fetch was expected twice"):
            await UPSTREAM.fetch("c")
        await UPSTREAM.stop()

    async def test_never(self) -> None:
        double = mock(UPSTREAM)
        double.expect("fetch", times=0)
        double.verify()
        await double.start_link()
        with pytest.raises(UnexpectedCall, match="fetch was expected never"):
            await UPSTREAM.fetch("c")
        await UPSTREAM.stop()

    async def test_too_seldom(self) -> None:
        double = mock(UPSTREAM)
        double.expect("fetch", [], times=3)
        await double.start_link()
        await UPSTREAM.fetch("a")
        with pytest.raises(NotVerified) as refused:
            double.verify()
        lines = str(refused.value).splitlines()
        assert lines[:3] == ["mock(Upstream):", "  expected fetch(…), 3 times, and came once", "It was asked:"]
        assert lines[3].startswith("  1. fetch('a', 10, fresh=False) by ")
        await UPSTREAM.stop()

    async def test_other_arguments_than_expected(self) -> None:
        double = mock(UPSTREAM)
        double.expect("fetch", ["first"], args=("otp", int))
        double.expect("fetch", ["second"], args=("beam", 3, True))
        await double.start_link()
        with pytest.raises(UnexpectedCall, match=r"expected next is fetch\('otp', int, False\), once, and came never"):
            await UPSTREAM.fetch("beam", 3, fresh=True)
        assert await UPSTREAM.fetch("otp", 5) == ["first"]
        assert await UPSTREAM.fetch("beam", 3, fresh=True) == ["second"]
        await UPSTREAM.stop()

    async def test_methods_may_come_in_any_order_unless_they_may_not(self) -> None:
        for in_order in (False, True):
            double = mock(UPSTREAM, in_order=in_order)
            double.expect("fetch", ["x"])
            double.expect("slow", "y")
            await double.start_link()
            if in_order:
                with pytest.raises(UnexpectedCall, match=r"expected next is fetch\(…\)"):
                    await UPSTREAM.slow("a")
            else:
                assert await UPSTREAM.slow("a") == "y"
            assert await UPSTREAM.fetch("b") == ["x"]
            await UPSTREAM.stop()

    async def test_what_a_function_asserts_fails_in_the_caller(self) -> None:
        def check(query: str, limit: int, *, fresh: bool) -> list[str]:
            assert limit < 5, "so many"
            return []

        async def check_later(query: str) -> str:
            raise AssertionError("later")

        double = mock(UPSTREAM)
        double.expect("fetch", check)
        double.expect("slow", check_later)
        await double.start_link()
        with pytest.raises(AssertionError, match="so many"):
            await UPSTREAM.fetch("otp")
        with pytest.raises(AssertionError, match="later"):
            await UPSTREAM.slow("otp")
        with pytest.raises(NotVerified, match="so many"):
            double.verify()
        await UPSTREAM.stop()

    async def test_a_cast_has_nobody_to_tell_so_verify_does(self) -> None:
        double = mock(UPSTREAM)
        await double.start_link()
        UPSTREAM.note("a")
        await UPSTREAM.stop()
        with pytest.raises(NotVerified, match=r"note\('a'\) by a cast is unexpected"):
            double.verify()

    async def test_stubs_answer_what_is_left(self) -> None:
        double = mock(UPSTREAM, in_order=True)
        double.stub("fetch", ["stub"])
        double.expect("fetch", ["first"])
        double.expect("slow", "y")
        await double.start_link()
        assert [await UPSTREAM.fetch("a"), await UPSTREAM.fetch("b")] == [["first"], ["stub"]]
        with pytest.raises(NotVerified, match=r"expected slow\(…\), once, and came never"):
            double.verify()
        await UPSTREAM.stop()


class TestTheContract:
    """Whatever the class does not have is refused when the test says it."""

    @pytest.mark.parametrize(
        ("say", "text"),
        [
            (
                lambda double: double.expect("fetchh", []),
                r"Upstream has no 'fetchh', .*Similar: fetch.*It has: fetch, slow, note, handle_info",
            ),
            (lambda double: double.stub("nothing", []), r"Upstream has no 'nothing'"),
            (lambda double: double.expect("fetch_all", []), r"Upstream.fetch_all runs in its caller; .*: fetch, slow, note, handle_info"),
            (lambda double: double.expect(Gateway.search, []), r"Upstream has no 'search'"),
            (lambda double: double.expect(Other.fetch, []), r"Other.fetch is not a method of Upstream"),
            (lambda double: double.expect(5, []), r"a method, as Upstream.fetch, or its name. Got: 5"),
            (lambda double: double.expect("fetch", lambda query: []), r"can't answer Upstream.fetch\(query.*too many positional"),
            (lambda double: double.expect("fetch", lambda query, limit: []), r"got an unexpected keyword argument 'fresh'"),
            (lambda double: double.stub("slow", lambda: ""), r"can't answer Upstream.slow"),
            (lambda double: double.expect("fetch", [], args=("a", 1, True, 4)), r"Upstream.fetch\(.*too many"),
            (lambda double: double.expect("fetch", [], args=()), r"missing a required argument: 'query'"),
            (lambda double: double.expect("fetch", [], args="otp"), r"args are a tuple"),
            (lambda double: double.expect("note", "a reply"), r"Upstream.note is a @cast: nobody gets a reply, so it can't be 'a reply'"),
            (lambda double: double.expect("slow", asyncio.sleep(0)), r"this is a coroutine: give the function"),
        ],
    )
    async def test_of_a_server(self, say: Any, text: str) -> None:
        with pytest.raises(TypeError, match=text):
            say(mock(UPSTREAM))

    async def test_the_clients_arguments_are_checked_by_its_own_methods(self) -> None:
        double = mock(UPSTREAM)
        await double.start_link()
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'query'"):
            await UPSTREAM.fetch()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
        double.verify()
        await UPSTREAM.stop()

    @pytest.mark.parametrize(
        ("say", "text"),
        [
            (lambda double: double.expect("noww", 1.0), r"Clock has no 'noww'.*Similar: now"),
            (lambda double: double.expect("zone", "utc"), r"Clock.zone is no method: .*stub\('zone', value\)"),
            (lambda double: double.expect("now", a_coroutine), r"Clock.now is no async def, so its reply can't be: .*a_coroutine"),
            (lambda double: double.expect("sleep", lambda seconds: None), r"unexpected keyword argument 'jitter'"),
            (lambda double: double.expect("now", 1.0, times=-1), r"times is how often it is asked, 0 or more. Got: -1"),
        ],
    )
    def test_of_a_protocol(self, say: Any, text: str) -> None:
        with pytest.raises((TypeError, ValueError), match=text):
            say(mock(Clock))

    @pytest.mark.parametrize(
        ("contract", "text"),
        [
            (GenServer, "can't be doubled"),
            (Supervisor, "can't be doubled"),
            (Registry, "can't be doubled"),
            (StateMachine, "is a StateMachine"),
            (5, "mock takes a class"),
            (object, "neither methods nor attributes"),
        ],
    )
    def test_what_has_none(self, contract: Any, text: str) -> None:
        with pytest.raises(TypeError, match=text):
            mock(contract)

    async def test_the_address_of_one_process(self) -> None:
        agent = await Agent[int].start_link(lambda: 1)
        with pytest.raises(TypeError, match="the address of a process that runs already"):
            mock(agent)
        await agent.stop()


async def a_coroutine() -> float:
    return 1.0


class Other(GenServer[None]):
    @call
    def fetch(self, state: None) -> None: ...


class TestADoubleOfAProtocol:
    def test_answers(self) -> None:
        double = mock(Clock)
        double.expect(Clock.now, 5.0)
        assert double.object.now() == 5.0
        double.verify()

    async def test_is_awaited_where_the_protocol_is(self) -> None:
        double = mock(Clock)
        double.expect("sleep", args=(3.0,), times=2)
        double.expect("sleep", lambda seconds, *, jitter: None)
        waiting = double.object.sleep(3.0)
        assert asyncio.iscoroutine(waiting)
        await waiting
        await double.object.sleep(seconds=3)
        await double.object.sleep(1.0, jitter=0.5)
        double.verify()

    async def test_of_what_returns_something_to_await(self) -> None:
        async def ticks(every: float) -> AsyncIterator[float]:
            yield every

        async def later() -> int:
            return 3

        double = mock(Clock)
        double.expect("ticks", ticks)
        double.expect("later", later)
        assert [one async for one in double.object.ticks(2.0)] == [2.0]
        assert await double.object.later() == 3

    def test_has_the_attributes_that_it_is_told(self) -> None:
        double = mock(Clock)
        with pytest.raises(AssertionError, match=r"nothing was said of Clock.zone: its double needs stub\('zone', value\)"):
            _ = double.object.zone
        double.stub("zone", "utc")
        double.stub("name", "a clock")
        assert (double.object.zone, double.object.name) == ("utc", "a clock")
        double.object.zone = "cet"
        assert double.object.zone == "cet"

    def test_refuses_arguments_that_the_protocol_does_not_take(self) -> None:
        double = mock(Clock)
        double.stub("now", 1.0)
        with pytest.raises(TypeError, match=r"Clock.now\(\) -> .*: too many positional arguments"):
            double.object.now(3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]

    def test_refuses_what_is_unexpected(self) -> None:
        double = mock(Clock)
        double.expect("now", 1.0)
        double.object.now()
        with pytest.raises(UnexpectedCall, match=r"now\(\) by plain code is unexpected: now was expected once"):
            double.object.now()
        with pytest.raises(NotVerified):
            double.verify()

    async def test_says_which_process_asked(self) -> None:
        double = mock(Clock)
        double.stub("now", 1.0)

        class Asking(GenServer[None]):
            @call
            def ask(self, state: None) -> float:
                return double.object.now()

        asking = Asking("asking")
        await asking.start_link()
        await asking.ask()
        await asyncio.create_task(later(double.object), name="a task")
        assert [one.by for one in double.calls] == ["Asking('asking')", "the task 'a task'"]
        await asking.stop()

    def test_of_a_class_that_has_code(self) -> None:
        double = mock(Storage)
        double.stub("read", b"x")
        double.expect("read_all", lambda *keys: [key.encode() for key in keys])
        double.expect("__len__", 3)
        assert isinstance(double.object, Storage)
        assert double.object.read("a") == b"x"
        assert double.object.read_all("a", "b") == [b"a", b"b"]
        assert len(double.object) == 3
        double.verify()


async def later(clock: Clock) -> None:
    clock.now()


class TestVerifying:
    def test_at_the_end_of_a_block(self) -> None:
        with pytest.raises(NotVerified, match=r"expected now\(…\), once, and came never\nIt was asked nothing"), mock(Clock) as double:
            double.expect("now", 1.0)

    def test_not_when_the_block_has_failed(self) -> None:
        double = mock(Clock)
        double.expect("now", 1.0)
        with pytest.raises(ZeroDivisionError), double:
            _ = 1 // 0

    async def test_all_of_a_world(self) -> None:
        verify_mocks()
        first, second = mock(Clock), mock(UPSTREAM)
        verify_mocks()
        first.expect("now", 1.0)
        with pytest.raises(NotVerified, match=r"mock\(Clock\)"):
            verify_mocks()
        second.expect("fetch", [])
        with pytest.raises(ExceptionGroup, match="doubles were not asked") as group:
            verify_mocks()
        assert len(group.value.exceptions) == 2

    async def test_worlds_do_not_see_each_others(self) -> None:
        mock(Clock).expect("now", 1.0)

        async def another() -> None:
            async with fresh_world():
                verify_mocks()

        await asyncio.to_thread(asyncio.run, another())
        with pytest.raises(NotVerified):
            verify_mocks()


def test_tests_at_the_same_time_have_their_own() -> None:
    async def one(reply: str) -> list[str]:
        async with fresh_world() as world:
            double = mock(UPSTREAM)
            double.expect("fetch", [reply], times=3)
            await world.start_supervised(double.child_spec())
            replies = [(await UPSTREAM.fetch("otp"))[0] for _ in range(3)]
            double.verify()
            return replies

    async def both() -> list[list[str]]:
        return await asyncio.gather(*(asyncio.to_thread(asyncio.run, one(reply)) for reply in "abcd"))

    assert asyncio.run(both()) == [[reply] * 3 for reply in "abcd"]


class TestRaises:
    """The commonest use of a double: the other side fails."""

    async def test_what_a_handler_raises_crashes_the_double_as_it_would_the_server(self, world: World) -> None:
        upstream = mock(UPSTREAM)
        upstream.expect(Upstream.fetch, raises=ConnectionError("no"))
        upstream.expect(Upstream.fetch, ["back again"])
        await world.start_supervised(upstream.child_spec().replace(restart="permanent"))
        with capture_crashes() as reports, pytest.raises(ServerDown, match="it crashed with ConnectionError: no"):
            await UPSTREAM.fetch("otp")
        await settle()
        assert await UPSTREAM.fetch("otp") == ["back again"]
        assert len(reports) == 2
        upstream.verify()

    @pytest.mark.parametrize("error", [CallTimeout, CallTimeout("too slow"), ServerDown, NoProcess])
    async def test_what_a_call_raises_is_raised_in_the_caller_alone(self, world: World, error: Any) -> None:
        upstream = mock(UPSTREAM)
        upstream.stub(Upstream.fetch, raises=error)
        upstream.expect(Upstream.slow, "still here")
        await world.start_supervised(upstream.child_spec())
        with pytest.raises(error if isinstance(error, type) else type(error)):
            await UPSTREAM.fetch("otp")
        assert await UPSTREAM.slow("otp") == "still here"
        assert upstream.calls[0].answer == f"raised {error.__name__ if isinstance(error, type) else type(error).__name__}"

    async def test_a_call_that_is_never_answered(self, world: World) -> None:
        upstream = mock(UPSTREAM)
        upstream.expect(Upstream.fetch, NoReply())
        await world.start_supervised(upstream.child_spec())
        with pytest.raises(CallTimeout):
            await UPSTREAM.with_timeout(0.01).fetch("otp")

    def test_the_method_of_an_object_raises_it(self) -> None:
        clock = mock(Clock)
        clock.expect("now", raises=OSError("no clock"))
        with pytest.raises(OSError, match="no clock"):
            clock.object.now()

    def test_what_is_refused(self) -> None:
        upstream = mock(UPSTREAM)
        with pytest.raises(TypeError, match=r"To let Upstream.fetch fail: raises=ValueError\('no'\)"):
            upstream.expect(Upstream.fetch, ValueError("no"))
        with pytest.raises(TypeError, match="replies or raises, one of both"):
            upstream.expect(Upstream.fetch, [], raises=ValueError)
        with pytest.raises(TypeError, match="raises takes an exception"):
            upstream.expect(Upstream.fetch, raises="no")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="needs an instance, raises=UnicodeDecodeError"):
            upstream.expect(Upstream.fetch, raises=UnicodeDecodeError)
        with pytest.raises(TypeError, match="is a @cast, so nobody waits"):
            upstream.expect(Upstream.note, raises=CallTimeout)


class TestArgumentsByName:
    async def test_some_of_them(self, world: World) -> None:
        upstream = mock(UPSTREAM)
        upstream.expect(Upstream.fetch, [], times=2, args={"query": str, "fresh": True})
        await world.start_supervised(upstream.child_spec())
        await UPSTREAM.fetch("otp", fresh=True)
        with pytest.raises(UnexpectedCall, match=r"expected next is fetch\(query=str, fresh=True, …\), twice, and came once"):
            await UPSTREAM.fetch("otp", 3)

    def test_names_that_it_does_not_have(self) -> None:
        with pytest.raises(TypeError, match=r"takes no who"):
            mock(UPSTREAM).expect(Upstream.fetch, [], args={"who": "ann"})

    def test_those_of_other_keywords(self) -> None:
        class Asks(Protocol):
            def ask(self, what: str, **more: int) -> bool: ...

        asks = mock(Asks)
        asks.expect("ask", True, args={"what": "x", "n": 3})
        assert asks.object.ask("x", n=3, m=4)


@pytest.mark.parametrize(
    ("reply", "well"), [("a page", False), (3, False), (("a",), False), (["a"], True), (None, True), (NoReply(), True)]
)
def test_a_reply_of_another_plain_type_is_refused(reply: Any, well: bool) -> None:
    upstream = mock(UPSTREAM)
    if well:
        upstream.expect(Upstream.fetch, reply)
    else:
        with pytest.raises(TypeError, match=r"Upstream.fetch returns list, and the reply is"):
            upstream.expect(Upstream.fetch, reply)
