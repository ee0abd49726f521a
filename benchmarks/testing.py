"""What testing costs: a simulated run beside the same test on a plain loop, hours of virtual time, the start of pytest and its tests."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

import beamish
from beamish import GenServer, call, cast
from beamish.servers import SearchCache
from beamish.testing import Kit, VirtualLoop, World
from beamish.testing._choosers import Chooser, Pct, Plain, Pos, Random
from beamish.testing._simulate import run_once
from benchmarks.harness import Suite, timed

Test: TypeAlias = Callable[[World], Awaitable[object]]

suite = Suite()

TEN, CACHE = "a test of ten processes", "a test of SearchCache"
SUITE = "a run of SearchCache's suite"
HOUR, MINUTES = "an hour of timers, one each second", "an hour of timers, one each minute"
PYTEST = "pytest, 300 tests that do not use the fixture"


class Cell(GenServer[list[int]]):
    def init(self) -> list[int]:
        return [0]

    @call
    def add(self, state: list[int], n: int) -> int:
        state[0] += n
        return state[0]

    @cast
    def up(self, state: list[int]) -> None:
        state[0] += 1


async def ten(world: World) -> None:
    """Ten servers, each called and cast to by a client of its own."""
    cells = [await world.start_supervised(Cell(f"cell {number}").child_spec()) for number in range(10)]

    async def client(cell: Cell) -> None:
        cell.up()
        await cell.add(1)

    async with asyncio.TaskGroup() as group:
        for cell in cells:
            group.create_task(client(cell))


async def cached(world: World) -> None:
    """Three clients of one cache who look, search and look again, and a minute, after which it tells its statistics."""
    cache = await world.start_supervised(SearchCache[str, list[str]]("cache").child_spec())

    async def client(number: int) -> None:
        if await cache.fetch("otp") is None:
            cache.cache("otp", [f"page {number}"])
        await cache.fetch("otp")

    async with asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(client(number))
    await asyncio.sleep(61.0)


async def _own(n: int, test: Test) -> float:
    """The test's own work: on a loop of virtual time, with nothing to choose."""
    with timed(n) as clock:
        for _ in range(n):
            async with World() as world:
                await test(world)
    return clock.each


def _simulated(n: int, test: Test, strategy: Callable[[int], Chooser]) -> float:
    logging.disable(logging.CRITICAL)
    try:
        with timed(n) as clock:
            for seed in range(n):
                error = run_once(test, strategy(seed)).error
                if error is not None:
                    raise error
    finally:
        logging.disable(logging.NOTSET)
    return clock.each


@suite.variant(TEN, "its own work", n=200, baseline=True)
def ten_own(n: int) -> float:
    return _virtual(_own(n, ten))


@suite.variant(TEN, "simulated, the plain order", n=200)
def ten_plain(n: int) -> float:
    return _simulated(n, ten, lambda seed: Plain())


@suite.variant(TEN, "simulated, random", n=200)
def ten_random(n: int) -> float:
    return _simulated(n, ten, Random)


@suite.variant(TEN, "simulated, pct", n=200)
def ten_pct(n: int) -> float:
    return _simulated(n, ten, Pct)


@suite.variant(TEN, "simulated, pos", n=200)
def ten_pos(n: int) -> float:
    return _simulated(n, ten, Pos)


@suite.variant(CACHE, "its own work", n=200, baseline=True)
def cache_own(n: int) -> float:
    return _virtual(_own(n, cached))


@suite.variant(CACHE, "simulated, random", n=200)
def cache_random(n: int) -> float:
    return _simulated(n, cached, Random)


def _virtual(body: Coroutine[Any, Any, float]) -> float:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(body)


@suite.variant(SUITE, "simulated, random", n=200)
def suite_random(n: int) -> float:
    """The tests of tests/servers/test_search_cache.py, one after the other, each under another seed."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    cases = [case for case in import_module("simulated.suites").cases("servers/test_search_cache.py") if "TestManyClients" not in case.name]
    logging.disable(logging.CRITICAL)
    try:
        with timed(n) as clock:
            for seed in range(n):
                run_once(cases[seed % len(cases)].test, Random(seed))
    finally:
        logging.disable(logging.NOTSET)
        sys.path.pop(0)
    return clock.each


async def _intervals(n: int) -> float:
    async with Kit() as kit:
        beamish.send_interval(1.0, beamish.current(), "tick")
        with timed(n) as clock:
            await kit.clock.advance(n * 3600.0)
        return clock.each


async def _sleeps(n: int) -> float:
    with timed(n) as clock:
        for _ in range(n * 3600):
            await asyncio.sleep(1.0)
    return clock.each


@suite.variant(HOUR, "Beamish: send_interval", n=5)
def hour_of_intervals(n: int) -> float:
    return _virtual(_intervals(n))


@suite.variant(HOUR, "asyncio.sleep", n=5)
def hour_of_sleeps(n: int) -> float:
    return _virtual(_sleeps(n))


@suite.variant(MINUTES, "Beamish: send_interval", n=200)
def hour_of_minutes(n: int) -> float:
    return _virtual(_minutes(n))


async def _minutes(n: int) -> float:
    async with Kit() as kit:
        beamish.send_interval(60.0, beamish.current(), "tick")
        with timed(n) as clock:
            await kit.clock.advance(n * 3600.0)
        return clock.each


# --- the plugin -------------------------------------------------------------------------------------------------------


def _pytest(tests: int, *, plugin: bool) -> float:
    """Nanoseconds of a pytest with nobody's plugin but ours, over so many tests that do nothing."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "test_it.py").write_text(
            f"import pytest\n\n\n@pytest.mark.parametrize('n', range({tests}))\ndef test_it(n):\n    pass\n", encoding="utf-8"
        )
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "src"), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        ours = ["-p", "_beamish_pytest"] if plugin else []
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *ours, "test_it.py"]
        begin = time.perf_counter_ns()
        subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=True)
        return float(time.perf_counter_ns() - begin)


@suite.variant(PYTEST, "without the plugin", n=300, baseline=True)
def without_plugin(n: int) -> float:
    return _pytest(n, plugin=False)


@suite.variant(PYTEST, "with it", n=300)
def with_plugin(n: int) -> float:
    return _pytest(n, plugin=True)
