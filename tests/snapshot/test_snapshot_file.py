"""The file of a snapshot: whatever happens to it or to the disk, what is loaded was saved, and nothing saved is destroyed."""

from __future__ import annotations

import errno
import logging
import os
import pickle
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from beamish import _snapshot_file, snapshot
from beamish.codec import CodecError
from beamish.snapshot import ForeignFile, NewerSnapshot, Snapshot, SnapshotError, SnapshotInUse

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src")}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "orders.snap"


def files(path: Path) -> list[str]:
    return sorted(one.name for one in path.parent.iterdir())


def data_of(path: Path, **options: Any) -> Any:
    found = snapshot.load(Snapshot(path, **options))
    return None if found is None else found.data


class TestSaveAndLoad:
    @pytest.mark.parametrize("codec", ["json", "pickle"])
    @pytest.mark.parametrize("durability", ["full", "normal"])
    def test_what_was_saved_is_loaded(self, path: Path, codec: Any, durability: Any) -> None:
        options = Snapshot(path, codec=codec, durability=durability)
        size = snapshot.save(options, {"a": (1, 2)})
        assert size == path.stat().st_size
        found = snapshot.load(options)
        assert found is not None
        assert (found.data, found.path) == ({"a": (1, 2)}, path)

    def test_nothing_was_saved(self, path: Path) -> None:
        assert snapshot.load(path) is None
        assert files(path) == []

    def test_the_ones_before_are_kept(self, path: Path) -> None:
        for n in range(5):
            snapshot.save(Snapshot(path, keep=2), n)
        assert files(path) == ["orders.snap", "orders.snap.1", "orders.snap.2"]
        assert [data_of(path.with_name(name)) for name in files(path)] == [4, 3, 2]

    def test_none_is_kept(self, path: Path) -> None:
        snapshot.save(Snapshot(path, keep=0), 1)
        snapshot.save(Snapshot(path, keep=0), 2)
        assert files(path) == ["orders.snap"]

    def test_without_hard_links_it_is_the_same(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def no_links(*_: Any) -> None:
            raise OSError(errno.EPERM, "no links here")

        monkeypatch.setattr(os, "link", no_links)
        for n in range(3):
            snapshot.save(path, n)
        assert [data_of(path.with_name(name)) for name in files(path)] == [2, 1, 0]

    def test_the_newest_that_is_there_is_loaded(self, path: Path) -> None:
        for n in range(3):
            snapshot.save(path, n)
        path.unlink()
        path.with_name("orders.snap.1").unlink()
        assert data_of(path) == 0

    def test_a_save_that_died_halfway_is_written_over(self, path: Path) -> None:
        snapshot.save(path, 1)
        path.with_name("orders.snap.new").write_bytes(b"half")
        assert data_of(path) == 1
        snapshot.save(path, 2)
        assert "orders.snap.new" not in files(path)

    def test_one_that_is_being_written_is_left_to_its_writer(self, path: Path) -> None:
        def body() -> Iterator[bytes]:
            yield b'{"a":'
            assert "orders.snap.new" in files(path)
            for n in range(2):
                snapshot.save(path, ["inner", n])
            yield b"1}"

        _snapshot_file.write(path, 1, "json", body(), keep=2, durable=False)
        assert data_of(path) == {"a": 1}
        assert [data_of(path.with_name(name)) for name in files(path)] == [{"a": 1}, ["inner", 1], ["inner", 0]]

    def test_many_threads_save_to_one_path(self, path: Path) -> None:
        def saves(n: int) -> None:
            for turn in range(20):
                snapshot.save(Snapshot(path, durability="normal"), [n, turn] * 300)

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(saves, range(8)))
        assert files(path) == ["orders.snap", "orders.snap.1", "orders.snap.2"]
        assert all(len(data_of(path.with_name(name))) == 600 for name in files(path))

    def test_many_programs_save_to_one_path(self, path: Path) -> None:
        code = """
            import sys
            from beamish.snapshot import Snapshot, save
            for turn in range(60):
                save(Snapshot(sys.argv[1], durability="normal"), [int(sys.argv[2]), turn] * 300)
        """
        command = [sys.executable, "-c", textwrap.dedent(code), str(path)]
        programs = [subprocess.Popen([*command, str(n)], env=ENVIRONMENT, stderr=subprocess.PIPE) for n in range(3)]
        for program in programs:
            program.communicate()
        assert len(data_of(path)) == 600
        assert not [name for name in files(path) if "new" in name or "damaged" in name]

    def test_the_same_again_is_no_generation(self, path: Path) -> None:
        for data in ("a", "b", "b", "b"):
            snapshot.save(path, data)
        assert [data_of(path.with_name(name)) for name in files(path)] == ["b", "a"]
        before = path.read_bytes()
        snapshot.save(path, "b")
        assert path.read_bytes() != before, "it was saved now"
        snapshot.save(Snapshot(path, version=2, migrations={1: str}), "b")
        assert len(files(path)) == 3

    def test_who_may_read_it_stays_as_it_was(self, path: Path) -> None:
        snapshot.save(path, 1)
        path.chmod(0o600)
        snapshot.save(path, 2)
        assert [stat.S_IMODE(path.with_name(name).stat().st_mode) for name in files(path)] == [0o600, 0o600]

    def test_a_link_stays_a_link(self, path: Path) -> None:
        (path.parent / "data").mkdir()
        goal = path.parent / "data" / "real.snap"
        path.symlink_to(goal)
        for n in (1, 2):
            snapshot.save(path, n)
        assert path.is_symlink()
        assert data_of(path) == data_of(goal) == 2
        assert files(goal) == ["real.snap", "real.snap.1"]

    def test_data_that_can_not_be_written_leaves_the_old(self, path: Path) -> None:
        snapshot.save(path, 1)
        with pytest.raises(CodecError, match="does not know"):
            snapshot.save(path, [1] * 5000 + [object()])
        assert files(path) == ["orders.snap"]
        assert data_of(path) == 1


