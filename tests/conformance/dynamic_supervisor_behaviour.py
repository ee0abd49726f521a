from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from beamish import (
    Agent,
    AlreadyStarted,
    DynamicSupervisor,
    Exit,
    Exited,
    Ignored,
    MaxChildren,
    NotFound,
    StartError,
    child,
    flag,
    monotonic,
    receive,
    send,
    spawn_link,
    whereis,
)
from conformance.words import W, crash, exit_of, forever, out, sec, settle, sleep, try_


async def ignore() -> Any:
    raise Ignored


async def error() -> Any:
    raise StartError("why")


async def rubbish() -> Any:
    return "rubbish"


async def raise_() -> Any:
    raise RuntimeError("oops")


async def exit_() -> Any:
    raise Exit("boom")


async def extra() -> Any:
    return spawn_link(forever), "extra"


async def answer(work: Awaitable[Any]) -> Any:
    """What `start_child` and `terminate_child` answer in OTP."""
    try:
        value = await work
    except MaxChildren:
        return "error", "max_children"
    except NotFound:
        return "error", "not_found"
    except AlreadyStarted as there:
        return "already_started", there.address.pid() == whereis("b")
    except Ignored:
        return "ignore"
    except StartError as failed:
        return "error", failed.reason
    if isinstance(value, tuple):
        return "ok", *value
    return "ok" if value is None else ("ok", value)


async def count(s: DynamicSupervisor) -> Any:
    counts = await s.count_children()
    return [("active", counts.active), ("specs", counts.specs), ("supervisors", counts.supervisors), ("workers", counts.workers)]


async def scenario() -> None:
    flag(trap_exit=True)
    await max_children()
    await what_start_child_returns()
    await extra_arguments()
    sec("only one_for_one")
    refused = (await answer(DynamicSupervisor.start_link(strategy="one_for_all")))[1]  # type: ignore[call-arg]
    out("->", type(refused.error))
    await restarts_that_fail()
    await stopping()


async def max_children() -> None:
    sec("max_children")
    s = await DynamicSupervisor.start_link(max_children=2)
    out("1", (await answer(s.start_child(W.spec("a"))))[0] == "ok")
    out("2 same id is fine", (await answer(s.start_child(W.spec("b").replace(id="a"))))[0] == "ok")
    out("3", await answer(s.start_child(W.spec("c"))))
    out("duplicate registered name at the limit", await answer(s.start_child(W.spec("a"))))
    a = whereis("a")
    assert a is not None
    out("terminate_child", await answer(s.terminate_child(a)))
    out("terminate_child again", await answer(s.terminate_child(a)))
    out("slot is free, duplicate name", await answer(s.start_child(W.spec("b"))))
    out("slot is free", (await answer(s.start_child(W.spec("c"))))[0] == "ok")
    out("count", await count(s))
    await s.stop()


async def what_start_child_returns() -> None:
    sec("start_child returns")
    s = await DynamicSupervisor.start_link()
    for label, start in (("ignore", ignore), ("error", error), ("rubbish", rubbish), ("raise", raise_), ("exit", exit_), ("extra", extra)):
        out(label, await answer(s.start_child(child(start, id=1))))
    out("bad restart", await try_(lambda: s.start_child(W.spec("x", restart="sometimes"))))
    out("bad shutdown", await try_(lambda: s.start_child(W.spec("x", shutdown=-1))))
    out("count", await count(s))
    await s.stop()


async def extra_arguments() -> None:
    sec("extra_arguments are prepended")
    s = await DynamicSupervisor.start_link(extra_arguments=("from_sup",))
    out("start_child", (await answer(s.start_child(Agent.child_spec())))[0])  # type: ignore[call-arg]

    async def start(id: str, **options: Any) -> Any:
        return await W(id).start_link(id, options)

    p = await s.start_child(child(start, trap=True))
    out("name came from the supervisor", whereis("from_sup") == p.pid())
    await crash("from_sup", "boom")
    out("restarted with them too", whereis("from_sup") is not None)
    await s.stop()


async def restarts_that_fail() -> None:
    sec("start failing at restart: try again until the intensity is spent")
    a = await Agent[int].start(lambda: 0)
    s = await DynamicSupervisor.start_link(max_restarts=3)

    async def dies() -> None:
        await receive("die")
        raise Exit("boom")

    async def start() -> Any:
        attempt = await a.get_and_update(lambda n: (n, n + 1))
        out(f"start attempt {attempt}")
        if attempt == 0:
            return spawn_link(dies)
        raise StartError("nope")

    send(await s.start_child(child(start, id=1)), "die")
    out("supervisor", await exit_of(s))


async def stopping() -> None:
    sec("stop: all children get shutdown at once; total time is that of the slowest")
    s = await DynamicSupervisor.start_link()

    async def slow(ms: float) -> None:
        flag(trap_exit=True)
        reason = (await receive(Exited)).reason
        await sleep(ms)
        raise Exit(reason)

    async def start(ms: float) -> Any:
        return spawn_link(slow, ms)

    for _ in range(3):
        await s.start_child(child(start, 200))
    await settle(20)
    begin = monotonic()
    await s.stop()
    out("about 200 ms, not 600", 0.19 <= monotonic() - begin < 0.4)
