"""Run a port, and compare its trace with what the real OTP printed, but for the differences that docs/differences.md lists.

A listed difference is a fenced block with the lines as OTP printed them (-), ours (+), lines around them where those alone
would not be clear, and the reason in the paragraph below:

    ```diff init_return_forms
      start ok -> {:ok, :"pid:srv"}
    - start ignore -> :ignore
    + start ignore -> :ignored
    ```
    Why: …

`times=3` after the name means that it occurs so often, `times=all` everywhere from here on. Blocks apply in their order.
"""

from __future__ import annotations

import asyncio
import difflib
import importlib
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import beamish
from beamish import telemetry
from beamish._runtime.node import here
from beamish._runtime.process import DEAD, Process
from beamish.testing import World
from conformance import words

HERE = Path(__file__).parent
DIFFERENCES = HERE.parent.parent / "docs" / "differences.md"


def scenarios() -> list[str]:
    """The ports: every NAME.py with a NAME.expected beside it."""
    return sorted(path.stem for path in HERE.glob("*.expected") if path.with_suffix(".py").exists())


# --- running ----------------------------------------------------------------------------------------------------------


def run(name: str, *, inline: bool) -> list[str]:
    """The trace of a port, in a world and with a clock of its own."""
    scenario = importlib.import_module(f"conformance.{name}").scenario
    attached = {one.id for one in telemetry.list_handlers()}
    logger = logging.getLogger("beamish")
    quiet, propagate = logging.NullHandler(), logger.propagate
    logger.addHandler(quiet)
    logger.propagate = False
    try:
        return asyncio.run(_run(scenario, inline=inline))
    finally:
        logger.removeHandler(quiet)
        logger.propagate = propagate
        for one in {one.id for one in telemetry.list_handlers()} - attached:
            telemetry.detach(one)


async def _run(scenario: Any, *, inline: bool) -> list[str]:
    clock = words.VirtualClock()
    trace = words.begin(clock)

    async def script() -> None:
        beamish.current()  # a script is a process
        await scenario()
        words.begin(clock)  # what the end of the script stirs up is not part of the trace

    async with World(clock, inline=inline, check_leaks=False):
        task = asyncio.create_task(script())
        try:
            await clock.drive(task)
        finally:
            if not task.done():
                task.cancel()
            ended = await asyncio.gather(task, return_exceptions=True)
            await _quit(clock)
    if isinstance(ended[0], BaseException):
        ended[0].add_note("the trace so far:\n" + "\n".join(trace))
        raise ended[0]
    return trace


async def _quit(clock: words.VirtualClock) -> None:
    """The virtual machine halts: what the script has left running is killed."""
    node = here()
    for process in [one for pair in node.procs.items() for one in pair if isinstance(one, Process)]:
        if process is not node.root and process.status != DEAD:
            process.kill()
    await clock.advance(0.0)


# --- comparing --------------------------------------------------------------------------------------------------------


@dataclass
class Difference:
    """One listed difference: `old` is in the trace of OTP, `new` in ours."""

    line: int
    old: list[str] = field(default_factory=list[str])
    new: list[str] = field(default_factory=list[str])
    times: int | None = 1  # None: wherever it occurs, at least once
    why: str = ""

    def where(self) -> str:
        return f"{DIFFERENCES.name}, line {self.line}"


_FENCE = re.compile(r"```diff (?P<name>\w+)(?: times=(?P<times>all|\d+))?\s*")


def listed() -> dict[str, list[Difference]]:
    """The differences of docs/differences.md, by scenario, in their order."""
    found: dict[str, list[Difference]] = {}
    one: Difference | None = None
    last: Difference | None = None  # whose reason is still to come
    for number, line in enumerate(DIFFERENCES.read_text(encoding="utf-8").splitlines(), 1):
        fence = _FENCE.fullmatch(line)
        if fence is not None:
            times = fence["times"] or "1"
            one = Difference(number, times=None if times == "all" else int(times))
            found.setdefault(fence["name"], []).append(one)
        elif line.startswith("```"):
            one, last = None, one
        elif one is not None:
            _add(one, line)
        elif last is not None and line.strip():
            if line.startswith("Why:"):
                last.why = line.removeprefix("Why:").strip()
            last = None
    return found


def _add(one: Difference, line: str) -> None:
    mark, text = line[:2], line[2:]
    if mark not in ("- ", "+ ", "  "):
        raise AssertionError(f"{one.where()}: a line of a difference begins with '- ', '+ ' or two spaces. Got: {line!r}")
    if mark != "+ ":
        one.old.append(text)
    if mark != "- ":
        one.new.append(text)


def apply(expected: list[str], differences: Iterable[Difference]) -> list[str]:
    """What our trace must be. A difference that has no place in OTP's trace is an error."""
    lines, position = list(expected), 0
    for one in differences:
        if not one.why:
            raise AssertionError(f"{one.where()}: a difference needs its reason, in a paragraph below that begins with 'Why:'")
        count, at = 0, position
        while one.times is None or count < one.times:
            at = _find(lines, one.old, at)
            if at < 0:
                break
            lines[at : at + len(one.old)] = one.new
            at += len(one.new)
            count += 1
            if one.times is not None:
                position = at
        if count == 0 or (one.times is not None and count < one.times):
            wanted = "once" if one.times is None else f"{one.times} times"
            raise AssertionError(f"{one.where()}: these lines are to be in OTP's trace {wanted}, but are there {count}: {one.old}")
    return lines


def _find(lines: list[str], part: list[str], start: int) -> int:
    for at in range(start, len(lines) - len(part) + 1):
        if lines[at : at + len(part)] == part:
            return at
    return -1


def compare(name: str, trace: list[str]) -> str:
    """Nothing, or what is not as it should be: a diff from what OTP printed, listed differences applied, to our trace."""
    expected = (HERE / f"{name}.expected").read_text(encoding="utf-8").splitlines()
    wanted = apply(expected, listed().get(name, []))
    if wanted == trace:
        return ""
    diff = difflib.unified_diff(wanted, trace, f"{name}.expected, with the listed differences", f"{name}.py", n=6, lineterm="")
    return "\n".join(diff)
