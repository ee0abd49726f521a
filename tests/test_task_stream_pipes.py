"""async_stream between other iterators: sources that end early, readers that do, several side by side, and what they leave behind."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import beamish
from beamish import NORMAL, Down, Failed, Ok, Task, TaskStream
from beamish.testing import capture_crashes, settle
from task_words import after, in_process, leave, mail, never, others

many = pytest.mark.parametrize("max_concurrency", [1, 2, 4, 100])
KINDS: dict[str, Any] = {"success": [1, 2, 3, 4], "failure": ["a", "b", "c", "d"], "slowest first": [4, 3, 2, 1]}
kinds = pytest.mark.parametrize("kind", list(KINDS))


def stream_of(kind: str, max_concurrency: int) -> tuple[Any, list[Any]]:
    """A stream without an end, and the results that it begins with."""
    items = KINDS[kind]
    fn = leave if kind == "failure" else after
    return Task.async_stream(itertools.cycle(items), fn, max_concurrency=max_concurrency), [
        Failed(item) if kind == "failure" else Ok(item) for item in items
    ]


async def taken(stream: Any, count: int) -> list[Any]:
    found: list[Any] = []
    async for one in stream:
        found.append(one)
        if len(found) == count:
            break
    return found


@many
@kinds
class TestHalting:
    async def test_the_reader_halts(self, kind: str, max_concurrency: int) -> None:
        async def owner() -> None:
            beamish.flag(trap_exit=True)
            stream, expected = stream_of(kind, max_concurrency)
            assert await taken(stream, 4) == expected
            await settle()
            assert mail() == []

        with capture_crashes():
            await in_process(owner)

    async def test_the_source_halts(self, kind: str, max_concurrency: int) -> None:
        async def owner() -> None:
            beamish.flag(trap_exit=True)
            items = KINDS[kind]
            fn: Any = leave if kind == "failure" else after
            stream = Task.async_stream(itertools.islice(itertools.cycle(items), 4), fn, max_concurrency=max_concurrency)
            assert await taken(stream, 100) == stream_of(kind, 1)[1]
            assert mail() == []

        with capture_crashes():
            await in_process(owner)

    async def test_two_side_by_side(self, kind: str, max_concurrency: int) -> None:
        async def owner() -> None:
            beamish.flag(trap_exit=True)
            (one, expected), (two, _) = stream_of(kind, max_concurrency), stream_of(kind, max_concurrency)
            async with contextlib.aclosing(aiter(one)) as left, contextlib.aclosing(aiter(two)) as right:
                assert [(await anext(left), await anext(right)) for _ in range(4)] == [(each, each) for each in expected]
            await settle()
            assert mail() == []

        with capture_crashes():
            await in_process(owner)


class TestEffects:
    @many
    async def test_of_a_source_that_is_read_to_its_end(self, max_concurrency: int) -> None:
        ended: list[str] = []
        assert await taken(Task.async_stream(closing(ended, [1, 2]), after, max_concurrency=max_concurrency), 100) == [Ok(1), Ok(2)]
        assert ended == ["closed"]

    @many
    async def test_of_a_source_whose_reader_halts(self, max_concurrency: int) -> None:
        ended: list[str] = []
        assert await taken(Task.async_stream(closing(ended, itertools.count()), after, max_concurrency=max_concurrency), 1) == [Ok(0)]
        assert ended == ["closed"]

    async def test_of_an_iterator_around_it(self) -> None:
        ended: list[str] = []

        async def around() -> AsyncIterator[Any]:
            try:
                async for one in Task.async_stream(itertools.count(), after, max_concurrency=4):
                    yield one
            finally:
                ended.append("closed")

        async with contextlib.aclosing(around()) as results:
            assert await anext(results) == Ok(0)
        assert ended == ["closed"]
        await settle()
        assert others() == []

    async def test_a_stream_of_each_of_many(self) -> None:
        async def flat(streams: Iterator[TaskStream[int]]) -> AsyncIterator[Any]:
            for stream in streams:
                async for one in stream:
                    yield one

        streams = (Task.async_stream(range(n), after, max_concurrency=2) for n in itertools.count(1))
        async with contextlib.aclosing(flat(streams)) as results:
            assert await taken(results, 6) == [Ok(n) for n in (0, 0, 1, 0, 1, 2)]
        await settle()
        assert others() == []


def closing(ended: list[str], items: Any) -> Iterator[Any]:
    try:
        yield from items
    finally:
        ended.append("closed")


class TestTheMailbox:
    @many
    async def test_messages_of_others_stay(self, max_concurrency: int) -> None:
        async def owner() -> None:
            stranger = beamish.spawn(lambda: None)
            await settle()
            me = beamish.current()
            fake = Down(beamish.monitor(me), stranger, NORMAL)
            beamish.send(me, fake)
            beamish.send(me, "mine")
            assert await taken(Task.async_stream([1, 2, 3], after, max_concurrency=max_concurrency), 100) == [Ok(1), Ok(2), Ok(3)]
            assert mail() == [fake, "mine"]

        await in_process(owner)

    async def test_a_reader_that_is_told_to_exit_stops_at_once(self) -> None:
        seen: list[Any] = []

        async def owner() -> None:
            seen.extend(await taken(Task.async_stream([None], lambda _: never(), timeout=None), 1))
            seen.append("read")

        pid, ref = beamish.spawn_monitor(owner)
        await settle()
        beamish.exit(pid, "enough")
        assert (await beamish.down(ref)).reason == "enough"
        await settle()
        assert seen == []
        assert others() == []

    async def test_the_loops_body_may_take_its_time(self) -> None:
        async def owner() -> None:
            found: list[Any] = []
            async for one in Task.async_stream(range(20), after, max_concurrency=3):
                await asyncio.sleep(0)
                found.append(one)
            assert found == [Ok(n) for n in range(20)]

        await in_process(owner)
