"""What the partitions of a server are to a type checker. Checked, not run (but importable)."""

from __future__ import annotations

from typing import assert_type

from beamish import Agent, ChildSpec, DynamicSupervisor, GenServer, PartitionSupervisor, Via, call


class Cache(GenServer[dict[str, bytes]]):
    def init(self, number: int = 0, *, limit: int = 10) -> dict[str, bytes]:
        return {}

    @call
    def fetch(self, state: dict[str, bytes], query: str) -> bytes | None:
        return state.get(query)


caches = PartitionSupervisor[Cache]("caches")
rooms = PartitionSupervisor[DynamicSupervisor]("rooms")
counters = PartitionSupervisor[Agent[int]]("counters")


async def use() -> None:
    assert_type(await caches.start_link(Cache.child_spec(limit=1), partitions=2), PartitionSupervisor[Cache])
    assert_type(caches.child_spec(lambda i: Cache.child_spec(i, limit=1)), ChildSpec[PartitionSupervisor[Cache]])
    assert_type(caches.at("otp"), Cache)
    assert_type(await caches.at("otp").fetch("otp"), bytes | None)
    assert_type(await Cache(Via(caches, "otp")).fetch("otp"), bytes | None)
    assert_type(await counters.at(1).get(lambda n: n), int)
    assert_type(rooms.at("x"), DynamicSupervisor)
    assert_type(await caches.partitions(), int)
    assert_type(await caches.resize(1), int)


async def mistakes() -> None:
    await caches.start_link(DynamicSupervisor.child_spec())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await caches.start_link(Cache.child_spec(), partitions="2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
