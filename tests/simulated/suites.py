"""The `async def` tests of another module, each to be run under many seeds, in a fresh simulated world."""

from __future__ import annotations

import importlib.util
import inspect
import itertools
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from beamish.testing import World

TESTS = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    test: Callable[[World], Awaitable[object]]

    def __str__(self) -> str:
        return self.name


def load(path: str) -> ModuleType:
    """A test module, by its path under tests/; apart from the one that pytest has."""
    name = "simulated_" + path.removesuffix(".py").replace("/", "_")
    found = sys.modules.get(name)
    if found is None:
        spec = importlib.util.spec_from_file_location(name, TESTS / path)
        assert spec is not None
        assert spec.loader is not None
        found = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(found)
    return found


def cases(path: str) -> Iterator[Case]:
    """Every async test of a module, with each set of its parameters, that needs no fixture but `world` and `inline`."""
    module = load(path)
    for name, found in vars(module).items():
        if name.startswith("test_") and inspect.iscoroutinefunction(found):
            yield from _cases(f"{path}::{name}", found, None, marks(module) + marks(found))
        elif name.startswith("Test") and inspect.isclass(found):
            for method, test in inspect.getmembers(found, inspect.iscoroutinefunction):
                if method.startswith("test_"):
                    yield from _cases(f"{path}::{name}::{method}", test, found, marks(module) + marks(found) + marks(test))


def marks(one: Any) -> list[Any]:
    found = getattr(one, "pytestmark", [])
    return list(found) if isinstance(found, list) else [found]


def _cases(name: str, test: Any, kind: type | None, found: list[Any]) -> Iterator[Case]:
    sets = [list(_values(mark)) for mark in found if mark.name == "parametrize" and "inline" not in mark.args[0]]
    needed = [one for one in inspect.signature(test).parameters if one != "self"]
    for number, combination in enumerate(itertools.product(*sets)):
        given: dict[str, Any] = {"inline": True}
        for values in combination:
            given |= values
        if set(needed) <= {*given, "world"}:
            yield Case(name if not sets else f"{name}[{number}]", _bound(test, kind, needed, given))


def _values(mark: Any) -> Iterator[dict[str, Any]]:
    names = [one.strip() for one in mark.args[0].split(",")] if isinstance(mark.args[0], str) else list(mark.args[0])
    for value in mark.args[1]:
        values = getattr(value, "values", None) if type(value).__name__ == "ParameterSet" else None
        values = values if values is not None else (value,) if len(names) == 1 else value
        yield dict(zip(names, values, strict=True))


def _bound(test: Any, kind: type | None, needed: list[str], given: dict[str, Any]) -> Callable[[World], Awaitable[object]]:
    async def run(world: World) -> None:
        arguments = {name: world if name == "world" else given[name] for name in needed}
        await (test(**arguments) if kind is None else test(kind(), **arguments))

    return run
