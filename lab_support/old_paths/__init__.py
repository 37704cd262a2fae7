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

MOVED = {
    "lab_support.boundary.runtime_directory": "lab_support.supervision.runtime_directory",
    "lab_support.boundary.start_rule": "lab_support.supervision.start_rule",
    "lab_support.frontend.engine_client": "lab_support.frontend.routing.engine_client",
    "lab_support.instruments.recordings": "lab_support.instruments.record.recordings",
    "lab_support.notebook.cuda_after_fork": "lab_support.notebook.recordings.cuda_after_fork",
    "lab_support.notebook.cuda_findings": "lab_support.notebook.recordings.cuda_findings",
    "lab_support.notebook.cuda_sharing": "lab_support.notebook.recordings.cuda_sharing",
    "lab_support.notebook.line_server": "lab_support.notebook.stages.line_server",
    "lab_support.notebook.live_server": "lab_support.notebook.servers.live_server",
    "lab_support.notebook.memory_over_time": "lab_support.notebook.recordings.memory_over_time",
    "lab_support.notebook.memory_roads": "lab_support.notebook.figures.memory_roads",
    "lab_support.notebook.pretend_driver": "lab_support.notebook.stages.pretend_driver",
    "lab_support.notebook.recorded": "lab_support.notebook.recordings.recorded",
    "lab_support.notebook.shared_memory": "lab_support.notebook.stages.shared_memory",
    "lab_support.notebook.tables": "lab_support.notebook.page.tables",
    "lab_support.notebook.torch_guard": "lab_support.notebook.stages.torch_guard",
    "lab_support.notebook.touch_signs": "lab_support.notebook.recordings.touch_signs",
}
"""Old path: the module now."""


def folder_of(package: str) -> str:
    """The folder with the old paths of `package`, such as "lab_support.notebook"."""
    return os.path.join(os.path.dirname(__file__), package.rpartition(".")[2])


class _Moved(ModuleType):
    """The module at its old path. Calling it calls its function of the same name, because `lab.recorded` is one."""

    def __init__(self, before: str, now: ModuleType) -> None:
        super().__init__(before, now.__doc__)
        vars(self).update({name: value for name, value in vars(now).items() if not name.startswith("_")})  # import *
        self._now = now

    def __getattr__(self, name: str) -> Any:
        return getattr(self._now, name)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return getattr(self._now, self.__name__.rpartition(".")[2])(*arguments, **options)


def moved(before: str) -> None:
    """Make the moved module importable as `before`. Called by the file at the old path."""
    now = MOVED[before]
    # stacklevel skips frames of Python's import system, so the third is the one that imports `before`.
    warnings.warn(f"{before} is {now} now; the old path works until version 0.3", FutureWarning, stacklevel=3)
    sys.modules[before] = _Moved(before, importlib.import_module(now))
