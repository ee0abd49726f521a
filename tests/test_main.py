"""`python -m beamish` and the `beamish` command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import beamish
from beamish.cli import main

DEMO = Path(beamish.__file__).parent / "cli" / "demo.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "beamish", *arguments], capture_output=True, text=True, timeout=30)


class TestTheDemonstration:
    def test_it_shows_a_program_and_what_that_prints(self) -> None:
        done = run()
        assert (done.returncode, done.stderr) == (0, "")
        source, _, output = done.stdout.partition("# What it prints")
        assert source.strip() == DEMO.read_text(encoding="utf-8").strip()
        lines = output.splitlines()[2:]
        assert lines[0] == "10 15"
        assert lines[1].startswith("Counter('counter') did not answer add(0): it crashed with ZeroDivisionError")
        assert lines[2] == "2"


class TestTheCommand:
    def test_without_a_command_it_says_what_there_is(self) -> None:
        assert main([]) == 2

    def test_arguments_of_the_module_are_the_command(self) -> None:
        assert run("--version").stdout == f"beamish {beamish.__version__}\n"
        assert "--documents" in run("serve", "--help").stdout

    def test_without_the_extra_it_says_what_to_install(self) -> None:
        hidden = "import sys; sys.modules['starlette'] = None; from beamish.cli import main; sys.exit(main(['serve', '--port', '0']))"
        done = subprocess.run([sys.executable, "-c", hidden], capture_output=True, text=True, timeout=30)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].endswith("pip install 'beamish[web]'")
        assert "Traceback" not in done.stderr
