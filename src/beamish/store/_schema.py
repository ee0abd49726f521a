"""What an engine or a backup writes down of a table, and the way from data of an older version to records of today."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from beamish.errors import short
from beamish.store._columns import PLAIN, Field, Row, value_of
from beamish.store._table import Table
from beamish.store.errors import BadRecord, WrongSchema

_TYPES: dict[str, type] = {one.__name__: one for one in PLAIN}


@dataclass(frozen=True, slots=True)
class Schema:
    """A table as it was when data was written."""

    name: str
    version: int
    kind: str
    key: str
    fields: tuple[Field, ...]

    @classmethod
    def of(cls, table: Table[Any]) -> Schema:
        return cls(table.name, table.version, table.kind, table.key, table.fields)

    def to_json(self) -> str:
        fields = [[one.name, one.column] for one in self.fields]
        return json.dumps({"name": self.name, "version": self.version, "kind": self.kind, "key": self.key, "fields": fields})

    @classmethod
    def from_json(cls, text: str) -> Schema:
        found = json.loads(text)
        fields = tuple(Field(name, _TYPES.get(column.rstrip("?")), column.endswith("?")) for name, column in found["fields"])
        return cls(found["name"], found["version"], found["kind"], found["key"], fields)

    def same_columns(self, table: Table[Any]) -> bool:
        """Whether rows can stay as they are."""
        own = {one.name: one.column for one in self.fields}
        theirs = {one.name: one.column for one in table.fields}
        return list(own) == list(theirs) and all(theirs[name] in (column, f"{column}?") for name, column in own.items())

    def fields_of(self, row: Row) -> dict[str, Any]:
        """A row of this version as the dict that a migration is given."""
        return {field.name: value_of(field, column) for field, column in zip(self.fields, row, strict=True)}


def check(schema: Schema, table: Table[Any]) -> bool:
    """Whether data of `schema` is to be migrated for `table`. WrongSchema if it can't be used."""
    name, have, want = table.name, schema.version, table.version
    if have > want:
        raise WrongSchema(
            f"{name}: the data is of version {have}, this program declares version {want}. Run the newer program; the data is as it was"
        )
    missing = [version for version in range(have, want) if version not in table.migrations]
    if missing:
        raise WrongSchema(f"{name}: the data is of version {have}; @record needs migrations={{{missing[0]}: fn}} to come to version {want}")
    if have < want:
        return True
    if schema.key != table.key or (schema.kind == "bag") != table.bag or not schema.same_columns(table):
        shown = ", ".join(f"{one.name}: {one.column}" for one in schema.fields)
        raise WrongSchema(
            f"{name}: the data was written with other fields ({schema.kind}, key {schema.key}: {shown}), but under the same "
            f"version {have}. Raise the version in @record, and give migrations={{{have}: fn}}, from a dict of the old fields to the new"
        )
    return False


def reader(schema: Schema, table: Table[Any]) -> Callable[[Row], Any]:
    """From rows of `schema` to records of `table`. WrongSchema, with the culprit, for a migration that fails."""
    if not check(schema, table):
        return table.make
    steps = [table.migrations[version] for version in range(schema.version, table.version)]

    def read(row: Row) -> Any:
        fields = schema.fields_of(row)
        try:
            made = fields
            for step in steps:
                made = step(dict(made))
            record = table.cls(**made)
            table.row(record)
            return record
        except (BadRecord, TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
            raise WrongSchema(f"{table.name}: {short(fields)} of version {schema.version} could not be migrated: {error!r}") from error

    return read


def latest(schemas: Iterable[Schema]) -> dict[str, Schema]:
    """The newest one of each table."""
    found: dict[str, Schema] = {}
    for one in sorted(schemas, key=lambda schema: schema.version):
        found[one.name] = one
    return found
