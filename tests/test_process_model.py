"""Random programs of links, monitors, aliases, names and exits, held against OTP's table, written down as a model without any beamish.

Every process is a server or a spawned function. A server takes its mail as it comes; a function leaves it in its mailbox, so that what is
flushed, or taken out of order, can be seen there.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings, strategies as st

import beamish
from beamish import Exit, GenServer, call
from beamish.testing import World, capture_crashes, settle
from conftest import both_roads
from leaks import descriptors, no_leaks

# --- the model --------------------------------------------------------------------------------------------------------

NORMAL, KILL, KILLED, NOPROC = "normal", "kill", "killed", "noproc"


@dataclass(eq=False)
class Alias:
    owner: Proc
    once: bool = False
    explicit: bool = True
    on: bool = True


@dataclass(eq=False)
class Monitor:
    number: int
    watcher: Proc
    target: Proc | None
    said: Any  # what was monitored: a process's number, or a name
    on: bool = True
    alias: Alias | None = None

    def stop(self) -> bool:
        active, self.on = self.on, False
        if self.alias is not None and not self.alias.explicit:
            self.alias.on = False
        return active


@dataclass(eq=False)
class Proc:
    number: int
    server: bool
    trap: bool
    alive: bool = True
    name: str | None = None
    links: set[Proc] = field(default_factory=set)
    mail: list[Any] = field(default_factory=list)


class Model:
    """OTP's manual: who lives, who is told what, what each verb answers."""

    def __init__(self, kinds: list[tuple[bool, bool]]) -> None:
        self.procs = [Proc(number, *kind) for number, kind in enumerate(kinds)]
        self.monitors: list[Monitor] = []
        self.aliases: list[Alias] = []
        self.names: dict[str, Proc] = {}

    # -- deaths and signals

    def die(self, first: Proc, reason: Any) -> None:
        row = [(first, reason)]
        while row:
            one, why = row.pop(0)
            if not one.alive:
                continue
            one.alive = False
            if one.name is not None:
                del self.names[one.name]
                one.name = None
            for monitor in self.monitors:
                if monitor.target is one and monitor.on:
                    monitor.stop()
                    self.tell(monitor.watcher, ("down", monitor.number, monitor.said, why))
                if monitor.watcher is one:
                    monitor.stop()
            for alias in self.aliases:
                if alias.owner is one:
                    alias.on = False
            peers, one.links = one.links, set()
            for other in sorted(peers, key=lambda proc: proc.number):
                other.links.discard(one)
                if other.trap:
                    self.tell(other, ("exit", one.number, why))
                elif why != NORMAL:
                    row.append((other, why))

    def tell(self, one: Proc | None, message: Any) -> None:
        if one is not None and one.alive:
            one.mail.append(message)

    # -- the verbs: `me` is who does it

    def end(self, me: Proc, reason: Any) -> None:
        self.die(me, reason)

    def exit(self, me: Proc, target: Proc, reason: Any) -> None:
        if not target.alive:
            return
        if reason == KILL:
            self.die(target, KILLED)
        elif target.trap:
            self.tell(target, ("exit", me.number, reason))
        elif reason != NORMAL or target is me:
            self.die(target, reason)

    def flag(self, me: Proc, trap: bool) -> bool:
        old, me.trap = me.trap, trap
        return old

    def link(self, me: Proc, target: Proc) -> Any:
        if target is me:
            return None
        if target.alive:
            me.links.add(target)
            target.links.add(me)
        elif me.trap:
            self.tell(me, ("exit", target.number, NOPROC))
        else:
            return NOPROC
        return None

    def unlink(self, me: Proc, target: Proc) -> None:
        me.links.discard(target)
        target.links.discard(me)

    def monitor(self, me: Proc, target: Proc | str, mode: str | None) -> None:
        proc = self.names.get(target) if isinstance(target, str) else target
        made = Monitor(len(self.monitors), me, proc, target if isinstance(target, str) else target.number)
        self.monitors.append(made)
        if mode is not None:
            made.alias = Alias(me, once=mode == "reply_demonitor", explicit=mode == "explicit_unalias")
            self.aliases.append(made.alias)
        if proc is None or not proc.alive:
            made.stop()
            self.tell(me, ("down", made.number, made.said, NOPROC))
        elif proc is me:
            made.target = None  # never fires, and is active all the same

    def demonitor(self, me: Proc, monitor: Monitor, flush: bool) -> bool:
        active = monitor.stop()
        if flush and not me.server:
            me.mail = [one for one in me.mail if one[:2] != ("down", monitor.number)]
        return active

    def alias(self, me: Proc, reply: bool) -> None:
        self.aliases.append(Alias(me, once=reply))

    def unalias(self, me: Proc, alias: Alias) -> bool:
        on, alias.on = alias.on, False
        return on

    def send(self, me: Proc, target: Proc | str | Alias, number: int) -> Any:
        match target:
            case str():
                if target not in self.names:
                    return NOPROC
                self.tell(self.names[target], ("message", number))
            case Proc():
                self.tell(target, ("message", number))
            case Alias() if target.on:
                self.tell(target.owner, ("message", number))
                if target.once:
                    target.on = False
                    for monitor in self.monitors:
                        if monitor.alias is target:
                            monitor.stop()
        return None

    def take(self, me: Proc, kind: str) -> Any:
        for message in me.mail:
            if message[0] == kind:
                me.mail.remove(message)
                return message
        return None

    def register(self, me: Proc, name: str, target: Proc) -> Any:
        if name in self.names or not target.alive or target.name is not None:
            return "refused"
        self.names[name] = target
        target.name = name
        return None

    def unregister(self, me: Proc, name: str) -> Any:
        if name not in self.names:
            return "refused"
        self.names.pop(name).name = None
        return None

    def spawn(self, me: Proc, how: str, trap: bool) -> None:
        made = Proc(len(self.procs), False, trap)
        self.procs.append(made)
        if how == "spawn_link":
            made.links.add(me)
            me.links.add(made)
        elif how == "spawn_monitor":
            self.monitor(me, made, None)


