"""Tables that are kept: filled with what was saved, saved when they have changed and when they end."""

from __future__ import annotations

import asyncio
import errno
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import beamish
from beamish import KILL, Answer, GenServer, Snapshot, Stop, call, codec, ets, snapshot
from beamish.snapshot import SnapshotError
from beamish.testing import ManualClock, World, capture_crashes
from capturing import events

SAVED, FAILED = "beamish.snapshot.saved", "beamish.snapshot.failed"


@codec.register("test_tables.Price")
@dataclass(frozen=True)
class Price:
    cents: int


class Shop(GenServer[ets.Table[str, Any]]):
    async def init(self, path: Path, heir: Any = None) -> ets.Table[str, Any]:
        table = ets.Table[str, Any]("prices", heir=heir)
        await snapshot.keep(table, Snapshot(path, every=10.0))
        return table

    @call
    def put(self, table: ets.Table[str, Any], key: str, value: Any) -> None:
        table.insert(key, value)

    @call
    def end(self, table: ets.Table[str, Any], reason: Any) -> Answer[None]:
        return Stop(reason, reply=None)

    @call
    def crash(self, table: ets.Table[str, Any]) -> None:
        raise ValueError("crash")

    def handle_info(self, state: ets.Table[str, Any], message: Any) -> None: ...


class Heir(GenServer[None]):
    def init(self) -> None: ...

    def handle_info(self, state: None, message: Any) -> None: ...


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "prices.snap"


def on_disk(path: Path) -> Any:
    found = snapshot.load(path)
    return None if found is None else dict(found.data["objects"])


async def until(heard: list[Any], count: int) -> None:
    late = time.monotonic() + 10.0
    while len(heard) < count:
        assert time.monotonic() < late, f"heard {heard}"
        await asyncio.sleep(0)


@pytest.mark.parametrize("kind", ["set", "ordered_set", "bag", "duplicate_bag"])
async def test_it_is_filled_with_what_was_saved(world: World, path: Path, kind: Any) -> None:
    objects = [("a", Price(1)), ("b", Price(2)), ("b", Price(3)), ("b", Price(3)), ("c", [1])]
    one = ets.Table[str, Any](kind=kind)
    keeper = await snapshot.keep(one, path)
    one.insert_many(objects)
    await keeper.stop()
    other = ets.Table[str, Any](kind=kind)
    keeper = await snapshot.keep(other, path)
    assert other.to_list() == one.to_list()
    await keeper.stop()


async def test_many_objects(world: World, path: Path) -> None:
    one = ets.Table[int, int]()
    keeper = await snapshot.keep(one, path)
    one.insert_many((n, n * n) for n in range(20_000))
    await keeper.stop()
    other = ets.Table[int, int]()
    keeper = await snapshot.keep(other, path)
    assert other.to_list() == one.to_list()
    await keeper.stop()


async def test_it_is_saved_when_it_has_changed(world: World, clock: ManualClock, path: Path) -> None:
    shop = await world.start_supervised(Shop("shop").child_spec(path))
    with events(SAVED) as heard:
        await shop.put("a", 1)
        await clock.advance(10.0)
        await until(heard, 1)
        assert on_disk(path) == {"a": 1}
        await clock.advance(10.0)  # nothing has changed
        await shop.put("a", 2)
        await clock.advance(10.0)
        await until(heard, 2)
        assert on_disk(path) == {"a": 2}
        assert snapshot.load(f"{path}.1").data["objects"] == [("a", 1)]  # type: ignore[union-attr]
        assert heard[0].metadata["path"] == str(path)


async def test_an_element_that_is_changed_is_a_change(world: World, clock: ManualClock, path: Path) -> None:
    table = ets.Table[str, Any]()
    keeper = await snapshot.keep(table, path)
    table.insert("a", [1])
    await keeper.save()
    table.update_counter("a", 1, at=0)
    await keeper.save()
    assert on_disk(path) == {"a": [2]}
    await keeper.stop()


async def test_values_that_are_shared_are_always_saved(world: World, path: Path) -> None:
    table = ets.Table[str, Any](values="shared")
    value = [1]
    table.insert("a", value)
    keeper = await snapshot.keep(table, path)
    await keeper.save()
    value.append(2)
    await keeper.save()
    assert on_disk(path) == {"a": [1, 2]}
    await keeper.stop()


