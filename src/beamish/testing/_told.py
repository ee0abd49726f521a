"""What a double was told will be asked, and what it was asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from beamish.errors import short
from beamish.testing._patterns import shown


@dataclass(slots=True)
class Called:
    """What a double was asked."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    by: str
    """Who has asked: a process, as reports show it."""
    answer: str = "…"

    def __str__(self) -> str:
        return f"{written(self.name, self.args, self.kwargs)} by {self.by} → {self.answer}"


@dataclass(slots=True)
class Expected:
    name: str
    reply: Any
    times: int
    args: tuple[Any, ...] | Mapping[str, Any] | None
    came: int = 0

    def __str__(self) -> str:
        given = self.args
        if given is None:
            args = ["…"]
        elif isinstance(given, Mapping):
            args = [*(f"{name}={shown(one)}" for name, one in given.items()), "…"]
        else:
            args = list(map(shown, given))
        asked = f"{self.name}({', '.join(args)})"
        return f"{asked}, {how_often(self.times)}, and came {how_often(self.came)}"


@dataclass(slots=True)
class Told:
    """What a double was told, and what became of it."""

    expected: list[Expected] = field(default_factory=list[Expected])
    stubs: dict[str, Any] = field(default_factory=dict[str, Any])
    calls: list[Called] = field(default_factory=list[Called])
    failures: list[AssertionError] = field(default_factory=list[AssertionError])


def written(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    return f"{name}({', '.join([*map(short, args), *(f'{key}={short(one)}' for key, one in kwargs.items())])})"


def how_often(count: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(count, f"{count} times")
