"""Agents: functions that run on a state in a process of its own. The trace of OTP itself is in tests/conformance."""

from __future__ import annotations

import asyncio
import operator
from typing import Any

import pytest

import beamish
from beamish import (
    NORMAL,
    Agent,
    AlreadyStarted,
    BadReturn,
    CallingSelf,
    CallTimeout,
    Crash,
    Deadlock,
    Exit,
    GenServer,
    NoProcess,
    Reply,
    ServerDown,
    StartError,
    Stop,
    call,
    down,
    supervise,
    sys,
)
from beamish.testing import ManualClock, World, capture_crashes, settle
from conftest import both_roads


async def _boom(state: Any) -> Any:
    await asyncio.sleep(0)
    raise ValueError("boom")


def boom(state: Any) -> Any:
    raise ValueError("boom")


class TestStart:
    @both_roads
    async def test_the_first_function_runs_in_the_agent_and_makes_the_state(self, inline: bool) -> None:
        agent = await Agent[beamish.Pid].start_link(beamish.current)
        assert await agent.get(lambda pid: pid) == agent.pid() != beamish.current()
        await agent.stop()

    async def test_arguments_follow_the_function(self) -> None:
        agent = await Agent[dict[str, int]].start_link(dict, [("a", 1)], b=2)
        assert await agent.get(lambda state: state) == {"a": 1, "b": 2}
        await agent.stop()

    async def test_it_may_be_async(self) -> None:
        async def make(n: int) -> int:
            await asyncio.sleep(0)
            return n

        agent = await Agent[int]("n").start_link(make, 3)
        assert await agent.get(lambda n: n) == 3
        await agent.stop()

    async def test_one_that_fails_is_a_failed_start(self) -> None:
        with capture_crashes() as reports:
            for make in (boom, _boom):
                with pytest.raises(StartError, match="boom") as failed:
                    await Agent[int]("n").start(make, 0)
                assert isinstance(failed.value.reason, Crash)
        assert len(reports) == 2
        assert beamish.whereis("n") is None

    async def test_exit_in_it_is_the_reason(self) -> None:
        def leave() -> int:
            raise Exit("full")

        with capture_crashes(), pytest.raises(StartError) as failed:
            await Agent[int].start(leave)
        assert failed.value.reason == "full"

    async def test_a_taken_name(self) -> None:
        agent = await Agent[int]("n").start_link(lambda: 0)
        with pytest.raises(AlreadyStarted) as taken:
            await Agent[int]("n").start_link(lambda: 1)
        assert taken.value.address == agent
        await agent.stop()

    async def test_a_value_in_place_of_the_function_says_what_to_write(self) -> None:
        with capture_crashes(), pytest.raises(StartError, match=r"Agent\.start_link\(lambda: …\)\. Got: 0"):
            await Agent[int].start(0)  # type: ignore[arg-type]

    async def test_whatever_it_returns_is_the_state(self) -> None:
        stop = Stop("not meant")
        agent = await Agent[Any].start_link(lambda: stop)
        assert await agent.get(lambda state: state is stop)

        async def later() -> Any:
            return stop

        other = await Agent[Any].start_link(later)
        assert await other.get(lambda state: state is stop)
        await agent.stop()
        await other.stop()


class TestGet:
    @both_roads
    async def test_what_the_function_returns(self, inline: bool) -> None:
        agent = await Agent[list[int]]("n").start_link(lambda: [1, 2])
        assert await agent.get(len) == 2
        assert await agent.get(operator.getitem, 0) == 1
        assert await agent.get(sorted, reverse=True) == [2, 1]
        assert await agent.get(lambda _: beamish.current()) == agent.pid()
        assert await agent.get(lambda state: state) == [1, 2]
        await agent.stop()

    async def test_whatever_it_returns_is_the_reply(self) -> None:
        agent = await Agent[int].start_link(lambda: 0)
        stop = Stop("not meant")
        assert await agent.get(lambda _: stop) is stop
        assert await agent.get_and_update(lambda n: (stop, n + 1)) is stop
        assert await agent.get(lambda n: n) == 1
        await agent.stop()

    async def test_an_async_function_keeps_the_others_waiting(self) -> None:
        agent = await Agent[list[str]].start_link(lambda: ["first"])
        gate = asyncio.Event()

        async def slowly(state: list[str], more: str) -> list[str]:
            await gate.wait()
            state.append(more)
            return list(state)

        slow, quick = asyncio.ensure_future(agent.get(slowly, "slow")), asyncio.ensure_future(agent.get(list))
        await settle()
        assert not quick.done()
        gate.set()
        assert await slow == await quick == ["first", "slow"]
        await agent.stop()


