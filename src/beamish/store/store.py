"""`Store`: tables of typed records with transactions, kept by an engine.

@store.record(key="id", indexes=("owner",))
@dataclass(frozen=True, slots=True)
class Account:
    id: int
    owner: str
    balance: int = 0

shop = store.Store("shop")
child = shop.child_spec(engine=store.SQLite("shop.db"), tables=[Account])

async with shop.transaction() as tx:
    ann = await tx.read(Account, 1)
    tx.write(replace(ann, balance=ann.balance - 10))
"""

from __future__ import annotations

from asyncio import sleep
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from os import PathLike
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, overload

from beamish._answers import Stop
from beamish._client import call
from beamish._runtime.signals import Exited
from beamish.errors import Normal, short
from beamish.gen_server import GenServer
from beamish.process import find, flag, spawn_link
from beamish.store._backup import Reader, Writer, in_thread, whole
from beamish.store._copies import Copies
from beamish.store._opened import Opened, in_use_by, used_by
from beamish.store._query import UNBOUNDED, Inclusive
from beamish.store._sweep import sweep
from beamish.store._table import Table, table_of
from beamish.store.engine import Engine
from beamish.store.errors import NoTable
from beamish.store.ram import Ram, ram_of
from beamish.store.subscription import Subscription
from beamish.store.transaction import Block, Transaction

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")

A_TURN = 64
"""Operations that are begun in one turn of the loop, at most."""


