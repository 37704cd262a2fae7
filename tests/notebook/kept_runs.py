"""Each program runs once in a session of tests: its result is kept for every test and every worker that looks at it.

A notebook that has run gives the results of its cells, so its claims and its blanks are judged by that very run.
"""

import fcntl
import hashlib
import json
import pickle
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.cells.magic import options_of
from lab_support.notebook.cells.python_process import run_process

Run = Callable[..., ProcessResult]
"""`run_process`, or one that may know the result already."""
_OF_NO_EFFECT = ("name", "expect", "quiet")


class KeptRuns:
    """The results that are kept in `folder`, which all workers of a session share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)

    def run(self, source: str, **options: Any) -> ProcessResult:
        """As `run_process`, once for all who ask for that program with these options. It may end in any way."""
        file = self._file(source, options)
        with _locked(file):
            if not file.exists():
                _write(file, run_process(source, **options | {"expect": "any", "quiet": True}))
        return pickle.loads(file.read_bytes())

    def add(self, results: Iterable[ProcessResult]) -> None:
        """Keep the results of a notebook's cells. A cell with --inputs ran on what its notebook gave it."""
        for result in results:
            cell = result.source.removeprefix("# ")
            if cell.startswith("%%") and "--inputs" not in cell.partition("\n")[0]:
                file = self._file(result.source, options_of(cell))
                with _locked(file):
                    _write(file, result)

    def _file(self, source: str, options: dict[str, Any]) -> Path:
        with_effect = {name: value for name, value in options.items() if name not in _OF_NO_EFFECT}
        lines = [line.rstrip() for line in source.rstrip().splitlines()]
        key = json.dumps([lines, sorted(with_effect.items())])
        return self._folder / hashlib.sha256(key.encode()).hexdigest()


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write(file: Path, result: ProcessResult) -> None:
    file.write_bytes(pickle.dumps(result))
