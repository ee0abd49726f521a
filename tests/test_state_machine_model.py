"""Random machines, run beside a model of gen_statem's queues that knows nothing of mailboxes, clocks and tasks."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, assume, given, settings, strategies as st

from beamish import (
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
    StateMachine,
    StateTimeout,
    Transition,
    send,
)
from beamish.testing import ManualClock, World, settle

# --- programs: what a machine does for each state and label -------------------------------------------------------------

STATES = ("s", "t", "u")
#: Labels by level. What an event inserts, or sets a timeout of zero for, has a higher level: so every row of them ends.
LABELS = (("a", "b", "c"), ("d", "e"), ("f",))
SECONDS = (0.0, 0.125, 0.25, 0.5)  # exact in binary, and in the wheel's milliseconds


@dataclass(frozen=True)
class Step:
    """What is done for one event: stay, go or enter again; postpone it; insert, set, cancel and update."""

    kind: str
    goal: str
    actions: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True)
class Program:
    steps: dict[tuple[str, str], Step]
    entering: dict[str, Step | None]
    enters: bool


def actions(level: int, *, entering: bool = False) -> st.SearchStrategy[tuple[Any, ...]]:
    """The actions of an event of that level."""
    later = [label for labels in LABELS[level + 1 :] for label in labels]
    key = st.sampled_from(("state", "event", "n", "m"))
    anything = st.sampled_from([label for labels in LABELS for label in labels])
    kinds = [
        st.tuples(st.just("set"), key, st.sampled_from(SECONDS[1:]), anything),
        st.tuples(st.just("cancel"), key),
    ]
    if later:
        kinds.append(st.tuples(st.just("set"), key, st.just(0.0), st.sampled_from(later)))
        kinds.append(st.tuples(st.just("update"), st.sampled_from(("state", "n", "m")), st.sampled_from(later)))
    if not entering:
        kinds.append(st.tuples(st.just("postpone")))
        if later:
            kinds.append(st.tuples(st.just("insert"), st.sampled_from(later)))
    return st.one_of(kinds)


def step(level: int) -> st.SearchStrategy[Step]:
    kind = st.sampled_from(("keep", "keep", "next", "next", "repeat"))
    return st.builds(Step, kind, st.sampled_from(STATES), st.lists(actions(level), max_size=3).map(tuple))


def entry_step() -> st.SearchStrategy[Step | None]:
    inserted = st.lists(actions(len(LABELS) - 1, entering=True), max_size=2).map(tuple)
    return st.none() | st.builds(Step, st.just("keep"), st.just("s"), inserted)


programs = st.builds(
    Program,
    st.fixed_dictionaries({(state, label): step(level) for state in STATES for level, row in enumerate(LABELS) for label in row}),
    st.fixed_dictionaries({state: entry_step() for state in STATES}),
    st.booleans(),
)
#: What happens from outside: casts and messages that come in one go, calls after them, and time that passes.
scripts = st.lists(
    st.one_of(
        st.tuples(st.just("burst"), st.lists(st.tuples(st.sampled_from(("cast", "info", "call")), st.sampled_from(LABELS[0])), max_size=4)),
        st.tuples(st.just("wait"), st.sampled_from(SECONDS[1:])),
    ),
    max_size=8,
)


# --- the model ----------------------------------------------------------------------------------------------------------


class TooLong(Exception):
    """The program goes round in a circle, as it would in OTP."""


@dataclass
class Running:
    """A timeout that is set."""

    label: str
    when: float


@dataclass
class Model:
    """gen_statem, after its manual: a queue of its own ahead of the mailbox, what is postponed, and timeouts."""

    program: Program
    state: str = "s"
    now: float = 1000.0
    trace: list[Any] = field(default_factory=list)
    answers: dict[int, str] = field(default_factory=dict)
    queue: deque[Any] = field(default_factory=deque)
    zero: deque[Any] = field(default_factory=deque)  # timeouts of zero: after the queue, before the mailbox
    mailbox: deque[Any] = field(default_factory=deque)
    postponed: list[Any] = field(default_factory=list)
    timeouts: dict[str, Running] = field(default_factory=dict)
    left: int = 300

    def begin(self) -> None:
        if self.program.enters:
            self.arrive(self.state, (), changed=False, enter=True, event=None)
        self.drain()

    def drain(self) -> None:
        while self.queue or self.zero or self.mailbox:
            self.left -= 1
            if not self.left:
                raise TooLong
            if self.queue:
                self.handle(self.queue.popleft())
            elif self.zero:
                self.expire(*self.zero.popleft())
            else:
                event = self.mailbox.popleft()
                if event[0] == "expired":
                    self.expire(*event[1:])
                else:
                    self.handle(event)

    def expire(self, key: str, running: Running) -> None:
        if self.timeouts.get(key) is running:
            del self.timeouts[key]
            self.handle((key, running.label, None))

    def handle(self, event: tuple[str, str, int | None]) -> None:
        self.timeouts.pop("event", None)
        kind, label, caller = event
        self.trace.append((self.state, kind, label))
        step = self.program.steps[self.state, label]
        if caller is not None and caller not in self.answers and not any(action[0] == "postpone" for action in step.actions):
            self.answers[caller] = f"{self.state} {label}"
        goal = step.goal if step.kind == "next" else self.state
        changed = goal != self.state
        self.arrive(goal, step.actions, changed=changed, enter=changed or step.kind == "repeat", event=event)

    def arrive(self, goal: str, actions: tuple[Any, ...], *, changed: bool, enter: bool, event: Any) -> None:
        if enter and self.program.enters:
            self.trace.append((goal, "enter", self.state))
            more = self.program.entering[goal]
            if more is not None:
                actions += more.actions
        self.state = goal
        for action in actions:
            if action[0] == "postpone":
                self.postponed.append(event)
        if changed:
            self.timeouts.pop("state", None)
            self.queue.extendleft(reversed(self.postponed))
            self.postponed = []
        self.queue.extendleft(reversed([("internal", action[1], None) for action in actions if action[0] == "insert"]))
        last = {}
        for action in actions:
            if action[0] in ("set", "cancel", "update"):
                last.pop(action[1], None)
                last[action[1]] = action
        for key, action in last.items():
            self.set(key, action)

    def set(self, key: str, action: tuple[Any, ...]) -> None:
        if action[0] == "update" and key in self.timeouts:
            self.timeouts[key].label = action[2]
            return
        self.timeouts.pop(key, None)
        if action[0] == "cancel":
            return
        seconds = action[2] if action[0] == "set" else 0.0
        self.timeouts[key] = running = Running(action[-1], self.now + seconds)
        if not seconds:
            running.when = float("inf")
            self.zero.append((key, running))
        else:
            self.armed.append((key, running))

    armed: list[tuple[str, Running]] = field(default_factory=list)  # in the order in which they were set

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            due = [one for one in self.armed if one[1].when <= end and self.timeouts.get(one[0]) is one[1]]
            if not due:
                break
            self.now = min(running.when for _, running in due)
            fired = [one for one in due if one[1].when == self.now]
            self.armed = [one for one in self.armed if one not in fired]
            self.mailbox.extend(("expired", *one) for one in fired)
            self.drain()
        self.now = end


# --- the real one -------------------------------------------------------------------------------------------------------


def timeout(key: str, seconds: float | None, label: str | None) -> Any:
    match key:
        case "state":
            return StateTimeout(seconds, label)
        case "event":
            return EventTimeout(seconds, label)
        case _:
            return GenericTimeout(key, seconds, label)


def action_of(action: tuple[Any, ...]) -> Any:
    match action:
        case ("postpone",):
            return Postpone()
        case ("insert", label):
            return Internal(label)
        case ("set", key, seconds, label):
            return timeout(key, seconds, label)
        case ("cancel", key):
            return timeout(key, None, None)
        case ("update", "state", label):
            return StateTimeout.update(label)
        case ("update", key, label):
            return GenericTimeout.update(key, label)
    raise AssertionError(action)


class Machine(StateMachine[str, Any]):
    def init(self, program: Program, trace: list[Any]) -> Begin[str, Any]:
        return Begin("s", (program, trace))

    def handle_event(self, state: str, data: Any, event: Event) -> Transition:
        match event:
            case Call(label):
                kind = "call"
            case Cast(label):
                kind = "cast"
            case Info(label):
                kind = "info"
            case Internal(label):
                kind = "internal"
            case StateTimeout(content=label):
                kind = "state"
            case EventTimeout(content=label):
                kind = "event"
            case GenericTimeout(kind, content=label):
                pass
        program, trace = data
        trace.append((state, kind, label))
        step = program.steps[state, label]
        then = [action_of(action) for action in step.actions]
        answer: dict[str, Any] = {"reply": f"{state} {label}"} if kind == "call" and not any(isinstance(a, Postpone) for a in then) else {}
        match step.kind:
            case "next":
                return Next(step.goal, *then, **answer)
            case "repeat":
                return Repeat(*then, **answer)
            case _:
                return Keep(*then, **answer)


class Entering(Machine):
    def handle_enter(self, state: str, data: Any, before: str) -> Transition | None:
        return entered(state, data, before)


class EnteringSlowly(Machine):
    async def handle_enter(self, state: str, data: Any, before: str) -> Transition | None:
        await asyncio.sleep(0)
        return entered(state, data, before)


def entered(state: str, data: Any, before: str) -> Transition | None:
    program, trace = data
    trace.append((state, "enter", before))
    step = program.entering[state]
    return None if step is None else Keep(*map(action_of, step.actions))


async def run(program: Program, script: list[Any], *, inline: bool, slowly: bool) -> tuple[list[Any], dict[int, str]]:
    trace: list[Any] = []
    answers: dict[int, str] = {}
    clock = ManualClock()
    async with World(clock, inline=inline) as world:
        kind = (EnteringSlowly if slowly else Entering) if program.enters else Machine
        machine = await world.start_supervised(kind.child_spec(program, trace))
        numbers = itertools.count()
        tasks: list[asyncio.Task[None]] = []

        async def ask(number: int, label: str) -> None:
            answers[number] = await machine.call(label, timeout=None)

        await settle()
        for what, arg in script:
            if what == "wait":
                await clock.advance(arg)
                continue
            for how, label in arg:
                if how == "cast":
                    machine.cast(label)
                elif how == "info":
                    send(machine, label)
            for how, label in arg:
                if how == "call":
                    tasks.append(asyncio.create_task(ask(next(numbers), label)))
            await settle(200)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return trace, answers


def expected(program: Program, script: list[Any]) -> tuple[list[Any], dict[int, str]]:
    model = Model(program)
    model.begin()
    numbers = itertools.count()
    for what, arg in script:
        if what == "wait":
            model.wait(arg)
            continue
        for how, label in arg:
            if how != "call":
                model.mailbox.append((how, label, None))
        for how, label in arg:
            if how == "call":
                model.mailbox.append((how, label, next(numbers)))
        model.drain()
    return model.trace, model.answers


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(programs, scripts, st.booleans(), st.booleans())
def test_a_machine_does_what_the_model_of_gen_statem_does(program: Program, script: list[Any], inline: bool, slowly: bool) -> None:
    try:
        wanted = expected(program, script)
    except TooLong:
        assume(False)
    assert asyncio.run(run(program, script, inline=inline, slowly=slowly)) == wanted
