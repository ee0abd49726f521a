"""The codec: everything comes back as what it was, and what can't be written or read says why."""

from __future__ import annotations

import datetime as dt
import enum
import json
import math
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings, strategies as st

from beamish import codec
from beamish.codec import CodecError, NewerVersion


@codec.register("test.Point")
@dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: Any = None


@codec.register("test.Order", version=3, migrations={1: lambda data: {"lines": [data["line"]]}, 2: lambda data: data})
@dataclass
class Order:
    lines: list[Any]
    total: Decimal = Decimal(0)
    cache: dict[str, int] = field(default_factory=dict, init=False, compare=True)


@codec.register("test.Colour")
class Colour(enum.Enum):
    RED = 1
    GREEN = "g"


@codec.register("test.Level")
class Level(enum.IntEnum):
    LOW = 1


@codec.register("test.Rights")
class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@codec.register("test.Pair")
class Pair(NamedTuple):
    left: Any
    right: Any


class Text(str):
    __slots__ = ()


class Plain:
    def __init__(self, of: Any) -> None:
        self.of = of

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plain) and other.of == self.of

    __hash__ = None  # type: ignore[assignment]


codec.register("test.Plain", Plain, dump=lambda value: value.of, load=Plain)
codec.register("test.Fraction", Fraction, dump=str, load=Fraction)


ZONES = st.sampled_from([None, dt.UTC, dt.timezone(dt.timedelta(hours=-3, seconds=7)), ZoneInfo("Europe/Berlin")])
KEYS: st.SearchStrategy[Any] = st.deferred(
    lambda: st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary(), st.dates(), st.uuids(),
        st.sampled_from([Colour.RED, Level.LOW, Rights.READ | Rights.WRITE]), st.tuples(KEYS, KEYS), st.frozensets(st.integers()),
        st.builds(Point, st.integers(), st.integers()),
    )
)  # fmt: skip
LEAVES = st.one_of(
    KEYS,
    st.floats(),
    st.text(alphabet=st.characters()),
    st.integers(min_value=-(2**5000), max_value=2**5000),
    st.sampled_from(["$", "@", "$tuple", "@test.Point", "\ud800", "a\nb\u2028", "\x00", "é€😀"]),
    st.decimals(),
    st.datetimes(timezones=ZONES, allow_imaginary=False),
    st.times(),
    st.timedeltas(),
    st.binary().map(bytearray),
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner),
        st.tuples(inner, inner),
        st.dictionaries(st.one_of(st.text(), st.sampled_from(["$map", "@x", "$"])), inner, max_size=4),
        st.dictionaries(KEYS, inner, max_size=4),
        st.sets(KEYS, max_size=4),
        st.lists(inner).map(deque),
        st.lists(inner, max_size=3).map(lambda some: deque(some, 3)),
        st.dictionaries(KEYS, inner, max_size=4).map(OrderedDict),
        st.builds(Point, inner, inner),
        st.builds(Pair, inner, inner),
        st.builds(Plain, inner),
        st.builds(Order, st.lists(inner, max_size=3)),
        st.fractions(),
    ),
)


def same(one: Any, other: Any) -> bool:
    """Equal, of equal types all the way down, in the same order; and NaN is NaN."""
    if type(one) is not type(other):
        return False
    match one:
        case float():
            return (math.isnan(one) and math.isnan(other)) or (one == other and math.copysign(1, one) == math.copysign(1, other))
        case Decimal():
            return one.compare_total(other) == 0
        case dt.datetime():
            return one == other and one.fold == other.fold and str(one.tzinfo) == str(other.tzinfo)
        case dict():
            return len(one) == len(other) and all(same(a, b) for a, b in zip(one.items(), other.items(), strict=True))
        case deque():
            return one.maxlen == other.maxlen and same(list(one), list(other))
        case list() | tuple():
            return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
        case Point():
            return same((one.x, one.y), (other.x, other.y))
        case Plain():
            return same(one.of, other.of)
        case Order():
            return same(one.lines, other.lines)
        case _:
            return bool(one == other)


