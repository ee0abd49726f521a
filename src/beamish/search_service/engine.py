"""Where a search that is not in the cache is done: the index of our own documents, or another search service.

An engine is asked by the workers of `Searches`, several at a time, and answers with results or raises `SearchFailed`.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from .index import Hit, Index, NoIndex, SearchIndexError

_log = logging.getLogger("beamish.search_service")

Key = tuple[str, int]
"""What is searched for: the query, and how many results are wanted at most."""


@dataclass(frozen=True, slots=True)
class Result:
    """One thing found. `marks` are (start, end) of the words in `snippet` that were searched for, in characters."""

    title: str
    where: str
    snippet: str
    marks: tuple[tuple[int, int], ...]
    score: float


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there are no results, as the client is told: an HTTP status, a sentence, and when to try again (seconds)."""

    status: int
    detail: str
    retry_after: int


class SearchFailed(Exception):
    """A search that came to nothing, for a reason that can be told. Everything else is a crash of the worker."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail)
        self.refusal = refusal


class Engine(Protocol):
    """Something that can be searched."""

    async def search(self, query: str, limit: int) -> list[Result]:
        """The best `limit` results, best first. Raises SearchFailed. It may be cancelled at any time."""
        ...

    def close(self) -> Awaitable[None]:
        """Let go of threads, files and connections. A search that still runs may end or fail."""
        ...


MakeEngine = Callable[[], Engine]
"""Engines are made by the server that owns them, anew after each of its crashes."""


class IndexEngine:
    """The full-text index in a file, searched in at most `threads` threads; SQLite lets go of the interpreter meanwhile."""

    def __init__(self, path: Path, threads: int) -> None:
        self._path = path
        self._index: Index | None = None  # opened by the first search: before the first build there is no file
        self._opening = threading.Lock()
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="search")

    async def search(self, query: str, limit: int) -> list[Result]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._search, query, limit)

    def _search(self, query: str, limit: int) -> list[Result]:
        try:
            return [_result(hit) for hit in self._open().search(query, limit=limit)]
        except NoIndex as error:
            raise SearchFailed(Refusal(503, "The index is being built. Try again soon.", 2)) from error
        except SearchIndexError as error:
            _log.error("%s", error)
            raise SearchFailed(Refusal(503, "The index cannot be read just now. Try again later.", 10)) from error

    def _open(self) -> Index:
        with self._opening:
            if self._index is None:
                self._index = Index(self._path)
            return self._index

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._index is not None:
            self._index.close()


def _result(hit: Hit) -> Result:
    marks: list[tuple[int, int]] = []
    at = 0
    for piece in hit.snippet:
        end = at + len(piece.text)
        if piece.found:
            marks.append((at, end))
        at = end
    return Result(hit.title, hit.where, "".join(piece.text for piece in hit.snippet), tuple(marks), round(hit.score, 3))
