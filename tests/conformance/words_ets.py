"""The words of the scripts about tables: `:ets` and `:persistent_term` know one error, where ours have several that teach."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from beamish.errors import BeamishError

BADARG = ("raised", "badarg")


def tried(fun: Callable[[], Any]) -> tuple[str, Any]:
    """`T.try_` around a verb of a table."""
    try:
        return "returned", fun()
    except (BeamishError, TypeError, ValueError, IndexError):
        return BADARG
