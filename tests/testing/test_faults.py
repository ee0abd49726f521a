"""What a simulation lets go wrong where it is asked to: at points that it chooses, as the runtime itself would, and nothing else."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import beamish
from beamish import KILLED, NOPROC, CallTimeout, Crash, GenServer, NoProcess, ServerDown, Supervisor, call, cast
from beamish._runtime.node import NODES
from beamish._runtime.process import TaskProcess
from beamish.testing import World, capture_crashes
from beamish.testing._choosers import ODDS, Random
from beamish.testing._faults import DEATHS, InjectedCrash
from beamish.testing._simulate import Run, run_once, simulate


class Counter(GenServer[list[int]]):
    def init(self) -> list[int]:
        return [0]

    @call
    def add(self, state: list[int], n: int) -> int:
        state[0] += n
        return state[0]

    @call
    async def add_later(self, state: list[int], n: int) -> int:
        await asyncio.sleep(1.0)
        state[0] += n
        return state[0]

    @cast
    def up(self, state: list[int]) -> None:
        state[0] += 1


class Told(GenServer[None]):
    """Tells a test's process what it was asked."""

    @call
    def ask(self, state: None, whom: beamish.Pid, what: object) -> object:
        beamish.send(whom, what)
        return what


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """More of them than usual, so that few seeds are enough."""
    for kind, odds in {"inline": 0.5, "crash": 0.2, "late": 0.2, "slow": 0.2, "kill": 0.03}.items():
        monkeypatch.setitem(ODDS, kind, odds)


Test = Callable[[World], Awaitable[object]]


def runs(test: Test, *faults: str, seeds: int = 200) -> list[Run]:
    """The runs of many seeds. None may fail."""
    with capture_crashes():
        found = [run_once(test, Random(seed), frozenset(faults)) for seed in range(seeds)]
    for run in found:
        if run.error is not None:
            raise run.error
    return found


def lines(found: list[Run], *words: str) -> int:
    """In how many runs a line has all of these words."""
    return sum(any(all(word in line for word in words) for line in run.lines) for run in found)


async def reply_of(question: Awaitable[Any]) -> Any:
    try:
        return await question
    except (ServerDown, NoProcess, CallTimeout) as error:
        return error


class TestCrash:
    def test_a_handler_raises_before_or_after_it_has_done_its_work_and_its_supervisor_restarts_it(self) -> None:
        heard: list[tuple[object, list[object]]] = []

        async def test(world: World) -> None:
            told = await world.start_supervised(Told("told").child_spec())
            reply = await reply_of(told.ask(beamish.current(), "one"))
            try:
                heard.append((reply, [await beamish.receive(timeout=0.0)]))
            except TimeoutError:
                heard.append((reply, []))
            await told.started()

        runs(test, "crash")
        down = [(type(reply.reason.error), mail) for reply, mail in heard if isinstance(reply, ServerDown)]
        assert (InjectedCrash, []) in down
        assert (InjectedCrash, ["one"]) in down
        assert {(reply, *mail) for reply, mail in heard if not isinstance(reply, ServerDown)} == {("one", "one")}

    def test_also_of_an_async_one_and_the_report_shows_the_message(self) -> None:
        async def test(world: World) -> None:
            counter = await world.start_supervised(Counter("counter").child_spec())
            with capture_crashes() as reports:
                reply = await reply_of(counter.add_later(1))
            if isinstance(reply, ServerDown):
                assert isinstance(reply.reason, Crash)
                assert [one.last_message for one in reports if one.name == "beamish.gen_server"] == ["add_later(1)"]

        found = runs(test, "crash")
        assert lines(found, "counter handles add_later(1), and crashes") > 0

    def test_a_server_that_nobody_supervises_is_left_alone(self) -> None:
        async def test(world: World) -> None:
            counter = await Counter("counter").start()
            assert [await counter.add(1) for _ in range(10)] == list(range(1, 11))
            await beamish.stop(counter)

        assert lines(runs(test, "crash", "kill"), "crash") == 0

    def test_there_are_no_more_than_a_supervisor_survives(self) -> None:
        async def test(world: World) -> None:
            top = await world.start_supervised(Supervisor("top").child_spec([Counter("counter").child_spec()]))
            for _ in range(40):
                Counter("counter").up()
                await asyncio.sleep(0.001)
            assert beamish.alive(top)

        found = runs(test, "crash")
        assert max(sum("crashes" in line for line in run.lines) for run in found) == DEATHS


