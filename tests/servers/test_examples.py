"""The examples in the docstrings of the servers run, and print what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

from beamish import servers

MODULES = [f"{servers.__name__}.{module.name}" for module in pkgutil.iter_modules(servers.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_run(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
