"""Names that lead through something else (`Via`), and aliases, under adverse conditions: name servers that lie, races, ghosts."""

from __future__ import annotations

import asyncio
import copy
import pickle
from typing import Any

import pytest
from tests.conftest import both_roads

import beamish
from beamish import (
    KILL,
    KILLED,
    NOPROC,
    SHUTDOWN,
    Alias,
    AlreadyStarted,
    At,
    CallExit,
    Down,
    DynamicSupervisor,
    Exit,
    Exited,
    GenServer,
    NoProcess,
    Pid,
    Registry,
    StartError,
    Supervisor,
    Via,
    alias,
    alive,
    call,
    cast,
    current,
    demonitor,
    down,
    exit,
    flag,
    link,
    monitor,
    processes,
    receive,
    send,
    send_after,
    spawn,
    stop,
    sys,
    unalias,
    unlink,
    whereis,
)
from beamish.testing import ManualClock, World, capture_crashes, settle

pytestmark = both_roads


class Names:
    """A name server that does as it is told."""

    def __init__(self, **faults: Any) -> None:
        self.table: dict[Any, Any] = {}
        self.faults = faults
        self.log: list[Any] = []

    def _fault(self, what: str) -> Any:
        fault = self.faults.get(what)
        if isinstance(fault, BaseException):
            raise fault
        return fault

    def register_name(self, key: Any, pid: Pid, /) -> bool:
        self.log.append(("register", key))
        fault = self._fault("register")
        if fault is not None:
            return bool(fault)
        if self.whereis_name(key) is not None:
            return False
        self.table[key] = pid
        return True

    def unregister_name(self, key: Any, /) -> None:
        self.log.append(("unregister", key))
        self._fault("unregister")
        self.table.pop(key, None)

    def whereis_name(self, key: Any, /) -> Any:
        fault = self._fault("whereis")
        if fault is not None:
            return fault
        pid = self.table.get(key)
        return pid if pid is not None and alive(pid) else None

    def send(self, key: Any, message: Any, /) -> None:
        pid = self.whereis_name(key)
        if pid is not None:
            send(pid, message)


class Cell(GenServer[list[Any]]):
    def init(self, *items: Any) -> Any:
        return list(items)

    @call
    def items(self, state: list[Any]) -> list[Any]:
        return list(state)

    @call
    async def later(self, state: list[Any]) -> list[Any]:
        await asyncio.sleep(0)
        return list(state)

    @call
    def do(self, state: list[Any], function: Any) -> Any:
        return function()

    @cast
    def put(self, state: list[Any], item: Any) -> None:
        state.append(item)

    def handle_info(self, state: list[Any], message: Any) -> None:
        state.append(message)


async def forever() -> None:
    await receive(int)


# --- name servers that misbehave --------------------------------------------------------------------------------------


async def test_a_name_server_that_fails_fails_the_start_and_leaves_nothing(world: World) -> None:
    for what in ("register", "whereis"):
        names = Names(**{what: OSError("out of order")})
        with pytest.raises((OSError, StartError), match="out of order"):
            await Cell(Via(names, "k")).start_link()
    assert len(world.node.procs) == 1


async def test_a_lost_race_is_already_started_and_no_exit_comes(world: World) -> None:
    flag(trap_exit=True)
    names = Names()
    winner = spawn(forever)

    def register_name(key: Any, pid: Pid, /) -> bool:
        names.table[key] = winner  # somebody was quicker between the look and this
        return False

    names.register_name = register_name  # type: ignore[method-assign]
    began: list[int] = []

    class Counted(Cell):
        def init(self, *items: Any) -> Any:
            began.append(1)
            return []

    with pytest.raises(AlreadyStarted) as failed:
        await Counted(Via(names, "k")).start_link()
    assert repr(winner) in str(failed.value)
    assert began == []
    with pytest.raises(TimeoutError):
        await receive(timeout=0.0)
    exit(winner, KILL)


