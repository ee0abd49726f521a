"""The trees of `model`, made of real supervisors and servers, which tell what happens to them in the model's words."""

from __future__ import annotations

import asyncio
from typing import Any

import beamish
from beamish import (
    AlreadyPresent,
    AlreadyStarted,
    ChildSpec,
    DynamicSupervisor,
    Exit,
    FailedToStart,
    GenServer,
    Ignore,
    Ignored,
    Killed,
    MaxChildren,
    NoProcess,
    Normal,
    NotFound,
    Restarting,
    ServerDown,
    Shutdown,
    StartError,
    StillRunning,
    Stop,
    Supervisor,
    cast,
    child,
)
from beamish.testing import ManualClock
from supervision import simulation
from supervision.simulation import Spec, Who


class Run:
    """What the processes of one program tell: who is who, and what happened."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.events: list[tuple[Any, ...]] = []
        self.numbers: dict[tuple[Who, str], int] = {}
        self.pids: dict[Who, Any] = {}
        self.whos: dict[Any, Who] = {}
        self.classes: dict[Who, Any] = {}
        self.up: set[Any] = set()

    def born(self, parent: Who, id: str, cls: Any) -> Who:
        key = parent, id
        self.numbers[key] = self.numbers.get(key, 0) + 1
        who = (*parent, (id, self.numbers[key]))
        self.pids[who] = beamish.current()
        self.classes[who] = cls
        self.whos[beamish.current()] = who
        return who

    async def passes(self, seconds: float) -> None:
        over = asyncio.Event()
        alarm = self.clock.call_at(self.clock.now() + seconds, over.set)
        try:
            await over.wait()
        finally:
            alarm.cancel()

    def told(self, event: Any, measurements: Any, metadata: Any, config: Any) -> None:
        who = self.whos.get(metadata["pid"])
        if who is None:
            return
        if event[-1] == "start":
            self.up.add(who)
        else:
            self.events.append(("end", who, plain(metadata["reason"])) if who in self.up else ("gone", who))

    def who(self, child: Any) -> Any:
        if child is None or child == "restarting":
            return child
        if isinstance(child, Worker | Branch | Crowd) and child._name is not None:
            return child._name
        return self.whos[child if isinstance(child, beamish.Pid) else child._process]


def name_of(spec: Spec, parent: Who) -> str | None:
    """Children of deeper supervisors may outlive, for a moment, one that is killed, and keep the name: these have none."""
    return "/".join([*(id for id, _ in parent), spec.id]) if spec.named and len(parent) < 3 else None


class Worker(GenServer[Any]):
    def init(self, run: Run, parent: Who, spec: Spec) -> Any:
        beamish.flag(trap_exit=spec.traps)
        who = run.born(parent, spec.id, class_of(spec))
        return self._begin(run, who, spec) if spec.starts_in is None else self._later(run, who, spec)

    async def _later(self, run: Run, who: Who, spec: Spec) -> Any:
        await (run.passes(spec.starts_in) if spec.starts_in else asyncio.sleep(0))
        return self._begin(run, who, spec)

    def _begin(self, run: Run, who: Who, spec: Spec) -> Any:
        outcome = simulation.outcome_of(spec, who)
        run.events.append(("init", who, outcome))
        match outcome:
            case "ok":
                return run, who, spec
            case "ignore":
                return Ignore()
            case _ if len(who) % 2:
                raise Exit("unready")
            case _:
                return Stop("unready")

    @cast
    def fail(self, state: Any, reason: Any) -> None:
        raise Exit(reason)

    @cast
    def leave(self, state: Any, reason: Any) -> Any:
        return Stop(reason)

    def handle_info(self, state: Any, message: Any) -> None: ...

    def terminate(self, state: Any, reason: Any) -> Any:
        run, who, spec = state
        run.events.append(("terminate", who, plain(reason)))
        if spec.stops_in is None:
            return None
        return run.passes(spec.stops_in) if spec.stops_in else asyncio.sleep(0)


class Branch(Supervisor):
    def init(self, run: Run, parent: Who, spec: Spec) -> Any:  # type: ignore[override]
        who = run.born(parent, spec.id, class_of(spec))
        tree = spec.tree
        assert tree is not None
        children = [real_spec(run, who, one) for one in tree.children]
        options: Any = {name: getattr(tree, name) for name in ("strategy", "max_restarts", "max_seconds", "auto_shutdown")}
        return super().init(children, **options)


class Crowd(DynamicSupervisor):
    def init(self, run: Run, parent: Who, spec: Spec) -> Any:  # type: ignore[override]
        who = run.born(parent, spec.id, class_of(spec))
        tree = spec.tree
        assert tree is not None
        options: Any = {name: getattr(tree, name) for name in ("max_children", "max_restarts", "max_seconds")}
        return super().init(extra_arguments=(run, who), **options)


def class_of(spec: Spec) -> Any:
    if spec.tree is None:
        return Worker
    return Crowd if spec.tree.strategy == "dynamic" else Branch


def real_spec(run: Run, parent: Who, spec: Spec, *, dynamic: bool = False) -> ChildSpec[Any]:
    server = class_of(spec)
    if name := name_of(spec, parent):
        server = server(name)
    arguments = (spec,) if dynamic else (run, parent, spec)  # a dynamic supervisor has the others as its extra arguments
    if spec.by_function:
        made: ChildSpec[Any] = child(server.start_link, *arguments).replace(type="supervisor" if spec.tree else "worker")
    else:
        made = server.child_spec(*arguments).replace(timeout=spec.timeout)
    return made.replace(id=spec.id, restart=spec.restart, shutdown=spec.shutdown, significant=spec.significant)


def plain(reason: Any) -> Any:
    """An exit reason in the model's words."""
    match reason:
        case Normal():
            return simulation.NORMAL
        case Shutdown(detail=None):
            return simulation.SHUTDOWN
        case Shutdown(detail=FailedToStart(id=id, reason=inner)):
            return simulation.SHUTDOWN, id, plain(inner)
        case Killed():
            return simulation.KILLED
    return reason


