"""Sources of documents: a folder of anything, and Python's own documentation."""

from __future__ import annotations

import doctest
import importlib
import os
import shutil
import sys
from pathlib import Path

import pytest

from beamish.search_service.documents import Document, Folder, Problem, PythonDocumentation, SourceError

MODULES = ["_docstrings", "_document", "_folder", "_query", "_readers", "cache_folder", "documents", "index", "progress"]

posix_only = pytest.mark.skipif(os.name == "nt", reason="needs POSIX files")


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_the_docstrings_run(name: str) -> None:
    assert doctest.testmod(importlib.import_module(f"beamish.search_service.{name}")).failed == 0


def read(folder: Path, **options: int) -> tuple[list[Document], list[Problem]]:
    """What a folder has, and what was wrong with it."""
    scan = Folder(folder, **options).scan()
    batches = list(scan.batches())
    assert len(batches) == scan.total
    found = [*scan.problems, *(item for batch in batches for item in batch)]
    return [item for item in found if isinstance(item, Document)], [item for item in found if isinstance(item, Problem)]


def read_one(folder: Path, name: str, content: str | bytes) -> Document:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    documents, problems = read(folder)
    assert problems == []
    assert len(documents) == 1
    return documents[0]


class TestFolder:
    def test_reads_the_folders_below_in_order_and_only_its_own_suffixes(self, tmp_path: Path) -> None:
        for name in ["b.txt", "a.MD", "below/c.rst", "below/deeper/d.htm", "picture.png", ".hidden.md", ".git/x.md", "node_modules/y.md"]:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(f"text of {name}")
        documents, problems = read(tmp_path)
        assert [document.where for document in documents] == ["a.MD", "b.txt", "below/c.rst", "below/deeper/d.htm"]
        assert problems == []

    def test_a_missing_folder_is_named_with_what_to_do(self, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match=r"documents folder '.*nowhere' does not exist\. Create it, or name another one\."):
            Folder(tmp_path / "nowhere").scan()

    def test_a_file_instead_of_a_folder_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(SourceError, match=r"is a file\. Name the folder that holds it"):
            Folder(tmp_path / "file").scan()

    def test_an_impossible_name_is_told(self) -> None:
        with pytest.raises(SourceError, match=r"cannot be read: .*embedded null"):
            Folder("a\0b").scan()

    def test_an_empty_file_is_no_document_and_no_problem(self, tmp_path: Path) -> None:
        (tmp_path / "empty.md").touch()
        assert read(tmp_path) == ([], [])

    def test_the_identity_is_that_of_the_real_folder(self, tmp_path: Path) -> None:
        assert Folder(tmp_path / "x" / "..").identity == Folder(tmp_path).identity


class TestTitles:
    def test_of_markdown_is_the_first_heading(self, tmp_path: Path) -> None:
        assert read_one(tmp_path, "x.md", "```\n# not this\n```\n\n## Supervisors ##\n\n# Later").title == "Supervisors"

    def test_of_markdown_may_be_underlined(self, tmp_path: Path) -> None:
        assert read_one(tmp_path, "x.md", "words\n\nSupervisors\n===\n").title == "Supervisors"

    def test_of_markdown_without_a_heading_is_the_file_name(self, tmp_path: Path) -> None:
        assert read_one(tmp_path, "x.md", "#hashtag\n\nwords").title == "x.md"

    def test_of_rst_is_the_first_underlined_line(self, tmp_path: Path) -> None:
        assert read_one(tmp_path, "x.rst", ".. index:: x\n\n****\nTree\n****\n\nbody").title == "Tree"

    def test_of_html_is_its_title(self, tmp_path: Path) -> None:
        head = "<title>Let it\n crash</title><style>p{}</style><script>if (a<b) alert('<p>no</p>')</script>"
        document = read_one(tmp_path, "x.html", head + "<h1>Head</h1><p>one<b>two</b></p>three &lt;")
        assert (document.title, document.body) == ("Let it crash", "Head\nonetwo\nthree <")

    def test_of_html_without_a_title_is_its_h1(self, tmp_path: Path) -> None:
        assert read_one(tmp_path, "x.html", "<h1>A <i>head</i></h1>").title == "A head"

    def test_of_python_are_the_names_of_what_is_documented(self, tmp_path: Path) -> None:
        (tmp_path / "pkg").mkdir()
        (tmp_path / "pkg" / "mod.py").write_text(
            'class A:\n  "doc A"\n  async def f(self, x: int = 1): "doc f"\nif 1:\n  def _g(): "doc g"\n'
        )
        (tmp_path / "pkg" / "__init__.py").write_text('"doc pkg"')
        documents, problems = read(tmp_path)
        assert problems == []
        assert [(document.title, document.where) for document in documents] == [
            ("pkg", "pkg/__init__.py:1"),
            ("pkg.mod.A", "pkg/mod.py:1"),
            ("pkg.mod.A.f", "pkg/mod.py:3"),
            ("pkg.mod._g", "pkg/mod.py:5"),
        ]
        assert documents[2].body == "async f(self, x: int=1)\n\ndoc f"

    def test_python_without_docstrings_is_read_as_text(self, tmp_path: Path) -> None:
        assert read_one(tmp_path, "x.py", "x = 1  # one").body == "x = 1  # one"


