from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from beamish import Exit, Exited, Ignore, Ignored, StartError, Stop, Supervisor, child, flag, whereis
from conformance.words import W, answer, crash, exit_of, flush, out, sec, settle


async def error() -> Any:
    raise StartError("why")


async def raise_() -> Any:
    raise RuntimeError("oops")


async def exit() -> Any:
    raise Exit("boom")


async def rubbish() -> Any:
    return "rubbish"


def raising(_: Any) -> Any:
    raise RuntimeError("oops")


def flaky(*oks: int) -> Callable[[], Any]:
    """A start function that succeeds at its attempts number `oks`."""
    attempts = itertools.count()

    async def start() -> Any:
        n = next(attempts)
        if n in oks:
            return await W("flaky").start_link("flaky")
        out(f"start {n} fails")
        raise StartError("nope")

    return start


def up(id: str) -> bool:
    return whereis(id) is not None


async def scenario() -> None:
    flag(trap_exit=True)
    sec("a child fails at first start: the started ones are stopped in reverse order, start_link fails")
    for name, fn in {"error": error, "raise": raise_, "exit": exit, "rubbish": rubbish}.items():
        children = [W.spec("a"), W.spec("b"), child(fn, id="bad"), W.spec("c")]
        out(f"{name} ->", await answer(Supervisor.start_link(children, strategy="one_for_one")))
        out("  EXIT", [one.reason for one in await flush() if isinstance(one, Exited)])
    children = [W.spec("a"), W.spec("x", init=lambda _: Stop("boom"))]
    out("GenServer child {:stop, :boom} ->", await answer(Supervisor.start_link(children, strategy="one_for_one")))
    await flush()
    children = [W.spec("a"), W.spec("x", init=raising)]
    out("GenServer child raising ->", await answer(Supervisor.start_link(children, strategy="one_for_one")))
    await flush()

    sec(":ignore child: kept with pid :undefined (not for temporary), supervisor starts")
    ig = W.spec("ig", init=lambda _: Ignore())
    it = W.spec("it", restart="temporary", init=lambda _: Ignore())
    s = await Supervisor.start_link([W.spec("a"), ig, it, W.spec("c")], strategy="one_for_one")
    out("which_children", [(one.id, "undefined" if one.child is None else "running") for one in await s.which_children()])
    out("restart_child of an ignored one", ("ok", await s.restart_child("ig") or "undefined"))
    await s.stop()

    sec("a child fails at RESTART: retried, each try counts, others are untouched until the intensity is spent")
    s = await Supervisor.start_link([W.spec("a"), child(flaky(0, 3), id="flaky"), W.spec("c")], strategy="one_for_one", max_restarts=3)
    await crash("flaky", "boom")
    out("recovered", up("flaky"))
    await s.stop()
    sec("... and when it never recovers")
    s = await Supervisor.start_link([W.spec("a"), child(flaky(0), id="flaky"), W.spec("c")], strategy="one_for_one", max_restarts=3)
    await crash("flaky", "boom")
    out("parent got", await exit_of(s))
    for strategy in ("one_for_all", "rest_for_one"):
        sec(f"{strategy}: child b fails its first restart while a group restart is under way")
        s = await Supervisor.start_link([W.spec("a"), child(flaky(0, 2), id="flaky"), W.spec("c")], strategy=strategy, max_restarts=3)
        await crash("a", "boom")
        await settle(60)
        out("all up", [up(id) for id in ("a", "flaky", "c")])
        await s.stop()

    sec("the child returns :ignore at restart: kept as :undefined")
    attempts = itertools.count()

    async def once() -> Any:
        if next(attempts) == 0:
            return await W("f").start_link("f")
        raise Ignored

    s = await Supervisor.start_link([child(once, id="f")], strategy="one_for_one")
    await crash("f", "boom")
    out("which_children", [(one.id, one.child or "undefined") for one in await s.which_children()])
    await s.stop()
