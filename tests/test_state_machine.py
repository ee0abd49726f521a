"""StateMachine: events, states, what is postponed, timeouts, enter calls, and the end. The order of things is shown once more,
against the real gen_statem, by tests/conformance/state_machine_*.py, and against a model by tests/test_state_machine_model.py."""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

import pytest

import beamish
from beamish import (
    KILL,
    NORMAL,
    SHUTDOWN,
    Answer,
    BadReturn,
    Begin,
    Call,
    CallTimeout,
    Cast,
    Client,
    Crash,
    Down,
    Event,
    EventTimeout,
    Exited,
    GenericTimeout,
    Hibernate,
    Ignore,
    Ignored,
    Info,
    Internal,
    Keep,
    Killed,
    Message,
    Next,
    NoReply,
    Normal,
    Pid,
    Postpone,
    Repeat,
    Reply,
    ServerDown,
    Shutdown,
    StartError,
    StateMachine,
    StateTimeout,
    Status,
    Stop,
    Timeout,
    Transition,
    UnhandledEvent,
    WrongServer,
    alive,
    call,
    cast,
    current,
    down,
    exit,
    flag,
    monitor,
    receive,
    reply,
    send,
    spawn_link,
    supervise,
    sys,
    when,
)
from beamish.testing import ManualClock, World, capture_crashes, settle
from capturing import events
from conftest import both_roads


class Door(Enum):
    LOCKED = auto()
    OPEN = auto()


@dataclass
class Lock:
    code: str
    typed: str = ""
    waiting: list[Client] = field(default_factory=list)


class CodeLock(StateMachine[Door, Lock]):
    def init(self, code: str = "12") -> Begin[Door, Lock]:
        return Begin(Door.LOCKED, Lock(code))

    @call
    def press(self, state: Door, lock: Lock, key: str, *, hard: bool = False) -> Answer[bool]:
        """Press a key."""
        match state:
            case Door.OPEN:
                return Postpone()
            case Door.LOCKED:
                lock.typed = (lock.typed + key)[-len(lock.code) :]
                if lock.typed == lock.code or hard:
                    return Next(Door.OPEN, StateTimeout(10.0, "lock"), reply=True)
                return Keep(StateTimeout(5.0, "forget"), reply=False)

    @call
    def typed(self, state: Door, lock: Lock) -> str:
        return lock.typed

    @call
    async def slowly(self, state: Door, lock: Lock, goal: Door) -> Answer[str]:
        await asyncio.sleep(0)
        return Next(goal, reply=f"from {state.name}")

    @call
    async def plain(self, state: Door, lock: Lock) -> str:
        await asyncio.sleep(0)
        return state.name

    @call
    def wait(self, state: Door, lock: Lock) -> Answer[str]:
        """Answered when the door is opened, by whoever opens it."""
        lock.waiting.append(beamish.client())
        return Keep()

    @cast
    def change(self, state: Door, lock: Lock, code: str) -> None:
        lock.code = code

    @cast
    def force(self, state: Door, lock: Lock) -> Transition:
        for client in lock.waiting:
            reply(client, "it is open")
        return Next(Door.OPEN, data=Lock(lock.code))

    @cast
    async def shut(self, state: Door, lock: Lock) -> Transition | None:
        await asyncio.sleep(0)
        return Next(Door.LOCKED)

    def handle_event(self, state: Door, lock: Lock, event: Event) -> Transition | None:
        match state, event:
            case Door.OPEN, StateTimeout(content="lock"):
                return Next(Door.LOCKED)
            case Door.LOCKED, StateTimeout(content="forget"):
                lock.typed = ""
                return Keep()
            case _:
                return None


async def start(world: World, machine: Any, *args: Any, **kwargs: Any) -> Any:
    """Started, and stopped after the test."""
    return await world.start_supervised(machine.child_spec(*args, **kwargs).replace(id=object(), restart="temporary"))


async def state_of(machine: StateMachine[Any, Any]) -> Any:
    return (await sys.get_state(machine))[0]