class TestUpdate:
    @both_roads
    async def test_what_the_function_returns_is_the_new_state(self, inline: bool) -> None:
        agent = await Agent[int]("n").start_link(lambda: 1)
        done: object = await agent.update(lambda n: n + 1)
        assert done is None
        await agent.update(operator.add, 40)
        assert await agent.get(lambda n: n) == 42
        await agent.update(lambda n: None)  # type: ignore[arg-type, return-value]
        assert await agent.get(lambda n: n) is None
        await agent.stop()

    async def test_async(self) -> None:
        async def later(n: int) -> int:
            await asyncio.sleep(0)
            return n + 1

        agent = await Agent[int].start_link(lambda: 1)
        await agent.update(later)
        agent.cast(later)
        assert await agent.get(lambda n: n) == 3
        await agent.stop()

    async def test_a_function_that_kills_its_own_agent_leaves_no_state_behind(self) -> None:
        agent = await Agent[Any].start(lambda: "old")
        process: Any = agent.pid()

        def kill(state: str) -> str:
            try:
                beamish.exit(beamish.current(), beamish.KILL)
            except asyncio.CancelledError:
                return "new"
            return "not reached"

        with pytest.raises(ServerDown):
            await agent.update(kill)
        assert process.state is None

    async def test_suspended_when_it_is_killed(self) -> None:
        agent = await Agent[int].start(lambda: 0)

        async def wait(n: int) -> int:
            await asyncio.get_running_loop().create_future()
            return n

        waiting = asyncio.ensure_future(agent.update(wait))
        await settle()
        beamish.exit(agent, beamish.KILL)
        with pytest.raises(ServerDown):
            await waiting


class TestGetAndUpdate:
    @both_roads
    async def test_the_reply_and_the_new_state(self, inline: bool) -> None:
        agent = await Agent[dict[str, str]]("d").start_link(dict)
        await agent.update(lambda state: {**state, "hello": "world"})
        assert await agent.get_and_update(lambda state: (state.pop("hello"), state)) == "world"
        assert await agent.get(dict) == {}
        assert await agent.get_and_update(lambda state, key: (key, {key: "x"}), "k") == "k"
        assert await agent.get(dict) == {"k": "x"}
        await agent.stop()

    async def test_async(self) -> None:
        async def later(n: int) -> tuple[str, int]:
            await asyncio.sleep(0)
            return str(n), n + 1

        agent = await Agent[int].start_link(lambda: 1)
        assert (await agent.get_and_update(later), await agent.get(lambda n: n)) == ("1", 2)
        await agent.stop()

    @pytest.mark.parametrize("answer", ["bad", ("reply",), ("reply", 1, 2), [1, 2], None])
    async def test_anything_but_a_pair_ends_the_agent(self, answer: Any) -> None:
        agent = await Agent[Any].start(lambda: 0)
        with capture_crashes(), pytest.raises(ServerDown, match=r"a tuple \(reply, new state\)") as failed:
            await agent.get_and_update(lambda _: answer)
        reason = failed.value.reason
        assert isinstance(reason, Crash)
        assert isinstance(reason.error, BadReturn)
        assert reason.error.value == answer


class TestCast:
    async def test_is_an_update_nobody_waits_for(self) -> None:
        agent = await Agent[int]("n").start_link(lambda: 1)
        done: object = agent.cast(lambda n: n + 1)
        assert done is None
        agent.cast(operator.mul, 10)
        assert await agent.get(lambda n: n) == 20  # in the order in which they were sent
        await agent.stop()

    async def test_to_nobody_is_nothing(self) -> None:
        Agent[int]("nobody").cast(lambda n: n)

    async def test_a_crash_is_told_to_monitors_only(self) -> None:
        agent = await Agent[int].start(lambda: 1)
        ref = beamish.monitor(agent)
        with capture_crashes():
            agent.cast(boom)
            reason = (await down(ref)).reason
        assert isinstance(reason, Crash)
        assert isinstance(reason.error, ValueError)


