"""What clients of SearchCache, RateLimiter, Registry and Agent see is explained by sequential models of these, whatever the interleaving,
and whatever crashes: a crash loses the state, and the models say so."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Hashable
from typing import Any

import pytest

from beamish import Agent, AlreadyRegistered, CallExit, GenServer, Registry, Request, call
from beamish.servers import RateLimiter, SearchCache
from beamish.testing import History, Model, NotLinearizable, World, capture_crashes, linearizable, simulate

#: What may go wrong.
DEATHS = ("crash", "kill")


async def clients(count: int, act: Callable[[str, random.Random], Awaitable[object]]) -> None:
    """So many at the same time, each with a few acts of its own choice. A server that died of one is no reason to stop."""

    async def client(number: int) -> None:
        rng = random.Random(number)
        for _ in range(4):
            try:
                await act(f"client {number}", rng)
            except CallExit:
                await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(client(number))


# --- SearchCache ------------------------------------------------------------------------------------------------------

Stored = tuple[tuple[str, int], ...]


class Cached(Model[Stored]):
    """Queries and results in the order of their first storing, at most `limit`."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def init(self) -> Stored:
        return ()

    def step(self, state: Stored, request: Request, /) -> tuple[object, Stored]:
        found = dict(state)
        match request:
            case Request("fetch", (query,)):
                return found.get(query), state
            case Request("put" | "cache", (query, result)):
                found[query] = result
                return None, tuple(found.items())[-self.limit :]
            case Request("invalidate", (query,)):
                return found.pop(query, None) is not None, tuple(found.items())
            case Request("clear"):
                return len(found), ()
            case _:
                raise AssertionError(request)


@pytest.mark.parametrize("limit", [2, 100])
@simulate(seeds=200, faults=DEATHS)
async def test_search_cache(world: World, limit: int) -> None:
    cache = SearchCache[str, int]("cache")

    async def act(who: str, rng: random.Random) -> None:
        query, result = rng.choice("abc"), rng.randrange(100)
        match rng.choice(["fetch", "fetch", "put", "cache", "invalidate", "clear"]):
            case "fetch":
                await history.call(who, cache.fetch, query)
            case "put":
                await history.call(who, cache.put, query, result)
            case "cache":
                history.cast(who, cache.cache, query, result)
            case "invalidate":
                await history.call(who, cache.invalidate, query)
            case _:
                await history.call(who, cache.clear)

    with capture_crashes(), History(cache) as history:
        await world.start_supervised(cache.child_spec(limit=limit, stats_every=None))
        await clients(3, act)
    linearizable(history, Cached(limit))


# --- RateLimiter ------------------------------------------------------------------------------------------------------


class Limited(Model[int]):
    """What each key has used: the window is so long that nothing leaves it."""

    def init(self) -> int:
        return 0

    def step(self, state: int, request: Request, /) -> tuple[object, int]:
        match request:
            case Request("track", (_, cost)):
                fits = state + cost <= 3
                return (fits, 3 - state - cost * fits), state + cost * fits
            case Request("peek", (_, cost)):
                return (state + cost <= 3, 3 - state), state
            case Request("reset"):
                return state > 0, 0
            case _:
                raise AssertionError(request)

    def key(self, request: Request, /) -> Hashable:
        return request.args[0]


@simulate(seeds=200, faults=DEATHS)
async def test_rate_limiter(world: World) -> None:
    limiter = RateLimiter("limiter")

    async def track(key: str, cost: int) -> tuple[bool, int]:
        decision = await limiter.track(key, cost)
        return decision.allowed, decision.remaining

    async def peek(key: str, cost: int) -> tuple[bool, int]:
        decision = await limiter.peek(key, cost)
        return decision.allowed, decision.remaining

    async def act(who: str, rng: random.Random) -> None:
        key, cost = rng.choice("ab"), rng.randrange(1, 3)
        if rng.random() < 0.2:
            await history.call(who, limiter.reset, key)
        else:
            await history.call(who, track if rng.random() < 0.7 else peek, key, cost)

    with capture_crashes(), History(limiter) as history:
        await world.start_supervised(limiter.child_spec(limit=3, per=1e6, stats_every=None))
        await clients(3, act)
    linearizable(history, Limited())


# --- Agent ------------------------------------------------------------------------------------------------------------


