"""Beamish's own suites under the simulation: their tests, as they are, in many interleavings of each.

Deaths are told of at once here, as in production (`AtOnce`): most of these tests look at what a death has done in the next line.
"""

from __future__ import annotations

import sys
from collections.abc import Hashable, Iterator, Sequence

import pytest

from beamish.testing import capture_crashes
from beamish.testing._choosers import Chooser
from beamish.testing._simulate import Campaign
from seeds import THOROUGH, seeds
from simulated.suites import Case, cases

# A hundred runs leave the garbage of a hundred loops: a third of the time went there.
pytestmark = pytest.mark.usefixtures("little_garbage")

SUITES = [
    "test_supervisor.py", "test_auto_shutdown.py", "test_supervise.py", "test_dynamic_supervisor.py", "test_registry.py",
    "test_registry_via.py", "test_task.py", "test_task_links.py", "servers/test_search_cache.py", "servers/test_rate_limiter.py",
]  # fmt: skip
#: Only in `make simulate`.
MORE = ["test_registry_life.py", "test_task_mail.py", "test_task_many.py", "test_agent.py", "test_process.py", "test_signals.py"]

#: A run is the same on every Python (tests/testing/test_replay.py), so the older ones make fewer.
USUAL = 200 if sys.version_info >= (3, 13) else 40

FIRST = "who of several is first, or that something has begun when the next line runs"
WINDOW = "looks at a server right after its death: that its restart is done by then is likely, and no promise"
LOAD = "is about a load, or about memory: long, and the same in every order"
#: What these tests are about is the plain order itself, so another one fails them rightly.
NOT_HERE = {
    "test_a_child_between_two_attempts": LOAD,
    "test_is_restarted_under_its_key": WINDOW,
    "test_leaves_nothing_behind": LOAD,
    "test_ending_each_costs_the_same_however_many_there_are": LOAD,
    "test_an_async_function_keeps_the_others_waiting": FIRST,
    "test_a_loop_of_tasks_lets_others_run": LOAD,
    "test_a_turn_that_has_done_enough_leaves_it_to_the_next": LOAD,
    "test_tasks_that_start_tasks_do_not_grow_the_stack": LOAD,
    "test_info_shows_the_function_and_what_it_does": FIRST,
    "test_it_begins_at_once_up_to_its_first_await": FIRST,
    "test_a_handler_that_awaits_a_task_that_calls_its_server_is_a_deadlock": FIRST,
    "test_a_timeout_of_0_takes_what_is_there": FIRST,
    "test_its_tasks_end_with_it_when_it_raises": FIRST,
    "test_one_that_dies_of_its_owner_before_it_began_never_does": FIRST,
    "test_values_are_not_kept_by_the_dead": LOAD,
    "test_cancelled_it_kills": FIRST,
    "test_they_find_what_they_stored_and_the_books_balance": LOAD,
    "test_a_cast_is_done_before_the_clients_next_call": LOAD,
    "test_its_finally_blocks_run": FIRST,
}


class AtOnce:
    """Chooses as another, and never that a death is told of later."""

    def __init__(self, inner: Chooser) -> None:
        self.inner = inner

    def choose(self, kind: str, options: Sequence[Hashable]) -> int:
        return 0 if kind == "bury" else self.inner.choose(kind, options)


class Suite(Campaign):
    def chooser(self, seed: int) -> Chooser:
        return AtOnce(super().chooser(seed))


def chosen() -> Iterator[Case]:
    """Of a test with parameters, the first set of them; all in `make simulate`."""
    for path in SUITES + MORE * THOROUGH:
        for case in cases(path):
            test = case.name.rpartition("::")[2].partition("[")[0]
            if test not in NOT_HERE and (THOROUGH or "[" not in case.name or case.name.endswith("[0]")):
                yield case


@pytest.mark.parametrize("case", list(chosen()), ids=str)
def test_in_many_interleavings(case: Case) -> None:
    with capture_crashes():
        Suite(case.name, case.test, frozenset(), "mixed").sample(seeds(USUAL, 20_000))


def test_what_is_left_out_is_there() -> None:
    names = {case.name.rpartition("::")[2].partition("[")[0] for path in SUITES + MORE for case in cases(path)}
    assert set(NOT_HERE) - names == set()
