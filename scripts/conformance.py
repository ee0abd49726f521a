"""Run the scripts of tests/conformance on the Elixir of this machine, and show where they print something else than their .expected.

    python scripts/conformance.py [NAME …] [--jobs N]

The ports are compared with the .expected files by the test suite; this shows that those files are what the real OTP prints,
and what a newer one prints differently. The exit code is 1 when a trace differs, 0 otherwise, and 0 where there is no Elixir.
"""

from __future__ import annotations

import argparse
import difflib
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "conformance"
LIMIT = 120.0

#: Scripts that this does not run, and why.
LEFT_OUT = {"telemetry_handlers": "it needs the telemetry library, compiled, on Erlang's code path"}


def main() -> int:
    known = sorted(path.stem for path in FOLDER.glob("*.expected"))
    parser = argparse.ArgumentParser(description="Compare the .expected traces with what the real OTP prints here.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="scripts of tests/conformance (all of them by default)")
    parser.add_argument("--jobs", type=int, default=2, help="how many to run at a time (2); they measure time, so not too many")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in known]
    if unknown:
        parser.error(f"no such script: {', '.join(unknown)}. There are: {', '.join(known)}")
    elixir = shutil.which("elixir")
    if elixir is None:
        print("left out: there is no elixir on the PATH (Debian: apt-get install elixir)")
        return 0
    print(version(elixir))
    names = [name for name in options.names or known if name not in LEFT_OUT]
    for name in options.names or known:
        if name in LEFT_OUT:
            print(f"left out  {name}: {LEFT_OUT[name]}")
    different: list[str] = []
    with ThreadPoolExecutor(max(1, options.jobs)) as pool:
        for name, problem in zip(names, pool.map(lambda name: difference(elixir, name), names), strict=True):
            print(f"{'differs ' if problem else 'the same'}  {name}", flush=True)
            if problem:
                different.append(name)
                print(problem)
    # The scripts wait by the clock, with margins of some 10 ms, which a busy machine exceeds: those that differ run again, one at a time.
    for name in list(different):
        if any(not difference(elixir, name) for _ in range(3)):
            print(f"the same  {name}, when it ran alone")
            different.remove(name)
    different_now = len(different)
    print(f"{len(names) - different_now} of {len(names)} scripts print what they are expected to")
    return 1 if different else 0


def version(elixir: str) -> str:
    said = subprocess.run([elixir, "--version"], capture_output=True, text=True, timeout=LIMIT, check=True).stdout
    return "; ".join(line.strip() for line in said.splitlines() if line.strip())


def difference(elixir: str, name: str) -> str:
    """A diff from the .expected to what the script prints here; empty when they are the same."""
    expected = (FOLDER / f"{name}.expected").read_text(encoding="utf-8").splitlines()
    try:
        done = subprocess.run([elixir, f"{name}.exs"], cwd=FOLDER, capture_output=True, text=True, timeout=LIMIT, check=False)
    except subprocess.TimeoutExpired:
        return f"it did not end within {LIMIT:.0f} s"
    if done.returncode:
        return f"it ended with exit code {done.returncode}:\n{done.stderr}"
    diff = difflib.unified_diff(expected, done.stdout.splitlines(), f"{name}.expected", f"{name}.exs, here", n=3, lineterm="")
    return "\n".join(diff)


if __name__ == "__main__":
    sys.exit(main())
