"""A `dump` that yields: the state is taken in pieces, and the server goes on between them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import beamish
from beamish import KILL, GenServer, Init, ServerDown, Snapshot, call, snapshot
from beamish.servers import RateLimiter, SearchCache
from beamish.servers._window import SlidingWindow
from beamish.testing import ManualClock, World, capture_crashes, settle
from capturing import events

SAVED, FAILED = "beamish.snapshot.saved", "beamish.snapshot.failed"


@dataclass
class Book:
    taken: list[int]
    broken: set[int]
    pages: dict[int, str]


class Pages(GenServer[Book]):
    """Takes one page at a time."""

    def init(self, where: Snapshot, taken: list[int], broken: set[int]) -> Init:
        return Init(Book(taken, broken, {1: "a", 2: "b", 3: "c"}), snapshot=where)

    def dump(self, book: Book) -> Generator[None, None, Any]:
        pages: dict[int, str] = {}
        for key in list(book.pages):
            if key in book.broken:
                raise ValueError(f"page {key} is torn")
            pages[key] = book.pages[key]
            book.taken.append(key)
            yield
        return pages

    def restore(self, book: Book, data: Any) -> Book:
        return Book(book.taken, book.broken, data)

    @call
    def write(self, book: Book, key: int, text: str) -> list[int]:
        book.pages[key] = text
        return list(book.taken)

    @call
    async def write_later(self, book: Book, key: int, text: str, gate: asyncio.Event) -> None:
        book.pages[key] = "half"
        await gate.wait()
        book.pages[key] = text

    @call
    def fail(self, book: Book) -> None:
        raise RuntimeError("oh")


@pytest.fixture
def where(tmp_path: Path) -> Snapshot:
    return Snapshot(tmp_path / "pages.snap", every=30.0, changes=1, durability="normal")


def on_disk(where: Snapshot) -> Any:
    found = snapshot.load(where)
    return None if found is None else found.data


async def until(heard: list[Any], count: int) -> None:
    late = time.monotonic() + 10.0
    while len(heard) < count:
        assert time.monotonic() < late, f"heard {heard}"
        await asyncio.sleep(0)


async def begun(world: World, where: Snapshot, taken: list[int], broken: set[int] | None = None) -> Pages:
    """A server that has been asked to write, and has begun to take its state."""
    pages = await world.start_supervised(Pages("pages").child_spec(where, taken, broken or set()))
    assert await pages.write(1, "A") == []
    await until(taken, 1)
    return pages


async def test_messages_are_handled_between_the_pieces_and_count_for_the_next_save(
    world: World, clock: ManualClock, where: Snapshot
) -> None:
    taken: list[int] = []
    with events(SAVED) as heard:
        pages = await begun(world, where, taken)
        assert await pages.write(3, "C") == [1]
        assert await pages.write(1, "later") == [1]
        await until(heard, 1)
        assert on_disk(where) == {1: "A", 2: "b", 3: "C"}
        await until(heard, 2)
        assert on_disk(where) == {1: "later", 2: "b", 3: "C"}
        assert [measured["changes"] for _, measured, _ in heard] == [1, 2]


async def test_no_piece_is_taken_in_the_middle_of_an_async_handler(world: World, clock: ManualClock, where: Snapshot) -> None:
    taken: list[int] = []
    gate = asyncio.Event()
    with events(SAVED) as heard:
        pages = await begun(world, where, taken)
        writing = asyncio.ensure_future(pages.write_later(3, "C", gate))
        await settle()
        before = list(taken)
        for _ in range(5):
            await settle()
        gate.set()
        await writing
        assert before == [1, 2]
        await until(heard, 1)
        assert on_disk(where) == {1: "A", 2: "b", 3: "C"}
        await pages.stop()


async def test_an_end_in_the_middle_takes_the_rest_and_what_came_since(world: World, clock: ManualClock, where: Snapshot) -> None:
    taken: list[int] = []
    pages = await begun(world, where, taken)
    await pages.write(1, "last")
    await world.stop_supervised("pages")
    assert taken == [1, 2, 3] * 2
    assert on_disk(where) == {1: "last", 2: "b", 3: "c"}


async def test_a_death_in_the_middle_leaves_the_file_as_it_was(world: World, clock: ManualClock, where: Snapshot) -> None:
    taken: list[int] = []
    pages = await begun(world, where, taken)
    with capture_crashes(), pytest.raises(ServerDown):
        await pages.fail()
    await settle()
    assert taken == [1]
    assert on_disk(where) is None
    await pages.stop(KILL)
    assert await (await pages.started()).write(2, "B") == [1]


async def test_a_piece_that_fails_is_a_save_that_failed(
    world: World, clock: ManualClock, where: Snapshot, caplog: pytest.LogCaptureFixture
) -> None:
    taken: list[int] = []
    broken = {2}
    with events(SAVED, FAILED) as heard:
        pages = await begun(world, where, taken, broken)
        await until(heard, 1)
        assert heard[0][0] == FAILED
        assert "page 2 is torn" in caplog.text
        broken.clear()
        await clock.advance(30.0)
        await until(heard, 2)
        assert heard[1][1]["changes"] == 1
        assert on_disk(where) == {1: "A", 2: "b", 3: "c"}
    assert await pages.write(1, "A")


async def test_a_piece_that_is_cancelled_is_a_save_that_failed_too(world: World, clock: ManualClock, where: Snapshot) -> None:
    class Torn(Pages):
        def dump(self, book: Book) -> Generator[None, None, Any]:
            book.taken.append(0)
            if len(book.taken) == 1:
                raise asyncio.CancelledError
            yield
            return book.pages

    taken: list[int] = []
    with events(SAVED, FAILED) as heard:
        pages = await world.start_supervised(Torn("pages").child_spec(where, taken, set()))
        await pages.write(1, "A")
        await until(heard, 1)
        await pages.write(2, "B")
        await until(heard, 2)
        assert [name for name, _, _ in heard] == [FAILED, SAVED]
        assert on_disk(where) == {1: "A", 2: "B", 3: "c"}


async def test_the_next_piece_goes_before_the_mail_of_a_busy_server(world: World, clock: ManualClock, where: Snapshot) -> None:
    taken: list[int] = []
    gates = [asyncio.Event() for _ in range(6)]
    with events(SAVED) as heard:
        pages = await begun(world, where, taken)
        writing = [asyncio.ensure_future(pages.write_later(9, "i", gate)) for gate in gates]
        for gate in gates[:3]:
            await settle()
            gate.set()
        await until(heard, 1)
        assert not writing[4].done()
        for gate in gates:
            gate.set()
        await asyncio.gather(*writing)
        await until(heard, 2)


async def test_who_ends_in_the_middle_by_its_own_hand_writes_nothing(world: World, clock: ManualClock, where: Snapshot) -> None:
    class Desperate(Pages):
        def dump(self, book: Book) -> Generator[None, None, Any]:
            yield
            pid = self.pid()
            assert pid is not None
            beamish.exit(pid, KILL)
            return book.pages

    taken: list[int] = []
    with events(SAVED, FAILED) as heard, capture_crashes():
        pages = await Desperate("pages").start(where, taken, set())
        await pages.write(1, "A")
        for _ in range(20):
            await settle()
    assert pages.pid() is None
    assert heard == []
    assert on_disk(where) is None


def test_idle_keys_of_a_limiter_are_passed_over_piece_by_piece() -> None:
    window = SlidingWindow[int](5, 60.0, 10_000)
    for key in range(5000):
        window.track(key, 0.0)
    window.track(5000, 50.0)
    pieces = list(window.pieces(61.0))
    assert len(pieces) == 6
    assert [piece for piece in pieces if piece[0]] == [([5000], [1], [49.0], [1])]


async def test_a_large_cache_and_a_large_limiter_are_used_while_they_are_saved(world: World, clock: ManualClock, tmp_path: Path) -> None:
    options = {"every": None, "durability": "normal"}
    kept: Any = {name: Snapshot(tmp_path / name, changes=5000, **options) for name in ("cache", "limiter")}  # type: ignore[arg-type]
    cache, limiter = SearchCache[int, int]("cache"), RateLimiter("limiter")
    specs = cache.child_spec(limit=9000, ttl=60.0, snapshot=kept["cache"]), limiter.child_spec(limit=2, snapshot=kept["limiter"])
    for spec in specs:
        await world.start_supervised(spec)
    with events(SAVED) as heard:
        for n in range(5000):
            cache.cache(n, n)
            await limiter.track(n)
        assert await cache.fetch(4999) == 4999  # and with that its mail is handled
        for n in range(100):
            await cache.put(n, -1)
            await limiter.track(n, 2)
            await asyncio.sleep(0)
        await until(heard, 2)
    for name in ("cache", "limiter"):
        await world.stop_supervised(name)
    for spec in specs:
        await world.start_supervised(spec)
    assert [await cache.fetch(n) for n in (0, 99, 100, 4999)] == [-1, -1, 100, 4999]
    assert [(await limiter.peek(n)).remaining for n in (0, 99, 100, 5000)] == [1, 1, 1, 2]
