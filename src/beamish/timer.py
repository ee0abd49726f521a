"""Time as the node sees it, and timers: `send_after`, `send_interval`, `cancel_timer`, `read_timer`.

They follow the node's clock, which a test moves by hand. Seconds are floats, and come first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from beamish._address import Address, At, Via
from beamish._runtime.node import NODES, here, here_key
from beamish._runtime.process import DEAD, Process
from beamish._runtime.signals import INFO, Cancelled
from beamish._runtime.timers import Timer
from beamish.process import Target, find, living, myself


def monotonic() -> float:
    """The node's clock now, in seconds: the one that timers and timeouts follow, and that a test moves by hand."""
    node = NODES.get(here_key())  # without the check that `here` adds on 3.11: for the time alone it is 200 ns too dear
    return (node if node is not None else here()).clock.now()


def send_after(seconds: float, target: Target, message: Any) -> Timer:
    """Send `message` to `target` in `seconds` (0.0: soon). A name is looked up then, and it is no error if nobody has it.

    Timers with the same deadline fire in the order of arming; one aimed at a pid vanishes with it.
    """
    return _arm(seconds, target, message, _fire)


def send_interval(seconds: float, target: Target, message: Any) -> Timer:
    """Send `message` every `seconds` (more than 0), until cancelled. It does not drift; missed beats are left out."""
    if not seconds > 0:
        raise ValueError(f"an interval is seconds, more than 0. Got: {seconds!r}")

    def again(timer: Timer) -> None:
        process, node = timer.target, here()
        _deliver(process, timer.message)
        if not isinstance(process, Process) or process.status != DEAD:
            now = node.clock.now()
            missed = int((now - timer.when) / seconds) if now > timer.when else 0
            node.wheel.rearm(timer, timer.when + (missed + 1) * seconds, again)

    return _arm(seconds, target, message, again)


def cancel_timer(ref: Timer, *, asynchronous: bool = False, info: bool = True) -> float | bool:
    """The seconds that were left, or False when it had fired (the message may be in the mailbox) or was cancelled before.

    `asynchronous=True` returns True at once, and `Cancelled(ref, left)` comes as a message; `info=False` tells nothing.
    """
    if not isinstance(ref, Timer):  # pyright: ignore[reportUnnecessaryIsInstance]
        return False
    process = ref.target
    left = here().wheel.cancel(ref)
    if isinstance(process, Process) and process.timers is not None:
        process.timers.pop(ref, None)
    if asynchronous:
        if info:
            myself().post((INFO, Cancelled(ref, left), None, None))
        return True
    return left if info else True


def read_timer(ref: Timer) -> float | bool:
    """The seconds that are left, or False."""
    if not isinstance(ref, Timer):  # pyright: ignore[reportUnnecessaryIsInstance]
        return False
    return here().wheel.read(ref)


def _arm(seconds: float, target: Target, message: Any, fire: Callable[[Timer], None]) -> Timer:
    if type(seconds) is not float and (isinstance(seconds, bool) or not isinstance(seconds, int | float)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"the seconds come first: send_after(seconds, target, message). Got: {seconds!r}")
    if not 0 <= seconds < math.inf:
        raise ValueError(f"a timer is set in seconds, 0.0 or more and finite. Got: {seconds!r}")
    node = here()
    if node.ghosts:
        living(node)
    by_name = not isinstance(target, Process) and (
        isinstance(target, str | Via | At) or (isinstance(target, Address) and target._process is None)  # pyright: ignore[reportPrivateUsage]
    )
    aim: Any = target if by_name else find(target, node)
    timer = node.wheel.arm(node.clock.now() + seconds, fire, aim, message)
    if not by_name:
        if aim.status == DEAD:
            node.wheel.cancel(timer)
        elif aim.timers is None:
            aim.timers = {timer: None}
        else:
            aim.timers[timer] = None
    return timer


def _fire(timer: Timer) -> None:
    process = timer.target
    if isinstance(process, Process) and process.timers is not None:
        process.timers.pop(timer, None)
    _deliver(process, timer.message)


def _deliver(target: Any, message: Any) -> None:
    process = target if isinstance(target, Process) else find(target)
    if process is not None:
        process.post((INFO, message, None, None))
