from __future__ import annotations

from collections.abc import Callable
from typing import Any

from beamish import Exit, Pid, current, ets, monitor, receive, send, spawn
from beamish.ets import Table, Transfer
from conformance.words import down, flush, out, sec, settle
from conformance.words_ets import done, pairs, tried


def undefined(value: Any) -> Any:
    return "undefined" if value is None else value


async def scenario() -> None:
    me = current()

    async def mk(**options: Any) -> tuple[Pid, Table[Any, Any]]:
        async def run() -> None:
            t = Table[Any, Any](**options)
            t.insert("k", 1)
            send(me, ("tab", t))
            await receive("die")
            raise Exit("boom")

        p = spawn(run)
        return p, (await receive(tuple))[1]

    async def ends(p: Pid) -> None:
        ref = monitor(p)
        send(p, "die")
        await down(ref)

    sec("no heir: the table dies with its owner")
    p, t = await mk(access="public")
    out("before", pairs(t, "k"))
    await ends(p)
    await settle()
    out("after", tried(lambda: t.lookup("k")))
    out("info", undefined(t.info()))
    sec("heir gets {:'ETS-TRANSFER', tab, from, data}")
    p, t = await mk(heir=me, heir_data="inheritance")
    out("protected: another process reads but cannot write", (pairs(t, "k"), tried(lambda: t.insert("x", 1))))
    await ends(p)
    out("transfer from dead owner", [form(one, t, p) for one in await flush()])
    about = t.info()
    assert about is not None
    out("data kept and now mine", (pairs(t, "k"), done(lambda: t.insert("x", 1)), about.owner == me, about.heir == me))
    t.delete_table()
    sec("heir already dead: table is destroyed")
    dead = spawn(lambda: None)
    await settle(20)
    p, t = await mk(access="public", heir=dead, heir_data="x")
    await ends(p)
    await settle()
    out("info", undefined(t.info()))
    await giving_away(me, dead, ends)
    await names(me)


def form(message: Any, t: Table[Any, Any], p: Pid) -> Any:
    match message:
        case Transfer(table=table, owner=owner, data=data):
            return "ETS-TRANSFER", table is t, owner is p, data
        case _:
            return message


async def giving_away(me: Pid, dead: Pid, ends: Callable[[Pid], Any]) -> None:
    sec("give_away")

    async def receiver() -> None:
        message = await receive(Transfer)
        about = message.table.info()
        assert about is not None
        send(me, ("q_got", message.owner == me, message.data, about.owner == current()))
        await receive("die")

    q = spawn(receiver)
    t = Table[Any, Any]("mine", access="private")
    t.insert("k", 1)
    out("give_away", done(lambda: t.give_away(q, "gift")))
    out("receiver", await receive(tuple))
    out("private: I can no longer read", tried(lambda: t.lookup("k")))
    out("give_away not mine", tried(lambda: t.give_away(me, "x")))
    await ends(q)
    await settle()
    out("gone with the new owner", undefined(t.info()))
    t = Table[Any, Any]("mine")
    out("give_away to self", tried(lambda: t.give_away(me, "x")))
    out("give_away to dead", tried(lambda: t.give_away(dead, "x")))


async def names(me: Pid) -> None:
    sec("named tables")
    nt = Table[Any, Any]("nt", access="public")
    out("new", nt.name)
    out("new again", tried(lambda: Table[Any, Any]("nt")))
    found = done(lambda: ets.table("nt").insert(1, 2)), pairs(ets.table("nt"), 1), ets.whereis("nt") is nt, undefined(ets.whereis("nope"))
    out("by name", found)
    nt.rename("nt2")
    out("rename", (nt.name, undefined(ets.whereis("nt")), pairs(ets.table("nt2"), 1)))
    out("unnamed tables with one name may coexist", Table[Any, Any]() != Table[Any, Any]())
    out("delete", (done(lambda: ets.table("nt2").delete_table()), tried(lambda: ets.table("nt2").lookup(1))))
    about = Table[Any, Any]("x").info()
    assert about is not None
    out("heir none by default", "none" if about.heir is None else about.heir)