class TestFailures:
    @both_roads
    @pytest.mark.parametrize("verb", ["get", "update", "get_and_update"])
    @pytest.mark.parametrize("function", [boom, _boom], ids=["def", "async"])
    async def test_a_function_that_raises_ends_the_agent_and_its_caller_gets_the_error(
        self, inline: bool, verb: str, function: Any
    ) -> None:
        agent = await Agent[int]("n").start(lambda: 1)
        ref = beamish.monitor(agent)
        with capture_crashes(), pytest.raises(ServerDown) as failed:
            await getattr(agent, verb)(function)
        assert isinstance(failed.value.__cause__, ValueError)
        assert f"Agent('n') did not answer {verb}(" in str(failed.value)
        assert (await down(ref)).reason == failed.value.reason

    async def test_exit_in_a_function_is_the_reason(self) -> None:
        agent = await Agent[int].start(lambda: 1)

        def leave(state: int) -> int:
            raise Exit("gone")

        with capture_crashes(), pytest.raises(ServerDown) as failed:
            await agent.get(leave)
        assert failed.value.reason == "gone"

    async def test_a_failed_update_changes_nothing_in_the_report(self) -> None:
        agent = await Agent[int].start(lambda: 1)
        with capture_crashes() as reports, pytest.raises(ServerDown):
            await agent.update(lambda n, by: n // by, 0)
        (report,) = reports
        assert report.state == 1  # type: ignore[attr-defined]
        assert "<lambda>" in report.last_message  # type: ignore[attr-defined]
        assert " with 0)" in report.last_message  # type: ignore[attr-defined]

    async def test_a_late_one(self, clock: ManualClock) -> None:
        agent = await Agent[int].start_link(lambda: 1)
        gate = asyncio.Event()

        async def slowly(n: int) -> int:
            await gate.wait()
            return n + 1

        asking = asyncio.ensure_future(agent.with_timeout(0.02).update(slowly))
        await clock.advance(0.02)
        with pytest.raises(CallTimeout):
            await asking
        patient = asyncio.ensure_future(agent.get(lambda n: n))
        await clock.advance(4.9)
        assert not patient.done()
        gate.set()
        assert await patient == 2  # it went on
        await agent.stop()

    async def test_five_seconds_by_default(self, clock: ManualClock) -> None:
        agent = await Agent[int].start_link(lambda: 1)
        asking = asyncio.ensure_future(agent.get(lambda n: asyncio.sleep(3600)))  # real time: never to its end
        await clock.advance(5.0)
        with pytest.raises(CallTimeout, match=r"within 5\.0 s"):
            await asking
        beamish.exit(agent, beamish.KILL)

    async def test_nobody_there(self) -> None:
        agent = await Agent[int]("n").start_link(lambda: 1)
        await agent.stop()
        with pytest.raises(NoProcess):
            await agent.get(lambda n: n)

    async def test_an_agent_that_asks_itself(self) -> None:
        agent = await Agent[int].start(lambda: 1)
        with capture_crashes(), pytest.raises(ServerDown) as failed:
            await agent.get(lambda n: agent.get(lambda n: n))
        assert isinstance(failed.value.__cause__, CallingSelf)

    async def test_two_that_ask_each_other(self) -> None:
        one, other = await Agent[int].start(lambda: 1), await Agent[int].start(lambda: 2)
        with capture_crashes(), pytest.raises(ServerDown) as failed:
            await one.get(lambda n: other.get(lambda m: one.get(lambda n: n)))
        assert isinstance(failed.value.__cause__, ServerDown)
        assert isinstance(failed.value.__cause__.__cause__, Deadlock)
        beamish.exit(other, beamish.KILL)

    @pytest.mark.parametrize("verb", ["get", "update", "get_and_update", "cast"])
    async def test_a_value_in_place_of_a_function_is_refused_before_anything_is_sent(self, verb: str) -> None:
        agent = await Agent[int]("n").start_link(lambda: 1)
        with pytest.raises(TypeError, match=rf"Agent\('n'\)\.{verb}\(lambda state: .*Got: 7"):
            getattr(agent, verb)(7)
        assert await agent.get(lambda n: n) == 1
        await agent.stop()


class TestTheAgent:
    async def test_ignores_messages(self) -> None:
        agent = await Agent[int].start_link(lambda: 1)
        with capture_crashes() as reports:
            beamish.send(agent, "whatever")
            assert await agent.get(lambda n: n) == 1
        assert reports == []
        await agent.stop()

    async def test_stops_with_a_reason(self) -> None:
        agent = await Agent[int].start(lambda: 1)
        ref = beamish.monitor(agent)
        await agent.stop()
        assert (await down(ref)).reason == NORMAL

    async def test_is_supervised_directly(self) -> None:
        counter = Agent[int]("counter")
        async with supervise([counter.child_spec(lambda: 0), Agent[str].child_spec(lambda: "")]) as tree:
            assert [one.id for one in await tree.which_children()] == [Agent, "counter"]
            await counter.update(lambda n: n + 1)
            with capture_crashes(), pytest.raises(ServerDown):
                await counter.get(boom)
            assert await counter.get(lambda n: n) == 0  # started again, by its first function

    async def test_sys_sees_the_state_itself(self) -> None:
        agent = await Agent[int].start_link(lambda: 1)
        await agent.update(lambda n: n + 1)
        assert await sys.get_state(agent) == 2
        await sys.replace_state(agent, lambda n: n * 10)
        assert await agent.get(lambda n: n) == 20
        await agent.stop()

    async def test_one_may_call_another_server(self, world: World) -> None:
        class Prices(GenServer[dict[str, int]]):
            def init(self) -> dict[str, int]:
                return {"tea": 3}

            @call
            def of(self, state: dict[str, int], what: str) -> int:
                return state[what]

        prices = await world.start_supervised(Prices("prices").child_spec())
        total = await world.start_supervised(Agent[int]("total").child_spec(lambda: 0))

        async def buy(sum: int, what: str) -> int:
            return sum + await prices.of(what)

        await total.update(buy, "tea")
        assert await total.get(lambda sum: sum) == 3


class TestAWorkflow:
    async def test_linked_anonymous_with_functions(self) -> None:
        beamish.current()  # a process, so that the link has two ends
        agent = await Agent[dict[str, str]].start_link(dict)
        me = beamish.info()
        assert me is not None
        assert agent.pid() in me.links
        await agent.update(lambda state: {**state, "hello": "world"})
        assert await agent.with_timeout(3.0).get(lambda state: state["hello"]) == "world"
        assert await agent.with_timeout(3.0).get_and_update(lambda state: (state["hello"], {})) == "world"
        assert await agent.get(lambda state: state) == {}
        await agent.stop()
        assert agent.pid() is None

    async def test_not_linked_named_with_functions_and_their_arguments(self) -> None:
        def put(state: dict[str, str], key: str, value: str) -> dict[str, str]:
            return {**state, key: value}

        def pop(state: dict[str, str], key: str) -> tuple[str, dict[str, str]]:
            return state.pop(key), state

        agent = Agent[dict[str, str]]("agent")
        await agent.start(dict)
        pid = agent.pid()
        assert pid is not None
        found = beamish.info(pid)
        assert found is not None
        assert found.registered_name == "agent"
        agent.cast(put, "hello", value="world")
        assert await agent.get(dict.get, "hello") == "world"
        assert await agent.get_and_update(pop, "hello") == "world"
        assert await agent.get(lambda state: state) == {}
        await agent.stop()
        assert beamish.info(pid) is None

    async def test_new_code_gives_a_new_state_by_a_function(self) -> None:
        agent = await Agent[dict[str, str]].start_link(dict)
        await sys.suspend(agent)
        await sys.change_code(agent, "1.0", lambda state: {**state, "hello": "world"})
        await sys.resume(agent)
        assert await agent.get(lambda state: state["hello"]) == "world"
        await agent.stop()

    async def test_a_function_that_raises_leaves_the_old_state(self) -> None:
        agent = await Agent[dict[str, str]].start_link(dict)
        await sys.suspend(agent)
        with pytest.raises(ValueError, match="boom"):
            await sys.change_code(agent, "1.0", boom)
        await sys.resume(agent)
        assert await agent.get(lambda state: state) == {}
        await agent.stop()


class Numbers(Agent[int], restart="transient", shutdown=1.0):
    """Gives out numbers."""

    async def next(self) -> int:
        return await self.get_and_update(lambda n: (n, n + 1))

    @call
    def twice(self, state: int) -> beamish.Answer[int]:
        return Reply(state * 2, state=state + 1)


class TestADerivedClass:
    def test_its_child_spec(self) -> None:
        spec = Numbers("n").child_spec(int, "5")
        assert (spec.id, spec.start, spec.args, spec.restart, spec.shutdown) == ("n", Numbers, (int, "5"), "transient", 1.0)
        assert Numbers.child_spec(int).id is Numbers
        assert Numbers.child_spec(int).replace(id="other", restart="temporary", shutdown=None).shutdown is None

    async def test_has_methods_and_calls_of_its_own(self) -> None:
        numbers = await Numbers("n").start_link(int, "5")
        assert [await numbers.next(), await numbers.next()] == [5, 6]
        assert await numbers.twice() == 14
        assert await numbers.next() == 8
        await numbers.stop()

    def test_the_verbs_are_plain_methods_with_signatures_and_words(self) -> None:
        assert Agent.get.__doc__ is not None
        assert Agent.get.__qualname__ == "Agent.get"
        assert Agent.update.__annotations__["return"] == "CoroutineType[Any, Any, None]"
