"""The pytest plugin, in pytests of their own: with every way that async tests are run, and with none."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

SRC = str(Path(__file__).parents[2] / "src")

HEAD = """
import asyncio
import pytest
import beamish as otp
from beamish import GenServer, call
from beamish.testing import simulate


class Counter(GenServer[list[int]]):
    def init(self):
        self.send_interval(60.0, "reset")
        return [0]

    @call
    def add(self, state, n):
        state[0] += n
        return state[0]

    @call
    def boom(self, state):
        raise ZeroDivisionError("boom")

    def handle_info(self, state, message):
        state[0] = 0
"""

#: Virtual time in a world of its own.
WELL = """
async def test_an_hour(beamish):
    begin = beamish.clock.now()
    counter = await beamish.start_supervised(Counter("counter").child_spec())
    assert await counter.add(2) == 2
    await beamish.clock.advance(60.0)
    assert await counter.add(2) == 2
    await asyncio.sleep(3600)
    async with asyncio.timeout(7200):
        await asyncio.sleep(3600)
    assert beamish.clock.now() == begin + 7260


async def test_a_world_of_its_own(beamish):
    assert otp.registered() == []


class TestInAClass:
    async def test_it(self, beamish):
        await beamish.start_supervised(Counter("counter").child_spec())
        assert otp.registered() == ["counter"]
"""

#: What is left, crashes or stands still fails its test, and no other.
ILL = """
async def test_leaves(beamish):
    beamish.left = asyncio.create_task(asyncio.sleep(10))
    await Counter("counter").start()
    otp.send_after(10.0, "nobody", "tick")
    asyncio.get_running_loop().call_later(5, print)


async def test_crashes(beamish):
    counter = await beamish.start_supervised(Counter("counter").child_spec())
    with pytest.raises(otp.ServerDown):
        await counter.boom()


async def test_waits_for_ever(beamish):
    await beamish.receive("what nobody sends")


async def test_is_linked(beamish):
    counter = await Counter("counter").start_link()
    with beamish.capture_crashes():
        await counter.boom()


async def test_fails(beamish):
    await Counter("counter").start()
    assert 1 == 2


async def test_is_well(beamish):
    assert otp.registered() == []
    counter = await beamish.start_supervised(Counter("counter").child_spec())
    with beamish.capture_crashes(), pytest.raises(otp.ServerDown):
        await counter.boom()
"""

ILLNESSES = (
    "process Counter('counter')",
    "timer of 'tick' to 'nobody'",
    "timer call_later(print)",
    "sleep at",
    "a server crashed, and the test did not expect it",
    "Counter('counter'): ZeroDivisionError: boom",
    "last message: boom()",
    'await beamish.receive("what nobody sends")',
    "nothing can happen any more",
    "got an exit signal, with the reason Crash(error=ZeroDivisionError('boom'))",
    "assert 1 == 2",
    "besides, LeftBehind: left behind by the test:",
)

#: Without `async def`.
PLAIN = """
def test_plain(beamish):
    async def body():
        counter = await beamish.start_supervised(Counter("counter").child_spec())
        await asyncio.sleep(10)
        return await counter.add(1)

    assert [beamish.run(body), beamish.run(body)] == [1, 1]


kits = set()


@simulate(seeds=7)
async def test_simulated(beamish):
    kits.add(beamish)
    counter = await beamish.start_supervised(Counter("counter").child_spec())
    await asyncio.gather(*(asyncio.create_task(add(counter)) for _ in range(3)))
    await beamish.clock.advance(60.0)
    assert await counter.add(1) == 1


async def add(counter):
    await counter.add(1)


def test_each_run_had_a_kit_of_its_own():
    assert len(kits) == 8  # the plain order first
"""

ASYNCIO = ["-p", "pytest_asyncio.plugin", "-o", "asyncio_default_fixture_loop_scope=function"]
STRICT = "pytestmark = pytest.mark.asyncio\n"
ANYIO = "pytestmark = pytest.mark.anyio\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n"
#: By name: what is given to pytest, and what stands in the file.
WAYS = {
    "alone": ([], ""),
    "pytest-asyncio, strict": ([*ASYNCIO, "--asyncio-mode=strict"], STRICT),
    "pytest-asyncio, strict, not marked": ([*ASYNCIO, "--asyncio-mode=strict"], ""),
    "pytest-asyncio, auto": ([*ASYNCIO, "--asyncio-mode=auto"], ""),
    "pytest-asyncio, one loop for all": ([*ASYNCIO, "--asyncio-mode=auto", "-o", "asyncio_default_test_loop_scope=session"], ""),
    "anyio": (["-p", "anyio.pytest_plugin"], ANYIO),
    "anyio and pytest-asyncio": (["-p", "anyio.pytest_plugin", *ASYNCIO, "--asyncio-mode=strict"], ANYIO),
}
ways = pytest.mark.parametrize("way", WAYS)


@dataclass
class Done:
    text: str
    code: int

    def counts(self, **wanted: int) -> None:
        """That the last line says so."""
        last = [line for line in self.text.splitlines() if re.search(r" in [\d.]+s", line)]
        assert last, self.text
        assert {word: int(number) for number, word in re.findall(r"(\d+) (\w+)", last[-1].partition(" in ")[0])} == wanted, self.text


class Pytest:
    """A pytest in a process of its own, which loads no plugin but what it is told to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, source: str, *arguments: str, autoload: bool = False, plugin: bool = True, head: str = HEAD) -> Done:
        (self.folder / "test_it.py").write_text(head + source, encoding="utf-8")
        environment = {**os.environ, "PYTHONPATH": SRC, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "" if autoload else "1"}
        environment = {name: value for name, value in environment.items() if value or name != "PYTEST_DISABLE_PLUGIN_AUTOLOAD"}
        ours = ["-p", "_beamish_pytest"] if plugin and not autoload else []
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", *ours, "test_it.py", *arguments]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=50, check=False)
        return Done(done.stdout + done.stderr, done.returncode)


