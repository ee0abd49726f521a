"""Mnesia's transactions, tables and events in the store's terms: a table is a class, a schema is changed by a start with other classes."""

from __future__ import annotations

import asyncio
import dataclasses
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from beamish import Exit, StartError, Task, node, store
from beamish.store import Aborted, BadRecord, Memory, NoTable, Store, Transaction, TransactionOver, table_of
from conformance.words import out, sec, sleep

T = TypeVar("T")


@store.record(key="id", indexes=("owner",), name="acc")
@dataclass(frozen=True)
class Acc:
    id: int
    owner: str
    balance: int


@store.record(key="id", indexes=("owner", "balance"), name="acc")
@dataclass(frozen=True)
class IndexedAcc:
    id: int
    owner: str
    balance: int


@store.record(key="k", name="cnt")
@dataclass(frozen=True)
class Cnt:
    k: str
    n: int


@store.record(key="k", name="cnt", version=2, migrations={1: lambda old: old | {"extra": "new"}})
@dataclass(frozen=True)
class LargerCnt:
    k: str
    n: int
    extra: str


@store.record(key="k", kind="ordered_set", name="ord")
@dataclass(frozen=True)
class Ord:
    k: int
    v: int | str


@store.record(key="k", kind="bag", name="bg")
@dataclass(frozen=True)
class Bg:
    k: str
    v: int


@store.record(key="k", name="nope")
@dataclass(frozen=True)
class Nope:
    k: int


M = Store("mnesia")


def rec(record: Any) -> tuple[Any, ...]:
    """A record as Mnesia has it: a tuple that begins with the table's name."""
    return (table_of(type(record)).name, *(getattr(record, one.name) for one in dataclasses.fields(record)))


def recs(records: list[Any]) -> list[Any]:
    return [rec(one) for one in records]


async def tx(fn: Callable[[Transaction], Awaitable[Any]]) -> Any:
    """`{:atomic, value}` or `{:aborted, reason}`: our transaction returns its value, or raises."""
    try:
        return "atomic", await M.transaction(fn)
    except (Aborted, Exit) as error:
        return "aborted", error.reason
    except NoTable:
        return "aborted", ("no_exists", "nope")
    except BadRecord:
        return "aborted", ("bad_type", ("acc", 1))
    except RuntimeError as error:
        return "aborted", error


async def read(key: int) -> list[Any]:
    return recs(await M.dirty_read_all(Acc, key))


async def threads(work: Awaitable[T]) -> T:
    """What takes real time, in a thread: the script's time stands still meanwhile."""
    task = asyncio.ensure_future(work)
    while not task.done():
        await sleep(1)
    return await task


async def ticks() -> None:
    while True:
        await sleep(1)


async def again(folder: str, *tables: type[Any]) -> None:
    """A start with other tables, and what was there before."""
    path = Path(folder) / "again"
    await threads(M.backup(path))
    await M.stop()
    await M.start_link(engine=Memory(), tables=tables)
    await threads(M.restore(path, *tables))


async def scenario() -> None:
    await M.start_link(engine=Memory(), tables=[Acc, Cnt, Ord, Bg])
    out("start", "ok")
    try:
        await Store("second").start(engine=Memory(), tables=[Acc, IndexedAcc])
    except StartError:
        out("create again", ("aborted", ("already_exists", "acc")))
    await reading_and_writing()
    await undoing()
    await nesting()
    await isolation()
    await dirty()
    await kinds()
    await subscribing()
    with tempfile.TemporaryDirectory() as folder:
        await schema(folder)
        await backup(folder)


async def reading_and_writing() -> None:
    async def three(tx: Transaction) -> str:
        for one in (Acc(1, "ann", 100), Acc(2, "bob", 50), Acc(3, "ann", 7)):
            tx.write(one)
        return "ok"

    async def own(tx: Transaction) -> Any:
        tx.write(Acc(1, "ann", 1))
        seen = await tx.read_all(Acc, 1)
        tx.write(Acc(1, "ann", 100))
        return recs(seen)

    async def found(tx: Transaction, **wanted: Any) -> Any:
        return recs(await tx.query(Acc, **wanted))

    async def folded(tx: Transaction) -> Any:
        every = await tx.query(Acc)
        return [one.id for one in every], sum(one.balance for one in every)

    async def selected(tx: Transaction) -> Any:
        return [one.id for one in await tx.query(Acc, where=lambda one: one.balance > 40)]

    out("write returns", await tx(three))
    out("read", await tx(lambda tx: found(tx, key=1)))
    out("read absent", await tx(lambda tx: found(tx, key=99)))
    out("own writes are visible inside", await tx(own))
    out("index_read", await tx(lambda tx: found(tx, index="owner", key="ann")))
    out("match_object", await tx(lambda tx: found(tx, where=lambda one: one.owner == "bob")))
    out("select", await tx(selected))
    out("all_keys / foldl", await tx(folded))


