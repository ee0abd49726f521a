# mypy: ignore-errors
"""fauxtp: GenServers and supervisors on anyio."""

import asyncio

import anyio
from answers import PATIENCE, median_ns_async, say, seen
from fauxtp import ChildSpec, GenServer, Registry, Supervisor, call, cast

starts = []
stopped = []


class Counter(GenServer):
    async def init(self):
        starts.append("counter")
        return 0

    async def handle_call(self, by, from_ref, total):
        total += 10 // by
        return total, total

    async def handle_cast(self, by, total):
        return total + by


class Named(GenServer):
    def __init__(self, name):
        super().__init__()
        self.name = name

    async def init(self):
        return None

    async def terminate(self, reason, state):
        stopped.append(self.name)


async def speed(group):
    counter = await Counter.start(task_group=group)

    async def calls():
        for _ in range(2_000):
            await call(counter, 1)

    async def casts():
        for _ in range(2_000):
            await cast(counter, 1)
        await call(counter, 1)

    say("call", await median_ns_async(2_000, calls))
    say("cast", await median_ns_async(2_000, casts))


async def crash(group):
    registry = await Registry.start(task_group=group)
    await Supervisor.start(children=[ChildSpec(Counter, "counter")], registry=registry, task_group=group)
    await anyio.sleep(0.1)
    counter = await call(registry, ("get", "counter"))
    await call(counter, 1)
    say("crash seen by its client", f"{await seen(call(counter, 0, timeout=PATIENCE / 2))}, its own time limit")
    fresh = await call(registry, ("get", "counter"))
    say("restart", f"the registry has the new one: {await seen(call(fresh, 1))}; the old pid: {await seen(call(counter, 1, timeout=0.5))}")
    starts.clear()
    for _ in range(10):
        fresh = await call(registry, ("get", "counter"))
        await cast(fresh, "not a number")
        await anyio.sleep(0.05)
    say("restart limit", f"{len(starts)} restarts after 10 crashes within 0.5 s; no limit can be given")


async def stop(group):
    handle = await Supervisor.start_link(children=[ChildSpec(Named, name, (name,)) for name in "abc"], task_group=group)
    await anyio.sleep(0.1)
    handle.cancel_scope.cancel()
    await anyio.sleep(0.2)
    by_supervisor = " ".join(stopped) or "none are stopped"
    group.cancel_scope.cancel()
    with anyio.CancelScope(shield=True):
        await anyio.sleep(0.2)
    say("stop order of a, b, c", f"with their supervisor {by_supervisor}; with the task group {' '.join(stopped) or 'no terminate'}")


async def main():
    async with anyio.create_task_group() as group:
        await speed(group)
        await crash(group)
        await stop(group)


asyncio.run(main())
