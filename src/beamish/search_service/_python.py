"""Python's own documentation, as it is installed with the interpreter.

Three parts: the language topics (`help("with")`), the docstrings of the standard library from its source files, and those of the
built-in modules. A function is titled by the name it is imported under: `asyncio.Queue.put`, though it stands in asyncio/queues.py.
"""

import ast
import importlib
import inspect
import os
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

from ._docstrings import Docstring, docstrings, is_private, statements
from ._document import Document, Found, Problem, Scan
from ._readers import SOURCE_NAME, module_name

# fmt: off
_SKIPPED_FOLDERS = frozenset([
    "__pycache__", "test", "tests", "idlelib", "idle_test", "turtledemo", "lib2to3", "site-packages", "dist-packages", "lib-dynload",
    "ensurepip", "pydoc_data", "__phello__",
])
_SKIPPED_FILES = frozenset(["__main__.py", "this.py", "antigravity.py"])
# Extension modules that the standard library imports itself, with nothing to see but documentation: no terminal, no display, no warning.
_EXTENSIONS = [
    "array", "binascii", "cmath", "fcntl", "grp", "math", "mmap", "pyexpat", "resource", "select", "syslog", "termios", "unicodedata",
    "zlib", "_bisect", "_bz2", "_contextvars", "_csv", "_json", "_lzma", "_opcode", "_queue", "_random", "_socket", "_sqlite3", "_ssl",
    "_statistics", "_struct", "_zoneinfo",
]
# fmt: on
# Modules that get their public name by an assignment to sys.modules, which no reader of the source can see.
_RENAMED = {"_collections_abc": "collections.abc", "_pydecimal": "decimal", os.path.__name__: "os.path"}
# What an interpreter may have built in, and importing which warns or touches the terminal or the display.
_NOT_IMPORTED = frozenset(["audioop", "crypt", "_crypt", "nis", "ossaudiodev", "readline", "spwd", "_curses", "_tkinter"])
_PRIVATE_IN_C = frozenset({"posix", "nt"})
_PUBLIC_IN_C = frozenset({"_thread"})
_UNKNOWN_EXPORTS = frozenset[str]()


@dataclass(frozen=True, slots=True)
class _Import:
    """`from source import name`; name is "*" for all."""

    source: str
    name: str


@dataclass(frozen=True, slots=True)
class _Module:
    """What the documentation needs to know of one source file. `exports` is empty if `__all__` is missing or computed."""

    name: str
    where: str
    docstrings: tuple[Docstring, ...]
    imports: tuple[_Import, ...]
    exports: frozenset[str]


class PythonDocumentation:
    """The documentation of the running Python as a source of some eight thousand documents. Needs no network.

    The standard library is read, not imported. The modules that are imported are built into the interpreter or are extension modules of
    the standard library known to be harmless. Where the library's source files are missing (a zipped Python), the rest is still there and
    a Problem says so.
    """

    def __init__(self) -> None:
        self.library = Path(sysconfig.get_path("stdlib"))

    def __repr__(self) -> str:
        return "PythonDocumentation()"

    @property
    def identity(self) -> str:
        return f"python {self.library}"

    def scan(self) -> Scan:
        files = sorted(_source_files(self.library))
        digest = sha256(f"{sys.version} {sys.implementation.cache_tag} {self.library}".encode("utf-8", "replace"))
        for path in files:
            digest.update(f"{path} {_stamp(path)}".encode("utf-8", "replace"))
        missing = Problem(str(self.library), "has no source files of the standard library; its docstrings are left out")
        return Scan(digest.hexdigest(), len(files) + 1, partial(self._batches, files), () if files else (missing,))

    def _batches(self, files: list[Path]) -> Iterator[list[Found]]:
        # Names are known only when all files have been read, so the files give problems and the last batch gives the documents.
        warnings.filterwarnings("ignore", module=SOURCE_NAME)
        modules: list[_Module] = []
        for path in files:
            try:
                modules.append(_read_module(path, self.library))
                yield []
            except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
                yield [Problem(str(path), f"skipped: {type(error).__name__}: {error}")]
        yield list(_first_of_each_title(_all(modules)))


