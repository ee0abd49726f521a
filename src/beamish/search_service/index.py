"""A full-text index of documents: one SQLite file, built beside and renamed into place, searched from any thread.

>>> from beamish.search_service.documents import Folder
>>> with tempfile.TemporaryDirectory() as folder:
...     _ = Path(folder, "otp.md").write_text("# Let it crash\\n\\nSupervisors restart.")
...     ready = ensure(Folder(folder), Path(folder, "cache"))     # builds it, if it is missing or no longer right
...     with Index(ready.path) as index:
...         [hit.title for hit in index.search("supervisor")]
['Let it crash']

All of this blocks: a service calls it in threads. While `ensure` builds, an open `Index` answers from the old file; its next search after
that reads the new one. So a service that finds `path_for(documents, folder)` there can search at once and bring it up to date meanwhile.
"""

import glob
import json
import logging
import os
import re
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Iterable
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Self

from ._document import Document, Problem, Scan, Source
from ._query import Query, parse, storable
from .cache_folder import default_cache_dir as default_cache_dir
from .progress import Progress as Progress, progress_bar as progress_bar

_logger = logging.getLogger("beamish.search_service")

_FORMAT = 1
"""Part of the file's name: two versions of Beamish that share a cache folder do not fight over one file."""
_LEFT_OVER_SECONDS = 3600.0
_MAX_IDLE = 8
MAX_LIMIT = 1_000

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE names (name TEXT, id INTEGER, dropped INTEGER NOT NULL, PRIMARY KEY (name, id)) WITHOUT ROWID;
CREATE VIRTUAL TABLE documents USING fts5 (title, names, body, location UNINDEXED, tokenize = "porter unicode61 remove_diacritics 2");
"""
_INSERT = "INSERT INTO documents (rowid, title, names, body, location) VALUES (?, ?, ?, ?, ?)"
_FIND = """
SELECT documents.rowid, bm25(documents, 8.0, 4.0, 1.0) AS score
FROM documents LEFT JOIN names ON names.name = :name AND names.id = documents.rowid
WHERE documents MATCH :words ORDER BY names.dropped IS NULL, names.dropped, score, documents.rowid LIMIT :limit
"""
_SHOW = """
SELECT title, location, snippet(documents, 2, char(2), char(3), '…', 32) FROM documents WHERE documents MATCH :words AND rowid = :id
"""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a snippet; `found` if it is one of the words that were searched for."""

    text: str
    found: bool


@dataclass(frozen=True, slots=True)
class Hit:
    """A document that was found. `snippet` is plain text in pieces: a page escapes each and marks those that are `found`.

    `score` is the relevance (BM25), higher is better, and can be compared within one search only. Documents that have the searched text
    as their name come first, whatever their score.
    """

    title: str
    where: str
    snippet: tuple[Piece, ...]
    score: float


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build did: how many documents are in the index, how long it took, and what was skipped or read only in part."""

    documents: int
    seconds: float
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Ready:
    """An index file that is right. `report` is that of the build that made it, just now if `rebuilt`."""

    path: Path
    report: BuildReport
    rebuilt: bool


class SearchIndexError(Exception):
    """The index cannot be built or searched. Each text names the file, the reason and the next step."""


class NoIndex(SearchIndexError):
    """There is no index file at this path (yet)."""


class DamagedIndex(SearchIndexError):
    """The file is there, but is no index or is damaged. `ensure` sets it aside and builds a new one."""


class IndexUnreadable(SearchIndexError):
    """The file is there, but this process cannot open it: its permissions, or no file handles left. It is not touched."""


class IndexNotBuilt(SearchIndexError):
    """The file cannot be written: the disk is full, or the folder is missing or read-only. An old index is still there."""


class FullTextMissing(SearchIndexError):
    """This Python's SQLite was built without FTS5."""


class IndexClosed(SearchIndexError):
    """`search` after `close`."""


