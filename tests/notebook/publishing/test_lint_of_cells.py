"""ruff passes cells with unknown magics over; here it reads each `%%python_process` cell as the program that it is."""

import json
import re
import subprocess
import sys
from pathlib import Path

from lab_support.notebook.moves.blanks import blank, filled
from lab_support.notebook.moves.steps import Step, reference_program
from lab_support.notebook.page.committed import NOTEBOOKS

# Undefined names and unused imports, not order and length: a cell is written to be read in a notebook.
RULES = "E9,F"


def complaints(cell: str) -> list[str]:
    """Ruff's findings in one cell, by line of the cell. Its first line, the magic, is a comment to it."""
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--isolated",
        "--select",
        RULES,
        "--output-format",
        "concise",
        "-",
    ]
    done = subprocess.run(command, input="# " + cell, capture_output=True, text=True)
    return [line for line in done.stdout.splitlines() if line.startswith("-:")]


def complaints_with_blanks(cell: str) -> list[str]:
    """The findings that a cell has whichever right filling its blanks get; those of a cell without blanks."""
    if not (named := re.search(r"--blank ([\w.]+)", cell.partition("\n")[0])):
        return complaints(cell)
    found = blank(named[1])
    if isinstance(found, Step):  # a part of a program: the names of the other parts are there
        return complaints(f"\n{reference_program(found.number)}")
    variants = [set(complaints(filled(cell, fillings))) for fillings in found.right]
    return sorted(set.intersection(*variants))


def process_cells(path: Path) -> list[str]:
    cells = json.loads(path.read_text())["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return [source for source in sources if source.startswith("%%python_process")]


def test_every_process_cell_of_every_notebook_is_clean():
    found = {
        f"{path.name}, cell {number}": told
        for path in sorted(NOTEBOOKS.rglob("*.ipynb"))
        for number, cell in enumerate(process_cells(path))
        if (told := complaints_with_blanks(cell))
    }
    assert found == {}


def test_a_mistake_in_a_cell_is_found_with_its_line():
    (told,) = complaints("%%python_process --into run\nimport os\nprint(os.getpid(), nowhere)\n")
    assert told.startswith("-:3:")
    assert "F821" in told
