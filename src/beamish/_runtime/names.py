"""Names that lead to a process by way of something else: a registry (`Via`), or another node (`At`).

A plain name is a str and is looked up in `Node.names`; these are asked (`process`) by `Node.whereis`, the one door for names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from beamish._runtime.ids import Pid

if TYPE_CHECKING:
    from beamish._runtime.node import Node
    from beamish._runtime.process import Process

#: The name of a node that takes part in no cluster, as in Erlang.
LOCAL = "nonode@nohost"


# Names are tuples, for their quick hash; `super()` may not be written in a NamedTuple. A Via equals a Via only.
_tuple: Any = tuple
_equal: Callable[[Any, Any], bool] = _tuple.__eq__
_hash: Callable[[Any], int] = _tuple.__hash__


class NameServer(Protocol):
    """What a `Via` goes through: OTP's via protocol. `Registry` and `PartitionSupervisor` have it, and so may classes of yours.

    All four are asked on the event loop and may not wait.
    """

    def register_name(self, key: Any, pid: Pid, /) -> bool:
        """Give `pid` the name `key`. False when it is taken."""
        ...

    def unregister_name(self, key: Any, /) -> object:
        """Take the name back; nothing happens when nobody has it."""
        ...

    def whereis_name(self, key: Any, /) -> Pid | None:
        """Who has the name and is alive, or None."""
        ...

    def send(self, key: Any, message: Any, /) -> object:
        """Put `message` into the mailbox of who has the name."""
        ...


class Via(NamedTuple):
    """The name `key` in `module`, which is a Registry, a PartitionSupervisor or any other `NameServer`.

    Wherever a name may stand: `Cache(Via(registry, "eu")).start_link()`, `send(Via(registry, "eu"), message)`. A server that is
    started under it is registered before its `init` runs.
    """

    module: NameServer
    key: Any

    def process(self, node: Node) -> Process | None:
        try:
            found: Any = self.module.whereis_name(self.key)
        except AttributeError:
            if hasattr(self.module, "whereis_name"):
                raise
            raise TypeError(f'a Via takes a registry, then the key: Via(Registry("rooms"), "tea"). Got: {self!r}') from None
        if found is not None and not isinstance(found, Pid):
            raise TypeError(f"{self.module!r}.whereis_name({self.key!r}) must return a pid or None. Got: {found!r}")
        return cast("Process | None", found)

    def __eq__(self, other: object) -> bool:
        return type(other) is Via and _equal(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return _hash(self)

    def __repr__(self) -> str:
        return f"Via({self.module!r}, {self.key!r})"


class At(NamedTuple):
    """The name `name` on the node `node` (OTP's `{name, node}`); `beamish.node()` is this one.

    A call to a node that is not connected fails with ServerDown, reason NoConnection; messages to it are dropped.
    """

    name: str
    node: str

    @property
    def local(self) -> bool:
        return self.node == LOCAL

    def process(self, node: Node) -> Process | None:
        return node.names.get(self.name) if self.local else None

    def __eq__(self, other: object) -> bool:
        return type(other) is At and _equal(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return _hash(self)

    def __repr__(self) -> str:
        return f"At({self.name!r}, {self.node!r})"


#: What a name may be.
Name = str | Via | At
