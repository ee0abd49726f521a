"""Transactions side by side are as if they had run one after the other: the anomalies of the textbooks, on every engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from beamish.store import Conflict, Engine, Transaction
from storing import Account, Counter, Tag, fill, open_shop

Make = Callable[[], Engine]


async def meanwhile(tx: Transaction, change: object) -> None:
    """Reads what the other transaction writes, and writes what that has read: not both can be first."""
    await tx.read(Counter, "found")
    tx.write(change)


async def test_no_increment_is_lost(engine: Make) -> None:
    async def add(tx: Transaction) -> None:
        found = await tx.read(Account, 1)
        assert found is not None
        await asyncio.sleep(0)
        tx.write(replace(found, balance=found.balance + 1))

    async with open_shop(engine()) as shop:
        await fill(shop, Account(1, "ann", 7))
        await asyncio.gather(*(shop.transaction(add) for _ in range(20)))
        assert await shop.dirty_read(Account, 1) == Account(1, "ann", 27)


async def test_lost_update_is_a_conflict_for_the_second(engine: Make) -> None:
    async with open_shop(engine()) as shop:
        await fill(shop, Account(1, "ann", 7))
        with pytest.raises(Conflict):
            async with shop.transaction() as tx:
                found = await tx.read(Account, 1)
                assert found is not None
                await shop.dirty_write(replace(found, balance=100))
                tx.write(replace(found, balance=found.balance + 1))
        assert await shop.dirty_read(Account, 1) == Account(1, "ann", 100)


async def test_write_skew(engine: Make) -> None:
    """Each may go off duty while the other one is on; both together may not."""
    start = asyncio.Barrier(2)
    runs = 0

    async def leave(tx: Transaction, me: int) -> None:
        nonlocal runs
        runs += 1
        on = await tx.query(Account, where=lambda one: one.balance > 0)
        if runs <= 2:
            await start.wait()
        if len(on) > 1:
            tx.write(Account(me, "doctor", 0))

    async with open_shop(engine()) as shop:
        await fill(shop, Account(1, "doctor", 1), Account(2, "doctor", 1))
        await asyncio.gather(shop.transaction(leave, 1), shop.transaction(leave, 2))
        assert sum(one.balance for one in await shop.dirty_query(Account)) == 1
        assert runs == 3


@pytest.mark.parametrize("index", [None, "owner", "balance"])
async def test_a_phantom_is_a_conflict(engine: Make, index: str | None) -> None:
    async with open_shop(engine()) as shop:
        await fill(shop, Account(1, "ann", 1), Account(9, "eve", 9))
        options = {None: {"low": 1, "high": 5}, "owner": {"key": "ann"}, "balance": {"low": 0, "high": 5}}[index]
        with pytest.raises(Conflict):
            async with shop.transaction() as tx:
                found = await tx.query(Account, index=index, **options)  # type: ignore[arg-type]
                assert len(found) == 1
                await shop.transaction(meanwhile, Account(2, "ann", 2))
                tx.write(Counter("found", len(found)))
        assert await shop.dirty_read(Counter, "found") is None


async def test_a_record_that_leaves_what_a_query_found_is_a_conflict(engine: Make) -> None:
    async with open_shop(engine()) as shop:
        await fill(shop, Account(1, "ann", 1), Account(2, "ann", 2))
        for change in (Account(1, "bob", 1), Account(2, "ann", 99)):
            with pytest.raises(Conflict):
                async with shop.transaction() as tx:
                    found = await tx.query(Account, index="owner", key="ann", where=lambda one: one.balance < 50)
                    await shop.transaction(meanwhile, change)
                    tx.write(Counter("found", len(found)))


async def test_what_was_not_there_counts_as_read(engine: Make) -> None:
    async with open_shop(engine()) as shop:
        with pytest.raises(Conflict):
            async with shop.transaction() as tx:
                assert await tx.read(Account, 1) is None
                await shop.dirty_write(Account(1, "first"))
                tx.write(Account(1, "second"))
        assert await shop.dirty_read(Account, 1) == Account(1, "first")


async def test_a_bag_that_has_grown_is_a_conflict(engine: Make) -> None:
    async with open_shop(engine()) as shop:
        await fill(shop, Tag(1, "a"))
        with pytest.raises(Conflict):
            async with shop.transaction() as tx:
                words = await tx.read_all(Tag, 1)
                await shop.transaction(meanwhile, Tag(1, "b"))
                tx.write(Counter("found", len(words)))


async def test_a_transaction_never_sees_two_moments(engine: Make) -> None:
    """Not even one that is bound to fail: what it computes from an impossible state might not be harmless."""
    async with open_shop(engine()) as shop:
        await fill(shop, Account(1, "a", 50), Account(2, "b", 50))
        seen: list[int] = []
        try:
            async with shop.transaction() as tx:
                first = await tx.read(Account, 1)
                await fill(shop, Account(1, "a", 0), Account(2, "b", 100))
                second = await tx.read(Account, 2)
                assert first is not None
                assert second is not None
                seen.append(first.balance + second.balance)
        except Conflict:
            pass
        assert seen in ([], [100])


async def test_transactions_on_different_records_do_not_disturb_each_other(engine: Make) -> None:
    """Far from each other, that is: PostgreSQL takes what lies on one page of an index for one thing."""
    async with open_shop(engine()) as shop:
        await fill(shop, *(Account(n, "x", n) for n in range(2000)))
        async with shop.transaction() as tx:
            found = await tx.read(Account, 1)
            assert found is not None
            assert len(await tx.query(Account, low=1, high=5, inclusive="both")) == 5
            await shop.dirty_write(Account(1500, "c", 4))
            await shop.dirty_delete(Account, 3000)
            tx.write(replace(found, balance=50))
        assert [one.balance for one in await shop.dirty_query(Account, low=0, high=3)] == [0, 50, 2]
        assert await shop.dirty_read(Account, 1500) == Account(1500, "c", 4)


async def test_one_that_only_reads_does_not_mind_what_changes_after_its_last_read(engine: Make) -> None:
    async with open_shop(engine()) as shop:
        await fill(shop, Account(1, "ann", 1))
        async with shop.transaction() as tx:
            assert await tx.read(Account, 1) == Account(1, "ann", 1)
            assert len(await tx.query(Account)) == 1
            await shop.dirty_write(Account(1, "ann", 2))


async def test_blind_writes_never_conflict(engine: Make) -> None:
    async with open_shop(engine()) as shop:
        async with shop.transaction() as tx:
            tx.write(Account(1, "mine", 1))
            await shop.dirty_write(Account(1, "theirs", 2))
        assert await shop.dirty_read(Account, 1) == Account(1, "mine", 1)


async def test_a_function_is_run_again_until_it_fits_and_not_for_ever(engine: Make) -> None:
    runs = 0

    async def late(tx: Transaction, times: int) -> int:
        nonlocal runs
        runs += 1
        found = await tx.read(Counter, "x")
        if runs <= times:
            await shop.dirty_update_counter(Counter, "x")
        tx.write(Counter("x", (found.n if found else 0) + 100))
        return runs

    async with open_shop(engine()) as shop:
        assert await shop.transaction(late, 3) == 4
        assert await shop.dirty_read(Counter, "x") == Counter("x", 103)
        runs = 0
        with pytest.raises(Conflict, match="was run 100 times"):
            await shop.transaction(late, 1000)


async def test_money_is_neither_made_nor_lost(engine: Make) -> None:
    async def move(tx: Transaction, a: int, b: int) -> None:
        one, other = await tx.read(Account, a), await tx.read(Account, b)
        assert one is not None
        assert other is not None
        await asyncio.sleep(0)
        if one.balance >= 5:
            tx.write(replace(one, balance=one.balance - 5))
            tx.write(replace(other, balance=other.balance + 5))

    async def audit(tx: Transaction) -> int:
        found = [await tx.read(Account, n) for n in range(5)]
        await asyncio.sleep(0)
        return sum(one.balance for one in found if one is not None) + 0 * len(await tx.query(Account))

    async with open_shop(engine()) as shop:
        await fill(shop, *(Account(n, "x", 20) for n in range(5)))
        moves = [shop.transaction(move, n % 5, (n * 3 + 1) % 5) for n in range(40) if n % 5 != (n * 3 + 1) % 5]
        audits = [shop.transaction(audit) for _ in range(10)]
        results = await asyncio.gather(*moves, *audits)
        assert results[len(moves) :] == [100] * 10
        assert sum(one.balance for one in await shop.dirty_query(Account)) == 100


async def test_a_predicate_that_fails_is_not_the_problem_of_whoever_commits(engine: Make) -> None:
    async with open_shop(engine()) as shop:
        await fill(shop, Account(1, "ann", 1))
        async with shop.transaction() as tx:
            assert len(await tx.query(Account, where=lambda one: 1 // one.balance > 0)) == 1
            await shop.dirty_write(Account(2, "bob", 0))
        async with shop.transaction() as tx:
            with pytest.raises(ZeroDivisionError):
                await tx.query(Account, where=lambda one: 1 // one.balance > 0)
