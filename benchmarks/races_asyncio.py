"""The races of tests/testing/races.py, written as plain asyncio tasks, for tools that know tasks only.

A server is a task with a queue, by hand; nothing here is Beamish's. A Python that has simloom and simloop prints in how many runs
they find each: see benchmarks.races.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import sys
from collections.abc import Callable, Coroutine
from importlib import import_module
from typing import Any

Main = Callable[[], Coroutine[Any, Any, None]]


class Actor:
    """A task that handles one message at a time."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Any] = asyncio.Queue()
        self.ended = False
        self.task = asyncio.get_running_loop().create_task(self.run())

    async def run(self) -> None:
        reply = None
        try:
            while True:
                name, args, reply = await self.queue.get()
                value = getattr(self, name)(*args)
                if inspect.isawaitable(value):
                    value = await value
                if reply is not None and not reply.done():
                    reply.set_result(value)
        finally:
            self.ended = True
            while not self.queue.empty():
                reply = self.queue.get_nowait()[2]
                if reply is not None and not reply.done():
                    reply.set_exception(LookupError("it has ended"))

    async def call(self, name: str, *args: Any) -> Any:
        if self.ended:
            raise LookupError("it has ended")
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.queue.put_nowait((name, args, reply))
        return await reply

    def cast(self, name: str, *args: Any) -> None:
        self.queue.put_nowait((name, args, None))

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


class Cell(Actor):
    def __init__(self, value: int = 0) -> None:
        self.value = value
        super().__init__()

    def get(self) -> int:
        return self.value

    def set(self, value: int) -> None:
        self.value = value

    def add(self, n: int) -> int:
        self.value += n
        return self.value

    def end(self) -> None:
        raise asyncio.CancelledError


async def together(*clients: Coroutine[Any, Any, Any]) -> None:
    await asyncio.gather(*clients)


async def stop(*actors: Actor) -> None:
    for actor in actors:
        await actor.stop()


async def lost_update() -> None:
    cell = Cell()

    async def client() -> None:
        cell.cast("set", await cell.call("get") + 1)

    await together(client(), client())
    found = await cell.call("get")
    await stop(cell)
    assert found == 2


async def check_then_act() -> None:
    stock, orders = Cell(1), Cell()

    async def buyer() -> None:
        if await stock.call("get") > 0:
            await orders.call("add", 1)
            await stock.call("add", -1)

    await together(buyer(), buyer())
    found = await orders.call("get")
    await stop(stock, orders)
    assert found == 1


class Directory(Actor):
    def __init__(self) -> None:
        self.names: set[str] = set()
        super().__init__()

    def register(self, name: str, holder: Cell) -> bool:
        if name in self.names:
            return False
        self.names.add(name)
        holder.task.add_done_callback(lambda _: self.cast("free", name))
        return True

    def free(self, name: str) -> None:
        self.names.discard(name)


async def name_freed_too_late() -> None:
    directory, first, second = Directory(), Cell(), Cell()
    bye = asyncio.Event()
    assert await directory.call("register", "boss", first)
    first.end = lambda: (bye.set(), Cell.end(first))  # type: ignore[method-assign, assignment, func-returns-value]
    first.cast("end")
    await bye.wait()
    free = await directory.call("register", "boss", second)
    await stop(directory, second)
    assert free


class Lease(Actor):
    def __init__(self) -> None:
        self.is_held = True
        super().__init__()
        self.timer = asyncio.get_running_loop().call_later(1.0, self.cast, "expire")

    def renew(self) -> bool:
        if self.is_held:
            self.timer.cancel()
            self.timer = asyncio.get_running_loop().call_later(1.0, self.cast, "expire")
        return self.is_held

    def held(self) -> bool:
        return self.is_held

    def expire(self) -> None:
        self.is_held = False


async def timer_after_cancel() -> None:
    lease = Lease()
    await asyncio.sleep(1.0)
    found = not await lease.call("renew") or await lease.call("held")
    lease.timer.cancel()
    await stop(lease)
    assert found


