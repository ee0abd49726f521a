"""`@simulate(exhaustive=True)`: no outcome that a random order can have is missed, with faults or without, and few runs are needed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
from hypothesis import assume, given, settings, strategies as st

import beamish
from beamish import CallExit, CallTimeout, GenServer, call, cast
from beamish.testing import World, capture_crashes
from beamish.testing._choosers import Random
from beamish.testing._explore import explore
from beamish.testing._simulate import Run, run_once, simulate, summaries
from seeds import seeds
from testing.races import together

Outcome = Any
Test = Callable[[World, list[Outcome]], Awaitable[object]]


class Cell(GenServer[list[str]]):
    def init(self) -> list[str]:
        return []

    @call
    def append(self, state: list[str], what: str) -> int:
        state.append(what)
        return len(state)

    @cast
    def note(self, state: list[str], what: str) -> None:
        state.append(what)

    @cast
    def pass_on(self, state: list[str], to: Cell, what: str) -> None:
        to.note(what)

    @cast
    def fail(self, state: list[str]) -> None:
        beamish.exit(beamish.current(), "as asked")

    @call
    def read(self, state: list[str]) -> tuple[str, ...]:
        return tuple(state)


def explored(test: Test, *faults: str, bound: int = 20_000) -> tuple[set[Outcome], int, bool]:
    """The outcomes of every interleaving, how many runs that took, and whether it came to an end."""
    outcomes: set[Outcome] = set()
    now: list[Outcome] = []

    async def once(world: World) -> None:
        now.clear()
        await test(world, now)

    def check(run: Run, tape: str) -> None:
        if run.error is not None:
            raise run.error
        outcomes.add(tuple(now))

    with capture_crashes():
        runs, whole = explore(once, bound, check, frozenset(faults))
    return outcomes, runs, whole


def sampled(test: Test, count: int, *faults: str) -> set[Outcome]:
    outcomes: set[Outcome] = set()
    for seed in range(count):
        now: list[Outcome] = []

        async def once(world: World, now: list[Outcome] = now) -> None:
            now.clear()
            await test(world, now)

        with capture_crashes():
            run = run_once(once, Random(seed), frozenset(faults))
        if run.error is not None:
            raise run.error
        outcomes.add(tuple(now))
    return outcomes


# --- programs of a few clients and two servers ------------------------------------------------------------------------

Step = tuple[str, str]
steps = st.tuples(st.sampled_from(["append", "note", "pass_on", "read", "fail", "whereis"]), st.sampled_from(["one", "two"]))
programs = st.lists(st.lists(steps, min_size=1, max_size=2), min_size=2, max_size=3).filter(lambda program: sum(map(len, program)) <= 4)
#: A death commutes with nothing: fewer steps beside it.
small = programs.filter(lambda program: sum(map(len, program)) <= 2 or not any("fail" in step for mine in program for step in mine))


async def asked(request: Coroutine[Any, Any, object]) -> object:
    try:
        return await request
    except CallExit as error:
        return type(error).__name__


def played(program: list[list[Step]]) -> Test:
    async def test(world: World, outcome: list[Outcome]) -> None:
        cells = {name: await world.start_supervised(Cell(name).child_spec()) for name in ("one", "two")}
        answers: list[Outcome] = []

        async def client(number: int, mine: list[Step]) -> None:
            for position, (what, name) in enumerate(mine):
                cell, label = cells[name], f"{number}.{position}"
                match what:
                    case "append":
                        answers.append((label, await asked(cell.append(label))))
                    case "fail":
                        cell.fail()
                    case "whereis":
                        answers.append((label, beamish.whereis(name) is None))
                    case "note":
                        cell.note(label)
                    case "pass_on":
                        cell.pass_on(cells["two" if name == "one" else "one"], label)
                    case _:
                        answers.append((label, await asked(cell.read())))

        await together(*[client(number, mine) for number, mine in enumerate(program)])
        for _ in range(2):  # whatever one has passed on to the other is there after a call of each
            for cell in cells.values():
                await asked(cell.read())
        outcome += [*sorted(answers), await asked(cells["one"].read()), await asked(cells["two"].read())]

    return test


@settings(max_examples=seeds(8, 400), deadline=None)
@given(small)
def test_no_outcome_of_a_random_order_is_missed(program: list[list[Step]]) -> None:
    outcomes, _, whole = explored(played(program), bound=500)
    assume(whole)
    assert sampled(played(program), 60) <= outcomes


def test_what_commutes_is_tried_in_one_order_only() -> None:
    outcomes, runs, whole = explored(played([[("append", "one")], [("append", "two")]]))
    assert (len(outcomes), whole) == (1, True)
    assert runs == 1
    outcomes, runs, whole = explored(played([[("append", "one")], [("append", "one")]]))
    assert (len(outcomes), runs, whole) == (2, 2, True)


def test_more_than_the_bound_is_said() -> None:
    @simulate(exhaustive=True, bound=3)
    async def many(world: World) -> None:
        await played([[("append", "one")] * 2, [("append", "one")] * 2])(world, [])

    before = len(summaries)
    many(world=None)  # type: ignore[arg-type]
    assert summaries[before][0].endswith("the first 3 interleavings pass; there are more")
    del summaries[before:]


# --- with a fault -----------------------------------------------------------------------------------------------------


async def two_appends(world: World, outcome: list[Outcome]) -> None:
    cell = await world.start_supervised(Cell("cell").child_spec())
    for request in (lambda c: c.append("a"), lambda c: c.append("b"), lambda c: c.read()):
        try:
            outcome.append(await request(cell.with_timeout(1.0)))
        except CallTimeout:
            outcome.append("late")
        except CallExit:
            outcome.append("down")
            await cell.started()


BOTH = ("a", "b")


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("crash", {(1, 2, BOTH), ("down", 1, ("b",)), (1, "down", ()), (1, 2, "down")}),
        # Killed before the first call, between the two, before it is read, or after; in the hand of a call, or of nobody.
        ("kill", {(1, 2, BOTH), (1, 1, ("b",)), (1, 2, ()), ("down", 1, ("b",)), (1, "down", ()), (1, 2, "down")}),
        ("late", {(1, 2, BOTH), ("late", 2, BOTH), (1, "late", BOTH), (1, 2, "late")}),
        ("slow", {(1, 2, BOTH), ("late", "late", "late"), (1, "late", "late"), (1, 2, "late")}),
    ],
)
def test_one_fault_at_each_point(fault: str, expected: set[Outcome]) -> None:
    outcomes, _, whole = explored(two_appends, fault)
    assert whole
    assert outcomes == expected


@pytest.mark.parametrize("fault", ["crash", "kill", "late", "slow"])
def test_no_outcome_of_a_random_fault_is_missed(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes, _, whole = explored(two_appends, fault)
    assert whole
    monkeypatch.setattr("beamish.testing._faults.DEATHS", 1)
    found = sampled(two_appends, seeds(150, 5_000), fault)
    if fault in ("late", "slow"):  # there may be more than one of them when they are sampled
        found = {outcome for outcome in found if outcome.count("late") <= 1}
    assert found <= outcomes


def test_a_kill_between_two_servers_is_found_and_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def transfer(world: World) -> None:
        one, two = [await world.start_supervised(Cell(name).child_spec()) for name in ("one", "two")]
        try:
            await one.append("took")
            await two.append("gave")
        except CallExit:
            return
        assert (await one.read()) == ("took",)

    def failure() -> str:
        @simulate(exhaustive=True, faults=["kill"])
        async def simulated(world: World) -> None:
            await transfer(world)

        with capture_crashes(), pytest.raises((AssertionError, CallExit)) as raised:
            simulated(world=None)  # type: ignore[arg-type]
        return "\n".join(raised.value.__notes__)

    told = failure()
    assert "is killed" in told
    tape = told.partition("--beamish-seed=")[2].split()[0]
    assert tape.startswith("e")
    monkeypatch.setattr("beamish.testing._simulate.replayed", tape)
    again = failure()
    assert again.splitlines()[2:] == told.splitlines()[2:]
