"""Names that lead through a registry: `Via(registry, key)` wherever a name may stand."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import pytest

from beamish import (
    KILL,
    AlreadyRegistered,
    AlreadyStarted,
    Down,
    DynamicSupervisor,
    GenServer,
    Ignore,
    NoProcess,
    Registered,
    Registry,
    ServerDown,
    StartError,
    Supervisor,
    Via,
    alive,
    call,
    cast,
    down,
    exit,
    info,
    link,
    monitor,
    send,
    stop,
    unlink,
    whereis,
)
from beamish.testing import World, capture_crashes, settle
from conftest import both_roads
from registering import Member, R, end, links, member, pid_of, unique


class Cell(GenServer[list[Any]]):
    def init(self, value: Any = 0, look: Any = None) -> list[Any]:
        return [value, look() if look is not None else None]

    @call
    def get(self, state: list[Any]) -> Any:
        return state[0]

    @call
    def seen(self, state: list[Any]) -> Any:
        return state[1]

    @cast
    def put(self, state: list[Any], value: Any) -> None:
        state[0] = value

    @call
    def fail(self, state: list[Any]) -> None:
        raise ValueError("why")

    def handle_info(self, state: list[Any], message: Any) -> None:
        state[0] = message


class Failing(GenServer[None]):
    def init(self, how: str = "raise") -> Any:
        if how == "ignore":
            return Ignore()
        raise ValueError("no")


class Slow(GenServer[None]):
    async def init(self, until: asyncio.Event) -> None:
        await until.wait()


@both_roads
class TestAServer:
    async def test_is_reached_by_its_key(self, world: World) -> None:
        registry = await unique(world)
        cell = await Cell(Via(registry, "k")).start_link(1)
        assert cell == Cell(Via(registry, "k")) == Cell(registry.via("k"))
        assert repr(cell) == "Cell(Via(Registry('r'), 'k'))"
        assert await cell.get() == 1
        cell.put(2)
        assert await Cell(Via(registry, "k")).get() == 2
        send(Via(registry, "k"), 3)
        assert await cell.get() == 3
        assert registry.send("k", 4) == 4
        assert await cell.get() == 4
        pid = pid_of(cell)
        assert registry.lookup("k") == [(pid, None)]
        assert registry.whereis_name("k") is whereis(Via(registry, "k")) is pid
        found = info(cell)
        assert found is not None
        assert found.registered_name == Via(registry, "k")
        await stop(cell)
        assert cell.pid() is None
        assert registry.lookup("k") == []

    async def test_every_verb_that_takes_a_name_takes_this_one(self, world: World) -> None:
        registry = await unique(world)
        name = Via(registry, ("user", 1))
        cell = await Cell(name).start()
        one = await member(registry)
        await one.do(lambda: link(name))
        assert pid_of(cell) in links(one)
        await one.do(lambda: unlink(name))
        ref = monitor(name)
        assert alive(name)
        exit(name, "why")
        found = await down(ref)
        assert (found.target, found.reason) == (name, "why")
        assert not alive(name)
        assert isinstance(await down(name), Down)
        await end(one)

    async def test_is_registered_before_its_init_runs(self, world: World) -> None:
        registry = await unique(world)
        cell = await Cell(Via(registry, "k")).start_link(0, lambda: registry.whereis_name("k"))
        assert await cell.seen() is cell.pid()
        await stop(cell)

    async def test_an_async_init_is_waited_for_under_the_name(self, world: World) -> None:
        registry = await unique(world)
        ready = asyncio.Event()
        slow = Slow(Via(registry, "k"))
        starting = asyncio.ensure_future(slow.start(ready))
        await settle()
        waiting = asyncio.ensure_future(slow.started())
        await settle()
        assert not waiting.done()
        with pytest.raises(AlreadyStarted):
            await Slow(Via(registry, "k")).start(ready)
        ready.set()
        assert await starting == await waiting == slow
        await stop(slow)

    async def test_a_key_that_is_taken_tells_who_has_it(self, world: World) -> None:
        registry = await unique(world)
        cell = await Cell(Via(registry, "k")).start()
        with pytest.raises(AlreadyStarted) as caught:
            await Cell(Via(registry, "k")).start_link()
        assert caught.value.address == cell
        one = await member(registry)
        error = await one.refused(lambda: registry.register("k", 1))
        assert isinstance(error, AlreadyRegistered)
        assert error.pid is cell.pid()
        assert "is taken by Cell(Via(Registry('r'), 'k'))" in str(error)
        await stop(cell)
        await one.do(lambda: registry.register("k", 1))
        with pytest.raises(AlreadyStarted) as caught:
            await Cell(Via(registry, "k")).start()
        assert caught.value.address == Member(pid_of(one))
        await end(one)

    @pytest.mark.parametrize("how", ["raise", "ignore"])
    async def test_that_does_not_start_leaves_the_key_free(self, world: World, how: str) -> None:
        ear = await Member("ear").start()
        registry = await unique(world, listeners=["ear"])
        with capture_crashes(), pytest.raises(Exception, match="init"):
            await Failing(Via(registry, "k")).start(how)
        assert (registry.count(), registry.lookup("k")) == (0, [])
        assert [type(message) for message in await ear.mail()] == [Registered]
        cell = await Cell(Via(registry, "k")).start()
        await stop(cell)
        await end(ear)

    async def test_takes_its_value_along(self, world: World) -> None:
        registry = await unique(world)
        value = {"unhashable": "value"}
        cell = await Cell(registry.via("k", value)).start(5)
        assert registry.lookup("k") == [(cell.pid(), value)]
        assert await cell.get() == 5
        assert await Cell(Via(registry, "k")).get() == 5
        assert registry.via("k", value) == registry.via("k", {"unhashable": "value"}) != registry.via("k")
        assert hash(cell) == hash(Cell(registry.via("k", value)))
        send(registry.via("k", value), 6)
        assert await cell.get() == 6
        assert registry.via("k", value).module.send("k", 7) == 7
        await stop(cell)
        assert registry.count() == 0

    async def test_may_register_under_more_keys(self, world: World) -> None:
        registry = await unique(world)
        cell = await Cell(Via(registry, "k")).start(0, lambda: registry.register("other", 1))
        assert registry.keys(cell) == ["k", "other"]
        assert registry.whereis_name("other") is cell.pid()
        await stop(cell)
        assert registry.count() == 0

    async def test_ends_with_its_registry_and_is_not_found_without_it(self, world: World) -> None:
        registry = await unique(world)
        cell = await Cell(Via(registry, "k")).start()
        pid = pid_of(cell)
        await world.stop_supervised("r")
        assert not alive(pid)
        assert cell.pid() is None
        with pytest.raises(NoProcess):
            await cell.get()
        cell.put(1)
        with pytest.raises(NoProcess, match="nothing is registered as 'r'"):
            await cell.start()
        assert registry.whereis_name("k") is None


class TestTheEnd:
    """A process whose name led through a registry ends when the name is somebody else's, or the registry is gone."""

    async def test_takes_nothing_from_who_has_the_key_now(self, world: World) -> None:
        registry = await unique(world)
        old = await Member(Via(registry, "k")).start()
        pid = pid_of(old)
        await old.do(lambda: registry.unregister("k"))
        new = await member(registry, ("k", 1))
        await new.do(lambda: exit(pid, KILL))
        assert not alive(pid)
        assert registry.lookup("k") == [(new.pid(), 1)]
        await end(new)

    async def test_after_a_restart_of_the_registry_too(self, world: World) -> None:
        registry = await unique(world)
        old = await Member(Via(registry, "k")).start(True)
        pid = pid_of(old)
        with capture_crashes():
            exit(registry, KILL)
            await settle()
        assert alive(pid)
        assert registry.count() == 0
        new = await Member(Via(registry, "k")).start()
        await new.do(lambda: exit(pid, KILL))
        assert not alive(pid)
        assert registry.whereis_name("k") is new.pid()
        await end(new)

    async def test_without_a_registry_is_no_error(self, world: World) -> None:
        registry = await unique(world)
        old = await Member(Via(registry, "k")).start(True)
        pid = pid_of(old)
        await world.stop_supervised("r")
        assert alive(pid)
        with capture_crashes() as reports:
            exit(pid, KILL)
        assert reports == []


