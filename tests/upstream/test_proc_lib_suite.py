"""proc_lib_SUITE: what is said of a process that ends badly, and that a start is over when it returns."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import beamish
from beamish import (
    KILL,
    NORMAL,
    SHUTDOWN,
    At,
    CallTimeout,
    Crash,
    Exit,
    Exited,
    GenServer,
    Ignore,
    Ignored,
    NoProcess,
    ServerDown,
    Shutdown,
    StartError,
    Stop,
    call,
    cast,
    dictionary,
    down,
    exit,
    flag,
    info,
    node,
    receive,
    send,
    spawn,
    spawn_link,
    stop,
    whereis,
)
from beamish.testing import ManualClock, World, capture_crashes, settle
from conftest import both_roads
from upstream.words import mail


class Server(GenServer[Any]):
    """Its init waits until the test says how it is to go on."""

    async def init(self, told: asyncio.Future[Any], trap: bool = False) -> Any:
        flag(trap_exit=trap)
        gate: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        told.set_result((self, self.pid(), gate))
        return await gate

    @call
    def get(self, state: Any) -> Any:
        return state

    @cast
    def crash(self, state: Any, error: BaseException) -> None:
        raise error


Act = Callable[[Any, "asyncio.Future[Any]"], object]


async def begun(start: Callable[[Any], Awaitable[Any]], act: Act) -> tuple[Any, Any]:
    """Start in the test's own process, and do `act(server, gate)` beside it when init waits. The start's outcome, and the pid."""

    async def beside() -> Any:
        server, pid, gate = await told
        await settle()
        done = act(server, gate)
        if isinstance(done, Awaitable):
            await done
        return pid

    told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    acting = asyncio.ensure_future(beside())
    outcome: Any
    try:
        outcome = await start(told)
    except (StartError, Ignored) as error:
        outcome = error
    return outcome, await acting


# --- crash reports ----------------------------------------------------------------------------------------------------


class TestCrash:
    @pytest.mark.parametrize("reason", [NORMAL, SHUTDOWN, Shutdown(("a", "b", "c"))])
    async def test_a_clean_end_makes_no_report(self, world: World, reason: object) -> None:
        def ends() -> None:
            raise Exit(reason)

        flag(trap_exit=True)
        with capture_crashes() as reports:
            pid = spawn_link(ends)
            ended = await receive(Exited)
        assert (ended.pid, ended.reason) == (pid, reason)
        assert reports == []

    @both_roads
    async def test_the_report_of_a_server_has_its_neighbours(self, world: World) -> None:
        """A process that is spawned and ends with a reason of its own makes none here (as with Erlang's spawn); servers do."""

        async def neighbour() -> None:
            send(tester, "linked")
            await receive()

        class Linking(Server):
            def init(self) -> Any:  # type: ignore[override]
                return spawn_link(neighbour)

        tester = beamish.current()
        beamish.register("tester")
        server, ref = await Linking.start_monitor()
        other = await server.get()
        await receive("linked")
        found = info(server)
        assert found is not None
        assert found.initial_call == "TestCrash.test_the_report_of_a_server_has_its_neighbours.<locals>.Linking.init"
        with capture_crashes() as reports:
            server.crash(Exit("die"))
            assert (await down(ref)).reason == "die"
        (report,) = reports
        facts: Any = report
        assert (facts.initial_call, facts.ancestors, facts.reason) == (found.initial_call, ["tester"], "die")
        assert facts.links == [other]
        await settle()
        assert not beamish.alive(other)

    async def test_a_dictionary_that_was_emptied_hides_nothing(self, world: World) -> None:
        async def erases() -> None:
            dictionary().clear()
            raise ValueError("abnormal")

        with capture_crashes() as reports:
            pid = spawn(erases)
            await down(pid)
        (report,) = reports
        facts: Any = report
        assert (facts.pid, facts.context, facts.dictionary) == (pid, "error", {})
        assert "erases" in str(facts.initial_call)

    @both_roads
    async def test_the_stack(self, world: World) -> None:
        """stacktrace: of every kind of error, from the function that raised it, without the machinery above."""

        def deepest(what: str) -> None:
            raise {"error": ValueError, "exit": Exit}[what]("my_reason")

        class Deep(GenServer[None]):
            @call
            def go(self, state: None, what: str) -> None:
                deepest(what)

        for what in ("error", "exit"):
            server: Any = await Deep.start()
            with capture_crashes() as reports, pytest.raises(ServerDown):
                await server.go(what)
            (report,) = reports
            assert report.exc_info is not None
            names = [frame.name for frame in traceback.extract_tb(report.exc_info[2])]
            assert names[-2:] == ["go", "deepest"]
            assert "await server.go" not in logging.Formatter().format(report)


class TestHowACrashReads:
    """t_format, t_format_arbitrary, report_cb: one bounded text, and the facts beside it for whoever formats them otherwise."""

    async def test_of_huge_data(self, world: World) -> None:
        async def dies(data: Any) -> None:
            for n in range(100):
                send(beamish.current(), data)
                dictionary()[n] = data
            raise ValueError("huge")

        with capture_crashes() as reports:
            await down(spawn(dies, list(range(100_000))))
        (report,) = reports
        assert len(report.getMessage()) < 500
        facts: Any = report
        assert len(facts.messages) <= 20
        assert facts.message_queue_len == 100

    async def test_of_what_can_not_be_shown(self, world: World) -> None:
        class Rude:
            def __repr__(self) -> str:
                raise RuntimeError("no")

        class Rudest(GenServer[Rude]):
            def init(self) -> Rude:
                return Rude()

            @cast
            def end(self, state: Rude) -> Stop[Any]:
                return Stop(Rude())

        with capture_crashes() as reports:
            server, ref = await Rudest.start_monitor()
            server.end()
            await down(ref)
        (report,) = reports
        assert "state: <Rude instance at" in report.getMessage()

    async def test_as_one_likes(self, world: World) -> None:
        """report_cb: a Formatter of one's own makes the text from the facts."""

        class Mine(logging.Formatter):
            def format(self, record: Any) -> str:
                return f"{record.context} {record.initial_call.rpartition('.')[2]} {type(record.reason).__name__}"

        async def dies() -> None:
            raise ValueError("mine")

        with capture_crashes() as reports:
            await down(spawn(dies))
        (report,) = reports
        assert Mine().format(report) == "error dies Crash"


# --- starts -----------------------------------------------------------------------------------------------------------


@both_roads
class TestASynchronousStart:
    """sync_start_nolink, sync_start_link, sync_start_monitor, sync_start_monitor_link."""

    @pytest.mark.parametrize("how", ["start", "start_link", "start_monitor"])
    async def test_returns_when_init_is_done(self, world: World, how: str) -> None:
        flag(trap_exit=True)
        done: list[str] = []

        def go_on(server: Any, gate: asyncio.Future[Any]) -> None:
            done.append("init")
            gate.set_result("state")

        got, pid = await begun(getattr(Server, how), go_on)
        assert done == ["init"]
        server, ref = got if how == "start_monitor" else (got, beamish.monitor(got))
        assert await server.get() == "state"
        assert server.pid() == pid
        exit(server, KILL)
        assert (await down(ref)).reason == beamish.KILLED
        assert [(one.pid, one.reason) for one in await mail()] == ([(pid, beamish.KILLED)] if how == "start_link" else [])

    async def test_monitored_and_linked(self, world: World) -> None:
        flag(trap_exit=True)
        (server, ref), _ = await begun(Server.start_monitor, lambda _, gate: gate.set_result("state"))
        beamish.link(server)
        exit(server, KILL)
        assert (await down(ref)).reason == (await receive(Exited)).reason == beamish.KILLED

    @pytest.mark.parametrize("how", ["start", "start_link", "start_monitor"])
    @pytest.mark.parametrize("outcome", ["stop", "ignore", "raise", "exit", "kill"])
    async def test_that_fails_says_so_and_leaves_nothing(self, world: World, how: str, outcome: str) -> None:
        """init_dont_hang: whatever becomes of the process before it has started."""

        def act(server: Any, gate: asyncio.Future[Any]) -> None:
            match outcome:
                case "stop":
                    gate.set_result(Stop("no"))
                case "ignore":
                    gate.set_result(Ignore())
                case "raise":
                    gate.set_exception(ValueError("bad_init"))
                case "exit":
                    gate.set_exception(Exit("bad_init"))
                case "kill":
                    exit(server, KILL)

        flag(trap_exit=True)
        with capture_crashes():
            failed, pid = await begun(getattr(Server("name"), how), act)
        assert type(failed) is (Ignored if outcome == "ignore" else StartError)
        assert not beamish.alive(pid)
        assert whereis("name") is None
        reason = getattr(failed, "reason", NORMAL)
        await settle()
        assert [(one.pid, one.reason) for one in await mail()] == ([(pid, reason)] if how == "start_link" else [])

    @pytest.mark.parametrize("how", ["start", "start_link", "start_monitor"])
    @pytest.mark.parametrize("trap", [False, True])
    async def test_that_is_late_is_killed(self, world: World, clock: ManualClock, how: str, trap: bool) -> None:
        """sync_start_timeout, sync_start_link_timeout, sync_start_monitor_link_timeout: nothing of it is heard of."""

        async def act(server: Any, gate: asyncio.Future[Any]) -> None:
            await clock.advance(0.9)
            assert beamish.alive(server)
            await clock.advance(0.1)

        flag(trap_exit=True)
        failed, pid = await begun(lambda told: getattr(Server("name").options(timeout=1.0), how)(told, trap), act)
        assert failed.reason == "timeout"
        assert not beamish.alive(pid)
        assert whereis("name") is None
        await settle()
        assert await mail() == []

    async def test_takes_a_linked_starter_along(self, world: World) -> None:
        """The link of a start that fails is a link like any other, unless the starter traps."""

        async def starts(how: str, told: asyncio.Future[Any]) -> None:
            await getattr(Server, how)(told)
            raise AssertionError("started")

        with capture_crashes():
            for how, reason in (("start_link", "bad_init"), ("start", StartError)):
                told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
                pid = spawn(starts, how, told)
                _, _, gate = await told
                ref = beamish.monitor(pid)
                gate.set_exception(Exit("bad_init"))
                found: Any = (await down(ref)).reason
                assert isinstance(found.error, StartError) if reason is StartError else found == reason


# --- stop -------------------------------------------------------------------------------------------------------------


class Stopping(GenServer[Any]):
    def init(self, how: Any = None) -> Any:
        return how

    async def terminate(self, state: Any, reason: Any) -> None:
        if isinstance(state, asyncio.Event):
            await state.wait()
        elif state is not None:
            raise state


@both_roads
class TestStop:
    """stop."""

    async def test_by_pid_and_by_name(self, world: World) -> None:
        server = await Stopping.start()
        pid: Any = server.pid()
        await stop(pid)
        assert not beamish.alive(pid)
        with pytest.raises(NoProcess):
            await stop(server)
        for name in (Stopping("to_stop"), Stopping(At("to_stop", node()))):
            await Stopping("to_stop").start()
            await stop(name)
            assert whereis("to_stop") is None
            with pytest.raises(NoProcess):
                await stop(name)
        with pytest.raises(ServerDown) as failed:
            await stop(Stopping(At("to_stop", "foo@bar")))
        assert failed.value.reason == beamish.NOCONNECTION

    async def test_with_a_reason(self, world: World) -> None:
        with capture_crashes():
            await stop(await Stopping.start(), "other_reason")
            for error, reason in ((Exit("die"), "die"), (ValueError("badmatch"), Crash)):
                with pytest.raises(ServerDown) as failed:
                    await stop(await Stopping.start(error), "crash")
                found: Any = failed.value.reason
                assert isinstance(found, Crash) if reason is Crash else found == reason

    async def test_that_takes_too_long(self, world: World, clock: ManualClock) -> None:
        gate = asyncio.Event()
        server = await Stopping.start(gate)
        stopping = asyncio.ensure_future(stop(server, NORMAL, 1.0))
        await clock.advance(1.0)
        with pytest.raises(CallTimeout):
            await stopping
        gate.set()
        await down(server)

    async def test_of_what_is_no_server(self, world: World) -> None:
        """A spawned function does not listen to such a request; it is told so at once, where OTP would wait."""
        pid = spawn(receive)
        with pytest.raises(TypeError, match="exit"):
            await stop(pid)
        exit(pid, SHUTDOWN)
