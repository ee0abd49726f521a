"""State machines: what an event costs that keeps the state, that changes it, and that sets a timeout; beside a GenServer."""

from __future__ import annotations

from beamish import Answer, Begin, Keep, Next, StateMachine, StateTimeout, Transition, call, cast
from benchmarks.harness import Suite, timed
from benchmarks.ours import Counter

suite = Suite()

KEPT, CHANGED = "state machine: call that keeps the state", "state machine: call that changes it"
SET, CAST = "state machine: call that changes it and sets a timeout", "state machine: cast"


class Switch(StateMachine[str, list[int]]):
    """The counter of `ours`, with two states."""

    def init(self) -> Begin[str, list[int]]:
        return Begin("off", [0])

    @call
    def add(self, state: str, data: list[int], by: int) -> int:
        data[0] += by
        return data[0]

    @call
    def keep(self, state: str, data: list[int], by: int) -> Answer[int]:
        data[0] += by
        return Keep(reply=data[0])

    @call
    def flip(self, state: str, data: list[int], by: int) -> Answer[int]:
        data[0] += by
        return Next("on" if state == "off" else "off", reply=data[0])

    @call
    def flip_for_a_minute(self, state: str, data: list[int], by: int) -> Answer[int]:
        data[0] += by
        return Next("on" if state == "off" else "off", StateTimeout(60.0), reply=data[0])

    @cast
    def increase(self, state: str, data: list[int], by: int) -> None:
        data[0] += by

    @cast
    def toggle(self, state: str, data: list[int], by: int) -> Transition:
        data[0] += by
        return Next("on" if state == "off" else "off")


class Entered(Switch):
    """The same, with enter calls."""

    def handle_enter(self, state: str, data: list[int], before: str) -> None: ...


@suite.variant(KEPT, "Beamish: a GenServer", n=200_000, baseline=True)
@suite.variant(CHANGED, "Beamish: a GenServer", n=200_000, baseline=True)
@suite.variant(SET, "Beamish: a GenServer", n=200_000, baseline=True)
async def server(n: int) -> float:
    counter = await Counter.start_link()
    with timed(n) as clock:
        for _ in range(n):
            await counter.add(1)
    return clock.each


@suite.variant(KEPT, "Beamish: a StateMachine, a plain reply", n=200_000)
async def plain(n: int) -> float:
    switch = await Switch.start_link()
    with timed(n) as clock:
        for _ in range(n):
            await switch.add(1)
    return clock.each


@suite.variant(KEPT, "Beamish: a StateMachine, Keep(reply=…)", n=100_000)
async def keep(n: int) -> float:
    switch = await Switch.start_link()
    with timed(n) as clock:
        for _ in range(n):
            await switch.keep(1)
    return clock.each


@suite.variant(CHANGED, "Beamish: a StateMachine", n=100_000)
async def change(n: int) -> float:
    switch = await Switch.start_link()
    with timed(n) as clock:
        for _ in range(n):
            await switch.flip(1)
    return clock.each


@suite.variant(CHANGED, "Beamish: with enter calls", n=50_000)
async def enter(n: int) -> float:
    switch = await Entered.start_link()
    with timed(n) as clock:
        for _ in range(n):
            await switch.flip(1)
    return clock.each


@suite.variant(SET, "Beamish: a StateMachine", n=50_000)
async def timeout(n: int) -> float:
    switch = await Switch.start_link()
    with timed(n) as clock:
        for _ in range(n):
            await switch.flip_for_a_minute(1)
    return clock.each


@suite.variant(CAST, "Beamish: a GenServer, drained", n=100_000, baseline=True)
async def server_casts(n: int) -> float:
    counter = await Counter.start_link()
    with timed(n) as clock:
        for _ in range(n):
            counter.increase(1)
        await counter.add(1)
    return clock.each


@suite.variant(CAST, "Beamish: a StateMachine, state kept", n=100_000)
async def casts(n: int) -> float:
    switch = await Switch.start_link()
    with timed(n) as clock:
        for _ in range(n):
            switch.increase(1)
        await switch.add(1)
    return clock.each


@suite.variant(CAST, "Beamish: a StateMachine, state changed", n=100_000)
async def changing_casts(n: int) -> float:
    switch = await Switch.start_link()
    with timed(n) as clock:
        for _ in range(n):
            switch.toggle(1)
        await switch.add(1)
    return clock.each
