"""supervisor_SUITE and supervisor_test.exs: administering children, what is kept of temporary ones, their cost and their order."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import beamish
from beamish import (
    KILL,
    NORMAL,
    SHUTDOWN,
    AlreadyPresent,
    AlreadyStarted,
    BadChildSpec,
    ChildCounts,
    ChildSpec,
    DynamicSupervisor,
    GenServer,
    NoProcess,
    NotFound,
    StillRunning,
    Stop,
    Supervisor,
    Task,
    cast,
    child,
    down,
    exit,
    flag,
    link,
    receive,
    spawn_link,
)
from beamish.testing import World, capture_crashes, settle
from conftest import both_roads


class Worker(GenServer[Any]):
    def init(self, value: Any = None) -> Any:
        return value

    @cast
    def leave(self, state: Any, reason: object) -> Stop[Any]:
        return Stop(reason)


def counts(specs: int, active: int, supervisors: int = 0) -> ChildCounts:
    return ChildCounts(specs, active, supervisors, specs - supervisors)


async def ids(supervisor: Supervisor) -> list[Any]:
    return [(one.id, one.child is not None) for one in await supervisor.which_children()]


@both_roads
class TestAdministration:
    async def test_of_children(self, world: World) -> None:
        """child_adm, child life cycle; start_child/2 with valid child spec."""
        spec = Worker("child1").child_spec()
        supervisor: Any = await Supervisor("sup_test").start_link([spec])
        absent: Any = Supervisor("foo")
        worker = Worker("child1")
        assert await ids(supervisor) == [("child1", True)]
        assert await supervisor.count_children() == counts(1, 1)
        with pytest.raises(AlreadyStarted) as there:
            await supervisor.start_child(spec)
        assert there.value.address == worker
        for verb in ("terminate_child", "delete_child", "restart_child"):
            with pytest.raises(NotFound):
                await getattr(supervisor, verb)("hej")
            with pytest.raises(NoProcess):
                await getattr(absent, verb)("child1")
        ref = beamish.monitor(worker)
        await supervisor.terminate_child("child1")
        assert (await down(ref)).reason == SHUTDOWN
        await supervisor.terminate_child("child1")  # as often as one likes
        assert await ids(supervisor) == [("child1", False)]
        assert await supervisor.count_children() == counts(1, 0)
        with pytest.raises(AlreadyPresent):
            await supervisor.start_child(spec)
        assert await supervisor.restart_child("child1") == worker
        for verb in ("restart_child", "delete_child"):
            with pytest.raises(StillRunning):
                await getattr(supervisor, verb)("child1")
        await supervisor.terminate_child("child1")
        await supervisor.delete_child("child1")
        with pytest.raises(NotFound):
            await supervisor.restart_child("child1")
        assert await supervisor.count_children() == counts(0, 0)
        await supervisor.start_child(spec)
        with pytest.raises(NotFound):
            await supervisor.terminate_child(worker.pid())  # by id, not by pid
        for verb in ("which_children", "count_children"):
            with pytest.raises(NoProcess) as nobody:
                await getattr(absent, verb)()
            assert nobody.value.request.startswith(verb)
        with pytest.raises(NoProcess):
            await absent.start_child(spec)
        await supervisor.stop()

    async def test_of_dynamic_children(self, world: World) -> None:
        """child_adm_simple: known by pid; there are no verbs by id."""
        supervisor = await DynamicSupervisor.start_link()
        assert await supervisor.count_children() == counts(0, 0)
        one, two = [await supervisor.start_child(Worker.child_spec()) for _ in range(2)]
        assert [info.child for info in await supervisor.which_children()] == [one, two]
        assert await supervisor.count_children() == counts(2, 2)
        await supervisor.terminate_child(one)
        assert one.pid() is None
        assert await supervisor.count_children() == counts(1, 1)
        with pytest.raises(NotFound):
            await supervisor.terminate_child(one)  # DynamicSupervisor's answer; simple_one_for_one says ok
        stranger = await Worker.start()
        with pytest.raises(NotFound):
            await supervisor.terminate_child(stranger)
        assert beamish.alive(stranger)
        with pytest.raises(NotFound):
            await supervisor.terminate_child("child1")
        assert not hasattr(supervisor, "restart_child")
        assert not hasattr(supervisor, "delete_child")
        await stranger.stop()
        await supervisor.stop()

    async def test_a_start_function_that_returns_more(self, world: World) -> None:
        """extra_return: what it returns beside the process is the answer of start_child and restart_child, and kept nowhere else."""

        async def start() -> Any:
            return await Worker("child1").start_link(), "extra_return"

        supervisor = await Supervisor.start_link([child(start, id="child1")])
        (info,) = await supervisor.which_children()
        assert info.child == Worker("child1")
        await supervisor.terminate_child("child1")
        assert await supervisor.restart_child("child1") == (Worker("child1"), "extra_return")
        await supervisor.terminate_child("child1")
        await supervisor.delete_child("child1")
        assert await supervisor.start_child(child(start, id="child1")) == (Worker("child1"), "extra_return")
        assert await supervisor.count_children() == counts(1, 1)
        await supervisor.stop()

    async def test_faulty_specs(self, world: World) -> None:
        """child_specs, child_specs_map; start_child/2 with invalid child spec."""
        supervisor = await Supervisor.start_link([])
        refused: tuple[Any, ...] = ("hej", {}, None, (1, 2, 3, 4, 5, 6), Worker)
        for wrong in refused:
            with pytest.raises(BadChildSpec):
                await supervisor.start_child(wrong)
        for change in ({"start": "mfa"}, {"restart": "prmanent"}, {"shutdown": -10}, {"type": "wrker"}, {"modules": "dy"}):
            with pytest.raises(BadChildSpec, match=r"mfa|prmanent|-10|wrker|modules"):
                Worker.child_spec().replace(**change)
        right: list[dict[str, Any]] = [
            {"shutdown": None, "type": "supervisor"},
            {"shutdown": 1.0, "type": "supervisor"},
            {"shutdown": None},
        ]
        for n, change in enumerate(right):
            await supervisor.start_child(Worker.child_spec().replace(id=n, **change))
        assert await supervisor.count_children() == counts(3, 3, supervisors=2)
        await supervisor.stop()

    async def test_every_form_of_a_spec(self, world: World) -> None:
        """start_child/2 supports old child spec, new child spec (as tuple): each of ours is a ChildSpec in the end."""

        async def start(value: str) -> Any:
            return spawn_link(receive, value)

        supervisor = await Supervisor.start_link([])
        forms = [Worker("a").child_spec(), ChildSpec("b", Worker), child(start, "c", id="c"), Task.child_spec(receive).replace(id="d")]
        for spec in forms:
            assert beamish.alive(await supervisor.start_child(spec))
        assert await ids(supervisor) == [(id, True) for id in "dcba"]
        await supervisor.stop()

    async def test_counts_of_many(self, world: World) -> None:
        """count_children, count_children_supervisor."""
        for type in ("worker", "supervisor"):
            supervisor = await DynamicSupervisor.start_link()
            spec = Worker.child_spec().replace(restart="temporary", type=type)
            for total in (1000, 2000):
                for _ in range(1000):
                    await supervisor.start_child(spec)
                assert await supervisor.count_children() == counts(total, total, supervisors=total if type == "supervisor" else 0)
                assert len(await supervisor.which_children()) == total
            for info in await supervisor.which_children():
                assert not isinstance(info.child, str)
                assert info.child is not None
                exit(info.child, KILL)
            with capture_crashes():
                assert await supervisor.count_children() == counts(0, 0)
            await supervisor.stop()


@both_roads
class TestTemporaryChildren:
    @pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
    async def test_leave_no_arguments(self, world: World, kind: Any) -> None:
        """do_not_save_start_parameters_for_temporary_children, simple_one_for_one_corruption (nor after one of them has ended)."""

        class Large: ...

        supervisor = await kind.start_link()
        with capture_crashes():
            for id in "ab":
                large = Large()
                kept = weakref.ref(large)
                worker = await supervisor.start_child(Brief.child_spec(large).replace(restart="temporary", id=id))
                del large
                gc.collect()
                assert kept() is None
                await worker.stop("abnormal")
        await supervisor.stop()

    @pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
    @pytest.mark.parametrize("ends", [KILL, NORMAL, "abnormal", "supervisor"])
    async def test_leave_no_spec(self, world: World, strategy: Any, ends: Any) -> None:
        """do_not_save_child_specs_for_temporary_children, beside permanent and transient ones."""
        supervisor = await Supervisor.start_link([], strategy=strategy, max_restarts=10)
        for restart in ("permanent", "transient", "temporary"):
            worker = Worker(restart)
            spec = worker.child_spec().replace(restart=restart)
            await supervisor.start_child(spec)
            with capture_crashes():
                if ends == "supervisor":
                    await supervisor.terminate_child(restart)
                elif ends == KILL:
                    exit(worker, KILL)
                    await settle()
                else:
                    worker.leave(ends)
                    await settle()
                if restart == "temporary":
                    await supervisor.start_child(spec)
                elif ends == "supervisor" or (restart, ends) == ("transient", NORMAL):
                    with pytest.raises(AlreadyPresent):
                        await supervisor.start_child(spec)
                    await supervisor.restart_child(restart)
                else:
                    with pytest.raises(AlreadyStarted):
                        await supervisor.start_child(spec)
        await supervisor.stop()


class Brief(GenServer[None]):
    def init(self, large: object) -> None: ...


async def calls(work: Callable[[], Any]) -> int:
    """How many functions the work calls: what it costs, in a figure that no machine can change."""
    made = 0

    def count(frame: object, event: str, arg: object) -> None:
        nonlocal made
        made += event in ("call", "c_call")

    gc.collect()
    gc.disable()
    sys.setprofile(count)
    try:
        await work()
    finally:
        sys.setprofile(None)
        gc.enable()
    return made


class TestScale:
    """simple_one_for_one_scale_many_temporary_children, scale_start_stop_many_children: the cost of a child is that of any other."""

    @pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
    @pytest.mark.parametrize("restart", ["permanent", "temporary"])
    async def test_starting_and_stopping_is_linear(self, world: World, kind: Any, restart: Any) -> None:
        async def work(n: int) -> None:
            children = [await supervisor.start_child(Brief.child_spec(i).replace(id=i, restart=restart)) for i in range(n)]
            for id, one in enumerate(children):
                await supervisor.terminate_child(one if kind is DynamicSupervisor else id)
                if kind is Supervisor and restart == "permanent":
                    await supervisor.delete_child(id)

        supervisor = await kind.start_link()
        await work(10)
        few, many = await calls(lambda: work(100)), await calls(lambda: work(1000))
        assert many < 11 * few
        await supervisor.stop()

    @pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
    async def test_stopping_all_is_linear(self, world: World, kind: Any) -> None:
        async def tree(n: int) -> int:
            supervisor = await kind.start_link()
            for i in range(n):
                await supervisor.start_child(Brief.child_spec(i).replace(id=i))
            return await calls(supervisor.stop)

        await tree(10)
        few, many = await tree(100), await tree(1000)
        assert many < 11 * few


@both_roads
async def test_the_order_of_children(world: World) -> None:
    """order_of_children: at the start, over restarts and start_child, and at the end."""
    log: list[Any] = []
    seen: list[Any] = []

    class Noting(Worker):
        def init(self, name: str) -> Any:  # type: ignore[override]
            flag(trap_exit=True)
            log.append(f"+{name}")
            return name

        async def terminate(self, state: Any, reason: Any) -> None:
            log.append(f"-{state}")

    specs = [Noting(name).child_spec(name) for name in "abc"]
    supervisor = await Supervisor.start_link(specs, strategy="rest_for_one")
    await supervisor.start_child(Noting("d").child_spec("d"))
    seen.append(await ids(supervisor))
    with capture_crashes():
        exit("b", KILL)
        await settle()
        seen.append(await ids(supervisor))
    assert seen == [[(name, True) for name in "dcba"]] * 2
    await supervisor.terminate_child("c")
    await supervisor.restart_child("c")
    assert await ids(supervisor) == seen[0]
    link(supervisor)
    await supervisor.stop()
    assert log == [*(["+a", "+b", "+c", "+d"]), *(["-d", "-c", "+b", "+c", "+d"]), "-c", "+c", *(["-d", "-c", "-b", "-a"])]


@both_roads
class TestHowReportsRead:
    """format_log_1, format_log_2."""

    async def test_of_a_child(self, world: World) -> None:
        supervisor = await Supervisor("sup_test").start_link([Worker("child1").child_spec()])
        with capture_crashes() as reports:
            Worker("child1").leave("x" * 1000)
            await settle()
        report = next(one for one in reports if one.name == "beamish.supervisor")
        lines = report.getMessage().splitlines()
        assert lines[:2] == ["Supervisor('sup_test'): child_terminated", "  child: 'child1' (permanent)"]
        assert lines[2].startswith("  reason: 'xxx")
        assert len(report.getMessage()) < 300
        await supervisor.stop()