class TestUnderASupervisor:
    async def test_is_restarted_under_its_key(self) -> None:
        registry = Registry[str, None]("names")
        cell = Cell(Via(registry, "k"))
        tree = await Supervisor.start_link([registry.child_spec(keys="unique"), cell.child_spec(1)], strategy="rest_for_one")
        pid = pid_of(cell)
        with capture_crashes(), pytest.raises(ServerDown):
            await cell.fail()
        assert cell.pid() not in (None, pid)
        assert await cell.get() == 1
        with capture_crashes():
            exit(registry, KILL)
            await settle()
        assert await (await cell.started()).get() == 1
        assert registry.whereis_name("k") is cell.pid()
        await stop(tree)

    async def test_one_for_each_key(self, world: World) -> None:
        registry = await unique(world)
        users = await world.start_supervised(DynamicSupervisor("users").child_spec())
        for number in range(20):
            await users.start_child(Cell(Via(registry, number)).child_spec(number))
        assert [await Cell(Via(registry, number)).get() for number in range(20)] == list(range(20))
        assert registry.count() == 20
        with capture_crashes():
            exit(Via(registry, 7), KILL)
            await settle()
        assert await Cell(Via(registry, 7)).get() == 7
        assert registry.count() == 20


class TestTheProtocol:
    async def test_gives_and_takes_names(self, world: World) -> None:
        registry: R = await unique(world)
        one, other = await member(registry), await member(registry)
        assert registry.register_name("k", pid_of(one)) is True
        assert registry.register_name("k", pid_of(other)) is False
        assert registry.whereis_name("k") is one.pid()
        for someone in (one, other):
            await someone.do(lambda: registry.unregister_name("k"))
        assert registry.whereis_name("k") is one.pid(), "it takes from the dead only"
        await one.do(lambda: registry.unregister("k"))
        assert registry.whereis_name("k") is None
        registry.unregister_name("k")
        assert links(one) == ()
        dead = pid_of(one)
        await end(one, other)
        assert registry.register_name("k", dead) is False

    async def test_send_to_a_name_that_nobody_has(self, world: World) -> None:
        registry = await unique(world)
        with pytest.raises(NoProcess, match=r"nothing is registered as \"?Via\(Registry\('r'\), 'absent'\)"):
            registry.send("absent", 1)
        with pytest.raises(NoProcess):
            send(Via(registry, "absent"), 1)

    async def test_a_name_means_the_same_after_pickling(self) -> None:
        name = Via(Registry[str, None]("r"), "k")
        assert pickle.loads(pickle.dumps(name)) == name
        assert pickle.loads(pickle.dumps(Cell(name))) == Cell(name)
        valued = Registry[str, int]("r").via("k", 1)
        assert pickle.loads(pickle.dumps(valued)) == valued

    async def test_a_failing_start_names_the_reason(self, world: World) -> None:
        registry = await unique(world)
        with capture_crashes(), pytest.raises(StartError, match="ValueError: no"):
            await Failing(Via(registry, "k")).start()


class TestASupervisor:
    async def test_under_a_name_that_leads_through_a_registry(self, world: World) -> None:
        registry = await unique(world)
        tree = Supervisor(Via(registry, "tree"))
        assert await tree.start_link([Cell("cell").child_spec(3)]) == tree
        assert await Cell("cell").get() == 3
        assert (await tree.count_children()).active == 1
        assert registry.whereis_name("tree") is tree.pid()
        await tree.stop()
        assert registry.count() == 0