class TestBadFiles:
    """Each is a problem of its own; the file beside it is read all the same."""

    @pytest.fixture(autouse=True)
    def good_file(self, tmp_path: Path) -> None:
        (tmp_path / "zz_good.md").write_text("# Good")

    def only_problem(self, folder: Path, **options: int) -> Problem:
        documents, problems = read(folder, **options)
        assert "Good" in [document.title for document in documents]
        assert len(problems) == 1
        return problems[0]

    def test_a_folder_named_like_a_document_is_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "x.md").mkdir()
        (tmp_path / "x.md" / "y.md").write_text("# Inside")
        documents, problems = read(tmp_path)
        assert [document.title for document in documents] == ["Good", "Inside"]
        assert problems == []

    @posix_only
    def test_a_link_to_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "x.md").symlink_to("nothing")
        assert self.only_problem(tmp_path) == Problem("x.md", "skipped: a symbolic link to nothing")

    @posix_only
    def test_a_link_to_itself(self, tmp_path: Path) -> None:
        (tmp_path / "x.md").symlink_to("x.md")
        assert "symbolic links" in self.only_problem(tmp_path).reason

    @posix_only
    def test_a_link_to_a_folder_above(self, tmp_path: Path) -> None:
        (tmp_path / "below").mkdir()
        (tmp_path / "below" / "loop").symlink_to(tmp_path)
        assert self.only_problem(tmp_path) == Problem("below/loop", "skipped: a symbolic link to a folder that has been read already")

    @posix_only
    def test_a_pipe_is_not_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "x.md")
        assert self.only_problem(tmp_path) == Problem("x.md", "skipped: not a regular file")

    @posix_only
    def test_a_pipe_that_takes_the_place_of_a_file_is_not_waited_for(self, tmp_path: Path) -> None:
        (tmp_path / "x.md").write_text("# X")
        scan = Folder(tmp_path).scan()
        (tmp_path / "x.md").unlink()
        os.mkfifo(tmp_path / "x.md")
        assert next(iter(scan.batches())) == [Problem("x.md", "skipped: not a regular file")]

    def test_a_file_that_is_gone_when_it_is_read(self, tmp_path: Path) -> None:
        (tmp_path / "x.md").write_text("# X")
        scan = Folder(tmp_path).scan()
        (tmp_path / "x.md").unlink()
        assert next(iter(scan.batches())) == [Problem("x.md", "skipped: No such file or directory")]

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
    def test_a_file_that_may_not_be_read(self, tmp_path: Path) -> None:
        (tmp_path / "x.md").touch(mode=0)
        assert self.only_problem(tmp_path) == Problem("x.md", "skipped: Permission denied")

    def test_binary_junk(self, tmp_path: Path) -> None:
        (tmp_path / "x.md").write_bytes(b"\x7fELF\0\0\1\2")
        assert self.only_problem(tmp_path).reason == "skipped: it has NUL bytes, so it is a binary file"

    def test_binary_junk_without_nul_bytes(self, tmp_path: Path) -> None:
        (tmp_path / "x.txt").write_bytes(bytes(range(128, 256)) * 100)
        assert "are not UTF-8; convert it, or it is a binary file" in self.only_problem(tmp_path).reason

    def test_another_encoding_is_read_with_replacements(self, tmp_path: Path) -> None:
        (tmp_path / "x.txt").write_bytes("Ein schöner Tag".encode("latin-1"))
        assert self.only_problem(tmp_path) == Problem("x.txt", "1 characters are not UTF-8 and were replaced")
        assert "Ein sch\N{REPLACEMENT CHARACTER}ner Tag" in [document.body for document in read(tmp_path)[0]]

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
    def test_a_byte_order_mark_is_understood(self, tmp_path: Path, encoding: str) -> None:
        (tmp_path / "x.md").write_bytes("# Schön".encode(encoding))
        documents, problems = read(tmp_path)
        assert (documents[0].title, problems) == ("Schön", [])

    def test_a_file_above_the_limit(self, tmp_path: Path) -> None:
        (tmp_path / "x.txt").write_text("x" * 1001)
        assert self.only_problem(tmp_path, max_file_bytes=1000).reason == "skipped: 1,001 bytes are more than the limit of 1,000"

    def test_more_files_than_the_limit(self, tmp_path: Path) -> None:
        documents, problems = read(tmp_path, max_files=0)
        assert documents == []
        assert problems == [Problem(str(tmp_path), "has more than 0 files to read; those from 'zz_good.md' on are left out")]

    @pytest.mark.parametrize("source", ["def broken(:", "x = " + "(" * 5000, "a" + ".b" * 100_000], ids=["syntax", "nested", "long"])
    def test_python_that_cannot_be_parsed_is_read_as_text(self, tmp_path: Path, source: str) -> None:
        (tmp_path / "x.py").write_text(source)
        documents, problems = read(tmp_path)
        assert documents[0].body == source
        assert all("cannot parse it" in problem.reason for problem in problems)

    def test_odd_escapes_in_python_warn_nobody(self, tmp_path: Path) -> None:
        (tmp_path / "x.py").write_text('"doc with \\d"\n')
        assert read(tmp_path)[1] == []

    def test_broken_html_is_read_up_to_where_it_breaks(self, tmp_path: Path) -> None:
        (tmp_path / "x.html").write_text("<title>T</title><p>before<![nonsense[ after <!-- <<<")
        documents, _ = read(tmp_path)
        assert documents[0].title == "T"
        assert "before" in documents[0].body

    @posix_only
    def test_a_name_that_is_no_unicode(self, tmp_path: Path) -> None:
        try:
            (tmp_path / os.fsdecode(b"\xff.md")).write_text("# X")
        except OSError:
            pytest.skip("this file system takes Unicode names only")
        assert "\N{REPLACEMENT CHARACTER}.md" in [document.where for document in read(tmp_path)[0]]


