"""State that is kept in a file: what a save and a load take, how late the loop comes meanwhile, and what it costs a call.

By hand it is one `json.dump` in a thread, with the same fsync and rename: quicker, and while its C code runs nothing else does.
"""

import asyncio
import json
import os
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from beamish import GenServer, Init, Snapshot, call, codec, telemetry
from beamish.servers import RateLimiter, SearchCache
from benchmarks.harness import Suite, timed

suite = Suite()

ENTRIES = 200_000
CALLS = 20_000
BEAT = 0.001
SAVE, LOAD, LATE, CALL = "snapshot: save", "snapshot: load", "snapshot: the latest beat", "snapshot: call"
SAVED = "beamish.snapshot.saved"


@codec.register("bench.Entry")
@dataclass(frozen=True, slots=True)
class Entry:
    query: str
    at: float
    hits: int


State = dict[str, Entry]


def entries(n: int) -> State:
    return {f"key {key}": Entry(f"query {key}", key * 1.5, key) for key in range(n)}


class Keeper(GenServer[State]):
    def init(self, state: State, where: Snapshot | None) -> Init:
        return Init(state, snapshot=where)

    def dump(self, state: State) -> State:
        return state.copy()

    @call
    def count(self, state: State) -> int:
        return len(state)


@asynccontextmanager
async def kept(state: State, **options: Any) -> AsyncIterator[tuple[Keeper, Path]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.snap"
        keeper = await Keeper.start_link(state, Snapshot(path, **options))
        yield keeper, path
        if keeper.pid() is not None:
            await keeper.stop()


async def saved(keeper: Keeper) -> None:
    """Have it saved, which its next change does, and wait for that."""
    await told(keeper.count())


async def told(change: Awaitable[object]) -> None:
    done = asyncio.Event()
    telemetry.attach(done, SAVED, lambda *_: done.set())
    await change
    await done.wait()
    telemetry.detach(done)


def by_hand(path: Path, state: State) -> None:
    new = path.with_suffix(".new")
    with new.open("w") as file:
        json.dump({key: asdict(entry) for key, entry in state.items()}, file)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def by_hand_at_once(path: Path, state: State) -> None:
    new = path.with_suffix(".new")
    with new.open("w") as file:
        file.write(json.dumps({key: [entry.query, entry.at, entry.hits] for key, entry in state.items()}))
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


# --- how long ---------------------------------------------------------------------------------------------------------


@suite.variant(SAVE, "Python: json.dump in a thread", n=ENTRIES, baseline=True)
async def save_by_hand(n: int) -> float:
    state = entries(n)
    with tempfile.TemporaryDirectory() as folder, timed(n) as clock:
        await asyncio.to_thread(by_hand, Path(folder) / "state.json", state)
    return clock.each


@suite.variant(SAVE, "Beamish: a server's dump", n=ENTRIES)
async def save(n: int) -> float:
    async with kept(entries(n), every=None, changes=1) as (keeper, _):
        with timed(n) as clock:
            await saved(keeper)
    return clock.each


@suite.variant(LOAD, "Python: json.load in a thread", n=ENTRIES, baseline=True)
async def load_by_hand(n: int) -> float:
    def load(path: Path) -> State:
        with path.open() as file:
            return {key: Entry(**fields) for key, fields in json.load(file).items()}

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.json"
        by_hand(path, entries(n))
        with timed(n) as clock:
            await asyncio.to_thread(load, path)
    return clock.each


@suite.variant(LOAD, "Beamish: the start of a server", n=ENTRIES)
async def load(n: int) -> float:
    async with kept(entries(n), every=None, changes=1) as (keeper, path):
        await saved(keeper)
        await keeper.stop()
        with timed(n) as clock:
            keeper = await Keeper.start_link({}, Snapshot(path))
        await keeper.stop()
    return clock.each


# --- how late the loop comes meanwhile --------------------------------------------------------------------------------


async def latest(work: Callable[[], Any], least: float = 0.0) -> float:
    """The latest beat of a heart that beats every millisecond, in nanoseconds beyond that."""
    worst = 0.0
    running = asyncio.ensure_future(work())
    end = time.perf_counter() + least
    while not running.done() or time.perf_counter() < end:
        begin = time.perf_counter()
        await asyncio.sleep(BEAT)
        worst = max(worst, time.perf_counter() - begin - BEAT)
    await running
    return worst * 1e9


@suite.variant(LATE, "nothing is saved (the machine)", n=ENTRIES)
async def late_by_itself(n: int) -> float:
    async def nothing() -> None: ...

    state = entries(n)
    return await latest(nothing, least=len(state) * 1e-5)


@suite.variant(LATE, "Python: json.dumps in a thread", n=ENTRIES, baseline=True)
async def late_by_hand(n: int) -> float:
    state = entries(n)
    with tempfile.TemporaryDirectory() as folder:
        return await latest(lambda: asyncio.to_thread(by_hand_at_once, Path(folder) / "state.json", state))


@suite.variant(LATE, "Beamish: while it saves", n=ENTRIES)
async def late_save(n: int) -> float:
    async with kept(entries(n), every=None, changes=1) as (keeper, _):
        return await latest(lambda: saved(keeper))


@suite.variant(LATE, "Beamish: while a SearchCache is saved", n=ENTRIES)
async def late_cache(n: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        where = Snapshot(Path(folder) / "cache.snap", every=None, changes=n + 1)
        cache = await SearchCache[str, Entry]("bench cache").start_link(limit=n + 1, ttl=600.0, stats_every=None, snapshot=where)
        for key, entry in entries(n).items():
            await cache.put(key, entry)
        worst = await latest(lambda: told(cache.put("one more", Entry("", 0.0, 0))))
        await cache.stop()
    return worst


@suite.variant(LATE, "Beamish: while a RateLimiter is saved", n=ENTRIES)
async def late_limiter(n: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        where = Snapshot(Path(folder) / "limiter.snap", every=None, changes=n + 1)
        limiter = await RateLimiter("bench limiter").start_link(max_keys=n + 1, stats_every=None, snapshot=where)
        for key in range(n):
            await limiter.track(f"key {key}")
        worst = await latest(lambda: told(limiter.track("one more")))
        await limiter.stop()
    return worst


@suite.variant(LATE, "Beamish: while it loads", n=ENTRIES)
async def late_load(n: int) -> float:
    async with kept(entries(n), every=None, changes=1) as (keeper, path):
        await saved(keeper)
        await keeper.stop()
        started: list[Keeper] = []

        async def start() -> None:
            started.append(await Keeper.start_link({}, Snapshot(path)))

        worst = await latest(start)
        await started[0].stop()
    return worst


# --- what it costs a call -----------------------------------------------------------------------------------------------


@suite.variant(CALL, "Beamish: a server without a snapshot", n=CALLS, baseline=True)
async def call_without(n: int) -> float:
    keeper = await Keeper.start_link({}, None)
    with timed(n) as clock:
        for _ in range(n):
            await keeper.count()
    await keeper.stop()
    return clock.each


@suite.variant(CALL, "Beamish: one with", n=CALLS)
async def call_with(n: int) -> float:
    async with kept({}, every=3600.0) as (keeper, _):
        with timed(n) as clock:
            for _ in range(n):
                await keeper.count()
    return clock.each
