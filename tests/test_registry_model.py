"""Registries against a plain list of entries: any mixture of registering, taking back and dying, in every kind of registry."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from beamish import KILL, AlreadyRegistered, Pid, Registered, Registry, Unregistered, alive, exit, info
from beamish.sys import get_state
from beamish.testing import World, capture_crashes, settle
from registering import Member, R

T = TypeVar("T")
KEYS = ["a", "b", 1, ("c", 2)]
VALUES = [0, 1, "x", [1]]


class Registries(RuleBasedStateMachine):
    """The model: `rows`, all entries in order; `owners`, who is linked to which partition; `heard`, what listeners are told."""

    rows: list[tuple[Any, Member, Any]]
    registry: R

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.reports = capture_crashes()
        self.reports.__enter__()

    def run(self, work: Awaitable[T]) -> T:
        return self.loop.run_until_complete(work)

    @initialize(
        keys=st.sampled_from(["unique", "duplicate"]),
        partitions=st.sampled_from([1, 3]),
        partition_by=st.sampled_from(["pid", "key"]),
        inline=st.booleans(),
    )
    def start(self, keys: str, partitions: int, partition_by: str, inline: bool) -> None:
        self.unique, self.partitions, self.by_key = keys == "unique", partitions, partition_by == "key"
        self.rows, self.owners, self.heard = [], dict[Member, Pid](), list[Any]()
        self.members = list[Member]()

        async def begin() -> None:
            self.world = World(inline=inline)
            await self.world.__aenter__()
            self.ear = await Member("ear").start()
            spec = Registry[Any, Any]("r").child_spec(
                keys=keys, partitions=partitions, partition_by=partition_by, listeners=["ear", "nobody"]
            )
            self.registry = await self.world.start_supervised(spec)

        self.run(begin())

    def teardown(self) -> None:
        async def end() -> None:
            for one in [*self.members, self.ear]:
                exit(one, KILL)
            await settle()
            assert self.registry.count() == 0
            await self.world.__aexit__(None, None, None)

        if hasattr(self, "world"):
            self.run(end())
        self.loop.close()
        self.reports.__exit__(None, None, None)

    def of(self, member: Member, key: Any) -> list[Any]:
        return [value for other, one, value in self.rows if one is member and other == key]

    def gone(self, members: list[Member]) -> None:
        """These have no entries any more."""
        self.rows = [row for row in self.rows if row[1] not in members]
        self.owners = {one: owner for one, owner in self.owners.items() if one not in members}

    def left(self, member: Member, key: Any, rows: list[tuple[Any, Member, Any]]) -> None:
        """`member` took back what is missing in `rows`."""
        if len(rows) < len(self.rows) and not any(one is member and other == key for other, one, _ in rows):
            self.heard.append(Unregistered(self.registry, key, member.pid()))
        self.rows = rows
        if not any(one is member for _, one, _ in rows):
            self.owners.pop(member, None)

    # -- what may happen

    @rule(trap=st.booleans())
    def one_more(self, trap: bool) -> None:
        if len(self.members) < 6:
            self.members.append(self.run(Member.start(trap)))

    @precondition(lambda self: self.members)
    @rule(data=st.data(), key=st.sampled_from(KEYS), value=st.sampled_from(VALUES))
    def register(self, data: st.DataObject, key: Any, value: Any) -> None:
        one = data.draw(st.sampled_from(self.members))
        holder = next((other for taken, other, _ in self.rows if taken == key), None)
        if self.unique and holder is not None:
            error = self.run(one.refused(lambda: self.registry.register(key, value)))
            assert isinstance(error, AlreadyRegistered)
            assert error.pid is holder.pid()
            return
        owner = self.run(one.do(lambda: self.registry.register(key, value)))
        assert self.owners.setdefault(one, owner) is owner, "one partition for a process, as long as it has a key"
        self.rows.append((key, one, value))
        self.heard.append(Registered(self.registry, key, one.pid(), value))

    @precondition(lambda self: self.members)
    @rule(data=st.data(), key=st.sampled_from(KEYS))
    def unregister(self, data: st.DataObject, key: Any) -> None:
        one = data.draw(st.sampled_from(self.members))
        self.run(one.do(lambda: self.registry.unregister(key)))
        self.left(one, key, [row for row in self.rows if not (row[0] == key and row[1] is one)])

    @precondition(lambda self: self.members)
    @rule(data=st.data(), key=st.sampled_from(KEYS), value=st.sampled_from(VALUES))
    def unregister_match(self, data: st.DataObject, key: Any, value: Any) -> None:
        one = data.draw(st.sampled_from(self.members))
        self.run(one.do(lambda: self.registry.unregister_match(key, value)))
        self.left(one, key, [row for row in self.rows if not (row[0] == key and row[1] is one and row[2] == value)])

    @precondition(lambda self: self.members and self.unique)
    @rule(data=st.data(), key=st.sampled_from(KEYS), value=st.sampled_from(VALUES))
    def update(self, data: st.DataObject, key: Any, value: Any) -> None:
        one = data.draw(st.sampled_from(self.members))
        own = self.of(one, key)
        assert self.run(one.do(lambda: self.registry.update_value(key, lambda old: value))) == ((value, own[0]) if own else None)
        self.rows = [(other, by, value if own and other == key else old) for other, by, old in self.rows]

    @precondition(lambda self: self.members)
    @rule(data=st.data(), reason=st.sampled_from([KILL, "why"]))
    def one_ends(self, data: st.DataObject, reason: Any) -> None:
        one = data.draw(st.sampled_from(self.members))

        async def end() -> None:
            exit(one, reason)
            if alive(one):
                exit(one, KILL)  # it traps
            self.look_up()

        self.gone([one])
        self.members.remove(one)
        self.run(end())

    @precondition(lambda self: self.owners)
    @rule(data=st.data())
    def a_partition_is_killed(self, data: st.DataObject) -> None:
        owner = data.draw(st.sampled_from(list(self.owners.values())))
        lost = [one for one in self.members if self.owners.get(one) is owner]

        async def kill() -> None:
            exit(owner, KILL)
            self.look_up()
            await settle()

        self.gone(lost)
        self.run(kill())
        self.bury(lost)

    @rule()
    def the_registry_is_restarted(self) -> None:
        lost = [one for one in self.members if one in self.owners]

        async def kill() -> None:
            pid = self.registry.pid()
            exit(self.registry, KILL)
            await settle()
            assert self.registry.pid() not in (None, pid)

        self.gone(self.members)
        self.run(kill())
        self.bury(lost)

    def bury(self, lost: list[Member]) -> None:
        """Those who were linked to a partition that ended: whoever traps lives on, without its entries."""
        for one in lost:
            trapping = self.run(self.told(one))
            if not trapping:
                self.members.remove(one)

    async def told(self, one: Member) -> bool:
        return alive(one) and len(await one.mail()) > 0

    # -- what must be so

    def look_up(self) -> None:
        for key in KEYS:
            expected = [(one.pid(), value) for other, one, value in self.rows if other == key]
            assert self.registry.lookup(key) == expected
            assert self.registry.match(key, int) == [pair for pair in expected if isinstance(pair[1], int)]
            if self.unique:
                assert self.registry.whereis_name(key) is (expected[0][0] if expected else None)
            groups: list[list[tuple[Pid, Any]]] = []
            self.registry.dispatch(key, groups.append)
            assert sorted(map(repr, (pair for group in groups for pair in group))) == sorted(map(repr, expected))
            owners = {self.owners[one] for other, one, _ in self.rows if other == key}
            assert len(groups) == (len(owners) if not (self.unique or self.by_key) else min(len(owners), 1))
        assert self.registry.count() == len(self.rows)

    @invariant()
    def agrees(self) -> None:
        async def look() -> None:
            self.look_up()
            for one in self.members:
                assert alive(one)
                assert sorted(map(repr, self.registry.keys(one))) == sorted(repr(key) for key, by, _ in self.rows if by is one)
                assert [self.registry.values(key, one) for key in KEYS] == [self.of(one, key) for key in KEYS]
                found = info(one)
                assert found is not None
                assert found.links == ((self.owners[one],) if one in self.owners else ())
            everything = [(key, one.pid(), value) for key, one, value in self.rows]
            assert sorted(map(repr, map(tuple, self.registry.select()))) == sorted(map(repr, everything))
            assert await self.ear.mail() == self.heard
            table: Any = await get_state(self.registry)
            assert set(table.registrants) == {one.pid() for one in self.owners}
            assert len(table.partitions) == self.partitions

        if hasattr(self, "registry"):
            self.run(look())


def test_a_registry_agrees_with_a_plain_list() -> None:
    run_state_machine_as_test(Registries, settings=settings(max_examples=100, stateful_step_count=30, deadline=None))