@pytest.fixture
def run_pytest(tmp_path: Path) -> Pytest:
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    return Pytest(tmp_path)


def arguments_of(way: str) -> list[str]:
    arguments = WAYS[way][0]
    for name in ("pytest_asyncio", "anyio"):
        if any(name in one for one in arguments) and importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    return arguments


@ways
def test_every_way_of_running_async_tests(run_pytest: Pytest, way: str) -> None:
    arguments = arguments_of(way)
    (run_pytest.folder / "test_plain.py").write_text(HEAD + PLAIN, encoding="utf-8")  # without the mark, which is for async ones
    done = run_pytest(WAYS[way][1] + WELL + ILL, *arguments, "test_plain.py")
    done.counts(failed=5, passed=7)
    for text in ILLNESSES:
        assert text in done.text, f"{text!r} is not in:\n{done.text}"
    assert "beamish: 1 simulation, 8 runs, " in done.text


class TestFixtures:
    ASKED = """
async def test_it(counter, beamish):
    assert await counter.add(1) == 1
    await beamish.clock.advance(60.0)
    assert await counter.add(1) == 1


async def test_again(counter):
    assert await counter.add(1) == 1
"""

    @pytest.mark.parametrize("scope", ["function", "session"])
    def test_an_async_fixture_of_pytest_asyncio_may_begin_the_world(self, run_pytest: Pytest, scope: str) -> None:
        pytest.importorskip("pytest_asyncio")
        fixture = """
import pytest_asyncio


@pytest_asyncio.fixture
async def counter(beamish):
    yield await beamish.start_supervised(Counter("counter").child_spec())
    assert otp.registered() == []
"""
        scopes = ["-o", f"asyncio_default_test_loop_scope={scope}", "-o", f"asyncio_default_fixture_loop_scope={scope}"]
        run_pytest(fixture + self.ASKED, "-p", "pytest_asyncio.plugin", "--asyncio-mode=auto", *scopes).counts(passed=2)

    def test_one_of_anyio_too(self, run_pytest: Pytest) -> None:
        pytest.importorskip("anyio")
        fixture = """
@pytest.fixture
async def counter(beamish, anyio_backend):
    return await beamish.start_supervised(Counter("counter").child_spec())
"""
        run_pytest(ANYIO + fixture + self.ASKED, "-p", "anyio.pytest_plugin").counts(passed=2)

    def test_one_for_a_plain_test_is_ended_too(self, run_pytest: Pytest) -> None:
        pytest.importorskip("pytest_asyncio")
        source = """
import pytest_asyncio


@pytest_asyncio.fixture
async def counter(beamish):
    beamish.on_exit(lambda: print("the end of it"))
    return await beamish.start_supervised(Counter("counter").child_spec())


def test_plain(counter):
    pass
"""
        done = run_pytest(source, *ASYNCIO, "--asyncio-mode=auto", "-s")
        done.counts(passed=1)
        assert "the end of it" in done.text

    def test_one_with_a_simulation_is_refused(self, run_pytest: Pytest) -> None:
        pytest.importorskip("pytest_asyncio")
        source = """
import pytest_asyncio


@pytest_asyncio.fixture
async def counter(beamish):
    return await beamish.start_supervised(Counter("counter").child_spec())


@simulate(seeds=3)
async def test_it(beamish, counter):
    assert await counter.add(1) == 1
"""
        done = run_pytest(source, *ASYNCIO, "--asyncio-mode=auto")
        done.counts(failed=1)
        assert "a fixture has started servers on another event loop" in done.text
        assert "Start them in the test, by a function" in done.text

    def test_another_fixture_of_that_name_is_left_alone(self, run_pytest: Pytest) -> None:
        pytest.importorskip("pytest_asyncio")
        source = "@pytest.fixture\ndef beamish():\n    return 3\n\n\nasync def test_it(beamish):\n    assert beamish == 3\n"
        run_pytest(source, *ASYNCIO, "--asyncio-mode=auto").counts(passed=1)


