"""The short road and the mailbox: random programs of calls, casts, waits, crashes and exits give the same traces on both.

A call may run on its caller's stack or go through the mailbox. Nothing but the speed may tell which: every process sees the same things in
the same order, every caller gets the same answer. A program is data: what each handler is to do is in the request itself.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

import beamish
from beamish import (
    Answer,
    CallExit,
    Continue,
    Crash,
    Down,
    Exit,
    Exited,
    GenServer,
    Hibernate,
    NoReply,
    Reply,
    Stop,
    Supervisor,
    TimedOut,
    Timeout,
    call,
    cast,
)
from beamish.testing import ManualClock, World, capture_crashes
from leaks import descriptors, no_leaks
from supervision.real import idle

SIZE = 4


@dataclass(frozen=True)
class Script:
    """What a handler does, step by step, and how it ends."""

    steps: tuple[tuple[Any, ...], ...] = ()
    end: tuple[Any, ...] = ("reply", 0)


class Trace:
    """What each server saw, whichever of its lives it was in."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.seen: dict[int, list[Any]] = {number: [] for number in range(SIZE)}
        self.clients: dict[int, list[beamish.Client]] = {number: [] for number in range(SIZE)}

    def promised(self) -> dict[int, list[Any]]:
        return {number: promised(seen) for number, seen in self.seen.items()}

    async def passes(self, seconds: float) -> None:
        over = asyncio.Event()
        alarm = self.clock.call_at(self.clock.now() + seconds, over.set)
        try:
            await over.wait()
        finally:
            alarm.cancel()


@dataclass
class State:
    trace: Trace
    number: int

    def note(self, *what: Any) -> None:
        self.trace.seen[self.number].append(what)


class Actor(GenServer[State]):
    def init(self, trace: Trace, number: int, trap: bool) -> State:
        beamish.flag(trap_exit=trap)
        state = State(trace, number)
        state.note("init")
        trace.clients[number].clear()
        return state

    @call
    def run(self, state: State, script: Script) -> Answer[Any]:
        for step in script.steps:
            self.act(state, step)
        return self.finish(state, script.end)

    @call
    async def run_async(self, state: State, script: Script) -> Answer[Any]:
        for step in script.steps:
            await self.act_async(state, step)
        return self.finish(state, script.end)

    @cast
    def told(self, state: State, script: Script) -> Any:
        for step in script.steps:
            self.act(state, step)
        if script.end[0] != "reply":
            return self.finish(state, script.end)
        state.note("told", script.end[1])
        return None

    def handle_continue(self, state: State, arg: Any) -> Any:
        state.note("continue", arg)
        if arg == 13:
            raise Exit("unlucky")
        return NoReply(then=Continue(13)) if arg == 12 else None

    def handle_info(self, state: State, message: Any) -> None:
        match message:
            case Down(reason=reason):
                state.note("down", plain(reason))
            case Exited(reason=reason):
                state.note("exited", plain(reason))
            case TimedOut():
                state.note("timed out")
            case _:
                state.note("message", message)

    def terminate(self, state: State, reason: Any) -> None:
        state.note("terminate", plain(reason))

    # -- steps

    def act(self, state: State, step: tuple[Any, ...]) -> None:
        match step:
            case ("note", value):
                state.note("note", value)
            case ("cast", to, script):
                actor(to).told(script)
            case ("send", to, value):
                quietly(lambda: beamish.send(name(to), value))
            case ("after", seconds, value):
                self.send_after(seconds, value)
            case ("exit", to, reason):
                quietly(lambda: beamish.exit(name(to), reason))
            case ("monitor", to):
                beamish.monitor(name(to))
            case ("link", to):
                quietly(lambda: beamish.link(name(to)))
            case ("unlink", to):
                beamish.unlink(name(to))
            case ("trap", trap):
                beamish.flag(trap_exit=trap)
            case ("answer", value):
                if state.trace.clients[state.number]:
                    beamish.reply(state.trace.clients[state.number].pop(0), value)
            case ("early", value):
                beamish.reply(beamish.client(), value)
            case _:
                state.note("no such step for a def handler")

    async def act_async(self, state: State, step: tuple[Any, ...]) -> None:
        match step:
            case ("call", to, script, slow, timeout):
                state.note("got", await outcome(ask(to, script, slow, timeout)))
            case ("turn",):
                await asyncio.sleep(0)
            case ("exit", *_):  # whether its supervisor has started it again when the next step is done would be a race
                self.act(state, step)
                for _ in range(10):
                    await asyncio.sleep(0)
            case ("wait", seconds):
                await state.trace.passes(seconds)
            case ("both", to, script, other):
                async with asyncio.TaskGroup() as group:
                    first = group.create_task(outcome(ask(to, script, False, 5.0)))
                    await asyncio.sleep(0)
                    second = group.create_task(outcome(ask(to, other, False, 5.0)))
                state.note("got both", first.result(), second.result())
            case _:
                self.act(state, step)

    def finish(self, state: State, end: tuple[Any, ...]) -> Answer[Any]:
        match end:
            case ("reply", value):
                return Reply(value)
            case ("continue", value, arg):
                return Reply(value, then=Continue(arg))
            case ("timeout", value, seconds):
                return Reply(value, then=Timeout(seconds))
            case ("hibernate", value):
                return Reply(value, then=Hibernate())
            case ("later",):
                try:
                    state.trace.clients[state.number].append(beamish.client())
                except RuntimeError:
                    state.note("no client")
                return NoReply()
            case ("stop", reason):
                return Stop(reason)
            case ("stop and reply", reason, value):
                return Stop(reason, reply=value)
            case ("exit", reason):
                raise Exit(reason)
            case ("raise",):
                raise ValueError("of the script")
            case _:
                wrong: Any = Continue("nothing that may be returned")
                return wrong  # type: ignore[no-any-return]


