"""Tell what happens to whoever listens: events with numbers (measurements) and facts (metadata), as beam-telemetry does.

A failing handler never breaks the emitter: it is detached, an event says so, the error is logged.

    >>> def show(event, measurements, metadata, config):
    ...     print(".".join(event), measurements, metadata)
    >>> attach("docs", "search_cache.fetch", show)
    >>> execute("search_cache.fetch", {"hit": 1}, {"query": "otp"})
    search_cache.fetch {'hit': 1} {'query': 'otp'}
    >>> detach("docs")
    True

Names are tuples of words; a dotted string means the same. Handlers run at once, on the emitter's stack, in the order in
which they were attached. The table is an immutable tuple per event, swapped by assignment: to execute takes no lock.
It is one table for the whole program (threads too), as in Elixir.
"""

from __future__ import annotations

import inspect
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from beamish.errors import CallExit, Exit

EventName = tuple[str, ...]
Measurements = Mapping[str, Any]
Metadata = Mapping[str, Any]
HandlerFunction = Callable[[EventName, Measurements, Metadata, Any], object]

_log = logging.getLogger("beamish.telemetry")
_NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Handler:
    """One attached handler, as `list_handlers` shows it."""

    id: object
    event: EventName
    function: HandlerFunction
    config: Any = None
    keep: bool = False


class Event:
    """One event, looked up once: guard with `if FETCH.handlers:` and an event that nobody hears costs 5 ns.

    (Building its two dicts alone would cost 120.) `handlers` is truthy when somebody listens.
    """

    __slots__ = ("guards", "handlers", "name")

    def __init__(self, name: EventName) -> None:
        self.name = name
        self.handlers: tuple[Handler, ...] = ()
        self.guards: tuple[Guard, ...] = ()

    def swap(self, handlers: tuple[Handler, ...]) -> None:
        self.handlers = handlers
        for guard in self.guards:
            guard.look()

    def execute(self, measurements: Measurements = _NOTHING, metadata: Metadata = _NOTHING) -> None:
        """Run the handlers of this event, now, on this stack. Never raises because of one of them."""
        for handler in self.handlers:
            try:
                handler.function(self.name, measurements, metadata, handler.config)
            except Exception as error:
                _failed(handler, error)

    def __repr__(self) -> str:
        return f"event({'.'.join(self.name)!r}, handlers={len(self.handlers)})"


class Guard:
    """One guard for several events on a hot path: `handlers` is true when any of them is listened to."""

    __slots__ = ("events", "handlers")

    def __init__(self, *events: Event) -> None:
        self.events = events
        self.handlers = False
        for one in events:
            one.guards = (*one.guards, self)
        self.look()

    def look(self) -> None:
        self.handlers = any(one.handlers for one in self.events)


_events: dict[EventName, Event] = {}
_by_id: dict[object, tuple[Handler, ...]] = {}
_changing = threading.Lock()  # attach and detach; execute only reads one tuple
_span_ids = itertools.count(1)


def name_of(name: str | Iterable[str]) -> EventName:
    """`"search_cache.fetch"` or `("search_cache", "fetch")` as the tuple; anything else raises, with the value."""
    words = tuple(name.split(".")) if isinstance(name, str) else tuple(name)
    if not words or not all(isinstance(word, str) and word for word in words):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f'an event is named like "search_cache.fetch" or ("search_cache", "fetch"). Got: {name!r}')
    return words


def event(name: str | Iterable[str]) -> Event:
    """The `Event` of that name; always the same object."""
    words = name_of(name)
    return _events.get(words) or _events.setdefault(words, Event(words))


class AlreadyAttached(ValueError):
    """A handler with this id is attached; detach it first, or choose another id."""


def attach(id: object, event: str | Iterable[str], function: HandlerFunction, config: Any = None, *, keep: bool = False) -> None:
    """Call `function(event, measurements, metadata, config)` at each `event` until `detach(id)`.

    Raises AlreadyAttached when `id` is in use. With `keep=True` a handler that raises stays attached (the error is still
    logged, and the failure event executed).
    """
    attach_many(id, [event], function, config, keep=keep)


def attach_many(
    id: object, events: Iterable[str | Iterable[str]], function: HandlerFunction, config: Any = None, *, keep: bool = False
) -> None:
    """One handler, one id, many events. The match is exact: `("a",)` does not hear `("a", "b")`."""
    _check_handler(function)
    names = [name_of(one) for one in events]
    handlers = tuple(Handler(id, name, function, config, keep) for name in names)
    with _changing:
        if id in _by_id:
            raise AlreadyAttached(f"a telemetry handler {id!r} is attached already; detach({id!r}) first, or choose another id")
        _by_id[id] = handlers
        for handler in handlers:
            one = _of(handler.event)
            one.swap((*one.handlers, handler))


