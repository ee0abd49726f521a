from __future__ import annotations

from typing import Any

from beamish import KILL, NORMAL, SHUTDOWN, At, Client, Exit, GenServer, Ignore, NoReply, Registry, Stop, Via, current, exit, node
from conformance.words import out, try_

REASONS = {"normal": NORMAL, "shutdown": SHUTDOWN}


class S(GenServer[int]):
    def init(self, a: int) -> int:
        return a

    async def handle_call(self, state: int, request: Any, client: Client) -> Any:
        match request:
            case "raise":
                raise RuntimeError("oops")
            case "exit", r:
                raise Exit(REASONS.get(r, r))
            case "stop", r:
                return Stop(REASONS.get(r, r))
            case "stop", r, reply:
                return Stop(r, reply=reply)
            case "bad":
                return Ignore()
            case "never":
                return NoReply()
            case "kill_self":
                exit(current(), KILL)
            case "call_self", address:
                # Only a server can be called, so what the script does to itself is done inside one.
                out(f"call self by {'pid' if address is None else 'name'} ->", await try_(lambda: (address or self).call("x")))
        return None


async def scenario() -> None:
    async def call(what: Any) -> Any:
        p = await S.start(0)
        return await try_(lambda: p.call(what, timeout=0.3))

    out("raise ->", await call("raise"))
    out("exit boom ->", await call(("exit", "boom")))
    out("exit normal ->", await call(("exit", "normal")))
    out("stop boom, no reply ->", await call(("stop", "boom")))
    out("stop normal, no reply ->", await call(("stop", "normal")))
    out("stop shutdown, no reply ->", await call(("stop", "shutdown")))
    out("stop boom with reply ->", await call(("stop", "boom", "bye")))
    out("bad return ->", await call("bad"))
    out("timeout ->", await call("never"))
    out("killed ->", await call("kill_self"))
    out("no clause ->", await call("unknown"))
    p = await S.start(0)
    await p.stop()
    out("dead pid ->", await try_(lambda: p.call("x")))
    out("absent atom ->", await try_(lambda: S("absent").call("x")))
    out("absent {name, node()} ->", await try_(lambda: S(At("absent", node())).call("x")))
    registry = await Registry[str, None]("R").start_link(keys="unique")
    out("absent via ->", await try_(lambda: S(Via(registry, "absent")).call("x")))
    out("other node ->", await try_(lambda: S(At("absent", "x@nowhere")).call("x")))
    p = await S.start(0)
    await p.call(("call_self", None))
    me = await S("me").start(0)
    await me.call(("call_self", me))
    out("bad timeout ->", (await try_(lambda: p.call("x", timeout=-1)))[0])
