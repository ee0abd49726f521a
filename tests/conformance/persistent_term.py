from __future__ import annotations

from typing import Any

from beamish import Exit, persistent_term
from conformance.words import in_proc, out
from conformance.words_ets import tried
from conformance.words_more import ok

K = ("M", "k")


async def scenario() -> None:
    with persistent_term.restored():
        await terms()


async def terms() -> None:
    out("get absent raises", tried(lambda: persistent_term.get(K)))
    out("get default", persistent_term.get(K, "d"))
    out("put", ok(persistent_term.put(K, {"a": 1})))
    out("get", persistent_term.get(K))
    out("visible from any process", await in_proc(lambda: leave(persistent_term.get(K))))
    await in_proc(lambda: persistent_term.put(("M", "w"), 1))
    out("survives its writer", persistent_term.get(("M", "w")))
    out("overwrite", (ok(persistent_term.put(K, 2)), persistent_term.get(K)))
    out("listed", (K, 2) in persistent_term.items())
    out("erase", (persistent_term.erase(K), persistent_term.erase(K), persistent_term.get(K, "gone")))
    persistent_term.put(("M", 1), "i")
    out("1 and 1.0 are different keys", persistent_term.get(("M", 1.0), "none"))


def leave(reason: Any) -> None:
    raise Exit(reason)
