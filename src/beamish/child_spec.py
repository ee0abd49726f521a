"""How to start, restart and stop one child of a supervisor: a value that can be kept, compared and changed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Generic, Literal, TypeVar

from beamish.errors import short

R_co = TypeVar("R_co", covariant=True)

Restart = Literal["permanent", "transient", "temporary"]
Kind = Literal["worker", "supervisor"]
_SHUTDOWNS: dict[str, float | None] = {"worker": 5.0, "supervisor": None}
_BY_TYPE: Any = ...  # a shutdown that was not given: as the type says
_NO_KWARGS: Mapping[str, Any] = {}  # shared: an empty dict for each of 100,000 children is 64 B each
_RESTARTS, _KINDS = ("permanent", "transient", "temporary"), ("worker", "supervisor")


class BadChildSpec(ValueError):
    """A child spec that no supervisor could work with; the text says which field, and what to write."""


@dataclass(frozen=True, slots=True)
class ChildSpec(Generic[R_co]):
    """One child. Made by `Server.child_spec(…)`; `replace(id=, restart=, shutdown=, …)` gives a changed copy.

    * `id`: unique among the supervisor's children; by default the server's name, else its class.
    * `start`: a server class, or any async function that starts a process and returns its address or pid.
    * `restart`: "permanent" (always), "transient" (after an abnormal end), "temporary" (never; and then forgotten).
    * `shutdown`: seconds from the request to stop until KILL; 0 or "brutal_kill" kills at once, None waits for ever.
      Default 5.0 for workers, None for supervisors.
    * `significant`: whether a supervisor with `auto_shutdown` ends when this child has ended by itself and is not restarted;
      so it cannot be permanent.
    * `timeout`: seconds that a server's `init` may take (None: as long as it wants).
    * `setup`: what `options(max_queue=, debug=)` asked for.
    """

    id: Any
    start: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=lambda: _NO_KWARGS)
    restart: Restart = "permanent"
    shutdown: float | Literal["brutal_kill"] | None = _BY_TYPE
    type: Kind = "worker"
    significant: bool = False
    name: Any = None
    timeout: float | None = None
    setup: Any = None

    def __post_init__(self) -> None:
        if not callable(self.start):
            raise BadChildSpec(f"start must be a server class or an async function that starts one. Got: {short(self.start)}")
        if self.restart not in _RESTARTS:
            raise BadChildSpec(f'restart must be "permanent", "transient" or "temporary". Got: {short(self.restart)}')
        if self.type not in _KINDS:
            raise BadChildSpec(f'type must be "worker" or "supervisor". Got: {short(self.type)}')
        if self.shutdown is _BY_TYPE:
            object.__setattr__(self, "shutdown", _SHUTDOWNS[self.type])
        if not _is_shutdown(self.shutdown):
            raise BadChildSpec(
                f'shutdown must be seconds (0 or more), "brutal_kill", or None to wait for ever. Got: {short(self.shutdown)}'
            )
        if self.significant and self.restart == "permanent":
            raise BadChildSpec(
                'significant=True means nothing for restart="permanent": that child is always restarted. Make it "transient" or "temporary"'
            )
        hash(self.id)  # unhashable ids fail here, with their own text, not in the supervisor

    def replace(self, **changes: Any) -> ChildSpec[R_co]:
        """A copy with other `id`, `restart`, `shutdown`, …; unknown fields raise, with the list of known ones."""
        unknown = [name for name in changes if name not in _FIELDS]
        if unknown:
            raise BadChildSpec(f"a child spec has no {', '.join(map(repr, unknown))}. It has: {', '.join(_FIELDS)}")
        if "type" in changes and self.shutdown == _SHUTDOWNS[self.type]:
            changes.setdefault("shutdown", _BY_TYPE)
        draft: Any = _new(_Draft)
        for name in _FIELDS:
            setattr(draft, name, changes[name] if name in changes else getattr(self, name))
        draft.__class__ = ChildSpec
        made: ChildSpec[R_co] = draft
        made.__post_init__()
        return made


_FIELDS = tuple(one.name for one in fields(ChildSpec))
_new: Any = object.__new__


class _Draft(Generic[R_co]):  # the same base, or Python refuses to change its class
    """A ChildSpec while it is made: the generated __init__ of a frozen dataclass with 13 fields takes 3 µs more."""

    __slots__ = _FIELDS


def spec_of(cls: Any, name: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], timeout: float | None, setup: Any) -> ChildSpec[Any]:
    """The spec of a server, by what its class says, which was checked when the class was made."""
    draft: Any = _new(_Draft)
    draft.id = cls if name is None else name
    draft.start = cls
    draft.args = args
    draft.kwargs = kwargs or _NO_KWARGS
    draft.restart = cls.__restart__
    draft.shutdown = cls.__shutdown__
    draft.type = cls.__kind__
    draft.significant = False
    draft.name = name
    draft.timeout = timeout
    draft.setup = setup
    draft.__class__ = ChildSpec
    made: ChildSpec[Any] = draft
    return made


def _is_shutdown(value: object) -> bool:
    if value is None or value == "brutal_kill":
        return True
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def child(start: Callable[..., Awaitable[Any]], *args: Any, id: Any = None, **kwargs: Any) -> ChildSpec[Any]:
    """A spec for anything that an async function starts: `child(start_my_process, 42, id="mine")`.

    The function is run in the supervisor's process, so what it starts with `start_link` or `spawn_link` is linked to it.
    """
    return ChildSpec(start if id is None else id, start, args, kwargs)


def validate(children: Any, auto_shutdown: str | None = None) -> list[ChildSpec[Any]]:
    """The children as specs, or BadChildSpec with what to write instead."""
    if isinstance(children, ChildSpec):
        raise BadChildSpec(f"a supervisor takes a list of child specs: [spec]. Got one, of {short(children.id)}")
    specs: list[ChildSpec[Any]] = []
    seen: set[Any] = set()
    for one in children:
        if not isinstance(one, ChildSpec):
            raise BadChildSpec(_what_to_write(one))
        if one.id in seen:
            raise BadChildSpec(f"two children have the id {short(one.id)}: give one of them another, with spec.replace(id=…)")
        if one.significant and auto_shutdown == "never":
            raise insignificant(one)  # pyright: ignore[reportUnknownArgumentType]
        seen.add(one.id)
        specs.append(one)  # pyright: ignore[reportUnknownArgumentType]
    return specs


def insignificant(spec: ChildSpec[Any]) -> BadChildSpec:
    return BadChildSpec(
        f"the child {short(spec.id)} is significant, but this supervisor never ends because of its children. Give the supervisor "
        'auto_shutdown="any_significant" or "all_significant", or the child significant=False'
    )


def _what_to_write(one: object) -> str:
    name = one.__name__ if isinstance(one, type) else type(one).__name__
    if hasattr(one, "child_spec"):
        return f"a supervisor takes child specs. Write {name if isinstance(one, type) else repr(one)}.child_spec(…) instead of {short(one)}"
    return f"a supervisor takes child specs, such as Server.child_spec(…) or child(async_function, …, id=…). Got: {short(one)}"
