# mypy: ignore-errors
"""otpylib: GenServers, supervisors and processes on asyncio; a module is a class of the metaclass OTPModule."""

import asyncio

from answers import PATIENCE, median_ns_async, say, seen
from otpylib import gen_server, process, supervisor
from otpylib.module import GEN_SERVER, SUPERVISOR, OTPModule
from otpylib.runtime import set_runtime
from otpylib.runtime.backends.asyncio_backend.backend import AsyncIOBackend

starts = []
stopped = []


class Counter(metaclass=OTPModule, behavior=GEN_SERVER, version="1.0.0"):
    async def init(self, name):
        starts.append(name)
        return [name, 0]

    async def handle_call(self, by, client, state):
        state[1] += 10 // by
        return gen_server.Reply(state[1]), state

    async def handle_cast(self, by, state):
        state[1] += 10 // by
        return gen_server.NoReply(), state

    async def handle_info(self, message, state):
        return gen_server.NoReply(), state

    async def terminate(self, reason, state):
        stopped.append(state[0])


class Tree(metaclass=OTPModule, behavior=SUPERVISOR, version="1.0.0"):
    async def init(self, names):
        children = [supervisor.child_spec(id=name, module=Counter, args=name, name=name) for name in names]
        return children, supervisor.options(max_restarts=3, max_seconds=5)

    async def terminate(self, reason, state):
        pass


async def speed():
    counter = "fast"  # a call by pid does not find the server
    await gen_server.start(Counter, "fast", name=counter)

    async def calls():
        for _ in range(2_000):
            await gen_server.call(counter, 1)

    async def casts():
        for _ in range(2_000):
            await gen_server.cast(counter, 1)
        await gen_server.call(counter, 1)

    say("call", await median_ns_async(2_000, calls))
    say("cast", await median_ns_async(2_000, casts))


async def crash():
    tree = await supervisor.start_link(Tree, ["counter"])
    say("crash seen by its client", await seen(gen_server.call("counter", 0)))
    await asyncio.sleep(0.1)
    say("restart", f"the name has the new one: {await seen(gen_server.call('counter', 1))}")
    starts.clear()
    for _ in range(10):
        await asyncio.sleep(0.05)
        await gen_server.cast("counter", 0)
    await asyncio.sleep(0.1)
    ended = "the supervisor goes on" if process.is_alive(tree) else "then the supervisor ends"
    say("restart limit", f"{len(starts) + 1} restarts with 3 allowed, {ended}")


async def stop():
    tree = await supervisor.start_link(Tree, ["a", "b", "c"])
    await process.exit(tree, supervisor.SHUTDOWN)
    await asyncio.sleep(0.2)
    left = [name for name in "abc" if process.whereis(name)]
    exited = f"its exit with SHUTDOWN leaves {' '.join(left) or 'none'} running"
    if process.is_alive(tree):
        await process.send(tree, supervisor.SHUTDOWN)
    await asyncio.sleep(0.2)
    say("stop order of a, b, c", f"{exited}; after the message SHUTDOWN {' '.join(stopped) or 'terminate is not called'}")


async def main():
    backend = AsyncIOBackend()
    await backend.initialize()
    set_runtime(backend)
    done = asyncio.Event()

    async def client():
        for part in (speed, crash, stop):
            try:
                await part()
            except Exception as error:
                print(f"{part.__name__}: {type(error).__name__}({error})", flush=True)
        done.set()

    await process.spawn(client, mailbox=True)
    await asyncio.wait_for(done.wait(), PATIENCE * 10)
    await backend.shutdown()


asyncio.run(main())
