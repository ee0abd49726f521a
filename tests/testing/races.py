"""Small servers with races that everybody has written once, and their repaired forms.

Each race passes when it is simply run. `RACES` is what the tests and the table in docs/testing.md go through.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import beamish
from beamish import (
    NORMAL,
    AlreadyStarted,
    Deadlock,
    Down,
    GenServer,
    NoProcess,
    Pid,
    ServerDown,
    Stop,
    Supervisor,
    call,
    cast,
)
from beamish.testing import World, capture_crashes

# virtual time: `run_once` and `explore` run all of this

Test = Callable[[World], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Race:
    """A test that finds the race in some interleavings, and the same test of the repaired servers."""

    name: str
    broken: Test
    repaired: Test
    faults: frozenset[str] = frozenset()
    #: Few enough interleavings to try every one.
    small: bool = True


async def together(*clients: Coroutine[Any, Any, Any]) -> None:
    async with asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(client)


class Cell(GenServer[list[int]]):
    """A number. To read it and then to set it are two steps; `add` is one."""

    def init(self, value: int = 0) -> list[int]:
        return [value]

    @call
    def get(self, state: list[int]) -> int:
        return state[0]

    @cast
    def set(self, state: list[int], value: int) -> None:
        state[0] = value

    @call
    def add(self, state: list[int], n: int) -> int:
        state[0] += n
        return state[0]

    @call
    def take(self, state: list[int], n: int) -> bool:
        if state[0] < n:
            return False
        state[0] -= n
        return True


# --- a lost update, through call and cast -----------------------------------------------------------------------------


async def lost_update(world: World) -> None:
    cell = await world.start_supervised(Cell("cell").child_spec())

    async def client() -> None:
        cell.set(await cell.get() + 1)

    await together(client(), client())
    assert await cell.get() == 2


async def lost_update_repaired(world: World) -> None:
    cell = await world.start_supervised(Cell("cell").child_spec())
    await together(cell.add(1), cell.add(1))
    assert await cell.get() == 2


# --- check, then act, across two servers ------------------------------------------------------------------------------


async def check_then_act(world: World) -> None:
    stock = await world.start_supervised(Cell("stock").child_spec(1))
    orders = await world.start_supervised(Cell("orders").child_spec())

    async def buyer() -> None:
        if await stock.get() > 0:
            await orders.add(1)
            await stock.add(-1)

    await together(buyer(), buyer())
    assert await orders.get() == 1


async def check_then_act_repaired(world: World) -> None:
    stock = await world.start_supervised(Cell("stock").child_spec(1))
    orders = await world.start_supervised(Cell("orders").child_spec())

    async def buyer() -> None:
        if await stock.take(1):
            await orders.add(1)

    await together(buyer(), buyer())
    assert await orders.get() == 1


# --- a name that is freed too late ------------------------------------------------------------------------------------


class Directory(GenServer[dict[str, Pid]]):
    """Names for processes; a name is free again when the Down of its holder has come."""

    def init(self) -> dict[str, Pid]:
        return {}

    @call
    def register(self, state: dict[str, Pid], name: str, pid: Pid) -> bool:
        if self.taken(state, name):
            return False
        state[name] = pid
        beamish.monitor(pid)
        return True

    def taken(self, state: dict[str, Pid], name: str) -> bool:
        return name in state

    def handle_info(self, state: dict[str, Pid], message: Any) -> None:
        for name in [name for name, pid in state.items() if pid is message.target]:
            del state[name]


class CarefulDirectory(Directory):
    """Does not wait for the Down to know that somebody is dead; and a late Down frees no name of another."""

    def taken(self, state: dict[str, Pid], name: str) -> bool:
        return name in state and beamish.alive(state[name])


class Worker(GenServer[None], restart="temporary"):
    @cast
    def quit(self, state: None, whom: Pid) -> Stop[Any]:
        beamish.send(whom, "bye")
        return Stop(NORMAL)


def name_freed_too_late(kind: type[Directory]) -> Test:
    async def test(world: World) -> None:
        directory = await world.start_supervised(kind("directory").child_spec())
        first, second = [await world.start_supervised(Worker(name).child_spec()) for name in ("first", "second")]
        assert await directory.register("boss", _pid(first))
        first.quit(beamish.current())
        await beamish.receive("bye")
        assert await directory.register("boss", _pid(second))

    return test


def _pid(address: Any) -> Pid:
    pid = address.pid()
    assert pid is not None
    return pid  # type: ignore[no-any-return]


# --- a timer that fires after it was cancelled ------------------------------------------------------------------------


class Lease(GenServer[dict[str, Any]]):
    """Is held for a second after the last `renew`; cancelling a timer does not take back its message."""

    def init(self) -> dict[str, Any]:
        return {"held": True, "timer": self.send_after(1.0, "expired")}

    @call
    def renew(self, state: dict[str, Any]) -> bool:
        if state["held"]:
            beamish.cancel_timer(state["timer"])
            state["timer"] = self.send_after(1.0, "expired")
        return bool(state["held"])

    @call
    def held(self, state: dict[str, Any]) -> bool:
        return bool(state["held"])

    def handle_info(self, state: dict[str, Any], message: object) -> None:
        state["held"] = False


class NumberedLease(Lease):
    """Each timer's message says which one it is."""

    def init(self) -> dict[str, Any]:
        return {"held": True, "number": 0, "timer": self.send_after(1.0, 0)}

    @call
    def renew(self, state: dict[str, Any]) -> bool:
        if state["held"]:
            beamish.cancel_timer(state["timer"])
            state["number"] += 1
            state["timer"] = self.send_after(1.0, state["number"])
        return bool(state["held"])

    def handle_info(self, state: dict[str, Any], message: object) -> None:
        if message == state["number"]:
            state["held"] = False


