"""Who keeps a state in which file: one server at a time, in this program and among all of them."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from beamish._runtime.node import Node
from beamish._snapshot_file import Aside, SnapshotInUse, lock
from beamish.snapshot import Loaded, Snapshot, load_quietly, save_chunks

#: Seconds that a start waits for the last write of a server that was killed.
PATIENCE = 60.0

SERVERS = 'each server needs a file of its own. Give it by Init(state, snapshot="…") where it depends on what the server is started with'
TABLES = "each table needs a file of its own. Give keep(table, …) another path, or stop() what keeps the other one"

_changed = threading.Condition()
_claims: dict[Path, Claim] = {}
_reading = 0  # threads
_collects = [True]


@contextmanager
def _without_collections() -> Iterator[None]:
    """The garbage collector does not run meanwhile, and takes what is made for old.

    What is read is a million new objects, say, and no garbage. To go through all of them again and again, and with them through all that
    the program has, would hold up every thread for a tenth of a second each time.
    """
    global _reading
    with _changed:
        _reading += 1
        if _reading == 1:
            _collects[0] = gc.isenabled()
            gc.disable()
    try:
        yield
    finally:
        with _changed:
            _reading -= 1
            if _reading == 0 and _collects[0]:
                if gc.get_freeze_count() == 0:  # else somebody has frozen what is to stay so
                    gc.freeze()
                    gc.unfreeze()  # into the oldest generation: nothing is gone through
                gc.enable()


class Claim:
    """The right to one file. Taken and used in threads; given back on the loop, when the server has ended."""

    __slots__ = ("_busy", "_free", "_key", "_unlock", "advice", "snapshot", "who")

    def __init__(self, snapshot: Snapshot, who: object, advice: str = SERVERS) -> None:
        self.snapshot = snapshot
        self.who = who
        self.advice = advice
        self._key = snapshot.file()
        self._busy = 0  # threads that read or write, or are about to
        self._free = False  # given back; when no thread is busy any more it is so for others
        self._unlock: Any = None

    def begin(self) -> None:
        """On the loop, before `open` or `save` is run in a thread: from now on that is awaited."""
        with _changed:
            self._busy += 1

    def open(self) -> tuple[Loaded | None, list[Aside]]:
        """Take the file and read it. Blocks. Raises SnapshotInUse when another server has it, and what `load` raises."""
        with _changed:
            while (other := _claims.get(self._key)) is not None:
                if not other._free or not _changed.wait(PATIENCE):
                    raise SnapshotInUse(f"the snapshot {self.snapshot.path} is in use by {other.who!r}: {self.advice}")
            _claims[self._key] = self
        try:
            self._unlock = lock(self._key)
            with _without_collections():
                return load_quietly(self.snapshot)
        except BaseException:
            self._free = True
            raise
        finally:
            self._done()

    def save(self, chunks: Callable[[], Iterator[bytes] | None]) -> int | None:
        """Write one snapshot, if there is something to write. Blocks. Returns its size."""
        try:
            found = chunks()
            return None if found is None else save_chunks(self.snapshot, found)
        finally:
            self._done()

    def close(self) -> None:
        """The server has ended. What is being written is written to its end."""
        with _changed:
            self._free = True
            if not self._busy:
                self._give_up()

    def _done(self) -> None:
        with _changed:
            self._busy -= 1
            if self._free and not self._busy:
                self._give_up()

    def _give_up(self) -> None:
        if self._unlock is not None:
            self._unlock()
            self._unlock = None
        if _claims.get(self._key) is self:
            del _claims[self._key]
        _changed.notify_all()


def threads(node: Node) -> ThreadPoolExecutor:
    """Those of a node that read and write snapshots."""
    found: ThreadPoolExecutor | None = node.shelf.get(Claim)
    if found is None:
        found = node.shelf[Claim] = ThreadPoolExecutor(4, thread_name_prefix="beamish-snapshot")
        made = found
        node.at_end.append(lambda: made.shutdown(wait=False))
    return found
