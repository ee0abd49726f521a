"""Find the tests that really sleep: `time.sleep`, and `asyncio.sleep` of more than 0 where time is not virtual.

    python scripts/check_sleeps.py [FOLDER]

A test that has to carries `@pytest.mark.real_time("why nothing else will do")` (itself, its class, or its module in `pytestmark`);
a helper says so at the end of the line, `# real time: why`. Time is virtual in a test that has the fixture `beamish` or is run by
`@simulate`, in the plain tests, servers and helpers of a module that has such tests or runs its tests on a virtual loop itself, and in
a module of helpers that has a line `# virtual time: who runs it`.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator
from pathlib import Path

COMMENT, VIRTUAL = "# real time: ", "# virtual time: "
#: Names of beamish.testing that run something in virtual time.
RUNNERS = {"Kit", "VirtualLoop", "run_once", "simulate", "virtual_time"}
#: Folders that are not run: examples for type checkers.
LEFT_OUT = ("typing",)
Scope = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def problems(source: str) -> Iterator[tuple[int, str]]:
    """The lines of a module that really sleep, and what."""
    tree = ast.parse(source)
    lines = source.splitlines()
    if any(_is_reason(node.value) for node in tree.body if isinstance(node, ast.Assign)):
        return
    virtual = any(line.startswith(VIRTUAL) for line in lines) or any(_is_virtual(node) or _imports_runner(node) for node in ast.walk(tree))
    for call, scopes in _calls(tree, []):
        what = _sleeps(call)
        if what is None or COMMENT in lines[call.lineno - 1]:
            continue
        if any(_has_reason(scope) for scope in scopes):
            continue
        tests = [scope for scope in scopes if isinstance(scope, ast.AsyncFunctionDef) and scope.name.startswith("test_")]
        in_virtual_time = any(map(_is_virtual, tests)) if tests else virtual
        if what == "asyncio.sleep" and in_virtual_time:
            continue
        yield call.lineno, what


def _calls(node: ast.AST, scopes: list[Scope]) -> Iterator[tuple[ast.Call, list[Scope]]]:
    if isinstance(node, ast.Call):
        yield node, scopes
    inner = [*scopes, node] if isinstance(node, Scope) else scopes
    for child in ast.iter_child_nodes(node):
        yield from _calls(child, inner)


def _sleeps(call: ast.Call) -> str | None:
    name = ast.unparse(call.func)
    if name == "time.sleep":
        return name
    if name == "asyncio.sleep" and not (call.args and isinstance(call.args[0], ast.Constant) and call.args[0].value == 0):
        return name
    return None


def _has_reason(scope: Scope) -> bool:
    return any(_is_reason(one) for one in scope.decorator_list)


def _is_reason(node: ast.expr) -> bool:
    """`pytest.mark.real_time("…")`, alone or in a list."""
    if isinstance(node, ast.List):
        return any(map(_is_reason, node.elts))
    if not (isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("mark.real_time", "mark.beamish_real_time"))):
        return False
    given = [*node.args, *(one.value for one in node.keywords if one.arg == "reason")]
    return any(isinstance(one, ast.Constant) and isinstance(one.value, str) and one.value for one in given)


def _is_virtual(node: ast.AST) -> bool:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    arguments = [*node.args.args, *node.args.kwonlyargs]
    decorators = [ast.unparse(one).partition("(")[0].rpartition(".")[2] for one in node.decorator_list]
    return any(one.arg == "beamish" for one in arguments) or "simulate" in decorators


def _imports_runner(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.ImportFrom)
        and (node.module or "").startswith("beamish.testing")
        and any(alias.name in RUNNERS for alias in node.names)
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Find the tests that really sleep.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).resolve().parent.parent / "tests")
    folder = parser.parse_args().folder
    files = [path for path in sorted(folder.rglob("*.py")) if path.relative_to(folder).parts[0] not in LEFT_OUT]
    found = [(path, line, what) for path in files for line, what in problems(path.read_text(encoding="utf-8"))]
    for path, line, what in found:
        print(f"{path}:{line}: {what}: a test waits for a message, an event or virtual time; or it says why not, with real_time(reason)")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