# --- the real thing ---------------------------------------------------------------------------------------------------

REASONS: dict[str, Any] = {NORMAL: beamish.NORMAL, KILL: beamish.KILL, KILLED: beamish.KILLED, "shutdown": beamish.SHUTDOWN, "mine": "mine"}
WORDS = {reason: word for word, reason in REASONS.items()} | {beamish.NOPROC: NOPROC}


@dataclass(frozen=True)
class Do:
    """What a process is told to do; its answer comes into `answers`."""

    fn: Callable[[], Any]
    answers: list[Any]

    def __call__(self) -> Any:
        try:
            found = self.fn()
            if inspect.isawaitable(found):
                return self.later(found)
            self.answers.append(found)
        except beamish.NoProcess:
            self.answers.append(NOPROC)
        except ValueError:
            self.answers.append("refused")

    async def later(self, found: Any) -> None:
        try:
            self.answers.append(await found)
        except TimeoutError:
            self.answers.append(None)


class Server(GenServer[list[Any]]):
    def init(self, trap: bool, log: list[Any]) -> list[Any]:
        beamish.flag(trap_exit=trap)
        return log

    @call
    def do(self, state: list[Any], what: Do) -> None:
        what()

    @call
    async def do_async(self, state: list[Any], what: Do) -> None:
        await asyncio.sleep(0)
        what()

    def handle_info(self, state: list[Any], message: Any) -> None:
        state.append(message)


async def function(trap: bool) -> None:
    beamish.flag(trap_exit=trap)
    while True:
        what = await beamish.receive(Do)
        rest = what()
        if rest is not None:
            await rest


@dataclass(frozen=True)
class Message:
    number: int


KINDS = {"exit": beamish.Exited, "down": beamish.Down, "message": Message}


