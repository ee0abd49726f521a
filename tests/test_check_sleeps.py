"""The check that no test really sleeps finds what it is for, and lets go what it should."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "check_sleeps.py"


def problems(source: str) -> list[str]:
    spec = importlib.util.spec_from_file_location("check_sleeps", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return [what for _, what in module.problems(source)]


SLEEP = "    await asyncio.sleep(1.0)\n"
RUNS = "from beamish.testing import Kit\n"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("async def test_it():\n" + SLEEP, ["asyncio.sleep"]),
        ("async def helper():\n" + SLEEP, ["asyncio.sleep"]),
        ("async def test_it():\n    await asyncio.sleep(0)\n", []),
        ("def test_it():\n    time.sleep(0.1)\n", ["time.sleep"]),
        ("async def test_it(beamish):\n    time.sleep(0.1)\n", ["time.sleep"]),
        ("async def test_it(beamish):\n" + SLEEP, []),
        ("@simulate(seeds=3)\nasync def test_it():\n" + SLEEP, []),
        ("async def helper():\n" + SLEEP + "async def test_it(beamish): ...\n", []),
        (RUNS + "def test_it():\n    async def body():\n    " + SLEEP, []),
        (RUNS + "async def test_it():\n" + SLEEP, ["asyncio.sleep"]),
        ("# virtual time: run by others\nasync def helper():\n" + SLEEP, []),
        ("def helper():\n    time.sleep(1)  # real time: another process\n", []),
        ("@pytest.mark.real_time('a real clock')\nasync def test_it():\n" + SLEEP, []),
        ("@pytest.mark.real_time\nasync def test_it():\n" + SLEEP, ["asyncio.sleep"]),
        ("@pytest.mark.real_time(reason='x')\nclass TestIt:\n    async def test_it(self):\n    " + SLEEP, []),
        ("pytestmark = [pytest.mark.real_time('all of it')]\nasync def test_it():\n" + SLEEP, []),
    ],
)
def test_what_it_finds(source: str, found: list[str]) -> None:
    assert problems(source) == found


def test_this_suite_is_free_of_them() -> None:
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