def path_for(source: Source, cache_dir: str | os.PathLike[str]) -> Path:
    """The index file of `source` in `cache_dir`; it need not exist. Other sources, and other formats of the file, have other names."""
    label = re.sub(r"[^a-z0-9.]+", "-", re.split(r"[/\\]", source.identity.lower())[-1])[-40:]
    digest = sha256(source.identity.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return Path(cache_dir, f"search-{_FORMAT}-{label}-{digest}.sqlite3")


def ensure(source: Source, cache_dir: str | os.PathLike[str], *, progress: Progress | None = None) -> Ready:
    """The index of `source` in `cache_dir`, built if it is missing, damaged (with a warning) or older than the documents.

    Blocks: some ten milliseconds if it is right, seconds if it is built. Raises SourceError, IndexNotBuilt, IndexUnreadable or
    FullTextMissing.
    """
    path = path_for(source, cache_dir)
    scan = source.scan()
    report = _report_if_right(path, _fingerprint(scan))
    if report is not None:
        return Ready(path, report, rebuilt=False)
    return Ready(path, _build(scan, path, progress), rebuilt=True)


def build(source: Source, path: str | os.PathLike[str], *, progress: Progress | None = None) -> BuildReport:
    """Build the index of `source` at `path`, whether it is needed or not. Searches go on in the old file until the new one is complete.

    The new file is made beside, written to the disk and renamed: a crash leaves the old index or none, never half a one, and of two
    processes that build at once the last one wins. Raises SourceError, IndexNotBuilt or FullTextMissing.
    """
    return _build(source.scan(), Path(path), progress)


def _build(scan: Scan, path: Path, progress: Progress | None) -> BuildReport:
    start = time.perf_counter()
    _require_full_text()
    with _telling_what_to_do(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _remove_left_overs(path)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".building", dir=path.parent)
        os.close(handle)
    try:
        with closing(_Writer(name, path)) as writer:
            writer.begin()
            problems = _fill(writer, scan, progress)
            report = BuildReport(writer.count, time.perf_counter() - start, problems)
            writer.finish(_fingerprint(scan), report)
        with _telling_what_to_do(path):
            _sync(name)
            os.replace(name, path)
            _sync(path.parent)
    finally:
        # Gone already if all went well; else the half-made file must not stay. What a kill -9 leaves is removed by a later build.
        with suppress(FileNotFoundError):
            os.unlink(name)
    return report


def _fill(writer: "_Writer", scan: Scan, progress: Progress | None) -> tuple[Problem, ...]:
    problems = list(scan.problems)
    if progress is not None:
        progress(0, scan.total)
    for done, batch in enumerate(scan.batches(), start=1):
        writer.add(found for found in batch if isinstance(found, Document))
        problems.extend(found for found in batch if isinstance(found, Problem))
        if progress is not None:
            progress(done, scan.total)
    return tuple(problems)


class _Writer:
    """Fills a new file. It is nobody's before it is renamed: SQLite need neither lock nor keep a journal; a failed one is thrown away."""

    def __init__(self, name: str, path: Path) -> None:
        self.count = 0
        self._path = path
        with _telling_what_to_do(path):
            self._connection = sqlite3.connect(name, isolation_level=None)

    def begin(self) -> None:
        with _telling_what_to_do(self._path):
            self._connection.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; {_SCHEMA} BEGIN;")

    def add(self, documents: Iterable[Document]) -> None:
        for document in documents:
            self.count += 1
            row = [storable(text) for text in (document.title, " ".join(document.names), document.body, document.where)]
            names = [(name, self.count, dropped) for name, dropped in _names(document)]
            with _telling_what_to_do(self._path):
                self._connection.execute(_INSERT, (self.count, *row))
                self._connection.executemany("INSERT OR IGNORE INTO names VALUES (?, ?, ?)", names)

    def finish(self, fingerprint: str, report: BuildReport) -> None:
        meta = {"fingerprint": fingerprint, "report": json.dumps(asdict(report))}
        with _telling_what_to_do(self._path):
            self._connection.execute("INSERT INTO documents (documents) VALUES ('optimize')")
            self._connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
            self._connection.execute("COMMIT")

    def close(self) -> None:
        self._connection.close()


def _names(document: Document) -> list[tuple[str, int]]:
    """The names under which a document is found first, with the number of parts dropped: `queue.put` is asyncio.Queue.put without one."""
    found: list[tuple[str, int]] = []
    for name in (document.title, *document.names):
        parts = [name] if " " in name else name.split(".")
        found += [(storable(".".join(parts[dropped:])).casefold(), dropped) for dropped in range(len(parts))]
    return found


def _fingerprint(scan: Scan) -> str:
    return f"{_FORMAT} {sys.version_info[:3]} {scan.fingerprint}"


def _require_full_text() -> None:
    try:
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.execute("CREATE VIRTUAL TABLE probe USING fts5 (body)")
    except sqlite3.OperationalError as error:
        raise FullTextMissing(
            f"{sys.executable} uses SQLite {sqlite3.sqlite_version}, built without FTS5, its full-text search ({error}). "
            "Use another Python: those of python.org, Debian, Homebrew, conda and uv have it."
        ) from error


def _remove_left_overs(path: Path) -> None:
    """What killed builds have left, an hour later: earlier it could belong to a build that is running."""
    for left_over in path.parent.glob(f".{glob.escape(path.name)}.*.building"):
        with suppress(OSError):  # removed by another process, or not ours: it only takes room
            if time.time() - left_over.stat().st_mtime > _LEFT_OVER_SECONDS:
                left_over.unlink()


def _sync(path: str | Path) -> None:
    if os.name == "nt" and Path(path).is_dir():
        return  # Windows cannot open folders
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _telling_what_to_do(path: Path) -> Generator[None, None, None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise IndexNotBuilt(
            f"the search index {str(path)!r} cannot be written: {error}. "
            "Make room on its disk and see that its folder can be written to, or name another cache folder."
        ) from error


def _report_if_right(path: Path, fingerprint: str) -> BuildReport | None:
    try:
        with closing(_connect(path)) as connection, _telling_damage(path):
            meta = dict[str, str](connection.execute("SELECT key, value FROM meta").fetchall())
            if meta["fingerprint"] != fingerprint:
                return None
            _check(connection)
            report = json.loads(meta["report"])
            return BuildReport(report["documents"], report["seconds"], tuple(Problem(**problem) for problem in report["problems"]))
    except NoIndex:
        return None
    except DamagedIndex as damage:
        _set_aside(path, damage)
        return None


def _check(connection: sqlite3.Connection) -> None:
    # Table by table: since SQLite 3.44 a check of the whole file also compares the words with the documents, which is slow, and which
    # 3.44.0 cannot do in a file opened for reading.
    for (table,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0").fetchall():
        answer = connection.execute(f"PRAGMA quick_check('{table}')").fetchone()[0]
        if answer != "ok":
            raise sqlite3.DatabaseError(answer)


def _set_aside(path: Path, damage: DamagedIndex) -> None:
    aside = path.with_name(path.name + ".damaged")
    # Another process may have set it aside meanwhile, or even have built a new one, which then is built once more: no harm.
    with _telling_what_to_do(path), suppress(FileNotFoundError):
        os.replace(path, aside)
    _logger.warning("%s It is kept as %s.", damage, aside)


@contextmanager
def _telling_damage(path: Path) -> Generator[None, None, None]:
    try:
        yield
    except (sqlite3.Error, ValueError, LookupError, TypeError) as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CANTOPEN:
            raise _unreadable(path, error) from error
        raise DamagedIndex(f"the search index {str(path)!r} is damaged ({error}). Build it anew with ensure() or build().") from error


def _unreadable(path: Path, error: Exception) -> IndexUnreadable:
    return IndexUnreadable(
        f"the search index {str(path)!r} cannot be opened: {error}. Check its permissions and the limit of open files, or remove it."
    )


def _connect(path: Path) -> sqlite3.Connection:
    # "immutable" is true: a file is complete before it gets this name, and never changed after. So readers take no locks.
    # check_same_thread is off since the pool hands a connection from thread to thread, never to two at once.
    try:
        os.stat(path)
        return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False, isolation_level=None)
    except FileNotFoundError as error:
        raise NoIndex(f"there is no search index {str(path)!r}. Build it with ensure() or build().") from error
    except (OSError, sqlite3.Error) as error:
        raise _unreadable(path, error) from error


_Generation = tuple[int, int, int, int] | None
"""Which file stands under the index's name. None: none at the moment."""


@dataclass(frozen=True, slots=True)
class _Reader:
    connection: sqlite3.Connection
    generation: _Generation


class Index:
    """An index file open for searching, by any number of threads at once. Use it with `with`, or `close` it.

    Raises NoIndex if the file is not there yet.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        self._idle: list[_Reader] = []
        self._closed = False
        self._give_back(self._take())

    def __repr__(self) -> str:
        return f"Index({str(self.path)!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def search(self, query: str, *, limit: int = 10) -> list[Hit]:
        """The best `limit` (1 to 1,000) documents for what a user typed, best first; an empty list if there is none.

        No text is wrong, and none is syntax. Documents with all the words are found; if there is none, those with any of them. The last
        word may be the beginning of one. A name (`asyncio.Queue`, `Queue.put`, `with`) finds what is called so first. Looked at are the
        first 1,000 characters and 16 words. Raises DamagedIndex, IndexUnreadable, IndexClosed, NoIndex; ValueError for the limit.
        """
        if not 1 <= limit <= MAX_LIMIT:
            raise ValueError(f"limit must be from 1 to {MAX_LIMIT}. Got: {limit!r}")
        parsed = parse(query)
        reader = self._take()
        try:
            with _telling_damage(self.path):
                hits = _search(reader.connection, parsed, limit) if parsed else []
        except BaseException:
            reader.connection.close()
            raise
        self._give_back(reader)
        return hits

    def close(self) -> None:
        """Close the file. A search that is running in another thread ends normally; a later one raises IndexClosed."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for reader in idle:
            reader.connection.close()

    def _take(self) -> _Reader:
        # The generation is read before the file is opened: a file renamed in between is opened under the old one's number,
        # which only means that it is opened once more for the next search.
        generation = _generation(self.path)
        with self._lock:
            if self._closed:
                raise IndexClosed(f"the search index {str(self.path)!r} is closed. Open another Index.")
            idle, self._idle = self._idle, []
            usable = [reader for reader in idle if generation is None or reader.generation == generation]
            taken = usable.pop() if usable else None
            self._idle = usable
        for reader in idle:
            if reader is not taken and reader not in usable:
                reader.connection.close()
        return taken or _Reader(_connect(self.path), generation)

    def _give_back(self, reader: _Reader) -> None:
        with self._lock:
            if not self._closed and len(self._idle) < _MAX_IDLE:
                self._idle.append(reader)
                return
        reader.connection.close()


def _generation(path: Path) -> _Generation:
    try:
        status = os.stat(path)
    except OSError:
        return None  # between two files, or gone: whoever has the old one open goes on with it
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _search(connection: sqlite3.Connection, query: Query, limit: int) -> list[Hit]:
    for words in (query.all_of, query.any_of):
        found = connection.execute(_FIND, {"words": words, "name": query.name, "limit": limit}).fetchall()
        if found:
            return [_hit(connection, words, row, score) for row, score in found]
    return []


def _hit(connection: sqlite3.Connection, words: str, row: int, score: float) -> Hit:
    title, where, marked = connection.execute(_SHOW, {"words": words, "id": row}).fetchone()
    return Hit(title, where, pieces(marked), -score)


def pieces(marked: str) -> tuple[Piece, ...]:
    """SQLite's snippet, with \\2 and \\3 around what was found (a document has neither: see storable), in pieces; white space made single.

    >>> pieces("put(\\2item\\3)\\n\\nAdd")
    (Piece(text='put(', found=False), Piece(text='item', found=True), Piece(text=') Add', found=False))
    """
    parts = re.split("[\2\3]", re.sub(r"\s+", " ", marked))
    return tuple(Piece(text, number % 2 == 1) for number, text in enumerate(parts) if text)
