"""The full-text index: finding, and staying whole whatever happens while it is built."""

from __future__ import annotations

import errno
import io
import logging
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from beamish.search_service import index
from beamish.search_service.documents import Document, Folder, Found, Problem, Scan, SourceError
from beamish.search_service.index import Index, Piece, build, ensure, path_for


@dataclass
class Some:
    """A source of given documents, one in each batch. `before` is called before each is read."""

    documents: Sequence[Found]
    identity: str = "some"
    version: str = "1"
    before: Callable[[], None] = field(default=lambda: None)

    def scan(self) -> Scan:
        return Scan(self.version, len(self.documents), self._batches)

    def _batches(self) -> Iterator[list[Found]]:
        for document in self.documents:
            self.before()
            yield [document]


def doc(title: str, body: str = "", names: tuple[str, ...] = ()) -> Document:
    return Document(title, f"where {title} is", body, names)


LIBRARY = Some(
    [
        doc("asyncio.Queue", "A queue, useful for coordinating producers and consumers.", ("asyncio.queues.Queue",)),
        doc("asyncio.Queue.put", "Put an item into the queue. If the queue is full, wait."),
        doc("queue.Queue", "Create a queue object with a given maximum size."),
        doc("queue", "A multi-producer, multi-consumer queue."),
        doc("guide to asyncio.Queue", "asyncio.Queue asyncio.Queue asyncio.Queue asyncio.Queue queue queue"),
        doc("The with statement", "The with statement is used to wrap the execution of a block.", ("with",)),
        doc("withdrawals", "with with with with with"),
        doc("Café", "Crème brûlée, Straße and 日本語 text 🙂."),
        doc("put", "Nothing."),
    ]
)


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Index]:
    build(LIBRARY, tmp_path / "library.sqlite3")
    with Index(tmp_path / "library.sqlite3") as opened:
        yield opened


def titles(opened: Index, query: str, limit: int = 10) -> list[str]:
    return [hit.title for hit in opened.search(query, limit=limit)]


class TestSearch:
    def test_a_name_finds_that_thing_first(self, library: Index) -> None:
        assert titles(library, "asyncio.Queue")[0] == "asyncio.Queue"
        assert titles(library, "  ASYNCIO.queue ")[0] == "asyncio.Queue"
        assert titles(library, "asyncio.Queue.put()")[0] == "asyncio.Queue.put"

    def test_another_name_of_it_does_too(self, library: Index) -> None:
        assert titles(library, "asyncio.queues.Queue")[0] == "asyncio.Queue"
        assert titles(library, "with")[0] == "The with statement"

    def test_the_whole_name_comes_before_its_end(self, library: Index) -> None:
        assert titles(library, "put")[:2] == ["put", "asyncio.Queue.put"]
        assert titles(library, "Queue.put")[0] == "asyncio.Queue.put"

    def test_the_title_counts_more_than_the_body(self, tmp_path: Path) -> None:
        build(Some([doc("one", "about restarts and other things"), doc("restarts here", "about trees and other things")]), tmp_path / "x")
        with Index(tmp_path / "x") as opened:
            assert titles(opened, "restarts") == ["restarts here", "one"]

    def test_all_words_first(self, library: Index) -> None:
        assert titles(library, "item full") == ["asyncio.Queue.put"]

    def test_any_word_if_no_document_has_all(self, library: Index) -> None:
        assert titles(library, "coordinating nonsense")[0] == "asyncio.Queue"
        assert titles(library, "nonsense.execution") == ["The with statement"]

    def test_the_last_word_may_be_a_beginning(self, library: Index) -> None:
        assert titles(library, "wrap exec") == ["The with statement"]
        assert titles(library, "exec wrap") == ["The with statement"]  # by "any of"
        assert titles(library, "日") == ["Café"]

    def test_forms_of_a_word_and_accents_do_not_matter(self, library: Index) -> None:
        assert titles(library, "creme brulee") == ["Café"]
        assert "The with statement" in titles(library, "used blocks")

    def test_nothing_is_an_empty_list(self, library: Index) -> None:
        assert library.search("nonsense") == []
        assert library.search("") == []
        assert library.search(' "*"() ') == []

    def test_the_limit_is_kept(self, library: Index) -> None:
        assert len(library.search("queue", limit=2)) == 2

    @pytest.mark.parametrize("limit", [0, -1, 1001])
    def test_an_impossible_limit_is_told(self, library: Index, limit: int) -> None:
        with pytest.raises(ValueError, match=f"limit must be from 1 to 1000. Got: {limit}"):
            library.search("queue", limit=limit)

    def test_a_hit_is_a_plain_value(self, library: Index) -> None:
        hit = library.search("item")[0]
        assert (hit.title, hit.where) == ("asyncio.Queue.put", "where asyncio.Queue.put is")
        assert hit.score > 0
        assert pickle.loads(pickle.dumps(hit)) == hit

    def test_the_snippet_marks_what_was_found(self, library: Index) -> None:
        assert library.search("item")[0].snippet == (
            Piece("Put an ", False),
            Piece("item", True),
            Piece(" into the queue. If the queue is full, wait.", False),
        )

    def test_markup_and_markers_in_a_document_are_only_text(self, tmp_path: Path) -> None:
        build(Some([doc("x", "<script>\x02fake\x03 hit</script> \0 after\ud800 nul")]), tmp_path / "x")
        with Index(tmp_path / "x") as opened:
            snippet = opened.search("hit nul")[0].snippet
        assert "".join(piece.text for piece in snippet) == "<script> fake hit</script> after? nul"
        assert [piece.text for piece in snippet if piece.found] == ["hit", "nul"]


