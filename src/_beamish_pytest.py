"""The pytest plugin: the fixture `beamish`, the option --beamish-seed and a marker. docs/testing.md tells how to use them.

It stands outside of the package because importing any module of a package imports the package: this one is imported at every start
of pytest, before coverage measures, and Beamish only by a test that uses it. `-p no:beamish` switches it off.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from beamish.testing import Kit

_SIMULATE = "beamish.testing._simulate"
_PROPERTY = "beamish_simulation"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("beamish").addoption(
        "--beamish-seed", metavar="SEED", help="run each @simulate test once: with this seed, or the tape that a failure printed"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "beamish_real_time(reason): the test's clock is the real one, not the virtual one that the fixture `beamish` brings"
    )


@pytest.fixture
def beamish(request: pytest.FixtureRequest) -> Kit:
    """A fresh world of processes for this test, in virtual time: start_supervised, assert_receive, crash, clock, …"""
    from beamish.testing import _item

    return _item.kit(request.node)


def pytest_collection_finish(session: pytest.Session) -> None:
    seed = session.config.getoption("beamish_seed")
    if seed is not None:
        if not re.fullmatch(r"\d+|[te](\d+(\.\d+)*)?", seed):
            raise pytest.UsageError(f"--beamish-seed is what a failure printed: a number, or a tape such as t0.1.2 or e0.1. Got: {seed!r}")
        from beamish.testing import _simulate

        _simulate.replayed = seed


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: Any) -> None:
    if "beamish" in getattr(item, "fixturenames", ()):
        from beamish.testing import _item

        _item.prepare(item)


def pytest_pyfunc_call(pyfuncitem: Any) -> bool | None:
    if "beamish" in pyfuncitem.fixturenames:
        from beamish.testing import _item

        return _item.run(pyfuncitem)
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: Any) -> None:
    simulate = sys.modules.get(_SIMULATE)
    if simulate is not None and simulate.summaries:
        item.user_properties.extend((_PROPERTY, one) for one in simulate.summaries)  # a report brings them from xdist's workers too
        simulate.summaries.clear()
    if "beamish" in getattr(item, "fixturenames", ()):
        from beamish.testing import _item

        _item.finish(item)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    found = [
        value
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", None) == "teardown"
        for name, value in report.user_properties
        if name == _PROPERTY
    ]
    if not found:
        return
    runs, distinct = sum(one[1] for one in found), sum(one[2] for one in found)
    if terminalreporter.verbosity > 0:
        for name, *counts in found:
            terminalreporter.write_line(f"beamish: {name}: {counts[0]} runs, {counts[1]} distinct interleavings")
    for name, _, _ in found:
        if terminalreporter.verbosity <= 0 and name.endswith("there are more"):
            terminalreporter.write_line(f"beamish: {name}")  # no failure, and less than was asked for
    simulations = "1 simulation" if len(found) == 1 else f"{len(found)} simulations"
    terminalreporter.write_line(f"beamish: {simulations}, {runs} runs, {distinct} distinct interleavings")
