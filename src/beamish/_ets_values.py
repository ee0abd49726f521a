"""Keeping what is in a table apart from what its users hold: a value that may change is copied in and out.

What cannot change, all the way down, needs no copy and is shared. Whether it can is looked at once, when it goes in; what can is kept
in a `Box`, whose content nobody ever changes in place.
"""

from __future__ import annotations

import array
import datetime
import decimal
import operator
import pathlib
import re
import types
import uuid
import weakref
import zoneinfo
from collections import deque
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import fields
from enum import Enum
from itertools import chain
from typing import Any

from beamish._address import Address
from beamish._runtime.ids import Pid, Ref
from beamish._runtime.names import At, Via
from beamish.errors import short

#: Types whose instances cannot change (these very types: a subclass may have attributes).
ATOMS: frozenset[type] = frozenset(
    {
        type(None), bool, int, float, complex, str, bytes, range, slice, type(...), type(NotImplemented), type, types.FunctionType,
        types.BuiltinFunctionType, types.ModuleType, types.CodeType, re.Pattern, weakref.ref, decimal.Decimal, datetime.date,
        datetime.time, datetime.datetime, datetime.timedelta, datetime.timezone, zoneinfo.ZoneInfo, uuid.UUID, pathlib.PurePosixPath,
        pathlib.PureWindowsPath, pathlib.PosixPath, pathlib.WindowsPath,
    }
)  # fmt: skip

#: Modules whose classes are such too; not imported for this.
_ATOMIC = ("fractions", "ipaddress")
_LASTING = (Pid, Ref, Address, Via, At, Enum, type)
_CHANGING: Any = (list, dict, set, bytearray, deque, array.array)
_FIXED: Any = object()

#: The same functions, to which a type checker listens less: what they are asked about may be anything.
is_a: Callable[[Any, Any], bool] = isinstance
type_of: Callable[[Any], Any] = type


def changing_part(value: Any) -> Any:
    """The first part of `value` that may change, or `_FIXED`."""
    cls = type_of(value)
    if cls is tuple and ATOMS.issuperset(map(type, value)):
        return _FIXED
    if cls in ATOMS or cls.__module__ in _ATOMIC or is_a(value, _LASTING):
        return _FIXED
    parts: Iterable[Any]
    if is_a(value, (tuple, frozenset)):
        own: Any = getattr(value, "__dict__", None)  # of a subclass without __slots__
        parts = value if not own else (own, *value)
    elif not is_a(value, _CHANGING) and _frozen(cls):
        parts = [getattr(value, field.name) for field in fields(value)]
    else:
        return _FIXED if hasattr(cls, "__deepcopy__") and _is_its_copy(value) else value
    for part in parts:
        if type(part) not in ATOMS and (found := changing_part(part)) is not _FIXED:
            return found
    return _FIXED


def _frozen(cls: type) -> bool:
    """Whether it is a frozen dataclass itself: a subclass of one may have other attributes."""
    made: Any = vars(cls).get("__dataclass_params__")
    return made is not None and made.frozen


def _is_its_copy(value: Any) -> bool:
    """Whether it says itself that it need not be copied."""
    try:
        return deepcopy(value) is value
    except Exception:  # there can be no copy: that is said where one is wanted
        return False


def lasting(value: object) -> bool:
    """Whether nothing of `value` can change."""
    return changing_part(value) is _FIXED


class Box:
    """A value that may change: the table's own copy of it. Never changed in place, so that any thread may copy it."""

    __slots__ = ("_copier", "value")

    def __init__(self, value: Any, copier: Callable[[Any], Any]) -> None:
        self.value = value
        self._copier = copier

    def copy(self) -> Any:
        return self._copier(self.value)

    def __eq__(self, other: object) -> bool:
        return bool(self.value == content(other))


#: A copy of these is deep when everything in them lasts: a tenth of what deepcopy takes.
_FLAT: dict[type, Callable[[Any], Any]] = {cls: operator.methodcaller("copy") for cls in (dict, list, set, bytearray)}


def copied(value: Any) -> Any:
    """What a table keeps of a value: the value if it lasts, else a Box with a copy."""
    if lasting(value):
        return value
    copier = _FLAT.get(type_of(value), deepcopy)
    if copier is not deepcopy:
        parts: Iterable[Any] = chain(value, value.values()) if type_of(value) is dict else value
        if not all(type(part) in ATOMS or lasting(part) for part in parts):
            copier = deepcopy
    try:
        return Box(copier(value), copier)
    except Exception as error:  # whatever its __deepcopy__ or __reduce__ raises
        raise TypeError(
            f'a table with values="copied" can not keep {short(value)}, since no copy of it can be made ({error}). Keep what names it '
            '(an id, a pid, an address), or make the table with values="shared", which hands out the object itself'
        ) from error


def immutable(value: Any) -> Any:
    """The value, if nothing of it can change."""
    part = changing_part(value)
    if part is _FIXED:
        return value
    where = "" if part is value else f" in {short(value)}"
    raise TypeError(
        f'a table with values="immutable" takes only what can not change: numbers, strings, tuples, frozensets, frozen '
        f'dataclasses of such. Got: {short(part)}, a {type(part).__name__}{where}. Make it one of these, or the table with values="copied"'
    )


def shared(value: Any) -> Any:
    """The value itself, whatever it is."""
    return value


SEALS: dict[str, Callable[[Any], Any]] = {"copied": copied, "immutable": immutable, "shared": shared}


def out(stored: Any) -> Any:
    """A stored value as users get it."""
    return stored.copy() if type(stored) is Box else stored


def content(stored: Any) -> Any:
    """A stored value to look at, not to hand out."""
    return stored.value if type(stored) is Box else stored
