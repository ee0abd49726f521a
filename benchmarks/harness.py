"""Measure variants of the same operation side by side, on a machine that does other things too.

A variant is a function that is given a number of operations and returns what one of them cost, or one figure for each:

    suite = Suite()

    @suite.variant("call", "Queue and Future", n=20_000, baseline=True)
    async def call(n: int) -> float:
        async with AServer() as server:
            with timed(n) as clock:
                for _ in range(n):
                    await server.call(1)
        return clock.each

Every variant runs once in every round, one after the other (a b c a b c …; those of one row are neighbours), each in an event loop of
its own after a garbage collection. A busy moment of the machine then hits all of them alike, and the median over the rounds forgets it.
"""

import asyncio
import gc
import inspect
import json
import os
import platform
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import TypeAlias, TypeVar

Figure: TypeAlias = float | Sequence[float]
Body: TypeAlias = Callable[[int], Figure | Awaitable[Figure]]
B = TypeVar("B", bound=Body)

ROUNDS = 5
QUICK_SHARE = 100
"""`--quick` makes one round with this fraction of the operations: it shows that everything runs, and measures nothing."""

ALONE_SECONDS = 60.0
"""The longest one round may take in a process of its own."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to do the operation `row`; the row's baseline is what the others are compared with."""

    row: str
    name: str
    body: Body
    n: int
    baseline: bool = False
    unit: str = "ns"
    alone: bool = False


@dataclass(slots=True)
class Suite:
    """The variants of one module, in the order they were written."""

    variants: list[Variant] = field(default_factory=list)

    def variant(self, row: str, name: str, *, n: int, baseline: bool = False, unit: str = "ns", alone: bool = False) -> Callable[[B], B]:
        """Add the decorated function to `row`, to be run with `n` operations per round. The unit is "ns" or "B" (bytes).

        With `alone` every round is a new Python process: memory can only be measured where nothing was freed before.
        """

        def add(body: B) -> B:
            self.variants.append(Variant(row, name, body, n, baseline, unit, alone))
            return body

        return add


@dataclass(slots=True)
class Clock:
    """Nanoseconds of the `with timed(n)` block, and of each of its `n` operations."""

    n: int
    total: int = 0

    @property
    def each(self) -> float:
        return self.total / self.n


@contextmanager
def timed(n: int) -> Iterator[Clock]:
    clock = Clock(n)
    start = time.perf_counter_ns()
    yield clock
    clock.total = time.perf_counter_ns() - start


def resident_bytes() -> int:
    """The memory of this process that is really in use, from Linux."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


@dataclass(frozen=True, slots=True)
class Result:
    """A line of the table. `p99` is there when the variant returned one figure per operation."""

    row: str
    name: str
    unit: str
    median: float
    rounds: tuple[float, ...]
    baseline: bool = False
    p99: float | None = None
    ratio: float | None = None
    """How many times better than the row's baseline of the same run; 1.0 for the baseline itself."""


