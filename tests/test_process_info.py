"""Aliases, names by way of something else, and what can be known of a process."""

from __future__ import annotations

from typing import Any

import pytest
from tests.conftest import both_roads

from beamish import (
    KILL,
    NOCONNECTION,
    AlreadyStarted,
    At,
    Down,
    GenServer,
    Message,
    MultiCall,
    NoConnection,
    Pid,
    ServerDown,
    Supervisor,
    Via,
    alias,
    ancestors,
    call,
    callers,
    current,
    demonitor,
    dictionary,
    down,
    exit,
    get_label,
    info,
    monitor,
    node,
    processes,
    receive,
    register,
    registered,
    send,
    set_label,
    spawn,
    unalias,
    whereis,
)
from beamish.testing import World, capture_crashes, settle


async def mail() -> list[Any]:
    found = []
    while True:
        try:
            found.append(await receive(timeout=0))
        except TimeoutError:
            return found


# --- aliases ----------------------------------------------------------------------------------------------------------


async def test_an_alias_takes_messages_until_it_is_switched_off(world: World) -> None:
    name = alias()
    send(name, "one")
    assert unalias(name)
    send(name, "two")
    assert not unalias(name)
    assert await mail() == ["one"]


async def test_an_alias_for_one_reply(world: World) -> None:
    name = alias(reply=True)
    send(name, "first")
    send(name, "second")
    assert await mail() == ["first"]


async def echo(times: int) -> None:
    to = await receive()
    for n in range(times):
        send(to, n)
    await receive()


async def test_a_monitor_that_is_an_alias_until_demonitor(world: World) -> None:
    pid = spawn(echo, 1)
    ref = monitor(pid, alias="demonitor")
    send(pid, ref)
    await settle()
    demonitor(ref, flush=True)
    send(ref, "late")
    assert await mail() == [0]
    exit(pid, KILL)
    await settle()
    assert await mail() == []


async def test_a_monitor_whose_first_reply_ends_both(world: World) -> None:
    pid = spawn(echo, 2)
    ref = monitor(pid, alias="reply_demonitor")
    send(pid, ref)
    await settle()
    exit(pid, KILL)
    await settle()
    assert await mail() == [0]


@pytest.mark.parametrize(("mode", "left"), [("explicit_unalias", ["still"]), ("demonitor", [])])
async def test_what_the_down_does_to_an_alias(world: World, mode: Any, left: list[str]) -> None:
    pid = spawn(lambda: None)
    await settle()
    ref = monitor(pid, alias=mode)
    assert isinstance(await receive(), Down)
    send(ref, "still")
    assert await mail() == left
    assert unalias(ref) == bool(left)


async def test_only_an_alias_can_be_sent_to(world: World) -> None:
    pid = spawn(receive)
    with pytest.raises(TypeError, match="alias"):
        send(monitor(pid), "message")
    with pytest.raises(ValueError, match="explicit_unalias"):
        monitor(pid, alias="sometimes")  # type: ignore[arg-type]
    exit(pid, KILL)
    await settle()


# --- names ------------------------------------------------------------------------------------------------------------


class Cell(GenServer[int]):
    def init(self, value: int = 0) -> int:
        return value

    @call
    def get(self, state: int) -> int:
        return state

    @call
    def know(self, state: int) -> tuple[Any, ...]:
        return (ancestors(), callers(), dict(dictionary()))

    def handle_call(self, state: int, request: Any, client: Any) -> Any:
        return state if request == "get" or isinstance(request, Get) else super().handle_call(state, request, client)


class Get(Message[int]):
    pass


class Book:
    """A name server as small as can be."""

    def __init__(self) -> None:
        self.names: dict[Any, Pid] = {}

    def register_name(self, key: Any, pid: Pid, /) -> bool:
        return self.names.setdefault(key, pid) is pid

    def unregister_name(self, key: Any, /) -> None:
        self.names.pop(key, None)

    def whereis_name(self, key: Any, /) -> Pid | None:
        return self.names.get(key)

    def send(self, key: Any, message: Any, /) -> None:
        send(self.names[key], message)


