"""The files beside the notebooks that hold answers: `notebooks/solutions/NN_….py`. They run nothing when loaded."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from lab_support.notebook.page.committed import NOTEBOOKS

SOLUTIONS = NOTEBOOKS / "solutions"
_T = TypeVar("_T")


def modules_of(number: str, kind: str) -> list[ModuleType]:
    """`NN_KIND.py` of the notebook `number`, such as 01_verdicts.py, read afresh; none if there is no such file."""
    path = SOLUTIONS / f"{number}_{kind}.py"
    return [load(path)] if number and path.is_file() else []


def load(path: Path) -> ModuleType:
    """The module in the file at `path`, read afresh."""
    spec = importlib.util.spec_from_file_location(f"solutions_{path.stem}", path)
    assert spec is not None and spec.loader is not None, "a .py file has a loader"
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def named(what: str, name: str, known: Mapping[str, _T]) -> _T:
    """The one of that name. Raises `LookupError` that lists the known ones. what: their kind, such as "blank"."""
    if name not in known:
        raise LookupError(f"got {what} {name!r}, expected one of {', '.join(known) or 'none of this notebook'}")
    return known[name]
