"""Telemetry through its public face: who hears what, in which order, and what becomes of a handler that fails."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import beamish
from beamish import GenServer, call, telemetry
from beamish.telemetry import AlreadyAttached, Handler, attach, attach_many, detach, event, execute, list_handlers, span
from beamish.testing import World

Heard = list[tuple[Any, dict[str, Any], dict[str, Any], Any]]


@pytest.fixture(autouse=True)
def clean_table() -> Iterator[None]:
    """The table is one for the program: each test leaves it as it found it."""
    before = list_handlers()
    yield
    for handler in list_handlers():
        if handler not in before:
            detach(handler.id)


@pytest.fixture
def heard() -> Heard:
    return []


def ear(heard: Heard) -> telemetry.HandlerFunction:
    """A handler that writes down what it hears."""

    def hear(name: Any, measurements: Any, metadata: Any, config: Any) -> None:
        heard.append((name, dict(measurements), dict(metadata), config))

    return hear


def fail(name: Any, measurements: Any, metadata: Any, config: Any) -> None:
    raise ValueError("oops")


class TestExecute:
    def test_a_handler_gets_event_measurements_metadata_and_config(self, heard: Heard) -> None:
        attach("a", ("x", "y"), ear(heard), "config")
        execute(("x", "y"), {"v": 1}, {"k": 2})
        assert heard == [(("x", "y"), {"v": 1}, {"k": 2}, "config")]

    def test_a_dotted_name_means_the_same(self, heard: Heard) -> None:
        attach("a", "x.y", ear(heard))
        execute(("x", "y"))
        execute("x.y", {"v": 1})
        execute(["x", "y"], metadata={"k": 2})
        assert heard == [
            (("x", "y"), {}, {}, None),
            (("x", "y"), {"v": 1}, {}, None),
            (("x", "y"), {}, {"k": 2}, None),
        ]

    def test_a_number_is_the_measurement_called_value(self, heard: Heard) -> None:
        attach("a", "x", ear(heard))
        execute("x", 7)
        execute("x", 2.5)
        assert [measurements for _, measurements, _, _ in heard] == [{"value": 7}, {"value": 2.5}]

    def test_the_match_is_exact(self, heard: Heard) -> None:
        attach("a", "x.y", ear(heard))
        for name in ("x", "x.y.z", "y", "x.z", "nobody"):
            execute(name)
        assert heard == []

    def test_each_handler_once_in_the_order_of_attaching(self) -> None:
        order: list[str] = []
        for id in ("first", "second", "third"):
            attach(id, "x", lambda *_, id=id: order.append(id))
        execute("x")
        assert order == ["first", "second", "third"]
        detach("first")
        attach("first", "x", lambda *_: order.append("first again"))
        order.clear()
        execute("x")
        assert order == ["second", "third", "first again"]

    def test_one_function_under_two_ids_runs_twice(self, heard: Heard) -> None:
        attach("a", "x", ear(heard), 1)
        attach("b", "x", ear(heard), 2)
        execute("x")
        assert [config for *_, config in heard] == [1, 2]

    @pytest.mark.parametrize("bad", ["", (), [], "a..b", ".a", "a.", ("a", ""), ("a", 1), (None,)])
    def test_a_bad_name_is_refused_with_the_value(self, bad: Any) -> None:
        for use in (execute, event, lambda name: attach("q", name, fail)):
            with pytest.raises(ValueError, match="an event is named") as error:
                use(bad)
            assert repr(bad) in str(error.value)
        assert list_handlers("q") == []

    @pytest.mark.parametrize("bad", [None, 5, 1.5, object()])
    def test_what_is_no_name_at_all_is_refused_too(self, bad: Any) -> None:
        for use in (execute, event, lambda name: attach("q", name, fail)):
            with pytest.raises((TypeError, ValueError)):
                use(bad)

    @pytest.mark.parametrize("bad", ["nope", None, [("v", 1)], object()])
    def test_measurements_that_are_neither_a_mapping_nor_a_number_are_refused(self, bad: Any, heard: Heard) -> None:
        attach("a", "x", ear(heard))
        with pytest.raises(TypeError):
            execute("x", bad)
        assert heard == []
        assert [handler.id for handler in list_handlers("x")] == ["a"], "the emitter's mistake is not the handler's"


class TestAttach:
    def test_a_taken_id_is_refused_and_nothing_changes(self, heard: Heard) -> None:
        attach("a", "x", ear(heard), "first")
        with pytest.raises(AlreadyAttached, match="'a'"):
            attach("a", "other", ear(heard), "second")
        with pytest.raises(ValueError):
            attach_many("a", ["x", "y"], ear(heard))
        execute("x")
        execute("other")
        assert [config for *_, config in heard] == ["first"]

    def test_what_is_no_function_is_refused(self) -> None:
        with pytest.raises(TypeError, match="telemetry handler"):
            attach("a", "x", "print")  # type: ignore[arg-type]
        assert list_handlers("x") == []

    def test_attach_many_is_one_id_for_many_events(self, heard: Heard) -> None:
        attach_many("m", ["m.one", ("m", "two")], ear(heard), "config")
        assert [(handler.id, handler.event) for handler in list_handlers("m")] == [("m", ("m", "one")), ("m", ("m", "two"))]
        execute("m.one")
        execute("m.two")
        assert [name for name, *_ in heard] == [("m", "one"), ("m", "two")]
        assert detach("m") is True
        assert list_handlers("m") == []
        execute("m.one")
        assert len(heard) == 2

    def test_attach_many_with_one_bad_name_attaches_nothing(self, heard: Heard) -> None:
        with pytest.raises(ValueError):
            attach_many("m", ["good", "bad..name"], ear(heard))
        execute("good")
        assert heard == []
        attach("m", "good", ear(heard))  # the id is free

    def test_an_event_named_twice_is_heard_twice_and_detached_once(self, heard: Heard) -> None:
        attach_many("m", ["x", ("x",)], ear(heard))
        execute("x")
        assert len(heard) == 2
        detach("m")
        execute("x")
        assert len(heard) == 2

    def test_detaching_says_whether_there_was_one(self, heard: Heard) -> None:
        attach("a", "x", ear(heard))
        assert detach("a") is True
        assert detach("a") is False
        assert detach("never attached") is False

    def test_any_hashable_is_an_id(self, heard: Heard) -> None:
        attach(("me", 1), "x", ear(heard))
        assert [handler.id for handler in list_handlers("x")] == [("me", 1)]
        assert detach(("me", 1)) is True

    def test_list_handlers_by_prefix(self, heard: Heard) -> None:
        one, other = ear(heard), ear(heard)
        attach("a", "x.y", one, "config")
        attach("b", "x.z.w", other, keep=True)
        attach("c", "xx", other)
        assert list_handlers("x") == [Handler("a", ("x", "y"), one, "config"), Handler("b", ("x", "z", "w"), other, None, True)]
        assert [handler.id for handler in list_handlers(("x", "z"))] == ["b"]
        assert {"a", "b", "c"} <= {handler.id for handler in list_handlers()}
        assert list_handlers("nobody") == []


class TestGuard:
    def test_an_event_is_one_object_and_says_whether_anybody_listens(self, heard: Heard) -> None:
        fetch = event("search_cache.fetch")
        assert event(("search_cache", "fetch")) is fetch
        assert not fetch.handlers
        attach("a", "search_cache.fetch", ear(heard), "config")
        assert fetch.handlers
        fetch.execute({"hit": 1}, {"query": "otp"})
        detach("a")
        assert not fetch.handlers
        fetch.execute({"hit": 1})
        assert heard == [(("search_cache", "fetch"), {"hit": 1}, {"query": "otp"}, "config")]
        assert "search_cache.fetch" in repr(fetch)


class TestFailingHandlers:
    def test_it_is_detached_from_all_its_events_and_the_others_run(self, heard: Heard, caplog: pytest.LogCaptureFixture) -> None:
        attach_many("bad", ["e.one", "e.two"], fail, "its config")
        attach("good", "e.one", ear(heard))
        with caplog.at_level(logging.ERROR, "beamish.telemetry"):
            execute("e.one", {"v": 1})
        assert [name for name, *_ in heard] == [("e", "one")]
        assert [handler.id for handler in list_handlers("e")] == ["good"]
        assert not event("e.two").handlers
        (record,) = caplog.records
        assert record.name == "beamish.telemetry"
        assert record.levelno == logging.ERROR
        assert "'bad'" in record.getMessage()
        assert "e.one" in record.getMessage()
        assert "detached" in record.getMessage()
        assert record.exc_info is not None
        assert isinstance(record.exc_info[1], ValueError)

    def test_an_event_tells_of_it(self, heard: Heard, caplog: pytest.LogCaptureFixture) -> None:
        attach("watch", "telemetry.handler.failure", ear(heard))
        attach("bad", "e.one", fail, "its config")
        execute("e.one")
        ((name, measurements, metadata, _),) = heard
        assert name == ("telemetry", "handler", "failure")
        assert set(measurements) == {"monotonic_time", "system_time"}
        assert isinstance(metadata.pop("reason"), ValueError)
        assert metadata.pop("stacktrace") is not None
        assert metadata == {"event_name": ("e", "one"), "handler_id": "bad", "handler_config": "its config", "kind": "error"}

    def test_a_kept_one_stays_and_is_told_of_each_time(self, heard: Heard, caplog: pytest.LogCaptureFixture) -> None:
        attach("watch", "telemetry.handler.failure", ear(heard))
        attach("bad", "e.one", fail, keep=True)
        execute("e.one")
        execute("e.one")
        assert [handler.id for handler in list_handlers("e")] == ["bad"]
        assert len(heard) == 2
        assert "kept" in caplog.text

    def test_a_failing_failure_handler_does_not_call_itself(self, heard: Heard, caplog: pytest.LogCaptureFixture) -> None:
        attach("worse", "telemetry.handler.failure", fail, keep=True)
        attach("watch", "telemetry.handler.failure", ear(heard))
        attach("bad", "e.one", fail)
        execute("e.one")
        assert len(heard) == 1
        assert len(caplog.records) == 2

    def test_what_ends_the_program_is_not_swallowed(self, heard: Heard) -> None:
        def interrupt(*_: Any) -> None:
            raise KeyboardInterrupt

        attach("a", "x", interrupt)
        with pytest.raises(KeyboardInterrupt):
            execute("x")
        assert [handler.id for handler in list_handlers("x")] == ["a"]


class TestWhileExecuting:
    def test_a_handler_attached_meanwhile_hears_the_next(self, heard: Heard) -> None:
        attach("a", "x", lambda *_: list_handlers("x")[1:] or attach("b", "x", ear(heard)))
        execute("x")
        assert heard == []
        execute("x")
        assert len(heard) == 1

    def test_a_handler_detached_meanwhile_may_hear_this_one_and_no_more(self, heard: Heard) -> None:
        attach("a", "x", lambda *_: detach("b"))
        attach("b", "x", ear(heard))
        execute("x")
        before = len(heard)
        execute("x")
        assert len(heard) == before <= 1

    def test_a_handler_may_detach_itself(self, heard: Heard) -> None:
        def once(name: Any, *_: Any) -> None:
            detach("once")
            heard.append((name, {}, {}, None))

        attach("once", "x", once)
        attach("after", "x", ear(heard))
        execute("x")
        execute("x")
        assert len(heard) == 3

    def test_a_handler_may_execute_other_events(self, heard: Heard) -> None:
        attach("a", "x", lambda *_: execute("y", {"inner": 1}))
        attach("b", "x", ear(heard))
        attach("c", "y", ear(heard))
        execute("x")
        assert [name for name, *_ in heard] == [("y",), ("x",)]


class TestSpan:
    @pytest.fixture(autouse=True)
    def listen(self, heard: Heard) -> None:
        attach_many("s", ["s.start", "s.stop", "s.exception"], ear(heard))

    def test_start_and_stop(self, heard: Heard) -> None:
        with span("s", {"a": 1}) as s:
            s.stop({"bytes": 3, "duration": "cannot override"}, {"b": 2})
        (start, begun, start_facts, _), (stop, ended, stop_facts, _) = heard
        assert (start, stop) == (("s", "start"), ("s", "stop"))
        assert set(begun) == {"monotonic_time", "system_time"}
        assert set(ended) == {"bytes", "duration", "monotonic_time"}
        assert isinstance(ended["duration"], float)
        assert ended["duration"] == ended["monotonic_time"] - begun["monotonic_time"] >= 0
        context = start_facts.pop("telemetry_span_context")
        assert stop_facts.pop("telemetry_span_context") == context
        assert start_facts == {"a": 1}
        assert stop_facts == {"b": 2}

    def test_an_error_is_told_and_raised(self, heard: Heard) -> None:
        error = ValueError("oops")
        with pytest.raises(ValueError, match="oops") as raised, span("s", {"a": 1}):
            raise error
        assert raised.value is error
        (_, _, start_facts, _), (name, measurements, facts, _) = heard
        assert name == ("s", "exception")
        assert set(measurements) == {"duration", "monotonic_time"}
        assert facts["reason"] is error
        assert facts["kind"] == "error"
        assert facts["a"] == 1
        assert facts["telemetry_span_context"] == start_facts["telemetry_span_context"]

    def test_an_exit_and_a_cancellation_are_exits(self, heard: Heard) -> None:
        for error in (beamish.Exit("bye"), asyncio.CancelledError(), SystemExit(1)):
            heard.clear()
            with pytest.raises(type(error)), span("s"):
                raise error
            assert heard[1][2]["kind"] == "exit", error

    def test_an_exit_is_told_by_its_reason_a_failed_call_by_itself(self, heard: Heard) -> None:
        for error, reason in ((beamish.Exit("bye"), "bye"), (failed := beamish.NoProcess("nobody"), failed)):
            heard.clear()
            with pytest.raises(type(error)), span("s"):
                raise error
            assert (heard[1][2]["kind"], heard[1][2]["reason"]) == ("exit", reason)

    def test_the_context_is_new_each_time_unless_the_caller_brings_one(self, heard: Heard) -> None:
        with span("s"), span("s"):
            pass
        first, second, *rest = [facts["telemetry_span_context"] for _, _, facts, _ in heard]
        assert rest == [second, first]
        assert first != second
        heard.clear()
        with span("s", {"telemetry_span_context": "mine"}):
            pass
        assert [facts["telemetry_span_context"] for _, _, facts, _ in heard] == ["mine", "mine"]

    def test_a_bad_name_is_refused_before_the_block(self) -> None:
        ran = []
        with pytest.raises(ValueError), span(""):
            ran.append(1)
        assert ran == []


class TestThreads:
    def test_attaching_in_many_threads_loses_nobody(self) -> None:
        """The same event, attached to and detached from by all: at the end exactly those who stayed listen."""
        rounds, threads = 300, 8
        start = threading.Barrier(threads)
        errors: list[BaseException] = []

        def work(number: int) -> None:
            try:
                start.wait()
                for index in range(rounds):
                    attach(("t", number, index), "threads.event", lambda *_: None)
                    if index % 3:
                        assert detach(("t", number, index)) is True
            except BaseException as error:
                errors.append(error)

        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
        finally:
            sys.setswitchinterval(interval)
        assert errors == []
        stayed = {("t", number, index) for number in range(threads) for index in range(0, rounds, 3)}
        assert {handler.id for handler in event("threads.event").handlers} == stayed
        assert {handler.id for handler in list_handlers("threads")} == stayed

    def test_one_id_raced_for_is_had_by_one(self) -> None:
        start = threading.Barrier(8)
        won: list[int] = []

        def work(number: int) -> None:
            start.wait()
            for index in range(200):
                try:
                    attach(("raced", index), "threads.race", lambda *_: None, number)
                    won.append(index)
                except AlreadyAttached:
                    pass

        workers = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert sorted(won) == list(range(200))
        assert len(event("threads.race").handlers) == 200

    def test_a_handler_runs_in_the_emitters_thread(self) -> None:
        where: list[int] = []
        attach("a", "x", lambda *_: where.append(threading.get_ident()))
        thread = threading.Thread(target=lambda: execute("x"))
        thread.start()
        thread.join()
        execute("x")
        assert len(set(where)) == 2
        assert where[1] == threading.get_ident()


class Server(GenServer[int]):
    def init(self) -> int:
        return 0

    @call
    def get(self, state: int) -> int:
        return state


async def test_the_handler_runs_in_the_process_that_executes(world: World) -> None:
    who: list[Any] = []
    attach("who", "who", lambda *_: who.append(beamish.current()))
    execute("who")
    assert who == [beamish.current()]


async def test_calls_of_servers_are_spans_while_somebody_listens(world: World, heard: Heard) -> None:
    server = await world.start_supervised(Server.child_spec())
    await server.get()
    attach_many("calls", ["beamish.gen_server.call.start", "beamish.gen_server.call.stop"], ear(heard))
    await server.get()
    detach("calls")
    await server.get()
    assert [name[-1] for name, *_ in heard] == ["start", "stop"]
    for _, _, facts, _ in heard:
        assert facts["server"] == server
        assert facts["request"] == "get"
