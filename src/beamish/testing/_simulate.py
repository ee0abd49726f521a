"""`@simulate(seeds=1000)`: a test under many interleavings; a failing one is replayed, shrunk and told as a sequence of who did what.

    @simulate(seeds=500)
    async def test_two_clients_count_to_two() -> None:
        counter = await Counter("counter").start_link()
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(client())
        assert await counter.get() == 2

Each run has a world and a loop of its own, in virtual time. See `_simulated` for what is chosen, `_choosers` for the strategies.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import zlib
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, ParamSpec, cast, get_args

from beamish.testing._choosers import Chooser, Pct, Plain, Pos, Random, Recorder, Tape
from beamish.testing._explore import Guided, explore, explored
from beamish.testing._faults import KINDS
from beamish.testing._kit import Kit
from beamish.testing._simulated import SimulatedLoop, SimulatedNode, Trace
from beamish.testing._world import World

P = ParamSpec("P")

Strategy = Literal["mixed", "random", "pct", "fair_pct", "pos", "deepening"]
STRATEGIES: tuple[str, ...] = get_args(Strategy)
Fault = Literal["crash", "kill", "late", "slow"]

#: What `--beamish-seed` says: a seed, or a tape ("t2.0.1"); None runs all.
replayed: str | None = None
#: Told (test's name, runs, distinct interleavings) after each simulation; the pytest plugin shows it.
summaries: list[tuple[str, int, int]] = []


@dataclass(slots=True)
class Run:
    """One interleaving: how it ended, the answers that led there, and what happened."""

    error: BaseException | None
    tape: list[int]
    sizes: list[int]
    lines: list[str] = field(repr=False)

    def same_failure(self, other: Run) -> bool:
        return self.error is not None and type(self.error) is type(other.error)


def run_once(
    test: Callable[[World], Awaitable[object]], chooser: Chooser, faults: frozenset[str] = frozenset(), *, telling: bool = False
) -> Run:
    """One run of `test(world)` in a fresh world, its choices made by `chooser`. `telling`: its lines are for somebody to read."""
    recorder, trace = Recorder(chooser), Trace(telling=telling)
    loop = SimulatedLoop(recorder, trace)
    world = World(node=lambda: SimulatedNode(loop, faults))

    async def body() -> None:
        async with world:
            with trace.failing():
                await test(world)

    run = Run(None, recorder.answers, recorder.sizes, trace.lines)
    passed = False
    try:
        loop.run_until_complete(body())
        passed = True
    except BaseException as raised:
        if not failed(raised):
            raise
        # What is left to end is no part of the run: it is cancelled in no order that another Python would keep.
        run = Run(raised, list(recorder.answers), list(recorder.sizes), list(trace.until_failure()))
        recorder.inner = Plain()
    finally:
        finish(loop, passed)
    return run


def failed(error: BaseException) -> bool:
    """Whether a test that ended so has failed. `pytest.fail` and "DID NOT RAISE" are no Exceptions, nor is a cancellation."""
    return isinstance(error, Exception | asyncio.CancelledError) or type(error).__name__ == "Failed"


def finish(loop: SimulatedLoop, passed: bool = False) -> None:
    """What a run leaves: cancelled, as `asyncio.run` does, but by no task of ours, which a kit would end too.

    One that has passed has left no process, and its other tasks are those of `create_task`. To ask asyncio for what else there is
    goes through the tasks of hundreds of earlier runs, which wait for the garbage collector: a quarter of a run's time.
    """
    left = loop.pending() if passed else asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
        task.add_done_callback(lambda _: loop.stop() if all(task.done() for task in left) else None)
    if left:
        try:
            loop.run_forever()
        except RuntimeError:
            pass  # one that swallows its cancellation, and nothing else is left to run
        for task in left:
            if task.done() and not task.cancelled():
                task.exception()  # was seen: the run has failed already, or is none
    loop.close()


def simulate(
    seeds: int = 100, *, strategy: Strategy = "mixed", faults: Iterable[Fault] = (), exhaustive: bool = False, bound: int = 10_000
) -> Callable[[Callable[P, Awaitable[object]]], Callable[P, None]]:
    """Run an `async def` test under `seeds` interleavings.

    * `strategy`: "random", "pct", "fair_pct", "pos", "deepening" (fewest deviations first), or "mixed": the first four in turn.
    * `faults`: what may go wrong besides: "crash" (a handler of a supervised server raises), "kill" (a supervised process is killed),
      "late" (a waiting call times out), "slow" (a server's turn comes after some seconds). At points that the strategy chooses.
    * `exhaustive`: instead, every interleaving that can make a difference: what is done to different processes commutes, and is tried in
      one order only; with `faults`, each of them with one fault at most. Stops at `bound` runs, and says so.

    A failure is raised as it came, with notes: the seed, how to replay it, and the shortest way to it that was found.
    """
    wanted = _checked(seeds, strategy, faults, exhaustive, bound)

    def decorate(test: Callable[P, Awaitable[object]]) -> Callable[P, None]:
        if not inspect.iscoroutinefunction(test):
            raise TypeError(f"@simulate is for async def tests. Got: {test!r}")

        @functools.wraps(test)
        def simulated(*args: P.args, **kwargs: P.kwargs) -> None:
            __tracebackhide__ = True

            async def once(world: World) -> None:
                given: dict[str, Any] = {**kwargs, "world": world} if "world" in kwargs else dict(kwargs)
                if "beamish" not in kwargs:
                    await test(*args, **given)
                    return
                async with Kit(world) as given["beamish"]:
                    with cast(Any, world.node).trace.failing():
                        await test(*args, **given)

            campaign = Campaign(test.__qualname__, once, wanted, strategy)
            if replayed is not None:
                campaign.replay(replayed)
            elif exhaustive:
                campaign.explore(bound)
            else:
                campaign.sample(seeds)

        return simulated

    return decorate


def _checked(seeds: Any, strategy: Any, faults: Any, exhaustive: Any, bound: Any) -> frozenset[str]:
    """The faults, when all the options make sense: told where the decorator stands, not when the test runs."""
    if callable(seeds):
        raise TypeError("simulate takes options, so it is called: @simulate() or @simulate(seeds=1000), not @simulate")
    for name, value in (("seeds", seeds), ("bound", bound)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} is a number of runs, 1 or more. Got: {value!r}")
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy is one of {', '.join(map(repr, STRATEGIES))}. Got: {strategy!r}")
    if exhaustive and strategy != "mixed":
        raise ValueError(f"with exhaustive=True every interleaving is tried: there is nothing for a strategy to choose. Got: {strategy!r}")
    if isinstance(faults, str) or not hasattr(faults, "__iter__"):
        raise TypeError(f'faults is a list or tuple of names, such as ["crash", "late"]. Got: {faults!r}')
    wanted: frozenset[Any] = frozenset(faults)
    unknown = wanted - KINDS
    if unknown:
        raise ValueError(f"faults are {', '.join(map(repr, sorted(KINDS)))}. Got: {', '.join(map(repr, sorted(unknown, key=repr)))}")
    return wanted


class Campaign:
    """The runs of one test."""

    def __init__(self, name: str, test: Callable[[World], Awaitable[object]], faults: frozenset[str], strategy: str) -> None:
        self.name = name
        self.test = test
        self.faults = faults
        self.strategy = strategy
        self.runs = 0
        self.seen: set[int] = set()
        self.steps = 200  # how long a run is, about: for the points where PCT lets priorities fall

    def run(self, chooser: Chooser) -> Run:
        run = run_once(self.test, chooser, self.faults)
        self.runs += 1
        self.seen.add(zlib.crc32("\n".join(run.lines).encode()))
        return run

    def sample(self, seeds: int) -> None:
        plain = self.run(Plain())
        self._check(plain, "the plain order fails already", "t")
        self.steps = max(10, len(plain.tape))
        if self.strategy == "deepening":
            for tape in self._deepening(plain, seeds):
                self._check(self.run(Tape(tape)), f"{len([a for a in tape if a])} deviations", written(tape))
        else:
            for seed in range(seeds):
                self._check(self.run(self.chooser(seed)), f"strategy {self._named(seed)}", str(seed))
        summaries.append((self.name, self.runs, len(self.seen)))

    def _named(self, seed: int) -> str:
        return ("random", "pct", "fair_pct", "pos")[seed % 4] if self.strategy == "mixed" else self.strategy

    def chooser(self, seed: int) -> Chooser:
        match self._named(seed):
            case "pct":
                return Pct(seed, steps=self.steps)
            case "fair_pct":
                return Pct(seed, steps=self.steps, fair=True)
            case "pos":
                return Pos(seed)
            case _:
                return Random(seed)

    def _deepening(self, plain: Run, limit: int) -> Iterator[list[int]]:
        """Tapes with one deviation from the plain order, then those with two, …"""
        level: list[tuple[list[int], list[int]]] = [([], plain.sizes)]
        count = 0
        while level:
            following: list[tuple[list[int], list[int]]] = []
            for tape, sizes in level:
                for position in range(len(tape), len(sizes)):
                    for answer in range(1, sizes[position]):
                        longer = tape + [0] * (position - len(tape)) + [answer]
                        yield longer
                        count += 1
                        if count >= limit:
                            return
                        following.append((longer, self.run(Tape(longer)).sizes))
            level = following

    def explore(self, bound: int) -> None:
        def check(run: Run, tape: str) -> None:
            self.runs += 1
            self.seen.add(zlib.crc32("\n".join(run.lines).encode()))
            self._check(run, "exhaustive", tape, shrink=False)

        runs, complete = explore(self.test, bound, check, self.faults)
        what = f"all {runs} interleavings that can differ pass" if complete else f"the first {runs} interleavings pass; there are more"
        summaries.append((f"{self.name}: {what}", self.runs, len(self.seen)))

    def replay(self, seed: str) -> None:
        if seed.startswith("e"):
            guided = Guided(_read(seed))
            error, lines = explored(self.test, guided, self.faults)
            self._check(Run(error, guided.tape, [], lines), "replayed", seed, shrink=False)
            return
        if seed.startswith("t"):
            chooser: Chooser = Tape(_read(seed))
        else:
            self.steps = max(10, len(self.run(Plain()).tape))
            chooser = self.chooser(int(seed))
        self._check(self.run(chooser), "replayed", seed, shrink=False)

    def _check(self, run: Run, how: str, seed: str, *, shrink: bool = True) -> None:
        if run.error is None:
            return
        if shrink and not self._again(run.tape).same_failure(run):
            run.error.add_note(
                f"{self.name} failed ({how}), and passed or failed in another way when the same choices were made again: it depends on "
                f"something that is no choice of the simulation, such as random numbers, the real time, threads, or the order of a set"
            )
            raise run.error
        best = self._shrunk(run) if shrink else run
        error = best.error
        assert error is not None
        lines = best.lines if how == "exhaustive" or seed.startswith("e") else self._again(best.tape, telling=True).lines
        deviations = sum(answer != 0 for answer in best.tape)
        told = "\n".join(f"    {line}" for line in lines)
        shortest = f"; the shortest way: --beamish-seed={written(best.tape)}" if shrink else ""
        what = (
            "what happened:"
            if how == "exhaustive"
            else "one deviation from the plain order:"
            if deviations == 1
            else (f"{deviations} deviations from the plain order:")
        )
        error.add_note(f"{self.name} failed ({how}). Again: --beamish-seed={seed}{shortest}\n  {what}\n{told}")
        raise error

    def _again(self, tape: list[int], *, telling: bool = False) -> Run:
        """A run that only looks: what it logs is kept from whoever reads the log of the test. (A kit listens at our own logger.)"""
        ours = logging.getLogger("beamish")
        before, ours.propagate = ours.propagate, False
        try:
            return run_once(self.test, Tape(tape), self.faults, telling=telling)
        finally:
            ours.propagate = before

    def _shrunk(self, run: Run, limit: int = 400) -> Run:
        """The fewest deviations that still fail in the same way: halves of them are set back to the plain order, then smaller parts."""
        best, trials = run, 0
        size = max(1, sum(answer != 0 for answer in best.tape) // 2)
        while True:
            progress = False
            positions = [index for index, answer in enumerate(best.tape) if answer]
            for start in range(0, len(positions), size):
                if trials >= limit:
                    return best
                dropped = set(positions[start : start + size])
                tape = [0 if index in dropped else answer for index, answer in enumerate(best.tape)]
                trials += 1
                shorter = self._again(tape)
                if shorter.same_failure(run) and sum(map(bool, shorter.tape)) < sum(map(bool, best.tape)):
                    best, progress = shorter, True
                    break
            if not progress:
                if size == 1:
                    return best
                size = max(1, size // 2)


def _read(seed: str) -> list[int]:
    return [int(answer) for answer in seed[1:].split(".") if answer]


def written(tape: list[int], kind: str = "t") -> str:
    end = max((index + 1 for index, answer in enumerate(tape) if answer), default=0)
    return kind + ".".join(map(str, tape[:end]))
