"""The same operations with Beamish: a GenServer for each `AServer` of `baselines`, asked by the same loop.

A call has its timeout of 5 seconds on, crashes are restarted by a Supervisor, what is started is supervised and linked.
"""

import asyncio
import gc
import logging
import statistics
import time
import timeit
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import cycle, islice

from beamish import GenServer, ServerDown, Supervisor, call, cancel_timer, cast, current, send_after, stop, supervise
from beamish.gen import CALLS
from beamish.servers import RateLimiter, SearchCache
from benchmarks.harness import Suite, resident_bytes, timed
from benchmarks.work import KEYS, Heartbeat, busy, by_many

suite = Suite()


class Counter(GenServer[list[int]]):
    """The state is what `AServer` has in `state`, the handlers do what its `handle_call` does."""

    def init(self) -> list[int]:
        return [0]

    @call
    def add(self, state: list[int], by: int) -> int:
        state[0] += by
        return state[0]

    @call
    async def add_at_once(self, state: list[int], by: int) -> int:
        state[0] += by
        return state[0]

    @call
    async def add_next_turn(self, state: list[int], by: int) -> int:
        await asyncio.sleep(0)
        state[0] += by
        return state[0]

    @cast
    def increase(self, state: list[int], by: int) -> None:
        state[0] += by

    @call
    def divide(self, state: list[int], by: int) -> int:
        state[0] += 10 // by
        return state[0]

    @call
    def work(self, state: list[int], by: int) -> int:
        busy()
        state[0] += by
        return state[0]

    @cast
    def work_later(self, state: list[int], by: int) -> None:
        busy()
        state[0] += by


class Idle(GenServer[int]):
    """What is started by the hundred thousand."""

    def init(self) -> int:
        return 0

    @call
    def get(self, state: int) -> int:
        return state


COUNTER = Counter("counter")
"""By name: a value at module level, resolved at each call."""


@suite.variant("call", "Beamish: by pid", n=200_000)
async def call_by_pid(n: int) -> float:
    counter = await Counter.start_link()
    with timed(n) as clock:
        for _ in range(n):
            await counter.add(1)
    return clock.each


@suite.variant("call by name", "Beamish: by name", n=200_000)
async def call_by_name(n: int) -> float:
    await COUNTER.start_link()
    with timed(n) as clock:
        for _ in range(n):
            await COUNTER.add(1)
    return clock.each


@suite.variant("call, 100 clients", "Beamish: by pid", n=200_000)
async def call_by_many(n: int) -> float:
    counter = await Counter.start_link()

    async def client(calls: int) -> None:
        for _ in range(calls):
            await counter.add(1)

    return await by_many(n, client)


@suite.variant("call, async handler", "Beamish: by pid", n=50_000)
async def call_async(n: int) -> float:
    counter = await Counter.start_link()
    with timed(n) as clock:
        for _ in range(n):
            await counter.add_at_once(1)
    return clock.each


@suite.variant("call, async handler that suspends", "Beamish: by pid", n=20_000)
async def call_suspending(n: int) -> float:
    counter = await Counter.start_link()
    with timed(n) as clock:
        for _ in range(n):
            await counter.add_next_turn(1)
    return clock.each


@suite.variant("cast", "Beamish: drained", n=100_000)
async def casts(n: int) -> float:
    counter = await Counter.start_link()
    with timed(n) as clock:
        for _ in range(n):
            counter.increase(1)
        await counter.add(1)
    return clock.each


@suite.variant("crash to answer", "Beamish: Supervisor restarts a GenServer", n=2_000)
async def crash_to_answer(n: int) -> list[float]:
    figures: list[float] = []
    with quiet():
        while len(figures) < n:
            async with supervise([COUNTER.child_spec()], max_restarts=1_000, max_seconds=1):
                for _ in range(min(100, n - len(figures))):
                    start = time.perf_counter_ns()
                    with suppress(ServerDown):
                        await COUNTER.divide(0)
                    await COUNTER.divide(1)
                    figures.append(float(time.perf_counter_ns() - start))
    return figures