class TestRealTime:
    SOURCE = """
@pytest.mark.beamish_real_time("measures the real clock")
async def test_real(beamish):
    assert type(asyncio.get_running_loop()).__name__ == "_UnixSelectorEventLoop"
    begin = beamish.clock.now()
    await asyncio.sleep(0.01)
    assert beamish.clock.now() >= begin + 0.009
    with pytest.raises(RuntimeError, match="real time"):
        await beamish.clock.advance(1.0)
"""

    @pytest.mark.skipif(sys.platform == "win32", reason="names the loop of Unix")
    def test_a_marker_asks_for_it(self, run_pytest: Pytest) -> None:
        run_pytest(self.SOURCE).counts(passed=1)

    def test_it_takes_a_reason(self, run_pytest: Pytest) -> None:
        done = run_pytest(self.SOURCE.replace('("measures the real clock")', ""))
        assert "beamish_real_time takes the reason" in done.text

    def test_uvloop_is_refused_with_what_to_do(self, run_pytest: Pytest) -> None:
        pytest.importorskip("uvloop")
        pytest.importorskip("anyio")
        source = ANYIO.replace("'asyncio'", "('asyncio', {'use_uvloop': True})")
        source += "async def test_it(beamish):\n    pass\n"
        source += "@pytest.mark.beamish_real_time('uvloop')\nasync def test_real(beamish):\n    await asyncio.sleep(0.001)\n"
        done = run_pytest(source, "-p", "anyio.pytest_plugin")
        done.counts(failed=1, passed=1)
        assert "virtual time needs asyncio's own event loop" in done.text
        assert "uvloop.Loop" in done.text

    def test_so_is_trio(self, run_pytest: Pytest) -> None:
        pytest.importorskip("anyio")
        pytest.importorskip("trio")
        done = run_pytest(
            ANYIO.replace("'asyncio'", "'trio'") + "async def test_it(beamish):\n    beamish.clock.now()\n", "-p", "anyio.pytest_plugin"
        )
        assert "no asyncio event loop runs here" in done.text


class TestSeeds:
    RACE = """
@simulate(seeds=200)
async def test_lost_update(beamish):
    counter = await beamish.start_supervised(Counter("counter").child_spec())

    async def increment():
        value = await counter.add(0)
        await counter.add(value + 1 - await counter.add(0) if value else 1)
        order.append(value)

    order = []
    await asyncio.gather(asyncio.create_task(increment()), asyncio.create_task(increment()))
    assert order == [0, 1]
"""

    def test_a_failure_prints_its_seed_and_the_option_replays_it(self, run_pytest: Pytest) -> None:
        found = run_pytest(self.RACE)
        found.counts(failed=1)
        tape = found.text.partition("the shortest way: --beamish-seed=")[2].split()[0]
        assert tape.startswith("t")
        again = run_pytest(self.RACE, f"--beamish-seed={tape}")
        again.counts(failed=1)
        assert "(replayed)" in again.text
        run_pytest(self.RACE, "--beamish-seed=t").counts(passed=1)

    def test_a_line_for_each_with_v(self, run_pytest: Pytest) -> None:
        source = "@simulate(seeds=3)\nasync def test_it(beamish):\n    pass\n"
        done = run_pytest(source, "-vv")
        assert "beamish: test_it: 4 runs, " in done.text
        assert "beamish: 1 simulation, 4 runs, " in done.text


class TestAside:
    """What a test that does not use it sees of it: nothing."""

    def test_nothing_of_beamish_is_imported(self, run_pytest: Pytest) -> None:
        source = "import sys\n\n\ndef test_it():\n    assert not [name for name in sys.modules if name.split('.')[0] == 'beamish']\n"
        run_pytest(source, head="").counts(passed=1)

    def test_it_is_an_entry_point_and_p_no_beamish_switches_it_off(self, run_pytest: Pytest) -> None:
        source = "def test_it(beamish):\n    pass\n"
        arguments = ["-p", "no:timeout", "-p", "no:asyncio", "-p", "no:anyio", "-p", "no:hypothesispytest"]
        done = run_pytest(source, *arguments, autoload=True, head="")
        if "fixture 'beamish' not found" in done.text:
            pytest.skip("this environment was made before there was a plugin")
        done.counts(passed=1)
        off = run_pytest(source, *arguments, "-p", "no:beamish", autoload=True, head="")
        assert "fixture 'beamish' not found" in off.text
        assert "beamish_real_time" not in run_pytest(source, *arguments, "-p", "no:beamish", "--markers", autoload=True, head="").text

    def test_it_defines_one_fixture_one_option_and_one_marker(self, run_pytest: Pytest) -> None:
        def new(begin: str, *arguments: str) -> set[str]:
            """The lines that there are only with it."""
            with_it, without = (set(run_pytest("", *arguments, plugin=on, head="").text.splitlines()) for on in (True, False))
            return {line.strip() for line in with_it - without if line.strip().startswith(begin)}

        assert {line.split()[0] for line in new("", "--fixtures") if "_beamish_pytest.py" in line and " -- " in line} == {"beamish"}
        assert {line.split()[0] for line in new("--", "--help")} == {"--beamish-seed=SEED"}
        assert {line.partition(":")[0] for line in new("@", "--markers")} == {"@pytest.mark.beamish_real_time(reason)"}
