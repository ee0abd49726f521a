"""What a simulated run tells of itself: tasks and processes by their names, nothing empty, and the same on every run."""

from __future__ import annotations

import asyncio
import re

import beamish
from beamish import GenServer, call, cast
from beamish.testing import World, capture_crashes
from beamish.testing._choosers import Plain, Random
from beamish.testing._simulate import run_once
from testing.races import RACES, Cell, Worker

# virtual time: `run_once` runs all of this


class Slow(GenServer[None]):
    @call
    async def wait(self, state: None) -> None:
        for _ in range(3):
            await asyncio.sleep(0)

    @cast
    def hear(self, state: None, what: object) -> None: ...


def lines(test: object, *, seeds: int = 60, faults: frozenset[str] = frozenset()) -> set[str]:
    """All lines of many runs."""
    found: set[str] = set()
    with capture_crashes():
        for seed in range(seeds):
            run = run_once(test, Random(seed), faults)  # type: ignore[arg-type]
            if run.error is not None:
                raise run.error
            found.update(run.lines)
    return found


def test_tasks_are_called_by_the_names_that_they_were_given() -> None:
    async def test(world: World) -> None:
        async def client() -> None:
            await asyncio.sleep(0)

        async with asyncio.TaskGroup() as group:
            group.create_task(client(), name="ann")
            group.create_task(client(), name="bob")
            group.create_task(client())
            group.create_task(client())

    found = lines(test)
    assert {"bob goes before ann", "client goes before ann", "client 2 goes before client"} <= found


def test_a_task_of_a_process_by_its_process() -> None:
    async def test(world: World) -> None:
        slow = await world.start_supervised(Slow("slow").child_spec())

        async def visitor() -> None:
            await slow.wait()

        beamish.spawn_monitor(visitor)
        quick = await world.start_supervised(Slow("quick").child_spec())
        await asyncio.gather(slow.wait(), quick.wait())
        await beamish.receive(beamish.Down)

    found = lines(test)
    assert any(re.match(r"slow's handler( 2)? goes before ", line) for line in found)
    assert "visitor goes before the keeper" in found
    assert any(line.startswith("slow handles wait() for visitor") for line in found)


def test_processes_in_messages_by_their_names_the_dead_too() -> None:
    async def test(world: World) -> None:
        slow = await world.start_supervised(Slow("slow").child_spec())
        beamish.flag(trap_exit=True)
        worker = await Worker("worker").start_link()
        pid = worker.pid()
        assert pid is not None
        slow.hear({"whom": [pid, beamish.current()]})
        worker.quit(beamish.current())
        ended = await beamish.receive(beamish.Exited)
        slow.hear(ended)
        await slow.wait()

    found = lines(test)
    assert "slow handles hear({'whom': [<worker>, <the test>]})" in found
    assert "slow handles hear(Exited(pid=<worker>, reason=Normal()))" in found
    assert "worker handles quit(<the test>)" in found


def test_nothing_is_empty_and_no_number_of_a_pid_is_left() -> None:
    found: set[str] = set()
    with capture_crashes():
        for race in RACES:
            for seed in range(40):
                found.update(run_once(race.broken, Random(seed), race.faults | {"crash", "kill"}).lines)
    assert any(line.startswith("the death of ") for line in found)
    assert any(re.fullmatch(r"a call of \w+( \d)? goes by the mailbox", line) for line in found)
    assert any(re.fullmatch(r"Supervisor handles Exited\(pid=<cell>, reason=.*", line) for line in found)
    assert "Supervisor handles _start_child(child 'cell')" in found
    for line in found:
        assert not re.search(r"<0\.|=,|, \)|\(\,| 0x|_keep|\bbody\b|ServerProcess", line), line


def test_the_plain_order_has_no_deviations_to_tell_of() -> None:
    async def test(world: World) -> None:
        cell = await world.start_supervised(Cell("cell").child_spec())
        cell.set(3)
        assert await cell.get() == 3

    assert [line for line in run_once(test, Plain()).lines if " handles " not in line] == []
