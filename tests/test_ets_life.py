"""Whose a table is: owner, heir, access, threads, and its end, which comes before anybody hears of its owner's."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import random
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from beamish import (
    KILL,
    SHUTDOWN,
    Exit,
    GenServer,
    Pid,
    Registry,
    Supervisor,
    Via,
    call,
    current,
    ets,
    exit,
    flag,
    link,
    monitor,
    own,
    receive,
    register,
    send,
    spawn,
    spawn_monitor,
)  # fmt: skip
from beamish._ets_life import SLICE
from beamish.ets import NoAccess, NoTable, Table, Transfer
from beamish.process import down
from beamish.testing import World, capture_crashes, settle

T = TypeVar("T")
KINDS = ["set", "ordered_set", "bag", "duplicate_bag"]
BAGS = KINDS[2:]

WRITES: dict[str, Callable[[Table[Any, Any]], Any]] = {
    "insert": lambda t: t.insert("k", 1),
    "insert_many": lambda t: t.insert_many({"k": 1}),
    "insert_new": lambda t: t.insert_new("new", 1),
    "insert_new_many": lambda t: t.insert_new_many({"newer": 1}),
    "take": lambda t: t.take("k"),
    "delete": lambda t: t.delete("k"),
    "delete_object": lambda t: t.delete_object("k", 1),
    "update_counter": lambda t: t.update_counter("n", default=0),
    "update_element": lambda t: t.update_element("p", {0: 1}),
    "select_delete": lambda t: t.select_delete(lambda key, value: False),
    "select_replace": lambda t: t.select_replace(lambda key, value: value),
    "delete_all_objects": lambda t: t.delete_all_objects(),
}
READS: dict[str, Callable[[Table[Any, Any]], Any]] = {
    "lookup": lambda t: t.lookup("k"),
    "get": lambda t: t.get("k"),
    "brackets": lambda t: t["k"],
    "member": lambda t: "k" in t,
    "len": len,
    "iter": list,
    "reversed": lambda t: list(reversed(t)),
    "items": lambda t: list(t.items()),
    "to_list": lambda t: t.to_list(),
    "first": lambda t: t.first(),
    "last": lambda t: t.last(),
    "next": lambda t: t.next("k"),
    "prev": lambda t: t.prev("k"),
    "foldl": lambda t: t.foldl(lambda a, k, v: a, 0),
    "foldr": lambda t: t.foldr(lambda a, k, v: a, 0),
    "select": lambda t: t.select(),
    "select_count": lambda t: t.select_count(),
    "fixed": lambda t: t.fixed().__enter__(),
}
WHOLE: dict[str, Callable[[Table[Any, Any]], Any]] = {
    "rename": lambda t: t.rename("other"),
    "delete_table": lambda t: t.delete_table(),
    "give_away": lambda t: t.give_away("somebody"),
    "set_heir": lambda t: t.set_heir(None),
}


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def by_another(fun: Callable[[], T]) -> T | BaseException:
    """What `fun` gives, or raises, in a process of its own."""
    me = current()

    def run() -> None:
        try:
            found: Any = fun()
        except Exception as error:
            found = error
        send(me, ("found", found))

    spawn(run)
    return (await receive(lambda m: isinstance(m, tuple) and m[0] == "found"))[1]  # type: ignore[no-any-return]


def in_thread(fun: Callable[[], T]) -> T | BaseException:
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(fun())
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]  # type: ignore[no-any-return]


async def owned(**options: Any) -> tuple[Pid, Table[Any, Any]]:
    """A process with a table: it dies when it is sent a reason, and waits until then."""
    me = current()

    async def run() -> None:
        table = Table[Any, Any](**options)
        table.insert_many({"k": 1, "p": (0,)})
        send(me, ("made", table))
        raise Exit(await receive())

    pid = spawn(run)
    table = (await receive(lambda m: isinstance(m, tuple) and m[0] == "made"))[1]
    return pid, table


def filled(**options: Any) -> Table[Any, Any]:
    table = Table[Any, Any](**options)
    table.insert_many({"k": 1, "p": (0,)})
    return table


class TestAccess:
    @pytest.mark.parametrize("verb", [*WRITES, *READS])
    async def test_of_another_process(self, verb: str) -> None:
        for access in ("private", "protected", "public"):
            table = filled(access=access)
            found = await by_another(lambda table=table: {**WRITES, **READS}[verb](table))  # type: ignore[misc]
            if access == "public" or (access == "protected" and verb in READS):
                assert not isinstance(found, Exception)
            else:
                assert isinstance(found, NoAccess)
                assert "which belongs to" in str(found)
                assert ('access="protected"' if access == "private" else 'access="public"') in str(found)
                assert found.table is table
                assert table.to_list() == [("k", 1), ("p", (0,))]

    @pytest.mark.parametrize("verb", [*WRITES, *READS])
    async def test_of_another_thread(self, verb: str) -> None:
        for access in ("private", "protected", "public"):
            table = filled(access=access)
            found = in_thread(lambda table=table: {**WRITES, **READS}[verb](table))  # type: ignore[misc]
            if access == "public" or (access == "protected" and verb in READS):
                assert not isinstance(found, Exception)
            else:
                assert isinstance(found, NoAccess)
                assert "Code of another thread or event loop may not" in str(found)

    @pytest.mark.parametrize("verb", WHOLE)
    async def test_to_the_table_as_a_whole(self, verb: str) -> None:
        for access in ("private", "protected", "public"):
            table = filled(access=access)
            assert isinstance(in_thread(lambda table=table: WHOLE[verb](table)), NoAccess)  # type: ignore[misc]
            found = await by_another(lambda table=table: WHOLE[verb](table))  # type: ignore[misc]
            if access == "public" and verb in ("rename", "delete_table"):
                assert found is None
            else:
                assert isinstance(found, NoAccess)
                assert ("only the owner may do that" in str(found)) is (verb in ("give_away", "set_heir"))

    @pytest.mark.parametrize("verb", [*WRITES, *READS, *WHOLE])
    async def test_to_a_table_that_is_gone(self, verb: str) -> None:
        for access in ("private", "protected", "public"):
            table = filled(access=access)
            table.delete_table()
            fun = {**WRITES, **READS, **WHOLE}[verb]
            for found in (await by_another(lambda table=table, fun=fun: fun(table)), in_thread(lambda table=table, fun=fun: fun(table))):  # type: ignore[misc]
                assert isinstance(found, NoTable)
            with pytest.raises(NoTable, match="is gone: its owner has ended, or it was deleted"):
                fun(table)
            assert table.info() is None

    async def test_a_thread_may_not_write_while_the_owner_has_its_handler_on_the_stack(self) -> None:
        class Owner(GenServer[Table[str, int]]):
            def init(self) -> Table[str, int]:
                return Table()

            @call
            def let_a_thread_write(self, state: Table[str, int]) -> BaseException | None:
                state.insert("mine", 1)
                return in_thread(lambda: state.insert("theirs", 1))

        owner = await Owner.start()
        assert isinstance(await owner.let_a_thread_write(), NoAccess)
        exit(owner, KILL)

    async def test_of_a_server_in_all_its_code(self) -> None:
        class Owner(GenServer[Table[str, int]]):
            async def init(self) -> Table[str, int]:
                table = Table[str, int](access="private")
                table.insert("init", 1)
                return table

            @call
            def plain(self, state: Table[str, int]) -> int:
                return state.update_counter("init")

            @call
            async def suspends(self, state: Table[str, int]) -> int:
                await asyncio.sleep(0)
                return state.update_counter("init")

            async def terminate(self, state: Table[str, int], reason: object) -> None:
                await asyncio.sleep(0)
                state.insert("terminate", state["init"])

        owner = await Owner.start()
        assert [await owner.plain(), await owner.suspends()] == [2, 3]
        with capture_crashes() as crashes:
            await owner.stop()
        assert not crashes

    async def test_of_plain_code_that_is_adopted_later(self) -> None:
        table = filled(access="private")
        table.insert("before", 1)
        current()
        table.insert("after", 2)
        assert table["before"] == 1
        assert await asyncio.create_task(asyncio.to_thread(in_thread, lambda: len(table))) is not None

    async def test_another_event_loop_reads_and_writes_what_is_public(self) -> None:
        table, public = filled(), filled(access="public")

        async def elsewhere() -> tuple[Any, Any, Any]:
            async with World():
                try:
                    table.insert("k", 2)
                except NoAccess as error:
                    refused = error
                public.update_counter("k")
                return table["k"], public["k"], refused

        assert in_thread(lambda: asyncio.run(elsewhere()))[:2] == (1, 2)  # type: ignore[index]


class TestTheOwnersEnd:
    @pytest.mark.parametrize("reason", [KILL, "boom"])
    async def test_the_table_is_gone_before_anybody_hears(self, reason: object) -> None:
        heard: list[Any] = []
        pid, table = await owned(name="t")

        async def watch() -> None:
            flag(trap_exit=True)
            monitor(pid)
            link(pid)
            heard.append((type(await receive()).__name__, table.info(), ets.whereis("t"), ets.tables()))
            heard.append((type(await receive()).__name__, table.info(), ets.whereis("t"), ets.tables()))

        _, ref = spawn_monitor(watch)
        await settle()
        exit(pid, reason)
        assert (await down(ref)).reason is not None
        assert sorted(heard) == [("Down", None, None, []), ("Exited", None, None, [])]

    async def test_a_restarted_owner_finds_its_name_free(self) -> None:
        class Owner(GenServer[Table[str, int]]):
            def init(self) -> Table[str, int]:
                return Table("t")

            @call
            def add(self, state: Table[str, int]) -> int:
                return state.update_counter("n", default=0)

        tree = await Supervisor.start_link([Owner("owner").child_spec()], max_restarts=100)
        owner = Owner("owner")
        with capture_crashes():
            for _ in range(20):
                assert [await owner.add(), await owner.add()] == [1, 2]
                old = ets.table("t")
                exit(owner, KILL)
                await owner.started()
                assert old.info() is None
                assert ets.table("t") is not old
        await tree.stop()
        assert ets.tables() == []

    async def test_a_failing_init_leaves_no_table(self) -> None:
        class Owner(GenServer[None]):
            def init(self) -> None:
                Table[str, int]("t")
                raise ValueError("no")

        with capture_crashes():
            for _ in range(3):
                with pytest.raises(Exception, match="no"):
                    await Owner.start()
        assert ets.tables() == []

    async def test_what_a_killed_process_still_does_does_not_happen(self) -> None:
        table, own_table = filled(access="public"), list[Table[Any, Any]]()

        async def run() -> None:
            own_table.append(filled())
            try:
                await forever()
            finally:
                for write in WRITES.values():
                    try:
                        write(table)
                    except asyncio.CancelledError:
                        refused.append("cancelled")
                    try:
                        write(own_table[0])
                    except NoTable:
                        refused.append("gone")

        refused: list[str] = []
        pid = spawn(run)
        await settle()
        exit(pid, KILL)
        await settle()
        assert table.to_list() == [("k", 1), ("p", (0,))]
        assert refused == ["cancelled", "gone"] * len(WRITES)

    async def test_what_the_owner_owns_otherwise_still_sees_it(self) -> None:
        seen: list[Any] = []

        def run() -> None:
            table = Table[str, int]()
            own(lambda: seen.append(table.info() is not None))
            table.insert("k", 1)

        _, ref = spawn_monitor(run)
        await down(ref)
        assert seen == [True]

    async def test_tables_of_the_loop_end_with_it(self) -> None:
        world = World()
        async with world:
            table = filled(name="t")
            assert ets.tables() == [table]
        assert table.info() is None
        with pytest.raises(NoTable):
            table.lookup("k")

    async def test_an_owner_of_many_tables(self) -> None:
        me = current()

        async def run() -> None:
            made = [filled(name=f"t{n}", heir=me if n % 100 == 0 else None) for n in range(1000)]
            made[1].delete_table()
            await forever()

        pid = spawn(run)
        await settle()
        assert len(ets.tables()) == 999
        exit(pid, KILL)
        assert [table.name for table in ets.tables()] == [f"t{n}" for n in range(0, 1000, 100)]
        assert {(await receive(Transfer)).owner for _ in range(10)} == {pid}

    async def test_many_rows_are_let_go_of_in_slices(self) -> None:
        class Row:
            pass

        rows = [Row() for _ in range(2 * SLICE + 1)]
        left = weakref.WeakSet(rows)
        table = Table[int, Row](values="shared")
        table.insert_many(enumerate(rows))
        rows.clear()
        table.delete_table()
        assert SLICE <= len(left) <= SLICE + 1
        await settle()
        gc.collect()
        assert len(left) == 0

    async def test_a_table_and_its_owner_leave_nothing_behind(self) -> None:
        pid, table = await owned()
        gone = weakref.ref(table)
        exit(pid, KILL)
        await settle()
        del pid, table
        gc.collect()
        assert gone() is None


class TestHeir:
    async def test_it_has_the_table_and_is_told_before_it_hears_of_the_end(self) -> None:
        me = current()
        pid, table = await owned(heir=me, heir_data="data", name="t")
        monitor(pid)
        exit(pid, KILL)
        first, second = await receive(), await receive()
        assert first == Transfer(table, pid, "data")
        assert type(second).__name__ == "Down"
        assert (table.to_list(), ets.table("t"), table.info().owner) == ([("k", 1), ("p", (0,))], table, me)  # type: ignore[union-attr]
        table.insert("x", 1)

    async def test_from_heir_to_heir_until_nobody_is_left(self) -> None:
        transfers: list[Transfer] = []

        async def keep(heir: Pid | None) -> None:
            transfers.append(message := await receive(Transfer))
            message.table.set_heir(heir, "next")
            await forever()

        third = spawn(keep, None)
        second = spawn(keep, third)
        first = spawn(keep, second)
        pid, table = await owned(heir=first, heir_data="first")
        for one, successor in zip([pid, first, second], [first, second, third], strict=True):
            exit(one, KILL)
            assert table.info().owner is successor  # type: ignore[union-attr]
            await settle()
        assert [(one.owner, one.data) for one in transfers] == [(pid, "first"), (first, "next"), (second, "next")]
        exit(third, KILL)
        assert table.info() is None

    async def test_one_that_is_dead_inherits_nothing(self) -> None:
        dead = spawn(lambda: None)
        await settle()
        pid, table = await owned(heir=dead)
        exit(pid, KILL)
        assert table.info() is None

    async def test_one_that_is_exiting_inherits_nothing(self) -> None:
        release = asyncio.Event()

        async def slow() -> None:
            try:
                await forever()
            finally:
                await release.wait()

        heir = spawn(slow)
        await settle()
        exit(heir, SHUTDOWN)
        pid, table = await owned(heir=heir)
        exit(pid, KILL)
        assert table.info() is None
        release.set()
        await settle()

    async def test_a_name_is_looked_up_when_the_owner_ends(self) -> None:
        _, table = await owned(heir="vault")
        _, other = await owned(heir="nobody")
        _, via = await owned(heir=Via(Registry[str, None]("gone"), "k"))

        async def vault() -> None:
            register("vault")
            send(me, await receive(Transfer))
            await forever()

        me = current()
        keeper = spawn(vault)
        await settle()
        for one in (table, other, via):
            exit(one.info().owner, KILL)  # type: ignore[union-attr]
        assert (await receive(Transfer)).table is table
        assert (table.info().owner, other.info(), via.info()) == (keeper, None, None)  # type: ignore[union-attr]
        exit(keeper, KILL)

    @pytest.mark.parametrize("heir", [7, b"x", ("a", "b"), object()])
    async def test_what_is_no_process_is_refused(self, heir: Any) -> None:
        table = filled()
        for make in (lambda: filled(heir=heir), lambda: table.set_heir(heir)):
            with pytest.raises(TypeError, match="a heir is a process"):
                make()

    async def test_set_heir_and_take_it_back(self) -> None:
        me = current()
        table = Table[int, int]()
        table.set_heir(me, "data")
        assert table.info().heir is me  # type: ignore[union-attr]
        table.set_heir(None)
        assert table.info().heir is None  # type: ignore[union-attr]


class TestGiveAway:
    async def test_the_receiver_has_it_at_once_and_is_told(self) -> None:
        me = current()
        table = filled(access="private")
        receiver = spawn(forever)
        table.give_away(receiver, "gift")
        assert table.info().owner is receiver  # type: ignore[union-attr]
        with pytest.raises(NoAccess):
            table.lookup("k")
        exit(receiver, KILL)
        assert table.info() is None
        assert me is current()

    async def test_pages_go_on_for_those_who_may_read(self) -> None:
        protected, private = filled(), filled(access="private")
        pages = [protected.select(limit=1), private.select(limit=1)]
        other = spawn(forever)
        for table in (protected, private):
            table.give_away(other)
        assert pages[0].next() == [("p", (0,))]
        with pytest.raises(NoAccess):
            pages[1].next()
        exit(other, KILL)

    async def test_it_goes_with_the_new_owner_and_not_with_the_old(self) -> None:
        me = current()

        async def give() -> None:
            filled(name="t").give_away(me, "gift")

        giver, ref = spawn_monitor(give)
        await down(ref)
        message = await receive(Transfer)
        assert message == Transfer(ets.table("t"), giver, "gift")
        message.table.insert("mine", 1)

    async def test_not_to_oneself_nor_to_the_dead_nor_to_nobody(self) -> None:
        me = current()
        table = Table[int, int]()
        dead = spawn(lambda: None)
        await settle()
        for target in (me, dead, "nobody"):
            with pytest.raises(ValueError, match="can't be given"):
                table.give_away(target)
        with pytest.raises(TypeError, match="expected a pid"):
            table.give_away(7)  # type: ignore[arg-type]

    async def test_back_and_forth_leaves_one_closer(self) -> None:
        me = current()

        async def partner() -> None:
            while True:
                (await receive(Transfer)).table.give_away(me)

        other = spawn(partner)
        table = Table[int, int]()
        for _ in range(10):
            table.give_away(other)
            await receive(Transfer)
        assert len(me.extra.closers) == 1  # type: ignore[attr-defined]
        table.delete_table()
        assert not me.extra.closers  # type: ignore[attr-defined]
        assert not other.extra.closers  # type: ignore[attr-defined]
        exit(other, KILL)


class TestDeathInAnyOrder:
    @pytest.mark.parametrize("seed", range(20))
    async def test_each_table_is_where_its_heirs_say(self, seed: int) -> None:
        """Owners end in random order; a table goes to its heir while that lives, and ends with the last."""
        rng = random.Random(seed)
        processes = [spawn(forever) for _ in range(8)]
        await settle()
        tables: dict[Table[Any, Any], tuple[Pid, Pid | None]] = {}
        for number in range(30):
            owner, heir = rng.choice(processes), rng.choice([*processes, None])
            table = filled(name=f"t{number}" if rng.random() < 0.5 else None, heir=heir)
            table.give_away(owner)
            tables[table] = owner, heir
        alive = set(processes)
        for one in rng.sample(processes, len(processes)):
            alive.discard(one)
            exit(one, KILL)
            for table, (owner, heir) in list(tables.items()):
                if owner is one:
                    if heir in alive:
                        assert heir is not None
                        tables[table] = heir, heir
                    else:
                        del tables[table]
                        assert table.info() is None
            assert ets.tables() == [table for table in ets.tables() if table in tables]
            assert len(ets.tables()) == len(tables)
            for table, (owner, _) in tables.items():
                assert table.info().owner is owner  # type: ignore[union-attr]
                assert table.name is None or ets.table(table.name) is table
        assert ets.tables() == []


class TestThreads:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("access", ["protected", "public"])
    async def test_readers_see_a_batch_or_nothing_of_it_while_the_owner_writes(self, kind: Any, access: Any) -> None:
        table = Table[str, int](kind=kind, access=access)
        stop, problems = threading.Event(), list[Any]()
        keys = [f"k{n:02}" for n in range(20)]

        def look() -> None:
            rows = table.to_list()
            if len(rows) not in (0, len(keys)) or len({value for _, value in rows}) > 1:
                problems.append(rows)
            # The writer counts up: what is read later is never older.
            seen = [value for key in keys for value in table.lookup(key)]
            seen += [value for _, value in table.items()]
            seen += table.select(low="k05", high="k15", give=lambda key, value: value)
            if seen != sorted(seen):
                problems.append(seen)
            table.first()
            table.last()

        def read() -> None:
            try:
                while not stop.is_set():
                    look()
            except Exception as error:
                problems.append(error)

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        for turn in range(200):
            if kind in BAGS:
                table.delete_all_objects()
            table.insert_many((key, turn) for key in keys)
        stop.set()
        for thread in threads:
            thread.join()
        assert problems == []

    @pytest.mark.parametrize("kind", ["set", "ordered_set"])
    async def test_counters_lose_nothing(self, kind: Any) -> None:
        table = Table[str, Any](kind=kind, access="public")
        table.insert_many({"plain": 0, "pair": (0, 0)})

        def count() -> None:
            for _ in range(500):
                table.update_counter("plain")
                table.update_counter("pair", [ets.Incr(1, at=0), ets.Incr(2, at=1)])

        threads = [threading.Thread(target=count) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert table.to_list() in ([("plain", 2000), ("pair", (2000, 4000))], [("pair", (2000, 4000)), ("plain", 2000)])

    async def test_one_thread_only_is_the_first(self) -> None:
        table = Table[int, int](access="public")
        won: list[int] = []

        def race() -> None:
            won.extend(key for key in range(500) if table.insert_new(key, key))

        threads = [threading.Thread(target=race) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(won) == list(range(500))


class TestATableIsAValue:
    async def test_that_is_sent_stored_and_copied_as_itself(self) -> None:
        table = Table[str, Any]()
        table.insert("self", {"table": table})
        assert table["self"]["table"] is copy.copy(table) is copy.deepcopy(table) is table

    async def test_that_means_nothing_elsewhere(self) -> None:
        with pytest.raises(TypeError, match="means nothing outside its interpreter"):
            pickle.dumps(Table[int, int]())
