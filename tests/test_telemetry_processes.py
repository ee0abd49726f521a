"""Telemetry and processes: events as messages, and events where no loop runs."""

from __future__ import annotations

from typing import Any

import beamish
from beamish import telemetry


async def test_events_may_come_to_a_process_as_messages() -> None:
    me, id = beamish.current(), object()
    telemetry.attach_many(id, ["one.event", "other.event"], lambda *heard: beamish.send(me, (id, *heard[:3])))
    try:
        telemetry.execute("one.event", {"count": 1}, {"some": "metadata"})
        telemetry.execute("some.event", {"count": 2})
        telemetry.execute("other.event", 3)
    finally:
        telemetry.detach(id)
    telemetry.execute("one.event", {"count": 4})
    assert await beamish.receive() == (id, ("one", "event"), {"count": 1}, {"some": "metadata"})
    assert await beamish.receive() == (id, ("other", "event"), {"value": 3}, {})
    found = beamish.info()
    assert found is not None
    assert found.messages == ()


def test_nothing_has_to_run_for_an_event() -> None:
    heard: list[Any] = []
    telemetry.execute("nobody.listens", {"count": 1})
    telemetry.attach("id", "somebody.listens", lambda *args: heard.append(args[0]))
    try:
        telemetry.execute("somebody.listens")
    finally:
        telemetry.detach("id")
    assert heard == [("somebody", "listens")]
