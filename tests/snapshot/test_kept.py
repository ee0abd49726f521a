"""Servers whose state is kept: saved by time, by number and at the end, loaded before the start returns; and disks that fail."""
# ruff: noqa: ASYNC240

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import beamish
from beamish import (
    KILL,
    NORMAL,
    SHUTDOWN,
    Answer,
    Continue,
    Crash,
    Exit,
    GenServer,
    Ignore,
    Ignored,
    Init,
    ServerDown,
    Shutdown,
    StartError,
    StateMachine,
    Stop,
    Supervisor,
    TimedOut,
    Timeout,
    _snapshot_claim,
    _snapshot_file,
    blocking,
    call,
    cast,
    codec,
    monitor,
    snapshot,
    sys as system,
)
from beamish.snapshot import Snapshot
from beamish.testing import ManualClock, VirtualLoop, World, capture_crashes, settle
from capturing import events
from conftest import both_roads

SAVED, FAILED, LOADED, DAMAGED = (f"beamish.snapshot.{word}" for word in ("saved", "failed", "loaded", "damaged"))


class Numbers(GenServer[list[int]]):
    """Keeps its state where its start says."""

    def init(self, where: Snapshot) -> Init:
        return Init([], snapshot=where)

    @call
    def add(self, state: list[int], n: int) -> list[int]:
        state.append(n)
        return list(state)

    @call
    async def add_later(self, state: list[int], n: int, gate: asyncio.Event) -> list[int]:
        state.append(-n)
        await gate.wait()
        state[-1] = n
        return list(state)

    @cast
    def put(self, state: list[int], n: int) -> None:
        state.append(n)

    @call
    def get(self, state: list[int]) -> list[int]:
        return list(state)

    @call
    def end(self, state: list[int], reason: Any) -> Answer[str]:
        return Stop(reason, reply="bye")

    @call
    def fail(self, state: list[int]) -> None:
        raise ValueError("oh")

    @call
    def leave(self, state: list[int]) -> None:
        raise Exit(SHUTDOWN)

    def handle_info(self, state: list[int], message: Any) -> Any:
        if isinstance(message, int):
            state.append(message)


class Tidy(Numbers):
    def terminate(self, state: list[int], reason: Any) -> None:
        state.append(1000)


class Careful(Numbers):
    """Traps exits."""

    async def init(self, where: Snapshot) -> Init:  # type: ignore[override]
        await asyncio.sleep(0)
        beamish.flag(trap_exit=True)
        return Init([], snapshot=where)


@dataclass
class Shop:
    open: bool
    orders: dict[int, str] = field(default_factory=dict)
    visitors: int = 0


class Large(GenServer[Shop]):
    def init(self, where: Snapshot) -> Init:
        return Init(Shop(open=True), snapshot=where)

    def dump(self, state: Shop) -> Any:
        return dict(state.orders)

    def restore(self, state: Shop, data: Any) -> Shop:
        state.orders = data
        return state

    @call
    def order(self, state: Shop, id: int, what: str) -> Shop:
        state.orders[id] = what
        state.visitors += 1
        return state


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "numbers.snap"


@pytest.fixture
def where(path: Path) -> Snapshot:
    return Snapshot(path, every=30.0, durability="normal")


def on_disk(path: Path) -> Any:
    found = snapshot.load(path)
    return None if found is None else found.data


async def until(heard: list[Any], count: int) -> None:
    """Wait for a thread to have done its work, which no clock of ours moves."""
    late = time.monotonic() + 10.0
    while len(heard) < count:
        assert time.monotonic() < late, f"heard {heard}"
        await asyncio.sleep(0)


