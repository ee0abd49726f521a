"""What a state machine's handler returned, as `handle` takes it: the pair (state, data) stands where a server has its state."""

from __future__ import annotations

import inspect
from typing import Any

from beamish import Keep, Next, Postpone, Repeat, Stop, UnhandledEvent
from beamish._answers import UNCHANGED

_TRANSITIONS = (Next, Keep, Repeat, Postpone, Stop)


def takes_events(function: Any) -> bool:
    """Whether it is `handle_event`, or a function with @when."""
    return function.__name__ == "handle_event" or hasattr(function, "__when__")


def is_transition(value: Any) -> bool:
    return isinstance(value, _TRANSITIONS)


def pair_of(given: Any, function: Any) -> tuple[Any, Any]:
    pair: Any = given
    if isinstance(given, tuple) and len(pair) == 2:
        return pair[0], pair[1]
    name = function.__qualname__
    raise TypeError(f"a state machine has a state and data: handle({name}, (state, data), …), which gives both back. Got: {given!r}")


def asked_first_now(function: Any, otherwise: Any, *given: Any) -> Any:
    """A function with @when; what it returns None for is left to `handle_event`."""
    value = function(*given)
    return otherwise(*given) if value is None else value


async def asked_first(function: Any, otherwise: Any, *given: Any) -> Any:
    value = await function(*given)
    if value is None:
        value = otherwise(*given)
    return await value if inspect.isawaitable(value) else value


def checked(value: Any, function: Any, process: Any, event: Any) -> Any:
    """The transition that `function` returned. None is none of an event: that would end the machine."""
    transition: Any = value
    if isinstance(value, _TRANSITIONS):
        return transition
    if value is None and takes_events(function):
        raise UnhandledEvent(process.label(), process.state[0], event)
    if value is None:
        return Keep()
    raise TypeError(
        f"{function.__qualname__} returned {value!r}, of which the machine would crash. Expected: Next, Keep, Repeat, Postpone or Stop"
    )


def after(answer: Any, pair: tuple[Any, Any]) -> tuple[Any, Any]:
    """The state and the data that a transition leads to. Entering the state is another handler's: `handle_enter`."""
    if isinstance(answer, Stop):
        return pair if answer.state is UNCHANGED else answer.state
    data = getattr(answer, "data", UNCHANGED)
    return (answer.state if isinstance(answer, Next) else pair[0]), (pair[1] if data is UNCHANGED else data)
