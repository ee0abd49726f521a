"""What the type checkers know of snapshots and the codec. The checkers read this file; running it shows that it means what it says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, assert_type

from beamish import GenServer, Init, Snapshot, call, codec, ets, snapshot
from beamish.snapshot import Loaded


@codec.register("typing.Order")
@dataclass(frozen=True)
class Order:
    id: int


class Orders(GenServer[dict[int, Order]], snapshot=Snapshot("orders.snap", every=30.0), restart="transient"):
    def init(self) -> dict[int, Order]:
        return {}

    def dump(self, state: dict[int, Order]) -> Any:
        return dict(state)

    def restore(self, state: dict[int, Order], data: Any) -> dict[int, Order]:
        return {**state, **data}

    @call
    def order(self, state: dict[int, Order], id: int) -> Order | None:
        return state.get(id)


class Named(GenServer[list[int]], snapshot="named.snap"):
    def init(self, folder: Path) -> Init:
        return Init([], snapshot=folder / "named.snap")


async def types(table: ets.Table[str, int], orders: Orders) -> None:
    assert_type(Order(1), Order)
    assert_type(codec.encode([1]), bytes)
    assert_type(snapshot.load("x.snap"), Loaded | None)
    assert_type(snapshot.save(Path("x.snap"), {}), int)
    assert_type(await orders.order(1), Order | None)
    keeper = await snapshot.keep(table, "prices.snap")
    assert_type(await keeper.save(), None)


def test_a_decorated_class_is_the_class() -> None:
    assert codec.decode(codec.encode(Order(1))) == Order(1)
