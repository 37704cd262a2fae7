"""The files of a package, the rooms they lie in, and who imports whom: read from the syntax trees, nothing is imported.

An import counts wherever it stands: inside a function, and under `if TYPE_CHECKING:` too. A type that only a checker
needs is still a name that the reader of this file has to know, and a circle of such names can't be read from below.
Modules that are started by name (`python -m`, start_method.py) are no imports: that is how processes meet.
"""

import ast
import statistics
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.test_house import HOUSE, MAY_IMPORT, NEIGHBOURS

ROOT = HOUSE.parent
MOST_FILES = 25
TOP = "(top)"


@dataclass(frozen=True)
class Package:
    """All Python files below `folder`, whose name is the package's."""

    folder: Path

    @cached_property
    def modules(self) -> dict[str, Path]:
        """Each file by the name that an import has for it."""
        return {self._name(path): path for path in sorted(self.folder.rglob("*.py"))}

    @cached_property
    def imports(self) -> dict[str, set[str]]:
        """Modules of this package that each module imports."""
        return {name: self.imports_in(ast.parse(path.read_text())) - {name} for name, path in self.modules.items()}

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Each room's own files, without `__init__.py` and those of the rooms in it. In the order of their names."""
        rooms = Counter(self.room(name) for name, path in self.modules.items() if path.name != "__init__.py")
        return dict(sorted(rooms.items()))

    @cached_property
    def arrows(self) -> Counter[tuple[str, str]]:
        """How many imports lead from one room into another."""
        return Counter(
            (self.room(name), self.room(other))
            for name, others in self.imports.items()
            for other in others
            if self.room(name) != self.room(other)
        )

    @cached_property
    def commands(self) -> set[str]:
        """Files at the top that import a room: the `lab` command and its like. The other files there are for all."""
        at_top = [name for name in self.modules if self.room(name) == TOP]
        return {name for name in at_top if any(self.room(other) != TOP for other in self.imports[name])}

    def room(self, name: str) -> str:
        """As `notebook/figures`."""
        room = self.modules[name].parent.relative_to(self.folder).as_posix()
        return TOP if room == "." else room

    def function_lines(self) -> list[int]:
        """The length of every function and method, docstring included."""
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
        nodes = (node for path in self.modules.values() for node in ast.walk(ast.parse(path.read_text())))
        return sorted(1 + (node.end_lineno or 0) - node.lineno for node in nodes if isinstance(node, kinds))

    def _name(self, path: Path) -> str:
        parts = path.relative_to(self.folder.parent).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def imports_in(self, tree: ast.Module) -> set[str]:
        """Modules of this package that the code of a file, or any other, imports."""
        found = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                inside = {f"{node.module}.{alias.name}" for alias in node.names}
                found |= inside if inside <= self.modules.keys() else inside | {node.module}
        return found & self.modules.keys()


def circles(imports: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules each of which imports, by way of others perhaps, every other one of its group."""
    reached = {name: _reached(imports, name) for name in imports}
    groups = {tuple(sorted({name} | {other for other in reached[name] if name in reached[other]})) for name in imports}
    return [list(group) for group in sorted(groups) if len(group) > 1]


def _reached(imports: dict[str, set[str]], start: str) -> set[str]:
    seen, left = set[str](), [start]
    while left:
        for other in imports[left.pop()] - seen:
            seen.add(other)
            left.append(other)
    return seen


def room_circles(package: Package) -> list[list[str]]:
    """Rooms that import each other, by way of others perhaps; a room and the rooms within it are several."""
    arrows = [(start, end) for start, end in package.arrows if TOP not in (start, end)]
    return circles({room: {end for start, end in arrows if start == room} for room in {*sum(arrows, ())}})


def arrows_up(package: Package) -> list[str]:
    """Imports that the rules (tests/test_house.py) don't allow, each as `file → file`."""
    return [
        f"{name} → {other}"
        for name, others in sorted(package.imports.items())
        for other in sorted(others)
        if not _allowed(package, name, other)
    ]


def _allowed(package: Package, name: str, other: str) -> bool:
    """The rules of a room hold in the rooms within it, too. All may import what has no rules: it is for all.

    A file at the top may be imported by those who may import what it imports.
    """
    start, end = package.room(name), package.room(other)
    if name in package.commands or other == package.folder.name:
        return True
    if end == TOP:
        return all(_allowed(package, name, further) for further in package.imports[other])
    outer, outer_end = start.split("/")[0], end.split("/")[0]
    if outer == outer_end:
        return end in (start, outer) or start == outer or _within(end) in NEIGHBOURS.get(_inner(start), set())
    return outer_end not in MAY_IMPORT or outer_end in MAY_IMPORT.get(outer, set())


def _inner(room: str) -> str:
    """`notebook/cells`, also for a room within that."""
    return "/".join(room.split("/")[:2])


def _within(room: str) -> str:
    return room.split("/")[1]


def median_and_ninetieth(lengths: list[int]) -> tuple[float, float]:
    return statistics.median(lengths), statistics.quantiles(lengths, n=10)[-1]
