"""`async with registry.lock(key)`: one at a time, first come, first served, and nobody waits for the dead."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from beamish import KILL, SHUTDOWN, Crash, NoProcess, Pid, Registry, alive, down, exit, monitor, receive, send, spawn, stop
from beamish.testing import World, capture_crashes, settle
from registering import R, duplicate, unique

kinds = pytest.mark.parametrize(("start", "partitions"), [(unique, 1), (unique, 8), (duplicate, 1), (duplicate, 8)])


class Locker:
    """A process that takes a lock, says so, and holds it until it is told otherwise."""

    def __init__(self, registry: R, key: Any, log: list[str], name: str, last: Callable[[], Any] = lambda: None) -> None:
        self.registry, self.key, self.log, self.name, self.last = registry, key, log, name, last
        self.pid: Pid = spawn(self.run)

    async def run(self) -> None:
        async with self.registry.lock(self.key):
            self.log.append(f"{self.name} has it")
            await receive("unlock")
            self.last()
        self.log.append(f"{self.name} gave it back")

    async def unlock(self) -> None:
        send(self.pid, "unlock")
        await settle()


@kinds
class TestLock:
    async def test_of_different_keys_do_not_wait(self, world: World, start: Any, partitions: int) -> None:
        registry, log = await start(world, partitions), list[str]()
        one = Locker(registry, 1, log, "one")
        await settle()
        two = Locker(registry, 2, log, "two")
        await settle()
        assert log == ["one has it", "two has it"]
        await one.unlock()
        await two.unlock()
        assert log[2:] == ["one gave it back", "two gave it back"]
        async with registry.lock(1), registry.lock(2):
            pass

    async def test_of_one_key_wait_in_their_order(self, world: World, start: Any, partitions: int) -> None:
        registry, log = await start(world, partitions), list[str]()
        several = [Locker(registry, "k", log, name) for name in "abc"]
        await settle()
        for number, one in enumerate(several):
            assert log[2 * number :] == [f"{one.name} has it"]
            await one.unlock()
        assert log[-1] == "c gave it back"
        async with registry.lock("k"):
            pass
        assert await _rows(registry) == {}

    async def test_is_given_back_by_one_that_raises(self, world: World, start: Any, partitions: int) -> None:
        registry, log = await start(world, partitions), list[str]()
        one, two = Locker(registry, "k", log, "one", lambda: 1 // 0), Locker(registry, "k", log, "two")
        await settle()
        with capture_crashes():
            ref = monitor(one.pid)
            await one.unlock()
            assert isinstance((await down(ref)).reason, Crash)
        assert log == ["one has it", "two has it"]
        await two.unlock()
        assert await _rows(registry) == {}

    @pytest.mark.parametrize("reason", [KILL, SHUTDOWN, "why"])
    async def test_is_given_back_by_one_that_ends(self, world: World, start: Any, partitions: int, reason: Any) -> None:
        registry, log = await start(world, partitions), list[str]()
        one, two = Locker(registry, "k", log, "one"), Locker(registry, "k", log, "two")
        await settle()
        exit(one.pid, reason)
        await settle()
        assert log == ["one has it", "two has it"]
        await two.unlock()
        assert await _rows(registry) == {}

    @pytest.mark.parametrize("reason", [KILL, SHUTDOWN])
    async def test_one_that_ends_while_it_waits_is_passed_over(self, world: World, start: Any, partitions: int, reason: Any) -> None:
        registry, log = await start(world, partitions), list[str]()
        one, two, three = [Locker(registry, "k", log, name) for name in ("one", "two", "three")]
        await settle()
        exit(two.pid, reason)
        await settle()
        await one.unlock()
        assert log == ["one has it", "one gave it back", "three has it"]
        await three.unlock()
        assert await _rows(registry) == {}


async def _rows(registry: R) -> Any:
    from beamish.sys import get_state

    return (await get_state(registry)).locks


class TestTheBlock:
    async def test_in_plain_asyncio_code_adopts_nobody(self, world: World) -> None:
        registry = await unique(world)
        log: list[int] = []

        async def worker(number: int) -> None:
            async with registry.lock("k"):
                log.append(number)
                await asyncio.sleep(0)
                log.append(number)

        await asyncio.gather(*(worker(number) for number in range(3)))
        assert log == [0, 0, 1, 1, 2, 2]

    async def test_given_up_in_the_turn_in_which_the_lock_came_passes_it_on(self, world: World) -> None:
        registry = await unique(world)
        log: list[str] = []

        async def waiter(name: str) -> None:
            async with registry.lock("k"):
                log.append(name)

        async with registry.lock("k"):
            first, second = asyncio.create_task(waiter("first")), asyncio.create_task(waiter("second"))
            await settle()
        first.cancel()
        await settle()
        assert first.cancelled()
        assert second.done()
        assert log == ["second"]

    async def test_entered_twice_by_the_same_code_is_refused(self, world: World) -> None:
        registry = await unique(world)
        async with registry.lock("k"):
            with pytest.raises(RuntimeError, match="would wait for itself for ever"):
                async with registry.lock("k"):
                    pytest.fail("entered")
            assert len((await _rows(registry))["k"]) == 1
        async with registry.lock("k"):
            pass

    async def test_of_a_registry_that_ends_raises_in_those_who_wait(self) -> None:
        registry = await Registry[str, int]("r").start_link(keys="unique")

        async def waiter() -> None:
            async with registry.lock("k"):
                pytest.fail("entered")

        async with registry.lock("k"):
            waiting = asyncio.create_task(waiter())
            await settle()
            await stop(registry)
            with pytest.raises(NoProcess):
                await waiting
        with pytest.raises(NoProcess):
            registry.lock("k")

    async def test_is_no_registration(self, world: World) -> None:
        registry = await unique(world)
        log: list[str] = []
        one = Locker(registry, "k", log, "one")
        await settle()
        assert registry.count() == 0
        await world.stop_supervised("r")
        assert alive(one.pid)
        await one.unlock()
        assert log == ["one has it", "one gave it back"]
