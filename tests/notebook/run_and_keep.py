"""`python -m tests.notebook.run_and_keep 01_ FILE`: the build's `--try`, and the results of all cells into FILE."""

import sys
from pathlib import Path

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from lab_support.notebook.publishing import build

KEEP = """\
import pathlib, pickle
from lab_support.notebook.cells.cell_result import ProcessResult
kept = [value for value in list(globals().values()) if isinstance(value, ProcessResult)]
pathlib.Path({file!r}).write_bytes(pickle.dumps(kept))
"""
_execute = build.execute


def main(number: str, file: str) -> int:
    def execute_and_keep(notebook: NotebookNode, folder: Path) -> None:
        notebook.cells.append(new_code_cell(KEEP.format(file=file)))
        _execute(notebook, folder)

    build.execute = execute_and_keep
    return build.main(["--try", number])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
