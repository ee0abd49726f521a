"""What the callbacks of a state machine are given and return, as values: events, timeouts, and what happens next."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Never, TypeAlias, TypeVar, overload

from beamish._answers import UNCHANGED, Answer, Hibernate, control
from beamish._runtime.client import Client
from beamish._runtime.timers import Timer
from beamish.errors import BeamishError, short

S = TypeVar("S")
D = TypeVar("D")
T_co = TypeVar("T_co", covariant=True)


# --- events -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Call:
    """`await address.call(request)`: answer with `Keep(reply=…)`, `Next(…, reply=…)`, or later with `reply(client, value)`."""

    request: Any
    client: Client


@dataclass(slots=True)
class Cast:
    """`address.cast(request)`."""

    request: Any


@dataclass(slots=True)
class Info:
    """Every other message: those of `send` and timers, `Down`, `Exited`."""

    message: Any


@dataclass(slots=True)
class Internal:
    """An event that the machine has made itself: `Next(state, Internal("parsed"))`. It comes next, ahead of everything queued."""

    content: Any = None


# --- timeouts: the same value sets one and is the event when it comes ---------------------------------------------------


@dataclass(slots=True, init=False, match_args=False)
class StateTimeout:
    """Comes after `seconds` in this state; a change of state cancels it. Set again, it starts again.

    As an event it is matched by its content: `case StateTimeout("lock")`, `case StateTimeout()`.

    0.0: before what is queued. None: not at all, whatever was set (`StateTimeout.cancel()`). `absolute=True`: at that time
    of `beamish.monotonic()`. `StateTimeout.update(content)` changes the content of the one that runs, and not its time.
    """

    __match_args__ = ("content",)  # what a case asks for: `case StateTimeout("lock")`

    seconds: float | None
    content: Any
    absolute: bool = field(kw_only=True)

    key: ClassVar[Any] = "state"

    def __init__(self, seconds: float | None, content: Any = None, *, absolute: bool = False) -> None:
        if type(seconds) is not float or not seconds >= 0.0:
            _check(self, seconds, absolute)
        self.seconds = seconds
        self.content = content
        self.absolute = absolute

    @classmethod
    def cancel(cls) -> StateTimeout:
        return cls(None)

    @classmethod
    def update(cls, content: Any) -> Update:
        return Update(cls(0.0, content))


@dataclass(slots=True, init=False, match_args=False)
class EventTimeout:
    """Comes when no event has come for `seconds`: any event cancels it. Otherwise as StateTimeout."""

    __match_args__ = ("content",)

    seconds: float | None
    content: Any
    absolute: bool = field(kw_only=True)

    key: ClassVar[Any] = "event"

    def __init__(self, seconds: float | None, content: Any = None, *, absolute: bool = False) -> None:
        if type(seconds) is not float or not seconds >= 0.0:
            _check(self, seconds, absolute)
        self.seconds = seconds
        self.content = content
        self.absolute = absolute

    @classmethod
    def cancel(cls) -> EventTimeout:
        return cls(None)


@dataclass(slots=True, init=False, match_args=False)
class GenericTimeout:
    """Comes after `seconds`, whatever happens. As many as there are names; one of the same name is set anew.

    As an event it is matched by name and content. `GenericTimeout.cancel(name)` and `GenericTimeout.update(name, content)`;
    otherwise as StateTimeout.
    """

    __match_args__ = ("name", "content")

    name: Any
    seconds: float | None
    content: Any
    absolute: bool = field(kw_only=True)

    def __init__(self, name: Any, seconds: float | None, content: Any = None, *, absolute: bool = False) -> None:
        if type(seconds) is not float or not seconds >= 0.0:
            _check(self, seconds, absolute)
        self.name = name
        self.seconds = seconds
        self.content = content
        self.absolute = absolute

    @property
    def key(self) -> Any:
        return GenericTimeout, self.name

    @classmethod
    def cancel(cls, name: Any) -> GenericTimeout:
        return cls(name, None)

    @classmethod
    def update(cls, name: Any, content: Any) -> Update:
        return Update(cls(name, 0.0, content))


@dataclass(slots=True)
class Update:
    """What `update` gives: its content for the timeout that runs; when none does, it comes at once."""

    timeout: StateTimeout | GenericTimeout

    @property
    def key(self) -> Any:
        return self.timeout.key


def _check(timeout: object, seconds: Any, absolute: bool) -> None:
    """Seconds that are no float of 0.0 or more: an int, None, or a slip."""
    if seconds is None or (isinstance(seconds, int | float) and not isinstance(seconds, bool) and (seconds >= 0 or absolute)):
        return
    raise ValueError(f"{type(timeout).__name__} takes seconds, 0.0 or more, or None to cancel. Got: {seconds!r}")


Timeouts = StateTimeout | EventTimeout | GenericTimeout


class Running:
    """A timeout that is set. `event` is what comes of it; it may be changed meanwhile."""

    __slots__ = ("event", "timer")

    def __init__(self, event: Timeouts) -> None:
        self.event = event
        self.timer: Timer | None = None  # of zero: it stands in the mailbox already

    def __repr__(self) -> str:
        return repr(self.event)


#: What `handle_event` is given.
Event: TypeAlias = Call | Cast | Info | Internal | StateTimeout | EventTimeout | GenericTimeout


# --- what happens next --------------------------------------------------------------------------------------------------


class Postpone(Answer[Never]):
    """Keep the state, and this event for the next one: when the state changes it comes again, oldest first, before the queue.

    With a change of state: `Next(state, Postpone())`. What is postponed waits without bound, in no state for ever, please;
    a caller's timeout goes on.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "Postpone()"


