"""The fixture `beamish`: supervised servers, messages, crashes, telemetry and time, as a user of it meets them."""

from __future__ import annotations

import asyncio
import re
import traceback
from typing import Any

import pytest

from beamish import (
    KILL,
    CallExit,
    Crash,
    Down,
    DynamicSupervisor,
    Exited,
    GenServer,
    Killed,
    NoProcess,
    Normal,
    NotFound,
    Pid,
    ServerDown,
    StartError,
    Stop,
    Supervisor,
    alive,
    call,
    cast,
    current,
    flag,
    monitor,
    receive,
    registered,
    send,
    send_after,
    spawn,
    spawn_link,
    telemetry,
    whereis,
)
from beamish.testing import Crashed, Kit, LeftBehind, NotAwaited, NotVerified, Signalled, Stalled, like, mock


class Counter(GenServer[list[int]]):
    def init(self, start: int = 0) -> list[int]:
        return [start]

    @call
    def add(self, state: list[int], n: int) -> int:
        state[0] += n
        return state[0]

    @call
    def divide(self, state: list[int], by: int) -> float:
        return state[0] / by

    @cast
    def divide_later(self, state: list[int], by: int) -> None:
        state[0] //= by

    @call
    def end(self, state: list[int], reason: object) -> Any:
        return Stop(reason, reply=None)


def ill(body: Any) -> BaseException:
    """What a test of that body fails of."""
    with pytest.raises(BaseException) as caught:
        Kit().run(body)
    return caught.value


class TestSupervised:
    async def test_it_is_restarted_as_its_spec_says(self, beamish: Kit) -> None:
        counter = await beamish.start_supervised(Counter("counter").child_spec(5))
        assert await counter.add(1) == 6
        assert await beamish.crash(counter) == counter
        assert await counter.add(1) == 6

    async def test_it_never_gives_up(self, beamish: Kit) -> None:
        counter = await beamish.start_supervised(Counter("counter").child_spec())
        for _ in range(20):
            await beamish.crash(counter)
        assert await counter.add(1) == 1

    async def test_an_id_that_is_taken_and_a_start_that_fails(self, beamish: Kit) -> None:
        await beamish.start_supervised(Counter("counter").child_spec())
        with pytest.raises(StartError, match="counter"):
            await beamish.start_supervised(Counter("counter").child_spec())
        with beamish.capture_crashes(), pytest.raises(StartError, match="TypeError"):
            await beamish.start_supervised(Counter("other").child_spec(1, 2))  # type: ignore[call-arg]  # pyright: ignore

    async def test_what_is_stopped_is_forgotten(self, beamish: Kit) -> None:
        with pytest.raises(NotFound, match="nothing was started"):
            await beamish.stop_supervised("counter")
        for restart in ("permanent", "temporary"):
            await beamish.start_supervised(Counter("counter").child_spec().replace(restart=restart))
            await beamish.stop_supervised("counter")
            assert whereis("counter") is None
            with pytest.raises(NotFound):
                await beamish.stop_supervised("counter")

    async def test_the_test_is_not_linked_to_it(self, beamish: Kit) -> None:
        counter = await beamish.start_supervised(Counter("counter").child_spec().replace(restart="temporary"))
        await beamish.crash(counter)
        assert not alive(counter)


