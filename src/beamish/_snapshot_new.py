"""The file that is on its way to become a snapshot: several may be written at once, each by a writer that has it alone."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from weakref import WeakValueDictionary

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

#: That many write to one path at once.
WRITERS = 1000

_turns: WeakValueDictionary[Path, threading.Lock] = WeakValueDictionary()
_turns_lock = threading.Lock()


def beside(path: Path, what: object) -> Path:
    return path.with_name(f"{path.name}.{what}")


@contextlib.contextmanager
def on_its_way(path: Path) -> Iterator[tuple[Path, IO[bytes]]]:
    """A new file beside `path`, of this writer alone, which renames it; else it is gone afterwards."""
    for number in range(WRITERS):
        new = beside(path, f"new-{number}" if number else "new")
        while (file := _made(new)) is None and _is_left_over(new):
            pass
        if file is not None:
            break
    else:
        raise FileExistsError(errno.EEXIST, f"{WRITERS} files beside it are on their way")
    with file:
        try:
            yield new, file
        except BaseException:
            if os.name != "posix":
                file.close()
            with contextlib.suppress(OSError):
                new.unlink()
            raise


def _made(new: Path) -> IO[bytes] | None:
    """The file, if there was none; locked, so that nobody takes it for one that was left over."""
    try:
        file = new.open("xb", buffering=0)
    except FileExistsError:
        return None
    if fcntl is not None:
        with contextlib.suppress(OSError):  # a file system that knows no locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if not _is_at(new, file):  # somebody was faster than the lock
            file.close()
            return _made(new)
    return file


def _is_left_over(new: Path) -> bool:
    """Whether nobody writes it any more, or it is gone already; then it is no more."""
    try:
        if fcntl is None:
            new.unlink()  # refused while it is open
            return True
        with new.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(new, file):
                new.unlink()
        return True
    except FileNotFoundError:
        return True
    except OSError:
        return False


def _is_at(path: Path, file: IO[bytes]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def turn(path: Path) -> Iterator[None]:
    """One rotation at a time."""
    with _turns_lock:
        its = _turns.setdefault(path, threading.Lock())
    with its:
        yield