@dataclass(frozen=True, slots=True)
class Machine:
    python: str
    system: str
    cpu: str
    cores: int
    load: tuple[float, float, float]
    loop: str = "asyncio"

    @classmethod
    def here(cls, loop: str = "asyncio") -> "Machine":
        python = f"{platform.python_implementation()} {platform.python_version()}"
        return cls(python, f"{platform.system()} {platform.release()}", _cpu_model(), os.cpu_count() or 1, os.getloadavg(), loop)

    def __str__(self) -> str:
        load = " ".join(f"{one:.2f}" for one in self.load)
        return f"{self.python}, {self.loop}; {self.cpu}, {self.cores} cores, load {load}; {self.system}"


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown CPU"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def measure(variants: Iterable[Variant], *, rounds: int = ROUNDS, quick: bool = False, loop: str = "asyncio") -> list[Result]:
    """Run all variants in turn, `rounds` times, and return the medians. A variant that raises ends the run: it is a bug."""
    chosen = by_row(variants)
    figures: dict[Variant, list[list[float]]] = {variant: [] for variant in chosen}
    for _ in range(1 if quick else rounds):
        for variant in chosen:
            n = max(1, variant.n // QUICK_SHARE) if quick else variant.n
            figure = _run_alone(variant.body, n, loop) if variant.alone else _run(variant.body, n, loop)
            figures[variant].append([figure] if isinstance(figure, int | float) else list(figure))
    return with_ratios([summary(one.row, one.name, one.unit, figures[one], baseline=one.baseline) for one in chosen])


def by_row(variants: Iterable[Variant]) -> list[Variant]:
    """The variants of one row side by side, the rows in the order of their first ones."""
    rows: dict[str, list[Variant]] = {}
    for variant in variants:
        rows.setdefault(variant.row, []).append(variant)
    return [variant for members in rows.values() for variant in members]


def _run(body: Body, n: int, loop: str) -> Figure:
    gc.collect()
    if not inspect.iscoroutinefunction(body):
        figure = body(n)
        assert not isinstance(figure, Awaitable)
        return figure
    with asyncio.Runner(loop_factory=loop_factory(loop)) as runner:
        result: Figure = runner.run(body(n))
        return result


def _run_alone(body: Body, n: int, loop: str) -> Figure:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(_run, body, n, loop).result(ALONE_SECONDS)


def summary(row: str, name: str, unit: str, rounds: list[list[float]], *, baseline: bool = False) -> Result:
    """The line for what the rounds gave: one figure each, or one for every operation."""
    medians = tuple(statistics.median(one) for one in rounds)
    every = sorted(figure for one in rounds for figure in one)
    p99 = every[int(len(every) * 0.99)] if len(every) > len(rounds) else None
    return Result(row, name, unit, statistics.median(medians), medians, baseline, p99)


def with_ratios(results: Sequence[Result]) -> list[Result]:
    """The same results, each compared with the baseline of its row."""
    baselines = {result.row: result for result in results if result.baseline}
    return [_with_ratio(result, baselines.get(result.row)) for result in results]


def _with_ratio(result: Result, baseline: Result | None) -> Result:
    ratio = times_better(result, baseline) if baseline is not None and result.median else None
    return replace(result, ratio=ratio)


def times_better(one: Result, other: Result) -> float:
    """The median of the ratios within each round: neighbours in time, so the machine's moods divide out."""
    if len(one.rounds) != len(other.rounds) or not all(one.rounds):
        return other.median / one.median
    return statistics.median(theirs / ours for theirs, ours in zip(other.rounds, one.rounds, strict=True))


def table(results: Iterable[Result]) -> str:
    """One block per row, in the order the rows first appear."""
    rows: dict[str, list[Result]] = {}
    for result in results:
        rows.setdefault(result.row, []).append(result)
    return "\n\n".join("\n".join([row, *map(_line, members)]) for row, members in rows.items())


def _line(result: Result) -> str:
    spread = f"{shown(min(result.rounds), result.unit)} … {shown(max(result.rounds), result.unit)}"
    ratio = "" if result.ratio is None else f"{result.ratio:.2f}×"
    tail = "" if result.p99 is None else f"  p99 {shown(result.p99, result.unit)}"
    return f"  {result.name:<44} {shown(result.median, result.unit):>11} {ratio:>8}   ({spread}){tail}"


def shown(value: float, unit: str) -> str:
    if unit == "ns" and value >= 10_000:
        return f"{value / 1000:,.1f} µs"
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.1f} {unit}"


def as_json(machine: Machine, results: Iterable[Result]) -> str:
    return json.dumps({"machine": asdict(machine), "results": [asdict(result) for result in results]}, indent=2, ensure_ascii=False)


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """The event loop to run in: "asyncio" or "uvloop" (which must be installed)."""
    if name == "asyncio":
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = import_module("uvloop").new_event_loop
    return factory
