"""What a client gets is the same on both roads of a call, also from a handler that ends its own process."""

from __future__ import annotations

from typing import Any

import pytest

import beamish
from beamish import Answer, GenServer, NoReply, call
from beamish.testing import World


class Early(GenServer[None]):
    def init(self) -> None: ...

    @call
    def ask(self, state: None) -> Answer[int]:
        beamish.reply(beamish.client(), 1)
        beamish.exit(beamish.current(), beamish.KILL)
        return NoReply()


@pytest.mark.parametrize("inline", [True, False], ids=["inline", "mailbox"])
async def test_an_early_answer_survives_a_kill(world: World, inline: bool) -> None:
    assert await (await Early.start()).ask() == 1


class Dying(GenServer[None]):
    def init(self) -> None: ...

    @call
    def ask(self, state: None, other: Any) -> Answer[int]:
        beamish.link(other)
        beamish.exit(other, beamish.SHUTDOWN)  # and so it is itself to end, when its handler does
        beamish.reply(beamish.client(), 1)
        return NoReply()


@pytest.mark.parametrize("inline", [True, False], ids=["inline", "mailbox"])
async def test_who_is_to_die_may_still_answer(world: World, inline: bool) -> None:
    server = await Dying.start()
    assert await server.ask(await Dying.start()) == 1
    assert not beamish.alive(server)