class Store(GenServer[Opened], shutdown=30.0):
    """Started with `engine=, tables=[…]`; see `init`. The address of one is used by any number of clients at once.

    Its process opens the engine and closes it; transactions do not go through it, they run where their client runs. When it crashes
    and is restarted, what is committed is there again (but for the engine Memory); transactions of before get StoreClosed.
    """

    async def init(
        self, *, engine: Engine, tables: Iterable[type[Any]], keep_events: int = 100_000, sweep_every: float | None = 60.0
    ) -> Opened:
        """Open the engine with these tables. CannotOpen, and no start, if its data can't be used.

        `keep_events`: how many of the last events can be read again, by `subscribe(from_=position)`. Every `sweep_every` seconds (None:
        never) records that have expired are deleted for good.
        """
        if type(keep_events) is not int or keep_events < 1:
            raise ValueError(f"keep_events is how many events are kept, an int of 1 or more. Got: {short(keep_events)}")
        flag(trap_exit=True)  # so that terminate runs when a supervisor stops it
        if isinstance(engine, type | str) or not hasattr(engine, "begin"):
            raise TypeError(f"engine= is where the data is kept, made: store.SQLite('shop.db'), store.Memory(). Got: {short(engine)}")
        known = _known(tables)
        opened = Opened(self, engine, known)
        other = used_by(engine)
        if other is not None:
            raise ValueError(f"this engine is open in {other.server!r}; give each store one of its own. Got: {short(engine)}")
        in_use_by(engine, opened)
        self.own(opened.close)
        await engine.open(list(known.values()), keep_events=keep_events, wake=opened.wake)
        copied = [table for table in known.values() if table.ram and engine.resident(table) is None]
        if copied:
            opened.copies = Copies(engine, copied)
            await opened.copies.fill()
            opened.follower = spawn_link(opened.copies.follow, opened)
        if sweep_every is not None and any(table.expires for table in known.values()):
            self.send_interval(sweep_every, "sweep")
        return opened

    # -- transactions

    @overload
    def transaction(self) -> Block: ...
    @overload
    def transaction(
        self, fn: Callable[Concatenate[Transaction, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, T]: ...
    def transaction(self, fn: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Either way, all of it happens or nothing, as if no other transaction ran beside it (serializable).

        * `await store.transaction(fn, *args)` runs `await fn(tx, *args)`, commits, and returns its value. **When another transaction
          has changed what it read, it is run again**, so it should do nothing but read and write here. Conflict after 100 runs.
        * `async with store.transaction() as tx:` commits at the end of the block, which can't be run again: it raises Conflict
          when another transaction was quicker, and then nothing of it has happened.

        An exception undoes all, and goes on; `tx.abort(reason)` raises Aborted. When this returns, the changes are as durable as the
        engine says. When its task is cancelled while it commits, it happens or it does not.
        """
        if fn is None:
            return Block(self._opened)
        if not callable(fn):
            raise TypeError(f"transaction takes an async function of tx and its arguments: transaction(move, 1, 2). Got: {short(fn)}")
        return self._run(fn, args, kwargs)

    async def _run(self, fn: Any, args: Any, kwargs: Any) -> Any:
        opened = await self._opened()
        return await opened.run(fn, args, kwargs)

    # -- single operations

    async def dirty_read(self, table: type[R], key: Any) -> R | None:
        """What is committed under `key`, or None. No transaction: two of these may see two different moments."""
        return await (await self._opened()).dirty().read(table, key)

    async def dirty_read_all(self, table: type[R], key: Any) -> list[R]:
        """The same for all records under a key of a bag."""
        return await (await self._opened()).dirty().read_all(table, key)

    async def dirty_query(
        self,
        table: type[R],
        *,
        index: str | None = None,
        key: Any = UNBOUNDED,
        low: Any = UNBOUNDED,
        high: Any = UNBOUNDED,
        inclusive: Inclusive = "low",
        where: Callable[[R], bool] | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> list[R]:
        """What is committed and matches; see `Transaction.query`."""
        tx = (await self._opened()).dirty()
        return await tx.query(
            table, index=index, key=key, low=low, high=high, inclusive=inclusive, where=where, limit=limit, reverse=reverse
        )  # fmt: skip

    async def dirty_write(self, record: Any) -> None:
        """Write one record, whatever is there. Like all `dirty_` writes a transaction of its own that has read nothing of before."""
        await self._run(_write, (record,), {})

    async def dirty_delete(self, table: type[Any], key: Any) -> None:
        """Delete all that is under `key`."""
        await self._run(_delete, (table, key), {})

    async def dirty_delete_record(self, record: Any) -> None:
        """Take one record out of a bag."""
        await self._run(_delete_record, (record,), {})

    async def dirty_update_counter(self, table: type[Any], key: Any, by: int = 1, *, field: str | None = None) -> int:
        """Add to a counter, and return what it is then; see `Transaction.update_counter`. No two of these lose an addition."""
        value: int = await self._run(Transaction.update_counter, (table, key, by), {"field": field})
        return value

    # -- following

    async def ram(self, table: type[R]) -> Ram[R]:
        """The table in memory, to be read like a dict, without await. For tables with `ram=True` (and all of the engine Memory)."""
        opened = await self._opened()
        return ram_of(opened, opened.resident(opened.table(table)))

    @overload
    async def subscribe(self, table: type[R], /, *, from_: int | None = None) -> Subscription[R]: ...
    @overload
    async def subscribe(self, *tables: type[Any], from_: int | None = None) -> Subscription[Any]: ...
    async def subscribe(self, *tables: type[Any], from_: int | None = None) -> Subscription[Any]:
        """The events of these tables (of all, if none is named) after position `from_`; by default those from now on.

        `from_=0` begins with the first event of all. PositionGone, when it is read, if the events after `from_` are not kept any more.
        ValueError, then, for a position that the store has not come to.
        """
        opened = await self._opened()
        chosen = frozenset(opened.table(one).cls for one in tables) or frozenset(opened.tables)
        if from_ is not None and (type(from_) is not int or from_ < 0):
            raise ValueError(f"from_ is the position of an event, an int of 0 or more. Got: {short(from_)}")
        return Subscription(opened, chosen, await opened.engine.position() if from_ is None else from_)

    async def position(self) -> int:
        """The position of the last event; 0 before the first."""
        return await (await self._opened()).engine.position()

    # -- backup and restore

    async def backup(self, path: str | PathLike[str]) -> int:
        """Write all records, as they are at one moment, to a file, and return how many they are. Others go on meanwhile.

        The file is there as a whole or not at all, replaces what was there, and can be restored into any engine. StoreFailed if it can't
        be written.
        """
        opened = await self._opened()
        tables = list(opened.tables.values())
        position, pieces = await opened.engine.dump(tables)
        writer = Writer(Path(path), position, tables)
        try:
            try:
                await whole(writer.begin)
                async for table, records in pieces:
                    await whole(writer.add, table, records)
                await whole(writer.finish)
            finally:
                writer.drop()
        finally:
            if isinstance(pieces, AsyncGenerator):
                await pieces.aclose()
        return writer.count

    async def restore(self, path: str | PathLike[str], *tables: type[Any]) -> int:
        """Replace tables by what a backup holds of them, at once for all, and return how many records that is.

        `tables`: those to restore; by default all that are in the backup. NoTable if the store has not got one of them, or the backup has
        not. Data of older versions is migrated. Transactions that are open meanwhile get Conflict; subscribers get one event "restore"
        for each table. Damaged, NotAStore, WrongSchema: nothing has changed. All of the records are held in memory once.
        """
        opened = await self._opened()
        reader = Reader(Path(path))
        try:
            await whole(reader.begin)
            known = {table.name: table for table in opened.tables.values()}
            wanted = [opened.table(one).name for one in tables] or [schema.name for schema in reader.schemas]
            inside = {schema.name for schema in reader.schemas}
            for name in wanted:
                if name not in known or name not in inside:
                    where = f"the backup {path}" if name in known else "this store"
                    raise NoTable(f"there is no table {name!r} in {where}; name the tables to restore: restore(path, Account, …)")
            chosen = {name: known[name] for name in wanted}
            count = 0

            async def counted() -> AsyncIterator[tuple[Table[Any], list[Any]]]:
                nonlocal count
                async for table, records in in_thread(reader, chosen, whole):
                    count += len(records)
                    yield table, records

            await opened.engine.load(list(chosen.values()), counted())
            await opened.shown({table: {} for table in chosen.values()})
            return count
        finally:
            reader.close()

    # -- the server's side

    async def _opened(self) -> Opened:
        """What runs behind this address. No call, which takes its turn among all calls of the loop: transactions would come apart that
        could share a batch."""
        found: Any = getattr(find(self), "state", None)
        if type(found) is not Opened or found.closed:
            return await self._state()  # waits for a start, or says who is not there
        found.asked += 1
        if not found.asked % A_TURN:
            await sleep(0)  # what is answered from memory never waits, but others want their turn
        return found

    @call
    def _state(self, opened: Opened) -> Opened:
        return opened

    def handle_info(self, state: Opened, message: object) -> Stop[Any] | None:
        match message:
            case "sweep":
                if state.sweeper is None:
                    state.sweeper = spawn_link(sweep, state)
            case Exited(reason=Normal()):
                pass  # a sweep has done its work
            case Exited(reason=reason):
                return Stop(reason)  # what kept its copies in memory fresh has crashed
            case _:
                super().handle_info(state, message)
        return None

    async def terminate(self, state: Opened, reason: Any) -> None:
        state.closing(reason)
        await state.engine.close()


async def _write(tx: Transaction, record: Any) -> None:
    tx.write(record)


async def _delete(tx: Transaction, table: type[Any], key: Any) -> None:
    tx.delete(table, key)


async def _delete_record(tx: Transaction, record: Any) -> None:
    tx.delete_record(record)


def _known(tables: Iterable[type[Any]]) -> dict[type[Any], Table[Any]]:
    if isinstance(tables, type):
        raise TypeError(f"tables= is a list of classes. Got: {tables.__name__}; write tables=[{tables.__name__}]")
    found: dict[type[Any], Table[Any]] = {}
    names: dict[str, type[Any]] = {}
    for cls in tables:
        table = found[cls] = table_of(cls)
        if names.setdefault(table.name.lower(), cls) is not cls:
            raise ValueError(f"two tables have the name {table.name!r}; give one of them another with @record(name=…)")
    return found
