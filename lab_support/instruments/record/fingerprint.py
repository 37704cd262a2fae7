"""A fingerprint of source code that changes with the code, but not with comments, docstrings or file names.

A recording keeps the fingerprint of each file of its experiment. Better words and a tidier tree make no measurement
wrong, and a GPU machine to measure again is not always at hand.
"""

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_EXPERIMENTS = "lab_support/experiments"
RENAMED: dict[str, str] = {
    f"{_EXPERIMENTS}/cuda/cuda_declarations.py": f"{_EXPERIMENTS}/cuda_declarations.py",
    f"{_EXPERIMENTS}/cuda/cuda_driver.py": f"{_EXPERIMENTS}/cuda_driver.py",
}
"""Present path of a file: its path when the recordings were made. Paths in the repository."""


def fingerprint(file: Path, renamed: dict[str, str] | None = None) -> str:
    """sha256 of a Python file's syntax tree, or of another file's bytes. The same in Python 3.11 and later.

    Imports of renamed modules count as imports of the old ones. Raises `SyntaxError`.
    """
    if file.suffix != ".py":
        return hashlib.sha256(file.read_bytes()).hexdigest()
    tree = ast.parse(file.read_bytes())
    modules = {_module(now): _module(before) for now, before in (RENAMED if renamed is None else renamed).items()}
    if modules:
        _use_old_names(tree, modules)
    return hashlib.sha256(repr(_shape(tree)).encode()).hexdigest()


def file_now(path: str) -> str:
    """The present path of the file that a recording calls `path`."""
    return next((now for now, before in RENAMED.items() if before == path), path)


def _module(path: str) -> str:
    return path.removesuffix(".py").replace("/", ".")


def _use_old_names(tree: ast.Module, modules: dict[str, str]) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            node.module = modules.get(node.module or "", node.module)
        elif isinstance(node, ast.alias):
            node.name = modules.get(node.name, node.name)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):  # a program that a process will run
            node.value = modules.get(node.value, node.value)


def _shape(value: Any) -> Any:
    """The tree as tuples without empty fields, because the nodes of later Pythons have additional ones."""
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
    """Whether it is a docstring or another string that stands alone."""
    return isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant) and isinstance(each.value.value, str)
