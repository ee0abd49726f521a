"""`linearizable(history, model)`: is there an order of the operations, each within its time, in which one server would answer so?

    class Counting(Model[int]):
        def init(self) -> int:
            return 0

        def step(self, state: int, request: Request) -> tuple[object, int]:
            match request:
                case Request("add", (n,)):
                    return state + n, state + n
                case _:
                    return state, state

    linearizable(history, Counting())

The search is that of Wing and Gong ("Testing and verifying concurrent objects", 1993) with Lowe's memory of what was tried ("Testing for
linearizability", 2017), as in Knossos and Porcupine: it never tries the same set of done operations with the same state twice.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Generic, TypeVar, cast, overload

from beamish import Request
from beamish.testing._history import History, Operation
from beamish.testing._timeline import timeline

S = TypeVar("S")
_NONE: Any = object()


class Model(Generic[S]):
    """What the server would do if it were asked one thing after the other, without processes. Its methods change nothing."""

    def init(self) -> S:
        """The state at the start."""
        raise NotImplementedError(f"{type(self).__name__} needs init(self): the state at the start")

    def step(self, state: S, request: Request, /) -> tuple[Any, S]:
        """(reply, the state after it). Where any reply will do, `unittest.mock.ANY`; for an error `Raised(its class)`."""
        raise NotImplementedError(f"{type(self).__name__} needs step(self, state, request): (reply, new state)")

    def crashed(self, state: S, server: Any, /) -> S:
        """What is left when `server` has ended and was started again: by default what it starts with."""
        return self.init()

    def key(self, request: Request, /) -> Hashable:
        """What the request is about, where requests of different keys never matter to each other: they are checked apart.

        None: it matters to all, and the history is checked as a whole.
        """
        return None


class NotLinearizable(AssertionError):
    """No order explains what the clients saw. `operations` is the shortest part that shows it."""

    def __init__(self, text: str, operations: Sequence[Operation]) -> None:
        super().__init__(text)
        self.operations = list(operations)


class Undecided(RuntimeError):
    """There were more ways to try than `limit`: fewer clients, or more that is answered, make a history easier."""


@overload
def linearizable(history: Iterable[Operation], model: Model[S], /, *, limit: int = ...) -> list[Operation]: ...
@overload
def linearizable(
    history: Iterable[Operation], step: Callable[[S, Request], tuple[Any, S]], initial: S, /, *, limit: int = ...
) -> list[Operation]: ...
def linearizable(history: Iterable[Operation], model: Any, initial: Any = _NONE, /, *, limit: int = 1_000_000) -> list[Operation]:
    """Check a history against a model: a `Model`, or a function `step(state, request) -> (reply, state)` and the state at the start.

    Returns an order that explains it; of a model with keys, one after the other. Raises NotLinearizable, with the shortest part of the
    history that fails drawn as a timeline, or Undecided after `limit` steps of the search.
    """
    __tracebackhide__ = True
    sequential = cast("Any", model if isinstance(model, Model) else _Function(model, initial))
    if isinstance(model, Model) and initial is not _NONE:
        raise TypeError(f"a Model tells its first state itself, by init. Got besides: {initial!r}")
    found: list[Operation] = []
    for part in _parts(list(history), sequential):
        found += _Check(part, sequential, limit).run()
    return found


class _Function(Model[Any]):
    def __init__(self, step: Any, initial: Any) -> None:
        if not callable(step) or isinstance(step, type):
            raise TypeError(f"a model is a Model, as Counting(), or a function step(state, request) and its first state. Got: {step!r}")
        if initial is _NONE:
            raise TypeError(f"a function does not know the first state: linearizable(history, {_shown(step)}, 0)")
        self._step: Any = step
        self._initial = initial

    def init(self) -> Any:
        return self._initial

    def step(self, state: Any, request: Request, /) -> Any:
        return self._step(state, request)


def _shown(function: Any) -> str:
    name = getattr(function, "__name__", "step")
    return name if name.isidentifier() else "step"


def _parts(operations: list[Operation], model: Model[Any]) -> list[list[Operation]]:
    """The history by keys, the server's ends in each part."""
    keys = [None if one.crash else model.key(one.request) for one in operations]
    if any(key is None and not one.crash for key, one in zip(keys, operations, strict=True)):
        return [operations]
    parts: dict[Hashable, list[Operation]] = {key: [] for key in keys if key is not None}
    for key, one in zip(keys, operations, strict=True):
        for part in parts.values() if key is None else [parts[key]]:
            part.append(one)
    return list(parts.values())


