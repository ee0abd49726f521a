# pyright: reportPrivateUsage=false
"""When nothing can happen any more: who waits, at which line of the test's or the servers', and for whom."""

from __future__ import annotations

import asyncio
import os
from types import FrameType, TracebackType
from typing import Any

import beamish
from beamish._runtime.client import PENDING, Client
from beamish._runtime.node import Node
from beamish._runtime.process import Process

#: Whose lines are no answer to "where?".
INSIDE = (os.path.dirname(beamish.__file__) + os.sep, "<@call ", "<@cast ")
ASYNCIO = os.path.dirname(asyncio.__file__) + os.sep
_INSIDE = (ASYNCIO, *INSIDE)


def waiting(node: Node, test: asyncio.Task[Any], left_out: frozenset[asyncio.Task[Any]] = frozenset()) -> list[str]:
    """A line for each task that waits, the test's first."""
    processes = {process.task: process for process in [*node.procs, *node.adopted.values()] if process.task is not None}
    asked = _asked(node)
    tasks = sorted((one for one in asyncio.all_tasks(node.loop) - left_out if not one.done()), key=lambda one: one.get_name())
    lines: list[str] = []
    for task in sorted(tasks, key=lambda one: one is not test):
        if task is node.keeper:
            continue
        process = processes.get(task)
        frame, function = _where(task)
        for_what = _for_what(task, function, asked)
        if not (task is test or frame is not None or process is not None or for_what):
            continue  # of the runtime, or of whoever runs the loop
        who = "the test" if task is test else _who(task, process)
        where = "" if frame is None else f" at {frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
        lines.append(f"{who}{where}{for_what}")
    return lines


def _who(task: asyncio.Task[Any], process: Process | None) -> str:
    if process is None:
        return f"the task {task.get_name()!r}"
    client = getattr(process, "client", None)
    doing = f", in {client.request}()," if isinstance(client, Client) else ""
    return f"{shown(process)}{doing}"


def _for_what(task: asyncio.Task[Any], function: str, asked: dict[object, Client]) -> str:
    client = asked.get(getattr(task, "_fut_waiter", None))
    if client is not None:
        return f", for {client.server.label()!r} to answer {client.request}()"
    return ", for a message" if function == "receive" else ""


def _asked(node: Node) -> dict[object, Client]:
    """The calls that servers have not answered, by what their callers wait for."""
    clients = [one for server in node.procs for one in [getattr(server, "client", None), *(entry[3] for entry in server.mail())]]
    return {one.future: one for one in clients if isinstance(one, Client) and one.outcome == PENDING and one.future is not None}


def _where(task: asyncio.Task[Any]) -> tuple[FrameType | None, str]:
    """The innermost line that is not the library's, and the name of the library's public function that was awaited there."""
    frame: FrameType | None = None
    function = ""
    coro: Any = task.get_coro()
    while coro is not None:
        here: FrameType | None = getattr(coro, "cr_frame", None) or getattr(coro, "gi_frame", None) or getattr(coro, "ag_frame", None)
        if here is not None:
            if not here.f_code.co_filename.startswith(_INSIDE):
                frame, function = here, ""
            else:
                function = here.f_code.co_name
        coro = getattr(coro, "cr_await", None) or getattr(coro, "gi_yieldfrom", None) or getattr(coro, "ag_await", None)
    return frame, function


def to_the_last_line_of_the_test(tb: TracebackType | None) -> TracebackType | None:
    """The traceback without the frames of the library and of asyncio at its end."""
    frames: list[TracebackType] = []
    while tb is not None:
        frames.append(tb)
        tb = tb.tb_next
    while frames and frames[-1].tb_frame.f_code.co_filename.startswith(_INSIDE):
        frames.pop()
    shorter: TracebackType | None = None
    for one in reversed(frames):
        shorter = TracebackType(shorter, one.tb_frame, one.tb_lasti, one.tb_lineno)
    return shorter


def shown(process: Process) -> str:
    """A server by its address; a spawned function by its pid and its name."""
    label = process.label()
    begun = process.initial_call() if label is process else None
    return f"{label!r} of {begun}" if begun is not None else repr(label)