class TestVersions:
    def test_older_data_goes_through_the_migrations(self, path: Path) -> None:
        snapshot.save(Snapshot(path, version=1), ["a"])
        options = {"version": 3, "migrations": {1: lambda data: {"names": data}, 2: lambda data: {**data, "count": len(data["names"])}}}
        assert data_of(path, **options) == {"names": ["a"], "count": 1}

    def test_newer_data_is_left_alone(self, path: Path, caplog: pytest.LogCaptureFixture) -> None:
        snapshot.save(path, "older")
        snapshot.save(Snapshot(path, version=2, migrations={1: str}), "newer")
        before = path.read_bytes()
        with pytest.raises(NewerSnapshot, match=r"orders.snap holds data of version 2, and this program knows it up to version 1: run the"):
            snapshot.load(path)
        assert path.read_bytes() == before
        assert not caplog.records

    def test_a_newer_format_is_left_alone(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_snapshot_file, "FORMAT", 2)
        snapshot.save(path, 1)
        monkeypatch.undo()
        with pytest.raises(NewerSnapshot, match="has the format 2, and this version of Beamish knows 1"):
            snapshot.load(path)
        assert files(path) == ["orders.snap"]

    def test_data_without_a_migration(self, path: Path) -> None:
        snapshot.save(path, 1)
        with pytest.raises(SnapshotError, match=r"was written as version 1: add migrations=\{1: function\}"):
            snapshot.load(Snapshot(path, version=2))

    def test_a_migration_that_raises(self, path: Path) -> None:
        snapshot.save(path, 1)
        with pytest.raises(SnapshotError, match="the migration from version 1 raised ZeroDivisionError"):
            snapshot.load(Snapshot(path, version=2, migrations={1: lambda data: data / 0}))
        assert data_of(path) == 1

    def test_the_wrong_codec_is_never_tried(self, path: Path) -> None:
        snapshot.save(Snapshot(path, codec="pickle"), 1)
        with pytest.raises(SnapshotError, match="was written with codec='pickle', and codec='json' is to read it"):
            snapshot.load(path)
        assert files(path) == ["orders.snap"]

    def test_a_class_that_is_not_registered_any_more(self, path: Path) -> None:
        body = iter([b'{"@gone":1}\n'])
        _snapshot_file.write(path, 1, "json", body, keep=0, durable=False)
        with pytest.raises(SnapshotError, match=r"is whole, and can't be made data: .*nothing is registered"):
            snapshot.load(path)
        assert files(path) == ["orders.snap"]

    def test_a_pickle_of_a_class_that_is_gone(self, path: Path) -> None:
        body = pickle.dumps(snapshot.Loaded(1, 2.0, path)).replace(b"Loaded", b"Loader")
        _snapshot_file.write(path, 1, "pickle", iter([body]), keep=0, durable=False)
        with pytest.raises(SnapshotError, match="is whole, and can't be made data"):
            snapshot.load(Snapshot(path, codec="pickle"))


