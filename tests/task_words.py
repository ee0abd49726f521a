"""What the tests of tasks run as tasks, and how they look at the process that owns them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import beamish
from beamish import NORMAL, Crash, Exit, Task
from beamish._runtime.node import here
from beamish.testing import capture_crashes


async def never() -> Any:
    await asyncio.Event().wait()


async def told() -> Any:
    """Ends with the value that it is sent: see `tell`."""
    return await beamish.receive()


async def double(n: int) -> int:
    await asyncio.sleep(0)
    return 2 * n


async def after(turns: int | None) -> Any:
    """`turns`, after so many turns of the loop; None never."""
    if turns is None:
        await never()
    for _ in range(turns or 0):
        await asyncio.sleep(0)
    return turns


async def deaf(*_: Any) -> None:
    """Does not listen to exit signals."""
    beamish.flag(trap_exit=True)
    await never()


def boom() -> None:
    raise ValueError("boom")


def leave(reason: Any) -> NoReturn:
    raise Exit(reason)


async def failing() -> None:
    raise ValueError("inner")


def tell(task: Task[Any] | beamish.Pid, value: Any) -> None:
    pid = task.pid if isinstance(task, Task) else task
    assert pid is not None
    beamish.send(pid, value)


def runs(task: Task[Any]) -> bool:
    return task.pid is not None and beamish.alive(task.pid)


def mail() -> list[Any]:
    """What is in this process's mailbox."""
    found = beamish.info()
    assert found is not None
    return list(found.messages)


def links() -> tuple[beamish.Pid, ...]:
    found = beamish.info()
    assert found is not None
    return found.links


def others() -> list[beamish.Pid]:
    """All processes but those that were adopted."""
    return [pid for pid in beamish.processes() if pid not in here().adopted.values()]


async def died(fn: Callable[[], Awaitable[Any]]) -> Any:
    """How a process dies that runs `fn`."""
    _, ref = beamish.spawn_monitor(fn)
    with capture_crashes():
        return (await beamish.down(ref)).reason


async def in_process(fn: Callable[[], Awaitable[Any]]) -> None:
    """Run `fn` as a process; what fails in it fails here."""
    _, ref = beamish.spawn_monitor(fn)
    reason = (await beamish.down(ref)).reason
    if isinstance(reason, Crash):
        raise reason.error
    assert reason == NORMAL
