from __future__ import annotations

from beamish import Supervisor, flag
from conformance.words import W, crash, out, sec


async def scenario() -> None:
    flag(trap_exit=True)
    for ids in (["a", "b", "c"], ["a", "b", "c", "d", "e"]):
        for victim in ids:
            sec(f"rest_for_one {','.join(ids)} crash {victim}")
            s = await Supervisor.start_link([W.spec(id) for id in ids], strategy="rest_for_one")
            await crash(victim, "boom")
            out("stop supervisor")
            await s.stop()
