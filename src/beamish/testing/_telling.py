"""Who did what in a simulated run, in words that are the same for the same choices, on every Python."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

from beamish import ChildSpec, _report
from beamish._runtime.process import QUEUED, Process
from beamish._runtime.signals import SYSTEM

if TYPE_CHECKING:
    from beamish._runtime.node import Node

#: The line where a test has failed.
FAILS = "the test fails"
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_PID = re.compile(r"<0\.\d+\.0>")
_REF = re.compile(r"#Ref<\d+>")
#: Tasks that are not the test's own to name.
_KNOWN = {"run_once.<locals>.body": "the test", "explored.<locals>.body": "the test", "Node._keep": "the keeper"}


class Trace:
    """What happened, as lines, and the names of those who did it."""

    def __init__(self, *, telling: bool = False) -> None:
        self.lines: list[str] = []
        self.telling = telling  # for somebody to read: calls that run on their callers' stacks are lines too, which costs 10 µs each
        self._names: dict[object, str] = {}
        self._counts: dict[str, int] = {}

    def add(self, line: str) -> None:
        self.lines.append(line)

    def named(self, one: object) -> str | None:
        return self._names.get(one)

    def name(self, one: object, kind: str) -> str:
        found = self._names.get(one)
        if found is None:
            self._counts[kind] = number = self._counts.get(kind, 0) + 1
            found = self._names[one] = kind if number == 1 else f"{kind} {number}"
        return found

    def forget(self) -> None:
        """The run is over: its tasks and processes are not kept until the garbage collector comes by. The lines are."""
        self._names.clear()

    # -- who

    def process(self, process: Process) -> str:
        """A name, or what it is: a class of servers, the function that was spawned, the task that was adopted."""
        if type(process.name) is str:
            return process.name
        found = self._names.get(process)
        if found is not None:
            return found
        if process.task is not None and process.task in process.node.adopted:
            return self.task(process.task)
        begun = process.initial_call()
        if isinstance(begun, str) and not begun.endswith(".init"):
            return self.name(process, begun.rpartition("<locals>.")[2])
        return self.name(process, type(process.label()).__name__)

    def task(self, task: asyncio.Task[Any], process: Process | None = None) -> str:
        """A task by the name that it was given, by the process whose code it runs, or by its coroutine."""
        found = self._names.get(task)
        if found is not None:
            return found
        if process is not None and process.task is task and task.get_name() != "beamish-handler":
            self._names[task] = found = self.process(process)
            return found
        given, qualified = task.get_name(), getattr(cast(Any, task.get_coro()), "__qualname__", "a task")
        kind = _KNOWN.get(qualified)
        if given == "beamish-handler" and process is not None:
            kind = f"{self.process(process)}'s handler"
        if kind is None:
            kind = qualified.rpartition("<locals>.")[2] if given.startswith(("Task-", "beamish-")) else given
        return self.name(task, kind)

    # -- what

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Around a test: what comes after it has failed is its end."""
        try:
            yield
        except BaseException:
            if FAILS not in self.lines:
                self.lines.append(FAILS)
            raise

    def until_failure(self) -> list[str]:
        return self.lines[: self.lines.index(FAILS) + 1] if FAILS in self.lines else self.lines

    def asked(self, frame: FrameType, node: Node, before: str = "") -> str:
        """The request that is being made there: in a generated client's method, or by the longer road, which drains first."""
        if not self.telling:
            return ""
        code, found = frame.f_code, frame.f_locals
        process = found.get("process_")
        if isinstance(process, Process):
            names = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]
            request = self.shown((code.co_name, tuple(found[name] for name in names), {}, None), node)
        elif code.co_name == "_clear" and frame.f_back is not None:
            process = found["process"]
            request = self.shown(frame.f_back.f_locals["entry"], node).partition(" for ")[0]
            for entry in (process.mbox or ()) if not before and process.status == QUEUED else ():
                self.add(f"{self.process(process)} handles {self.shown(entry, node)}")
        else:
            return ""
        return f"{before}{self.process(process)}: {request}"

    def shown(self, entry: Any, node: Node) -> str:
        """An entry of a mailbox: without addresses of memory, and with names in the place of pids, whose numbers go on from run to run."""
        if entry[0] is SYSTEM:
            return str(getattr(entry[1], "verb", "a request of the system"))
        name, args, kwargs, client = entry
        if isinstance(name, str):
            args = tuple(_Spec(one.id) if isinstance(one, ChildSpec) else one for one in args)
        text = str(_report.message((name, args, kwargs, client)))
        if "0x" in text or "#Ref" in text:
            text = _REF.sub("#Ref", _ADDRESS.sub("", text))
        caller = getattr(client, "caller", None)
        return self._named(text, (args, kwargs), node) + (f" for {self.process(caller)}" if isinstance(caller, Process) else "")

    def _named(self, text: str, message: Any, node: Node) -> str:
        if "<0." not in text:
            return text
        mentioned = {repr(process): process for process in (*node.procs, *_processes(message))}

        def named(pid: re.Match[str]) -> str:
            process = mentioned.get(pid[0])
            return f"<{'a process' if process is None else self.process(process)}>"

        return _PID.sub(named, text)


class _Spec:
    """A child's specification, shown by its id."""

    def __init__(self, id: object) -> None:
        self.id = id

    def __repr__(self) -> str:
        return f"child {self.id!r}"


def _processes(value: Any, depth: int = 4) -> Iterator[Process]:
    """The processes that a message speaks of."""
    if isinstance(value, Process):
        yield value
    elif depth and not isinstance(value, str | bytes):
        for part in _parts(value):
            yield from _processes(part, depth - 1)


def _parts(value: Any) -> Iterable[Any]:
    anything: Any = value
    if isinstance(value, dict):
        return list(anything.values())
    if isinstance(value, tuple | list):
        return list(anything)
    if is_dataclass(value) and not isinstance(value, type):
        return [getattr(anything, one.name, None) for one in fields(value)]
    return [getattr(value, "_process", None)]  # of an address
