"""Values for the whole program that are read all the time and hardly ever changed: OTP's `persistent_term`.

    persistent_term.put((__name__, "routes"), routes)      # once, at the start
    persistent_term.get((__name__, "routes"))              # from anywhere: any process, event loop or thread

They belong to nobody and outlive whoever put them; the end of the interpreter is theirs. A read costs what one of a dict costs, and a
call. Nothing is copied: what is put is what everybody gets, so put what does not change (or is not changed any more).

Keys are compared as those of a dict are (1, 1.0 and True are one key). They share one space: begin them with the name of your module.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, overload

from beamish.errors import BeamishError, short

T = TypeVar("T")

# One dict, changed in place: each change and each look is one step of the interpreter, so threads need no lock.
_terms: dict[Any, Any] = {}
_NOTHING: Any = object()


class NoTerm(BeamishError, KeyError):
    """Nothing was put under that key. `key` is what was asked for."""

    def __init__(self, key: object) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        return (
            f"there is no persistent term {short(self.key)}. Put it before it is read, as a rule where the program starts, or say "
            f"what to take instead: persistent_term.get({short(self.key)}, default)"
        )


@overload
def get(key: Hashable, /) -> Any: ...
@overload
def get(key: Hashable, /, default: T) -> Any | T: ...
def get(key: Any, /, default: Any = _NOTHING) -> Any:
    """What was put under `key`, the object itself; else `default`. Raises NoTerm (a KeyError) where there is neither."""
    try:
        return _terms[key]
    except KeyError:
        if default is _NOTHING:
            raise NoTerm(key) from None
        return default


def put(key: Hashable, value: object, /) -> None:
    """Put `value` under `key`, for everybody, from now on. What was there is replaced; who has read that keeps it."""
    _terms[key] = value


def erase(key: Hashable, /) -> bool:
    """Take away what is under `key`. Whether there was something."""
    return _terms.pop(key, _NOTHING) is not _NOTHING


def items() -> list[tuple[Any, Any]]:
    """All keys with their values, in the order in which they were first put, as they are at this moment."""
    return list(_terms.copy().items())


def count() -> int:
    """How many there are."""
    return len(_terms)


@contextmanager
def restored() -> Iterator[None]:
    """A block after which all is as it was before: for tests. `beamish.testing` puts one around each."""
    before = _terms.copy()
    try:
        yield
    finally:
        _terms.clear()
        _terms.update(before)
