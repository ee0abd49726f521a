"""A table as a file, and back: the data that goes through the codec, and what to say of a file that holds none."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from types import NoneType
from typing import Any, get_args

from beamish._ets_values import content, is_a
from beamish._ets_words import Access, Kind, TableError, Values
from beamish.errors import short
from beamish.snapshot import Codec, Snapshot, load_quietly, save, tell

_WHAT = "table"


@dataclass(frozen=True, slots=True)
class TableFile:
    """What a file holds: see `read_file`."""

    path: str
    name: str | None
    kind: Kind
    access: Access
    values: Values
    saved_at: float
    """When it was written, by the wall clock."""
    objects: list[tuple[Any, Any]]


def write(path: str | os.PathLike[str], codec: Codec, about: Any, objects: Iterable[tuple[Any, Any]]) -> int:
    return save(Snapshot(path, keep=0, codec=codec), data_of(about, objects))


def data_of(about: Any, objects: Iterable[tuple[Any, Any]]) -> dict[str, Any]:
    """What a file holds of a table, of which this is the `info`, with these keys and stored values."""
    return {
        "what": _WHAT, "name": about.name, "kind": about.kind, "access": about.access, "values": about.values,
        "objects": [(key, content(stored)) for key, stored in objects],
    }  # fmt: skip


def read_file(path: str | os.PathLike[str], *, codec: Codec = "json") -> TableFile:
    """What `table.to_file` has written, as a value that `from_file` takes. Blocks, so it is for a thread where the table is large.

    Raises FileNotFoundError when there is no such file, TableError for one that holds no table (a damaged one is set aside as
    `name.damaged-…`, and the log has the reason), SnapshotError for one that can't be read or was written by a newer version.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(f"there is no file {os.fspath(path)}, so no table in it")
    found, asides = load_quietly(Snapshot(path, codec=codec))
    tell(asides, None)
    data: Any = found.data if found is not None else None
    why = "; ".join(aside.why for aside in asides) if found is None else f"its data is {short(data)}"
    if found is None or not is_table(data):
        raise TableError(f"the file {os.fspath(path)} holds no table that to_file has written: {why}")
    objects = [(key, value) for key, value in data["objects"]]
    return TableFile(os.fspath(path), data["name"], data["kind"], data["access"], data["values"], found.saved_at, objects)


def is_table(data: Any) -> bool:
    """Whether that is what `data_of` gives."""
    return (
        is_a(data, dict)
        and data.get("what") == _WHAT
        and data.get("kind") in get_args(Kind)
        and data.get("access") in get_args(Access)
        and data.get("values") in get_args(Values)
        and is_a(data.get("name"), (str, NoneType))
        and is_a(data.get("objects"), list)
        and all(is_a(one, tuple) and len(one) == 2 for one in data["objects"])
    )
