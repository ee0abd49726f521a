"""GenServer: what callbacks return, what callers get, in which order things happen."""

from __future__ import annotations

import asyncio
import copy
import pickle
from typing import Any

import pytest

import beamish
from beamish import (
    KILL,
    AlreadyStarted,
    Answer,
    CallingSelf,
    CallTimeout,
    Continue,
    Crash,
    Exit,
    GenServer,
    Ignore,
    Ignored,
    Init,
    Killed,
    NoProcess,
    NoReply,
    Normal,
    Reply,
    ServerDown,
    Shutdown,
    StartError,
    Stop,
    TimedOut,
    Timeout,
    WrongServer,
    call,
    cast,
    supervise,
)  # fmt: skip
from beamish.testing import ManualClock, World, capture_crashes, settle
from conftest import both_roads


class Counter(GenServer[list[int]]):
    def init(self, start: int = 0) -> list[int]:
        return [start]

    @call
    def add(self, state: list[int], n: int, *, times: int = 1) -> int:
        """Add n."""
        state[0] += n * times
        return state[0]

    @call
    async def slow_add(self, state: list[int], n: int) -> int:
        await asyncio.sleep(0)
        state[0] += n
        return state[0]

    @call
    async def eager_add(self, state: list[int], n: int) -> int:
        state[0] += n
        return state[0]

    @cast
    def increase(self, state: list[int], n: int) -> None:
        state[0] += n

    @call
    def divide(self, state: list[int], n: int) -> float:
        return state[0] / n

    @call
    def swap(self, state: list[int], value: int) -> Answer[int]:
        return Reply(state[0], state=[value])

    @call
    def leave(self, state: list[int], reason: object) -> Answer[str]:
        return Stop(reason, reply="bye")

    @call
    def leave_silently(self, state: list[int], reason: object) -> Answer[str]:
        return Stop(reason)

    @call
    def exit_with(self, state: list[int], reason: object) -> None:
        raise Exit(reason)


@both_roads
class TestCall:
    async def test_the_reply_is_what_the_handler_returns(self, world: World) -> None:
        counter = await world.start_supervised(Counter.child_spec(5))
        assert await counter.add(1) == 6
        assert await counter.add(2, times=2) == 10
        assert await counter.slow_add(1) == 11
        assert await counter.eager_add(1) == 12
        counter.increase(8)
        assert await counter.add(0) == 20

    async def test_a_named_server_answers_through_its_address(self, world: World) -> None:
        counter = Counter("counter")
        with pytest.raises(NoProcess, match=r"'counter'"):
            await counter.add(1)
        await world.start_supervised(counter.child_spec(1))
        assert await counter.add(1) == 2
        assert await Counter.add(counter, 1) == 3

    async def test_reply_replaces_the_state(self, world: World) -> None:
        counter = await world.start_supervised(Counter.child_spec(5))
        assert await counter.swap(7) == 5
        assert await counter.add(0) == 7

    async def test_stop_replies_and_ends(self, world: World) -> None:
        counter = await Counter.start(1)
        assert await counter.leave(Normal()) == "bye"
        assert counter.pid() is None
        with pytest.raises(NoProcess):
            await counter.add(1)

    async def test_a_crash_is_the_callers_error_with_its_cause(self, world: World) -> None:
        counter = await Counter.start(1)
        with capture_crashes() as crashes, pytest.raises(ServerDown) as down:
            await counter.divide(0)
        assert isinstance(down.value.__cause__, ZeroDivisionError)
        assert isinstance(down.value.reason, Crash)
        assert "divide(0)" in str(down.value)
        assert [record.last_message for record in crashes] == ["divide(0)"]  # type: ignore[attr-defined]

    async def test_exit_is_the_reason_verbatim(self, world: World) -> None:
        counter = await Counter.start(1)
        with capture_crashes(), pytest.raises(ServerDown) as down:
            await counter.exit_with("tired")
        assert down.value.reason == "tired"

    async def test_a_stop_without_reply_is_the_callers_exit(self, world: World) -> None:
        counter = await Counter.start(1)
        with pytest.raises(ServerDown) as down:
            await counter.leave_silently(Shutdown("now"))
        assert down.value.reason == Shutdown("now")


