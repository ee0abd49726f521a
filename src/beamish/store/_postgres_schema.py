"""The store's tables in a schema of the database: made, migrated and given their indexes when a store is opened.

Beside a table for each `@record` ("Account"; "Account#2" from its second version on) there are

* "#head": one row: the positions of the last event and of the last one that is not kept any more. It is also the lock of whoever gives
  positions to events, or changes tables.
* "#pending": the outbox. A transaction writes its events there, as its last statement but the commit.
* "#events": those that have their position.
* "#tables": all schemas that records were ever written with.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from beamish.store._postgres_errors import CONFLICTS, cannot_open
from beamish.store._postgres_sql import Numbering, Sql, number, numbers, quoted
from beamish.store._postgres_wire import Gone, Refused, Statement, Wire
from beamish.store._schema import Schema, check, latest, reader
from beamish.store._table import Field, Row, Table
from beamish.store.errors import CannotOpen, WrongSchema

FORMAT = 1
PIECE = 1000
#: unique_violation
TWICE = "23505"
#: Another process has made the schema or a table between our look and our making it.
MADE_MEANWHILE = frozenset({TWICE, "42P06", "42P07", "42710", "40001", "40P01"})
ATTEMPTS = 20

BEGIN = Statement("BEGIN ISOLATION LEVEL READ COMMITTED")
COMMIT = Statement("COMMIT")


class Names:
    """The store's own tables."""

    def __init__(self, schema: str) -> None:
        self.schema = schema
        prefix = quoted(schema)
        self.head = f'{prefix}."#head"'
        self.pending = f'{prefix}."#pending"'
        self.events = f'{prefix}."#events"'
        self.tables = f'{prefix}."#tables"'
        self.ids = f'{prefix}."#ids"'
        self.lock = Statement(f"SELECT format, last, oldest FROM {self.head} FOR UPDATE")

    def create(self) -> list[str]:
        default = self.ids.replace("'", "''")
        return [
            f"CREATE SEQUENCE {self.ids}",
            f"CREATE TABLE {self.head} (format bigint PRIMARY KEY, last bigint NOT NULL, oldest bigint NOT NULL) WITH (fillfactor = 20)",
            f"INSERT INTO {self.head} VALUES ({FORMAT}, 0, 0)",
            f"CREATE TABLE {self.pending} (token bytea, part bigint, id bigint NOT NULL DEFAULT nextval('{default}'), "
            "count bigint NOT NULL, body text NOT NULL, made timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (token, part))",
            f"CREATE TABLE {self.events} (last bigint PRIMARY KEY, count bigint NOT NULL, token bytea NOT NULL, body text NOT NULL)",
            f"CREATE TABLE {self.tables} (name text, version bigint, shape text NOT NULL, PRIMARY KEY (name, version))",
        ]


