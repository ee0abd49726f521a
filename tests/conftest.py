"""How tests run: an `async def` test runs in a fresh world, on its own event loop; no plugin is needed."""

from __future__ import annotations

import asyncio
import gc
import importlib.metadata
import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis.strategies import none

from beamish.testing import ManualClock, World

if not any(one.name == "beamish" for one in importlib.metadata.entry_points(group="pytest11")):
    pytest_plugins = ["_beamish_pytest"]  # an environment that was made before there was a plugin


@pytest.fixture
def clock() -> ManualClock:
    """A clock that stands still until the test moves it: `await clock.advance(60.0)`."""
    return ManualClock()


@pytest.fixture
def inline() -> bool:
    """Whether calls may run on the caller's stack. `both_roads` runs a test each way."""
    return True


both_roads = pytest.mark.parametrize("inline", [True, False], ids=["inline", "mailbox"])


@pytest.fixture
def world(request: pytest.FixtureRequest, inline: bool) -> World:
    """The test's fresh world, entered before the test and checked for leaks after it."""
    time = request.getfixturevalue("clock") if "clock" in request.fixturenames else None
    return World(time, inline=inline)


@given(none())
@settings(max_examples=1, database=None)
def _first(_: None) -> None:
    """On its first use hypothesis looks for who holds the random generators that it knows; in a frozen heap it finds nobody."""


@pytest.fixture(scope="module")
def little_garbage() -> Iterator[None]:
    """For what collects garbage often: what 5,000 tests and their imports are made of is not looked through each time."""
    _first()
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj) or "beamish" in pyfuncitem.fixturenames:
        return None  # a plain test, or the plugin's
    names = pyfuncitem._fixtureinfo.argnames
    arguments: dict[str, Any] = {name: pyfuncitem.funcargs[name] for name in names}
    found = pyfuncitem.funcargs.get("world")
    fresh = found if isinstance(found, World) else World(arguments.get("clock"), inline=bool(arguments.get("inline", True)))

    async def body() -> None:
        async with fresh:
            await pyfuncitem.obj(**arguments)

    asyncio.run(body())
    return True
