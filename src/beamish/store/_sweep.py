"""Deleting what has expired."""

from __future__ import annotations

import logging

from beamish.store._opened import Opened
from beamish.store._table import Table
from beamish.store.errors import StoreClosed, StoreError
from beamish.store.transaction import Transaction

PIECE = 500
_log = logging.getLogger("beamish.store")


async def sweep(opened: Opened) -> None:
    """A process of its own: some hundred records at a time, each time a transaction, so that nobody waits for it long."""
    try:
        for table in opened.tables.values():
            if table.expires is not None:
                while await opened.run(_piece, (opened, table), {}) == PIECE:
                    pass
    except StoreClosed:
        pass
    except StoreError:
        _log.exception("%r could not delete what has expired; it tries again at the next sweep", opened.server)
    finally:
        opened.sweeper = None


async def _piece(tx: Transaction, opened: Opened, table: Table[object]) -> int:
    gone = await tx.expired(table, opened.now(), PIECE)
    for record in gone:
        if table.bag:
            tx.delete_record(record)
        else:
            tx.delete(table.cls, table.key_of(record))
    return len(gone)
