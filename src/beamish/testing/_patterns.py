"""Patterns for messages: what a value has to look like, and why another does not.

* a class, or a union of classes: an instance of it. `int`, `Down | Exited`
* a tuple or list: as many parts, each a pattern. `("found", str, 3)`
* a dict: at least these keys, each value a pattern. `{"id": int}`
* `like(Down, reason=Normal)`: an instance of the class whose attributes match; those not named may be anything
* a dataclass instance: the same class, each field a pattern. `Found("otp", hits=int)`
* `...`: anything
* a predicate, a plain function: `lambda message: message.hits > 3`. One that raises does not match, as a guard in Elixir
* any other value: one that is equal to it

A value matches itself, whatever it is: a pattern is compared first, and taken apart only where that fails.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from beamish.errors import short

#: So many messages of a mailbox, and reasons of a miss, are shown.
SHOWN = 20
REASONS = 4


class Like:
    """See `like`."""

    __slots__ = ("kind", "parts")

    def __init__(self, kind: Any, parts: dict[str, Any]) -> None:
        self.kind = kind
        self.parts = parts

    def __repr__(self) -> str:
        parts = "".join(f", {name}={shown(part)}" for name, part in self.parts.items())
        return f"like({shown(self.kind)}{parts})"


def like(kind: type | types.UnionType, /, **attributes: Any) -> Any:
    """A pattern: an instance of `kind` whose attributes match these patterns. What is not named may be anything.

    await beamish.assert_receive(like(Down, reason=like(Crash, error=ZeroDivisionError)))
    """
    if not isinstance(kind, type | types.UnionType):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"like takes a class and patterns for attributes: like(Down, reason=Normal). Got: {kind!r}")
    return Like(kind, attributes)


@dataclass(frozen=True, slots=True)
class Miss:
    """Why a value does not match, and how near it came: 0.0 not at all, below 1.0 all but."""

    nearness: float
    reasons: tuple[str, ...]


def matches(pattern: Any, value: Any) -> bool:
    """Whether `value` is what `pattern` says; see the module."""
    return miss(pattern, value) is None


def miss(pattern: Any, value: Any, path: str = "") -> Miss | None:
    """None when it matches; else why not."""
    if pattern is ... or pattern is Any or _equal(pattern, value):
        return None
    if isinstance(pattern, type | types.UnionType) and not isinstance(pattern, types.GenericAlias):
        return None if isinstance(value, pattern) else _differs(pattern, value, path, 0.0)
    if isinstance(pattern, Like):
        return _unlike(pattern, value, path)
    if isinstance(pattern, tuple | list):
        return _unlike_sequence(cast("Sequence[Any]", pattern), value, path)
    if isinstance(pattern, Mapping):
        return _unlike_mapping(pattern, value, path)  # pyright: ignore[reportUnknownArgumentType]
    if dataclasses.is_dataclass(pattern):
        return _unlike_dataclass(pattern, value, path)
    if isinstance(pattern, types.GenericAlias) or not callable(pattern):
        _refuse_generic(pattern)
        return _differs(pattern, value, path, _resemblance(pattern, value))
    try:
        says: Any = pattern(value)
        if not inspect.iscoroutine(says) and says:
            return None
    except Exception as error:  # as in a guard: it was not made for this message
        return Miss(0.0, (f"{path or 'it'}: {shown(pattern)} raised {type(error).__name__}: {error}",))
    if inspect.iscoroutine(says):
        says.close()
        raise TypeError(f"a predicate is a plain function, which says yes or no at once, and {shown(pattern)} is async")
    return Miss(0.1, (f"{path or 'it'}: {shown(pattern)} says no to {short(value)}",))


def _equal(pattern: Any, value: Any) -> bool:
    if pattern is value:
        return True
    try:
        return bool(pattern == value)
    except Exception:  # arrays and the like, which have no one answer: then they are not known to be equal
        return False


def _refuse_generic(pattern: Any) -> None:
    if isinstance(pattern, types.GenericAlias):
        raise TypeError(f"a value does not know its type arguments, so {pattern!r} is no pattern; write {pattern.__origin__.__name__}")


def _differs(pattern: Any, value: Any, path: str, nearness: float) -> Miss:
    word = "no" if isinstance(pattern, type | types.UnionType) else "not"
    return Miss(nearness, (f"{path or 'it'} is {short(value)}, {word} {shown(pattern)}",))


def _resemblance(pattern: Any, value: Any) -> float:
    if type(pattern) is not type(value):
        return 0.0
    if isinstance(pattern, str):
        return 0.1 + 0.8 * difflib.SequenceMatcher(None, pattern[:200], value[:200]).ratio()
    return 0.1


def _all(parts: Iterator[tuple[Any, Any, str]], count: int) -> Miss | None:
    """The misses of the parts as one."""
    misses = [one for one in (miss(pattern, value, path) for pattern, value, path in parts) if one is not None]
    if not misses:
        return None
    near = (count - len(misses) + 0.5 * sum(one.nearness for one in misses)) / max(count, 1)
    return Miss(0.3 + 0.7 * near, tuple(reason for one in misses for reason in one.reasons))


def _unlike(pattern: Like, value: Any, path: str) -> Miss | None:
    if not isinstance(value, pattern.kind):
        return _differs(pattern.kind, value, path, 0.0)
    absent = [name for name in pattern.parts if not hasattr(value, name)]
    if absent:
        return Miss(0.2, (f"{path or 'it'} has no {', '.join(absent)}: {short(value)}",))
    return _all(((part, getattr(value, name), f"{path}.{name}") for name, part in pattern.parts.items()), len(pattern.parts))


def _unlike_sequence(pattern: Sequence[Any], value: Any, path: str) -> Miss | None:
    kind = tuple if isinstance(pattern, tuple) else list
    if not isinstance(value, kind):
        return _differs(pattern, value, path, 0.0)
    found = cast("Sequence[Any]", value)
    if len(found) != len(pattern):
        return Miss(0.2, (f"{path or 'it'} has {len(found)} parts, not {len(pattern)}: {short(found)}",))
    return _all(((part, found[index], f"{path}[{index}]") for index, part in enumerate(pattern)), len(pattern))


def _unlike_mapping(pattern: Mapping[Any, Any], value: Any, path: str) -> Miss | None:
    if not isinstance(value, Mapping):
        return _differs(pattern, value, path, 0.0)
    found: Any = value  # pyright: ignore[reportUnknownVariableType]
    absent = [key for key in pattern if key not in found]
    if absent:
        return Miss(0.2, (f"{path or 'it'} has no {', '.join(map(short, absent))}: {short(found)}",))
    return _all(((part, found[key], f"{path}[{short(key)}]") for key, part in pattern.items()), len(pattern))


def _unlike_dataclass(pattern: Any, value: Any, path: str) -> Miss | None:
    if type(value) is not type(pattern):
        return _differs(pattern, value, path, 0.0)
    names = [one.name for one in dataclasses.fields(pattern) if one.compare]
    if not names:
        return _differs(pattern, value, path, 0.3)
    return _all(((getattr(pattern, name), getattr(value, name), f"{path}.{name}") for name in names), len(names))


# --- as text ----------------------------------------------------------------------------------------------------------


def shown(pattern: Any) -> str:
    """A pattern as it was written, about."""
    if pattern is ...:
        return "..."
    if isinstance(pattern, type):
        return pattern.__name__
    if isinstance(pattern, Like):
        return repr(pattern)
    if isinstance(pattern, tuple | list | dict):
        return _shown_container(pattern)
    code = getattr(pattern, "__code__", None)
    if code is not None:
        name = getattr(pattern, "__qualname__", "a predicate")
        return f"{name.rpartition('.')[2]} (line {code.co_firstlineno} of {code.co_filename.rpartition('/')[2]})"
    return short(pattern)


def _shown_container(pattern: Any) -> str:
    if isinstance(pattern, dict):
        return "{" + ", ".join(f"{short(key)}: {shown(part)}" for key, part in cast(Any, pattern).items()) + "}"
    parts = ", ".join(map(shown, pattern))
    return f"[{parts}]" if isinstance(pattern, list) else f"({parts}{',' if len(pattern) == 1 else ''})"


def either(patterns: Sequence[Any]) -> Callable[[Any], bool]:
    """Whether a message matches one of them; none match everything."""
    if not patterns:
        return lambda _: True
    return lambda message: any(matches(pattern, message) for pattern in patterns)


def wanted(patterns: Sequence[Any]) -> str:
    return " or ".join(map(shown, patterns)) if patterns else "anything"


def mailbox(patterns: Sequence[Any], messages: Sequence[Any]) -> str:
    """The mailbox of a test that waited in vain: every message, and why the nearest of them does not match."""
    if not messages:
        return "its mailbox is empty"
    near = _nearest(patterns, messages)
    lines = [f"its mailbox has {len(messages)} {'message' if len(messages) == 1 else 'messages'}, oldest first:"]
    for index, message in enumerate(messages):
        closest = near is not None and near[0] == index
        if index >= SHOWN and not closest:
            continue
        lines.append(f"  {index + 1}. {short(message)}")
        if closest and near is not None:
            reasons = near[1].reasons
            lines += [f"       {'nearest: ' if number == 0 else '         '}{one}" for number, one in enumerate(reasons[:REASONS])]
            if len(reasons) > REASONS:
                lines.append(f"         and {len(reasons) - REASONS} more")
    if len(messages) > SHOWN:
        lines.append(f"  … {len(messages)} in all")
    return "\n".join(lines)


def _nearest(patterns: Sequence[Any], messages: Sequence[Any]) -> tuple[int, Miss] | None:
    best: tuple[int, Miss] | None = None
    for index, message in enumerate(messages):
        for pattern in patterns:
            found = miss(pattern, message)
            if found is not None and (best is None or found.nearness > best[1].nearness):
                best = index, found
    return best
