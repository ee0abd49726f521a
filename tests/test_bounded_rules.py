"""`options(max_queue=…)` under adverse conditions: the exact bound, both roads, what is no mail, and what a refusal leaves."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.conftest import both_roads

from beamish import (
    KILL,
    CallTimeout,
    Continue,
    GenServer,
    Init,
    MultiCall,
    NoReply,
    Overloaded,
    Registry,
    ServerDown,
    TimedOut,
    Timeout,
    Via,
    alias,
    call,
    cast,
    client,
    exit,
    flag,
    link,
    monitor,
    reply,
    send,
    send_after,
    sys,
    telemetry,
)
from beamish.testing import ManualClock, World, capture_crashes, settle

pytestmark = both_roads


class Desk(GenServer[list[Any]]):
    def init(self, *items: Any) -> Any:
        return list(items)

    @call
    def items(self, state: list[Any]) -> list[Any]:
        return list(state)

    @call
    async def wait(self, state: list[Any], gate: Any) -> str:
        await gate
        return "done"

    @call
    async def ask(self, state: list[Any], other: Any) -> str:
        try:
            await other.items()
        except Overloaded:
            return "overloaded"
        return "answered"

    @call
    def prepare(self, state: list[Any], other: Any) -> None:
        flag(trap_exit=True)
        link(other)
        monitor(other)

    @cast
    def put(self, state: list[Any], item: Any) -> None:
        state.append(item)

    def handle_call(self, state: list[Any], request: Any, client: Any) -> Any:
        if isinstance(request, str):
            return request.upper()
        return super().handle_call(state, request, client)

    def handle_info(self, state: list[Any], message: Any) -> None:
        state.append(message)


class Plain(Desk):
    """Without a handle_call of its own, so that its calls may take the short road."""

    handle_call = GenServer.handle_call


def gate() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()


async def busy(world: World, bound: int, *, kind: Any = Plain) -> tuple[Any, asyncio.Future[Any], asyncio.Task[Any]]:
    desk = await world.start_supervised(kind("desk").options(max_queue=bound).child_spec())
    opened = gate()
    waiting = asyncio.ensure_future(desk.wait(opened))
    await settle()
    return desk, opened, waiting


@pytest.mark.parametrize("bound", [1, 2, 7])
@pytest.mark.parametrize("kind", [Desk, Plain])
async def test_the_bound_is_exact_and_order_is_kept(world: World, bound: int, kind: Any) -> None:
    desk, opened, waiting = await busy(world, bound, kind=kind)
    for n in range(bound + 3):
        if n % 2:
            desk.put(n)
        else:
            send(desk, n)
    with pytest.raises(Overloaded, match=f"{bound}"):
        await desk.items()
    with pytest.raises(Overloaded):
        await desk.call("generic")
    desk.cast("dropped")
    opened.set_result(None)
    await waiting
    assert await desk.items() == list(range(bound))


async def test_a_call_that_finds_an_idle_server_with_a_full_mailbox(world: World, inline: bool) -> None:
    """On its caller's stack the mail is handled first, as if the server had had its turn: then there is room. Else there is none."""
    desk = await world.start_supervised(Plain("desk").options(max_queue=2).child_spec())
    for n in range(3):
        desk.put(n)
    if not inline:
        with pytest.raises(Overloaded):
            await desk.items()
        await settle()
    assert await desk.items() == [0, 1]


async def test_a_refused_call_leaves_nothing_behind(world: World, clock: ManualClock) -> None:
    desk, opened, waiting = await busy(world, 1)
    desk.put(1)
    other = await world.start_supervised(Plain("other").child_spec())
    assert await other.ask(desk) == "overloaded"
    process: Any = desk.pid()
    asker: Any = other.pid()
    assert len(process.waiters) == 1
    assert asker.waiting is None
    tables = world.node.timeouts._tables  # pyright: ignore[reportPrivateUsage]
    assert sum(len(table.waiting) for table in tables.values()) == 1
    opened.set_result(None)
    await waiting
    assert await desk.ask(other) == "answered"  # no circle: nobody waits the other way round any more


