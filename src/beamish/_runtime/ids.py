"""Pids and references: what names a process, a monitor or a timer."""

from __future__ import annotations

import itertools
from typing import Any, Never

_refs, _pids = itertools.count(1), itertools.count(1)


class Pid:
    """A process identifier. Equal only to itself, never used again after the process has ended.

    It belongs to one event loop of one interpreter, so it cannot be copied or pickled: send a name instead.
    """

    __slots__ = ("_number",)

    _number: int

    def __repr__(self) -> str:
        # Numbered when somebody first looks: 100,000 numbers that nobody reads are 3 MB.
        if not self._number:
            self._number = next(_pids)
        return f"<0.{self._number}.0>"

    def __copy__(self) -> Pid:
        return self

    def __deepcopy__(self, memo: Any) -> Pid:
        return self

    def __reduce_ex__(self, protocol: Any) -> Never:
        raise TypeError(f"{self!r} is a pid: it means nothing outside its event loop. Pickle the address of a named server instead")


class Ref:
    """A unique reference: what `monitor` and the timers return. Equal only to itself."""

    __slots__ = ("_number",)

    _number: int

    @property
    def id(self) -> int:
        """A number of its own, given when somebody first looks."""
        try:
            return self._number
        except AttributeError:
            self._number = next(_refs)
            return self._number

    def __repr__(self) -> str:
        return f"#Ref<{self.id}>"
