"""What a registry gives out: entries, what its listeners are told, and the error of a taken key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, cast as as_type

from beamish._runtime.ids import Pid
from beamish._runtime.process import Process
from beamish.errors import BeamishError, short

if TYPE_CHECKING:
    from beamish.registry import Registry

K = TypeVar("K")
V = TypeVar("V")


class RegistryEntry(NamedTuple, Generic[K, V]):
    """One entry of a registry: `pid` is registered under `key` with `value`."""

    key: K
    pid: Pid
    value: V


class AlreadyRegistered(BeamishError):
    """The key of a unique registry is taken. `pid` is who has it."""

    def __init__(self, registry: object, key: object, pid: Pid) -> None:
        super().__init__(registry, key, pid)
        self.registry = registry
        self.key = key
        self.pid = pid

    def __str__(self) -> str:
        holder = as_type(Process, self.pid).label()
        return (
            f"the key {short(self.key)} of {self.registry!r} is taken by {holder!r}. Look that one up, unregister it there first, "
            'or start a registry with keys="duplicate", where a key may have many processes'
        )


@dataclass(frozen=True, slots=True)
class Registered:
    """What a registry's listeners are sent: `pid` is registered under `key` now."""

    registry: Registry[Any, Any]
    key: Any
    pid: Pid
    value: Any


@dataclass(frozen=True, slots=True)
class Unregistered:
    """What a registry's listeners are sent: `pid` took all back that it had under `key`. Not when it ends: monitor it for that."""

    registry: Registry[Any, Any]
    key: Any
    pid: Pid