class TestTheMethodsOfAMachine:
    def test_the_client_gives_neither_state_nor_data(self) -> None:
        assert list(inspect.signature(CodeLock.press).parameters) == ["self", "key", "hard"]
        assert list(inspect.signature(CodeLock.change).parameters) == ["self", "code"]
        assert CodeLock.press.__doc__ == "Press a key."
        assert CodeLock.press.__qualname__ == "CodeLock.press"
        assert CodeLock.press.__annotations__ == {"key": "str", "hard": "bool", "return": "Answer[bool]"}

    def test_the_plain_handler_is_a_function_of_state_and_data(self) -> None:
        handler: Any = CodeLock.press.handler  # type: ignore[attr-defined]
        lock = Lock("12")
        assert handler(CodeLock("x"), Door.LOCKED, lock, "1").reply is False
        assert isinstance(handler(CodeLock("x"), Door.OPEN, lock, "1"), Postpone)

    @both_roads
    async def test_a_plain_value_is_the_reply_and_keeps_the_state(self, world: World) -> None:
        lock = await start(world, CodeLock)
        assert await lock.typed() == ""
        assert await lock.plain() == "LOCKED"
        assert await state_of(lock) is Door.LOCKED

    @both_roads
    async def test_arguments_by_position_and_by_name(self, world: World) -> None:
        lock = await start(world, CodeLock, code="9")
        assert await lock.press(key="1") is False
        assert await lock.press("1", hard=True) is True

    @both_roads
    async def test_a_cast_changes_data_and_state(self, world: World) -> None:
        lock = await start(world, CodeLock)
        lock.change("7")
        assert await lock.press("7") is True
        lock.shut()
        assert await state_of(lock) is Door.LOCKED
        lock.force()
        assert await sys.get_state(lock) == (Door.OPEN, Lock("7"))

    @both_roads
    async def test_an_async_handler_may_go_to_another_state(self, world: World) -> None:
        lock = await start(world, CodeLock)
        assert await lock.slowly(Door.OPEN) == "from LOCKED"
        assert await state_of(lock) is Door.OPEN

    @both_roads
    async def test_a_call_may_be_answered_later_by_another_event(self, world: World) -> None:
        lock = await start(world, CodeLock)
        asked = asyncio.create_task(lock.wait())
        await settle()
        lock.force()
        assert await asked == "it is open"

    async def test_a_machine_is_restarted_with_a_fresh_state(self) -> None:
        lock = CodeLock("front")
        with capture_crashes() as reports:
            async with supervise([lock.child_spec("1")]):
                assert await lock.press("1")
                lock.cast("kick")
                with pytest.raises(ServerDown):
                    await lock.typed()
                assert await sys.get_state(lock) == (Door.LOCKED, Lock("1"))
        assert [report.name for report in reports] == ["beamish.gen_server", "beamish.supervisor"]

    async def test_a_class_that_derives_from_a_machine_may_override_an_event(self, world: World) -> None:
        class Friendly(CodeLock):
            @call
            def press(self, state: Door, lock: Lock, key: str, *, hard: bool = False) -> Answer[bool]:
                return Next(Door.OPEN, reply=True)

        lock = await start(world, Friendly)
        assert await CodeLock(lock.pid()).press("x") is True  # through an address of the base class, too
        assert await lock.typed() == ""

    async def test_handlers_of_a_plain_class_serve_as_well(self, world: World) -> None:
        class Lights:
            @call
            def lit(self, state: str, data: None) -> str:
                return f"lit in {state}"

        class Lamp(Lights, StateMachine[str, None]):
            def init(self) -> Begin[str, None]:
                return Begin("on", None)

        lamp: Any = await start(world, Lamp)
        assert await lamp.lit() == "lit in on"

    async def test_a_machine_has_no_such_call(self, world: World) -> None:
        class Other(StateMachine[str, None]):
            def init(self) -> Begin[str, None]:
                return Begin("on", None)

        other = await start(world, Other)
        with pytest.raises(WrongServer, match="no @call or @cast 'press'"):
            await CodeLock(other.pid()).press("1")

    @both_roads
    async def test_a_call_that_may_run_on_its_callers_stack_does(self, world: World, inline: bool) -> None:
        class Where(StateMachine[str, int]):
            def init(self) -> Begin[str, int]:
                return Begin("a", 0)

            @call
            def stack(self, state: str, data: int) -> Answer[bool]:
                inlined = any(frame.function == "this_one" for frame in inspect.stack())
                return Next("b" if state == "a" else "a", StateTimeout(1.0), reply=inlined)

        async def this_one() -> list[bool]:
            return [await where.stack() for _ in range(3)]

        where = await start(world, Where)
        assert await this_one() == [inline] * 3
        await where.stop()


@dataclass(frozen=True)
class Ask(Message[int]):
    n: int


class Recorder(StateMachine[str, list[Any]]):
    """Writes down what it gets; says what its class says."""

    def init(self) -> Begin[str, list[Any]]:
        return Begin("here", [])

    def handle_event(self, state: str, seen: list[Any], event: Event) -> Transition | None:
        seen.append(event)
        match event:
            case Call(Ask(n)):
                return Keep(reply=n + 1)
            case Call("later", client):
                seen[-1] = client
                return Keep()
            case Call(request):
                return Keep(reply=request)
            case Cast("insert"):
                return Keep(Internal("made"), Cast("as cast"), Info("as info"), GenericTimeout("t", 0.0, "now"))
            case Cast("quiet"):
                return None
            case Cast("wrong"):
                return "a plain value"  # type: ignore[return-value]
            case Cast("go"):
                return Next("there")
            case _:
                return Keep()


class TestHandleEvent:
    @both_roads
    async def test_it_gets_what_has_no_method_of_its_own_each_as_what_it_is(self, world: World) -> None:
        recorder = await start(world, Recorder)
        assert await recorder.call(Ask(1)) == 2
        assert await recorder.call("hello") == "hello"
        recorder.cast("notice")
        send(recorder, "message")
        recorder.cast("insert")
        seen = (await sys.get_state(recorder))[1]
        assert [type(event) for event in seen[:2]] == [Call, Call]
        assert seen[2:] == [
            Cast("notice"), Info("message"), Cast("insert"),
            Internal("made"), Cast("as cast"), Info("as info"), GenericTimeout("t", 0.0, "now"),
        ]  # fmt: skip

    async def test_signals_of_the_runtime_are_messages(self, world: World) -> None:
        recorder = await start(world, Recorder)

        async def look() -> None:
            flag(trap_exit=True)

        class Trapping(Recorder):
            def init(self) -> Begin[str, list[Any]]:
                flag(trap_exit=True)
                spawn_link(look)
                monitor(recorder)
                return Begin("here", [])

        trapping = await start(world, Trapping)
        await settle()
        await recorder.stop()
        seen = (await sys.get_state(trapping))[1]
        assert [type(event.message) for event in seen] == [Exited, Down]

    @both_roads
    async def test_a_call_may_be_answered_by_a_worker_later(self, world: World) -> None:
        recorder = await start(world, Recorder)
        asked = asyncio.create_task(recorder.call("later"))
        await settle()
        reply((await sys.get_state(recorder))[1][0], "done")
        assert await asked == "done"

    @both_roads
    async def test_the_items_of_a_stream_are_messages(self, world: World) -> None:
        async def numbers() -> Any:
            for n in range(3):
                yield n

        class Reading(Recorder):
            def init(self) -> Begin[str, list[Any]]:
                self.stream(numbers())
                return Begin("here", [])

        reading = await start(world, Reading)
        await settle()
        assert [event.message for event in (await sys.get_state(reading))[1] if isinstance(event.message, int)] == [0, 1, 2]

    async def test_an_inserted_call_is_answered_to_its_client(self, world: World) -> None:
        class Parser(StateMachine[str, None]):
            def init(self) -> Begin[str, None]:
                return Begin("here", None)

            def handle_event(self, state: str, data: None, event: Event) -> Transition:
                match event:
                    case Call(("raw", text), client):
                        return Keep(Call(("parsed", text.upper()), client))
                    case Call(("parsed", text)):
                        return Keep(reply=text)
                    case _:
                        return Keep()

        parser = await start(world, Parser)
        assert await parser.call(("raw", "x")) == "X"

    @both_roads
    async def test_an_event_that_nothing_takes_ends_the_machine_with_a_text_that_teaches(self, world: World) -> None:
        recorder = await Recorder("recorder").start()
        with capture_crashes() as reports:
            recorder.cast("quiet")
            with pytest.raises(ServerDown):
                await recorder.call("x")
        error = reports[0].reason.error  # type: ignore[attr-defined]
        assert isinstance(error, UnhandledEvent)
        assert (error.state, error.event) == ("here", Cast("quiet"))
        assert "Recorder('recorder') in state 'here' got Cast(request='quiet'), and nothing takes that" in str(error)
        assert "return Keep() to ignore" in str(error)

    async def test_without_handle_event_nothing_is_taken(self) -> None:
        class Bare(StateMachine[str, None]):
            def init(self) -> Begin[str, None]:
                return Begin("here", None)

        for act in (Bare.cast, send):
            bare = await Bare.start()
            with capture_crashes():
                act(bare, "x")
                reason = (await down(bare)).reason
            assert isinstance(reason, Crash)
            assert isinstance(reason.error, UnhandledEvent)

    async def test_a_plain_value_is_no_answer_to_an_event(self) -> None:
        recorder = await Recorder.start()
        with capture_crashes():
            recorder.cast("wrong")
            reason: Any = (await down(recorder)).reason
        assert "what took Cast(request='wrong') returned 'a plain value'. Expected: Next(" in str(reason.error)

    @both_roads
    async def test_it_may_be_async(self, world: World) -> None:
        class Slow(StateMachine[str, list[Any]]):
            def init(self) -> Begin[str, list[Any]]:
                return Begin("here", [])

            async def handle_event(self, state: str, seen: list[Any], event: Event) -> Transition | None:
                await asyncio.sleep(0)
                match event:
                    case Call(request):
                        return Keep(reply=request)
                    case Cast("go"):
                        return Next("there", Internal("first"))
                    case Cast("postpone") if state == "here":
                        return Postpone()
                    case Cast() | Internal():
                        seen.append((state, event))
                        return Keep()
                    case _:
                        return None

        slow = await Slow.start()
        assert await slow.call(1) == 1
        for request in ("postpone", "go", "last"):
            slow.cast(request)
        assert await sys.get_state(slow) == (
            "there", [("there", Internal("first")), ("there", Cast("postpone")), ("there", Cast("last"))],
        )  # fmt: skip
        with capture_crashes():
            send(slow, "what nothing takes")
            reason = (await down(slow)).reason
        assert isinstance(reason, Crash)
        assert isinstance(reason.error, UnhandledEvent)