SYNTAX = st.sampled_from(
    ['"', "'", "*", "^", "(", ")", "{", "}", ":", "-", "+", ",", ".", "\0", "\ud800", "\u0301", "🙂", "\x02", "\\", ";--"]
)
OPERATORS = st.sampled_from(["AND", "OR", "NOT", "NEAR", "NEAR(", "title:", "body :", "rank", "- title:", '""'])
ANYTHING = st.text(max_size=60) | st.lists(SYNTAX | OPERATORS | st.text(max_size=5), max_size=20).map("".join)


@pytest.fixture(scope="module")
def alpha(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    path = tmp_path_factory.mktemp("alpha") / "alpha.sqlite3"
    build(Some([doc("alpha", "body of it"), doc("other", "title rank near not")]), path)
    with Index(path) as opened:
        yield opened


class TestAnyText:
    @given(text=ANYTHING)
    @settings(max_examples=300, deadline=None)
    def test_no_text_raises(self, alpha: Index, text: str) -> None:
        for hit in alpha.search(text):
            assert hit.title in ("alpha", "other")

    @given(text=ANYTHING, space=st.sampled_from([" ", "\n", " ( ", ' " ']))
    @settings(max_examples=300, deadline=None)
    def test_no_text_is_syntax_that_could_exclude_or_restrict(self, alpha: Index, text: str, space: str) -> None:
        assert "alpha" in titles(alpha, "alpha" + space + text)

    @pytest.mark.parametrize("text", ["alpha NOT alpha", "body:alpha", "NOT alpha", "alpha*alpha", "-alpha", 'alpha"', "NEAR(alpha)"])
    def test_operators_are_words(self, alpha: Index, text: str) -> None:
        assert "alpha" in titles(alpha, text)

    def test_a_very_long_text_is_cut(self, alpha: Index) -> None:
        assert "alpha" in titles(alpha, "alpha " * 100_000)
        assert titles(alpha, "x" * 1_000_000) == []


class TestBuild:
    def test_reports_documents_time_and_problems(self, tmp_path: Path) -> None:
        report = build(Some([doc("a"), Problem("b.md", "skipped: why"), doc("c")]), tmp_path / "x")
        assert (report.documents, report.problems) == (2, (Problem("b.md", "skipped: why"),))
        assert 0 < report.seconds < 60

    def test_makes_the_folder_and_leaves_one_file(self, tmp_path: Path) -> None:
        build(LIBRARY, tmp_path / "new" / "folder" / "x")
        assert os.listdir(tmp_path / "new" / "folder") == ["x"]

    def test_tells_its_progress(self, tmp_path: Path) -> None:
        told: list[tuple[int, int]] = []
        build(Some([doc("a"), doc("b")]), tmp_path / "x", progress=lambda done, total: told.append((done, total)))
        assert told == [(0, 2), (1, 2), (2, 2)]

    def test_what_progress_raises_stops_it_and_the_old_index_stays(self, tmp_path: Path) -> None:
        class Stopped(Exception):
            pass

        def stop(done: int, total: int) -> None:
            raise Stopped

        build(Some([doc("old")]), tmp_path / "x")
        with pytest.raises(Stopped):
            build(Some([doc("new")]), tmp_path / "x", progress=stop)
        assert os.listdir(tmp_path) == ["x"]
        with Index(tmp_path / "x") as opened:
            assert titles(opened, "old new") == ["old"]

    def test_searches_use_the_old_file_until_the_new_one_is_there(self, tmp_path: Path) -> None:
        build(Some([doc("old")]), tmp_path / "x")
        with Index(tmp_path / "x") as opened:
            seen: list[list[str]] = []
            build(Some([doc("new")], before=lambda: seen.append(titles(opened, "old new"))), tmp_path / "x")
            assert seen == [["old"]]
            assert titles(opened, "old new") == ["new"]

    def test_an_open_index_outlives_its_file(self, tmp_path: Path) -> None:
        build(Some([doc("old")]), tmp_path / "x")
        with Index(tmp_path / "x") as opened:
            (tmp_path / "x").unlink()
            assert titles(opened, "old") == ["old"]

    def test_a_cache_folder_that_cannot_be_written_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(index.IndexNotBuilt, match=r"file.x' cannot be written: .* name another cache folder"):
            build(LIBRARY, tmp_path / "file" / "x")

    @pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files as Linux does")
    def test_a_full_disk_is_told_and_the_old_index_stays(self, tmp_path: Path) -> None:
        ensure(Some([doc("old")]), tmp_path)
        code = """
            import resource
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
            try:
                ensure(Some([doc(str(n), "many words " * 1000) for n in range(1000)], version="2"), folder)
            except index.IndexNotBuilt as error:
                print(error)
        """
        assert "Make room on its disk" in python(code, tmp_path)
        with Index(path_for(Some([]), tmp_path)) as opened:
            assert titles(opened, "old") == ["old"]
        assert len(os.listdir(tmp_path)) == 1

    def test_a_full_disk_when_the_file_is_synced_is_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def no_space(handle: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", no_space)
        with pytest.raises(index.IndexNotBuilt, match="No space left on device"):
            build(LIBRARY, tmp_path / "x")
        assert os.listdir(tmp_path) == []

    def test_sqlite_without_full_text_search_is_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        class Without(sqlite3.Connection):
            def execute(self, *arguments: object) -> sqlite3.Cursor:
                raise sqlite3.OperationalError("no such module: fts5")

        connect = sqlite3.connect
        monkeypatch.setattr(sqlite3, "connect", lambda name: connect(name, factory=Without))
        with pytest.raises(index.FullTextMissing, match=r"built without FTS5.*Use another Python"):
            build(LIBRARY, tmp_path / "x")


class TestEnsure:
    def test_builds_once(self, tmp_path: Path) -> None:
        first, second = ensure(LIBRARY, tmp_path), ensure(LIBRARY, tmp_path)
        assert (first.rebuilt, second.rebuilt) == (True, False)
        assert first.report == second.report
        assert first.path == second.path == path_for(LIBRARY, tmp_path)

    def test_builds_again_when_the_documents_changed(self, tmp_path: Path) -> None:
        (tmp_path / "docs").mkdir()
        (tmp_path / "docs" / "a.md").write_text("# First")
        (tmp_path / "docs" / "bad.md").write_bytes(b"\0")
        folder, cache = Folder(tmp_path / "docs"), tmp_path / "cache"
        assert ensure(folder, cache).report.problems == ensure(folder, cache).report.problems != ()
        (tmp_path / "docs" / "b.md").write_text("# Second")
        assert ensure(folder, cache).rebuilt
        with Index(path_for(folder, cache)) as opened:
            assert titles(opened, "second") == ["Second"]

    def test_each_source_has_its_file(self, tmp_path: Path) -> None:
        assert path_for(Folder("a"), tmp_path) != path_for(Folder("b"), tmp_path)
        assert path_for(Some([], identity="x/../../\ud800 y" * 99), tmp_path).parent == tmp_path

    def test_a_missing_folder_is_told_and_makes_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(SourceError):
            ensure(Folder(tmp_path / "nowhere"), tmp_path / "cache")
        assert not (tmp_path / "cache").exists()

    @pytest.mark.parametrize("damage", ["junk", "empty", "half", "overwritten", "another"])
    def test_a_damaged_file_is_set_aside_with_a_warning(self, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str) -> None:
        path = ensure(LIBRARY, tmp_path).path
        whole = path.read_bytes()
        path.write_bytes(
            {
                "junk": b"no database",
                "empty": b"",
                "half": whole[: len(whole) // 2],
                "overwritten": whole[:8192] + b"\xff" * (len(whole) - 8192),
                "another": (tmp_path / "other").write_bytes(b"") or _another_database(tmp_path / "other"),
            }[damage]
        )
        assert ensure(LIBRARY, tmp_path).rebuilt
        assert "is damaged" in caplog.text
        assert f"kept as {path}.damaged" in caplog.text
        with Index(path) as opened:
            assert titles(opened, "item") == ["asyncio.Queue.put"]


def _another_database(path: Path) -> bytes:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE cookies (x)")
    connection.close()
    return path.read_bytes()


class TestIndex:
    def test_that_is_missing_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(index.NoIndex, match=r"no search index .* Build it with ensure\(\) or build\(\)"):
            Index(tmp_path / "x")

    def test_that_is_damaged_is_told_by_the_search(self, tmp_path: Path) -> None:
        (tmp_path / "x").write_bytes(b"no database")
        with Index(tmp_path / "x") as opened, pytest.raises(index.DamagedIndex, match=r"is damaged .* Build it anew"):
            opened.search("x")

    def test_that_cannot_be_opened_is_told_and_left_alone(self, tmp_path: Path) -> None:
        path_for(LIBRARY, tmp_path).mkdir()
        with pytest.raises(index.IndexUnreadable, match=r"cannot be opened: .*\. Check its permissions"):
            ensure(LIBRARY, tmp_path)
        assert path_for(LIBRARY, tmp_path).is_dir()

    def test_that_is_closed_is_told(self, library: Index) -> None:
        library.close()
        library.close()
        with pytest.raises(index.IndexClosed, match="is closed"):
            library.search("queue")

    def test_any_characters_may_be_in_its_path(self, tmp_path: Path) -> None:
        path = tmp_path / "a ?mode=rw&x#y%41 ü" / "x.sqlite3"
        build(LIBRARY, path)
        with Index(path) as opened:
            assert titles(opened, "item") == ["asyncio.Queue.put"]

    def test_many_threads_search_while_it_is_rebuilt(self, tmp_path: Path) -> None:
        path, rebuilt = tmp_path / "x", threading.Event()
        build(Some([doc("same old")]), path)

        def search_until_rebuilt(_: int) -> set[str]:
            found: set[str] = set()
            while not rebuilt.is_set():
                found.update(titles(opened, "same"))
            return found | set(titles(opened, "same"))

        with Index(path) as opened, ThreadPoolExecutor(6) as pool:
            searches = [pool.submit(search_until_rebuilt, n) for n in range(6)]
            try:
                for _ in range(5):
                    build(Some([doc("same new")]), path)
            finally:
                rebuilt.set()
            for search in searches:
                assert {"same new"} <= search.result() <= {"same old", "same new"}


def python(code: str, folder: Path, *, status: int = 0) -> str:
    """Run it in another process, with this file's names and `folder`; what it prints."""
    with start(code, folder) as process:
        output = process.communicate(timeout=50)[0]
    assert process.returncode == status, output
    return output


def start(code: str, folder: Path) -> subprocess.Popen[str]:
    program = f"from {Path(__file__).stem} import *\nfolder = Path({str(folder)!r})\n{textwrap.dedent(code)}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])}
    return subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )


KILL = "os.kill(os.getpid(), signal.SIGKILL)"
MOMENTS = {
    "while it reads": f"ensure(Some([doc('new')] * 3, version='2', before=lambda: {KILL}), folder)",
    "at the end of reading": f"ensure(Some([doc('new')], version='2'), folder, progress=lambda done, total: done and {KILL})",
    "before it renames": f"os.replace = lambda *names: {KILL}\nensure(Some([doc('new')], version='2'), folder)",
}


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
class TestCrash:
    @pytest.mark.parametrize("moment", MOMENTS)
    @pytest.mark.parametrize("before", ["an old index", "none"])
    def test_a_killed_build_leaves_the_old_index_or_none(self, tmp_path: Path, before: str, moment: str) -> None:
        path = path_for(Some([]), tmp_path)
        if before == "an old index":
            ensure(Some([doc("old")]), tmp_path)
        python(MOMENTS[moment], tmp_path, status=-signal.SIGKILL)
        if before == "none":
            assert not path.exists()
        else:
            with Index(path) as opened:
                assert titles(opened, "old new") == ["old"]
        assert ensure(Some([doc("new")], version="2"), tmp_path).rebuilt

    def test_a_build_killed_after_the_rename_is_complete(self, tmp_path: Path) -> None:
        code = f"""
            replace = os.replace
            def replace_and_die(*names):
                replace(*names)
                {KILL}
            os.replace = replace_and_die
            ensure(Some([doc("new")]), folder)
        """
        python(code, tmp_path, status=-signal.SIGKILL)
        assert not ensure(Some([doc("new")]), tmp_path).rebuilt

    def test_what_it_leaves_is_removed_an_hour_later(self, tmp_path: Path) -> None:
        python(MOMENTS["while it reads"], tmp_path, status=-signal.SIGKILL)
        (left_over,) = tmp_path.iterdir()
        ensure(Some([doc("new")]), tmp_path)
        assert left_over.exists()
        os.utime(left_over, (1, 1))
        ensure(Some([doc("new")], version="2"), tmp_path)
        assert os.listdir(tmp_path) == [path_for(Some([]), tmp_path).name]

    def test_two_processes_that_build_at_once_do_no_harm(self, tmp_path: Path) -> None:
        code = """
            def wait_for_the_other():
                print("building", flush=True)
                sys.stdin.readline()
            print(ensure(Some([doc("one")], before=wait_for_the_other), folder).rebuilt)
        """
        with start(code, tmp_path) as first, start(code, tmp_path) as second:
            for process in (first, second):
                assert process.stdout is not None
                assert process.stdout.readline() == "building\n"
            assert [process.communicate("go\n", timeout=50)[0] for process in (first, second)] == ["True\n", "True\n"]
        assert not ensure(Some([doc("one")]), tmp_path).rebuilt
        assert len(os.listdir(tmp_path)) == 1


class TestDefaultCacheDir:
    def test_follows_xdg(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        assert index.default_cache_dir() == tmp_path / "xdg" / "beamish"
        assert (tmp_path / "xdg" / "beamish").is_dir()

    @pytest.mark.parametrize("value", ["", "relative"])
    def test_is_in_the_home_folder_without_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("USERPROFILE", str(tmp_path))
        assert index.default_cache_dir() == tmp_path / ".cache" / "beamish"

    def test_falls_back_to_the_temporary_folder_with_a_warning(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "file").touch()
        (tmp_path / "tmp").mkdir()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
        found = index.default_cache_dir()
        assert found.parent == tmp_path / "tmp"
        assert "cannot be used" in caplog.text
        assert index.default_cache_dir() == found

    @pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs POSIX users")
    def test_does_not_trust_what_others_could_have_put_there(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "file").touch()
        planted = tmp_path / f"beamish-{os.getuid()}"
        planted.symlink_to(tmp_path / "elsewhere")
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        assert index.default_cache_dir() not in (planted, tmp_path / "elsewhere")


class TestProgressBar:
    def test_is_two_log_lines_where_there_is_no_terminal(self, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO), index.progress_bar("Indexing the docs") as progress:
            progress(0, 2)
            progress(2, 2)
        begin, end = caplog.messages
        assert begin == "Indexing the docs: started"
        assert end.startswith("Indexing the docs: done in ")
        assert capfd.readouterr().err == ""

    def test_is_a_bar_on_a_terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("tqdm")

        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        with index.progress_bar("Indexing the docs") as progress:
            progress(0, 2)
            progress(2, 2)
        assert "Indexing the docs" in terminal.getvalue()
