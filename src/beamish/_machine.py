"""The process of a state machine: a server's process whose events move it from state to state.

    event ──▶ handler ──▶ plain reply            ──▶ as in any server: the state is kept
                     ──▶ Next, Keep, Repeat, …  ──▶ reply ──▶ handle_enter ──▶ the new state, and what comes next:

        mailbox:  [ inserted events │ postponed ones, retried │ timeouts of zero ][ what is queued ]
                  └──────────────────── `ahead` of them ─────────────────────────┘

OTP keeps the first part in a queue of its own; here it is the front of the mailbox, so that everything a server does with
its mail (replies, crash reports, fairness) holds for these events too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast as as_type

from beamish import telemetry
from beamish._answers import CONTROL, UNCHANGED, Hibernate, Ignore, NoReply, Reply, Stop
from beamish._loop import Rest, ServerProcess, is_coroutine
from beamish._runtime.client import Client
from beamish._runtime.node import Node
from beamish._runtime.process import RUNNING, SUSPENDED, Entry, Process
from beamish._runtime.signals import ACK, INFO, ITEM, NOTICE, REQUEST, SYSTEM, Exited, Mark
from beamish._runtime.timers import Timer
from beamish._transition import (
    Action,
    Begin,
    Call,
    Cast,
    Event,
    EventTimeout,
    GenericTimeout,
    Info,
    Internal,
    Keep,
    Next,
    Postpone,
    Repeat,
    Running,
    StateTimeout,
    Timeouts,
    UnhandledEvent,
    Update,
)
from beamish.errors import BadReturn, BeamishError, short

if TYPE_CHECKING:
    from beamish.state_machine import StateMachine

TRANSITION = telemetry.event("beamish.state_machine.transition")

#: A timeout that has come; an event as it is (inserted, or a timeout that was postponed); the first entry of a state.
TIMEOUT, EVENT, BEGIN = Mark("timeout"), Mark("event"), Mark("begin")

_TIMEOUTS: frozenset[type] = frozenset((StateTimeout, EventTimeout, GenericTimeout, Update))
_INSERTED: frozenset[type] = frozenset((Internal, Cast, Info, Call))
_STATE, _EVENT = StateTimeout.key, EventTimeout.key
_POSTPONED, _KEPT = Keep[Any](Postpone()), Keep[Any]()
_AGAIN: Any = object()
_NO_TIMEOUTS: dict[Any, Any] = {}  # what a machine has until it sets one: a dict of its own is 64 B


class Move:
    """A transition on its way: enter calls, which may be async, add to it."""

    __slots__ = ("before", "changed", "data", "entry", "goal", "then")

    def __init__(self, before: Any, goal: Any, data: Any, changed: bool, then: tuple[Action, ...], entry: Entry) -> None:
        self.before = before
        self.goal = goal
        self.data = data
        self.changed = changed
        self.then = then
        self.entry = entry


class MachineProcess(ServerProcess):
    """One running state machine. `state` is the pair (state, data)."""

    __slots__ = ("ahead", "postponed", "timeouts", "waits")

    cls: type[StateMachine[Any, Any]]  # type: ignore[assignment]

    def __init__(self, node: Node, cls: Any, parent: Process | None, name: Any) -> None:
        ServerProcess.__init__(self, node, cls, parent, name)
        self.ahead = 0  # entries at the front of the mailbox that the machine has put there
        self.waits = False  # whether an EventTimeout is set
        self.timeouts: dict[Any, Running] = _NO_TIMEOUTS
        self.postponed: list[Entry] | None = None  # oldest first

    def clear(self) -> None:
        ServerProcess.clear(self)
        for running in self.timeouts.values():
            if running.timer is not None:
                self.node.wheel.cancel(running.timer)
        self.timeouts = _NO_TIMEOUTS
        self.postponed = None

    # -- events

    def special(self, mark: str | Mark, args: Any, client: Client | None) -> Any:
        if mark is TIMEOUT:
            return self.timed_out(args)
        if mark is BEGIN:
            return self.begin_machine(args)
        if mark is INFO or mark is ITEM:
            if type(args) is Exited and args.pid is self.parent:
                return Stop(args.reason)
            event: Event = Info(args)
        elif mark is EVENT:
            event = args
        elif mark is REQUEST and client is not None:
            event = Call(args, client)
        elif mark is NOTICE:
            event = Cast(args)
        else:
            return ServerProcess.special(self, mark, args, client)
        if self.ahead or self.waits:
            self.arrived()
        return self.take(event)

    def arrived(self) -> None:
        """An event is taken out of the mailbox."""
        if self.ahead:
            self.ahead -= 1
        if self.waits:
            self.cancel(_EVENT)

    def timed_out(self, running: Running) -> Any:
        key = running.event.key
        if self.timeouts.get(key) is not running:  # cancelled or set anew since: it never was
            if self.ahead:
                self.ahead -= 1
            return None
        del self.timeouts[key]
        if key is _EVENT:
            self.waits = False
        if self.ahead or self.waits:
            self.arrived()
        return self.take(running.event)

    def take(self, event: Event) -> Any:
        """Ask the state's own function, then `handle_event`. When both say None, nothing takes it."""
        cls, server, (state, data) = self.cls, self.server, self.state
        function = cls.__inside__.of(state) if cls.__inside__ is not None else None
        value = function(server, state, data, event) if function is not None else None
        if value is None:
            function = None
            value = cls.handle_event(server, state, data, event)
        if is_coroutine(value):
            return self.take_later(value, event, state, data, ask=function is not None)
        return self.taken(value, event, state)

    async def take_later(self, value: Any, event: Event, state: Any, data: Any, *, ask: bool) -> Any:
        value = await value
        if value is None and ask:
            value = self.cls.handle_event(self.server, state, data, event)
            if is_coroutine(value):
                value = await value
        return self.taken(value, event, state)

    def taken(self, value: Any, event: Event, state: Any) -> Any:
        if value is None:
            raise UnhandledEvent(self.label(), state, event)
        if type(value) not in CONTROL:
            raise BadReturn(f"{self.cls.__name__}: what took {short(event)}", value, _EXPECTED)
        return value

    # -- what a handler returned

    def at_once(self, value: Any, replies: bool) -> Any:
        """The usual case of `settle`, still on the short road: what is left for the caller is a plain reply, or nothing."""
        reply, then = value.reply, value.then
        if self.status != RUNNING or (reply is UNCHANGED) is replies or type(reply) in CONTROL:
            return value
        state, data = self.state
        if value.data is not UNCHANGED:
            data = value.data
        goal, changed = state, False
        kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
        if kind is Next:
            goal = value.state
            changed = goal is not state and goal != state
            if changed and self.cls.__enters__:
                return value
        for action in then:
            if type(action) not in _WHEN_AT_ONCE:
                return value
        if then or changed:
            self.arrive(goal, data, changed, then, _NO_ENTRY)
        else:
            self.state = goal, data
        return reply if replies else None

    def settle(self, value: Any, entry: Entry) -> Rest:
        """Anything but a plain reply."""
        kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
        name, _, _, client = entry
        if name is SYSTEM or name is ACK:
            return ServerProcess.settle(self, value, entry)
        if kind is Next or kind is Keep or kind is Repeat:
            return self.move(value, entry)
        if kind is Postpone:
            return self.move(_POSTPONED, entry)
        if kind is Stop:
            pair: Any = value.state
            if pair is not UNCHANGED and (pair.__class__ is not tuple or len(pair) != 2):
                raise BadReturn(f"{self.cls.__name__}: the state of a Stop", pair, "state=(state, data)")
            if value.reply is not UNCHANGED and client is not None:
                client.answered(value.reply)  # here, and not after terminate: so does gen_statem
            return ServerProcess.settle(self, value, entry)
        if kind is Reply and client is not None and value.state is UNCHANGED and value.then is None:
            return self.move(Keep(reply=value.value), entry)
        if kind is NoReply and value.state is UNCHANGED and value.then is None:
            return self.move(_KEPT, entry)
        if value is None:
            return None
        raise BadReturn(f"{self.cls.__name__}: what took {_shown(entry)}", value, _EXPECTED)

    def move(self, value: Any, entry: Entry) -> Rest:
        """The reply at once, then the enter calls, then the new state."""
        client = entry[3]
        if value.reply is not UNCHANGED:
            if client is None:
                raise BadReturn(f"{self.cls.__name__}: what took {_shown(entry)}", value, "no reply=, for nobody waits for one")
            client.answered(value.reply)
        elif client is not None:
            client.deferred()
        before, data = self.state
        if value.data is not UNCHANGED:
            data = value.data
        kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
        goal, changed = before, False
        if kind is Next:
            goal = value.state
            changed = goal is not before and goal != before
        if (changed or kind is Repeat) and self.cls.__enters__:
            return self.enter(Move(before, goal, data, changed, value.then, entry))
        self.arrive(goal, data, changed, value.then, entry)
        return None

    # -- entering a state

    def enter(self, move: Move) -> Rest:
        rest: Any = _AGAIN
        while rest is _AGAIN:
            value = self.cls.handle_enter(self.server, move.goal, move.data, move.before)
            if is_coroutine(value):
                return self.enter_later(move, value)
            rest = self.entered(move, value)
        return rest  # type: ignore[no-any-return]

    async def enter_later(self, move: Move, coro: Coroutine[Any, Any, Any]) -> Any:
        rest = self.entered(move, await coro)
        if rest is _AGAIN:
            rest = self.enter(move)
        if rest is not None:
            await rest
        return UNCHANGED

    def entered(self, move: Move, value: Any) -> Any:
        """Do what `handle_enter` returned. _AGAIN: the state is to be entered once more; else a Rest."""
        if not (self.status == RUNNING or self.status == SUSPENDED or self.looked()):
            return None  # it died meanwhile
        kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
        if kind is Stop:
            self.state = move.goal, move.data
            return self.settle(value, move.entry)
        if value is not None:
            if kind is Next and (value.state is move.goal or value.state == move.goal):
                kind = Keep
            if kind not in (Keep, Repeat) or value.reply is not UNCHANGED or not all(type(one) in _WHEN_ENTERING for one in value.then):
                self.state = move.goal, move.data  # as in gen_statem: what it raises ends the old state, what it returns the new one
                raise BadReturn(f"{self.cls.__name__}.handle_enter", value, _EXPECTED_ENTERING)
            if value.data is not UNCHANGED:
                move.data = value.data
            move.then += value.then
            if kind is Repeat:
                return _AGAIN
        self.arrive(move.goal, move.data, move.changed, move.then, move.entry)
        return None

    # -- being there: what comes next

    def arrive(self, state: Any, data: Any, changed: bool, then: tuple[Action, ...], entry: Entry) -> None:
        """In `state` now. Postpone, retry, insert, set timeouts: in this order, as in gen_statem."""
        before = self.state[0]
        self.state = state, data
        if changed:
            if _STATE in self.timeouts:
                self.cancel(_STATE)
            if TRANSITION.handlers:
                facts = {"server": self.label(), "pid": self, "state": state, "before": before}
                TRANSITION.execute({"monotonic_time": self.node.clock.now()}, facts)
        retried = changed and self.postponed
        if not retried and len(then) < 2:  # `do`, for the usual cases
            if not then:
                return
            if type(then[0]) in _TIMEOUTS:
                self.set(as_type(Any, then[0]))
                return
        self.do(changed, then, entry)

    def do(self, changed: bool, then: tuple[Action, ...], entry: Entry) -> None:
        inserted: list[Entry] = []
        timeouts: dict[Any, Any] = {}
        action: Any
        for action in then:
            kind: Any = type(action)  # pyright: ignore[reportUnknownVariableType]
            if kind in _TIMEOUTS:
                timeouts.pop(key := action.key, None)
                timeouts[key] = action  # the last of a kind counts
            elif kind in _INSERTED:
                inserted.append((EVENT, action, None, action.client if kind is Call else None))
            elif kind is Postpone:
                if self.postponed is None:
                    self.postponed = []
                self.postponed.append((EVENT, entry[1].event, None, None) if entry[0] is TIMEOUT else entry)
            elif kind is not Hibernate:
                raise BadReturn(f"{self.cls.__name__}: what took {_shown(entry)}", action, _EXPECTED_ACTION)
        if changed and self.postponed:
            inserted += self.postponed
            self.postponed = None
        if inserted:
            for one in reversed(inserted):
                self.put_first(one)
            self.ahead += len(inserted)
        for timeout in timeouts.values():
            self.set(timeout)

    # -- timeouts

    def set(self, timeout: Timeouts | Update) -> None:
        key = timeout.key
        running = self.timeouts.get(key)
        if isinstance(timeout, Update):
            if running is not None:
                running.event = replace(running.event, content=timeout.timeout.content)
                return
            timeout = timeout.timeout
        elif running is not None:
            self.cancel(key)
        seconds = timeout.seconds
        if seconds is None or seconds == math.inf:
            return
        if self.timeouts is _NO_TIMEOUTS:
            self.timeouts = {}
        self.timeouts[key] = running = Running(timeout)
        if key is _EVENT:
            self.waits = True
        if seconds == 0 and not timeout.absolute:
            self.put_at(self.ahead, (TIMEOUT, running, None, None))
            self.ahead += 1
        else:
            when = seconds if timeout.absolute else self.node.clock.now() + seconds
            running.timer = self.node.wheel.arm(when, self.fire, None, running)

    def fire(self, timer: Timer) -> None:
        timer.message.timer = None
        self.post((TIMEOUT, timer.message, None, None))

    def cancel(self, key: Any) -> None:
        running = self.timeouts.pop(key, None)
        if running is not None and running.timer is not None:
            self.node.wheel.cancel(running.timer)
        if key is _EVENT:
            self.waits = False

    def put_at(self, position: int, entry: Entry) -> None:
        if self.mbox is None:
            self.mbox = self.new_mail()
        self.mbox.insert(position, entry)

    # -- the beginning and the end

    def begun(self, value: Any) -> BeamishError | None:
        kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
        if kind is Begin and all(type(action) in _WHEN_AT_ONCE for action in value.then):
            if self.cls.__enters__ or value.then:
                self.put_first((BEGIN, value.then, None, None))
            value = value.state, value.data
        elif kind is not Stop and kind is not Ignore:
            raise BadReturn(f"{self.cls.__name__}.init", value, "Begin(state, data, …) with timeouts or events, Ignore() or Stop(reason)")
        return ServerProcess.begun(self, value)

    def begin_machine(self, then: tuple[Action, ...]) -> Rest:
        """The first state is entered, from itself; whoever started the machine has it already."""
        state, data = self.state
        entry: Entry = (BEGIN, then, None, None)
        if self.cls.__enters__:
            return self.enter(Move(state, state, data, False, then, entry))
        self.arrive(state, data, False, then, entry)
        return None

    def terminate(self, reason: object) -> Any:
        state, data = self.state
        return self.cls.terminate(self.server, state, data, reason)


def step_of(handler: Callable[..., Any], *, replies: bool) -> Any:
    """What the process runs for an event: it has the pair where a server has its state."""

    def step(server: Any, pair: tuple[Any, Any], *args: Any, **kwargs: Any) -> Any:
        process = server._process
        if process.ahead or process.waits:
            process.arrived()
        state, data = pair
        value = handler(server, state, data, *args, **kwargs)
        kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
        if kind is Keep or kind is Next:
            return process.at_once(value, replies)
        return value

    return step


_NO_ENTRY: Entry = (EVENT, None, None, None)
_WHEN_ENTERING = _TIMEOUTS | {Hibernate}
_WHEN_AT_ONCE = _WHEN_ENTERING | _INSERTED


def _shown(entry: Entry) -> str:
    return repr(entry[1]) if isinstance(entry[0], Mark) else f"{entry[0]}()"


_EXPECTED = "Next(state, …), Keep(…), Repeat(…), Postpone() or Stop(reason)"
_EXPECTED_ENTERING = "None, Keep(…) or Repeat(…) with timeouts, or Stop(reason): an enter call may not change the state, postpone or insert"
_EXPECTED_ACTION = "a timeout, Internal(content) or another event, or Postpone()"
