"""A soak: load, faults, and after each phase of them a look at what is left. See `--help`."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import random
import sys
import warnings
from collections import Counter
from dataclasses import dataclass, field
from statistics import median
from time import monotonic
from typing import Any

import beamish
from beamish import Alias, telemetry
from beamish._runtime.node import here
from benchmarks.soak.load import Tally, chaos, client, process_client
from benchmarks.soak.tree import OPEN, crowd, names, tree

CLIENTS, PROCESS_CLIENTS = 100, 25
#: How much a count may grow from the first third of the samples to the last: memory is never quite the same twice.
OBJECTS_MAY_GROW, BYTES_MAY_GROW = 0.02, 0.05


@dataclass(frozen=True)
class Sample:
    """What there is when nothing is going on. All but the last three must be the same each time."""

    processes: int
    timers: int
    waiting: int
    tasks: int
    descriptors: int
    owned: int
    aliases: int  # those of clients that are gone: an alarm may keep a few for a while
    objects: int
    rss: int


EXACT = ("processes", "timers", "waiting", "tasks", "descriptors", "owned")


@dataclass
class Report:
    problems: list[str] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    kinds: list[Counter[str]] = field(default_factory=list)
    logged: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    lag: float = 0.0


class Listen(logging.Handler):
    """Formats every record, as a program that logs does, and counts what is no report of a crash."""

    def __init__(self, report: Report) -> None:
        super().__init__(logging.ERROR)
        self.report = report

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        first = str(record.msg).partition("\n")[0][:80]
        self.report.logged[f"{record.name}: {first}"] += 1
        if record.name == "asyncio" or "could not be delivered" in text or "be closed" in text:
            self.report.problems.append(f"logged: {text[:500]}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=sys.modules["benchmarks.soak"].__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long (600)")
    parser.add_argument("--phase", type=float, default=None, help="seconds of load between two looks (a twentieth, 2 to 10)")
    parser.add_argument("--pause", type=float, default=0.004, help="seconds between two faults, on average (0.004)")
    parser.add_argument("--seed", type=int, default=None, help="what random numbers begin with; for the choices only, not for the times")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.randrange(1 << 30)
    random.seed(seed)
    phase = options.phase or min(10.0, max(2.0, options.seconds / 20))
    report, tally = Report(), Tally()
    _listen(report)
    started = monotonic()
    print(f"soak of {options.seconds:g} s, phases of {phase:g} s, seed {seed}, Python {sys.version.split()[0]}", flush=True)
    asyncio.run(_soak(report, tally, options.seconds, phase, options.pause))
    gc.collect()
    _judge(report, tally)
    _show(report, tally, monotonic() - started)
    return 1 if report.problems else 0


def _listen(report: Report) -> None:
    """Everything that Python says on the side is a problem."""
    handler = Listen(report)
    for name in ("beamish", "asyncio"):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.propagate = False
    warnings.simplefilter("error")
    sys.unraisablehook = lambda broken: report.problems.append(f"unraisable: {broken.exc_value!r} in {broken.object!r}")

    def count(event: Any, measurements: Any, metadata: Any, config: Any) -> None:
        report.events[".".join(event)] += 1

    telemetry.attach_many("soak", ["beamish.supervisor.restart", "beamish.supervisor.gave_up", "beamish.process.start"], count, None)


async def _soak(report: Report, tally: Tally, seconds: float, phase: float, pause: float) -> None:
    end = monotonic() + seconds
    async with beamish.supervise(tree(), max_restarts=1_000_000):
        while monotonic() < end or len(report.samples) < 3:
            await _phase(report, tally, min(phase, max(1.0, end - monotonic())), pause)
            await _quiet(report)
            report.samples.append(await _look())
            report.kinds.append(_kinds())
    await asyncio.sleep(0.1)
    if left := beamish.processes():
        report.problems.append(f"left after the end of the tree: {left}")
    if OPEN:
        report.problems.append(f"owned by the dead and not closed: {len(OPEN)}")


async def _phase(report: Report, tally: Tally, seconds: float, pause: float) -> None:
    tally.running = True
    clients = [beamish.spawn(process_client, tally) for _ in range(PROCESS_CLIENTS)]
    work = [asyncio.ensure_future(client(tally)) for _ in range(CLIENTS)]
    work.append(asyncio.ensure_future(chaos(tally, clients, pause)))
    end = monotonic() + seconds
    while monotonic() < end:
        before = monotonic()
        await asyncio.sleep(0.01)
        report.lag = max(report.lag, monotonic() - before - 0.01)
        if hung := tally.hung():
            report.problems.append(f"never answered: {hung}")
            break
    tally.running = False
    _, late = await asyncio.wait(work, timeout=20.0)
    if late or tally.waiting:
        await asyncio.sleep(0.5)
    report.problems += [f"does not come to its end: {what}" for _, what in tally.waiting.values()]
    report.problems += [f"{task!r} ended with {task.exception()!r}" for task in work if task.done() and task.exception() is not None]
    for pid in clients:
        beamish.exit(pid, beamish.KILL)


async def _quiet(report: Report) -> None:
    """Everybody is back, and what was started for a while is gone."""
    end = monotonic() + 10.0
    while monotonic() < end:
        await asyncio.sleep(0.2)
        missing = [name for name in names() if not beamish.alive(name)]
        if not missing and not (await crowd.count_children()).specs:
            await asyncio.sleep(0.1)
            return
    report.problems.append(f"10 s after the last fault: {missing} are not back, {await crowd.count_children()} in the crowd")


async def _look() -> Sample:
    gc.collect()
    node = here()
    timers = []
    for _ in range(5):  # a machine whose time is over arms the next one a moment later
        timers.append(len(node.wheel))
        await asyncio.sleep(0.0007)
    return Sample(
        processes=len(beamish.processes()),
        timers=max(timers),
        waiting=sum(len(table.waiting) for table in node.timeouts._tables.values()),
        aliases=sum(type(one) is Alias for one in gc.get_objects()),
        tasks=len(asyncio.all_tasks()),
        descriptors=_descriptors(),
        owned=len(OPEN),
        objects=len(gc.get_objects()),
        rss=_rss(),
    )


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def _rss() -> int:
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _kinds() -> Counter[str]:
    return Counter(f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.get_objects())


def _judge(report: Report, tally: Tally) -> None:
    report.problems += [f"{count} × {what}" for what, count in tally.wrong.items()]
    samples = report.samples[1:]  # the first phase is to get warm
    for name in EXACT:
        seen = [getattr(sample, name) for sample in samples]
        if len(set(seen)) > 1:
            report.problems.append(f"{name} are not as many as before: {seen}")
    if max(sample.aliases for sample in samples) > 2 * PROCESS_CLIENTS:
        report.problems.append(f"aliases of the dead are left: {[sample.aliases for sample in samples]}")
    third = max(1, len(samples) // 3)
    for name, limit, least in (("objects", OBJECTS_MAY_GROW, 3000), ("rss", BYTES_MAY_GROW, 4 << 20)):
        first, last = (median(getattr(one, name) for one in part) for part in (samples[:third], samples[-third:]))
        if last > first * (1 + limit) + least:
            report.problems.append(f"{name} grow: {first:,.0f} in the first third, {last:,.0f} in the last; {_grown(report)}")


def _grown(report: Report) -> str:
    grown = report.kinds[-1] - report.kinds[1]
    return ", ".join(f"{name} +{count}" for name, count in grown.most_common(6))


def _show(report: Report, tally: Tally, seconds: float) -> None:
    answered, failed = sum(tally.done.values()), sum(tally.failed.values())
    print(f"\n{answered + failed:,} requests in {seconds:.0f} s ({(answered + failed) / seconds:,.0f} a second), {len(names())} servers")
    print(f"  answered as expected: {answered:,}  ({_list(tally.done)})")
    print(f"  failed with a reason: {failed:,}  ({_list(tally.failed)})")
    print(f"faults: {sum(tally.faults.values()):,}  ({_list(tally.faults)})")
    print(f"events: {_list(report.events)}; longest turn of the loop: {report.lag * 1000:.0f} ms")
    print(f"logged: {_list(report.logged)}")
    print("after each phase, when it was quiet:")
    for position, sample in enumerate(report.samples):
        if position < 4 or position >= len(report.samples) - 3:
            facts = ", ".join(f"{name} {getattr(sample, name)}" for name in (*EXACT, "aliases"))
            print(f"  {position + 1:3}: {facts}, objects {sample.objects:,}, RSS {sample.rss / 1e6:.1f} MB")
    print(f"RSS in MB: {' '.join(f'{sample.rss / 1e6:.1f}' for sample in report.samples)}")
    for problem in report.problems:
        print(f"WRONG: {problem}")
    print("everything was as it should be" if not report.problems else f"{len(report.problems)} problems")


def _list(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.most_common(20))
