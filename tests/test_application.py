"""Applications: parts of a program, started and stopped as a whole. The trace of OTP itself is in tests/conformance."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest

import beamish
from beamish import (
    KILL,
    NORMAL,
    SHUTDOWN,
    AlreadyStarted,
    BadReturn,
    CallingSelf,
    ChildSpec,
    Crash,
    Exit,
    FailedToStart,
    GenServer,
    Killed,
    ServerDown,
    Shutdown,
    StartError,
    Stop,
    Supervisor,
    application,
    call,
    supervise,
)
from beamish.application import (
    Application,
    ApplicationAlreadyStarted,
    ApplicationError,
    ApplicationTerminated,
    DependencyCycle,
    NotStarted,
)
from beamish.testing import ManualClock, capture_crashes, settle

log: list[str] = []


@pytest.fixture(autouse=True)
def fresh_log() -> Iterator[None]:
    log.clear()
    yield
    log.clear()


class Noting(GenServer[str]):
    """Notes its life."""

    def init(self, name: str) -> str:
        beamish.flag(trap_exit=True)
        log.append(f"init {name}")
        return name

    @call
    def crash(self, state: str) -> None:
        raise ValueError("crash")

    @call
    def leave(self, state: str, reason: object) -> beamish.Answer[None]:
        return Stop(reason, reply=None)

    def terminate(self, state: str, reason: Any) -> None:
        log.append(f"terminate {state}")


class Base(Application):
    """Notes its callbacks, and has one child of its own name for each of `children`."""

    children: tuple[str, ...] = ()
    max_restarts = 0

    def start(self) -> Any:
        log.append(f"start {self.name}")
        return [Noting(one).child_spec(one) for one in self.children], f"{self.name} state"

    def prep_stop(self, state: Any) -> Any:
        log.append(f"prep_stop {self.name}: {state}")
        return f"{self.name} prepared"

    def stop(self, state: Any) -> None:
        log.append(f"stop {self.name}: {state}")


class Db(Base):
    children = ("pool",)


class Cache(Base):
    applications = (Db,)


class Shop(Base):
    applications = (Cache, Db)
    children = ("orders", "carts")


def names(apps: list[Application]) -> list[str]:
    return [one.name for one in apps]


def running() -> list[str]:
    return names(application.which_applications())


class TestTheClass:
    def test_its_name_is_the_class_s_in_snake_case(self) -> None:
        class SearchService(Application):
            pass

        class HTTPServer2Go(Application):
            pass

        class Other(Application):
            name = "mine"

        class Derived(Other):
            pass

        assert [one.name for one in (SearchService, HTTPServer2Go, Other, Derived)] == [
            "search_service",
            "http_server2_go",
            "mine",
            "derived",
        ]
        assert repr(Other()) == "<application 'mine'>"

    @pytest.mark.parametrize(
        ("attributes", "text"),
        [
            ({"name": ""}, "X.name must be a non-empty str. Got: ''"),
            ({"name": 1}, "X.name must be a non-empty str. Got: 1"),
            ({"applications": Db}, r"X.applications must be a tuple of Application classes, such as \(Database, Mailer\)"),
            ({"applications": ("db",)}, r"Got: \('db',\)"),
            ({"env": [("a", 1)]}, "X.env must be a dict"),
            ({"start_phases": ["one"]}, "X.start_phases must be a dict"),
        ],
    )
    def test_what_makes_no_sense_is_refused_where_it_is_written(self, attributes: dict[str, Any], text: str) -> None:
        with pytest.raises(TypeError, match=text):
            type("X", (Application,), attributes)

    @pytest.mark.parametrize("wrong", ["shop", None, Noting, 3])
    async def test_a_verb_takes_an_application(self, wrong: Any) -> None:
        for verb in (application.start, application.stop, application.ensure_all_started):
            with pytest.raises(TypeError, match="expected an Application class or instance"):
                await verb(wrong)
        with pytest.raises(TypeError, match="expected an Application class or instance"):
            application.get_env(wrong, "key")


class TestStart:
    async def test_start_and_stop(self) -> None:
        await application.start(Db)
        assert running() == ["db"]
        assert log == ["start db", "init pool"]
        await application.stop(Db)
        assert running() == []
        assert log[2:] == ["prep_stop db: db state", "terminate pool", "stop db: db prepared"]

    async def test_each_start_makes_a_new_instance_unless_it_is_given_one(self) -> None:
        class Counted(Application):
            def __init__(self, number: int = 0) -> None:
                self.number = number

        await application.start(Counted)
        (first,) = application.which_applications()
        await application.stop(Counted)
        await application.start(Counted)
        (second,) = application.which_applications()
        assert isinstance(first, Counted)
        assert first is not second
        await application.stop(second)
        mine = Counted(7)
        await application.start(mine)
        assert application.which_applications() == [mine]
        await application.stop(Counted)

    async def test_one_that_is_needed_does_not_run(self) -> None:
        with pytest.raises(
            NotStarted, match="'shop' needs 'cache', which does not run: start that first, or use ensure_all_started"
        ) as refused:
            await application.start(Shop)
        assert refused.value.name == "cache"
        assert isinstance(refused.value, ApplicationError)
        assert log == []

    async def test_one_that_runs(self) -> None:
        await application.start(Db)
        with pytest.raises(ApplicationAlreadyStarted, match="'db' runs already: stop it first, or use ensure_all_started") as refused:
            await application.start(Db)
        assert isinstance(refused.value, AlreadyStarted)
        assert refused.value.name == "db"
        await application.stop(Db)

    async def test_an_unknown_type(self) -> None:
        with pytest.raises(ValueError, match=r'"permanent", "transient" or "temporary"\. Got: .forever.'):
            await application.start(Db, "forever")  # type: ignore[arg-type]

    async def test_it_does_not_hang_on_whoever_starts_it(self) -> None:
        async def starter() -> None:
            await application.start(Db)

        assert (await beamish.down(beamish.spawn(starter))).reason == NORMAL
        assert running() == ["db"]
        await application.stop(Db)

    async def test_nothing_but_what_it_needs(self) -> None:
        class Bundle(Application):
            applications = (Db,)

        await application.ensure_all_started(Bundle)
        assert running() == ["bundle", "db"]
        assert isinstance(application.get_supervisor(Bundle), Supervisor)
        await application.stop_all()

    async def test_under_the_options_of_its_supervisor(self) -> None:
        class Grouped(Base):
            children = ("a", "b")
            strategy = "one_for_all"
            max_restarts = 1

        await application.start(Grouped)
        with capture_crashes(), pytest.raises(ServerDown):
            await Noting("a").crash()
        await settle()
        assert log[1:] == ["init a", "init b", "terminate a", "terminate b", "init a", "init b"]
        await application.stop(Grouped)


class Tree(Application):
    """Starts what the test says."""

    def __init__(self, make: Any) -> None:
        self.make = make

    def start(self) -> Any:
        return self.make()

    def stop(self, state: Any) -> None:
        log.append(f"stop: {state}")


async def _supervisor() -> Any:
    return await Supervisor("top").start_link([Noting("n").child_spec("n")])


async def _server() -> Any:
    return await Noting("n").start_link("n")


async def _loop() -> None:
    await asyncio.get_running_loop().create_future()


class TestWhatStartReturns:
    @pytest.mark.parametrize(
        ("make", "topmost", "state"),
        [
            (lambda: [Noting("n").child_spec("n")], None, None),
            (lambda: ([Noting("n").child_spec("n")], "kept"), None, "kept"),
            (lambda: ([], None), None, None),
            (_supervisor, "top", None),
            (_server, "n", None),
            (lambda: beamish.spawn_link(_loop), None, None),
            (lambda: (beamish.spawn_link(_loop), [1, 2]), None, [1, 2]),
        ],
    )
    async def test_the_tree_and_a_state(self, make: Any, topmost: str | None, state: Any) -> None:
        await application.start(Tree(make))
        found = application.get_supervisor(Tree)
        assert beamish.alive(found)
        if topmost is not None:
            assert found == (Supervisor("top") if topmost == "top" else Noting("n"))
        await application.stop(Tree)
        assert not beamish.alive(found)
        assert log[-1] == f"stop: {state}"

    @pytest.mark.parametrize("value", [None, "tree", 7, (1, 2, 3), ("tree", "state"), {"a": 1}])
    async def test_anything_else_fails_the_start(self, value: Any) -> None:
        with capture_crashes(), pytest.raises(StartError, match=r"Tree\.start returned .*Expected: a list of child specs") as failed:
            await application.start(Tree(lambda: value))
        assert isinstance(failed.value.__cause__, BadReturn)
        assert running() == []

    async def test_a_list_of_no_specs(self) -> None:
        with capture_crashes(), pytest.raises(StartError, match=r"Write Noting\.child_spec\(…\)"):
            await application.start(Tree(lambda: [Noting]))

    async def test_what_is_not_linked_would_not_stop_with_it(self) -> None:
        for make in (lambda: Noting("n").start("n"), lambda: beamish.spawn(_loop)):
            with capture_crashes(), pytest.raises(StartError, match="start_link, not start"):
                await application.start(Tree(make))
        await Noting("n").stop()
        (loop,) = (pid for pid in beamish.processes() if beamish.info(pid).initial_call == "_loop")  # type: ignore[union-attr]
        beamish.exit(loop, KILL)

    async def test_one_that_has_ended_already(self) -> None:
        async def gone() -> Any:
            pid = beamish.spawn(lambda: None)
            await beamish.down(pid)
            return pid

        with pytest.raises(StartError) as failed:
            await application.start(Tree(gone))
        assert failed.value.reason == NORMAL


class TestAFailedStart:
    @pytest.mark.parametrize(
        ("error", "reason", "text"),
        [
            (ValueError("no"), Crash, "<application 'tree'> did not start: init raised ValueError: no"),
            (Exit("nope"), "nope", "<application 'tree'> did not start: its init ended with 'nope'"),
            (StartError("nope"), "nope", "<application 'tree'> did not start"),
        ],
    )
    async def test_by_an_error(self, error: Exception, reason: Any, text: str) -> None:
        def fail() -> Any:
            raise error

        with capture_crashes(), pytest.raises(StartError, match=text) as failed:
            await application.start(Tree(fail))
        assert failed.value.reason == reason if isinstance(reason, str) else isinstance(failed.value.reason, reason)
        assert beamish.whereis("application:tree") is None

    async def test_by_a_child(self) -> None:
        class Broken(GenServer[None]):
            def init(self) -> Stop[Any]:
                return Stop("broken")

        with capture_crashes(), pytest.raises(StartError, match=r"its child .* did not start: its init ended with 'broken'") as failed:
            await application.start(Tree(lambda: [Noting("n").child_spec("n"), Broken("b").child_spec()]))
        assert failed.value.reason == Shutdown(FailedToStart("b", "broken"))
        assert log == ["init n", "terminate n"]

    async def test_what_it_had_started_is_stopped_before_anybody_is_told(self) -> None:
        async def half() -> Any:
            await Noting("a").start_link("a")
            await Noting("b").start_link("b")
            raise ValueError("half")

        with capture_crashes(), pytest.raises(StartError, match="half"):
            await application.start(Tree(half))
        assert log == ["init a", "init b", "terminate b", "terminate a"]
        assert beamish.whereis("a") is None

    async def test_by_a_name_that_is_taken(self) -> None:
        await Noting("n").start("other")
        with capture_crashes(), pytest.raises(StartError, match=r"init raised AlreadyStarted: the name 'n' is taken by Noting\('n'\)"):
            await application.start(Tree(_server))
        await Noting("n").stop()

    async def test_the_process_that_asked_for_it_lives(self) -> None:
        def fail() -> Any:
            raise ValueError("no")

        async def starter() -> None:
            with pytest.raises(StartError):
                await application.start(Tree(fail))
            log.append("lives")

        with capture_crashes():
            assert (await beamish.down(beamish.spawn(starter))).reason == NORMAL
        assert log == ["lives"]

    async def test_it_can_be_tried_again(self) -> None:
        answers: list[Any] = [ValueError("not yet"), []]

        def sometimes() -> Any:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        app = Tree(sometimes)
        with capture_crashes(), pytest.raises(StartError):
            await application.start(app)
        await application.start(app)
        await application.stop(app)

    async def test_a_start_that_is_given_up_is_undone(self) -> None:
        async def slow() -> Any:
            await Noting("a").start_link("a")
            await asyncio.get_running_loop().create_future()

        starting = asyncio.ensure_future(application.start(Tree(slow), "permanent"))
        await settle()
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert log == ["init a", "terminate a"]
        assert running() == []
        assert beamish.whereis("application:tree") is None


class Phased(Base):
    start_phases = {"one": ["x"], "two": []}  # noqa: RUF012
    children = ("p",)
    fails: str | None = None

    async def start_phase(self, phase: str, args: Any) -> None:
        log.append(f"phase {phase} {args}")
        await asyncio.sleep(0)
        if phase == self.fails:
            raise Exit("nope")


class TestStartPhases:
    async def test_run_after_start_in_their_order(self) -> None:
        await application.start(Phased)
        assert log == ["start phased", "init p", "phase one ['x']", "phase two []"]
        await application.stop(Phased)

    async def test_one_that_fails_ends_the_tree_without_prep_stop_and_stop(self) -> None:
        class Failing(Phased):
            fails = "one"

        with capture_crashes(), pytest.raises(StartError) as failed:
            await application.start(Failing)
        assert failed.value.reason == "nope"
        assert log == ["start failing", "init p", "phase one ['x']", "terminate p"]

    async def test_phases_need_their_method(self) -> None:
        class Lazy(Application):
            start_phases = {"one": []}  # noqa: RUF012

        with capture_crashes(), pytest.raises(StartError, match=r"Lazy has start_phases, so it needs a method start_phase\(phase, args\)"):
            await application.start(Lazy)

    async def test_a_tree_that_ends_meanwhile_fails_the_start(self) -> None:
        class Ending(Phased):
            async def start_phase(self, phase: str, args: Any) -> None:
                if phase == "two":
                    beamish.exit("p", KILL)
                    await settle()

        with capture_crashes(), pytest.raises(StartError) as failed:
            await application.start(Ending)
        assert failed.value.reason == SHUTDOWN
        assert running() == []


class TestStop:
    async def test_one_that_does_not_run(self) -> None:
        with pytest.raises(NotStarted, match="'db' does not run, so there is nothing to stop") as refused:
            await application.stop(Db)
        assert refused.value.name == "db"
        with pytest.raises(NotStarted):
            application.get_supervisor(Db)

    async def test_the_order_is_the_caller_s_business(self) -> None:
        await application.ensure_all_started(Cache)
        await application.stop(Db)
        assert running() == ["cache"]
        await application.stop(Cache)

    async def test_children_stop_last_to_first_between_prep_stop_and_stop(self) -> None:
        await application.ensure_all_started(Shop)
        log.clear()
        await application.stop(Shop)
        assert log == ["prep_stop shop: shop state", "terminate carts", "terminate orders", "stop shop: shop prepared"]
        await application.stop_all()

    async def test_async_callbacks(self) -> None:
        class Async(Application):
            async def prep_stop(self, state: Any) -> Any:
                await asyncio.sleep(0)
                return "prepared"

            async def stop(self, state: Any) -> None:
                await asyncio.sleep(0)
                log.append(f"stop {state}")

        await application.start(Async)
        await application.stop(Async)
        assert log == ["stop prepared"]

    async def test_an_error_of_a_callback_is_logged_and_the_rest_is_done(self) -> None:
        class Clumsy(Base):
            children = ("c",)

            def prep_stop(self, state: Any) -> Any:
                raise ValueError("prep")

            def stop(self, state: Any) -> None:
                log.append(f"stop {state}")
                raise ValueError("stop")

        await application.start(Clumsy)
        with capture_crashes() as reports:
            await application.stop(Clumsy)
        assert log[2:] == ["terminate c", "stop clumsy state"]
        assert [one.getMessage().partition(" raised")[0] for one in reports] == [
            f"{what} of <application 'clumsy'>" for what in ("prep_stop", "stop")
        ]

    async def test_two_who_ask_for_it_wait_for_the_same_end(self) -> None:
        gate = asyncio.Event()

        class Slow(Application):
            async def prep_stop(self, state: Any) -> None:
                log.append("prep_stop")
                await gate.wait()

        await application.start(Slow)
        both = asyncio.gather(application.stop(Slow), application.stop(Slow))
        await settle()
        assert log == ["prep_stop"]
        assert not both.done()
        gate.set()
        await both
        assert running() == []

    async def test_a_callback_cannot_wait_for_its_own_end(self) -> None:
        class Circular(Application):
            async def prep_stop(self, state: Any) -> None:
                try:
                    await application.stop(Circular)
                except CallingSelf:
                    log.append("calling itself")

        await application.start(Circular)
        await application.stop(Circular)
        assert log == ["calling itself"]

    async def test_stop_all_goes_from_the_last_to_the_first(self) -> None:
        await application.ensure_all_started(Shop)
        log.clear()
        await application.stop_all()
        assert [line for line in log if line.startswith("stop")] == [f"stop {name}: {name} prepared" for name in ("shop", "cache", "db")]
        await application.stop_all()


class TestEnsureAllStarted:
    async def test_what_is_needed_first(self) -> None:
        assert names(await application.ensure_all_started(Shop)) == ["db", "cache", "shop"]
        assert running() == ["shop", "cache", "db"]
        assert names(await application.ensure_all_started(Shop)) == []
        await application.stop(Shop)
        assert names(await application.ensure_all_started(Shop, Db)) == ["shop"]
        await application.stop_all()

    async def test_several_at_once(self) -> None:
        class Other(Application):
            applications = (Db,)

        assert names(await application.ensure_all_started(Other, Cache)) == ["db", "other", "cache"]
        await application.stop_all()

    async def test_a_circle_is_named_and_nothing_is_started(self) -> None:
        class A(Base):
            pass

        class B(Base):
            applications = (A,)

        class C(Base):
            applications = (Db, B)

        class Top(Base):
            applications = (C,)

        A.applications = (C,)
        with pytest.raises(DependencyCycle, match="each needs the next: c → b → a → c") as refused:
            await application.ensure_all_started(Top)
        assert refused.value.cycle == ("c", "b", "a")
        assert log == []

    async def test_one_that_needs_itself(self) -> None:
        class Vain(Base):
            pass

        Vain.applications = (Vain,)
        with pytest.raises(DependencyCycle, match="vain → vain"):
            await application.ensure_all_started(Vain)

    async def test_if_one_does_not_start_those_that_were_started_here_are_stopped_again(self) -> None:
        class Bad(Base):
            applications = (Cache,)

            def start(self) -> Any:
                raise Exit("nope")

        await application.start(Db)
        with capture_crashes(), pytest.raises(StartError, match="<application 'bad'> did not start: its init ended with 'nope'"):
            await application.ensure_all_started(Bad)
        assert running() == ["db"]
        assert log[-1] == "stop cache: cache prepared"
        await application.stop(Db)

    async def test_cancelled_it_stops_them_too(self) -> None:
        class Slow(Application):
            applications = (Db,)

            async def start(self) -> Any:
                await asyncio.get_running_loop().create_future()

        starting = asyncio.ensure_future(application.ensure_all_started(Slow))
        await settle()
        assert running() == ["db"]
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert running() == []

    async def test_with_a_type_for_all_of_them(self) -> None:
        await application.ensure_all_started(Cache, type="permanent")
        await application.start(Phased)
        with capture_crashes(), pytest.raises(ServerDown):
            await Noting("pool").crash()  # the permanent db ends: so does everything
        await settle()
        assert running() == []


class TestAtTheSameTime:
    async def test_a_second_start_waits_for_the_first(self) -> None:
        gate = asyncio.Event()

        async def slow() -> Any:
            log.append("start")
            await gate.wait()
            return []

        first = asyncio.ensure_future(application.start(Tree(slow)))
        await settle()
        second = asyncio.ensure_future(application.start(Tree(slow)))
        third = asyncio.ensure_future(application.ensure_all_started(Tree(slow)))
        await settle()
        with pytest.raises(NotStarted):
            await application.stop(Tree)  # not yet
        assert not second.done()
        gate.set()
        assert [await first, await second, await third] == [None, None, []]
        assert log == ["start"]
        await application.stop(Tree)

    async def test_a_second_start_fails_with_the_first(self) -> None:
        gate = asyncio.Event()

        async def slow() -> Any:
            await gate.wait()
            raise Exit("nope")

        both = [asyncio.ensure_future(application.start(Tree(slow))) for _ in range(2)]
        await settle()
        gate.set()
        with capture_crashes():
            failed = await asyncio.gather(*both, return_exceptions=True)
        assert [type(one) for one in failed] == [StartError, StartError]
        assert [one.reason for one in failed if isinstance(one, StartError)] == ["nope", "nope"]

    async def test_a_start_waits_for_a_stop(self) -> None:
        gate = asyncio.Event()

        class Slow(Application):
            def start(self) -> Any:
                log.append("start")
                return []

            async def prep_stop(self, state: Any) -> None:
                await gate.wait()
                log.append("stopped")

        class Needing(Application):
            applications = (Slow,)

        await application.start(Slow)
        stopping = asyncio.ensure_future(application.stop(Slow))
        await settle()
        with pytest.raises(NotStarted):
            await application.start(Needing)
        starting = asyncio.ensure_future(application.ensure_all_started(Needing))
        await settle()
        gate.set()
        await stopping
        assert names(await starting) == ["slow", "needing"]
        assert log == ["start", "stopped", "start"]
        await application.stop_all()

    async def test_a_start_waits_for_the_last_words_of_one_that_has_ended_by_itself(self) -> None:
        gate = asyncio.Event()

        class Slow(Phased):
            async def prep_stop(self, state: Any) -> None:
                await gate.wait()

        await application.start(Slow)
        with capture_crashes():
            beamish.exit("p", KILL)
            await settle()
        assert running() == ["slow"]
        starting = asyncio.ensure_future(application.start(Slow))
        await settle()
        assert not starting.done()
        gate.set()
        await starting
        assert log.count("start slow") == 2
        await application.stop(Slow)

    async def test_an_application_may_start_another(self) -> None:
        class Parent(Application):
            async def start(self) -> Any:
                await application.start(Db)
                return []

        await application.start(Parent)
        assert running() == ["parent", "db"]
        await application.stop_all()


class TestTheEndOfATree:
    async def test_a_temporary_one_is_reported_and_its_last_words_are_said(self) -> None:
        await application.ensure_all_started(Shop)
        log.clear()
        with capture_crashes() as reports:
            with pytest.raises(ServerDown):
                await Noting("orders").crash()
            await settle()
        assert log == ["terminate orders", "terminate carts", "prep_stop shop: shop state", "stop shop: shop prepared"]
        assert running() == ["cache", "db"]
        assert reports[-1].getMessage() == "<application 'shop'> (temporary) ended: Shutdown(detail=None)"
        await application.stop_all()

    @pytest.mark.parametrize("type", ["permanent", "transient"])
    async def test_one_that_the_program_may_not_outlive_ends_all_of_them(self, type: Any, caplog: pytest.LogCaptureFixture) -> None:
        await application.ensure_all_started(Cache)
        await application.start(Shop, type)
        await application.start(Phased)
        log.clear()
        with caplog.at_level(logging.CRITICAL, "beamish"), pytest.raises(ServerDown):
            await Noting("orders").crash()
        await settle()
        assert running() == []
        assert [line for line in log if line.startswith("stop")] == [
            f"stop {one}: {one} prepared" for one in ("shop", "phased", "cache", "db")
        ]
        assert f"the {type} application 'shop' ended" in caplog.text

    @pytest.mark.parametrize("type", ["transient", "temporary"])
    async def test_a_transient_one_may_end_with_normal(self, type: Any) -> None:
        await application.start(Db)
        await application.start(Tree(_server), type)
        with capture_crashes() as reports:
            await Noting("n").leave(NORMAL)
            await settle()
        assert reports == []
        assert running() == ["db"]
        await application.stop(Db)

    @pytest.mark.parametrize(("type", "left"), [("permanent", []), ("transient", []), ("temporary", ["db"])])
    async def test_a_killed_one(self, type: Any, left: list[str]) -> None:
        await application.start(Db)
        await application.start(Phased, type)
        master = beamish.whereis("application:phased")
        assert master is not None
        log.clear()
        with capture_crashes():
            beamish.exit(master, KILL)
            await settle()
        assert "terminate p" in log  # by its link
        assert "stop phased: phased prepared" not in log
        assert running() == left
        await application.stop_all()

    async def test_a_stop_is_no_reason_to_end_the_program(self) -> None:
        await application.start(Db)
        await application.start(Phased, "permanent")
        await application.stop(Phased)
        assert running() == ["db"]
        await application.stop(Db)

    async def test_of_two_that_end_at_once(self) -> None:
        await application.start(Db, "permanent")
        await application.start(Phased, "permanent")
        top = [application.get_supervisor(one).pid() for one in (Db, Phased)]
        with capture_crashes():
            for one in top:
                beamish.exit(one, KILL)
            await settle()
        assert running() == []
        assert sorted(line for line in log if line.startswith("stop")) == ["stop db: db prepared", "stop phased: phased prepared"]

    async def test_other_links_of_its_process_are_nobody_s_business(self) -> None:
        def start() -> Any:
            beamish.spawn_link(lambda: None)
            return [Noting("n").child_spec("n")]

        await application.start(Tree(start))
        await settle()
        assert running() == ["tree"]
        await application.stop(Tree)


class TestEnvironment:
    async def test_what_is_put_there_else_the_default_of_the_class(self) -> None:
        class Configured(Application):
            env = {"limit": 10, "mode": "fast"}  # noqa: RUF012

        assert application.get_env(Configured, "limit") == 10
        assert application.get_env(Configured(), "limit") == 10
        assert application.get_env(Configured, "none") is None
        assert application.get_env(Configured, "none", "default") == "default"
        application.put_env(Configured, "limit", 5)
        application.put_env(Configured, "none", 0)
        assert application.get_all_env(Configured) == {"limit": 5, "mode": "fast", "none": 0}
        assert application.fetch_env(Configured, "limit") == 5
        application.delete_env(Configured, "limit")
        application.delete_env(Configured, "limit")
        assert application.fetch_env(Configured, "limit") == 10
        with pytest.raises(
            KeyError, match=r"'nope' is not configured for the application 'configured'\. There are: 'limit', 'mode', 'none'"
        ):
            application.fetch_env(Configured, "nope")
        assert Configured.env == {"limit": 10, "mode": "fast"}

    async def test_of_an_instance(self) -> None:
        class Configured(Application):
            def __init__(self, limit: int = 10) -> None:
                self.env = {"limit": limit}

            def start(self) -> list[ChildSpec[Any]]:
                log.append(f"limit {application.get_env(self, 'limit')}")
                return []

        await application.start(Configured(5))
        assert application.get_env(Configured, "limit") == 5
        application.put_env(Configured, "limit", 6)
        await application.stop(Configured)
        assert application.get_env(Configured, "limit") == 6  # it stays
        await application.start(Configured(7))
        assert log == ["limit 5", "limit 6"]
        await application.stop(Configured)

    async def test_is_fresh_on_another_event_loop(self) -> None:
        assert application.get_all_env(Db) == {}


class TestTheEndOfTheLoop:
    def test_applications_and_trees_are_stopped_last_started_first(self) -> None:
        async def main() -> None:
            await application.ensure_all_started(Cache)
            await Supervisor("tree").start_link([Noting("between").child_spec("between")])
            await application.start(Phased, "permanent")
            log.clear()

        asyncio.run(main())
        assert log == [
            "prep_stop phased: phased state", "terminate p", "stop phased: phased prepared", "terminate between",
            "prep_stop cache: cache state", "stop cache: cache prepared",
            "prep_stop db: db state", "terminate pool", "stop db: db prepared",
        ]  # fmt: skip

    def test_in_the_middle_of_a_start(self) -> None:
        async def slow() -> Any:
            await Noting("half").start_link("half")
            await asyncio.get_running_loop().create_future()

        async def main() -> None:
            await application.start(Db)
            starting = asyncio.ensure_future(application.start(Tree(slow)))
            await settle()
            assert not starting.done()

        asyncio.run(main())
        assert log[2:] == ["init half", "terminate half", "prep_stop db: db state", "terminate pool", "stop db: db prepared"]


class TestRun:
    def test_an_application_as_a_program(self) -> None:
        class Program(Base):
            applications = (Db,)

            def start(self) -> Any:
                os.kill(os.getpid(), signal.SIGTERM)
                return super().start()

        result: object = beamish.run(Program, watchdog=None)
        assert result is None
        assert log[:3] == ["start db", "init pool", "start program"]
        assert log[-1] == "stop db: db prepared"

    def test_an_instance(self) -> None:
        seen: list[int] = []

        class Program(Application):
            def __init__(self, port: int) -> None:
                self.port = port

            async def start(self) -> Any:
                seen.append(self.port)
                raise Exit("enough")

        with capture_crashes(), pytest.raises(StartError, match="enough"):
            beamish.run(Program(8000), watchdog=None)
        assert seen == [8000]

    def test_one_that_does_not_start_stops_those_before_it(self) -> None:
        class Program(Base):
            applications = (Db,)

            def start(self) -> Any:
                raise ValueError("no")

        with capture_crashes(), pytest.raises(StartError, match="<application 'program'> did not start: init raised ValueError: no"):
            beamish.run(Program, watchdog=None)
        assert log[-1] == "stop db: db prepared"

    def test_one_that_ends_by_itself_ends_the_program(self) -> None:
        class Program(Base):
            applications = (Db,)
            children = ("fragile",)

            def start(self) -> Any:
                beamish.send_after(0.001, "application:program", "go")
                beamish.spawn(self.crash)
                return super().start()

            async def crash(self) -> None:
                await Noting("fragile").started()
                with pytest.raises(ServerDown):
                    await Noting("fragile").crash()

        with capture_crashes(), pytest.raises(ApplicationTerminated, match="the permanent application 'program' ended") as ended:
            beamish.run(Program, watchdog=None)
        assert (ended.value.name, ended.value.reason) == ("program", SHUTDOWN)
        assert log[-6:] == [
            "terminate fragile", "prep_stop program: program state", "stop program: program prepared",
            "prep_stop db: db state", "terminate pool", "stop db: db prepared",
        ]  # fmt: skip

    def test_a_main_that_started_it(self) -> None:
        async def main() -> None:
            await application.start(Db, "permanent")
            try:
                beamish.exit("pool", KILL)
                await asyncio.get_running_loop().create_future()
            finally:
                log.append("main ends")

        with capture_crashes(), pytest.raises(ApplicationTerminated):
            beamish.run(main, watchdog=None)
        assert log[2:] == ["prep_stop db: db state", "stop db: db prepared", "main ends"]

    def test_a_main_that_ends_stops_them(self) -> None:
        async def main() -> str:
            await application.ensure_all_started(Cache)
            async with supervise([Noting("n").child_spec("n")]):
                log.clear()
            return "done"

        assert beamish.run(main, watchdog=None) == "done"
        assert log == [
            "terminate n", "prep_stop cache: cache state", "stop cache: cache prepared",
            "prep_stop db: db state", "terminate pool", "stop db: db prepared",
        ]  # fmt: skip

    def test_the_reason_is_the_cause(self) -> None:
        async def broken() -> None:
            raise ValueError("broken")

        with capture_crashes(), pytest.raises(ApplicationTerminated) as ended:
            beamish.run(Tree(lambda: beamish.spawn_link(broken)), watchdog=None)
        assert isinstance(ended.value.__cause__, ValueError)

    def test_a_main_that_dies_of_a_linked_server_raises_its_error(self) -> None:
        async def main() -> None:
            await Noting.start_link("n")
            server = await Noting("n").start_link("n")
            await server.crash()

        with capture_crashes(), pytest.raises(ValueError, match="crash"):
            beamish.run(main, watchdog=None)

    def test_a_main_that_does_not_listen_ends_so_all_the_same(self) -> None:
        async def main() -> str:
            beamish.flag(trap_exit=True)
            await application.start(Db, "permanent")
            beamish.exit("pool", KILL)
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                log.append("cancelled")
            return "went on"

        with capture_crashes(), pytest.raises(ApplicationTerminated):
            beamish.run(main, watchdog=None)
        assert log[-1] == "cancelled"

    def test_killed_main(self) -> None:
        async def main() -> None:
            await application.start(Db)
            beamish.exit(beamish.current(), KILL)

        with pytest.raises(asyncio.CancelledError):
            beamish.run(main, watchdog=None)
        assert log[-1] == "stop db: db prepared"


PROGRAM = """
    import asyncio, logging, sys
    import beamish
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # on a busy machine -X dev warns of slow callbacks
    from beamish import GenServer
    from beamish.application import Application

    class Noting(GenServer[str]):
        def init(self, name):
            beamish.flag(trap_exit=True)
            return name
        async def terminate(self, state, reason):
            await asyncio.sleep(0)
            print("terminate", state, reason, flush=True)

    class Db(Application):
        def start(self):
            return [Noting("pool").child_spec("pool")]
        async def stop(self, state):
            await asyncio.sleep(0)
            print("stop db", flush=True)

    class Shop(Application):
        applications = (Db,)
        max_restarts = 0
        def start(self):
            return [Noting("a").child_spec("a"), Noting("b").child_spec("b")]
        async def start_phase(self, phase, args):
            print("ready", flush=True)
            if "kill" in sys.argv:
                beamish.send_after(0.01, beamish.spawn(self.kill), "now")
        start_phases = {"ready": None}
        async def kill(self):
            await beamish.receive()
            beamish.exit("a", beamish.KILL)
        async def prep_stop(self, state):
            await asyncio.sleep(0)
            print("prep_stop shop", flush=True)

    print("ended with", beamish.run(Shop))
