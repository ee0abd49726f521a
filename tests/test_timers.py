"""The timer wheel and the table of call timeouts, against plain models, on a clock that is moved by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

import beamish
from beamish._runtime.clock import LoopClock
from beamish._runtime.timers import Timeouts, Timer, Wheel
from beamish.testing import ManualClock, World, capture_crashes, settle

# Milliseconds as users write them, and what lies between: several timers in one bucket, buckets in a row, the same deadline.
DELAYS = st.one_of(
    st.sampled_from([0.0, 0.0001, 0.0004, 0.001, 0.0011, 0.002, 0.01, 0.5, 1.0, 60.0, 3600.0]),
    st.floats(0.0, 0.005),
    st.floats(0.0, 100.0),
)
MILLISECOND = 0.001 + 1e-6


def advance(clock: ManualClock, seconds: float) -> None:
    """Move the clock without a loop of its own for each step: what fires here never waits."""
    step = clock.advance(seconds)
    try:
        while True:
            step.send(None)
    except StopIteration:
        pass


@dataclass
class Armed:
    """What the model knows about one timer."""

    timer: Timer
    when: float
    order: int
    state: str = "armed"  # then "fired" or "cancelled"


@dataclass
class Model:
    clock: ManualClock = field(default_factory=ManualClock)
    known: list[Armed] = field(default_factory=list)
    fired: list[tuple[Armed, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.wheel = Wheel(self.clock)

    def arm(self, delay: float, then: Callable[[], object] | None = None) -> Armed:
        def fire(timer: Timer) -> None:
            assert timer is one.timer
            assert one.state == "armed", f"fired although {one.state}"
            one.state = "fired"
            self.fired.append((one, self.clock.now()))
            if then is not None:
                then()

        when = self.clock.now() + delay
        one = Armed(self.wheel.arm(when, fire), when, len(self.known))
        self.known.append(one)
        return one

    def cancel(self, one: Armed) -> None:
        left = self.wheel.cancel(one.timer)
        if one.state == "armed":
            one.state = "cancelled"
            assert left is not False
            assert left == max(0.0, one.when - self.clock.now())
        else:
            assert left is False

    def check(self) -> None:
        armed = [one for one in self.known if one.state == "armed"]
        assert len(self.wheel) == len(armed)
        for one in self.known:
            left = self.wheel.read(one.timer)
            assert left == (max(0.0, one.when - self.clock.now()) if one.state == "armed" else False)
            assert (left is False) == (one.state != "armed")

    def check_order(self) -> None:
        """Never early, within a millisecond of the deadline, by deadline and then by arming."""
        for one, at in self.fired:
            assert one.when <= at + 1e-8
            assert at - one.when <= MILLISECOND
        keys = [(one.when, one.order) for one, _ in self.fired]
        assert keys == sorted(keys)


class Timers(RuleBasedStateMachine):
    """Any mixture of arming, cancelling, reading and time that goes by."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()

    @rule(delay=DELAYS)
    def arm(self, delay: float) -> None:
        self.model.arm(delay)

    @rule(delay=DELAYS, count=st.integers(2, 200))
    def arm_many(self, delay: float, count: int) -> None:
        for _ in range(count):
            self.model.arm(delay)

    @precondition(lambda self: self.model.known)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.model.cancel(data.draw(st.sampled_from(self.model.known)))

    @precondition(lambda self: len(self.model.known) > 64)
    @rule(part=st.integers(1, 4))
    def cancel_many(self, part: int) -> None:
        """Enough of them that the cancelled ones are swept out."""
        for index, one in enumerate(self.model.known):
            if index % part == 0:
                self.model.cancel(one)

    @rule(seconds=DELAYS)
    def time_goes_by(self, seconds: float) -> None:
        advance(self.model.clock, seconds)
        late = [one for one in self.model.known if one.state == "armed" and one.when + MILLISECOND < self.model.clock.now()]
        assert late == []

    @invariant()
    def agrees(self) -> None:
        self.model.check()
        self.model.check_order()


def test_the_wheel_agrees_with_a_plain_list() -> None:
    run_state_machine_as_test(Timers, settings=settings(max_examples=60, stateful_step_count=30, deadline=None))


class Reentrant(RuleBasedStateMachine):
    """Timers whose callbacks arm and cancel others, those of the bucket that is being fired among them."""

    @initialize()
    def begin(self) -> None:
        self.model = Model()

    @rule(delay=DELAYS, again=st.lists(DELAYS, max_size=3))
    def arm_what_arms(self, delay: float, again: list[float]) -> None:
        model = self.model
        model.arm(delay, lambda: [model.arm(one) for one in again])

    @rule(delay=DELAYS, every=st.integers(1, 3), count=st.integers(1, 150))
    def arm_what_cancels(self, delay: float, every: int, count: int) -> None:
        model = self.model
        first = len(model.known)

        def cancel() -> None:
            for one in model.known[first::every]:
                model.cancel(one)
            model.check()

        for _ in range(count):
            model.arm(delay, cancel)

    @rule(seconds=DELAYS)
    def time_goes_by(self, seconds: float) -> None:
        advance(self.model.clock, seconds)
        self.model.check()
        for one, at in self.model.fired:
            assert one.when <= at + 1e-8
            assert at - one.when <= MILLISECOND


