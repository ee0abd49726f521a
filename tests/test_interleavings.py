"""The same trees and faults as in test_supervisor_model, at any turn of the event loop: too fine for a model, so what must always be true.

Acts begin a few turns apart, in the middle of whatever goes on. When it is quiet again every call has an answer, supervisors and
their children agree about each other, links and monitors have two ends, and in the end nothing is left.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

from hypothesis import HealthCheck, given, settings, strategies as st

import beamish
from beamish import telemetry
from beamish.testing import ManualClock, World, capture_crashes
from conftest import both_roads
from leaks import descriptors, no_leaks
from supervision.programs import specs, trees
from supervision.real import REASONS, Branch, Crowd, Run, Worker, answer, idle, real_spec
from supervision.simulation import Spec, Tree

number = st.integers(0, 11)
reasons = st.sampled_from(["kill", "kill", "boom", "shutdown", "normal"])
acts = st.one_of(
    st.tuples(st.just("exit"), number, reasons),
    st.tuples(st.just("exit"), number, reasons),
    st.tuples(st.just("fail"), number),
    st.tuples(st.just("leave"), number, st.sampled_from(["normal", "shutdown", "boom"])),
    st.tuples(st.just("stop"), number, st.sampled_from(["normal", "shutdown", "boom"])),
    st.tuples(st.sampled_from(["terminate_child", "restart_child", "delete_child"]), number, number),
    st.tuples(st.just("start_child"), number, st.one_of([specs(id, 1) for id in "xyab"])),
    st.tuples(st.just("which_children"), number),
    st.tuples(st.just("cancel"), number),
    st.tuples(st.just("pass"), st.sampled_from([0.3, 0.7, 1.3, 5.0])),
)
programs = st.lists(st.tuples(acts, st.integers(0, 6)), min_size=1, max_size=14)


class Game:
    def __init__(self, run: Run) -> None:
        self.run = run
        self.asked: list[asyncio.Task[Any]] = []

    def pick(self, number: int, *kinds: Any) -> Any:
        found = [pid for who, pid in self.run.pids.items() if pid in living() and (not kinds or self.run.classes[who] in kinds)]
        return found[number % len(found)] if found else None

    def ask(self, ask: Callable[[], Awaitable[Any]]) -> None:
        async def asking() -> Any:  # a coroutine that is made only now: the task may be cancelled before it begins
            return await answer(self.run, ask())

        self.asked.append(asyncio.ensure_future(asking()))

    def do(self, act: tuple[Any, ...]) -> None:
        match act:
            case ("exit", number, reason):
                if (pid := self.pick(number)) is not None:
                    beamish.exit(pid, REASONS[reason])
            case ("fail", number):
                if (pid := self.pick(number, Worker)) is not None:
                    Worker(pid).fail("boom")
            case ("leave", number, reason):
                if (pid := self.pick(number, Worker)) is not None:
                    Worker(pid).leave(REASONS[reason])
            case ("stop", number, reason):
                if (pid := self.pick(number)) is not None:
                    self.ask(partial(beamish.stop, pid, REASONS[reason]))
            case ("start_child", number, spec):
                self.start_child(number, spec)
            case ("which_children", number):
                if (pid := self.pick(number, Branch)) is not None:
                    self.ask(Branch(pid).which_children)
            case ("cancel", number):
                if self.asked:
                    self.asked[number % len(self.asked)].cancel()
            case (verb, number, which):
                self.administer(verb, number, which)

    def start_child(self, number: int, spec: Spec) -> None:
        pid = self.pick(number, Branch, Crowd)
        if pid is None:
            return
        who = self.run.whos[pid]
        server = self.run.classes[who]
        spec = replace(spec, significant=False, named=False)
        self.ask(partial(server(pid).start_child, real_spec(self.run, who, spec, dynamic=server is Crowd)))

    def administer(self, verb: str, number: int, which: int) -> None:
        pid = self.pick(number, Branch, Crowd)
        if pid is None:
            return
        server = self.run.classes[self.run.whos[pid]]
        if server is Branch:
            self.ask(partial(getattr(Branch(pid), verb), "abcxy"[which % 5]))
        elif (child := self.pick(which)) is not None:
            self.ask(partial(Crowd(pid).terminate_child, child))


def living() -> set[Any]:
    return set(beamish.processes())


async def consistent(run: Run) -> None:
    """That everybody has the same picture."""
    everybody = {pid: info for pid in beamish.processes() if (info := beamish.info(pid)) is not None}
    links = {(pid, peer) for pid, info in everybody.items() for peer in info.links}
    assert links == {(peer, pid) for pid, peer in links}
    watches = Counter((pid, target) for pid, info in everybody.items() for target in info.monitors)
    assert watches == Counter((watcher, pid) for pid, info in everybody.items() for watcher in info.monitored_by)
    for pid, info in everybody.items():
        server = run.classes.get(run.whos[pid]) if pid in run.whos else None
        if server not in (Branch, Crowd):
            continue
        asked = asyncio.ensure_future(server(pid).which_children())
        await idle()
        assert asked.done(), f"{pid} does nothing and answers nothing"
        children = {_pid(one.child) for one in asked.result() if one.child is not None}
        assert "restarting" not in children
        assert children == {peer for peer in info.links if peer is not info.parent}, (pid, run.whos[pid])


def _pid(child: Any) -> Any:
    return child if isinstance(child, beamish.Pid | str) else child.pid()


async def play(tree: Tree, program: list[Any], inline: bool) -> None:
    clock = ManualClock()
    async with World(clock, inline=inline) as world:
        run = Run(clock)
        telemetry.attach_many("interleavings", ["beamish.process.start", "beamish.process.stop"], run.told, None)
        try:
            game = Game(run)
            game.ask(partial(Branch.start, run, (), Spec("root", tree=tree)))
            for act, turns in program:
                if act[0] == "pass":
                    await clock.advance(act[1])
                else:
                    game.do(act)
                for _ in range(turns):
                    await asyncio.sleep(0)
            await clock.advance(1000.0)
            await idle()
            assert all(one.done() for one in game.asked), [one for one in game.asked if not one.done()]
            for one in game.asked:
                assert one.cancelled() or one.exception() is None, one.exception()
            await consistent(run)
            for pid in beamish.processes():
                if beamish.info(pid).parent is None:  # type: ignore[union-attr]
                    game.ask(partial(beamish.stop, pid, beamish.SHUTDOWN))
            await clock.advance(1000.0)
            await idle()
        finally:
            telemetry.detach("interleavings")
            for pid in beamish.processes():
                beamish.exit(pid, beamish.KILL)
            await clock.advance(1000.0)
        no_leaks(world)


@both_roads
@settings(max_examples=int(os.environ.get("EXAMPLES", "100")), deadline=None, suppress_health_check=list(HealthCheck))
@given(tree=trees(1), program=programs)
def test_at_any_turn_of_the_loop_everything_stays_whole(inline: bool, tree: Tree, program: list[Any]) -> None:
    before = descriptors()
    with capture_crashes():
        asyncio.run(play(tree, program, inline))
    assert descriptors() == before