async def test_a_name_that_leads_to_the_dead_is_taken_over_or_taken(world: World) -> None:
    gone = spawn(forever)
    await settle()
    exit(gone, KILL)
    names = Names(whereis=gone)
    with pytest.raises(CallExit):
        await Cell(Via(names, "k")).items()
    cell = Cell(Via(names, "k"))
    names.faults = {"whereis": gone, "register": True}
    await cell.start()
    assert cell.pid() is None
    names.faults = {}
    with pytest.raises(CallExit):
        await cell.items()
    for process in processes():
        if type(process).__name__ == "ServerProcess":
            exit(process, KILL)


@pytest.mark.parametrize("lie", ["a string", 3, Cell("absent")])
async def test_a_name_server_that_returns_no_pid_is_told_so(world: World, lie: Any) -> None:
    names = Names(whereis=lie)
    for ask in (
        lambda: Cell(Via(names, "k")).items(),
        lambda: Cell(Via(names, "k")).start(),
        lambda: down(Via(names, "k")),
    ):
        with pytest.raises(TypeError, match="whereis_name"):
            await ask()


async def test_a_name_server_that_can_not_forget_holds_no_end_up(world: World) -> None:
    names = Names(unregister=OSError("out of order"))
    cell = await Cell(Via(names, "k")).start()
    with capture_crashes() as reports:
        await cell.stop()
    assert len(reports) == 1
    assert len(world.node.procs) == 1


async def test_an_end_takes_no_name_from_who_has_it_now(world: World) -> None:
    """A plain name is given up only by who has it; so is one that leads elsewhere."""
    names = Names()
    first = await Cell(Via(names, "k")).start("first")
    pid = first.pid()
    assert pid is not None
    names.table.clear()  # the name server was started anew, say
    second = await Cell(Via(names, "k")).start("second")
    exit(pid, KILL)
    await settle()
    assert await second.items() == ["second"]
    await second.stop()


@pytest.mark.parametrize("mode", ["kill", "stop", "crash"])
async def test_a_name_is_free_before_anybody_hears_of_the_end(world: World, mode: str) -> None:
    names = Names()
    found: list[Any] = []

    async def watcher() -> None:
        monitor(Via(names, "k"))
        await receive(Down)
        found.append(whereis(Via(names, "k")))
        found.append(names.table.get("k"))

    cell = await Cell(Via(names, "k")).start()
    pid = spawn(watcher)
    await settle()
    with capture_crashes():
        match mode:
            case "kill":
                exit(cell, KILL)
            case "stop":
                await cell.stop()
            case _:
                with pytest.raises(CallExit):
                    await cell.do(lambda: 1 / 0)
        await down(pid)
    assert found == [None, None]


async def test_an_init_that_fails_frees_the_name(world: World) -> None:
    names = Names()

    class Fails(Cell):
        def init(self, how: str) -> Any:
            if how == "later":
                return self.fail_later()
            raise Exit("no")

        async def fail_later(self) -> Any:
            await asyncio.sleep(0)
            raise Exit("no")

    for how in ("now", "later"):
        with capture_crashes(), pytest.raises(StartError):
            await Fails(Via(names, "k")).start(how)
        assert names.table == {}
    assert names.log == [("register", "k"), ("unregister", "k")] * 2


# --- supervisors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
async def test_a_supervised_server_comes_back_under_its_name(world: World, kind: Any) -> None:
    names = Names()
    top = await kind.start(max_restarts=10)
    cell = await top.start_child(Cell(Via(names, "k")).child_spec("a"))
    for reason in ("boom", KILL):
        before = cell.pid()
        with capture_crashes():
            exit(cell, reason)
            await cell.started()
        assert cell.pid() is not before
        assert await cell.items() == await cell.later() == ["a"]
    with pytest.raises(AlreadyStarted):
        await top.start_child(Cell(Via(names, "k")).child_spec("b").replace(id="other"))
    await stop(top)
    assert names.table == {}


