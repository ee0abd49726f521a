# mypy: ignore-errors
"""Xoscar: actors in pools of processes. Calls are measured inside one process; only a process that dies is restarted."""

import asyncio
import logging
import os
import time

import xoscar
from answers import PATIENCE, median_ns_async, say, seen

logging.disable(logging.CRITICAL)


class Counter(xoscar.Actor):
    def __init__(self):
        self.total = 0

    def add(self, by):
        self.total += 100  # a half-done change that only a fresh state forgets
        self.total += 10 // by - 100
        return self.total

    def die(self):
        os._exit(1)


stopped = []


class Named(xoscar.Actor):
    def __init__(self, name):
        self.name = name

    async def __pre_destroy__(self):
        stopped.append(self.name)


async def speed(pool):
    counter = await xoscar.create_actor(Counter, address=pool.external_address, uid="counter")

    async def calls():
        for _ in range(2_000):
            await counter.add(1)

    async def casts():
        for _ in range(2_000):
            await counter.add.tell(1)
        await counter.add(1)

    say("call", await median_ns_async(2_000, calls))
    say("cast", await median_ns_async(2_000, casts))
    before = await counter.add(1)
    say("crash seen by its client", await seen(counter.add(0)))
    return await counter.add(1) - before - 10


async def stop(pool):
    for name in "abc":
        await xoscar.create_actor(Named, name, address=pool.external_address, uid=name)
    await pool.stop()
    say("stop order of a, b, c", " ".join(stopped) or "__pre_destroy__ is not called when the pool stops")


async def die(kept):
    pool = await xoscar.create_actor_pool("127.0.0.1", n_process=1, auto_recover="actor", monitor_interval=0.2)
    async with pool:
        [address] = (await xoscar.get_pool_config(pool.external_address)).get_external_addresses()[1:]
        counter = await xoscar.create_actor(Counter, address=address, uid="counter")
        await counter.add(1)
        start = time.monotonic()
        died = await seen(counter.die())
        try:
            await asyncio.wait_for(xoscar.wait_actor_pool_recovered(address, pool.external_address), PATIENCE * 4)
            again = f"then a fresh one ({await seen(counter.add(1))}) {time.monotonic() - start:.1f} s later"
        except Exception as error:
            again = f"then no new one: {type(error).__name__}"
        say(
            "restart",
            f"no: after an error the actor goes on, its half-made change kept ({kept} too much); if its process dies: {died}, {again}",
        )
    say("restart limit", "no limit can be given")


async def main():
    pool = await xoscar.create_actor_pool("127.0.0.1", n_process=0)
    kept = await speed(pool)
    await stop(pool)
    await die(kept)


if __name__ == "__main__":
    asyncio.run(main())
