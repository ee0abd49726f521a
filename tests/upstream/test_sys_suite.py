"""sys_SUITE: looking on, suspending, debug functions, and a process of another kind that is asked the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import beamish
from beamish import NORMAL, CallTimeout, Client, GenServer, Reply, StateMachine, Stop, call, cast, sys, whereis
from beamish.testing import World
from conftest import both_roads

pytestmark = both_roads


class Server(GenServer[int]):
    def init(self) -> int:
        return 0

    def handle_call(self, state: int, request: Any, client: Client) -> Any:
        match request:
            case ("req", n):
                return Reply(("ok", -n), state=state + 1)
            case "stop":
                return Stop(NORMAL, reply="ok")
        return super().handle_call(state, request, client)


async def start(world: World) -> Server:
    return await world.start_supervised(Server("sys_SUITE_server").child_spec().replace(restart="temporary"))


async def public_call(n: int) -> Any:
    return await Server("sys_SUITE_server").call(("req", n), timeout=0.0)


TOLD = ["*DBG* Server('sys_SUITE_server') got call ('req', 44) from ", "*DBG* Server('sys_SUITE_server') sent ('ok', -44) to "]


def is_told(text: str) -> bool:
    lines = text.splitlines()
    return len(lines) == len(TOLD) and all(line.startswith(begin) for line, begin in zip(lines, TOLD, strict=True))


async def test_log_that_is_printed(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    server = await start(world)
    await sys.log(server, True)
    assert await public_call(44) == ("ok", -44)
    assert len(await sys.log(server, "print")) == 2
    assert is_told(capsys.readouterr().out)


async def test_log(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    server = await start(world)
    await sys.log(server, True)
    for n in range(20):
        await public_call(n)
    assert len(await sys.log(server)) == 10
    await sys.log(server, False)
    assert await sys.log(server, "print") == []
    assert capsys.readouterr().out == ""


async def test_log_to_file(world: World, tmp_path: Path) -> None:
    server, path = await start(world), tmp_path / "sys.log"
    await sys.log_to_file(server, path)
    assert await public_call(44) == ("ok", -44)
    await sys.log_to_file(server, False)
    assert await public_call(45) == ("ok", -45)
    assert is_told(path.read_text())


async def test_stats(world: World) -> None:
    server = await start(world)
    await sys.statistics(server, True)
    assert await public_call(-44) == ("ok", 44)
    counted = await sys.statistics(server, "get")
    assert counted is not None
    assert (counted.messages_in, counted.messages_out) == (1, 1)
    assert counted.start_time <= counted.current_time
    await sys.statistics(server, False)
    status = await sys.get_status(server)
    assert (status.status, status.debug) == ("running", [])
    assert await sys.statistics(server, "get") is None


async def test_trace(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    server = await start(world)
    await sys.trace(server, True)
    assert await public_call(44) == ("ok", -44)
    assert is_told(capsys.readouterr().out)
    await sys.trace(server, False)
    await public_call(44)
    assert capsys.readouterr().out == ""


async def test_suspend(world: World) -> None:
    server = await start(world)
    for _ in range(2):  # doing it twice is no error
        await sys.suspend(server, 1.0)
        with pytest.raises(CallTimeout):
            await public_call(48)
        assert (await sys.get_status(server)).status == "suspended"
    for _ in range(2):
        await sys.resume(server)
        assert (await sys.get_status(server)).status == "running"
        assert await Server("sys_SUITE_server").call(("req", 48)) == ("ok", -48)


async def test_install(world: World) -> None:
    server = await start(world)
    spied: list[Any] = []

    def spy(state: str, event: sys.Event, name: object) -> str:
        if isinstance(event, sys.In):
            spied.append((event.message, name, state))
        return state

    await sys.install(server, spy, "func_state")
    await public_call(1)
    await sys.no_debug(server)
    await public_call(2)
    await sys.install(server, spy, "func_state")
    await sys.install(server, spy, "func_state")
    await public_call(3)
    await sys.remove(server, spy)
    await public_call(4)
    assert spied == [(("req", n), server, "func_state") for n in (1, 3)]


class Channels(StateMachine[str, dict[str, list[int]]]):
    """A process that is no GenServer."""

    def init(self, n: int) -> Any:
        return beamish.Begin("up", {"used": [], "free": list(range(1, n + 1))})

    @call
    def alloc(self, state: str, data: dict[str, list[int]]) -> int:
        data["used"].append(data["free"].pop(0))
        return data["used"][-1]

    @cast
    def free(self, state: str, data: dict[str, list[int]], channel: int) -> None:
        data["used"].remove(channel)
        data["free"].insert(0, channel)


async def test_special_process(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Processes of another kind answer to sys as well. (One that is written by hand is a spawned function here, and answers to nothing.)"""
    channels = await Channels("special").start_link(100)
    await sys.statistics(channels, True)
    await sys.trace(channels, True)
    assert await channels.alloc() == 1
    state = await sys.get_state(channels)
    assert state == ("up", {"used": [1], "free": list(range(2, 101))})
    assert await sys.replace_state(channels, lambda _: ("up", {"used": [1], "free": [2, 3, 4]})) == ("up", {"used": [1], "free": [2, 3, 4]})
    channels.free(1)
    assert await sys.get_state(channels) == ("up", {"used": [], "free": [1, 2, 3, 4]})
    counted = await sys.statistics(channels)
    assert counted is not None
    assert (counted.messages_in, counted.messages_out) == (2, 1)
    await sys.statistics(channels, False)
    assert "alloc()" in capsys.readouterr().out
    with pytest.raises(ZeroDivisionError):
        await sys.replace_state(channels, lambda _: 1 / 0)
    assert await sys.get_state(channels) == ("up", {"used": [], "free": [1, 2, 3, 4]})
    await sys.terminate(channels, NORMAL)
    assert whereis("special") is None
    with pytest.raises(beamish.WrongServer):
        await sys.get_state(beamish.current())


@pytest.mark.parametrize("how", ["name", "pid", "address"])
async def test_get_state_and_replace_state(world: World, how: str) -> None:
    """gen_server_SUITE's get_state and replace_state."""
    server = await start(world)
    target: Any = {"name": "sys_SUITE_server", "pid": server.pid(), "address": server}[how]
    assert await sys.get_state(target) == 0
    assert await sys.get_state(target, 5.0) == 0
    assert await sys.replace_state(target, lambda state: state + 1) == 1
    assert await sys.get_state(target) == 1

    def fails(state: int) -> int:
        raise ValueError("fail")

    with pytest.raises(ValueError, match="fail"):
        await sys.replace_state(target, fails)
    assert await sys.get_state(target) == 1
    await sys.suspend(target)
    assert await sys.get_state(target) == 1
    assert await sys.replace_state(target, lambda _: 7) == 7
    await sys.resume(target)
    assert await sys.get_state(target) == 7
