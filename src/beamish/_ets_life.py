"""Whose a table is: owner, heir, name, who may do what, and its end. It is gone with its owner, before anybody hears of that."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import RLock, get_ident
from typing import Any, Generic, Never, TypeVar, cast, get_args

from beamish._ets_rows import ROWS, Rows
from beamish._ets_values import SEALS
from beamish._ets_words import Access, Kind, NameTaken, NoAccess, NoTable, TableInfo, Transfer, Values
from beamish._runtime.extra import extra_of
from beamish._runtime.node import Node, here
from beamish._runtime.process import CURRENT, Process
from beamish._runtime.signals import INFO
from beamish.errors import short
from beamish.process import Target, find, living

K = TypeVar("K")
V = TypeVar("V")

_current = CURRENT.get
_log = logging.getLogger("beamish.ets")

#: Whose a table is that is gone: nobody's, so that every look at it takes the way to the error.
_NOBODY: Any = object()
#: How many rows of a table that is gone are let go of in one turn of the loop.
SLICE = 5_000


class Tables:
    """The tables of one event loop."""

    __slots__ = ("all", "names")

    def __init__(self) -> None:
        self.all: dict[Owned[Any, Any], None] = {}
        self.names: dict[str, Owned[Any, Any]] = {}

    @classmethod
    def of(cls, node: Node) -> Tables:
        tables = cast("Tables | None", node.shelf.get(cls))
        if tables is None:
            node.shelf[cls] = tables = cls()
            node.at_end.append(tables.close)
        return tables

    def close(self) -> None:
        for table in list(self.all):
            table._end()  # pyright: ignore[reportPrivateUsage]


class Owned(Generic[K, V]):
    """What every table has to do with processes. Its data is `_data`, the dict of `_rows`."""

    __slots__ = (
        "__weakref__", "_access", "_alone", "_closed", "_closer", "_data", "_fixed", "_guard", "_heir", "_heir_data", "_keeper", "_kind",
        "_lock", "_many", "_name", "_node", "_owner", "_rows", "_seal", "_values", "_writer",
    )  # fmt: skip

    def __init__(
        self,
        name: str | None = None,
        *,
        kind: Kind = "set",
        access: Access = "protected",
        heir: Target | None = None,
        heir_data: object = None,
        values: Values = "copied",
    ) -> None:
        for option, given, known in (("kind", kind, Kind), ("access", access, Access), ("values", values, Values)):
            if given not in get_args(known):
                raise ValueError(f"{option} is one of {', '.join(map(repr, get_args(known)))}. Got: {short(given)}")
        _check_heir(heir)
        self._node = node = here()
        living(node)
        self._name: str | None = None
        self._kind: Kind = kind
        self._access: Access = access
        self._values: Values = values
        self._seal = SEALS[values]
        self._heir, self._heir_data = heir, heir_data
        self._fixed: int = 0
        self._closer: Callable[[], object] | None = None
        self._keeper: Callable[[], object] | None = None  # of `snapshot.keep`: called when the table ends, while all is still there
        # A set that only its owner writes needs no lock: each change is one step of the interpreter. Taking one costs more than the rest.
        self._lock = RLock()
        self._alone = kind == "set" and access != "public"
        self._rows: Rows = ROWS[kind]()
        self._many = self._rows.many
        self._data: dict[Any, Any] = self._rows.data
        tables = Tables.of(node)
        self._take_name(name)
        tables.all[self] = None
        self._belong(node.me() or node.root)

    def __repr__(self) -> str:
        return f"Table({self._name!r})" if self._name is not None else f"<{self._kind} {id(self):#x}>"

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: Any) -> Any:
        return self

    def __reduce_ex__(self, protocol: Any) -> Never:
        raise TypeError(
            f"{self!r} is a table, which means nothing outside its interpreter. Pickle to_list(), or write it with to_file(path)"
        )

    # -- who it belongs to

    def _belong(self, owner: Process) -> None:
        self._owner: Process = owner
        self._closed = self._access != "public"
        self._writer = owner if owner is not self._node.root else None  # what CURRENT says where the owner's code runs
        self._guard = owner if self._access == "private" else None
        if owner is not self._node.root:
            extra = extra_of(owner)
            if extra.closers is None:
                extra.closers = {}
            self._closer = closer = self._owner_ended
            extra.closers[closer] = None

    def _leave(self) -> None:
        """The owner is not to close it any more."""
        extra = self._owner.extra
        if self._closer is not None and extra is not None and extra.closers is not None:
            extra.closers.pop(self._closer, None)
        self._closer = None

    def _owner_ended(self) -> None:
        """Called when the owner has ended and nobody has heard of that: the heir is told first."""
        former, heir = self._owner, None
        try:
            heir = None if self._heir is None else find(self._heir, self._node)
        except Exception:  # a registry that is gone, say
            _log.exception("%r: its heir %r can not be found, so it ends with its owner", self, self._heir)
        if heir is None or not heir.alive or heir is former:
            self._end()
            return
        self._belong(heir)
        heir.post((INFO, Transfer(cast(Any, self), former, self._heir_data), None, None))

    def _end(self) -> None:
        """It is gone."""
        tables = Tables.of(self._node)
        if tables.all.pop(self, self) is self:
            return
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            try:
                keeper()
            except Exception:  # it ends all the same
                _log.exception("%r could not be kept at its end", self)
        if self._name is not None:
            del tables.names[self._name]
        self._writer = self._guard = _NOBODY
        self._closed = True
        with self._lock:
            data = self._rows.clear()
            self._rows.walk = None
            self._data = self._rows.data
            self._heir = self._heir_data = self._closer = None
        if len(data) > SLICE:
            _let_go(data, self._node)

    def give_away(self, target: Target, data: object = None) -> None:
        """Make another process the owner: it is sent `Transfer(table, owner, data)`, and has the table when this returns.

        The owner alone may do that. ValueError when `target` is the owner itself, or not alive.
        """
        self._at_home("give_away")
        me = self._owner
        if self._me() is not me:
            self._refuse("give_away")
        process = find(target, self._node)
        if process is None or not process.alive or process is me:
            why = "it is its owner" if process is me else "there is no such process that lives"
            raise ValueError(f"{self!r} can't be given to {target!r}: {why}")
        self._leave()
        self._belong(process)
        process.post((INFO, Transfer(cast(Any, self), me, data), None, None))

    def set_heir(self, heir: Target | None, data: object = None) -> None:
        """Who gets the table when its owner ends, with what `data` (OTP's setopts); None: nobody, it ends too.

        A name is looked up when the owner ends, so that a heir may be restarted before that. The owner alone may do that.
        """
        _check_heir(heir)
        self._at_home("set_heir")
        if self._me() is not self._owner:
            self._refuse("set_heir")
        self._heir, self._heir_data = heir, data

    def delete_table(self) -> None:
        """End the table, now and for everybody. For those who may write to it."""
        self._at_home("delete_table")
        self._may_write("delete_table")
        self._leave()
        self._end()

    def rename(self, name: str | None) -> None:
        """Give the table another name, or none. NameTaken when another table has it. For those who may write to it."""
        self._at_home("rename")
        self._may_write("rename")
        before, names = self._name, Tables.of(self._node).names
        if name != before:
            self._take_name(name)
            if before is not None:
                del names[before]

    def _take_name(self, name: str | None) -> None:
        names = Tables.of(self._node).names
        if name is not None:
            if not isinstance(name, str) or not name:  # pyright: ignore[reportUnnecessaryIsInstance]
                raise ValueError(f"the name of a table is a non-empty str, or None. Got: {short(name)}")
            if name in names:
                other = names[name]
                raise NameTaken(
                    f"the name {name!r} is taken by a table of {other._owner.label()!r}: use ets.table({name!r}), or another name",
                    other,
                )
            names[name] = self
        self._name = name

    def info(self) -> TableInfo | None:
        """What is to be known about the table, from any process or thread; None when it is gone."""
        if self._guard is _NOBODY:
            return None
        return TableInfo(
            self._name, self._kind, self._access, self._values, self._owner, self._heir, self._rows.size(), self._fixed
        )  # fmt: skip

    @property
    def name(self) -> str | None:
        """What `ets.table(name)` finds it by."""
        return self._name

    # -- who may do what

    def _me(self) -> Process | None:
        """The process whose code this is, if it is code of the table's own event loop."""
        node = self._node
        if get_ident() != node.thread:
            return None
        me = node.me() or node.root
        # Plain asyncio code stays what it is when it is adopted: the tables that it has made before are its own.
        return node.root if self._owner is node.root and me.task in node.adopted else me

    def _may_write(self, verb: str) -> None:
        """Raises when this is not the owner and the table is not public, or there is no table any more."""
        if self._closed:
            node = self._node
            if (node.current or _current()) is not self._writer or get_ident() != node.thread:
                self._is_owner(verb)
        elif self._node.ghosts:
            self._alive()

    def _is_owner(self, verb: str) -> None:
        """The same, called when the first glance does not tell."""
        if self._guard is _NOBODY or self._owner is not self._me():
            self._refuse(verb)

    def _alive(self) -> None:
        """What a killed process still does while its code unwinds does not happen."""
        if get_ident() == self._node.thread:
            living(self._node)

    def _may_read(self, verb: str) -> None:
        """Called when not everybody may, or there is nothing any more."""
        if self._guard is not None and self._guard is not self._me():
            self._refuse(verb)

    def _at_home(self, verb: str) -> None:
        """What changes a table as a whole is done on its own event loop."""
        if self._guard is _NOBODY or self._me() is None:
            self._refuse(verb)

    def _refuse(self, verb: str) -> Never:
        if self._guard is _NOBODY:
            raise NoTable.of(self)
        me = self._me()
        who = "Code of another thread or event loop" if me is None else "Plain asyncio code" if me is self._node.root else repr(me.label())
        raise NoAccess.of(self, verb, self._access, who, self._owner.label())


def _check_heir(heir: Any) -> None:
    if heir is not None:
        try:
            find(heir)
        except TypeError:
            raise TypeError(f"a heir is a process: a pid, an address or a name. Got: {short(heir)}") from None


def _let_go(data: dict[Any, Any], node: Node) -> None:
    """A million rows at once would hold the loop up."""
    for _ in range(min(SLICE, len(data))):
        data.popitem()
    if data and not node.loop.is_closed():
        node.loop.call_soon(_let_go, data, node)
