"""Under simloom: its tape chooses for our processes too, so its network and disk faults are explored together with their orders."""

from __future__ import annotations

import asyncio
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import beamish
from beamish import GenServer, ServerDown, call, cast
from beamish.testing import Kit, LeftBehind, World, capture_crashes
from beamish.testing._choosers import ODDS
from beamish.testing._simloom import SimloomChooser, SimloomNode
from testing.races import RACES, Cell, Race, lost_update, lost_update_repaired, together
from testing.test_plugin import Done

if sys.version_info < (3, 12):
    pytest.skip("simloom needs Python 3.12", allow_module_level=True)

simloom: Any = importlib.import_module("simloom")  # whose types are in the syntax of 3.12: not looked at

# virtual time: simloom's

# simloom collects garbage after each run
pytestmark = pytest.mark.usefixtures("little_garbage")

ROOT = Path(__file__).parents[2]

Main = Callable[[Any], Coroutine[Any, Any, object]]
races = pytest.mark.parametrize("race", [race for race in RACES if not race.faults], ids=lambda race: race.name)


def run(main: Main, seed: int, **options: Any) -> Any:
    with capture_crashes():
        return simloom.run(main, seed=seed, raise_on_error=False, on_unhandled="record", **options)


def first_failure(main: Main, seeds: int, **options: Any) -> Any:
    for seed in range(seeds):
        result = run(main, seed, **options)
        if result.error is not None:
            return result
    pytest.fail(f"not found in {seeds} seeds")


def holds(main: Main, seeds: int, **options: Any) -> None:
    for seed in range(seeds):
        error = run(main, seed, **options).error
        if error is not None:
            raise error


def in_a_world(test: Callable[[World], Any]) -> Main:
    async def main(universe: Any) -> None:
        async with World() as world:
            assert isinstance(world.node, SimloomNode)
            await test(world)

    return main


class TestProcesses:
    @races
    def test_each_known_race_is_found(self, race: Race) -> None:
        main = in_a_world(race.broken)
        first_failure(main, 300)
        plain = simloom.Tape.replay((), policy=simloom.MisalignmentPolicy.FALLBACK, fallback="zero")
        simloom.replay(main, tape=plain, policy=simloom.MisalignmentPolicy.FALLBACK, fallback="zero")  # 0 is the plain order, which passes

    @races
    def test_its_repaired_form_holds(self, race: Race) -> None:
        holds(in_a_world(race.repaired), 25)

    def test_a_seed_and_a_tape_are_the_same_run_again(self) -> None:
        lines: list[list[str]] = []

        async def test(world: World) -> None:
            lines.append(world.node.trace.lines)  # type: ignore[attr-defined]
            await lost_update(world)

        main = in_a_world(test)
        found = first_failure(main, 300)
        told = lines[-1]
        assert "cell handles set(1)" in told
        again = run(main, found.seed)
        replayed = simloom.replay(main, tape=found, raise_on_error=False)
        for one in (again, replayed):
            assert (one.digest, one.tape, type(one.error)) == (found.digest, found.tape, AssertionError)
        assert lines[-2:] == [told, told]

    @pytest.mark.parametrize("scheduler", ["random", "pct:auto"])
    def test_it_is_shrunk_to_what_matters(self, scheduler: str) -> None:
        main = in_a_world(lost_update)
        shrunk = simloom.shrink(main, first_failure(main, 300, scheduler=scheduler))
        deviations = [draw.label for draw in shrunk.tape if draw.value]
        assert "beamish.inline" in deviations  # a call goes by the mailbox, where the other client's overtakes it
        assert len([label for label in deviations if not label.startswith("pct.")]) <= 3
        assert simloom.replay(main, tape=shrunk.result, raise_on_error=False).digest == shrunk.result.digest

    def test_its_log_tells_who_did_what(self) -> None:
        found = first_failure(in_a_world(lost_update), 300, causal=True)
        told = [event["value"] for event in found.log if event["kind"] == "observe" and event["name"] == "beamish"]
        assert any("cell handles set(1)" in line for line in told)

    def test_nothing_is_chosen_for_a_clock_of_ones_own_but_the_order(self) -> None:
        async def main(universe: Any) -> None:
            async with beamish.testing.world(clock=beamish.testing.ManualClock(), inline=False) as world:
                cell = await world.start_supervised(Cell("cell").child_spec())
                beamish.send_after(3600.0, beamish.current(), "an hour")
                await world.clock.advance(3600.0)
                assert await beamish.receive(timeout=0.0) == "an hour"
                assert await cell.add(1) == 1

        holds(main, 20)


class TestChooser:
    def test_a_rare_choice_is_one_draw_and_0_is_the_plain_order(self) -> None:
        class Loop:
            tape = simloom.Tape.generate(1)

        chooser = SimloomChooser(Loop())  # type: ignore[arg-type]
        answers = [chooser.choose("crash", ("no", "before", "after")) for _ in range(20_000)]
        assert set(answers) == {0, 1, 2}
        assert sum(map(bool, answers)) / 20_000 == pytest.approx(ODDS["crash"], rel=0.15)
        assert {chooser.choose("run", "abc") for _ in range(100)} == {0, 1, 2}
        zero = simloom.Tape.replay((), policy=simloom.MisalignmentPolicy.FALLBACK, fallback="zero")
        Loop.tape = zero
        chooser = SimloomChooser(Loop())  # type: ignore[arg-type]
        assert [chooser.choose(kind, "abc") for kind in [*ODDS, "run"]] == [0] * (len(ODDS) + 1)


