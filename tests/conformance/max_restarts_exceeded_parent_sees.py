from __future__ import annotations

from typing import Any

from beamish import Supervisor, alive, flag
from conformance.words import W, crash, exit_of, forever, in_proc, out, sec


async def scenario() -> None:
    flag(trap_exit=True)
    for most in (0, 1, 3):
        sec(f"max_restarts {most}")
        s = await Supervisor.start_link([W.spec(id) for id in "abc"], strategy="one_for_one", max_restarts=most, max_seconds=5)
        for i in range(1, most + 2):
            out(f"attempt {i}")
            await crash("b", "boom")
        await parent_got(s)
    sec("default is 3 in 5 seconds")
    s = await Supervisor.start_link([W.spec("a")], strategy="one_for_one")
    for _ in range(3):
        await crash("a", "boom")
    out("alive after 3", alive(s))
    await crash("a", "boom")
    await parent_got(s)
    sec("a parent that does not trap exits dies with it")

    async def parent() -> None:
        await Supervisor.start_link([W.spec("a")], strategy="one_for_one", max_restarts=0)
        await crash("a", "boom")
        await forever()

    out("parent died", await in_proc(parent))


async def parent_got(s: Any) -> None:
    reason = await exit_of(s, 500)
    if reason == "no_exit":
        out("no EXIT")
    else:
        out("parent got EXIT", reason)
