"""Crash reports, through `logging`: what OTP's gen_server and proc_lib say when a process ends badly.

Records have the facts as attributes too: `context` (which report it is, OTP's word), `reason`, what `facts` says of the process, and
of a server `last_message`, `state`, `client` and `log`. They are built only when the logger is enabled, bound every repr, and carry the
live traceback as `exc_info`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from beamish._runtime.process import Entry, Process
from beamish._runtime.signals import CONTINUE, INFO, ITEM, SYSTEM, Mark
from beamish.errors import Crash, Killed, clean, short

_log = logging.getLogger("beamish.gen_server")
_crash_log = logging.getLogger("beamish.process")


@dataclass
class Status:
    """What `format_status` gets, and returns changed: hide there what must not be logged.

    `log`: the last events of the server, where `sys.log` keeps them.
    """

    state: Any
    message: Any = None
    reason: object = None
    log: list[Any] = field(default_factory=list[Any])


def callback(cls: type, entry: Entry | None) -> str:
    """The name of the callback that an entry of the mailbox runs."""
    if entry is None:
        return f"{cls.__name__}.init"
    name = entry[0]
    if isinstance(name, Mark):
        name = {INFO: "handle_info", ITEM: "handle_info", CONTINUE: "handle_continue", SYSTEM: "a system request"}.get(
            name, "handle_call" if entry[3] is not None else "handle_cast"
        )
    return f"{cls.__name__}.{name}"


def message(entry: Entry | None) -> Any:
    """The last message as a report shows it: the request by name, or the message itself."""
    if entry is None:
        return None
    name, args, kwargs, _ = entry
    if not isinstance(name, str):
        return args
    shown = [short(one) for one in args] + [f"{key}={short(one)}" for key, one in (kwargs or {}).items()]
    return f"{name}({', '.join(shown)})"


def ancestors(process: Process) -> list[object]:
    """Who started it, nearest first; a registered one by its name."""
    found: list[object] = []
    while process.parent is not None and process.parent is not process.node.root:
        process = process.parent
        found.append(process.name if process.name is not None else process)
    if process.extra is not None:
        found.extend(process.extra.ancestors)
    return found


def facts(process: Process) -> dict[str, Any]:
    """What every crash report says of its process, as OTP's proc_lib does: the attributes of the log record."""
    messages, links = list(islice(waiting(process), SHOWN)), [one for one in process.peers() if one is not process.node.root]
    extra = process.extra
    return {
        "pid": process, "server": process.label(), "label": None if extra is None else extra.label,
        "initial_call": process.initial_call(), "registered_name": process.name, "ancestors": ancestors(process),
        "messages": messages, "message_queue_len": process.mail_length(), "links": links,
        "trap_exit": process.trap, "dictionary": {} if extra is None else dict(extra.dictionary or {}),
    }  # fmt: skip


#: So many of the messages that wait are in a report.
SHOWN = 20


def waiting(process: Process) -> Iterator[object]:
    """The messages that wait to be handled, oldest first: calls and casts by their names."""
    for entry in process.mail():
        yield message(entry)


def server_ended(process: Any, reason: object, entry: Entry | None, info: Any) -> None:
    """The report of a server that ended abnormally. Clean ends and KILL make none."""
    if clean(reason) or isinstance(reason, Killed) or not _log.isEnabledFor(logging.ERROR):
        return
    debug = process.extra.debug if process.extra is not None else None
    status = Status(process.state, message(entry), reason, list(debug.log or ()) if debug is not None else [])
    try:
        status = process.cls.format_status(process.server, status)
    except (Exception, asyncio.CancelledError) as broken:  # a report that fails must not change how the process ends
        status.state = f"format_status raised {type(broken).__name__}: {short(broken)}"
    client = entry[3] if entry is not None else None
    who = process.label()
    told = {
        **facts(process), "context": "terminate", "last_message": status.message, "state": status.state, "reason": status.reason,
        "client": client.caller if client is not None else None, "log": status.log,
    }  # fmt: skip
    last = told["last_message"]
    _log.error(
        "%r %r%s terminating\n  last message: %s\n  state: %s\n  reason: %s\n  ancestors: %s%s",
        who, process, _labelled(process), last if isinstance(last, str) else short(last),
        short(told["state"]), short(told["reason"]), told["ancestors"],
        f"\n  client: {_who(client.caller)}" if client is not None else "",
        exc_info=info,
        extra=told,
    )  # fmt: skip


def _labelled(process: Process) -> str:
    return "" if process.extra is None or process.extra.label is None else f" {short(process.extra.label)}"


def _who(caller: Process | None) -> str:
    return "plain asyncio code" if caller is None else repr(caller.label())


def init_failed(process: Process, reason: object, exc_info: Any) -> None:
    """A process whose `init` failed: OTP's proc_lib crash report."""
    if not clean(reason) and _crash_log.isEnabledFor(logging.ERROR):
        _crash_log.error(
            "%r crashed in its init: %s",
            process.label(),
            short(reason),
            exc_info=exc_info,
            extra={**facts(process), "context": "crash", "reason": reason},
        )


def task_ended(process: Process, reason: object, exc_info: Any) -> None:
    """A spawned function that raised. `raise Exit(reason)` is the author's own word and makes no report, as in OTP."""
    if isinstance(reason, Crash) and _crash_log.isEnabledFor(logging.ERROR):
        _crash_log.error(
            "error in process %r: %s",
            process.label(),
            short(reason),
            exc_info=exc_info,
            extra={**facts(process), "context": "error", "reason": reason},
        )
