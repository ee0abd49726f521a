"""The codec's way in: lines of text to values. See `_codec_write` for what stands in them."""

from __future__ import annotations

import datetime as dt
import json
from base64 import b64decode
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from decimal import Decimal
from importlib import import_module
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from beamish._codec_types import BY_NAME, CodecError, migrated
from beamish.errors import short


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")


def _reader(**options: Any) -> Callable[[str], Any]:
    read = json.JSONDecoder(parse_constant=_no_constant, **options).raw_decode

    def decode(text: str) -> Any:
        found, end = read(text)
        if end != len(text) and text[end:].strip():
            raise ValueError(f"more follows at character {end}: {short(text[end:])}")
        return found

    return decode


_json = _reader()


def _fastest() -> Callable[[bytes], Any]:
    try:
        return import_module("msgspec.json").decode  # type: ignore[no-any-return]
    except ImportError:
        return lambda line: _json(line.decode())


_plain = _fastest()


def _unmarked(line: bytes) -> Any:
    """A line in which everything is what JSON says it is."""
    try:
        return _plain(line)
    except Exception:  # msgspec refuses what json can read, half a surrogate pair; and says less of where the rest is wrong
        return _json(line.decode())


class Reader:
    """One value on its way."""

    __slots__ = ("_decode", "_parts")

    def __init__(self) -> None:
        self._parts: dict[int, tuple[str, Any]] = {}
        self._decode: Callable[[str], Any] | None = None

    def value(self, lines: Iterable[bytes]) -> Any:
        """What the last line says; those before it hold what it is made of."""
        found: Any = _NOTHING
        for line in lines:
            if line.strip():
                found = self._line(line)
        if found is _NOTHING or found is _PART:
            raise CodecError(f"the data ends before the value: {'nothing is there' if found is _NOTHING else 'its last line is missing'}")
        if self._parts:
            raise CodecError("the data holds parts that nothing refers to: a line is missing, or they are in the wrong order")
        return found

    def _line(self, line: bytes) -> Any:
        try:
            if b'"$' in line or b'"@' in line:
                return self._marked(line)
            return _unmarked(line)
        except CodecError:
            raise
        except RecursionError:
            raise CodecError("the data is nested too deep to be read") from None
        except (ValueError, TypeError) as error:
            raise CodecError(f"this is no text that the codec wrote: {error}. Got: {short(line)}") from error

    def _marked(self, line: bytes) -> Any:
        if b'"$whole"' not in line and b'"$part"' not in line:
            return _decode(line.decode())
        if line.startswith(_BEGIN) and b'"$' not in line[len(_BEGIN) :] and b'"@' not in line:
            return self._part(*_unmarked(line)["$part"])
        if self._decode is None:
            self._decode = _reader(object_hook=self._object)
        return self._decode(line.decode())

    def _object(self, found: dict[str, Any]) -> Any:
        if len(found) == 1:
            if "$whole" in found:
                return self._whole(found["$whole"])
            if "$part" in found:
                return self._part(*found["$part"])
        return _object(found)

    def _part(self, number: int, name: str, data: Any) -> Any:
        if name == "dict":
            name = "map"  # its parts come in two forms
        begun = self._parts.get(number)
        if begun is None:
            if name not in _GROWING:
                raise CodecError(f"the data has a part of a {short(name)}, which this version of the codec does not know")
            begun = self._parts[number] = (name, _GROWING[name][0]())
        elif begun[0] != name:
            raise CodecError(f"the data has a {begun[0]} that goes on as a {short(name)}")
        _GROWING[name][1](begun[1], data)
        return _PART

    def _whole(self, number: Any) -> Any:
        try:
            name, grown = self._parts.pop(number)
        except (KeyError, TypeError):
            raise CodecError(f"a part of the data is missing: number {short(number)}") from None
        return _GROWING[name][2](grown)


_NOTHING: Any = object()
_PART: Any = object()
_BEGIN = b'{"$part":'


def _object(found: dict[str, Any]) -> Any:
    """What an object of the text stands for: itself, unless its one key says so."""
    if len(found) != 1:
        return found
    [(key, data)] = found.items()
    first = key[:1]
    if first == "@":
        return _registered(key, data)
    if first != "$":
        return found
    maker = _MAKERS.get(key)
    if maker is None:
        raise CodecError(f"the data has a {key!r}, which this version of the codec does not know: was it written by a newer one?")
    try:
        return maker(data)
    except (TypeError, ValueError, ArithmeticError, LookupError, OSError) as error:
        raise CodecError(f"a {key!r} in the data is damaged ({error}): {short(data)}") from error


_decode = _reader(object_hook=_object)


def _registered(key: str, data: Any) -> Any:
    name, _, number = key[1:].partition("/")
    found = BY_NAME.get(name)
    if found is None:
        raise CodecError(f"the data has a {name!r}, and nothing is registered under this name: codec.register({name!r}, the class)")
    version = int(number or 1)
    if version != found.version:
        data = migrated(f"a {name!r}", data, version, found.version, found.migrations)
    try:
        return found.load(data)
    except CodecError:
        raise
    except Exception as error:
        raise CodecError(f"a {name!r} can't be made of what was written, it raised {short(error)}: {short(data)}") from error


# --- the types it knows -----------------------------------------------------------------------------------------------


def _datetime(data: Any) -> dt.datetime:
    if isinstance(data, str):
        return dt.datetime.fromisoformat(data)
    plain, zone, fold = data
    made = dt.datetime.fromisoformat(plain).replace(fold=fold)
    return made if zone is None else made.replace(tzinfo=ZoneInfo(zone))


def _time(data: Any) -> dt.time:
    if isinstance(data, str):
        return dt.time.fromisoformat(data)
    plain, zone, fold = data
    made = dt.time.fromisoformat(plain).replace(fold=fold)
    return made if zone is None else made.replace(tzinfo=ZoneInfo(zone))


def _bytes(data: str) -> bytes:
    return b64decode(data, validate=True)


_MAKERS: dict[str, Callable[[Any], Any]] = {
    "$map": dict,
    "$tuple": tuple,
    "$set": set,
    "$frozenset": frozenset,
    "$ordered": OrderedDict,
    "$deque": lambda data: deque(data[1], data[0]),
    "$bytes": _bytes,
    "$bytearray": lambda data: bytearray(_bytes(data)),
    "$float": float,
    "$int": lambda data: int(data, 16),
    "$datetime": _datetime,
    "$date": dt.date.fromisoformat,
    "$time": _time,
    "$timedelta": lambda data: dt.timedelta(*data),
    "$decimal": Decimal,
    "$uuid": UUID,
}


def _same(value: Any) -> Any:
    return value


def _add_bytes(made: bytearray, data: str) -> None:
    made += _bytes(data)


#: The containers that come in parts: how each begins, grows, and what it is when it is whole.
_DICT: Any = dict
_ORDERED: Any = OrderedDict
_LIST: Any = list
_SET: Any = set
_GROWING: dict[str, tuple[Callable[[], Any], Callable[[Any, Any], object], Callable[[Any], Any]]] = {
    "map": (_DICT, _DICT.update, _same),
    "ordered": (_ORDERED, _ORDERED.update, _same),
    "list": (_LIST, _LIST.extend, _same),
    "tuple": (_LIST, _LIST.extend, tuple),
    "set": (_SET, _SET.update, _same),
    "frozenset": (_SET, _SET.update, frozenset),
    "str": (_LIST, _LIST.append, "".join),
    "bytes": (bytearray, _add_bytes, bytes),
    "bytearray": (bytearray, _add_bytes, _same),
}
