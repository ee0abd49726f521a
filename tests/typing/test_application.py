"""Applications to a type checker. Checked, not run (but importable)."""

from __future__ import annotations

from typing import Any, assert_type

import beamish
from beamish import Agent, Application, ChildSpec, Supervisor, application


class Db(Application):
    env = {"url": "sqlite://"}  # noqa: RUF012

    def start(self) -> list[ChildSpec[Any]]:
        return [Agent[int]("connections").child_spec(lambda: 0)]


class Shop(Application):
    name = "the shop"
    applications = (Db,)
    start_phases = {"warm": 0.5}  # noqa: RUF012
    strategy = "rest_for_one"

    def __init__(self, port: int = 80) -> None:
        self.port = port

    async def start(self) -> tuple[Supervisor, int]:
        return await Supervisor.start_link([]), self.port

    async def start_phase(self, phase: str, args: Any) -> None: ...

    def prep_stop(self, state: int) -> int:
        return state

    async def stop(self, state: int) -> None: ...


class Bare(Application):
    async def start(self) -> beamish.Pid:
        return beamish.spawn_link(print)


async def verbs() -> None:
    assert_type(await application.start(Shop), None)
    assert_type(await application.start(Shop(8000), "permanent"), None)
    assert_type(await application.ensure_all_started(Shop, Db(), type="transient"), list[Application])
    assert_type(application.which_applications(), list[Application])
    assert_type(application.get_env(Db, "url"), Any)
    application.put_env(Shop(), "limit", 5)
    await application.stop(Bare)


def programs() -> None:
    async def main() -> int:
        return 1

    assert_type(beamish.run(main), int | None)
    assert_type(beamish.run(main()), int | None)
    assert_type(beamish.run(Shop), None)
    assert_type(beamish.run(Shop(80)), None)


async def mistakes() -> None:
    await application.start("shop")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await application.start(Shop, "for ever")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    class Wrong(Application):
        applications = (Agent,)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]

        def start(self) -> str:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
            return "no tree"

    beamish.run(Wrong)
