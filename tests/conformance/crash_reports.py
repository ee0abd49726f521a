"""What the logger sees: which report, its level, its logger, and the facts that the record carries."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from beamish import (
    KILL,
    NORMAL,
    ChildSpec,
    Client,
    Exit,
    Exited,
    GenServer,
    Shutdown,
    StartError,
    Stop,
    Supervisor,
    Task,
    alive,
    child,
    exit,
    flag,
    receive,
    send,
    spawn,
    whereis,
)
from conformance.words import Alias, Text, answer, f, flush, out, sec, settle, try_


class S(GenServer[Any]):
    def init(self, state: Any) -> Any:
        if state == "raise":
            raise RuntimeError("oops")
        return state

    def handle_call(self, state: Any, request: Any, client: Client) -> Any:
        raise RuntimeError("oops")

    def handle_cast(self, state: Any, request: Any) -> Any:
        return Stop(request[1])


#: OTP's label, by our logger and context.
LABELS = {
    ("beamish.gen_server", "terminate"): ("gen_server", "terminate"),
    ("beamish.gen_server", "no_handle_info"): (Alias("GenServer"), "no_handle_info"),
    ("beamish.process", "crash"): ("proc_lib", "crash"),
    ("beamish.task", "terminating"): (Alias("Task.Supervisor"), "terminating"),
}
#: What every record has.
PLAIN = {*vars(logging.makeLogRecord({})), "message", "asctime"}


class Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    async def show(self) -> None:
        """`show.()`: the reports that have come."""
        await flush()
        for record in self.records:
            level, context = record.levelname.lower(), getattr(record, "context", "")
            if (record.name, context) == ("beamish.process", "error"):
                out(f"{level} format", (Text(record.msg), len(record.args or ())))
                continue
            label = LABELS.get((record.name, context)) or (record.name.removeprefix("beamish."), context)
            keys = sorted(vars(record).keys() - PLAIN - {"context"})
            out(f"{level} {f(label)} domain={f(record.name.split('.'))} keys={f(keys)}")
        self.records.clear()


@contextmanager
def collecting() -> Iterator[Collector]:
    logger, collector = logging.getLogger("beamish"), Collector()
    before = logger.level
    logger.addHandler(collector)
    logger.setLevel(logging.DEBUG)
    try:
        yield collector
    finally:
        logger.setLevel(before)
        logger.removeHandler(collector)


async def scenario() -> None:
    flag(trap_exit=True)
    with collecting() as collector:
        await servers(collector)
        await functions(collector)
        await supervisors(collector)
        sec("unexpected message to a default GenServer")
        send(await S.start(0), "what")
        await collector.show()


async def servers(collector: Collector) -> None:
    sec("GenServer stops normal / shutdown: nothing")
    for reason in (NORMAL, Shutdown(1)):
        (await S.start(0)).cast(("stop", reason))
        await collector.show()
    sec("GenServer stops :boom (start_link): server report then proc_lib crash report")
    (await S.start_link(0)).cast(("stop", "boom"))
    await collector.show()
    sec("GenServer raises in a call")
    p = await S.start_link(0)
    await try_(lambda: p.call("raise"))
    await collector.show()
    sec("init raises: only the proc_lib crash report")
    await answer(S.start_link("raise"))
    await collector.show()
    sec("killed: nothing (no chance to report)")
    exit(await S.start(0), KILL)
    await collector.show()


def raises() -> None:
    raise RuntimeError("oops")


def exits() -> None:
    raise Exit("boom")


async def functions(collector: Collector) -> None:
    sec("Task crash: Task report; a plain spawn crash: emulator error line")
    Task.start(raises)
    await collector.show()
    spawn(raises)
    await collector.show()
    spawn(exits)
    await collector.show()
    out("(a plain spawn that exits reports nothing)")


async def ends_otherwise() -> None:
    flag(trap_exit=True)
    await receive(Exited)
    raise Exit("other")


async def fails() -> None:
    raise StartError("why")


async def supervisors(collector: Collector) -> None:
    sec("supervisor: progress, child_terminated, start_error, shutdown, shutdown_error")
    s = await Supervisor.start_link([S("k").child_spec(0)], max_restarts=1)
    await collector.show()
    for what in ("crash by kill", "crash again: intensity reached"):
        out(what)
        k = whereis("k")
        assert k is not None
        exit(k, KILL)
        await settle()
        await collector.show()
    out("exited", alive(s))
    out("shutdown_error: child that exits with an unexpected reason on shutdown")
    bad: ChildSpec[Any] = Task.child_spec(ends_otherwise).replace(id="bad", restart="permanent", shutdown=0.1)
    s = await Supervisor.start_link([bad])
    await settle()
    await collector.show()
    await s.stop()
    await collector.show()
    out("start_error")
    await answer(Supervisor.start_link([child(fails, id="bad")]))
    await collector.show()