# --- the search -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Node:
    """Operations that are done (bits), the state after them, and how it came to that."""

    done: int
    state: Any
    taken: int  # the operation that led here, or -1
    before: _Node | None
    depth: int


class Search:
    """All that can be reached from `states`, each configuration once."""

    def __init__(self, operations: Iterable[Operation], model: Model[Any], limit: int = 1_000_000) -> None:
        self.operations = sorted(operations, key=lambda one: one.begin)
        self.model = model
        self.steps = limit
        self.deepest: _Node | None = None
        self.certain = sum(1 << index for index, one in enumerate(self.operations) if one.certain)
        self.twins = {index: twins for index in range(len(self.operations)) if (twins := self._twins(index))}

    def ends(self, states: Iterable[Any]) -> Iterator[_Node]:
        """Each way to come to an end: all that is certain is done."""
        seen: dict[int, _States] = {}
        pending = [_Node(0, state, -1, None, 0) for state in states]
        while pending:
            node = pending.pop()
            if not seen.setdefault(node.done, _States()).add(node.state):
                continue
            if self.deepest is None or node.depth > self.deepest.depth:
                self.deepest = node
            if not self.certain & ~node.done:
                yield node
            pending += reversed(list(self._following(node)))

    def _following(self, node: _Node) -> Iterator[_Node]:
        """What may happen next: what has begun before anything that must still happen has ended."""
        for index in self.candidates(node.done):
            if self.steps <= 0:
                raise Undecided("the history is not decided: the search was ended after `limit` steps; see linearizable(…, limit=)")
            self.steps -= 1
            state = self.apply(node.state, index)
            if state is not _REFUSED:
                yield _Node(node.done | 1 << index | self._missed(node.done, index), state, index, node, node.depth + 1)

    def _twins(self, index: int) -> int:
        """Operations that go before this one, where it is not sure of either that it has happened: they ask for the same, have begun
        earlier and were over no later, so whatever this one explains, they do. Of 20 lost increments, 20 choices are left of 2^20.
        """
        one = self.operations[index]
        if one.certain or one.crash:
            return 0
        return sum(
            1 << before
            for before, other in enumerate(self.operations[:index])
            if not (other.certain or other.crash) and other.end <= one.end and _same(other.request, one.request)
        )

    def candidates(self, done: int) -> list[int]:
        """Those that must end first come first; what may have happened, or not, last."""
        found: list[int] = []
        soonest = inf
        index = _first_open(done)
        operations = self.operations
        while index < len(operations) and operations[index].begin < soonest:
            if not done >> index & 1:
                one = operations[index]
                if not self.twins.get(index, 0) & ~done:
                    found.append(index)
                if one.certain and one.end < soonest:
                    soonest = one.end
            index += 1
        return sorted(found, key=lambda index: (not operations[index].certain, operations[index].end))

    def _missed(self, done: int, taken: int) -> int:
        """Those that were over before the one that is taken has begun, and so never happen."""
        missed, begin = 0, self.operations[taken].begin
        for index in range(_first_open(done), taken):
            if not done >> index & 1 and self.operations[index].end < begin:
                missed |= 1 << index
        return missed

    def apply(self, state: Any, index: int) -> Any:
        """The state after an operation, or _REFUSED when the model would have replied something else."""
        one = self.operations[index]
        if one.crash:
            return self.model.crashed(_own(state), one.server)
        reply, after = self.answer(state, one)
        if one.certain and not (reply is one.reply or reply == one.reply):
            return _REFUSED
        return after

    def answer(self, state: Any, one: Operation) -> tuple[Any, Any]:
        found: Any = self.model.step(_own(state), one.request)
        try:
            reply, after = found
        except (TypeError, ValueError):
            raise TypeError(f"the step of a model returns (reply, new state). Got: {found!r} for {one.request}") from None
        return reply, after


def _first_open(done: int) -> int:
    """The lowest bit that is not set."""
    return (~done & (done + 1)).bit_length() - 1


def _same(one: Request, other: Request) -> bool:
    """Whether no model can tell them apart: 1 and True are equal, and what has one repr need not be."""
    if repr(one) != repr(other):
        return False
    try:
        return one == other
    except (TypeError, ValueError):  # arrays, say, which have no one answer
        return False


_REFUSED: Any = object()
_PLAIN = (int, str, bytes, float, type(None))


def _own(state: Any) -> Any:
    """A model that changes a mutable state in place must not change those that the search remembers."""
    return state if isinstance(state, _PLAIN) or _frozen(state) else deepcopy(state)


