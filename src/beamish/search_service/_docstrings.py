"""Docstrings from source text, by `ast`: nothing is imported, so nothing can run."""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True, slots=True)
class Docstring:
    """`name` is dotted and relative to the module (`Queue.put`), "" for the module itself; `line` counts from 1."""

    name: str
    line: int
    text: str


def docstrings(tree: ast.Module, *, private: bool) -> Iterator[Docstring]:
    """The docstrings of a module, its classes, functions and methods; of `_names` and what is in them only with `private`.

    >>> tree = ast.parse('class Queue:\\n  def put(self, item):\\n    "Add it."')
    >>> list(docstrings(tree, private=False))
    [Docstring(name='Queue.put', line=2, text='put(self, item)\\n\\nAdd it.')]
    """
    if text := ast.get_docstring(tree):
        yield Docstring("", 1, text)
    yield from _of_body(tree.body, "", private)


def _of_body(body: Sequence[ast.stmt], prefix: str, private: bool) -> Iterator[Docstring]:
    for node in _definitions(body):
        if not private and is_private(node.name):
            continue
        name = prefix + node.name
        if text := ast.get_docstring(node):
            yield Docstring(name, node.lineno, _signature(node) + text)
        if isinstance(node, ast.ClassDef):
            yield from _of_body(node.body, name + ".", private)


def _definitions(body: Sequence[ast.stmt]) -> Iterator[_Definition]:
    for node in statements(body):
        if isinstance(node, _Definition):
            yield node


def statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a body and of the `if`, `try` and `with` blocks in it, not of its functions and classes."""
    for node in body:
        yield node
        match node:
            case ast.If(body=first, orelse=rest):
                yield from statements([*first, *rest])
            case ast.Try(body=first, handlers=handlers, orelse=rest, finalbody=last):
                yield from statements([*first, *(line for handler in handlers for line in handler.body), *rest, *last])
            case ast.With(body=first):
                yield from statements(first)
            case _:
                pass


def _signature(node: _Definition) -> str:
    if isinstance(node, ast.ClassDef):
        return ""
    prefix = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
    return f"{prefix}{node.name}({ast.unparse(node.args)})\n\n"


def is_private(name: str) -> bool:
    """`_name` and `__name` are private, `__name__` is not."""
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))
