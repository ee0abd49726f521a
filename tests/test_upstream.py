"""The page of the upstream suites is true: each of their tests is there once, and each test of ours that it names exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGE = (TESTS / "upstream.md").read_text(encoding="utf-8")

#: How many tests each suite has.
SUITES = {
    "Elixir gen_server_test.exs": 13,
    "Elixir supervisor_test.exs": 16,
    "Elixir dynamic_supervisor_test.exs": 41,
    "Elixir partition_supervisor_test.exs": 22,
    "Elixir registry_test.exs": 7,
    "Elixir registry/unique_test.exs": 35,
    "Elixir registry/duplicate_test.exs": 34,
    "Elixir agent_test.exs": 8,
    "Elixir task_test.exs": 117,
    "Elixir task/supervisor_test.exs": 44,
    "Elixir process_test.exs": 19,
    "OTP gen_server_SUITE": 63,
    "OTP supervisor_SUITE": 99,
    "OTP proc_lib_SUITE": 17,
    "OTP sys_SUITE": 7,
    "OTP ets_SUITE": 159,
    "telemetry_SUITE": 23,
}


def rows(suite: str) -> list[tuple[str, str]]:
    part = PAGE.split(f"\n## {suite}\n", 1)[1].split("\n## ", 1)[0]
    found = []
    for line in part.splitlines():
        if line.startswith("| ") and not line.startswith("| upstream test"):
            name, what = (cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:3])
            found.append((name, what))
    return found


@cache
def names_in(file: Path) -> set[str]:
    """The tests of a file, as pytest names them, and its classes."""
    found: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found.add(node.name)
            found |= {f"{node.name}::{one.name}" for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}
    return found


def problem(reference: str) -> str | None:
    file, _, test = reference.partition("::")
    path = TESTS.parent / file
    if not path.exists():
        return f"{file} does not exist"
    return f"{file} has no {test}" if test and test not in names_in(path) else None


@pytest.mark.parametrize("suite", SUITES)
def test_each_test_of_a_suite_is_listed(suite: str) -> None:
    listed = rows(suite)
    assert len(listed) == SUITES[suite]
    assert [name for name, what in listed if not what] == []


@pytest.mark.parametrize("suite", SUITES)
def test_what_is_referred_to_exists(suite: str) -> None:
    references = {(name, one) for name, what in rows(suite) for one in re.findall(r"tests/[\w/]+\.py(?:::\w+)*", what)}
    assert [f"{name}: {found}" for name, one in sorted(references) if (found := problem(one))] == []