class TestTheEnd:
    def test_the_process_then_what_is_supervised_then_callbacks_last_first(self) -> None:
        kit, seen = Kit(), []

        async def linked(name: str) -> None:
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                seen.append(name)

        class Told(GenServer[str]):
            def init(self, name: str) -> str:
                flag(trap_exit=True)
                return name

            def terminate(self, state: str, reason: object) -> None:
                seen.append(state)

        async def later() -> None:
            await asyncio.sleep(60)
            seen.append("callback 2")

        async def body() -> None:
            kit.on_exit(lambda: seen.append("callback 1"))
            kit.on_exit(later)
            await kit.start_supervised(Told("a").child_spec("a"))
            await kit.start_supervised(Told("b").child_spec("b"))
            spawn_link(linked, "linked")
            await asyncio.sleep(0)

        kit.run(body)
        assert seen == ["linked", "b", "a", "callback 2", "callback 1"]

    def test_every_callback_is_called_and_what_they_raise_fails_the_test(self) -> None:
        kit, seen = Kit(), []

        def raises() -> None:
            raise ValueError("put away badly")

        async def body() -> None:
            kit.on_exit(lambda: seen.append(1))
            kit.on_exit(raises)

        with pytest.raises(ValueError, match="put away badly"):
            kit.run(body)
        assert seen == [1]

    def test_leftovers_fail_it_and_are_ended(self) -> None:
        found: list[Any] = []

        async def body() -> None:
            found.append(await Counter("stray").start())
            found.append(asyncio.create_task(asyncio.sleep(100), name="sleeper"))
            send_after(5.0, "nobody", "tick")
            asyncio.get_running_loop().call_later(3.0, found.clear)

        error = ill(body)
        assert isinstance(error, LeftBehind)
        for text in ("process Counter('stray')", "'sleeper'", "timer of 'tick' to 'nobody'", "call_later(list.clear)"):
            assert text in str(error)
        assert found[1].cancelled()

    def test_what_a_server_armed_for_itself_ends_with_it(self, beamish: Kit) -> None:
        async def body() -> None:
            counter = await beamish.start_supervised(Counter("counter").child_spec())
            pid = counter.pid()
            assert pid is not None
            send_after(60.0, pid, "tick")

        beamish.run(body)

    def test_a_crash_nobody_expects_fails_it(self) -> None:
        async def caught() -> None:
            counter = await Counter("counter").start()
            try:
                await counter.divide(0)
            except ServerDown:
                pass

        error = ill(caught)
        assert isinstance(error, Crashed)
        assert "Counter('counter'): ZeroDivisionError: division by zero\n    last message: divide(0)" in str(error)
        assert isinstance(error.__cause__, ZeroDivisionError)

        async def spawned() -> None:
            spawn(lambda: 1 / 0)
            await asyncio.sleep(0.1)

        assert isinstance(ill(spawned), Crashed)

    def test_its_own_failure_is_told_the_rest(self) -> None:
        async def body() -> None:
            counter = await Counter("counter").start()
            counter.divide_later(0)
            await asyncio.sleep(0.1)
            await Counter("stray").start()
            raise KeyError("mine")

        error = ill(body)
        assert isinstance(error, KeyError)
        assert [note.partition(":")[0] for note in error.__notes__] == ["besides, LeftBehind", "besides, Crashed"]

    def test_a_link_that_breaks_fails_it_with_the_reason(self) -> None:
        async def waits() -> None:
            counter = await Counter("counter").start_link()
            counter.divide_later(0)
            await asyncio.sleep(60)

        async def is_done() -> None:
            counter = await Counter("counter").start_link()
            counter.divide_later(0)

        error = ill(waits)
        assert isinstance(error, Signalled)
        assert "ZeroDivisionError" in str(error)
        Kit().run(is_done)  # the test was over before the server came to it

    def test_a_standstill_is_told_with_who_waits(self) -> None:
        kit = Kit()
        error = ill(lambda: kit.receive("never"))
        assert isinstance(error, Stalled)
        assert "nothing can happen any more" in str(error)

    def test_a_test_may_trap_exits(self, beamish: Kit) -> None:
        async def body() -> None:
            flag(trap_exit=True)
            counter = await Counter("counter").start_link()
            pid = counter.pid()
            with beamish.capture_crashes(), pytest.raises(ServerDown):
                await counter.divide(0)
            await beamish.assert_receive(like(Exited, pid=pid, reason=like(Crash, error=ZeroDivisionError)))

        beamish.run(body)

    def test_doubles_are_verified_after_the_last_call(self) -> None:
        class Client(GenServer[None]):
            def init(self) -> None:
                flag(trap_exit=True)

            async def terminate(self, state: None, reason: object) -> None:
                await Counter("counter").add(3)

        async def body(expected: int) -> None:
            double = mock(Counter("counter"))
            for _ in range(expected):
                double.expect(Counter.add, 7, args=(3,))
            await kit.start_supervised(double.child_spec())
            await kit.start_supervised(Client.child_spec())

        kit = Kit()
        kit.run(lambda: body(1))
        with pytest.raises(NotVerified, match="add"):
            kit.run(lambda: body(2))


