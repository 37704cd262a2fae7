"""Every notebook: what is committed is well, and it runs from a clean kernel and leaves nothing running."""

import ctypes
import os
import pickle
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest

from lab_support.instruments import proc
from lab_support.notebook.publishing import build
from lab_support.notebook.publishing.sections import sections
from tests.in_jupyterlab import MODEL, after_run_all, needs_chromium, scroll_to
from tests.proofs.pytests import FULL

NOTEBOOKS = build.find([])
EVERY = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
IN_JUPYTERLAB = [path for path in NOTEBOOKS if path.name[2] == "_" and (path.name[:2] == "01" or FULL in os.environ)]
"""One in `make test`, where each is executed anyway, and one without servers; in `make prove` all but appendices, which
have no checks."""
PR_SET_CHILD_SUBREAPER = 36
BUSY = 900
"""Seconds for one notebook on busy cores: 00 takes 300 where eight other programs compute."""
WAITS = "Predict first."
SKIP = """async () => {
    const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel
    await kernel.requestExecute({code: "lab.skip()"}).done
}"""
ONE_CHOICE = re.compile(r"""lab\.answer\("([\da.]+)", "a"\)""")
"""The text of a waiting result for a question with options; for a table it has a letter for each row."""


def number_of(path: Path) -> str:
    """01, or 01a of an appendix; with the line that follows, so that 01 does not mean 01a as well."""
    return path.name[: path.name.index("_") + 1]


def test_there_is_a_first_notebook():
    assert [path.name for path in NOTEBOOKS][:1] == ["00_start_here.ipynb"]


@EVERY
def test_what_is_committed_is_well(path):
    assert build.problems(path) == []


@EVERY
def test_code_cells_are_short_and_the_title_is_a_question(path):
    notebook = nbformat.read(path, as_version=4)
    assert notebook.cells[0].source.splitlines()[0].endswith("?")
    assert max(cell.source.count("\n") + 1 for cell in build.code_cells(notebook)) <= 25


@EVERY
def test_the_minutes_of_the_cells_add_up_to_those_of_the_header(path):
    notebook = nbformat.read(path, as_version=4)
    minutes = [cell.metadata["minutes"] for cell in notebook.cells if "minutes" in cell.metadata]
    total = {kind: sum(each[kind] for each in minutes) for kind in ("alone", "class", "demo")}
    words = re.search(r"About (\d+) minutes alone, (\d+) in class, (\d+) as a demo", notebook.cells[0].source)
    assert total == dict(zip(total, map(int, words.groups()), strict=True))


@EVERY
def test_an_instructor_finds_every_section(path):
    guide = (path.parent / "instructor" / f"{path.name[:2]}.md").read_text()  # an appendix is in its notebook's
    notebook = nbformat.read(path, as_version=4)
    headings = [section.heading for section in sections(notebook) if section.heading]
    assert headings and [heading for heading in headings if f"| {heading} |" not in guide] == []


@pytest.mark.slow
@pytest.mark.timeout(BUSY)
@EVERY
def test_it_runs_from_a_clean_kernel_and_leaves_nothing(path, tmp_path, kept_runs):
    """Its claims and blanks are judged by this run too, see tests/notebook/kept_runs.py."""
    kept = tmp_path / "kept"
    # A short name: the server's sockets are below it, and a socket's name may have 107 bytes.
    with tempfile.TemporaryDirectory(prefix="lt-") as folder, adopting_orphans() as orphans:
        done = subprocess.run(
            [sys.executable, "-m", "tests.notebook.run_and_keep", number_of(path), str(kept)],
            env=os.environ | {"TMPDIR": folder},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert orphans() == []
        assert list(Path(folder).iterdir()) == []
    kept_runs.add(pickle.loads(kept.read_bytes()))


@contextmanager
def adopting_orphans() -> Iterator[Callable[[], list[str]]]:
    """Meanwhile whatever outlives its parents becomes this process's child; the function names those that run."""
    before = {process.identity for process in proc.process_tree(os.getpid())}
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def orphans() -> list[str]:
        new = [process for process in proc.process_tree(os.getpid()) if process.identity not in before]
        for ended in new:
            if ended.ended and ended.parent_pid == os.getpid():
                os.waitpid(ended.pid, 0)
        return [process.title for process in new if not process.ended]

    try:
        yield orphans
    finally:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


# ---- in JupyterLab, as a reader has it -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(BUSY)
@pytest.mark.parametrize("path", IN_JUPYTERLAB, ids=lambda path: path.stem)
@needs_chromium
def test_run_all_in_jupyterlab_is_clean(path, tmp_path):
    with after_run_all(tmp_path, path.name, number_of(path)) as page:
        _take_pictures(page, path.stem)
        _choose_with_the_mouse(page)
        _skip_the_others(page)
        notebook = page.evaluate(MODEL)
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    assert [output for output in outputs if output["output_type"] == "error"] == []
    assert any({"image/png", "image/svg+xml"} & set(output.get("data", {})) for output in outputs)


def _choose_with_the_mouse(page) -> None:
    """The first prediction with one choice: its result waits, and is drawn then, without a new run of anything."""
    before = page.evaluate(MODEL)["cells"]
    waiting = _waiting(before)
    assert waiting, "no result waits for a prediction"
    result, number = next((index, found[1]) for index in waiting if (found := ONE_CHOICE.search(str(before[index]))))
    asked = max(index for index in range(result) if f'"{number}"' in before[index]["source"])
    scroll_to(page, asked)
    panel = page.locator(".jp-Cell", has_text=f"Predict {number}:")
    panel.locator(".lab-options label:not(.widget-label)").first.click()
    page.wait_for_function(f"() => !JSON.stringify(({MODEL})().cells[{result}].outputs).includes('{WAITS}')")
    after = page.evaluate(MODEL)["cells"]
    assert [cell.get("execution_count") for cell in after] == [cell.get("execution_count") for cell in before]
    assert "Your prediction: a" in str(after[result]["outputs"])
    assert set(_waiting(after)) < set(waiting), "the others go on waiting"


def _skip_the_others(page) -> None:
    """Nothing that waits for a prediction is left by `lab.skip()`."""
    page.evaluate(SKIP)
    page.wait_for_function(f"() => !JSON.stringify(({MODEL})().cells.map(cell => cell.outputs)).includes('{WAITS}')")


def _waiting(cells: list[dict]) -> list[int]:
    return [index for index, cell in enumerate(cells) if WAITS in str(cell.get("outputs", ""))]


def _take_pictures(page, name: str) -> None:
    """For people to look at, where LAB_PICTURES names a folder."""
    folder = os.environ.get("LAB_PICTURES")
    if folder is None:
        return
    count = page.evaluate("() => window.jupyterapp.shell.currentWidget.content.widgets.length")
    for index in range(0, count, 4):
        scroll_to(page, index)
        page.wait_for_timeout(400)
        page.screenshot(path=f"{folder}/{name}-{index:02}.png")
