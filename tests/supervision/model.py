"""What a supervisor does, as a simulation of its own: written from OTP's manual alone, for tests to hold the real one against.

Nothing of beamish is used here. The supervisor's code reads as OTP's manual does: it yields what it waits for (a message, the start or
the end of a child), and the simulation's clock goes on meanwhile.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from supervision.simulation import KILL, KILLED, SHUTDOWN, Proc, Simulation, Spec, Timer, Who, Worker, clean


@dataclass(eq=False)
class Child:
    spec: Spec
    proc: Proc | None = None
    restarting: bool = False
    known: Any = None  # to a dynamic supervisor: the pid that it had last


@dataclass
class Request:
    """A call by the test: `hold` attempts to restart are handled before it."""

    verb: str
    args: tuple[Any, ...]
    hold: int = 0
    sent: float = 0.0
    result: Any = None


Steps = Generator[tuple[Any, ...], Any, Any]
RECEIVE = ("receive",)


class Supervisor(Proc):
    ordered = True  # whether it stops one child after the other

    def __init__(self, sim: Simulation, who: Who, spec: Spec, parent: Supervisor | None) -> None:
        super().__init__(sim, who, spec, parent)
        assert spec.tree is not None
        self.tree = spec.tree
        self.children: list[Child] = []
        self.restarts: list[int] = []
        self.mailbox: list[tuple[Any, ...]] = []
        self.receiving = False
        self.serving: Request | None = None
        self.steps: Steps = self.body()
        self.sim.ready.append(lambda: self.go(None))

    # -- running

    def go(self, value: Any) -> None:
        while self.alive:
            try:
                what = self.steps.send(value)
            except StopIteration:
                return
            match what:
                case ("receive",):
                    if not self.mailbox:
                        self.receiving = True
                        return
                    value = self.take()
                case ("started", proc, seconds):
                    if proc.acked is None and proc.alive:
                        self.wait(proc, seconds)
                        return
                    value = True
                case ("ended", proc, seconds):
                    if proc.alive:
                        self.wait(proc, seconds)
                        return
                    value = True

    def wait(self, proc: Proc, seconds: float | None) -> None:
        timer: Timer | None = None
        steps = self.steps

        def heard() -> None:
            if timer is not None:
                timer.live = False
            if steps is self.steps:  # the start has not been given up meanwhile
                self.go(True)

        def late() -> None:
            proc.heard.remove(heard)
            if steps is self.steps:
                self.go(False)

        proc.heard.append(heard)
        if seconds is not None:
            timer = self.sim.after(seconds, late, lambda: self.alive)

    def post(self, *message: Any) -> None:
        if not self.alive:
            return
        self.mailbox.append(message)
        if self.receiving:
            self.receiving = False
            self.sim.ready.append(lambda: self.go(self.take()))

    def take(self) -> tuple[Any, ...]:
        """The oldest message; a held request lets attempts to restart pass that are posted later."""
        first = self.mailbox[0]
        if first[0] == "REQUEST" and first[1].hold > 0 and first[1].sent == self.sim.now:
            for position, message in enumerate(self.mailbox):
                if message[0] == "TRY":
                    first[1].hold -= 1
                    return self.mailbox.pop(position)
        return self.mailbox.pop(0)

    # -- signals

    def signal(self, reason: Any, *, parent: bool = False) -> None:
        if not self.alive:
            return
        if reason == KILL and not parent:
            self.die(KILLED)
        elif parent:
            self.post("PARENT", reason)

    def die(self, reason: Any) -> None:
        if not self.alive:
            return
        super().die(reason)
        waiting = [message[1] for message in self.mailbox if message[0] == "REQUEST"]
        for asked in [*waiting, self.serving] if self.serving else waiting:
            stopped = asked.verb == "stop" and asked.args[0] == reason
            asked.result = ("ok",) if stopped else ("down", reason)
        self.mailbox.clear()
        for proc in self.sim.procs:
            if proc.parent is not self or not proc.alive:
                continue
            if proc.acked is None:
                proc.give_up()
            else:
                proc.signal(reason, parent=True)

    def give_up(self) -> None:
        self.steps.close()
        self.steps = self.given_up()
        self.sim.ready.append(lambda: self.go(None))

    # -- the supervisor's code: from here on as in the manual

    def body(self) -> Steps:
        for spec in self.tree.children:
            child = Child(spec)
            self.children.append(child)
            result = yield from self.start(child)
            if result[0] == "error":
                yield from self.stop_all()
                reason = (SHUTDOWN, spec.id, result[1])
                self.ack("error", reason)
                self.die(reason)
                return
            if result[0] == "ignore" and spec.restart == "temporary":
                self.children.remove(child)
        self.ack("ok")
        while True:
            match (yield RECEIVE):
                case ("EXIT", proc, reason):
                    yield from self.ended(proc, reason)
                case ("TRY", child):
                    found = self.retried(child)
                    if found is not None and found.restarting:
                        yield from self.restart(found)
                case ("PARENT", reason):
                    yield from self.leave(reason)
                case ("REQUEST", request):
                    self.serving = request
                    request.result = yield from getattr(self, request.verb)(*request.args)
                    self.serving = None

    def given_up(self) -> Steps:
        for proc in self.sim.procs:
            if proc.parent is self and proc.alive and proc.acked is None:
                proc.give_up()
                yield "ended", proc, None
        yield from self.leave(SHUTDOWN)

    def leave(self, reason: Any) -> Steps:
        yield from self.stop_all()
        self.die(reason)
        yield RECEIVE  # never answered: it is dead

    def start(self, child: Child) -> Steps:
        child.proc, child.restarting = None, False
        who = self.sim.number(self.who, child.spec.id)
        made = kind(child.spec)(self.sim, who, child.spec, self)
        if not (yield "started", made, child.spec.timeout):
            made.die(KILLED)
            return "error", "timeout"
        if made.acked is None:
            return "error", KILLED
        if made.acked == ("ok",):
            child.proc = made
        return made.acked

    def end(self, child: Child) -> Steps:
        proc, child.proc, child.restarting = child.proc, None, False
        if proc is None:
            return
        if child.spec.shutdown == "brutal_kill":
            proc.signal(KILL)
            yield "ended", proc, None
        else:
            proc.signal(SHUTDOWN, parent=True)
            if not (yield "ended", proc, child.spec.shutdown):
                proc.signal(KILL)
                yield "ended", proc, None
        self.mailbox = [message for message in self.mailbox if not (message[0] == "EXIT" and message[1] is proc)]

    def stop_all(self) -> Steps:
        for child in reversed(self.children):
            yield from self.end(child)

    def ended(self, proc: Proc, reason: Any) -> Steps:
        child = next((one for one in self.children if one.proc is proc), None)
        if child is None:
            return
        child.proc = None
        spec = child.spec
        if spec.restart == "permanent" or (spec.restart == "transient" and not clean(reason)):
            yield from self.restart(child)
            return
        if spec.restart == "temporary":
            self.children.remove(child)
        if spec.significant and (
            self.tree.auto_shutdown == "any_significant"
            or (
                self.tree.auto_shutdown == "all_significant"
                and not any(one.spec.significant and (one.proc or one.restarting) for one in self.children)
            )
        ):
            yield from self.leave(SHUTDOWN)

    def too_many(self) -> bool:
        second = int(self.sim.now)
        self.restarts = [second, *(t for t in self.restarts if t >= second - self.tree.max_seconds)]
        return len(self.restarts) > self.tree.max_restarts

    def restart(self, child: Child) -> Steps:
        if self.too_many():
            child.restarting = False
            yield from self.leave(SHUTDOWN)
        group = [child]
        if self.tree.strategy != "one_for_one":
            first = 0 if self.tree.strategy == "one_for_all" else self.children.index(child)
            group = self.children[first:]
            for one in reversed(group):
                yield from self.end(one)
                if one.spec.restart == "temporary":
                    self.children.remove(one)
            group = [one for one in group if one.spec.restart != "temporary"]
        for one in group:
            result = yield from self.start(one)
            if result[0] == "error":
                one.restarting = True
                self.post("TRY", one)
                return

    # -- requests

    def stop(self, reason: Any) -> Steps:
        yield from self.leave(reason)

    def find(self, id: str) -> Child | None:
        return next((child for child in self.children if child.spec.id == id), None)

    def retried(self, child: Child) -> Child | None:
        return self.find(child.spec.id)

    def start_child(self, spec: Spec) -> Steps:
        found = self.find(spec.id)
        if found is not None:
            return ("already_started", found.proc.who) if found.proc else ("already_present",)
        child = Child(spec)
        result = yield from self.start(child)
        if result[0] == "error":
            return result
        if not (result[0] == "ignore" and spec.restart == "temporary"):
            self.children.append(child)
        return "ok", child.proc.who if child.proc else None

    def terminate_child(self, id: str) -> Steps:
        child = self.find(id)
        if child is None:
            return ("not_found",)
        yield from self.end(child)
        if child.spec.restart == "temporary":
            self.children.remove(child)
        return ("ok",)

    def _idle(self, id: str) -> tuple[Child | None, tuple[Any, ...]]:
        child = self.find(id)
        if child is None:
            return None, ("not_found",)
        if child.restarting:
            return None, ("restarting",)
        if child.proc is not None:
            return None, ("running",)
        return child, ()

    def restart_child(self, id: str) -> Steps:
        child, error = self._idle(id)
        if child is None:
            return error
        result = yield from self.start(child)
        if result[0] == "error":
            return result
        return "ok", child.proc.who if child.proc else None

    def delete_child(self, id: str) -> Steps:
        child, error = self._idle(id)
        if child is None:
            return error
        self.children.remove(child)
        return ("ok",)
        yield

    def which_children(self) -> Steps:
        return [
            (
                child.spec.id,
                "restarting" if child.restarting else child.proc.who if child.proc else None,
                "supervisor" if child.spec.tree else "worker",
            )
            for child in reversed(self.children)
        ]
        yield

    def count_children(self) -> Steps:
        supervisors = sum(child.spec.tree is not None for child in self.children)
        active = sum(child.proc is not None and child.proc.alive for child in self.children)
        return len(self.children), active, supervisors, len(self.children) - supervisors
        yield


class Dynamic(Supervisor):
    """A DynamicSupervisor, where it differs: children are known by pid and are not kept, and all are stopped at the same time."""

    ordered = False

    def find(self, id: Any) -> Child | None:
        return next((child for child in self.children if child.known == id), None)

    def begin(self, child: Child) -> Steps:
        result = yield from self.start(child)
        if child.proc is not None:
            child.known = child.proc.who
        return result

    def start_child(self, spec: Spec) -> Steps:
        if self.tree.max_children is not None and len(self.children) >= self.tree.max_children:
            return ("max_children",)
        child = Child(spec)
        result = yield from self.begin(child)
        if child.proc is None:
            return result
        self.children.append(child)
        return "ok", child.proc.who

    def terminate_child(self, id: Any) -> Steps:
        child = self.find(id)
        if child is None:
            return ("not_found",)
        yield from self.end(child)
        self.children.remove(child)
        return ("ok",)

    def stop_all(self) -> Steps:
        for child in self.children:
            if child.proc is None:
                continue
            if child.spec.shutdown == "brutal_kill":
                child.proc.signal(KILL)
                continue
            child.proc.signal(SHUTDOWN, parent=True)
            if isinstance(child.spec.shutdown, float) and child.proc.alive:
                late = self.sim.after(child.spec.shutdown, partial(child.proc.signal, KILL), lambda: False)
                child.proc.heard.append(late.cancel)
        for child in self.children:
            if child.proc is not None:
                yield "ended", child.proc, None

    def ended(self, proc: Proc, reason: Any) -> Steps:
        child = next((one for one in self.children if one.proc is proc), None)
        if child is None:
            return
        child.proc = None
        if child.spec.restart == "permanent" or (child.spec.restart == "transient" and not clean(reason)):
            yield from self.restart(child)
        else:
            self.children.remove(child)

    def restart(self, child: Child) -> Steps:
        if self.too_many():
            yield from self.leave(SHUTDOWN)
        result = yield from self.begin(child)
        if result[0] == "error":
            child.restarting = True
            self.post("TRY", child)
        elif result[0] == "ignore":
            self.children.remove(child)

    def retried(self, child: Child) -> Child | None:
        return child if child in self.children else None

    def which_children(self) -> Steps:
        found = yield from super().which_children()
        return sorted(((None, child, type) for _, child, type in found), key=str)


def kind(spec: Spec) -> type[Proc]:
    if spec.tree is None:
        return Worker
    return Dynamic if spec.tree.strategy == "dynamic" else Supervisor


def request(sup: Supervisor, verb: str, *args: Any, hold: int = 0) -> Request:
    made = Request(verb, args, hold, sup.sim.now)
    if sup.alive:
        sup.post("REQUEST", made)
    else:
        made.result = ("noproc",)
    return made


def living(sim: Simulation) -> Iterable[Proc]:
    return (proc for proc in sim.procs if proc.alive and proc.acked == ("ok",))
