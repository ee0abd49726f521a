"""A fresh node on the running loop, for the block of a test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from itertools import count
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from beamish import SHUTDOWN, CallExit, ChildSpec, NotFound, Supervisor, persistent_term, stop
from beamish._runtime.clock import Clock, ManualClock, settle as settle
from beamish._runtime.node import NODES, SLICE, Node, here_key
from beamish._runtime.process import Process
from beamish.testing._simloom import SimloomNode, is_simloom, tell

R = TypeVar("R")

#: What a process's turn counts in a world, in seconds: a slice ends after so many of them and not by the clock, so that the
#: order of events in a test is the same on a machine that is busy with other things (a slice that ended early there has let
#: tests fail once in ten runs).
TURN = SLICE / 20


class World:
    """A fresh node on the running loop. At the end its trees are stopped; a process or timer that is left is a failure.

    What was put into `persistent_term` meanwhile is gone afterwards.
    """

    def __init__(
        self, clock: Clock | None = None, *, inline: bool = True, check_leaks: bool = True, node: Callable[[], Node] | None = None
    ) -> None:
        self._clock = clock
        self._make_node = node
        self._inline = inline
        self._check_leaks = check_leaks
        self._supervisor: Supervisor | None = None

    @property
    def clock(self) -> ManualClock:
        """The clock moved by hand: `await world.clock.advance(60.0)`."""
        if not isinstance(self._clock, ManualClock):
            raise RuntimeError("this world runs on the loop's own time; make it with world(clock=ManualClock())")
        return self._clock

    def enter(self) -> Self:
        """The first half of `async with`: make the node."""
        self._terms = persistent_term.restored()
        self._terms.__enter__()
        self._before = NODES.pop(here_key(), None)
        self.node = self._made()
        self.node.stopwatch = partial(next, count(0, TURN))
        return self

    def _made(self) -> Node:
        if self._make_node is not None:
            return self._make_node()
        loop = asyncio.get_running_loop()
        kind = SimloomNode if is_simloom(loop) else Node
        return kind(loop, self._clock, inline=self._inline)

    async def leave(self) -> None:
        """End the node: what still runs on it is stopped as at the end of a program."""
        try:
            self.node.keeper.cancel()
            await asyncio.gather(self.node.keeper, return_exceptions=True)
        finally:
            NODES.pop(here_key(), None)
            if self._before is not None:
                NODES[here_key()] = self._before
            self._terms.__exit__(None, None, None)

    def processes(self) -> list[Process]:
        """Those that live, but for the node's own and for plain asyncio code that was adopted."""
        adopted = set(self.node.adopted.values())
        return [process for process in self.node.procs if process is not self.node.root and process not in adopted]

    async def __aenter__(self) -> Self:
        return self.enter()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._supervisor is not None:
            try:
                await stop(self._supervisor, SHUTDOWN)
            except CallExit:
                pass  # it gave up during the test, which then has seen that
        await settle()
        tell(self.node, error)
        left = [process.label() for process in self.processes()]
        timers = len(self.node.wheel)
        await self.leave()
        if error is None and self._check_leaks and (left or timers):
            raise AssertionError(f"left behind by the test: processes {left}, {timers} timers")

    async def start_supervised(self, spec: ChildSpec[R]) -> R:
        """Start a server under the test's own supervisor (which never gives up); stopped after the test, last one first."""
        if self._supervisor is None:
            self._supervisor = await Supervisor.start_link([], max_restarts=1_000_000)
        return cast(R, await self._supervisor.start_child(spec))

    async def stop_supervised(self, id: Any) -> None:
        """Stop a server that `start_supervised` started, and forget it."""
        if self._supervisor is None:
            raise LookupError(f"nothing was started, so there is no {id!r} to stop")
        await self._supervisor.terminate_child(id)
        try:
            await self._supervisor.delete_child(id)
        except NotFound:
            pass  # a temporary child is forgotten as soon as it is stopped


def world(clock: Clock | None = None, *, inline: bool = True, check_leaks: bool = True) -> World:
    """`async with world() as w:` a fresh node; see `World`. `inline=False` sends every call through the mailbox."""
    return World(clock, inline=inline, check_leaks=check_leaks)
