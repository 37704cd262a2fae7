"""Slides of a notebook: sections to the right, steps down, and nothing folded."""

import re
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

MAKE = """
import sys
from pathlib import Path
from lab_support.notebook.page import committed
from lab_support.notebook.publishing import slides
committed.NOTEBOOKS = Path(sys.argv[1])
sys.exit(slides.main(sys.argv[2:]))
"""
CELLS = [
    new_markdown_cell("# Where?\n\nAbout 1 minutes alone, 0 in class, 0 as a demo."),
    new_markdown_cell("## A place\n\nIt moves."),
    new_code_cell('lab.predict("77.1", "where", options={"a": "here"})'),
    new_code_cell('lab.verdict("77.1", one)', outputs=[new_output("stream", text="the measured place")]),
    new_markdown_cell("<details><summary>What happened</summary>\n\nIt moved.\n\n</details>"),
    new_code_cell("hidden_plumbing = 1", metadata={"jupyter": {"source_hidden": True}}),
    new_markdown_cell("## Another place"),
]


def made(tmp_path, *words: str) -> subprocess.CompletedProcess:
    """In a process of its own, because nbconvert brings libraries whose warnings would be errors here."""
    nbformat.write(new_notebook(cells=CELLS), tmp_path / "77_where.ipynb")
    return subprocess.run(
        [sys.executable, "-c", MAKE, str(tmp_path), *words], capture_output=True, text=True, timeout=120
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("slides")
    done = made(folder, "77", "--folder", str(folder / "pages"))
    assert done.returncode == 0, done.stderr
    return (folder / "pages" / "77.slides.html").read_text()


def test_sections_go_to_the_right_and_their_steps_down(page):
    columns = re.sub(r".*?(?=<section><section>)", "", page, count=1, flags=re.DOTALL).split("<section><section>")[1:]
    assert [column.count("<section>") + 1 for column in columns] == [1, 3, 1]
    steps = columns[1].split("<section>")
    assert "lab.predict" in re.sub("<[^>]*>", "", steps[1]) and "the measured place" not in steps[1]
    assert "the measured place" in steps[2]


def test_explanations_are_open_and_plumbing_without_output_is_left_out(page):
    assert page.count("<details open") == page.count("<details") == 1
    assert "hidden_plumbing" not in page


def test_what_cannot_be_made_is_said_in_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    for words, said in ((["99"], "got 99, expected numbers"), (["77", "--folder", f"{tmp_path}/file"], "--folder")):
        done = made(tmp_path, *words)
        assert (done.returncode, said in done.stderr, "Traceback" in done.stderr) == (1, True, False), done.stderr