@both_roads
async def test_a_server_may_be_named_by_way_of_anything(world: World) -> None:
    book = Book()
    cell = Cell(Via(book, "cell"))
    assert cell.pid() is None
    assert await cell.start_link(3) == cell
    assert await cell.get() == 3
    assert whereis(Via(book, "cell")) is cell.pid() is not None
    with pytest.raises(AlreadyStarted):
        await Cell(Via(book, "cell")).start_link(4)
    send(Via(book, "cell"), "hello")
    await cell.stop()
    assert book.names == {}


async def test_the_name_is_free_when_its_end_is_heard_of(world: World) -> None:
    book = Book()
    cell = await Cell(Via(book, "cell")).start(3)
    ref = monitor(cell)
    exit(cell, KILL)
    assert book.names == {}
    assert (await down(ref)).target == cell


@both_roads
async def test_names_on_nodes(world: World) -> None:
    cell = await Cell("cell").start_link(3)
    assert await Cell(At("cell", node())).get() == 3
    elsewhere = Cell(At("cell", "shop@far"))
    with pytest.raises(ServerDown) as caught:
        await elsewhere.get()
    assert isinstance(caught.value.reason, NoConnection)
    elsewhere.cast("nothing")
    send(At("cell", "shop@far"), "nothing")
    monitor(elsewhere)
    assert (await receive(Down)).reason == NOCONNECTION
    with pytest.raises(TypeError, match="own node"):
        await Cell(At("other", node())).start_link()
    await cell.stop()


@both_roads
async def test_multi_call_and_abcast(world: World) -> None:
    cell = await Cell("cell").start_link(3)
    found: MultiCall[int] = await Cell("cell").multi_call(Get(), nodes=[node(), "shop@far"])
    assert found == MultiCall([(node(), 3)], ["shop@far"])
    assert await Cell("absent").multi_call("get") == MultiCall([], [node()])
    with pytest.raises(TypeError, match="no name"):
        Cell(current()).abcast("get")
    await cell.stop()


async def test_the_names_that_are_taken(world: World) -> None:
    before = set(registered())
    register("me")
    assert set(registered()) - before == {"me"}


# --- knowing ----------------------------------------------------------------------------------------------------------


@both_roads
async def test_ancestors_nearest_first_and_by_name(world: World) -> None:
    register("main")
    top = await Supervisor("top").start_link([Cell("cell").child_spec()])
    above, working_for, words = await Cell("cell").know()
    assert above == ("top", "main")
    assert working_for == ()
    assert words == {"$initial_call": "Cell.init", "$ancestors": ("top", "main")}
    alone = await Cell.start()
    assert (await alone.know())[0] == ("main",)
    await alone.stop()
    await top.stop()


async def test_a_dictionary_is_a_process_own(world: World) -> None:
    dictionary()["mine"] = 1
    seen: list[Any] = []
    spawn(lambda: seen.append(dict(dictionary())))
    await settle()
    assert seen == [{}]
    assert dictionary() == {"mine": 1}


async def test_what_info_tells(world: World) -> None:
    cell = await Cell("cell").start_link(3)
    me = current()
    ref = monitor(cell)
    found = info(cell)
    assert found is not None
    assert (found.registered_name, found.status, found.message_queue_len, found.initial_call) == ("cell", "idle", 0, "Cell.init")
    assert found.monitored_by == (me,)
    assert found.trap_exit is False
    send(me, "hello")
    mine = info()
    assert mine is not None
    assert (mine.messages, mine.monitors, mine.label) == (("hello",), (cell,), None)
    assert {me, cell.pid()} <= set(processes())
    demonitor(ref)
    await cell.stop()
    assert info(cell) is None
    assert info("absent") is None
    assert await receive("hello".__eq__) == "hello"


async def test_labels(world: World) -> None:
    async def labelled() -> None:
        set_label(("worker", 7))
        await receive()

    pid = spawn(labelled)
    assert get_label(pid) is None
    await settle()
    assert get_label(pid) == ("worker", 7)
    exit(pid, KILL)
    assert get_label() is None
    set_label("test")
    assert get_label() == "test"


async def test_a_crash_report_has_the_label(world: World) -> None:
    class Labelled(Cell):
        @call
        def crash(self, state: int) -> None:
            set_label("the seventh")
            raise ValueError

    labelled = await Labelled.start()
    with capture_crashes() as reports, pytest.raises(ServerDown):
        await labelled.crash()
    assert [report.label for report in reports] == ["the seventh"]  # type: ignore[attr-defined]