def timer_after_cancel(kind: type[Lease]) -> Test:
    async def test(world: World) -> None:
        lease = await world.start_supervised(kind("lease").child_spec())
        await asyncio.sleep(1.0)
        if await lease.renew():
            assert await lease.held()

    return test


# --- a late reply, taken for the next one -----------------------------------------------------------------------------


class Echo(GenServer[None]):
    @cast
    def ask(self, state: None, whom: Pid, question: str) -> None:
        beamish.send(whom, ("answer", question))

    @cast
    def ask_by_alias(self, state: None, whom: beamish.Alias, question: str) -> None:
        beamish.send(whom, ("answer", question))


async def late_reply(world: World) -> None:
    echo = await world.start_supervised(Echo("echo").child_spec())

    async def asked(question: str) -> str | None:
        echo.ask(beamish.current(), question)
        try:
            return (await beamish.receive(lambda m: m[0] == "answer", timeout=2.0))[1]  # type: ignore[no-any-return]
        except TimeoutError:
            return None

    for question in ("one", "two"):
        assert await asked(question) in (question, None)


async def late_reply_repaired(world: World) -> None:
    echo = await world.start_supervised(Echo("echo").child_spec())

    async def asked(question: str) -> str | None:
        alias = beamish.alias()  # what comes after `unalias` is dropped
        echo.ask_by_alias(alias, question)
        try:
            return (await beamish.receive(lambda m: m[0] == "answer", timeout=2.0))[1]  # type: ignore[no-any-return]
        except TimeoutError:
            return None
        finally:
            beamish.unalias(alias)

    for question in ("one", "two"):
        assert await asked(question) in (question, None)


# --- a restart between whereis and call -------------------------------------------------------------------------------


class Fragile(Cell):
    @cast
    def fail(self, state: list[int]) -> None:
        beamish.exit(beamish.current(), "as asked")


async def restart_before_call(world: World) -> None:
    cell = await world.start_supervised(Fragile("cell").child_spec())

    async def client() -> None:
        pid = beamish.whereis("cell")
        if pid is not None:
            assert await Fragile(pid).add(1) == 1

    async def saboteur() -> None:
        cell.fail()

    await together(client(), saboteur())


async def restart_before_call_repaired(world: World) -> None:
    cell = await world.start_supervised(Fragile("cell").child_spec())

    async def client() -> None:
        while True:
            try:
                assert await cell.add(1) == 1  # by its name: whoever has it now
                return
            except (NoProcess, ServerDown):
                await cell.started()

    async def saboteur() -> None:
        cell.fail()

    await together(client(), saboteur())


# --- a server that is started when it is first needed, twice ----------------------------------------------------------


async def double_start(world: World) -> None:
    config = await world.start_supervised(Cell("config").child_spec(7))

    async def client() -> None:
        if beamish.whereis("lazy") is None:
            await Cell("lazy").start(await config.get())
        assert await Cell("lazy").get() == 7

    try:
        await together(client(), client())
    finally:
        await beamish.stop(Cell("lazy"))


async def double_start_repaired(world: World) -> None:
    config = await world.start_supervised(Cell("config").child_spec(7))

    async def client() -> None:
        if beamish.whereis("lazy") is None:
            try:
                await Cell("lazy").start(await config.get())
            except AlreadyStarted:
                pass  # somebody was quicker
        assert await Cell("lazy").get() == 7

    try:
        await together(client(), client())
    finally:
        await beamish.stop(Cell("lazy"))


# --- the order of a shutdown ------------------------------------------------------------------------------------------


class Disk(GenServer[list[str]]):
    """What was written is safe when its terminate has run."""

    def init(self, safe: list[str]) -> list[str]:
        beamish.flag(trap_exit=True)
        self.own(lambda: safe.extend(written))
        written: list[str] = []
        return written

    @cast
    def write(self, state: list[str], line: str) -> None:
        state.append(line)


