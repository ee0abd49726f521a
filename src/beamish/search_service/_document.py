"""What a source of documents is: the values that the readers make and the index takes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Document:
    """One thing that can be found.

    `where` tells a reader where it stands (`Lib/asyncio/queues.py:123`). `names` are further names under which it is found first,
    besides its title (`asyncio.queues.Queue.put` for `asyncio.Queue.put`).
    """

    title: str
    where: str
    body: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that was skipped, or read only in part, and why. One bad file never stops the others."""

    path: str
    reason: str


Found = Document | Problem


@dataclass(frozen=True, slots=True)
class Scan:
    """What a look at a source found: enough to tell whether an index is still right, and how to read it all.

    `fingerprint` changes when the documents may have changed. `batches()` reads: exactly `total` lists (most often one for each file),
    so that a progress bar can count them. `problems` are those that the look itself met; the lists bring the others.
    """

    fingerprint: str
    total: int
    batches: Callable[[], Iterator[list[Found]]]
    problems: tuple[Problem, ...] = ()


class Source(Protocol):
    """Where documents come from. `Folder` and `PythonDocumentation` are two; write another with these two members."""

    @property
    def identity(self) -> str:
        """Which source this is: the same text on every start, since the index file is named by it."""
        ...

    def scan(self) -> Scan:
        """Look at the source without reading it. Quick: names, sizes and times only. Raises SourceError if there is nothing to look at."""
        ...


class SourceError(Exception):
    """The source as a whole cannot be read: the folder is missing, or is no folder. The text says which and what to do."""
