from __future__ import annotations

from typing import Any

from beamish import AlreadyRegistered, Pid, Registered, Registry, Unregistered, current, register, spawn
from conformance.words import Alias, Text, flush, out, sec, settle, sleep
from conformance.words_more import raised

R = Registry[Any, Any]("R")


async def heard(by: Pid) -> list[Any]:
    """The messages of the registry, in OTP's form, with whether they are about `by`."""
    return [_form(message, by) for message in await flush()]


def _form(message: Any, by: Pid) -> Any:
    match message:
        case Registered(registry=registry, key=key, pid=pid, value=value) if registry == R:
            return "register", Alias("R"), key, pid is by, value
        case Unregistered(registry=registry, key=key, pid=pid) if registry == R:
            return "unregister", Alias("R"), key, pid is by
        case _:
            return message


async def scenario() -> None:
    register("listener")
    await R.start_link(keys="unique", listeners=["listener"])
    me = current()
    a, b, c, x, y, z = (Text(key) for key in "abcxyz")
    sec("listeners get {:register, registry, key, pid, value} and {:unregister, registry, key, pid}")
    R.register(a, 1)
    out("->", await heard(me))
    R.unregister(a)
    out("->", await heard(me))

    async def short_lived() -> None:
        R.register(b, 2)
        await sleep(20)

    p = spawn(short_lived)
    await settle(80)
    out("-> on death", await heard(p))
    R.register(c, 1)
    await flush()
    spawn(lambda: raised_quietly(c))
    out("a refused register notifies nobody", await flush())
    R.unregister(c)
    await flush()
    sec("match / count_match / select / count_select")
    for key, value in ((x, (1, "atom", 1)), (y, (2, "atom", 2)), (z, (2, "other", 1))):
        R.register(key, value)
    out("match", R.match(x, lambda v: v[0] == 1) == [(me, (1, "atom", 1))])
    out("match none", R.match(x, lambda v: v[0] == 9))
    out("match same variable", len(R.match(x, lambda v: v[0] == v[2])))
    out("match guard", len(R.match(y, lambda v: v[2] > 1)))
    out("count_match", R.count_match(x, lambda v: v[0] == 1))
    out("select keys", sorted(R.select(give=lambda key, pid, value: key)))
    out("select guard", sorted(R.select(lambda key, pid, v: v[0] == 2, give=lambda key, pid, v: (key, v[0]))))
    out("count_select", R.count_select(lambda key, pid, v: v[0] == 2))
    R.unregister_match(x, lambda v: v[0] == 1)
    out("unregister_match", R.lookup(x))
    out("bad select spec raises", raised(lambda: R.select("bad"))[0])  # type: ignore[arg-type]
    R.register(1, "int")
    raised_quietly(1.0)
    out("keys compare with ===", (len(R.lookup(1)), R.values(1.0, me)))


def raised_quietly(key: Any) -> None:
    try:
        R.register(key, "float")
    except AlreadyRegistered:
        pass