@contextmanager
def gated(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Writes wait until the event is set."""
    gate, real = threading.Event(), snapshot.save_chunks

    def slow(*arguments: Any) -> int:
        assert gate.wait(30)
        return real(*arguments)

    monkeypatch.setattr(_snapshot_claim, "save_chunks", slow)
    yield gate
    gate.set()


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """A disk that is full for a while."""
    real = _snapshot_file._write_all

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    return lambda on: monkeypatch.setattr(_snapshot_file, "_write_all", full if on else real)


class TestWhen:
    @both_roads
    async def test_it_is_saved_so_many_seconds_after_the_first_change(
        self, world: World, clock: ManualClock, where: Snapshot, path: Path
    ) -> None:
        numbers = await world.start_supervised(Numbers.child_spec(where))
        with events(SAVED) as heard:
            await numbers.add(1)
            await clock.advance(29.0)
            await numbers.add(2)
            assert on_disk(path) is None
            await clock.advance(1.0)
            await until(heard, 1)
            assert on_disk(path) == [1, 2]
            [(_, measured, facts)] = heard
            assert measured["changes"] == 2
            assert measured["bytes"] == path.stat().st_size
            assert measured["duration"] > 0
            assert (facts["path"], facts["server"]) == (str(path), numbers)

    async def test_a_server_that_nobody_uses_saves_nothing_and_has_no_timer(
        self, world: World, clock: ManualClock, where: Snapshot, path: Path
    ) -> None:
        await world.start_supervised(Numbers.child_spec(where))
        assert len(world.node.wheel) == 0
        await clock.advance(1000.0)
        assert on_disk(path) is None

    @both_roads
    async def test_it_is_saved_after_so_many_changes(self, world: World, path: Path) -> None:
        numbers = await world.start_supervised(Numbers.child_spec(Snapshot(path, every=None, changes=3)))
        with events(SAVED) as heard:
            await numbers.add(1)
            numbers.put(2)
            await settle()
            assert not heard
            beamish.send(numbers, 3)
            await until(heard, 1)
            assert on_disk(path) == [1, 2, 3]
            for n in range(4, 10):
                await numbers.add(n)
            await until(heard, 2)

    async def test_what_came_while_it_was_written_is_counted_for_the_next(
        self, world: World, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        numbers = await world.start_supervised(Numbers.child_spec(Snapshot(path, every=None, changes=2)))
        with events(SAVED) as heard:
            with gated(monkeypatch) as gate:
                for n in range(5):
                    await numbers.add(n)
                    await settle()
                assert not heard
                gate.set()
                await until(heard, 2)
            assert [one.measurements["changes"] for one in heard] == [2, 3]
            assert on_disk(path) == [0, 1, 2, 3, 4]

    async def test_a_beat_that_comes_while_it_is_written_is_not_lost(
        self, world: World, clock: ManualClock, where: Snapshot, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        numbers = await world.start_supervised(Numbers.child_spec(where))
        with events(SAVED) as heard, gated(monkeypatch) as gate:
            await numbers.add(1)
            await clock.advance(30.0)
            await numbers.add(2)
            await clock.advance(30.0)
            gate.set()
            await until(heard, 2)
        assert on_disk(path) == [1, 2]

    async def test_the_state_is_that_of_one_moment_between_two_messages(
        self, world: World, clock: ManualClock, where: Snapshot, path: Path
    ) -> None:
        numbers = await world.start_supervised(Numbers.child_spec(where))
        gate = asyncio.Event()
        with events(SAVED) as heard:
            await numbers.add(1)
            later = asyncio.ensure_future(numbers.with_timeout(None).add_later(2, gate))
            await clock.advance(30.0)
            await settle()
            assert not heard
            gate.set()
            assert await later == [1, 2]
            await until(heard, 1)
        assert on_disk(path) == [1, 2]

    async def test_an_idle_timeout_goes_on_as_if_nothing_had_been_saved(self, world: World, clock: ManualClock, path: Path) -> None:
        class Idle(GenServer[list[str]]):
            def init(self) -> Init:
                return Init([], snapshot=Snapshot(path, every=3.0))

            @call
            def touch(self, state: list[str]) -> Answer[None]:
                return beamish.Reply(None, then=Timeout(10.0))

            def handle_info(self, state: list[str], message: Any) -> None:
                assert message == TimedOut()
                seen.append(clock.now())

        seen: list[float] = []
        idle = await world.start_supervised(Idle.child_spec())
        begin = clock.now()
        with events(SAVED) as heard:
            await idle.touch()
            await clock.advance(3.0)
            await until(heard, 1)
            await clock.advance(7.0)
        assert seen == [begin + 10.0]

    @pytest.mark.parametrize("watched", [False, True])
    async def test_a_dump_that_sends_the_server_a_message(self, watched: bool, world: World, clock: ManualClock, path: Path) -> None:
        class Echo(GenServer[list[str]]):
            def init(self) -> Init:
                return Init([], snapshot=Snapshot(path, every=3.0))

            def dump(self, state: list[str]) -> list[str]:
                beamish.send(self, "dumped")
                assert beamish.current() == self.pid()
                return list(state)

            @call
            def get(self, state: list[str]) -> list[str]:
                return list(state)

            def handle_info(self, state: list[str], message: Any) -> None:
                state.append(message)
                handled.append(message)

        handled: list[Any] = []

        echo = await world.start_supervised(Echo.child_spec())
        if watched:
            await system.statistics(echo, True)
        with events(SAVED) as heard:
            await echo.get()
            await clock.advance(3.0)
            await until(heard, 1)
            await settle()
        assert handled[0] == "dumped"
        assert (await echo.get())[0] == "dumped"

    async def test_replace_state_is_a_change(self, world: World, clock: ManualClock, where: Snapshot, path: Path) -> None:
        numbers = await world.start_supervised(Numbers.child_spec(where))
        with events(SAVED) as heard:
            await system.replace_state(numbers, lambda state: [7])
            await clock.advance(30.0)
            await until(heard, 1)
        assert on_disk(path) == [7]

    async def test_a_suspended_server_is_saved_as_it_is(self, world: World, clock: ManualClock, where: Snapshot, path: Path) -> None:
        numbers = await world.start_supervised(Numbers.child_spec(where))
        with events(SAVED) as heard:
            await numbers.add(1)
            await system.suspend(numbers)
            numbers.put(2)
            await clock.advance(30.0)
            await until(heard, 1)
            assert on_disk(path) == [1]
            await system.resume(numbers)
            assert await numbers.get() == [1, 2]

    async def test_a_code_change_is_a_change(self, world: World, clock: ManualClock, path: Path) -> None:
        class Coded(Numbers):
            def code_change(self, state: list[int], version: Any, extra: Any) -> list[int]:
                return [n * 2 for n in state]

        numbers = await world.start_supervised(Coded.child_spec(Snapshot(path, every=None)))
        await numbers.add(4)
        await system.suspend(numbers)
        await system.change_code(numbers, 2)
        await system.resume(numbers)
        await world.stop_supervised(Coded)
        assert on_disk(path) == [8]


class TestStart:
    @pytest.mark.parametrize("cls", [Numbers, Careful])
    async def test_what_was_saved_is_there_when_the_start_returns(
        self, cls: type[Numbers], world: World, where: Snapshot, path: Path
    ) -> None:
        snapshot.save(path, [1, 2, 3])
        with events(LOADED) as heard:
            numbers = await world.start_supervised(cls.child_spec(where))
            assert await numbers.get() == [1, 2, 3]
        assert [one.metadata["path"] for one in heard] == [str(path)]

    async def test_the_class_keyword(self, world: World, path: Path) -> None:
        class Kept(GenServer[dict[str, int]], snapshot=Snapshot(path, changes=1)):
            def init(self) -> dict[str, int]:
                return {"starts": 0}

            def restore(self, state: dict[str, int], data: Any) -> dict[str, int]:
                return {"starts": data["starts"] + 1}

            @call
            def get(self, state: dict[str, int]) -> int:
                return state["starts"]

        for starts in range(3):
            kept = await Kept.start_link()
            assert await kept.get() == starts
            await kept.stop()

    async def test_a_path_is_enough(self, world: World, path: Path) -> None:
        class Kept(GenServer[str], snapshot=path):
            def init(self) -> str:
                return "new"

            @call
            def get(self, state: str) -> str:
                return state

        snapshot.save(path, "old")
        kept = await Kept("kept").start_link()
        assert await kept.get() == "old"
        await kept.stop()

    async def test_restore_may_be_async_and_raise(self, world: World, where: Snapshot, path: Path) -> None:
        class Slow(Numbers):
            async def restore(self, state: list[int], data: Any) -> list[int]:
                await asyncio.sleep(0)
                if 0 in data:
                    raise ValueError("no zero")
                return [*data, 9]

        snapshot.save(path, [1])
        slow = await Slow.start_link(where)
        assert await slow.get() == [1, 9]
        await slow.stop()
        snapshot.save(path, [0])
        with capture_crashes(), pytest.raises(StartError, match="no zero"):
            await Slow.start(where)
        assert on_disk(path) == [0]

    async def test_what_init_wanted_to_do_next_is_done(self, world: World, where: Snapshot, path: Path) -> None:
        class Going(Numbers):
            def init(self, where: Snapshot) -> Init:
                return Init([], then=Continue("on"), snapshot=where)

            def handle_continue(self, state: list[int], arg: Any) -> None:
                state.append(99)

        snapshot.save(path, [1])
        going = await world.start_supervised(Going.child_spec(where))
        assert await going.get() == [1, 99]

    async def test_an_init_that_says_no_takes_no_file(self, world: World, path: Path) -> None:
        class No(GenServer[None], snapshot=path):
            def init(self, answer: Any) -> Any:
                return answer

        with pytest.raises(Ignored):
            await No.start(Ignore())
        with capture_crashes(), pytest.raises(StartError):
            await No.start(Stop("no"))
        assert list(path.parent.iterdir()) == []

    async def test_a_damaged_file_is_set_aside_and_said(
        self, world: World, where: Snapshot, path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        snapshot.save(path, [1])
        snapshot.save(path, [2])
        path.write_bytes(path.read_bytes()[:-3])
        with events(DAMAGED) as heard:
            numbers = await world.start_supervised(Numbers.child_spec(where))
        assert await numbers.get() == [1]
        [(_, _, facts)] = heard
        assert facts["why"].startswith("it is cut off")
        assert facts["moved"].startswith(f"{path}.damaged-")
        assert facts["server"] == numbers
        assert "numbers.snap is damaged" in caplog.text

    async def test_all_are_damaged_and_that_is_said(
        self, world: World, where: Snapshot, path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        for n in range(2):
            snapshot.save(path, [n])
        for one in (path, path.with_name(f"{path.name}.1")):
            one.write_bytes(one.read_bytes()[:-3])
        numbers = await world.start_supervised(Numbers("n").child_spec(where))
        assert await numbers.get() == []
        first, second = (record.message for record in caplog.records)
        assert "no older one" not in first
        assert second.endswith("; no older one is left: Numbers('n') begins with the state that its init made")

    async def test_a_load_is_told_to_whoever_asks(
        self, world: World, where: Snapshot, path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        snapshot.save(path, [1])
        with caplog.at_level(logging.INFO, "beamish.snapshot"):
            await world.start_supervised(Numbers("n").child_spec(where))
        assert f"Numbers('n') begins with the snapshot {path}, of 2" in caplog.text

    async def test_a_newer_file_fails_the_start_and_stays(self, world: World, where: Snapshot, path: Path) -> None:
        snapshot.save(Snapshot(path, version=2, migrations={1: list}), [1])
        before = path.read_bytes()
        with capture_crashes(), pytest.raises(StartError, match="holds data of version 2"):
            await Numbers.start(where)
        assert path.read_bytes() == before
        await world.start_supervised(Numbers.child_spec(Snapshot(path, version=2, migrations={1: list})))

    async def test_a_folder_that_is_not_there_fails_the_start(self, world: World, tmp_path: Path) -> None:
        with capture_crashes(), pytest.raises(StartError, match="Make its folder"):
            await Numbers.start(Snapshot(tmp_path / "none" / "x.snap"))

    async def test_two_servers_with_one_file(self, world: World, where: Snapshot, path: Path) -> None:
        one = await world.start_supervised(Numbers("one").child_spec(where))
        with (
            capture_crashes(),
            pytest.raises(StartError, match=r"numbers.snap is in use by Numbers\('one'\): each server needs a file of its own"),
        ):
            await Numbers("two").start(Snapshot(path.parent / "." / path.name))
        assert await one.get() == []
        await world.stop_supervised("one")
        await world.start_supervised(Numbers("two").child_spec(where))

    async def test_one_that_is_killed_while_it_loads_lets_go_of_the_file(
        self, world: World, where: Snapshot, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gate, real = threading.Event(), snapshot.load_quietly

        def slow(given: Any) -> Any:
            assert gate.wait(30)
            return real(given)

        monkeypatch.setattr(_snapshot_claim, "load_quietly", slow)
        starting = asyncio.ensure_future(Numbers("slow").start(where))
        await settle()
        pid = beamish.whereis("slow")
        assert pid is not None
        beamish.exit(pid, KILL)
        with capture_crashes(), pytest.raises(StartError):
            await starting
        second = asyncio.ensure_future(Numbers.start(where))
        await settle()
        gate.set()
        await (await second).stop()

    async def test_max_queue_and_debug_go_with_it(
        self, world: World, where: Snapshot, path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        numbers = await Numbers.options(max_queue=5, debug=["trace"]).start_link(where)
        await numbers.add(1)
        assert "got call" in capsys.readouterr().out
        await system.no_debug(numbers)
        await numbers.add(2)
        await numbers.stop()
        assert on_disk(path) == [1, 2]

    def test_what_the_keyword_takes(self) -> None:
        with pytest.raises(TypeError, match="PathLike"):

            class Wrong(GenServer[None], snapshot=3):
                pass

        with pytest.raises(TypeError, match="snapshot= is for a GenServer"):

            class Machine(StateMachine[str, None], snapshot="x.snap"):
                pass


class TestTheEnd:
    @pytest.mark.parametrize("cls", [Numbers, Careful])
    @pytest.mark.parametrize("reason", [NORMAL, SHUTDOWN, Shutdown("upgrade")])
    async def test_it_is_saved_before_anybody_hears_of_a_clean_end(
        self, cls: type[Numbers], reason: Any, world: World, where: Snapshot, path: Path
    ) -> None:
        numbers = await cls.start(where)
        await numbers.add(1)
        seen: list[Any] = []
        ref = monitor(numbers)
        assert await numbers.end(reason) == "bye"
        seen.append(on_disk(path))
        assert (await beamish.down(ref)).reason == reason
        assert seen == [[1]]

    async def test_stop_and_terminate(self, world: World, where: Snapshot, path: Path) -> None:
        tidy = await Tidy.start(where)
        await tidy.add(1)
        await tidy.stop()
        assert on_disk(path) == [1, 1000]

    async def test_raise_exit(self, world: World, where: Snapshot, path: Path) -> None:
        numbers = await Numbers.start(where)
        await numbers.add(1)
        with pytest.raises(beamish.ServerDown):
            await numbers.leave()
        assert on_disk(path) == [1]

    @pytest.mark.parametrize("cls", [Numbers, Careful, Tidy])
    @both_roads
    async def test_a_supervisor_that_ends(self, cls: type[Numbers], world: World, where: Snapshot, path: Path) -> None:
        supervisor = await Supervisor.start_link([cls("n").child_spec(where)])
        beamish.send("n", 5)
        await settle()
        await beamish.stop(supervisor, SHUTDOWN)
        assert on_disk(path) == [5]

    async def test_nothing_is_saved_twice(self, world: World, where: Snapshot, path: Path) -> None:
        with events(SAVED) as heard:
            numbers = await Numbers.start(where)
            await numbers.stop()
            assert not heard
            numbers = await Numbers.start(where)
            await numbers.add(1)
            await numbers.stop()
            assert len(heard) == 1

    async def test_a_request_in_hand_is_finished_first(self, world: World, where: Snapshot, path: Path) -> None:
        numbers = await world.start_supervised(Numbers.child_spec(where))
        gate = asyncio.Event()
        later = asyncio.ensure_future(numbers.with_timeout(None).add_later(1, gate))
        await settle()
        numbers.put(2)  # waits behind it, and is dropped
        stopping = asyncio.ensure_future(world.stop_supervised(Numbers))
        await settle()
        gate.set()
        assert await later == [1]
        await stopping
        assert on_disk(path) == [1]

    async def test_shutdown_that_takes_too_long_is_a_kill(self, world: World, clock: ManualClock, where: Snapshot, path: Path) -> None:
        supervisor = await Supervisor.start_link([Numbers("n").child_spec(where).replace(shutdown=2.0)])
        numbers = Numbers("n")
        await numbers.add(1)
        later = asyncio.ensure_future(numbers.with_timeout(None).add_later(2, asyncio.Event()))
        await settle()
        stopping = asyncio.ensure_future(beamish.stop(supervisor, SHUTDOWN))
        await settle()
        with capture_crashes():
            await clock.advance(2.0)
            await stopping
            with pytest.raises(beamish.ServerDown):
                await later
        assert on_disk(path) is None

    async def test_a_disk_that_hangs_does_not_outlast_the_shutdown(
        self, world: World, clock: ManualClock, where: Snapshot, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with gated(monkeypatch) as gate, capture_crashes():
            supervisor = await Supervisor.start_link([Numbers("n").child_spec(where).replace(shutdown=2.0)])
            await Numbers("n").add(1)
            stopping = asyncio.ensure_future(beamish.stop(supervisor, SHUTDOWN))
            await settle()
            assert not stopping.done()
            await clock.advance(2.0)
            await stopping
            # What is being written is written to its end; who starts there waits for it.
            again = asyncio.ensure_future(Numbers.start(where))
            await settle()
            gate.set()
            numbers = await again
        assert await numbers.get() == [1]
        await numbers.stop()

    @pytest.mark.parametrize("how", ["crash", "kill", "link"])
    async def test_after_a_crash_or_a_kill_the_last_snapshot_counts(
        self, how: str, world: World, clock: ManualClock, where: Snapshot, path: Path
    ) -> None:
        numbers = await world.start_supervised(Numbers("n").child_spec(where))
        with events(SAVED) as heard, capture_crashes():
            await numbers.add(1)
            await clock.advance(30.0)
            await until(heard, 1)
            await numbers.add(2)
            pid = numbers.pid()
            assert pid is not None
            ref = monitor(pid)
            match how:
                case "crash":
                    with pytest.raises(beamish.ServerDown):
                        await numbers.fail()
                case "kill":
                    beamish.exit(pid, KILL)
                case "link":
                    beamish.exit(pid, "a peer crashed")
            await beamish.down(ref)
            await numbers.started()
            assert await numbers.get() == [1]
            assert len(heard) == 1

    async def test_a_restart_finds_what_was_saved_at_the_end(self, world: World, where: Snapshot) -> None:
        numbers = await world.start_supervised(Numbers("n").child_spec(where))
        for n in range(3):
            await numbers.add(n)
            pid = numbers.pid()
            assert await numbers.end(SHUTDOWN) == "bye"
            while numbers.pid() in (None, pid):  # noqa: ASYNC110
                await asyncio.sleep(0)
            await numbers.started()
        assert await numbers.get() == [0, 1, 2]

    async def test_an_error_in_terminate_is_a_crash(self, world: World, where: Snapshot, path: Path) -> None:
        class Bad(Numbers):
            def terminate(self, state: list[int], reason: Any) -> None:
                raise ValueError("at the end")

        bad = await Bad.start(where)
        await bad.add(1)
        ref = monitor(bad)
        with capture_crashes():
            await bad.end(NORMAL)
            assert isinstance((await beamish.down(ref)).reason, Crash)
        assert on_disk(path) is None

    def test_the_end_of_asyncio_run(self, where: Snapshot, path: Path) -> None:
        async def main() -> None:
            numbers = await Numbers.start_link(where)
            await numbers.add(1)
            numbers.put(2)
            await numbers.get()

        asyncio.run(main())
        assert on_disk(path) == [1, 2]

    def test_the_end_of_a_tree_under_asyncio_run(self, where: Snapshot, path: Path) -> None:
        async def main() -> None:
            await Supervisor.start_link([Numbers("n").child_spec(where)])
            await Numbers("n").add(1)

        asyncio.run(main())
        assert on_disk(path) == [1]

    def test_blocking(self, where: Snapshot, path: Path) -> None:
        with blocking.run([Numbers("n").child_spec(where)]) as rt:
            rt.call(Numbers("n").add, 1)
        assert on_disk(path) == [1]


class TestFailures:
    async def test_a_save_that_fails_is_said_and_tried_again(
        self,
        world: World,
        clock: ManualClock,
        where: Snapshot,
        path: Path,
        failing: Callable[[bool], None],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        numbers = await world.start_supervised(Numbers.child_spec(where))
        with events(SAVED, FAILED) as heard:
            await numbers.add(1)
            failing(True)
            await clock.advance(30.0)
            await until(heard, 1)
            assert await numbers.add(2) == [1, 2]
            failing(False)
            await clock.advance(30.0)
            await until(heard, 2)
        failed, saved = heard
        assert failed.event == FAILED
        assert "No space left on device" in str(failed.metadata["error"])
        assert saved.measurements["changes"] == 2
        assert on_disk(path) == [1, 2]
        [record] = caplog.records
        assert record.levelno == logging.ERROR
        assert "its state was not saved: the snapshot" in record.message

    async def test_at_the_end_it_is_tried_once_more(
        self, world: World, where: Snapshot, path: Path, failing: Callable[[bool], None], caplog: pytest.LogCaptureFixture
    ) -> None:
        snapshot.save(path, [0])
        numbers = await Numbers.start(where)
        await numbers.add(1)
        failing(True)
        with events(FAILED) as heard:
            await numbers.stop()
        assert len(heard) == 1
        assert on_disk(path) == [0]
        assert "No space left" in caplog.text

    @pytest.mark.parametrize(
        ("dump", "text"),
        [
            (lambda self, state: object(), "does not know builtins.object"),
            (lambda self, state: 1 / 0, "division by zero"),
        ],
    )
    async def test_a_dump_that_fails(
        self, world: World, clock: ManualClock, where: Snapshot, dump: Any, text: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        cls: Any = type("Odd", (Numbers,), {"dump": dump})
        odd = await world.start_supervised(cls.child_spec(where))
        with events(FAILED) as heard:
            await odd.add(1)
            await clock.advance(30.0)
            await until(heard, 1)
            assert await odd.get() == [1]
            assert text in caplog.text
            await world.stop_supervised(cls)

    async def test_an_async_dump_is_refused(
        self, world: World, clock: ManualClock, where: Snapshot, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Later(Numbers):
            async def dump(self, state: list[int]) -> list[int]:
                return state

        later = await world.start_supervised(Later.child_spec(where))
        with events(FAILED) as heard:
            await later.add(1)
            await clock.advance(30.0)
            await until(heard, 1)
            await world.stop_supervised(Later)
        assert "Later.dump may not be async" in caplog.text

    async def test_a_state_that_is_changed_while_a_thread_writes_it(
        self, world: World, clock: ManualClock, where: Snapshot, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Careless(GenServer[dict[int, int]]):
            def init(self) -> Init:
                return Init({}, snapshot=where)

            def dump(self, state: dict[int, int]) -> dict[int, int]:
                return state  # no copy

            @call
            def grow(self, state: dict[int, int], n: int) -> None:
                state.update({key: key for key in range(len(state), len(state) + n)})

        careless = await world.start_supervised(Careless.child_spec())
        with events(SAVED, FAILED) as heard:
            await careless.grow(200_000)
            await clock.advance(30.0)
            while not heard:
                await careless.grow(1)
        assert heard[0].event == FAILED
        assert "changed size during iteration" in caplog.text

    async def test_a_large_state_without_a_dump_is_said_once(
        self, world: World, clock: ManualClock, where: Snapshot, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("beamish._kept.LONG", 0.0)
        numbers = await world.start_supervised(Numbers.child_spec(where))
        with events(SAVED) as heard:
            for n in range(2):
                await numbers.add(n)
                await clock.advance(30.0)
                await until(heard, n + 1)
        [record] = caplog.records
        assert "Give Numbers a method dump(self, state) that returns a copy" in record.message


class TestHooks:
    async def test_whoever_was_calling_hears_of_init_and_of_the_snapshot(self, world: World, where: Snapshot) -> None:
        numbers = await Numbers.start(where)
        with capture_crashes(), pytest.raises(ServerDown, match="with the state of its init or of its last snapshot: call again"):
            await numbers.fail()

    async def test_dump_and_restore(self, world: World, where: Snapshot, path: Path) -> None:
        large = await Large.start(where)
        await large.order(1, "tea")
        await large.stop()
        assert on_disk(path) == {1: "tea"}
        large = await Large.start(where)
        assert await large.order(2, "milk") == Shop(open=True, orders={1: "tea", 2: "milk"}, visitors=1)
        await large.stop()

    async def test_a_restore_that_forgets_its_return_fails_the_start(self, world: World, where: Snapshot, path: Path) -> None:
        class Forgets(Numbers):
            def restore(self, state: list[int], data: list[int]) -> None:
                data.append(1)

        snapshot.save(path, [7])
        with capture_crashes(), pytest.raises(StartError, match=r"Forgets.restore returned None, where init had made \[\]: is a `return`"):
            await Forgets.start(where)
        assert on_disk(path) == [7]

    async def test_a_restore_may_return_none_where_init_did(self, world: World, path: Path) -> None:
        class Nothing(GenServer[None], snapshot=Snapshot(path)):
            def init(self) -> None: ...

            def dump(self, state: None) -> None: ...

            def restore(self, state: None, data: None) -> None: ...

            @call
            def ping(self, state: None) -> str:
                return "pong"

        for _ in range(2):
            nothing = await Nothing.start()
            assert await nothing.ping() == "pong"
            await nothing.stop()
        assert path.exists()

    async def test_a_dump_that_forgets_its_return_saves_nothing(
        self, world: World, where: Snapshot, path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Forgets(Numbers):
            def dump(self, state: list[int]) -> None:
                list(state)

        snapshot.save(path, [7])
        forgets = await Forgets.start(where)
        await forgets.add(1)
        await forgets.stop()
        assert on_disk(path) == [7]
        assert "what its last messages (1) have changed is lost" in caplog.text
        assert "Forgets.dump returned None, and the state is [7, 1]: is a `return` missing?" in caplog.text

    async def test_a_call_of_that_name_is_no_hook(self, world: World, where: Snapshot, path: Path) -> None:
        class Backup(Numbers):
            @call
            def dump(self, state: list[int]) -> str:
                return "dumped"

            @call
            def restore(self, state: list[int], n: int) -> str:
                return "restored"

        backup: Any = await Backup.start(where)
        assert await backup.dump() == "dumped"
        await backup.stop()
        assert on_disk(path) == []
        backup = await Backup.start(where)
        assert await backup.get() == []
        await backup.stop()

    async def test_data_that_comes_as_what_it_was(self, world: World, path: Path) -> None:
        @codec.register("test_kept.Order")
        @dataclass(frozen=True)
        class Order:
            id: int

        class Orders(GenServer[dict[int, Order]], snapshot=Snapshot(path)):
            def init(self) -> dict[int, Order]:
                return {}

            @call
            def add(self, state: dict[int, Order], id: int) -> dict[int, Order]:
                state[id] = Order(id)
                return dict(state)

        orders = await Orders.start()
        await orders.add(1)
        await orders.stop()
        orders = await Orders.start()
        assert await orders.add(2) == {1: Order(1), 2: Order(2)}
        await orders.stop()


class TestVirtualTime:
    def test_an_hour_of_saves(self, path: Path) -> None:
        async def main() -> list[int]:
            numbers = await Numbers.start_link(Snapshot(path, every=60.0, durability="normal"))
            with events(SAVED) as heard:
                for n in range(60):
                    await numbers.add(n)
                    await asyncio.sleep(61.0)
                counts.append(len(heard))
            return await numbers.get()

        counts: list[int] = []
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            assert runner.run(main()) == list(range(60))
        assert counts[0] >= 59
        assert on_disk(path) == list(range(60))


class TestOtherPrograms:
    def test_a_file_that_another_program_has(self, path: Path) -> None:
        unlock = _snapshot_file.lock(path)
        program = f"""
            import asyncio
            from beamish import GenServer, StartError
            class Kept(GenServer[list], snapshot={str(path)!r}):
                def init(self):
                    return []
            async def main():
                try:
                    await Kept.start()
                except StartError as error:
                    print(error.reason.error)
            asyncio.run(main())
        """
        root = Path(__file__).parents[2] / "src"
        try:
            done = subprocess.run(
                [sys.executable, "-c", textwrap.dedent(program)], env={"PYTHONPATH": str(root)}, capture_output=True, text=True, check=True
            )
        finally:
            unlock()
        assert "is in use by another program (process" in done.stdout


class TestTheCollector:
    async def test_it_does_not_run_while_a_state_is_read_and_then_goes_on(self, world: World, where: Snapshot, path: Path) -> None:
        class Looking(Numbers):
            def restore(self, state: list[int], data: Any) -> list[int]:
                return [*data, gc.isenabled()]

        def seen(data: Any) -> Any:
            enabled.append(gc.isenabled())
            return data

        enabled: list[bool] = []
        snapshot.save(path, [1])
        looking = await Looking.start(Snapshot(path, version=2, migrations={1: seen}))
        assert enabled == [False]
        assert await looking.get() == [1, True]
        await looking.stop()

    async def test_one_that_was_off_stays_off(self, world: World, where: Snapshot) -> None:
        gc.disable()
        try:
            numbers = await Numbers.start(where)
            assert not gc.isenabled()
            await numbers.stop()
        finally:
            gc.enable()
