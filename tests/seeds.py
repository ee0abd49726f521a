"""Under how many seeds simulations run: few in every test run, many in `make simulate`."""

from __future__ import annotations

import os

THOROUGH = bool(os.environ.get("BEAMISH_SIMULATE"))


def seeds(usual: int, thorough: int) -> int:
    return thorough if THOROUGH else usual
