"""The file of a snapshot: written so that whatever dies while it is written, the old or the new state is there, never half of one.

    orders.snap           the newest; `name.1`, `name.2` … the ones before it
    orders.snap.new       on its way; a rename makes it the newest (new-1 … where several are written at once)
    orders.snap.lock      who has it: locked while a server keeps its state there
    orders.snap.damaged-… what could not be read, set aside

One line of text, then the body, as the codec writes it:

    BEAMISH-SNAPSHOT 1 <digest> {"version": 1, "codec": "json", "length": 2211, "saved_at": 1770000000.0}

The digest is over all that follows it and the body. No body is looked into before its digest is right. Every format to come
keeps the first three words and what the digest is over, so a newer file can be told from a damaged one.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any

from beamish._snapshot_new import beside, on_its_way, turn
from beamish.errors import BeamishError, short

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

MAGIC = b"BEAMISH-SNAPSHOT"
FORMAT = 1
#: The first line has this many bytes, so that it can be written last.
HEAD = 256
#: What is handed to the system at a time.
BLOCK = 64 * 1024


class SnapshotError(BeamishError):
    """A snapshot that can't be written or read. The text says which file, why, and what to do."""


class NewerSnapshot(SnapshotError):
    """The file was written by a newer version, of the program or of Beamish. It is left as it is."""


class SnapshotInUse(SnapshotError):
    """Another server, here or in another process, keeps its state in that file."""


class ForeignFile(SnapshotError):
    """What is at that path is no snapshot, whole or damaged. It is left as it is."""


class Damaged(Exception):
    """Why a file is not what was written. Inside of this module only: it is set aside, and the one before it used."""


@dataclass(frozen=True, slots=True)
class Head:
    """The first line of a file."""

    version: int
    codec: str
    length: int
    saved_at: float


# --- writing ----------------------------------------------------------------------------------------------------------


def write(path: Path, version: int, codec: str, chunks: Iterator[bytes], *, keep: int, durable: bool) -> int:
    """Make `chunks` the newest snapshot at `path`. Returns the bytes of the file. Blocks; raises SnapshotError.

    What was there stays as it was until the new one is whole, and whole on the disk (`durable`: fsync of file and folder).
    """
    try:
        with on_its_way(path) as (new, file):
            size, digest = _write_new(file, version, codec, chunks, durable)
            if os.name != "posix":
                file.close()  # elsewhere what is open can't be renamed
            if path.is_file():
                new.chmod(stat.S_IMODE(path.stat().st_mode))  # who may read it is for whoever made the first one to say
            with turn(path):
                _rotate(path, new, 0 if _is_there(path, version, codec, digest) else keep)
        if durable:
            _sync_folder(path.parent)
    except OSError as error:
        raise SnapshotError(f"the snapshot {path} can't be written: {error.strerror or error}. {_remedy(error)}") from error
    return size


def _is_there(path: Path, version: int, codec: str, digest: Any) -> bool:
    """Whether the file has this very body already: then it makes way, and is no generation. By its first line only."""
    try:
        with path.open("rb") as file:
            words = file.read(HEAD).rstrip().split(b" ", 3)
        head = json.loads(words[3])
        same: bool = (head["version"], head["codec"]) == (version, codec) and words[2] == _sealed(digest.copy(), FORMAT, words[3])
    except (OSError, ValueError, LookupError, TypeError):
        return False
    return same


def _write_new(file: IO[bytes], version: int, codec: str, chunks: Iterator[bytes], durable: bool) -> tuple[int, Any]:
    """Returns the size, and the digest of the body."""
    digest, length = blake2b(digest_size=32), 0
    file.write(b" " * HEAD)
    for block in _blocks(chunks):
        digest.update(block)
        length += len(block)
        _write_all(file, block)
    tail = json.dumps({"version": version, "codec": codec, "length": length, "saved_at": time.time()}).encode()
    line = b" ".join([MAGIC, b"%d" % FORMAT, _sealed(digest.copy(), FORMAT, tail), tail])
    file.seek(0)
    _write_all(file, line.ljust(HEAD - 1) + b"\n")
    if durable:
        os.fsync(file.fileno())
    return HEAD + length, digest


def _sealed(digest: Any, format: int, tail: bytes) -> bytes:
    digest.update(b"%d %b" % (format, tail))
    made: str = digest.hexdigest()
    return made.encode()