@contextmanager
def quiet() -> Iterator[None]:
    """Without crash reports, as on the BEAM: what a log costs is the log's affair."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


@suite.variant("start", "Beamish: a Supervisor's children, specs ready", n=100_000)
async def start(n: int) -> float:
    spec = Idle.child_spec()
    specs = [spec.replace(id=number) for number in range(n)]
    with timed(n) as clock:
        supervisor = await Supervisor.start_link(specs)
    await stop(supervisor)
    return clock.each


@suite.variant("start", "Beamish: Supervisor.start_child, one by one", n=50_000)
async def start_child(n: int) -> float:
    spec = Idle.child_spec()
    specs = [spec.replace(id=number) for number in range(n)]
    supervisor = await Supervisor.start_link([])
    with timed(n) as clock:
        for one in specs:
            await supervisor.start_child(one)
    await stop(supervisor)
    return clock.each


@suite.variant("start", "Beamish: GenServer.start_link", n=50_000)
async def start_link(n: int) -> float:
    with timed(n) as clock:
        servers = [await Idle.start_link() for _ in range(n)]
    await servers[-1].get()
    return clock.each


@suite.variant("stop", "Beamish: a Supervisor stops its children", n=100_000)
async def stop_children(n: int) -> float:
    spec = Idle.child_spec()
    supervisor = await Supervisor.start_link([spec.replace(id=number) for number in range(n)])
    with timed(n) as clock:
        await stop(supervisor)
    return clock.each


@suite.variant("memory of an idle server", "Beamish: supervised, after one call", n=100_000, unit="B", alone=True)
async def memory(n: int) -> float:
    gc.collect()
    before = resident_bytes()
    supervisor = await Supervisor.start_link([Idle.options().child_spec().replace(id=number) for number in range(n)])
    for child in await supervisor.which_children():
        assert isinstance(child.child, Idle)
        await child.child.get()
    del child
    gc.collect()
    figure = (resident_bytes() - before) / n
    await stop(supervisor)
    return figure


@suite.variant("1 ms heartbeat, 1 flooding client", "Beamish", n=300)
async def heartbeat_beside_one(n: int) -> list[float]:
    counter = await Counter.start_link()
    async with Heartbeat(n) as heart:
        while heart.beats:
            await counter.work(1)
            counter.work_later(1)
    return heart.late


@suite.variant("1 ms heartbeat, 100 clients", "Beamish", n=300)
async def heartbeat_beside_many(n: int) -> list[float]:
    counter = await Counter.start_link()

    async def client(_: int) -> None:
        while heart.beats:
            await counter.work(1)
            counter.work_later(1)

    async with Heartbeat(n) as heart:
        await by_many(1, client)
    return heart.late


@suite.variant("timer", "Beamish: send_after, cancel_timer", n=100_000)
async def timer(n: int) -> float:
    me = current()
    with timed(n) as clock:
        for _ in range(n):
            cancel_timer(send_after(60.0, me, "late"))
    return clock.each


@suite.variant("telemetry, no handler", "Beamish: the guard on the way of a call", n=500_000)
def telemetry(n: int) -> float:
    """`if CALLS.handlers`, as the generated client has it: ten of them in a loop, less the empty loop; the median of five."""
    guarded = timeit.Timer("if calls.handlers: heard()\n" * 10, "calls = CALLS", globals={"CALLS": CALLS})
    empty = timeit.Timer("pass")
    rounds = max(1, n // 10)
    return statistics.median(guarded.timeit(rounds) - empty.timeit(rounds) for _ in range(5)) * 1e9 / (10 * rounds)


@suite.variant("a cache's hit", "Beamish: SearchCache.fetch", n=100_000)
async def cache_hit(n: int) -> float:
    cache = await SearchCache[str, int].start_link(limit=len(KEYS), stats_every=None)
    for query in KEYS:
        await cache.put(query, 1)
    with timed(n) as clock:
        for key in islice(cycle(KEYS), n):
            await cache.fetch(key)
    return clock.each


@suite.variant("a limiter's decision", "Beamish: RateLimiter.track", n=100_000)
async def decision(n: int) -> float:
    limiter = await RateLimiter.start_link(limit=100, per=60.0, stats_every=None)
    with timed(n) as clock:
        for key in islice(cycle(KEYS), n):
            await limiter.track(key)
    return clock.each
