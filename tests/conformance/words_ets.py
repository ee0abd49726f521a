"""The words of the scripts about tables: `:ets` and `:persistent_term` know one error, where ours have several that teach."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from beamish.ets import TableError
from beamish.persistent_term import NoTerm
from conformance.words import Alias

BADARG = ("raised", "badarg")


def tried(fun: Callable[[], Any]) -> tuple[str, Any]:
    """`T.try_` around a verb of a table."""
    try:
        return "returned", fun()
    except (TableError, NoTerm, TypeError, ValueError):
        return BADARG


def done(fun: Callable[[], Any]) -> Any:
    """What a verb of `:ets` returns: `true` where ours has nothing to say, or BADARG."""
    verdict, value = tried(fun)
    return BADARG if verdict == "raised" else True if value is None else value


def pairs(table: Any, key: Any) -> list[tuple[Any, ...]]:
    """`:ets.lookup`: objects are tuples, whose first element is the key."""
    return [whole(key, value) for value in table.lookup(key)]


def whole(key: Any, value: Any) -> tuple[Any, ...]:
    """The object as OTP has it: a value that is a tuple is the rest of it."""
    return (key, *value) if isinstance(value, tuple) else (key, value)


def charlist(numbers: list[int]) -> Any:
    """A list of numbers as Elixir prints it: as characters, if all of them could be some."""
    text = "".join(_ESCAPED.get(one, chr(one)) for one in numbers if one in _ESCAPED or 32 <= one < 127)
    return Alias(f"'{text}'") if numbers and all(one in _ESCAPED or 32 <= one < 127 for one in numbers) else numbers


_ESCAPED = {7: r"\a", 8: r"\b", 9: r"\t", 10: r"\n", 11: r"\v", 12: r"\f", 13: r"\r", 27: r"\e"}
