"""What both sides do, so that it is the same: handlers that compute, many clients, a heartbeat beside them."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from benchmarks.harness import timed

CLIENTS = 100
HANDLER_SECONDS = 50e-6
KEYS = [f"what was asked {number}" for number in range(1_000)]


def busy() -> None:
    """Hold the loop up for HANDLER_SECONDS, as a handler does that computes."""
    end = time.perf_counter() + HANDLER_SECONDS
    while time.perf_counter() < end:
        pass


async def by_many(n: int, calls: Callable[[int], Awaitable[None]]) -> float:
    """Nanoseconds of each of `n` calls that CLIENTS tasks make together; `calls(share)` makes those of one client."""
    share = max(1, n // CLIENTS)
    with timed(share * CLIENTS) as clock:
        async with asyncio.TaskGroup() as clients:
            for _ in range(CLIENTS):
                clients.create_task(_as_coroutine(calls(share)))
    return clock.each


async def _as_coroutine(one: Awaitable[None]) -> None:
    await one


class Heartbeat:
    """A task that sleeps one millisecond `beats` times; `late` holds by how many nanoseconds more it slept each time."""

    def __init__(self, beats: int) -> None:
        self.beats = beats
        self.late: list[float] = []

    async def run(self) -> None:
        while self.beats:
            due = time.perf_counter_ns() + 1_000_000
            await asyncio.sleep(0.001)
            self.late.append(float(max(0, time.perf_counter_ns() - due)))
            self.beats -= 1

    async def __aenter__(self) -> Self:
        self.task = asyncio.create_task(self.run())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.beats = 0
        await self.task
