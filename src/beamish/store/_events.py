"""Events: the newest ones of a local engine, in memory; and as text, for those that keep them longer."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from beamish.store._schema import Schema, reader
from beamish.store._table import Row, Table
from beamish.store.engine import Change, Event, Op
from beamish.store.errors import PositionGone


class Tail:
    """At least the last `keep` events. `position` is that of the last one of all; this tail begins after `oldest`."""

    __slots__ = ("_changes", "_most", "keep", "position", "wake")

    def __init__(self, keep: int, wake: Callable[[], None], position: int = 0) -> None:
        self.keep = keep
        self.wake = wake
        self.position = position
        self._changes: list[Change] = []
        self._most = keep + max(keep // 4, 1000)  # so that a list is cut seldom

    @property
    def oldest(self) -> int:
        return self.position - len(self._changes)

    def add(self, changes: Sequence[Change]) -> None:
        if not changes:
            return
        self._changes.extend(changes)
        self.position += len(changes)
        if len(self._changes) > self._most:
            del self._changes[: -self.keep]
        self.wake()

    def after(self, position: int, limit: int) -> list[Event[Any]]:
        """Those that follow; PositionGone if the tail begins later."""
        self.check(position)
        oldest = self.oldest
        if position < oldest:
            raise PositionGone(position, oldest)
        begin = position - oldest
        return [event_of(number, change) for number, change in enumerate(self._changes[begin : begin + limit], position + 1)]

    def check(self, position: int) -> None:
        if position < 0 or position > self.position:
            raise ValueError(f"positions of this store go from 0 to {self.position} now. Got: {position!r}")


def event_of(position: int, change: Change) -> Event[Any]:
    return Event(position, change.op, change.table.cls, change.key, change.record)


# --- as text ----------------------------------------------------------------------------------------------------------

_OPS: tuple[Op, ...] = ("write", "delete", "delete_record", "restore")
_CODES = {op: code for code, op in enumerate(_OPS)}


def encode_events(changes: Sequence[Change]) -> str:
    """[[op, table, version, row or key], …]"""
    found = [(_CODES[op], table.name, table.version, key if row is None else row) for op, table, key, _, row in changes]
    return to_json(found)


class EventReader:
    """Makes events of text again, with records of today's fields. `schemas` are all that the data was ever written with."""

    def __init__(self, tables: Sequence[Table[Any]], schemas: Mapping[tuple[str, int], Schema]) -> None:
        self._tables = {table.name: table for table in tables}
        self._schemas = schemas
        self._readers: dict[tuple[str, int], Callable[[Row], Any]] = {}

    def read(self, body: str, last: int) -> list[Event[Any]]:
        """The events of a text whose last one has position `last`."""
        found = from_json(body)
        begin = last - len(found) + 1
        return [self._event(position, *entry) for position, entry in enumerate(found, begin)]

    def _event(self, position: int, op: int, name: str, version: int, data: Any) -> Event[Any]:
        table = self._tables.get(name)
        if table is None:
            return Event(position, _OPS[op], cast("Any", name), None, None)
        if _OPS[op] in ("delete", "restore"):
            return Event(position, _OPS[op], table.cls, data, None)
        read = self._readers.get((name, version))
        if read is None:
            read = self._readers[name, version] = reader(self._schemas[name, version], table)
        record = read(data)
        return Event(position, _OPS[op], table.cls, table.key_of(record), record)


def _bytes(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"b": b64encode(value).decode()}
    raise TypeError(f"no column is a {type(value).__name__}")


to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_bytes, check_circular=False).encode


def _in_json(found: dict[str, Any]) -> Any:
    """The bytes of a column; the only other objects are those of a backup's first and last line."""
    return b64decode(found["b"]) if "b" in found else found


from_json = json.JSONDecoder(object_hook=_in_json).decode
