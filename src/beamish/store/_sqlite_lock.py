"""One owner for a file: a second store, in this process or another, is refused."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from beamish.store.errors import CannotOpen, Locked

if sys.platform == "win32":
    import msvcrt

    def _lock(file: int) -> None:
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


class Lock:
    """Holds `shop.db.lock` beside `shop.db`, until `free()` or the end of the process, whatever that dies of."""

    def __init__(self, path: Path) -> None:
        self._file = -1
        beside = path.with_name(path.name + ".lock")
        try:
            file = os.open(beside, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
        except OSError as error:
            raise CannotOpen(
                f"{path}: nothing can be written beside it ({error.strerror}). A store needs a folder of its own rights"
            ) from error
        try:
            _lock(file)
        except OSError as error:
            owner = _owner(file)
            os.close(file)
            raise Locked(
                f"{path} is open in another store (process {owner}). One file belongs to one store; clients share the store"
            ) from error
        self._file = file
        os.ftruncate(file, 0)
        os.pwrite(file, str(os.getpid()).encode(), 0) if hasattr(os, "pwrite") else os.write(file, str(os.getpid()).encode())

    def free(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _owner(file: int) -> str:
    try:
        return os.read(file, 20).decode() or "unknown"
    except OSError:
        return "unknown"
