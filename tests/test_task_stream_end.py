"""How an async_stream ends: timeouts, loops that are left early, sources that raise; and any stream at all."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

import beamish
from beamish import Exit, Exited, Failed, Ok, Task, TaskStream, TaskTimeout
from beamish.testing import ManualClock, World, capture_crashes, settle
from task_words import after, in_process, mail, others


async def all_of(stream: TaskStream[Any]) -> list[Any]:
    return [result async for result in stream]


async def take(stream: TaskStream[Any], count: int) -> list[Any]:
    taken: list[Any] = []
    async for result in stream:
        taken.append(result)
        if len(taken) == count:
            break
    return taken


def oks(values: Iterable[Any]) -> list[Any]:
    return [Ok(value) for value in values]


many = pytest.mark.parametrize("max_concurrency", [1, 2, 4, 100])


async def slowly(items: Iterable[Any], log: list[str] | None = None) -> AsyncIterator[Any]:
    try:
        for item in items:
            await asyncio.sleep(0)
            yield item
    finally:
        if log is not None:
            log.append("closed")


turns = st.integers(0, 4)


class TestASourceThatRaises:
    @pytest.mark.parametrize("is_async", [False, True])
    async def test_its_error_reaches_the_reader_and_what_runs_ends(self, is_async: bool) -> None:
        def broken() -> Iterator[Any]:
            yield None
            raise LookupError("source")

        async def broken_too() -> AsyncIterator[Any]:
            yield None
            raise LookupError("source")

        stream = Task.async_stream(broken_too() if is_async else broken(), after, max_concurrency=4)
        with pytest.raises(LookupError, match="source"):
            await all_of(stream)
        assert others() == []

    async def test_after_its_end_there_is_nothing(self) -> None:
        results = aiter(Task.async_stream([1], after))
        assert await anext(results) == Ok(1)
        for _ in range(2):
            with pytest.raises(StopAsyncIteration):
                await anext(results)


class TestTimeouts:
    async def test_exit_raises_and_ends_the_others(self, clock: ManualClock) -> None:
        reading = asyncio.create_task(all_of(Task.async_stream([1, None, None], after, timeout=2.0, max_concurrency=3)))
        await clock.advance(2.0)
        with pytest.raises(TaskTimeout, match=r"after: the task for None had not ended after 2.0 s") as caught:
            await reading
        assert isinstance(caught.value, TimeoutError)
        assert others() == []

    async def test_five_seconds_unless_told(self, clock: ManualClock) -> None:
        reading = asyncio.create_task(all_of(Task.async_stream([None], after)))
        await clock.advance(4.9)
        assert not reading.done()
        await clock.advance(0.2)
        with pytest.raises(TaskTimeout):
            await reading

    async def test_none_is_for_ever(self, clock: ManualClock) -> None:
        go = asyncio.Event()
        reading = asyncio.create_task(all_of(Task.async_stream([1], lambda _: go.wait(), timeout=None)))
        await clock.advance(10_000.0)
        go.set()
        assert await reading == [Ok(True)]

    @pytest.mark.parametrize("ordered", [True, False])
    async def test_kill_task_goes_on_without_it(self, clock: ManualClock, ordered: bool) -> None:
        options: Any = {"timeout": 1.0, "on_timeout": "kill_task", "max_concurrency": 3, "ordered": ordered}
        reading = asyncio.create_task(all_of(Task.async_stream([1, None, 2], after, **options)))
        await clock.advance(1.0)
        assert await reading == ([Ok(1), Failed("timeout"), Ok(2)] if ordered else [Ok(1), Ok(2), Failed("timeout")])
        reading = asyncio.create_task(all_of(Task.async_stream([1, None], after, **options, zip_input_on_exit=True)))
        await clock.advance(1.0)
        assert await reading == [Ok(1), Failed("timeout", None)]

    async def test_its_finally_blocks_run_and_its_place_is_free_when_it_has_ended(self, clock: ManualClock) -> None:
        running = peak = 0

        async def stubborn(n: int) -> int:
            nonlocal running, peak
            running += 1
            peak = max(peak, running)
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                running -= 1
            return n

        reading = asyncio.create_task(all_of(Task.async_stream(range(3), stubborn, timeout=1.0, on_timeout="kill_task", max_concurrency=1)))
        await clock.advance(3.0)
        assert await reading == [Failed("timeout")] * 3
        assert (running, peak) == (0, 1)

    async def test_one_that_does_not_listen_is_killed_in_the_end(self, clock: ManualClock) -> None:
        async def deaf(n: int) -> None:
            beamish.flag(trap_exit=True)
            await asyncio.Event().wait()

        reading = asyncio.create_task(all_of(Task.async_stream([1], deaf, timeout=1.0, on_timeout="kill_task")))
        await clock.advance(1.0)
        await clock.advance(5.0)
        assert await reading == [Failed("timeout")]
        assert others() == []


class TestLeavingEarly:
    """What runs ends, and nothing is left: no process, no message, no timer (the world looks at that)."""

    @many
    @pytest.mark.parametrize("ordered", [True, False])
    async def test_break(self, max_concurrency: int, ordered: bool) -> None:
        async def owner() -> None:
            beamish.flag(trap_exit=True)
            options: Any = {"max_concurrency": max_concurrency, "ordered": ordered}
            assert await take(Task.async_stream([0, None, None, None], after, **options), 1) == [Ok(0)]
            await settle()
            assert others() == [beamish.current()]
            assert mail() == []

        await in_process(owner)

    async def test_an_error_in_the_loop(self) -> None:
        async def reads() -> None:
            async for _ in Task.async_stream([0, None, None], after, max_concurrency=3):
                raise LookupError

        with pytest.raises(LookupError):
            await reads()
        await settle()
        assert others() == []

    async def test_a_cancellation_waits_for_their_end(self) -> None:
        ended: list[int] = []

        async def work(n: int) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                ended.append(n)

        reading = asyncio.create_task(all_of(Task.async_stream([1, 2, 3], work, max_concurrency=2)))
        await settle()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert ended == [1, 2]

    async def test_aclose_waits_for_their_end(self) -> None:
        ended: list[int] = []

        async def work(n: int) -> int:
            if n == 0:
                return n
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                ended.append(n)
            return n

        async with contextlib.aclosing(aiter(Task.async_stream([0, 1, 2], work, max_concurrency=3))) as results:
            assert await anext(results) == Ok(0)
        assert ended == [1, 2]
        with pytest.raises(StopAsyncIteration):
            await anext(results)

    async def test_the_owners_death(self) -> None:
        async def owner() -> None:
            await all_of(Task.async_stream([None, None], after))

        pid, ref = beamish.spawn_monitor(owner)
        await settle()
        assert len(others()) > 1
        beamish.exit(pid, beamish.KILL)
        await beamish.down(ref)
        await settle()
        assert others() == []

    async def test_a_run_that_is_dropped_unread(self) -> None:
        begun: list[int] = []
        results = aiter(Task.async_stream([1], begun.append))
        del results
        await settle()
        assert begun == []

    async def test_a_run_that_is_dropped_in_another_thread(self) -> None:
        box = [aiter(Task.async_stream([0, None], after, max_concurrency=2))]
        assert await anext(box[0]) == Ok(0)
        await asyncio.to_thread(box.clear)
        await settle()
        assert others() == []

    async def test_a_killed_one_tells_nobody(self) -> None:
        async def owner() -> None:
            beamish.flag(trap_exit=True)
            stream = Task.async_stream([0, None], after, max_concurrency=2)
            async for _ in stream:
                break
            await settle()
            assert [one for one in mail() if isinstance(one, Exited)] == []

        await in_process(owner)


class TestAnyStream:
    @settings(max_examples=60, deadline=None)
    @given(
        items=st.lists(turns, max_size=30),
        bad=st.sets(st.integers(0, 29), max_size=5),
        max_concurrency=st.integers(1, 6),
        ordered=st.booleans(),
        is_async=st.booleans(),
        inline=st.booleans(),
    )
    def test_every_item_has_its_result_and_nothing_is_left(
        self, items: list[int], bad: set[int], max_concurrency: int, ordered: bool, is_async: bool, inline: bool
    ) -> None:
        async def work(item: tuple[int, int]) -> tuple[int, int]:
            await after(item[1])
            if item[0] in bad:
                raise Exit(item)
            return item

        async def main() -> None:
            async with World(inline=inline):
                numbered = list(enumerate(items))
                source: Any = slowly(numbered) if is_async else numbered
                found = await all_of(Task.async_stream(source, work, max_concurrency=max_concurrency, ordered=ordered))
                expected = [Failed(item) if item[0] in bad else Ok(item) for item in numbered]
                assert found == expected if ordered else sorted(found, key=repr) == sorted(expected, key=repr)
                await settle()
            assert asyncio.all_tasks() == {asyncio.current_task()}

        with capture_crashes():
            asyncio.run(main())