async def test_a_restart_while_the_name_is_taken_is_tried_again(world: World) -> None:
    flag(trap_exit=True)
    names = Names()
    top = await DynamicSupervisor.start_link(max_restarts=3)
    cell = await top.start_child(Cell(Via(names, "k")).child_spec())
    thief = spawn(forever)
    await settle()
    before = names.unregister_name

    def steal(key: Any, /) -> None:
        before(key)
        names.table[key] = thief

    names.unregister_name = steal  # type: ignore[method-assign]
    with capture_crashes():
        exit(cell, "boom")
        assert (await receive(Exited)).reason == SHUTDOWN
    exit(thief, KILL)


async def test_a_registry_that_ends_takes_its_servers_with_it_and_all_come_back(world: World) -> None:
    names = Registry("names")
    tree = await Supervisor.start(
        [names.child_spec(keys="unique"), Cell(Via(names, "k")).child_spec("a")], strategy="rest_for_one", max_restarts=10
    )
    cell = Cell(Via(names, "k"))
    with capture_crashes():
        exit(names, KILL)
        await cell.started()
    assert await cell.items() == ["a"]
    await stop(tree)


# --- what an address is -----------------------------------------------------------------------------------------------


async def test_addresses_are_values(world: World) -> None:
    names = Names()
    one, two = Cell(Via(names, "k")), Cell(Via(names, "k"))
    assert one == two
    assert hash(one) == hash(two)
    assert one != Cell(Via(Names(), "k"))
    assert one != Cell(Via(names, "other"))
    assert copy.copy(one) == copy.deepcopy(one) == one
    by_registry = Cell(Via(Registry("names"), ("k", 1)))
    assert pickle.loads(pickle.dumps(by_registry)) == by_registry
    assert "Via" in repr(one)


async def test_names_of_different_kinds_are_not_equal(world: World) -> None:
    assert Cell(Via("a", "b")) != Cell(At("a", "b"))  # type: ignore[arg-type]
    assert Via("a", "b") != ("a", "b")  # type: ignore[arg-type]


@pytest.mark.parametrize("what", ["key", "module"])
async def test_what_has_no_hash_is_refused_where_the_address_is_made(world: World, what: str) -> None:
    class Unhashable(Names):
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            return self is other

    name = Via(Unhashable(), "k") if what == "module" else Via(Names(), ["k"])
    with pytest.raises(TypeError, match="hashable"):
        Cell(name)


async def test_the_verbs_know_names_that_lead_elsewhere(world: World, clock: ManualClock) -> None:
    flag(trap_exit=True)
    names = Names()
    name = Via(names, "k")
    cell = await Cell(name).start_link("a")
    assert whereis(name) is cell.pid()
    assert alive(name)
    send(name, "sent")
    cell.put("cast")
    assert await sys.get_state(name) == ["a", "sent", "cast"]
    link(name)
    unlink(name)
    ref = monitor(name)
    send_after(1.0, name, "by timer")
    send_after(1.0, cell, "by address")
    await clock.advance(1.0)
    assert await cell.items() == ["a", "sent", "cast", "by timer", "by address"]
    exit(name, KILL)
    assert await receive(Down) == Down(ref, name, KILLED)
    assert (await down(name)).reason == NOPROC
    with pytest.raises(NoProcess, match="k"):
        send(name, "nobody")
    with pytest.raises(NoProcess):
        link(name)
    assert exit(name, "nobody")
    cell.put("nobody")


async def test_a_timer_aimed_at_a_name_finds_who_has_it_then(world: World, clock: ManualClock) -> None:
    names = Names()
    cell = Cell(Via(names, "k"))
    send_after(1.0, cell, "nobody is there")
    send_after(2.0, cell, "here")
    send_after(3.0, cell, "out of order")
    send_after(4.0, cell, "again")
    await clock.advance(1.0)
    await cell.start()
    await clock.advance(1.0)
    names.faults = {"whereis": OSError("out of order")}
    with capture_crashes() as reports:
        await clock.advance(1.0)
    assert len(reports) == 1
    names.faults = {}
    await clock.advance(1.0)
    assert await cell.items() == ["here", "again"]
    await cell.stop()


