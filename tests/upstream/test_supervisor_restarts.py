"""supervisor_SUITE: what is restarted, how often, with whom; restarts that fail and do not come to an end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import beamish
from beamish import (
    KILL,
    NORMAL,
    SHUTDOWN,
    AlreadyPresent,
    ChildCounts,
    ChildSpec,
    DynamicSupervisor,
    Exited,
    GenServer,
    NotFound,
    Restarting,
    Shutdown,
    StartError,
    Stop,
    Supervisor,
    Via,
    call,
    cast,
    child,
    down,
    exit,
    flag,
    receive,
    whereis,
)
from beamish.testing import ManualClock, World, capture_crashes, settle
from conftest import both_roads
from upstream.words import Book

pytestmark = both_roads


class Worker(GenServer[str]):
    def init(self, name: str = "") -> str:
        return name

    @call
    def get(self, state: str) -> str:
        return state

    @cast
    def leave(self, state: str, reason: object) -> Stop[Any]:
        return Stop(reason)


class Once(GenServer[None]):
    """Starts, and then never again."""

    def init(self, starts: list[int]) -> Any:
        starts[0] += 1
        return None if starts[0] == 1 else Stop("error")


def workers(*names: str) -> list[ChildSpec[Any]]:
    return [Worker(name).child_spec(name) for name in names]


def pids(*names: str) -> list[Any]:
    return [whereis(name) for name in names]


async def end(name: str, reason: object = "abnormal") -> None:
    with capture_crashes():
        Worker(name).leave(reason)
        await settle()


async def ended(supervisor: Any) -> object:
    """What the supervisor ended with, whom this process is linked to."""
    message: Any = await receive(lambda one: isinstance(one, Exited), timeout=0)
    assert supervisor.pid() is None
    return message.reason


async def counts(supervisor: Any) -> tuple[int, int]:
    found: ChildCounts = await supervisor.count_children()
    return found.specs, found.active


async def ids(supervisor: Supervisor) -> list[Any]:
    return [one.id for one in await supervisor.which_children()]


# --- which ends restart whom ------------------------------------------------------------------------------------------

REASONS = [NORMAL, SHUTDOWN, Shutdown("some_info"), "abnormal"]


@pytest.mark.parametrize("reason", REASONS, ids=["normal", "shutdown", "shutdown_info", "abnormal"])
@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
async def test_restart_types(world: World, restart: Any, reason: object) -> None:
    """permanent_normal … temporary_abnormal: the nine tests of three types and three reasons."""
    supervisor = await Supervisor.start_link([])
    await supervisor.start_child(Worker("child1").child_spec().replace(restart=restart))
    before = whereis("child1")
    await end("child1", reason)
    expected = {"permanent": (1, 1), "temporary": (0, 0)}.get(restart, (1, 1) if reason == "abnormal" else (1, 0))
    assert await counts(supervisor) == expected
    assert (whereis("child1") is not None) == (expected[1] == 1)
    assert whereis("child1") != before
    await supervisor.stop()


async def test_many_restarts_below_the_limit(world: World, clock: ManualClock) -> None:
    """multiple_restarts."""
    supervisor = await Supervisor.start_link(workers("child1"), max_restarts=1, max_seconds=1.0)
    for _ in range(5):
        await end("child1")
        await clock.advance(2.1)
    assert await Worker("child1").get() == "child1"
    await supervisor.terminate_child("child1")
    await supervisor.delete_child("child1")
    await supervisor.stop()


# --- strategies -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "renewed"),
    [("one_for_one", [False, True, False]), ("one_for_all", [True, True, True]), ("rest_for_one", [False, True, True])],
)
async def test_strategies(world: World, strategy: Any, renewed: list[bool]) -> None:
    """one_for_one, one_for_all, rest_for_one: who is new after the second of three has ended; and the third end is one too many."""
    flag(trap_exit=True)
    supervisor = await Supervisor.start_link([], strategy=strategy, max_restarts=2, max_seconds=3600)
    for spec in workers("a", "b", "c"):
        await supervisor.start_child(spec)
    before = pids("a", "b", "c")
    refs = [beamish.monitor(pid) for pid, new in zip(before, renewed, strict=True) if new]
    await end("b")
    assert [now != then for now, then in zip(pids("a", "b", "c"), before, strict=True)] == renewed
    assert None not in pids("a", "b", "c")
    reasons = [(await down(ref)).reason for ref in refs]
    assert reasons == [SHUTDOWN if pid != before[1] else "abnormal" for pid, new in zip(before, renewed, strict=True) if new]
    assert await counts(supervisor) == (3, 3)
    assert await ids(supervisor) == ["c", "b", "a"]
    await end("c")
    assert None not in pids("a", "b", "c")
    await end("b")
    assert await ended(supervisor) == SHUTDOWN
    assert pids("a", "b", "c") == [None] * 3


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
async def test_escalation(world: World, strategy: Any) -> None:
    """one_for_one_escalation, one_for_all_escalation, rest_for_one_escalation: a child that can't be restarted ends them all."""
    flag(trap_exit=True)
    starts = [0]
    specs = [*workers("a"), Once("once").child_spec(starts), *workers("z")]
    supervisor = await Supervisor.start_link(specs, strategy=strategy, max_restarts=4, max_seconds=3600)
    with capture_crashes():
        exit("once" if strategy == "one_for_one" else "a", "abnormal")
        await settle()
    assert await ended(supervisor) == SHUTDOWN
    assert starts == [5]  # the first, and four times in vain
    assert pids("a", "once", "z") == [None] * 3