class TestKill:
    def test_a_supervised_process_is_killed_between_any_two_steps(self) -> None:
        reasons: list[object] = []

        async def test(world: World) -> None:
            counter = await world.start_supervised(Counter("counter").child_spec())
            ref = beamish.monitor(counter)
            await asyncio.sleep(1.0)
            await reply_of(counter.add_later(1))
            if ref.delivered is not None:
                reasons.append(ref.delivered.reason)
            await counter.started()
            assert beamish.alive(counter)

        found = runs(test, "kill")
        assert set(reasons) == {KILLED, NOPROC}
        assert lines(found, "counter is killed") > 30
        assert lines(found, "killed") < 200

    def test_not_while_it_starts(self) -> None:
        class Slow(Counter):
            async def init(self) -> list[int]:
                for _ in range(20):
                    await asyncio.sleep(0.1)
                return [0]

        async def test(world: World) -> None:
            await world.start_supervised(Slow("slow").child_spec())

        runs(test, "kill")


class TestLate:
    def test_a_call_times_out_and_what_it_asked_for_is_done_all_the_same(self) -> None:
        late: list[int] = []

        async def test(world: World) -> None:
            counter = await world.start_supervised(Counter("counter").child_spec())
            begin = beamish.monotonic()
            reply = await reply_of(counter.add(1))
            if isinstance(reply, CallTimeout):
                assert beamish.monotonic() - begin == pytest.approx(5.0, abs=0.01)
                late.append(await counter.with_timeout(None).add(0))

        found = runs(test, "late")
        assert set(late) == {1}
        assert lines(found, "counter handles add(1), too late for its caller") == len(late) > 0

    def test_one_without_a_timeout_never_does(self) -> None:
        async def test(world: World) -> None:
            counter = await world.start_supervised(Counter("counter").child_spec())
            assert await counter.with_timeout(None).add(1) == 1

        assert lines(runs(test, "late"), "too late") == 0


class TestSlow:
    def test_a_handler_takes_some_seconds_and_the_mail_behind_it_waits(self) -> None:
        spans: set[float] = set()

        async def test(world: World) -> None:
            counter = await world.start_supervised(Counter("counter").child_spec())
            begin = beamish.monotonic()
            counter.up()
            counter.up()
            assert await counter.with_timeout(60.0).add(1) == 3
            spans.add(round(beamish.monotonic() - begin, 2))

        found = runs(test, "slow")
        assert {0.0, 0.01, 0.5, 3.0} <= spans
        assert lines(found, "counter handles up(), which takes 3.0 s") > 0

    def test_an_exit_signal_ends_it_at_once(self) -> None:
        async def test(world: World) -> None:
            counter = await Counter("counter").start()
            counter.up()
            await asyncio.sleep(0.005)
            ref = beamish.monitor(counter)
            beamish.exit(counter, "enough")
            assert (await beamish.down(ref, timeout=0.0001)).reason == "enough"

        assert lines(runs(test, "slow"), "takes") > 0


class TestAll:
    def test_together_they_leave_nothing_behind(self) -> None:
        async def test(world: World) -> None:
            counters = [await world.start_supervised(Counter(f"counter {n}").child_spec()) for n in range(3)]
            for _ in range(5):
                for counter in counters:
                    await counter.started()
                await asyncio.gather(*(reply_of(counter.add(1)) for counter in counters))
            for counter in counters:
                await counter.started()

        before = dict(NODES)
        found = runs(test, "crash", "kill", "late", "slow")
        for words in ("crashes", "killed", "too late", "which takes"):
            assert lines(found, words) > 0
        assert before == NODES

    def test_one_that_nobody_knows_is_refused(self) -> None:
        async def test(world: World) -> None: ...

        error = run_once(test, Random(1), frozenset({"fire"})).error
        assert isinstance(error, ValueError)
        assert str(error) == 'faults are "crash", "kill", "late" and "slow". Got: \'fire\''

    def test_they_are_part_of_the_tape(self) -> None:
        @simulate(seeds=200, faults=["crash"])
        async def fails(world: World) -> None:
            counter = await world.start_supervised(Counter("counter").child_spec())
            assert not isinstance(await reply_of(counter.add(1)), ServerDown)

        with capture_crashes(), pytest.raises(AssertionError) as failure:
            fails(world=None)  # type: ignore[arg-type]
        told = failure.value.__notes__[-1]
        assert "counter handles add(1), and crashes" in told
        assert re.search(r"\b[1-4] deviations", told)


def test_everything_is_restored_after_runs_that_fail() -> None:
    post, before = TaskProcess.post, dict(NODES)

    async def test(world: World) -> None:
        counter = await Counter("counter").start()
        counter.up()
        beamish.send_after(100.0, counter, "late")
        asyncio.get_running_loop().create_task(asyncio.sleep(100.0))
        raise LookupError

    for seed in range(20):
        run = run_once(test, Random(seed), frozenset({"crash", "kill", "late", "slow"}))
        assert type(run.error) is LookupError
    assert before == NODES
    assert TaskProcess.post is post
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()