class TestCrash:
    @pytest.mark.parametrize("error", [None, ValueError, ValueError("mine"), "a reason", KILL])
    async def test_with_any_reason(self, beamish: Kit, error: object) -> None:
        counter = await beamish.start_supervised(Counter("counter").child_spec())
        ref = monitor(counter)
        await beamish.crash(counter, error)
        down = await beamish.assert_receive(like(Down, ref=ref))
        match error:
            case None:
                assert isinstance(down.reason.error, RuntimeError)
            case ValueError():
                assert down.reason.error is error
            case "a reason":
                assert down.reason == "a reason"
            case type():
                assert isinstance(down.reason.error, error)
            case _:
                assert isinstance(down.reason, Killed)
        assert await counter.add(1) == 1

    async def test_by_its_pid_returns_the_new_one(self, beamish: Kit) -> None:
        await beamish.start_supervised(Counter("counter").child_spec())
        old = whereis("counter")
        assert isinstance(old, Pid)
        new = await beamish.crash(old)
        assert new == whereis("counter") != old
        unnamed = await beamish.start_supervised(Counter.child_spec(3))
        assert await (await beamish.crash(unnamed)).add(1) == 4

    async def test_after_the_mail_it_has(self, beamish: Kit) -> None:
        counter = await beamish.start_supervised(Counter("counter").child_spec())
        asking = asyncio.create_task(counter.add(7))
        await asyncio.sleep(0)
        await beamish.crash(counter)
        assert await asking == 7

    async def test_waits_for_its_siblings_and_for_a_slow_init(self, beamish: Kit) -> None:
        class Slow(GenServer[None]):
            async def init(self) -> None:
                await asyncio.sleep(3.0)

        children = [Counter("a").child_spec(), Slow("slow").child_spec()]
        await beamish.start_supervised(Supervisor("tree").child_spec(children, strategy="one_for_all"))
        slow = whereis("slow")
        await beamish.crash("a")
        assert whereis("slow") not in (None, slow)

    async def test_when_the_supervisor_gives_up_its_own_one_is_waited_for(self, beamish: Kit) -> None:
        tree = Supervisor("tree").child_spec([Counter("a").child_spec()], max_restarts=0)
        await beamish.start_supervised(tree)
        before = whereis("tree")
        await beamish.crash("a")
        assert whereis("tree") not in (None, before)
        assert await Counter("a").add(1) == 1

    async def test_when_no_one_is_above_it_is_raised(self, beamish: Kit) -> None:
        await Supervisor("tree").start([Counter("a").child_spec()], max_restarts=0)
        with pytest.raises(CallExit):
            await beamish.crash("a")

    async def test_under_a_dynamic_supervisor(self, beamish: Kit) -> None:
        rooms = await beamish.start_supervised(DynamicSupervisor("rooms").child_spec())
        one, other = [await rooms.start_child(Counter.child_spec(n)) for n in (10, 20)]
        again = await beamish.crash(one)
        assert (await again.add(1), await other.add(1)) == (11, 21)

    async def test_one_that_is_not_restarted(self, beamish: Kit) -> None:
        alone = await Counter("alone").start()
        assert await beamish.crash(alone) == alone
        assert not alive(alone)
        with pytest.raises(NoProcess):
            await beamish.crash(alone)

    async def test_an_init_that_always_fails_now(self, beamish: Kit) -> None:
        class Once(GenServer[None]):
            times = 0

            def init(self) -> None:
                type(self).times += 1
                if self.times > 1:
                    raise ValueError("not again")

        once = await beamish.start_supervised(Once("once").child_spec())
        with pytest.raises(AssertionError, match="its init fails each time"):
            await beamish.crash(once)
        await beamish.stop_supervised("once")

    async def test_is_for_servers(self, beamish: Kit) -> None:
        with pytest.raises(TypeError, match="crash is for servers"):
            await beamish.crash(current())