class Echo(Actor):
    async def ask(self, whom: asyncio.Queue[str], question: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        whom.put_nowait(question)


async def late_reply() -> None:
    echo, inbox = Echo(), asyncio.Queue[str]()
    heard: list[tuple[str, str]] = []
    for question, seconds in (("one", 2.0), ("two", 0.0)):  # as late as its caller waits: who is first?
        echo.cast("ask", inbox, question, seconds)
        await asyncio.sleep(0)
        try:
            heard.append((question, await asyncio.wait_for(inbox.get(), 2.0)))
        except TimeoutError:
            pass
    await stop(echo)
    assert all(question == answer for question, answer in heard)


async def restart_before_call() -> None:
    names = {"cell": Cell()}

    async def client() -> None:
        assert await names["cell"].call("add", 1) == 1

    async def saboteur() -> None:
        names["cell"].cast("end")

    names["cell"].task.add_done_callback(lambda _: names.update(cell=Cell()))
    await together(client(), saboteur())


async def double_start() -> None:
    config, names = Cell(7), dict[str, Cell]()

    async def client() -> None:
        if "lazy" not in names:
            value = await config.call("get")
            assert "lazy" not in names
            names["lazy"] = Cell(value)

    try:
        await together(client(), client())
    finally:
        await stop(config, *names.values())


class Disk(Actor):
    def __init__(self, safe: list[str]) -> None:
        self.safe = safe
        super().__init__()

    def write(self, line: str) -> None:
        self.safe.append(line)


class Buffer(Actor):
    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        super().__init__()

    async def flush(self) -> None:
        await asyncio.sleep(1.0)
        self.disk.cast("write", "a line")


async def shutdown_order() -> None:
    safe: list[str] = []
    disk = Disk(safe)
    buffer = Buffer(disk)

    async def stop_buffer() -> None:
        await buffer.call("flush")
        await buffer.stop()

    async def stop_disk() -> None:
        await asyncio.sleep(0.5)
        await asyncio.sleep(0.5)
        disk.cast("end")
        await asyncio.wait([disk.task])

    disk.end = lambda: Cell.end(disk)  # type: ignore[attr-defined, arg-type]
    await together(stop_buffer(), stop_disk())
    assert safe == ["a line"]


async def monitor_too_late() -> None:
    log, worker = Cell(), Cell()
    reasons: list[str] = []
    worker.cast("end")
    await log.call("add", 1)
    if worker.ended:
        reasons.append("noproc")
    else:
        worker.task.add_done_callback(lambda _: reasons.append("normal"))
    await asyncio.wait([worker.task])
    await asyncio.sleep(0)
    await stop(log)
    assert reasons in (["normal"], [])


async def seen_half() -> None:
    ours, theirs = Cell(100), Cell()
    totals: list[int] = []

    async def transfer() -> None:
        await ours.call("add", -30)
        await theirs.call("add", 30)

    async def audit() -> None:
        totals.append(await ours.call("get") + await theirs.call("get"))

    await together(transfer(), audit())
    await stop(ours, theirs)
    assert totals == [100]


class Peer(Actor):
    other: Peer

    async def greet(self) -> str:
        return str(await asyncio.wait_for(self.other.call("name"), 5.0))

    def name(self) -> str:
        return "peer"


async def call_in_a_circle() -> None:
    left, right = Peer(), Peer()
    left.other, right.other = right, left
    try:
        await together(left.call("greet"), right.call("greet"))
    finally:
        await stop(left, right)


RACES: dict[str, Main] = {
    "lost update": lost_update, "check, then act": check_then_act, "name freed too late": name_freed_too_late,
    "timer after cancel": timer_after_cancel, "late reply": late_reply, "restart before call": restart_before_call,
    "double start": double_start, "shutdown order": shutdown_order, "monitor too late": monitor_too_late, "seen half": seen_half,
    "calls in a circle": call_in_a_circle,
}  # fmt: skip


def main(runs: int) -> dict[str, dict[str, str]]:
    """By tool, then by race: in how many of `runs` it was found; "plain" when asyncio's own order has it already."""
    simloom, simloop = import_module("simloom"), import_module("simloop")

    def loom(race: Main, scheduler: str | None) -> int:
        done = (simloom.run(race, seed=seed, raise_on_error=False, on_unhandled="record", scheduler=scheduler) for seed in range(runs))
        return sum(run.error is not None for run in done)

    def loop(race: Main, policy: str) -> int:
        return sum(simloop.explore(race, [seed], policy=policy) is not None for seed in range(runs))

    gc.freeze()  # simloom collects garbage after each run: not of what was imported
    found: dict[str, dict[str, str]] = {"asyncio": {}, "simloom random": {}, "simloom pct": {}, "simloop random": {}, "simloop pct": {}}
    for name, race in RACES.items():
        found["asyncio"][name] = plain(race)
        found["simloom random"][name] = str(loom(race, None))
        found["simloom pct"][name] = str(loom(race, "pct"))
        found["simloop random"][name] = str(loop(race, "random"))
        found["simloop pct"][name] = str(loop(race, "pct"))
    return found


def plain(race: Main) -> str:
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)
    try:
        loop.run_until_complete(asyncio.wait_for(race(), 10.0))
    except Exception:
        return "fails"
    finally:
        loop.close()
    return "passes"


if __name__ == "__main__":
    import logging

    logging.disable(logging.CRITICAL)
    print(json.dumps(main(int(sys.argv[1]))))
