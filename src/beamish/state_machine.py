"""A state machine: a server whose handlers are also given the state it is in, and say which one it goes to. OTP's gen_statem.

    class Door(Enum):
        LOCKED = auto()
        OPEN = auto()

    class CodeLock(StateMachine[Door, Lock]):
        def init(self, code: str) -> Begin[Door, Lock]:
            return Begin(Door.LOCKED, Lock(code))

        @call
        def enter_code(self, state: Door, lock: Lock, code: str) -> Answer[bool]:
            if state is Door.OPEN:
                return Postpone()                                     # asked again when the state has changed
            if code != lock.code:
                return Keep(reply=False)
            return Next(Door.OPEN, StateTimeout(10.0), reply=True)

        def handle_event(self, state: Door, lock: Lock, event: Event) -> Transition:
            match state, event:
                case Door.OPEN, StateTimeout():
                    return Next(Door.LOCKED)
                case _:
                    return Keep()

    await CodeLock("front").start_link("1234")
    await CodeLock("front").enter_code("1234")

Everything that a GenServer has, a machine has: addresses, ways to start, `@call` and `@cast`, supervision, `sys`, telemetry.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Generic, TypeVar, cast as as_type

from beamish._client import call, cast
from beamish._machine import MachineProcess, step_of
from beamish._transition import (
    Action as Action,
    Begin as Begin,
    Call as Call,
    Cast as Cast,
    Event as Event,
    EventTimeout as EventTimeout,
    GenericTimeout as GenericTimeout,
    Info as Info,
    Internal as Internal,
    Keep as Keep,
    Next as Next,
    Postpone as Postpone,
    Repeat as Repeat,
    StateTimeout as StateTimeout,
    Transition as Transition,
    UnhandledEvent as UnhandledEvent,
)
from beamish.gen_server import Server, ServerMeta

S = TypeVar("S")
D = TypeVar("D")
F = TypeVar("F", bound=Callable[[Any, Any, Any, Any], Awaitable[Transition | None] | Transition | None])


def when(*states: Any) -> Callable[[F], F]:
    """A function for what happens in certain states: `@when(Door.OPEN)`, by value, or `@when(Connected)`, by class.

    It is `(self, state, data, event)`, as `handle_event` is, and asked before it; what it answers with None goes on there.
    """
    if not states:
        raise TypeError("@when takes the states that the function is for: @when(Door.OPEN), or @when(Connected) for states of a class")

    def mark(function: F) -> F:
        plain: Any = function
        if not inspect.isfunction(plain) or hasattr(plain, "handler"):
            raise TypeError(f"@when is put on a plain method (self, state, data, event), not on @call and @cast ones. Got: {plain!r}")
        setattr(plain, "__when__", states)  # noqa: B010
        return function

    return mark


class Inside:
    """The functions of a class's states."""

    __slots__ = ("by_class", "by_value")

    def __init__(self, cls: type) -> None:
        self.by_class: dict[type, Any] = {}
        self.by_value: dict[Any, Any] = {}
        for states in _marked(cls):
            for state, function in states.items():
                if isinstance(state, type):
                    self.by_class[state] = function
                else:
                    self.by_value[state] = function

    def of(self, state: Any) -> Any:
        """The function for a state, or None: by value first, then by its class, the nearest base class first."""
        if self.by_value:
            try:
                found = self.by_value.get(state)
            except TypeError:  # it can't be hashed, so it is none of these
                found = None
            if found is not None:
                return found
        if self.by_class:
            for cls in type(state).__mro__:
                if cls in self.by_class:
                    return self.by_class[cls]
        return None


def _marked(cls: type) -> list[dict[Any, Any]]:
    """The functions with @when, by state, for each class of the family, the eldest first; overridden ones left out."""
    family: list[dict[Any, Any]] = []
    marked: set[str] = set()
    for one in reversed(cls.__mro__):
        states: dict[Any, Any] = {}
        for name, function in vars(one).items():
            if not hasattr(function, "__when__"):
                if name in marked:
                    raise TypeError(f"{one.__name__}.{name} overrides a function of a state, so it needs its own @when(…)")
                continue
            marked.add(name)
            if getattr(cls, name) is not function:
                continue
            for state in function.__when__:
                if state in states:
                    raise TypeError(f"{one.__name__}: both {states[state].__name__} and {name} are for the state {state!r}")
                states[state] = function
        family.append(states)
    return family


