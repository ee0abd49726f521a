"""Registries: what becomes of entries when a process, a partition or the registry itself ends; and what listeners are told."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

import beamish
from beamish import (
    KILL,
    NORMAL,
    SHUTDOWN,
    Down,
    Exited,
    GenServer,
    Killed,
    NoProcess,
    Pid,
    Registered,
    Registry,
    Shutdown,
    Supervisor,
    Unregistered,
    WrongLoop,
    WrongServer,
    alive,
    down,
    exit,
    info,
    link,
    monitor,
    receive,
    spawn,
    spawn_monitor,
    stop,
)
from beamish.testing import World, capture_crashes, settle
from conftest import both_roads
from registering import Member, R, duplicate, end, links, member, pid_of, unique

both_kinds = pytest.mark.parametrize("start", [unique, duplicate])


@both_kinds
@both_roads
class TestTheEndOfAProcess:
    async def test_takes_its_entries_along_before_anybody_hears_of_it(self, world: World, start: Any) -> None:
        registry: R = await start(world)
        one, watcher = await member(registry, ("k", 1), ("l", 2)), await member(registry)
        found: list[Any] = []
        pid = pid_of(one)

        class Watcher(GenServer[None]):
            def init(self) -> None:
                monitor(pid)

            def handle_info(self, state: None, message: Any) -> None:
                found.append((type(message), registry.lookup("k"), registry.keys(pid), registry.count()))

        seeing = await Watcher.start()
        exit(one, KILL)
        assert (registry.lookup("k"), registry.keys(pid), registry.values("k", pid), registry.count()) == ([], [], [], 0)
        await settle()
        assert found == [(Down, [], [], 0)]
        await end(watcher)
        exit(seeing, KILL)

    @pytest.mark.parametrize("way", ["kill", "exit", "stop", "crash", "return"])
    async def test_in_every_way(self, world: World, start: Any, way: str) -> None:
        registry: R = await start(world)
        one = await member(registry, ("k", 1))
        if way == "kill":
            exit(one, KILL)
        elif way == "exit":
            exit(one, "why")
        elif way == "stop":
            await stop(one)
        elif way == "crash":
            with capture_crashes(), pytest.raises(beamish.ServerDown):
                await one.do(lambda: 1 // 0)
        else:
            await end(one)

            async def job() -> None:
                registry.register("k", 1)
                await receive("end")

            pid, ref = spawn_monitor(job)
            await settle()
            assert registry.lookup("k") == [(pid, 1)]
            beamish.send(pid, "end")
            await down(ref)
        assert registry.count() == 0
        assert registry.select() == []

    async def test_its_key_can_be_taken_at_once(self, world: World, start: Any) -> None:
        registry: R = await start(world)
        one, other = await member(registry, ("k", 1)), await member(registry)
        exit(one, KILL)
        await other.do(lambda: registry.register("k", 2))
        assert registry.lookup("k") == [(other.pid(), 2)]
        await end(other)

    async def test_does_not_disturb_the_registry(self, world: World, start: Any) -> None:
        registry: R = await start(world, 4)
        before = links(registry)
        with capture_crashes() as reports:
            await end(*[await member(registry, ("k", number)) for number in range(1 if start is unique else 8)])
        assert links(registry) == before
        assert reports == []

    async def test_what_it_closes_does_not_find_it_either(self, world: World, start: Any) -> None:
        registry: R = await start(world)
        found: list[Any] = []

        class Owner(GenServer[None]):
            def init(self) -> None:
                self.own(lambda: found.append(registry.lookup("k")))
                registry.register("k", 1)
                self.own(lambda: found.append(registry.lookup("k")))

        owner = await Owner.start()
        await end(owner)
        assert found == [[], []]

    async def test_while_it_is_exiting_it_keeps_its_key_but_is_not_found(self, world: World, start: Any) -> None:
        registry: R = await start(world)
        one, other = await member(registry, ("k", 1)), await member(registry)
        free = asyncio.Event()
        holding = asyncio.ensure_future(one.hold(free))
        await settle()
        pid = pid_of(one)
        exit(one, "why")
        await settle()
        assert not alive(pid)
        assert registry.lookup("k") == []
        assert registry.match("k", 1) == []
        assert registry.select() == []
        registry.dispatch("k", lambda entries: pytest.fail("nobody is there"))
        assert (registry.count(), registry.keys(pid)) == (1, ["k"])
        if start is unique:
            assert registry.whereis_name("k") is None
            assert isinstance(await other.refused(lambda: registry.register("k", 2)), beamish.AlreadyRegistered)
        free.set()
        with pytest.raises(beamish.ServerDown):
            await holding
        await other.do(lambda: registry.register("k", 2))
        assert registry.lookup("k") == [(other.pid(), 2)]
        await end(other)

    async def test_leaves_nothing_behind(self, world: World, start: Any) -> None:
        registry: R = await start(world, 2)

        class Value:
            pass

        values = weakref.WeakSet[Value]()
        for number in range(300):
            value = Value()
            values.add(value)
            one = await member(registry, (number, value), (-number - 1, value))
            await one.do(lambda number=number: registry.unregister(number))
            await end(one)
        del value, one
        gc.collect()
        assert len(values) == 0
        table: Any = beamish.sys and await beamish.sys.get_state(registry)
        assert (len(table), len(table.entries), len(table.registrants)) == (0, 0, 0)
        assert [len(partition.links or ()) for partition in table.partitions] == [0, 0]


@both_kinds
class TestLinks:
    async def test_last_as_long_as_there_is_a_key(self, world: World, start: Any) -> None:
        registry: R = await start(world, 4)
        one = await member(registry)
        assert links(one) == ()
        owner = await one.do(lambda: registry.register("hello", 1))
        assert links(one) == (owner,)
        await one.do(lambda: registry.register("world", 1))
        await one.do(lambda: registry.unregister("hello"))
        assert links(one) == (owner,)
        await one.do(lambda: registry.unregister_match("world", 1))
        assert links(one) == ()
        assert one.pid() not in _peers(owner)
        await stop(registry, SHUTDOWN)
        assert alive(one)
        await end(one)

    async def test_are_not_those_to_the_registry_itself(self, world: World, start: Any) -> None:
        registry: R = await start(world)
        one = await member(registry)
        await one.do(lambda: link(registry))
        await one.do(lambda: registry.register("k", 1))
        await one.do(lambda: registry.unregister("k"))
        assert links(one) == (registry.pid(),)
        await end(one)
        assert alive(registry)

    async def test_a_process_that_links_itself_to_a_partition_does_not_end_it(self, world: World, start: Any) -> None:
        registry: R = await start(world)
        one, other = await member(registry, ("k", 1)), await member(registry)
        (owner,) = links(one)
        await other.do(lambda: link(owner))
        exit(other, "why")
        await settle()
        assert registry.lookup("k") == [(one.pid(), 1)]
        await end(one)


def _peers(pid: Pid) -> tuple[Pid, ...]:
    found = info(pid)
    assert found is not None
    return found.links


@both_kinds
@both_roads
class TestTheEndOfARegistry:
    async def test_takes_its_processes_along(self, world: World, start: Any) -> None:
        registry: R = await start(world, 2)
        several = [await member(registry, (number, 0)) for number in range(4)]
        refs = [monitor(one) for one in map(pid_of, several)]
        await world.stop_supervised(registry._name)
        assert [(await down(ref)).reason for ref in refs] == [Shutdown()] * 4

    async def test_comes_as_a_message_to_one_that_traps(self, world: World, start: Any) -> None:
        registry: R = await start(world)
        one = await member(registry, ("k", 1), trap=True)
        (owner,) = links(one)
        await world.stop_supervised(registry._name)
        assert await one.mail() == [Exited(owner, Shutdown())]
        await end(one)

    @pytest.mark.parametrize(("reason", "theirs"), [(NORMAL, Shutdown()), ("why", Shutdown()), (KILL, Killed())])
    async def test_of_any_reason(self, world: World, start: Any, reason: Any, theirs: Any) -> None:
        registry = await Registry[Any, Any].start(keys="unique" if start is unique else "duplicate")
        one = await member(registry, ("k", 1))
        ref = monitor(pid_of(one))
        exit(registry, "of a stranger")  # it traps, as every supervisor
        await settle()
        assert alive(one)
        with capture_crashes():
            if reason is KILL:
                exit(registry, KILL)
            else:
                await stop(registry, reason)
            assert (await down(ref)).reason == theirs

    async def test_is_the_end_of_its_names(self, world: World, start: Any) -> None:
        registry: R = await start(world)
        one = await member(registry, ("k", 1), trap=True)
        registry.put_meta("m", 1)
        with capture_crashes():
            exit(registry, KILL)
            await registry.started()
            await settle()
        assert (registry.lookup("k"), registry.count(), registry.keys(one), registry.meta("m")) == ([], 0, [], None)
        await one.do(lambda: registry.register("k", 2))
        assert registry.lookup("k") == [(one.pid(), 2)]
        await end(one)
        assert registry.count() == 0

    async def test_a_partition_that_is_killed_is_replaced_and_takes_its_own_along(self, world: World, start: Any) -> None:
        registry: R = await start(world, 2)
        pid = registry.pid()
        one, other = await member(registry, (1, 1)), await member(registry, (2, 2))
        trapping = await member(registry, (3, 3), trap=True)
        ref = monitor(pid_of(one))
        (owner,) = links(one)
        assert links(trapping) == (owner,)
        with capture_crashes() as reports:
            exit(owner, KILL)
            assert (registry.lookup(1), registry.lookup(2), registry.lookup(3)) == ([], [(other.pid(), 2)], [])
            await trapping.do(lambda: registry.register(3, 4))  # before the registry has heard of it, perhaps
            assert (await down(ref)).reason == Killed()
            await settle()
        assert [report.name for report in reports] == ["beamish.registry"]
        assert "a partition ended" in reports[0].getMessage()
        assert registry.pid() is pid
        assert len(links(registry)) == 3
        assert registry.lookup(3) == [(trapping.pid(), 4)]
        assert await trapping.mail() == [Exited(owner, Killed())]
        await end(other, trapping)
        assert registry.count() == 0

    async def test_names_are_free_again_when_its_supervisor_has_restarted_it(self, world: World, start: Any) -> None:
        spec = Registry[str, int]("tree").child_spec(keys="unique")
        tree = await Supervisor.start_link([spec], strategy="rest_for_one")
        registry = Registry[str, int]("tree")
        one = await member(registry, ("k", 1))
        with capture_crashes():
            exit(registry, KILL)
            await registry.started()
        await settle()
        assert not alive(one)
        other = await member(registry, ("k", 2))
        assert registry.values("k", other) == [2]
        await stop(tree)
        assert not alive(other)


class TestPlainCode:
    async def test_is_adopted_and_gone_when_it_is_done(self, world: World) -> None:
        registry = await unique(world)

        async def subscriber() -> Pid:
            registry.register("k", 1)
            assert registry.lookup("k") == [(beamish.current(), 1)]
            return beamish.current()

        pid = await asyncio.create_task(subscriber())
        await settle()
        assert not alive(pid)
        assert registry.count() == 0

    async def test_is_cancelled_when_the_registry_ends(self, world: World) -> None:
        registry = await unique(world)

        async def subscriber() -> None:
            registry.register("k", 1)
            await receive()

        task = asyncio.create_task(subscriber())
        await settle()
        await world.stop_supervised("r")
        await settle()
        assert task.cancelled()

    async def test_looking_adopts_nobody(self, world: World) -> None:
        registry = await unique(world)
        before = len(beamish.processes())
        registry.lookup("k")
        registry.unregister("k")
        registry.unregister_match("k", int)
        registry.update_value("k", lambda value: value)
        assert registry.keys(pid_of(registry)) == []
        assert len(beamish.processes()) == before


class TestTheDead:
    async def test_register_nothing(self, world: World) -> None:
        registry = await unique(world)
        found: list[Any] = []

        async def stubborn() -> None:
            try:
                exit(beamish.current(), KILL)
            except BaseException as error:
                found.append(type(error))
            try:
                registry.register("k", 1)
            except BaseException as error:
                found.append(type(error))

        spawn(stubborn)
        await settle()
        assert found == [asyncio.CancelledError] * 2
        assert registry.count() == 0


class TestListeners:
    @pytest.mark.parametrize("start", [unique, duplicate])
    async def test_are_told_who_comes_and_goes(self, world: World, start: Any) -> None:
        ear = await Member("ear").start()
        registry: R = await start(world, listeners=["nobody", "ear", Member("ear")])
        one, other = await member(registry, ("a", 1)), await member(registry)
        pid = one.pid()
        assert await ear.mail() == [Registered(registry, "a", pid, 1)] * 2
        await one.do(lambda: registry.register("b", 2))
        await one.do(lambda: registry.unregister("b"))
        assert (await ear.mail())[2::2] == [Registered(registry, "b", pid, 2), Unregistered(registry, "b", pid)]
        heard = len(await ear.mail())
        await other.do(lambda: registry.unregister("a"))
        await one.do(lambda: registry.unregister("never"))
        await one.do(lambda: registry.unregister_match("a", 2))
        if start is unique:
            await other.refused(lambda: registry.register("a", 2))
        await end(one)  # its end is no unregistering: who wants to know monitors it
        assert len(await ear.mail()) == heard
        await end(ear, other)

    async def test_hear_once_when_a_process_has_nothing_left_under_a_key(self, world: World) -> None:
        ear = await Member("ear").start()
        registry = await duplicate(world, listeners=["ear"])
        one = await member(registry, ("a", 1), ("a", 1), ("a", 2))
        await one.do(lambda: registry.unregister_match("a", 1))
        assert len(await ear.mail()) == 3
        await one.do(lambda: registry.unregister_match("a", 2))
        assert (await ear.mail())[3:] == [Unregistered(registry, "a", one.pid())]
        await end(ear, one)

    async def test_see_the_address_of_the_registry_and_may_use_it(self, world: World) -> None:
        ear = await Member("ear").start()
        registry = await unique(world, listeners=["ear"])
        one = await member(registry, ("a", 1))
        (message,) = await ear.mail()
        assert message.registry.lookup("a") == [(message.pid, message.value)]
        await end(ear, one)


class TestMeta:
    async def test_is_kept_beside_the_entries(self, world: World) -> None:
        registry = await unique(world, meta={"custom_key": "custom_value"})
        assert registry.meta("custom_key") == "custom_value"
        assert registry.meta("unknown") is None
        assert registry.meta("unknown", 0) == 0
        registry.put_meta(("a", "tuple"), 1)
        assert registry.meta(("a", "tuple")) == 1
        registry.delete_meta("custom_key")
        registry.delete_meta("custom_key")
        assert registry.meta("custom_key", "gone") == "gone"


class TestWhereNoRegistryIs:
    async def test_the_verbs_raise_what_a_call_would(self) -> None:
        registry = Registry[str, int]("unknown")
        for verb in (
            lambda: registry.register("hello", 1),
            lambda: registry.unregister("hello"),
            lambda: registry.lookup("hello"),
            lambda: registry.keys("unknown"),
            lambda: registry.select(),
            lambda: registry.count(),
            lambda: registry.meta("m"),
            lambda: registry.dispatch("hello", print),
            lambda: registry.lock("hello"),
            lambda: registry.register_name("hello", beamish.current()),
        ):
            with pytest.raises(NoProcess, match="nothing is registered as 'unknown'"):
                verb()
        assert registry.whereis_name("hello") is None

    async def test_a_similar_name_is_shown(self, world: World) -> None:
        await world.start_supervised(Registry[str, int]("sessions").child_spec(keys="unique"))
        with pytest.raises(NoProcess, match="Similar names: 'sessions'"):
            Registry[str, int]("session").lookup("k")

    async def test_a_dead_one_by_its_pid(self) -> None:
        registry = await Registry[str, int].start_link(keys="unique")
        await stop(registry)
        with pytest.raises(NoProcess, match="a pid never comes back"):
            registry.lookup("k")

    async def test_something_else_has_the_name(self) -> None:
        other = await Member("r").start()
        for act in (Registry[str, int]("r").lookup, Registry[str, int](pid_of(other)).lookup):
            with pytest.raises(WrongServer, match="is a Member"):
                act("k")

        async def job() -> None:
            beamish.register("job")
            await receive()

        pid = spawn(job)
        await settle()
        with pytest.raises(WrongServer, match="is no server"):
            Registry[str, int]("job").lookup("k")
        exit(pid, KILL)
        await end(other)

    async def test_one_of_another_loop(self) -> None:
        registry = await Registry[str, int]("r").start_link(keys="unique")
        by_pid = Registry[str, int](pid_of(registry))

        def elsewhere(act: Any) -> Any:
            async def run() -> Any:
                return act()

            return asyncio.run(run())

        for act in (lambda: by_pid.lookup("k"), lambda: by_pid.register("k", 1), lambda: by_pid.whereis_name("k")):
            with pytest.raises(WrongLoop):
                await asyncio.to_thread(elsewhere, act)
        with pytest.raises(NoProcess):
            await asyncio.to_thread(elsewhere, lambda: registry.lookup("k"))
        with pytest.raises(WrongLoop):
            await asyncio.to_thread(lambda: registry.lookup("k"))
        await stop(registry)


class TestManyUnderOneKey:
    async def test_ending_each_costs_the_same_however_many_there_are(self, world: World) -> None:
        registry = await duplicate(world)
        several = [await member(registry, ("topic", number)) for number in range(2000)]
        for one in several[:-1]:
            exit(one, KILL)
        await settle()
        assert registry.lookup("topic") == [(several[-1].pid(), 1999)]
        table: Any = await beamish.sys.get_state(registry)
        assert table.entries["topic"].__sizeof__() < 2000  # and it is not walked through at its old length
        await end(several[-1])
        assert table.entries == {}