async def test_what_was_in_it_before_is_newer_and_is_saved(world: World, clock: ManualClock, path: Path) -> None:
    for key in ("a", "b", "c"):
        table = ets.Table[str, str]()
        table.insert_many({key: key, "all": key})
        with events(SAVED) as heard:
            keeper = await snapshot.keep(table, Snapshot(path, every=10.0))
            await clock.advance(10.0)
            await until(heard, 1)
        assert table["all"] == key
        assert on_disk(path) == dict(table.items())
        await keeper.stop()
    assert sorted(on_disk(path)) == ["a", "all", "b", "c"]


@pytest.mark.parametrize(("kind", "count"), [("bag", 1), ("duplicate_bag", 2)])
async def test_a_bag_has_both(world: World, path: Path, kind: Any, count: int) -> None:
    for value in (1, 2):
        table = ets.Table[str, int](kind=kind)
        table.insert_many([("a", 0), ("a", value)])
        keeper = await snapshot.keep(table, path)
        await keeper.stop()
    assert sorted(value for _, value in snapshot.load(path).data["objects"]) == [0] * count + [1, 2]  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["set", "ordered_set"])
async def test_what_comes_while_it_is_filled_is_newer(world: World, path: Path, kind: Any) -> None:
    snapshot.save(path, _snapshot_of(dict.fromkeys(range(5000), "old"), kind))
    table = ets.Table[int, str](kind=kind, access="public")
    filling = asyncio.ensure_future(snapshot.keep(table, path))
    while len(table) < 1000:
        assert not filling.done()
        await asyncio.sleep(0)
    table.insert_many({10: "new", 4500: "new", 9999: "new"})
    keeper = await filling
    assert [table[10], table[4500], len(table)] == ["new", "new", 5001]
    await keeper.stop()
    assert on_disk(path) == dict(table.items())


async def test_what_was_loaded_is_not_saved_again(world: World, path: Path) -> None:
    snapshot.save(path, _snapshot_of({n: [n] for n in range(3000)}, "set"))
    keeper = await snapshot.keep(ets.Table[int, list[int]](), path)
    with events(SAVED) as heard:
        await keeper.stop()
    assert heard == []


def _snapshot_of(objects: dict[Any, Any], kind: str) -> dict[str, Any]:
    return {"what": "table", "name": None, "kind": kind, "access": "public", "values": "copied", "objects": list(objects.items())}


@pytest.mark.parametrize("how", ["supervisor", "stop"])
async def test_a_clean_end_of_the_owner_saves_it_and_who_comes_next_finds_it(world: World, path: Path, how: str) -> None:
    shop = Shop("shop")
    for n in range(3):
        await world.start_supervised(shop.child_spec(path).replace(restart="temporary"))
        assert len(ets.table("prices")) == n
        await shop.put(str(n), n)
        if how == "supervisor":
            await world.stop_supervised("shop")
        else:
            await shop.stop()
        assert ets.whereis("prices") is None
    await world.start_supervised(shop.child_spec(path))
    assert len(ets.table("prices")) == 3


@pytest.mark.parametrize("how", ["crash", "kill"])
async def test_after_a_crash_the_last_snapshot_counts(world: World, clock: ManualClock, path: Path, how: str) -> None:
    shop = await world.start_supervised(Shop("shop").child_spec(path))
    with events(SAVED) as heard, capture_crashes():
        await shop.put("a", 1)
        await clock.advance(10.0)
        await until(heard, 1)
        await shop.put("a", 2)
        pid = shop.pid()
        assert pid is not None
        ref = beamish.monitor(pid)
        if how == "crash":
            with pytest.raises(beamish.ServerDown):
                await shop.crash()
        else:
            beamish.exit(pid, KILL)
        await beamish.down(ref)
        await shop.started()
        assert ets.table("prices")["a"] == 1


async def test_it_goes_on_with_the_heir(world: World, clock: ManualClock, path: Path) -> None:
    heir = await world.start_supervised(Heir("heir").child_spec())
    shop = await Shop("shop").start(path, heir)
    await shop.put("a", 1)
    with events(SAVED) as heard, capture_crashes():
        await shop.end("broken")
        await clock.advance(10.0)
        await until(heard, 1)
        assert on_disk(path) == {"a": 1}
        table = ets.table("prices")
        assert table.info().owner == heir.pid()  # type: ignore[union-attr]
        await world.stop_supervised("heir")


