"""Values for the whole program."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, strategies as st

from beamish import BeamishError, persistent_term, spawn_monitor
from beamish.persistent_term import NoTerm, count, erase, get, items, put, restored
from beamish.process import down
from beamish.testing import world


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    with restored():
        yield


class TestGet:
    def test_what_was_put_is_what_everybody_gets(self) -> None:
        value = {"a": 1}
        put("k", value)
        assert get("k") is value

    def test_of_nothing_raises_an_error_that_says_what_to_do(self) -> None:
        with pytest.raises(NoTerm, match=r"no persistent term \('m', 'k'\).*get\(\('m', 'k'\), default\)") as caught:
            get(("m", "k"))
        assert isinstance(caught.value, KeyError)
        assert isinstance(caught.value, BeamishError)
        assert caught.value.key == ("m", "k")

    @pytest.mark.parametrize("default", [None, False, 0, "d"])
    def test_of_nothing_with_a_default_is_that(self, default: object) -> None:
        assert get("k", default) is default

    @pytest.mark.parametrize("value", [None, False, 0])
    def test_a_value_that_is_false_is_a_value(self, value: object) -> None:
        put("k", value)
        assert get("k", "d") is value

    def test_a_key_without_a_hash_is_refused_as_by_a_dict(self) -> None:
        with pytest.raises(TypeError, match="unhashable"):
            get([])  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="unhashable"):
            put([], 1)  # type: ignore[arg-type]


class TestPutAndErase:
    def test_a_second_put_replaces_the_first(self) -> None:
        put("k", 1)
        put("k", 2)
        assert (get("k"), items()) == (2, [("k", 2)])

    def test_erase_says_whether_there_was_something(self) -> None:
        put("k", None)
        assert [erase("k"), erase("k"), get("k", "gone")] == [True, False, "gone"]

    def test_items_are_those_of_one_moment(self) -> None:
        put("a", 1)
        before = items()
        put("b", 2)
        assert (before, items(), count()) == ([("a", 1)], [("a", 1), ("b", 2)], 2)

    @given(st.lists(st.tuples(st.sampled_from(["put", "erase"]), st.integers(0, 3), st.integers())))
    def test_it_is_a_dict(self, steps: list[tuple[str, int, int]]) -> None:
        model: dict[int, int] = {}
        with restored():
            for verb, key, value in steps:
                if verb == "put":
                    put(key, value)
                    model[key] = value
                else:
                    assert erase(key) is (model.pop(key, None) is not None)
                assert items() == list(model.items())
                assert [get(k, None) for k in range(4)] == [model.get(k) for k in range(4)]


class TestWhoseItIs:
    async def test_it_outlives_the_process_that_put_it(self) -> None:
        _, ref = spawn_monitor(put, "k", 1)
        await down(ref)
        assert get("k") == 1

    def test_threads_see_it_at_once(self) -> None:
        found: list[object] = []
        thread = threading.Thread(target=lambda: (found.append(get("k")), put("k", 2)))
        put("k", 1)
        thread.start()
        thread.join()
        assert (found, get("k")) == ([1], 2)

    def test_items_can_be_looked_at_while_others_put(self) -> None:
        stop = threading.Event()

        def write() -> None:
            number = 0
            while not stop.is_set():
                put(number, number)
                erase(number - 10)
                number += 1

        thread = threading.Thread(target=write)
        thread.start()
        try:
            for _ in range(300):
                assert all(key == value for key, value in items())
        finally:
            stop.set()
            thread.join()


class TestRestored:
    def test_afterwards_all_is_as_before(self) -> None:
        put("kept", 1)
        put("changed", 1)
        with restored():
            put("new", 1)
            put("changed", 2)
            erase("kept")
        assert items() == [("kept", 1), ("changed", 1)]

    def test_after_an_error_too(self) -> None:
        with pytest.raises(ZeroDivisionError), restored():
            put("new", 1 / 0)
        assert persistent_term.count() == 0


async def test_a_test_leaves_nothing_for_the_next_one() -> None:
    persistent_term.put("kept", 1)
    async with world():
        persistent_term.put("kept", 2)
        persistent_term.put("made here", 3)
    assert persistent_term.get("kept") == 1
    assert persistent_term.get("made here", None) is None
