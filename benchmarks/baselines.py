"""What a careful asyncio programmer writes by hand instead: a task, a queue, a future per call, and a loop that starts it again.

It has no timeout, no links and no monitors, and pays for none of them: this is the quickest plain asyncio, so no ratio is flattered.
"""

import asyncio
import gc
import time
from collections import deque
from contextlib import suppress
from itertools import cycle, islice
from types import TracebackType
from typing import Self, TypeAlias

from benchmarks.harness import Suite, resident_bytes, timed
from benchmarks.work import KEYS, Heartbeat, busy, by_many

suite = Suite()

Request: TypeAlias = "tuple[str, int, asyncio.Future[int] | None]"


class ServerGone(Exception):
    """The task that was asked has crashed."""


class AServer:
    """A counter: the shape of a GenServer, by hand."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.queue: asyncio.Queue[Request] = asyncio.Queue()
        self.state = [0]
        self.task = self.loop.create_task(self.run())

    async def run(self) -> None:
        queue = self.queue
        while True:
            kind, by, reply = await queue.get()
            if reply is None:
                self.state[0] += by
                continue
            result = self.handle_call(kind, by, self.state)
            if not reply.done():
                reply.set_result(result)

    def handle_call(self, kind: str, by: int, state: list[int]) -> int:
        state[0] += by
        return state[0]

    async def call(self, by: int) -> int:
        reply: asyncio.Future[int] = self.loop.create_future()
        self.queue.put_nowait(("add", by, reply))
        return await reply

    def cast(self, by: int) -> None:
        self.queue.put_nowait(("add", by, None))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


class RestartedServer(AServer):
    """The same, begun again with a fresh state whenever it crashes; the client that waits is told."""

    async def run(self) -> None:
        while True:
            self.state = [0]
            try:
                await self.serve()
            except Exception as error:
                self.waiting.set_exception(ServerGone(repr(error)))

    async def serve(self) -> None:
        while True:
            kind, by, reply = await self.queue.get()
            assert reply is not None
            self.waiting = reply
            reply.set_result(self.handle_call(kind, by, self.state))

    def handle_call(self, kind: str, by: int, state: list[int]) -> int:
        state[0] += 10 // by
        return state[0]


class AsyncServer(AServer):
    """The same, whose handler is a coroutine function."""

    async def run(self) -> None:
        while True:
            kind, by, reply = await self.queue.get()
            assert reply is not None
            result = await self.handle(kind, by, self.state)
            if not reply.done():
                reply.set_result(result)

    async def handle(self, kind: str, by: int, state: list[int]) -> int:
        state[0] += by
        return state[0]


class SuspendingServer(AsyncServer):
    async def handle(self, kind: str, by: int, state: list[int]) -> int:
        await asyncio.sleep(0)
        state[0] += by
        return state[0]


class BusyServer(AServer):
    """The same, whose handler computes."""

    def handle_call(self, kind: str, by: int, state: list[int]) -> int:
        busy()
        state[0] += by
        return state[0]

    async def run(self) -> None:
        while True:
            kind, by, reply = await self.queue.get()
            result = self.handle_call(kind, by, self.state)
            if reply is not None and not reply.done():
                reply.set_result(result)


class KeyServer:
    """Keys instead of numbers; what the handler is comes with a subclass."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.queue: asyncio.Queue[tuple[str, asyncio.Future[int]]] = asyncio.Queue()
        self.task = self.loop.create_task(self.run())

    async def run(self) -> None:
        while True:
            key, reply = await self.queue.get()
            reply.set_result(self.handle_call(key))

    def handle_call(self, key: str) -> int:
        raise NotImplementedError

    async def call(self, key: str) -> int:
        reply: asyncio.Future[int] = self.loop.create_future()
        self.queue.put_nowait((key, reply))
        return await reply

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


class TableServer(KeyServer):
    """A cache that is a dict: no limit, no age, no statistics."""

    table = dict.fromkeys(KEYS, 1)

    def handle_call(self, key: str) -> int:
        return self.table[key]


