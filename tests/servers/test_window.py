"""The sliding window, against a list of all events ever."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import FrozenInstanceError, dataclass, field, replace
from math import inf, nextafter, ulp
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from beamish.servers import _window
from beamish.servers._window import SWEEP, Decision, SlidingWindow, check_cost


@dataclass
class Event:
    key: int
    at: float
    end: float
    cost: int


@dataclass
class Model:
    """Keeps every event and looks at all of them, each time."""

    limit: int
    per: float
    max_keys: int
    events: list[Event] = field(default_factory=list[Event])

    def inside(self, key: int, now: float) -> list[Event]:
        return [event for event in self.events if event.key == key and now < event.end]

    def no_room_until(self, key: int, now: float) -> float | None:
        ends: dict[int, float] = {}
        for event in self.events:
            if now < event.end:
                ends[event.key] = max(event.end, ends.get(event.key, event.end))
        return min(ends.values()) if key not in ends and len(ends) >= self.max_keys else None

    def allowed_from(self, key: int, now: float, cost: int) -> float:
        """The first time at which this request is allowed, if no other comes before; `now` if it is allowed now."""
        if cost > self.limit:
            return inf
        room = self.no_room_until(key, now)
        if room is not None:
            return room
        times = [now, *sorted(event.end for event in self.inside(key, now))]
        return next(time for time in times if sum(event.cost for event in self.inside(key, time)) + cost <= self.limit)

    def peek(self, key: int, now: float, cost: int) -> tuple[bool, int]:
        if cost <= self.limit and self.no_room_until(key, now) is not None:
            return False, 0
        left = self.limit - sum(event.cost for event in self.inside(key, now))
        return cost <= left, left

    def track(self, key: int, now: float, cost: int) -> tuple[bool, int]:
        allowed, left = self.peek(key, now, cost)
        if not allowed:
            return False, left
        self.events.append(Event(key, now, now + self.per, cost))
        return True, left - cost

    def reset(self, key: int) -> None:
        self.events = [event for event in self.events if event.key != key]


steps = st.sampled_from([0.0, 0.0, 0.0, 1e-12, 1e-9, 0.1, 0.2, 0.30000000000000004, 0.7, 1.0, 7.0, 1e6]) | st.floats(0.0, 2.0)
keys = st.sampled_from([0, 0, 0, 1, 2, 3, 4, 5])
costs = st.sampled_from([1, 1, 1, 1, 2, 3, 9])
verbs = st.sampled_from(["track", "track", "track", "track", "track", "peek", "peek", "sweep", "reset"])
stories = st.lists(st.tuples(verbs, keys, costs, steps), max_size=80)
starts = st.sampled_from([0.0, -5.3, 0.1, 123456.789, 1e9])
pers = st.sampled_from([0.1, 0.3, 1.0, 3.0, 60.0])


class TestAgainstTheModel:
    @settings(max_examples=500, deadline=None)
    @given(st.integers(1, 8), pers, st.integers(1, 5), stories, starts)
    def test_every_decision_is_the_models(
        self, limit: int, per: float, max_keys: int, story: list[tuple[str, int, int, float]], now: float
    ) -> None:
        window: SlidingWindow[int] = SlidingWindow(limit, per, max_keys)
        model = Model(limit, per, max_keys)
        unpeeked: SlidingWindow[int] = SlidingWindow(limit, per, max_keys)
        for verb, key, cost, step in story:
            now += step
            match verb:
                case "track":
                    first = model.allowed_from(key, now, cost)
                    decision = window.track(key, now, cost)
                    assert unpeeked.track(key, now, cost) == decision
                    assert (decision.allowed, decision.remaining) == model.track(key, now, cost)
                    self.check(window, model, decision, key, now, cost, first)
                case "peek":
                    first = model.allowed_from(key, now, cost)
                    decision = window.peek(key, now, cost)
                    assert (decision.allowed, decision.remaining) == model.peek(key, now, cost)
                    self.check(window, model, decision, key, now, cost, first)
                case "sweep":
                    assert window.sweep(now, most=3) <= 3
                    unpeeked.sweep(now, most=3)
                case _:
                    window.reset(key)
                    unpeeked.reset(key)
                    model.reset(key)
            assert len(window) <= max_keys
        self.check_windows(model)
        window.sweep(now, most=max_keys)
        assert len(window) == len({event.key for event in model.events if now < event.end})

    @staticmethod
    def check(window: SlidingWindow[int], model: Model, decision: Decision, key: int, now: float, cost: int, first: float) -> None:
        assert bool(decision) is decision.allowed
        assert decision.limit == model.limit
        empty = now + decision.reset_after
        ends = [event.end for event in model.inside(key, now)]
        assert model.inside(key, empty) == []
        # The next number after the end: in steps of whichever is larger, so that it can be said as a wait from `now`.
        assert empty <= max(ends) + ulp(max(abs(now), abs(max(ends)))) if ends else decision.reset_after == 0.0
        assert window.peek(key, empty).remaining in (model.limit, 0 if model.no_room_until(key, empty) else model.limit)
        if decision.allowed:
            assert decision.retry_after == 0.0
        elif cost > model.limit:
            assert decision.retry_after == inf
        else:
            assert now < now + decision.retry_after
            assert now + decision.retry_after >= first
            assert deepcopy(window).track(key, now + decision.retry_after, cost).allowed
            just_before = nextafter(first, -inf)
            assert just_before < now or not deepcopy(window).track(key, just_before, cost).allowed

    @staticmethod
    def check_windows(model: Model) -> None:
        for first in model.events:
            inside = [event for event in model.events if event.key == first.key and first.at <= event.at < first.end]
            assert sum(event.cost for event in inside[inside.index(first) :]) <= model.limit

    @settings(max_examples=50, deadline=None)
    @given(st.integers(1, 300), st.lists(st.tuples(st.integers(1, 400), st.sampled_from([1, 1, 1, 7]), steps), max_size=30))
    def test_long_logs_too(self, limit: int, story: list[tuple[int, int, float]]) -> None:
        window: SlidingWindow[int] = SlidingWindow(limit, 1.0)
        model = Model(limit, 1.0, 1)
        now = 0.0
        for burst, cost, step in story:
            now += step
            model.events = model.inside(0, now)
            for _ in range(burst):
                now += 1e-4
                decision = window.track(0, now, cost)
                assert (decision.allowed, decision.remaining) == model.track(0, now, cost)
                assert len(window._logs[0].ends) <= 2 * limit + 8 if len(window) else cost > limit
                if not decision.allowed:
                    assert cost > limit or model.allowed_from(0, now, cost) <= now + decision.retry_after
                    break


class TestTrack:
    def test_an_event_leaves_the_window_at_t_plus_per(self) -> None:
        window: SlidingWindow[str] = SlidingWindow(limit=1, per=0.2)
        assert window.track("ann", now=0.1)
        end = 0.1 + 0.2
        assert not window.track("ann", nextafter(end, 0.0))
        assert window.track("ann", end)

    def test_denied_requests_are_not_counted(self) -> None:
        window: SlidingWindow[str] = SlidingWindow(limit=1, per=10.0)
        window.track("ann", now=0.0)
        for second in range(1, 10):
            assert window.track("ann", now=float(second)).retry_after == 10.0 - second
        assert window.track("ann", now=10.0)

    def test_twice_the_limit_never_passes_around_a_full_minute(self) -> None:
        window: SlidingWindow[str] = SlidingWindow(limit=5, per=60.0)
        assert sum(window.track("ann", now=59.9).allowed for _ in range(9)) == 5
        assert sum(window.track("ann", now=60.1).allowed for _ in range(9)) == 0

    def test_a_cost_counts_as_many_units_and_waits_for_as_many(self) -> None:
        window: SlidingWindow[str] = SlidingWindow(limit=5, per=60.0)
        window.track("ann", now=0.0, cost=2)
        window.track("ann", now=10.0)
        window.track("ann", now=20.0, cost=2)
        waits = [window.track("ann", now=30.0, cost=cost).retry_after for cost in range(1, 6)]
        assert waits == [30.0, 30.0, 40.0, 50.0, 50.0]

    def test_a_cost_above_the_limit_is_denied_for_ever_and_counts_nothing(self) -> None:
        window: SlidingWindow[str] = SlidingWindow(limit=5)
        assert window.track("ann", now=0.0, cost=6) == Decision(False, 5, 5, inf, 0.0)
        assert len(window) == 0

    @pytest.mark.parametrize("cost", [0, -1])
    def test_a_cost_below_one_is_an_error_and_changes_nothing(self, cost: int) -> None:
        window: SlidingWindow[str] = SlidingWindow()
        for attempt in (window.track, window.peek):
            with pytest.raises(ValueError, match=rf"^cost must be 1 or more. Got: {cost}$"):
                attempt("ann", 0.0, cost)
        assert len(window) == 0

    def test_a_cost_that_is_not_an_int_is_a_type_error(self) -> None:
        with pytest.raises(TypeError):
            check_cost(1.5)  # type: ignore[arg-type]

    def test_the_waits_are_enough_where_their_subtraction_is_rounded(self) -> None:
        rounded = 0
        for step in range(2000):
            at, now = step * 0.1, step * 0.1 + 0.7 * step / 2000
            window: SlidingWindow[str] = SlidingWindow(limit=2, per=60.1)
            window.track("ann", at)
            rounded += now + ((at + 60.1) - now) < at + 60.1
            denied, allowed = window.track("ann", now, cost=2), window.peek("ann", now)
            assert denied.reset_after == allowed.reset_after == denied.retry_after > 0.0 == allowed.retry_after
            assert window.peek("ann", now + denied.reset_after).remaining == 2
            assert window.track("ann", now + denied.retry_after, cost=2)
        assert rounded > 0

    def test_reset_forgives_and_says_whether_there_was_anything(self) -> None:
        window: SlidingWindow[str] = SlidingWindow(limit=1)
        window.track("ann", now=0.0)
        assert (window.reset("ann"), window.reset("ann")) == (True, False)
        assert window.track("ann", now=0.0)


class TestRoom:
    def test_a_flood_of_new_keys_does_not_push_out_one_that_is_denied(self) -> None:
        window: SlidingWindow[object] = SlidingWindow(limit=1, per=60.0, max_keys=10)
        window.track("mallory", now=0.0)
        for n in range(1000):
            window.track(n, now=1.0)
            assert not window.track("mallory", now=1.0)
        assert (len(window), window.turned_away) == (10, 991)

    def test_a_new_key_without_room_is_told_when_there_will_be(self) -> None:
        window: SlidingWindow[str] = SlidingWindow(limit=5, per=60.0, max_keys=2)
        window.track("ann", now=0.0)
        window.track("bob", now=10.0)
        window.track("ann", now=20.0)
        refused = Decision(allowed=False, limit=5, remaining=0, retry_after=40.0, reset_after=0.0)
        assert window.track("cyd", now=30.0) == window.peek("cyd", now=30.0) == refused
        assert window.track("ann", now=30.0)  # who is in, is served
        assert window.peek("cyd", now=70.0)
        assert window.track("cyd", now=70.0)
        assert window.peek("bob", now=70.0).allowed is False

    def test_a_key_with_units_left_is_not_forgotten_either(self) -> None:
        window: SlidingWindow[str] = SlidingWindow(limit=5, per=60.0, max_keys=1)
        for _ in range(3):
            window.track("ann", now=0.0)
        assert not window.track("bob", now=1.0)
        assert window.peek("ann", now=1.0).remaining == 2

    def test_idle_keys_are_forgotten_in_the_order_they_became_idle(self) -> None:
        window: SlidingWindow[str] = SlidingWindow(limit=5, per=10.0)
        for now, key in enumerate("abcab"):
            window.track(key, now=float(now))
        assert window.sweep(now=12.0) == 1  # c
        assert window.sweep(now=13.0) == 1  # a
        assert (window.reset("a"), window.reset("b"), window.reset("c")) == (False, True, False)


class TestBoundedWork:
    def test_no_request_runs_more_lines_whatever_is_waiting_to_be_forgotten(self) -> None:
        few, many = (self.most_lines(limit=size, keys=size) for size in (100, 2000))
        assert many <= few <= 60

    @staticmethod
    def most_lines(limit: int, keys: int) -> int:
        window: SlidingWindow[int] = SlidingWindow(limit, per=1.0, max_keys=keys)
        most = 0

        def track(key: int, now: float, cost: int = 1) -> None:
            nonlocal most
            most = max(most, lines(lambda: window.track(key, now, cost)))

        for key in range(keys):  # a full table
            track(key, 0.0)
        for n in range(limit):  # a full log
            track(0, n / limit / 2)
        for _ in range(3):  # the log runs out in the middle, every other key at once, and new ones come
            track(0, 1.25)
            track(0, 1.25, cost=2)
            track(-1, 1.25)
            most = max(most, lines(lambda: window.peek(0, 1.3)))
        for key in range(keys):
            track(-2 - key, 9.0 + key / keys / 2)
        return most

    def test_a_request_forgets_at_most_as_many_keys_as_the_sweep_says(self) -> None:
        window: SlidingWindow[int] = SlidingWindow(per=1.0)
        for key in range(1000):
            window.track(key, now=0.0)
        before = len(window)
        while before > 1:
            window.track(-1, now=5.0)
            assert 0 < before - len(window) <= SWEEP or len(window) == before - SWEEP + 1
            before = len(window)

    def test_the_numbers_moved_are_at_most_those_dropped(self) -> None:
        window: SlidingWindow[str] = SlidingWindow(limit=1000, per=1.0)
        moved = dropped = 0
        for n in range(20_000):
            log = window._logs.get("ann")
            before = (len(log.ends), log.head) if log else (0, 0)
            window.track("ann", now=n * 0.0011)
            after = len(window._logs["ann"].ends)
            if after <= before[0]:
                dropped += before[0] + 1 - after
                moved += after - 1
        assert 0 < moved <= dropped


class TestDecision:
    def test_in_a_condition_it_is_what_was_decided(self) -> None:
        window: SlidingWindow[str] = SlidingWindow(limit=1)
        assert [bool(window.track("ann", now=0.0)) for _ in range(2)] == [True, False]

    def test_however_it_was_made_it_is_a_frozen_dataclass_of_plain_values(self) -> None:
        window: SlidingWindow[str] = SlidingWindow(limit=1)
        for decision in (window.track("ann", 0.0), window.track("ann", 0.5), window.peek("ann", 1.0), window.peek("bob", 1.0)):
            assert type(decision) is Decision
            made = Decision(decision.allowed, decision.limit, decision.remaining, decision.retry_after, decision.reset_after)
            assert decision == made == replace(made) == pickle.loads(pickle.dumps(decision))
            assert (repr(decision), hash(decision)) == (repr(made), hash(made))
            assert not hasattr(decision, "__dict__")
            with pytest.raises(FrozenInstanceError):
                decision.allowed = True  # type: ignore[misc]


class TestWhatAUserTyped:
    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            ({"limit": 0}, "limit must be 1 or more. Got: 0"),
            ({"per": 0.0}, "per must be more than 0 seconds, and finite. Got: 0.0"),
            ({"per": inf}, "per must be more than 0 seconds, and finite. Got: inf"),
            ({"max_keys": 0}, "max_keys must be 1 or more. Got: 0"),
        ],
    )
    def test_what_makes_no_sense_is_refused_and_shown(self, arguments: dict[str, Any], text: str) -> None:
        with pytest.raises(ValueError) as caught:
            SlidingWindow(**arguments)
        assert str(caught.value) == text


def lines(act: Callable[[], object]) -> int:
    """How many lines of the module `act` runs. Counted, so that a loop over keys or events cannot hide in a fast machine."""
    count = 0

    def step(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        if frame.f_code.co_filename != _window.__file__:
            return None
        count += event == "line"
        return step

    before = sys.gettrace()
    sys.settrace(step)
    try:
        act()
    finally:
        sys.settrace(before)
    return count
