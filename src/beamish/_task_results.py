"""What comes of a task, as values and as exceptions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from beamish._runtime.ids import Ref
from beamish.errors import BeamishError, CallExit, CallTimeout, Crash, Killed, NoProc, Normal, Shutdown, notes_of, short

T_co = TypeVar("T_co", covariant=True)

#: What has become of a task, so far.
PENDING, ANSWERED, DOWN = range(3)


@dataclass(frozen=True, slots=True)
class Ok(Generic[T_co]):
    """A task's function returned `value` (OTP's `{:ok, value}`)."""

    value: T_co


@dataclass(frozen=True, slots=True)
class Failed:
    """A task ended without a value, of `reason` (OTP's `{:exit, reason}`): `Crash(error)`, `Killed()`, what an Exit said.

    In a stream that timed out waiting, `reason` is "timeout"; with `zip_input_on_exit`, `input` is the item.
    """

    reason: object
    input: Any = None


@dataclass(frozen=True, slots=True)
class Replied:
    """The value of a task that its owner did not await (OTP's `{ref, value}`): comes to `handle_info`, ahead of its Down."""

    ref: Ref
    value: Any


class TaskExit(CallExit):
    """The awaited task ended without a value. `reason` says of what; an error of its function is the `__cause__`."""

    def __init__(self, task: Any, reason: object, request: str = "await_", timeout: float | None = None) -> None:
        super().__init__(_why(task, reason), server=task, request=request, reason=reason)
        self.task = task
        self.timeout = timeout
        if isinstance(reason, Crash):
            self.__cause__ = reason.error

    @property
    def __notes__(self) -> list[str]:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]  # rendered only when somebody prints the traceback
        return notes_of(self, self.reason)


def _why(task: Any, reason: object) -> str:
    match reason:
        case Crash(error=error):
            why = f"it crashed with {type(error).__name__}: {error}"
        case Killed():
            why = "it was killed"
        case Normal():
            why = "it exited with Normal() before its function returned"
        case Shutdown(detail=None):
            why = "it was shut down"
        case NoProc():
            why = "it was given up: an earlier await of it timed out, or ignore() was called"
        case _:
            why = f"it exited with {short(reason)}"
    return f"{task!r} has no value: {why}"


class TaskTimeout(CallTimeout):
    """A task had no value within the timeout (also a TimeoutError). It is not disturbed; its late value is dropped."""

    @classmethod
    def after(cls, task: Any, seconds: float | None, request: str = "await_") -> TaskTimeout:
        text = (
            f"{task!r} has no value after {seconds} s. It goes on, and its late value will be dropped. To wait longer: "
            "await task.await_(timeout=seconds); to look and wait on: await task.yield_(seconds); to end it: await task.shutdown()"
        )
        error = cls(text, server=task, request=request, reason="timeout")
        error.timeout = seconds
        return error

    timeout: float | None = None


class NotOwner(BeamishError, ValueError):
    """Only the process that started a task may wait for it, shut it down or ignore it: its value goes there and nowhere else."""

    def __init__(self, task: Any, verb: str, owner: object, asker: object) -> None:
        who = "plain asyncio code" if owner is None else repr(owner)
        super().__init__(
            f"{task!r} belongs to {who}, and {'plain asyncio code' if asker is None else repr(asker)} asked for {verb}: only its "
            "owner gets its value. Let the owner await it and send on what it got; others can monitor(task.pid)"
        )
        self.task = task
