"""`async with supervise([…])`: the code after the block goes on, whoever it belongs to."""

from __future__ import annotations

import asyncio

import pytest

import beamish
from beamish import GenServer, StartError, flag, monitor, receive, run, spawn, supervise
from beamish.testing import World, capture_crashes, settle


class One(GenServer[int]):
    def init(self) -> int:
        return 1


class Failing(GenServer[int]):
    def init(self) -> int:
        raise ValueError("no disk")


class TestTheCodeAfterTheBlock:
    def test_under_run(self) -> None:
        async def main() -> str:
            for _ in range(2):
                async with supervise([One("one").child_spec()]), supervise([One("inner").child_spec()]):
                    pass
            await asyncio.sleep(0)
            return "after the blocks"

        assert run(main) == "after the blocks"

    async def test_in_a_spawned_function(self, world: World) -> None:
        done: list[str] = []

        async def job() -> None:
            async with supervise([One.child_spec()]):
                pass
            await asyncio.sleep(0)
            done.append("after")

        spawn(job)
        await settle()
        assert done == ["after"]

    async def test_in_a_task_that_was_adopted(self, world: World) -> None:
        async with supervise([One("one").child_spec()]):
            monitor("one")
        async with supervise([One("two").child_spec()]):
            await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def test_who_traps_exits_gets_no_stray_message(self, world: World) -> None:
        got: list[object] = []

        async def job() -> None:
            flag(trap_exit=True)
            async with supervise([One.child_spec()]):
                pass
            try:
                got.append(await receive(timeout=0))
            except TimeoutError:
                got.append("nothing")

        spawn(job)
        await settle()
        assert got == ["nothing"]


async def test_a_child_that_does_not_start_is_named_with_its_error(world: World) -> None:
    with capture_crashes(), pytest.raises(StartError, match=r"its child .* ValueError: no disk") as failed:
        await supervise([One.child_spec(), Failing.child_spec()]).__aenter__()
    assert isinstance(failed.value.__cause__, ValueError)
    assert beamish.whereis("one") is None
