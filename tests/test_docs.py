"""The programs in docs/ run, and print what the page says."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


#: Pages that are one program in parts: their python blocks, one after the other, print their text blocks.
PROGRAMS = sorted(page.name for page in DOCS.glob("*.md") if blocks(page.name, "python") and blocks(page.name, "text"))


@pytest.mark.parametrize("page", PROGRAMS)
def test_a_page_prints_what_it_says(page: str) -> None:
    program = "".join(blocks(page, "python"))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "".join(blocks(page, "text"))


def test_the_testing_page_is_a_test_file_that_passes(tmp_path: Path) -> None:
    file = tmp_path / "test_page.py"
    source = "\n\n".join(blocks("testing.md", "python"))
    file.write_text(source, encoding="utf-8")
    installed = any(one.name == "beamish" for one in importlib.metadata.entry_points(group="pytest11"))
    plugin = [] if installed else ["-p", "_beamish_pytest"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:asyncio", *plugin, str(file)]
    environment = {**os.environ, "PYTHONPATH": str(DOCS.parent / "src")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path, env=environment, check=False)
    tests = len(re.findall(r"^(?:async )?def test_", source, re.MULTILINE))
    assert tests > 9
    assert re.search(rf"^{tests} passed in", done.stdout, re.MULTILINE), done.stdout + done.stderr