def running(state: int, request: Request) -> tuple[object, int]:
    """An agent's requests are functions of its state: the model runs them."""
    fn: Any = request.args[0]
    match request.name:
        case "get":
            return fn(state), state
        case "update" | "cast":
            return None, fn(state)
        case "get_and_update":
            reply, state = fn(state)
            return reply, state
        case _:
            raise AssertionError(request)


@simulate(seeds=200, faults=DEATHS)
async def test_agent(world: World) -> None:
    agent = Agent[int]("agent")

    async def act(who: str, rng: random.Random) -> None:
        n = rng.randrange(1, 9)
        match rng.choice(["get", "update", "get_and_update", "cast"]):
            case "get":
                await history.call(who, agent.get, str)
            case "update":
                await history.call(who, agent.update, lambda state: 2 * state + n)
            case "get_and_update":
                await history.call(who, agent.get_and_update, lambda state: (state, state + n))
            case _:
                history.cast(who, agent.cast, lambda state: state * n)

    with capture_crashes(), History(agent) as history:
        await world.start_supervised(agent.child_spec(lambda: 0))
        await clients(3, act)
    linearizable(history, running, 0)


# --- Registry ---------------------------------------------------------------------------------------------------------

ROOMS = Registry[str, str]("rooms")
Held = tuple[tuple[str, str], ...]


class Member(GenServer[None]):
    """A process that registers itself, as others tell it to."""

    @call
    def take(self, state: None, key: str, name: str) -> bool:
        try:
            ROOMS.register(key, name)
        except AlreadyRegistered:
            return False
        return True

    @call
    def leave(self, state: None, key: str, name: str) -> None:
        ROOMS.unregister(key)


def who_has(key: str) -> list[str]:
    return [value for _, value in ROOMS.lookup(key)]


class Registered(Model[Held]):
    """Keys and the members that have them. Those of a member are gone with it, all of them with the registry."""

    def init(self) -> Held:
        return ()

    def step(self, state: Held, request: Request, /) -> tuple[object, Held]:
        held = dict(state)
        match request:
            case Request("take", (key, name)):
                taken = key in held
                return not taken, tuple(sorted({key: name, **held}.items()))
            case Request("leave", (key, name)):
                return None, tuple(pair for pair in state if pair != (key, name))
            case Request("who_has", (key,)):
                return [held[key]] if key in held else [], state
            case _:
                raise AssertionError(request)

    def crashed(self, state: Held, server: object, /) -> Held:
        return () if server == ROOMS else tuple((key, name) for key, name in state if Member(name) != server)


@simulate(seeds=200, faults=DEATHS)
async def test_registry(world: World) -> None:
    members = [Member("ann"), Member("bob")]

    async def act(who: str, rng: random.Random) -> None:
        key, member = rng.choice("xy"), rng.choice(members)
        name = "ann" if member == members[0] else "bob"
        match rng.choice(["take", "take", "leave", "look", "look"]):
            case "take":
                await history.call(who, member.take, key, name)
            case "leave":
                await history.call(who, member.leave, key, name)
            case _:
                await asyncio.sleep(0)
                history.do(who, who_has, key)

    with capture_crashes(), History(ROOMS, *members) as history:
        await world.start_supervised(ROOMS.child_spec(keys="unique"))
        for member in members:
            await world.start_supervised(member.child_spec())
        await clients(3, act)
    linearizable(history, Registered())


# --- the check finds what is broken -----------------------------------------------------------------------------------


class Forgetful(SearchCache[str, int]):
    """Its clear comes in two steps, between which others have their turn."""

    async def clear_slowly(self) -> int:
        size = (await self.stats()).size
        await self.clear()
        return size


def test_a_clear_that_is_no_single_step_is_found() -> None:
    cache = Forgetful("cache")

    @simulate(seeds=200)
    async def racing() -> None:
        async def clear() -> int:
            return await cache.clear_slowly()

        async def act(who: str, rng: random.Random) -> None:
            if who == "client 0":
                await history.call(who, clear)
            else:
                await history.call(who, cache.put, rng.choice("abc"), 1)

        history = History()
        await cache.start_link(stats_every=None)
        await clients(2, act)
        await cache.stop()
        linearizable(history, Cached(100))

    with pytest.raises(NotLinearizable, match=r"clear\(\) → \d+ would have been → \d+"):
        racing()