class Buffer(GenServer[list[str]]):
    """Flushes what it holds when it is stopped, which takes a second."""

    def init(self) -> list[str]:
        beamish.flag(trap_exit=True)
        return []

    @cast
    def add(self, state: list[str], line: str) -> None:
        state.append(line)

    async def terminate(self, state: list[str], reason: object) -> None:
        await asyncio.sleep(1.0)
        for line in state:
            Disk("disk").write(line)


async def shutdown_order(world: World) -> None:
    safe: list[str] = []
    disk, buffer = await Disk("disk").start(safe), await Buffer("buffer").start()
    buffer.add("a line")

    async def stop_disk() -> None:
        await asyncio.sleep(0.5)
        await asyncio.sleep(0.5)  # long enough for the buffer, one should think
        await beamish.stop(disk)

    await together(beamish.stop(buffer), stop_disk())
    assert safe == ["a line"]


async def shutdown_order_repaired(world: World) -> None:
    safe: list[str] = []
    top = await Supervisor("top").start([Disk("disk").child_spec(safe), Buffer("buffer").child_spec()])
    Buffer("buffer").add("a line")
    await beamish.stop(top)  # last one first
    assert safe == ["a line"]


# --- a monitor that is set too late -----------------------------------------------------------------------------------


async def monitor_too_late(world: World) -> None:
    log = await world.start_supervised(Cell("log").child_spec())
    worker = await Worker("worker").start()
    worker.quit(beamish.current())
    await log.add(1)
    ref = beamish.monitor(worker)
    assert (await beamish.receive(Down)).reason == NORMAL
    beamish.demonitor(ref)


async def monitor_too_late_repaired(world: World) -> None:
    log = await world.start_supervised(Cell("log").child_spec())
    worker, ref = await Worker("worker").start_monitor()
    worker.quit(beamish.current())
    await log.add(1)
    assert (await beamish.receive(Down)).reason == NORMAL
    beamish.demonitor(ref)


# --- an update in two phases, seen half -------------------------------------------------------------------------------


async def seen_half(world: World) -> None:
    ours = await world.start_supervised(Cell("ours").child_spec(100))
    theirs = await world.start_supervised(Cell("theirs").child_spec())

    async def transfer() -> None:
        if await ours.take(30):
            await theirs.add(30)

    async def audit() -> None:
        assert await ours.get() + await theirs.get() == 100

    await together(transfer(), audit())


class Bank(GenServer[dict[str, int]]):
    """Both accounts in one server: a transfer is one message."""

    def init(self) -> dict[str, int]:
        return {"ours": 100, "theirs": 0}

    @call
    def transfer(self, state: dict[str, int], n: int) -> None:
        state["ours"] -= n
        state["theirs"] += n

    @call
    def total(self, state: dict[str, int]) -> int:
        return sum(state.values())


async def seen_half_repaired(world: World) -> None:
    bank = await world.start_supervised(Bank("bank").child_spec())

    async def audit() -> None:
        assert await bank.total() == 100

    await together(bank.transfer(30), audit())


# --- two servers that call each other ---------------------------------------------------------------------------------


class Peer(GenServer[int]):
    def init(self) -> int:
        return 0

    @call
    async def greet(self, state: int, other: str) -> str:
        return await Peer(other).name()

    @call
    def name(self, state: int) -> str:
        return "peer"

    @call
    async def greet_later(self, state: int, other: str) -> beamish.Answer[str]:
        client = beamish.client()

        async def ask() -> None:
            beamish.reply(client, await Peer(other).name())

        beamish.spawn(ask)  # while it waits, this server answers
        return beamish.NoReply()


async def call_in_a_circle(world: World) -> None:
    left, right = [await world.start_supervised(Peer(name).child_spec()) for name in ("left", "right")]
    failed: list[Exception] = []

    async def client(one: Peer, other: str) -> None:
        try:
            await one.greet(other)
        except (Deadlock, ServerDown) as error:
            failed.append(error)

    with capture_crashes():
        await together(client(left, "right"), client(right, "left"))
    assert not failed


async def call_in_a_circle_repaired(world: World) -> None:
    left, right = [await world.start_supervised(Peer(name).child_spec()) for name in ("left", "right")]
    await together(left.greet_later("right"), right.greet_later("left"))


RACES = [
    Race("lost update", lost_update, lost_update_repaired),
    Race("check, then act", check_then_act, check_then_act_repaired),
    Race("name freed too late", name_freed_too_late(Directory), name_freed_too_late(CarefulDirectory)),
    Race("timer after cancel", timer_after_cancel(Lease), timer_after_cancel(NumberedLease)),
    Race("late reply", late_reply, late_reply_repaired, frozenset({"slow"})),
    Race("restart before call", restart_before_call, restart_before_call_repaired),
    Race("double start", double_start, double_start_repaired),
    Race("shutdown order", shutdown_order, shutdown_order_repaired),
    Race("monitor too late", monitor_too_late, monitor_too_late_repaired),
    Race("seen half", seen_half, seen_half_repaired),
    Race("calls in a circle", call_in_a_circle, call_in_a_circle_repaired, small=False),
]
