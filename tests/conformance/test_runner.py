"""The tools that the ports stand on: what they must notice, and Elixir's words for our values."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import beamish
from beamish import BadReturn, Crash, Exited, FailedToStart, GenServer, Killed, NoProcess, Shutdown, TimedOut
from conformance import runner, words
from conformance.runner import Difference, apply
from conformance.words import Text, f


class TestApply:
    """The trace that ours must equal: OTP's, with the listed differences."""

    def test_lines_are_replaced_inserted_and_taken_away(self) -> None:
        trace = ["a", "b", "c", "d"]
        assert apply(trace, [Difference(1, ["b"], ["x"], why="w")]) == ["a", "x", "c", "d"]
        assert apply(trace, [Difference(1, ["b", "c"], ["b"], why="w")]) == ["a", "b", "d"]
        assert apply(trace, [Difference(1, ["c"], ["c", "x"], why="w")]) == ["a", "b", "c", "x", "d"]

    def test_in_their_order_so_often_as_they_say(self) -> None:
        trace = ["a", "b", "a", "b", "a"]
        assert apply(trace, [Difference(1, ["a"], ["x"], why="w")]) == ["x", "b", "a", "b", "a"]
        assert apply(trace, [Difference(1, ["a"], ["x"], 2, why="w")]) == ["x", "b", "x", "b", "a"]
        assert apply(trace, [Difference(1, ["a"], ["x"], None, why="w")]) == ["x", "b", "x", "b", "x"]
        one_each = [Difference(1, ["a"], ["x"], why="w"), Difference(2, ["a"], ["y"], why="w")]
        assert apply(trace, one_each) == ["x", "b", "y", "b", "a"]

    def test_one_that_has_no_place_is_an_error(self) -> None:
        for times in (1, None):
            with pytest.raises(AssertionError, match="line 7"):
                apply(["a"], [Difference(7, ["b"], ["x"], times, why="w")])
        with pytest.raises(AssertionError, match="2 times, but are there 1"):
            apply(["a"], [Difference(7, ["a"], ["x"], 2, why="w")])

    def test_one_without_a_reason_is_an_error(self) -> None:
        with pytest.raises(AssertionError, match="needs its reason"):
            apply(["a"], [Difference(7, ["a"], ["x"])])


class TestCompare:
    EXPECTED = (runner.HERE / "strategy_one_for_one_each_position.expected").read_text(encoding="utf-8").splitlines()
    OTHERS = (runner.HERE / "terminate_called_or_not.expected").read_text(encoding="utf-8").splitlines()

    def test_an_unlisted_difference_is_shown(self) -> None:
        assert runner.compare("strategy_one_for_one_each_position", self.EXPECTED) == ""
        shown = runner.compare("strategy_one_for_one_each_position", [*self.EXPECTED[:-1], "terminate a :boom"])
        assert "-terminate a :shutdown" in shown
        assert "+terminate a :boom" in shown

    def test_a_listed_one_that_does_not_occur_is_shown(self) -> None:
        assert "+trap=false cast throws" in runner.compare("terminate_called_or_not", self.OTHERS)


class TestWords:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ("boom", ":boom"),
            ("pid:a", ':"pid:a"'),
            (Text('say "oops"'), '"say \\"oops\\""'),
            (None, "nil"),
            (True, "true"),
            ((1, "a"), "{1, :a}"),
            ([("a", 1), ("b", [])], "[a: 1, b: []]"),
            ([("a", 1), 2], "[{:a, 1}, 2]"),
            ({"b": 1, "a": None}, "%{a: nil, b: 1}"),
            ({Text("a"): 1}, '%{"a" => 1}'),
            (Shutdown(), ":shutdown"),
            (Shutdown("x"), "{:shutdown, :x}"),
            (Shutdown(FailedToStart("a", "why")), "{:shutdown, {:failed_to_start_child, :a, :why}}"),
            ([Killed(), TimedOut()], "[:killed, :timeout]"),
            (Crash(RuntimeError("oops")), '{{:exc, RuntimeError, "oops"}, :STACK}'),
            (Crash(ValueError("oops")), '{{:exc, ArgumentError, "oops"}, :STACK}'),
            (Crash(BadReturn("S.init", "rubbish", "")), "{:bad_return_value, :rubbish}"),
            (
                NoProcess("", server="x", request="('a', 1)", reason=beamish.NOPROC),
                "{:noproc, {GenServer, :call, [:x, {:a, 1}, :infinity]}}",
            ),
            (GenServer, "GenServer"),
            (len, ":FUN"),
        ],
    )
    def test_values(self, value: Any, text: str) -> None:
        assert f(value) == text

    async def test_processes_and_calls(self) -> None:
        server = await words.W("a").start("a")
        pid = server.pid()
        assert f((server, pid, words.W(pid))) == '{:"pid:a", :"pid:a", :"pid:a"}'
        assert f(Exited(pid, "x")) == '{:EXIT, :"pid:a", :x}'
        assert await words.try_(lambda: server.call("ping")) == ("returned", "pong")
        await server.stop()
        assert f((server, pid)) == "{:PID, :PID}"
        asked = await words.try_(lambda: server.with_timeout(0.3).call(("stop", "boom")))
        assert f(asked) == "{:exited, {:noproc, {GenServer, :call, [:a, {:stop, :boom}, 300]}}}"


def test_a_scenario_that_waits_for_ever_is_an_error() -> None:
    async def drive() -> None:
        task = asyncio.create_task(words.forever())
        with pytest.raises(AssertionError, match="waits for ever"):
            await words.VirtualClock().drive(task)

    asyncio.run(drive())