async def undoing() -> None:
    sec("abort rolls back everything")
    kept: list[Transaction] = []

    async def aborts(tx: Transaction) -> None:
        kept.append(tx)
        tx.write(Acc(1, "ann", 0))
        tx.delete(Acc, 2)
        tx.abort("no")

    async def raises(tx: Transaction, error: Exception) -> None:
        tx.write(Acc(1, "ann", 0))
        raise error

    async def absent(tx: Transaction) -> None:
        await tx.read(Nope, 1)

    async def bad(tx: Transaction) -> None:
        tx.write(Acc(1, 2, 3))  # type: ignore[arg-type]  # Acc(1) can't even be made

    out("abort", await tx(aborts))
    out("raise", await tx(lambda tx: raises(tx, RuntimeError("oops"))))
    out("exit", await tx(lambda tx: raises(tx, Exit("bye"))))
    out("state", await read(1) + await read(2))
    try:
        await kept[0].read(Acc, 1)
    except TransactionOver:
        out("operation outside a transaction", ("exited", ("aborted", "no_transaction")))
    out("absent table", await tx(absent))
    out("bad record", await tx(bad))


async def nesting() -> None:
    sec("nested: an inner abort undoes only the inner")

    async def inner_aborts(tx: Transaction) -> Any:
        tx.write(Acc(1, "ann", 11))
        try:
            async with tx.nested() as inner:
                inner.write(Acc(2, "bob", 22))
                inner.abort("inner")
        except Aborted as error:
            return ("aborted", error.reason), recs(await tx.read_all(Acc, 1)), recs(await tx.read_all(Acc, 2))

    async def outer_aborts(tx: Transaction) -> None:
        async with tx.nested() as inner:
            inner.write(Acc(2, "bob", 22))
        tx.abort("outer")

    out("->", await tx(inner_aborts))
    out("inner commit is undone by an outer abort", await tx(outer_aborts))
    out("state", await read(1) + await read(2))


async def isolation() -> None:
    sec("isolation: increments by many processes lose nothing in transactions")

    async def add(tx: Transaction) -> None:
        found = await tx.read(Acc, 3)
        assert found is not None
        tx.write(replace(found, balance=found.balance + 1))

    async def ten() -> None:
        for _ in range(10):
            await M.transaction(add)

    async def seen_by_others(tx: Transaction) -> Any:
        tx.write(Acc(1, "ann", 999))
        return await Task.async_(read, 1)

    ticking = asyncio.ensure_future(ticks())  # it takes more turns of the loop than the script's clock waits for
    await Task.await_many([Task.async_(ten) for _ in range(20)])
    ticking.cancel()
    out("7 + 200", await read(3))
    out("not visible to dirty readers before commit", await tx(seen_by_others))


async def dirty() -> None:
    sec("dirty operations")
    await M.dirty_write(Acc(9, "zed", 1))
    written = await read(9)
    await M.dirty_delete(Acc, 9)
    out("dirty_write/read/delete", ("ok", written, "ok", await read(9)))
    out("dirty_update_counter", (await M.dirty_update_counter(Cnt, "x", 5), await M.dirty_update_counter(Cnt, "x", -2)))
    try:
        await M.dirty_read(Nope, 1)
    except NoTable:
        out("dirty absent table", ("exited", ("aborted", ("no_exists", ["nope", 1]))))
    by_index = recs(await M.dirty_query(Acc, index="owner", key="bob"))
    out("dirty_index_read / dirty_match_object", (by_index, recs(await M.dirty_query(Acc, where=lambda one: one.owner == "bob"))))
    for k in (3, 1, 2):
        await M.dirty_write(Ord(k, 0))

    async def end(**wanted: Any) -> Any:
        found = await M.dirty_query(Ord, limit=1, **wanted)
        return found[0].k if found else "$end_of_table"

    ends = await end(), await end(low=1, inclusive="neither"), await end(reverse=True), await end(high=1, reverse=True)
    out("dirty_first/next on ordered", ends)


