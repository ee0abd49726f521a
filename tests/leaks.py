"""What a test may not leave behind, beyond what `World` looks at."""

from __future__ import annotations

import asyncio
import os

from beamish.testing import World


def no_leaks(world: World) -> None:
    """That nothing is left on the node: no process, name, timer, timeout, waiter or task."""
    node = world.node
    assert list(node.procs) == [node.root]
    assert (node.names, len(node.wheel), list(node.ghosts), node.awaited, list(node.adopted), list(node.runq)) == ({}, 0, [], {}, [], [])
    assert not any(table.waiting for table in node.timeouts._tables.values())
    assert not node.root.links
    assert asyncio.all_tasks() == {asyncio.current_task(), node.keeper}


def descriptors() -> int:
    """How many file descriptors are open, where the system tells."""
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
