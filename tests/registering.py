"""What the tests of registries share: processes that register what they are told to, and keep their messages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from beamish import KILL, GenServer, Pid, Registry, call, exit, flag, info
from beamish.testing import World, settle

R = Registry[Any, Any]


class Member(GenServer[list[Any]]):
    """A process that does what it is asked, and keeps its messages."""

    def init(self, trap: bool = False) -> list[Any]:
        flag(trap_exit=trap)
        return []

    @call
    def do(self, state: list[Any], act: Callable[[], Any]) -> Any:
        return act()

    @call
    def refused(self, state: list[Any], act: Callable[[], Any]) -> BaseException:
        try:
            raise AssertionError(f"not refused, but {act()!r}")
        except Exception as error:
            return error

    @call
    def mail(self, state: list[Any]) -> list[Any]:
        return list(state)

    @call
    async def hold(self, state: list[Any], until: asyncio.Event) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await until.wait()

    def handle_info(self, state: list[Any], message: Any) -> None:
        state.append(message)


async def member(registry: R, *entries: tuple[Any, Any], trap: bool = False) -> Member:
    """A process with these entries."""
    made = await Member.start(trap)
    for key, value in entries:
        await made.do(lambda key=key, value=value: registry.register(key, value))
    return made


def pid_of(server: GenServer[Any]) -> Pid:
    pid = server.pid()
    assert pid is not None
    return pid


def links(server: GenServer[Any]) -> tuple[Pid, ...]:
    found = info(server)
    assert found is not None
    return found.links


async def end(*servers: Member) -> None:
    for one in servers:
        exit(one, KILL)
    await settle()


async def unique(world: World, partitions: int = 1, **options: Any) -> R:
    return await world.start_supervised(Registry[Any, Any]("r").child_spec(keys="unique", partitions=partitions, **options))


async def duplicate(world: World, partitions: int = 1, **options: Any) -> R:
    return await world.start_supervised(Registry[Any, Any]("d").child_spec(keys="duplicate", partitions=partitions, **options))