class Real:
    def __init__(self) -> None:
        self.pids: list[Any] = []
        self.logs: list[list[Any]] = []
        self.monitors: list[Any] = []
        self.aliases: list[Any] = []

    async def start(self, kinds: list[tuple[bool, bool]]) -> None:
        for server, trap in kinds:
            log: list[Any] = []
            self.logs.append(log)
            self.pids.append((await Server.start(trap, log)).pid() if server else beamish.spawn(function, trap))
        await settle()

    async def act(self, me: Proc, fn: Callable[[], Any], slow: bool) -> Any:
        """Let the process do it. What it got, or None when it died of it."""
        answers: list[Any] = []
        what = Do(fn, answers)
        if not me.server:
            beamish.send(self.pids[me.number], what)
        else:
            server = Server(self.pids[me.number])
            asked = asyncio.ensure_future(server.do_async(what) if slow else server.do(what))
            asked.add_done_callback(lambda done: done.exception())
        await settle()
        return answers[0] if answers else None

    def verb(self, act: tuple[Any, ...]) -> Callable[[], Any]:
        """What the process is to run; every argument that is a thing of the model is its real counterpart here."""
        match act:
            case ("end", reason):
                return lambda: leave(REASONS[reason])
            case ("exit", target, reason):
                return lambda: beamish.exit(self.pids[target.number], REASONS[reason]) and None
            case ("flag", trap):
                return lambda: beamish.flag(trap_exit=trap)
            case ("link", target):
                return lambda: beamish.link(self.pids[target.number])
            case ("unlink", target):
                return lambda: beamish.unlink(self.pids[target.number])
            case ("monitor", target, mode):
                return lambda: self.monitor(target if isinstance(target, str) else self.pids[target.number], mode)
            case ("demonitor", monitor, flush):
                return lambda: beamish.demonitor(self.monitors[monitor.number], flush=flush, info=True)
            case ("alias", reply):
                return lambda: self.aliases.append(beamish.alias(reply=reply))
            case ("unalias", position):
                return lambda: beamish.unalias(self.aliases[position])
            case ("send", target, number):
                return lambda: beamish.send(self.target(target), Message(number)) and None
            case ("register", name, target):
                return lambda: beamish.register(name, self.pids[target.number])
            case ("unregister", name):
                return lambda: beamish.unregister(name)
            case ("spawn", how, trap):
                return lambda: self.spawn(how, trap)
            case ("take", kind):
                return lambda: beamish.receive(KINDS[kind], timeout=0.0)
        raise AssertionError(act)

    def monitor(self, target: Any, mode: Any) -> None:
        ref = beamish.monitor(target, alias=mode)
        self.monitors.append(ref)
        if mode is not None:
            self.aliases.append(ref)

    def target(self, target: Any) -> Any:
        if isinstance(target, Proc):
            return self.pids[target.number]
        return self.aliases[target] if isinstance(target, int) else target

    def spawn(self, how: str, trap: bool) -> None:
        self.logs.append([])
        made: Any = getattr(beamish, how)(function, trap)
        if how == "spawn_monitor":
            made, ref = made
            self.monitors.append(ref)
        self.pids.append(made)

    def mail(self, proc: Proc) -> Counter[Any]:
        pid = self.pids[proc.number]
        messages = self.logs[proc.number] if proc.server else known(pid).messages
        return Counter(self.plain(message) for message in messages)

    def plain(self, message: Any) -> Any:
        match message:
            case beamish.Exited(pid=pid, reason=reason):
                return "exit", self.pids.index(pid), WORDS[reason]
            case beamish.Down(ref=ref, target=target, reason=reason):
                said = target if isinstance(target, str) else self.pids.index(target)
                return "down", self.monitors.index(ref), said, WORDS[reason]
            case Message(number=number):
                return "message", number
        raise AssertionError(message)


def known(pid: Any) -> beamish.ProcessInfo:
    found = beamish.info(pid)
    assert found is not None
    return found


def leave(reason: Any) -> None:
    raise Exit(reason)


# --- both together ----------------------------------------------------------------------------------------------------

one = st.integers(0, 9)
reasons = st.sampled_from([NORMAL, "shutdown", KILL, KILLED, "mine"])
names = st.sampled_from(["n1", "n2"])
targets = st.one_of(one, one, names)
acts = st.one_of(
    st.tuples(st.just("link"), one),
    st.tuples(st.just("link"), one),
    st.tuples(st.just("unlink"), one),
    st.tuples(st.just("monitor"), targets, st.sampled_from([None, None, "explicit_unalias", "demonitor", "reply_demonitor"])),
    st.tuples(st.just("monitor"), targets, st.just(None)),
    st.tuples(st.just("demonitor"), one, st.booleans()),
    st.tuples(st.just("alias"), st.booleans()),
    st.tuples(st.just("unalias"), one),
    st.tuples(st.just("send"), st.one_of(targets, st.tuples(one)), st.integers(0, 99)),
    st.tuples(st.just("flag"), st.booleans()),
    st.tuples(st.just("register"), names, one),
    st.tuples(st.just("unregister"), names),
    st.tuples(st.just("spawn"), st.sampled_from(["spawn", "spawn_link", "spawn_link", "spawn_monitor"]), st.booleans()),
    st.tuples(st.just("take"), st.sampled_from(["exit", "down", "message"])),
    st.tuples(st.just("exit"), one, reasons),
    st.tuples(st.just("end"), reasons),
)
kinds = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=4)
programs = st.lists(st.tuples(one, acts), min_size=1, max_size=20)


