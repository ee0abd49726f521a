"""Transactions: all or nothing, their own writes, nesting, abort; on every engine."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest

from beamish.store import Aborted, BadRecord, Engine, NoTable, StoreClosed, Transaction, TransactionOver
from storing import Account, Counter, Tag, Thing, fill, open_shop

Make = Callable[[], Engine]
ANN, BOB, EVE = Account(1, "ann", 100), Account(2, "bob", 50), Account(3, "ann", 7)


class TestReadingAndWriting:
    async def test_what_is_committed_is_read(self, engine: Make) -> None:
        async with open_shop(engine()) as shop:
            await fill(shop, ANN, BOB)
            async with shop.transaction() as tx:
                assert await tx.read(Account, 1) == ANN
                assert await tx.read(Account, 9) is None
                assert await tx.read_all(Account, 2) == [BOB]
                tx.write(replace(ANN, balance=1))
            assert await shop.dirty_read(Account, 1) == Account(1, "ann", 1)

    async def test_a_transaction_sees_its_own_writes_and_nobody_else_does(self, engine: Make) -> None:
        async with open_shop(engine()) as shop:
            await fill(shop, ANN, BOB)
            async with shop.transaction() as tx:
                tx.write(replace(ANN, balance=1))
                tx.delete(Account, 2)
                tx.write(EVE)
                assert await tx.read(Account, 1) == Account(1, "ann", 1)
                assert await tx.read(Account, 2) is None
                assert await tx.query(Account) == [Account(1, "ann", 1), EVE]
                assert await shop.dirty_query(Account) == [ANN, BOB]
            assert await shop.dirty_query(Account) == [Account(1, "ann", 1), EVE]

    async def test_a_function_is_given_tx_and_its_arguments(self, engine: Make) -> None:
        async def pay(tx: Transaction, key: int, by: int = 1) -> int:
            found = await tx.read(Account, key)
            assert found is not None
            tx.write(replace(found, balance=found.balance + by))
            return found.balance + by

        async with open_shop(engine()) as shop:
            await fill(shop, ANN)
            assert await shop.transaction(pay, 1) == 101
            assert await shop.transaction(pay, 1, by=-1) == 100

    async def test_values_come_back_as_they_went_and_nobody_holds_them(self, engine: Make) -> None:
        box = {"a": [1, b"x", {2.5}]}
        thing = Thing(b"k", 1, 2.0, "ä", True, b"\0", (1, "x", (2**70,)), box)
        async with open_shop(engine()) as shop:
            await fill(shop, thing)
            box["a"].append("later")
            read = await shop.dirty_read(Thing, b"k")
            assert read == replace(thing, box={"a": [1, b"x", {2.5}]})
            assert read.box is not None
            read.box["a"].clear()
            [found] = await shop.dirty_query(Thing)
            assert found.box == {"a": [1, b"x", {2.5}]}

    async def test_what_does_not_fit_is_refused_where_it_is_written(self, engine: Make) -> None:
        async with open_shop(engine(), [Account]) as shop:
            with pytest.raises(BadRecord, match=r"Account\.owner is of type str"):
                await shop.dirty_write(Account(1, 2))  # type: ignore[arg-type]
            with pytest.raises(NoTable, match="no table for Counter; give it in tables="):
                await shop.dirty_write(Counter("x"))
            with pytest.raises(NoTable, match="no table for Counter"):
                await shop.dirty_read(Counter, "x")
            with pytest.raises(BadRecord, match=r"Account\.id is of type int"):
                await shop.dirty_read(Account, "1")
            assert await shop.dirty_query(Account) == []


class TestAbort:
    async def test_abort_and_errors_undo_everything(self, engine: Make) -> None:
        async with open_shop(engine()) as shop:
            await fill(shop, ANN, BOB)
            with pytest.raises(Aborted) as caught:
                async with shop.transaction() as tx:
                    tx.delete(Account, 1)
                    tx.abort("no")
            assert caught.value.reason == "no"
            with pytest.raises(ZeroDivisionError):
                async with shop.transaction() as tx:
                    tx.write(replace(ANN, balance=1 // 0))

            async def gives_up(tx: Transaction) -> None:
                tx.delete(Account, 2)
                tx.abort()

            with pytest.raises(Aborted):
                await shop.transaction(gives_up)
            assert await shop.dirty_query(Account) == [ANN, BOB]

    async def test_a_transaction_that_is_over_is_refused(self, engine: Make) -> None:
        async with open_shop(engine()) as shop:
            async with shop.transaction() as tx:
                pass
            with pytest.raises(TransactionOver):
                await tx.read(Account, 1)
            with pytest.raises(TransactionOver):
                await tx.query(Account)
            with pytest.raises(TransactionOver):
                tx.write(ANN)

    async def test_a_store_that_stops_ends_its_transactions(self, engine: Make) -> None:
        async with open_shop(engine()) as shop:
            with pytest.raises(StoreClosed):
                async with shop.transaction() as tx:
                    tx.write(ANN)
                    await shop.stop()


class TestNested:
    async def test_an_inner_abort_undoes_only_the_inner(self, engine: Make) -> None:
        async with open_shop(engine()) as shop:
            await fill(shop, ANN, BOB, Tag(1, "a"))
            async with shop.transaction() as tx:
                tx.write(replace(ANN, balance=11))
                with pytest.raises(Aborted):
                    async with tx.nested() as inner:
                        inner.write(replace(ANN, balance=12))
                        inner.delete(Account, 2)
                        inner.write(Tag(1, "b"))
                        inner.write(EVE)
                        inner.abort("inner")
                assert await tx.query(Account) == [replace(ANN, balance=11), BOB]
                assert await tx.read_all(Tag, 1) == [Tag(1, "a")]
            assert await shop.dirty_query(Account) == [replace(ANN, balance=11), BOB]

    async def test_levels_are_undone_one_by_one(self, engine: Make) -> None:
        async with open_shop(engine()) as shop:
            async with shop.transaction() as tx:
                async with tx.nested():
                    tx.write(replace(ANN, balance=1))
                    with pytest.raises(KeyError):
                        async with tx.nested():
                            tx.write(replace(ANN, balance=2))
                            raise KeyError
                    async with tx.nested():
                        tx.write(BOB)
                with pytest.raises(KeyError):
                    async with tx.nested():
                        async with tx.nested():
                            tx.delete(Account, 2)
                        raise KeyError
            assert await shop.dirty_query(Account) == [replace(ANN, balance=1), BOB]

    async def test_what_an_inner_one_has_committed_goes_with_the_outer(self, engine: Make) -> None:
        async with open_shop(engine()) as shop:
            await fill(shop, BOB)
            with pytest.raises(Aborted):
                async with shop.transaction() as tx:
                    async with tx.nested() as inner:
                        inner.delete(Account, 2)
                    tx.abort("outer")
            assert await shop.dirty_query(Account) == [BOB]


class TestWhatIsOver:
    async def test_a_nested_transaction_ends_with_its_block(self, engine: Make) -> None:
        async with open_shop(engine()) as shop:
            async with shop.transaction() as tx:
                async with tx.nested() as inner:
                    inner.write(ANN)
                with pytest.raises(TransactionOver):
                    inner.write(BOB)
                with pytest.raises(TransactionOver):
                    inner.nested()
            for use in (tx.abort, tx.nested):
                with pytest.raises(TransactionOver):
                    use()
            assert await shop.dirty_query(Account) == [ANN]

    async def test_an_abort_that_somebody_catches_aborts_all_the_same(self, engine: Make) -> None:
        async def swallows(tx: Transaction) -> None:
            tx.write(ANN)
            with suppress(Exception):
                tx.abort("no")
            with pytest.raises(TransactionOver, match="was aborted"):
                tx.write(BOB)

        async def inner_swallows(tx: Transaction) -> None:
            tx.write(ANN)
            with pytest.raises(Aborted, match="inner"):
                async with tx.nested() as inner:
                    inner.write(BOB)
                    with suppress(Aborted):
                        inner.abort("inner")

        async def outer_from_within(tx: Transaction) -> None:
            with suppress(Aborted):
                async with tx.nested() as inner:
                    inner.write(BOB)
                    tx.abort("outer")

        async with open_shop(engine()) as shop:
            with pytest.raises(Aborted, match="no"):
                await shop.transaction(swallows)
            with pytest.raises(Aborted, match="outer"):
                await shop.transaction(outer_from_within)
            assert await shop.dirty_query(Account) == []
            await shop.transaction(inner_swallows)
            assert await shop.dirty_query(Account) == [ANN]


class TestBags:
    async def test_a_bag_has_any_number_of_records_for_a_key_but_no_two_equal_ones(self, engine: Make) -> None:
        async with open_shop(engine()) as shop:
            await fill(shop, Tag(1, "b"), Tag(1, "a"), Tag(1, "b"), Tag(2, "a"))
            await fill(shop, Tag(1, "a"), Tag(1, "c"))
            assert await shop.dirty_read_all(Tag, 1) == [Tag(1, "b"), Tag(1, "a"), Tag(1, "c")]
            assert sorted(one.post for one in await shop.dirty_query(Tag, index="word", key="a")) == [1, 2]
            await shop.dirty_delete_record(Tag(1, "a"))
            assert await shop.dirty_read_all(Tag, 1) == [Tag(1, "b"), Tag(1, "c")]
            await shop.dirty_delete(Tag, 1)
            assert await shop.dirty_query(Tag) == [Tag(2, "a")]

    async def test_edits_of_one_transaction_follow_each_other(self, engine: Make) -> None:
        async with open_shop(engine()) as shop:
            await fill(shop, Tag(1, "a"), Tag(1, "b"))
            async with shop.transaction() as tx:
                tx.delete_record(Tag(1, "a"))
                tx.write(Tag(1, "c"))
                assert await tx.read_all(Tag, 1) == [Tag(1, "b"), Tag(1, "c")]
                tx.write(Tag(1, "a"))
                assert await tx.query(Tag, key=1) == [Tag(1, "b"), Tag(1, "c"), Tag(1, "a")]
                tx.delete(Tag, 1)
                assert await tx.read_all(Tag, 1) == []
                tx.write(Tag(1, "d"))
            assert await shop.dirty_read_all(Tag, 1) == [Tag(1, "d")]

    async def test_a_large_bag_is_written_to_in_time(self, engine: Make) -> None:
        async with open_shop(engine()) as shop:
            await fill(shop, *(Tag(1, str(n)) for n in range(1000)))
            for n in range(20):
                await shop.dirty_write(Tag(1, f"more {n}"))
                await shop.dirty_delete_record(Tag(1, str(n)))
            found = [one.word for one in await shop.dirty_read_all(Tag, 1)]
            assert found == [*map(str, range(20, 1000)), *(f"more {n}" for n in range(20))]

    async def test_read_is_for_tables_with_one_record_for_a_key(self, engine: Make) -> None:
        async with open_shop(engine()) as shop:
            with pytest.raises(BadRecord, match=r"read_all\(Tag, 1\)"):
                await shop.dirty_read(Tag, 1)
            with pytest.raises(BadRecord, match=r"delete\(Account, key\)"):
                await shop.dirty_delete_record(ANN)


class TestDirty:
    async def test_single_operations(self, engine: Make) -> None:
        async with open_shop(engine()) as shop:
            await shop.dirty_write(ANN)
            assert await shop.dirty_read(Account, 1) == ANN
            await shop.dirty_delete(Account, 1)
            await shop.dirty_delete(Account, 1)
            assert await shop.dirty_read(Account, 1) is None

    async def test_counters(self, engine: Make) -> None:
        async with open_shop(engine()) as shop:
            assert await shop.dirty_update_counter(Counter, "x", 5) == 5
            assert await shop.dirty_update_counter(Counter, "x", -2) == 3
            async with shop.transaction() as tx:
                assert await tx.update_counter(Counter, "x") == 4
                assert await tx.update_counter(Counter, "y") == 1
            await shop.dirty_write(ANN)
            assert await shop.dirty_update_counter(Account, 1, 10, field="balance") == 110
            with pytest.raises(BadRecord, match=r"no Account 5 to count in.*owner"):
                await shop.dirty_update_counter(Account, 5, field="balance")
            for name in ("nope", "owner", "id"):
                with pytest.raises(BadRecord, match=f"no int field '{name}'"):
                    await shop.dirty_update_counter(Account, 1, field=name)
            with pytest.raises(BadRecord, match="say which with field="):
                await shop.dirty_update_counter(Tag, 1)
