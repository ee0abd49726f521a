"""The layers of the library, read from its imports.

A module imports only from its own layer and from the layers above it in the table: what is below may know what is above,
never the other way round. A new module needs one word in the table, and the place of that word is the decision.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "src" / "beamish"

# The table. A name is a module or a package of beamish; a package's inner modules belong to its layer.
LAYERS: list[tuple[str, str]] = [
    ("leaves", "errors telemetry persistent_term codec _codec_types _codec_read _codec_write _snapshot_file _snapshot_new"),
    ("runtime", "_runtime"),
    ("processes", "process messages timer _address _report"),
    (
        "behaviours",
        "gen process_info _watched _bounded _setup _stream _starting _children gen_server _answers _client _loop sys child_spec _restart "
        "supervisor dynamic_supervisor partition_supervisor agent task task_supervisor application _application_master "
        "_task_process _task_results _task_wait _task_many _task_stream _task_blocking "
        "registry _registry_words _registry_table _registry_lock state_machine _machine _transition "
        "ets _ets_words _ets_values _ets_order _ets_rows _ets_life _ets_update _ets_walk _ets_file "
        "snapshot _snapshot_claim _snapshot_table _kept",
    ),
    ("running", "blocking _run _watchdog"),
    ("products", "store cluster observer"),
    ("servers", "servers"),
    ("surfaces", "testing pytest_plugin web cli search_service"),
]

# Written as a user would write them: only `from beamish import …`. They are the reference examples too.
PUBLIC_FACE_ONLY = {"servers"}
# Never a private module of another layer, above all not the runtime.
NOTHING_PRIVATE = {"servers", "surfaces"}
# The testing kit makes fresh nodes and moves their clocks: that is the runtime's, and no face that a program should use.
MAKES_NODES = {"testing"}
# The face gathers every layer, `python -m beamish` starts the last one.
EXEMPT = {"beamish", "beamish.__main__"}

# The core needs the standard library only. What an extra brings may be imported here, and nowhere else.
EXTRAS: dict[str, set[str]] = {
    "_codec_read": {"msgspec"},  # for speed only, where it is installed
    "store": {"psycopg", "redis"},
    "cluster": {"nats", "redis"},
    "testing": {"pytest", "hypothesis"},
    "pytest_plugin": {"pytest"},
    "web": {"starlette", "uvicorn"},
    "cli": {"starlette", "uvicorn", "httpx", "tqdm", "textual"},
    "search_service": {"starlette", "uvicorn", "httpx", "tqdm"},
    "observer": {"prometheus_client", "opentelemetry"},
}

LAYER_OF = {module: index for index, (_, modules) in enumerate(LAYERS) for module in modules.split()}
NAME_OF = [name for name, _ in LAYERS]


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module, as written: `from beamish.gen import call` has target beamish.gen and names ("call",)."""

    target: str
    names: tuple[str, ...]
    line: int
    later: bool  # inside a function or under TYPE_CHECKING: not run when the module is loaded


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(module: str, source: str, is_package: bool) -> list[Import]:
    package = module if is_package else module.rpartition(".")[0]
    return list(_imports(ast.parse(source), package, later=False))


def _imports(node: ast.AST, package: str, later: bool) -> Iterator[Import]:
    match node:
        case ast.Import(names=names):
            for alias in names:
                yield Import(alias.name, (), node.lineno, later)
        case ast.ImportFrom(module=name, names=names, level=level):
            base = package.split(".")[: len(package.split(".")) - level + 1] if level else []
            yield Import(".".join([*base, *([name] if name else [])]), tuple(alias.name for alias in names), node.lineno, later)
        case ast.Call(func=ast.Name(id="import_module") | ast.Attribute(attr="import_module"), args=[ast.Constant(value=str(name)), *_]):
            yield Import(name, (), node.lineno, later)
        case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
            for statement in node.body:
                yield from _imports(statement, package, later=True)
            for statement in node.orelse:
                yield from _imports(statement, package, later)
            return
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
            later = True
    for child in ast.iter_child_nodes(node):
        yield from _imports(child, package, later)


def top(module: str) -> str:
    """`beamish._runtime.ids` -> `_runtime`; the face itself is the empty string."""
    return module.removeprefix("beamish").removeprefix(".").partition(".")[0]


def reached(imported: Import, known: set[str]) -> set[str]:
    """The modules of beamish that an import reaches: `from beamish import ets, call` reaches beamish.ets and the face."""
    if imported.target.partition(".")[0] != "beamish":
        return set()
    inner = {f"{imported.target}.{name}" for name in imported.names} & known
    if imported.names and len(inner) == len(imported.names):
        return inner
    return inner | {imported.target}


def problems(module: str, imports: list[Import], known: set[str]) -> list[str]:
    """What the imports of one module break, as sentences."""
    own = top(module)
    if own not in LAYER_OF:
        return [f"{module} is in no layer: add {own!r} to LAYERS in tests/test_layers.py, in the row whose rows above are all it needs."]
    layer, layer_name = LAYER_OF[own], NAME_OF[LAYER_OF[own]]
    found = []

    def breaks(imported: Import, what: str) -> None:
        found.append(f"{module}, line {imported.line}: {what}")

    for imported in imports:
        for target in sorted(reached(imported, known)):
            other = top(target)
            if other == own:
                continue
            if layer_name in PUBLIC_FACE_ONLY and imported.target != "beamish":
                breaks(imported, f"imports {target}; {layer_name} use the public face only: `from beamish import …`.")
            elif other == "":
                if layer < NAME_OF.index("servers"):
                    breaks(imported, f"imports the face (beamish/__init__.py), which imports {own}; import the module that has the name.")
            elif other not in LAYER_OF:
                breaks(imported, f"imports {target}, which is in no layer: add {other!r} to LAYERS in tests/test_layers.py.")
            elif LAYER_OF[other] > layer:
                breaks(imported, f"imports {target}; {layer_name} may not know {NAME_OF[LAYER_OF[other]]}, which are built on them.")
            elif layer_name in NOTHING_PRIVATE and other.startswith("_") and own not in MAKES_NODES:
                breaks(imported, f"imports {target}, which is private; {layer_name} use the public face, the observer and telemetry.")
        outside = imported.target.partition(".")[0]
        if outside not in {"beamish", "__future__", *sys.stdlib_module_names, *EXTRAS.get(own, ())}:
            breaks(imported, f"imports {outside}, which is not in the standard library; what an extra brings stands in EXTRAS.")
    return found