class TestDamage:
    @pytest.fixture(autouse=True)
    def saved(self, path: Path) -> None:
        snapshot.save(path, "older")
        snapshot.save(path, {"state": ["newer"] * 100})

    @pytest.mark.parametrize(
        ("damage", "why"),
        [
            (lambda data: b"", "it is empty"),
            (lambda data: data[:20], "its first line is cut off"),
            (lambda data: data[:-1], r"it is cut off: \d+ of \d+ bytes are there"),
            (lambda data: data[:256], "it is cut off: 0 of"),
            (lambda data: data[:300] + b"\0" * (len(data) - 300), "its checksum is wrong"),
            (lambda data: data + b"x", "its checksum is wrong"),
            (lambda data: data.replace(b'"version": 1', b'"version": 7'), "its checksum is wrong"),
            (lambda data: data.replace(b"SNAPSHOT 1", b"SNAPSHOT 2"), "its checksum is wrong"),
            (lambda data: data[:5], "its first line is garbled"),
            (lambda data: b"B\0\0MISH" + data[7:], "its first line is garbled"),
            (lambda data: b"\0" * len(data), "it is full of zeros"),
        ],
    )
    def test_it_is_set_aside_and_the_one_before_it_used(self, path: Path, damage: Any, why: str, caplog: pytest.LogCaptureFixture) -> None:
        bad = damage(path.read_bytes())
        path.write_bytes(bad)
        found = snapshot.load(path)
        assert found is not None
        assert (found.data, found.path.name) == ("older", "orders.snap.1")
        older, aside = files(path)
        assert aside.startswith("orders.snap.damaged-2")
        assert path.with_name(aside).read_bytes() == bad
        assert older == "orders.snap.1"
        [record] = caplog.records
        assert record.levelno == logging.ERROR
        assert re.search(f"orders.snap is damaged: {why}", record.message)
        assert aside in record.message
        assert re.search(r"; orders.snap.1 is used, of \d{4}-\d\d-\d\d \d\d:\d\d:\d\d.*: what came later is lost$", record.message)

    @settings(deadline=None, max_examples=60)
    @given(st.data())
    def test_any_bit_that_flips_is_noticed(self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
        path = tmp_path_factory.mktemp("flip") / "orders.snap"
        snapshot.save(Snapshot(path, durability="normal"), {"state": list(range(10))})
        good = path.read_bytes()
        used = [*range(len(good[:256].rstrip())), *range(256, len(good))]
        at = used[int(data.draw(st.floats(0, 1, exclude_max=True)) * len(used))]
        path.write_bytes(good[:at] + bytes([good[at] ^ 1 << data.draw(st.integers(0, 7))]) + good[at + 1 :])
        assert snapshot.load(path) is None

    @settings(deadline=None, max_examples=40)
    @given(st.data())
    def test_a_file_that_was_cut_anywhere_is_noticed(self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
        path = tmp_path_factory.mktemp("cut") / "orders.snap"
        snapshot.save(Snapshot(path, durability="normal"), {"state": list(range(10))})
        good = path.read_bytes()
        path.write_bytes(good[: int(data.draw(st.floats(0, 1, exclude_max=True)) * len(good))])
        assert snapshot.load(path) is None

    @settings(deadline=None, max_examples=50)
    @given(st.binary(max_size=400))
    def test_any_bytes(self, tmp_path_factory: pytest.TempPathFactory, body: bytes) -> None:
        path = tmp_path_factory.mktemp("any") / "orders.snap"
        path.write_bytes(body)
        try:
            assert snapshot.load(path) is None
        except ForeignFile:
            assert path.read_bytes() == body
        else:
            assert not path.exists()

    @pytest.mark.parametrize("body", [b"GIF89a", b'{"a": 1}', b"[settings]\nlines = 3\n", b"x", b"BEGIN;\nCREATE TABLE a"])
    def test_a_file_of_somebody_else_is_left_alone(self, path: Path, body: bytes, caplog: pytest.LogCaptureFixture) -> None:
        path.write_bytes(body)
        with pytest.raises(ForeignFile, match=r"orders\.snap is no snapshot, it begins with b.*: give the snapshot another path"):
            snapshot.load(path)
        assert path.read_bytes() == body
        assert files(path) == ["orders.snap", "orders.snap.1"]
        assert not caplog.records

    def test_what_was_set_aside_is_told_when_the_one_before_it_is_refused(self, path: Path, caplog: pytest.LogCaptureFixture) -> None:
        path.write_bytes(path.read_bytes()[:-1])
        path.with_name("orders.snap.1").write_bytes(b"a log, turned over")
        with pytest.raises(ForeignFile):
            snapshot.load(path)
        assert "it was set aside as orders.snap.damaged-" in caplog.text

    def test_every_word_of_the_module_is_there(self) -> None:
        for name in snapshot.__all__:
            assert getattr(snapshot, name) is not None
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            snapshot.nothing  # type: ignore[attr-defined]  # noqa: B018  # pyright: ignore

    def test_all_are_damaged(self, path: Path) -> None:
        path.write_bytes(b"")
        path.with_name("orders.snap.1").write_bytes(b"BEAM")
        assert data_of(path) is None
        assert len(files(path)) == 2

    def test_after_a_damaged_one_the_next_save_keeps_the_good_one(self, path: Path) -> None:
        path.write_bytes(b"")
        assert data_of(path) == "older"
        snapshot.save(path, "newest")
        assert data_of(path) == "newest"
        assert data_of(path.with_name("orders.snap.1")) == "older"

    def test_many_are_set_aside_in_one_second(self, path: Path) -> None:
        for n in range(3):
            path.write_bytes(b"BEAMISH %d" % n)
            snapshot.load(path)
        assert len([name for name in files(path) if "damaged" in name]) == 3

    def test_one_that_can_not_be_set_aside_is_passed_over(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def refused(*_: Any) -> None:
            raise PermissionError(errno.EACCES, "no")

        path.write_bytes(b"")
        monkeypatch.setattr(Path, "rename", refused)
        assert data_of(path) == "older"
        assert "could not be set aside" in caplog.text


class TestTheDisk:
    def test_a_folder_that_is_not_there(self, path: Path) -> None:
        with pytest.raises(SnapshotError, match=r"can't be written: No such file or directory. Make its folder"):
            snapshot.save(path.parent / "none" / "x.snap", 1)

    def test_a_folder_in_the_place_of_the_file(self, path: Path) -> None:
        path.mkdir()
        with pytest.raises(SnapshotError, match="can't be read: Is a directory"):
            snapshot.load(path)
        with pytest.raises(SnapshotError, match="can't be written"):
            snapshot.save(path, 1)
        assert files(path) == ["orders.snap"]

    def test_a_disk_that_is_full(self, path: Path) -> None:
        """RLIMIT_FSIZE in a process of its own: where a file may not grow, a disk is as good as full."""
        code = """
            import resource, signal, sys
            from beamish import snapshot
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            snapshot.save(sys.argv[1], "small")
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
            try:
                snapshot.save(sys.argv[1], "x" * 1_000_000)
            except snapshot.SnapshotError as error:
                print(error)
            print(snapshot.load(sys.argv[1]).data)
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), path], env=ENVIRONMENT, capture_output=True, text=True, check=True
        )
        assert done.stdout == f"the snapshot {path} can't be written: File too large. What was saved before is as it was\nsmall\n"
        assert files(path) == ["orders.snap"]

    @pytest.fixture
    def small_disk(self, tmp_path: Path) -> Iterator[Path]:
        where = tmp_path / "disk"
        where.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", where], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"a tmpfs can't be mounted here: {done.stderr.strip()}")
        yield where
        subprocess.run(["umount", where], check=True)

    def test_a_small_disk_that_is_really_full(self, small_disk: Path) -> None:
        path = small_disk / "orders.snap"
        snapshot.save(path, "x" * 100_000)
        with pytest.raises(SnapshotError, match=r"can't be written: No space left on device. What was saved before is as it was"):
            snapshot.save(path, "y" * 200_000)
        assert files(path) == ["orders.snap"]
        assert data_of(path) == "x" * 100_000
        snapshot.save(path, "z")
        assert data_of(path) == "z"

    def test_a_folder_that_may_only_be_read(self) -> None:
        path = Path(tempfile.mkdtemp()) / "orders.snap"  # not below pytest's own folder, which only its user may enter
        snapshot.save(path, 1)
        path.parent.chmod(0o555)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)  # root may write anywhere
        try:
            with pytest.raises(SnapshotError, match=r"can't be written: Permission denied\. Let this user write to its folder"):
                snapshot.save(path, 2)
            with pytest.raises(SnapshotError, match=r"can't be written: Permission denied"):
                _snapshot_file.lock(path)
        finally:
            if user == 0:
                os.seteuid(0)
            path.parent.chmod(0o700)
        assert data_of(path) == 1
        shutil.rmtree(path.parent)

    def test_fsync_comes_before_the_rename(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        done: list[str] = []
        sync, replace = os.fsync, Path.replace

        def told(word: str, function: Any) -> Any:
            return lambda *arguments: [done.append(word), function(*arguments)][1]  # type: ignore[func-returns-value]

        monkeypatch.setattr(os, "fsync", told("fsync", sync))
        monkeypatch.setattr(Path, "replace", told("rename", replace))
        snapshot.save(Snapshot(path, keep=0), 1)
        assert done == ["fsync", "rename", "fsync"]
        done.clear()
        snapshot.save(Snapshot(path, keep=0, durability="normal"), 1)
        assert done == ["rename"]

    def test_an_fsync_that_fails_is_a_save_that_failed(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def failing(fd: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        snapshot.save(path, 1)
        monkeypatch.setattr(os, "fsync", failing)
        with pytest.raises(SnapshotError, match="Input/output error"):
            snapshot.save(path, 2)
        assert data_of(path) == 1


class TestTheLock:
    def test_one_at_a_time(self, path: Path) -> None:
        unlock = _snapshot_file.lock(path)
        with pytest.raises(SnapshotInUse, match=rf"in use by another program \(process {os.getpid()}\)"):
            _snapshot_file.lock(path)
        unlock()
        _snapshot_file.lock(path)()

    def test_a_folder_that_is_not_there(self, path: Path) -> None:
        with pytest.raises(SnapshotError, match="Make its folder"):
            _snapshot_file.lock(path.parent / "none" / "x.snap")


class TestOptions:
    @pytest.mark.parametrize(
        "options",
        [
            {"path": ""},
            {"every": 0},
            {"every": float("nan")},
            {"changes": 0},
            {"changes": True},
            {"keep": -1},
            {"codec": "yaml"},
            {"durability": "none"},
            {"version": 0},
            {"version": 3, "migrations": {1: str}},
        ],
        ids=str,
    )
    def test_what_makes_no_sense_is_refused(self, options: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="Snapshot"):
            Snapshot(**{"path": "x.snap", **options})

    def test_a_migration_without_a_new_version(self, path: Path) -> None:
        with pytest.raises(ValueError, match=r"up to version=1\. Got: \[1\]: raise version= to 2"):
            Snapshot(path, migrations={1: str})

    def test_a_path_will_do(self, path: Path) -> None:
        assert Snapshot.of(path) == Snapshot(path)
        assert Snapshot.of(Snapshot(path, keep=1)).keep == 1


#: Forks a process that saves in a loop, kills it, and looks at what is there; so many times. Each state is many equal numbers, so a
#: torn one would show; which saves were begun and done is said in a pipe.
KILLING = """
import os, random, signal, sys
from beamish.snapshot import Snapshot, load, save

options, chance, last = Snapshot(sys.argv[1], durability="normal"), random.Random(int(sys.argv[2])), 0

def saves(pipe, n):
    while True:
        n += 1
        os.write(pipe, b"begin %d\\n" % n)
        save(options, [n] * 3000)
        os.write(pipe, b"saved %d\\n" % n)

for _ in range(50):
    out, pipe = os.pipe()
    child = os.fork()
    if not child:
        saves(pipe, last)
    os.close(pipe)
    with open(out) as lines:
        said = [lines.readline() for _ in range(chance.randrange(1, 20))]
        for _ in range(chance.randrange(20_000)):
            pass
        os.kill(child, signal.SIGKILL)
        said += lines
    os.waitpid(child, 0)
    numbers = {word: int(n) for word, n in (line.split() for line in said)}
    found = load(options)
    if found is None:
        assert "saved" not in numbers
        continue
    state = found.data
    assert len(state) == 3000 and len(set(state)) == 1, "torn"
    assert numbers.get("saved", last) <= state[0] <= numbers["begin"], (last, numbers, state[0])
    last = state[0]
print(last)
"""


#: The same with a server in a tree: it counts, and saves every 5 ms. What it has counted and what it has saved is said.
SERVING = """
import asyncio, os, random, signal, sys
from beamish import GenServer, Snapshot, call, supervise, telemetry
from beamish.snapshot import load

options, chance, last = Snapshot(sys.argv[1], every=0.005, durability="normal"), random.Random(3), 0

class Counter(GenServer[list], snapshot=options):
    def init(self):
        return [0] * 2000

    @call
    def count(self, state):
        state[:] = [state[0] + 1] * 2000
        os.write(pipe, b"counted %d\\n" % state[0])

async def serve():
    telemetry.attach("saved", "beamish.snapshot.saved", lambda *_: os.write(pipe, b"saved %d\\n" % load(options).data[0]))
    async with supervise([Counter("counter").child_spec()]):
        while True:
            await Counter("counter").count()
            await asyncio.sleep(0.0005)

for _ in range(15):
    out, pipe = os.pipe()
    child = os.fork()
    if not child:
        asyncio.run(serve())
    os.close(pipe)
    with open(out) as lines:
        said = [lines.readline() for _ in range(chance.randrange(1, 150))]
        os.kill(child, signal.SIGKILL)
        said += lines
    os.waitpid(child, 0)
    numbers = {word: int(n) for word, n in (line.split() for line in said)}
    assert int(said[0].split()[1]) == last + 1, "it began with what was saved"
    found = load(options)
    state = [0] if found is None else found.data
    assert len(set(state)) == 1, "torn"
    assert numbers.get("saved", last) <= state[0] <= numbers["counted"], (last, numbers, state[0])
    last = state[0]
print(last)
"""


class TestKill:
    @pytest.mark.real_time("the moment of a kill -9 of another process can't be chosen by a clock of ours")
    def test_a_server_that_is_killed_goes_on_with_what_was_saved(self, path: Path) -> None:
        done = subprocess.run([sys.executable, "-c", SERVING, path], env=ENVIRONMENT, capture_output=True, text=True)
        slow = "held up the loop for"  # a machine that is busy with other things
        assert not [line for line in done.stderr.splitlines() if slow not in line]
        assert int(done.stdout) > 0
        assert not [name for name in files(path) if "damaged" in name]

    @pytest.mark.real_time("the moment of a kill -9 of another process can't be chosen by a clock of ours")
    @pytest.mark.parametrize("seed", range(2))
    def test_what_is_killed_leaves_the_old_state_or_the_new(self, path: Path, seed: int) -> None:
        done = subprocess.run([sys.executable, "-c", KILLING, path, str(seed)], env=ENVIRONMENT, capture_output=True, text=True)
        assert done.stderr == ""
        assert int(done.stdout) > 50
        assert not [name for name in files(path) if "damaged" in name]