class TestRoundTrip:
    @settings(deadline=None)
    @given(VALUES)
    def test_everything_comes_back_as_what_it_was(self, value: Any) -> None:
        assert same(codec.decode(codec.encode(value)), value)

    @settings(deadline=None)
    @given(VALUES)
    def test_every_line_is_json(self, value: Any) -> None:
        for line in codec.encode_chunks(value):
            assert line.endswith(b"\n")
            assert b"\n" not in line[:-1]
            json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))

    @settings(deadline=None, max_examples=40)
    @given(st.lists(VALUES, max_size=4), st.integers(1, 10), st.sampled_from([3, 20, 100]))
    def test_what_is_written_in_many_lines_is_the_same(self, values: list[Any], times: int, line: int) -> None:
        value = {"a": values * times, "b": tuple(values * times), "c": {(i, "k"): one for i, one in enumerate(values * times)}}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("beamish._codec_write.LINE", line)
            patch.setattr("beamish._codec_write.CHARACTERS", 2)
            patch.setattr("beamish._codec_write.PIECE", 5)
            assert same(codec.decode_chunks(codec.encode_chunks(value)), value)
            assert same(codec.decode(codec.encode(value)), value)

    @pytest.mark.parametrize(
        "value",
        [
            {f"k{i}": Point(i, (i, [i])) for i in range(5000)},
            {i: {j: "x" * j for j in range(50)} for i in range(300)},
            [[[i] * 70] * 70 for i in range(20)],
            tuple(range(10_000)),
            set(range(5000)),
            frozenset(range(5000)),
            {frozenset(range(3000)): {tuple(range(3000))}},
            OrderedDict((i, i) for i in range(4000)),
            deque(range(4000), 4000),
            {"text": "é" * 300_000, "bytes": b"\xff" * 300_000, "array": bytearray(300_000)},
            {b"k" * 200_000: "x", "y" * 200_000: 1},
            Point(1, {"rows": [Point(i) for i in range(3000)]}),
            [{}] * 5000,
            {"": {"$part": [1, "dict", {}]}, "x": {"$whole": 1}},
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_what_is_large(self, value: Any) -> None:
        lines = list(codec.encode_chunks(value))
        assert same(codec.decode_chunks(lines), value)
        assert max(map(len, lines)) < 1_000_000

    def test_no_line_holds_more_than_can_be_written_quickly(self) -> None:
        value = {"users": {f"u{i}": {"tags": [str(j) for j in range(40)], "text": "x" * 1000} for i in range(2000)}}
        lines = list(codec.encode_chunks(value))
        assert len(lines) > 80
        assert max(map(len, lines)) < 70_000

    def test_plain_data_is_plain_json(self) -> None:
        value = {"a": [1, 2.5, None, True, "é"], "b": {}}
        assert json.loads(codec.encode(value)) == value


class TestNames:
    def test_fields_that_the_data_lacks_take_their_defaults(self) -> None:
        assert codec.decode('{"@test.Point":{"x":1}}') == Point(1, None)

    def test_older_data_goes_through_the_migrations_in_turn(self) -> None:
        made = codec.decode('{"@test.Order":{"line":"one"}}')
        assert made == Order(["one"])
        assert codec.encode(made).startswith(b'{"@test.Order/3":')

    def test_newer_data_is_refused(self) -> None:
        with pytest.raises(NewerVersion, match="written as version 4, and this program knows it up to version 3"):
            codec.decode('{"@test.Order/4":{}}')

    def test_the_fields_that_init_does_not_take_come_back(self) -> None:
        order = Order([])
        order.cache["x"] = 1
        assert codec.decode(codec.encode(order)) == order

    @pytest.mark.parametrize(
        ("data", "text"),
        [
            ('{"@nobody":{}}', r"nothing is registered under this name: codec.register\('nobody', the class\)"),
            ('{"@test.Point":{"x":1,"z":2}}', "Point has no field 'z', and the data has"),
            ('{"@test.Point":{"y":1}}', "can't be made of what was written, it raised TypeError"),
            ('{"@test.Colour":"BLUE"}', "it raised KeyError"),
            ('{"@test.Order":{}}', "the migration from version 1 raised KeyError"),
            ('{"@test.Point/0":{}}', "migrations={0: function}"),
            ('{"@test.Point/x":{}}', "no text that the codec wrote"),
        ],
    )
    def test_what_does_not_fit_says_so(self, data: str, text: str) -> None:
        with pytest.raises(CodecError, match=text):
            codec.decode(data)

    @pytest.mark.parametrize(
        ("arguments", "options", "error", "text"),
        [
            (("1x", Point), {}, ValueError, "begins with a letter"),
            (("a/b", Point), {}, ValueError, "letters, digits"),
            (("x", 3), {}, TypeError, "takes a class"),
            (("x", Text), {}, TypeError, "registered with dump="),
            (("test.Colour", Text), {"dump": str, "load": Text}, ValueError, "is the name of"),
            (("other", Point), {}, ValueError, "has the name 'test.Point'"),
            (("x", Text), {"dump": str}, TypeError, "go together"),
            (("x", Text), {"version": 0}, ValueError, "counts from 1"),
            (("x", Text), {"version": 3, "migrations": {1: str}}, ValueError, "without a gap"),
            (("x", Text), {"version": 1, "migrations": {1: str}}, ValueError, "without a gap"),
        ],
    )
    def test_a_wrong_registration(self, arguments: Any, options: Any, error: type[Exception], text: str) -> None:
        with pytest.raises(error, match=text):
            codec.register(*arguments, **options)

    def test_a_module_that_is_loaded_anew_takes_its_names_over(self) -> None:
        def load() -> Any:
            @dataclass
            class Again:
                n: int

            return codec.register("test.Again", Again)

        old, new = load(), load()
        assert type(codec.decode(codec.encode(new(1)))) is new
        assert type(codec.decode(codec.encode(old(1)))) is new


class TestRefusals:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (object(), r"does not know builtins.object: codec.register\('object', object\)"),
            ({"a": [1, {"b": object()}]}, r"^value\['a'\]\[1\]\['b'\]: "),
            ({"a": Point(1, (2, object()))}, r"^value\['a'\].y\[1\]: "),
            ([{object(): 1}], r"^value\[0\] key <object"),
            ([object()] * 5000, r"^value\[0\]: "),
            (defaultdict(list), "make it a plain dict"),
            (Counter("a"), "make it a plain dict"),
            (Text("x"), "make it a plain str"),
            (iter([]), "does not know builtins.list_iterator"),
            (lambda: 1, "does not know builtins.function"),
            (dt.datetime(2026, 1, 1, tzinfo=type("Odd", (dt.tzinfo,), {})()), "knows timezone and ZoneInfo"),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_what_can_not_be_written_says_where_it_is_and_what_to_do(self, value: Any, text: str) -> None:
        with pytest.raises(CodecError, match=text):
            codec.encode(value)
        with pytest.raises(CodecError, match=text):
            list(codec.encode_chunks(value))

    @pytest.mark.parametrize("size", [0, 100, 5000])
    @pytest.mark.parametrize("kind", [list, dict, deque])
    def test_what_contains_itself(self, kind: Any, size: int) -> None:
        value: Any = kind(range(size)) if kind is not dict else dict.fromkeys(range(size))
        if kind is dict:
            value["me"] = {"me": value}
        else:
            value.append([value])
        with pytest.raises(CodecError, match="contains itself"):
            codec.encode(value)
        with pytest.raises(CodecError, match="contains itself"):
            list(codec.encode_chunks(value))

    def test_what_is_nested_very_deep(self) -> None:
        value: Any = []
        for _ in range(100_000):
            value = [value]
        with pytest.raises(CodecError, match="nested too deep"):
            codec.encode(value)
        with pytest.raises(CodecError, match=r"nested too deep|no text"):
            codec.decode(b"[" * 1_000_000)

    @pytest.mark.parametrize(
        ("data", "text"),
        [
            (b"", "nothing is there"),
            (b"{", "no text that the codec wrote"),
            (b"\xff\xfe", "no text that the codec wrote"),
            (b"NaN", "no text that the codec wrote"),
            (b'{"$nan":1}', "does not know: was it written by a newer one"),
            (b'{"$date":"2026-13-01"}', r"'\$date' in the data is damaged"),
            (b'{"$set":[[1]]}', "damaged"),
            (b'{"$bytes":"a"}', "damaged"),
            (b'{"$decimal":"one"}', "damaged"),
            (b'{"$datetime":["2026-01-01T00:00:00","No/Where",0]}', "damaged"),
            (b'{"$part":[1,"dict",{}]}', "its last line is missing"),
            (b'{"$part":[1,"dict",{}]}\n1', "nothing refers to"),
            (b'{"$part":[1,"dict",{}]}\n{"$part":[1,"list",[]]}\n1', "goes on as"),
            (b'{"$part":[1,"heap",{}]}\n1', "part of a 'heap'"),
            (b'{"$part":[1]}\n1', "no text that the codec wrote"),
            (b'{"$part":3}\n1', "no text that the codec wrote"),
            (b'{"$part":[1,"list",3]}\n1', "no text that the codec wrote"),
            (b'{"$whole":1}', "part of the data is missing: number 1"),
            (b'{"$whole":[1]}', "part of the data is missing"),
        ],
    )
    def test_what_can_not_be_read_says_why(self, data: bytes, text: str) -> None:
        with pytest.raises(CodecError, match=text):
            codec.decode(data)

    @settings(deadline=None)
    @given(VALUES, st.data())
    def test_damaged_bytes_never_raise_anything_else(self, value: Any, data: st.DataObject) -> None:
        good = bytearray(codec.encode(value))
        at = data.draw(st.integers(0, len(good) - 1))
        good[at] = data.draw(st.integers(0, 255))
        try:
            codec.decode(bytes(good))
        except CodecError:
            pass

    @settings(deadline=None)
    @given(st.binary())
    def test_any_bytes(self, data: bytes) -> None:
        try:
            codec.decode(data)
        except CodecError:
            pass


class TestInTurn:
    def test_encoding_goes_a_line_at_a_time(self) -> None:
        def values() -> Any:
            return [Counted(n) for n in range(10_000)]

        class Counted:
            def __init__(self, n: int) -> None:
                self.n = n

        def dump(value: Counted) -> int:
            written.append(value.n)
            return value.n

        written: list[int] = []
        codec.register("test.Counted", Counted, dump=dump, load=Counted)
        lines = codec.encode_chunks(values())
        next(lines)
        assert len(written) == 1024

    def test_decoding_takes_a_line_when_it_has_done_with_the_one_before(self) -> None:
        def lines() -> Iterator[bytes]:
            for n, line in enumerate(codec.encode_chunks(list(range(10_000)))):
                taken.append(n)
                yield line

        taken: list[int] = []
        assert codec.decode_chunks(lines()) == list(range(10_000))
        assert taken == list(range(11))


class TestAnotherDecoder:
    """msgspec reads what needs no second look, where it is installed. What it refuses is left to the standard library."""

    @pytest.mark.parametrize("value", [[1, 2.5, None], {"a": ["\ud800"]}, list(range(5000)), 2**90])
    def test_what_it_refuses_is_read_all_the_same(self, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuses(line: bytes) -> Any:
            asked.append(line)
            raise ValueError("not for me")

        asked: list[bytes] = []
        monkeypatch.setattr("beamish._codec_read._plain", refuses)
        assert codec.decode(codec.encode(value)) == value
        assert asked