@pytest.mark.parametrize(
    ("strategy", "log"),
    [("one_for_all", ["child1", "child2", "shutdown child1", "child1", "child2"]), ("rest_for_one", ["child1", "child2", "child2"])],
)
async def test_another_child_fails_to_restart(world: World, strategy: Any, log: list[str]) -> None:
    """one_for_all_other_child_fails_restart, rest_for_one_other_child_fails_restart: those of the group that run again are ended first."""
    seen: list[str] = []
    fails: list[str] = []

    class Noting(GenServer[str]):
        def init(self, name: str) -> Any:
            flag(trap_exit=True)
            seen.append(name)
            if name in fails:
                fails.remove(name)
                return Stop("not now")
            return name

        def terminate(self, state: str, reason: Any) -> None:
            if reason == SHUTDOWN:
                seen.append(f"shutdown {state}")

    supervisor = await Supervisor.start_link([Noting(f"child{n}").child_spec(f"child{n}") for n in (1, 2)], strategy=strategy)
    fails.append("child2")
    seen.clear()
    with capture_crashes():
        exit("child1", KILL)
        await settle()
    assert seen == ["shutdown child2", *log]
    assert await counts(supervisor) == (2, 2)
    await supervisor.stop()


async def test_a_temporary_bystander_is_not_started_again(world: World) -> None:
    """temporary_bystander."""
    for strategy in ("one_for_all", "rest_for_one"):
        supervisor = await Supervisor.start_link(workers("child1"), strategy=strategy, max_restarts=2)
        await supervisor.start_child(Worker("child2").child_spec().replace(restart="temporary"))
        await end("child1", NORMAL)
        assert await ids(supervisor) == ["child1"]
        assert whereis("child2") is None
        assert whereis("child1") is not None
        await supervisor.stop()


async def test_a_tree(world: World) -> None:
    """tree: only what ended is restarted, until it is too often; then the tree, without what was added to it."""
    flag(trap_exit=True)
    one = Supervisor("supchild1").child_spec(workers("child1", "child2"), max_restarts=4)
    two = Supervisor("supchild2").child_spec([], max_restarts=4)
    top = await Supervisor.start_link([one, two], strategy="one_for_all", max_restarts=4)
    assert await top.count_children() == ChildCounts(2, 2, 2, 0)
    second: Supervisor = Supervisor("supchild2")
    starts = [0]
    await second.start_child(Once("child3").child_spec(starts))
    await second.start_child(*workers("child4"))
    before = pids("child1", "child2", "child3", "child4", "supchild1", "supchild2")
    await end("child4")
    after = pids("child1", "child2", "child3", "child4", "supchild1", "supchild2")
    assert [now == then for now, then in zip(after, before, strict=True)] == [True, True, True, False, True, True]
    with capture_crashes():
        exit("child3", "abnormal")
        await settle()
    assert None not in pids("child1", "child2", "supchild1", "supchild2")
    assert not set(pids("child1", "child2", "supchild1", "supchild2")) & set(after)
    assert await ids(top) == ["supchild2", "supchild1"]
    assert await ids(Supervisor("supchild1")) == ["child2", "child1"]
    assert await ids(second) == []
    await top.stop()


