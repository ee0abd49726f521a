"""What the log says of a process that ended badly: which report, once, with the facts of the process as attributes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import beamish
from beamish import (
    KILL,
    ChildSpec,
    Crash,
    DynamicSupervisor,
    Exit,
    GenServer,
    Killed,
    StartError,
    Status,
    Stop,
    Supervisor,
    SupervisorGaveUp,
    Task,
    call,
    cast,
    child,
    current,
    dictionary,
    flag,
    send,
    set_label,
    spawn,
)
from beamish.testing import World, capture_crashes, settle
from conftest import both_roads


class Shop(GenServer[list[str]]):
    def init(self, fails: bool = False) -> list[str]:
        flag(trap_exit=True)
        set_label("the shop")
        dictionary()["locale"] = "de"
        if fails:
            raise RuntimeError("no goods")
        return ["bread"]

    @call
    async def sell(self, state: list[str], what: str) -> str:
        await asyncio.sleep(0)
        return state.pop(state.index(what))

    @cast
    def close(self, state: list[str], reason: object) -> Stop[Any]:
        return Stop(reason)


def by_logger(reports: list[logging.LogRecord], name: str) -> list[Any]:
    return [one for one in reports if one.name == f"beamish.{name}"]


@contextmanager
def at_level(level: int) -> Iterator[None]:
    logger = logging.getLogger("beamish")
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)


@pytest.fixture
def progress() -> Iterator[list[Any]]:
    """The progress reports of supervisors, which are at level INFO."""
    found: list[Any] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if getattr(record, "context", None) == "progress":
                found.append(record)

    logger, handler = logging.getLogger("beamish.supervisor"), Collect()
    logger.addHandler(handler)
    try:
        with at_level(logging.INFO):
            yield found
    finally:
        logger.removeHandler(handler)


class TestAServer:
    @both_roads
    async def test_one_that_crashed_is_reported_once_with_its_facts(self, world: World, inline: bool) -> None:
        beamish.register("main")
        shop = await Shop("shop").start()
        pid = shop.pid()
        with capture_crashes() as reports:
            selling = asyncio.ensure_future(shop.sell("cake"))
            await asyncio.sleep(0)
            for n in range(25):
                send(shop, n)
            await asyncio.gather(selling, return_exceptions=True)
        (report,) = by_logger(reports, "gen_server")
        assert len(reports) == 1
        assert (report.context, report.levelname) == ("terminate", "ERROR")
        assert (report.pid, report.server, report.registered_name, report.label) == (pid, shop, "shop", "the shop")
        assert report.initial_call == "Shop.init"
        assert report.ancestors == ["main"]
        assert (report.last_message, report.state) == ("sell('cake')", ["bread"])
        assert isinstance(report.reason, Crash)
        assert isinstance(report.exc_info[1], ValueError)
        assert report.trap_exit
        assert report.dictionary["locale"] == "de"
        assert report.links == []
        assert (report.message_queue_len, report.messages) == (25, list(range(20)))  # a report does not grow with a mailbox

    async def test_its_links_and_the_client_who_called(self, world: World) -> None:
        async def customer() -> None:
            flag(trap_exit=True)
            shop = await Shop.start_link()
            await asyncio.gather(shop.sell("cake"), return_exceptions=True)

        with capture_crashes() as reports:
            pid = spawn(customer)
            await beamish.down(pid)
        (report,) = reports
        assert report.links == [pid]  # type: ignore[attr-defined]
        assert report.ancestors == [pid]  # type: ignore[attr-defined]
        assert report.client == pid  # type: ignore[attr-defined]
        assert f"client: {pid!r}" in report.getMessage()

    async def test_stop_with_a_reason_is_a_report_without_a_traceback(self, world: World) -> None:
        shop = await Shop.start()
        with capture_crashes() as reports:
            shop.close("bankrupt")
            await beamish.down(shop)
        (report,) = reports
        assert report.reason == "bankrupt"  # type: ignore[attr-defined]
        assert report.exc_info is None
        assert report.client is None  # type: ignore[attr-defined]

    async def test_one_whose_init_failed_makes_the_crash_report_alone(self, world: World) -> None:
        with capture_crashes() as reports, pytest.raises(StartError):
            await Shop("shop").start(True)
        (report,) = by_logger(reports, "process")
        assert len(reports) == 1
        assert report.context == "crash"
        assert report.registered_name == "shop"
        assert (report.initial_call, report.label, report.dictionary["locale"]) == ("Shop.init", "the shop", "de")
        assert isinstance(report.reason.error, RuntimeError)

    async def test_a_message_that_nothing_expects(self, world: World) -> None:
        shop = await world.start_supervised(Shop.child_spec())
        with capture_crashes() as reports:
            send(shop, "hello")
            await settle()
        (report,) = by_logger(reports, "gen_server")
        assert (report.context, report.server, report.cls, report.message_) == ("no_handle_info", shop, Shop, "hello")

    async def test_nothing_is_built_for_a_log_that_is_off(self, world: World) -> None:
        asked: list[Status] = []

        class Secret(Shop):
            def format_status(self, status: Status) -> Status:
                asked.append(status)
                return status

        secret = await Secret.start()
        with at_level(logging.CRITICAL):
            secret.close("bankrupt")
            await beamish.down(secret)
        assert asked == []


class TestAFunction:
    async def test_a_task_that_raised(self, world: World) -> None:
        async def work(n: int) -> None:
            send(current(), "unread")
            raise ValueError(n)

        with capture_crashes() as reports:
            pid = Task.start(work, 7)
            await beamish.down(pid)
        (report,) = by_logger(reports, "task")
        assert len(reports) == 1
        assert (report.context, report.pid, report.function, report.arguments) == ("terminating", pid, work, (7,))
        assert (report.message_queue_len, report.messages) == (1, ["unread"])

    async def test_a_spawned_function_that_raised(self, world: World) -> None:
        def work() -> None:
            raise ValueError(7)

        with capture_crashes() as reports:
            pid = spawn(work)
            await beamish.down(pid)
        (report,) = by_logger(reports, "process")
        assert (report.context, report.pid) == ("error", pid)
        assert isinstance(report.reason.error, ValueError)

    async def test_one_that_ends_with_a_reason_of_its_own_makes_none(self, world: World) -> None:
        def work() -> None:
            raise Exit("done")

        with capture_crashes() as reports:
            await beamish.down(spawn(work))
        assert reports == []


class TestASupervisor:
    """Its reports name the process, so that they can be laid beside the crash report of the child."""

    @pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor], ids=["supervisor", "dynamic"])
    async def test_a_child_ended(self, world: World, progress: list[Any], kind: Any) -> None:
        family: Any = await world.start_supervised(Supervisor.child_spec([]) if kind is Supervisor else DynamicSupervisor.child_spec())
        progress.clear()
        await family.start_child(Shop("shop").child_spec())
        pid = beamish.whereis("shop")
        assert pid is not None
        with capture_crashes() as reports:
            beamish.exit(pid, KILL)
            await Shop("shop").started()
        (report,) = by_logger(reports, "supervisor")
        assert len(reports) == 1  # a killed process has no words of its own
        assert (report.context, report.supervisor, report.pid) == ("child_terminated", family, pid)
        assert isinstance(report.reason, Killed)
        assert (report.server, report.start) == ("shop", Shop)
        assert (report.restart, report.shutdown, report.type) == ("permanent", 5.0, "worker")
        assert progress[-1].pid == beamish.whereis("shop")
        assert (progress[-1].supervisor, progress[-1].server, progress[-1].start) == (family, "shop", Shop)

    async def test_it_gave_up(self, world: World) -> None:
        async def trade() -> None:
            async with beamish.supervise([Shop("shop").child_spec()], max_restarts=0):
                send(owner, beamish.whereis("shop"))
                Shop("shop").close("bankrupt")
                await asyncio.get_running_loop().create_future()

        owner = current()
        with capture_crashes() as reports, pytest.raises(SupervisorGaveUp):
            await trade()
        pid = await beamish.receive()
        own, ended, gave_up = by_logger(reports, "gen_server") + by_logger(reports, "supervisor")
        assert own.pid == ended.pid == pid
        assert (ended.context, ended.reason) == ("child_terminated", "bankrupt")
        assert gave_up.context == "shutdown"
        assert "reached_max_restart_intensity" in gave_up.reason

    async def test_a_child_did_not_start(self, world: World) -> None:
        async def fails() -> Any:
            raise StartError("no goods")

        with capture_crashes() as reports, pytest.raises(StartError):
            await Supervisor.start_link([child(fails, id="shop")])
        (report,) = by_logger(reports, "supervisor")
        assert (report.context, report.pid, report.child, report.start) == ("start_error", None, "shop", fails)
        assert report.reason == "no goods"

    async def test_a_child_ended_otherwise_than_it_was_told(self, world: World) -> None:
        class Stubborn(Shop):
            def terminate(self, state: list[str], reason: Any) -> None:
                raise Exit("not like this")

        spec: ChildSpec[Any] = Stubborn.child_spec()
        supervisor = await Supervisor.start_link([spec])
        (info,) = await supervisor.which_children()
        with capture_crashes() as reports:
            await supervisor.stop()
        (report,) = by_logger(reports, "supervisor")
        assert (report.context, report.reason) == ("shutdown_error", "not like this")
        assert Stubborn(report.pid) == info.child
