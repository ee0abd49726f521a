"""Random trees of supervisors under random faults, held against a model that was written from OTP's manual (tests/supervision).

A program is data: a tree, and steps. Each step is done to the model and to the real tree, on a clock that is moved by hand; then the
traces, the answers, the living processes and what each supervisor says of its children must be the same. At the end nothing may be left.
EXAMPLES=20000 in the environment looks further than every run does.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, assume, given, settings, strategies as st

import beamish
from beamish import telemetry
from beamish.testing import ManualClock, World, capture_crashes
from conftest import both_roads
from leaks import descriptors, no_leaks
from supervision import model, simulation
from supervision.programs import specs, trees
from supervision.real import Branch, Real, Run, answer, idle, name_of, projected
from supervision.simulation import Spec, Tree

# --- programs ---------------------------------------------------------------------------------------------------------

number = st.integers(0, 11)
waits = st.sampled_from([None, None, None, 0.0, 0.45, 1.05])
verbs = st.one_of(
    st.tuples(st.sampled_from(["terminate_child", "terminate_child", "restart_child", "delete_child"]), number),
    st.tuples(st.just("start_child"), st.one_of([specs(id, 1) for id in "xyzab"])),
    st.tuples(st.sampled_from(["which_children", "count_children"])),
)
signals = st.lists(st.tuples(number, st.sampled_from(["kill", "kill", "boom", "shutdown", "normal"])), min_size=1, max_size=3)
acts = st.one_of(
    st.tuples(st.just("signals"), signals),
    st.tuples(st.just("fail"), number),
    st.tuples(st.just("leave"), number, st.sampled_from(["normal", "shutdown", "boom"])),
    st.tuples(st.just("stop"), number, st.sampled_from(["normal", "shutdown", "boom"])),
    st.tuples(st.just("ask"), number, st.lists(verbs, min_size=1, max_size=3)),
    st.tuples(st.just("ask"), number, st.lists(verbs, min_size=1, max_size=2)),
    st.tuples(st.just("fill"), number, st.lists(st.one_of([specs(id, 1) for id in "xyz"]), min_size=2, max_size=5)),
    st.tuples(st.just("kill and ask"), number, number, st.lists(verbs, min_size=1, max_size=2)),
    st.tuples(st.just("pass"), st.sampled_from([1.0, 4.0, 5.0, 6.0])),
)
steps = st.lists(st.tuples(acts, waits), min_size=1, max_size=12)


# --- both together ----------------------------------------------------------------------------------------------------

START = 1000.23
#: How many attempts to restart come before each request that is asked together with a death: OTP's scheduler may choose.
HOLDS = [(0, 0), (1, 0), (1, 1), (0, 1), *((a, b) for a in range(5) for b in range(5) if max(a, b) > 1)]


class Played:
    """The model, as far as the program has come."""

    def __init__(self, tree: Tree) -> None:
        self.sim = simulation.Simulation(START)
        self.requests: list[model.Request] = []
        root = Spec("root", tree=tree)
        self.root = model.Supervisor(self.sim, self.sim.number((), "root"), root, None)
        self.took = self.sim.quiesce()

    def pick(self, number: int, kind: type[simulation.Proc] = simulation.Proc, *, root: bool = False) -> Any:
        found = [proc for proc in model.living(self.sim) if isinstance(proc, kind) and (proc is not self.root or root)]
        return found[number % len(found)] if found else None

    def child(self, sup: model.Supervisor, number: int) -> Any:
        found = [one.proc for one in sup.children if one.proc is not None and one.proc.alive]
        return found[number % len(found)] if found else None

    def step(self, act: tuple[Any, ...], wait: float | None, holds: tuple[int, ...]) -> tuple[list[tuple[Any, ...]], float]:
        """Do it to the model. What is to be done to the real one, in terms of who; and how long to wait then."""
        todo = list(self._act(act, holds))
        if act[0] == "kill and ask":
            wait = 0.0  # how long it will take depends on what the real one has chosen
        if wait is None:
            return todo, self.sim.quiesce()
        self.sim.advance(wait)
        return todo, wait

    def _act(self, act: tuple[Any, ...], holds: tuple[int, ...]) -> Any:
        match act:
            case ("signals", signals):
                first = self.pick(signals[0][0], root=signals[0][0] == 11)
                if first is None:
                    return
                family = first.parent or first
                for number, reason in signals:
                    target = self.child(family, number) if family is not first else first
                    if target is not None:
                        target.signal(reason)
                        yield "exit", target.who, reason
            case ("fail" | "leave" as how, number, *rest):
                worker = self.pick(number, simulation.Worker)
                if worker is not None:
                    reason = rest[0] if rest else "boom"
                    worker.end(reason)
                    yield how, worker.who, reason
            case ("stop", number, reason):
                target = self.pick(number, root=number == 11)
                if isinstance(target, simulation.Worker):
                    target.end(reason)
                    yield "stop worker", target.who, reason
                elif target is not None:
                    yield self.ask(target, ("stop", reason), 0)
            case ("ask", number, verbs):
                sup = self.pick(number, model.Supervisor, root=True)
                if sup is not None:
                    for verb in verbs:
                        yield self.ask(sup, verb, 0)
            case ("fill", number, specs):
                sup = self.pick(number, model.Dynamic)
                if sup is not None:
                    for spec in specs:
                        yield self.ask(sup, ("start_child", spec), 0)
            case ("kill and ask", number, which, verbs):
                sup = self.pick(number, model.Supervisor, root=True)
                target = None if sup is None else self.child(sup, which)
                if target is not None:
                    target.signal("kill")
                    yield "exit", target.who, "kill"
                    for verb, hold in zip(verbs, holds, strict=False):
                        yield self.ask(sup, verb, hold)
            case ("pass", seconds):
                self.sim.advance(seconds)
                yield "pass", seconds

    def ask(self, sup: model.Supervisor, verb: tuple[Any, ...], hold: int) -> tuple[Any, ...]:
        if isinstance(sup, model.Dynamic):
            verb = self.dynamic(sup, verb)
        elif isinstance(verb[-1], int):  # one of the children, or nobody
            ids = [*(child.spec.id for child in sup.children), "nobody"]
            verb = verb[0], ids[verb[1] % len(ids)]
        if isinstance(verb[-1], Spec) and sup.tree.auto_shutdown == "never":
            verb = verb[0], replace(verb[1], significant=False)
        self.requests.append(model.request(sup, *verb, hold=hold))
        return "ask", sup.who, *verb

    def dynamic(self, sup: model.Dynamic, verb: tuple[Any, ...]) -> tuple[Any, ...]:
        """The same of a dynamic supervisor, which knows its children by pid and has fewer verbs."""
        if isinstance(verb[-1], int):
            ids = [*(child.known for child in sup.children), self.root.who]
            return "terminate_child", ids[verb[1] % len(ids)]
        if isinstance(verb[-1], Spec):
            return verb[0], replace(verb[1], named=False)
        # Whether one that ended a moment ago is listed still is not said anywhere; who is there is compared after every step.
        return "terminate_child", self.root.who

    def seen(self) -> Any:
        """What the real one must look like now."""
        sim = self.sim
        trees = {proc.who: self.children(proc) for proc in model.living(sim) if isinstance(proc, model.Supervisor) and proc.receiving}
        names = {proc.who: name_of(proc.spec, proc.who[:-1]) for proc in sim.procs}

        def named(answer: Any) -> Any:
            """As callers see it: a child that has a name by its name, others by pid."""
            if isinstance(answer, list):
                return [*map(named, answer)]
            if isinstance(answer, tuple):
                name = names.get(answer) if answer and isinstance(answer[0], tuple) else None
                return name or tuple(map(named, answer))
            return answer

        return {
            "alive": {proc.who for proc in model.living(sim)},
            "answers": [named(request.result) for request in self.requests],
            "events": projected(sim.events, {proc.who for proc in sim.procs if isinstance(proc, model.Dynamic)}),
            "trees": {who: (named(told[0]), told[1]) for who, told in trees.items()},
        }

    @staticmethod
    def children(sup: model.Supervisor) -> Any:
        def result(steps: Any) -> Any:
            try:
                next(steps)
            except StopIteration as stop:
                return stop.value

        return result(sup.which_children()), result(sup.count_children())


def replay(tree: Tree, steps: list[Any], holds: list[tuple[int, ...]]) -> Played:
    played = Played(tree)
    for (act, wait), hold in zip(steps, holds, strict=True):
        played.step(act, wait, hold)
    return played


async def play(tree: Tree, steps: list[Any], inline: bool) -> None:
    """One program, in both."""
    clock = ManualClock(START)
    async with World(clock, inline=inline) as world:
        run = Run(clock)
        telemetry.attach_many("supervisor model", ["beamish.process.start", "beamish.process.stop"], run.told, None)
        try:
            await _play(tree, steps, world, run)
        except BaseException:
            for pid in run.pids.values():  # what waits for the clock would wait for ever
                beamish.exit(pid, beamish.KILL)
            await world.clock.advance(1000.0)
            raise
        finally:
            telemetry.detach("supervisor model")
        no_leaks(world)


async def _play(tree: Tree, steps: list[Any], world: World, run: Run) -> None:
    played = Played(tree)
    real = Real(run)
    starting = asyncio.ensure_future(answer(run, Branch.start(run, (), Spec("root", tree=tree))))
    await world.clock.advance(played.took)
    await idle()
    assert starting.done()
    if played.root.acked != ("ok",):
        assert starting.result() == played.root.acked
    same(await real.seen(played.seen()), played.seen(), "start")
    holds: list[tuple[int, ...]] = []
    for number, (act, wait) in enumerate(steps):
        todo, took = played.step(act, wait, HOLDS[0])
        before = sum(real.do(what) for what in todo)
        await world.clock.advance(before + took)
        await idle()
        expected = played.seen()
        seen = await real.seen(expected)
        chosen = HOLDS[0]
        if seen != expected and act[0] == "kill and ask":
            for hold in HOLDS[1:]:
                other = replay(tree, steps[: number + 1], [*holds, hold])
                if await real.seen(other.seen()) == other.seen():
                    played, chosen = other, hold
                    break
        holds.append(chosen)
        same(await real.seen(played.seen()), played.seen(), (number, act))
    await finish(played, world, run)


def same(seen: dict[str, Any], expected: dict[str, Any], where: Any) -> None:
    """That they are equal; if not, with what of it is not."""
    if seen == expected:
        return
    told = [f"at {where}:"]
    for key in expected:
        one, other = seen[key], expected[key]
        if one == other:
            continue
        if isinstance(other, dict):
            keys = [name for name in one | other if one.get(name) != other.get(name)]
            told += [f"  {key} of {name}: {one.get(name)}\n    expected {other.get(name)}" for name in keys]
        else:
            told.append(f"  {key}: {one}\n    expected {other}")
    raise AssertionError("\n".join(told))


async def finish(played: Played, world: World, run: Run) -> None:
    """Stop what is left, and give everybody the time to go."""
    for who in played.seen()["alive"]:
        if len(who) == 1:
            stopping = asyncio.ensure_future(answer(run, beamish.stop(run.pids[who], beamish.SHUTDOWN)))
            stopping.add_done_callback(lambda done: done.result())
    await world.clock.advance(1000.0)
    await idle()


@both_roads
@settings(max_examples=int(os.environ.get("EXAMPLES", "100")), deadline=None, suppress_health_check=list(HealthCheck))
@given(tree=trees(2), steps=steps)
def test_any_tree_does_what_the_manual_says(inline: bool, tree: Tree, steps: list[Any]) -> None:
    before = descriptors()
    with capture_crashes():
        try:
            asyncio.run(play(tree, steps, inline))
        except simulation.Ambiguous:
            assume(False)
    assert descriptors() == before
