"""async_stream: a function for each of many items, several at a time."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

import pytest

import beamish
from beamish import NORMAL, Failed, Ok, Task, TaskStream
from beamish.testing import capture_crashes, settle
from conftest import both_roads
from task_words import after, in_process, leave, mail, others


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


class TestResults:
    @both_roads
    @many
    async def test_they_come_in_the_order_of_the_items(self, inline: bool, max_concurrency: int) -> None:
        for items in ([1, 2, 3, 4], [4, 3, 2, 1], [0, 0, 0], [0, 5, 0, 5]):
            assert await all_of(Task.async_stream(items, after, max_concurrency=max_concurrency)) == oks(items)

    @many
    async def test_unordered_they_come_as_they_are_ready(self, max_concurrency: int) -> None:
        found = await all_of(Task.async_stream([30, 10, 20], after, max_concurrency=max_concurrency, ordered=False))
        expected = {1: [30, 10, 20], 2: [10, 30, 20], 4: [10, 20, 30], 100: [10, 20, 30]}
        assert found == oks(expected[max_concurrency])

    @many
    async def test_failures_stand_in_their_place(self, max_concurrency: int) -> None:
        with capture_crashes():
            assert await all_of(Task.async_stream(["a", "b"], leave, max_concurrency=max_concurrency)) == [Failed("a"), Failed("b")]
            zipped = Task.async_stream(["a", "b"], leave, max_concurrency=max_concurrency, zip_input_on_exit=True)
            assert await all_of(zipped) == [Failed("a", "a"), Failed("b", "b")]

    @many
    async def test_a_trapping_process_gets_them_and_no_messages(self, max_concurrency: int) -> None:
        async def owner() -> None:
            beamish.flag(trap_exit=True)

            async def odd(n: int) -> int:
                await after(n)
                return n if n % 2 else leave("even")  # type: ignore[return-value]

            found = await all_of(Task.async_stream([1, 2, 3, 4], odd, max_concurrency=max_concurrency))
            assert found == [Ok(1), Failed("even"), Ok(3), Failed("even")]
            await settle()
            assert mail() == []

        with capture_crashes():
            await in_process(owner)

    async def test_another_ends_with_the_task(self) -> None:
        async def owner() -> None:
            await all_of(Task.async_stream([1, 2], lambda _: leave("bad")))
            raise AssertionError("it goes on")

        _, ref = beamish.spawn_monitor(owner)
        with capture_crashes():
            assert (await beamish.down(ref)).reason == "bad"
        await settle()
        assert others() == []

    async def test_a_normal_exit_is_a_failure_that_ends_nobody(self) -> None:
        async def owner() -> None:
            assert await all_of(Task.async_stream([NORMAL], leave)) == [Failed(NORMAL)]

        await in_process(owner)

    @many
    async def test_no_more_than_max_concurrency_run(self, max_concurrency: int) -> None:
        now = peak = 0

        async def work(n: int) -> None:
            nonlocal now, peak
            now += 1
            peak = max(peak, now)
            await after(n % 5)
            now -= 1

        for ordered in (True, False):
            await all_of(Task.async_stream(range(200), work, max_concurrency=max_concurrency, ordered=ordered))
        assert peak <= max_concurrency
        assert peak == max_concurrency or max_concurrency == 100

    async def test_each_loop_over_it_is_a_run_of_its_own(self) -> None:
        stream = Task.async_stream([1, 2], after)
        assert await all_of(stream) == await all_of(stream) == oks([1, 2])

    async def test_two_may_be_read_side_by_side(self) -> None:
        one, two = aiter(Task.async_stream([1, 2, 3], after)), aiter(Task.async_stream([3, 2, 1], after))
        assert [(await anext(one), await anext(two)) for _ in range(3)] == [(Ok(1), Ok(3)), (Ok(2), Ok(2)), (Ok(3), Ok(1))]
        await one.aclose()
        await two.aclose()

    async def test_read_in_another_process_it_is_that_ones(self) -> None:
        seen: list[Any] = []
        stream = Task.async_stream([1, 2, 3], lambda n: seen.append((n, beamish.callers())))

        async def reader() -> None:
            await all_of(stream)

        pid, ref = beamish.spawn_monitor(reader)
        await beamish.down(ref)
        assert seen == [(n, (pid,)) for n in (1, 2, 3)]

    async def test_a_second_reader_of_one_run_is_refused(self) -> None:
        results = aiter(Task.async_stream([None], after))
        reading = asyncio.ensure_future(anext(results))
        await settle()
        with pytest.raises(RuntimeError, match="another task reads this stream"):
            await anext(results)
        reading.cancel()
        await settle()

    async def test_bad_options_are_refused_when_it_is_made(self) -> None:
        for options, text in (
            ({"max_concurrency": 0}, "max_concurrency is"),
            ({"max_concurrency": True}, "max_concurrency is"),
            ({"on_timeout": "ignore"}, "on_timeout is"),
            ({"timeout": -1}, "a timeout is"),
            ({"timeout": "x"}, "a timeout is"),
        ):
            with pytest.raises(ValueError, match=text):
                Task.async_stream([1], after, **options)  # type: ignore[call-overload]
        with pytest.raises(TypeError, match="something to iterate over"):
            Task.async_stream(1, after)  # type: ignore[call-overload]
        with pytest.raises(TypeError, match="a function and its arguments"):
            Task.async_stream([1], 2)  # type: ignore[call-overload]


class TestLaziness:
    async def test_nothing_runs_before_it_is_read(self) -> None:
        seen: list[int] = []
        stream = Task.async_stream([1, 2, 3], seen.append, max_concurrency=1)
        await settle()
        assert seen == []
        assert await take(stream, 1) == [Ok(None)]
        assert seen == [1]

    async def test_items_are_taken_as_results_are_read(self) -> None:
        taken: list[int] = []

        def numbers() -> Iterator[int]:
            for n in itertools.count():
                taken.append(n)
                yield n

        results = aiter(Task.async_stream(numbers(), after, max_concurrency=4, ordered=False))
        for read in range(1, 50):
            await anext(results)
            await settle()
            assert len(taken) <= read + 4
        await results.aclose()

    async def test_an_endless_source_of_quick_ones_can_be_read(self) -> None:
        assert await take(Task.async_stream(itertools.count(), lambda n: n, max_concurrency=8), 100) == oks(range(100))

    @pytest.mark.parametrize("is_async", [False, True])
    async def test_what_is_unread_behind_a_late_one_has_a_bound(self, is_async: bool) -> None:
        go = asyncio.Event()
        started = 0

        async def work(n: int) -> int:
            nonlocal started
            started += 1
            if n == 0:
                await go.wait()
            return n

        source: Any = slowly(range(1000)) if is_async else range(1000)
        reading = asyncio.create_task(all_of(Task.async_stream(source, work, max_concurrency=4)))
        for _ in range(50):
            await settle()
        assert started == 40
        go.set()
        assert await reading == oks(range(1000))


async def slowly(items: Iterable[Any], log: list[str] | None = None) -> AsyncIterator[Any]:
    try:
        for item in items:
            await asyncio.sleep(0)
            yield item
    finally:
        if log is not None:
            log.append("closed")


class TestAsyncSources:
    @many
    async def test_items_may_come_from_an_async_iterable(self, max_concurrency: int) -> None:
        log: list[str] = []
        found = await all_of(Task.async_stream(slowly([3, 1, 2], log), after, max_concurrency=max_concurrency))
        assert found == oks([3, 1, 2])
        assert log == ["closed"]

    async def test_leaving_early_closes_it(self) -> None:
        log: list[str] = []
        assert await take(Task.async_stream(slowly(itertools.count(), log), after), 2) == oks([0, 1])
        await settle()
        assert log == ["closed"]

    async def test_what_is_ready_is_not_held_back_by_a_source_that_waits(self) -> None:
        async def stalls() -> AsyncIterator[int]:
            yield 1
            await asyncio.Event().wait()

        results = aiter(Task.async_stream(stalls(), after, max_concurrency=4))
        assert await anext(results) == Ok(1)
        await results.aclose()

    async def test_items_are_taken_only_while_somebody_reads(self) -> None:
        taken: list[int] = []

        async def numbers() -> AsyncIterator[int]:
            for n in itertools.count():
                taken.append(n)
                yield n

        results = aiter(Task.async_stream(numbers(), after, max_concurrency=2))
        for read in range(1, 20):
            await anext(results)
            await settle()
            assert len(taken) <= read + 3
        await results.aclose()

    async def test_it_runs_in_one_task_so_that_it_may_have_scopes(self) -> None:
        async def scoped() -> AsyncIterator[int]:
            async with asyncio.timeout(60.0):
                for n in range(5):
                    yield n

        assert await all_of(Task.async_stream(scoped(), after)) == oks(range(5))


class TestWithin:
    async def test_streams_of_streams(self) -> None:
        async def inner(n: int) -> int:
            return sum([found.value async for found in Task.async_stream(range(n), after) if isinstance(found, Ok)])

        assert await all_of(Task.async_stream([3, 4], inner)) == oks([3, 6])

    async def test_a_servers_handler_reads_one(self) -> None:
        class Reader(beamish.GenServer[int]):
            def init(self) -> int:
                return 0

            @beamish.call
            async def total(self, state: int, items: list[int]) -> int:
                return sum([found.value async for found in Task.async_stream(items, after) if isinstance(found, Ok)])

        reader = await Reader.start_link()
        assert await reader.total([1, 2, 3]) == 6
        await reader.stop()

    async def test_callers_are_known(self) -> None:
        me = beamish.current()
        assert await all_of(Task.async_stream([1], lambda _: beamish.callers())) == [Ok((me,))]

    async def test_the_default_is_one_per_processor(self) -> None:
        import os

        started: list[int] = []

        async def work(n: int) -> None:
            started.append(n)
            await asyncio.Event().wait()

        results = aiter(Task.async_stream(range(1000), work))
        reading = asyncio.ensure_future(anext(results))
        await settle()
        assert len(started) == os.cpu_count()
        reading.cancel()
        await asyncio.wait([reading])
