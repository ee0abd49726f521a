# mypy: ignore-errors
"""TriOTP: gen_servers and supervisors on trio; a module is a server."""

import gc
import statistics
import sys
import time

import trio
from answers import PATIENCE, ROUNDS, described, say, waited
from logbook import NullHandler
from triotp import gen_server, mailbox, supervisor

NullHandler().push_application()
starts = []
stopped = []


# --- the callbacks of the gen_server that this module is


async def init(name):
    starts.append(name)
    return [name, 0]


async def handle_call(by, client, state):
    state[1] += 10 // by
    return gen_server.Reply(state[1]), state


async def handle_cast(by, state):
    state[1] += 10 // by
    return gen_server.NoReply(), state


async def terminate(reason, state):
    stopped.append(state[0])


def server(name, restart=supervisor.restart_strategy.PERMANENT):
    return supervisor.child_spec(id=name, task=gen_server.start, args=[sys.modules[__name__], name, name], restart=restart)


async def median_ns(n, operation):
    figures = []
    for _ in range(ROUNDS):
        gc.collect()
        start = time.perf_counter_ns()
        for _ in range(n):
            await operation()
        figures.append((time.perf_counter_ns() - start) / n)
    return statistics.median(figures)


async def seen(by):
    start = time.monotonic()
    answer = "nothing, it waits for ever"
    with trio.move_on_after(PATIENCE):
        try:
            answer = repr(await gen_server.call("counter", by))
        except Exception as error:
            answer = described(error)
    return f"{answer}, {waited(start)}"


async def main():
    mailbox._init()
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.start, [server("counter")], supervisor.options(max_restarts=3, max_seconds=5))
        await trio.sleep(0.1)
        say("call", await median_ns(2_000, lambda: gen_server.call("counter", 1)))
        say("cast", await median_ns(2_000, lambda: gen_server.cast("counter", 1)))
        say("crash seen by its client", await seen(0))
        say("restart", f"the name has the new one: {await seen(1)}")
        nursery.cancel_scope.cancel()
    await limit()
    await stop_order()


async def limit():
    starts.clear()
    ended = "the supervisor goes on"
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.start, [server("counter")], supervisor.options(max_restarts=3, max_seconds=5))
            for _ in range(10):
                await trio.sleep(0.05)
                await gen_server.cast("counter", 0)
            nursery.cancel_scope.cancel()
    except BaseException as error:
        ended = f"then the supervisor fails with {type(error).__name__}"
    say("restart limit", f"{len(starts) - 1} restarts with 3 allowed, {ended}")


async def stop_order():
    stopped.clear()
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.start, [server(name) for name in "abc"], supervisor.options())
        await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    say("stop order of a, b, c", " ".join(stopped) or "terminate is not called when the tree is stopped")


trio.run(main)
