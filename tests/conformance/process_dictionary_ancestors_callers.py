from __future__ import annotations

from typing import Any

from beamish import Client, Exit, GenServer, Supervisor, Task, ancestors, callers, current, dictionary, register
from conformance.words import Text, in_proc, out


class S(GenServer[int]):
    def init(self, start: int) -> int:
        return start

    def handle_call(self, state: int, request: Any, client: Client) -> Any:
        kept = dictionary()
        return kept.get("$ancestors"), kept.get("$initial_call"), kept.get("$callers")


def put(key: str, value: Any) -> Any:
    """`Process.put`: the old value."""
    before = dictionary().get(key)
    dictionary()[key] = value
    return before


async def scenario() -> None:
    kept = dictionary()
    out("put returns the old value", (put("k", 1), put("k", 2), kept.get("k"), kept.get("none"), kept.get("none", "d")))
    out("delete", (kept.pop("k", None), kept.pop("k", None), [key for key, value in kept.items() if value == 2]))
    put("mine", 1)
    out("not inherited", await in_proc(exits_with(lambda: dictionary().get("mine"))))

    register("main")
    me = current()
    top = await Supervisor("top").start_link([S("srv").child_spec(0)])
    of_server, initial_call, of_whom = await S("srv").call("anc")
    out("ancestors: nearest first, by name where registered", list(of_server[:2]))
    out("initial_call", Text(initial_call))
    out("callers of a GenServer", of_whom)
    out("a task under it", await Task.async_(lambda: (ancestors()[0] in ("main", me), dictionary()["$callers"] == (me,))))
    out("plain spawn has none", await in_proc(exits_with(lambda: (dictionary().get("$ancestors"), dictionary().get("$callers")))))

    async def outer() -> bool:
        mine = current()
        return await Task.async_(lambda: callers() == (mine, me))

    out("nested task: callers accumulate, nearest first", await Task.async_(outer))
    await top.stop()


def exits_with(what: Any) -> Any:
    def run() -> None:
        raise Exit(what())

    return run