def _check_handler(function: Any) -> None:
    problem = f"a telemetry handler is a function of (event, measurements, metadata, config). Got: {function!r}"
    if not callable(function):
        raise TypeError(problem)
    try:
        signature = inspect.signature(function)
    except ValueError:  # some builtins do not tell
        return
    try:
        signature.bind(None, None, None, None)
    except TypeError as error:
        raise TypeError(f"{problem}, with {signature}") from error


_of = event  # `event` is a parameter's name above


def detach(id: object) -> bool:
    """Remove handler `id` from all its events. False when there is none."""
    with _changing:
        handlers = _by_id.pop(id, None)
        if handlers is None:
            return False
        for handler in handlers:
            one = _of(handler.event)
            one.swap(tuple(other for other in one.handlers if other.id != id))
    return True


def list_handlers(prefix: str | Iterable[str] = ()) -> list[Handler]:
    """The handlers of every event that begins with `prefix` (all of them by default)."""
    words = name_of(prefix) if prefix else ()
    return [h for handlers in tuple(_by_id.values()) for h in handlers if h.event[: len(words)] == words]


def execute(event: str | Iterable[str], measurements: Measurements | float = _NOTHING, metadata: Metadata = _NOTHING) -> None:
    """Tell `event` to its handlers. A bare number is `{"value": number}`. Hot paths keep an `event(…)` and its guard."""
    one = _events.get(name_of(event))
    if isinstance(measurements, int | float):
        measurements = {"value": measurements}
    if not isinstance(measurements, Mapping) or not isinstance(metadata, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"measurements are a mapping or a number, metadata a mapping. Got: {measurements!r} and {metadata!r}")
    if one is not None and one.handlers:
        one.execute(measurements, metadata)


class Span:
    """What a span block may still say: `stop(measurements, metadata)` adds to the stop event."""

    __slots__ = ("measurements", "metadata")

    def __init__(self) -> None:
        self.measurements: dict[str, Any] = {}
        self.metadata: dict[str, Any] = {}

    def stop(self, measurements: Measurements = _NOTHING, metadata: Metadata = _NOTHING) -> None:
        self.measurements.update(measurements)
        self.metadata.update(metadata)


@contextmanager
def span(prefix: str | Iterable[str], metadata: Metadata = _NOTHING) -> Iterator[Span]:
    """Execute `prefix + ("start",)`, run the block, then `("stop",)`, or `("exception",)` and re-raise.

    start has `monotonic_time` and `system_time`, stop and exception `duration` and `monotonic_time` (seconds), which the
    block's own measurements cannot override; all carry the same `telemetry_span_context`, unless `metadata` brings one.
    As in telemetry, the stop event has the metadata that the block gives to `.stop`, not that of the start.

        >>> with span("shop.checkout", {"cart": 7}) as s:
        ...     s.stop({"items": 2}, {"cart": 7})
    """
    words = name_of(prefix)
    context = {"telemetry_span_context": metadata.get("telemetry_span_context", next(_span_ids))}
    begin = time.monotonic()
    event((*words, "start")).execute({"monotonic_time": begin, "system_time": time.time()}, {**metadata, **context})
    said = Span()
    try:
        yield said
    except BaseException as error:
        now = time.monotonic()
        kind, reason = kind_of(error)
        facts = {**metadata, **context, "kind": kind, "reason": reason, "stacktrace": error.__traceback__}
        event((*words, "exception")).execute({"duration": now - begin, "monotonic_time": now}, facts)
        raise
    now = time.monotonic()
    event((*words, "stop")).execute({**said.measurements, "duration": now - begin, "monotonic_time": now}, {**context, **said.metadata})


def kind_of(error: BaseException) -> tuple[str, object]:
    """`("exit", reason)` for what is an exit in OTP (Exit, a failed call, a cancellation), else `("error", error)`."""
    if isinstance(error, Exit):
        return "exit", error.reason
    return ("error" if isinstance(error, Exception) and not isinstance(error, CallExit) else "exit"), error


FAILURE = event("telemetry.handler.failure")


def _failed(handler: Handler, error: Exception) -> None:
    """Detach a handler that raised (unless it is kept), say so in an event, log it."""
    if not handler.keep:
        detach(handler.id)
    fate = "kept, as asked" if handler.keep else "detached from all its events"
    _log.error("telemetry handler %r failed at %s and was %s", handler.id, ".".join(handler.event), fate, exc_info=error)
    if FAILURE.handlers and handler.event != FAILURE.name:  # a failing failure handler must not call itself for ever
        kind, reason = kind_of(error)
        facts = {
            "event_name": handler.event, "handler_id": handler.id, "handler_config": handler.config, "kind": kind, "reason": reason,
            "stacktrace": error.__traceback__,
        }  # fmt: skip
        FAILURE.execute({"monotonic_time": time.monotonic(), "system_time": time.time()}, facts)