@dataclass(frozen=True)
class Connecting:
    attempt: int = 1


@dataclass(frozen=True)
class Connected:
    peer: str


@dataclass(frozen=True)
class Encrypted(Connected):
    cipher: str = "x"


class Connection(StateMachine[Connecting | Connected, list[str]]):
    def init(self) -> Begin[Connecting | Connected, list[str]]:
        return Begin(Connecting(), [])

    @when(Connecting)
    def connecting(self, state: Connecting, log: list[str], event: Event) -> Transition | None:
        match event:
            case Info(("up", str(peer))):
                return Next(Connected(peer))
            case Info(("secure", str(peer))):
                return Next(Encrypted(peer))
            case Info("refused"):
                return Next(Connecting(state.attempt + 1))
            case Cast():
                return Postpone()
            case _:
                return None

    @when(Connected)
    async def connected(self, state: Connected, log: list[str], event: Event) -> Transition | None:
        await asyncio.sleep(0)
        match event:
            case Cast(str(text)):
                log.append(f"{text} to {state.peer}")
                return Keep()
            case _:
                return None

    def handle_event(self, state: Connecting | Connected, log: list[str], event: Event) -> Transition | None:
        match event:
            case Call("state"):
                return Keep(reply=state)
            case Call("log"):
                return Keep(reply=log)
            case _:
                return None


class TestWhen:
    @both_roads
    async def test_a_function_for_the_states_of_a_class_and_the_rest_for_all_of_them(self, world: World) -> None:
        connection = await start(world, Connection)
        assert await connection.call("state") == Connecting(1)
        connection.cast("hello")
        send(connection, "refused")
        assert await connection.call("state") == Connecting(2)
        send(connection, ("up", "peer"))
        connection.cast("bye")
        assert await connection.call("log") == ["hello to peer", "bye to peer"]

    async def test_a_state_of_a_derived_class_has_the_function_of_the_nearest_class(self, world: World) -> None:
        connection = await start(world, Connection)
        send(connection, ("secure", "peer"))
        connection.cast("hello")
        assert await connection.call("log") == ["hello to peer"]

        class Careful(Connection):
            @when(Encrypted)
            def encrypted(self, state: Encrypted, log: list[str], event: Event) -> Transition | None:
                return Keep(reply=f"secret by {state.cipher}") if isinstance(event, Call) else None

        careful = await start(world, Careful)
        send(careful, ("secure", "peer"))
        assert await careful.call("log") == "secret by x"

    @both_roads
    async def test_by_value_one_function_may_be_for_several_states(self, world: World) -> None:
        class Light(StateMachine[Any, None]):
            def init(self, state: Any) -> Begin[Any, None]:
                return Begin(state, None)

            @when("red", "yellow")
            def stop(self, state: str, data: None, event: Event) -> Transition:  # type: ignore[override]
                return Keep(reply="stop")

            @when("green")
            def go(self, state: str, data: None, event: Event) -> Transition:
                return Keep(reply="go")

            def handle_event(self, state: Any, data: None, event: Event) -> Transition:
                return Keep(reply="nothing")

        assert [await (await start(world, Light, state)).call("?") for state in ("red", "yellow", "green", "off", ["no hash"])] == [
            "stop", "stop", "go", "nothing", "nothing",
        ]  # fmt: skip

    async def test_it_is_overridden_by_its_name(self, world: World) -> None:
        class Base(StateMachine[str, None]):
            def init(self) -> Begin[str, None]:
                return Begin("a", None)

            @when("a")
            def here(self, state: str, data: None, event: Event) -> Transition:
                return Keep(reply="base")

        class Derived(Base):
            @when("a")
            def here(self, state: str, data: None, event: Event) -> Transition:
                return Keep(reply="derived")

        assert await (await start(world, Derived)).call("?") == "derived"
        with pytest.raises(TypeError, match=r"Forgetful\.here overrides a function of a state, so it needs its own @when"):

            class Forgetful(Base):
                def here(self, state: str, data: None, event: Event) -> Transition:
                    return Keep()

    def test_what_is_refused(self) -> None:
        with pytest.raises(TypeError, match="@when takes the states"):
            when()
        with pytest.raises(TypeError, match="a plain method"):
            when("a")(CodeLock.typed)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="both one and two are for the state 'a'"):

            class Twice(StateMachine[str, None]):
                @when("a")
                def one(self, state: str, data: None, event: Event) -> Transition:
                    return Keep()

                @when("a")
                def two(self, state: str, data: None, event: Event) -> Transition:
                    return Keep()