#: What may stand behind the state in `Next(state, …)`, and in `Keep(…)`, `Repeat(…)` and `Begin(state, data, …)`: timeouts,
#: events to be inserted, Postpone. An enter call may only set timeouts.
Action: TypeAlias = StateTimeout | EventTimeout | GenericTimeout | Update | Internal | Call | Cast | Info | Postpone | Hibernate


class Next(Answer[T_co]):
    """Go to `state` (OTP's next_state): state timeout off, `handle_enter`, what was postponed is retried.

    An equal state is no change: then it is `Keep`. `reply` answers the call in hand, `data` replaces the data.
    """

    __slots__ = ("data", "reply", "state", "then")

    @overload
    def __init__(self: Next[Never], state: object, /, *then: Action, data: object = ...) -> None: ...
    @overload
    def __init__(self, state: object, /, *then: Action, data: object = ..., reply: T_co) -> None: ...
    def __init__(self, state: object, /, *then: Action, data: object = UNCHANGED, reply: Any = UNCHANGED) -> None:
        self.state = state
        self.then = then
        self.data = data
        self.reply = reply

    def __repr__(self) -> str:
        return f"Next({', '.join(map(short, (self.state, *self.then)))})"


class Keep(Answer[T_co]):
    """Stay in the state (OTP's keep_state): `Keep(reply=True)`, `Keep(StateTimeout(5.0))`; `Keep()` is how to ignore an event."""

    __slots__ = ("data", "reply", "then")

    @overload
    def __init__(self: Keep[Never], *then: Action, data: object = ...) -> None: ...
    @overload
    def __init__(self, *then: Action, data: object = ..., reply: T_co) -> None: ...
    def __init__(self, *then: Action, data: object = UNCHANGED, reply: Any = UNCHANGED) -> None:
        self.then = then
        self.data = data
        self.reply = reply

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(short, self.then))})"


class Repeat(Keep[T_co]):
    """Stay in the state and enter it again (OTP's repeat_state): `handle_enter` runs; nothing is retried or cancelled."""

    __slots__ = ()


class Begin(Generic[S, D]):
    """What `init` returns: the first state, the data, and what is to happen first. The state is entered from itself."""

    __slots__ = ("data", "state", "then")

    def __init__(self, state: S, data: D, /, *then: Action) -> None:
        self.state = state
        self.data = data
        self.then = then

    def __repr__(self) -> str:
        return f"Begin({', '.join(map(short, (self.state, self.data, *self.then)))})"


#: What handlers of events return that need not reply to a typed call: Next, Keep, Repeat, Postpone or Stop.
Transition: TypeAlias = Answer[Any]

control(Begin, Next, Keep, Repeat, Postpone)


class UnhandledEvent(BeamishError):
    """A machine got an event that nothing takes in its state: `handle_event`, and the state's own function, gave None.

    OTP's function_clause. `state` and `event` say which.
    """

    def __init__(self, machine: object, state: object, event: object) -> None:
        super().__init__(
            f"{machine!r} in state {short(state)} got {short(event)}, and nothing takes that. Add a case to handle_event; "
            "its last one may return Keep() to ignore what it does not know, or Postpone() to keep it for another state"
        )
        self.state = state
        self.event = event
