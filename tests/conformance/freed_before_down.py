from __future__ import annotations

from typing import Any

from beamish import alive, current, flag, monitor, receive, register, send, spawn, spawn_link, whereis
from beamish.ets import Table, whereis as table_of
from conformance.words import down, exit_of, out, settle


async def scenario() -> None:
    me = current()

    async def doomed() -> None:
        register("doomed")
        Table[str, int]("q", access="public")
        send(me, "registered")
        await receive("go")

    async def run() -> Any:
        p = spawn(doomed)
        await receive("registered")
        r = monitor(p)
        send(p, "go")
        await down(r)
        return alive(p), whereis("doomed"), "undefined" if table_of("q") is None else "there"

    out("200 times {alive?, name, table} ->", uniq([await run() for _ in range(200)]))
    out("a name and a table can be taken again at once", len([await run() for _ in range(50)]))

    async def run2() -> Any:
        flag(trap_exit=True)

        async def doomed2() -> None:
            register("doomed2")
            await receive("go")

        p = spawn_link(doomed2)
        while whereis("doomed2") != p:
            await settle(5)
        send(p, "go")
        return await exit_of(p), whereis("doomed2")

    out("the same when the EXIT of a link arrives", uniq([await run2() for _ in range(50)]))


def uniq(values: list[Any]) -> list[Any]:
    return list(dict.fromkeys(values))
