"""What tables give out: their errors, what a new owner is told, what `info` shows, a step of a counter."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar

from beamish._runtime.ids import Pid
from beamish.errors import BeamishError, short

if TYPE_CHECKING:
    from beamish.ets import Table

T = TypeVar("T")

Kind: TypeAlias = Literal["set", "ordered_set", "bag", "duplicate_bag"]
Access: TypeAlias = Literal["public", "protected", "private"]
Values: TypeAlias = Literal["copied", "immutable", "shared"]


class TableError(BeamishError):
    """What a table refuses. `table` is the one that was asked."""

    def __init__(self, text: str, table: object = None) -> None:
        super().__init__(text)
        self.table = table


class NoTable(TableError):
    """The table is gone (with its owner, as a rule), or there is none of that name."""

    @classmethod
    def of(cls, table: object) -> NoTable:
        text = (
            f"{table!r} is gone: its owner has ended, or it was deleted. A table that shall outlive who fills it belongs to a "
            "supervised process that does nothing else, or has a heir: Table(heir=…)"
        )
        return cls(text, table)

    @classmethod
    def named(cls, name: object, known: Iterable[str]) -> NoTable:
        similar = difflib.get_close_matches(str(name), list(known), n=3)
        hint = f" Similar names: {', '.join(map(repr, similar))}." if similar else ""
        return cls(f"there is no table {name!r} on this event loop.{hint} Is its owner started, and before those who use it?")


class NoAccess(TableError):
    """A process (or thread) did what only the table's owner may do."""

    @classmethod
    def of(cls, table: object, verb: str, access: str, who: object, owner: object) -> NoAccess:
        if verb in ("give_away", "set_heir"):
            why = "only the owner may do that"
        elif access == "private":
            why = 'a private table is for its owner only; access="protected" lets others read, "public" write too'
        else:
            why = 'in a protected table only its owner writes; make it with access="public", or ask the owner to do it'
        return cls(f"{who} may not {verb} {table!r}, which belongs to {owner!r}: {why}", table)


class NameTaken(TableError):
    """Another table of this event loop has that name."""


class NoKey(TableError, KeyError):
    """The table has no object of that key."""

    def __init__(self, table: object, key: object) -> None:
        super().__init__(f"{table!r} has nothing under {short(key)}. get(key, default) and lookup(key) do without", table)
        self.key = key

    __str__ = BeamishError.__str__  # KeyError's would show the text's repr


class WrongKind(TableError, TypeError):
    """That verb is for tables that have one value for a key (set, ordered_set)."""

    @classmethod
    def of(cls, table: object, verb: str, kind: str) -> WrongKind:
        return cls(f"{table!r} is a {kind}: a key may have many values there, so there is no {verb}. lookup(key) has all of them", table)


@dataclass(frozen=True, slots=True)
class Transfer:
    """What a process is sent when a table becomes its own: given away, or inherited (OTP's `ETS-TRANSFER`)."""

    table: Table[Any, Any]
    owner: Pid
    """Whose it was."""
    data: Any


@dataclass(frozen=True, slots=True)
class Incr:
    """One step of `update_counter(key, [Incr(…), …])`; see there."""

    incr: int = 1
    at: int | str | None = None
    threshold: int | None = None
    set_to: int | None = None


@dataclass(frozen=True, slots=True)
class TableInfo:
    """A table as it was when `info()` looked."""

    name: str | None
    kind: Kind
    access: Access
    values: Values
    owner: Pid
    heir: Any
    """Who inherits it, as it was given: a pid, an address, a name; or None."""
    size: int
    fixed: int
    """How many `fixed()` blocks there are in it now."""


class Page(list[T], Generic[T]):
    """Some of what a `select(limit=)` finds. `next()` is the following page; behind the last one it is empty.

    page = table.select(limit=100)
    while page:
        ...
        page = page.next()
    """

    __slots__ = ("_check", "_following", "_limit", "_rest")

    def __init__(self, rest: Iterator[T], limit: int, check: Callable[[], object]) -> None:
        super().__init__(islice(rest, limit))
        self._check = check
        self._rest = rest
        self._limit = limit
        self._following: Page[T] | None = None

    def next(self) -> Page[T]:
        """The following page; asked twice, the same one. NoTable when the table is gone, NoAccess when it is another's private one now."""
        if self._following is None:
            self._check()
            self._following = Page(self._rest, self._limit, self._check)
        return self._following


Where: TypeAlias = Callable[[Any, Any], object]
Inclusive: TypeAlias = Literal["low", "high", "both", "neither"]
