"""The gate for published notebooks: what is stale, out of order, broken or of one machine only is named."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from lab_support.notebook.publishing import build


def written(path: Path, *sources: str) -> Path:
    nbformat.write(new_notebook(cells=[new_code_cell(source) for source in sources]), path)
    return path


@pytest.fixture(scope="module")
def well(tmp_path_factory) -> Path:
    """A small notebook that was built, in another process: pytest's own must not keep a kernel client's sockets."""
    path = written(
        tmp_path_factory.mktemp("built") / "00_small.ipynb",
        "import os, sys\nprint('one'); sys.stdout.flush(); print('two')",
        "print(os.path.abspath(build_root), sys.executable)".replace("build_root", repr(str(build.NOTEBOOKS.parent))),
        "value = 6 * 7\nvalue",
    )
    script = (
        f"from pathlib import Path; from lab_support.notebook.publishing import build; build.build(Path({str(path)!r}))"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120, capture_output=True)
    return path


def changed(path: Path, tmp_path: Path, change) -> Path:
    notebook = nbformat.read(path, as_version=4)
    change(notebook)
    nbformat.write(notebook, tmp_path / path.name)
    return tmp_path / path.name


def test_what_was_built_passes(well):
    assert build.problems(well) == []


def test_built_outputs_are_whole_and_know_no_machine(well):
    cells = build.code_cells(nbformat.read(well, as_version=4))
    assert [cell.execution_count for cell in cells] == [1, 2, 3]
    assert [output.text for output in cells[0].outputs] == ["one\ntwo\n"]
    assert cells[1].outputs[0].text == "… python/bin/" + os.path.basename(sys.executable) + "\n"
    assert cells[2].outputs[0].data["text/plain"] == "42"


def output(**fields):
    return lambda notebook: notebook.cells[2].outputs.append(new_output(**fields))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda notebook: notebook.cells[0].update(source="print('edited')"), "outputs are older than its source"),
        (lambda notebook: notebook.cells[1].update(execution_count=7), "in order: [1, 7, 3]"),
        (lambda notebook: notebook.metadata.update(widgets={"state": {}}), "keeps widget state"),
        (
            output(output_type="error", ename="KeyError", evalue="", traceback=[]),
            "cell 3: an unexpected error",
        ),
        (output(output_type="stream", text="see /home/ann/lab/x"), "a path of one machine: /home/ann/lab/x"),
        (output(output_type="display_data", data={"text/html": "<b>/tmp/x</b>"}), "a path of one machine: /tmp/x"),
        (output(output_type="display_data", data={"image/png": "AA=="}), "a figure without alt text"),
        (output(output_type="stream", text="✔ one\n✘ all wake (3)"), "that did not hold: ✘ all wake (3)"),
    ],
)
def test_each_fault_is_named(well, tmp_path, change, problem):
    found = build.problems(changed(well, tmp_path, change))
    assert [problem in sentence for sentence in found] == [True], found


def test_an_error_that_is_declared_is_none(well, tmp_path):
    def declared(notebook):
        notebook.cells[2].outputs.append(new_output("error", ename="KeyError", evalue="", traceback=[]))
        notebook.cells[2].metadata["tags"] = ["raises-exception"]

    assert build.problems(changed(well, tmp_path, declared)) == []


@pytest.mark.parametrize("text", ["/proc/1/fd/3", "/dev/null", "http://127.0.0.1/home/x", "…/home/x", "a/tmp/b"])
def test_paths_that_every_machine_has_are_fine(text):
    assert not build.MACHINE_PATH.search(text)


def test_a_notebook_that_fails_is_not_written(tmp_path):
    path = written(tmp_path / "00_small.ipynb", "1 / 0")
    before = path.read_bytes()
    script = (
        "import sys; from pathlib import Path; from lab_support.notebook.page import committed;"
        "from lab_support.notebook.publishing import build;"
        f"committed.NOTEBOOKS = Path({str(tmp_path)!r}); sys.exit(build.main(['00']))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stdout
    assert path.read_bytes() == before


def test_a_number_without_a_notebook_is_refused(capsys):
    assert build.main(["99", "--check"]) == 1
    assert "99" in capsys.readouterr().err
