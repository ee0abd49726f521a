"""Random transactions side by side: what they read, and what is there in the end, is what some order of them, one by one, gives."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from itertools import permutations
from typing import Any

import pytest

from beamish.store import Conflict, Engine, Store
from storing import Counter, fill, open_shop

Make = Callable[[], Engine]
NAMES = "abc"
Plan = list[tuple[str, str]]


def planned(chance: random.Random) -> Plan:
    kinds = ["read", "read", "query", "count", "blind", "delete", "pause", "pause"]
    return [(chance.choice(kinds), chance.choice(NAMES)) for _ in range(chance.randint(2, 6))]


async def perform(shop: Store, plan: Plan, me: int) -> list[Any]:
    """What it has read. The value of a write depends on all that was read before."""
    seen: list[Any] = []
    async with shop.transaction() as tx:
        for what, name in plan:
            if what == "read":
                seen.append(await tx.read(Counter, name))
            elif what == "query":
                seen.append(await tx.query(Counter, low=name, high="c", inclusive="both", where=lambda one: one.n % 2 == 0))
            elif what == "delete":
                tx.delete(Counter, name)
            elif what == "pause":
                await asyncio.sleep(0)
            else:
                tx.write(Counter(name, value(me, seen if what == "count" else [])))
    return seen


def value(me: int, seen: list[Any]) -> int:
    return (me * 31 + sum(map(ord, repr(seen)))) % 1000


def alone(state: dict[str, Counter], plan: Plan, me: int) -> list[Any]:
    """The same on a dict."""
    seen: list[Any] = []
    for what, name in plan:
        if what == "read":
            seen.append(state.get(name))
        elif what == "query":
            seen.append([state[key] for key in sorted(state) if name <= key <= "c" and state[key].n % 2 == 0])
        elif what == "delete":
            state.pop(name, None)
        elif what != "pause":
            state[name] = Counter(name, value(me, seen if what == "count" else []))
    return seen


def is_serial(start: dict[str, Counter], plans: dict[int, Plan], results: dict[int, Any], end: dict[str, Counter]) -> bool:
    for order in permutations(results):
        state = dict(start)
        if all(alone(state, plans[me], me) == results[me] for me in order) and state == end:
            return True
    return False


@pytest.mark.parametrize("seed", range(8))
async def test_random_transactions_are_serializable(engine: Make, seed: int) -> None:
    chance = random.Random(seed)
    conflicts = 0
    async with open_shop(engine(), [Counter]) as shop:
        for _ in range(15):
            start = {name: Counter(name, chance.randint(0, 9)) for name in NAMES if chance.random() < 0.7}
            for name in NAMES:
                await shop.dirty_delete(Counter, name)
            await fill(shop, *start.values())
            plans = {me: planned(chance) for me in range(5)}
            answers = await asyncio.gather(*(perform(shop, plan, me) for me, plan in plans.items()), return_exceptions=True)
            results = {me: answer for me, answer in enumerate(answers) if not isinstance(answer, Conflict)}
            assert not any(isinstance(answer, BaseException) for answer in results.values()), answers
            end = {one.name: one for one in await shop.dirty_query(Counter)}
            assert is_serial(start, plans, results, end), (start, plans, results, end)
            conflicts += len(answers) - len(results)
    assert conflicts
