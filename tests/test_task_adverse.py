"""Tasks that do not behave, and moments that are seldom met."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

import beamish
from beamish import KILL, KILLED, NORMAL, Crash, Failed, Ok, Task, TaskSupervisor, WrongLoop
from beamish.testing import ManualClock, World, capture_crashes, settle
from conftest import both_roads
from task_words import after, boom, deaf, died, double, in_process, leave, never, others


class TestOnesThatEndThemselves:
    @both_roads
    @pytest.mark.parametrize("how", ["plain", "coroutine", "raises", "async"])
    async def test_by_a_kill(self, inline: bool, how: str) -> None:
        sent: list[Any] = []

        def dies() -> Any:
            try:
                beamish.exit(beamish.current(), KILL)
            except asyncio.CancelledError:  # the dead may not act, whatever they catch
                beamish.send(watcher, "from the dead")
            if how == "coroutine":
                return double(1)
            if how == "raises":
                boom()
            return None

        async def dies_later() -> None:
            await asyncio.sleep(0)
            dies()
            await asyncio.sleep(0)
            beamish.send(watcher, "from the dead")

        async def watch() -> None:
            sent.append(await beamish.receive())

        watcher = beamish.spawn(watch)
        task = Task.async_(dies_later if how == "async" else dies)
        assert await task.yield_() == Failed(KILLED)
        await settle()
        assert sent == []
        beamish.exit(watcher, KILL)
        await settle()
        assert others() == []

    async def test_by_an_exit_that_is_caught(self) -> None:
        def leaves() -> Any:
            try:
                beamish.exit(beamish.current(), "bad")
            except asyncio.CancelledError:
                pass
            return double(1)

        assert await Task.async_(leaves).yield_() == Failed("bad")


class TestOnesThatAreKilled:
    async def test_and_swallow_that(self) -> None:
        """Its code is cut off, and never waited for."""

        async def stubborn() -> None:
            while True:
                try:
                    await never()
                except asyncio.CancelledError:
                    pass

        task = Task.async_(stubborn)
        assert await task.shutdown("brutal_kill") is None
        with capture_crashes() as reports:
            await settle()
        assert any("cut off" in one.getMessage() for one in reports)
        assert others() == []

    async def test_while_their_finally_block_waits(self) -> None:
        async def slow() -> None:
            try:
                await never()
            finally:
                await asyncio.Event().wait()

        task = Task.async_(slow)
        ending = asyncio.create_task(task.shutdown())
        await settle()
        assert not ending.done()
        assert task.pid is not None
        beamish.exit(task.pid, KILL)
        with capture_crashes():
            assert await ending == Failed(KILLED)
            await settle()


class TestThingsThatEndTheProgram:
    @pytest.mark.parametrize("is_async", [True, False])
    def test_a_keyboard_interrupt_goes_through(self, is_async: bool) -> None:
        def interrupted() -> None:
            raise KeyboardInterrupt

        async def interrupted_later() -> None:
            await asyncio.sleep(0)
            raise KeyboardInterrupt

        async def main() -> None:
            await Task.async_(interrupted_later if is_async else interrupted)

        with capture_crashes(), pytest.raises(KeyboardInterrupt):
            asyncio.run(main())

    def test_in_a_thread_it_is_the_tasks(self) -> None:
        def leaves() -> None:
            raise SystemExit(3)

        async def main() -> None:
            await Task.blocking(leaves)

        with capture_crashes(), pytest.raises(SystemExit) as caught:
            asyncio.run(main())
        assert caught.value.code == 3


class TestOwnersThatEnd:
    @pytest.mark.parametrize("verb", ["await", "yield", "shutdown", "many", "yield_many", "stream"])
    async def test_while_they_wait(self, verb: str) -> None:
        """The link's reason is what an owner dies of, and what it waited for gives it nothing any more."""
        went_on: list[str] = []

        async def fails() -> None:
            await after(3)
            leave("bad")

        async def owner() -> None:
            if verb == "stream":
                async for _ in Task.async_stream([1], lambda _: fails()):
                    pass
            else:
                task = Task.async_(fails)
                waits: dict[str, Callable[[], Any]] = {
                    "await": task.await_,
                    "yield": task.yield_,
                    "shutdown": lambda: Task.async_(deaf).shutdown(),
                    "many": lambda: Task.await_many([task, Task.async_(never)]),
                    "yield_many": lambda: Task.yield_many([task, Task.async_(never)]),
                }
                await waits[verb]()
            went_on.append(verb)

        assert await died(owner) == "bad"
        assert went_on == []
        with capture_crashes():
            await settle()
        assert others() == []

    async def test_by_a_task_that_was_done_at_once(self) -> None:
        went_on: list[str] = []

        async def owner(wait: Any) -> None:
            task = Task.async_(boom)
            await wait(task)
            went_on.append("went on")

        for wait in (Task.await_, Task.yield_, Task.shutdown, lambda task: Task.await_many([task]), lambda task: Task.yield_many([task])):
            reason = await died(lambda wait=wait: owner(wait))  # type: ignore[misc]
            assert isinstance(reason, Crash)
        assert went_on == []

    async def test_a_callback_of_the_loop_has_no_end(self) -> None:
        started: list[Task[Any]] = []
        asyncio.get_running_loop().call_soon(lambda: started.append(Task.async_(never)))
        await settle()
        assert await started[0].shutdown() is None