async def test_a_table_that_is_deleted_is_saved_as_it_was(world: World, path: Path) -> None:
    table = ets.Table[str, int]()
    await snapshot.keep(table, path)
    table.insert("a", 1)
    with events(SAVED) as heard:
        table.delete_table()
        await until(heard, 1)
    assert on_disk(path) == {"a": 1}


def test_the_end_of_the_loop(path: Path) -> None:
    async def main(n: int) -> int:
        table = ets.Table[int, int]()
        await snapshot.keep(table, path)
        table.insert(n, n)
        return len(table)

    for n in range(3):
        assert asyncio.run(main(n)) == n + 1


async def test_a_save_that_fails_is_tried_again(
    world: World, clock: ManualClock, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    shop = await world.start_supervised(Shop("shop").child_spec(path))
    await shop.put("a", 1)
    with events(SAVED, FAILED) as heard:
        with monkeypatch.context() as patch:
            patch.setattr("beamish._snapshot_file._write_all", full)
            await clock.advance(10.0)
            await until(heard, 1)
        await clock.advance(10.0)
        await until(heard, 2)
    assert [one.event for one in heard] == [FAILED, SAVED]
    assert "Table('prices') was not saved" in caplog.text


async def test_a_save_or_a_stop_that_fails_raises(world: World, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = ets.Table[str, Any](values="shared")
    keeper = await snapshot.keep(table, path)
    assert isinstance(keeper, snapshot.TableKeeper)
    table.insert("a", object())
    with pytest.raises(codec.CodecError, match="does not know"):
        await keeper.save()
    with pytest.raises(codec.CodecError, match="does not know"):
        await keeper.stop()
    assert "lost" not in caplog.text
    other = await snapshot.keep(ets.Table[str, int](), path)  # the file is free
    await other.stop()


async def test_a_last_save_that_fails_says_what_is_lost(world: World, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = ets.Table[str, Any](values="shared")
    await snapshot.keep(table, path)
    table.insert("a", object())
    with events(FAILED) as heard:
        table.delete_table()
        await until(heard, 1)
    assert f"It is gone, and what has changed in it since {path} was saved is lost" in caplog.text


def test_a_last_save_that_fails_with_the_loop_is_told(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        table = ets.Table[str, Any](values="shared")
        await snapshot.keep(table, path)
        table.insert("a", object())

    asyncio.run(main())
    assert "was saved is lost" in caplog.text


class TestRefusals:
    async def test_two_with_one_file(self, world: World, path: Path) -> None:
        one, two = ets.Table[str, int]("one"), ets.Table[str, int]("two")
        keeper = await snapshot.keep(one, path)
        with pytest.raises(SnapshotError, match=r"in use by Table\('one'\): each table needs a file of its own"):
            await snapshot.keep(two, path)
        with pytest.raises(ValueError, match="kept in a file already"):
            await snapshot.keep(one, path.with_name("other"))
        await keeper.stop()
        await (await snapshot.keep(two, path)).stop()

    async def test_a_file_of_something_else(self, world: World, path: Path) -> None:
        snapshot.save(path, [1])
        table = ets.Table[str, int]()
        with pytest.raises(SnapshotError, match="holds no table"):
            await snapshot.keep(table, path)
        snapshot.save(path, {"what": "table", "name": None, "kind": "bag", "access": "public", "values": "copied", "objects": []})
        with pytest.raises(SnapshotError, match=r"holds a bag, and .* is a set"):
            await snapshot.keep(table, path)

    async def test_a_table_of_somebody_else(self, world: World, path: Path) -> None:
        class Owner(GenServer[Any]):
            def init(self) -> Any:
                return ets.Table[str, int]("theirs")

        one = ets.Table[str, int]()
        one.insert("a", 1)
        keeper = await snapshot.keep(one, path)
        await keeper.stop()
        await world.start_supervised(Owner.child_spec())
        with pytest.raises(ets.NoAccess):
            await snapshot.keep(ets.table("theirs"), path)
        await (await snapshot.keep(one, path)).stop()  # the file is free again

    async def test_changes_can_not_be_counted(self, world: World, path: Path) -> None:
        with pytest.raises(ValueError, match="without changes="):
            await snapshot.keep(ets.Table[str, int](), Snapshot(path, changes=3))

    async def test_a_table_that_is_gone(self, world: World, path: Path) -> None:
        table = ets.Table[str, int]()
        table.delete_table()
        with pytest.raises(ets.NoTable):
            await snapshot.keep(table, path)