class WindowServer(KeyServer):
    """A limiter of 100 a minute that keeps the time of each request, for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.times: dict[str, deque[float]] = {}

    def handle_call(self, key: str) -> int:
        now = time.monotonic()
        times = self.times.setdefault(key, deque())
        while times and times[0] <= now - 60.0:
            times.popleft()
        if len(times) >= 100:
            return 0
        times.append(now)
        return 100 - len(times)


@suite.variant("call", "asyncio: Queue + Future", n=20_000, baseline=True)
async def call(n: int) -> float:
    async with AServer() as server:
        with timed(n) as clock:
            for _ in range(n):
                await server.call(1)
    return clock.each


@suite.variant("call", "asyncio: the same in asyncio.timeout(5)", n=20_000)
async def call_with_timeout(n: int) -> float:
    async with AServer() as server:
        with timed(n) as clock:
            for _ in range(n):
                async with asyncio.timeout(5.0):
                    await server.call(1)
    return clock.each


@suite.variant("call by name", "asyncio: a dict, then Queue + Future", n=20_000, baseline=True)
async def call_by_name(n: int) -> float:
    async with AServer() as server:
        names = {"counter": server}
        with timed(n) as clock:
            for _ in range(n):
                await names["counter"].call(1)
    return clock.each


@suite.variant("call, 100 clients", "asyncio: Queue + Future", n=20_000, baseline=True)
async def call_by_many(n: int) -> float:
    async with AServer() as server:

        async def client(calls: int) -> None:
            for _ in range(calls):
                await server.call(1)

        return await by_many(n, client)


@suite.variant("call, async handler", "asyncio: Queue + Future, async handler", n=20_000, baseline=True)
async def call_async(n: int) -> float:
    async with AsyncServer() as server:
        with timed(n) as clock:
            for _ in range(n):
                await server.call(1)
    return clock.each


@suite.variant("call, async handler that suspends", "asyncio: Queue + Future, async handler", n=20_000, baseline=True)
async def call_suspending(n: int) -> float:
    async with SuspendingServer() as server:
        with timed(n) as clock:
            for _ in range(n):
                await server.call(1)
    return clock.each


@suite.variant("cast", "asyncio: Queue, drained", n=100_000, baseline=True)
async def cast(n: int) -> float:
    async with AServer() as server:
        with timed(n) as clock:
            for _ in range(n):
                server.cast(1)
            await server.call(1)
    return clock.each


@suite.variant("crash to answer", "asyncio: try/except around the loop", n=2_000, baseline=True)
async def crash_to_answer(n: int) -> list[float]:
    async with RestartedServer() as server:
        figures = []
        for _ in range(n):
            start = time.perf_counter_ns()
            with suppress(ServerGone):
                await server.call(0)
            await server.call(1)
            figures.append(float(time.perf_counter_ns() - start))
    return figures


@suite.variant("start", "asyncio: Task + Queue, running", n=10_000, baseline=True)
async def start(n: int) -> float:
    with timed(n) as clock:
        servers = [AServer() for _ in range(n)]
        await servers[-1].call(1)
    await stop(servers)
    return clock.each


@suite.variant("stop", "asyncio: cancel the tasks, gather them", n=10_000, baseline=True)
async def stop_all(n: int) -> float:
    servers = [AServer() for _ in range(n)]
    await servers[-1].call(1)
    with timed(n) as clock:
        await stop(servers)
    return clock.each


@suite.variant("memory of an idle server", "asyncio: Task + Queue, running", n=20_000, baseline=True, unit="B", alone=True)
async def memory(n: int) -> float:
    gc.collect()
    before = resident_bytes()
    servers = [AServer() for _ in range(n)]
    await servers[-1].call(1)
    figure = (resident_bytes() - before) / n
    await stop(servers)
    return figure


async def stop(servers: list[AServer]) -> None:
    for server in servers:
        server.task.cancel()
    await asyncio.gather(*(server.task for server in servers), return_exceptions=True)


@suite.variant("1 ms heartbeat, 1 flooding client", "asyncio: Queue + Future", n=300, baseline=True)
async def heartbeat_beside_one(n: int) -> list[float]:
    async with BusyServer() as server, Heartbeat(n) as heart:
        while heart.beats:
            await server.call(1)
            server.cast(1)
    return heart.late


@suite.variant("1 ms heartbeat, 100 clients", "asyncio: Queue + Future", n=300, baseline=True)
async def heartbeat_beside_many(n: int) -> list[float]:
    async def client(_: int) -> None:
        while heart.beats:
            await server.call(1)
            server.cast(1)

    async with BusyServer() as server, Heartbeat(n) as heart:
        await by_many(1, client)
    return heart.late


@suite.variant("timer", "asyncio: loop.call_later, cancel", n=100_000, baseline=True)
async def timer(n: int) -> float:
    loop = asyncio.get_running_loop()
    with timed(n) as clock:
        for _ in range(n):
            loop.call_later(60.0, nobody_listens, 1).cancel()
    return clock.each


@suite.variant("a cache's hit", "asyncio: a dict behind Queue + Future", n=20_000, baseline=True)
async def cache_hit(n: int) -> float:
    async with TableServer() as server:
        with timed(n) as clock:
            for key in islice(cycle(KEYS), n):
                await server.call(key)
    return clock.each


@suite.variant("a limiter's decision", "asyncio: a window of a dict behind Queue + Future", n=20_000, baseline=True)
async def decision(n: int) -> float:
    async with WindowServer() as server:
        with timed(n) as clock:
            for key in islice(cycle(KEYS), n):
                await server.call(key)
    return clock.each


def nobody_listens(value: int) -> None:
    """What is measured is the price of asking at all."""


@suite.variant("telemetry, no handler", "Python: call of an empty function", n=500_000, baseline=True)
def telemetry(n: int) -> float:
    with timed(n) as clock:
        for _ in range(n):
            nobody_listens(1)
    return clock.each
