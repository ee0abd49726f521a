"""What clients do in a soak, and what is done to the servers meanwhile. Every act checks its answer; what it may fail with is listed."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any

import beamish
from beamish import KILL, SHUTDOWN, CallTimeout, Supervisor, SupervisorError, Task, Via, sys as otp_sys
from benchmarks.soak.tree import FAULTY, PER_GROUP, SUPERVISORS, Full, Plain, Room, Slow, Sum, crowd, parts, rooms, tasks

#: With a reason, as OTP would: the server is not there, died, is late (by its caller's small timeout), full, part of a circle …
EXPECTED = (
    beamish.NoProcess,
    beamish.ServerDown,
    beamish.CallTimeout,
    beamish.Deadlock,
    beamish.Overloaded,
    beamish.StartError,
    beamish.MaxChildren,
    beamish.NotFound,
    beamish.Restarting,
    beamish.StillRunning,
    beamish.AlreadyPresent,
    beamish.AlreadyRegistered,
    beamish.TaskExit,
)
PATIENCE = 5.0
#: What may be asked of a server that lives, and must then be answered in time.
TIMEOUTS = [0.001, 0.02, PATIENCE, PATIENCE, None]


class Wrong(Exception):
    """Something that must never happen."""


class Tally:
    """What was done, how it ended, and who waits for what since when."""

    def __init__(self) -> None:
        self.done: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()
        self.waiting: dict[object, tuple[float, str]] = {}
        self.running = True

    async def count(self, act: Callable[[], Awaitable[None]]) -> None:
        """One act, and how it ended."""
        me = object()
        self.waiting[me] = monotonic(), act.__name__
        try:
            await act()
            self.done[act.__name__] += 1
        except EXPECTED as error:
            self.failed[type(error).__name__] += 1
        except Exception as error:
            self.wrong[f"{act.__name__}: {type(error).__name__}: {error}"[:300]] += 1
        finally:
            del self.waiting[me]

    def hung(self) -> list[str]:
        """Acts that take longer than any of them may."""
        return [f"{name} since {monotonic() - since:.1f} s" for since, name in self.waiting.values() if monotonic() - since > 3 * PATIENCE]


def check(got: Any, expected: Any) -> None:
    if got != expected:
        raise Wrong(f"got {got!r}, expected {expected!r}")


def one(cls: type[Any]) -> Any:
    return cls(f"{cls.__name__.lower()} {random.randrange(PER_GROUP)}")


async def patient(asking: Awaitable[Any], timeout: float | None) -> Any:
    """A server that is not asked to hurry must not be late."""
    try:
        return await asking
    except CallTimeout as error:
        if timeout == PATIENCE:
            raise Wrong(f"late: {error}") from error
        raise


# --- acts -------------------------------------------------------------------------------------------------------------


async def ask() -> None:
    n, timeout = random.randrange(1000), random.choice(TIMEOUTS)
    check(await patient(one(random.choice(FAULTY)).with_timeout(timeout).ask(n), timeout), 2 * n)


async def ask_the_full_one() -> None:
    check(await Full("full 0").ask(4), 8)


async def ask_an_agent() -> None:
    check(await Sum(f"sum {random.randrange(PER_GROUP)}").get_and_update(lambda n: (n - n, n + 1)), 0)


async def ask_a_partition() -> None:
    n = random.randrange(1000)
    check(await parts.at(n).ask(n), 2 * n)


async def ask_a_room() -> None:
    key = random.randrange(80)
    room = Room(Via(rooms, key))
    try:
        await crowd.start_child(room.child_spec())
    except (beamish.AlreadyStarted, beamish.MaxChildren):
        pass
    check(await room.ask(key), 2 * key)
    if key % 4 == 0:
        await crowd.terminate_child(room)


async def ask_a_task() -> None:
    n = random.randrange(100)
    task = tasks.async_nolink(_double, n)
    match n % 4:
        case 0:
            await task.shutdown()
        case 1:
            await task.yield_(0.0005)
            task.ignore()
        case _:
            check(await task, 2 * n)


async def ask_many_tasks() -> None:
    found = [item async for item in Task.async_stream(range(6), _tripled, max_concurrency=3)]
    check(found, [beamish.Ok(3 * n) for n in range(6)])


async def _double(n: int) -> int:
    await asyncio.sleep(0.001 if n % 3 else 0)
    if n % 10 == 9:
        raise ArithmeticError(n)
    return 2 * n


async def _tripled(n: int) -> int:
    await asyncio.sleep(0)
    return 3 * n


async def administer() -> None:
    sup = Supervisor(random.choice(SUPERVISORS[:3]))
    infos = await sup.which_children()
    counts = await sup.count_children()
    check(len(infos), counts.specs)
    id = random.choice(infos).id
    await sup.terminate_child(id)
    while True:
        try:
            await sup.restart_child(id)
        except SupervisorError:  # a restart of the group was quicker
            return
        except beamish.StartError:  # it was killed in its init, and is the caller's to start again
            continue
        return


async def look() -> None:
    server = one(random.choice([Plain, Slow]))
    await otp_sys.get_state(server)
    await otp_sys.statistics(server, True)
    await otp_sys.statistics(server, "get")
    await otp_sys.statistics(server, False)


async def wait_for_it() -> None:
    await one(Slow).started(timeout=PATIENCE)


async def register() -> None:
    key = 1000 + random.randrange(50)
    rooms.register(key)
    check([pid for pid, _ in rooms.lookup(key)], [beamish.current()])


ACTS: list[tuple[int, Callable[[], Awaitable[None]]]] = [
    (60, ask),
    (6, ask_the_full_one),
    (6, ask_an_agent),
    (6, ask_a_partition),
    (6, ask_a_room),
    (6, ask_a_task),
    (1, ask_many_tasks),
    (2, look),
    (2, wait_for_it),
    (1, administer),  # last: whoever does it must not be killed between stopping a child and starting it again
]
_ACTS, _WEIGHTS = [act for _, act in ACTS], [weight for weight, _ in ACTS]


async def client(tally: Tally) -> None:
    """Plain asyncio code that asks and asks."""
    while tally.running:
        await tally.count(*random.choices(_ACTS, _WEIGHTS))
        await asyncio.sleep(0)


async def process_client(tally: Tally) -> None:
    """The same as a process of its own, which may be killed at any moment, with what a process can have besides."""
    beamish.flag(trap_exit=random.random() < 0.5)
    beamish.own(int)
    while tally.running:
        server = one(random.choice(FAULTY))
        ref = beamish.monitor(server, alias=random.choice([None, "explicit_unalias", "demonitor", "reply_demonitor"]))
        if random.random() < 0.1:
            await tally.count(register)
        await tally.count(*random.choices(_ACTS[:-1], _WEIGHTS[:-1]))
        beamish.demonitor(ref, flush=random.random() < 0.5)
        beamish.unalias(ref)
        try:
            await beamish.receive(timeout=0.0)
        except TimeoutError:
            await asyncio.sleep(0)


# --- faults -----------------------------------------------------------------------------------------------------------


async def harm(tally: Tally, clients: list[Any]) -> None:
    """One fault, of a kind chosen at random."""
    kind = random.choices(["fall", "fail", "kill", "exit", "stop", "supervisor", "others", "client"], [8, 8, 8, 6, 3, 1, 1, 4])[0]
    tally.faults[kind] += 1
    server = one(random.choice(FAULTY))
    try:
        match kind:
            case "fall":
                server.fall()
            case "fail":
                await server.with_timeout(PATIENCE).fail(random.choice(["exit", "stop", "leave", "error"]))
            case "kill":
                beamish.exit(server, KILL)
            case "exit":
                beamish.exit(server, random.choice(["boom", SHUTDOWN]))
            case "stop":
                await server.stop(random.choice([beamish.NORMAL, SHUTDOWN, "enough"]), timeout=PATIENCE)
            case "supervisor":
                beamish.exit(Supervisor(random.choice(SUPERVISORS)), KILL)
            case "others":
                others: list[beamish.GenServer[Any]] = [crowd, tasks, rooms, parts, Full("full 0"), Sum("sum 0")]
                beamish.exit(random.choice(others), KILL)
            case _:
                beamish.exit(random.choice(clients), random.choice([KILL, "boom"]))
    except (beamish.CallExit, asyncio.CancelledError):
        pass


async def chaos(tally: Tally, clients: list[Any], pause: float) -> None:
    """Faults, one after the other, and a new client for every one that was killed."""
    while tally.running:
        await harm(tally, clients)
        for position, pid in enumerate(clients):
            if not beamish.alive(pid):
                clients[position] = beamish.spawn(process_client, tally)
        await asyncio.sleep(random.random() * 2 * pause)
