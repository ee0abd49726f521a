"""What Beamish wants to reach on each row, and whether a run has reached it. Printed by `--check`; no test asserts it.

Ratios are against a line of the same row in the same run. Figures in microseconds, milliseconds and bytes stand for a quiet machine of
2.5 GHz: on a slower or a busy one believe the ratios.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks import store_postgres
from benchmarks.harness import Result, shown, times_better

OLD = sys.version_info < (3, 12)
"""3.11 has no eager tasks, and asking for the running loop is dear there."""

QUEUE = "asyncio: Queue + Future"
US, MS = 1e3, 1e6


@dataclass(frozen=True, slots=True)
class Reach:
    """One aim for the line `name` of `row`: so many times better than `against`, or `at_most` (beyond `against`, if that is given)."""

    row: str
    name: str
    against: str | None = None
    times: float | None = None
    at_most: float | None = None
    p99: bool = False

    def __str__(self) -> str:
        if self.times is not None:
            return f"at least {self.times:g}× {self.against}"
        assert self.at_most is not None
        beyond = f" more than {self.against}" if self.against else ""
        return f"at most {shown(self.at_most, self.unit)}{beyond}{' at the 99th percentile' if self.p99 else ''}"

    @property
    def unit(self) -> str:
        return "B" if self.row.startswith("memory") else "ns"


REACHES: tuple[Reach, ...] = (
    Reach("call", "Beamish: by pid", QUEUE, times=8 if OLD else 9),
    Reach("call", "Beamish: by pid", "BEAM: GenServer.call", times=1.2),
    Reach("call by name", "Beamish: by name", "asyncio: a dict, then Queue + Future", times=8 if OLD else 9),
    Reach("call by name", "Beamish: by name", "BEAM: GenServer.call to a registered name", times=1.2),
    Reach("call, 100 clients", "Beamish: by pid", QUEUE, times=1),
    Reach("call, async handler", "Beamish: by pid", "asyncio: Queue + Future, async handler", times=1.5 if OLD else 2),
    Reach("call, async handler that suspends", "Beamish: by pid", "asyncio: Queue + Future, async handler", times=1),
    Reach("cast", "Beamish: drained", "asyncio: Queue, drained", times=1),
    Reach("crash to answer", "Beamish: Supervisor restarts a GenServer", at_most=20 * US),
    Reach("crash to answer", "Beamish: Supervisor restarts a GenServer", "BEAM: Supervisor restarts a GenServer", times=1),
    Reach("start", "Beamish: a Supervisor's children, specs ready", at_most=3 * US),
    Reach("start", "Beamish: a Supervisor's children, specs ready", "BEAM: DynamicSupervisor.start_child", times=1),
    Reach("memory of an idle server", "Beamish: supervised, after one call", at_most=900),
    Reach("memory of an idle server", "Beamish: supervised, after one call", "BEAM: GenServer", times=1),
    Reach("start", "Beamish: DynamicSupervisor.start_child, spec ready", at_most=5 * US),
    Reach("start", "Beamish: DynamicSupervisor.start_child, spec ready", "BEAM: DynamicSupervisor.start_child", times=1),
    Reach("stop", "Beamish: a DynamicSupervisor stops its children", at_most=20 * US),
    Reach("memory of an idle server", "Beamish: of a DynamicSupervisor, after one call", at_most=600),
    Reach("monitor", "Beamish: monitor, demonitor", at_most=1 * US),
    Reach("1 ms heartbeat, 1 flooding client", "Beamish", at_most=5 * MS, p99=True),
    Reach("1 ms heartbeat, 100 clients", "Beamish", QUEUE, at_most=5 * MS, p99=True),
    Reach("timer", "Beamish: send_after, cancel_timer", "asyncio: loop.call_later, cancel", times=1),
    Reach("registry: lookup", "Beamish: Registry.lookup", at_most=667),
    Reach(
        "registry: register, unregister", "Beamish: a process that has other keys", "BEAM: Registry.register, Registry.unregister", times=1
    ),
    Reach("registry: dispatch to 1", "Beamish: Registry.dispatch, send", "asyncio: a dict of queues", times=0.4),
    Reach("registry: dispatch to 100", "Beamish: Registry.dispatch, send", "asyncio: a dict of queues", times=0.7),
    Reach("registry: call by via", "Beamish: by Via", "asyncio: a dict, then Queue + Future", times=4),
    Reach("registry: call by via", "Beamish: by Via", "Beamish: by name", times=0.45),
    Reach("registry: call by via", "Beamish: by Via", "BEAM: GenServer.call to a name in a Registry", times=1),
    Reach("snapshot: the latest beat", "Beamish: while it saves", at_most=20 * MS),
    Reach("ets: lookup", "Beamish: Table.lookup", at_most=500),
    Reach("ets: insert", "Beamish: protected, by its owner", at_most=667),
    Reach("ets: insert", "Beamish: protected, by its owner", "BEAM: ets:insert", times=0.3),
    Reach("ets: ordered insert, random keys", "Beamish: and the first key", at_most=2 * US),
    Reach("ets: ordered insert, descending keys", "Beamish: and the first key", at_most=2 * US),
    Reach("persistent_term: get", "Beamish: persistent_term.get", "Python: dict.get", times=0.4),
    Reach("state machine: call that keeps the state", "Beamish: a StateMachine, a plain reply", "Beamish: a GenServer", times=0.5),
    Reach("state machine: call that changes it", "Beamish: a StateMachine", "Beamish: a GenServer", times=0.33),
    Reach("state machine: cast", "Beamish: a StateMachine, state kept", "Beamish: a GenServer, drained", times=0.6),
    Reach("task", "Beamish: Task.async_, await", "asyncio: create_task, await", times=0.5),
    Reach("task", "Beamish: the same in a process, linked to it", "BEAM: Task.async, Task.await", times=0.5),
    Reach("task that suspends", "Beamish: Task.async_, await", "asyncio: create_task, await", times=0.5),
    Reach("async_stream, 100 at a time", "Beamish: Task.async_stream", "BEAM: Task.async_stream", times=1),
    Reach("async_stream of tasks that suspend", "Beamish: Task.async_stream", "asyncio: a semaphore, gather", times=0.8),
    Reach("telemetry, no handler", "Beamish: the guard on the way of a call", at_most=10),
    Reach("a test of ten processes", "simulated, random", "its own work", at_most=1 * MS),
    Reach("a run of SearchCache's suite", "simulated, random", at_most=5 * MS),
    Reach("an hour of timers, one each minute", "Beamish: send_interval", at_most=5 * MS),
    Reach("pytest, 300 tests that do not use the fixture", "with it", "without the plugin", at_most=50 * MS),
    Reach("store: transaction, one client", "Beamish: SQLite, normal", at_most=125 * US),
    Reach("store: transaction, 64 clients, normal", "Beamish: SQLite", at_most=40 * US),
    Reach("store: transaction, 64 clients, full", "Beamish: SQLite", "sqlite3 by hand: BEGIN, 2 SELECT, 2 INSERT, COMMIT", times=3),
    Reach("store: read of a table in memory", "Beamish: copy in memory, SQLite", at_most=0.667 * US),
)

if store_postgres.MISSING is None:
    REACHES += tuple(Reach(row, "Beamish: store.transaction", "psycopg: cursors", times=0.8) for row in store_postgres.ROWS)


def report(results: Iterable[Result], reaches: Sequence[Reach] = REACHES) -> str:
    """A line for each reach that this run can say something about."""
    lines = {(result.row, result.name): result for result in results}
    return "\n".join(_line(reach, lines) for reach in reaches if (reach.row, reach.name) in lines)


def _line(reach: Reach, lines: dict[tuple[str, str], Result]) -> str:
    one = lines[reach.row, reach.name]
    other = lines.get((reach.row, reach.against)) if reach.against else None
    if reach.against and other is None:
        return f"  –       {reach.row}: {reach} (not measured)"
    if reach.times is not None:
        assert other is not None
        figure, met = f"{times_better(one, other):.2f}×", times_better(one, other) >= reach.times
    else:
        assert reach.at_most is not None
        value, allowed = _of(one, reach), reach.at_most + (_of(other, reach) if other is not None else 0.0)
        figure, met = shown(value, reach.unit), value <= allowed
    return f"  {'met' if met else 'missed':<7} {reach.row}: {figure}; {reach}"


def _of(result: Result, reach: Reach) -> float:
    return result.p99 if reach.p99 and result.p99 is not None else result.median
