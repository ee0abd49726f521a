"""Links, monitors and exit signals, against OTP's table; in which order deaths are told; and how many at a time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

import beamish
from beamish import KILL, KILLED, NOPROC, NORMAL, SHUTDOWN, CallExit, Down, Exit, Exited, GenServer, call
from beamish.testing import World, settle
from conftest import both_roads


class Node(GenServer[list[Any]]):
    """One process of a graph: does what it is told, and keeps what it gets in a log that outlives it."""

    def init(self, log: list[Any], trap: bool = False) -> list[Any]:
        beamish.flag(trap_exit=trap)
        return log

    @call
    def do(self, state: list[Any], fn: Callable[[], Any]) -> Any:
        return fn()

    @call
    async def do_async(self, state: list[Any], fn: Callable[[], Any]) -> object:
        await asyncio.sleep(0)
        return fn()

    def handle_info(self, state: list[Any], message: Any) -> None:
        state.append(message)


# --- the table --------------------------------------------------------------------------------------------------------

SIZE = 5
REASONS: list[Any] = [NORMAL, SHUTDOWN, KILL, KILLED, "mine"]


@dataclass
class Model:
    """OTP's manual, written down: who lives, who is told what."""

    traps: list[bool]
    alive: dict[int, bool] = field(default_factory=lambda: dict.fromkeys(range(SIZE), True))
    links: set[frozenset[int]] = field(default_factory=set)
    monitors: list[tuple[int, int] | None] = field(default_factory=list)  # (who watches, whom), by number of the monitor
    mail: dict[int, Counter[Any]] = field(default_factory=lambda: {i: Counter() for i in range(SIZE)})

    def die(self, one: int, reason: Any) -> None:
        row = [(one, reason)]
        while row:
            one, reason = row.pop(0)
            if not self.alive[one]:
                continue
            self.alive[one] = False
            for number, pair in enumerate(self.monitors):
                if pair is not None and pair[1] == one:
                    self.tell(pair[0], ("down", number, reason))
                    self.monitors[number] = None
            for other in range(SIZE):
                if frozenset((one, other)) in self.links and other != one:
                    self.links.discard(frozenset((one, other)))
                    if self.traps[other]:
                        self.tell(other, ("exit", one, reason))
                    elif reason != NORMAL:
                        row.append((other, reason))

    def tell(self, one: int, message: Any) -> None:
        if self.alive[one]:
            self.mail[one][message] += 1

    def exit(self, source: int, target: int, reason: Any) -> None:
        if not self.alive[target]:
            return
        if reason == KILL:
            self.die(target, KILLED)
        elif self.traps[target]:
            self.tell(target, ("exit", source, reason))
        elif reason != NORMAL or source == target:
            self.die(target, reason)

    def link(self, one: int, other: int) -> None:
        if one == other:
            return
        if self.alive[other]:
            self.links.add(frozenset((one, other)))
        elif self.traps[one]:
            self.tell(one, ("exit", other, NOPROC))

    def monitor(self, one: int, other: int) -> None:
        if self.alive[other]:
            self.monitors.append((one, other) if one != other else None)
        else:
            self.monitors.append(None)
            self.tell(one, ("down", len(self.monitors) - 1, NOPROC))

    def demonitor(self, one: int, number: int) -> None:
        pair = self.monitors[number]
        if pair is not None and pair[0] == one:
            self.monitors[number] = None


process = st.integers(0, SIZE - 1)
acts = st.one_of(
    st.tuples(st.just("link"), process, process),
    st.tuples(st.just("link"), process, process),
    st.tuples(st.just("unlink"), process, process),
    st.tuples(st.just("monitor"), process, process),
    st.tuples(st.just("demonitor"), process, st.integers(0, 4)),
    st.tuples(st.just("exit"), process, process, st.sampled_from(REASONS)),
    st.tuples(st.just("end"), process, st.sampled_from(REASONS)),
)