class Gate(StateMachine[str, list[Any]]):
    """Shut, it postpones what passes through it; open, it writes that down."""

    def init(self, *, trap: bool = False) -> Begin[str, list[Any]]:
        flag(trap_exit=trap)
        return Begin("shut", [])

    @call
    def through(self, state: str, seen: list[Any], what: Any) -> Answer[Any]:
        if state == "shut":
            return Postpone()
        seen.append(what)
        return Keep(reply=what)

    @call
    async def slowly(self, state: str, seen: list[Any], what: Any) -> Answer[Any]:
        await asyncio.sleep(0)
        if state == "shut":
            return Postpone()
        seen.append(what)
        return Keep(reply=what)

    @cast
    def note(self, state: str, seen: list[Any], what: Any) -> Transition | None:
        if state == "shut":
            return Postpone()
        seen.append(what)
        return None

    @call
    def who(self, state: str, seen: list[Any]) -> Answer[Pid | None]:
        return Postpone() if state == "shut" else Keep(reply=beamish.client().pid)

    @cast
    def open(self, state: str, seen: list[Any]) -> Transition:
        return Next("open")

    @call
    def open_now(self, state: str, seen: list[Any]) -> Answer[str]:
        return Next("open", reply="opened")

    @call
    def stop_now(self, state: str, seen: list[Any], reason: Any) -> Answer[str]:
        return Stop(reason, reply="bye")

    @call
    def fail(self, state: str, seen: list[Any]) -> str:
        raise ValueError("oops")


class TestPostpone:
    @both_roads
    async def test_a_call_that_is_postponed_is_answered_when_the_state_has_changed(self, world: World) -> None:
        gate = await start(world, Gate)
        asked = [asyncio.create_task(gate.through(n)) for n in range(3)] + [asyncio.create_task(gate.slowly(3))]
        await settle()
        gate.note(4)
        assert not any(task.done() for task in asked)
        assert await gate.open_now() == "opened"
        assert await asyncio.gather(*asked) == [0, 1, 2, 3]
        assert await sys.get_state(gate) == ("open", [0, 1, 2, 3, 4])

    @both_roads
    async def test_the_client_of_a_retried_call_is_who_asked(self, world: World) -> None:
        gate = await start(world, Gate)
        me = current()
        asked = asyncio.create_task(gate.who())
        await settle()
        gate.open()
        assert await asked is None  # that was plain asyncio code
        shut = await start(world, Gate)

        async def asking() -> None:
            send(me, (current(), await shut.who()))

        spawn_link(asking)
        await settle()
        shut.open()
        who, told = await receive(tuple)
        assert told is who

    @both_roads
    async def test_its_callers_timeout_counts(self, world: World, clock: ManualClock) -> None:
        gate = await start(world, Gate)
        asked = asyncio.create_task(gate.with_timeout(1.0).through("x"))
        await clock.advance(1.0)
        with pytest.raises(CallTimeout):
            await asked
        gate.open()
        assert await sys.get_state(gate) == ("open", ["x"])  # as in OTP: the event is handled, its answer goes nowhere

    @both_roads
    async def test_a_caller_that_gives_up_is_no_loss(self, world: World) -> None:
        gate = await start(world, Gate)
        asked = asyncio.create_task(gate.through("x"))
        await settle()
        asked.cancel()
        await settle()
        gate.open()
        assert await gate.through("y") == "y"

    @both_roads
    @pytest.mark.parametrize(
        ("end", "reason"),
        [
            (lambda gate: exit(gate, KILL), Killed()),
            (lambda gate: exit(gate, "why"), "why"),
            (lambda gate: gate.stop(), Normal()),
            (lambda gate: gate.stop(SHUTDOWN), SHUTDOWN),
            (lambda gate: gate.stop_now("because"), "because"),
        ],
    )
    async def test_who_waits_is_told_when_the_machine_ends(self, world: World, end: Any, reason: Any) -> None:
        gate = await Gate.start()
        asked = [asyncio.create_task(one) for one in (gate.through(1), gate.slowly(2))]
        await settle()
        with capture_crashes():
            ended = end(gate)
            if inspect.isawaitable(ended):
                await ended
            answers = await asyncio.gather(*asked, return_exceptions=True)
        assert [(type(error), error.reason) for error in answers] == [(ServerDown, reason)] * 2  # type: ignore[union-attr]

    @both_roads
    async def test_or_crashes(self, world: World) -> None:
        gate = await Gate.start()
        asked = asyncio.create_task(gate.through(1))
        await settle()
        with capture_crashes() as reports:
            with pytest.raises(ServerDown, match="oops"):
                await gate.fail()
            with pytest.raises(ServerDown, match="oops"):
                await asked
        assert reports[0].state == ("shut", [])  # type: ignore[attr-defined]
        assert reports[0].last_message == "fail()"  # type: ignore[attr-defined]
        frames = reports[0].reason.frames  # type: ignore[attr-defined]
        assert [function for _, _, function in frames] == ["fail"]  # and nothing of the machinery above it

    @both_roads
    async def test_a_call_that_runs_while_others_are_retried_comes_after_them(self, world: World) -> None:
        gate = await start(world, Gate)
        for n in range(20):
            gate.note(n)
        await sys.get_state(gate)
        gate.open()
        assert await gate.through("last") == "last"
        assert await sys.get_state(gate) == ("open", [*range(20), "last"])

    @both_roads
    async def test_a_caller_whose_call_is_postponed_is_no_link_of_a_deadlock(self, world: World, clock: ManualClock) -> None:
        class Back(StateMachine[str, Any]):
            """It postpones `wait`, and asks whoever waits for it."""

            def init(self) -> Begin[str, Any]:
                return Begin("shut", None)

            @call
            def wait(self, state: str, data: Any) -> Answer[str]:
                return Postpone() if state == "shut" else Keep(reply="done")

            @call
            async def ask(self, state: str, data: Any) -> Answer[str]:
                try:
                    await front.with_timeout(1.0).get()
                except CallTimeout:
                    return Next("open", reply="late")
                return Keep(reply="answered")

        class Front(StateMachine[str, None]):
            def init(self) -> Begin[str, None]:
                return Begin("a", None)

            @call
            async def through(self, state: str, data: None) -> str:
                return await back.wait()

            @call
            def get(self, state: str, data: None) -> str:
                return "got"

        back, front = await start(world, Back), await start(world, Front)
        through = asyncio.create_task(front.through())
        await settle()
        asked = asyncio.create_task(back.ask())
        await clock.advance(1.0)
        assert (await asked, await through) == ("late", "done")

    async def test_two_machines_may_postpone_each_others_calls(self, world: World) -> None:
        one, two = await start(world, Gate), await start(world, Gate)

        class Through(StateMachine[str, None]):
            def init(self) -> Begin[str, None]:
                return Begin("a", None)

            @call
            async def both(self, state: str, data: None) -> list[Any]:
                return await asyncio.gather(one.through(1), two.through(2))

        through = await start(world, Through)
        asked = asyncio.create_task(through.both())
        await settle()
        one.open()
        two.open()
        assert await asked == [1, 2]


