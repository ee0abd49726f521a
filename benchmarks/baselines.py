"""What a careful asyncio programmer writes by hand instead: a task, a queue, a future per call, and a loop that starts it again.

It has no timeout, no links and no monitors, and pays for none of them: this is the quickest plain asyncio, so no ratio is flattered.
"""

import asyncio
import gc
import time
from contextlib import suppress
from types import TracebackType
from typing import TypeAlias

from benchmarks.harness import Suite, resident_bytes, timed

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

    async def __aenter__(self) -> "AServer":
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


def nobody_listens(value: int) -> None:
    """What is measured is the price of asking at all."""


@suite.variant("telemetry, no handler", "Python: call of an empty function", n=500_000, baseline=True)
def telemetry(n: int) -> float:
    with timed(n) as clock:
        for _ in range(n):
            nobody_listens(1)
    return clock.each
