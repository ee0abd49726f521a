from __future__ import annotations

from typing import Any

from beamish import At, Client, Continue, Down, GenServer, Init, MultiCall, Ref, Registry, Via, current, flag, monitor, node, send
from beamish.sys import get_state
from conformance.words import down, exit_of, out, sec, try_
from conformance.words_more import ok


class S(GenServer[int]):
    def init(self) -> int:
        return 0

    def handle_call(self, state: int, request: Any, client: Client) -> str:
        return "answer"

    def handle_cast(self, state: int, request: Any) -> None:
        out("cast", request)

    def handle_info(self, state: int, message: Any) -> None:
        out("info", message)


class D(GenServer[int]):
    def init(self) -> int:
        return 0


class C(GenServer[int]):
    def init(self) -> Init:
        return Init(0, then=Continue("x"))


def answers(found: MultiCall[Any]) -> Any:
    return found.replies, found.bad_nodes


async def scenario() -> None:
    d = await S.start()
    await d.stop()
    out("cast dead pid", ok(d.cast("x")))
    out("cast absent atom", ok(S("absent").cast("x")))
    registry = await Registry[str, None]("R").start_link(keys="unique")
    out("cast absent via", ok(S(Via(registry, "absent")).cast("x")))
    out("cast absent {name,node}", ok(S(At("absent", node())).cast("x")))
    out("abcast", "abcast" if S("absent").abcast("x", nodes=[node(), "no@where"]) is None else "not None")
    p = await S("srv").start_link()
    out("multi_call local", answers(await p.multi_call("q", nodes=[node()], timeout=0.5)))
    out("multi_call local + bad node", answers(await p.multi_call("q", nodes=[node(), "no@where"], timeout=0.5)))
    out("multi_call absent name", answers(await S("absent").multi_call("q", nodes=[node()], timeout=0.5)))
    p.abcast("hello", nodes=[node()])
    await get_state(p)
    sec("order of one sender's messages is kept across call/cast/send")
    p.cast(1)
    send(p, 2)
    p.cast(3)
    send(p, (4, "four"))
    out("call", await p.call("q"))
    sec("messages not matched by the call protocol reach handle_info; unknown refs and DOWNs too")
    send(p, (Ref(), "stray"))
    send(p, Down(Ref(), current(), "r"))
    await get_state(p)
    sec("default callbacks: unknown call and cast crash the server, unknown info is logged and ignored")
    plain = await D.start()
    send(plain, "whatever")
    out("state after unknown info", await get_state(plain))
    out("unknown call", await try_(lambda: plain.call("q")))
    plain = await D.start()
    ref = monitor(plain)
    plain.cast("q")
    out("unknown cast", await down(ref))
    flag(trap_exit=True)
    c = await C.start_link()
    out("continue without handle_continue", await exit_of(c))
