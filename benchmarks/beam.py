"""The same operations on the BEAM, when `elixir` is on the PATH: one script per row, each in a virtual machine of its own.

One scheduler (`+S 1`), because that is what one event loop is to be compared with.
A script prints `row<TAB>unit<TAB>figure` once per round; with more figures, one for every operation.
"""

import shutil
import subprocess
from collections.abc import Collection
from pathlib import Path

from benchmarks.harness import Result, summary

SCRIPTS = {
    "call": ("call.exs", "GenServer.call"),
    "call by name": ("call_by_name.exs", "GenServer.call to a registered name"),
    "cast": ("cast.exs", "GenServer.cast, drained"),
    "crash to answer": ("crash_to_answer.exs", "Supervisor restarts a GenServer"),
    "start": ("start.exs", "DynamicSupervisor.start_child"),
    "memory of an idle server": ("memory.exs", "GenServer"),
    "monitor": ("monitor.exs", "Process.monitor, Process.demonitor"),
    "registry: lookup": ("registry.exs", "Registry.lookup"),
    "registry: register, unregister": ("registry.exs", "Registry.register, Registry.unregister"),
    "registry: dispatch to 1": ("registry_dispatch.exs", "Registry.dispatch, send"),
    "registry: dispatch to 100": ("registry_dispatch.exs", "Registry.dispatch, send"),
    "registry: call by via": ("call_by_via.exs", "GenServer.call to a name in a Registry"),
    "ets: lookup": ("ets.exs", "ets:lookup"),
    "ets: insert": ("ets.exs", "ets:insert"),
    "ets: update_counter": ("ets.exs", "ets:update_counter"),
    "ets: select, all objects": ("ets.exs", "ets:select"),
    "ets: ordered insert, random keys": ("ets.exs", "ets:insert, ets:first"),
    "ets: ordered insert, descending keys": ("ets.exs", "ets:insert, ets:first"),
    "ets: ordered next": ("ets.exs", "ets:next"),
    "persistent_term: get": ("ets.exs", "persistent_term:get"),
    "state machine: call that keeps the state": ("state_machine.exs", "gen_statem:call"),
    "state machine: call that changes it": ("state_machine.exs", "gen_statem:call"),
    "state machine: call that changes it and sets a timeout": ("state_machine.exs", "gen_statem:call"),
    "state machine: cast": ("state_machine.exs", "gen_statem:cast, drained"),
    "task": ("task.exs", "Task.async, Task.await"),
    "async_stream, 100 at a time": ("task.exs", "Task.async_stream"),
    "telemetry, no handler": ("telemetry.exs", ":telemetry.execute"),
}
SECONDS = 60.0
"""The longest one script may take; all of them together need about half of that."""


def figures(rows: Collection[str], *, rounds: int, seconds: float = SECONDS) -> tuple[list[Result], list[str]]:
    """The BEAM's results for `rows`; and which BEAM it was, or what could not be had, in sentences."""
    elixir = shutil.which("elixir")
    if elixir is None:
        return [], ["elixir not found: BEAM column left empty"]
    results: list[Result] = []
    notes = [_version(elixir)]
    for row, (script, name) in SCRIPTS.items():
        if row in rows:
            try:
                results.append(_run(elixir, row, script, f"BEAM: {name}", rounds, seconds))
            except Unavailable as problem:
                notes.append(f"BEAM, {row}: {problem}")
    return results, notes


class Unavailable(Exception):
    """A script gave no figure, for the reason in the text."""


def _run(elixir: str, row: str, script: str, name: str, rounds: int, seconds: float) -> Result:
    output = _output([elixir, "--erl", "+S 1 +P 1000000", str(Path(__file__).parent / "beam" / script), str(rounds)], seconds)
    lines = [line.split("\t") for line in output.splitlines() if line.startswith(f"{row}\t")]
    if not lines:
        raise Unavailable(output.strip() or "the script printed nothing")
    return summary(row, name, lines[0][1], [[float(figure) for figure in figures] for _, _, *figures in lines])


def _version(elixir: str) -> str:
    try:
        return "BEAM: " + ", ".join(line for line in _output([elixir, "--version"], 30.0).splitlines() if line)
    except Unavailable as problem:
        return f"BEAM: {problem}"


def _output(command: list[str], seconds: float) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as late:
        raise Unavailable(f"no answer within {seconds:.0f} s") from late
    if done.returncode != 0:
        raise Unavailable(" ".join(done.stderr.strip().splitlines()[:1]) or f"exit code {done.returncode}")
    return done.stdout
