from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import beamish
from beamish import Supervisor, application
from beamish.application import Application, NotStarted
from conformance.words import W, answer, crash, out, sec, settle


class Demo(Application):
    env = {"k": 1}  # noqa: RUF012
    start_phases = {"one": ["x"], "two": []}  # noqa: RUF012

    async def start(self) -> Any:
        out("start")
        match application.get_env(self, "mode"):
            case "error":
                raise beamish.StartError("nope")
            case "crash":
                raise RuntimeError("oops")
        return await Supervisor.start_link([W.spec("w1"), W.spec("w2")], strategy="one_for_one", max_restarts=0), "app_state"

    def start_phase(self, phase: str, args: Any) -> None:
        out(f"start_phase {phase}", args)

    def prep_stop(self, state: Any) -> str:
        out("prep_stop", state)
        return "prep"

    def stop(self, state: Any) -> None:
        out("stop", state)


class Needs(Application):
    applications = (Demo,)


async def answered(work: Awaitable[Any]) -> Any:
    """`:ok` or `{:error, reason}`, with the refusals of Application."""
    try:
        return await answer(work)
    except NotStarted as refused:
        return "error", ("not_started", refused.name)


async def scenario() -> None:
    def env(key: str, default: Any) -> Any:
        return application.get_env(Demo, key, default)

    out("env", (env("k", None), env("none", "dflt"), env("none", "error")))
    out("start", await answered(application.start(Demo)))
    try:
        await application.start(Demo)
    except application.ApplicationAlreadyStarted as refused:
        out("start again", ("error", ("already_started", refused.name)))
    out("stop", await answered(application.stop(Demo)))
    out("stop again", await answered(application.stop(Demo)))

    sec("start failures")
    for mode in ("error", "crash"):
        application.put_env(Demo, "mode", mode)
        out(mode, await answered(application.start(Demo)))
    application.delete_env(Demo, "mode")
    out("dependency not started", await answered(application.start(Needs)))

    sec("a temporary application whose top supervisor dies is just reported; prep_stop and stop still run")
    out("start", await answered(application.start(Demo, "temporary")))
    await crash("w1", "boom")
    await settle(80)
    out("running", any(one.name == "demo" for one in application.which_applications()))

    sec("ensure_all_started starts dependencies first")
    out("->", ("ok", [one.name for one in await application.ensure_all_started(Needs)]))
    out("stop order is the caller's business", (await answered(application.stop(Needs)), await answered(application.stop(Demo))))