async def test_a_call_that_is_refused_is_no_circle(world: World) -> None:
    one = await world.start_supervised(Plain("one").options(max_queue=1).child_spec())
    two = await world.start_supervised(Plain("two").options(max_queue=1).child_spec())

    class Chain(Plain):
        @call
        async def begin(self, state: list[Any], opened: Any) -> str:
            await opened
            return await two.ask(self)

    chain = await world.start_supervised(Chain("chain").options(max_queue=1).child_spec())
    opened = gate()
    begun = asyncio.ensure_future(chain.begin(opened))
    await settle()
    chain.put(1)
    opened.set_result(None)
    with capture_crashes(), pytest.raises(ServerDown, match="Deadlock"):  # the circle is seen before the mailbox is looked at
        await begun
    assert await one.items() == await two.items() == []


@pytest.mark.parametrize("then", ["continue", "timeout"])
async def test_what_a_server_does_next_is_no_mail(world: World, then: str) -> None:
    class Going(Plain):
        def init(self, *items: Any) -> Any:
            return Init([], then=Continue() if then == "continue" else Timeout(0.0))

        def handle_continue(self, state: list[Any], arg: Any) -> None:
            state.append("continued")

    going = await Going("going").options(max_queue=1).start()
    first = "continued" if then == "continue" else TimedOut()
    assert await going.items() == [first]
    await going.stop()


async def test_requests_of_the_system_take_no_room(world: World) -> None:
    desk, opened, waiting = await busy(world, 1)
    looking = [asyncio.ensure_future(sys.get_state(desk)) for _ in range(3)]
    await settle()
    desk.put("in")
    with pytest.raises(Overloaded):
        await desk.items()
    opened.set_result(None)
    await waiting
    await asyncio.gather(*looking)
    assert await desk.items() == ["in"]


async def test_a_stream_that_is_being_handled_takes_no_room(world: World) -> None:
    class Listener(Plain):
        @call
        def listen(self, state: list[Any], source: Any) -> None:
            self.stream(source)

        async def handle_info(self, state: list[Any], message: Any) -> None:  # type: ignore[override]
            if isinstance(message, asyncio.Future):
                await message

    async def source() -> Any:
        yield opened

    opened = gate()
    listener = await world.start_supervised(Listener("listener").options(max_queue=1).child_spec())
    await listener.listen(source())
    await settle()
    asking = asyncio.ensure_future(listener.items())
    await settle()
    opened.set_result(None)
    assert await asking == []


async def test_messages_of_the_runtime_always_get_in(world: World, clock: ManualClock) -> None:
    other = await Plain("other").start()
    desk = await world.start_supervised(Plain("desk").options(max_queue=1).child_spec())
    await desk.prepare(other)
    opened = gate()
    waiting = asyncio.ensure_future(desk.wait(opened))
    await settle()
    desk.put("fills it")
    exit(other, KILL)
    await settle()
    opened.set_result(None)
    await waiting
    await settle()
    kinds = [type(item) for item in await desk.items()]
    assert sorted(kind.__name__ for kind in kinds) == ["Down", "Exited", "str"]


async def test_messages_by_timers_and_aliases_are_mail(world: World, clock: ManualClock) -> None:
    class Aliased(Plain):
        @call
        def get_alias(self, state: list[Any]) -> Any:
            return alias()

    desk, opened, waiting = await busy(world, 1, kind=Aliased)
    desk.put("fills it")
    send_after(1.0, desk, "by a timer")
    await clock.advance(1.0)
    opened.set_result(None)
    await waiting
    assert await desk.items() == ["fills it"]
    ref = await desk.get_alias()
    opened = gate()
    waiting = asyncio.ensure_future(desk.wait(opened))
    await settle()
    send(ref, "first")
    send(ref, "second")
    opened.set_result(None)
    await waiting
    assert await desk.items() == ["fills it", "first"]


async def test_a_suspended_server_has_the_same_bound(world: World) -> None:
    desk = await world.start_supervised(Plain("desk").options(max_queue=2).child_spec())
    await sys.suspend(desk)
    for n in range(4):
        desk.put(n)
        await settle()
    with pytest.raises(Overloaded):
        await desk.items()
    await sys.resume(desk)
    assert await desk.items() == [0, 1]
    await sys.suspend(desk)
    asking = [asyncio.ensure_future(desk.items()) for _ in range(2)]
    await settle()
    with pytest.raises(Overloaded):
        await desk.items()
    await sys.resume(desk)
    assert await asyncio.gather(*asking) == [[0, 1]] * 2