class Real:
    """The same acts, on real processes."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.logs: list[list[Any]] = [[] for _ in range(SIZE)]
        self.refs: list[tuple[int, Any]] = []

    async def start(self) -> None:
        self.servers = [await Node.start(log, trap) for log, trap in zip(self.logs, self.model.traps, strict=True)]
        self.pids: list[Any] = [server.pid() for server in self.servers]

    async def act(self, one: int, fn: Callable[[], Any], *, slow: bool) -> None:
        server = self.servers[one]
        try:
            await (server.do_async(fn) if slow else server.do(fn))
        except CallExit:
            pass  # it died of it
        await settle()

    def link(self, other: int) -> None:
        try:
            beamish.link(self.pids[other])
        except beamish.NoProcess:
            pass

    def seen(self, one: int) -> Counter[Any]:
        found: Counter[Any] = Counter()
        for message in self.logs[one]:
            match message:
                case Exited(pid=pid, reason=reason):
                    found["exit", self.pids.index(pid), reason] += 1
                case Down(ref=ref, target=target, reason=reason):
                    number = [known for _, known in self.refs].index(ref)
                    assert target is self.pids[self.watched[number]]
                    found["down", number, reason] += 1
        return found

    @property
    def watched(self) -> list[int]:
        return [self.pids.index(ref.target) for _, ref in self.refs]


async def _one_graph(traps: list[bool], steps: list[Any], inline: bool, slow: bool) -> None:
    async with World(inline=inline) as world:
        model = Model(traps)
        real = Real(model)
        await real.start()
        for step in steps:
            one = step[1]
            if not model.alive[one]:
                continue
            match step:
                case ("link", _, other):
                    await real.act(one, lambda other=other: real.link(other), slow=slow)  # type: ignore[misc]
                    model.link(one, other)
                case ("unlink", _, other):
                    await real.act(one, lambda other=other: beamish.unlink(real.pids[other]), slow=slow)  # type: ignore[misc]
                    model.links.discard(frozenset((one, other)))
                case ("monitor", _, other):
                    await real.act(
                        one,
                        lambda one=one, other=other: real.refs.append((one, beamish.monitor(real.pids[other]))),  # type: ignore[misc]
                        slow=slow,
                    )
                    model.monitor(one, other)
                case ("demonitor", _, number) if number < len(real.refs) and real.refs[number][0] == one:
                    await real.act(one, lambda number=number: beamish.demonitor(real.refs[number][1]), slow=slow)  # type: ignore[misc]
                    model.demonitor(one, number)
                case ("exit", _, other, reason):
                    await real.act(one, lambda other=other, reason=reason: beamish.exit(real.pids[other], reason), slow=slow)  # type: ignore[misc]
                    model.exit(one, other, reason)
                case ("end", _, reason):
                    await real.act(one, lambda reason=reason: _raise(reason), slow=slow)  # type: ignore[misc]
                    model.die(one, reason)
            assert {i: beamish.alive(pid) for i, pid in enumerate(real.pids)} == model.alive
            living = [i for i in range(SIZE) if model.alive[i]]  # who dies with mail in the queue handles it no more
            assert {i: real.seen(i) for i in living} == {i: model.mail[i] for i in living}
        for pid in real.pids:
            beamish.exit(pid, KILL)
        assert [one for one in world.node.procs if one is not world.node.root] == []


def _raise(reason: Any) -> None:
    raise Exit(reason)


@pytest.mark.parametrize("slow", [False, True], ids=["def", "async"])
@both_roads
@settings(max_examples=150, deadline=None)
@given(traps=st.lists(st.booleans(), min_size=SIZE, max_size=SIZE), steps=st.lists(acts, max_size=12))
def test_any_graph_of_links_and_monitors_follows_the_table(inline: bool, slow: bool, traps: list[bool], steps: list[Any]) -> None:
    import logging

    logging.getLogger("beamish").setLevel(logging.CRITICAL)
    try:
        asyncio.run(_one_graph(traps, steps, inline, slow))
    finally:
        logging.getLogger("beamish").setLevel(logging.NOTSET)


# --- order and number -------------------------------------------------------------------------------------------------


class Watcher(GenServer[list[Any]]):
    """Notes what is registered at the moment it hears of an end."""

    def init(self, log: list[Any]) -> list[Any]:
        beamish.flag(trap_exit=True)
        return log

    @call
    def watch(self, state: list[Any], name: str) -> None:
        beamish.link(name)
        beamish.monitor(name)

    def handle_info(self, state: list[Any], message: Any) -> None:
        state.append((type(message), beamish.whereis("watched"), beamish.alive("watched")))


class Named(GenServer[None]):
    def init(self) -> None: ...

    @call
    def leave(self, state: None, how: Callable[[], Any]) -> None:
        how()


class TestNames:
    @both_roads
    @pytest.mark.parametrize("how", ["a signal", "an exit", "a crash", "killed inside"])
    async def test_are_free_before_anybody_is_told(self, world: World, how: str) -> None:
        log: list[Any] = []
        watcher, watched = await Watcher.start(log), await Named("watched").start()
        await watcher.watch("watched")
        try:
            match how:
                case "a signal":
                    beamish.exit(watched, "enough")
                case "an exit":
                    await watched.leave(lambda: _raise("enough"))
                case "a crash":
                    with beamish.testing.capture_crashes():
                        await watched.leave(lambda: 1 / 0)
                case _:
                    await watched.leave(lambda: beamish.exit("watched", KILL))
        except CallExit:
            pass
        await settle()
        assert log == [(Down, None, False), (Exited, None, False)]
        await watcher.stop()

    async def test_a_caller_that_hears_of_the_end_may_take_the_name(self, world: World) -> None:
        watched = await Named("watched").start()
        with pytest.raises(CallExit):
            await watched.leave(lambda: _raise("enough"))
        again = await Named("watched").start()
        await again.stop()


class TestManyDeaths:
    @both_roads
    async def test_a_chain_of_three_thousand_links(self, world: World) -> None:
        class Chained(GenServer[None]):
            def init(self, before: Any) -> None:
                if before is not None:
                    beamish.link(before)

        chain: list[Any] = [None]
        for _ in range(3000):
            chain.append(await Chained.start(chain[-1]))
        ended = asyncio.ensure_future(beamish.down(chain[-1]))
        await settle()
        beamish.exit(chain[1], "the first")
        assert (await ended).reason == "the first"
        assert not any(beamish.alive(one) for one in chain[1:])

    async def test_a_star_of_three_thousand_links(self, world: World) -> None:
        class Ray(GenServer[None]):
            def init(self, hub: Any) -> None:
                beamish.link(hub)

        hub = await Named.start()
        rays = [await Ray.start(hub) for _ in range(3000)]
        ended = asyncio.ensure_future(beamish.down(rays[-1]))
        await settle()
        beamish.exit(hub, "the hub")
        assert (await ended).reason == "the hub"
        assert not any(map(beamish.alive, rays))
