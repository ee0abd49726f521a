"""Backups: all records of one moment in a file that any engine can be filled from, as lines of JSON with a checksum at the end."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import Any, BinaryIO, TypeVar, cast

from beamish.errors import short
from beamish.store._events import from_json, to_json
from beamish.store._schema import Schema, reader
from beamish.store._table import Row, Table
from beamish.store.errors import Damaged, NotAStore, StoreFailed, WrongSchema

T = TypeVar("T")

MAGIC = "beamish store backup"
FORMAT = 1


class Writer:
    """A file that is there as a whole, or not at all. Its methods block, and are for a thread: see `whole`."""

    def __init__(self, path: Path, position: int, tables: Iterable[Table[Any]]) -> None:
        self._path = path
        self._new = path.with_name(f"{path.name}.new-{os.getpid()}-{token_hex(4)}")  # two of them may write to one path
        self._position = position
        self._numbers = {table: number for number, table in enumerate(tables)}
        self._sum = sha256()
        self.count = 0

    def begin(self) -> None:
        try:
            self._file: BinaryIO = self._new.open("xb")
            schemas = [json.loads(Schema.of(table).to_json()) for table in self._numbers]
            self._line({"is": MAGIC, "format": FORMAT, "position": self._position, "tables": schemas})
        except OSError as error:
            raise self._failed(error) from error

    def add(self, table: Table[Any], records: Iterable[Any]) -> None:
        rows = [table.row(one) for one in records]
        self.count += len(rows)
        try:
            self._line([self._numbers[table], rows])
        except OSError as error:
            raise self._failed(error) from error

    def finish(self) -> None:
        try:
            self._line({"records": self.count, "sha256": self._sum.hexdigest()})
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._new.replace(self._path)
            _sync_folder(self._path.parent)
        except OSError as error:
            raise self._failed(error) from error

    def drop(self) -> None:
        """Nothing of it stays, unless it is finished."""
        if hasattr(self, "_file"):
            try:
                self._file.close()
            except OSError:  # what it could not write was to go anyway
                pass
        self._new.unlink(missing_ok=True)

    def _line(self, value: object) -> None:
        line = to_json(value).encode() + b"\n"
        self._sum.update(line)
        self._file.write(line)

    def _failed(self, error: OSError) -> StoreFailed:
        self.drop()
        return StoreFailed(f"the backup {self._path} could not be written: {error.strerror}. What was there before is still there")


class Reader:
    """A backup that is found to be whole by `begin`. Blocks, too."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.schemas: list[Schema] = []

    def begin(self) -> None:
        try:
            self.file: BinaryIO = self._path.open("rb")
        except OSError as error:
            raise NotAStore(f"there is no backup {self._path} that can be read: {error.strerror}") from error
        self.schemas = [Schema.from_json(json.dumps(one)) for one in self._check()["tables"]]

    def close(self) -> None:
        if hasattr(self, "file"):
            self.file.close()

    def _check(self) -> dict[str, Any]:
        first = self.file.readline(1 << 20)
        if not first.startswith(to_json({"is": MAGIC}).encode()[:-1]):
            raise NotAStore(f"{self._path} is no backup of a store")
        if not first.endswith(b"\n"):
            raise Damaged(f"{self._path} is cut off: it has no end. Nothing was restored")
        try:
            head: dict[str, Any] = json.loads(first)
            newer = head["format"] > FORMAT
            for one in head["tables"]:
                Schema.from_json(json.dumps(one))
        except (ValueError, TypeError, LookupError, AttributeError):
            raise Damaged(f"{self._path} is damaged: its first line can't be read. Nothing was restored") from None
        if newer:
            raise WrongSchema(f"{self._path} was written by a newer version of Beamish (format {head['format']}, this one knows {FORMAT})")
        self.file.seek(0)
        found, last = sha256(), b""
        for line in self.file:
            found.update(last)
            last = line
        try:
            said = json.loads(last)["sha256"]
        except (ValueError, TypeError, LookupError):
            raise Damaged(f"{self._path} is cut off: it has no end. Nothing was restored") from None
        if said != found.hexdigest():
            raise Damaged(f"{self._path} is damaged: its checksum is not what its end says. Nothing was restored")
        self.file.seek(0)
        return dict(head)

    def pieces(self, tables: dict[str, Table[Any]]) -> Iterator[tuple[Table[Any], list[Any]]]:
        """The records of these tables, of today's version. WrongSchema when a migration makes one key of two."""
        readers: dict[int, tuple[Table[Any], Callable[[Row], Any]]] = {}
        migrated: dict[int, set[Any]] = {}
        for number, schema in enumerate(self.schemas):
            if schema.name in tables:
                table = tables[schema.name]
                readers[number] = table, reader(schema, table)
                if schema.version != table.version and not table.bag:
                    migrated[number] = set()
        for line in self.file:
            found = from_json(line.decode())
            if isinstance(found, dict):
                continue  # the first line, and the last
            number, rows = cast("tuple[int, list[Row]]", found)
            if number in readers:
                table, read = readers[number]
                records = [read(row) for row in rows]
                if number in migrated:
                    _no_two(table, records, migrated[number])
                yield table, records


def _no_two(table: Table[Any], records: list[Any], seen: set[Any]) -> None:
    for record in records:
        key = getattr(record, table.key)
        if key in seen:
            raise WrongSchema(f"{table.name}: after its migration two records have the key {short(key)}, where a set has one")
        seen.add(key)


async def whole(fn: Callable[..., T], *args: Any) -> T:
    """`fn` in a thread, to its end even when the task is cancelled meanwhile: what it has opened can be closed then."""
    task = asyncio.ensure_future(asyncio.to_thread(fn, *args))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.done():
            await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # whoever cancels does not ask for it
        raise


async def in_thread(reader: Reader, tables: dict[str, Table[Any]], run: Callable[..., Any]) -> AsyncIterator[tuple[Table[Any], list[Any]]]:
    pieces = reader.pieces(tables)
    while (piece := await run(next, pieces, None)) is not None:
        yield piece


def _sync_folder(folder: Path) -> None:
    """So that the new name survives a power failure, too; there is no such thing on Windows."""
    if os.name == "posix":
        file = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)
