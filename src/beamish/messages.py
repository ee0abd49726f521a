"""Messages: `send`, selective `receive`, and aliases, which are names for one purpose that can be taken back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from beamish._address import At
from beamish._runtime.ids import Ref
from beamish._runtime.node import here, here_key
from beamish._runtime.process import Alias, MonitorRef, Process, TaskProcess
from beamish._runtime.signals import INFO
from beamish.errors import NoProcess, WrongLoop, short
from beamish.process import Target, find, myself, name_of


def send(target: Target | Ref, message: Any) -> Any:
    """Put `message` into the mailbox of `target`, and return it. To a dead pid: dropped; to an unknown name: NoProcess.

    `target` may be an alias too (`alias()`, `monitor(…, alias=…)`): once that is off, messages to it are dropped.
    From one process to another, messages and exit signals arrive in the order in which they were sent.
    """
    if isinstance(target, Process) and target.node.key == here_key():  # the usual case, written out: half the time
        if not (target.node.ghosts and target.node.silenced()):
            mbox = target.mbox
            if mbox is not None:
                mbox.append((INFO, message, None, None))
            else:
                target.post((INFO, message, None, None))
        return message
    if isinstance(target, Ref):
        return _send_to_alias(target, message)
    process = find(target)
    if process is None:
        if isinstance(target, At):
            return message  # another node, or nobody there: OTP tells neither
        raise NoProcess.of(target, short(message), name_of(target), here().names)
    if not (process.node.ghosts and process.node.silenced()):
        process.post((INFO, message, None, None))
    return message


def _send_to_alias(ref: Ref, message: Any) -> Any:
    found = ref.alias if isinstance(ref, MonitorRef) else ref
    if not isinstance(found, Alias):
        raise TypeError(f"{ref!r} is no alias; alias() makes one, and monitor(…, alias=…). Got: {ref!r}")
    if found.process.node is not here():
        raise WrongLoop.of(ref, "a message")
    if not (found.process.node.ghosts and found.process.node.silenced()):
        found.deliver(message)
    return message


async def receive(*patterns: Any, timeout: float | None = None) -> Any:
    """Take the oldest message that matches one of `patterns`, or wait for it; all others stay, in their order.

    A pattern is a class (or union of classes), a predicate, or a value to be equal to; none means any message. Raises
    TimeoutError after `timeout` seconds (0.0: only what is there now). For spawned functions and adopted tasks; a server gets
    its messages in `handle_info`.
    """
    me = myself()
    if not isinstance(me, TaskProcess):
        raise RuntimeError(
            f"{me.label()!r} is a server: its messages come to handle_info, one at a time; receive() is for spawned functions"
        )
    matches = matcher(patterns)
    for position, message in enumerate(me.inbox):
        if matches(message):
            del me.inbox[position]
            return message
    if timeout == 0:
        raise TimeoutError("receive: no such message is there")
    if me.receiver is not None:
        raise RuntimeError(f"{me!r} waits in receive() already, in another task: one process takes its mail in one place")
    node = me.node
    future = node.loop.create_future()
    me.receiver = mine = (matches, future)
    alarm = _Alarm(future)
    if timeout is not None:
        node.timeouts.add(alarm, timeout)
    try:
        return await future
    except asyncio.CancelledError:
        # Cancelled in the very turn in which the message came: it was the oldest match, so it goes back to the front.
        if future.done() and not future.cancelled() and future.exception() is None:
            me.inbox.insert(0, future.result())
        raise
    finally:
        if timeout is not None:
            node.timeouts.remove(alarm, timeout)
        if me.receiver is mine:
            me.receiver = None


class _Alarm:
    __slots__ = ("future",)

    def __init__(self, future: asyncio.Future[Any]) -> None:
        self.future = future

    def late(self) -> None:
        if not self.future.done():
            self.future.set_exception(TimeoutError("receive: no such message came in time"))


def matcher(patterns: tuple[Any, ...]) -> Callable[[Any], bool]:
    """Whether a value matches one of the patterns: a class, a predicate, or a value to be equal to; none match everything."""
    if not patterns:
        return lambda _: True
    tests = [_test(pattern) for pattern in patterns]
    return lambda message: any(test(message) for test in tests)


def _test(pattern: Any) -> Callable[[Any], bool]:
    if isinstance(pattern, type) or type(pattern).__name__ == "UnionType":
        return lambda message: isinstance(message, pattern)
    if callable(pattern):
        return lambda message: bool(pattern(message))
    return lambda message: bool(message == pattern)


# --- aliases ----------------------------------------------------------------------------------------------------------


def alias(*, reply: bool = False) -> Alias:
    """Another name for this process, which `unalias` takes back: messages to it are dropped from then on.

    With `reply` the first message takes it back. What comes late, or twice, has nowhere to land (OTP's `alias/1`).
    """
    return Alias(myself(), once=reply)


def unalias(ref: Ref) -> bool:
    """Switch an alias off. Whether it was on."""
    found = ref.alias if isinstance(ref, MonitorRef) else ref
    return isinstance(found, Alias) and found.stop()
