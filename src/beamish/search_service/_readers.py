"""The bytes of one file → its documents. Pure functions: no file is opened here."""

import ast
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import PurePosixPath

from ._docstrings import docstrings
from ._document import Document, Found, Problem

# The compiler warns about odd escapes in a document under this "file name", and Folder silences exactly this name.
SOURCE_NAME = "<searched document>"
_BROKEN_SOURCE = (SyntaxError, ValueError, RecursionError, MemoryError)
_REPLACED = "\N{REPLACEMENT CHARACTER}"


def read(where: str, data: bytes) -> Iterator[Found]:
    """The documents in `data`, read as the suffix of `where` says. Never raises for what is in the file: that becomes a Problem.

    >>> list(read("notes/otp.md", b"# Let it crash\\n\\nSupervisors restart."))
    [Document(title='Let it crash', where='notes/otp.md', body='# Let it crash\\n\\nSupervisors restart.', names=())]
    """
    text, problem = decode(data)
    if problem is not None:
        yield Problem(where, problem)
    if text is not None and text.strip():
        yield from READERS[PurePosixPath(where).suffix.lower()](where, text)


def decode(data: bytes) -> tuple[str | None, str | None]:
    """Text as UTF-8, or UTF-16 with a byte order mark, and what is wrong with it. The text is None if it is no text at all."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return _told(data.decode("utf-16", "replace"))
    if b"\0" in data:
        return None, "skipped: it has NUL bytes, so it is a binary file"
    return _told(data.decode("utf-8-sig", "replace"))


def _told(text: str) -> tuple[str | None, str | None]:
    bad = text.count(_REPLACED)
    if bad > max(20, len(text) // 10):
        return None, f"skipped: {bad} of its {len(text)} characters are not UTF-8; convert it, or it is a binary file"
    # A file may hold the replacement character itself; it reads the same, so it is reported the same.
    return text, f"{bad} characters are not UTF-8 and were replaced" if bad else None


def _plain(where: str, text: str) -> Iterator[Found]:
    yield Document(PurePosixPath(where).name, where, text)


def _markdown(where: str, text: str) -> Iterator[Found]:
    yield Document(markdown_title(text) or PurePosixPath(where).name, where, text)


def markdown_title(text: str) -> str | None:
    """The first heading outside of code blocks and front matter, or None.

    >>> markdown_title("---\\nid: 7\\n---\\n```\\n# no\\n```\\n## A *few* words ##")
    'A *few* words'
    """
    lines = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL).splitlines()
    fence, before = "", ""
    for line in lines:
        if mark := re.match(r" {0,3}(```|~~~)", line):
            fence = mark[1] if not fence else "" if fence == mark[1] else fence
        elif not fence and (heading := re.match(r" {0,3}#{1,6}[ \t]+(.*?)[ \t]*#*\s*$", line)) and heading[1]:
            return heading[1]
        elif not fence and before and re.fullmatch(r" {0,3}(=+|-+)\s*", line):
            return before
        before = line.strip() if not mark else ""
    return None


def _rst(where: str, text: str) -> Iterator[Found]:
    yield Document(rst_title(text) or PurePosixPath(where).name, where, text)


def rst_title(text: str) -> str | None:
    """The first line that is underlined with punctuation at least as long as itself, or None.

    >>> rst_title(".. note:: x\\n\\n=====\\nTitle\\n=====\\n")
    'Title'
    """
    before = ""
    for line in text.splitlines():
        line = line.rstrip()
        if before and len(line) >= len(before) and re.fullmatch(r"([!-/:-@[-`{-~])\1+", line):
            return before
        before = line.strip() if re.search(r"\w", line) else ""
    return None


def _python(where: str, text: str) -> Iterator[Found]:
    try:
        found = list(docstrings(ast.parse(text, SOURCE_NAME), private=True))
    except _BROKEN_SOURCE as error:
        yield Problem(where, f"read as plain text: Python cannot parse it ({type(error).__name__}: {error})")
        found = []
    if not found:
        yield from _plain(where, text)
    module = module_name(where)
    for docstring in found:
        title = ".".join(filter(None, (module, docstring.name)))
        yield Document(title, f"{where}:{docstring.line}", docstring.text)


def module_name(where: str) -> str:
    """`beamish/store/__init__.py` → `beamish.store`. A root `__init__.py` keeps its name."""
    path = PurePosixPath(where).with_suffix("")
    parts = path.parts[:-1] if path.name == "__init__" and len(path.parts) > 1 else path.parts
    return ".".join(parts)


def _html(where: str, text: str) -> Iterator[Found]:
    page = _Page()
    try:
        page.feed(text)
        page.close()
    except AssertionError as error:  # html.parser's answer to a broken `<![…`; what stood before is kept
        yield Problem(where, f"read only up to line {page.getpos()[0]}: {error}")
    title = page.text("title") or page.text("h1") or PurePosixPath(where).name
    if body := page.text("body"):
        yield Document(title, where, body)


class _Page(HTMLParser):
    """Collects a page's text, and apart from it the text of the first <title> and the first <h1>."""

    DROPPED = frozenset({"script", "style", "template"})
    # fmt: off
    INLINE = frozenset([
        "a", "abbr", "b", "bdi", "bdo", "cite", "code", "data", "dfn", "em", "i", "kbd", "mark", "q", "s", "samp", "small", "span",
        "strong", "sub", "sup", "time", "tt", "u", "var", "wbr",
    ])
    # fmt: on

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._pieces: dict[str, list[str]] = {"title": [], "h1": [], "body": []}
        self._open: str | None = None
        self._dropping: str | None = None

    def text(self, part: str) -> str:
        lines = (" ".join(line.split()) for line in "".join(self._pieces[part]).splitlines())
        return (" " if part != "body" else "\n").join(line for line in lines if line)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._dropping is None and tag in self.DROPPED:
            self._dropping = tag
        elif tag in ("title", "h1") and not self._pieces[tag]:
            self._open = tag
        self._break(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag == self._dropping:
            self._dropping = None
        if tag == self._open:
            self._open = None
        self._break(tag)

    def _break(self, tag: str) -> None:
        if tag not in self.INLINE:
            self._pieces["body"].append("\n")

    def handle_data(self, data: str) -> None:
        if self._dropping is not None:
            return
        if self._open is not None:
            self._pieces[self._open].append(data)
        if self._open != "title":
            self._pieces["body"].append(data)


READERS: dict[str, Callable[[str, str], Iterator[Found]]] = {
    ".md": _markdown,
    ".txt": _plain,
    ".rst": _rst,
    ".html": _html,
    ".htm": _html,
    ".py": _python,
}
"""How a file is read, by its suffix in small letters; files with other suffixes are not looked at."""
