from __future__ import annotations

import dataclasses

from beamish import KILL, NORMAL, SHUTDOWN, Shutdown, Supervisor, flag
from conformance.words import W, crash, f, out, sec


async def scenario() -> None:
    flag(trap_exit=True)
    for restart in ("permanent", "transient", "temporary"):
        for reason in (NORMAL, SHUTDOWN, Shutdown("x"), "boom", KILL):
            sec(f"{restart} {f(reason)}")
            s = await Supervisor.start_link([W.spec("a", restart=restart)], strategy="one_for_one")
            await crash("a", reason)
            kids = [
                (one.id, "running" if isinstance(one.child, W) else one.child or "undefined", one.type, [one.start])
                for one in await s.which_children()
            ]
            out("which_children", kids)
            out("count_children", sorted(dataclasses.asdict(await s.count_children()).items()))
            await s.stop()
