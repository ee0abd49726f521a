"""Patterns of `assert_receive`: what they match, found by hypothesis against Python's own `match` and `==`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, strategies as st

from beamish import NORMAL, Crash, Down, Normal
from beamish.testing import like, matches
from beamish.testing._patterns import Miss, mailbox, miss, shown


@dataclass(frozen=True)
class Found:
    query: Any
    hits: Any = 0


@dataclass(frozen=True)
class Other:
    query: Any
    hits: Any = 0


LEAVES = st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab", max_size=2) | st.sampled_from([b"x", 1.5, NORMAL])
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.sampled_from(["id", "name", 3]), inner, max_size=3)
        | st.builds(Found, inner, inner)
        | st.builds(Other, inner)
    ),
    max_leaves=8,
)


def same(one: Any, other: Any) -> bool:
    return bool(one == other)


class TestMatching:
    @given(VALUES)
    def test_a_value_matches_itself_its_class_and_anything(self, value: Any) -> None:
        for pattern in (value, type(value), object, ..., Any, lambda one: one is value, like(type(value)), type(value) | bytes):
            assert matches(pattern, value)

    @given(VALUES, VALUES)
    def test_equal_values_match_and_it_is_a_miss_or_none(self, pattern: Any, value: Any) -> None:
        found = miss(pattern, value)
        if same(pattern, value):
            assert found is None
        if found is not None:
            assert isinstance(found, Miss)
            assert 0.0 <= found.nearness < 1.0
            assert found.reasons
            assert all(isinstance(reason, str) and reason for reason in found.reasons)

    @given(VALUES, st.data())
    def test_each_part_may_be_replaced_by_something_looser(self, value: Any, data: st.DataObject) -> None:
        pattern = looser(value, data)
        assert matches(pattern, value), shown(pattern)

    @given(st.lists(VALUES, max_size=4), st.lists(VALUES, max_size=4))
    def test_sequences_match_by_length_and_part_by_part(self, patterns: list[Any], values: list[Any]) -> None:
        wanted = len(patterns) == len(values) and all(map(matches, patterns, values))
        assert matches(patterns, values) == wanted
        assert matches(tuple(patterns), tuple(values)) == wanted
        assert not matches(tuple(patterns), values)
        assert not matches(patterns, tuple(values))

    @given(st.dictionaries(st.sampled_from("abc"), VALUES), st.dictionaries(st.sampled_from("abcd"), VALUES))
    def test_dicts_match_in_part(self, pattern: dict[str, Any], value: dict[str, Any]) -> None:
        wanted = all(key in value and matches(part, value[key]) for key, part in pattern.items())
        assert matches(pattern, value) == wanted

    @given(VALUES, VALUES, VALUES, VALUES)
    def test_dataclasses_match_by_class_and_field(self, a: Any, b: Any, c: Any, d: Any) -> None:
        wanted = matches(a, c) and matches(b, d)
        assert matches(Found(a, b), Found(c, d)) == wanted
        assert matches(like(Found, query=a, hits=b), Found(c, d)) == wanted
        assert matches(like(Found, hits=b), Found(c, d)) == matches(b, d)
        assert not matches(Found(a, b), Other(a, b))
        assert not matches(like(Found), Other(a, b))

    def test_as_the_match_statement_does(self) -> None:
        for message in (
            Down(None, "x", NORMAL),
            Down(None, "y", Crash(ValueError("v"))),
            ("got", {"id": 1, "more": 2}),
            ["got"],
            None,
            "got",
        ):  # type: ignore[arg-type]  # pyright: ignore
            match message:
                case Down(reason=Normal()):
                    number = 0
                case Down(target="y", reason=Crash(error=ValueError())):
                    number = 1
                case ("got", {"id": int()}):
                    number = 2
                case None | [_]:
                    number = 3
                case _:
                    number = 4
            patterns = (
                (like(Down, reason=Normal),),
                (like(Down, target="y", reason=like(Crash, error=ValueError)),),
                (("got", {"id": int}),),
                (None, [...]),
            )
            assert [any(matches(one, message) for one in some) for some in patterns] == [number == index for index in range(4)]

    def test_a_predicate_that_raises_says_no(self) -> None:
        found = miss(lambda message: message.hits > 3, "text")
        assert found is not None
        assert "raised AttributeError: 'str' object has no attribute 'hits'" in found.reasons[0]

    def test_what_can_not_be_compared_is_not_equal(self) -> None:
        class Array:
            def __eq__(self, other: object) -> Any:
                raise ValueError("the truth of an array is ambiguous")

            __hash__ = None  # type: ignore[assignment]

        one, other = Array(), Array()
        assert matches(one, one)
        assert not matches(one, other)
        assert not matches(("a", 1), other)

    def test_what_no_value_can_be_asked_is_refused(self) -> None:
        with pytest.raises(TypeError, match=re.escape("so list[int] is no pattern; write list")):
            matches(list[int], [1])
        with pytest.raises(TypeError, match="like takes a class and patterns"):
            like("Down", reason=Normal)  # type: ignore[arg-type]  # pyright: ignore


def looser(value: Any, data: st.DataObject) -> Any:
    """The value, with some of its parts made patterns that it matches."""
    way = data.draw(st.sampled_from(["same", "class", "any", "predicate", "parts"]))
    if way == "class":
        return type(value)
    if way == "any":
        return ...
    if way == "predicate":
        return lambda one: same(one, value)
    if way == "same":
        return value
    match value:
        case list() | tuple():
            return type(value)(looser(part, data) for part in value)
        case dict():
            return {key: looser(part, data) for key, part in value.items() if data.draw(st.booleans())}
        case Found() | Other():
            parts = {"query": looser(value.query, data), "hits": looser(value.hits, data)}
            return type(value)(**parts) if data.draw(st.booleans()) else like(type(value), **parts)
        case _:
            return value


class TestMisses:
    @pytest.mark.parametrize(
        ("pattern", "value", "reasons"),
        [
            (int, "3", ("it is '3', no int",)),
            (int | None, "3", ("it is '3', no int | None",)),
            (3, 4, ("it is 4, not 3",)),
            (("a", int), ("a", "b"), ("[1] is 'b', no int",)),
            (("a", int), ("a",), ("it has 1 parts, not 2: ('a',)",)),
            ({"id": int, "n": 1}, {"id": 3}, ("it has no 'n': {'id': 3}",)),
            ({"id": {"x": str}}, {"id": {"x": 3}}, ("['id']['x'] is 3, no str",)),
            (Found("a", int), Found("b", "c"), (".query is 'b', not 'a'", ".hits is 'c', no int")),
            (like(Found, hits=like(Down, reason=Normal)), Found("a", 3), (".hits is 3, no Down",)),
            (like(Found, size=3), Found("a", 3), ("it has no size: Found(query='a', hits=3)",)),
            (like(Found), 3, ("it is 3, no Found",)),
        ],
    )
    def test_say_where_and_what(self, pattern: Any, value: Any, reasons: tuple[str, ...]) -> None:
        found = miss(pattern, value)
        assert found is not None
        assert found.reasons == reasons

    def test_the_nearest_is_the_one_with_the_most_in_common(self) -> None:
        text = mailbox(
            [("found", {"id": int, "name": str})], ["found", ("lost", {"id": 1, "name": "x"}), ("found", {"id": 1, "name": 3}), ("found",)]
        )
        assert text.splitlines()[3:5] == ["  3. ('found', {'id': 1, 'name': 3})", "       nearest: [1]['name'] is 3, no str"]

    def test_a_long_mailbox_is_shown_in_part_with_the_nearest(self) -> None:
        lines = mailbox([("found", int)], [*range(50), ("found", "x")]).splitlines()
        assert len(lines) < 30
        assert "  51. ('found', 'x')" in lines
        assert lines[-1] == "  … 51 in all"

    @given(st.lists(VALUES, max_size=5), st.lists(VALUES, max_size=3))
    def test_any_mailbox_can_be_shown(self, messages: list[Any], patterns: list[Any]) -> None:
        assert mailbox(patterns, messages)
        assert all(shown(pattern) for pattern in patterns)

    def test_patterns_as_they_were_written(self) -> None:
        for text in ("like(Down, reason=like(Crash, error=ValueError))", "('a', int, ...)", "[str]", "{'id': int, 3: ...}", "(1,)"):
            assert shown(eval(text)) == text
        assert re.fullmatch(r"<lambda> \(line \d+ of test_patterns.py\)", shown(lambda one: one))