class TestMessages:
    async def test_the_oldest_that_matches_is_taken(self, beamish: Kit) -> None:
        for message in ("a", 1, "b", 2):
            send(current(), message)
        assert await beamish.assert_receive(int) == 1
        assert await beamish.receive(lambda message: message > "a") == "b"
        assert [await beamish.receive(), await beamish.receive()] == ["a", 2]

    async def test_time_passes_only_while_nothing_comes(self, beamish: Kit) -> None:
        begin = beamish.clock.now()
        send_after(0.5, current(), "tick")
        assert await beamish.assert_receive("tick") == "tick"
        assert beamish.clock.now() == begin + 0.5
        with pytest.raises(AssertionError, match="within 1 s; its mailbox is empty"):
            await beamish.assert_receive("tick")
        assert beamish.clock.now() == begin + 1.5

    async def test_the_failure_shows_the_mailbox_and_the_nearest_miss(self, beamish: Kit) -> None:
        send(current(), ("found", "otp", 3))
        send(current(), Down(monitor(current()), current(), Normal()))
        with pytest.raises(AssertionError) as caught:
            await beamish.assert_receive(like(Down, reason=like(Crash, error=ValueError)), ("lost", str, ...), timeout=0)
        assert str(caught.value).startswith(
            "the test received no like(Down, reason=like(Crash, error=ValueError)) or ('lost', str, ...) so far;"
        )
        assert "its mailbox has 2 messages, oldest first:\n  1. ('found', 'otp', 3)\n       nearest: [0] is 'found', not 'lost'" in str(
            caught.value
        )

    async def test_refuse(self, beamish: Kit) -> None:
        send_after(0.2, current(), "tick")
        await beamish.refute_receive("tick")
        await beamish.refute_receive("tock", timeout=1.0)
        with pytest.raises(AssertionError, match=r"received what it should not, str:\n  'tick'"):
            await beamish.refute_receive(str)

    async def test_in_a_spawned_function_it_is_that_ones_mail(self, beamish: Kit) -> None:
        me = current()

        async def other() -> None:
            send(me, ("got", await beamish.assert_receive(int)))

        send(spawn(other), 5)
        await beamish.assert_receive(("got", 5))


class TestTime:
    async def test_advance_lets_everything_happen_in_its_order(self, beamish: Kit) -> None:
        seen: list[tuple[str, float]] = []
        begin = beamish.clock.now()

        async def ticks(name: str, seconds: float) -> None:
            while True:
                await asyncio.sleep(seconds)
                seen.append((name, beamish.clock.now() - begin))

        tasks = [asyncio.create_task(ticks("a", 20.0)), asyncio.create_task(ticks("b", 30.0))]
        await beamish.clock.advance(60.0)
        assert seen == [("a", 20.0), ("b", 30.0), ("a", 40.0), ("b", 60.0), ("a", 60.0)]
        assert beamish.clock.now() == begin + 60.0
        for task in tasks:
            task.cancel()

    @pytest.mark.parametrize("before", [0.0, 0.1, 0.0001234, 1 / 3])
    async def test_a_timer_of_a_minute_fires_within_a_minute_whenever_it_is_armed(self, beamish: Kit, before: float) -> None:
        await asyncio.sleep(before)
        send_after(60.0, current(), "minute")
        await beamish.clock.advance(59.9)
        await beamish.refute_receive(timeout=0)
        await beamish.clock.advance(0.1)
        await beamish.assert_receive("minute", timeout=0)

    async def test_it_does_not_go_back(self, beamish: Kit) -> None:
        with pytest.raises(ValueError, match="does not go back"):
            await beamish.clock.advance(-1.0)

    async def test_eventually(self, beamish: Kit) -> None:
        counter = await beamish.start_supervised(Counter("counter").child_spec())

        async def work() -> None:
            for _ in range(3):
                await asyncio.sleep(1.0)
                await counter.add(1)

        begin, working = beamish.clock.now(), asyncio.create_task(work())

        async def count() -> int:
            value = await counter.add(0)
            assert value >= 2
            return value

        assert await beamish.eventually(count) == 2
        assert await beamish.eventually(lambda: working.done())
        assert 2.9 < beamish.clock.now() - begin < 3.1
        with pytest.raises(AssertionError, match=r"count \(line \d+ of test_kit.py\) did not come true within 2 s; it last raised assert"):
            await beamish.eventually(_five(counter), timeout=2.0)
        with pytest.raises(AssertionError, match="it last said None"):
            await beamish.eventually(lambda: None)


def _five(counter: Counter) -> Any:
    async def count() -> None:
        assert await counter.add(0) == 5

    return count


class TestTelemetry:
    async def test_what_is_below_a_name(self, beamish: Kit) -> None:
        telemetry.event("kit.known.one")
        with beamish.capture_telemetry("kit.known", "kit.new") as heard:
            telemetry.execute("kit.known.one", 1)
            telemetry.execute("kit.known", 2, {"a": 1})
            telemetry.execute("kit.other", 3)
            telemetry.execute("kit.knownother", 3)
            with telemetry.span("kit.new"):
                pass
        telemetry.execute("kit.known", 4)
        assert [one.event for one in heard] == ["kit.known.one", "kit.known", "kit.new.start", "kit.new.stop"]
        assert heard[1].measurements == {"value": 2}
        assert heard[1].metadata == {"a": 1}

    async def test_blocks_nest(self, beamish: Kit) -> None:
        with beamish.capture_telemetry("kit.a") as outer, beamish.capture_telemetry("kit.a") as inner:
            telemetry.execute("kit.a")
        assert len(outer) == len(inner) == 1
        with pytest.raises(ValueError, match="names of events"):
            beamish.capture_telemetry().__enter__()


