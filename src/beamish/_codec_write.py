"""The codec's way out: values to JSON-like data (`Writer.pack`), that to lines of text.

What is large is taken out of the document it stands in: `{"$whole": 3}` stands for it there, and its content was written
before, as lines `{"$part": [3, "dict", {…}]}`. So a reader, going line by line, has the whole of everything when it is used.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from base64 import b64encode
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from itertools import islice
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from beamish._codec_types import BY_CLASS, CodecError, Registered
from beamish.errors import short

#: About how many values one line holds.
LINE = 1024
#: Characters that count as one value; and how many of them (or bytes) a text in one piece has at most.
CHARACTERS = 64
PIECE = 128 * 1024

_ATOMS = frozenset({int, float, bool, type(None)})
_STR = {str}
_MAPPINGS: set[Any] = {dict, OrderedDict}


def _encoder(ensure_ascii: bool) -> Callable[[Any], str]:
    """JSONEncoder.encode; and where there is the C encoder that it makes for each call, one that is made once."""
    plain = json.JSONEncoder(ensure_ascii=ensure_ascii, check_circular=False, allow_nan=False, separators=(",", ":"))
    quote = getattr(json.encoder, "c_encode_basestring_ascii" if ensure_ascii else "c_encode_basestring", None)
    make: Any = getattr(json.encoder, "c_make_encoder", None)
    try:
        made = make(None, plain.default, quote, None, ":", ",", False, False, False)
        if "".join(made([1, {"a": "b"}], 0)) == '[1,{"a":"b"}]':
            return lambda packed: "".join(made(packed, 0))
    except TypeError:  # another Python, which makes it in another way
        pass
    return plain.encode


_PLAIN = _encoder(ensure_ascii=False)
_ASCII = _encoder(ensure_ascii=True)


def text(packed: Any) -> bytes:
    """Packed data as JSON text without a line break."""
    try:
        made = _PLAIN(packed)
    except ValueError:  # NaN, an infinity, or an int of more digits than Python converts: rare, so it is looked for only now
        packed = _tagged(packed)
        made = _PLAIN(packed)
    try:
        return made.encode()
    except UnicodeEncodeError:  # half a surrogate pair: UTF-8 has no word for that, an escape of JSON has
        return _ASCII(packed).encode()


def _tagged(packed: Any) -> Any:
    kind: Any = type(packed)  # pyright: ignore[reportUnknownVariableType]
    if kind is dict:
        return {key: _tagged(value) for key, value in packed.items()}
    if kind is list:
        return [_tagged(value) for value in packed]
    if kind is float and not math.isfinite(packed):
        return {"$float": repr(packed)}
    if kind is int and packed.bit_length() > 2048:
        return {"$int": hex(packed)}
    return packed


class Writer:
    """One value on its way."""

    __slots__ = ("large", "limit", "numbers", "open", "weight")

    def __init__(self) -> None:
        self.weight = 0  # of the line that is being packed
        self.limit = LINE
        self.numbers = 0
        self.large: list[tuple[int, Any]] = []  # what was taken out of that line
        self.open: set[int] = set()  # the ids of what is being written: what contains itself would never end

    def root(self, value: Any) -> Any:
        """Pack a whole value; `large` says whether something was taken out of it."""
        try:
            return self.pack(value)
        except CodecError as error:
            raise _placed(error, value) from error.__cause__
        except RecursionError:
            raise CodecError("a value is nested too deep to be written, or contains itself") from None

    def lines(self, value: Any) -> Iterator[bytes]:
        packed = self.root(value)
        try:
            yield from self._taken_out()
        except CodecError as error:
            raise _placed(error, value) from error.__cause__
        except RecursionError:
            raise CodecError("a value is nested too deep to be written, or contains itself") from None
        yield text(packed) + b"\n"

    def _taken_out(self) -> Iterator[bytes]:
        """The content of what was taken out of the line that was just packed."""
        taken, self.large = self.large, []
        for number, value in taken:
            if id(value) in self.open:
                raise CodecError(f"a value contains itself, so it has no end: {short(value)}")
            self.open.add(id(value))
            yield from self._parts(number, value)
            self.open.discard(id(value))

    def _parts(self, number: int, value: Any) -> Iterator[bytes]:
        kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
        if kind is str or kind is bytes or kind is bytearray:
            for start in range(0, len(value), PIECE):
                piece = value[start : start + PIECE]
                yield from self._line(number, kind.__name__, piece if kind is str else b64encode(piece).decode())
            return
        name, pack = _CONTAINERS[kind]
        source: Iterator[Any] = iter(value.items() if kind in _MAPPINGS else value)
        while packed := self._some(source, pack):
            # An object of one key might be taken for one that says what it is.
            if kind is dict and len(packed) > 1 and all(type(entry[0]) is str for entry in packed):
                yield from self._line(number, "dict", dict(packed))
            else:
                yield from self._line(number, name, packed)

    def _some(self, source: Iterator[Any], pack: Callable[[Writer, Any], Any]) -> list[Any]:
        """Entries for one line."""
        self.weight = 0
        packed: list[Any] = []
        for entry in islice(source, LINE):
            self.weight += 1
            packed.append(pack(self, entry))
            if self.weight >= LINE:
                break
        return packed

    def _line(self, number: int, name: str, packed: Any) -> Iterator[bytes]:
        yield from self._taken_out()
        yield text({"$part": [number, name, packed]}) + b"\n"

    def pack(self, value: Any) -> Any:
        """JSON-like data that says what `value` is."""
        kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
        if kind in _ATOMS:
            return value
        if kind is str:
            if len(value) > CHARACTERS:
                self.weight += len(value) // CHARACTERS
                if len(value) > PIECE:
                    return self.take_out(value)
            return value
        packer = _PACKERS.get(kind)
        if packer is not None:
            return packer(self, value)
        found = BY_CLASS.get(kind)
        if found is None:
            raise CodecError(_unknown(value))
        return self._registered(found, value)

    def _registered(self, found: Registered, value: Any) -> Any:
        if found.values is not None and found.fields is not None:
            self.weight += len(found.fields)
            pack, values = self.pack, zip(found.fields, found.values(value), strict=True)
            return {found.tag: {key: one if type(one) in _ATOMS else pack(one) for key, one in values}}
        data: Any = found.dump(value)
        if data.__class__ is dict and _plain(data):
            self.weight += len(data)
            pack = self.pack
            return {found.tag: {key: one if type(one) in _ATOMS else pack(one) for key, one in data.items()}}
        return {found.tag: self.pack(data)}

    def entire(self, value: Any) -> Any:
        """Pack a key, or an element of a set: it is needed whole, at once, so nothing is taken out of it."""
        if type(value) is str or type(value) in _ATOMS:
            return value
        limit, self.limit = self.limit, 1 << 62
        try:
            return self.pack(value)
        finally:
            self.limit = limit

    def room(self, size: int) -> bool:
        """Whether a container of that size is written where it stands. Small ones are, until there are very many."""
        self.weight = weight = self.weight + size
        return weight <= (self.limit if size > CHARACTERS else 4 * self.limit) or not size

    def take_out(self, value: Any) -> Any:
        if self.limit > LINE:  # see `entire`
            return value if type(value) is str else {f"${type(value).__name__}": b64encode(value).decode()}
        self.numbers += 1
        self.large.append((self.numbers, value))
        return {"$whole": self.numbers}


def _unknown(value: Any) -> str:
    kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
    path = f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(value, dt.tzinfo):
        return f"the codec knows timezone and ZoneInfo (with a key) as time zones, not {path}: {short(value)}"
    if issubclass(kind, _BUILTINS):
        base = next(one.__name__ for one in kind.__mro__ if one in _BUILTINS)
        return f"{short(value)} is a {path}: make it a plain {base}, or codec.register({kind.__name__!r}, {kind.__name__}, …)"
    return (
        f"the codec does not know {path}: codec.register({kind.__name__!r}, {kind.__name__}) for a dataclass, enum or named tuple; "
        f"with dump= and load= for any other class. Got: {short(value)}"
    )


_BUILTINS = (dict, list, tuple, set, frozenset, str, int, float, bytes)


def _placed(error: CodecError, value: Any) -> CodecError:
    """The error again, with the place of the culprit: only now is it worth a second walk."""
    place = _place(value)
    return error if not place else CodecError(f"value{place}: {error}")


def _place(value: Any) -> str:
    """Where the first value stands that is of no known kind; empty for the value itself, or if there is none."""
    left: list[tuple[str, Any]] = [("", value)]
    seen: set[int] = set()
    while left:
        place, one = left.pop()
        kind: Any = type(one)  # pyright: ignore[reportUnknownVariableType]
        if kind in _CONTAINERS:
            if id(one) in seen:
                continue
            seen.add(id(one))
            mapping = kind in _MAPPINGS
            inner: Any = one.items() if mapping else enumerate(one)
            children: list[tuple[str, Any]] = [(f"{place}[{short(key)}]", child) for key, child in inner]
            if mapping:
                children += [(f"{place} key {short(key)}", key) for key in one]
            left += reversed(children)
        elif kind in BY_CLASS:
            data: Any = BY_CLASS[kind].dump(one)
            left += [(f"{place}.{key}", child) for key, child in data.items()] if data.__class__ is dict else [(place, data)]
        elif kind not in _ATOMS and kind is not str and kind not in _PACKERS:
            return place
    return ""


# --- the types it knows -----------------------------------------------------------------------------------------------


def _list(writer: Writer, value: list[Any]) -> Any:
    if not writer.room(len(value)):
        return writer.take_out(value)
    pack = writer.pack
    return [one if type(one) in _ATOMS else pack(one) for one in value]


def _plain(value: dict[Any, Any]) -> bool:
    """Whether it may be written as it is: its keys are texts, and it is not taken for an object that says what it is."""
    return set(map(type, value)) <= _STR and (len(value) != 1 or next(iter(value))[:1] not in ("$", "@"))


def _dict(writer: Writer, value: dict[Any, Any]) -> Any:
    if not writer.room(len(value)):
        return writer.take_out(value)
    pack = writer.pack
    if _plain(value):
        return {key: one if type(one) in _ATOMS else pack(one) for key, one in value.items()}
    return {"$map": [_pair(writer, entry) for entry in value.items()]}


def _pair(writer: Writer, entry: tuple[Any, Any]) -> list[Any]:
    return [writer.entire(entry[0]), writer.pack(entry[1])]


def _many(name: str, pack: Callable[[Writer, Any], Any]) -> Callable[[Writer, Any], Any]:
    def packer(writer: Writer, value: Any) -> Any:
        if not writer.room(len(value)):
            return writer.take_out(value)
        entries: Iterable[Any] = value.items() if name == "ordered" else value
        packed = [pack(writer, one) for one in entries]
        return {f"${name}": packed}

    return packer


def _deque(writer: Writer, value: deque[Any]) -> Any:
    items = [writer.pack(one) for one in value] if writer.room(len(value)) else writer.take_out(value)
    return {"$deque": [value.maxlen, items]}


def _bytes(writer: Writer, value: bytes | bytearray) -> Any:
    writer.weight += len(value) // CHARACTERS
    return {f"${type(value).__name__}": b64encode(value).decode()} if len(value) <= PIECE else writer.take_out(value)


def _datetime(writer: Writer, value: dt.datetime) -> Any:
    zone = value.tzinfo
    if zone is None or type(zone) is dt.timezone:
        plain = value.isoformat()
        return {"$datetime": plain if not value.fold else [plain, None, 1]}
    return {"$datetime": [value.replace(tzinfo=None).isoformat(), _zone(zone), value.fold]}


def _time(writer: Writer, value: dt.time) -> Any:
    zone = value.tzinfo
    if zone is None or type(zone) is dt.timezone:
        plain = value.isoformat()
        return {"$time": plain if not value.fold else [plain, None, 1]}
    return {"$time": [value.replace(tzinfo=None).isoformat(), _zone(zone), value.fold]}


def _zone(zone: dt.tzinfo) -> str:
    if type(zone) is ZoneInfo and zone.key is not None:  # pyright: ignore[reportUnnecessaryComparison]
        return zone.key
    raise CodecError(_unknown(zone))


_PACKERS: dict[Any, Callable[[Writer, Any], Any]] = {
    list: _list,
    dict: _dict,
    tuple: _many("tuple", Writer.pack),
    set: _many("set", Writer.entire),
    frozenset: _many("frozenset", Writer.entire),
    OrderedDict: _many("ordered", _pair),
    deque: _deque,
    bytes: _bytes,
    bytearray: _bytes,
    dt.datetime: _datetime,
    dt.date: lambda writer, value: {"$date": value.isoformat()},
    dt.time: _time,
    dt.timedelta: lambda writer, value: {"$timedelta": [value.days, value.seconds, value.microseconds]},
    Decimal: lambda writer, value: {"$decimal": str(value)},
    UUID: lambda writer, value: {"$uuid": str(value)},
}

#: What may be large: the name of its parts, and how an entry of it is packed.
_CONTAINERS: dict[Any, tuple[str, Callable[[Writer, Any], Any]]] = {
    list: ("list", Writer.pack),
    dict: ("map", _pair),
    tuple: ("tuple", Writer.pack),
    set: ("set", Writer.entire),
    frozenset: ("frozenset", Writer.entire),
    OrderedDict: ("ordered", _pair),
    deque: ("list", Writer.pack),
}