"""


def program(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-X", "dev", "-c", textwrap.dedent(PROGRAM), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to send")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: str(number.name))
def test_a_signal_ends_a_program_in_reverse_start_order(number: signal.Signals) -> None:
    with program() as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        running.send_signal(number)
        out, err = running.communicate(timeout=30)
    down = "Shutdown(detail=None)"
    assert out.splitlines() == [
        "prep_stop shop", f"terminate b {down}", f"terminate a {down}", f"terminate pool {down}", "stop db", "ended with None",
    ]  # fmt: skip
    assert (running.returncode, err) == (0, "")


def test_a_program_whose_application_ends_fails() -> None:
    with program("kill") as running:
        out, err = running.communicate(timeout=30)
    down = "Shutdown(detail=None)"
    assert out.splitlines() == ["ready", f"terminate b {down}", "prep_stop shop", f"terminate pool {down}", "stop db"]
    assert running.returncode == 1
    assert err.splitlines()[-1].startswith("beamish.application.ApplicationTerminated: the permanent application 'shop' ended")
    assert "never awaited" not in err
    assert "pending" not in err
    assert Killed() != SHUTDOWN


async def test_a_start_that_takes_time(clock: ManualClock) -> None:
    async def later() -> Any:
        me = beamish.current()
        ready = asyncio.Event()
        asyncio.get_running_loop().call_soon(ready.set)
        await ready.wait()
        assert beamish.current() is me
        return []

    await application.start(Tree(later))
    await clock.advance(3600.0)
    assert running() == ["tree"]
    await application.stop(Tree)
