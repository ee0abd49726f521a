"""Look into a running server, and change it: OTP's `sys`.

These are requests of the system: served in mailbox order, also by a server that is suspended, without a handler of yours.
All raise NoProcess, CallTimeout (`timeout` in seconds, default 5.0), CallingSelf. What is switched on here sends each call of
that server through its mailbox, some 10 times slower; a server nobody looks at pays nothing.
"""

from __future__ import annotations

import asyncio
import sys as _system
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from beamish import _watched, gen
from beamish._address import Address
from beamish._answers import Reply
from beamish._loop import ServerProcess, is_coroutine
from beamish._report import Status
from beamish._runtime.ids import Pid
from beamish._runtime.signals import SYSTEM
from beamish._watched import (
    DONE as DONE,
    DebugFunction as DebugFunction,
    Event as Event,
    In as In,
    Kept as Kept,
    Out as Out,
    Statistics as Statistics,
    looked_at,
    shown,
    switch_on,
    unwatch,
)
from beamish.errors import BeamishError, ServerDown
from beamish.process import Target, find

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SysStatus:
    """What `get_status` tells. `state` is what the class's `format_status` shows of it; `debug` names what is switched on."""

    pid: Pid
    module: type
    status: Literal["running", "suspended"]
    parent: Pid | None
    debug: list[str]
    state: Any
    dictionary: dict[Any, Any]


class NotSuspended(BeamishError):
    """`change_code` is for a server that is suspended."""


# --- its state --------------------------------------------------------------------------------------------------------


async def get_state(server: Target, timeout: float | None = 5.0) -> Any:
    """The state itself, not a copy."""
    return await _request(server, "get_state", lambda process: process.state, timeout)


async def replace_state(server: Target, change: Callable[[Any], Any], timeout: float | None = 5.0) -> Any:
    """Put `change(state)` in place of the state, and return it. What `change` raises is raised here; the server goes on.

    `change` runs in the server, and may be async.
    """

    def apply(process: ServerProcess) -> Any:
        changed = change(process.state)
        if is_coroutine(changed):
            return _later(process, changed)
        process.state = changed
        return changed

    return await _request(server, "replace_state", apply, timeout)


async def get_status(server: Target, timeout: float | None = 5.0) -> SysStatus:
    """Its state as `format_status` shows it, whether it is suspended, what is switched on."""

    def look(process: ServerProcess) -> SysStatus:
        extra = process.extra
        debug = extra.debug if extra is not None else None
        log = list(debug.log) if debug is not None and debug.log is not None else []
        formatted = process.cls.format_status(process.server, Status(process.state, log=log))
        suspended = debug is not None and debug.suspended
        parent = process.parent if process.parent is not process.node.root else None
        return SysStatus(
            process, process.cls, "suspended" if suspended else "running", parent, [] if debug is None else debug.names(), formatted.state,
            dict(extra.dictionary or {}) if extra is not None else {},
        )  # fmt: skip

    return await _request(server, "get_status", look, timeout)


# --- suspending -------------------------------------------------------------------------------------------------------


async def suspend(server: Target, timeout: float | None = 5.0) -> None:
    """Let it serve nothing but requests of this module; everything else waits. The exit of its parent still ends it.

    Suspending twice is suspending once.
    """
    await _request(server, "suspend", _watched.suspend, timeout)


async def resume(server: Target, timeout: float | None = 5.0) -> None:
    """Let it go on: first what came meanwhile, in its order. One that is not suspended just goes on."""
    await _request(server, "resume", _watched.resume, timeout)


async def change_code(server: Target, version: Any, extra: Any = None, timeout: float | None = 5.0) -> None:
    """Let the class's `code_change(state, version, extra)` make the state for new code. The server must be suspended.

    Raises NotSuspended, and what `code_change` raises; the state is then the old one.
    """

    def change(process: ServerProcess) -> Any:
        debug = looked_at(process)
        if debug is None or not debug.suspended:
            raise NotSuspended(f"{process.label()!r} is not suspended: await sys.suspend(…) it first, and sys.resume(…) it afterwards")
        changed = process.cls.code_change(process.server, process.state, version, extra)
        if is_coroutine(changed):
            return _later(process, changed)
        process.state = changed
        return None

    await _request(server, "change_code", change, timeout)


async def _later(process: ServerProcess, changed: Any) -> Any:
    process.state = await changed
    return process.state


async def terminate(server: Target, reason: object, timeout: float | None = 5.0) -> None:
    """End it with `reason`; its `terminate` runs. Returns when it is gone; it is no error if it ends with another reason."""
    try:
        await gen.stop(server if isinstance(server, Address) else Address(_target(server)), reason, timeout)
    except ServerDown:
        pass


# --- looking on -------------------------------------------------------------------------------------------------------