class Timed(StateMachine[str, list[Any]]):
    """`do(actions)` keeps the state with these, `go(state, actions)` changes it; it writes down what comes, and when."""

    def init(self, *actions: Any) -> Begin[str, list[Any]]:
        return Begin("a", [], *actions)

    @call
    def do(self, state: str, seen: list[Any], *actions: Any) -> Answer[None]:
        return Keep(*actions, reply=None)

    @call
    async def do_slowly(self, state: str, seen: list[Any], *actions: Any) -> Answer[None]:
        await asyncio.sleep(0)
        return Keep(*actions, reply=None)

    @call
    def go(self, state: str, seen: list[Any], goal: str, *actions: Any) -> Answer[None]:
        return Next(goal, *actions, reply=None)

    @cast
    def event(self, state: str, seen: list[Any]) -> None:
        seen.append((state, "event", beamish.monotonic() - 1000.0))

    def handle_event(self, state: str, seen: list[Any], event: Event) -> Transition | None:
        match event:
            case StateTimeout(content=content) | EventTimeout(content=content) | GenericTimeout(content=content):
                seen.append((state, content, beamish.monotonic() - 1000.0))
                return Keep()
            case Internal(("do", *actions)):
                return Keep(*actions)
            case _:
                return None


async def seen_by(timed: Timed) -> list[Any]:
    found: list[Any] = (await sys.get_state(timed))[1]
    return found


class TestTimeouts:
    """What the traces of the real one do not show: the clock, the roads, the values."""

    @both_roads
    async def test_they_follow_the_nodes_clock(self, world: World, clock: ManualClock) -> None:
        timed = await start(world, Timed, GenericTimeout("init", 0.5, "init"))
        await timed.do(StateTimeout(2.0, "state"), GenericTimeout("n", 3.0, "generic"), EventTimeout(1.0, "event"))
        await clock.advance(5.0)
        assert await seen_by(timed) == [("a", "init", 0.5), ("a", "state", 2.0), ("a", "generic", 3.0)]

    @both_roads
    async def test_an_inlined_call_is_an_event_that_cancels_the_event_timeout(self, world: World, clock: ManualClock) -> None:
        timed = await start(world, Timed)
        await timed.do(EventTimeout(1.0, "quiet"))
        await clock.advance(0.5)
        await timed.do()
        await clock.advance(5.0)
        assert await seen_by(timed) == []
        await timed.do_slowly(EventTimeout(1.0, "quiet"))
        await clock.advance(5.0)
        assert await seen_by(timed) == [("a", "quiet", 6.5)]

    @both_roads
    async def test_requests_of_the_system_do_not(self, world: World, clock: ManualClock) -> None:
        timed = await start(world, Timed)
        await timed.do(EventTimeout(1.0, "quiet"))
        await clock.advance(0.5)
        await sys.get_state(timed)
        await sys.suspend(timed)
        await sys.resume(timed)
        await clock.advance(0.5)
        assert await seen_by(timed) == [("a", "quiet", 1.0)]

    @both_roads
    async def test_a_change_of_state_cancels_the_state_timeout(self, world: World, clock: ManualClock) -> None:
        timed = await start(world, Timed)
        await timed.do(StateTimeout(1.0, "old"), GenericTimeout(("any", "value"), 1.0, "generic"))
        await timed.go("b", StateTimeout(2.0, "new"))
        await timed.go("b", StateTimeout(3.0, "the same state: set anew"))
        await clock.advance(5.0)
        assert await seen_by(timed) == [("b", "generic", 1.0), ("b", "the same state: set anew", 3.0)]

    @both_roads
    async def test_cancel_update_and_for_ever(self, world: World, clock: ManualClock) -> None:
        timed = await start(world, Timed)
        await timed.do(StateTimeout(1.0, "state"), GenericTimeout("n", 1.0, "old"), GenericTimeout("m", 1.0), EventTimeout(1.0))
        await timed.do(StateTimeout.cancel(), GenericTimeout.update("n", "new"), GenericTimeout.cancel("m"))
        await timed.do(StateTimeout(float("inf")), StateTimeout.update("at once"), EventTimeout.cancel())
        await clock.advance(2.0)
        assert await seen_by(timed) == [("a", "at once", 0.0), ("a", "new", 1.0)]

    @both_roads
    async def test_an_absolute_time(self, world: World, clock: ManualClock) -> None:
        timed = await start(world, Timed)
        await timed.do(StateTimeout(beamish.monotonic() + 2.0, "then", absolute=True), GenericTimeout("n", -5.0, "past", absolute=True))
        await clock.advance(3.0)
        assert await seen_by(timed) == [("a", "past", 0.0), ("a", "then", 2.0)]

    @both_roads
    async def test_one_of_zero_comes_before_what_is_queued(self, world: World) -> None:
        timed = await start(world, Timed)
        call = asyncio.create_task(timed.do(StateTimeout(0.0, "state"), Internal(("do", GenericTimeout("n", 0.0, "inserted's")))))
        await asyncio.sleep(0)
        timed.event()
        await call
        assert [content for _, content, _ in await seen_by(timed)] in (
            ["state", "inserted's", "event"],  # the call came first, as it does on its caller's stack
            ["event", "state", "inserted's"],
        )

    async def test_those_of_zero_that_were_cancelled_take_nobodys_place(self, world: World) -> None:
        timed = await start(world, Timed)
        await sys.suspend(timed)
        cancelled = Internal(("do", GenericTimeout.cancel("n"), GenericTimeout.cancel("m")))
        calls = [
            asyncio.create_task(timed.do(GenericTimeout("n", 0.0, "never"), GenericTimeout("m", 0.0, "never"), cancelled)),
            asyncio.create_task(timed.do(GenericTimeout("n", 0.0, "zero"))),
        ]
        await settle()
        timed.event()
        await sys.resume(timed)
        await asyncio.gather(*calls)
        assert [content for _, content, _ in await seen_by(timed)] == ["zero", "event"]

    async def test_nothing_of_them_is_left_when_the_machine_ends(self, world: World, clock: ManualClock) -> None:
        for end in (lambda timed: timed.stop(), lambda timed: exit(timed, KILL)):
            timed = await Timed.start()
            await timed.do(StateTimeout(100.0), GenericTimeout("n", 100.0), EventTimeout(100.0))
            assert len(world.node.wheel) == 3
            ended = end(timed)
            if inspect.isawaitable(ended):
                await ended
            assert len(world.node.wheel) == 0

    async def test_one_that_is_set_again_and_again_leaves_one(self, world: World) -> None:
        timed = await Timed.start()
        for _ in range(100):
            await timed.do(GenericTimeout("n", 100.0))
        assert len(world.node.wheel) == 1
        await timed.stop()

    def test_a_case_asks_for_what_they_say(self) -> None:
        match StateTimeout(1.0, "lock"), EventTimeout(1.0, "quiet"), GenericTimeout("n", 1.0, "x"):
            case StateTimeout("lock"), EventTimeout("quiet"), GenericTimeout("n", "x"):
                return
        raise AssertionError

    def test_they_are_values(self) -> None:
        assert StateTimeout(1.0, "x") == StateTimeout(1, "x")
        assert StateTimeout(1.0) != EventTimeout(1.0)
        assert repr(GenericTimeout("n", 1.0)) == "GenericTimeout(name='n', seconds=1.0, content=None, absolute=False)"
        for make in (StateTimeout, EventTimeout, lambda seconds: GenericTimeout("n", seconds)):
            for wrong in (-1.0, float("nan"), "1", True):
                with pytest.raises(ValueError, match=r"takes seconds, 0\.0 or more, or None to cancel"):
                    make(wrong)  # type: ignore[arg-type]


