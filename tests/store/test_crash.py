"""kill -9, again and again: every acknowledged commit is there, no half transaction, the events without gap or repeat."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

WRITER = Path(__file__).parent / "crash_writer.py"

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the writers are forked"),
    pytest.mark.timeout(150),
    pytest.mark.slow,
]


@pytest.mark.parametrize(("durability", "rounds"), [("full", 200), ("normal", 40)])
def test_a_writer_that_is_killed_at_random_moments(tmp_path: Path, durability: str, rounds: int) -> None:
    command = [sys.executable, str(WRITER), str(tmp_path / "shop.db"), durability, str(rounds), "7"]
    environment = {**os.environ, "PYTHONPATH": str(WRITER.parents[2] / "src")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=140, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{rounds} kills" in done.stdout
    print(done.stdout)