class Deferring(GenServer[list[beamish.Client]]):
    def init(self) -> list[beamish.Client]:
        return []

    @call
    def later(self, state: list[beamish.Client]) -> Answer[str]:
        state.append(beamish.client())
        return NoReply()

    @call
    def at_once(self, state: list[beamish.Client]) -> Answer[str]:
        beamish.reply(beamish.client(), "first")
        beamish.reply(beamish.client(), "second")
        return NoReply()

    @call
    def both(self, state: list[beamish.Client]) -> str:
        beamish.reply(beamish.client(), "by hand")
        return "returned"

    @cast
    def answer(self, state: list[beamish.Client], value: str) -> None:
        for client in state:
            beamish.reply(client, value)
        state.clear()

    @cast
    def no_client(self, state: list[beamish.Client]) -> None:
        beamish.client()

    @call
    async def sleepy(self, state: list[beamish.Client]) -> str:
        await asyncio.Event().wait()
        return "never"


@both_roads
class TestDeferredReplies:
    async def test_a_deferred_reply_arrives(self, world: World) -> None:
        server = await world.start_supervised(Deferring.child_spec())
        waiting = asyncio.ensure_future(server.later())
        await settle()
        server.answer("here")
        assert await waiting == "here"

    async def test_only_the_first_reply_counts(self, world: World) -> None:
        server = await world.start_supervised(Deferring.child_spec())
        assert await server.at_once() == "first"
        assert await server.both() == "by hand"

    async def test_a_client_whose_server_dies_hears_at_once(self, world: World) -> None:
        server = await Deferring.start()
        waiting = asyncio.ensure_future(server.later())
        await settle()
        beamish.exit(server, KILL)
        with pytest.raises(ServerDown) as down:
            await waiting
        assert down.value.reason == Killed()

    async def test_a_client_of_a_suspended_handler_too(self, world: World) -> None:
        server = await Deferring.start()
        waiting = asyncio.ensure_future(server.sleepy())
        await settle()
        beamish.exit(server, "enough")
        assert not beamish.alive(server)
        with pytest.raises(ServerDown) as down:
            await waiting
        assert down.value.reason == "enough"

    async def test_call_timeout_leaves_the_server_alone(self, world: World, clock: ManualClock) -> None:
        server = await world.start_supervised(Deferring.child_spec())
        waiting = asyncio.ensure_future(server.with_timeout(0.2).later())
        await clock.advance(0.3)
        with pytest.raises(CallTimeout, match=r"0\.2 s"):
            await waiting
        server.answer("too late")
        assert await server.at_once() == "first"


class TestAddress:
    async def test_it_is_a_value(self) -> None:
        one, other = Counter("c"), Counter("c")
        assert (one, hash(one)) == (other, hash(other))
        assert one.with_timeout(1.0) == one
        assert copy.copy(one) is one
        assert pickle.loads(pickle.dumps(one)) == one
        assert repr(one) == "Counter('c')"
        server = await Counter.start()
        assert server != one
        with pytest.raises(TypeError, match="named server"):
            pickle.dumps(server)
        await server.stop()

    def test_it_has_no_attributes_and_says_so(self) -> None:
        with pytest.raises(AttributeError, match="in the state"):
            Counter("c").x = 1  # type: ignore[attr-defined]
        with pytest.raises(TypeError, match=r"await Counter.start_link\(limit=5\)"):
            Counter(limit=5)  # type: ignore[call-arg]

    def test_the_method_has_the_clients_signature(self) -> None:
        import inspect

        assert str(inspect.signature(Counter.add)) == "(self, n: 'int', *, times: 'int' = 1) -> 'int'"
        assert Counter.add.__doc__ == "Add n."
        assert Counter.add.handler(Counter("c"), [1], 2) == 3  # type: ignore[attr-defined]

    async def test_reserved_names_are_refused(self) -> None:
        with pytest.raises(TypeError, match="stop"):

            class Bad(GenServer[None]):
                @call
                def stop(self, state: None) -> None: ...  # type: ignore[override]

    async def test_another_class_is_the_wrong_server(self) -> None:
        class Other(GenServer[int]):
            def init(self) -> int:
                return 1

            @call
            def get(self, state: int) -> int:
                return state

        other = await Other("x").start()
        with pytest.raises(WrongServer):
            await Counter("x").add(1)
        assert await other.get() == 1
        await other.stop()


class Log(GenServer[list[Any]]):
    """Notes what happens to it."""

    def init(self, log: list[Any], then: Any = None, trap: bool = False) -> Any:
        log.append("init")
        if trap:
            beamish.flag(trap_exit=True)
        return Init(log, then=then)

    @call
    def go_on(self, state: list[Any], then: Any) -> Answer[None]:
        return Reply(None, then=then)

    @call
    def note(self, state: list[Any], what: Any) -> None:
        state.append(what)

    def handle_continue(self, state: list[Any], arg: Any) -> Any:
        state.append(("continue", arg))
        if arg == "twice":
            return NoReply(then=Continue("again"))
        if arg == "crash":
            raise ValueError(arg)
        return None

    def handle_info(self, state: list[Any], message: Any) -> Any:
        state.append(message)

    def terminate(self, state: list[Any], reason: Any) -> None:
        state.append(("terminate", reason))


