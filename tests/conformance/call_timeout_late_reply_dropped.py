from __future__ import annotations

from typing import Any

from beamish import Client, GenServer, Reply, alive, reply
from conformance.words import flush, out, sec, settle, sleep, try_


class S(GenServer[int]):
    def init(self, a: int) -> int:
        return a

    async def handle_call(self, state: int, request: Any, client: Client) -> Any:
        match request:
            case "slow", ms, v:
                await sleep(ms)
                return Reply(v, state=state + 1)
            case "count":
                return state


class Twice(GenServer[int]):
    def init(self, a: int) -> int:
        return a

    async def handle_call(self, state: int, request: Any, client: Client) -> Any:
        reply(client, 1)
        await sleep(30)
        return 2


async def scenario() -> None:
    p = await S.start_link(0)
    out("call ->", await try_(lambda: p.call(("slow", 150, "late"), timeout=0.04)))
    out("server alive", alive(p))
    out("next call waits behind the slow one", await p.call("count"))
    out("mailbox after the late reply was sent", await flush())
    out("timeout 0 ->", await try_(lambda: p.call("count", timeout=0)))
    await settle()
    out("mailbox", await flush())
    sec("a reply sent twice, the second after the client resumed: the second is dropped")
    twice = await Twice.start_link(0)
    out("got", await twice.call("x"))
    await settle(80)
    out("mailbox", await flush())
    sec("infinite timeout uses a plain ref, so a second reply DOES land in the mailbox (OTP 25)")
    out("got", await twice.call("x", timeout=None))
    await settle(80)
    out("mailbox", await flush())
