"""Keys of kept measurements: a hash of all that a measurement depends on.

An answer depends on the code that its program and its check import, and on all of the server where they start one.
So a change elsewhere leaves it proven, and so does one in what only shows a result.
"""

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from itertools import pairwise
from pathlib import Path

from lab_support.instruments.record.fingerprint import fingerprint
from tests.house_map.code import ROOT, Package

HOUSE = Package(ROOT / "lab_support")
ONLY_SHOW = (
    "lab_support.notebook.page",
    "lab_support.notebook.figures",
    "lab_support.notebook.canvas",
    "lab_support.instruments.xray.svg",
    "lab_support.instruments.xray.text",
    "lab_support.instruments.process_name",
    "lab_support.plural",
)
"""Rooms and modules which put into words or pictures what others have measured. No verdict depends on them."""


def key_of(*texts: str) -> str:
    """The key of measurements that depend on these texts and on the code of `lab_support`, but not on its words."""
    return _hash(code_of(HOUSE.folder), *texts)


def key_of_program(sources: Iterable[str], *texts: str) -> str:
    """The same, on that part of `lab_support` alone which these Python sources use. A `____` in them is a name."""
    return _hash(prints(_files(name for name in used_by(sources) if not only_shows(name))), *texts)


def only_shows(name: str) -> bool:
    """Whether the module is one of `ONLY_SHOW`, or lies in one."""
    return any(name == each or name.startswith(each + ".") for each in ONLY_SHOW)


def used_by(sources: Iterable[str], package: Package = HOUSE) -> set[str]:
    """The modules of `package` that the sources import or name, and those that these import or name in turn.

    All modules, if one of them runs the package's command, whose processes are started by name.
    """
    used: set[str] = set()
    left = [name for source in sources for name in _named(ast.parse(_without_magics(source)), package)]
    while left:
        name = left.pop()
        if name not in used:
            used.add(name)
            left += _next(package, name)
    return used


@cache
def _next(package: Package, name: str) -> set[str]:
    tree = ast.parse(package.modules[name].read_text())
    return set(package.modules) if _runs_the_command(tree, package) else _named(tree, package)


def _named(tree: ast.Module, package: Package) -> set[str]:
    """Modules that are imported, and those whose name is written as a string, because a process runs them by it."""
    strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    modules = {text.partition(":")[0] for text in strings} - {package.folder.name}
    return package.imports_in(tree) | modules & package.modules.keys()


def _runs_the_command(tree: ast.Module, package: Package) -> bool:
    """`-m lab_support …` in a list of words."""
    lists = (node.elts for node in ast.walk(tree) if isinstance(node, ast.List | ast.Tuple))
    words = ([getattr(each, "value", None) for each in elements] for elements in lists)
    return any(("-m", package.folder.name) in pairwise(each) for each in words)


def _without_magics(source: str) -> str:
    lines = source.replace("____", "_").splitlines()
    return "\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in lines)


# ---- fingerprints ----------------------------------------------------------------------------------------------------


@cache
def code_of(folder: Path) -> str:
    """A hash of the Python files below `folder`, without comments and docstrings."""
    return prints(sorted(folder.rglob("*.py")))


def prints(files: Iterable[Path]) -> str:
    """The names and fingerprints of files, as one text."""
    return "\n".join(f"{file.name} {_fingerprint(file)}" for file in files)


@cache
def _fingerprint(file: Path) -> str:
    return fingerprint(file)


def _files(modules: Iterable[str]) -> list[Path]:
    return sorted(HOUSE.modules[name] for name in modules)


def _hash(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()