class Entering(StateMachine[str, list[Any]]):
    """Writes down each state that it enters; `answers` say what each entry returns."""

    def init(self, answers: dict[str, Any]) -> Begin[str, list[Any]]:
        return Begin("a", [answers], Internal("begun"))

    @call
    def go(self, state: str, data: list[Any], goal: str) -> Answer[str]:
        data.append(f"leave {state}")
        return Next(goal, Internal("arrived"), reply=f"to {goal}")

    @call
    def again(self, state: str, data: list[Any]) -> Answer[None]:
        return Repeat(reply=None)

    def handle_enter(self, state: str, data: list[Any], before: str) -> Any:
        data.append(f"enter {state} from {before}")
        answer = data[0].get(state)
        return answer(self, data) if callable(answer) else answer

    def handle_event(self, state: str, data: list[Any], event: Event) -> Transition:
        data.append((state, event))
        return Keep()


class TestHandleEnter:
    @both_roads
    async def test_it_comes_before_anything_else_in_a_state(self, world: World) -> None:
        machine = await start(world, Entering, {})
        assert await machine.go("b") == "to b"
        await machine.again()
        assert (await sys.get_state(machine))[1][1:] == [
            "enter a from a", ("a", Internal("begun")), "leave a", "enter b from a", ("b", Internal("arrived")), "enter b from b",
        ]  # fmt: skip

    @both_roads
    async def test_it_may_be_async_and_everything_else_waits_for_it(self, world: World) -> None:
        async def slowly(self: Any, data: list[Any]) -> Transition:
            data.append("begin")
            await asyncio.sleep(0)
            data.append("end")
            return Keep(StateTimeout(0.0, "zero"))

        machine = await start(world, Entering, {"a": slowly, "b": slowly})
        machine.cast("queued")
        assert await machine.go("b") == "to b"
        machine.cast("last")
        assert (await sys.get_state(machine))[1][1:] == [
            "enter a from a", "begin", "end", ("a", Internal("begun")), ("a", StateTimeout(0.0, "zero")), ("a", Cast("queued")),
            "leave a", "enter b from a", "begin", "end", ("b", Internal("arrived")), ("b", StateTimeout(0.0, "zero")), ("b", Cast("last")),
        ]  # fmt: skip

    @both_roads
    async def test_it_may_be_asked_again_also_when_it_is_async(self, world: World) -> None:
        async def thrice(self: Any, data: list[Any]) -> Transition | None:
            await asyncio.sleep(0)
            return Repeat() if data.count("enter b from a") < 3 else None

        machine = await start(world, Entering, {"b": thrice})
        await machine.go("b")
        assert (await sys.get_state(machine))[1].count("enter b from a") == 3

    @both_roads
    async def test_whoever_asked_for_the_change_has_the_reply_when_it_fails(self, world: World) -> None:
        def oops(self: Any, data: list[Any]) -> Transition:
            raise ValueError("oops")

        async def slow_oops(self: Any, data: list[Any]) -> Transition:
            await asyncio.sleep(0)
            raise ValueError("oops")

        for answer in (oops, slow_oops, Stop("why"), Keep(Postpone())):
            machine = await Entering.start({"b": answer})
            ref = monitor(machine)
            with capture_crashes():
                assert await machine.go("b") == "to b"
                reason = (await down(ref)).reason
            assert reason == "why" or isinstance(reason, Crash)

    @both_roads
    async def test_a_crash_in_the_first_one_is_not_the_starters(self, world: World) -> None:
        async def slow_oops(self: Any, data: list[Any]) -> Transition:
            await asyncio.sleep(0)
            raise ValueError("oops")

        machine = await Entering.start({"a": slow_oops})
        with capture_crashes():
            reason = (await down(machine)).reason
        assert isinstance(reason, Crash)

    @both_roads
    @pytest.mark.parametrize("wrong", [Next("c"), Postpone(), Keep(Internal("x")), Keep(reply=1), "rubbish"])
    async def test_what_it_may_not_return(self, world: World, wrong: Any) -> None:
        machine = await Entering.start({"b": wrong})
        ref = monitor(machine)
        with capture_crashes():
            await machine.go("b")
            reason: Any = (await down(ref)).reason
        assert isinstance(reason.error, BadReturn)
        assert "Entering.handle_enter returned" in str(reason.error)
        assert "may not change the state, postpone or insert" in str(reason.error)

    @both_roads
    async def test_a_machine_that_is_killed_while_it_enters_stays_dead(self, world: World) -> None:
        def suicide(self: Any, data: list[Any]) -> Transition:
            try:
                exit(self, KILL)
            except asyncio.CancelledError:
                pass
            return Keep(StateTimeout(100.0))

        def signalled(self: Any, data: list[Any]) -> Transition:
            self._process.signal(world.node.root, "why", by_link=False)  # as from another process
            return Keep(StateTimeout(100.0))

        for answer, reason in ((suicide, Killed()), (signalled, "why")):
            machine = await Entering.start({"b": answer})
            ref = monitor(machine)
            asked = asyncio.create_task(machine.go("b"))
            assert (await down(ref)).reason == reason
            await asyncio.gather(asked, return_exceptions=True)
            assert len(world.node.wheel) == 0


