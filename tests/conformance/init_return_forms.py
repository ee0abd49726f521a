from __future__ import annotations

from collections.abc import Callable
from typing import Any

from beamish import (
    NORMAL,
    SHUTDOWN,
    Exit,
    Exited,
    GenServer,
    Ignore,
    Init,
    Reply,
    Stop,
    current,
    flag,
    monitor,
    receive,
    register,
    send,
    whereis,
)
from conformance.words import answer, down, flush, in_proc, n, out, settle, sleep


class S(GenServer[Any]):
    def init(self, form: Callable[[], Any]) -> Any:
        send("tester", current())
        return form()

    def terminate(self, state: Any, reason: Any) -> None:
        out("TERMINATE CALLED", reason)


def raising(error: BaseException) -> Callable[[], Any]:
    def form() -> Any:
        raise error

    return form


FORMS: dict[str, Callable[[], Any]] = {
    "ok": lambda: 0,
    "ignore": Ignore,
    "stop_boom": lambda: Stop("boom"),
    "stop_normal": lambda: Stop(NORMAL),
    "stop_shutdown": lambda: Stop(SHUTDOWN),
    "raise": raising(RuntimeError("oops")),
    "exit_boom": raising(Exit("boom")),
    "exit_normal": raising(Exit(NORMAL)),
    "bad_return": lambda: Reply("rubbish"),
    "bad_timeout": lambda: Init(0, then="soon"),  # type: ignore[arg-type]
}


async def scenario() -> None:
    register("tester")
    flag(trap_exit=True)
    for name, form in FORMS.items():
        r = n(await answer(S("srv").start(form)))
        pid = await receive(lambda m: not isinstance(m, Exited))
        ref = monitor(pid)
        if r[0] == "ok":
            await S(pid).stop()
        await settle(20)
        if await down(ref, 500) == "no_down":
            out("STILL ALIVE")
        out(f"start {name} ->", r)

        r = await answer(S.start_link(form))
        out(f"start_link, caller traps, {name} ->", r)
        await receive(lambda m: not isinstance(m, Exited))
        if r[0] == "ok":
            await r[1].stop()
        await settle(20)
        out("  mailbox", [("EXIT", one.reason) for one in await flush() if isinstance(one, Exited)])

        async def caller(form: Callable[[], Any] = form) -> None:
            r = await answer(S.start_link(form))
            await sleep(30)
            raise Exit(("caller_survived", n(r)))

        out("  start_link, caller does not trap ->", await in_proc(caller))
        await receive(lambda m: not isinstance(m, Exited))
    out("name is free again", whereis("srv"))
