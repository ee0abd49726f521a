"""How far a build is: a bar on a terminal, two log lines elsewhere."""

import importlib.util
import logging
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

Progress = Callable[[int, int], None]
"""Is told (done, total) in files, first with 0 done. What it raises stops the build, and the old index stays."""

_logger = logging.getLogger("beamish.search_service")


@contextmanager
def progress_bar(title: str) -> Generator[Progress, None, None]:
    """Show a build's progress on stderr, with tqdm (in the extra `beamish[web]`).

    If stderr is not a terminal, or tqdm is not installed, one line is logged at the begin and one at the end, at level INFO.

    >>> with progress_bar("Indexing") as progress:
    ...     progress(1, 2)
    """
    with _bar(title) if _on_a_terminal() else _log_lines(title) as progress:
        yield progress


def _on_a_terminal() -> bool:
    # Under pythonw there is no stderr at all.
    return sys.stderr is not None and sys.stderr.isatty() and importlib.util.find_spec("tqdm") is not None


@contextmanager
def _bar(title: str) -> Generator[Progress, None, None]:
    from tqdm import tqdm

    with tqdm(desc=title, unit=" files", file=sys.stderr, leave=False) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield progress


@contextmanager
def _log_lines(title: str) -> Generator[Progress, None, None]:
    _logger.info("%s: started", title)
    start = time.perf_counter()
    yield _ignore
    _logger.info("%s: done in %.1f s", title, time.perf_counter() - start)


def _ignore(done: int, total: int) -> None:
    """The log has its two lines."""
