# mypy: ignore-errors
"""What the peers' scripts share: they say each answer as soon as they know it, so that a script that hangs has still said the others."""

import asyncio
import gc
import json
import statistics
import time

ROUNDS = 5
PATIENCE = 2.0
"""Seconds a client waits before it is said to wait for ever."""
MARK = "\x1eanswer "


def say(question, answer):
    print(MARK + json.dumps([question, answer]), flush=True)


def median_ns(n, operations):
    """Nanoseconds of one operation: `operations()` does `n` of them."""
    return statistics.median(_each(n, operations) for _ in range(ROUNDS))


def _each(n, operations):
    gc.collect()
    start = time.perf_counter_ns()
    operations()
    return (time.perf_counter_ns() - start) / n


async def median_ns_async(n, operations):
    figures = []
    for _ in range(ROUNDS):
        gc.collect()
        start = time.perf_counter_ns()
        await operations()
        figures.append((time.perf_counter_ns() - start) / n)
    return statistics.median(figures)


async def seen(call):
    """What the awaiter of `call` sees, and after how long."""
    start = time.monotonic()
    try:
        answer = repr(await asyncio.wait_for(call, PATIENCE))
    except TimeoutError as late:
        answer = "nothing, it waits for ever" if time.monotonic() - start >= PATIENCE else described(late)
    except BaseException as error:
        answer = described(error)
    return f"{answer}, {waited(start)}"


def described(error):
    return f"{type(error).__name__}({error})"[:120]


def waited(start):
    seconds = time.monotonic() - start
    return "at once" if seconds < 0.1 else f"after {seconds:.1f} s"
