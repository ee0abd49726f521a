"""What the testing kit gives, under mypy --strict and pyright strict. Checked, not run (but importable)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol, assert_type

from beamish import (
    Answer,
    ChildSpec,
    Client,
    Event,
    GenServer,
    Info,
    Message,
    Next,
    NoReply,
    Reply,
    Request,
    StateMachine,
    Transition,
    call,
    cast,
)
from beamish.servers import SearchCache
from beamish.servers._entries import Entries
from beamish.testing import (
    Handled,
    History,
    Mock,
    MockServer,
    Model,
    Operation,
    handle,
    handle_async,
    linearizable,
    mock,
)


@dataclass(frozen=True)
class Size(Message[int]):
    unit: str = "entries"


class Shop(GenServer[dict[str, int]]):
    @call
    def price(self, state: dict[str, int], item: str, *, default: int = 0) -> int:
        return state.get(item, default)

    @call
    def reserve(self, state: dict[str, int], item: str) -> Answer[bool]:
        return NoReply() if item in state else Reply(True, state={**state, item: 1})

    @call
    async def order(self, state: dict[str, int], item: str) -> list[str]:
        return [item]

    @cast
    def put(self, state: dict[str, int], item: str, price: int) -> None:
        state[item] = price

    def handle_call(self, state: dict[str, int], request: object, client: Client) -> object:
        return len(state)

    def handle_info(self, state: dict[str, int], message: object) -> None: ...


class Lamp(StateMachine[str, int]):
    @call
    def flip(self, state: str, data: int) -> Answer[bool]:
        return Next("on", reply=True)

    @cast
    def dim(self, state: str, data: int, by: int) -> Transition:
        return Next("off")

    def handle_event(self, state: str, data: int, event: Event) -> Transition | None: ...

    def handle_enter(self, state: str, data: int, before: str) -> Transition | None: ...


def handling_machines(lamp: tuple[str, int]) -> None:
    assert_type(handle(Lamp.flip, lamp), Handled[bool, tuple[str, int]])
    assert_type(handle(Lamp.dim, lamp, 3), Handled[None, tuple[str, int]])
    assert_type(handle(Lamp.handle_event, lamp, Info("tick")), Handled[None, tuple[str, int]])
    assert_type(handle(Lamp.handle_enter, lamp, "on"), Handled[None, tuple[str, int]])


def handling(state: dict[str, int], entries: Entries[str, bytes]) -> None:
    reply, after = handle(Shop.price, state, "tea", default=1)
    assert_type(reply, int)
    assert_type(after, dict[str, int])

    handled = handle(Shop.reserve, state, "tea")
    assert_type(handled, Handled[bool, dict[str, int]])
    assert_type(handled.reply, bool)
    assert_type(handled.answer, Answer[bool])
    assert_type(handled.later(), bool)

    assert_type(handle(Shop.put, state, "tea", 3), Handled[None, dict[str, int]])
    assert_type(handle(Shop.put, state, item="tea", price=3), Handled[None, dict[str, int]])
    assert_type(handle(Shop.handle_info, state, "tick"), Handled[None, dict[str, int]])
    assert_type(handle(Shop.handle_call, state, Size()), Handled[int, dict[str, int]])
    assert_type(handle(Shop("shop").price, state, "tea"), Handled[int, dict[str, int]])
    assert_type(handle(Shop("shop").put, state, "tea", 1), Handled[None, dict[str, int]])

    found, kept = handle(SearchCache[str, bytes].fetch, entries, "otp")
    assert_type(found, bytes | None)
    assert_type(kept, Entries[str, bytes])

    handle(Shop.price, state, 1)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue]
    handle(Shop.price, state)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    handle(Shop.put, state, "tea")  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue]


async def awaiting(state: dict[str, int]) -> None:
    reply, after = await handle_async(Shop.order, state, "tea")
    assert_type(reply, list[str])
    assert_type(after, dict[str, int])


def counting(state: int, request: Request) -> tuple[object, int]:
    return state, state + 1


class Counting(Model[int]):
    def init(self) -> int:
        return 0

    def step(self, state: int, request: Request, /) -> tuple[object, int]:
        return counting(state, request)


async def recording(shop: Shop) -> None:
    with History(shop) as history:
        assert_type(await history.call("ann", shop.price, "tea", default=1), int)
        assert_type(await history.call("ann", shop.reserve, "tea"), bool)
        assert_type(history.do("ann", len, "tea"), int)
        history.cast("ann", shop.put, "tea", 3)
        history.cast("ann", shop.price, "tea")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        await history.call("ann", shop.price, 3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(linearizable(history, Counting()), list[Operation])
    linearizable(history, counting, 0)
    linearizable(history, counting, "0")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class Clock(Protocol):
    def now(self) -> float: ...


class Storage(ABC):
    @abstractmethod
    def read(self) -> bytes: ...


async def doubling() -> None:
    assert_type(mock(Shop), MockServer[Shop])
    assert_type(mock(Shop("shop")).address, Shop)
    assert_type(await mock(Shop("shop")).start_link(), Shop)
    assert_type(mock(Shop("shop")).child_spec(), ChildSpec[Shop])
    assert_type(mock(Clock), Mock[Clock])
    assert_type(mock(Clock).object, Clock)
    assert_type(mock(Storage).object, Storage)
    with mock(Clock, in_order=True) as double:
        double.expect(Clock.now, 5.0, times=2)
        double.expect("now", lambda: 5.0)
        double.stub(Clock.noww, 5.0)  # type: ignore[attr-defined]  # pyright: ignore
