"""The table of docs/telemetry.md and the code say the same: which events there are, and what is in them."""

from __future__ import annotations

import ast
import doctest
import re
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import beamish
from beamish import Answer, Begin, GenServer, Next, StateMachine, Watchdog, _watchdog, call, cast, store, telemetry
from beamish.servers import RateLimiter, SearchCache
from beamish.testing import ManualClock, World, capture_crashes, settle
from capturing import events

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "beamish"
PAGE = ROOT / "docs" / "telemetry.md"


# --- the table --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    event: str
    when: str
    measurements: frozenset[str]
    metadata: frozenset[str]


def rows(page: str) -> list[Row]:
    """The rows of the table. What stands in backticks in the last two columns is a key."""
    found: list[Row] = []
    for line in page.splitlines():
        if line.startswith("| `"):
            event, when, measurements, metadata = (cell.strip() for cell in line.strip("|").split("|"))
            found.append(Row(event.strip("`"), when, _keys(measurements), _keys(metadata)))
    return found


def _keys(cell: str) -> frozenset[str]:
    return frozenset(re.findall(r"`(\w+)`", cell))


TABLE = rows(PAGE.read_text(encoding="utf-8"))


# --- the code ---------------------------------------------------------------------------------------------------------


def executed(source: str, *, telemetry_itself: bool = False) -> Iterator[str]:
    """The events that a module names in `telemetry.event("…")`, `telemetry.execute("…")` and `telemetry.span("…")`."""
    tree = ast.parse(source)
    own = {"event"} if telemetry_itself else set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "beamish.telemetry":
            own |= {alias.name for alias in node.names} & {"event", "execute", "span"}
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name("telemetry"), attr="event" | "execute" | "span" as verb), args=[name, *_]):
                pass
            case ast.Call(func=ast.Name(verb), args=[name, *_]) if verb in own:
                pass
            case _:
                continue
        match name:
            case ast.Constant(str(text)):
                words = text
            case ast.Tuple(elts) if all(isinstance(one, ast.Constant) for one in elts):
                words = ".".join(str(one.value) for one in elts if isinstance(one, ast.Constant))
            case _ if telemetry_itself:
                continue  # its own verbs pass names on
            case _:
                raise AssertionError(
                    f"line {node.lineno}: write the event's name as a literal, so that it can be found: {ast.unparse(node)}"
                )
        yield from (f"{words}.{part}" for part in ("start", "stop", "exception")) if verb == "span" else [words]


def all_executed() -> set[str]:
    files = sorted(SOURCE.rglob("*.py"))
    return {name for file in files for name in executed(file.read_text(encoding="utf-8"), telemetry_itself=file == SOURCE / "telemetry.py")}