REASONS = {"normal": beamish.NORMAL, "shutdown": beamish.SHUTDOWN, "kill": beamish.KILL, "boom": "boom"}


async def answer(run: Run, asking: Any) -> Any:
    """What the caller got, in the model's words."""
    try:
        result = await asking
    except AlreadyStarted as error:
        return "already_started", run.who(error.address)
    except StartError as error:
        return "error", plain(error.reason)
    except AlreadyPresent:
        return ("already_present",)
    except MaxChildren:
        return ("max_children",)
    except Ignored:
        return ("ignore",)
    except NotFound:
        return ("not_found",)
    except Restarting:
        return ("restarting",)
    except StillRunning:
        return ("running",)
    except NoProcess:
        return ("noproc",)
    except ServerDown as error:
        return "down", plain(error.reason)
    except beamish.CallExit as error:  # stop() that ended with another reason
        return "down", plain(error.reason)
    return result


def projected(events: list[tuple[Any, ...]], unordered: set[Who]) -> Any:
    """The order of events as OTP promises it: among the children of one supervisor while it lives; of each process for itself.

    The children of a dynamic supervisor (`unordered`) know of no order.
    """
    ended: set[Who] = set()
    families: dict[Who, list[Any]] = {}
    for event in events:
        who = event[1]
        families.setdefault(who, []).append(event)
        if who[:-1] not in ended and who[:-1] not in unordered:
            families.setdefault((*who[:-1], ("children", 0)), []).append(event)
        if event[0] in ("end", "gone"):
            ended.add(who)
    return families


class Real:
    def __init__(self, run: Run) -> None:
        self.run = run
        self.asked: list[asyncio.Future[Any]] = []
        self.others: list[asyncio.Future[Any]] = []

    def do(self, what: tuple[Any, ...]) -> float:
        run = self.run
        match what:
            case ("exit", who, reason):
                beamish.exit(run.pids[who], REASONS[reason])
            case ("fail", who, reason):
                Worker(run.pids[who]).fail(reason)
            case ("leave", who, reason):
                Worker(run.pids[who]).leave(REASONS[reason])
            case ("stop worker", who, reason):
                self.others.append(asyncio.ensure_future(answer(run, beamish.stop(run.pids[who], REASONS[reason]))))
            case ("ask", who, verb, *args):
                self.asked.append(asyncio.ensure_future(answer(run, self.ask(who, verb, args))))
            case ("pass", seconds):
                return float(seconds)
        return 0.0

    async def ask(self, who: Who, verb: str, args: list[Any]) -> Any:
        sup: Any = self.run.classes[who](self.run.pids[who])
        dynamic = isinstance(sup, Crowd)
        match verb:
            case "stop":
                await sup.stop(REASONS[args[0]])
                return ("ok",)
            case "start_child":
                return "ok", self.run.who(await sup.start_child(real_spec(self.run, who, args[0], dynamic=dynamic)))
            case "terminate_child" if dynamic:
                await sup.terminate_child(self.run.pids[args[0]])
                return ("ok",)
            case "restart_child":
                return "ok", self.run.who(await sup.restart_child(args[0]))
            case "which_children":
                found = [(one.id, self.run.who(one.child), one.type) for one in await sup.which_children()]
                return sorted(found, key=str) if dynamic else found
            case "count_children":
                counts = await sup.count_children()
                return counts.specs, counts.active, counts.supervisors, counts.workers
            case _:
                await getattr(sup, verb)(*args)
                return ("ok",)

    async def seen(self, expected: dict[str, Any]) -> dict[str, Any]:
        """What there is to see, beside what is expected."""
        run, trees = self.run, expected["trees"]
        return {
            "alive": run.up - {event[1] for event in run.events if event[0] == "end"},
            "answers": [self.answered(*pair) for pair in zip(self.asked, expected["answers"], strict=True)],
            "events": projected(run.events, {who for who, cls in run.classes.items() if cls is Crowd}),
            "trees": {who: await self.tree(who) for who in trees},
        }

    @staticmethod
    def answered(asked: asyncio.Future[Any], expected: Any) -> Any:
        answer = asked.result() if asked.done() else None
        # Who asks at the moment of a death may come just before it, or just after.
        return expected if answer == ("noproc",) and expected and expected[0] == "down" else answer

    async def tree(self, who: Who) -> Any:
        if who not in self.run.pids:
            return None
        asked = [asyncio.ensure_future(answer(self.run, self.ask(who, verb, []))) for verb in ("which_children", "count_children")]
        await idle()
        return tuple(one.result() if one.done() else one.cancel() and "busy" for one in asked)


async def idle() -> None:
    """Until nothing is left to do at this instant."""
    ready: Any = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]
    await asyncio.sleep(0)
    while ready:  # noqa: ASYNC110  # asyncio has no event for that
        await asyncio.sleep(0)
