"""What can go wrong with a store.

StoreError
├── Aborted          `tx.abort(reason)`: everything the transaction wrote is undone
├── Conflict         another transaction changed what this one had read: run it again
├── CommitUnknown    the connection broke while it was committing: it is there as a whole, or not at all
├── TransactionOver  an operation on a transaction that has ended
├── NoTable          the store has no such table
├── BadRecord        a record, key or query that does not fit its table (also a TypeError)
├── PositionGone     events from that position on are not kept any more
├── StoreClosed      the store has ended
├── StoreFailed      the disk or the database refuses: nothing of the transaction is there
└── CannotOpen       the store's data can't be used
    ├── Locked         another process has it open
    ├── NotAStore      a file of something else
    ├── Damaged        the file is broken
    └── WrongSchema    it was written with tables that do not fit those declared
"""

from __future__ import annotations

from beamish.errors import BeamishError, short


class StoreError(BeamishError):
    """What a store raises on its own account."""


class Aborted(StoreError):
    """`tx.abort(reason)` was called. Nothing of the transaction (or of the nested one) has happened."""

    def __init__(self, reason: object = None) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the transaction was aborted: {short(self.reason)}"


class Conflict(StoreError):
    """Another transaction changed what this one had read, and committed first. Nothing of this one has happened.

    `await store.transaction(fn)` runs `fn` again by itself; the body of an `async with store.transaction()` can't be run again,
    so there it is for you to do.
    """


class CommitUnknown(StoreError):
    """The database went away while the transaction was committing: it has happened as a whole or not at all. Look before you repeat it."""


class TransactionOver(StoreError):
    """The transaction has been committed or undone already: keep its `tx` within its block or function."""


class NoTable(StoreError):
    """The store was not told of this table."""

    @classmethod
    def of(cls, table: object, known: list[str]) -> NoTable:
        shown = getattr(table, "__name__", short(table))
        return cls(
            f"the store has no table for {shown}; give it in tables=[…] where the store is started. It has: {', '.join(known) or 'none'}"
        )


class BadRecord(StoreError, TypeError):
    """A record, a key or a query does not fit the table."""


class PositionGone(StoreError):
    """The events after that position are not kept any more (`keep_events`). `oldest` is the first position to start from."""

    def __init__(self, position: int, oldest: int) -> None:
        super().__init__(position, oldest)
        self.position = position
        self.oldest = oldest

    def __str__(self) -> str:
        return (
            f"the events after position {self.position} are gone; the oldest that can be had are those after {self.oldest}. "
            "Read the table anew and subscribe from there; keep_events= says how many events a store keeps"
        )


class StoreClosed(StoreError):
    """The store has ended, or was restarted, since this transaction, copy or subscription was made."""


class StoreFailed(StoreError):
    """The disk or the database did not take it. Nothing of the transaction has happened; the cause is the `__cause__`."""


class CannotOpen(StoreError):
    """The store's data can't be used. It has not been changed."""


class Locked(CannotOpen):
    """Another process (or another store of this one) has it open."""


class NotAStore(CannotOpen):
    """The file belongs to something else."""


class Damaged(CannotOpen):
    """The file is broken."""


class WrongSchema(CannotOpen):
    """The data was written with tables that do not fit those declared now."""