def meant(model: Model, me: Proc, act: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """The act with the things of the model in the place of numbers; None when there is nothing of the kind."""

    def proc(number: Any) -> Any:
        return model.procs[number % len(model.procs)] if isinstance(number, int) else number

    match act:
        case ("link" | "unlink" as verb, number):
            return verb, proc(number)
        case ("exit", number, reason):
            return "exit", proc(number), reason
        case ("monitor", target, mode):
            return "monitor", proc(target), mode
        case ("register", name, number):
            return "register", name, proc(number)
        case ("demonitor", number, flush):
            mine = [monitor for monitor in model.monitors if monitor.watcher is me]
            return ("demonitor", mine[number % len(mine)], flush) if mine else None
        case ("unalias", number):
            mine_too = [position for position, alias in enumerate(model.aliases) if alias.owner is me]
            return ("unalias", mine_too[number % len(mine_too)]) if mine_too else None
        case ("send", (number,), value):
            return ("send", number % len(model.aliases), value) if model.aliases else None
        case ("send", target, value):
            return "send", proc(target), value
        case ("take", _) if me.server:
            return None
        case ("spawn", *_) if len(model.procs) > 7:
            return None
    return act


def do(model: Model, me: Proc, act: tuple[Any, ...]) -> Any:
    """The act in the model, and what it answers."""
    match act:
        case ("unalias", position):
            return model.unalias(me, model.aliases[position])
        case ("send", int() as position, value):
            return model.send(me, model.aliases[position], value)
    verb, *args = act
    return getattr(model, verb)(me, *args)


def same(model: Model, real: Real, where: Any) -> None:
    """That every living process has what it should have, and no other lives."""
    assert [beamish.alive(pid) for pid in real.pids] == [proc.alive for proc in model.procs], where
    for proc in model.procs:
        if not proc.alive:
            assert beamish.info(real.pids[proc.number]) is None
            continue
        info = known(real.pids[proc.number])
        active = [monitor for monitor in model.monitors if monitor.on and monitor.target is not None]
        assert real.mail(proc) == Counter(proc.mail), (where, proc.number)
        assert (info.trap_exit, info.registered_name) == (proc.trap, proc.name), where
        assert {real.pids.index(peer) for peer in info.links} == {peer.number for peer in proc.links}, where
        assert Counter(real.pids.index(watcher) for watcher in info.monitored_by) == Counter(
            monitor.watcher.number for monitor in active if monitor.target is proc
        ), where
        assert Counter(one if isinstance(one, str) else real.pids.index(one) for one in info.monitors) == Counter(
            monitor.said for monitor in active if monitor.watcher is proc
        ), where
    assert {name: beamish.whereis(name) for name in ("n1", "n2")} == {
        name: real.pids[model.names[name].number] if name in model.names else None for name in ("n1", "n2")
    }, where


async def play(kinds: list[tuple[bool, bool]], program: list[Any], inline: bool, slow: bool) -> None:
    async with World(inline=inline) as world:
        model, real = Model(kinds), Real()
        await real.start(kinds)
        for step, (number, act) in enumerate(program):
            me = model.procs[number % len(model.procs)]
            if not me.alive:
                continue
            now = meant(model, me, act)
            if now is None:
                continue
            got = await real.act(me, real.verb(now), slow)
            expected = do(model, me, now)
            if me.alive:
                assert got == (real_message(expected, real, got) if now[0] == "take" else expected), (step, now)
            same(model, real, (step, now))
        for pid in real.pids:
            beamish.exit(pid, beamish.KILL)
        await settle()
        no_leaks(world)


def real_message(expected: Any, real: Real, got: Any) -> Any:
    """The message that was taken is the oldest of its kind."""
    return got if got is not None and real.plain(got) == expected else expected


@both_roads
@settings(max_examples=int(os.environ.get("EXAMPLES", "100")), deadline=None, suppress_health_check=list(HealthCheck))
@given(kinds=kinds, program=programs, slow=st.booleans())
def test_any_program_of_signals_follows_the_table(inline: bool, kinds: list[tuple[bool, bool]], program: list[Any], slow: bool) -> None:
    before = descriptors()
    with capture_crashes():
        asyncio.run(play(kinds, program, inline, slow))
    assert descriptors() == before
