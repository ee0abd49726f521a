"""The end of a loop stops what was started without a link, too: nobody else would."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import beamish
from beamish import DynamicSupervisor, GenServer, Supervisor


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


@pytest.mark.parametrize("start", [_supervisor, _dynamic, _worker])
def test_what_has_no_parent_is_stopped_in_order(start: Any) -> None:
    log: list[Any] = []

    async def main() -> None:
        await start(log)

    asyncio.run(main())
    assert log == [beamish.SHUTDOWN]
