"""Partitions: one server for each part of the keys. The trace of OTP itself is in tests/conformance."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple

import pytest
from hypothesis import given, strategies as st

import beamish
from beamish import (
    KILL,
    Agent,
    BadChildSpec,
    ChildSpec,
    DynamicSupervisor,
    GenServer,
    NameServer,
    NoProcess,
    PartitionSupervisor,
    Pid,
    ServerDown,
    StartError,
    Stop,
    Supervisor,
    SupervisorError,
    Via,
    WrongServer,
    call,
    child,
    down,
    send,
    supervise,
)
from beamish.partition_supervisor import partition_of
from beamish.testing import World, capture_crashes, settle
from conftest import both_roads


class Shelf(GenServer[dict[Any, Any]]):
    """What is put on it; it may be told its number, and to fail."""

    def init(self, number: int | None = None, *, fails: set[int] | None = None, log: list[str] | None = None) -> Any:
        beamish.flag(trap_exit=True)
        if fails is not None and number in fails:
            return Stop("broken")
        return {"number": number, "log": log}

    @call
    def put(self, state: dict[Any, Any], key: Any, value: Any) -> int | None:
        state[key] = value
        return state["number"]  # type: ignore[no-any-return]

    @call
    def get(self, state: dict[Any, Any], key: Any) -> Any:
        return state.get(key)

    @call
    def crash(self, state: dict[Any, Any]) -> None:
        raise ValueError("crash")

    def handle_info(self, state: dict[Any, Any], message: Any) -> None:
        state["heard"] = message

    def terminate(self, state: dict[Any, Any], reason: Any) -> None:
        if state["log"] is not None:
            state["log"].append(f"stop {state['number']}")


shelves = PartitionSupervisor[Shelf]("shelves")


def numbered(number: int) -> ChildSpec[Shelf]:
    return Shelf.child_spec(number)


class TestStart:
    async def test_one_child_for_each_partition_with_its_number_as_id(self, world: World) -> None:
        await world.start_supervised(shelves.child_spec(Shelf.child_spec(), partitions=3))
        children = await shelves.which_children()
        assert [(one.id, one.type, one.start) for one in reversed(children)] == [(i, "worker", Shelf) for i in range(3)]
        assert {one.child for one in children} == {Shelf(shelves.whereis_name(i)) for i in range(3)}
        counts = await shelves.count_children()
        assert (counts.specs, counts.active, counts.workers, counts.supervisors) == (3, 3, 3, 0)

    async def test_as_many_as_there_are_processors(self, world: World) -> None:
        await world.start_supervised(shelves.child_spec(Shelf.child_spec()))
        assert await shelves.partitions() == os.cpu_count()

    async def test_of_supervisors(self, world: World) -> None:
        rooms = PartitionSupervisor[DynamicSupervisor]("rooms")
        await world.start_supervised(rooms.child_spec(DynamicSupervisor.child_spec(), partitions=2))
        counts = await rooms.count_children()
        assert (counts.active, counts.workers, counts.supervisors) == (2, 0, 2)
        for key in range(20):
            await rooms.at(f"room {key}").start_child(Agent[int].child_spec(lambda key=key: key))
        found = [one.child for i in range(2) for one in await rooms.at(i).which_children()]
        assert sorted([await Agent[int](agent.pid()).get(lambda key: key) for agent in found]) == list(range(20))  # type: ignore[union-attr]

    async def test_its_id_is_its_name(self) -> None:
        assert shelves.child_spec(numbered).id == "shelves"
        assert PartitionSupervisor[Shelf](Via(shelves, 1)).child_spec(numbered).id == Via(shelves, 1)
        assert shelves.child_spec(numbered).type == "supervisor"

    async def test_under_a_name_that_leads_through_a_registry(self) -> None:
        names = Names()
        there = PartitionSupervisor[Shelf](Via(names, "there"))
        async with supervise([there.child_spec(numbered, partitions=2)]):
            assert await there.partitions() == 2
            assert await Shelf(Via(there, 1)).get("number") == 1
            assert (await there.count_children()).active == 2
            await there.stop(beamish.SHUTDOWN)
            await there.started()

    async def test_without_a_name(self) -> None:
        anonymous = await PartitionSupervisor[Shelf].start_link(numbered, partitions=2)
        assert await anonymous.at(3).get("number") == 1
        await anonymous.stop()

    async def test_more_restarts_than_allowed_end_it(self) -> None:
        await shelves.start(Shelf.child_spec(), partitions=2, max_restarts=1)
        ref = beamish.monitor(shelves)
        with capture_crashes():
            for _ in range(2):
                with pytest.raises(ServerDown):
                    await shelves.at(0).crash()
            assert (await down(ref)).reason == beamish.SHUTDOWN

    async def test_one_for_all(self, world: World) -> None:
        await world.start_supervised(shelves.child_spec(numbered, partitions=2, strategy="one_for_all"))
        other = shelves.whereis_name(1)
        with capture_crashes(), pytest.raises(ServerDown):
            await shelves.at(0).crash()
        await shelves.at(1).started()
        assert shelves.whereis_name(1) not in (None, other)

    async def test_a_partition_that_does_not_start_ends_the_others(self) -> None:
        log: list[str] = []
        with capture_crashes(), pytest.raises(StartError, match="broken"):
            await shelves.start(lambda i: Shelf.child_spec(i, fails={1}, log=log), partitions=2)
        assert log == ["stop 0"]

    @pytest.mark.parametrize(
        ("arguments", "options", "text"),
        [
            ((), {}, "child"),
            ((Shelf,), {}, r"Write Shelf\.child_spec\(…\)"),
            (("shelf",), {}, r"takes child specs.*Got: 'shelf'"),
            ((lambda i: i,), {"partitions": 2}, "takes child specs.*Got: 0"),
            ((Shelf("one").child_spec(),), {}, "each partition would be 'one', and a name is for one"),
            ((Shelf.child_spec(),), {"partitions": 0}, "partitions must be an int, 1 or more. Got: 0"),
            ((Shelf.child_spec(),), {"partitions": 2.0}, "Got: 2.0"),
            ((Shelf.child_spec(),), {"partitions": True}, "Got: True"),
            ((Shelf.child_spec(),), {"with_arguments": 123}, "with_arguments must be a function.*Got: 123"),
            ((Shelf.child_spec(),), {"with_arguments": lambda args, i: i}, "must return the arguments as a tuple or list. Got: 0"),
            ((Shelf.child_spec(),), {"strategy": "x"}, "strategy must be"),
            ((Shelf.child_spec(),), {"auto_shutdown": "any_significant"}, "auto_shutdown"),
            ((Shelf.child_spec().replace(restart="transient", significant=True),), {}, "significant"),
        ],
    )
    async def test_what_makes_no_sense_is_refused(self, arguments: Any, options: Any, text: str) -> None:
        with capture_crashes(), pytest.raises(StartError, match=text) as refused:
            await shelves.start(*arguments, **options)
        assert isinstance(refused.value.__cause__, BadChildSpec | ValueError | TypeError)


class TestWithArguments:
    async def test_the_arguments_of_each_partition(self, world: World) -> None:
        spec = shelves.child_spec(Shelf.child_spec(10), partitions=3, with_arguments=lambda args, i: [args[0] + i])
        await world.start_supervised(spec)
        assert [await shelves.at(i).get("number") for i in range(4)] == [10, 11, 12, 10]

    async def test_a_function_makes_the_spec_of_each(self, world: World) -> None:
        await world.start_supervised(shelves.child_spec(lambda i: Shelf(f"shelf {i}").child_spec(i), partitions=2))
        assert await Shelf("shelf 1").get("number") == await shelves.at(1).get("number") == 1

    async def test_are_used_at_a_restart_too(self, world: World) -> None:
        await world.start_supervised(shelves.child_spec(numbered, partitions=3))
        with capture_crashes(), pytest.raises(ServerDown):
            await shelves.at(1).crash()
        assert await shelves.at(1).get("number") == 1


class TestRouting:
    @both_roads
    async def test_an_integer_goes_by_its_remainder(self, world: World, inline: bool) -> None:
        await world.start_supervised(shelves.child_spec(numbered, partitions=3))
        keys = [0, 1, 2, 3, 4, 7, -1, -5]
        assert [await shelves.at(key).put("k", key) for key in keys] == [0, 1, 2, 0, 1, 1, 1, 2]
        assert [await Shelf(Via(shelves, key)).get("number") for key in keys] == [0, 1, 2, 0, 1, 1, 1, 2]

    async def test_each_partition_has_a_state_of_its_own(self, world: World) -> None:
        await world.start_supervised(shelves.child_spec(Shelf.child_spec(), partitions=3))
        await shelves.at(1).put("k", "v")
        assert [await shelves.at(i).get("k") for i in range(3)] == [None, "v", None]

    async def test_one_that_ends_is_restarted_empty_and_the_others_are_not_touched(self, world: World) -> None:
        await world.start_supervised(shelves.child_spec(Shelf.child_spec(), partitions=2))
        for i in range(2):
            await shelves.at(i).put("k", i)
        other = shelves.whereis_name(0)
        with capture_crashes(), pytest.raises(ServerDown):
            await shelves.at(1).crash()
        assert await shelves.at(1).get("k") is None  # restarted by the time its caller has heard of it
        assert shelves.whereis_name(0) is other

    async def test_the_address_is_looked_up_at_each_call(self, world: World) -> None:
        await world.start_supervised(shelves.child_spec(Shelf.child_spec(), partitions=2))
        shelf = shelves.at("otp")
        before = shelf.pid()
        beamish.exit(shelf, KILL)
        await settle()
        assert shelf.pid() not in (None, before)
        assert await shelf.get("k") is None

    async def test_while_a_partition_is_down_its_keys_lead_nowhere(self, world: World) -> None:
        await world.start_supervised(shelves.child_spec(Shelf.child_spec().replace(restart="transient"), partitions=2))
        await shelves.at(0).stop()
        assert shelves.whereis_name(0) is None
        assert shelves.at(0).pid() is None
        with pytest.raises(NoProcess):
            await shelves.at(0).get("k")
        with pytest.raises(NoProcess):
            shelves.send(0, "hello")
        assert await shelves.at(1).get("k") is None

    async def test_all_that_takes_a_name_takes_a_key(self, world: World) -> None:
        await world.start_supervised(shelves.child_spec(Shelf.child_spec(), partitions=2))
        where = Via(shelves, "k")
        assert beamish.whereis(where) is shelves.whereis_name("k")
        assert send(where, "one") == "one"
        assert await shelves.at("k").get("heard") == "one"
        assert shelves.send("k", "two") == "two"
        assert await shelves.at("k").get("heard") == "two"
        ref = beamish.monitor(where)
        beamish.exit(where, KILL)
        assert (await down(ref)).target == where

    async def test_it_is_a_name_server(self) -> None:
        server: NameServer = shelves
        assert Via(server, 1) == Via(PartitionSupervisor("shelves"), 1)
        assert repr(Via(server, "k")) == "Via(PartitionSupervisor('shelves'), 'k')"

    async def test_a_pid_is_a_key(self, world: World) -> None:
        await world.start_supervised(shelves.child_spec(numbered, partitions=4))
        pids: list[Pid] = [beamish.spawn(asyncio.sleep, 0) for _ in range(200)]
        spread = Counter([await shelves.at(pid).get("number") for pid in pids])
        assert len(spread) == 4
        assert [shelves.whereis_name(pid) for pid in pids] == [shelves.whereis_name(pid) for pid in pids]

    async def test_nothing_is_started_under_a_key(self, world: World) -> None:
        await world.start_supervised(shelves.child_spec(Shelf.child_spec().replace(restart="temporary"), partitions=1))
        with pytest.raises(beamish.AlreadyStarted):
            await Shelf(Via(shelves, 1)).start()
        await shelves.at(1).stop()
        with pytest.raises(SupervisorError, match="starts those itself"):
            await Shelf(Via(shelves, 1)).start()

    async def test_an_unhashable_key(self, world: World) -> None:
        await world.start_supervised(shelves.child_spec(Shelf.child_spec(), partitions=1))
        with pytest.raises(TypeError, match="unhashable"):
            shelves.at(["k"])


class TestNobodyThere:
    async def test_an_unknown_name(self) -> None:
        nope = PartitionSupervisor[Shelf]("nope")
        for ask in (nope.partitions, nope.which_children, nope.count_children, lambda: nope.resize(1), nope.stop):
            with pytest.raises(NoProcess, match="nope"):
                await ask()
        with pytest.raises(NoProcess, match="nope"):
            nope.at("k")
        with pytest.raises(NoProcess, match=r"Via\(PartitionSupervisor\('nope'\), 1\)"):
            await Shelf(Via(nope, 1)).get("k")
        assert nope.whereis_name(1) is None
        Agent[int](Via(nope, 1)).cast(lambda n: n)

    async def test_an_unknown_name_in_a_registry(self) -> None:
        nope = PartitionSupervisor[Shelf](Via(Names(), "nope"))
        with pytest.raises(NoProcess):
            await nope.partitions()
        with pytest.raises(NoProcess):
            await Shelf(Via(nope, 1)).get("k")

    async def test_the_name_of_another_server(self, world: World) -> None:
        await world.start_supervised(Shelf("shelves").child_spec())
        with pytest.raises(WrongServer, match="is a Shelf"):
            shelves.at("k")
        with pytest.raises(WrongServer, match="is a Shelf"):
            await shelves.partitions()

    async def test_while_it_starts_its_keys_lead_nowhere(self) -> None:
        seen: list[Any] = []

        class Curious(GenServer[None]):
            def init(self, number: int) -> None:
                seen.append(shelves.whereis_name(0))

        await PartitionSupervisor[Curious]("shelves").start(lambda i: Curious.child_spec(i), partitions=2)
        assert seen == [None, None]
        await shelves.stop()

    async def test_partitions_that_are_no_servers(self, world: World) -> None:
        heard: list[Any] = []

        async def job() -> None:
            heard.append(await beamish.receive())

        async def start() -> Pid:
            return beamish.spawn_link(job)

        jobs = PartitionSupervisor[Any]("jobs")
        await world.start_supervised(jobs.child_spec(child(start).replace(restart="temporary"), partitions=2))
        with pytest.raises(TypeError, match="are no servers: send them messages"):
            jobs.at(1)
        jobs.send(1, "hello")
        await settle()
        assert heard == ["hello"]
        assert jobs.whereis_name(1) is None
        with pytest.raises(NoProcess):
            jobs.at(1)


class TestStop:
    async def test_is_over_when_it_returns(self) -> None:
        log: list[str] = []
        await shelves.start_link(lambda i: Shelf.child_spec(i, log=log), partitions=3)
        pids = [shelves.whereis_name(i) for i in range(3)]
        await shelves.stop()
        assert log == ["stop 2", "stop 1", "stop 0"]
        assert shelves.pid() is None
        assert not any(beamish.alive(pid) for pid in pids if pid is not None)


class TestResize:
    async def test_down_and_up_returns_what_it_was(self, world: World) -> None:
        await world.start_supervised(shelves.child_spec(numbered, partitions=8))
        before = 8
        for count in [*range(8, -1, -1), *range(9), 3, 7, 0, 5, 5, 8, 1]:
            assert await shelves.resize(count) == before
            assert await shelves.partitions() == (await shelves.count_children()).active == count
            assert [i for i in range(8) if shelves._tree().children[i].process is not None] == list(range(count))  # type: ignore[union-attr]
            if count:
                assert await shelves.at(8).get("number") == 8 % count
            before = count

    async def test_the_highest_are_stopped_last_to_first_and_started_anew(self, world: World) -> None:
        log: list[str] = []
        await world.start_supervised(shelves.child_spec(lambda i: Shelf.child_spec(i, log=log), partitions=4))
        await shelves.at(0).put("k", "kept")
        await shelves.at(3).put("k", "lost")
        await shelves.resize(1)
        assert log == ["stop 3", "stop 2", "stop 1"]
        assert await shelves.at(3).get("k") == "kept"  # its keys lead to the one that is left
        await shelves.resize(4)
        assert await shelves.at(3).get("k") is None
        assert await shelves.at(4).get("k") == "kept"

    async def test_after_0_a_key_leads_nowhere_and_says_why(self, world: World) -> None:
        await world.start_supervised(shelves.child_spec(numbered, partitions=2))
        await shelves.resize(0)
        with pytest.raises(ValueError, match=r"PartitionSupervisor\('shelves'\) was resized to 0 partitions, so the key 'k' leads nowhere"):
            shelves.whereis_name("k")
        with pytest.raises(ValueError, match="resized to 0"):
            shelves.at("k")

    async def test_not_beyond_what_it_was_started_with(self, world: World) -> None:
        await world.start_supervised(shelves.child_spec(numbered, partitions=2))
        with pytest.raises(ValueError, match=r"started with 2 partitions, and can't have more\. Got: 3"):
            await shelves.resize(3)
        for count in (-1, 1.0, True):
            with pytest.raises(ValueError, match="0 or more"):
                await shelves.resize(count)  # type: ignore[arg-type]
        assert await shelves.partitions() == 2

    async def test_one_that_does_not_start_again_changes_nothing(self, world: World) -> None:
        fails: set[int] = set()
        log: list[str] = []
        await world.start_supervised(shelves.child_spec(lambda i: Shelf.child_spec(i, fails=fails, log=log), partitions=4))
        await shelves.resize(1)
        fails.add(3)
        log.clear()
        with capture_crashes() as reports, pytest.raises(StartError, match="partition 3 of PartitionSupervisor"):
            await shelves.resize(4)
        assert log == ["stop 2", "stop 1"]
        assert [one.context for one in reports if one.name == "beamish.supervisor"] == ["start_error"]  # type: ignore[attr-defined]
        assert await shelves.partitions() == (await shelves.count_children()).active == 1

    async def test_what_was_started_or_stopped_by_hand_is_taken_as_it_is(self, world: World) -> None:
        await world.start_supervised(shelves.child_spec(numbered, partitions=3))
        await shelves.resize(1)
        await shelves.restart_child(2)
        await shelves.terminate_child(0)
        await shelves.resize(3)
        assert [shelves.whereis_name(i) is not None for i in range(3)] == [False, True, True]

    async def test_children_are_neither_added_nor_deleted(self, world: World) -> None:
        await world.start_supervised(shelves.child_spec(numbered, partitions=1))
        with pytest.raises(SupervisorError, match="no children but its partitions"):
            await shelves.start_child(Shelf.child_spec())
        with pytest.raises(SupervisorError, match="keeps the specs"):
            await shelves.delete_child(0)


class Colour(StrEnum):
    RED = "red"


class Size(IntEnum):
    BIG = 12


class Pair(NamedTuple):
    left: int
    right: str


class TestThePartitionOfAKey:
    def test_is_the_same_in_every_run(self) -> None:
        keys: list[Any] = ["otp", b"otp", None, 2.5, ("a", 1), ("a", (1, b"x")), "", "ü", "\ud800"]
        assert [partition_of(key, 1000) for key in keys] == [793, 625, 457, 507, 864, 744, 0, 789, 600]

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (1, 1.0), (1, True), (0, -0.0), (12, Size.BIG), (10**22, 1e22), ("red", Colour.RED), ((1, "a"), Pair(1, "a")),
            ((1.0, (True,)), (1, (1,))), (Decimal(5), Decimal("5.0")), (frozenset("ab"), frozenset("ba")),
        ],
    )  # fmt: skip
    def test_is_one_for_keys_that_are_equal(self, one: Any, other: Any) -> None:
        assert one == other
        for n in (2, 7, 1000):
            assert partition_of(one, n) == partition_of(other, n)

    @given(st.integers(), st.integers(min_value=1, max_value=64))
    def test_of_an_integer_is_its_remainder(self, key: int, n: int) -> None:
        assert partition_of(key, n) == abs(key) % n

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
            lambda inner: st.lists(inner, max_size=3).map(tuple),
        ),
        st.integers(min_value=1, max_value=64),
    )
    def test_is_always_one_of_them(self, key: Any, n: int) -> None:
        assert 0 <= partition_of(key, n) < n
        assert partition_of(key, n) == partition_of(key, n)

    @given(st.integers(min_value=-(2**53), max_value=2**53))
    def test_an_integer_and_its_float_go_together(self, key: int) -> None:
        for n in (3, 8, 64):
            assert partition_of(key, n) == partition_of(float(key), n)
            assert partition_of((key, "x"), n) == partition_of((float(key), "x"), n)

    @pytest.mark.parametrize("n", [2, 3, 8, 10])
    @pytest.mark.parametrize("shape", ["user:{}", "{}", "/api/v1/items/{}/edit"])
    def test_keys_are_spread_evenly(self, n: int, shape: str) -> None:
        found = Counter(partition_of(shape.format(i), n) for i in range(10_000))
        assert min(found.values()) > 0.9 * 10_000 / n


class Names:
    """The smallest registry."""

    def __init__(self) -> None:
        self.names: dict[Any, Pid] = {}

    def register_name(self, key: Any, pid: Pid, /) -> bool:
        return self.names.setdefault(key, pid) is pid

    def unregister_name(self, key: Any, /) -> None:
        self.names.pop(key, None)

    def whereis_name(self, key: Any, /) -> Pid | None:
        pid = self.names.get(key)
        return pid if pid is not None and beamish.alive(pid) else None

    def send(self, key: Any, message: Any, /) -> Any:
        return send(self.names[key], message)


def test_a_supervisor_of_another_kind_is_not_one() -> None:
    assert issubclass(PartitionSupervisor, Supervisor)
    assert not hasattr(Supervisor, "whereis_name")
