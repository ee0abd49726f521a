"""What PostgreSQL's errors mean to whoever uses a store."""

from __future__ import annotations

from beamish.store._postgres_wire import Gone, Refused
from beamish.store.errors import CannotOpen, Conflict, StoreError, StoreFailed

CONFLICTS = {
    "40001": "another transaction changed what it read, and was quicker",  # serialization_failure
    "40P01": "it and another transaction waited for each other",  # deadlock_detected
}
#: Of distributed databases that speak PostgreSQL's protocol: it was committed or it was not.
UNKNOWN = "40003"
#: What else is worth more words than the database has for it.
MEANINGS = {
    "23505": "another program writes into the store's tables",
    "25006": "the database takes no changes; it may be a standby",
    "42501": "the user of the database lacks a right",
    "42P01": "the table is not there any more; was the store opened by a newer version of this program? Then start that one",
    "42703": "the table has other columns now; was the store opened by a newer version of this program? Then start that one",
    "53100": "the database's disk is full",
    "53200": "the database is out of memory",
    "53300": "the database has no connections left",
    "54000": "a key or an indexed field is too long for PostgreSQL: its indexes take about 2,700 bytes",
    "55P03": "a lock was not to be had",
    "57014": "it took longer than the timeout of Postgres(…), or somebody ended it",
}


def failure(error: Refused | Gone) -> StoreError:
    """The error that a transaction gets. Nothing of it has happened."""
    if isinstance(error, Gone):
        return StoreFailed(f"{error}. Nothing of the transaction has happened; the next one makes a new connection")
    if error.state in CONFLICTS:
        return Conflict(f"the transaction can't commit: {CONFLICTS[error.state]}. Run it again")
    return StoreFailed(f"nothing of the transaction has happened: {said(error)}")


def cannot_open(error: Refused | Gone) -> CannotOpen:
    return CannotOpen(f"the store's data in PostgreSQL can't be used: {said(error)}")


def said(error: Refused | Gone) -> str:
    if isinstance(error, Gone):
        return str(error)
    text = f"PostgreSQL says: {error} ({error.state})"
    meaning = MEANINGS.get(error.state)
    return f"{meaning}. {text}" if meaning else text
