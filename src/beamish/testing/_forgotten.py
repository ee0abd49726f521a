"""A call, or a verb of the fixture, that was made without await: Python only warns, and the test would be green.

Python tells `warnings._warn_unawaited_coroutine` of each coroutine that ends without having begun. While a test runs, this stands in its
place: no warning filter hides it, and nothing is paid for coroutines that are awaited.
"""

from __future__ import annotations

import inspect
import warnings
from types import FrameType
from typing import Any

from beamish._address import Address
from beamish.testing._waiting import ASYNCIO, INSIDE

_module: Any = warnings


class Forgotten:
    """`found`: the coroutines of servers and of the library that nobody has awaited, since `begin` and until `end`."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def begin(self) -> None:
        self._plain: Any = getattr(_module, "_warn_unawaited_coroutine", None)
        self._ours = self._heard
        if self._plain is not None:
            _module._warn_unawaited_coroutine = self._ours

    def end(self) -> None:
        if getattr(_module, "_warn_unawaited_coroutine", None) is self._ours:
            _module._warn_unawaited_coroutine = self._plain

    def _heard(self, coro: Any) -> None:
        if not _counts(coro):
            if coro.cr_origin is not None:
                self._plain(coro)
            else:  # as that does, but with the line of whoever let it go, not with this one
                warnings.warn(f"coroutine '{coro.__qualname__}' was never awaited", RuntimeWarning, stacklevel=2, source=coro)
        elif len(self.found) < 100:
            self.found.append(f"{_said(coro)}{_place(inspect.currentframe())}")


def _counts(coro: Any) -> bool:
    """Whether the user has made it: by a public function of the library, or by a server's method. Handlers are the runtime's."""
    code = coro.cr_code
    if code.co_filename.startswith(INSIDE[1:]):
        return True
    if code.co_filename.startswith(INSIDE[0]):
        return not any(part.startswith(("_", "<")) for part in coro.__qualname__.split("."))
    owner = _first(coro)
    return isinstance(owner, Address) and getattr(getattr(type(owner), coro.__name__, None), "__code__", None) is code


def _first(coro: Any) -> object:
    code, frame = coro.cr_code, coro.cr_frame
    return frame.f_locals.get(code.co_varnames[0]) if frame is not None and code.co_argcount else None


def _said(coro: Any) -> str:
    owner = _first(coro)
    if isinstance(owner, Address):
        return f"{owner!r}.{coro.__name__}(…)"
    kit = {"Kit": "beamish", "KitClock": "beamish.clock"}.get(type(owner).__name__)
    return f"{kit}.{coro.__name__}(…)" if kit is not None else f"{coro.__qualname__}(…)"


def _place(frame: FrameType | None) -> str:
    """Where it was let go, which is where it was made unless somebody kept it."""
    while frame is not None and frame.f_code.co_filename.startswith(INSIDE):
        frame = frame.f_back
    if frame is None or frame.f_code.co_filename.startswith(ASYNCIO):
        return ""
    return f", at {frame.f_code.co_filename}:{frame.f_lineno}"
