"""What the pytest plugin does for a test that uses the fixture `beamish`; imported when there is one."""

from __future__ import annotations

import asyncio
import functools
import inspect
import traceback
from typing import Any

import pytest

from beamish.testing import _simulate
from beamish.testing._kit import Kit
from beamish.testing._scene import Failure
from beamish.testing._virtual import VirtualLoop

MARKER = "beamish_real_time"


def kit(item: Any) -> Kit:
    """The fixture's value."""
    return Kit(real_time=_real_time(item))


def _real_time(item: Any) -> bool:
    marker = item.get_closest_marker(MARKER)
    if marker is None:
        return False
    reason = marker.kwargs.get("reason", marker.args[0] if marker.args else None)
    if not isinstance(reason, str) or not reason:
        raise pytest.UsageError(f'{item.nodeid}: {MARKER} takes the reason: @pytest.mark.{MARKER}("measures a real socket")')
    return True


def prepare(item: Any) -> None:
    """Put the test into its world, inside whatever plugin will run it: before that plugin takes the function."""
    test = getattr(item, "obj", None)
    if not inspect.iscoroutinefunction(test) or hasattr(test, "beamish_test"):
        return

    @functools.wraps(test)
    async def played(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        found = item.funcargs.get("beamish")
        if not isinstance(found, Kit):  # another fixture of that name
            return await test(*args, **kwargs)
        try:
            return await found.play(lambda: test(*args, **kwargs))
        except Failure as failure:
            if failure.__traceback__ is not None and _is_in(test, failure):
                raise
            raise pytest.fail.Exception(str(failure), pytrace=False) from None  # no line of the test is to blame

    vars(played)["beamish_test"] = test
    item.obj = played


def _is_in(test: Any, failure: Failure) -> bool:
    """Whether the traceback goes through the test."""
    code = getattr(inspect.unwrap(test), "__code__", None)
    return any(frame.f_code is code for frame, _ in traceback.walk_tb(failure.__traceback__))


def _refuse_begun(item: Any) -> None:
    """A simulation has a loop and a world for each run: what a fixture has started is in none of them."""
    __tracebackhide__ = True
    found = item.funcargs.get("beamish")
    if isinstance(found, Kit) and found.begun and _simulated(item.obj):
        raise pytest.fail.Exception(
            "a fixture has started servers on another event loop: each run of @simulate has a loop and a world of its own. Start them in "
            "the test, by a function that it awaits",
            pytrace=False,
        )


def _simulated(test: Any) -> bool:
    while test is not None:
        if getattr(getattr(test, "__code__", None), "co_filename", None) == _simulate.__file__:
            return True
        test = getattr(test, "__wrapped__", None)
    return False


def run(item: Any) -> bool | None:
    """Run an `async def` test that no other plugin runs."""
    __tracebackhide__ = True
    test = item.obj
    _refuse_begun(item)
    if not (hasattr(test, "beamish_test") and inspect.iscoroutinefunction(test)):
        return None
    arguments = {name: item.funcargs[name] for name in item._fixtureinfo.argnames}
    with asyncio.Runner(loop_factory=None if _real_time(item) else VirtualLoop) as runner:
        runner.run(test(**arguments))
    return True


def finish(item: Any) -> None:
    """After the test, and before the fixtures end: what an async fixture has begun for a plain test, which has no end of its own."""
    found = getattr(item, "funcargs", {}).get("beamish")
    if isinstance(found, Kit):
        found.close()
