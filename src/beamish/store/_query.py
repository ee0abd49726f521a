"""What to look for in a table: a range of the key or of an index, a predicate, a limit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

R = TypeVar("R")

Bounds = Literal["[]", "[)", "(]", "()"]
#: Which ends of a range belong to it, as in `ets`.
Inclusive = Literal["low", "high", "both", "neither"]
BOUNDS: dict[str, Bounds] = {"low": "[)", "high": "(]", "both": "[]", "neither": "()"}


class Unbounded:
    """No lower or upper end; a value of its own, since None is a value that an index may have."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "…"


UNBOUNDED: Final = Unbounded()


@dataclass(frozen=True, slots=True)
class Query:
    """Records whose `index` (a field: the key, or an indexed one) lies between `low` and `high`, and that `where` says yes to.

    The answer is in the order of `index`, then of the key; None comes first; `reverse` turns all of it round. `low == high == None`
    with closed bounds finds the records without a value; a range with an end on one side or both never does.
    """

    index: str
    low: Any = UNBOUNDED
    high: Any = UNBOUNDED
    bounds: Bounds = "[]"
    where: Callable[[Any], bool] | None = None
    limit: int | None = None
    reverse: bool = False

    @property
    def exact(self) -> bool:
        """Whether one value is looked for."""
        return self.low is not UNBOUNDED and self.bounds == "[]" and bool(self.low == self.high)

    @property
    def everything(self) -> bool:
        """Whether no value is left out."""
        return self.low is UNBOUNDED and self.high is UNBOUNDED

    def within(self, value: Any) -> bool:
        """Whether a value of the index is in the range."""
        low, high = self.low, self.high
        if value is None:
            return self.everything or (self.exact and low is None)
        if low is not UNBOUNDED and (low is None or value < low or (value == low and self.bounds[0] == "(")):
            return False
        return high is UNBOUNDED or not (high is None or value > high or (value == high and self.bounds[1] == ")"))

    def matches(self, record: Any) -> bool:
        return self.within(getattr(record, self.index)) and (self.where is None or bool(self.where(record)))

    def sort(self, records: Iterable[R], key: str) -> list[R]:
        """In the order that is promised."""
        index = self.index

        def place(record: R) -> Any:
            value = getattr(record, index)
            return (value is not None, value, getattr(record, key)) if value is not None else (False, False, getattr(record, key))

        def by_key(record: R) -> Any:
            return getattr(record, index)

        return sorted(records, key=by_key if index == key else place, reverse=self.reverse)
