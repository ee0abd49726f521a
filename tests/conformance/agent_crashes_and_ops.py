from __future__ import annotations

import operator
from functools import partial
from typing import Any

import beamish
from beamish import Agent, Exit, current, monitor, send
from conformance.words import answer, down, out, sec, sleep, try_


async def new() -> Agent[int]:
    return await Agent[int].start(lambda: 1)


def raises(state: int) -> Any:
    raise RuntimeError("oops")


def exits(state: int) -> Any:
    raise Exit("boom")


async def slow(state: int) -> None:
    await sleep(200)


async def reason_of(fun: Any) -> Any:
    return (await try_(fun))[1].reason


async def scenario() -> None:
    sec("crash inside the function kills the agent and the caller's call exits")
    for verb in ("get", "update", "get_and_update"):
        for kind, function in (("raise", raises), ("exit", exits)):
            p = await new()
            ref = monitor(p)
            out(f"{verb} {kind} ->", await reason_of(partial(getattr(p, verb), function)))
            out("  DOWN", await down(ref))
    p = await new()
    ref = monitor(p)
    out("cast raise returns", p.cast(raises) or "ok")
    out("  DOWN", await down(ref))
    p = await new()
    ref = monitor(p)
    out("get_and_update bad return", await reason_of(lambda: p.get_and_update(lambda _: "bad")))  # type: ignore[call-overload]
    out("  DOWN", await down(ref))

    sec("ordinary operations run in the agent's own process")
    p = await new()
    out("get", await p.get(lambda state: state))
    out("update", await answer(p.update(lambda state: state + 1)))
    out("get_and_update", await p.get_and_update(lambda state: (state, state * 10)))
    out("cast", p.cast(lambda state: state + 1) or "ok")
    out("get", await p.get(lambda state: state))
    out("runs in agent", await p.get(lambda _: current() == p.pid()))
    out("mfa get", await p.get(operator.add, 100))
    out("timeout", await reason_of(lambda: p.with_timeout(0.02).get(slow)))
    out("agent is still alive after a client timeout", await p.get(lambda state: state))
    out("stop", await answer(p.stop()))
    out("get after stop", await reason_of(lambda: p.get(lambda state: state)))

    sec("start failures")
    out("raise in init fun", await answer(Agent[int].start(raises, 0)))
    out("exit in init fun", await answer(Agent[int].start(exits, 0)))
    p = await Agent[int]("ag").start(lambda: 1)
    try:
        await Agent[int]("ag").start(lambda: 1)
    except beamish.AlreadyStarted as there:
        out("already_started", there.address == p)
    send(p, "whatever")
    out("an agent ignores unknown info", await Agent[int]("ag").get(lambda state: state))