def cycle_in(edges: dict[str, set[str]]) -> list[str]:
    """One cycle of the graph, as the path that closes it, or nothing."""
    done: set[str] = set()
    path: list[str] = []

    def visit(node: str) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        path.append(node)
        for following in sorted(edges.get(node, ())):
            if cycle := visit(following):
                return cycle
        done.add(path.pop())
        return []

    return next((cycle for node in sorted(edges) if (cycle := visit(node))), [])


MODULES = modules()
IMPORTS = {module: imports_of(module, path.read_text(), path.name == "__init__.py") for module, path in MODULES.items()}


class TestTheLibrary:
    @pytest.mark.parametrize("module", sorted(MODULES.keys() - EXEMPT))
    def test_a_module_imports_only_from_its_own_layer_and_those_above(self, module: str) -> None:
        found = problems(module, IMPORTS[module], set(MODULES))
        assert not found, "\n" + "\n".join(found)

    def test_no_modules_import_each_other_in_a_circle_when_they_are_loaded(self) -> None:
        edges = {
            module: {t for i in imports if not i.later for t in reached(i, set(MODULES))} - {module, "beamish"}
            for module, imports in IMPORTS.items()
            if module not in EXEMPT
        }
        cycle = cycle_in(edges)
        assert not cycle, " imports ".join(cycle)

    def test_every_module_of_the_table_stands_in_one_layer_only(self) -> None:
        words = [word for _, row in LAYERS for word in row.split()]
        assert sorted(words) == sorted(set(words))


class TestTheRules:
    """The proof is worth what it can find: each rule is broken once here."""

    KNOWN = frozenset(
        {"beamish", "beamish.gen", "beamish.ets", "beamish._runtime", "beamish._runtime.ids", "beamish.errors", "beamish.web"}
    )

    @pytest.mark.parametrize(
        ("module", "source", "text"),
        [
            ("beamish.errors", "from beamish.gen import call", "leaves may not know behaviours"),
            ("beamish.errors", "from .gen import call", "leaves may not know behaviours"),
            ("beamish._runtime.ids", "from .. import gen", "runtime may not know behaviours"),
            ("beamish._runtime.ids", "from ..gen import call", "runtime may not know behaviours"),
            ("beamish.errors", "def f():\n    from beamish._runtime.ids import Pid", "leaves may not know runtime"),
            ("beamish.errors", "import importlib\nimportlib.import_module('beamish.gen')", "leaves may not know behaviours"),
            ("beamish.gen", "from beamish import GenServer", "imports the face"),
            ("beamish.servers.search_cache", "from beamish.gen import call", "use the public face only"),
            ("beamish.servers.search_cache", "from beamish import _runtime", "which is private"),
            ("beamish.servers.search_cache", "from beamish import web", "servers may not know surfaces"),
            ("beamish.web", "from beamish._runtime.ids import Pid", "which is private"),
            ("beamish.gen", "import starlette", "not in the standard library"),
            ("beamish.novelty", "", "add 'novelty' to LAYERS in tests/test_layers.py"),
            ("beamish.gen", "from beamish.novelty import x", "add 'novelty' to LAYERS in tests/test_layers.py"),
        ],
    )
    def test_a_broken_rule_is_found_and_named(self, module: str, source: str, text: str) -> None:
        found = problems(module, imports_of(module, source, is_package=False), set(self.KNOWN))
        assert len(found) == 1
        assert text in found[0]

    @pytest.mark.parametrize(
        ("module", "source"),
        [
            ("beamish.gen", "import asyncio\nfrom beamish._runtime.ids import Pid\nfrom .errors import Exit\nfrom . import ets"),
            ("beamish._runtime.ids", "from . import clock\nfrom ..errors import Exit"),
            ("beamish.servers.search_cache", "from beamish import GenServer, call, ets\nfrom .other import x"),
            ("beamish.web", "from beamish import supervise\nfrom beamish.ets import Table\nfrom starlette.routing import Route"),
        ],
    )
    def test_what_the_table_allows_is_left_alone(self, module: str, source: str) -> None:
        assert problems(module, imports_of(module, source, is_package=False), set(self.KNOWN)) == []

    def test_a_circle_is_named_by_its_path(self) -> None:
        assert cycle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
        assert cycle_in({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []

    def test_an_import_that_is_not_run_at_load_time_makes_no_circle(self) -> None:
        source = "if TYPE_CHECKING:\n    from .gen import call\nelse:\n    import os\ndef f():\n    from .ets import Table\nimport json"
        assert [(i.target, i.later) for i in imports_of("beamish.errors", source, is_package=False)] == [
            ("beamish.gen", True),
            ("os", False),
            ("beamish.ets", True),
            ("json", False),
        ]
