"""What telemetry said during a block of a test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from beamish import telemetry


class Heard(NamedTuple):
    event: str
    measurements: dict[str, Any]
    metadata: dict[str, Any]


@contextmanager
def events(*names: str) -> Iterator[list[Heard]]:
    """Collect the events of these names, in their order."""
    heard: list[Heard] = []

    def hear(event: tuple[str, ...], measurements: Any, metadata: Any, config: Any) -> None:
        heard.append(Heard(".".join(event), dict(measurements), dict(metadata)))

    telemetry.attach_many(heard_by := object(), names, hear)
    try:
        yield heard
    finally:
        telemetry.detach(heard_by)