class Opener:
    """Makes a schema ready for these tables, in one transaction."""

    def __init__(self, wire: Wire, names: Names, tables: Sequence[Table[Any]]) -> None:
        self.wire = wire
        self.names = names
        self.tables = tables
        self.schemas: dict[tuple[str, int], Schema] = {}
        self.sql: dict[Table[Any], Sql[Table[Any]]] = {}
        self._locked = False

    async def run(self) -> None:
        """CannotOpen, and then nothing has been changed."""
        self.sql = {table: sql_of(table, self.names.schema) for table in self.tables}
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self._locked = False
                await self.wire.send([BEGIN()])
                await self._make_ready()
                await self.wire.send([COMMIT()])
                return
            except (Refused, Gone) as error:
                meanwhile = isinstance(error, Refused) and error.state in (CONFLICTS if self._locked else MADE_MEANWHILE)
                if attempt == ATTEMPTS or not meanwhile:
                    raise cannot_open(error) from None
            await self._ask("ROLLBACK")

    async def _make_ready(self) -> None:
        [encoding] = await self._ask("SHOW server_encoding")
        if encoding.get_value(0, 0) != b"UTF8":
            raise CannotOpen(f"the database's encoding is {(encoding.get_value(0, 0) or b'').decode()}; a store needs one in UTF8")
        exists = Statement("SELECT count(*) FROM information_schema.tables WHERE table_schema = $1 AND table_name = $2", 2)
        [found] = await self.wire.send([exists(self.names.schema.encode(), b"#head")])
        if not next(numbers(found)):
            [found] = await self.wire.send(
                [Statement("SELECT count(*) FROM information_schema.schemata WHERE schema_name = $1", 1)(self.names.schema.encode())]
            )
            schema = [] if next(numbers(found)) else [f"CREATE SCHEMA {quoted(self.names.schema)}"]
            await self._ask(*schema, *self.names.create())
        [head] = await self.wire.send([self.names.lock()])
        self._locked = True
        form = next(numbers(head))
        if form != FORMAT:
            raise WrongSchema(f"the store's schema has format {form}; this version of beamish knows format {FORMAT}")
        self.schemas = await read_schemas(self.wire, self.names)
        known = latest(self.schemas.values())
        for table in self.tables:
            await self._make_table(table, known.get(table.name))
            await self._make_indexes(self.sql[table])

    async def _make_table(self, table: Table[Any], known: Schema | None) -> None:
        sql, mine = self.sql[table], Schema.of(table)
        if known is None:
            await self._make_new(sql)
        elif check(known, table):
            await self._migrate(sql, known)
        if known is None or known.to_json() != mine.to_json():
            keep = Statement(
                f"INSERT INTO {self.names.tables} (name, version, shape) VALUES ($1, $2, $3) "
                "ON CONFLICT (name, version) DO UPDATE SET shape = EXCLUDED.shape",
                3,
            )
            await self.wire.send([keep(table.name.encode(), number(table.version), mine.to_json().encode())])
            self.schemas[table.name, table.version] = mine

    async def _make_new(self, sql: Sql[Table[Any]]) -> None:
        try:
            await self._ask(sql.create())
        except Refused as error:
            if error.state == "42P07":
                raise CannotOpen(
                    f"there is a table {sql.name} in the database that is not the store's; give one of them another name"
                ) from None
            raise

    async def _migrate(self, sql: Sql[Table[Any]], known: Schema) -> None:
        """Into a table of another name: a transaction of an older program then fails, instead of finding no rows in the new one."""
        old = Sql(Older(known), self.names.schema, name_of(known.name, known.version))
        read = reader(known, sql.table)
        await self._ask(f"LOCK TABLE {old.name} IN ACCESS EXCLUSIVE MODE", sql.create())
        numbering = Numbering()
        async for rows in pieces(self.wire, old.everything, old.rows):
            try:
                await self.wire.send(sql.adds(numbering.rows(sql.table, map(read, rows))))
            except Refused as error:
                if error.state != TWICE:
                    raise
                raise WrongSchema(f"{sql.table.name}: after its migration, {two_of_a_key(error)}") from None
        await self._ask(f"DROP TABLE {old.name}")

    async def _make_indexes(self, sql: Sql[Table[Any]]) -> None:
        name = name_of(sql.table.name, sql.table.version)
        wanted = {index_name(name, field): field for field in sql.table.indexes}
        query = Statement("SELECT indexname::text FROM pg_indexes WHERE schemaname = $1 AND tablename = $2", 2)
        [found] = await self.wire.send([query(self.names.schema.encode(), name.encode())])
        there = {(found.get_value(n, 0) or b"").decode() for n in range(found.ntuples)}
        gone = [one for one in there if one.startswith("#index-") and one not in wanted]
        await self._ask(
            *(f"DROP INDEX {quoted(self.names.schema)}.{quoted(one)}" for one in gone),
            *(f"CREATE INDEX {quoted(one)} ON {sql.name} {sql.index(field)}" for one, field in wanted.items() if one not in there),
        )

    async def _ask(self, *texts: str) -> list[Any]:
        return await self.wire.send([Statement(text)() for text in texts])


def two_of_a_key(error: Refused) -> str:
    """PostgreSQL says: Key (id)=(5) already exists."""
    found = re.search(r"=\((.*)\)", str(error))
    return f"two records have the key {found[1]}" if found else "two records have the same key"


def name_of(table: str, version: int) -> str:
    if "#" in table:
        raise CannotOpen(f"the name of a table has no # in PostgreSQL. Got: {table!r}")
    return table if version == 1 else f"{table}#{version}"


def sql_of(table: Table[Any], schema: str) -> Sql[Table[Any]]:
    return Sql(table, schema, name_of(table.name, table.version))


def index_name(table: str, field: str) -> str:
    """Names that are put together may be too long for PostgreSQL."""
    return "#index-" + hashlib.blake2b(f"{table}\0{field}".encode(), digest_size=12).hexdigest()


class Older:
    """A table as it was."""

    def __init__(self, schema: Schema) -> None:
        self.name = schema.name
        self.key = schema.key
        self.fields = schema.fields
        self.bag = schema.kind == "bag"

    def field(self, name: str) -> Field:
        return next(one for one in self.fields if one.name == name)


async def read_schemas(wire: Wire, names: Names) -> dict[tuple[str, int], Schema]:
    [found] = await wire.send([Statement(f"SELECT shape FROM {names.tables}")()])
    schemas = [Schema.from_json((found.get_value(n, 0) or b"").decode()) for n in range(found.ntuples)]
    return {(one.name, one.version): one for one in schemas}


async def pieces(wire: Wire, text: str, read: Callable[[Any], list[Row]]) -> AsyncIterator[list[Any]]:
    """What a query finds, a thousand rows at a time; in a transaction."""
    fetch = Statement(f"FETCH {PIECE} FROM piece")
    await wire.send([Statement(f"DECLARE piece NO SCROLL CURSOR FOR {text}")()])
    while True:
        [answer] = await wire.send([fetch()])
        if answer.ntuples:
            yield read(answer)
        if answer.ntuples < PIECE:
            break
    await wire.send([Statement("CLOSE piece")()])
