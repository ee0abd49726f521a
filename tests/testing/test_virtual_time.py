"""Virtual time in a test that uses the fixture: plain asyncio programs take no time, and the real world is waited for."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from beamish import CallTimeout, GenServer, call, cast
from beamish.testing import Kit, settle


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Not a measurement: virtual hours that really passed would take hours."""
    begin = time.monotonic()
    yield
    assert time.monotonic() - begin < seconds


async def test_a_program_of_tasks_queues_and_sleeps_takes_no_time(beamish: Kit) -> None:
    """Nothing of ours in it: three workers, a producer, a deadline, a lock and an event, for a day."""
    loop, begin = asyncio.get_running_loop(), beamish.clock.now()
    queue: asyncio.Queue[int] = asyncio.Queue(maxsize=2)
    done: list[tuple[int, float]] = []
    lock, last = asyncio.Lock(), asyncio.Event()

    async def produce() -> None:
        for job in range(24):
            await asyncio.sleep(3600.0)
            await queue.put(job)

    async def work() -> None:
        while True:
            job = await queue.get()
            async with lock:
                await asyncio.sleep(1.0)
                done.append((job, loop.time() - begin))
            if job == 23:
                last.set()

    with at_most(20.0):
        async with asyncio.TaskGroup() as group:
            workers = [group.create_task(work()) for _ in range(3)]
            group.create_task(produce())
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(86_400.0):
                    await last.wait()
            assert len(done) == 23
            await asyncio.wait_for(last.wait(), 2.0)
            for worker in workers:
                worker.cancel()
    assert done == [(job, 3600.0 * (job + 1) + 1.0) for job in range(24)]


class Busy(GenServer[None]):
    @cast
    def work(self, state: None, seconds: float, seen: list[str]) -> None:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass
        seen.append("work")


@pytest.mark.parametrize("seconds", [0.0, 0.002], ids=["quick", "as on a busy machine"])
async def test_a_slow_machine_keeps_the_order(beamish: Kit, seconds: float) -> None:
    """What one turn of the loop takes in is counted in a test, and not measured."""
    servers = [await beamish.start_supervised(Busy(f"busy {n}").child_spec()) for n in range(20)]
    seen: list[str] = []
    for server in servers:
        server.work(seconds, seen)
    asyncio.get_running_loop().call_soon(seen.append, "the loop's turn")
    await settle()
    assert seen == ["work"] * 20 + ["the loop's turn"]


class Slow(GenServer[None]):
    def init(self) -> None: ...

    @call
    async def answer_after(self, state: None, seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds


async def test_a_call_times_out_after_its_seconds(beamish: Kit) -> None:
    slow, begin = await beamish.start_supervised(Slow("slow").child_spec()), beamish.clock.now()
    with pytest.raises(CallTimeout):
        await slow.answer_after(3600.0)
    assert beamish.clock.now() == begin + 5.0
    assert await slow.with_timeout(None).answer_after(7200.0) == 7200.0


class TestTheRealWorld:
    """It has a clock of its own: a timer far away does not fire while it is waited for."""

    async def test_a_thread_is_waited_for(self, beamish: Kit) -> None:
        go = threading.Event()

        async def hour() -> str:
            await asyncio.sleep(3600.0)
            return "an hour"

        sleeper = asyncio.create_task(hour())
        thread = asyncio.create_task(asyncio.to_thread(go.wait, 20.0))
        asyncio.get_running_loop().call_soon(go.set)
        done, _ = await asyncio.wait([sleeper, thread], return_when=asyncio.FIRST_COMPLETED)
        assert done == {thread}
        assert thread.result()
        assert await sleeper == "an hour"

    async def test_a_subprocess_is_waited_for(self, beamish: Kit) -> None:
        code = "import sys; print(sys.stdin.readline().upper())"
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        async with asyncio.timeout(600.0):
            out, _ = await process.communicate(b"hello\n")
        assert out.split() == [b"HELLO"]
        assert process.returncode == 0

    async def test_a_connection_is_waited_for(self, beamish: Kit) -> None:
        asked = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write((await reader.readline()).upper())
            await writer.drain()
            asked.set()
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        await asyncio.sleep(3600.0)  # a socket that only listens holds nothing up
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"hello\n")
        async with asyncio.timeout(600.0):
            assert await reader.readline() == b"HELLO\n"
            await asked.wait()
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(3600.0)  # and time is free again

    async def test_an_open_connection_does_not_hang_the_kit(self, beamish: Kit) -> None:
        loop = asyncio.get_running_loop()
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            loop.add_reader(left, lambda: None)
            begin = beamish.clock.now()
            await beamish.clock.advance(0.02)
            assert beamish.clock.now() >= begin + 0.02
            assert await beamish.eventually(lambda: beamish.clock.now() > begin + 0.03)
            loop.remove_reader(left)

    async def test_a_thread_that_nobody_told_of_may_wake_it(self, beamish: Kit) -> None:
        loop, woken = asyncio.get_running_loop(), asyncio.Event()
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(woken.set,))
        thread.start()
        await woken.wait()
        thread.join()


class TestOnALoopOfSomebodyElse:
    """As under pytest-asyncio: the loop runs already, and goes on afterwards."""

    def test_its_time_is_virtual_for_the_test_only(self) -> None:
        async def body() -> tuple[str, float]:
            loop = asyncio.get_running_loop()
            kind, begin = type(loop), loop.time()

            async def test() -> None:
                assert type(loop) is not kind
                await asyncio.sleep(3600.0)

            with at_most(20.0):
                await Kit().play(test)
                await Kit().play(test)
            assert type(loop) is kind
            await asyncio.sleep(0.001)
            return kind.__name__, loop.time() - begin

        name, passed = asyncio.run(body())
        assert "Virtual" not in name
        assert passed < 20.0
