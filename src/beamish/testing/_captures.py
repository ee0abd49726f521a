"""What a block of a test makes happen, as lists: crashes instead of log lines, telemetry events."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from beamish import telemetry

#: Set on the log records of a `capture_crashes` block: who else looks at them knows that the test does.
EXPECTED = "beamish_expected"


class _Collect(logging.Handler):
    def __init__(self, found: list[logging.LogRecord]) -> None:
        super().__init__(logging.ERROR)
        self.found = found

    def emit(self, record: logging.LogRecord) -> None:
        setattr(record, EXPECTED, True)
        self.found.append(record)


@contextmanager
def capture_crashes() -> Iterator[list[logging.LogRecord]]:
    """Collect the crash and supervisor reports of a block instead of logging them: records with `.reason` and `.server`.

    A supervised server that crashes makes two: its own, by the logger "beamish.gen_server" (with `.last_message`, `.state`,
    `.client`), and its supervisor's child_terminated, by "beamish.supervisor".

        with capture_crashes() as reports:
            ...
        crashes = [one for one in reports if one.name == "beamish.gen_server"]
        assert [type(one.reason.error) for one in crashes] == [ZeroDivisionError]
    """
    found: list[logging.LogRecord] = []
    logger = logging.getLogger("beamish")
    handler, propagate = _Collect(found), logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield found
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate


class Heard(NamedTuple):
    """One telemetry event: its name with dots, and what it said."""

    event: str
    measurements: dict[str, Any]
    metadata: dict[str, Any]


@contextmanager
def capture_telemetry(*names: str) -> Iterator[list[Heard]]:
    """Collect the telemetry events of a block, in their order; a name stands for that event and for all below it.

        with capture_telemetry("search_cache") as heard:
            await cache.fetch("otp")
        assert heard[0].event == "search_cache.fetch"

    An event below a name is heard when it is known at the beginning of the block, because some module has asked for it with
    `telemetry.event`, or when it is the start, stop or exception of a span of that name.
    """
    if not names:
        raise ValueError('capture_telemetry takes the names of events, or what they begin with: capture_telemetry("search_cache")')
    heard: list[Heard] = []

    def hear(event: tuple[str, ...], measurements: Any, metadata: Any, config: Any) -> None:
        heard.append(Heard(".".join(event), dict(measurements), dict(metadata)))

    telemetry.attach_many(hear, _below(names), hear)
    try:
        yield heard
    finally:
        telemetry.detach(hear)


def _below(names: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The events that the names stand for, each once."""
    known = list(telemetry._events)  # pyright: ignore[reportPrivateUsage]
    found: dict[tuple[str, ...], None] = {}
    for name in names:
        words = telemetry.name_of(name)
        spans = [(*words, end) for end in ("start", "stop", "exception")]
        found |= dict.fromkeys([words, *(one for one in known if one[: len(words)] == words), *spans])
    return list(found)
