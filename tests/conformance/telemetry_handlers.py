from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

from beamish import Exit, current, telemetry as tl
from conformance.words import Text, out, sec, try_
from conformance.words_more import ok, raised


class H:
    @staticmethod
    def ok(e: Any, m: Any, md: Any, c: Any) -> None:
        out(f"handler :{c}", (list(e), m, md))

    @staticmethod
    def boom(*_: Any) -> None:
        raise RuntimeError("oops")

    @staticmethod
    def ex(*_: Any) -> None:
        raise Exit("bye")

    @staticmethod
    def fail(e: Any, m: Any, md: Any, _: Any) -> None:
        shown = {**without(md, "stacktrace"), "event_name": list(md["event_name"])}
        out("failure event", (list(e), sorted(m), shown, isinstance(md["stacktrace"], TracebackType)))

    @staticmethod
    def span(e: Any, m: Any, md: Any, _: Any) -> None:
        context = md["telemetry_span_context"]
        shown = {**without(md, "stacktrace"), "telemetry_span_context": "mine" if context == "mine" else "ctx"}
        out(f"span {e[-1]}", (sorted(m), shown))


async def scenario() -> None:
    out("attach", ok(tl.attach(Text("a"), ("x", "y"), H.ok, "cfg_a")))
    out("attach same id", attached(lambda: tl.attach(Text("a"), ["other"], H.ok)))
    out("execute", ok(tl.execute(("x", "y"), {"v": 1}, {"k": 2})))
    out("execute without metadata", ok(tl.execute(("x", "y"), {"v": 2})))
    out("prefix is not enough", ok(tl.execute(("x",))))
    out("longer event is not matched", ok(tl.execute(("x", "y", "z"))))
    out("no handler", ok(tl.execute(("nobody",))))
    out("number measurement becomes %{value: n}", ok(tl.execute(("x", "y"), 7)))
    out("list_handlers prefix", [(h.id, list(h.event), h.config) for h in tl.list_handlers(("x",))])
    out("list_handlers all", len(tl.list_handlers()))
    out("detach", detached(Text("a")))
    out("detach again", detached(Text("a")))
    out("execute after detach", ok(tl.execute(("x", "y"), {"v": 1})))

    sec("a failing handler: execute still returns :ok, other handlers run, it is detached from ALL its events, failure event")
    tl.attach(Text("f"), "telemetry.handler.failure", H.fail)
    for name, handler in (("raise", H.boom), ("exit", H.ex)):
        tl.attach_many(Text("bad"), [("e", "one"), ("e", "two")], handler, "badcfg")
        tl.attach(Text("good"), ("e", "one"), H.ok, "good")
        out(f"{name} execute", ok(tl.execute(("e", "one"), {"m": 1})))
        out("left", [h.id for h in tl.list_handlers(("e",))])
        tl.detach(Text("good"))

    sec("handlers run in the caller's process")
    me = current()
    tl.attach(Text("who"), ("who",), lambda *_: out("same process", current() == me))
    tl.execute(("who",))

    sec("attach_many lists once per event, one id")
    out("attach_many", ok(tl.attach_many(Text("m"), [("m", "one"), ("m", "two")], H.ok)))
    out("list", sorted((h.id, list(h.event)) for h in tl.list_handlers(("m",))))
    out("detach all", (detached(Text("m")), tl.list_handlers(("m",))))

    sec("bad arguments")
    bad: Any = 5
    out("not_list", raised(lambda: tl.attach(Text("q"), bad, H.ok)))
    out("empty", raised(lambda: tl.attach(Text("q"), (), H.ok)))
    out("strings", raised(lambda: tl.attach(Text("q"), [bad], H.ok)))
    arity: Any = lambda: 1  # noqa: E731
    out("arity", raised(lambda: tl.attach(Text("q"), ("x",), arity)))
    meas: Any = "nope"
    out("meas", raised(lambda: tl.execute(("x",), meas)))

    sec("span")
    tl.attach_many(Text("s"), [("s", "start"), ("s", "stop"), ("s", "exception")], H.span)
    out("result", span({"a": 1}, lambda: ("res", {}, {"b": 2})))
    out("extra measurements", span({"a": 1}, lambda: ("res", {"bytes": 3, "duration": "cannot_override"}, {"b": 2})))
    out("own context kept", span({"telemetry_span_context": "mine"}, lambda: ("res", {}, {"telemetry_span_context": "mine"})))
    out("raise", await try_(lambda: span({"a": 1}, lambda: raises(RuntimeError("oops")))))
    out("exit", await try_(lambda: span({"a": 1}, lambda: raises(Exit("bye")))))


def attached(attach: Callable[[], None]) -> Any:
    """`:ok`, or the error that telemetry returns where ours is raised."""
    try:
        return ok(attach())
    except tl.AlreadyAttached:
        return "error", "already_exists"


def detached(id: Any) -> Any:
    """The same for detach, which says here whether there was such a handler."""
    return "ok" if tl.detach(id) else ("error", "not_found")


def span(metadata: dict[str, Any], fun: Callable[[], Any]) -> Any:
    """`:telemetry.span`, whose function returns the result and what the stop event tells."""
    with tl.span("s", metadata) as s:
        result, measurements, facts = fun()
        s.stop(measurements, facts)
    return result


def raises(error: Exception) -> Any:
    raise error


def without(facts: Any, key: str) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if name != key}