@both_roads
class TestThen:
    async def test_continue_comes_before_the_queue(self, world: World) -> None:
        log: list[Any] = []
        server = await world.start_supervised(Log.child_spec(log, Continue("twice")))
        beamish.send(server, "queued")
        await server.note("called")
        assert log == ["init", ("continue", "twice"), ("continue", "again"), "queued", "called"]

    async def test_a_crash_in_continue_never_reaches_who_has_the_reply(self, world: World) -> None:
        log: list[Any] = []
        server = await Log.start(log)
        with capture_crashes():
            assert await server.go_on(Continue("crash")) is None
            await settle()
        assert not beamish.alive(server)

    async def test_a_timeout_fires_when_nothing_comes(self, world: World, clock: ManualClock) -> None:
        log: list[Any] = []
        server = await world.start_supervised(Log.child_spec(log, Timeout(1.0)))
        await clock.advance(0.9)
        assert log == ["init"]
        await clock.advance(0.2)
        assert log == ["init", TimedOut()]
        await server.go_on(Timeout(1.0))
        await server.note("any message cancels it")
        await clock.advance(5.0)
        assert log[2:] == ["any message cancels it"]

    async def test_timeout_zero_fires_if_nothing_waits(self, world: World) -> None:
        log: list[Any] = []
        await world.start_supervised(Log.child_spec(log, Timeout(0.0)))
        await settle()
        assert log == ["init", TimedOut()]


@both_roads
class TestStart:
    async def test_ignore_stop_raise(self, world: World) -> None:
        class Init_(GenServer[int]):
            def init(self, what: str) -> Any:
                if what == "raise":
                    raise ValueError(what)
                return {"ignore": Ignore(), "stop": Stop("no")}[what]

        with pytest.raises(Ignored):
            await Init_.start("ignore")
        with pytest.raises(StartError) as failed, capture_crashes():
            await Init_.start("stop")
        assert failed.value.reason == "no"
        with pytest.raises(StartError) as failed, capture_crashes():
            await Init_("name").start("raise")
        assert isinstance(failed.value.__cause__, ValueError)
        assert beamish.whereis("name") is None

    async def test_a_taken_name(self, world: World) -> None:
        one = await Counter("c").start()
        with pytest.raises(AlreadyStarted) as taken:
            await Counter("c").start_link()
        assert taken.value.address == one
        await one.stop()

    async def test_a_slow_init_is_killed_and_its_name_free(self, world: World, clock: ManualClock) -> None:
        class Slow(GenServer[None]):
            async def init(self) -> None:
                await asyncio.Event().wait()

        starting = asyncio.ensure_future(Slow("slow").options(timeout=1.0).start_link())
        await settle()
        assert beamish.whereis("slow") is not None
        await clock.advance(1.1)
        with pytest.raises(StartError, match="in time"):
            await starting
        assert beamish.whereis("slow") is None


class Caller(GenServer[Any]):
    def init(self, other: Any = None) -> Any:
        return other

    @call
    async def ask(self, state: Any, other: Any) -> Any:
        return await other.ask_nothing(self)

    @call
    async def ask_nothing(self, state: Any, back: Any) -> Any:
        return await back.ask_nothing(self)

    @call
    async def ask_self(self, state: Any) -> Any:
        return await self.ask_self()


@both_roads
class TestDeadlock:
    async def test_calling_oneself(self, world: World) -> None:
        server = await Caller.start()
        with capture_crashes(), pytest.raises(ServerDown) as down:
            await server.ask_self()
        assert isinstance(down.value.__cause__, CallingSelf)

    async def test_a_circle_is_named(self, world: World) -> None:
        a, b = await Caller("a").start(), await Caller("b").start()
        with capture_crashes(), pytest.raises(ServerDown) as down:
            await a.ask(b)
        cause: Any = down.value.__cause__
        while not isinstance(cause, beamish.Deadlock):
            cause = cause.__cause__
        assert "Caller('a')" in str(cause)
        assert "Caller('b')" in str(cause)


async def test_supervise_restarts_with_a_fresh_state() -> None:
    counter = Counter("counter")
    async with supervise([counter.child_spec()]):
        await counter.add(3)
        with capture_crashes(), pytest.raises(ServerDown):
            await counter.divide(0)
        assert await counter.add(1) == 1
    assert counter.pid() is None
