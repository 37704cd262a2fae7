"""No file imports, by whatever way, a file that imports it. Imports within functions count."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import lab_support

HOUSE = Path(lab_support.__file__).parent


def files() -> dict[str, Path]:
    """By their names as modules."""
    names = {path: ".".join(path.relative_to(HOUSE.parent).with_suffix("").parts) for path in HOUSE.rglob("*.py")}
    return {name.removesuffix(".__init__"): path for path, name in names.items()}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def circle(graph: dict[str, set[str]]) -> list[str] | None:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return None


def test_there_is_no_circle() -> None:
    modules = files()
    assert circle({name: (imported(path) & modules.keys()) - {name} for name, path in modules.items()}) is None


@pytest.mark.parametrize("graph", [{"a": {"b"}, "b": {"a"}}, {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}])
def test_a_circle_is_found(graph: dict[str, set[str]]) -> None:
    assert circle(graph)
