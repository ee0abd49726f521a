"""Check a key where a client typed it. An unhashable one raises here, in the caller, and never reaches the server."""

from __future__ import annotations

import reprlib
from collections.abc import Hashable


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