@pytest.mark.parametrize("by", ["name", "via"])
@pytest.mark.parametrize("how", ["kill_supervisor", "kill_worker", "exit_worker", "restart_worker"])
async def test_a_supervisor_with_a_name(world: World, by: str, how: str) -> None:
    """simple_global_supervisor: names are free whenever somebody is to be started under them again."""
    book = Book()
    sup2, server = [key if by == "name" else Via(book, key) for key in ("sup2", "server")]
    middle = Supervisor(sup2).child_spec([Worker(server).child_spec().replace(id="child")], strategy="one_for_all", max_seconds=60)
    top = await Supervisor.start_link([middle], strategy="one_for_all", max_seconds=60)
    before = [whereis(sup2), whereis(server)]
    assert None not in before
    with capture_crashes():
        match how:
            case "kill_supervisor":
                exit(Supervisor(sup2), KILL)
            case "kill_worker":
                exit(Worker(server), KILL)
            case "exit_worker":
                Worker(server).leave("normal")
            case _:
                await Supervisor(sup2).terminate_child("child")
                await Supervisor(sup2).restart_child("child")
        await settle()
        assert whereis(server) not in (None, before[1])
        assert (whereis(sup2) not in (None, before[0])) if how == "kill_supervisor" else (whereis(sup2) == before[0])
    await top.stop()
    assert (whereis(sup2), whereis(server)) == (None, None)


# --- dynamic children -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extra", [False, True])
async def test_simple_one_for_one(world: World, extra: bool) -> None:
    """simple_one_for_one, simple_one_for_one_extra: each is restarted alone; the third end is one too many."""
    flag(trap_exit=True)

    async def start() -> Any:
        worker = await Worker.start_link()
        return (worker, "extra_info") if extra else worker

    supervisor = await DynamicSupervisor.start_link(max_restarts=2, max_seconds=3600)
    started = [await supervisor.start_child(child(start)) for _ in range(2)]
    if extra:
        assert {rest for _, rest in started} == {"extra_info"}
    first, second = [one[0] if extra else one for one in started]
    with capture_crashes():
        exit(first, "abnormal")
        await settle()
        children = [info.child for info in await supervisor.which_children()]
        assert len(children) == 2
        assert second in children
        assert first not in children
        for _ in range(2):
            exit((await supervisor.which_children())[0].child, "abnormal")  # type: ignore[arg-type]
            await settle()
    assert await ended(supervisor) == SHUTDOWN
    assert second.pid() is None


async def test_simple_one_for_one_shutdown(world: World, clock: ManualClock) -> None:
    """simple_one_for_one_shutdown: all at the same time, the slow ones to their limit."""

    class Slow(GenServer[asyncio.Event]):
        def init(self, gate: asyncio.Event) -> asyncio.Event:
            flag(trap_exit=True)
            return gate

        async def terminate(self, state: asyncio.Event, reason: Any) -> None:
            await state.wait()

    gate = asyncio.Event()
    supervisor = await DynamicSupervisor.start_link()
    specs = [Slow.child_spec(one).replace(shutdown=2.0) for one in (gate, gate, asyncio.Event())]
    refs = [beamish.monitor(await supervisor.start_child(spec)) for spec in specs]
    with capture_crashes():
        stopping = asyncio.ensure_future(supervisor.stop(SHUTDOWN))
        await clock.advance(1.0)
        gate.set()
        await clock.advance(0.9)
        assert not stopping.done()
        await clock.advance(0.1)
        await stopping
    assert [(await down(ref)).reason for ref in refs] == [SHUTDOWN, SHUTDOWN, beamish.KILLED]


async def test_simple_one_for_one_escalation(world: World) -> None:
    flag(trap_exit=True)
    starts = [0]
    supervisor = await DynamicSupervisor.start_link(max_restarts=4, max_seconds=3600)
    once = await supervisor.start_child(Once.child_spec(starts))
    other = await supervisor.start_child(Worker.child_spec())
    with capture_crashes():
        exit(once, "abnormal")
        await settle()
    assert await ended(supervisor) == SHUTDOWN
    assert starts == [5]
    assert other.pid() is None


