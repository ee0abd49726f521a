"""The child process that brings the index up to date, so that the service's own interpreter is never held up.

    python -m beamish.search_service._build CACHE_DIR [DOCUMENTS]

It prints one JSON object a line: {"done": 3, "total": 1200} while it builds, and last {"path", "documents", …} or {"error"}.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from .documents import Folder, PythonDocumentation, Source, SourceError
from .index import SearchIndexError, ensure

EVERY = 0.1
"""Seconds between two lines of progress."""


def source_of(documents: str | None) -> Source:
    """A folder, or Python's own documentation."""
    return PythonDocumentation() if documents is None else Folder(documents)


def main(cache_dir: str, documents: str | None = None) -> int:
    last = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done in (0, total) or now - last >= EVERY:
            last = now
            _say({"done": done, "total": total})

    try:
        ready = ensure(source_of(documents), cache_dir, progress=progress)
    except (SourceError, SearchIndexError) as error:
        _say({"error": str(error)})
        return 1
    report = ready.report
    first = [f"{problem.path}: {problem.reason}" for problem in report.problems[:20]]
    _say(
        {
            "documents": report.documents, "seconds": report.seconds, "rebuilt": ready.rebuilt,
            "problems": len(report.problems), "first_problems": first,
        }
    )  # fmt: skip
    return 0


def _say(fact: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(fact) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except BrokenPipeError:  # the service is gone, and with it the wish for an index
        os._exit(1)
