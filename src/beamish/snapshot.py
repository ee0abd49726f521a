"""State that survives: a server's state in a file, saved now and then and at the end, loaded when it starts.

    class Orders(GenServer[dict[int, Order]], snapshot=Snapshot("orders.snap", every=30.0)):
        def init(self) -> dict[int, Order]:
            return {}                               # runs at every start; then what was saved takes its place, if anything was

A crash of the server, of the interpreter (kill -9) or, with `durability="full"`, of the machine leaves what was saved last, or the
time before: never half of one. What happened since is lost: for what may not be, there is `beamish.store`.

When it saves: `every` so many seconds and after so many `changes`, if anything was handled since; and when the server ends
with NORMAL or SHUTDOWN, before anybody hears of that. Not when it crashes or is killed: its state is suspect, the last
snapshot counts. A save that fails is logged, told by telemetry and tried again; the server goes on.

A large state needs one more method. The state is taken between two messages; by default it is made text there and then, which
for 200,000 entries would hold up the loop for a second. `dump` gives a copy instead, which nobody changes any more, and a
thread makes it text (a shallow copy will do if the values are immutable):

        def dump(self, state: State) -> Any:
            return {"entries": dict(state.entries)}

        def restore(self, state: State, data: Any) -> State:    # `state` is what init returned
            return State(data["entries"])

A `dump` that yields takes the state in pieces: the server goes on between them, so that what it returns in the end is not the
state of one moment (see docs/snapshots.md).

`init` runs at every start. Without a `restore` what was saved takes the place of all that it made, also of what it made of new
arguments; where those are to count, `restore` puts the two together.

`load` and `save` are the same for programs without a server. A file that is damaged is set aside as `name.damaged-…`, and the one
before it used; one of a newer version, and one that is no snapshot at all, is left alone, and the start fails.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from beamish import codec, telemetry
from beamish._codec_types import check_migrations, migrated
from beamish._snapshot_file import (
    Aside,
    ForeignFile,
    Found,
    NewerSnapshot,
    SnapshotError,
    SnapshotInUse,
    find,
    gently,
    write,
)
from beamish.errors import short

if TYPE_CHECKING:
    from beamish._snapshot_table import TableKeeper
    from beamish.ets import Table

__all__ = [
    "ForeignFile",
    "Loaded",
    "NewerSnapshot",
    "Snapshot",
    "SnapshotError",
    "SnapshotInUse",
    "TableKeeper",
    "keep",
    "load",
    "save",
]

SAVED, FAILED = telemetry.event("beamish.snapshot.saved"), telemetry.event("beamish.snapshot.failed")
LOADED, DAMAGED = telemetry.event("beamish.snapshot.loaded"), telemetry.event("beamish.snapshot.damaged")
_log = logging.getLogger("beamish.snapshot")

Codec = Literal["json", "pickle"]
Durability = Literal["full", "normal"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Where and when to keep a state.

    * `path`: the file; its folder must be there. Beside it: `.1`, `.2` … (older ones), `.new`, `.lock`, `.damaged-…`.
    * `every`: save at the latest so many seconds after a change (default 60.0; None: not by time).
    * `changes`: save after so many handled calls, casts and messages (default None: not by number).
    * `keep`: how many older ones stay (default 2).
    * `version`, `migrations`: that of the data, from 1 on; `migrations[n](data)` makes data of version n that of n + 1.
    * `codec`: "json" (`beamish.codec`), or "pickle": anything Python can pickle, but whoever can write the file can run code here.
    * `durability`: "full" (the default) survives a crash of the machine, by fsync; "normal" that of the program only.
    """

    path: str | os.PathLike[str]
    every: float | None = 60.0
    changes: int | None = None
    keep: int = 2
    version: int = 1
    migrations: Mapping[int, Callable[[Any], Any]] = field(default_factory=dict[int, Callable[[Any], Any]])
    codec: Codec = "json"
    durability: Durability = "full"

    def __post_init__(self) -> None:
        where = "Snapshot"
        if not os.fspath(self.path):
            raise ValueError(f"{where}: path is the name of a file. Got: {self.path!r}")
        if self.every is not None and not self.every > 0:
            raise ValueError(f"{where}: every is seconds, more than 0, or None. Got: {self.every!r}")
        if self.changes is not None and not _is_count(self.changes, 1):
            raise ValueError(f"{where}: changes is a number, 1 or more, or None. Got: {self.changes!r}")
        if not _is_count(self.keep, 0):
            raise ValueError(f"{where}: keep is a number, 0 or more. Got: {self.keep!r}")
        if self.codec not in ("json", "pickle"):
            raise ValueError(f'{where}: codec is "json" or "pickle". Got: {self.codec!r}')
        if self.durability not in ("full", "normal"):
            raise ValueError(f'{where}: durability is "full" or "normal". Got: {self.durability!r}')
        check_migrations(where, self.version, dict(self.migrations))

    @classmethod
    def of(cls, given: Snapshot | str | os.PathLike[str], **defaults: Any) -> Snapshot:
        """A Snapshot as it is; a path with the usual values. What a `snapshot=` argument takes."""
        return given if isinstance(given, Snapshot) else cls(given, **defaults)

    def file(self) -> Path:
        """The file itself, where `path` is a link to it: that stays a link."""
        return Path(os.path.realpath(self.path))


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a file held: data of the version that was asked for, when it was saved (by the wall clock), and from where it came."""

    data: Any
    saved_at: float
    path: Path


def save(snapshot: Snapshot | str | os.PathLike[str], data: Any) -> int:
    """Write `data` as the newest snapshot. Returns the size of the file.

    Blocks; for threads and plain programs. Raises SnapshotError, and CodecError for data that can't be written: the old one
    stays then. `data` must not change meanwhile. Nobody looks whether a server keeps its state there: that is for whoever calls.
    """
    return save_chunks(Snapshot.of(snapshot), chunks_of(Snapshot.of(snapshot), data))


def save_chunks(snapshot: Snapshot, chunks: Iterator[bytes]) -> int:
    path = snapshot.file()
    return write(path, snapshot.version, snapshot.codec, chunks, keep=snapshot.keep, durable=snapshot.durability == "full")


def chunks_of(snapshot: Snapshot, data: Any) -> Iterator[bytes]:
    return codec.encode_chunks(data) if snapshot.codec == "json" else _pickled(data)


async def keep(table: Table[Any, Any], snapshot: Snapshot | str | os.PathLike[str]) -> TableKeeper:
    """Keep an ets.Table in a file: fill it with what was saved, and save it from now on.

        prices = ets.Table[str, int]("prices")
        await snapshot.keep(prices, "prices.snap")          # in an async init, say; then put in what is not there yet

    What is in the table already, or is put in while it is filled, is newer than what was saved: it stays, and is saved with the
    rest. In a bag and a duplicate_bag both are there then.

    It is saved `every` so many seconds, if it has changed, and when it ends: by `delete_table`, with the end of its owner (a clean
    one; after a crash the last snapshot counts), or with the loop. It may change its owner. A save that fails is logged, told by
    telemetry, and tried again. `changes` can't be counted here.

    Returns what can `save()` it now and `stop()` to keep it. Raises SnapshotError as a start of a server would, NoAccess when this
    process may not write to the table, and SnapshotError for a file that holds no table of this kind.
    """
    from beamish._snapshot_table import keep

    return await keep(table, Snapshot.of(snapshot))


def __getattr__(name: str) -> Any:
    if name == "TableKeeper":  # its module needs this one, and the tables
        from beamish._snapshot_table import TableKeeper

        return TableKeeper
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load(snapshot: Snapshot | str | os.PathLike[str]) -> Loaded | None:
    """The newest good snapshot, or None when there is none. A damaged one is set aside, and said so in the log.

    Blocks; for threads and plain programs. Raises NewerSnapshot for one of a newer version, ForeignFile for
    one that is no snapshot, SnapshotError for one that can't be read.
    """
    found, asides = load_quietly(Snapshot.of(snapshot))
    tell(asides, None, found, "no older one is left")
    return found


def load_quietly(snapshot: Snapshot) -> tuple[Loaded | None, list[Aside]]:
    """The same, and what is to be told of damaged files."""
    asides: list[Aside] = []
    try:
        found = find(snapshot.file(), asides)
        if found is None:
            return None, asides
        with found.file:
            return Loaded(_data_of(snapshot, found), found.head.saved_at, found.path), asides
    except SnapshotError:
        tell(asides, None)  # else nobody would hear where they are
        raise


def _data_of(snapshot: Snapshot, found: Found) -> Any:
    head, path = found.head, found.path
    if head.codec != snapshot.codec:
        raise SnapshotError(
            f"the snapshot {path} was written with codec={head.codec!r}, and codec={snapshot.codec!r} is to read it: "
            f"give the Snapshot codec={head.codec!r}, or take the file away"
        )
    if head.version > snapshot.version:
        raise NewerSnapshot(
            f"the snapshot {path} holds data of version {head.version}, and this program knows it up to version {snapshot.version}: "
            "run the newer program. The file was left as it is"
        )
    try:
        data = codec.decode_chunks(gently(found.file)) if head.codec == "json" else pickle.load(found.file)
        return migrated("its data", data, head.version, snapshot.version, dict(snapshot.migrations))
    except OSError as error:
        raise SnapshotError(f"the snapshot {path} can't be read: {error.strerror or error}") from error
    except codec.NewerVersion as error:
        raise NewerSnapshot(f"the snapshot {path} was left as it is: {error}") from error
    except codec.CodecError as error:
        raise SnapshotError(f"the snapshot {path} is whole, and can't be made data: {error}. The file was left as it is") from error
    except Exception as error:  # of pickle, and of the classes it makes
        raise SnapshotError(f"the snapshot {path} is whole, and can't be made data: {short(error)}. The file was left as it is") from error


def tell(asides: list[Aside], server: object, found: Loaded | None = None, nothing: str = "") -> None:
    """What was set aside: to the log, and to telemetry. And what that means: which older one was found, or what if there is none."""
    for aside in asides:
        where = f"it was set aside as {aside.moved.name}" if aside.moved is not None else "it could not be set aside"
        instead = f"{found.path.name} is used, of {when(found)}: what came later is lost" if found is not None else nothing
        then = f"; {instead}" if instead and aside is asides[-1] else ""
        _log.error("the snapshot %s is damaged: %s; %s%s", aside.path, aside.why, where, then)
        if DAMAGED.handlers:
            DAMAGED.execute({}, {"path": str(aside.path), "server": server, "why": aside.why, "moved": aside.moved and str(aside.moved)})


def when(found: Loaded) -> str:
    return datetime.fromtimestamp(found.saved_at).astimezone().isoformat(" ", "seconds")


class _Pieces:
    """The C pickler calls `write` for each 64 KB: between two calls other threads may have their turn."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def write(self, piece: Any) -> int:
        self.pieces.append(bytes(piece))
        return len(self.pieces[-1])


def _pickled(data: Any) -> Iterator[bytes]:
    held = _Pieces()
    pickle.Pickler(held, protocol=5).dump(data)
    yield from held.pieces
