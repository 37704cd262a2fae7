"""A fingerprint of source code, which changes when the code does: not with a comment, a docstring or a file's name.

A recording keeps it of each file that its experiment is made of. Better words and a tidier tree make no measurement
wrong, and a machine with a GPU is not there at will to measure again.
"""

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RENAMED: dict[str, str] = {}
"""Where a file is now: where it was when the recordings were made. Paths in the repository."""


def fingerprint(file: Path, renamed: dict[str, str] | None = None) -> str:
    """sha256 of a Python file's syntax tree, or of another file's bytes. The same in Python 3.11 and later.

    Imports of renamed modules count as imports of the old ones. Raises `SyntaxError`.
    """
    if file.suffix != ".py":
        return hashlib.sha256(file.read_bytes()).hexdigest()
    tree = ast.parse(file.read_bytes())
    modules = {_module(now): _module(before) for now, before in (RENAMED if renamed is None else renamed).items()}
    _use_old_names(tree, modules)
    return hashlib.sha256(repr(_shape(tree)).encode()).hexdigest()


def file_now(path: str) -> str:
    """Where the file is now that a recording names `path`."""
    return next((now for now, before in RENAMED.items() if before == path), path)


def _module(path: str) -> str:
    return path.removesuffix(".py").replace("/", ".")


def _use_old_names(tree: ast.Module, modules: dict[str, str]) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            node.module = modules.get(node.module or "", node.module)
        elif isinstance(node, ast.alias):
            node.name = modules.get(node.name, node.name)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):  # a program that a process is to run
            node.value = modules.get(node.value, node.value)


def _shape(value: Any) -> Any:
    """The tree as tuples, without what is not given: a later Python's nodes have more fields, which are empty here."""
    if isinstance(value, ast.AST):
        return (type(value).__name__, *_fields(value))
    if isinstance(value, list):
        return tuple(_shape(each) for each in value if not _says_nothing(each))
    return value


def _fields(node: ast.AST) -> Iterator[tuple[str, Any]]:
    for name, value in ast.iter_fields(node):
        shape = _shape(value)
        if shape not in (None, ()) or (name == "value" and isinstance(node, ast.Constant)):
            yield name, shape


def _says_nothing(each: Any) -> bool:
    """A docstring, or another string that stands alone."""
    return isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant) and isinstance(each.value.value, str)
