"""Queries: by key, range, index and predicate, in order; on every engine, with and without writes of the transaction itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from beamish.store import BadRecord, Engine
from storing import Account, Session, Thing, fill, open_shop

Make = Callable[[], Engine]
PEOPLE = [Account(n, "abc"[n % 3], n * 10) for n in range(1, 10)]

CASES: list[tuple[dict[str, Any], list[int]]] = [
    ({}, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
    ({"reverse": True}, [9, 8, 7, 6, 5, 4, 3, 2, 1]),
    ({"key": 4}, [4]),
    ({"key": 44}, []),
    ({"low": 3, "high": 5}, [3, 4]),
    ({"low": 3, "high": 5, "inclusive": "low"}, [3, 4]),
    ({"low": 3, "high": 5, "inclusive": "neither"}, [4]),
    ({"low": 3, "high": 5, "inclusive": "both"}, [3, 4, 5]),
    ({"low": 3, "high": 5, "inclusive": "high"}, [4, 5]),
    ({"low": 7}, [7, 8, 9]),
    ({"high": 2}, [1]),
    ({"low": 5, "high": 4}, []),
    ({"low": 5, "high": 5, "inclusive": "both"}, [5]),
    ({"low": 5, "high": 5}, []),
    ({"limit": 2}, [1, 2]),
    ({"limit": 0}, []),
    ({"limit": 2, "reverse": True, "high": 7}, [6, 5]),
    ({"index": "owner", "key": "a"}, [3, 6, 9]),
    ({"index": "owner", "key": "a", "reverse": True, "limit": 2}, [9, 6]),
    ({"index": "owner", "key": "z"}, []),
    ({"index": "owner"}, [3, 6, 9, 1, 4, 7, 2, 5, 8]),
    ({"index": "owner", "low": "b", "limit": 4}, [1, 4, 7, 2]),
    ({"index": "owner", "reverse": True}, [8, 5, 2, 7, 4, 1, 9, 6, 3]),
    ({"index": "balance", "low": 20, "high": 40, "inclusive": "high"}, [3, 4]),
    ({"where": lambda one: one.balance > 70}, [8, 9]),
    ({"index": "owner", "key": "b", "where": lambda one: one.id > 1, "limit": 1}, [4]),
]


@pytest.mark.parametrize("own", [False, True], ids=["committed", "own-writes"])
async def test_queries(engine: Make, own: bool) -> None:
    async with open_shop(engine()) as shop:
        committed = PEOPLE
        if own:
            committed = [*PEOPLE[:4], Account(5, "zz", 1), Account(77, "a", 30)]
        await fill(shop, *committed)
        async with shop.transaction() as tx:
            if own:
                tx.delete(Account, 77)
                for one in PEOPLE[4:]:
                    tx.write(one)
            for options, expected in CASES:
                assert [one.id for one in await tx.query(Account, **options)] == expected, options
        for options, expected in CASES:
            assert [one.id for one in await shop.dirty_query(Account, **options)] == expected, options


async def test_indexes_follow_changes(engine: Make) -> None:
    async with open_shop(engine()) as shop:
        await fill(shop, *PEOPLE)
        await fill(shop, Account(3, "b", 1), Account(1, "q", 1))
        await shop.dirty_delete(Account, 6)
        assert [one.id for one in await shop.dirty_query(Account, index="owner", key="a")] == [9]
        assert [one.id for one in await shop.dirty_query(Account, index="owner", low="b", high="b", inclusive="both")] == [3, 4, 7]
        assert [one.id for one in await shop.dirty_query(Account, index="balance", high=20, inclusive="high")] == [1, 3, 2]


async def test_each_type_has_its_order_and_none_comes_first(engine: Make) -> None:
    values: dict[str, list[Any]] = {
        "size": [-(2**63), -1, 0, 2, 10, 2**63 - 1],
        "weight": [float("-inf"), -1.5, 0.0, 2.0, 10.25, float("inf")],
        "note": ["", "A", "Z", "a", "a b", "ab", "ä", "日"],
        "sold": [False, True],
        "code": [b"", b"\0", b"\0a", b"\x7f", b"\x80", b"\xff"],
    }
    async with open_shop(engine()) as shop:
        for field, ordered in values.items():
            for one in await shop.dirty_query(Thing):
                await shop.dirty_delete(Thing, one.id)
            await fill(shop, Thing(b"none"), *(Thing(repr(v).encode(), **{field: v}) for v in reversed(ordered)))
            found = [getattr(one, field) for one in await shop.dirty_query(Thing, index=field)]
            assert found == [None, *ordered]
            found = [getattr(one, field) for one in await shop.dirty_query(Thing, index=field, reverse=True)]
            assert found == [*reversed(ordered), None]
            assert [one.id for one in await shop.dirty_query(Thing, index=field, key=None)] == [b"none"]
            found = [getattr(one, field) for one in await shop.dirty_query(Thing, index=field, high=ordered[-1], inclusive="high")]
            assert found == ordered
            found = [getattr(one, field) for one in await shop.dirty_query(Thing, index=field, low=ordered[1], inclusive="neither")]
            assert found == ordered[2:]
            assert [type(one) for one in found] == [type(one) for one in ordered[2:]]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"index": "nope"}, "has no index 'nope' .it has: owner, balance."),
        ({"key": "x"}, "Account.id is of type int"),
        ({"low": 1.5}, "Account.id is of type int"),
        ({"index": "owner", "high": 3}, "Account.owner is of type str"),
        ({"key": 1, "low": 2}, "not both"),
        ({"inclusive": "]["}, "the ends that belong to the range"),
        ({"limit": -1}, "0 or more"),
        ({"where": 3}, "function of a record"),
    ],
)
async def test_a_query_that_makes_no_sense_is_refused(engine: Make, options: dict[str, Any], says: str) -> None:
    async with open_shop(engine()) as shop:
        with pytest.raises(BadRecord, match=says):
            await shop.dirty_query(Account, **options)


async def test_none_is_no_end_of_a_range(engine: Make) -> None:
    async with open_shop(engine()) as shop:
        with pytest.raises(BadRecord, match="key=None"):
            await shop.dirty_query(Session, index="user", low=None)


async def test_a_predicate_that_raises_is_the_askers(engine: Make) -> None:
    def fails(one: Account) -> bool:
        raise KeyError(one.id)

    async with open_shop(engine()) as shop:
        await fill(shop, *PEOPLE)
        with pytest.raises(KeyError):
            await shop.dirty_query(Account, where=fails)
        assert len(await shop.dirty_query(Account)) == 9
