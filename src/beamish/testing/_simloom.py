"""Under simloom: the choices of our processes come from its tape, beside its own about tasks, the network and disks.

    @simloom.test(runs=500)
    async def test_it(net: simloom.World) -> None:
        async with Kit() as beamish:
            ...

A world that begins on a loop of simloom's has such a node by itself. Each choice is a draw, of which 0 is the plain order: simloom's seeds
and tapes replay it, and its shrinker takes away what does not matter.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Hashable, Sequence
from math import inf, nextafter
from typing import Any, cast

from beamish._runtime.clock import Clock
from beamish._runtime.node import Node
from beamish.testing._choosers import ODDS
from beamish.testing._simulated import SimulatedNode, Trace


class SimloomChooser:
    """Draws from the tape of the simloom run that is being made."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        tape: Any = cast(Any, loop).tape
        self._draw: Callable[[str, int], int] = tape.draw

    def choose(self, kind: str, options: Sequence[Hashable]) -> int:
        others = len(options) - 1
        odds = ODDS.get(kind)
        if odds is None:
            return self._draw(f"beamish.{kind}", len(options))
        drawn = self._draw(f"beamish.{kind}", max(2, round(others / odds)))
        return drawn if drawn <= others else 0


class SimloomTrace(Trace):
    """What happened, in simloom's log too, when that is made with `causal=True` or `debug=True`."""

    def add(self, line: str) -> None:
        super().add(line)
        sys.modules["simloom"].observe("beamish", line)


class SimloomNode(SimulatedNode):
    """See the module. Whose step is next in the loop, a slice of our run queue being one, is simloom's own choice."""

    __slots__ = ()

    def __init__(
        self, loop: asyncio.AbstractEventLoop, clock: Clock | None = None, *, inline: bool = True, faults: frozenset[str] = frozenset()
    ) -> None:
        self._begin(loop, SimloomChooser(loop), SimloomTrace(), faults, clock)
        if not inline:
            self.inline, self.limit = False, 0
        cast(Any, loop).idle = _idle  # what `settle` asks for

    def step(self) -> int:
        return len(cast(Any, self.loop).log)

    def run(self) -> None:
        if self.faults is not None and "kill" in self.faults.kinds:
            self.faults.kill_somebody()
        super().run()


#: Lines of what happened that a failure shows, the last ones.
SHOWN = 60


def tell(node: Node, error: BaseException | None) -> None:
    """Say with a failure what our processes did before it; nothing under another loop than simloom's."""
    if error is None or not isinstance(node, SimloomNode) or isinstance(error, asyncio.CancelledError):
        return
    lines = node.trace.lines
    left_out = f"    … {len(lines) - SHOWN} lines before\n" if len(lines) > SHOWN else ""
    told = "\n".join(f"    {line}" for line in lines[-SHOWN:])
    error.add_note(f"what the processes did in this run of simloom:\n{left_out}{told}")


def _idle() -> asyncio.Future[None]:
    """Wait until nothing can run any more at this moment: only then does simloom's time go on, here by the least that it can."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.call_at(nextafter(loop.time(), inf), _arrived, future)
    return future


def _arrived(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def is_simloom(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether simloom runs this."""
    simloom: Any = sys.modules.get("simloom")
    return simloom is not None and isinstance(loop, simloom.SimLoop)


def with_faults(faults: frozenset[str]) -> Callable[[], Node]:
    """What makes the node of a world in which our own faults may happen too."""
    loop = asyncio.get_running_loop()
    if not is_simloom(loop):
        raise RuntimeError("Kit(faults=…) is for tests that simloom runs; everywhere else they are asked for with @simulate(faults=…)")
    return lambda: SimloomNode(loop, faults=faults)