class StateMachineMeta(ServerMeta):
    """Makes the events of a class, and the table of its states' functions."""

    def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **keywords: Any) -> StateMachineMeta:
        for key in ("handle_event", "handle_enter"):
            if hasattr(namespace.get(key), "handler"):
                raise TypeError(f"{name}.{key}: every state machine has a {key!r} of its own; give the handler another name")
        made = as_type(Any, super().__new__(cls, name, bases, namespace, **keywords))
        for key, instead in _INSTEAD.items():
            if hasattr(made, key):
                raise TypeError(f"{name}.{key}: a state machine gets every event in handle_event{instead}")
        for key, one in made.__requests__.items():
            if not hasattr(one, "step"):
                made.__requests__[key] = method = _event(one)
                setattr(made, key, method)
        made.__handlers__ = {key: one.step for key, one in made.__requests__.items()}
        root: Any = next(one for one in made.__mro__ if one.__dict__.get("__root__"))
        made.__enters__ = made.handle_enter is not root.handle_enter
        inside = Inside(made)
        made.__inside__ = inside if inside.by_class or inside.by_value else None
        return as_type(StateMachineMeta, made)


_INSTEAD = {
    "handle_call": ", a call as Call(request, client)", "handle_cast": ", a cast as Cast(request)",
    "handle_info": ", a message as Info(message)", "handle_continue": "; what it wants to do next is Internal(content)",
}  # fmt: skip


def _event(plain: Any) -> Any:
    """The client's method for a handler (self, state, data, …): the same arguments, without state and data."""
    handler = plain.handler
    signature = inspect.signature(handler)
    parameters = list(signature.parameters.values())
    if len(parameters) < 3 or any(p.kind not in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters[:3]):
        raise TypeError(
            f"a @{plain.kind} handler of a state machine takes (self, state, data, …): they are given to it right after self. "
            f"Got: {handler.__qualname__}{signature}"
        )
    step = step_of(handler, replies=plain.kind == "call")
    step.__signature__ = signature.replace(parameters=[*parameters[:2], *parameters[3:]])
    step.__name__, step.__qualname__, step.__module__, step.__doc__ = (
        handler.__name__, handler.__qualname__, handler.__module__, handler.__doc__,
    )  # fmt: skip
    step.__annotations__ = _annotations(handler, parameters[2].name)
    method: Any = call(step) if plain.kind == "call" else cast(step)
    method.handler = handler
    method.step = step
    return method


def _annotations(handler: Any, data: str) -> dict[str, Any]:
    try:
        return {key: value for key, value in handler.__annotations__.items() if key != data}
    except NameError:  # 3.14 evaluates annotations when they are read; a forward reference is no reason to fail here
        return {}


class StateMachine(Server[tuple[S, D]], Generic[S, D], metaclass=StateMachineMeta):
    """Derive from it, with the types of the states and of the data: `class Connection(StateMachine[Conn, Stats])`.

    A state is any value that can be compared: a member of an Enum, a str, or a frozen dataclass that holds what belongs to
    that state alone. The data is what all states share. Events come to the `@call` and `@cast` methods of the class,
    `(self, state, data, …)`, and those without a method of their own to the functions with `@when`, then to `handle_event`.
    """

    __slots__ = ()

    __root__ = True
    __process__ = MachineProcess
    __enters__: ClassVar[bool]
    __inside__: ClassVar[Inside | None]

    # -- callbacks: override those you need; each may be `async def`

    def init(self, *args: Any, **kwargs: Any) -> Any:
        """Returns `Begin(state, data, …)`, `Ignore()` or `Stop(reason)`; what it raises fails the start."""
        raise NotImplementedError(f"{type(self).__name__} needs an init that returns Begin(state, data)")

    def handle_event(self, state: S, data: D, event: Event, /) -> Awaitable[Transition | None] | Transition | None:
        """Every event that has no method of its own: Call, Cast, Info, Internal and the timeouts; `match state, event`.

        Returns Next, Keep, Repeat, Postpone or Stop. None means that nothing takes the event: UnhandledEvent, which ends the
        machine. To ignore an event is to say so: `return Keep()`.
        """
        return None

    def handle_enter(self, state: S, data: D, before: S, /) -> Awaitable[Transition | None] | Transition | None:
        """`state` is being entered, from `before`; the first state, from itself. Nothing else happens in it before this.

        Returns None, or Keep with timeouts or new data, Repeat (to be asked again), Stop.
        """
        return None

    def terminate(self, state: S, data: D, reason: Any, /) -> object:
        """Before the end, when the machine itself ends: Stop, an error, `stop()`, its parent's exit if it traps."""
        return None
