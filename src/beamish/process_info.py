"""What can be known about a process: `info`, `processes`, its label, ancestors, callers and dictionary (Elixir's `Process`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from beamish import _report
from beamish._address import At, Via
from beamish._runtime.extra import extra_of
from beamish._runtime.ids import Pid
from beamish._runtime.node import here
from beamish._runtime.process import DEAD, EXITING, LOOK, QUEUED, RUNNING, SUSPENDED
from beamish.process import Target, find, myself

Activity = Literal["idle", "queued", "running", "waiting", "exiting"]
_ACTIVITIES: dict[int, Activity] = {QUEUED: "queued", RUNNING: "running", LOOK: "running", SUSPENDED: "waiting", EXITING: "exiting"}


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """One process at one moment. `status` is "waiting" while it awaits something, in a handler or in `receive`."""

    pid: Pid
    registered_name: str | Via | At | None
    label: object
    initial_call: object
    status: Activity
    message_queue_len: int
    messages: tuple[object, ...]
    links: tuple[Pid, ...]
    monitors: tuple[object, ...]
    monitored_by: tuple[Pid, ...]
    trap_exit: bool
    parent: Pid | None
    ancestors: tuple[object, ...]
    dictionary: dict[Any, Any]


def info(target: Target | None = None) -> ProcessInfo | None:
    """What is known about a process (by default this one), or None when there is no such process, or no more.

    For looking: messages are shown as they wait, calls and casts by their names. The dictionary is a copy.
    """
    process = myself() if target is None else find(target)
    if process is None or process.status == DEAD:
        return None
    messages = tuple(_report.waiting(process))
    parent = process.parent if process.parent is not process.node.root else None
    extra = process.extra
    return ProcessInfo(
        pid=process, registered_name=process.name, label=get_label(process), initial_call=process.initial_call(),
        status=_ACTIVITIES.get(process.status, "idle"), message_queue_len=len(messages), messages=messages,
        links=tuple(peer for peer in process.peers() if peer is not process.node.root),
        monitors=tuple(ref.target for ref in process.watching or ()),
        monitored_by=tuple(ref.watcher for ref in process.monitors or () if ref.watcher is not None),
        trap_exit=process.trap, parent=parent, ancestors=ancestors(process),
        dictionary=dict(extra.dictionary or {}) if extra is not None else {},
    )  # fmt: skip


def processes() -> list[Pid]:
    """Every process of this event loop, in the order of their starts (Elixir's `Process.list`)."""
    node = here()
    return [process for process in node.procs if process is not node.root]


# --- who started it, and for whom it works ----------------------------------------------------------------------------


def ancestors(target: Target | None = None) -> tuple[object, ...]:
    """Who started a server or task, nearest first; registered ones by their names (OTP's `$ancestors`).

    Plain asyncio code that was not adopted, and `spawn`, leave none.
    """
    process = myself() if target is None else find(target)
    return () if process is None else tuple(_report.ancestors(process))


def callers(target: Target | None = None) -> tuple[Pid, ...]:
    """For whom a task works, nearest first: who started it, and that one's callers (Elixir's `$callers`). Servers have none."""
    process = myself() if target is None else find(target)
    return () if process is None else process.callers()


# --- labels and the dictionary ----------------------------------------------------------------------------------------


def set_label(label: object) -> None:
    """Say what this process is for: shown by `info`, crash reports and the observer (OTP 27's process labels)."""
    extra_of(myself()).label = label


def get_label(target: Target | None = None) -> object:
    """The label of a process (by default this one), or None."""
    process = myself() if target is None else find(target)
    return None if process is None or process.extra is None else process.extra.label


def dictionary() -> dict[Any, Any]:
    """This process's own dictionary (Erlang's process dictionary): seen by its code only, not inherited, gone with it.

    That of a server or a task has "$initial_call" and "$ancestors", that of a task "$callers" too. A server's state belongs
    into its state; this is for what code far below a handler must find, as libraries in Elixir do. See also contextvars.
    """
    me = myself()
    extra = extra_of(me)
    if extra.dictionary is None:
        extra.dictionary = {}
        initial_call = me.initial_call()
        if initial_call is not None and me.behaves:
            extra.dictionary["$initial_call"] = initial_call
            extra.dictionary["$ancestors"] = ancestors(me)
        if me.callers():
            extra.dictionary["$callers"] = me.callers()
    return extra.dictionary
