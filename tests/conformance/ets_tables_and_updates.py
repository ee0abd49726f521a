from __future__ import annotations

from typing import Any, Literal

from beamish import current
from beamish.ets import Incr, Table
from conformance.words import Text, out, sec
from conformance.words_ets import done, pairs, tried, whole

END = "$end_of_table"


async def scenario() -> None:
    current()
    sec("set: last insert wins; insert_new; insert list is atomic")
    t = Table[Any, Any]()
    out("insert", (done(lambda: t.insert("a", 1)), done(lambda: t.insert("a", 2)), pairs(t, "a")))
    refused = t.insert_new("a", 9), t.insert_new("b", 1), t.insert_new_many([("c", 1), ("a", 1)]), pairs(t, "c")
    out("insert_new existing / new / list with one existing inserts nothing", refused)
    out("list with a bad element inserts nothing", (tried(lambda: t.insert_many([("z", 1), "bad"])), pairs(t, "z")))  # type: ignore[list-item]
    t.insert_many([(1, "int"), (1.0, "float")])
    out("set distinguishes 1 and 1.0", (pairs(t, 1), pairs(t, 1.0)))
    found = t["a"], tried(lambda: t["nope"]), "a" in t, [("a", one) for one in t.take("a")], "a" in t, done(lambda: t.delete("nope"))
    out("lookup_element / member / take / delete", found)
    sec("update_counter / update_element")
    t.insert("n", (10, 20))
    steps = [Incr(1, at=0), Incr(1, at=1)]
    out("incr", (t.update_counter("n", 5, at=0), t.update_counter("n", -1, at=1), t.update_counter("n", steps)))
    up = [t.update_counter("n", 1, at=0, threshold=16, set_to=0) for _ in range(2)]
    out("threshold {pos, incr, threshold, setvalue}", tuple(up))
    out("down threshold", t.update_counter("n", -5, at=0, threshold=0, set_to=9))
    out("absent key", tried(lambda: t.update_counter("none", 1)))
    out("default", (t.update_counter("new", 3, default=100), pairs(t, "new")))
    t.insert("s", Text("x"))
    out("non integer", tried(lambda: t.update_counter("s", 1)))
    out("one bad op: none applied", (tried(lambda: t.update_counter("n", [Incr(1, at=0), Incr(1, at=7)])), pairs(t, "n")))
    out("update_element", (t.update_element("n", {1: "x"}), t.update_element("none", {0: 1}), pairs(t, "n")))
    await ordered()
    for kind in ("bag", "duplicate_bag"):
        bag(kind)


async def ordered() -> None:
    sec("ordered_set: term order number < atom < ref < fun < port < pid < tuple < map < nil < list < bitstring; 1 == 1.0")
    o = Table[Any, Any](kind="ordered_set")
    for key in (Text("str"), "atom", (1, 2), (3,), 2, 1.5, -1, "b", Text(""), (0, 0, 0), None, b"bytes"):
        o.insert(key, ())
    out("tab2list", [key for key, _ in o.to_list()])
    o.delete_all_objects()
    o.insert(1, "int")
    o.insert(1.0, "float")
    out("1 and 1.0 are one key", [whole(*one) for one in o.to_list()])
    o.delete_all_objects()
    for i in (5, 1, 3):
        o.insert(i, ())
    out("first/next/last/prev", (o.first(), o.next(1), o.next(2), o.last(), o.prev(5), o.prev(4), o.next(5, END)))
    out("foldl/foldr", (o.foldl(lambda a, key, _: [key, *a], []), o.foldr(lambda a, key, _: [key, *a], [])))
    page = o.select(give=lambda key, _: key, limit=2)
    out("select with limit", (list(page), list(page.next())))
    out("select_reverse", o.select(give=lambda key, _: key, reverse=True))
    out("first of empty", Table[Any, Any]().first(END))


def bag(kind: Literal["bag", "duplicate_bag"]) -> None:
    if kind == "bag":
        sec("bag and duplicate_bag")
    b = Table[Any, Any](kind=kind)
    for key, value in (("k", 2), ("k", 1), ("k", 2), ("k", 3), ("j", 1)):
        b.insert(key, value)
    out(f"{kind} lookup keeps insertion order", pairs(b, "k"))
    out("  lookup_element", b.lookup("k"))
    out("  insert_new existing key", (b.insert_new("k", 99), b.insert_new("z", 1)))
    b.delete_object("k", 2)
    out("  delete_object", pairs(b, "k"))
    out("  take", ([("k", one) for one in b.take("k")], b.lookup("k")))
    out("  size", len(b))
    out("  update_counter refused", tried(lambda: b.update_counter("j", 1)))
