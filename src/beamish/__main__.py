"""`python -m beamish`: a program that crashes and recovers, shown and run; with arguments, the `beamish` command."""

from __future__ import annotations

import logging
import sys
from importlib.resources import files


def main(argv: list[str]) -> int:
    if argv:
        from beamish.cli import main as command

        return command(argv)
    source = (files("beamish.cli") / "demo.py").read_text(encoding="utf-8")
    _say(f"{source}\n# What it prints (the crash report goes to the log, which is left out here):\n\n")
    logging.getLogger("beamish").addHandler(logging.NullHandler())
    logging.getLogger("beamish").propagate = False
    exec(compile(source, "demo.py", "exec"), {"__name__": "__main__"})
    _say("\n# Next: python -m beamish serve --chaos, a search service whose servers you can crash in the browser.\n")
    return 0


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
