"""A store under many interleavings, its servers crashed and killed between: no increment is lost, none is made twice."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from beamish import CallExit, store, supervise
from beamish.store import CommitUnknown, Engine, Memory, StoreClosed, Transaction
from beamish.testing import simulate
from storing import SHOP, Counter


async def add(tx: Transaction) -> int:
    found = await tx.read(Counter, "x")
    await asyncio.sleep(0)
    n = (found.n if found else 0) + 1
    tx.write(Counter("x", n))
    return n


async def increments(engine: Engine, durable: bool) -> None:
    certain = unknown = 0

    async def client() -> None:
        nonlocal certain, unknown
        for _ in range(3):
            try:
                await SHOP.transaction(add)
                certain += 1
            except CommitUnknown:
                unknown += 1
            except (StoreClosed, CallExit):
                await SHOP.started(timeout=None)

    async with supervise([SHOP.child_spec(engine=engine, tables=[Counter])], max_restarts=100):
        await asyncio.gather(*(client() for _ in range(3)))
        await SHOP.started(timeout=None)
        found = await SHOP.dirty_read(Counter, "x")
        n = found.n if found else 0
        if durable:
            assert certain <= n <= certain + unknown


@simulate(seeds=150)
async def test_increments_in_memory() -> None:
    await increments(Memory(), durable=True)


@simulate(seeds=60, faults=["kill"])
async def test_increments_in_memory_whose_store_is_killed() -> None:
    await increments(Memory(), durable=False)


@simulate(seeds=15, faults=["kill"])
async def test_increments_in_a_file_whose_store_is_killed() -> None:
    with tempfile.TemporaryDirectory() as folder:
        await increments(store.SQLite(Path(folder) / "shop.db", durability="normal"), durable=True)