class TestTheEnd:
    @both_roads
    async def test_a_stop_replies_first_and_terminate_has_state_and_data(self, world: World) -> None:
        order: list[Any] = []

        class Ending(StateMachine[str, str]):
            def init(self) -> Begin[str, str]:
                return Begin("a", "data")

            @call
            def leave(self, state: str, data: str, stop: Stop[str]) -> Answer[str]:
                return stop

            async def terminate(self, state: str, data: str, reason: Any) -> None:
                order.append((state, data, reason))

        for stop, ended in [
            (Stop("why", reply="bye"), ("a", "data", "why")),
            (Stop(NORMAL, reply="bye", state=("b", "new")), ("b", "new", NORMAL)),
        ]:
            machine = await Ending.start()
            with capture_crashes():
                assert await machine.leave(stop) == "bye"
            await settle()
            assert order.pop() == ended

    @both_roads
    async def test_the_reply_of_a_stop_does_not_wait_for_terminate(self, world: World) -> None:
        may_end = asyncio.Event()

        class Slow(StateMachine[str, None]):
            def init(self) -> Begin[str, None]:
                return Begin("a", None)

            @call
            def leave(self, state: str, data: None) -> Answer[str]:
                return Stop(NORMAL, reply="bye")

            async def terminate(self, state: str, data: None, reason: Any) -> None:
                await may_end.wait()

        slow = await Slow.start()
        assert await slow.leave() == "bye"
        may_end.set()
        await down(slow)

    @both_roads
    async def test_what_a_machine_says_that_was_killed_meanwhile_is_dropped(self, world: World) -> None:
        class Suicidal(StateMachine[str, None]):
            def init(self) -> Begin[str, None]:
                return Begin("a", None)

            @call
            def go(self, state: str, data: None) -> Answer[str]:
                try:
                    exit(self, KILL)
                except asyncio.CancelledError:
                    pass
                return Next("b", StateTimeout(100.0), Internal("x"), reply="here")

        machine = await Suicidal.start()
        with pytest.raises(ServerDown, match="killed"):
            await machine.go()
        assert len(world.node.wheel) == 0

    async def test_a_trapping_machine_ends_with_its_supervisor(self) -> None:
        ended: list[Any] = []

        class Trapping(StateMachine[str, None]):
            def init(self) -> Begin[str, None]:
                flag(trap_exit=True)
                return Begin("a", None)

            def terminate(self, state: str, data: None, reason: Any) -> None:
                ended.append(reason)

        async with supervise([Trapping("t").child_spec()]):
            assert alive(Trapping("t"))
        assert ended == [Shutdown()]

    async def test_starts_that_fail(self, world: World) -> None:
        class Start(StateMachine[str, None]):
            def init(self, answer: Any) -> Any:
                if isinstance(answer, Exception):
                    raise answer
                return answer

        with pytest.raises(Ignored):
            await Start.start(Ignore())
        for answer, text in [
            (Stop("why"), "why"),
            (ValueError("oops"), "oops"),
            (
                "here",
                r"Start\.init returned 'here'. Expected: Begin\(state, data, …\) with timeouts or events, Ignore\(\) or Stop\(reason\)",
            ),
            (("here", None), "Expected: Begin"),
            (None, "Expected: Begin"),
            (Begin("a", None, Postpone()), "Expected: Begin"),
        ]:
            with capture_crashes(), pytest.raises(StartError, match=text):
                await Start.start(answer)

        class NoInit(StateMachine[str, None]): ...

        with capture_crashes(), pytest.raises(StartError, match="needs an init that returns Begin"):
            await NoInit.start()

    async def test_init_may_be_async(self, world: World) -> None:
        class Slow(Entering):
            async def init(self, answers: dict[str, Any]) -> Begin[str, list[Any]]:
                await asyncio.sleep(0)
                return Begin("a", [answers], Internal("begun"))

        machine = await start(world, Slow, {})
        assert (await sys.get_state(machine))[1][1:] == ["enter a from a", ("a", Internal("begun"))]


