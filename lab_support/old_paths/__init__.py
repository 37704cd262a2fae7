"""Modules at their paths before version 0.2: importing one warns, and returns the module from its new path.

They are kept until version 0.3, because readers' own copies of the notebooks name them. Python searches the folders
here last for submodules of the packages with the same names.
"""

import importlib
import os
import sys
import warnings
from types import ModuleType
from typing import Any


def folder_of(package: str) -> str:
    """The folder with the old paths of `package`, such as "lab_support.notebook"."""
    return os.path.join(os.path.dirname(__file__), package.rpartition(".")[2])


class _Moved(ModuleType):
    """The module at its old path. Calling it calls its function of the same name, because `lab.recorded` is one."""

    def __init__(self, before: str, now: ModuleType) -> None:
        super().__init__(before, now.__doc__)
        self._now = now

    def __getattr__(self, name: str) -> Any:
        return getattr(self._now, name)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return getattr(self._now, self.__name__.rpartition(".")[2])(*arguments, **options)


def moved(before: str, now: str) -> None:
    """Make the module `now` importable as `before`. Called by the file at the old path."""
    # stacklevel skips frames of Python's import system, so the third is the one that imports `before`.
    warnings.warn(f"{before} is {now} now; the old path works until version 0.3", FutureWarning, stacklevel=3)
    sys.modules[before] = _Moved(before, importlib.import_module(now))