async def test_started_waits_for_an_async_init_and_through_restarts(world: World, clock: ManualClock) -> None:
    names = Names()
    opened = asyncio.get_running_loop().create_future()

    class Later(Cell):
        async def init(self, *items: Any) -> Any:
            await opened
            return list(items)

    cell = Later(Via(names, "k"))
    waiting = [asyncio.ensure_future(cell.started()), asyncio.ensure_future(Cell(Via(names, "k")).started())]
    late = asyncio.ensure_future(Cell(Via(names, "other")).started(1.0))
    starting = asyncio.ensure_future(cell.start())
    await settle()
    assert not any(one.done() for one in waiting)
    opened.set_result(None)
    await asyncio.gather(starting, *waiting)
    await clock.advance(1.0)
    with pytest.raises(beamish.CallTimeout):
        await late
    assert world.node.awaited == {}
    await cell.stop()


async def test_a_start_that_is_cancelled_or_late_frees_the_name(world: World, clock: ManualClock) -> None:
    names = Names()

    class Never(Cell):
        async def init(self, *items: Any) -> Any:
            await asyncio.get_running_loop().create_future()

    starting = asyncio.ensure_future(Never(Via(names, "k")).start())
    await settle()
    assert names.table
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    assert names.table == {}
    starting = asyncio.ensure_future(Never(Via(names, "k")).options(timeout=1.0).start())
    await settle()
    await clock.advance(1.0)
    with pytest.raises(StartError):
        await starting
    assert names.table == {}


async def test_the_registration_that_kills_the_newcomer(world: World) -> None:
    names = Names()
    began: list[int] = []

    def register_name(key: Any, pid: Pid, /) -> bool:
        exit(pid, KILL)
        return True

    class Counted(Cell):
        def init(self, *items: Any) -> Any:
            began.append(1)
            return []

    names.register_name = register_name  # type: ignore[method-assign]
    with pytest.raises(StartError):
        await Counted(Via(names, "k")).start()
    assert began == []
    assert not world.node.ghosts
    assert len(world.node.procs) == 1


# --- aliases ----------------------------------------------------------------------------------------------------------


async def mailbox() -> list[Any]:
    found = []
    while True:
        try:
            found.append(await receive(timeout=0.0))
        except TimeoutError:
            return found


MODES = ["explicit_unalias", "demonitor", "reply_demonitor"]


@pytest.mark.parametrize("mode", MODES)
async def test_an_alias_and_the_end_of_its_monitor(world: World, mode: Any) -> None:
    for end in ("down", "demonitor", "unalias", "message"):
        pid = spawn(forever)
        await settle()
        ref = monitor(pid, alias=mode)
        match end:
            case "down":
                exit(pid, KILL)
            case "demonitor":
                assert demonitor(ref, info=True)
            case "unalias":
                assert unalias(ref)
                assert not unalias(ref)
            case _:
                send(ref, "first")
        send(ref, "second")
        exit(pid, KILL)
        got = [message if isinstance(message, str) else "Down" for message in await mailbox()]
        explicit = mode == "explicit_unalias"
        expected = {
            "down": ["Down", "second"] if explicit else ["Down"],
            "demonitor": ["second"] if explicit else [],
            "unalias": ["Down"],
            "message": {"explicit_unalias": ["first", "second", "Down"], "demonitor": ["first", "second", "Down"]}.get(mode, ["first"]),
        }
        assert got == expected[end], (mode, end)
        unalias(ref)


async def test_a_wrong_mode_makes_no_monitor(world: World) -> None:
    pid = spawn(forever)
    await settle()
    with pytest.raises(ValueError, match="alias is"):
        monitor(pid, alias="once")  # type: ignore[arg-type]
    exit(pid, KILL)
    await settle()
    assert await mailbox() == []