async def statistics(server: Target, flag: bool | Literal["get"] = "get", timeout: float | None = 5.0) -> Statistics | None:
    """True: count its messages from now on. False: no more. "get": the counts, or None when they are off."""

    def apply(process: ServerProcess) -> Statistics | None:
        if flag is True:
            switch_on(process, "statistics")
        debug = looked_at(process)
        if debug is None or debug.counts is None:
            return None
        if flag is False:
            debug.counts = None
            unwatch(process)
        return Statistics(debug.since, process.node.clock.now(), *debug.counts) if debug.counts is not None and flag == "get" else None

    return await _request(server, "statistics", apply, timeout)


async def log(server: Target, flag: bool | int | Literal["get", "print"] = "get", timeout: float | None = 5.0) -> list[Event]:
    """True: keep its last 10 events; a number: so many. "get": those kept, oldest first; "print": on stdout too. False: no more."""
    if isinstance(flag, int) and not isinstance(flag, bool) and flag < 1:
        raise ValueError(f"log keeps 1 event or more. Got: {flag!r}")

    def apply(process: ServerProcess) -> list[Event]:
        if flag is True:
            switch_on(process, "log")
        elif isinstance(flag, int) and flag is not False:
            switch_on(process, ("log", flag))
        debug = looked_at(process)
        if debug is None or debug.log is None:
            return []
        if flag is False:
            debug.log = None
            unwatch(process)
        return list(debug.log or ()) if flag in ("get", "print") else []

    events = await _request(server, "log", apply, timeout)
    if flag == "print":
        for event in events:
            _system.stdout.write(f"*DBG* {server!r} {shown(event)}\n")
    return events


async def log_to_file(server: Target, path: str | Path | Literal[False], timeout: float | None = 5.0) -> None:
    """Write its events to the end of a file, as `trace` prints them. False: no more. OSError when it can't be written."""
    if path is not False:
        _watched.writable(Path(path))
    await _switch(
        server, "log_to_file", None if path is False else ("log_to_file", path), lambda debug: setattr(debug, "file", None), timeout
    )


async def trace(server: Target, flag: bool, timeout: float | None = 5.0) -> None:
    """True: print its events on stdout. False: no more."""
    await _switch(server, "trace", "trace" if flag else None, lambda debug: setattr(debug, "trace", False), timeout)


async def install(
    server: Target, function: Callable[[T, Event, object], Any], state: T, *, id: Any = None, timeout: float | None = 5.0
) -> None:
    """Tell each event to `function(state, event, server)`, which returns its next state, or DONE to be taken off.

    It runs in the server. One that raises is taken off, and said so on stderr. Installing under an `id` (by default the
    function itself) that is there already changes nothing.
    """

    def apply(process: ServerProcess) -> None:
        _watched.watch(process).functions.setdefault(function if id is None else id, (function, state))

    await _request(server, "install", apply, timeout)


async def remove(server: Target, id: Any, timeout: float | None = 5.0) -> None:
    """Take off what was installed under `id` (or as that function). Nothing happens when there is none."""
    await _switch(server, "remove", None, lambda debug: debug.functions.pop(id, None), timeout)


async def no_debug(server: Target, timeout: float | None = 5.0) -> None:
    """Switch everything off: statistics, log, trace, debug functions. A suspended server stays suspended."""

    def off(debug: _watched.Debug) -> None:
        debug.counts = debug.log = debug.file = None
        debug.trace = False
        debug.functions = {}

    await _switch(server, "no_debug", None, off, timeout)


async def _switch(server: Target, verb: str, on: Any, off: Callable[[_watched.Debug], object], timeout: float | None) -> None:
    def apply(process: ServerProcess) -> None:
        if on is not None:
            switch_on(process, on)
            return
        debug = looked_at(process)
        if debug is not None:
            off(debug)
            unwatch(process)

    await _request(server, verb, apply, timeout)


# --- the request ------------------------------------------------------------------------------------------------------


class _Request:
    """A request of the system: run `what` in the server. What it raises is raised in whoever asks."""

    __slots__ = ("verb", "what")

    def __init__(self, verb: str, what: Callable[[ServerProcess], Any]) -> None:
        self.verb = verb  # how errors call it
        self.what = what

    def __call__(self, process: ServerProcess) -> Any:
        try:
            value = self.what(process)
        except Exception as error:
            return Reply(error)
        except asyncio.CancelledError as error:  # as an error of its own: whoever asks is not to be cancelled
            return Reply(RuntimeError(f"{self.verb} was cancelled in {process.label()!r}: {error}"))
        return _served(value) if is_coroutine(value) else Reply((value,))


async def _request(server: Target, verb: str, what: Callable[[ServerProcess], T], timeout: float | None) -> T:
    address = server if isinstance(server, Address) else Address(_target(server))
    answer = await gen.request(address.with_timeout(timeout), SYSTEM, _Request(verb, what), None)
    if isinstance(answer, Exception):
        raise answer
    return answer[0]  # type: ignore[no-any-return]


async def _served(value: Any) -> Reply[Any]:
    try:
        return Reply((await value,))
    except Exception as error:
        return Reply(error)


def _target(server: Target) -> Any:
    process = find(server)
    return server if process is None or isinstance(server, str) else process