# --- restarts that do not come to an end ------------------------------------------------------------------------------


class Loop:
    """A child whose start may be made to fail, each time after a while: OTP's supervisor_deadlock."""

    def __init__(self) -> None:
        self.fails = False
        self.gate = asyncio.Event()

    async def start(self) -> Any:
        if self.fails:
            await self.gate.wait()
            self.gate.clear()
            raise StartError("fails")
        return await Worker.start_link()

    async def fail_once(self) -> None:
        self.gate.set()
        await settle()

    async def while_it_fails(self, request: Awaitable[Any]) -> Any:
        """What a supervisor answers that is between two attempts."""
        asking = asyncio.ensure_future(request)
        await settle()
        assert not asking.done()
        await self.fail_once()
        assert asking.done()
        return await asyncio.gather(asking, return_exceptions=True)


def is_refused(answer: list[Any], kind: type[Exception]) -> bool:
    return isinstance(answer[0], kind)


@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one"])
async def test_a_hanging_restart_loop(world: World, strategy: Any) -> None:
    """hanging_restart_loop, hanging_restart_loop_rest_for_one: requests get their turn, and it can be ended."""
    loop = Loop()
    spec = child(loop.start, id="child1").replace(shutdown="brutal_kill")
    after = workers("child2") if strategy == "rest_for_one" else []
    supervisor = await Supervisor.start_link([spec, *after], strategy=strategy, max_restarts=30, max_seconds=10)
    (first,) = [info.child for info in await supervisor.which_children() if info.id == "child1"]
    with capture_crashes():
        for last in (False, True):
            loop.fails = True
            exit(first, "error")  # type: ignore[arg-type]
            await settle()
            asked: list[tuple[Callable[[], Any], type[Exception]]] = [
                (lambda: supervisor.start_child(spec), AlreadyPresent),
                (lambda: supervisor.restart_child("child1"), Restarting),
                (lambda: supervisor.delete_child("child1"), Restarting),
            ]
            for request, error in asked:
                assert is_refused(await loop.while_it_fails(request()), error)
            (infos,) = await loop.while_it_fails(supervisor.which_children())
            assert {info.id: info.child for info in infos}["child1"] == "restarting"
            assert await loop.while_it_fails(counts(supervisor)) == [(1 + len(after), 0)]
            if last:
                assert await loop.while_it_fails(supervisor.stop(SHUTDOWN)) == [None]
            else:
                assert await loop.while_it_fails(supervisor.terminate_child("child1")) == [None]
                assert {info.id: info.child for info in await supervisor.which_children()}["child1"] is None
                loop.fails = False
                first = await supervisor.restart_child("child1")
                if after:
                    await supervisor.restart_child("child2")
    assert supervisor.pid() is None
    assert whereis("child2") is None


async def test_a_hanging_restart_loop_of_dynamic_children(world: World) -> None:
    """hanging_restart_loop_simple, count_restarting_children."""
    loop = Loop()
    supervisor = await DynamicSupervisor.start_link(max_restarts=30, max_seconds=10)
    spec = child(loop.start).replace(shutdown="brutal_kill")
    children = [await supervisor.start_child(spec) for _ in range(3)]
    assert await counts(supervisor) == (3, 3)
    with capture_crashes():
        loop.fails = True
        exit(children[0], "error")
        await settle()
        assert await loop.while_it_fails(counts(supervisor)) == [(3, 2)]
        (infos,) = await loop.while_it_fails(supervisor.which_children())
        assert sorted(info.child == "restarting" for info in infos) == [False, False, True]
        assert await loop.while_it_fails(supervisor.terminate_child(children[0])) == [None]
        assert await counts(supervisor) == (2, 2)
        with pytest.raises(NotFound):
            await supervisor.terminate_child(children[0])
        exit(children[1], "error")
        await settle()
        assert await loop.while_it_fails(counts(supervisor)) == [(2, 1)]
        loop.fails = False
        await loop.fail_once()
        assert await counts(supervisor) == (2, 2)  # the next attempt has succeeded
        loop.fails = True
        exit(children[2], "error")
        await settle()
        assert await loop.while_it_fails(supervisor.stop(SHUTDOWN)) == [None]
    assert supervisor.pid() is None
