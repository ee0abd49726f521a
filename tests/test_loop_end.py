"""The end of the loop: whatever ends a program, and whenever, its trees are stopped in order and nothing is left over."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import beamish
from beamish import GenServer, ServerDown, Shutdown, Supervisor, SupervisorGaveUp, call, supervise
from beamish._runtime.node import Root
from beamish.testing import capture_crashes, settle


class Noting(GenServer[str]):
    """Notes its life in a log; traps exits, so that its end is its own."""

    def init(self, name: str, log: list[str]) -> str:
        beamish.flag(trap_exit=True)
        log.append(f"start {name}")
        logs[name] = log
        return name

    @call
    def hello(self, state: str) -> str:
        return state

    @call
    async def work(self, state: str, turns: int = 3) -> str:
        for _ in range(turns):
            await asyncio.sleep(0)
        return state

    @call
    async def for_ever(self, state: str) -> None:
        await asyncio.Event().wait()

    def terminate(self, state: str, reason: Any) -> None:
        logs[state].append(f"stop {state}")


class Slow(Noting):
    """Takes some turns to start."""

    async def init(self, name: str, log: list[str], turns: int = 3) -> str:  # type: ignore[override]
        beamish.flag(trap_exit=True)
        for _ in range(turns):
            await asyncio.sleep(0)
        log.append(f"start {name}")
        logs[name] = log
        return name


pytestmark = pytest.mark.usefixtures("little_garbage")

logs: dict[str, list[str]] = {}


def run_and_look(main: Callable[[list[str]], Awaitable[Any]], cancel_after: int | None = None) -> tuple[list[str], Any, list[str]]:
    """Run a program to its end, cancelled after some turns: its log, what came of it, and what asyncio had to complain of."""
    log: list[str] = []
    complaints: list[str] = []

    async def body() -> Any:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: complaints.append(str(context["message"])))
        task = asyncio.current_task()
        assert task is not None

        def count(left: int) -> None:
            if left == 0:
                task.cancel()
            elif not task.done():
                loop.call_soon(count, left - 1)

        if cancel_after is not None:
            count(cancel_after)
        return await main(log)

    loops: list[asyncio.AbstractEventLoop] = []

    def keep_loop() -> asyncio.AbstractEventLoop:
        loops.append(asyncio.new_event_loop())
        return loops[0]

    outcome: Any
    with asyncio.Runner(loop_factory=keep_loop) as runner:
        try:
            outcome = runner.run(body())
        except BaseException as error:
            outcome = error
    del runner
    gc.collect()  # a task that is destroyed while it is pending complains now
    assert loops[0].is_closed()
    return log, outcome, complaints


def assert_stopped_in_order(log: list[str]) -> None:
    """Everything that was started was stopped, and the last one first."""
    started = [line.removeprefix("start ") for line in log if line.startswith("start ")]
    stopped = [line.removeprefix("stop ") for line in log if line.startswith("stop ")]
    assert stopped == started[::-1], log


async def a_block(log: list[str]) -> str:
    one, two, three = Noting("one"), Slow("two"), Noting("three")
    inner = Supervisor("inner").child_spec([two.child_spec("two", log), three.child_spec("three", log)])
    async with supervise([one.child_spec("one", log), inner]):
        first = await one.hello()
        second = await two.work()
        async with asyncio.timeout(5.0):
            await asyncio.gather(three.work(2), one.work(4))
    return first + second


async def links(log: list[str]) -> str:
    await Supervisor("tree").start_link([Noting("one").child_spec("one", log), Slow("two").child_spec("two", log)])
    return await Noting("one").work()


async def links_of_a_process(log: list[str]) -> str:
    beamish.current()
    return await links(log)


async def links_in_a_block(log: list[str]) -> str:
    async with supervise([Noting("one").child_spec("one", log)]):
        await Supervisor("tree").start_link([Slow("two").child_spec("two", log), Noting("three").child_spec("three", log)])
        return await Noting("three").work()


class TestMainIsCancelledAtEveryTurn:
    @pytest.mark.parametrize("main", [a_block, links, links_of_a_process], ids=lambda main: str(main.__name__))
    def test_and_its_trees_stop_in_order(self, main: Callable[[list[str]], Awaitable[Any]]) -> None:
        log, value, complaints = run_and_look(main)
        assert isinstance(value, str)
        assert complaints == []
        assert_stopped_in_order(log)
        assert len(log) >= 4
        for turns in range(1, 200):
            log, outcome, complaints = run_and_look(main, turns)
            assert complaints == [], f"cancelled after {turns} turns"
            assert_stopped_in_order(log)
            if isinstance(outcome, str):
                break  # it ended before that
            assert isinstance(outcome, asyncio.CancelledError), f"cancelled after {turns} turns"
        else:
            raise AssertionError("it never came to its end")

    def test_also_where_trees_stand_in_each_other(self) -> None:
        for turns in range(1, 60):
            log, _, complaints = run_and_look(links_in_a_block, turns)
            assert complaints == []
            assert sorted(line for line in log if line.startswith("stop")) == sorted(
                line.replace("start", "stop") for line in log if line.startswith("start")
            )

    def test_with_a_handler_that_hangs_nothing_is_restarted(self) -> None:
        async def hanging(log: list[str]) -> None:
            names = ("one", "two", "three")
            await Supervisor.start_link([Noting(name).child_spec(name, log) for name in names])
            tasks = [asyncio.ensure_future(Noting(name).for_ever()) for name in names]
            await asyncio.sleep(0)
            await asyncio.wait(tasks, timeout=0)

        for _ in range(10):  # in which order asyncio cancels its tasks is chance
            log, _, complaints = run_and_look(hanging)
            assert complaints == []
            assert [line for line in log if line.startswith("start")] == ["start one", "start two", "start three"]

    def test_cancelled_again_while_it_stops(self) -> None:
        class Lingering(Noting):
            def terminate(self, state: str, reason: Any) -> None:
                super().terminate(state, reason)
                tasks[-1].cancel()

        async def twice(log: list[str]) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.append(task)
            async with supervise([Lingering(name).child_spec(name, log) for name in ("one", "two", "three")]):
                await asyncio.Event().wait()

        tasks: list[asyncio.Task[Any]] = []
        for turns in (2, 3, 5):
            log, outcome, complaints = run_and_look(twice, turns)
            assert isinstance(outcome, asyncio.CancelledError)
            assert complaints == []
            assert_stopped_in_order(log)
            assert len(log) == 6


def test_many_servers_end_in_linear_time(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    is_top = Root._is_top

    def counting(self: Root, process: Any) -> bool:
        nonlocal looks
        looks += 1
        return is_top(self, process)

    async def main(log: list[str]) -> None:
        for _ in range(1000):
            await Plain.start()
            beamish.spawn(asyncio.Event().wait)

    class Plain(GenServer[None]):
        def init(self) -> None: ...

    monkeypatch.setattr(Root, "_is_top", counting)
    assert run_and_look(main)[1:] == (None, [])
    assert looks <= 4 * 2001


class TestTheBlock:
    async def test_that_gives_up_is_cancelled_and_told(self) -> None:
        log: list[str] = []

        async def block() -> None:
            async with supervise([Noting("one").child_spec("one", log)], max_restarts=0):
                beamish.exit(Noting("one"), beamish.KILL)
                await asyncio.Event().wait()

        with capture_crashes(), pytest.raises(SupervisorGaveUp):
            await block()
        current = asyncio.current_task()
        assert current is not None
        assert current.cancelling() == 0
        await asyncio.sleep(0)  # no cancellation is left over

    async def test_that_gives_up_without_another_await_leaves_no_cancellation(self) -> None:
        class Failing(Noting):
            @call
            def fail(self, state: str) -> None:
                raise ValueError("why")

        async def block() -> None:
            async with supervise([Failing("one").child_spec("one", [])], max_restarts=0):
                try:
                    await Failing("one").fail()
                except ServerDown:
                    pass

        with capture_crashes(), pytest.raises(SupervisorGaveUp):
            await block()
        await settle()
        current = asyncio.current_task()
        assert current is not None
        assert current.cancelling() == 0

    async def test_an_error_of_the_block_is_the_callers(self) -> None:
        log: list[str] = []
        with pytest.raises(ZeroDivisionError):
            async with supervise([Noting("one").child_spec("one", log)]):
                raise ZeroDivisionError
        assert log == ["start one", "stop one"]


class TestRun:
    def test_main_is_a_process(self) -> None:
        async def main() -> tuple[bool, str]:
            pid = beamish.spawn_link(asyncio.Event().wait)
            beamish.flag(trap_exit=True)
            beamish.exit(pid, "enough")
            message = await beamish.receive(beamish.Exited)
            return beamish.alive(beamish.current()), message.reason

        assert beamish.run(main) == (True, "enough")

    def test_an_exit_with_shutdown_is_a_clean_end(self) -> None:
        async def main() -> None:
            beamish.exit(beamish.current(), Shutdown("done"))

        assert beamish.run(main) is None

    def test_an_error_of_main_is_raised(self) -> None:
        async def main() -> None:
            raise ValueError("main")

        with pytest.raises(ValueError, match="main"):
            beamish.run(main)


PROGRAM = """
    import asyncio, logging, sys
    import beamish
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # on a busy machine -X dev warns of slow callbacks
    from beamish import GenServer, Supervisor, supervise

    class Noting(GenServer[str]):
        def init(self, name):
            beamish.flag(trap_exit=True)
            return name
        async def terminate(self, state, reason):
            await asyncio.sleep(0)
            print("stop", state, reason, flush=True)

    def tree(name, *names):
        return Supervisor(name).child_spec([Noting(one).child_spec(one) for one in names])

    async def main():
        async with supervise([tree("left", "a", "b"), tree("right", "c", "d")]):
            print("ready", flush=True)
            await asyncio.Event().wait()

    print("ended with", beamish.run(main))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to send")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: str(number.name))
def test_a_signal_ends_a_program_in_order(number: signal.Signals) -> None:
    program = subprocess.Popen(
        [sys.executable, "-X", "dev", "-c", textwrap.dedent(PROGRAM)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )
    with program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        program.send_signal(number)
        out, err = program.communicate(timeout=30)
    assert out.splitlines() == [*(f"stop {name} Shutdown(detail=None)" for name in "dcba"), "ended with None"]
    assert (program.returncode, err) == (0, "")
