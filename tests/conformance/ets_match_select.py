from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

from beamish import Exit, current, ets
from beamish.ets import Table
from conformance.words import in_proc, n, out, sec
from conformance.words_ets import BADARG, charlist, done, pairs, tried, whole


async def scenario() -> None:
    current()
    t = Table[int, Any]("t", kind="ordered_set")
    t.insert_many({1: ("ann", 30, "uk"), 2: ("bob", 25, "fr"), 3: ("cat", 30, "fr"), 4: ("dan", 41, "uk"), 5: ("eve", ("x", 5), "us")})
    out("match binds in variable-number order", t.select(lambda _, v: v[1] == 30, give=lambda k, v: [v[0], k]))
    out("match same variable twice", t.select(lambda k, v: v[1] == ("x", k), give=lambda k, _: [k]))
    out("match none", t.select(lambda _, v: v[0] == "zed"))
    out("match_object", [whole(*one) for one in t.select(lambda _, v: v[2] == "fr")])
    out("wrong arity", t.select(lambda _, v: len(v) == 1))
    out("select guard and body", t.select(lambda _, v: isinstance(v[1], int) and v[1] >= 30, give=lambda _, v: v[:2]))
    first = [whole(*one) for one in t.select(lambda k, _: k == 1)]
    out("select $_ and $$", (first, t.select(lambda k, _: k == 1, give=lambda _, v: list(v[:2]))))
    out("andalso/orelse/not", t.select(lambda _, v: (v[2] == "uk" and v[1] < 40) or v[2] == "us", give=lambda k, _: k))
    out("several clauses: first match wins", t.select(give=lambda k, v: ("thirty" if v[1] == 30 else "other", k)))
    out("arithmetic in body", charlist(t.select(lambda _, v: v[1] == 30, give=lambda k, _: k + 100)))
    out("const", t.select(lambda _, v: v[1] == ("x", 5), give=lambda k, _: k))
    out("a failing guard is false, not an error", tried(lambda: t.select(lambda _, v: v[1] + 1 > 40, give=lambda k, _: k)))
    out("select_count", t.select_count(lambda _, v: v[1] == 30))
    out("select_delete", (t.select_delete(lambda _, v: v[2] == "fr"), [key for key, _ in t.to_list()]))
    replaced = t.select_replace(lambda _, v: (v[0], 31, v[2]), lambda _, v: v[1] == 30)
    out("select_replace", (replaced, pairs(t, 1)))
    out("match_delete", (t.select_delete(lambda _, v: v[2] == "us") == 1, len(t)))
    out("bad match spec", tried(lambda: t.select("no_such_guard")))  # type: ignore[call-overload]
    for i in range(1, 6):
        t.insert(i + 10, ("n", i, "zz"))
    one = t.select(lambda _, v: v[0] == "n", give=lambda k, _: [k], limit=2)
    two, three, four = one.next(), one.next().next(), one.next().next().next()
    out("continuations", ([charlist(k) for k in one], [charlist(k) for k in two], list(three), not four))
    traversal()
    await files_and_protection(t)


def traversal() -> None:
    sec("traversal with deletions under safe_fixtable")
    s = Table[int, None]()
    for i in range(1, 51):
        s.insert(i, None)
    visited = 0
    with s.fixed():
        key = s.first()
        while key is not None:
            following = s.next(key)
            s.delete(key)
            visited += 1
            key = following
    out("visited exactly once each", visited)
    out("size", len(s))
    out("next of a key deleted, not fixed: badarg", tried(lambda: s.next(1)))


async def files_and_protection(t: Table[int, Any]) -> None:
    sec("tab2file / file2tab, tab2list, info")
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/otp_scenario.tab"
        out("tab2file", "ok" if t.to_file(file) else "error")
        t.delete_table()
        t = ets.from_file(file)
    about = t.info()
    assert about is not None
    out("back", (about.kind, about.size, about.name))
    out("file2tab absent", absent("/nonexistent/x"))
    out("info keys", sorted(about.__slots__))
    out("protection: private read by another", await in_proc(lambda: leave(lambda: [whole(1, v) for v in t.lookup(1)])))
    private, public = Table[int, int](access="private"), Table[int, int](access="public")
    out("private", await in_proc(lambda: leave(lambda: private.lookup(1))))
    out("protected write", await in_proc(lambda: leave(lambda: t.insert(1, (2, 3, 4)))))
    out("public write", await in_proc(lambda: leave(lambda: public.insert(1, 1))))


def absent(path: str) -> bool:
    try:
        ets.from_file(path)
    except FileNotFoundError:
        return True
    return False


def leave(fun: Callable[[], Any]) -> None:
    """`exit(T.n(T.try_(fun)))`."""
    found = done(fun)
    raise Exit(n(found if found == BADARG else ("returned", found)))
