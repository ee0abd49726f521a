"""More words of the scripts: what they do with processes, messages and failures rather than with supervisors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from beamish import CallExit


def ok(value: Any) -> Any:
    """`:ok`, which our verbs say by returning None, or True where they return a truth."""
    return "ok" if value is None or value is True else value


def true(value: None) -> bool:
    """`true`, which Elixir's verbs return where ours have nothing to say."""
    return value is None


def raised(fun: Callable[[], Any]) -> tuple[str, Any]:
    """`T.try_` around a verb of Process: OTP raises the bare reason, where we raise an exception that has it."""
    try:
        return "returned", fun()
    except CallExit as error:
        return "raised", error.reason
    except (TypeError, ValueError):
        return "raised", "badarg"
