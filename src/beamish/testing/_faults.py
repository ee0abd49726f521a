# pyright: reportPrivateUsage=false
"""What may go wrong in a simulated run, where it was asked for, at points that the strategy chooses.

* crash: a handler of a supervised server raises InjectedCrash, before it has done anything, or after all but its reply.
* kill: a supervised process is killed, between any two steps.
* late: the handler of a waiting call takes longer than its caller waits.
* slow: a handler takes some virtual seconds.

A server that is slow runs its handler in a task of its own, as if that were an `async def` that sleeps first: the mail behind it waits,
and exit signals find it as they find any such server. Supervisors, and requests of the system (stop, get_state), are left alone.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any, cast

from beamish._runtime.client import PENDING, Client
from beamish._runtime.process import RUNNING, Entry, Process
from beamish._runtime.signals import ACK, SYSTEM

if TYPE_CHECKING:
    from beamish.testing._simulated import SimulatedNode

#: Crashes and kills of one run: as many as a supervisor with OTP's usual intensity survives.
DEATHS = 3
#: What a slow handler may take, in seconds; less than a call waits (5.0).
SLOW = (0.0, 0.01, 0.5, 3.0)
KINDS = frozenset({"crash", "kill", "late", "slow"})


class InjectedCrash(Exception):
    """A crash that the simulation caused."""

    def __init__(self) -> None:
        super().__init__("the simulation makes it crash here")


class Faults:
    """The faults of one run."""

    def __init__(self, node: SimulatedNode, kinds: frozenset[str]) -> None:
        unknown = kinds - KINDS
        if unknown:
            raise ValueError(f'faults are "crash", "kill", "late" and "slow". Got: {", ".join(map(repr, sorted(unknown)))}')
        self.node = node
        self.kinds = kinds
        self.deaths = DEATHS
        self.most = math.inf  # faults of any kind; 1 where every interleaving is tried

    def _choose(self, kind: str, options: Sequence[Hashable]) -> int:
        """0: no fault here."""
        chosen = self.node.chooser.choose(kind, options) if self.most else 0
        if chosen:
            self.most -= 1
        return chosen

    # -- kill

    def kill_somebody(self) -> None:
        """Asked between two steps of the loop."""
        if not self.deaths:
            return
        targets = [process for process in self.node.procs if process.record is not None and process.alive and not _starts(process)]
        if not targets:
            return
        labels = [self.node.label(process) for process in targets]
        chosen = self._choose("kill", ("nobody", *labels))
        if chosen:
            self.deaths -= 1
            self.node.trace.add(f"{labels[chosen - 1]} is killed")
            targets[chosen - 1].kill()

    # -- crash, late, slow

    def strike(self, process: Any) -> bool:
        """Asked before a server handles its next message. True: that was handled, with a fault."""
        entry: Entry = process.mbox[0]
        if entry[0] is SYSTEM or entry[0] is ACK or process.cls.__kind__ == "supervisor":
            return False
        seconds, how = self._delay(process, entry)
        crash = self._crash(process)
        if not seconds and not crash:
            return False
        node = self.node
        node.trace.add(f"{node.label(process)} handles {node.shown(entry)}{how}{', and crashes' if crash else ''}")
        process.mbox.popleft()
        process.disarm()
        process.status = RUNNING
        outer, node.current = node.current, process
        node.depth += 1
        try:
            if _handled(process, entry, seconds, crash):
                process.release()
        finally:
            node.current = outer
            node.depth -= 1
        return True

    def _delay(self, process: Any, entry: Entry) -> tuple[float, str]:
        deadline = self._deadline(entry[3]) if "late" in self.kinds else None
        if deadline is not None and self._choose("late", ("in time", "late")):
            return deadline - self.node.clock.now() + 0.01, ", too late for its caller"
        if "slow" in self.kinds:
            seconds = SLOW[self._choose("slow", SLOW)]
            return seconds, f", which takes {seconds} s" if seconds else ""
        return 0.0, ""

    def _deadline(self, client: Client | None) -> float | None:
        """Until when somebody waits for the reply."""
        if client is None or client.outcome != PENDING:
            return None
        tables = self.node.timeouts._tables.values()
        return next((table.waiting[client] for table in tables if client in table.waiting), None)

    def _crash(self, process: Process) -> str:
        if "crash" not in self.kinds or process.record is None or not self.deaths:
            return ""
        when = ("", "before", "after")[self._choose("crash", ("no", "before", "after"))]
        if when:
            self.deaths -= 1
        return when


def _starts(process: Process) -> bool:
    """Whether its init is not done yet: to whoever starts it that is another thing than the death of a server."""
    client = getattr(process, "client", None)
    return isinstance(client, Client) and client.request == "init" and client.outcome == PENDING


def _handled(process: Any, entry: Entry, seconds: float, crash: str) -> bool:
    """What `ServerProcess.handle` does, with a delay or a crash. False as there: it is gone, or a task of its own does the rest."""
    name, args, kwargs, client = entry
    process.client = client if client is not None else False

    def handle() -> Any:
        if crash == "before":
            raise InjectedCrash
        handler = process.calls.get(name)
        given = (process.server, process.state, *args) if handler is not None else (name, args, client)
        value = (handler or process.special)(*given, **(kwargs or {}))
        if crash and not inspect.iscoroutine(value):
            raise InjectedCrash
        return value

    async def rest(value: Any) -> Any:
        """Of a handler that is slow, or is a coroutine and then crashes."""
        if seconds:
            await asyncio.sleep(seconds)
            value = handle()
        if inspect.iscoroutine(value):
            value = await value
            if crash:
                raise InjectedCrash
        return value

    try:
        if seconds:
            value: Any = rest(None)
        else:
            value = process.context().run(handle)
            if crash:
                value = rest(value)
    except BaseException as error:
        return cast(bool, process.raised(error, entry))
    return cast(bool, process.took(value, entry))
