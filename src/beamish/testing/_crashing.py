"""How `Kit.crash` makes a server crash, and waits until it is there again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from beamish import CallExit, Exit, sys
from beamish._runtime.process import Process


def raiser(error: Any) -> Callable[[Process], None]:
    raised = _made(error)

    def crash(_: Process) -> None:
        raise raised

    return crash


def _made(error: Any) -> Exception:
    if error is None:
        return RuntimeError("crashed by its test")
    if isinstance(error, Exception):
        return error
    if isinstance(error, type) and issubclass(cast(Any, error), Exception):
        return cast(Exception, error("crashed by its test"))
    if isinstance(error, BaseException) or (isinstance(error, type) and issubclass(cast(Any, error), BaseException)):
        raise TypeError(
            f"a server crashes of an Exception; {error!r} is for whoever runs the loop. For an exit: crash(server, reason), or KILL"
        )
    return Exit(error)


def supervisors_of(process: Process) -> list[Process]:
    """Its supervisor, that one's supervisor, and so on up."""
    found: list[Process] = []
    while process.record is not None:
        process = process.record.supervisor
        found.append(process)
    return found


async def settled(supervisors: list[Process]) -> None:
    """Wait until the first has dealt with an exit that is on its way to it; if that ended it, until the next one has."""
    for supervisor in supervisors:
        try:
            await _restarted(supervisor)
            return
        except CallExit:
            if supervisor is supervisors[-1]:
                raise


async def _restarted(supervisor: Process) -> None:
    for _ in range(20):
        await sys.get_state(supervisor, timeout=None)  # served in turn: after the exit, and after the restart
        children = await cast(Any, supervisor.label()).which_children()
        if not any(one.child == "restarting" for one in children):
            return
    raise AssertionError(f"{supervisor.label()!r} restarts its child again and again: its init fails each time")
