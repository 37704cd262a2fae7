"""A program runs once for all who look at it, a notebook's own run included: `tests/notebook/kept_runs.py`."""

from pathlib import Path

import pytest

from lab_support.notebook.cells.magic import options_of
from lab_support.notebook.cells.python_process import run_process
from lab_support.notebook.moves.exercises import as_program
from tests.notebook.kept_runs import KeptRuns


@pytest.fixture
def source(tmp_path: Path) -> str:
    """A program that leaves a line each time it runs, and ends with exit code 3."""
    return f"with open({str(tmp_path / 'lines')!r}, 'a') as file:\n    file.write('ran\\n')\nraise SystemExit(3)\n"


def runs(tmp_path: Path) -> int:
    return len((tmp_path / "lines").read_text().splitlines())


def test_it_runs_once_for_all_who_ask_with_the_same_options(source, tmp_path):
    one, other = KeptRuns(tmp_path / "kept"), KeptRuns(tmp_path / "kept")
    first = one.run(source, timeout=20, name="one")
    second = other.run(source.rstrip(), timeout=20, quiet=True, expect="any")
    assert (first.outcome, second.events, second.source) == ("3", first.events, first.source)
    assert runs(tmp_path) == 1
    other.run(source, timeout=21)
    assert runs(tmp_path) == 2


@pytest.mark.parametrize(("option", "times"), [("", 1), (" --inputs x", 2)])
def test_a_notebooks_own_run_is_looked_at_unless_its_cell_needed_the_notebook(source, tmp_path, option, times):
    cell = f"%%python_process --timeout 20{option}\n{source}"
    in_notebook = run_process(as_program(cell), timeout=20, expect=3, quiet=True)
    kept = KeptRuns(tmp_path / "kept")
    kept.add([in_notebook])
    assert kept.run(as_program(cell), **options_of(cell)).outcome == "3"
    assert runs(tmp_path) == times
