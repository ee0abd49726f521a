"""Children that come and go, and watching them: DynamicSupervisor, monitors."""

import asyncio
import gc

from beamish import DynamicSupervisor, demonitor, monitor, stop
from benchmarks.harness import Suite, resident_bytes, timed
from benchmarks.ours import Idle

suite = Suite()


@suite.variant("start", "Beamish: DynamicSupervisor.start_child, spec ready", n=50_000)
async def start_child(n: int) -> float:
    spec = Idle.child_spec().replace(restart="temporary")
    supervisor = await DynamicSupervisor.start_link()
    with timed(n) as clock:
        for _ in range(n):
            await supervisor.start_child(spec)
    await stop(supervisor)
    return clock.each


@suite.variant("start", "Beamish: DynamicSupervisor.start_child, spec made for each", n=50_000)
async def start_child_of_its_own(n: int) -> float:
    supervisor = await DynamicSupervisor.start_link()
    with timed(n) as clock:
        for _ in range(n):
            await supervisor.start_child(Idle.child_spec())
    await stop(supervisor)
    return clock.each


@suite.variant("stop", "Beamish: a DynamicSupervisor stops its children", n=100_000)
async def stop_children(n: int) -> float:
    spec = Idle.child_spec()
    supervisor = await DynamicSupervisor.start_link()
    for _ in range(n):
        await supervisor.start_child(spec)
    with timed(n) as clock:
        await stop(supervisor)
    return clock.each


@suite.variant("memory of an idle server", "Beamish: of a DynamicSupervisor, after one call", n=100_000, unit="B", alone=True)
async def memory(n: int) -> float:
    spec = Idle.child_spec()
    gc.collect()
    before = resident_bytes()
    supervisor = await DynamicSupervisor.start_link()
    for _ in range(n):
        await (await supervisor.start_child(spec)).get()
    gc.collect()
    figure = (resident_bytes() - before) / n
    await stop(supervisor)
    return figure


@suite.variant("monitor", "asyncio: add_done_callback, remove_done_callback", n=100_000, baseline=True)
async def done_callback(n: int) -> float:
    def done(_: asyncio.Task[None]) -> None: ...

    task = asyncio.create_task(asyncio.sleep(60))
    with timed(n) as clock:
        for _ in range(n):
            task.add_done_callback(done)
            task.remove_done_callback(done)
    task.cancel()
    return clock.each


@suite.variant("monitor", "Beamish: monitor, demonitor", n=100_000)
async def monitored(n: int) -> float:
    idle = await Idle.start_link()
    with timed(n) as clock:
        for _ in range(n):
            demonitor(monitor(idle))
    return clock.each