class TestKit:
    def test_it_is_as_under_our_own_loop(self) -> None:
        async def main(universe: Any) -> None:
            async with Kit() as kit:
                cell = await kit.start_supervised(Cell("cell").child_spec())
                begin = kit.clock.now()
                await kit.clock.advance(3600.0)
                assert kit.clock.now() - begin == pytest.approx(3600.0)
                beamish.send(beamish.current(), ("seen", 1))
                assert await kit.assert_receive(("seen", int)) == ("seen", 1)
                await kit.refute_receive()
                await kit.crash(cell)
                assert await cell.add(1) == 1
            async with Kit() as kit:
                assert beamish.registered() == []

        holds(main, 50)

    def test_what_is_left_behind_fails_the_test(self) -> None:
        async def main(universe: Any) -> None:
            async with Kit():
                await Cell("cell").start()
                left = asyncio.create_task(asyncio.sleep(10.0))
                assert left

        error = run(main, 1).error
        assert isinstance(error, LeftBehind)
        assert "process Cell('cell')" in str(error)
        assert "sleep at" in str(error)

    def test_nothing_can_happen_any_more(self) -> None:
        async def main(universe: Any) -> None:
            async with Kit() as kit:
                await kit.receive("what nobody sends")

        assert isinstance(run(main, 1).error, simloom.SimDeadlockError)

    @pytest.mark.parametrize("fault", ["crash", "kill", "late", "slow"])
    def test_our_own_faults_come_from_its_tape_too(self, fault: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(ODDS, "inline", 0.9)
        monkeypatch.setitem(ODDS, fault, 0.3)
        heard: set[str] = set()

        async def main(universe: Any) -> None:
            async with Kit(faults=(fault,)) as kit:
                cell = await kit.start_supervised(Cell("cell").child_spec())
                begin = kit.clock.now()
                for _ in range(3):
                    try:
                        await cell.add(1)
                    except (ServerDown, beamish.NoProcess, beamish.CallTimeout) as error:
                        heard.add(type(error).__name__)
                    await cell.started()
                if kit.clock.now() > begin + 0.005:
                    heard.add("time has passed")

        holds(main, 60)
        wanted = {"crash": "ServerDown", "kill": "ServerDown", "late": "CallTimeout", "slow": "time has passed"}
        assert wanted[fault] in heard

    async def test_faults_are_for_simloom_only(self) -> None:
        with pytest.raises(RuntimeError, match="@simulate"):
            async with Kit(faults=("crash",)):
                pass


# --- the network, and the order of our processes ----------------------------------------------------------------------


class Sessions(GenServer[dict[str, int]]):
    """Who is connected. The end of a connection forgets the name, whoever has it by now."""

    def init(self) -> dict[str, int]:
        return {}

    @call
    def begin(self, state: dict[str, int], name: str, number: int) -> None:
        state[name] = number

    @cast
    def end(self, state: dict[str, int], name: str, number: int) -> None:
        state.pop(name, None)

    @call
    def online(self, state: dict[str, int]) -> list[str]:
        return list(state)


class CarefulSessions(Sessions):
    @cast
    def end(self, state: dict[str, int], name: str, number: int) -> None:
        if state.get(name) == number:
            del state[name]


def reconnecting(kind: type[Sessions], *, reset: bool) -> Main:
    """A client whose connection is reset, where the network is asked to, comes again: is it online then?"""

    async def main(universe: Any) -> None:
        universe.net.set_latency(0.0, 0.0)
        async with Kit() as kit:
            sessions = await kit.start_supervised(kind("sessions").child_spec())
            numbers = iter(range(10))

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                name, number = (await reader.readline()).decode().strip(), next(numbers)
                await sessions.begin(name, number)
                try:
                    writer.write(b"hello\n")
                    await reader.read()
                except ConnectionResetError:
                    pass
                finally:
                    sessions.end(name, number)
                    writer.close()

            async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
                reader, writer = await asyncio.open_connection("server", 80)
                writer.write(b"ann\n")
                assert await reader.readline() == b"hello\n"
                return reader, writer

            async def client() -> None:
                reader, writer = await connect()
                try:
                    await asyncio.wait_for(reader.read(), 1.0)
                except ConnectionResetError:
                    _, writer = await connect()
                except TimeoutError:
                    pass
                await asyncio.sleep(1.0)
                online = await sessions.online()
                writer.close()
                assert online == ["ann"]

            async def network() -> None:
                await asyncio.sleep(0.5)
                if reset:
                    universe.net.reset_connections(None, None)

            server = await asyncio.start_server(serve, "server", 80)
            await together(client(), network())
            server.close()
            await asyncio.sleep(1.0)

    return main


class TestNetwork:
    def test_a_reset_and_an_order_of_ours_are_found_together(self) -> None:
        found = first_failure(reconnecting(Sessions, reset=True), 200)
        again = simloom.replay(reconnecting(Sessions, reset=True), tape=found, raise_on_error=False)
        assert again.digest == found.digest
        shrunk = simloom.shrink(reconnecting(Sessions, reset=True), found)
        labels = {draw.label for draw in shrunk.tape if draw.value}
        assert any(label.startswith("beamish.") for label in labels)
        assert "sched.pick" in labels

    def test_neither_alone_is_enough(self) -> None:
        holds(reconnecting(Sessions, reset=False), 50)
        plain = simloom.replay(
            reconnecting(Sessions, reset=True), tape=(), policy=simloom.MisalignmentPolicy.FALLBACK, fallback="zero", raise_on_error=False
        )
        assert plain.error is None

    def test_the_repaired_form_holds(self) -> None:
        holds(reconnecting(CarefulSessions, reset=True), 50)


# --- the disk of a host whose power is cut ----------------------------------------------------------------------------


class Journal(GenServer[Any]):
    """What it has said yes to is on the disk; or so one should think."""

    def init(self, disk: Any) -> Any:
        return disk

    @call
    def lines(self, disk: Any) -> list[str]:
        return disk.read("journal").decode().split() if disk.exists("journal") else []

    @call
    def add(self, disk: Any, line: str) -> None:
        append(disk, line)


class CarefulJournal(Journal):
    @call
    def add(self, disk: Any, line: str) -> None:
        append(disk, line)
        disk.fsync("journal")


def append(disk: Any, line: str) -> None:
    old = disk.read("journal") if disk.exists("journal") else b""
    disk.write("journal", old + line.encode() + b"\n")


def power_cut(kind: type[Journal]) -> Main:
    """A host whose tree ends without a word, and is started again on what its disk has kept."""

    async def main(universe: Any) -> None:
        host = universe.host("shop")
        promised: list[str] = []
        found: list[list[str]] = []

        async def node() -> None:
            async with World() as world:
                journal = await world.start_supervised(kind("journal").child_spec(host.disk))
                found.append(await journal.lines())
                while len(promised) < 4:
                    await asyncio.sleep(1.0)
                    line = f"line-{len(promised)}"
                    await journal.add(line)
                    promised.append(line)

        host.spawn(node)
        await asyncio.sleep(2.5)
        host.crash()
        host.restart()
        await asyncio.sleep(10.0)
        assert found == [[], ["line-0", "line-1"]]
        assert len(promised) == 4

    return main


class TestPowerCut:
    def test_what_was_not_synced_may_be_lost_or_torn(self) -> None:
        found = first_failure(power_cut(Journal), 50)
        assert isinstance(found.error, AssertionError)
        assert "disk.fate" in {draw.label for draw in found.tape}

    def test_what_was_is_there_when_the_tree_comes_back(self) -> None:
        holds(power_cut(CarefulJournal), 50)


def test_lost_updates_are_repaired_by_one_call() -> None:
    holds(in_a_world(lost_update_repaired), 50)


class TestPytest:
    def test_the_example_of_the_page_passes(self, tmp_path: Path) -> None:
        (source,) = re.findall(r"```python simloom\n(.*?)```", (ROOT / "docs" / "testing.md").read_text(encoding="utf-8"), re.DOTALL)
        simloom_pytest(tmp_path, source).counts(passed=1)

    def test_a_failure_is_told_and_replayed_by_seed_and_by_tape(self, tmp_path: Path) -> None:
        source = """
import simloom
from beamish.testing import World
from testing.races import lost_update

@simloom.test(runs=300, shrink_budget=150)
async def test_it(universe):
    async with World() as world:
        await lost_update(world)
"""
        found = simloom_pytest(tmp_path, source)
        found.counts(failed=1)
        assert "beamish.inline = " in found.text
        seed = re.search(r"--simloom-seed=(\d+)", found.text)
        assert seed is not None
        simloom_pytest(tmp_path, source, f"--simloom-seed={seed[1]}").counts(failed=1)
        tape = tmp_path / ".sim" / "failures" / f"test_it-seed{seed[1]}.shrunk.tape.json"
        again = simloom_pytest(tmp_path, source, f"--simloom-tape={tape}")
        again.counts(failed=1)
        assert "what the processes did in this run of simloom:" in again.text
        assert "    cell handles set(1)" in again.text


def simloom_pytest(folder: Path, source: str, *arguments: str) -> Done:
    """A pytest of its own, with nobody's plugin but simloom's."""
    (folder / "test_it.py").write_text(source, encoding="utf-8")
    path = f"{ROOT / 'src'}{os.pathsep}{ROOT / 'tests'}"
    environment = {**os.environ, "PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONHASHSEED": "0"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "simloom._pytest_plugin", "--rootdir=.", "test_it.py"]
    done = subprocess.run([*command, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=50, check=False)
    return Done(done.stdout + done.stderr, done.returncode)
