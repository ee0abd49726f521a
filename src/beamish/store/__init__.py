"""Durable tables of typed records, with transactions: Mnesia's place.

Start reading at `store` (the server and what clients do), then `engine` (what keeps the data). See docs/store.md.
"""

from typing import TYPE_CHECKING, Any

from beamish.store._query import Inclusive as Inclusive
from beamish.store._table import record as record, table_of as table_of
from beamish.store.engine import Engine as Engine, Event as Event
from beamish.store.errors import (
    Aborted as Aborted,
    BadRecord as BadRecord,
    CannotOpen as CannotOpen,
    CommitUnknown as CommitUnknown,
    Conflict as Conflict,
    Damaged as Damaged,
    Locked as Locked,
    NoTable as NoTable,
    NotAStore as NotAStore,
    PositionGone as PositionGone,
    StoreClosed as StoreClosed,
    StoreError as StoreError,
    StoreFailed as StoreFailed,
    TransactionOver as TransactionOver,
    WrongSchema as WrongSchema,
)
from beamish.store.memory import Memory as Memory
from beamish.store.ram import Ram as Ram
from beamish.store.sqlite import SQLite as SQLite
from beamish.store.store import Store as Store
from beamish.store.subscription import Subscription as Subscription
from beamish.store.transaction import Transaction as Transaction

if TYPE_CHECKING:
    from beamish.store.postgres import Postgres as Postgres


__all__ = [
    "Aborted",
    "BadRecord",
    "CannotOpen",
    "CommitUnknown",
    "Conflict",
    "Damaged",
    "Engine",
    "Event",
    "Inclusive",
    "Locked",
    "Memory",
    "NoTable",
    "NotAStore",
    "PositionGone",
    "Ram",
    "SQLite",
    "Store",
    "StoreClosed",
    "StoreError",
    "StoreFailed",
    "Subscription",
    "Transaction",
    "TransactionOver",
    "WrongSchema",
    "record",
    "table_of",
]


def __getattr__(name: str) -> Any:
    """`store.Postgres`, imported when it is asked for: it needs psycopg, which comes with `beamish[postgres]`."""
    if name == "Postgres":
        from beamish.store.postgres import Postgres

        return Postgres
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
