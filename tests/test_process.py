"""The verbs on processes: timers, exit signals, the dictionary. What `info` and aliases do is in test_process_info."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import beamish
from beamish import (
    KILL,
    NORMAL,
    Exited,
    GenServer,
    cancel_timer,
    current,
    dictionary,
    exit,
    flag,
    get_label,
    info,
    read_timer,
    receive,
    send,
    send_after,
    set_label,
    spawn,
    spawn_link,
    spawn_monitor,
)
from beamish.testing import ManualClock, settle


async def nothing_comes() -> None:
    await settle()
    with pytest.raises(TimeoutError):
        await receive(timeout=0.0)


class TestDictionary:
    async def test_is_a_dict_of_the_process(self) -> None:
        mine = dictionary()
        assert mine.get("foo") is None
        mine["foo"] = "bar"
        assert (dictionary()["foo"], list(dictionary())) == ("bar", ["foo"])
        assert dictionary().pop("foo") == "bar"
        assert dictionary().get("foo") is None

    async def test_is_gone_with_the_process(self) -> None:
        async def job() -> None:
            dictionary()["key"] = "value"
            await receive()

        pid = spawn(job)
        await settle()
        found = info(pid)
        assert found is not None
        assert found.dictionary == {"key": "value"}
        send(pid, "end")
        await settle()
        assert info(pid) is None


class TestTimers:
    async def test_a_message_comes_when_its_time_is_over(self, clock: ManualClock) -> None:
        send_after(0.01, current(), "hello")
        await clock.advance(0.009)
        await nothing_comes()
        await clock.advance(0.001)
        assert await receive() == "hello"

    async def test_at_a_moment_that_is_given(self, clock: ManualClock) -> None:
        at = beamish.monotonic() + 10.0
        await clock.advance(7.0)
        send_after(at - beamish.monotonic(), current(), "hello")
        await clock.advance(2.9)
        await nothing_comes()
        await clock.advance(0.1)
        assert beamish.monotonic() == at
        assert await receive() == "hello"

    async def test_can_be_read_and_cancelled(self, clock: ManualClock) -> None:
        timer = send_after(100.0, current(), "hello")
        await clock.advance(1.0)
        assert read_timer(timer) == 99.0
        assert cancel_timer(timer) == 99.0
        assert read_timer(timer) is False
        assert cancel_timer(timer) is False
        await clock.advance(100.0)
        await nothing_comes()

    async def test_one_that_has_fired(self, clock: ManualClock) -> None:
        timer = send_after(0.0, current(), "hello")
        assert await receive() == "hello"
        assert read_timer(timer) is False
        assert cancel_timer(timer) is False

    async def test_a_time_that_is_far_away(self, clock: ManualClock) -> None:
        timer = send_after(2.0**32, current(), "in 136 years")
        await clock.advance(3600.0)
        assert cancel_timer(timer) == 2.0**32 - 3600.0

    @pytest.mark.parametrize("seconds", [-1, -0.001])
    async def test_the_past(self, seconds: float) -> None:
        with pytest.raises(ValueError):
            send_after(seconds, current(), "hello")


class TestExit:
    async def test_normal_does_nothing_to_another(self) -> None:
        flag(trap_exit=True)
        pid = spawn_link(receive, "done")
        await settle()
        assert exit(pid, NORMAL) is True
        await nothing_comes()
        assert beamish.alive(pid)
        assert exit(pid, "abnormal") is True
        assert await receive() == Exited(pid, "abnormal")
        assert not beamish.alive(pid)

    async def test_normal_is_a_message_to_one_that_traps(self) -> None:
        async def job(parent: Any) -> None:
            flag(trap_exit=True)
            send(parent, await receive(Exited))

        me = current()
        pid = spawn_link(job, me)
        await settle()
        exit(pid, NORMAL)
        assert await receive() == Exited(me, NORMAL)
        await settle()
        assert not beamish.alive(pid)

    async def test_normal_ends_oneself(self) -> None:
        flag(trap_exit=True)
        lines: list[str] = []

        def job() -> None:
            exit(current(), NORMAL)
            lines.append("not reached")

        pid = spawn_link(job)
        assert await receive() == Exited(pid, NORMAL)
        assert lines == []

    async def test_is_true_for_the_dead_too(self) -> None:
        pid, ref = spawn_monitor(lambda: None)
        await beamish.down(ref)
        assert exit(pid, KILL) is True
        assert exit("nobody", KILL) is True

    async def test_another_reason_ends_a_server(self) -> None:
        class Idle(GenServer[None]):
            pass

        idle = await Idle.start()
        ref = beamish.monitor(idle)
        exit(idle, "why")
        assert (await beamish.down(ref)).reason == "why"


class TestLabels:
    async def test_none_when_not_set(self) -> None:
        assert get_label() is None
        pid = spawn(asyncio.sleep, 0)
        assert get_label(pid) is None
        await settle()
        assert get_label(pid) is None

    async def test_any_value(self) -> None:
        for label in ("worker", ("worker", 7), None):
            set_label(label)
            assert get_label() == get_label(current()) == label
