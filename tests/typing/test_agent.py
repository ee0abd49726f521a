"""What an agent's caller gets, under mypy --strict and pyright strict. Checked, not run (but importable)."""

from __future__ import annotations

import operator
from typing import Generic, TypeVar, assert_type

from beamish import Agent, ChildSpec, supervise

T = TypeVar("T")

counter = Agent[int]("counter")
shelf = Agent[dict[str, list[int]]]("shelf")


class Numbers(Agent[int], restart="transient"):
    async def next(self) -> int:
        return await self.get_and_update(lambda n: (n, n + 1))


class Stack(Agent[list[T]], Generic[T]):
    async def push(self, value: T) -> None:
        await self.update(lambda values: [*values, value])

    async def pop(self) -> T:
        return await self.get_and_update(lambda values: (values[-1], values[:-1]))


async def read(n: int) -> str:
    return str(n)


async def make() -> int:
    return 1


async def swap(n: int, by: int, *, twice: bool = False) -> tuple[str, int]:
    return str(n), n + by * (2 if twice else 1)


def plus(n: int, more: int) -> int:
    return n + more


def shown(n: int, width: int, *, fill: str = " ") -> str:
    return f"{n:{fill}>{width}}"


async def starts() -> None:
    assert_type(await counter.start_link(lambda: 0), Agent[int])
    assert_type(await Agent[int].start_link(make), Agent[int])
    assert_type(await Numbers("n").start_link(int, "3"), Numbers)
    assert_type(Numbers("n").child_spec(lambda: 3), ChildSpec[Numbers])
    assert_type(await Stack[str]("s").start_link(list), Stack[str])
    async with supervise([counter.child_spec(lambda: 0)]):
        pass


async def calls() -> None:
    assert_type(await counter.get(lambda n: n), int)
    assert_type(await counter.get(lambda n: str(n)), str)
    assert_type(await counter.get(read), str)
    assert_type(await counter.get(plus, 100), int)
    assert_type(await counter.get(shown, 8, fill="."), str)
    assert_type(await shelf.get(len), int)
    assert_type(await shelf.get(lambda state: state.get("a")), list[int] | None)
    assert_type(await counter.update(lambda n: n + 1), None)
    assert_type(await counter.update(operator.index), None)
    assert_type(await counter.get_and_update(lambda n: (n, n + 1)), int)
    assert_type(await counter.get_and_update(lambda n: (str(n), n)), str)
    assert_type(await counter.get_and_update(swap, 2, twice=True), str)
    assert_type(counter.cast(lambda n: n - 1), None)
    assert_type(await counter.with_timeout(0.2).get(lambda n: n), int)
    assert_type(await Numbers("n").next(), int)
    assert_type(await Stack[str]("s").pop(), str)


async def mistakes() -> None:
    await counter.start_link(lambda: "zero")  # type: ignore[arg-type, return-value]  # pyright: ignore[reportArgumentType]
    await counter.start_link(0)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await counter.get(shown)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await counter.update(lambda n: str(n))  # type: ignore[arg-type, return-value]  # pyright: ignore[reportArgumentType]
    await counter.get_and_update(lambda n: n)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    counter.cast("reset")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