async def test_a_monitor_of_the_dead_with_an_alias(world: World) -> None:
    pid = spawn(forever)
    await settle()
    exit(pid, KILL)
    for mode in MODES:
        ref = monitor(pid, alias=mode)  # type: ignore[arg-type]
        send(ref, "late")
        got = await mailbox()
        assert got[0] == Down(ref, pid, NOPROC)
        assert got[1:] == (["late"] if mode == "explicit_unalias" else [])
        unalias(ref)


async def test_aliases_of_a_process_end_with_it(world: World) -> None:
    refs: list[Any] = []

    async def owner() -> None:
        refs.extend((alias(), alias(reply=True), monitor(current(), alias="explicit_unalias")))
        await receive(int)

    pid = spawn(owner)
    await settle()
    exit(pid, KILL)
    for ref in refs:
        send(ref, "dropped")
        assert not unalias(ref)


async def test_a_reply_alias_takes_one_message_whoever_sends(world: World) -> None:
    ref = alias(reply=True)
    for n in range(3):
        spawn(send, ref, n)
    await settle()
    assert len(await mailbox()) == 1
    assert not unalias(ref)
    plain = alias()
    for n in range(3):
        send(plain, n)
    assert await mailbox() == [0, 1, 2]
    assert unalias(plain)
    send(plain, "late")
    assert await mailbox() == []
    assert isinstance(plain, Alias)
    process: Any = current()
    assert not process.extra.aliases


async def test_many_monitors_with_aliases_leave_nothing(world: World) -> None:
    process: Any = current()
    for _ in range(100):
        pid = spawn(forever)
        ref = monitor(pid, alias="demonitor")
        demonitor(ref, flush=True)
        exit(pid, KILL)
        pid = spawn(forever)
        monitor(pid, alias="reply_demonitor")
        await asyncio.sleep(0)
        exit(pid, KILL)
    await settle()
    assert len(await mailbox()) == 100
    assert not process.extra.aliases
    assert not process.watching


@pytest.mark.parametrize("flush", [False, True])
@pytest.mark.parametrize("info", [False, True])
async def test_demonitor_before_and_after_the_end(world: World, flush: bool, info: bool) -> None:
    pid = spawn(forever)
    await settle()
    early, late = monitor(pid), monitor(pid)
    assert demonitor(early, flush=flush, info=info)
    exit(pid, KILL)
    assert demonitor(late, flush=flush, info=info) is (not info)
    got = await mailbox()
    assert [message.ref for message in got] == ([] if flush else [late])
    assert demonitor(late, flush=flush, info=info) is (not info)


async def test_the_dead_send_nothing_through_an_alias_or_a_name(world: World) -> None:
    names = Names()
    cell = await Cell(Via(names, "k")).start()
    mine = alias()
    raised: list[str] = []

    class Ghost(Cell):
        @cast
        async def haunt(self, state: list[Any]) -> None:
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                send(mine, "by alias")
                send(Via(names, "k"), "by name")
                Cell(Via(names, "k")).put("cast")
                try:
                    await Cell(Via(names, "k")).items()
                except asyncio.CancelledError:
                    raised.append("call")
                    raise

    ghost = await Ghost("ghost").start()
    ghost.haunt()
    await settle()
    exit(ghost, KILL)
    await settle()
    assert await mailbox() == []
    assert await cell.items() == []
    assert raised == ["call"]
    assert not world.node.ghosts
    await cell.stop()


@pytest.mark.parametrize("result", [True, False])
async def test_the_registration_that_asks_the_newcomer_to_end(world: World, result: bool, request: pytest.FixtureRequest) -> None:
    names = Names()
    began: list[int] = []

    def register_name(key: Any, pid: Pid, /) -> bool:
        exit(pid, "unwanted")
        names.table[key] = pid
        return result

    class Counted(Cell):
        def init(self, *items: Any) -> Any:
            began.append(1)
            return []

    names.register_name = register_name  # type: ignore[method-assign]
    with capture_crashes(), pytest.raises(StartError):
        await Counted(Via(names, "k")).start()
    assert began == []
    assert len(world.node.procs) == 1
    assert names.whereis_name("k") is None