def _source_files(library: Path) -> Iterator[Path]:
    for folder, below, names in os.walk(library):
        below[:] = [name for name in below if name not in _SKIPPED_FOLDERS and name.isidentifier()]
        yield from (Path(folder, name) for name in names if name.endswith(".py") and name not in _SKIPPED_FILES)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None  # a link to nothing, as some distributions have; reading it tells
    return status.st_size, status.st_mtime_ns


def _read_module(path: Path, library: Path) -> _Module:
    where = path.relative_to(library).as_posix()
    name = module_name(where)
    tree = ast.parse(path.read_bytes(), SOURCE_NAME)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return _Module(name, f"Lib/{where}", tuple(docstrings(tree, private=False)), tuple(_imports(tree, package)), _exports(tree))


def _imports(tree: ast.Module, package: str) -> Iterator[_Import]:
    for node in statements(tree.body):
        if isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*base, *filter(None, [node.module])])
            yield from (_Import(source, alias.name) for alias in node.names if alias.asname in (None, alias.name))


def _exports(tree: ast.Module) -> frozenset[str]:
    """`__all__` if it is written out, else nothing."""
    found: frozenset[str] = _UNKNOWN_EXPORTS
    for node in statements(tree.body):
        match node:
            case ast.Assign(targets=[ast.Name(id="__all__")], value=ast.List(elts=items) | ast.Tuple(elts=items)):
                found = frozenset(item.value for item in items if isinstance(item, ast.Constant) and isinstance(item.value, str))
            case ast.Assign(targets=[ast.Name(id="__all__")]) | ast.AugAssign(target=ast.Name(id="__all__")):
                return _UNKNOWN_EXPORTS
            case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id="__all__")))):
                return _UNKNOWN_EXPORTS
            case _:
                pass
    return found


class _PublicNames:
    """Under which name a thing is imported: `_socket.socket` → `socket.socket`, `asyncio.queues.Queue` → `asyncio.Queue`."""

    def __init__(self, modules: Iterable[_Module]) -> None:
        self._modules = {module.name: module for module in modules}
        self._importers: dict[str, list[tuple[_Module, str]]] = {}
        for module in self._modules.values():
            for found in module.imports:
                if not _is_private_module(module.name) and _may_pass_on(module.name, found.source):
                    self._importers.setdefault(found.source, []).append((module, found.name))

    def title(self, module: str, name: str) -> str | None:
        """The public title of `name` of `module`; None if both are private and nobody passes it on."""
        if not name:
            home = _RENAMED.get(module, module)
            return None if _is_private_module(home) else home
        top = name.partition(".")[0]
        home = self._home(module, top)
        return None if _is_private_module(home) or is_private(top) else f"{home}.{name}"

    def _home(self, module: str, top: str) -> str:
        if module in _RENAMED:
            return _RENAMED[module]
        visited = {module}
        while importers := [(sort, home) for sort, home in self._passing_on(module, top) if home not in visited]:
            module = min(importers, key=lambda found: (found[0], found[1] != module.lstrip("_"), len(found[1]), found[1]))[1]
            visited.add(module)
        return module

    def _passing_on(self, source: str, top: str) -> Iterator[tuple[int, str]]:
        """Who imports it, the surest first: 0 lists it in `__all__`, 1 imports all of `source`, 2 imports it, perhaps only to use it."""
        exported = self._modules[source].exports if source in self._modules else _UNKNOWN_EXPORTS
        for importer, name in self._importers.get(source, ()):
            if name == top or (name == "*" and (not exported or top in exported)):
                if top in importer.exports:
                    yield 0, importer.name
                elif not importer.exports:
                    yield (1 if name == "*" else 2), importer.name