class TestThePlaces:
    def test_without_a_loop_it_says_what_to_do(self, beamish: Kit) -> None:
        with pytest.raises(RuntimeError, match=r"In a plain def test: beamish.run\(body\)"):
            beamish.clock.now()

    def test_each_run_is_a_world_of_its_own(self, beamish: Kit) -> None:
        async def body() -> list[str]:
            await beamish.start_supervised(Counter("counter").child_spec())
            return registered()

        assert [beamish.run(body), beamish.run(body)] == [["counter"], ["counter"]]

    def test_a_verb_of_the_module_that_the_fixture_hides(self, beamish: Kit) -> None:
        with pytest.raises(AttributeError, match="The fixture hides the module of that name: from beamish import send"):
            beamish.send  # type: ignore[attr-defined]  # noqa: B018  # pyright: ignore
        with pytest.raises(AttributeError, match=r"has no 'sned'$"):
            beamish.sned  # type: ignore[attr-defined]  # noqa: B018  # pyright: ignore


class Twice(GenServer[None]):
    async def add_twice(self, n: int) -> int:
        return await Counter("counter").add(2 * n)


class TestWhatIsRefused:
    """With texts that say what to write instead."""

    @pytest.mark.parametrize("timeout", [-1, -0.5, "1", None, True, float("nan")])
    async def test_timeouts_that_are_none(self, beamish: Kit, timeout: Any) -> None:
        send(current(), 1)
        with pytest.raises(ValueError, match="a timeout is seconds"):
            await beamish.assert_receive(int, timeout=timeout)
        with pytest.raises(ValueError, match="a timeout is seconds"):
            await beamish.refute_receive(str, timeout=timeout)
        with pytest.raises(ValueError, match="a timeout is seconds"):
            await beamish.eventually(lambda: True, timeout=timeout)

    async def test_receive_takes_a_timeout_or_none(self, beamish: Kit) -> None:
        with pytest.raises(ValueError, match="a timeout is seconds"):
            await beamish.receive(int, timeout=-1)

    async def test_seconds_among_the_patterns_are_told_of(self, beamish: Kit) -> None:
        with pytest.raises(AssertionError, match="for seconds: timeout=5"):
            await beamish.assert_receive(int, 5)

    async def test_an_async_predicate(self, beamish: Kit) -> None:
        async def never(_: object) -> bool:
            return False

        send(current(), 1)
        with pytest.raises(TypeError, match=r"never .* is async"):
            await beamish.assert_receive(never)
        assert await beamish.receive() == 1
        send(current(), never)
        assert await beamish.assert_receive(("no", never), never, timeout=0.0) is never

    async def test_eventually_takes_a_function(self, beamish: Kit) -> None:
        with pytest.raises(TypeError, match="eventually takes a function"):
            await beamish.eventually(True)  # type: ignore[call-overload]

    @pytest.mark.parametrize(
        ("seconds", "kind"), [("1", TypeError), (-1, ValueError), (float("inf"), ValueError), (float("nan"), ValueError)]
    )
    async def test_time_goes_on_by_seconds(self, beamish: Kit, seconds: Any, kind: type[Exception]) -> None:
        with pytest.raises(kind, match=r"advance takes seconds|finite number of seconds"):
            await beamish.clock.advance(seconds)

    async def test_on_exit_takes_a_function(self, beamish: Kit) -> None:
        with pytest.raises(TypeError, match="on_exit takes a function"):
            beamish.on_exit(1)  # type: ignore[arg-type]

    async def test_a_crash_of_nobody_names_it(self, beamish: Kit) -> None:
        await beamish.start_supervised(Counter("counter").child_spec())
        with pytest.raises(NoProcess, match=r"nothing is registered as 'conter'.*Similar names: 'counter'"):
            await beamish.crash(Counter("conter"))

    async def test_a_crash_is_of_an_exception(self, beamish: Kit) -> None:
        counter = await beamish.start_supervised(Counter("counter").child_spec())
        with pytest.raises(TypeError, match="crashes of an Exception"):
            await beamish.crash(counter, KeyboardInterrupt())

    async def test_run_in_an_async_test(self, beamish: Kit) -> None:
        async def body() -> None: ...

        with pytest.raises(RuntimeError, match=r"in an async test, await body\(\)"):
            beamish.run(body)

    def test_run_takes_an_async_function(self, beamish: Kit) -> None:
        async def body() -> None: ...

        with pytest.raises(TypeError, match=r"run takes the function, beamish.run\(body\)"):
            beamish.run(body())  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="run takes an async def function, and <lambda> returned 1"):
            beamish.run(lambda: 1)  # type: ignore[arg-type, return-value]
        with pytest.raises(TypeError, match="run takes an async def"):
            beamish.run(3)  # type: ignore[arg-type]

    @pytest.mark.parametrize("faults", [("explode",), "crash", ("crash", "kil")])
    def test_faults_that_there_are_not(self, faults: Any) -> None:
        with pytest.raises(ValueError, match="faults is a tuple of"):
            Kit(faults=faults)


