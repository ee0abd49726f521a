"""The restart intensity against a plain model, the restart table, and what is wrong with a child spec, said in words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from beamish import KILLED, NORMAL, SHUTDOWN, BadChildSpec, Crash, GenServer, Shutdown, Supervisor, child
from beamish._restart import Fate, Restarts, check_options, decide
from beamish.child_spec import validate


class Model:
    """OTP's words: keep those of the last `max_seconds`, prepend this one, and count."""

    def __init__(self, max_restarts: int, max_seconds: float) -> None:
        self.max_restarts, self.max_seconds = max_restarts, max_seconds
        self.times: list[int] = []

    def add(self, now: float) -> bool:
        second = int(now)
        self.times = [second] + [t for t in self.times if t >= second - self.max_seconds]
        return len(self.times) > self.max_restarts


steps = st.lists(st.one_of(st.just(0.0), st.floats(0.0, 3.0), st.sampled_from([0.5, 1.0, 4.999, 5.0, 6.0, 60.0])), max_size=60)


class TestRestarts:
    @given(st.integers(0, 6), st.sampled_from([0.1, 1, 2.5, 5, 60, float("inf")]), st.floats(0.0, 1e6), steps)
    def test_count_as_otp_does(self, max_restarts: int, max_seconds: float, start: float, steps: list[float]) -> None:
        real, model, now = Restarts(max_restarts, max_seconds), Model(max_restarts, max_seconds), start
        for step in steps:
            now += step
            assert real.add(now) == model.add(now)

    def test_three_in_five_seconds_are_tolerated_and_a_fourth_is_not(self) -> None:
        restarts = Restarts(3, 5.0)
        assert [restarts.add(now) for now in (10.0, 11.0, 12.0, 13.0)] == [False, False, False, True]

    def test_both_ends_of_the_window_count(self) -> None:
        restarts = Restarts(1, 5.0)
        assert [restarts.add(now) for now in (10.9, 15.0)] == [False, True]
        restarts = Restarts(1, 5.0)
        assert [restarts.add(now) for now in (10.0, 16.0)] == [False, False]

    def test_none_means_none(self) -> None:
        assert Restarts(0, 5.0).add(10.0)

    @given(steps)
    def test_keep_no_more_than_the_window(self, steps: list[float]) -> None:
        restarts, now = Restarts(3, 5.0), 0.0
        for step in steps:
            now += step
            restarts.add(now)
            assert all(second >= int(now) - 5.0 for second in restarts.seconds)


@pytest.mark.parametrize(
    ("restart", "reason", "fate"),
    [
        *(("permanent", reason, Fate.RESTART) for reason in (NORMAL, SHUTDOWN, Shutdown("x"), KILLED, "mine", Crash(ValueError()))),
        *(("transient", reason, Fate.KEEP) for reason in (NORMAL, SHUTDOWN, Shutdown("x"))),
        *(("transient", reason, Fate.RESTART) for reason in (KILLED, "mine", Crash(ValueError()))),
        *(("temporary", reason, Fate.FORGET) for reason in (NORMAL, SHUTDOWN, Shutdown("x"), KILLED, "mine", Crash(ValueError()))),
    ],
)
def test_what_becomes_of_a_child(restart: str, reason: object, fate: Fate) -> None:
    assert decide(restart, reason) is fate


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("all", 3, 5.0), r"one_for_all.*Got: 'all'"),
        (("one_for_one", -1, 5.0), "0 or more. Got: -1"),
        (("one_for_one", True, 5.0), "an int.* Got: True"),
        (("one_for_one", 1.5, 5.0), "an int.* Got: 1.5"),
        (("one_for_one", 3, 0), "more than 0. Got: 0"),
        (("one_for_one", 3, "5"), "Got: '5'"),
        (("one_for_one", 3, float("nan")), "Got: nan"),
    ],
)
def test_flags_that_no_supervisor_could_work_with(options: tuple[Any, Any, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        check_options(*options)


class Some(GenServer[None]):
    def init(self, value: int = 0) -> None: ...


class Quick(Some, restart="transient", shutdown=0.5): ...


async def start_something() -> Any: ...


class TestAChildSpec:
    @pytest.mark.parametrize(
        ("changes", "text"),
        [
            ({"start": 7}, "an async function that starts one. Got: 7"),
            ({"restart": "always"}, '"permanent", "transient" or "temporary". Got: \'always\''),
            ({"type": "boss"}, '"worker" or "supervisor". Got: \'boss\''),
            ({"shutdown": -1}, "0 or more.* Got: -1"),
            ({"shutdown": "kill"}, "brutal_kill.* Got: 'kill'"),
            ({"shutdown": True}, "Got: True"),
            ({"shutdown": float("nan")}, "Got: nan"),
            ({"colour": "red"}, "has no 'colour'. It has: id, start"),
        ],
    )
    def test_says_what_is_wrong_with_it(self, changes: dict[str, Any], text: str) -> None:
        with pytest.raises(BadChildSpec, match=text):
            Some.child_spec().replace(**changes)

    def test_wants_an_id_that_can_be_looked_up(self) -> None:
        with pytest.raises(TypeError, match="unhashable"):
            Some.child_spec().replace(id=[])

    def test_takes_what_is_usual_from_its_class(self) -> None:
        spec = Some("some").child_spec(3)
        assert (spec.id, spec.name, spec.args, spec.restart, spec.shutdown, spec.type) == ("some", "some", (3,), "permanent", 5.0, "worker")
        assert Some.child_spec().id is Some
        spec = Quick.child_spec()
        assert (spec.restart, spec.shutdown) == ("transient", 0.5)
        tree = Supervisor.child_spec([])
        assert (tree.shutdown, tree.type) == (None, "supervisor")

    def test_that_is_changed_is_another_one(self) -> None:
        spec = Some.child_spec()
        assert spec.replace(id="a") != spec
        assert spec.replace(id="a", restart="temporary").replace(id=Some, restart="permanent") == spec
        assert spec.replace(type="supervisor").shutdown is None
        assert spec.replace(shutdown=1.0).replace(type="supervisor").shutdown == 1.0

    def test_of_a_function(self) -> None:
        spec = child(start_something, 1, id="it", key=2)
        assert (spec.id, spec.args, dict(spec.kwargs)) == ("it", (1,), {"key": 2})
        assert child(start_something).id is start_something

    @pytest.mark.parametrize(
        ("wrong", "text"),
        [
            ([Some], r"Write Some\.child_spec\(…\)"),
            ([Some("s")], r"Write Some\('s'\)\.child_spec\(…\)"),
            ([start_something], r"child\(async_function"),
            ([None], "Got: None"),
            ([Some.child_spec(), Some.child_spec()], r"give one of them another, with spec\.replace\(id=…\)"),
        ],
    )
    def test_is_what_a_supervisor_takes(self, wrong: list[Any], text: str) -> None:
        with pytest.raises(BadChildSpec, match=text):
            validate(wrong)

    @pytest.mark.parametrize("keywords", [{"restart": "sometimes"}, {"shutdown": -1.0}])
    def test_a_class_with_bad_keywords_is_refused(self, keywords: dict[str, Any]) -> None:
        with pytest.raises(BadChildSpec):
            type("Bad", (Some,), {}, **keywords)
