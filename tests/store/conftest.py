"""Every test that takes `shop` or `kind` runs on every engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from beamish.store import Engine
from storing import ENGINES, Kind


@pytest.fixture(params=list(ENGINES))
def kind(request: pytest.FixtureRequest) -> Kind:
    return ENGINES[request.param]


@pytest.fixture
def engine(kind: Kind, tmp_path: Path) -> Callable[[], Engine]:
    """Makes an engine; each time on the same data."""
    return lambda: kind.make(tmp_path)