def test_callbacks_may_arm_and_cancel() -> None:
    run_state_machine_as_test(Reentrant, settings=settings(max_examples=60, stateful_step_count=15, deadline=None))


@given(delays=st.lists(DELAYS, min_size=1, max_size=200))
@settings(deadline=None)
def test_one_long_step_fires_all_in_order(delays: list[float]) -> None:
    model = Model()
    for delay in delays:
        model.arm(delay)
    advance(model.clock, max(delays) + 0.01)
    assert len(model.fired) == len(delays)
    model.check_order()
    assert len(model.wheel) == 0


class TestWheel:
    def test_the_same_deadline_is_the_order_of_arming(self) -> None:
        model = Model()
        for _ in range(20):
            model.arm(0.02)
        advance(model.clock, 0.02)
        advance(model.clock, 0.001)
        assert [one.order for one, _ in model.fired] == list(range(20))

    def test_two_deadlines_within_one_millisecond_keep_their_order(self) -> None:
        model = Model()
        for delay in (0.0009, 0.0001, 0.0005):
            model.arm(delay)
        advance(model.clock, 0.002)
        assert [one.order for one, _ in model.fired] == [1, 2, 0]

    def test_an_earlier_timer_moves_the_alarm_forward(self) -> None:
        model = Model()
        model.arm(10.0)
        early = model.arm(1.0)
        advance(model.clock, 1.1)
        assert [one for one, _ in model.fired] == [early]
        advance(model.clock, 9.0)
        assert len(model.fired) == 2

    def test_a_timer_armed_with_zero_in_a_callback_fires_without_new_time(self) -> None:
        model = Model()
        rounds: list[int] = []

        def again() -> None:
            rounds.append(1)
            if len(rounds) < 5:
                model.arm(0.0, again)

        model.arm(0.0, again)
        advance(model.clock, 0.01)
        assert len(rounds) == 5

    def test_cancelled_timers_are_swept_out(self) -> None:
        model = Model()
        keep = [model.arm(100.0 + index) for index in range(10)]
        for index in range(10_000):
            model.cancel(model.arm(50.0 + index / 100))
        kept = sum(len(bucket) for bucket in model.wheel._buckets.values())
        assert kept < 200
        assert len(model.wheel) == 10
        advance(model.clock, 200.0)
        assert [one for one, _ in model.fired] == keep

    def test_a_cancelled_timer_keeps_nothing_alive(self) -> None:
        wheel = Wheel(ManualClock())
        timer = wheel.arm(2000.0, lambda _: None, "target", ["message"])
        wheel.cancel(timer)
        assert timer.target is None
        assert timer.message is None

    def test_an_interval_keeps_its_reference(self) -> None:
        clock = ManualClock()
        wheel = Wheel(clock)
        at: list[float] = []

        def beat(timer: Timer) -> None:
            at.append(clock.now())
            wheel.rearm(timer, timer.when + 0.25, beat)

        timer = wheel.arm(clock.now() + 0.25, beat)
        advance(clock, 1.1)
        assert at == [1000.25, 1000.5, 1000.75, 1001.0]
        assert wheel.cancel(timer) == pytest.approx(0.15)
        advance(clock, 1.0)
        assert len(at) == 4

    def test_close_forgets_everything(self) -> None:
        model = Model()
        model.arm(1.0)
        model.wheel.close()
        advance(model.clock, 2.0)
        assert model.fired == []
        assert len(model.wheel) == 0

    def test_on_the_loops_own_time_it_is_never_early(self) -> None:
        async def main() -> list[float]:
            loop = asyncio.get_running_loop()
            wheel = Wheel(LoopClock(loop))
            early: list[float] = []
            done = loop.create_future()
            delays = [0.0, 0.0003, 0.001, 0.0017, 0.004, 0.01]
            for delay in delays:
                when = loop.time() + delay
                wheel.arm(when, lambda _, when=when: early.append(when - loop.time()))
            wheel.arm(loop.time() + 0.02, lambda _: done.set_result(None))
            await done
            assert len(early) == len(delays)
            return early

        assert max(asyncio.run(main())) < 1e-6


# --- the timeouts of calls ----------------------------------------------------------------------------------------------