class TestAnswers:
    """What handlers may return, and what is refused with a text."""

    class Odd(StateMachine[str, None]):
        def init(self) -> Begin[str, None]:
            return Begin("a", None)

        @call
        def say(self, state: str, data: None, answer: Any) -> Answer[Any]:
            return answer  # type: ignore[no-any-return]

        @cast
        def tell(self, state: str, data: None, answer: Any) -> Transition | None:
            return answer  # type: ignore[no-any-return]

    @both_roads
    async def test_those_of_a_server_that_say_the_same_are_understood(self, world: World) -> None:
        odd = await start(world, self.Odd)
        assert await odd.say(Reply("x")) == "x"
        assert await odd.say(Keep(Hibernate(), reply="y")) == "y"
        assert await odd.say(None) is None
        odd.tell(NoReply())
        odd.tell(None)
        asked = asyncio.create_task(odd.with_timeout(0.0).say(NoReply()))
        with pytest.raises(CallTimeout):
            await asked

    @both_roads
    @pytest.mark.parametrize(
        ("answer", "text"),
        [
            (Reply("x", state="b"), "Expected: Next"),
            (NoReply(then=Timeout(1.0)), "Expected: Next"),
            (Begin("a", None), "Expected: Next"),
            (Stop("why", state="b"), r"Expected: state=(state, data)"),
            (Keep("rubbish"), "Expected: a timeout"),  # type: ignore[arg-type]
            (Next("b", Begin("a", None)), "Expected: a timeout"),  # type: ignore[arg-type]
        ],
    )
    async def test_others_end_the_machine(self, world: World, answer: Any, text: str) -> None:
        for how in ("say", "tell"):
            odd = await self.Odd.start()
            ref = monitor(odd)
            with capture_crashes():
                asked: Any = getattr(odd, how)(answer)
                if asked is not None:
                    await asyncio.gather(asked, return_exceptions=True)
                reason: Any = (await down(ref)).reason
            assert isinstance(reason.error, BadReturn)
            assert f"what took {how}() returned" in str(reason.error) or "of a Stop returned" in str(reason.error)
            assert text in str(reason.error)

    async def test_a_cast_has_nobody_to_reply_to(self) -> None:
        odd = await self.Odd.start()
        with capture_crashes():
            odd.tell(Keep(reply="x"))
            reason: Any = (await down(odd)).reason
        assert "nobody waits for one" in str(reason.error)

    def test_they_show_what_they_are(self) -> None:
        assert repr(Next("b", Postpone())) == "Next('b', Postpone())"
        assert repr(Keep(Internal("x"))) == "Keep(Internal(content='x'))"
        assert repr(Repeat()) == "Repeat()"
        assert repr(Begin("a", 1)) == "Begin('a', 1)"


class TestClassesThatAreRefused:
    @pytest.mark.parametrize("name", ["handle_call", "handle_cast", "handle_info", "handle_continue"])
    def test_a_servers_callbacks(self, name: str) -> None:
        class Mixin: ...

        setattr(Mixin, name, lambda self, *args: None)
        for bases, namespace in (((StateMachine,), vars(Mixin)), ((Mixin, StateMachine), {})):
            with pytest.raises(TypeError, match=rf"M\.{name}: a state machine gets every event in handle_event"):
                type(StateMachine)("M", bases, {key: value for key, value in namespace.items() if key == name})

    def test_an_event_without_the_data(self) -> None:
        with pytest.raises(TypeError, match=r"takes \(self, state, data, …\)"):

            class Short(StateMachine[str, None]):
                @call
                def get(self, state: str) -> str:
                    return state

    @pytest.mark.parametrize("name", ["handle_event", "handle_enter", "terminate"])
    def test_an_event_with_the_name_of_a_callback(self, name: str) -> None:
        def event(self: Any, state: Any, data: Any) -> None: ...

        event.__name__ = name
        with pytest.raises(TypeError, match="give the handler another name"):
            type(StateMachine)("M", (StateMachine,), {name: cast(event)})


class TestSys:
    async def test_the_state_is_the_pair(self, world: World) -> None:
        lock = await start(world, CodeLock)
        assert await sys.get_state(lock) == (Door.LOCKED, Lock("12"))
        assert await sys.replace_state(lock, lambda pair: (Door.OPEN, pair[1])) == (Door.OPEN, Lock("12"))
        assert (await sys.get_status(lock)).state == (Door.OPEN, Lock("12"))

    async def test_code_change_and_format_status_have_it_too(self) -> None:
        class Changing(CodeLock):
            def code_change(self, state: tuple[Door, Lock], version: Any, extra: Any) -> tuple[Door, Lock]:
                return Door.OPEN, Lock(f"{version}{extra}")

            def format_status(self, status: Status) -> Status:
                status.state = (status.state[0], "hidden")
                return status

        lock = await Changing.start()
        await sys.suspend(lock)
        await sys.change_code(lock, 1, 2)
        await sys.resume(lock)
        assert await sys.get_state(lock) == (Door.OPEN, Lock("12"))
        assert (await sys.get_status(lock)).state == (Door.OPEN, "hidden")
        with capture_crashes() as reports:
            lock.cast("kick")
            await down(lock)
        assert reports[0].state == (Door.OPEN, "hidden")  # type: ignore[attr-defined]

    async def test_a_suspended_machine_keeps_the_order_of_its_events(self, world: World, clock: ManualClock) -> None:
        timed = await start(world, Timed, StateTimeout(1.0, "state"))
        await sys.suspend(timed)
        timed.event()
        await clock.advance(2.0)
        timed.event()
        await sys.resume(timed)
        assert [content for _, content, _ in await seen_by(timed)] == ["event", "state", "event"]

    async def test_events_are_logged(self, world: World) -> None:
        gate = await start(world, Gate)
        await sys.log(gate, True)
        gate.note(1)
        gate.open()
        await settle()
        log = await sys.log(gate, "get")
        assert [event.message for event in log if isinstance(event, sys.In)] == ["note(1)", "open()", "note(1)"]

    async def test_a_bounded_mailbox_takes_retried_events_all_the_same(self, world: World) -> None:
        gate = await world.start_supervised(Gate.options(max_queue=2).child_spec())
        for n in range(6):
            gate.note(n)
            await settle()
        gate.open()
        await settle()
        assert await sys.get_state(gate) == ("open", [0, 1, 2, 3, 4, 5])


class TestTelemetry:
    async def test_a_change_of_state_is_told(self, world: World) -> None:
        lock = await start(world, CodeLock("front"), "1")
        with events("beamish.state_machine.transition") as heard:
            await lock.press("9")
            await lock.press("1")
        assert [(one.metadata["before"], one.metadata["state"], one.metadata["server"]) for one in heard] == [
            (Door.LOCKED, Door.OPEN, CodeLock("front"))
        ]
        assert heard[0].metadata["pid"] == lock.pid()
        assert set(heard[0].measurements) == {"monotonic_time"}
        await lock.stop()