async def test_answers_of_others_need_no_room(world: World) -> None:
    class Holding(Plain):
        @call
        def hold(self, state: list[Any]) -> NoReply:
            state.append(client())
            return NoReply()

    holding = await world.start_supervised(Holding("holding").options(max_queue=1).child_spec())
    asking = []
    for _ in range(5):
        asking.append(asyncio.ensure_future(holding.hold()))
        await settle()
    for one in await holding.items():
        reply(one, "answer")
    assert [await one for one in asking if not one.cancelled()] == ["answer"] * 5


async def test_a_bound_through_a_registry(world: World) -> None:
    names = await world.start_supervised(Registry("names").child_spec(keys="unique"))
    desk = await world.start_supervised(Plain(Via(names, "desk")).options(max_queue=1).child_spec())
    opened = gate()
    waiting = asyncio.ensure_future(desk.wait(opened))
    await settle()
    desk.put("in")
    desk.put("dropped")
    with pytest.raises(Overloaded, match="Via"):
        await desk.items()
    opened.set_result(None)
    await waiting
    assert await desk.items() == ["in"]


async def test_a_restarted_server_has_the_bound_again(world: World) -> None:
    desk, _, waiting = await busy(world, 1)
    exit(desk, "boom")
    with capture_crashes(), pytest.raises(ServerDown):
        await waiting
    await desk.started()
    opened = gate()
    waiting = asyncio.ensure_future(desk.wait(opened))
    await settle()
    desk.put(1)
    with pytest.raises(Overloaded):
        await desk.items()
    opened.set_result(None)
    assert await waiting == "done"


async def test_casts_through_the_generated_method_and_the_long_one_are_counted_alike(world: World) -> None:
    refused: list[Any] = []
    telemetry.attach("refused", "beamish.gen_server.overloaded", lambda _e, m, facts, _c: refused.append((facts["kind"], m["queue_len"])))
    desk, opened, waiting = await busy(world, 2)
    for n in range(2):
        desk.put(n)
        desk.put(n)
    desk.cast("long")
    opened.set_result(None)
    await waiting
    telemetry.detach("refused")
    assert refused == [("cast", 2)] * 3
    assert await desk.items() == [0, 0]


async def test_a_full_mailbox_of_one_that_is_killed(world: World) -> None:
    desk = await Plain("desk").options(max_queue=2).start()
    opened = gate()
    asking = []
    for _ in range(4):
        asking.append(asyncio.ensure_future(desk.wait(opened)))
        await settle()
    exit(desk, KILL)
    outcomes = [type(one) for one in await asyncio.gather(*asking, return_exceptions=True)]
    assert outcomes == [ServerDown, ServerDown, ServerDown, Overloaded]
    desk.put(1)


async def test_multi_call_takes_a_refusal_for_a_bad_node(world: World) -> None:
    desk, opened, waiting = await busy(world, 1, kind=Desk)
    desk.put(1)
    found: MultiCall[Any] = await desk.multi_call("hello")
    assert found.replies == []
    assert len(found.bad_nodes) == 1
    opened.set_result(None)
    await waiting


async def test_nothing_is_left_of_a_server_with_a_bound(world: World) -> None:
    desk = await Plain("desk").options(max_queue=2, debug=["statistics"]).start()
    desk.put(1)
    await desk.items()
    process: Any = desk.pid()
    assert process.mbox is None
    assert not any(type(mail).__name__ == "Mail" for mail in world.node.pool)
    await desk.stop()
    assert process.mbox is None
    assert process.extra.debug is None


async def test_an_overloaded_server_serves_when_there_is_room(world: World, clock: ManualClock) -> None:
    desk, opened, waiting = await busy(world, 1)
    desk.put(1)
    late = asyncio.ensure_future(desk.with_timeout(1.0).items())
    await settle()
    with pytest.raises(Overloaded):
        await late
    opened.set_result(None)
    await waiting
    await sys.suspend(desk)
    late = asyncio.ensure_future(desk.with_timeout(1.0).items())
    await settle()
    await clock.advance(1.0)
    with pytest.raises(CallTimeout):
        await late
    await sys.resume(desk)
    assert await desk.items() == [1]


async def test_what_is_held_of_a_suspended_server_takes_no_room_either(world: World, clock: ManualClock) -> None:
    other = await Plain("other").start()
    desk = await world.start_supervised(Plain("desk").options(max_queue=1).child_spec())
    await desk.prepare(other)
    await sys.suspend(desk)
    exit(other, KILL)
    await settle()
    desk.put("in")
    await settle()
    desk.put("dropped")
    await sys.resume(desk)
    assert [item for item in await desk.items() if isinstance(item, str)] == ["in"]
