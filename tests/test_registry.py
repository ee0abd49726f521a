"""Registries: the verbs, for unique and for duplicate keys. Who ends, and what becomes of that, is in test_registry_life."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from beamish import AlreadyRegistered, ChildSpec, Pid, Registry, RegistryEntry, StartError, alive, info, stop
from beamish.testing import World
from registering import Member, duplicate, end, links, member, pid_of, unique

partitions = pytest.mark.parametrize("partitions", [1, 8])
kinds = pytest.mark.parametrize(("partitions", "partition_by"), [(1, "pid"), (8, "pid"), (1, "key"), (8, "key")])


class TestStarting:
    async def test_a_registry_is_a_supervisor_in_its_spec_with_the_name_for_an_id(self) -> None:
        spec: ChildSpec[Any] = Registry[str, int]("r").child_spec(keys="unique")
        assert (spec.id, spec.type, spec.shutdown, spec.restart) == ("r", "supervisor", None, "permanent")

    @partitions
    async def test_there_are_as_many_partitions_as_was_said(self, world: World, partitions: int) -> None:
        registry = await unique(world, partitions)
        found = info(registry)
        assert found is not None
        assert len([pid for pid in found.links if pid is not found.parent]) == partitions

    async def test_without_a_name_it_is_found_by_its_pid(self, world: World) -> None:
        registry = await Registry[str, int].start_link(keys="unique")
        one = await member(registry, ("k", 1))
        assert registry.lookup("k") == [(one.pid(), 1)]
        assert registry.whereis_name("k") == one.pid()
        await stop(registry)
        await end(one)

    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"keys": "both"}, "keys must be"),
            ({"keys": ("duplicate", "invalid")}, "keys must be"),
            ({"keys": "duplicate", "partition_by": "invalid"}, "partition_by must be"),
            ({"keys": "unique", "partitions": 0}, "partitions must be"),
            ({"keys": "unique", "partitions": 1.5}, "partitions must be"),
            ({"keys": "unique", "listeners": "name"}, "listeners are names"),
            ({"keys": "unique", "listeners": [1]}, "listeners are names"),
        ],
    )
    async def test_a_wrong_option_says_what_to_write(self, options: dict[str, Any], text: str) -> None:
        with pytest.raises(StartError, match=text) as caught:
            await Registry[str, int]("r").start_link(**options)
        assert isinstance(caught.value.__cause__, ValueError)

    async def test_keys_must_be_said(self) -> None:
        with pytest.raises(StartError, match="keys"):
            await Registry("r").start_link()  # type: ignore[call-arg]  # pyright: ignore

    async def test_the_address_is_a_value(self) -> None:
        registry = Registry[str, int]("r")
        assert registry == Registry("r")
        assert hash(registry) == hash(Registry[int, str]("r"))
        assert copy.copy(registry) is registry
        assert pickle.loads(pickle.dumps(registry)) == registry


@partitions
class TestUnique:
    async def test_registers_a_process_once_under_a_key(self, world: World, partitions: int) -> None:
        registry = await unique(world, partitions)
        one = await member(registry)
        owner = await one.do(lambda: registry.register("hello", "value"))
        assert alive(owner)
        assert registry.keys(one) == ["hello"]
        assert registry.values("hello", one) == ["value"]
        error = await one.refused(lambda: registry.register("hello", "other"))
        assert isinstance(error, AlreadyRegistered)
        assert error.pid == one.pid()
        assert registry.keys(one) == ["hello"]
        assert registry.count() == 1
        assert await one.do(lambda: registry.register("world", "value")) is owner
        assert sorted(registry.keys(one)) == ["hello", "world"]
        await end(one)

    async def test_a_key_that_another_has_is_refused_with_who_has_it(self, world: World, partitions: int) -> None:
        registry = await unique(world, partitions)
        one, other = await member(registry, ("hello", 1)), await member(registry)
        error = await other.refused(lambda: registry.register("hello", 2))
        assert isinstance(error, AlreadyRegistered)
        assert (error.registry, error.key, error.pid) == (registry, "hello", one.pid())
        assert "the key 'hello' of Registry('r') is taken by Member(" in str(error)
        assert registry.keys(other) == []
        assert registry.values("hello", other) == []
        assert registry.count() == 1
        assert links(other) == ()
        await end(one, other)

    async def test_counts_entries(self, world: World, partitions: int) -> None:
        registry = await unique(world, partitions)
        assert registry.count() == 0
        one = await member(registry, ("hello", 1), ("world", 1))
        assert registry.count() == 2
        await end(one)
        assert registry.count() == 0

    async def test_match_takes_a_value_a_class_or_a_predicate(self, world: World, partitions: int) -> None:
        registry = await unique(world, partitions)
        value = (1, "atom", 2)
        one = await member(registry, ("hello", value))
        entry = [(one.pid(), value)]
        assert registry.match("hello", lambda v: v[0] == 1) == entry
        assert registry.match("hello", lambda v: v[2] > 1) == entry
        assert registry.match("hello", lambda v: v[2] > 2) == []
        assert registry.match("hello", tuple) == entry
        assert registry.match("hello", str | int) == []
        assert registry.match("hello", value) == entry
        assert registry.match("absent", tuple) == []
        assert registry.count_match("hello", lambda v: v[0] == 1) == 1
        assert registry.count_match("hello", lambda v: v[2] > 2) == 0
        await end(one)

    async def test_unregister_match_removes_what_matches_only(self, world: World, partitions: int) -> None:
        registry = await unique(world, partitions)
        one = await member(registry, ("hello", (1, "atom")))
        await one.do(lambda: registry.unregister_match("hello", lambda v: v[0] == 2))
        assert registry.lookup("hello") == [(one.pid(), (1, "atom"))]
        await one.do(lambda: registry.unregister_match("hello", lambda v: v[1] == "atom"))
        assert registry.lookup("hello") == []
        assert registry.keys(one) == []
        await one.do(lambda: registry.unregister_match("never", object))
        await end(one)

    async def test_keys_that_look_like_patterns_are_keys(self, world: World, partitions: int) -> None:
        registry = await unique(world, partitions)
        keys: list[Any] = ["_", "$1", ("$1", "label"), Ellipsis, None, frozenset({"a"}), object]
        one = await member(registry, *((key, number) for number, key in enumerate(keys)))
        assert [registry.match(key, int) for key in keys] == [[(one.pid(), number)] for number in range(len(keys))]
        for key in keys[:3]:
            await one.do(lambda key=key: registry.unregister_match(key, int))
        for key in keys[3:5]:
            await one.do(lambda key=key: registry.unregister(key))
        assert [registry.lookup(key) != [] for key in keys] == [False] * 5 + [True] * 2
        await end(one)

    async def test_keys_are_equal_as_in_a_dict(self, world: World, partitions: int) -> None:
        registry = await unique(world, partitions)
        one = await member(registry, (1, "int"))
        assert registry.values(1.0, one) == ["int"]
        assert isinstance(await one.refused(lambda: registry.register(True, "bool")), AlreadyRegistered)
        assert "unhashable" in str(await one.refused(lambda: registry.register([], "list")))
        assert registry.keys(one) == [1]
        await end(one)

    async def test_update_value_is_for_ones_own(self, world: World, partitions: int) -> None:
        registry = await unique(world, partitions)
        one, other = await member(registry, ("world", 1)), await member(registry)

        def never(_: Any) -> Any:
            raise AssertionError("not asked")

        assert await one.do(lambda: registry.update_value("hello", never)) is None
        assert await other.do(lambda: registry.update_value("world", never)) is None
        assert registry.update_value("world", never) is None
        assert await one.do(lambda: registry.update_value("world", lambda value: value + 1)) == (2, 1)
        assert registry.lookup("world") == [(one.pid(), 2)]
        await end(one, other)

    async def test_dispatch_calls_with_the_one_entry_or_not_at_all(self, world: World, partitions: int) -> None:
        registry = await unique(world, partitions)
        got: list[Any] = []
        registry.dispatch("hello", got.append)
        one = await member(registry, ("hello", "value"))
        registry.dispatch("hello", got.append)
        assert got == [[(one.pid(), "value")]]
        await end(one)

    async def test_unregister_takes_back_a_key_and_only_ones_own(self, world: World, partitions: int) -> None:
        registry = await unique(world, partitions)
        one, other = await member(registry, ("hello", 1), ("world", 2)), await member(registry)
        await other.do(lambda: registry.unregister("hello"))
        registry.unregister("hello")
        assert registry.keys(one) == ["hello", "world"]
        await one.do(lambda: registry.unregister("hello"))
        assert registry.keys(one) == ["world"]
        await one.do(lambda: registry.unregister("world"))
        await one.do(lambda: registry.unregister("never"))
        assert registry.keys(one) == []
        await end(one, other)

    async def test_select_gives_entries_or_what_is_made_of_them(self, world: World, partitions: int) -> None:
        registry = await unique(world, partitions)
        assert registry.select() == []
        one, other = await member(registry, ("hello", (1, "a"))), await member(registry, ("world", (2, "b")))
        assert registry.select() == [RegistryEntry("hello", one.pid(), (1, "a")), ("world", other.pid(), (2, "b"))]
        assert [(entry.key, entry.value) for entry in registry.select()] == [("hello", (1, "a")), ("world", (2, "b"))]
        assert registry.select(lambda key, pid, value: key == "hello", give=lambda key, pid, value: value[1]) == ["a"]
        assert registry.select(lambda key, pid, value: pid is other.pid(), give=lambda key, pid, value: key) == ["world"]
        assert registry.select(give=lambda key, pid, value: key) == ["hello", "world"]
        assert registry.select(lambda key, pid, value: value[0] > 2) == []
        assert registry.select(lambda key, pid, value: key in ("hello", "world") and value[0] > 1) == [("world", other.pid(), (2, "b"))]
        assert registry.count_select(lambda key, pid, value: value[0] > 1) == 1
        assert registry.count_select(lambda key, pid, value: key in ("hello", "world")) == 2
        assert registry.count_select(lambda key, pid, value: value is None) == 0
        await end(one, other)

    async def test_select_of_what_is_no_function_says_what_to_write(self, world: World, partitions: int) -> None:
        registry = await unique(world, partitions)
        with pytest.raises(TypeError, match="where=lambda key, pid, value"):
            registry.select("hello")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="give=lambda key, pid, value"):
            registry.select(give="hello")  # type: ignore[call-overload]
        with pytest.raises(TypeError, match="where=lambda key, pid, value"):
            registry.count_select("hello")  # type: ignore[arg-type]


@kinds
class TestDuplicate:
    async def test_a_process_registers_as_often_as_it_likes(self, world: World, partitions: int, partition_by: str) -> None:
        registry = await duplicate(world, partitions, partition_by=partition_by)
        assert registry.count() == 0
        one = await member(registry, ("hello", 1), ("hello", 2), ("world", 3))
        assert registry.keys(one) == ["hello", "hello", "world"]
        assert registry.values("hello", one) == [1, 2]
        assert registry.lookup("hello") == [(one.pid(), 1), (one.pid(), 2)]
        assert registry.count() == 3
        await end(one)
        assert registry.count() == 0

    async def test_many_processes_have_a_key(self, world: World, partitions: int, partition_by: str) -> None:
        registry = await duplicate(world, partitions, partition_by=partition_by)
        one, other = await member(registry, ("hello", 1)), await member(registry)
        assert (registry.keys(other), registry.keys(one)) == ([], ["hello"])
        await other.do(lambda: registry.register("hello", 2))
        assert registry.values("hello", other) == [2]
        assert registry.lookup("hello") == [(one.pid(), 1), (other.pid(), 2)]
        await end(one)
        assert registry.lookup("hello") == [(other.pid(), 2)]
        await end(other)

    async def test_unregister_takes_back_all_that_one_has_under_the_key(self, world: World, partitions: int, partition_by: str) -> None:
        registry = await duplicate(world, partitions, partition_by=partition_by)
        one, other = await member(registry, ("hello", 1), ("hello", 2), ("world", 3)), await member(registry, ("hello", 4))
        await one.do(lambda: registry.unregister("hello"))
        assert registry.keys(one) == ["world"]
        assert registry.lookup("hello") == [(other.pid(), 4)]
        await one.do(lambda: registry.unregister("never"))
        await one.do(lambda: registry.unregister("world"))
        assert registry.keys(one) == []
        assert registry.count() == 1
        await end(one, other)

    async def test_match_finds_those_whose_values_match(self, world: World, partitions: int, partition_by: str) -> None:
        registry = await duplicate(world, partitions, partition_by=partition_by)
        one = await member(registry, ("hello", (1, "atom")), ("hello", (2, "atom")))
        assert registry.match("hello", lambda v: v[0] == 1) == [(one.pid(), (1, "atom"))]
        assert registry.match("hello", lambda v: v[1] == "atom") == [(one.pid(), (1, "atom")), (one.pid(), (2, "atom"))]
        assert registry.match("hello", (2, "atom")) == [(one.pid(), (2, "atom"))]
        assert registry.match("hello", lambda v: v[0] > 3) == []
        assert registry.count_match("hello", lambda v: v[0] < 3) == 2
        assert registry.count_match("hello", str) == 0
        await end(one)

    async def test_unregister_match_leaves_the_others(self, world: World, partitions: int, partition_by: str) -> None:
        registry = await duplicate(world, partitions, partition_by=partition_by)
        one = await member(registry, ("hello", (1, "a")), ("hello", (2, "a")), ("hello", (2, "b")), ("world", (2, "a")))
        other = await member(registry, ("hello", (2, "a")))
        await one.do(lambda: registry.unregister_match("hello", (2, "a")))
        assert registry.values("hello", one) == [(1, "a"), (2, "b")]
        assert registry.keys(one) == ["hello", "hello", "world"]
        await one.do(lambda: registry.unregister_match("hello", lambda v: v[0] < 3))
        assert registry.lookup("hello") == [(other.pid(), (2, "a"))]
        assert registry.keys(one) == ["world"]
        assert registry.count() == 2
        await end(one, other)

    async def test_keys_that_look_like_patterns_are_keys(self, world: World, partitions: int, partition_by: str) -> None:
        registry = await duplicate(world, partitions, partition_by=partition_by)
        one = await member(registry, ("_", (1, "a")), ("_", (2, "a")), ("$1", (3, "a")), ("hello", "a"))
        assert registry.match("_", lambda v: v[1] == "a") == [(one.pid(), (1, "a")), (one.pid(), (2, "a"))]
        assert registry.match("$1", tuple) == [(one.pid(), (3, "a"))]
        assert registry.count_match("_", tuple) == 2
        assert registry.select(lambda key, pid, value: key == "_", give=lambda key, pid, value: value) == [(1, "a"), (2, "a")]
        assert registry.count_select(lambda key, pid, value: key == "$1") == 1
        await one.do(lambda: registry.unregister_match("_", (1, "a")))
        assert registry.lookup("_") == [(one.pid(), (2, "a"))]
        await one.do(lambda: registry.unregister("_"))
        assert registry.keys(one) == ["$1", "hello"]
        await end(one)

    async def test_dispatch_goes_by_partitions_in_the_caller(self, world: World, partitions: int, partition_by: str) -> None:
        registry = await duplicate(world, partitions, partition_by=partition_by)
        several = [await member(registry, ("hello", number), ("world", -1), ("hello", number + 100)) for number in range(12)]
        got: list[list[tuple[Pid, Any]]] = []
        registry.dispatch("never", got.append)
        assert got == []
        registry.dispatch("hello", got.append)
        assert len(got) == (8 if (partitions, partition_by) == (8, "pid") else 1)
        assert sorted(value for entries in got for _, value in entries) == [*range(12), *range(100, 112)]
        for pid in map(pid_of, several):
            assert sum(any(one is pid for one, _ in entries) for entries in got) == 1, "a process is in one partition"
        await end(*several)

    async def test_dispatch_raises_what_is_raised_there(self, world: World, partitions: int, partition_by: str) -> None:
        registry = await duplicate(world, partitions, partition_by=partition_by)
        one = await member(registry, ("hello", 1))
        with pytest.raises(ZeroDivisionError):
            registry.dispatch("hello", lambda entries: 1 // 0)

        async def wrong(entries: Any) -> None:
            pass

        with pytest.raises(TypeError, match="plain function"):
            registry.dispatch("hello", wrong)
        await end(one)

    async def test_select_gives_entries_or_what_is_made_of_them(self, world: World, partitions: int, partition_by: str) -> None:
        registry = await duplicate(world, partitions, partition_by=partition_by)
        assert registry.select() == []
        one = await member(registry, ("hello", (1, "a")), ("hello", (1, "a")), ("world", (2, "b")))
        assert registry.select(lambda key, pid, value: key == "hello") == [("hello", one.pid(), (1, "a"))] * 2
        assert registry.select(lambda key, pid, value: value[0] > 1, give=lambda key, pid, value: (key, value[1])) == [("world", "b")]
        assert sorted(registry.select(give=lambda key, pid, value: key)) == ["hello", "hello", "world"]
        assert registry.count_select(lambda key, pid, value: value == (1, "a")) == 2
        assert registry.count_select(lambda key, pid, value: value[0] > 2) == 0
        await end(one)

    async def test_names_and_updates_are_for_unique_keys(self, world: World, partitions: int, partition_by: str) -> None:
        registry = await duplicate(world, partitions, partition_by=partition_by)
        with pytest.raises(ValueError, match='a name needs a registry with keys="unique"'):
            await Member(registry.via("hello")).start()
        with pytest.raises(ValueError, match='a name needs a registry with keys="unique"'):
            registry.whereis_name("hello")
        with pytest.raises(ValueError, match='update_value needs a registry with keys="unique"'):
            registry.update_value("hello", lambda value: value)
        assert registry.count() == 0
