"""Servers that are kept, under many interleavings: what is in the file was the state at one moment, and a clean end loses nothing."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from beamish import CallExit, GenServer, Init, Snapshot, Supervisor, call, snapshot
from beamish.testing import World, simulate
from seeds import seeds


class Pairs(GenServer[list[int]]):
    """Between two messages the length of its state is even; within the async handler it is odd for a while."""

    def init(self, path: Path) -> Init:
        return Init([], snapshot=Snapshot(path, every=0.05, changes=3, durability="normal"))

    @call
    def add(self, state: list[int], n: int) -> None:
        state += [n, n]

    @call
    async def add_slowly(self, state: list[int], n: int) -> None:
        state.append(n)
        await asyncio.sleep(0.01)
        state.append(n)


async def clients(pairs: Pairs, times: int) -> int:
    added = 0

    async def client(number: int) -> None:
        nonlocal added
        for turn in range(times):
            try:
                await (pairs.add(number) if (turn + number) % 2 else pairs.add_slowly(number))
                added += 2
            except CallExit:
                await asyncio.sleep(0.01)  # it is being restarted

    async with asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(client(number))
    return added


def whole(path: Path) -> list[int]:
    found = snapshot.load(path)
    state: Any = [] if found is None else found.data
    assert len(state) % 2 == 0, state
    return list(state)


@simulate(seeds=seeds(15, 300))
async def test_a_clean_end_loses_nothing(world: World) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pairs.snap"
        tree = await Supervisor.start_link([Pairs("pairs").child_spec(path)])
        added = await clients(Pairs("pairs"), 4)
        whole(path)
        await tree.stop()
        assert len(whole(path)) == added == 24


@simulate(seeds=seeds(15, 300), faults=["crash", "kill"])
async def test_after_crashes_there_is_the_state_of_one_moment(world: World) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pairs.snap"
        tree = await Supervisor.start_link([Pairs("pairs").child_spec(path)], max_restarts=1000)
        await clients(Pairs("pairs"), 4)
        whole(path)
        await Pairs("pairs").started()
        await tree.stop()
        whole(path)
