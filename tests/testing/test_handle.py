"""One handler without a process: what it replies, the state after it, and what it may not do there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import beamish
from beamish import (
    Agent,
    Answer,
    Begin,
    CallingSelf,
    Client,
    Continue,
    Event,
    GenServer,
    Info,
    Keep,
    Next,
    NoReply,
    Postpone,
    Reply,
    StateMachine,
    StateTimeout,
    Stop,
    Timeout,
    Transition,
    UnhandledEvent,
    WrongLoop,
    call,
    cast,
    client,
    dictionary,
    flag,
    monitor,
    monotonic,
    own,
    processes,
    registered,
    send,
    send_after,
    spawn_link,
    when,
)
from beamish.servers import RateLimiter, SearchCache
from beamish.servers._entries import Entries
from beamish.servers._window import SlidingWindow
from beamish.testing import NoProcessHere, handle, handle_async


class Counter(GenServer[list[int]]):
    @call
    def add(self, state: list[int], n: int, *, times: int = 1) -> int:
        state[0] += n * times
        return state[0]

    @call
    def replaced(self, state: list[int]) -> Answer[str]:
        return Reply("done", state=[0], then=Timeout(3.0))

    @call
    def last(self, state: list[int]) -> Answer[str]:
        return Stop("over", reply="bye", state=[7])

    @call
    def silent(self, state: list[int]) -> Answer[str]:
        return Stop("over")

    @call
    async def slow(self, state: list[int]) -> int:
        await asyncio.sleep(0)
        state[0] += 1
        return state[0]

    @call
    async def of_itself(self, state: list[int]) -> int:
        return await self.add(1)

    @call
    async def elsewhere(self, state: list[int], other: Counter) -> int:
        return await other.add(5)

    @call
    def crash(self, state: list[int]) -> int:
        return 1 // 0

    @call
    def who(self, state: list[int]) -> str:
        return repr(self)

    @cast
    def bump(self, state: list[int], n: int) -> None:
        state[0] += n

    @cast
    def halt(self, state: list[int]) -> Any:
        return Stop("halted")

    @cast
    def wrong(self, state: list[int]) -> Any:
        return 5

    @call
    def now(self, state: list[int]) -> float:
        return monotonic()

    @call
    def do(self, state: list[int], what: Callable[[Counter], object]) -> None:
        what(self)

    def handle_info(self, state: list[int], message: object) -> Any:
        state.append(len(str(message)))
        return NoReply(then=Continue("more"))

    def handle_continue(self, state: list[int], arg: object) -> None:
        state.append(0)

    async def twice(self) -> int:
        return 2 * await self.add(10)

    async def add_and_look(self) -> list[int]:
        return [await self.add(1), await self.add(2)]

    def idle(self) -> int:
        return 1


class Lock(GenServer[list[Client]]):
    """Given to one at a time; the others wait."""

    @call
    def acquire(self, queue: list[Client]) -> Answer[str]:
        queue.append(client())
        return Reply("yours") if len(queue) == 1 else NoReply()

    @call
    def release(self, queue: list[Client]) -> None:
        queue.pop(0)
        if queue:
            beamish.reply(queue[0], "yours at last")


class Words(GenServer[list[str]]):
    def handle_call(self, state: list[str], request: str, client: Client) -> Reply[int]:
        return Reply(len(request), state=[*state, request])

    def handle_cast(self, state: list[str], request: str) -> None:
        state.append(request)


class Door(StateMachine[str, int]):
    """Opens when it is knocked at for the third time; the data counts."""

    def init(self) -> Begin[str, int]:
        return Begin("closed", 0)

    @call
    def knock(self, state: str, data: int) -> Answer[bool]:
        if data < 2:
            return Keep(data=data + 1, reply=False)
        return Next("open", StateTimeout(5.0), data=0, reply=True)

    @call
    def knocks(self, state: str, data: int, *, more: int = 0) -> int:
        return data + more

    @call
    def wait(self, state: str, data: int) -> Answer[str]:
        return Postpone() if state == "closed" else Keep(reply="in")

    @call
    async def knock_gently(self, state: str, data: int) -> Answer[bool]:
        await asyncio.sleep(0)
        return Keep(data=data + 1, reply=False)

    @cast
    def slam(self, state: str, data: int) -> Transition:
        return Next("closed")

    @cast
    def tear_down(self, state: str, data: int) -> Transition:
        return Stop("gone", state=("gone", data))

    @cast
    def wrong(self, state: str, data: int) -> Any:
        return 5

    @when("open")
    def opened(self, state: str, data: int, event: Event) -> Transition | None:
        return Next("closed") if isinstance(event, StateTimeout) else None

    def handle_event(self, state: str, data: int, event: Event) -> Transition | None:
        return Keep(data=data + 10) if event == Info("bell") else None

    def handle_enter(self, state: str, data: int, before: str) -> Transition | None:
        return Keep(data=data + 100) if state != before else None


class TestStateMachines:
    def test_the_state_and_the_data_are_a_pair(self) -> None:
        reply, (state, data) = handle(Door.knock, ("closed", 0))
        assert (reply, state, data) == (False, "closed", 1)
        handled = handle(Door.knock, ("closed", 2))
        assert (handled.reply, handled.state, handled.then) == (True, ("open", 0), (StateTimeout(5.0),))
        assert isinstance(handled.answer, Next)
        assert handle(Door.knocks, ("closed", 2), more=3) == (5, ("closed", 2))

    def test_an_event_that_is_postponed_has_no_reply_yet(self) -> None:
        handled = handle(Door.wait, ("closed", 0))
        assert isinstance(handled.answer, Postpone)
        assert isinstance(handled.reply, Postpone)
        assert handle(Door.wait, ("open", 0)).reply == "in"

    def test_casts(self) -> None:
        assert handle(Door.slam, ("open", 1)) == (None, ("closed", 1))
        handled = handle(Door.tear_down, ("open", 1))
        assert (handled.stopped, handled.state) == ("gone", ("gone", 1))
        with pytest.raises(TypeError, match=r"Door\.wrong returned 5, of which the machine would crash"):
            handle(Door.wrong, ("open", 1))

    def test_events_and_the_functions_of_states(self) -> None:
        assert handle(Door.handle_event, ("closed", 1), Info("bell")).state == ("closed", 11)
        assert handle(Door.opened, ("open", 1), StateTimeout(5.0)).state == ("closed", 1)
        assert handle(Door.opened, ("open", 1), Info("bell")).state == ("open", 11)  # left to handle_event
        with pytest.raises(UnhandledEvent, match="what"):
            handle(Door.opened, ("open", 1), Info("what"))

    def test_entering_is_a_handler_of_its_own(self) -> None:
        assert handle(Door.handle_enter, ("open", 1), "closed").state == ("open", 101)
        assert handle(Door.handle_enter, ("open", 1), "open").state == ("open", 1)

    async def test_async_ones(self) -> None:
        assert await handle_async(Door.knock_gently, ("closed", 0)) == (False, ("closed", 1))


class TestTheReplyAndTheState:
    def test_are_those_of_a_call(self) -> None:
        reply, state = handle(Counter.add, [1], 2, times=3)
        assert (reply, state) == (7, [7])

    def test_the_state_may_be_replaced_and_more_be_asked_for(self) -> None:
        handled = handle(Counter.replaced, [5])
        assert handled == ("done", [0])
        assert isinstance(handled.then, Timeout)
        assert handled.stopped is None

    def test_a_stop_replies_and_says_why_the_server_ends(self) -> None:
        handled = handle(Counter.last, [5])
        assert (handled.reply, handled.state, handled.stopped) == ("bye", [7], "over")

    def test_where_there_is_no_reply_the_answer_stands_in_its_place(self) -> None:
        handled = handle(Counter.silent, [5])
        assert isinstance(handled[0], Stop)
        assert repr(handled) == "Handled(Stop('over'), state=[5])"

    def test_a_cast_has_none(self) -> None:
        assert handle(Counter.bump, [1], 2) == (None, [3])
        assert handle(Counter.halt, [1]).stopped == "halted"

    def test_a_message_and_what_is_to_be_done_next(self) -> None:
        handled = handle(Counter.handle_info, [1], "tick")
        assert handled == (None, [1, 4])
        assert handled.then == Continue("more")
        assert handle(Counter.handle_continue, handled.state, "more").state == [1, 4, 0]

    def test_requests_that_are_no_methods(self) -> None:
        assert handle(Words.handle_call, ["a"], "hello") == (5, ["a", "hello"])
        assert handle(Words.handle_cast, ["a"], "b") == (None, ["a", "b"])

    def test_an_agent_runs_the_function_that_it_is_given(self) -> None:
        assert handle(Agent.update, 1, lambda n: n + 1) == (None, 2)
        assert handle(Agent.get_and_update, 1, lambda n: (str(n), n + 1)) == ("1", 2)

    def test_a_server_of_the_library_by_its_public_methods(self) -> None:
        entries: Entries[str, bytes] = Entries(2, "oldest", None)
        handle(SearchCache[str, bytes].cache, entries, "otp", b"pages")
        assert handle(SearchCache[str, bytes].fetch, entries, "otp").reply == b"pages"
        assert handle(SearchCache[str, bytes].fetch, entries, "beam").reply is None
        decision, _ = handle(RateLimiter.track, SlidingWindow(1, 60.0, 10), "ann")
        assert decision.allowed

    def test_what_the_client_is_told_on_its_own_side_is_told_here(self) -> None:
        with pytest.raises(TypeError, match="must be hashable"):
            handle(SearchCache.fetch, Entries(2, "oldest", None), [])

    def test_a_method_of_clients_that_asks_more_than_once(self) -> None:
        assert handle(Counter.twice, [0]) == (20, [10])
        assert handle(Counter.add_and_look, [0]) == ([1, 3], [3])

    def test_what_a_handler_raises_is_raised(self) -> None:
        with pytest.raises(ZeroDivisionError):
            handle(Counter.crash, [0])

    def test_an_inherited_handler_is_named_by_an_address_of_its_class(self) -> None:
        class Special(Counter): ...

        assert handle(Special("s").who, [0]).reply.startswith("Special(<no process")
        assert handle(Counter.who, [0]).reply.startswith("Counter(<no process")

    def test_a_class_that_is_local_to_a_function(self) -> None:
        class Inner(GenServer[int]):
            @call
            def double(self, state: int) -> int:
                return 2 * state

        assert handle(Inner.double, 4).reply == 8


class TestLater:
    def test_a_call_that_another_one_answers(self) -> None:
        queue: list[Client] = []
        assert handle(Lock.acquire, queue).reply == "yours"
        second = handle(Lock.acquire, queue)
        assert isinstance(second.answer, NoReply)
        with pytest.raises(AssertionError, match="nobody has answered this call yet"):
            second.later()
        handle(Lock.release, queue)
        assert second.later() == "yours at last"

    async def test_on_a_loop_too(self) -> None:
        queue: list[Client] = []
        handle(Lock.acquire, queue)
        second = handle(Lock.acquire, queue)
        handle(Lock.release, queue)
        assert second.later() == "yours at last"

    def test_a_call_whose_handler_did_not_ask_who_it_is(self) -> None:
        with pytest.raises(AssertionError, match=r"returned Stop\('over'\)"):
            handle(Counter.silent, [0]).later()


class TestAsyncHandlers:
    async def test_are_awaited(self) -> None:
        assert await handle_async(Counter.slow, [1]) == (2, [2])

    async def test_others_may_be(self) -> None:
        assert await handle_async(Counter.add, [1], 1) == (2, [2])
        assert await handle_async(Counter.twice, [1]) == (22, [11])
        assert await handle_async(Counter.bump, [1], 1) == (None, [2])

    async def test_they_call_other_servers(self) -> None:
        await Real("real").start_link()
        assert (await handle_async(Counter.elsewhere, [0], Real("real"))).reply == 15
        await Real("real").stop()

    async def test_one_that_calls_itself_is_told_so(self) -> None:
        with pytest.raises(CallingSelf):
            await handle_async(Counter.of_itself, [0])

    async def test_handle_refuses_them_and_says_what_to_write(self) -> None:
        with pytest.raises(TypeError, match=r"await handle_async\(Counter.slow, state, …\)"):
            handle(Counter.slow, [1])

    def test_without_a_loop_too(self) -> None:
        with pytest.raises(TypeError, match="handle_async"):
            handle(Counter.slow, [1])

    async def test_a_cancelled_test_cancels_the_handler(self) -> None:
        ended: list[str] = []

        class Waiting(GenServer[None]):
            @call
            async def wait(self, state: None) -> None:
                try:
                    await asyncio.get_running_loop().create_future()
                finally:
                    ended.append("ended")

        task = asyncio.create_task(handle_async(Waiting.wait, None))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        assert ended == ["ended"]


class Real(Counter):
    def init(self) -> list[int]:
        return [10]


def linked(_: object) -> object:
    return spawn_link(print)


async def items() -> Any:
    yield 1


NEEDS_A_PROCESS: dict[str, tuple[Callable[[Counter], object], str]] = {
    "send_after": (lambda self: self.send_after(1.0, "x"), "for a timer to send to"),
    "send_interval": (lambda self: self.send_interval(1.0, "x"), "for a timer to send to"),
    "beamish.send_after": (lambda self: send_after(1.0, self, "x"), "for a timer to send to"),
    "own": (lambda self: self.own(print), "that could own things"),
    "beamish.own": (lambda self: own(print), "that could own things"),
    "stream": (lambda self: self.stream(items()), "to start others from"),
    "spawn_link": (linked, "to start others from"),
    "cast": (lambda self: self.bump(1), r"that could get a message from itself: bump\(1,\)"),
    "send": (lambda self: send(self, "hello"), "that could get 'hello'"),
    "pid": (lambda self: self.pid(), "whose pid"),
    "flag": (lambda self: flag(trap_exit=True), "that could trap exits"),
    "monitor": (lambda self: monitor("nobody"), "that could get Down"),
    "dictionary": (lambda self: dictionary(), "a dictionary"),
    "exit": (lambda self: beamish.exit(self, "reason"), "that could exit; a handler that ends its server returns Stop"),
}


class TestWhatNeedsAProcess:
    """Each says what it would need, in plain code and on a loop, and leaves nothing behind."""

    @pytest.mark.parametrize("verb", NEEDS_A_PROCESS)
    def test_says_so(self, verb: str) -> None:
        act, text = NEEDS_A_PROCESS[verb]
        with pytest.raises(NoProcessHere, match=text) as raised:
            handle(Counter.do, [0], act)
        assert "Counter.do runs in handle(), without a process" in str(raised.value)
        assert "start_supervised" in str(raised.value)

    @pytest.mark.parametrize("verb", NEEDS_A_PROCESS)
    async def test_says_so_on_a_loop(self, verb: str) -> None:
        act, text = NEEDS_A_PROCESS[verb]
        with pytest.raises(NoProcessHere, match=text):
            handle(Counter.do, [0], act)
        assert processes() == []
        assert registered() == []

    async def test_a_server_that_a_handler_starts_is_not_left_half_made(self) -> None:
        class Parent(GenServer[None]):
            @call
            async def begin(self, state: None) -> None:
                await Real("child").start_link()

        with pytest.raises(NoProcessHere, match="to start others from"):
            await handle_async(Parent.begin, None)
        assert (processes(), registered()) == ([], [])

    def test_what_needs_a_loop_says_so(self) -> None:
        with pytest.raises(NoProcessHere, match="Make it an async test"):
            handle(Counter.do, [0], lambda _: asyncio.get_running_loop().call_soon(print))

    def test_the_time_stands_still_without_one(self) -> None:
        assert handle(Counter.now, [0]).reply == 1000.0

    async def test_on_a_loop_it_is_the_worlds(self) -> None:
        assert handle(Counter.now, [0]).reply == pytest.approx(monotonic(), abs=1.0)

    def test_nothing_of_it_stays(self) -> None:
        handle(Counter.add, [0], 1)
        with pytest.raises(WrongLoop, match="no event loop runs"):
            beamish.whereis("anything")


class TestWhatIsNoHandler:
    def test_a_function(self) -> None:
        with pytest.raises(TypeError, match="handle takes a method of a server"):
            handle(print, [0], 3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]

    def test_a_method_that_asks_nothing(self) -> None:
        with pytest.raises(TypeError, match=r"Counter.idle is no handler of Counter and asked none"):
            handle(Counter.idle, [0])  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]

    def test_a_cast_that_returns_a_value(self) -> None:
        with pytest.raises(TypeError, match=r"Counter\.wrong returned 5, of which the server would crash"):
            handle(Counter.wrong, [0])

    def test_a_state_machine_without_its_data(self) -> None:
        with pytest.raises(TypeError, match=r"handle\(Door.knock, \(state, data\), …\), which gives both back. Got: 'closed'"):
            handle(Door.knock, "closed")

    def test_wrong_arguments_are_the_handlers_own_error(self) -> None:
        with pytest.raises(TypeError, match="missing 1 required positional argument"):
            handle(Counter.add, [0])  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


def test_init_is_no_handler() -> None:
    class Stock(GenServer[dict[str, int]]):
        def init(self, items: dict[str, int]) -> dict[str, int]:
            return items

    with pytest.raises(TypeError, match=r"Stock.init makes the first state: it is no handler"):
        handle(Stock.init, {"tea": 1})  # type: ignore[call-overload]
