"""A folder of documents."""

import errno
import os
import stat
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path, PurePosixPath

from ._document import Found, Problem, Scan, SourceError
from ._readers import READERS, SOURCE_NAME, read

_SKIPPED_FOLDERS = frozenset({"__pycache__", "node_modules"})
# A file may be replaced by a pipe after we have looked at it: with O_NONBLOCK opening a pipe that nobody writes to does not wait.
_OPEN = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    where: str
    size: int
    modified: int


class Folder:
    """The .md, .txt, .rst, .html and .py files in a folder and the folders below it, as a source of documents.

    A Markdown file is titled by its first heading, an HTML file by its <title> or <h1>, a .py file gives one document for each docstring.
    Hidden files and folders (`.git`), `__pycache__` and `node_modules` are left out. Symbolic links are followed, each folder is read once.

    A file that cannot be read, is larger than `max_file_bytes` (2 million), is no text or not a regular file is skipped with a Problem;
    so is everything beyond `max_files` (100,000). A missing folder raises SourceError when it is scanned.

    >>> Folder("no/such/folder").scan()
    Traceback (most recent call last):
    beamish.search_service._document.SourceError: the documents folder 'no/such/folder' does not exist. Create it, or name another one.
    """

    def __init__(self, path: str | os.PathLike[str], *, max_file_bytes: int = 2_000_000, max_files: int = 100_000) -> None:
        self.path = Path(path)
        self.max_file_bytes = max_file_bytes
        self.max_files = max_files

    def __repr__(self) -> str:
        return f"Folder({str(self.path)!r})"

    @property
    def identity(self) -> str:
        return f"folder {os.path.realpath(self.path)}"

    def scan(self) -> Scan:
        self._check()
        files: list[_File] = []
        problems: list[Problem] = []
        for found in self._walk():
            if isinstance(found, Problem):
                problems.append(found)
            elif len(files) == self.max_files:
                reason = f"has more than {self.max_files} files to read; those from {found.where!r} on are left out"
                problems.append(Problem(str(self.path), reason))
                break
            else:
                files.append(found)
        return Scan(self._fingerprint(files), len(files), partial(self._batches, files), tuple(problems))

    def _check(self) -> None:
        folder = f"the documents folder {str(self.path)!r}"
        try:
            os.scandir(self.path).close()
        except FileNotFoundError as error:
            raise SourceError(f"{folder} does not exist. Create it, or name another one.") from error
        except NotADirectoryError as error:
            raise SourceError(f"{folder} is a file. Name the folder that holds it.") from error
        except (OSError, ValueError) as error:
            raise SourceError(f"{folder} cannot be read: {_reason(error)}. Check its permissions.") from error

    def _fingerprint(self, files: list[_File]) -> str:
        digest = sha256(repr((self.max_file_bytes, self.max_files)).encode())
        for file in files:
            digest.update(repr((file.where, file.size, file.modified)).encode("utf-8", "replace"))
        return digest.hexdigest()

    def _walk(self) -> Iterator[_File | Problem]:
        seen: set[tuple[int, int]] = set()
        folders = [(os.fspath(self.path), PurePosixPath())]
        while folders:
            path, where = folders.pop()
            try:
                entries = self._entries(path, seen)
            except OSError as error:
                yield Problem(_printable(where), f"skipped: {_reason(error)}")
                continue
            files = [entry for entry in entries if not _is_folder(entry)]
            yield from (_look(entry, where / entry.name) for entry in files if PurePosixPath(entry.name).suffix.lower() in READERS)
            below = [entry for entry in entries if _is_folder(entry) and entry.name not in _SKIPPED_FOLDERS]
            folders.extend((entry.path, where / entry.name) for entry in reversed(below))

    def _entries(self, path: str, seen: set[tuple[int, int]]) -> list[os.DirEntry[str]]:
        status = os.stat(path)
        if (status.st_dev, status.st_ino) in seen:
            raise OSError(errno.ELOOP, "a symbolic link to a folder that has been read already")
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(path) as entries:
            return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)

    def _batches(self, files: list[_File]) -> Iterator[list[Found]]:
        # Adding one filter, again and again, is safe in a thread; warnings.catch_warnings() is not.
        warnings.filterwarnings("ignore", module=SOURCE_NAME)
        for file in files:
            yield self._documents(file)

    def _documents(self, file: _File) -> list[Found]:
        try:
            return list(read(file.where, _bytes_of(file.path, self.max_file_bytes)))
        except OSError as error:
            return [Problem(file.where, f"skipped: {_reason(error)}")]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a symbolic link to itself; _look says so


def _look(entry: os.DirEntry[str], where: PurePosixPath) -> _File | Problem:
    try:
        status = entry.stat()
    except FileNotFoundError:
        return Problem(_printable(where), "skipped: a symbolic link to nothing")
    except OSError as error:
        return Problem(_printable(where), f"skipped: {_reason(error)}")
    if not stat.S_ISREG(status.st_mode):
        return Problem(_printable(where), "skipped: not a regular file")
    return _File(entry.path, _printable(where), status.st_size, status.st_mtime_ns)


def _bytes_of(path: str, limit: int) -> bytes:
    with open(os.open(path, _OPEN), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"{max(status.st_size, len(data)):,} bytes are more than the limit of {limit:,}")
    return data


def _printable(where: PurePosixPath) -> str:
    return os.fsencode(str(where)).decode("utf-8", "replace")


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
