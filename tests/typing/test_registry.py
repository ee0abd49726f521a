"""What a registry gives, under mypy --strict and pyright strict. Checked, not run (but importable)."""

from __future__ import annotations

from typing import assert_type

from beamish import (
    AlreadyRegistered,
    ChildSpec,
    GenServer,
    NameServer,
    Pid,
    Registered,
    Registry,
    RegistryEntry,
    Supervisor,
    Unregistered,
    Via,
    call,
    send,
)

Key = tuple[str, int]


class Room(GenServer[list[str]]):
    def init(self, topic: str = "") -> list[str]:
        return [topic]

    @call
    def topic(self, state: list[str]) -> str:
        return state[0]


rooms = Registry[str, int]("rooms")
events = Registry[Key, None]("events")


async def starting() -> None:
    assert_type(await rooms.start_link(keys="unique"), Registry[str, int])
    assert_type(await Registry[str, int].start_link(keys="duplicate", partitions=4, partition_by="key"), Registry[str, int])
    assert_type(rooms.child_spec(keys="unique", listeners=["ear", Via(rooms, "k")], meta={"a": 1}), ChildSpec[Registry[str, int]])
    await Supervisor.start_link([rooms.child_spec(keys="unique"), events.child_spec(keys="duplicate")])
    rooms.child_spec()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    rooms.child_spec(keys="both")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    rooms.child_spec(keys="unique", partitions="2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def registering() -> None:
    assert_type(rooms.register("k", 1), Pid)
    assert_type(events.register(("k", 1)), Pid)
    assert_type(events.register(("k", 1), None), Pid)
    assert_type(rooms.update_value("k", lambda value: value + 1), tuple[int, int] | None)
    rooms.unregister("k")
    rooms.unregister_match("k", 1)
    rooms.unregister_match("k", lambda value: value > 1)
    rooms.register("k")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    rooms.register("k", "1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    rooms.register(1, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    rooms.update_value("k", str)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def looking(pid: Pid, room: Room) -> None:
    assert_type(rooms.lookup("k"), list[tuple[Pid, int]])
    assert_type(events.lookup(("k", 1)), list[tuple[Pid, None]])
    assert_type(rooms.match("k", lambda value: value > 1), list[tuple[Pid, int]])
    assert_type(rooms.match("k", int), list[tuple[Pid, int]])
    assert_type(rooms.match("k", int | str), list[tuple[Pid, int]])
    assert_type(rooms.keys(pid), list[str])
    assert_type(events.keys(room), list[Key])
    assert_type(rooms.values("k", Via(rooms, "k")), list[int])
    assert_type(rooms.count() + rooms.count_match("k", 1), int)
    assert_type(rooms.select(), list[RegistryEntry[str, int]])
    assert_type(rooms.select(lambda key, pid, value: value > 1)[0].key, str)
    assert_type(rooms.select(give=lambda key, pid, value: (value, key)), list[tuple[int, str]])
    assert_type(rooms.select(lambda key, pid, value: key == "k", give=lambda key, pid, value: pid), list[Pid])
    assert_type(rooms.count_select(lambda key, pid, value: value > 1), int)
    assert_type(rooms.whereis_name("k"), Pid | None)
    rooms.lookup(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    rooms.select(lambda key: True)  # type: ignore[arg-type, misc]  # pyright: ignore[reportArgumentType]


def dispatching() -> None:
    rooms.dispatch("k", lambda entries: [send(pid, value) for pid, value in entries])
    events.dispatch(("k", 1), lambda entries: assert_type(entries, list[tuple[Pid, None]]))
    rooms.dispatch(("k", 1), print)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def naming() -> None:
    server: NameServer = rooms
    assert_type(await Room(Via(server, "lobby")).start_link("hello"), Room)
    assert_type(await Room(Via(rooms, "lobby")).topic(), str)
    assert_type(rooms.via("lobby"), Via)
    assert_type(rooms.via("lobby", 1), Via)
    rooms.via("lobby", "1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    async with rooms.lock("anything"):
        pass


def listening(message: object) -> None:
    match message:
        case Registered(registry=registry, key=key, pid=pid, value=value):
            assert_type(pid, Pid)
            print(registry, key, value)
        case Unregistered(key=key, pid=pid):
            assert_type(pid, Pid)
        case _:
            pass


def failing(error: AlreadyRegistered) -> None:
    assert_type(error.pid, Pid)
