"""Every port prints what the real OTP printed, with calls on the caller's stack and with calls through the mailbox."""

from __future__ import annotations

import pytest

from conformance import runner


@pytest.mark.parametrize("inline", [True, False], ids=["inline", "mailbox"])
@pytest.mark.parametrize("name", runner.scenarios())
def test_scenario(name: str, inline: bool) -> None:
    problem = runner.compare(name, runner.run(name, inline=inline))
    if problem:
        pytest.fail(problem, pytrace=False)


def test_each_expected_trace_has_its_script_and_its_port() -> None:
    for path in runner.HERE.glob("*.expected"):
        assert path.with_suffix(".exs").exists(), f"{path.stem}.exs is missing"
        assert path.with_suffix(".py").exists(), f"{path.stem}.py is missing"


def test_each_listed_difference_names_a_scenario() -> None:
    assert set(runner.listed()) <= set(runner.scenarios())