def name(number: int) -> str:
    return f"actor {number % SIZE}"


def actor(number: int) -> Actor:
    return Actor(name(number))


def ask(to: int, script: Script, slow: bool, timeout: float | None) -> Any:
    server = actor(to).with_timeout(timeout)
    return server.run_async(script) if slow else server.run(script)


async def outcome(asking: Any) -> Any:
    try:
        return await asking
    except CallExit as error:
        return type(error).__name__, plain(error.reason)


def quietly(fn: Callable[[], object]) -> None:
    try:
        fn()
    except CallExit:
        pass


MAIL = ("told", "message", "continue", "down", "exited", "timed out")


def promised(seen: list[Any]) -> list[Any]:
    """What a server saw, but for the mail of its lives that a signal ended: what was still queued then is nobody's, and that is a race."""
    lives: list[list[Any]] = []
    for note in seen:
        if note == ("init",):
            lives.append([])
        lives[-1].append(note)
    return [
        note
        for position, life in enumerate(lives)
        for note in life
        if position == len(lives) - 1 or any(one[0] == "terminate" for one in life) or note[0] not in MAIL
    ]


def plain(reason: Any) -> Any:
    return ("crash", type(reason.error).__name__) if isinstance(reason, Crash) else reason


# --- programs ---------------------------------------------------------------------------------------------------------

who = st.integers(0, SIZE - 1)
values = st.integers(1, 99)
reasons: st.SearchStrategy[Any] = st.sampled_from([beamish.NORMAL, beamish.SHUTDOWN, beamish.KILL, "boom"])
# What goes on after the answer, or beside it, races with the caller, in OTP too. So only what is asked by the test itself may end in
# such a way; others only note what they see.
living = st.one_of(
    st.tuples(st.just("reply"), values),
    st.tuples(st.just("continue"), values, st.just(11)),
    st.tuples(st.just("timeout"), values, st.just(1.0)),
    st.tuples(st.just("hibernate"), values),
    st.tuples(st.just("later")),
)
ends = st.one_of(
    st.tuples(st.just("reply"), values),
    living,
    st.tuples(st.just("stop"), st.sampled_from([beamish.NORMAL, "enough"])),
    st.tuples(st.just("exit"), st.sampled_from([beamish.NORMAL, "out"])),
    st.tuples(st.just("raise")),
    st.tuples(st.just("wrong")),
)
last_ends = st.one_of(
    ends,
    st.tuples(st.just("continue"), values, st.sampled_from([12, 13])),
    st.tuples(st.just("timeout"), values, st.just(0.0)),
    st.tuples(st.just("stop and reply"), st.sampled_from([beamish.NORMAL, "enough"]), values),
)
quiet = st.one_of(
    st.tuples(st.just("note"), values), st.tuples(st.just("answer"), values), st.tuples(st.just("after"), st.just(0.5), values)
)
leaves = st.builds(Script, st.lists(quiet, max_size=2).map(tuple), st.tuples(st.just("reply"), values))
plain_steps = st.one_of(
    quiet,
    quiet,
    st.tuples(st.just("cast"), who, leaves),
    st.tuples(st.just("send"), who, values),
    st.tuples(st.just("monitor"), who),
    st.tuples(st.just("link"), who),
    st.tuples(st.just("unlink"), who),
    st.tuples(st.just("trap"), st.booleans()),
)
timeouts = st.sampled_from([5.0, 5.0, None, 0.7])


def scripts(steps: Any, ends: Any, most: int) -> st.SearchStrategy[Script]:
    return st.builds(Script, st.lists(steps, max_size=most).map(tuple), ends)


early = st.one_of(plain_steps, plain_steps, st.tuples(st.just("early"), values))
defs = st.one_of(scripts(plain_steps, ends, 3), scripts(early, living, 3))
leaving = st.builds(
    lambda script, to, reason: Script((*script.steps, ("exit", to, reason)), script.end),
    scripts(plain_steps, ends.filter(lambda end: end[0] != "later"), 3),  # see test_who_is_to_die_may_still_answer
    who,
    reasons,
)


