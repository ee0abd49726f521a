"""What one process sends to another arrives in the order of sending, in every interleaving: messages, casts, calls and exit signals."""

from __future__ import annotations

import asyncio
from typing import Any

import beamish
from beamish import Exited, GenServer, call, cast
from beamish.testing import World
from beamish.testing._simulate import simulate
from seeds import seeds

Heard = dict[object, list[int]]


class Ear(GenServer[Heard]):
    """Keeps what it hears from each sender, by whichever way it comes."""

    def init(self) -> Heard:
        beamish.flag(trap_exit=True)
        return {}

    @cast
    def told(self, state: Heard, sender: object, number: int) -> None:
        state.setdefault(sender, []).append(number)

    @call
    def asked(self, state: Heard, sender: object, number: int) -> None:
        state.setdefault(sender, []).append(number)

    @call
    async def asked_slowly(self, state: Heard, sender: object, number: int) -> None:
        await asyncio.sleep(0.001 * (number % 2))
        state.setdefault(sender, []).append(number)

    @call
    def heard(self, state: Heard) -> Heard:
        return state

    def handle_info(self, state: Heard, message: Any) -> None:
        if isinstance(message, Exited):
            message = message.reason
        if isinstance(message, tuple):
            sender, number = message
            state.setdefault(sender, []).append(number)


WAYS = 5


async def speak(name: object, ears: list[Ear]) -> None:
    for number in range(10):
        ear = ears[number % len(ears)]
        match (number + number // WAYS) % WAYS:
            case 0:
                ear.told(name, number)
            case 1:
                await ear.with_timeout(None).asked(name, number)
            case 2:
                beamish.send(ear, (name, number))
            case 3:
                await ear.with_timeout(None).asked_slowly(name, number)
            case _:
                beamish.exit(ear, (name, number))


class Mouth(GenServer[None]):
    """A server that sends, from its own handler."""

    @cast
    async def speak(self, state: None, name: str, ears: list[Ear]) -> None:
        await speak(name, ears)

    @call
    def done(self, state: None) -> bool:
        return True


async def check(world: World) -> None:
    ears = [await world.start_supervised(Ear(f"ear {n}").child_spec()) for n in range(2)]
    mouths = [await world.start_supervised(Mouth(f"mouth {n}").child_spec()) for n in range(2)]
    for n, mouth in enumerate(mouths):
        mouth.speak(f"server {n}", ears)
    async with asyncio.TaskGroup() as group:
        group.create_task(speak("task 0", ears))
        group.create_task(speak("task 1", ears))
    _, ref = beamish.spawn_monitor(speak, "function 0", ears)
    await beamish.down(ref)
    for mouth in mouths:
        assert await mouth.with_timeout(None).done()
    for n, ear in enumerate(ears):
        heard = await ear.with_timeout(None).heard()
        assert len(heard) == 5
        for sender, numbers in heard.items():
            assert numbers == list(range(n, 10, 2)), f"{ear!r} heard {sender} say {numbers}"


@simulate(seeds(500, 20_000))
async def test_the_order_of_each_pair_is_kept(world: World) -> None:
    await check(world)


@simulate(seeds(300, 20_000), faults=["slow"])
async def test_also_when_handlers_are_slow(world: World) -> None:
    await check(world)
