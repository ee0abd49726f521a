from __future__ import annotations

from typing import Any

from beamish import Answer, Client, GenServer, Hibernate, Init, NoReply, Reply, TimedOut, Timeout, current, send
from beamish.sys import get_state
from conformance.words import out, sec, settle, sleep


class S(GenServer[int]):
    def init(self, then: Any) -> Init:
        match then:
            case "pre", seconds:
                send(current(), "queued")
                return Init(0, then=Timeout(seconds))
            case "infinity":
                return Init(0)
            case "hibernate":
                return Init(0, then=Hibernate())
            case seconds:
                return Init(0, then=Timeout(seconds))

    def handle_info(self, state: int, message: Any) -> NoReply | None:
        match message:
            case TimedOut():
                out("timeout")
            case "again", seconds:
                out("again")
                return NoReply(then=Timeout(seconds))
            case _:
                out("info", message)
        return None

    def handle_call(self, state: int, request: Any, client: Client) -> Answer[str]:
        return Reply("ok", then=Timeout(0.04)) if request == "t" else Reply("ok")

    def handle_cast(self, state: int, request: Any) -> NoReply:
        return NoReply(then=Timeout(0.0))


async def scenario() -> None:
    sec("init timeout 0, empty mailbox")
    await S.start_link(0.0)
    await settle()
    sec("init timeout 0, message already queued: the message wins and cancels the timeout")
    p = await S.start_link(("pre", 0.0))
    await get_state(p)
    await settle()
    sec("call returning 40 ms: fires")
    out("call", await p.call("t"))
    await sleep(90)
    sec("call returning 40 ms, then any message: cancelled, not re-armed")
    out("call", await p.call("t"))
    send(p, "hello")
    await sleep(90)
    sec("call returning 40 ms, then a call: cancelled")
    out("call", await p.call("t"))
    out("call", await p.call("plain"))
    await sleep(90)
    sec("call returning 40 ms, then a system message (get_state): the timer is restarted, still fires")
    out("call", await p.call("t"))
    await sleep(10)
    await get_state(p)
    await sleep(110)
    sec("timeout does not repeat unless returned again")
    send(p, ("again", 0.03))
    await sleep(120)
    sec("cast returning 0")
    p.cast("t")
    await settle()
    sec("a plain :timeout message sent by anyone looks the same")
    send(p, "timeout")
    await settle()
    sec("init {:ok, s, :infinity} and :hibernate")
    await S.start_link("infinity")
    h = await S.start_link("hibernate")
    out("hibernated still answers", await h.call("plain"))
