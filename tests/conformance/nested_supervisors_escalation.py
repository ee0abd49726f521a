from __future__ import annotations

from typing import Any

from beamish import ChildSpec, Supervisor, alive, flag
from conformance.words import W, crash, exit_of, out, sec


def inner(id: str, kids: list[str], **opts: Any) -> ChildSpec[Any]:
    return Supervisor(id).child_spec([W.spec(one) for one in kids], **opts)


async def scenario() -> None:
    flag(trap_exit=True)
    for outer in ("one_for_one", "one_for_all", "rest_for_one"):
        sec(f"outer {outer}: w1, inner(a,b; max_restarts 1), w2")
        children = [W.spec("w1"), inner("inner", ["a", "b"], strategy="one_for_one", max_restarts=1), W.spec("w2")]
        s = await Supervisor.start_link(children, strategy=outer)
        await crash("b", "boom")
        out("second crash escalates")
        await crash("b", "boom")
        out("outer alive", alive(s))
        out("b answers", await W("b").call("ping"))
        out("stop")
        await s.stop()
    sec("three levels: both intensities 0, everything falls with shutdown")
    lowest = inner("inner", ["a"], strategy="one_for_one", max_restarts=0)
    mid = Supervisor("mid").child_spec([lowest], strategy="one_for_one", max_restarts=0)
    s = await Supervisor.start_link([W.spec("w1"), mid], strategy="one_for_one", max_restarts=0)
    await crash("a", "boom")
    reason = await exit_of(s, 500)
    if reason == "no_exit":
        out("no EXIT")
    else:
        out("parent got EXIT", reason)
