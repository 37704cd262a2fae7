"""A program runs once for all who look at it, a notebook's own run included: `tests/notebook/kept_runs.py`."""

import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab_support.notebook.cells.magic import options_of
from lab_support.notebook.moves.exercises import as_program
from tests.notebook.kept_runs import KeptRuns
from tests.notebook.kernels import Kernel, running_kernel
from tests.notebook.run_and_keep import KEEP


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


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    with running_kernel() as running:
        running.run("x = 1")
        yield running


@pytest.mark.parametrize(("option", "times"), [("", 1), (" --inputs x", 2)])
def test_a_notebooks_own_run_is_looked_at_unless_its_cell_needed_the_notebook(kernel, source, tmp_path, option, times):
    cell = f"%%python_process --timeout 20 --expect 3{option} --into ended\n{source}"
    kernel.run(cell)
    _, error = kernel.run(KEEP.format(file=str(tmp_path / "results")))
    assert not error
    kept = KeptRuns(tmp_path / "kept")
    kept.add(pickle.loads((tmp_path / "results").read_bytes()))
    assert kept.run(as_program(cell), **options_of(cell)).outcome == "3"
    assert runs(tmp_path) == times