class TestFingerprint:
    def test_is_the_same_while_nothing_changes(self, tmp_path: Path) -> None:
        (tmp_path / "x.md").write_text("# X")
        assert Folder(tmp_path).scan().fingerprint == Folder(tmp_path).scan().fingerprint

    @pytest.mark.parametrize("change", ["content", "time", "new", "renamed", "removed", "limit"])
    def test_changes_with_the_files(self, tmp_path: Path, change: str) -> None:
        file, limit = tmp_path / "x.md", 1000
        file.write_text("# X")
        os.utime(file, ns=(10**18, 10**18))
        before = Folder(tmp_path, max_file_bytes=limit).scan().fingerprint
        match change:
            case "content":
                file.write_text("# longer")
                os.utime(file, ns=(10**18, 10**18))
            case "time":
                os.utime(file, ns=(10**18, 10**18 + 1))
            case "new":
                shutil.copy2(file, tmp_path / "y.md")
            case "renamed":
                file.rename(tmp_path / "y.md")
            case "removed":
                file.unlink()
            case _:
                limit = 2
        assert Folder(tmp_path, max_file_bytes=limit).scan().fingerprint != before


@pytest.fixture(scope="module")
def documents() -> dict[str, Document]:
    scan = PythonDocumentation().scan()
    before = set(sys.modules)
    found = [item for batch in scan.batches() for item in batch]
    assert [item for item in found if isinstance(item, Problem)] == []
    imported = {name for name in set(sys.modules) - before if getattr(sys.modules[name], "__file__", "").endswith(".py")}
    assert imported <= {"pydoc_data", "pydoc_data.topics"} | {name for name in imported if name.startswith(("encodings", "ssl"))}
    return {item.title: item for item in found if isinstance(item, Document)}


class TestPythonDocumentation:
    def test_has_thousands_of_documents_each_title_once(self, documents: dict[str, Document]) -> None:
        assert len(documents) > 6_000
        assert all(document.body.strip() and document.where for document in documents.values())

    def test_has_the_topics(self, documents: dict[str, Document]) -> None:
        assert documents["The with statement"].where == "topic: with"

    @pytest.mark.parametrize(
        ("title", "where"),
        [
            ("asyncio.Queue.put", "Lib/asyncio/queues.py:"),
            ("collections.abc.Mapping", "Lib/_collections_abc.py:"),
            ("concurrent.futures.Future.result", "Lib/concurrent/futures/_base.py:"),
            ("datetime.datetime.strptime", "Lib/"),
            ("decimal.Decimal", "Lib/_pydecimal.py:"),
            ("json.loads", "Lib/json/__init__.py:"),
            ("os.path.join", f"Lib/{os.path.__name__}.py:"),
            ("pathlib.Path.rename", "Lib/pathlib"),
            ("dict.get", "built-in module builtins"),
            ("io.StringIO", "built-in module _io"),
            ("itertools.chain", "built-in module itertools"),
            ("len", "built-in module builtins"),
            ("math.sqrt", "built-in module math"),
            ("os.open", "built-in module "),
            ("socket.socket.recv", "built-in module _socket"),
            ("sqlite3.connect", "built-in module _sqlite3"),
            ("struct.pack", "built-in module _struct"),
        ],
    )
    def test_things_are_titled_as_they_are_imported(self, documents: dict[str, Document], title: str, where: str) -> None:
        assert documents[title].where.startswith(where)

    def test_what_stands_elsewhere_keeps_that_name_too(self, documents: dict[str, Document]) -> None:
        assert documents["asyncio.Queue.put"].names == ("asyncio.queues.Queue.put",)

    def test_leaves_out_what_is_private_and_the_tests(self, documents: dict[str, Document]) -> None:
        assert [title for title in documents if title.startswith(("_pydecimal", "_socket", "test.", "idlelib", "IOError"))] == []

    def test_bodies_begin_with_the_signature(self, documents: dict[str, Document]) -> None:
        assert documents["asyncio.Queue.put"].body.startswith("async put(self, item)\n\n")
        assert documents["str.join"].body.startswith("join(iterable, /)\n\n")
