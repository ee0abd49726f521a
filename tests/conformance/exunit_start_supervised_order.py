from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NoReturn

from beamish import StartError, child, whereis
from beamish.testing import Kit, World
from conformance import words
from conformance.words import W, answer, crash, out

failures = 0


async def test(body: Callable[[Kit], Awaitable[None]]) -> None:
    """`test "…" do`: a test in a world of its own, whose time is the script's."""
    global failures
    async with World(words._clock, check_leaks=False) as world:
        kit = Kit(world, real_time=True)
        try:
            await kit.play(lambda: body(kit))
        except AssertionError:
            failures += 1


async def why() -> NoReturn:
    raise StartError("why")


async def order(kit: Kit) -> None:
    kit.on_exit(lambda: out("on_exit 1"))
    kit.on_exit(lambda: out("on_exit 2"))
    await kit.start_supervised(W.spec("a"))
    await kit.start_supervised(W.spec("b"))
    out("dup", await answer(kit.start_supervised(W.spec("b"))))
    out("fail", (await answer(kit.start_supervised(child(why, id="bad"))))[1])
    out("stop_supervised", await answer(kit.stop_supervised("a")))
    out("stop_supervised again", await answer(kit.stop_supervised("a")))
    await kit.start_supervised(W.spec("c"))
    out("body done")


async def restarts(kit: Kit) -> None:
    await kit.start_supervised(W.spec("p"))
    with kit.capture_crashes():
        await crash("p", "boom")
    out("p is back", whereis("p") is not None)
    await kit.start_supervised(W.spec("t", restart="temporary"))
    with kit.capture_crashes():
        await crash("t", "boom")
    out("t is gone", whereis("t") is None)


async def scenario() -> None:
    global failures
    failures = 0
    await test(order)
    await test(restarts)
    out("failures", failures)
