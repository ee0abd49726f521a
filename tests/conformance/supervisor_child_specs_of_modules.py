from __future__ import annotations

from typing import Any

from beamish import Agent, ChildSpec, DynamicSupervisor, GenServer, Registry, Supervisor, Task, TaskSupervisor, sys
from conformance.words import Alias, out, try_


class A(GenServer[Any]):
    def init(self, x: Any = None) -> Any:
        return x


class B(GenServer[Any], restart="transient", shutdown=0.1):
    def init(self, x: Any) -> Any:
        return x


class C(Supervisor):
    async def init(self, x: Any) -> Any:  # type: ignore[override]
        return await super().init([], strategy="one_for_one")


def job(*args: Any) -> None: ...


_NAMES = {TaskSupervisor: Alias("Task.Supervisor"), "N": Alias("N"), job: Alias("Task")}


def shown(spec: ChildSpec[Any], start: bool = True) -> dict[str, Any]:
    """A child spec as Elixir writes it: what is as it would be anyway is left out."""
    id = spec.id if isinstance(spec.id, int) else _NAMES.get(spec.id, spec.id)
    found: dict[str, Any] = {"id": id}
    if start:
        found["start"] = (spec.start, "start_link", list(spec.args))
    if spec.restart != "permanent":
        found["restart"] = spec.restart
    if spec.shutdown != {"worker": 5.0, "supervisor": None}[spec.type]:
        found["shutdown"] = round(spec.shutdown * 1000) if isinstance(spec.shutdown, float) else spec.shutdown
    if spec.type != "worker":
        found["type"] = spec.type
    return found


async def flags(supervisor: Any) -> dict[str, Any]:
    """What a supervisor works with, from the state that its init has made."""
    state = await sys.get_state(supervisor)
    return {"intensity": state.restarts.max_restarts, "period": round(state.restarts.max_seconds), "strategy": state.strategy}


async def scenario() -> None:
    out("use GenServer", shown(A.child_spec("arg")))
    out("use GenServer, opts", shown(B.child_spec("arg").replace(id="custom")))
    out("use Supervisor", shown(C.child_spec("arg")))
    out("Task", shown(Task.child_spec(job, "f"), start=False))
    out("Agent", shown(Agent[Any].child_spec(job), start=False))
    out("Task.Supervisor", shown(TaskSupervisor.child_spec(), start=False))
    out("Task.Supervisor named", shown(TaskSupervisor("N").child_spec(), start=False))
    out("DynamicSupervisor", shown(DynamicSupervisor.child_spec(), start=False))
    out("DynamicSupervisor named", shown(DynamicSupervisor("N").child_spec(), start=False))
    out("Registry", shown(Registry("N").child_spec(keys="unique"), start=False))
    changed = A.child_spec(1).replace(id="x", restart="temporary", shutdown="brutal_kill")
    out("Supervisor.child_spec overrides", shown(changed))
    out("Supervisor.child_spec of a module", shown(A.child_spec()))
    out("of a map", shown(ChildSpec(1, A).replace(id=2)))
    out("unknown key", (await try_(lambda: A.child_spec().replace(nope=1)))[0])
    out("not a module", (await try_(lambda: ChildSpec("x", "x")))[0])  # type: ignore[arg-type]
    s = await Supervisor.start_link([A.child_spec()], strategy="rest_for_one")
    out("Supervisor.init flags", ("ok", (await flags(s), [shown(await s.get_childspec(A))])))
    s = await Supervisor.start_link([], strategy="one_for_all", max_restarts=9, max_seconds=8)
    out("Supervisor.init flags given", await flags(s))
    state = await sys.get_state(await DynamicSupervisor.start_link())
    found = {
        "extra_arguments": list(state.extra_arguments), "intensity": state.restarts.max_restarts,
        "max_children": "infinity" if state.max_children is None else state.max_children,
        "period": round(state.restarts.max_seconds), "strategy": "one_for_one",
    }  # fmt: skip
    out("DynamicSupervisor.init flags", ("ok", found))