async def kinds() -> None:
    sec("table types")
    for v in (1, 2, 1):
        await M.dirty_write(Bg("k", v))
    out("bag", recs(await M.dirty_read_all(Bg, "k")))

    async def less(tx: Transaction) -> Any:
        tx.delete_record(Bg("k", 1))
        return recs(await tx.read_all(Bg, "k"))

    out("delete_object", await tx(less))
    out("duplicate_bag refused", refused(lambda: store.record(key="k", kind="duplicate_bag")(Nope)))  # type: ignore[arg-type]
    out("one attribute refused", refused(lambda: store.record(key="k", name="one")(Nope)))


def refused(make: Callable[[], Any]) -> str:
    try:
        make()
    except TypeError:
        return "aborted"
    return "atomic"


async def subscribing() -> None:
    sec("subscribe")
    events = await M.subscribe(Acc)
    out("subscribe", ("ok", node()))

    async def both(tx: Transaction) -> None:
        tx.write(Acc(5, "sub", 1))
        tx.delete(Acc, 5)

    async def never(tx: Transaction) -> None:
        tx.write(Acc(6, "never", 1))
        tx.abort("x")

    await tx(both)
    await tx(never)
    end = await M.position()
    found: list[Any] = []
    while events.position < end:
        event = await anext(events)
        found.append((event.op, rec(event.record) if event.record is not None else ("acc", event.key)))
    out("events", found)
    await events.aclose()
    out("unsubscribe", ("ok", node()))
    await M.dirty_write(Acc(1, "ann", 12))


async def schema(folder: str) -> None:
    sec("index add/del, table_info, clear, delete")
    await again(folder, IndexedAcc, Cnt, Ord, Bg)
    out("add_table_index", ("atomic", "ok"))

    async def indexed(tx: Transaction) -> Any:
        return recs(await tx.query(IndexedAcc, index="balance", key=12))

    out("index_read", await tx(indexed))
    if refused(lambda: store.record(key="id", indexes=("balance", "balance"))(IndexedAcc)) == "aborted":
        out("add again", ("aborted", ("already_exists", "acc", 4)))
    about, copy = table_of(IndexedAcc), await M.ram(IndexedAcc)
    names = [one.name for one in about.fields]
    out("table_info", (about.kind, names, len(copy), "ram_copies", sorted(names.index(one) + 2 for one in about.indexes)))
    await again(folder, IndexedAcc, LargerCnt, Ord)
    out("transform_table", (("atomic", "ok"), recs(await M.dirty_read_all(LargerCnt, "x"))))

    async def clear(tx: Transaction) -> str:
        for one in await tx.query(IndexedAcc):
            tx.delete(IndexedAcc, one.id)
        return "ok"

    out("clear_table", (await tx(clear), len(await M.ram(IndexedAcc))))

    await again(folder, LargerCnt, Ord)
    try:
        await M.dirty_read(IndexedAcc, 1)
    except NoTable:
        out("delete_table", (("atomic", "ok"), ("aborted", ("no_exists", "acc"))))

    async def larger(tx: Transaction) -> Any:
        return recs(await tx.read_all(LargerCnt, "x"))

    kinds = recs(await M.dirty_read_all(LargerCnt, "x")), await tx(larger), await M.transaction(larger)
    out("activity async_dirty / sync_transaction / ets", kinds)
    try:
        async with M.transaction() as own:
            own.abort("why")
    except Aborted as error:
        out("activity(:transaction) exits on abort", ("exited", ("aborted", error.reason)))


async def backup(folder: str) -> None:
    sec("backup / restore")
    path = Path(folder) / "backup"
    await threads(M.backup(path))
    out("backup of a checkpoint", "ok")
    await M.dirty_write(Ord(50, "after_backup"))
    await threads(M.restore(path, Ord))
    out("restore", ("atomic", ["ord"]))
    out("after restore", [one.k for one in await M.dirty_query(Ord)])
    await M.stop()
    out("stop", "stopped")