def gently(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Between two chunks whoever waits for the interpreter gets it: the loop, say, which else would have to wait 5 ms each time."""
    for chunk in chunks:
        yield chunk
        time.sleep(0)


def _blocks(chunks: Iterator[bytes]) -> Iterator[bytes]:
    held: list[bytes] = []
    size = 0
    for chunk in gently(chunks):
        held.append(chunk)
        size += len(chunk)
        if size >= BLOCK:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)


def _write_all(file: Any, block: bytes) -> None:
    """A disk that is filling up takes a part of it first, and says so only then."""
    left = memoryview(block)
    while left:
        left = left[file.write(left) :]


def _rotate(path: Path, new: Path, keep: int) -> None:
    """Put `new` in the place of `path`, which becomes the first of `keep` older ones. `path` is never absent meanwhile."""
    if keep and path.is_file():
        for number in range(keep - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                beside(path, number).replace(beside(path, number + 1))
        first = beside(path, 1)
        with contextlib.suppress(FileNotFoundError):
            first.unlink()
        try:
            os.link(path, first)
        except OSError:  # a file system without hard links
            path.replace(first)
    new.replace(path)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return  # elsewhere a folder can't be opened, and a rename is on the disk when it returns
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remedy(error: OSError) -> str:
    match error:
        case FileNotFoundError():
            return "Make its folder, or give the snapshot another path"
        case PermissionError():
            return "Let this user write to its folder, or give the snapshot another path"
        case _:
            return "What was saved before is as it was"


# --- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Aside:
    """A file that could not be read: what was wrong, and where it is now (None: it could not be moved)."""

    path: Path
    why: str
    moved: Path | None


@dataclass(frozen=True, slots=True)
class Found:
    """The newest good file, open at its body: what is read is what was checked, even if there is a newer one by now."""

    path: Path
    head: Head
    file: IO[bytes]


def find(path: Path, asides: list[Aside]) -> Found | None:
    """The newest good file of a snapshot; what is damaged is set aside, and told in `asides`. None when there is none.

    Whoever calls closes it.

    Raises NewerSnapshot, ForeignFile, and SnapshotError for what can't be read although it is there. Blocks.
    """
    for candidate in _generations(path):
        try:
            file = candidate.open("rb")
        except FileNotFoundError:
            continue
        except OSError as error:
            raise SnapshotError(f"the snapshot {candidate} can't be read: {error.strerror or error}") from error
        try:
            return Found(candidate, check(file, candidate), file)
        except OSError as error:
            file.close()
            raise SnapshotError(f"the snapshot {candidate} can't be read: {error.strerror or error}") from error
        except Damaged as damage:
            file.close()
            asides.append(_set_aside(candidate, path, str(damage)))
        except BaseException:
            file.close()
            raise
    return None


def _generations(path: Path) -> Iterator[Path]:
    yield path
    numbers: list[int] = []
    with contextlib.suppress(OSError):
        for other in path.parent.iterdir():
            name, _, number = other.name.rpartition(".")
            if name == path.name and number.isdecimal():
                numbers.append(int(number))
    for age in sorted(numbers):
        yield beside(path, age)


def check(file: IO[bytes], path: Path) -> Head:
    """Read the whole of it, and its first line. Leaves the file at its body. Raises Damaged, ForeignFile or NewerSnapshot."""
    line = file.read(HEAD)
    words = line.rstrip().split(b" ", 3)
    if _is_foreign(line):
        raise ForeignFile(
            f"{path} is no snapshot, it begins with {short(line[:16])}: give the snapshot another path. The file was left as it is"
        )
    if words[0] != MAGIC:
        raise Damaged("its first line is garbled" if line.strip(b"\0") else "it is full of zeros" if line else "it is empty")
    if len(words) != 4 or len(line) != HEAD or not words[1].isdigit():
        raise Damaged("its first line is cut off or garbled")
    _, format, wanted, tail = words
    digest, length = blake2b(digest_size=32), 0
    while block := file.read(1 << 20):
        digest.update(block)
        length += len(block)
    right = _sealed(digest, int(format), tail) == wanted
    try:
        head = Head(**json.loads(tail))
    except (ValueError, TypeError):
        head = None
    if not right:
        if head is not None and isinstance(head.length, int) and head.length > length:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise Damaged(f"it is cut off: {length} of {head.length} bytes are there")
        raise Damaged("its checksum is wrong")
    if int(format) != FORMAT or head is None:
        raise NewerSnapshot(
            f"the snapshot {path} has the format {int(format)}, and this version of Beamish knows {FORMAT}: "
            "run the version that wrote it. The file was left as it is"
        )
    file.seek(HEAD)
    return head


def _is_foreign(line: bytes) -> bool:
    """Whether it is somebody else's file, and not one of ours that a disk has emptied, or of which it has lost some bits."""
    alike = sum(one == other for one, other in zip(line, MAGIC, strict=False))
    return bool(line.strip(b"\0")) and 2 * alike < min(len(line), len(MAGIC))


def _set_aside(damaged: Path, path: Path, why: str) -> Aside:
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    for attempt in range(1000):
        goal = beside(path, f"damaged-{stamp}" + (f"-{attempt}" if attempt else ""))
        if goal.exists():
            continue
        try:
            damaged.rename(goal)
        except OSError:
            break
        return Aside(damaged, why, goal)
    return Aside(damaged, why, None)


# --- who has it -------------------------------------------------------------------------------------------------------


def lock(path: Path) -> Callable[[], None]:
    """Take the file for this process, until the function that is returned is called. Raises SnapshotInUse, SnapshotError."""
    try:
        file = beside(path, "lock").open("a+b")
    except OSError as error:
        raise SnapshotError(f"the snapshot {path} can't be written: {error.strerror or error}. {_remedy(error)}") from error
    if fcntl is None:  # there two programs with one file are not told apart
        return file.close
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().decode(errors="replace").strip()
        file.close()
        raise SnapshotInUse(f"the snapshot {path} is in use by another program{f' (process {holder})' if holder else ''}") from None
    except OSError:  # a file system that knows no locks
        return file.close
    with contextlib.suppress(OSError):
        file.truncate(0)
        file.write(b"%d\n" % os.getpid())
        file.flush()
    return file.close
