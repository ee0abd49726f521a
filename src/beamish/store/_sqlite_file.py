"""The file of a SQLite store: opening it, its schema, writing a batch. What is here blocks, and runs in a thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from beamish.store._columns import LONGEST
from beamish.store._events import encode_events
from beamish.store._schema import Schema, check, latest, reader
from beamish.store._sqlite_lock import Lock
from beamish.store._sqlite_sql import Sql, quoted
from beamish.store._table import Table
from beamish.store.engine import Change, Write, Writes
from beamish.store.errors import CannotOpen, Damaged, NotAStore, StoreFailed, WrongSchema

APPLICATION = 0x42454D53  # "BEMS", in the file's header
FORMAT = 1
SMALL = 64 << 20
"""Up to this size the whole file is checked when it is opened; that takes some 0.1 s."""
EVENTS = 256
"""Events in one row, at most."""


class File:
    """One opening of a file. `Batch` by batch it is written; `connect()` makes more connections, for reading."""

    def __init__(self, path: Path, durability: str, keep_events: int) -> None:
        self.path = path
        self.durability = durability
        self.keep = keep_events
        self.lock: Lock | None = None
        self.connection: sqlite3.Connection | None = None
        self.sql: dict[Table[Any], Sql] = {}
        self.schemas: dict[tuple[str, int], Schema] = {}
        self.position = 0
        self.oldest = 0

    # -- opening and closing

    def open(self, tables: Sequence[Table[Any]]) -> None:
        if not self.path.parent.is_dir():
            raise CannotOpen(f"{self.path}: there is no folder {self.path.parent}; make it first")
        self.lock = Lock(self.path)
        try:
            _look(self.path)
            self.connection = db = self.connect()
            new = self._is_new(db)
            db.execute("PRAGMA journal_mode = WAL")
            db.execute(f"PRAGMA synchronous = {self.durability.upper()}")
            if self.durability == "full":
                db.execute("PRAGMA fullfsync = ON")  # on macOS an fsync alone does not reach the disk
            db.execute("BEGIN IMMEDIATE")
            self._begin(db, new)
            self._tables(db, tables)
            db.execute("COMMIT")
        except sqlite3.Error as error:
            self.close()
            raise self.cannot_open(error) from error
        except BaseException:
            self.close()
            raise

    def connect(self, reads: bool = False) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, cached_statements=500, timeout=5.0)
        db.execute("PRAGMA cache_size = -16384")  # 16 MB
        if reads:
            db.execute("PRAGMA query_only = ON")
        return db

    def close(self) -> None:
        """Once more is no harm."""
        if self.connection is not None:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            self.connection.close()  # the last one to close moves the WAL into the file
            self.connection = None
        if self.lock is not None:
            self.lock.free()
            self.lock = None

    def cannot_open(self, error: sqlite3.Error) -> CannotOpen:
        text = str(error)
        if "not a database" in text:
            return NotAStore(f"{self.path} is no SQLite file ({text}). It was left as it is")
        if "malformed" in text:
            return Damaged(f"{self.path} is damaged ({text}). Put back a backup (restore), or a copy of the file with its -wal")
        if "readonly" in text or "unable to open" in text:
            return CannotOpen(f"{self.path} can't be written ({text}): look at the rights of the file and its folder")
        if "locked" in text:
            return CannotOpen(f"{self.path} is being written by another program ({text}). A store has its file for itself")
        return CannotOpen(f"{self.path} can't be opened: {text}")

    def _is_new(self, db: sqlite3.Connection) -> bool:
        """Whether the file is empty; if not it must be ours."""
        [application] = db.execute("PRAGMA application_id").fetchone()
        [version] = db.execute("PRAGMA user_version").fetchone()
        if application == APPLICATION:
            if version > FORMAT:
                raise WrongSchema(f"{self.path} was written by a newer version of Beamish (format {version}, this one knows {FORMAT})")
            return False
        if application != 0 or db.execute("SELECT 1 FROM sqlite_master").fetchone():
            raise NotAStore(f"{self.path} is a SQLite file of something else; a store needs a file of its own. It was left as it is")
        return True

    def _begin(self, db: sqlite3.Connection, new: bool) -> None:
        if new:
            db.execute(f"PRAGMA application_id = {APPLICATION}")
            db.execute(f"PRAGMA user_version = {FORMAT}")
            db.execute("CREATE TABLE beamish_tables (name, version, schema, PRIMARY KEY (name, version)) WITHOUT ROWID")
            db.execute("CREATE TABLE beamish_events (last INTEGER PRIMARY KEY, count, body)")
        if self.path.stat().st_size <= SMALL:
            [said] = db.execute("PRAGMA quick_check(1)").fetchone()
            if said != "ok":
                raise sqlite3.DatabaseError(f"database disk image is malformed: {said}")
        last = db.execute("SELECT max(last) FROM beamish_events").fetchone()[0]
        first = db.execute("SELECT last - count FROM beamish_events ORDER BY last LIMIT 1").fetchone()
        self.position, self.oldest = last or 0, first[0] if first else 0

    def _tables(self, db: sqlite3.Connection, tables: Sequence[Table[Any]]) -> None:
        found = [Schema.from_json(text) for [text] in db.execute("SELECT schema FROM beamish_tables")]
        self.schemas = {(one.name, one.version): one for one in found}
        known = latest(found)
        for table in tables:
            self.sql[table] = sql = Sql(table)
            schema = known.get(table.name)
            if schema is None:
                db.execute(sql.create())
            elif check(schema, table):
                self._migrate(db, schema, table)
            self._index(db, sql)
            own = self.schemas[table.name, table.version] = Schema.of(table)
            db.execute("INSERT OR REPLACE INTO beamish_tables VALUES (?, ?, ?)", (table.name, table.version, own.to_json()))

    def _migrate(self, db: sqlite3.Connection, schema: Schema, table: Table[Any]) -> None:
        """Into a new table, in the place of the old one."""
        new = Sql(table, "beamish_new")
        read = reader(schema, table)
        columns = ", ".join(quoted(one.name) for one in schema.fields)
        order = ' ORDER BY "#"' if schema.kind == "bag" else ""
        db.execute(new.create())
        keys: set[Any] = set()
        rows = db.execute(f"SELECT {columns} FROM {quoted(table.name)}{order}")
        while part := rows.fetchmany(500):
            records = [read(row) for row in part]
            for record in records:
                key = table.key_of(record)
                if not table.bag and key in keys:
                    raise WrongSchema(f"{table.name}: after the migration from version {schema.version} two records have the key {key!r}")
                keys.add(key)
            for text, values in new.upserts([table.row(record) for record in records]):
                db.execute(text, values)
        db.execute(f"DROP TABLE {quoted(table.name)}")
        db.execute(f"ALTER TABLE {new.name} RENAME TO {quoted(table.name)}")

    def _index(self, db: sqlite3.Connection, sql: Sql) -> None:
        wanted = sql.indexes()
        found = db.execute("SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = ? AND sql NOT NULL", (sql.table.name,))
        have = {name for [name] in found}
        for name in have - wanted.keys():
            db.execute(f"DROP INDEX {quoted(name)}")
        for name in wanted.keys() - have:
            db.execute(wanted[name])

    # -- writing

    def write(self, batch: Iterable[tuple[Writes, Sequence[Change]]]) -> Writes:
        """Many transactions, one after the other, in one of SQLite's. Returns what is to be seen of all of them."""
        merged: dict[Table[Any], dict[Any, Write]] = {}
        changes: list[Change] = []
        for writes, events in batch:
            changes += events
            for table, keys in writes.items():
                merged.setdefault(table, {}).update(keys)
        db = self.connection
        assert db is not None
        position, oldest = self.position, self.oldest
        try:
            db.execute("BEGIN IMMEDIATE")
            for table, keys in merged.items():
                self._put(db, self.sql[table], keys)
            self._note(db, changes)
            db.execute("COMMIT")
        except BaseException as error:
            self.position, self.oldest = position, oldest
            if db.in_transaction:
                db.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise StoreFailed(f"{self.path} did not take it: {_why(error)}") from error
            raise
        return merged

    def replace(self, tables: Sequence[Table[Any]], records: Iterator[tuple[Table[Any], list[Any]]]) -> None:
        """All new, in one transaction."""
        db = self.connection
        assert db is not None
        position, oldest = self.position, self.oldest
        try:
            db.execute("BEGIN IMMEDIATE")
            for table in tables:
                db.execute(f"DELETE FROM {self.sql[table].name}")
            for table, part in records:
                for text, values in self.sql[table].upserts([table.row(one) for one in part]):
                    db.execute(text, values)
            self._note(db, [Change("restore", table, None, None, None) for table in tables])
            db.execute("COMMIT")
        except BaseException as error:
            self.position, self.oldest = position, oldest
            if db.in_transaction:
                db.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise StoreFailed(f"{self.path} did not take it: {_why(error)}") from error
            raise

    def _put(self, db: sqlite3.Connection, sql: Sql, keys: dict[Any, Write]) -> None:
        bag = sql.table.bag
        gone = [key for key, write in keys.items() if bag or not write.rows]
        if gone:
            for text, values in sql.deletes(gone):
                db.execute(text, values)
        rows = [row for write in keys.values() for row in write.rows]
        for text, values in sql.upserts(rows):
            db.execute(text, values)

    def _insert_events(self, db: sqlite3.Connection, part: Sequence[Change]) -> None:
        body = encode_events(part)
        if len(body) > LONGEST and len(part) > 1:  # SQLite has a limit; each for itself is below it
            half = len(part) // 2
            self._insert_events(db, part[:half])
            self._insert_events(db, part[half:])
            return
        self.position += len(part)
        db.execute("INSERT INTO beamish_events VALUES (?, ?, ?)", (self.position, len(part), body))

    def _note(self, db: sqlite3.Connection, changes: Sequence[Change]) -> None:
        for begin in range(0, len(changes), EVENTS):
            self._insert_events(db, changes[begin : begin + EVENTS])
        if self.position - self.oldest > self.keep + max(self.keep // 4, 1000):
            db.execute("DELETE FROM beamish_events WHERE last <= ?", (self.position - self.keep,))
            [self.oldest] = db.execute("SELECT last - count FROM beamish_events ORDER BY last LIMIT 1").fetchone()


def _look(path: Path) -> None:
    """What can be said of a file without changing anything, and without SQLite, which is quick to call it malformed."""
    try:
        with path.open("rb") as file:
            head = file.read(100)
            size = file.seek(0, 2)
    except FileNotFoundError:
        return
    except OSError as error:
        raise CannotOpen(f"{path} can't be read: {error.strerror}") from error
    if not head:
        return
    if len(head) < 100 or not head.startswith(b"SQLite format 3\0"):
        raise NotAStore(f"{path} is no SQLite file. It was left as it is; a store makes its file itself")
    wal = path.with_name(path.name + "-wal")
    if wal.exists() and wal.stat().st_size:
        return  # a checkpoint that was broken off: the header may be ahead of the file, and SQLite knows how to go on
    page = int.from_bytes(head[16:18], "big")
    page = 65536 if page == 1 else page
    if size < page * int.from_bytes(head[28:32], "big"):
        raise Damaged(f"{path} is cut off: {size} bytes, where its header says {page * int.from_bytes(head[28:32], 'big')}")


def _why(error: sqlite3.Error) -> str:
    text = str(error)
    if "full" in text:
        return f"{text}. Make room, and do it again: nothing of the transaction has happened"
    if "malformed" in text:
        return f"{text}: the file is damaged. Stop the store, and put back a backup"
    return f"{text}. Nothing of the transaction has happened"