class TestTheTable:
    def test_it_has_every_event_of_the_code_and_no_other(self) -> None:
        assert sorted({row.event for row in TABLE}) == sorted(all_executed()), "docs/telemetry.md and src/ differ"

    def test_no_event_stands_in_it_twice(self) -> None:
        assert len({row.event for row in TABLE}) == len(TABLE)

    def test_each_row_says_when(self) -> None:
        assert [row.event for row in TABLE if not row.when] == []

    def test_the_examples_of_the_page_run(self) -> None:
        examples = "\n".join(re.findall(r"```pycon\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))
        test = doctest.DocTestParser().get_doctest(examples, {}, "docs/telemetry.md", str(PAGE), 0)
        assert len(test.examples) > 10
        runner = doctest.DocTestRunner()
        said: list[str] = []
        with capture_crashes():
            runner.run(test, out=said.append)
        assert runner.summarize(verbose=False).failed == 0, "".join(said)


class TestTheReader:
    """So that the tests above cannot pass because nothing was found."""

    @pytest.mark.parametrize(
        ("source", "names"),
        [
            ('X = telemetry.event("a.b")', ["a.b"]),
            ('A, B = telemetry.event("a"), telemetry.event("b")', ["a", "b"]),
            ('def f():\n    telemetry.execute(("a", "b"), 1)', ["a.b"]),
            ('with telemetry.span("a"):\n    pass', ["a.start", "a.stop", "a.exception"]),
            ('from beamish.telemetry import event\nX = event("a")', ["a"]),
            ('X.execute({"a": 1})\nevent("a")\nconnection.execute("a")', []),
        ],
    )
    def test_it_finds_the_names(self, source: str, names: list[str]) -> None:
        assert list(executed(source)) == names

    def test_a_name_that_is_made_at_run_time_is_refused(self) -> None:
        with pytest.raises(AssertionError, match="as a literal"):
            list(executed('X = telemetry.event(f"a.{b}")'))

    def test_keys_are_what_stands_in_backticks(self) -> None:
        (row,) = rows("| event | when | measurements | metadata |\n|---|---|---|---|\n| `a.b` | now | `n` (a count), `m` | |\n")
        assert row == Row("a.b", "now", frozenset({"n", "m"}), frozenset())


# --- what is in them --------------------------------------------------------------------------------------------------


class Echo(GenServer[None]):
    def init(self) -> None: ...

    @call
    def say(self, state: None, what: str) -> str:
        return what

    @call
    def crash(self, state: None) -> None:
        raise ValueError("crash")

    @cast
    def note(self, state: None, what: str) -> None: ...


class Switch(StateMachine[str, None]):
    def init(self) -> Begin[str, None]:
        return Begin("off", None)

    @call
    def flip(self, state: str, data: None) -> Answer[None]:
        return Next("on" if state == "off" else "off", reply=None)


Provocation = Callable[[World], Awaitable[object]]
PROVOKE: dict[str, Provocation] = {}


def provokes(*names: str) -> Callable[[Provocation], Provocation]:
    def add(provoke: Provocation) -> Provocation:
        PROVOKE.update(dict.fromkeys(names, provoke))
        return provoke

    return add


@provokes("beamish.process.start", "beamish.process.stop", "beamish.gen_server.call.start", "beamish.gen_server.call.stop")
async def a_server_lives(world: World) -> None:
    echo = await Echo("echo").start()
    await echo.say("hello")
    await echo.stop()


@provokes("beamish.gen_server.cast")
async def a_cast(world: World) -> None:
    echo = await world.start_supervised(Echo("echo").child_spec())
    echo.note("hello")


@provokes("beamish.gen_server.call.exception", "beamish.supervisor.restart")
async def a_crash(world: World) -> None:
    echo = await world.start_supervised(Echo("echo").child_spec())
    with capture_crashes(), pytest.raises(beamish.ServerDown):
        await echo.crash()
    await settle()


@provokes("beamish.gen_server.overloaded")
async def a_full_mailbox(world: World) -> None:
    echo = await world.start_supervised(Echo("echo").options(max_queue=1).child_spec())
    await beamish.sys.suspend(echo)
    echo.note("one")
    await settle()
    echo.note("one too many")
    await beamish.sys.resume(echo)


@provokes("beamish.state_machine.transition")
async def a_change_of_state(world: World) -> None:
    switch = await world.start_supervised(Switch("switch").child_spec())
    await switch.flip()


@provokes("beamish.supervisor.gave_up")
async def one_crash_too_many(world: World) -> None:
    echo = Echo("echo")
    supervisor = await beamish.Supervisor.start([echo.child_spec()], max_restarts=0)
    with capture_crashes(), pytest.raises(beamish.ServerDown):
        await echo.crash()
    await settle()
    assert supervisor.pid() is None


class Kept(GenServer[list[object]]):
    def init(self, path: Path) -> beamish.Init:
        return beamish.Init([], snapshot=path)

    @call
    def add(self, state: list[object], what: object) -> None:
        state.append(what)


@provokes("beamish.snapshot.saved", "beamish.snapshot.loaded", "beamish.snapshot.damaged", "beamish.snapshot.failed")
async def a_state_is_kept(world: World) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kept.snap"
        for what in ("one", "two", object()):
            kept = await Kept.start(path)
            await kept.add(what)
            with capture_crashes():
                await kept.stop()
        path.write_bytes(b"")
        with capture_crashes():
            await (await Kept.start(path)).stop()


@provokes("beamish.loop.lag")
async def the_loop_stands_still(world: World) -> None:
    now = 0.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_watchdog, "monotonic", lambda: now)
        watchdog = Watchdog(threshold=1000.0)
        now = 5000.0
        watchdog._tick()
        watchdog.stop()


@provokes("telemetry.handler.failure")
async def a_handler_fails(world: World) -> None:
    def broken(*_: Any) -> None:
        raise ValueError("broken")

    telemetry.attach("broken", "shop.sold", broken)
    with capture_crashes():
        telemetry.execute("shop.sold", 1)


@provokes("search_cache.fetch", "search_cache.cache", "search_cache.stats")
async def a_search(world: World) -> None:
    cache = await world.start_supervised(SearchCache[str, int]("search_cache").child_spec())
    await cache.fetch("otp")
    await cache.put("otp", 27)
    await world.clock.advance(61.0)


@provokes("rate_limiter.track", "rate_limiter.stats")
async def a_request(world: World) -> None:
    limiter = await world.start_supervised(RateLimiter("rate_limiter").child_spec())
    await limiter.track("ann")
    await world.clock.advance(61.0)


@store.record(key="id")
@dataclass(frozen=True)
class Thing:
    id: int


@provokes("beamish.store.transaction")
async def a_transaction(world: World) -> None:
    shop = await store.Store("shop").start_link(engine=store.Memory(), tables=[Thing])
    async with shop.transaction() as tx:
        tx.write(Thing(1))
    await shop.dirty_write(Thing(2))
    await shop.stop()


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.event)
async def test_what_is_in_the_event_is_what_the_table_says(row: Row, world: World, clock: ManualClock) -> None:
    assert row.event in PROVOKE, f"tell this test how to make {row.event} happen: a function above, with @provokes({row.event!r})"
    with events(row.event) as heard:
        await PROVOKE[row.event](world)
    assert heard
    for one in heard:
        assert (frozenset(one.measurements), frozenset(one.metadata)) == (row.measurements, row.metadata)
