"""What callbacks return when they say more than a value."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from types import CoroutineType
from typing import Any, Generic, Never, TypeVar, overload

from beamish.snapshot import Snapshot

T_co = TypeVar("T_co", covariant=True)


class _Unchanged:
    def __repr__(self) -> str:
        return "…"


#: Where `state=` or `reply=` was not given: None is a state and a reply like any other.
UNCHANGED: Any = _Unchanged()


@dataclass(frozen=True, slots=True)
class Continue:
    """`then=Continue(arg)`: run `handle_continue(state, arg)` next, before anything that is queued."""

    arg: Any = None


@dataclass(frozen=True, slots=True)
class Timeout:
    """`then=Timeout(seconds)`: get `TimedOut()` in handle_info if no message comes for that long.

    0.0: if none waits now; `math.inf`: never (OTP's `:infinity`).
    """

    seconds: float

    def __post_init__(self) -> None:
        if not self.seconds >= 0:
            raise ValueError(f"Timeout takes seconds, 0.0 or more. Got: {self.seconds!r}")


@dataclass(frozen=True, slots=True)
class Hibernate:
    """`then=Hibernate()`: go on at the next message. Python has nothing to compact, so that is all it means."""


Then = Continue | Timeout | Hibernate | None


class Answer(Generic[T_co]):
    """What a call handler returns that says more than the reply: `Reply`, `NoReply` or `Stop`.

    Annotate such a handler `-> Answer[R]`; its caller gets an `R`.
    """

    __slots__ = ()


class Reply(Answer[T_co]):
    """Answer with `value`; go on with `state` if given; do `then` next."""

    __slots__ = ("state", "then", "value")

    def __init__(self, value: T_co, *, state: Any = UNCHANGED, then: Then = None) -> None:
        self.value = value
        self.state = state
        self.then = then

    def __repr__(self) -> str:
        return f"Reply({self.value!r})"


class NoReply(Answer[Never]):
    """Go on. A call answered so is answered later, by anybody, with `beamish.reply(client, value)`."""

    __slots__ = ("state", "then")

    def __init__(self, *, state: Any = UNCHANGED, then: Then = None) -> None:
        self.state = state
        self.then = then

    def __repr__(self) -> str:
        return "NoReply()"


class Stop(Answer[T_co]):
    """End with `reason`: `terminate` runs, then the reply (if one is given) is sent, then the process exits."""

    __slots__ = ("reason", "reply", "state")

    @overload
    def __init__(self: Stop[Never], reason: object, *, state: Any = UNCHANGED) -> None: ...
    @overload
    def __init__(self, reason: object, *, reply: T_co, state: Any = UNCHANGED) -> None: ...
    def __init__(self, reason: object, *, reply: Any = UNCHANGED, state: Any = UNCHANGED) -> None:
        self.reason = reason
        self.reply = reply
        self.state = state

    def __repr__(self) -> str:
        return f"Stop({self.reason!r})"


class Refuse(Answer[Never]):
    """Raise `error` in whoever called; the server goes on. For the library's own servers, whose errors are part of their face."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Init:
    """What `init` returns to do something next: `Init(state, then=Continue(arg))`.

    `snapshot`: keep the state in a file, as the class keyword of that name does; where it depends on what the server is started
    with. A path, or a Snapshot.
    """

    __slots__ = ("snapshot", "state", "then")

    def __init__(self, state: Any, *, then: Then = None, snapshot: Snapshot | str | PathLike[str] | None = None) -> None:
        self.state = state
        self.then = then
        self.snapshot = None if snapshot is None else Snapshot.of(snapshot)

    def __repr__(self) -> str:
        return f"Init({self.state!r})"


class Ignore:
    """What `init` returns so that no server runs: whoever starts it gets `Ignored`, a supervisor keeps the spec."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Ignore()"


#: The types that the loop treats as more than a value. Exact types: one set look-up on the hot path.
CONTROL: set[type] = {Reply, NoReply, Stop, Refuse, Init, Ignore, Continue, Timeout, Hibernate, CoroutineType}


def control(*kinds: type) -> None:
    """Types of another behaviour that its process treats as more than a value."""
    CONTROL.update(kinds)