class Waiter:
    def __init__(self, clock: ManualClock, log: list[Any], seconds: float) -> None:
        self.clock, self.log, self.seconds = clock, log, seconds
        self.deadline = clock.now() + seconds
        self.state = "waiting"

    def late(self) -> None:
        assert self.state == "waiting", f"late although {self.state}"
        self.state = "late"
        self.log.append((self, self.clock.now()))


class CallTimeouts(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.timeouts = Timeouts(self.clock)
        self.log: list[tuple[Waiter, float]] = []
        self.waiters: list[Waiter] = []

    @rule(seconds=st.one_of(st.sampled_from([0.0, 0.001, 0.2, 1.0, 5.0]), st.floats(0.0, 10.0)), count=st.integers(1, 5))
    def wait(self, seconds: float, count: int) -> None:
        for _ in range(count):
            waiter = Waiter(self.clock, self.log, seconds)
            self.waiters.append(waiter)
            self.timeouts.add(waiter, seconds)

    @rule(count=st.integers(65, 200))
    def wait_with_computed_timeouts(self, count: int) -> None:
        for index in range(count):
            self.wait(0.1 + index / 1000, 1)

    @precondition(lambda self: self.waiters)
    @rule(data=st.data())
    def answered(self, data: st.DataObject) -> None:
        waiter = data.draw(st.sampled_from(self.waiters))
        self.timeouts.remove(waiter, waiter.seconds)  # also for one that is over: no error
        if waiter.state == "waiting":
            waiter.state = "answered"

    @precondition(lambda self: self.waiters)
    @rule(part=st.integers(1, 3))
    def many_answered(self, part: int) -> None:
        for waiter in self.waiters[::part]:
            self.timeouts.remove(waiter, waiter.seconds)
            if waiter.state == "waiting":
                waiter.state = "answered"

    @rule(seconds=st.one_of(st.sampled_from([0.0, 0.001, 0.0021, 0.2, 1.0, 5.0]), st.floats(0.0, 10.0)))
    def time_goes_by(self, seconds: float) -> None:
        advance(self.clock, seconds)
        now = self.clock.now()
        assert [one for one in self.waiters if one.state == "waiting" and one.deadline + 0.0021 < now] == []

    @invariant()
    def never_early_and_soon(self) -> None:
        for waiter, at in self.log:
            assert waiter.deadline <= at
            assert at - waiter.deadline <= 0.0021

    @invariant()
    def one_timeout_value_expires_in_the_order_of_waiting(self) -> None:
        order = {waiter: index for index, waiter in enumerate(self.waiters)}
        last: dict[float, int] = {}
        for waiter, _ in self.log:
            assert last.get(waiter.seconds, -1) < order[waiter]
            last[waiter.seconds] = order[waiter]


def test_timeouts_agree_with_a_plain_list() -> None:
    run_state_machine_as_test(CallTimeouts, settings=settings(max_examples=60, stateful_step_count=30, deadline=None))


class TestTimeouts:
    def test_computed_timeout_values_do_not_pile_up(self) -> None:
        clock = ManualClock()
        timeouts = Timeouts(clock)
        for index in range(10_000):
            waiter = Waiter(clock, [], index / 1000)
            timeouts.add(waiter, waiter.seconds)
            timeouts.remove(waiter, waiter.seconds)
        assert len(timeouts._tables) <= 65

    def test_the_oldest_answered_one_does_not_hide_the_next(self) -> None:
        clock, log = ManualClock(), []  # type: ManualClock, list[Any]
        timeouts = Timeouts(clock)
        first = Waiter(clock, log, 1.0)
        timeouts.add(first, 1.0)
        advance(clock, 0.5)
        second = Waiter(clock, log, 1.0)
        timeouts.add(second, 1.0)
        timeouts.remove(first, 1.0)
        advance(clock, 0.6)
        assert log == []
        advance(clock, 0.5)
        assert log == [(second, 1001.5)]

    def test_close_forgets_everything(self) -> None:
        clock, log = ManualClock(), []  # type: ManualClock, list[Any]
        timeouts = Timeouts(clock)
        timeouts.add(Waiter(clock, log, 1.0), 1.0)
        timeouts.close()
        advance(clock, 2.0)
        assert log == []


# --- the verbs ----------------------------------------------------------------------------------------------------------


async def mail() -> list[Any]:
    """What is in the mailbox of this process now."""
    found: list[Any] = []
    while True:
        try:
            found.append(await beamish.receive(timeout=0.0))
        except TimeoutError:
            return found


class TestVerbs:
    async def test_an_interval_does_not_hide_what_is_due_before_its_next_beat(self, world: World, clock: ManualClock) -> None:
        interval = beamish.send_interval(10.0, beamish.current(), "beat")
        await clock.advance(9.5)
        beamish.send_after(1.0, beamish.current(), "due at 10.5")
        await clock.advance(1.2)
        assert await mail() == ["beat", "due at 10.5"]
        assert beamish.cancel_timer(interval) == pytest.approx(9.3)

    async def test_an_interval_does_not_drift(self, world: World, clock: ManualClock) -> None:
        interval = beamish.send_interval(0.1, beamish.current(), "beat")
        await clock.advance(100.0005)
        assert len(await mail()) in (999, 1000)  # the last beat is due at the very end, give or take the rounding of floats
        assert beamish.cancel_timer(interval) is not False
        await clock.advance(1.0)
        assert await mail() == []

    async def test_beats_that_were_missed_are_left_out(self, world: World, clock: ManualClock) -> None:
        interval = beamish.send_interval(1.0, beamish.current(), "beat")
        clock._now += 3.5  # the loop was held up: nothing ran for that long
        await clock.advance(0.0)
        assert await mail() == ["beat"]
        assert beamish.read_timer(interval) == pytest.approx(0.5)
        await clock.advance(0.6)
        assert await mail() == ["beat"]
        beamish.cancel_timer(interval)

    @pytest.mark.parametrize("seconds", [0, 0.0, -1.0, float("nan")])
    async def test_an_interval_is_more_than_nothing(self, seconds: float) -> None:
        with pytest.raises(ValueError, match="interval"):
            beamish.send_interval(seconds, beamish.current(), "beat")

    @pytest.mark.parametrize("seconds", [-1, -0.001, float("nan"), float("inf")])
    async def test_a_timer_is_set_in_seconds_from_now(self, seconds: float) -> None:
        with pytest.raises(ValueError, match="seconds"):
            beamish.send_after(seconds, beamish.current(), "x")

    @pytest.mark.parametrize("seconds", ["1", None, True])
    async def test_seconds_come_first(self, seconds: Any) -> None:
        with pytest.raises(TypeError, match="seconds"):
            beamish.send_after(seconds, beamish.current(), "x")

    async def test_timers_of_a_pid_vanish_with_it(self, world: World, clock: ManualClock) -> None:
        pid = beamish.spawn(asyncio.Event().wait)
        timers = [beamish.send_after(10.0, pid, "x"), beamish.send_interval(1.0, pid, "x")]
        await clock.advance(2.5)
        assert [beamish.read_timer(timer) for timer in timers] == pytest.approx([7.5, 0.5])
        beamish.exit(pid, beamish.KILL)
        assert [beamish.read_timer(timer) for timer in timers] == [False, False]
        assert [beamish.cancel_timer(timer) for timer in timers] == [False, False]
        late = beamish.send_after(1.0, pid, "to the dead")
        assert beamish.read_timer(late) is False

    async def test_a_name_is_looked_up_when_it_fires(self, world: World, clock: ManualClock) -> None:
        beamish.send_after(1.0, "somebody", "nobody there")
        beamish.send_after(3.0, "somebody", "here")
        await clock.advance(2.0)
        beamish.register("somebody")
        await clock.advance(2.0)
        assert await mail() == ["here"]
        beamish.unregister("somebody")

    async def test_cancelling_later_and_without_a_word(self, world: World, clock: ManualClock) -> None:
        me = beamish.current()
        first, second, third = (beamish.send_after(10.0, me, "x") for _ in range(3))
        assert beamish.cancel_timer(first, asynchronous=True) is True
        assert await mail() == [beamish.Cancelled(first, 10.0)]
        assert beamish.cancel_timer(first, asynchronous=True) is True
        assert await mail() == [beamish.Cancelled(first, False)]
        assert beamish.cancel_timer(second, asynchronous=True, info=False) is True
        assert beamish.cancel_timer(third, info=False) is True
        await clock.advance(20.0)
        assert await mail() == []

    async def test_what_a_receiver_raises_is_its_own_matter(self, world: World, clock: ManualClock) -> None:
        """A predicate that cannot bear a message: who sent it, by timer or at once, and all other timers go on."""

        async def picky() -> None:
            await beamish.receive(lambda message: message["key"] == 1)

        with capture_crashes():
            for send in (beamish.send, lambda pid, message: beamish.send_after(1.0, pid, message)):
                pid = beamish.spawn(picky)
                await settle()
                send(pid, 5)
                beamish.send_after(1.0, beamish.current(), "one")
                beamish.send_after(2.0, beamish.current(), "two")
                await clock.advance(3.0)
                assert await mail() == ["one", "two"]
                assert not beamish.alive(pid)

    async def test_a_message_that_came_with_a_cancellation_is_not_lost(self, world: World) -> None:
        found: list[Any] = []
        pids: list[beamish.Pid] = []

        async def body() -> None:
            pids.append(beamish.current())
            try:
                found.append(await beamish.receive())
            except asyncio.CancelledError:
                found.append("cancelled")
            found.extend(await mail())

        task = asyncio.create_task(body())
        await settle()
        beamish.send(pids[0], "message")
        task.cancel()
        await task
        assert found == ["cancelled", "message"]