def _is_private_module(name: str) -> bool:
    return name in _PRIVATE_IN_C or (name not in _PUBLIC_IN_C and any(is_private(part) for part in name.split(".")))


def _may_pass_on(importer: str, source: str) -> bool:
    """Most imports are for the importer's own use. Taken as public are those of a private module, and a package's from its own inside."""
    return _is_private_module(source) or source.startswith(f"{importer}.")


def _all(modules: list[_Module]) -> Iterator[Found]:
    names = _PublicNames(modules)
    yield from _topics()
    for module in modules:
        yield from _of_source(module, names)
    for name in sorted({"builtins", *sys.builtin_module_names, *_EXTENSIONS} - _NOT_IMPORTED):
        if not name.startswith(("_test", "xx", "_xx")):
            yield from _of_compiled(name, names)


def _first_of_each_title(found: Iterable[Found]) -> Iterator[Found]:
    # Much of the library is written twice, in Python and in C; what is read first, the source, has the better text.
    seen: set[str] = set()
    for item in found:
        if isinstance(item, Document):
            if item.title in seen:
                continue
            seen.add(item.title)
        yield item


def _topics() -> Iterator[Found]:
    try:
        topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    except ImportError as error:
        yield Problem("pydoc_data.topics", f"the language topics are left out: {error}")
        return
    for name, text in sorted(topics.items()):
        heading = text.strip().partition("\n")[0].replace('"', "").replace("``", "")
        yield Document(heading or name, f"topic: {name}", text, (name, heading.removeprefix("The ")))


def _of_source(module: _Module, names: _PublicNames) -> Iterator[Document]:
    for docstring in module.docstrings:
        title = names.title(module.name, docstring.name)
        written = ".".join(filter(None, (module.name, docstring.name)))
        if title is not None:
            yield Document(title, f"{module.where}:{docstring.line}", docstring.text, () if title == written else (written,))


def _of_compiled(name: str, names: _PublicNames) -> Iterator[Found]:
    try:
        module = importlib.import_module(name)
    except (ImportError, DeprecationWarning) as error:  # a warning only where the user has made them errors
        if name in sys.builtin_module_names:
            yield Problem(name, f"skipped: {error}")
        return  # an extension that this Python was built without, or does not know
    where = f"built-in module {name}"
    if (title := names.title(name, "")) and (text := _text_of(module)):
        yield Document(title, where, text)
    for top, value in sorted(vars(module).items()):
        if callable(value) and not is_private(top) and (title := _title_of(name, top, value, names)):
            yield from _of_value(title, where, value)


def _title_of(module: str, top: str, value: object, names: _PublicNames) -> str | None:
    """None for what is private, and for a second name of something (`IOError` is `OSError`)."""
    if getattr(value, "__name__", top) != top:
        return None
    return top if module == "builtins" else names.title(module, top)


def _of_value(title: str, where: str, value: object) -> Iterator[Document]:
    if text := _text_of(value):
        yield Document(title, where, text)
    if not isinstance(value, type):
        return
    for name, member in sorted(vars(value).items()):
        # The special methods of C types all have the same few lines ("Return self<value."), which help nobody.
        if not name.startswith("_") and (text := _text_of(inspect.unwrap(getattr(value, name, member)))):
            yield Document(f"{title}.{name}", where, text)


def _text_of(value: object) -> str | None:
    text = inspect.getdoc(value) if callable(value) or inspect.ismodule(value) else getattr(value, "__doc__", None)
    if not isinstance(text, str) or not text.strip():
        return None
    return f"{_signature(value)}{inspect.cleandoc(text)}"


def _signature(value: object) -> str:
    # Not inspect.signature: it evaluates the default values, which fails for some functions in C.
    text = getattr(value, "__text_signature__", None)
    if not isinstance(text, str):
        return ""
    arguments = re.sub(r"[(][$]\w+(, /)?(, )?", "(", text)
    return f"{getattr(value, '__name__', '')}{arguments}\n\n"