class TestAnAwaitThatWasForgotten:
    """Fails the test, whatever is done with warnings."""

    @pytest.mark.parametrize(
        ("forget", "told"),
        [
            (lambda kit: kit.refute_receive(int), "await beamish.refute_receive(…), at "),
            (lambda kit: kit.clock.advance(1.0), "await beamish.clock.advance(…), at "),
            (lambda kit: kit.crash("counter"), "await beamish.crash(…), at "),
            (lambda kit: kit.eventually(lambda: False), "await beamish.eventually(…), at "),
            (lambda kit: kit.start_supervised(Counter.child_spec()), "await beamish.start_supervised(…), at "),
            (lambda kit: Counter("counter").add(1), "await Counter('counter').add(…), at "),
            (lambda kit: Counter("counter").stop(), "await Counter('counter').stop(…), at "),
            (lambda kit: Twice("twice").add_twice(1), "await Twice('twice').add_twice(…), at "),
        ],
    )
    def test_of_a_call_or_a_verb(self, forget: Any, told: str) -> None:
        kit = Kit()

        async def body() -> None:
            await kit.start_supervised(Counter("counter").child_spec())
            forget(kit)

        with pytest.raises(NotAwaited) as failure:
            kit.run(body)
        assert told in str(failure.value)
        assert __file__ in str(failure.value)

    def test_of_anything_else_is_what_it_is_to_python(self) -> None:
        kit = Kit()

        async def other() -> None: ...

        async def body() -> None:
            other()

        with pytest.warns(RuntimeWarning, match=r"other' was never awaited") as warned:
            kit.run(body)
        assert warned[0].filename == __file__
        with pytest.warns(RuntimeWarning, match="was never awaited"):
            Counter("counter").stop()  # no test runs

    async def test_a_failing_test_is_told_of_it_besides(self) -> None:
        async def body() -> None:
            Kit().crash("counter")
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError) as failure:
            await Kit().play(body)
        assert "await beamish.crash" in failure.value.__notes__[0]


class TestWhoWaits:
    """What a test says at which nothing can happen any more."""

    def test_where_and_for_whom(self) -> None:
        kit = Kit()

        class Waits(GenServer[None]):
            @call
            async def wait(self, state: None) -> None:
                await asyncio.Event().wait()

        async def body() -> None:
            waits = await kit.start_supervised(Waits("waits").child_spec())
            other = asyncio.create_task(waits.with_timeout(None).wait(), name="the other one")
            await waits.with_timeout(None).wait()
            await other

        with pytest.raises(Stalled) as failure:
            kit.run(body)
        test, server, other = str(failure.value).splitlines()[1:]
        assert re.fullmatch(rf"  the test at {re.escape(__file__)}:\d+ in body, for Waits\('waits'\) to answer wait\(\)", test)
        assert re.fullmatch(rf"  Waits\('waits'\), in wait\(\), at {re.escape(__file__)}:\d+ in wait", server)
        assert re.fullmatch(r"  the task 'the other one', for Waits\('waits'\) to answer wait\(\)", other)
        assert traceback.extract_tb(failure.value.__traceback__)[-1].name == "body"

    def test_a_spawned_function_has_its_name(self) -> None:
        kit = Kit()

        async def for_ever() -> None:
            await receive(int)

        async def body() -> None:
            spawn(for_ever)
            await kit.receive("nothing")

        with pytest.raises(Stalled, match=r"of .*for_ever at .*, for a message") as failure:
            kit.run(body)
        assert re.search(r"process <0.*> of .*for_ever", failure.value.__notes__[0])