class TestStreams:
    async def test_of_another_loop(self) -> None:
        results = aiter(Task.async_stream([1, 2], after))
        assert await anext(results) == Ok(1)

        async def elsewhere() -> None:
            await anext(results)

        with pytest.raises(WrongLoop):
            await asyncio.to_thread(asyncio.run, elsewhere())
        await results.aclose()

    async def test_brutal_ends(self, world: World, clock: ManualClock) -> None:
        tasks = await world.start_supervised(TaskSupervisor("tasks").child_spec(shutdown="brutal_kill"))
        stream = tasks.async_stream_nolink([1], deaf, timeout=1.0, on_timeout="kill_task", shutdown="brutal_kill")
        reading = asyncio.create_task(anext(aiter(stream)))
        await clock.advance(1.0)
        assert await reading == Failed("timeout")
        assert await tasks.children() == []

    async def test_timeouts_after_the_end_are_nobodys(self, clock: ManualClock) -> None:
        async for _ in Task.async_stream([0, None], after, timeout=1.0, max_concurrency=2):
            break
        await clock.advance(2.0)
        assert others() == []

    async def test_an_item_that_is_late_and_ends_in_time_to_be_read(self, clock: ManualClock) -> None:
        """on_timeout="exit" is decided by the clock, also when nobody reads at that moment."""
        results = aiter(Task.async_stream([0, None], after, timeout=1.0, max_concurrency=2))
        assert await anext(results) == Ok(0)
        await clock.advance(1.0)
        with pytest.raises(TimeoutError):
            await anext(results)
        assert others() == []

    async def test_repr(self) -> None:
        assert repr(Task.async_stream([1], after)) == "<TaskStream of task_words.after>"


class TestSwitchedOff:
    async def test_a_logger_that_hears_nothing(self) -> None:
        logger = logging.getLogger("beamish.task")
        logger.setLevel(logging.CRITICAL)
        try:
            with capture_crashes() as reports:
                await Task.async_(boom).yield_()
        finally:
            logger.setLevel(logging.NOTSET)
        assert reports == []


class TestManyAtOnce:
    @both_roads
    async def test_ten_thousand(self, inline: bool) -> None:
        async def owner() -> None:
            tasks = [Task.async_(after, n % 7) for n in range(10_000)]
            assert sum(await Task.await_many(tasks)) == sum(n % 7 for n in range(10_000))

        await in_process(owner)

    async def test_a_chain_of_owners(self) -> None:
        """Each waits for the next; the last one crashes, and all die of that."""

        async def chain(depth: int) -> None:
            if depth:
                await Task.async_(chain, depth - 1).await_(None)
            else:
                leave("bottom")

        assert await died(lambda: chain(1000)) == "bottom"
        with capture_crashes():
            await settle()
        assert others() == []

    async def test_normal_ends_by_the_thousand(self) -> None:
        found = await Task.yield_many([Task.async_(leave, NORMAL) for _ in range(1000)])
        assert {result for _, result in found} == {Failed(NORMAL)}
