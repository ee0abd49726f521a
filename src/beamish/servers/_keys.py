"""Check keys and values where a client typed them: what a table cannot take raises here, in the caller, and never reaches the server."""

from __future__ import annotations

import reprlib
from collections.abc import Hashable
from types import CoroutineType

from beamish import Answer, Ignore, Init

_ANSWERS = (CoroutineType, Answer, Init, Ignore)


def check_key(key: Hashable, what: str = "key") -> None:
    """Raise TypeError, with the way out, if `key` cannot be looked up in a table.

    A server that met such a key in its handler would crash, and everybody's entries with it, for the mistake of one client.
    So the client calls this before it sends; `what` is the word for the key in the error.

    >>> check_key(("otp", 27))
    >>> check_key(["otp", 27], "query")  # type: ignore[arg-type]
    Traceback (most recent call last):
        ...
    TypeError: a query must be hashable, and all that is in it. Got a list: ['otp', 27]. Pass a str, a tuple or a frozen dataclass instead.
    """
    try:
        hash(key)
    except TypeError as error:
        text = f"a {what} must be hashable, and all that is in it. Got a {type(key).__name__}: {reprlib.repr(key)}."
        raise TypeError(f"{text} Pass a str, a tuple or a frozen dataclass instead.") from error


def check_value(value: object, what: str = "value") -> None:
    """Raise TypeError if a handler could not give `value` to a client as it is.

    A handler that returns a coroutine is an async handler, and one that returns a Stop ends the server: a table that hands such
    things out would await the one, in everybody's way, and obey the other.

    >>> check_value(None)
    >>> async def search(): ...
    >>> coroutine = search()
    >>> check_value(coroutine, "result")
    Traceback (most recent call last):
        ...
    TypeError: a result must be a value that is there already. Got a coroutine: search. Await it first.
    >>> coroutine.close()
    """
    if isinstance(value, _ANSWERS):
        if isinstance(value, CoroutineType):
            raise TypeError(f"a {what} must be a value that is there already. Got a coroutine: {value.__qualname__}. Await it first.")
        raise TypeError(f"a {what} may not be what callbacks answer with. Got: {value!r}")
