"""gen_server_SUITE: which ends are reported (crash), what format_status makes of them, and how they read (format_log)."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from beamish import (
    KILL,
    SHUTDOWN,
    Answer,
    CallExit,
    Crash,
    Exit,
    Exited,
    GenServer,
    Shutdown,
    Status,
    Stop,
    call,
    down,
    exit,
    flag,
    receive,
    send,
    sys,
)
from beamish.testing import World, capture_crashes, settle
from conftest import both_roads

pytestmark = both_roads


class Server(GenServer[Any]):
    def init(self, state: Any = "state") -> Any:
        return state

    @call
    def leave(self, state: Any, reason: object) -> Answer[None]:
        return Stop(reason)

    @call
    def exits(self, state: Any, reason: object) -> None:
        raise Exit(reason)

    @call
    def crash(self, state: Any, what: Any = "") -> None:
        raise ValueError(what)

    def handle_info(self, state: Any, message: Any) -> None:
        raise ValueError(message)


class Hiding(Server):
    def format_status(self, status: Status) -> Status:
        status.state = "hidden"
        return status


class TestCrash:
    @pytest.mark.parametrize("verb", ["leave", "exits"])
    @pytest.mark.parametrize("reason", [SHUTDOWN, Shutdown("reason")])
    async def test_a_shutdown_makes_no_report(self, world: World, verb: str, reason: object) -> None:
        flag(trap_exit=True)
        server = await Server.start_link()
        with capture_crashes() as reports:
            with pytest.raises(CallExit) as failed:
                await getattr(server, verb)(reason)
            assert failed.value.reason == reason
            assert (await receive(Exited)).reason == reason
        assert reports == []

    async def test_anything_else_makes_one(self, world: World) -> None:
        server = await Server.start("state4")
        pid = server.pid()
        with capture_crashes() as reports, pytest.raises(CallExit):
            await server.exits("crashed")
        (report,) = reports
        facts: Any = report
        assert (facts.pid, facts.last_message, facts.state, facts.reason) == (pid, "exits('crashed')", "state4", "crashed")


class TestFormatStatus:
    """call_format_status, error_format_status, terminate_crash_format, format_all_status."""

    async def test_in_get_status(self, world: World) -> None:
        for server in (await Hiding.start(), await Hiding("call_format_status").start()):
            assert (await sys.get_status(server)).state == "hidden"
            assert await sys.get_state(server) == "state"
            await server.stop()

    @pytest.mark.parametrize("how", ["crash", "exits", "leave", "info", "stop"])
    async def test_in_the_report_of_any_end(self, world: World, how: str) -> None:
        server, ref = await Hiding.start_monitor()
        with capture_crashes() as reports:
            if how == "info":
                send(server, "crash")
            elif how == "stop":
                await server.stop("crash")
            else:
                with pytest.raises(CallExit):
                    await getattr(server, how)("crash")
            await down(ref)
        (report,) = reports
        assert report.state == "hidden"  # type: ignore[attr-defined]
        assert "state: 'hidden'" in report.getMessage()

    async def test_everything_can_be_hidden(self, world: World) -> None:
        class Shy(Server):
            def format_status(self, status: Status) -> Status:
                return Status("a state", message="a message", reason="a reason", log=["a log"])

        server, ref = await Shy.options(debug=["log"]).start_monitor()
        assert (await sys.get_status(server)).state == "a state"
        with capture_crashes() as reports:
            with pytest.raises(CallExit):
                await server.crash("secret")
            reason: Any = (await down(ref)).reason
        assert isinstance(reason, Crash)  # the report says otherwise, the process does not
        (report,) = reports
        facts: Any = report
        assert (facts.state, facts.last_message, facts.reason, facts.log) == ("a state", "a message", "a reason", ["a log"])
        text = report.getMessage()
        assert "secret" not in text
        for shown in ("'a state'", "a message", "'a reason'"):
            assert shown in text


broken = pytest.mark.parametrize(
    "error", [LookupError("broken"), Exit("thrown"), asyncio.CancelledError("cancelled")], ids=["crash", "throw", "cancelled"]
)


class TestABrokenFormatStatus:
    """crash_in_format_status, throw_in_format_status: it changes neither the end nor who hears of it."""

    @broken
    async def test_of_a_server_that_ends(self, world: World, error: BaseException) -> None:
        class Broken(Server):
            def format_status(self, status: Status) -> Status:
                raise error

        server, ref = await Broken.start_monitor()
        try:
            with capture_crashes() as reports:
                crashing = asyncio.ensure_future(server.crash("mine"))
                await settle()
                assert crashing.done()
                assert isinstance(crashing.exception(), CallExit)
                reason: Any = (await down(ref)).reason
        finally:
            exit(server, KILL)  # should it be there for ever
        assert isinstance(reason.error, ValueError)
        (report,) = reports
        assert "format_status raised" in report.state  # type: ignore[attr-defined]
        assert "mine" in str(report.exc_info)

    @broken
    async def test_of_a_server_that_is_looked_at(self, world: World, error: BaseException) -> None:
        """It is the asker's error, where OTP puts words about it into the state."""

        class Broken(Server):
            def format_status(self, status: Status) -> Status:
                raise error

        server = await Broken.start()
        with pytest.raises(Exception) as failed:  # whatever it is: the asker is not cancelled
            await sys.get_status(server)
        assert str(error) in str(failed.value)
        assert await sys.get_state(server) == "state"
        await server.stop()


class TestHowAReportReads:
    """format_log_1, format_log_2: one text for everybody, bounded, with its facts as attributes."""

    async def test_of_an_end(self, world: World) -> None:
        server = await Server("reader").start({"key": "value"})
        pid = server.pid()
        with capture_crashes() as reports, pytest.raises(CallExit):
            await server.crash("why")
        (report,) = reports
        text = report.getMessage()
        assert text.splitlines()[0] == f"Server('reader') {pid!r} terminating"
        for line in ("  last message: crash('why')", "  state: {'key': 'value'}", "  reason: Crash(error=ValueError('why'))"):
            assert line in text.splitlines()
        assert "Traceback" in logging.Formatter().format(report)
        assert "in crash" in logging.Formatter().format(report)

    async def test_of_huge_values(self, world: World) -> None:
        server = await Server.start(dict.fromkeys(range(1000), "x" * 1000))
        with capture_crashes() as reports, pytest.raises(CallExit):
            await server.crash(["y" * 1000] * 1000)
        (report,) = reports
        assert len(report.getMessage()) < 2000

    async def test_of_a_message_that_nobody_handles(self, world: World) -> None:
        class Deaf(GenServer[None]):
            pass

        server = await Deaf("deaf").start()
        with capture_crashes() as reports:
            send(server, "x" * 10_000)
            await sys.get_state(server)
        (report,) = reports
        assert report.getMessage().startswith(f"Deaf({server.pid()!r} 'deaf') got an unexpected message: 'xxx")
        assert len(report.getMessage()) < 300
        await server.stop()