def slower(inner: st.SearchStrategy[Script], ends: Any = ends) -> st.SearchStrategy[Script]:
    steps = st.one_of(
        plain_steps,
        st.tuples(st.just("both"), who, leaves, leaves),
        *[st.tuples(st.just("call"), who, inner, st.just(True), timeouts)] * 4,
        st.tuples(st.just("call"), who, defs, st.just(False), timeouts),
        st.tuples(st.just("turn")),
        st.tuples(st.just("wait"), st.just(1.0)),
    )
    return scripts(steps, ends, 4)


asyncs = slower(slower(slower(defs)), last_ends)
roots = st.one_of(
    st.tuples(st.just("ask"), who, asyncs, st.just(True)),
    st.tuples(st.just("ask"), who, asyncs, st.just(True)),
    st.tuples(st.just("ask"), who, st.one_of(scripts(early, last_ends, 3), leaving), st.just(False)),
    st.tuples(st.just("tell"), who, scripts(early, last_ends, 3)),
    st.tuples(st.just("exit"), who, reasons),
    st.tuples(st.just("pass"), st.sampled_from([0.5, 1.0])),
)
programs = st.lists(roots, min_size=1, max_size=6)


def signals(script: Script) -> bool:
    """Whether it sends an exit signal, here or in what it calls."""
    return any(step[0] == "exit" or any(isinstance(one, Script) and signals(one) for one in step) for step in script.steps)


async def play(program: list[Any], traps: list[bool], inline: bool) -> Any:
    """One program on one road: what every server saw after each step, and every answer."""
    clock = ManualClock()
    async with World(clock, inline=inline) as world:
        trace = Trace(clock)
        children = [actor(number).child_spec(trace, number, trap) for number, trap in enumerate(traps)]
        sup = await Supervisor.start_link(children, max_restarts=1000)
        asked: list[asyncio.Task[Any]] = []
        frames: list[Any] = []
        for step in program:
            if step[0] == "ask" and signals(step[2]):
                await clock.advance(10.0)  # an answer and an exit signal at one time: which of them counts is a race, in OTP too
            match step:
                case ("ask", to, script, slow):
                    asked.append(asyncio.ensure_future(outcome(ask(to, script, slow, 5.0))))
                case ("tell", to, script):
                    actor(to).told(script)
                case ("exit", to, reason):
                    quietly(lambda to=to, reason=reason: beamish.exit(name(to), reason))  # type: ignore[misc]
                case ("pass", seconds):
                    await clock.advance(seconds)
            await idle()
            frames.append((step[0], trace.promised(), [one.done() and one.result() for one in asked]))
        await clock.advance(100.0)
        await idle()
        assert all(one.done() for one in asked), "a call that is never answered"
        frames.append(("end", trace.promised(), [one.result() for one in asked]))
        stopping = asyncio.ensure_future(sup.stop(beamish.SHUTDOWN))
        await clock.advance(100.0)  # one that traps exits may wait for an answer for ever
        await stopping
        no_leaks(world)
        return frames


@settings(max_examples=int(os.environ.get("EXAMPLES", "150")), deadline=None, suppress_health_check=list(HealthCheck))
@given(program=programs, traps=st.lists(st.booleans(), min_size=SIZE, max_size=SIZE))
def test_nobody_can_tell_the_roads_apart(program: list[Any], traps: list[bool]) -> None:
    before = descriptors()
    with capture_crashes():
        short, mailbox = (asyncio.run(play(program, traps, inline)) for inline in (True, False))
    for number, (one, other) in enumerate(zip(short, mailbox, strict=True)):
        assert one == other, f"after step {number}"
    assert descriptors() == before


class Early(GenServer[None]):
    def init(self) -> None: ...

    @call
    def ask(self, state: None) -> Answer[int]:
        beamish.reply(beamish.client(), 1)
        beamish.exit(beamish.current(), beamish.KILL)
        return NoReply()


@pytest.mark.parametrize("inline", [True, False], ids=["inline", "mailbox"])
async def test_an_early_answer_survives_a_kill(world: World, inline: bool) -> None:
    assert await (await Early.start()).ask() == 1


class Dying(GenServer[None]):
    def init(self) -> None: ...

    @call
    def ask(self, state: None, other: Any) -> Answer[int]:
        beamish.link(other)
        beamish.exit(other, beamish.SHUTDOWN)  # and so it is itself to end, when its handler does
        beamish.reply(beamish.client(), 1)
        return NoReply()


@pytest.mark.parametrize("inline", [True, False], ids=["inline", "mailbox"])
async def test_who_is_to_die_may_still_answer(world: World, inline: bool) -> None:
    server = await Dying.start()
    assert await server.ask(await Dying.start()) == 1
    assert not beamish.alive(server)
