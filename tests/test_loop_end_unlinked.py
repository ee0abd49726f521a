"""The end of a loop stops what was started without a link, too: nobody else would."""

from __future__ import annotations

from typing import Any

import pytest

import beamish
from beamish import KILL, DynamicSupervisor, GenServer, Supervisor
from beamish.testing import ManualClock, World, settle
from conftest import both_roads


class Noting(GenServer[list[Any]]):
    def init(self, log: list[Any]) -> list[Any]:
        beamish.flag(trap_exit=True)
        return log

    def handle_info(self, log: list[Any], message: Any) -> None:
        log.append(message)

    def terminate(self, log: list[Any], reason: Any) -> None:
        log.append(reason)


async def _supervisor(log: list[Any]) -> Any:
    return await Supervisor.start([Noting.child_spec(log)])


async def _dynamic(log: list[Any]) -> Any:
    sup = await DynamicSupervisor.start()
    await sup.start_child(Noting.child_spec(log))
    return sup


async def _worker(log: list[Any]) -> Any:
    return await Noting.start(log)


@both_roads
@pytest.mark.parametrize("start", [_supervisor, _dynamic, _worker])
async def test_what_has_no_parent_is_stopped_in_order(world: World, clock: ManualClock, start: Any) -> None:
    log: list[Any] = []
    server = await start(log)
    keeper = world.node.keeper
    await settle()  # the keeper's first turn
    keeper.cancel()  # as the end of asyncio.run does
    try:
        await settle()
        assert keeper.done()
        assert log == [beamish.SHUTDOWN]
    finally:
        beamish.exit(server, KILL)
        await settle()
