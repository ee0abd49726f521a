"""The programs in docs/ run, and print what the page says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def python_of(page: str) -> str:
    return "".join(re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL))


def test_the_guide_prints_what_it_says() -> None:
    printed = re.findall(r"```text\n(.*?)```", (DOCS / "guide.md").read_text(encoding="utf-8"), re.DOTALL)
    done = subprocess.run([sys.executable, "-c", python_of("guide.md")], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "".join(printed)


def test_the_testing_page_is_a_test_file_that_passes(tmp_path: Path) -> None:
    file = tmp_path / "test_page.py"
    file.write_text(python_of("testing.md"), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", str(file)], capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False
    )
    assert "2 passed" in done.stdout, done.stdout + done.stderr