def _frozen(state: Any) -> bool:
    kind = cast("Any", type(state))
    if not issubclass(kind, tuple | frozenset) and not getattr(getattr(kind, "__dataclass_params__", None), "frozen", False):
        return False
    try:
        hash(state)
    except TypeError:
        return False
    return True


class _States:
    """A set of states, which need not be hashable."""

    __slots__ = ("hashable", "others")

    def __init__(self) -> None:
        self.hashable: set[Any] = set()
        self.others: list[Any] = []

    def add(self, state: Any) -> bool:
        """False when it is there."""
        try:
            if state in self.hashable:
                return False
            self.hashable.add(state)
        except TypeError:
            if state in self.others:
                return False
            self.others.append(state)
        return True

    def __iter__(self) -> Iterator[Any]:
        yield from self.hashable
        yield from self.others


def _order(node: _Node | None) -> list[int]:
    """The operations that led there."""
    found: list[int] = []
    while node is not None and node.taken >= 0:
        found.append(node.taken)
        node = node.before
    return found[::-1]


# --- the verdict ------------------------------------------------------------------------------------------------------


class _Check:
    def __init__(self, operations: list[Operation], model: Model[Any], limit: int) -> None:
        self.operations = operations
        self.model = model
        self.limit = limit

    def run(self) -> list[Operation]:
        search = Search(self.operations, self.model, self.limit)
        end = next(search.ends([self.model.init()]), None)
        if end is None:
            raise self._failure()
        return [search.operations[index] for index in _order(end)]

    def _failure(self) -> NotLinearizable:
        """The shortest beginning that fails; of that, what comes after the last moment at which nothing was under way."""
        ends = sorted(one.end for one in self.operations if one.certain)
        low, high = 0, len(ends) - 1  # a beginning of what can be ordered can be ordered: the first that can't is found by halving
        while low < high:
            middle = (low + high) // 2
            if self._fits(_until(self.operations, ends[middle])):
                low = middle + 1
            else:
                high = middle
        part = _until(self.operations, ends[low])
        cut = _last_quiet(part)
        states: list[Any] = [self.model.init()]
        if cut:
            before = Search([one for one in part if one.end < cut], self.model, self.limit)
            reached = _States()
            for end in before.ends(states):
                reached.add(end.state)
            states = list(reached)
            part = [one for one in part if one.begin > cut]
        return self._told(part, states, bool(cut))

    def _fits(self, operations: list[Operation]) -> bool:
        return next(Search(operations, self.model, self.limit).ends([self.model.init()]), None) is not None

    def _told(self, part: list[Operation], states: list[Any], cut: bool) -> NotLinearizable:
        search = Search(part, self.model, self.limit)
        assert next(search.ends(states), None) is None
        shown = " or ".join(sorted({repr(state) for state in states})[:3]) + (" or …" if len(states) > 3 else "")
        begin = f"When nothing was under way the state was {shown}. Then:" if cut else f"The state was {shown} at the start."
        text = f"no order of these operations explains what the clients saw.\n{begin}\n{timeline(search.operations)}"
        return NotLinearizable(f"{text}\n{self._nearest(search)}", [self._original(one) for one in search.operations])

    def _original(self, shown: Operation) -> Operation:
        return next(one for one in self.operations if one.begin == shown.begin)

    def _nearest(self, search: Search) -> str:
        """How far one gets, and what stands in the way there."""
        node = search.deepest
        assert node is not None
        order = _order(node)
        lines = ["The nearest order: " + ("; then ".join(str(search.operations[index]) for index in order) or "none begins")]
        for index in search.candidates(node.done):
            one = search.operations[index]
            if one.certain and not one.crash:
                reply, _ = search.answer(node.state, one)
                lines.append(f"  then, with the state {node.state!r}, {one.client}'s {one} would have been → {reply!r}")
        return "\n".join(lines)


def _until(operations: Iterable[Operation], moment: float) -> list[Operation]:
    """What was known at a moment: what had no answer yet may have happened, or not."""
    begun = [one for one in operations if one.begin <= moment]
    return [one if one.end <= moment else replace(one, end=inf, certain=False) for one in begun]


def _last_quiet(operations: list[Operation]) -> float:
    """The last moment before the end at which no operation was under way, or 0: between an end and a begin. Not behind a crash."""
    quiet, latest, crashed = 0.0, 0.0, False
    for one in sorted(operations, key=lambda one: one.begin):
        if 0 < latest < one.begin and not crashed:
            quiet = one.begin - 0.25
        latest, crashed = max(latest, one.end), one.crash
    return quiet


__all__ = ["History", "Model", "NotLinearizable", "Undecided", "linearizable"]
