"""async_stream: a function for each of many items, several at a time."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

import beamish
from beamish import NORMAL, Crash, Exit, Exited, Failed, Ok, Task, TaskStream, TaskTimeout
from beamish._runtime.node import here
from beamish.testing import ManualClock, World, capture_crashes, settle
from conftest import both_roads


async def all_of(stream: TaskStream[Any]) -> list[Any]:
    return [result async for result in stream]


async def take(stream: TaskStream[Any], count: int) -> list[Any]:
    taken: list[Any] = []
    async for result in stream:
        taken.append(result)
        if len(taken) == count:
            break
    return taken


async def after(turns: int) -> int:
    """`turns`, after so many turns of the loop; None never."""
    if turns is None:
        await asyncio.Event().wait()
    for _ in range(turns):
        await asyncio.sleep(0)
    return turns


def leave(reason: Any) -> None:
    raise Exit(reason)


def oks(values: Iterable[Any]) -> list[Any]:
    return [Ok(value) for value in values]


def others() -> list[Any]:
    """The processes that run beside this code."""
    return [pid for pid in beamish.processes() if pid not in here().adopted.values()]


async def in_process(fn: Callable[[], Awaitable[Any]]) -> None:
    """Run `fn` as a process; what fails in it fails here."""
    _, ref = beamish.spawn_monitor(fn)
    reason = (await beamish.down(ref)).reason
    if isinstance(reason, Crash):
        raise reason.error
    assert reason == NORMAL


def mail() -> list[Any]:
    found = beamish.info()
    assert found is not None
    return list(found.messages)


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


turns = st.integers(0, 4)


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
