"""Keeps the index right: at the start and then every `look_every` seconds it looks whether the documents have changed, in a child process.

An index that is there serves at once, even an old one, until the new one is complete. A build that fails is tried again, later each time.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from beamish import Continue, Exited, GenServer, Init, Pid, call, flag, send, spawn_link

from ._build import source_of
from .index import path_for
from .progress import Progress, progress_bar
from .searches import Searches

_log = logging.getLogger("beamish.search_service")

LINE_LIMIT = 1 << 20


class Look(Enum):
    """The message that the server sends to itself."""

    NOW = "look"


@dataclass(frozen=True, slots=True)
class Report:
    """What is in the index: documents, seconds that it took to build, files that were skipped, and what the first of them lacked."""

    documents: int
    seconds: float
    problems: int
    first_problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """`ready`: it can be searched. `building`: (done, total) in files, while a build runs. `error`: why the last one failed."""

    ready: bool
    report: Report | None
    building: tuple[int, int] | None
    error: str | None


@dataclass(slots=True)
class State:
    documents: str | None
    cache_dir: Path
    searches: Searches
    look_every: float
    path: Path
    ready: bool
    worker: Pid | None = None
    report: Report | None = None
    building: tuple[int, int] | None = None
    error: str | None = None
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the child process."""

    worker: Pid
    fact: dict[str, Any]


class IndexKeeper(GenServer[State], shutdown=5.0):
    """Started with the folder of documents (None: Python's own documentation), the folder of the index, and whom to tell of a new one."""

    def init(self, documents: str | None, cache_dir: Path, searches: Searches, *, look_every: float = 60.0) -> Init:
        flag(trap_exit=True)
        path = path_for(source_of(documents), cache_dir)
        return Init(State(documents, cache_dir, searches, look_every, path, path.exists()), then=Continue(Look.NOW))

    @call
    def status(self, state: State) -> IndexStatus:
        return IndexStatus(state.ready, state.report, state.building, state.error)

    def handle_continue(self, state: State, arg: object) -> None:
        self._look(state)

    def handle_info(self, state: State, message: object) -> None:
        match message:
            case Look.NOW:
                self._look(state)
            case Line(worker=worker, fact=fact) if worker is state.worker:
                self._hear(state, fact)
            case Exited(pid=pid, reason=reason) if pid is state.worker:
                state.worker = state.building = None
                if state.error is None and state.report is None:
                    state.error = f"the process that builds the index ended with {reason!r}"
                self._look_later(state)
            case Line() | Exited():
                pass  # of a worker that is not ours any more
            case _:
                super().handle_info(state, message)

    def _look(self, state: State) -> None:
        if state.worker is None:
            state.worker = spawn_link(_build, self, state.documents, state.cache_dir)

    def _look_later(self, state: State) -> None:
        wait = state.look_every if state.error is None else min(5.0 * 2 ** min(state.failures, 6), 300.0)
        self.send_after(wait, Look.NOW)

    def _hear(self, state: State, fact: dict[str, Any]) -> None:
        match fact:
            case {"done": int() as done, "total": int() as total}:
                state.building = (done, total)
            case {"error": str() as error}:
                state.building, state.error = None, error
                state.failures += 1
                _log.error("%s", error)
            case {"documents": int() as documents, "seconds": float() as seconds, "rebuilt": bool() as rebuilt}:
                self._built(state, Report(documents, seconds, fact["problems"], tuple(fact["first_problems"])), rebuilt=rebuilt)
            case _:
                _log.error("the process that builds the index said %.200r", fact)

    def _built(self, state: State, report: Report, *, rebuilt: bool) -> None:
        state.ready, state.report, state.building, state.error, state.failures = True, report, None, None, 0
        if rebuilt:
            _log.info("the index has %d documents, built in %.1f s", report.documents, report.seconds)
            if report.problems:
                _log.warning("%d files were skipped or read only in part, the first: %s", report.problems, report.first_problems[0])
            state.searches.renew()


async def _build(keeper: IndexKeeper, documents: str | None, cache_dir: Path) -> None:
    """A worker's life: run the child process and pass on its lines. Ended early, it takes the child with it."""
    from beamish import current

    command = [sys.executable, "-m", "beamish.search_service._build", str(cache_dir), *([] if documents is None else [documents])]
    # A session of its own: Ctrl-C at the terminal goes to the service, which ends its child.
    child = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, start_new_session=True, limit=LINE_LIMIT
    )
    assert child.stdout is not None
    me = current()
    try:
        with ExitStack() as bar:
            show: Progress | None = None
            async for line in child.stdout:
                fact: dict[str, Any] = json.loads(line)
                if "total" in fact:
                    show = show or bar.enter_context(progress_bar("Indexing"))
                    show(fact["done"], fact["total"])
                send(keeper, Line(me, fact))
        code = await child.wait()
        if code not in (0, 1):
            send(keeper, Line(me, {"error": f"the process that builds the index ended with code {code}"}))
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
