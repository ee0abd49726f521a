"""Tables in files."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from beamish import Pid, codec, current, ets, snapshot
from beamish.ets import NameTaken, NoAccess, NoTable, Table, TableError, from_file, read_file

KINDS = ["set", "ordered_set", "bag", "duplicate_bag"]


@codec.register("tests.ets_file.Price")
@dataclass(frozen=True)
class Price:
    cents: int
    since: datetime


@dataclass
class Unknown:
    pid: Pid


KEYS: list[Any] = [None, 1, 2.5, "text", b"bytes", ("a", (1, None))]
VALUES: list[Any] = [None, True, 2**70, "ü", [1, {"a": {2}}], {"k": (1, 2)}, Price(5, datetime(2026, 1, 1, tzinfo=UTC))]


def filled(**options: Any) -> Table[Any, Any]:
    table = Table[Any, Any](**options)
    table.insert_many((key, value) for key in KEYS for value in VALUES)
    return table


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


class TestThereAndBack:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("format", ["json", "pickle"])
    async def test_objects_kind_name_and_access(self, kind: Any, format: Any, tmp_path: Path) -> None:
        table = filled(name="t", kind=kind, access="public")
        objects = table.to_list()
        size = table.to_file(tmp_path / "t.tab", codec=format)
        table.delete_table()
        back = from_file(tmp_path / "t.tab", codec=format)
        assert size == (tmp_path / "t.tab").stat().st_size
        assert back.to_list() == objects
        info = back.info()
        assert info is not None
        assert (info.name, info.kind, info.access, info.values, ets.table("t")) == ("t", kind, "public", "copied", back)

    async def test_other_options(self, tmp_path: Path) -> None:
        me = current()
        table = filled(name="t")
        table.to_file(tmp_path / "t.tab")
        back = from_file(tmp_path / "t.tab", name="u", access="private", heir=me)
        info, unnamed = back.info(), from_file(tmp_path / "t.tab", name=None)
        assert info is not None
        assert (info.name, info.access, info.heir, unnamed.name) == ("u", "private", me, None)

    async def test_a_name_that_is_taken_leaves_no_table(self, tmp_path: Path) -> None:
        table = filled(name="t")
        table.to_file(tmp_path / "t.tab")
        with pytest.raises(NameTaken):
            from_file(tmp_path / "t.tab")
        assert ets.tables() == [table]

    async def test_an_empty_one(self, tmp_path: Path) -> None:
        Table[int, int]().to_file(tmp_path / "t.tab")
        assert from_file(tmp_path / "t.tab").to_list() == []

    async def test_a_second_time_replaces_the_first(self, tmp_path: Path) -> None:
        table = Table[int, int]()
        for n in range(3):
            table.insert(n, n)
            table.to_file(tmp_path / "t.tab")
        assert from_file(tmp_path / "t.tab").to_list() == [(0, 0), (1, 1), (2, 2)]
        assert names(tmp_path) == ["t.tab"]

    async def test_in_a_thread_it_is_what_was_there_at_one_moment(self, tmp_path: Path) -> None:
        table = Table[int, int]()
        table.insert_many((n, 0) for n in range(2000))
        written = asyncio.create_task(asyncio.to_thread(table.to_file, tmp_path / "t.tab"))
        turn = 0
        while not written.done():
            turn += 1
            table.insert_many((n, turn) for n in range(2000))
            await asyncio.sleep(0)
        await written
        found = await asyncio.to_thread(read_file, tmp_path / "t.tab")
        assert len(found.objects) == 2000
        assert len({value for _, value in found.objects}) == 1
        assert from_file(found).to_list() == found.objects

    async def test_who_may_not_read_may_not_write_a_file(self, tmp_path: Path) -> None:
        table, refused = filled(access="private"), list[Exception]()

        def write() -> None:
            try:
                table.to_file(tmp_path / "t.tab")
            except NoAccess as error:
                refused.append(error)

        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
        assert len(refused) == 1
        table.delete_table()
        with pytest.raises(NoTable):
            table.to_file(tmp_path / "t.tab")
        assert names(tmp_path) == []


class TestBadFiles:
    async def test_none_there(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"no file .*t\.tab, so no table in it"):
            from_file(tmp_path / "t.tab")

    @pytest.mark.parametrize("spoil", ["truncated", "changed", "empty"])
    async def test_a_damaged_one_is_set_aside_and_makes_no_table(self, spoil: str, tmp_path: Path) -> None:
        path = tmp_path / "t.tab"
        filled().to_file(path)
        whole = path.read_bytes()
        path.write_bytes({"truncated": whole[:-5], "changed": whole[:-5] + b"XXXXX", "empty": b""}[spoil])
        before = ets.tables()
        with pytest.raises(TableError, match="holds no table that to_file has written: "):
            from_file(path)
        assert ets.tables() == before
        assert [name.startswith("t.tab.damaged") for name in names(tmp_path)] == [True]

    async def test_a_file_of_somebody_else_is_left_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "t.tab"
        path.write_bytes(b"GIF89a" * 99)
        with pytest.raises(snapshot.ForeignFile, match="is no snapshot"):
            from_file(path)
        assert path.read_bytes() == b"GIF89a" * 99

    @pytest.mark.parametrize("data", [7, {"what": "table"}, {"what": "table", "kind": "set", "access": "x"}, {"entries": {}}])
    async def test_a_snapshot_of_something_else_is_left_alone(self, data: Any, tmp_path: Path) -> None:
        snapshot.save(tmp_path / "t.tab", data)
        with pytest.raises(TableError, match=r"holds no table that to_file has written: its data is"):
            from_file(tmp_path / "t.tab")
        assert (tmp_path / "t.tab").exists()

    async def test_a_newer_version_is_left_alone(self, tmp_path: Path) -> None:
        snapshot.save(snapshot.Snapshot(tmp_path / "t.tab", version=2, migrations={1: lambda data: data}), {"what": "table"})
        with pytest.raises(snapshot.NewerSnapshot):
            from_file(tmp_path / "t.tab")
        assert (tmp_path / "t.tab").exists()

    async def test_what_cannot_be_encoded_leaves_the_old_file(self, tmp_path: Path) -> None:
        table = Table[str, Any]()
        table.insert("k", 1)
        table.to_file(tmp_path / "t.tab")
        table.insert("bad", Unknown(current()))
        with pytest.raises(codec.CodecError, match="Unknown"):
            table.to_file(tmp_path / "t.tab")
        assert from_file(tmp_path / "t.tab").to_list() == [("k", 1)]

    async def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(snapshot.SnapshotError, match="Make its folder"):
            filled().to_file(tmp_path / "no" / "t.tab")
