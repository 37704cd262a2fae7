"""Makes slides of committed notebooks, one HTML page each: `python -m lab_support.notebook.publishing.slides NN`.

A section goes to the right, and its steps go down: a result is one step below its prediction. Folded explanations are
open, because nobody clicks for a class. The page loads reveal.js from the web.
"""

import argparse
import sys
from copy import deepcopy
from pathlib import Path

import nbformat
from nbconvert import SlidesExporter
from nbformat import NotebookNode

from lab_support.notebook.moves.asked import number_of
from lab_support.notebook.page.committed import find
from lab_support.notebook.publishing.minutes import marked
from lab_support.notebook.publishing.workspace import WORKSPACE


def slides(notebook: NotebookNode) -> str:
    """The page. Outputs are those that the notebook has; it is not executed."""
    page, _ = SlidesExporter(reveal_scroll=True).from_notebook_node(with_details_open(marked(notebook)))
    return str(page)


def with_details_open(notebook: NotebookNode) -> NotebookNode:
    """A copy in which the text's `<details>` are open."""
    notebook = deepcopy(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = cell.source.replace("<details>", "<details open>")
    return notebook


def main(words: list[str]) -> int:
    """0 if the slides were written, else 1."""
    parser = argparse.ArgumentParser(prog="python -m lab_support.notebook.publishing.slides", description=__doc__)
    parser.add_argument("numbers", nargs="+", help="notebooks by number, 04 with 04a, 04_ without")
    parser.add_argument(
        "--folder", type=Path, default=WORKSPACE / "slides", help="for the pages (default: workspace/slides)"
    )
    arguments = parser.parse_args(words)
    paths = find(arguments.numbers)
    if not paths:
        print(f"got {' '.join(arguments.numbers)}, expected numbers of notebooks, such as 04", file=sys.stderr)
        return 1
    try:
        arguments.folder.mkdir(parents=True, exist_ok=True)
        for path in paths:
            page = arguments.folder / f"{number_of(path)}.slides.html"
            page.write_text(slides(nbformat.read(path, as_version=4)), encoding="utf-8")
            print(page)
    except OSError as error:
        print(f"{error.filename}: {error.strerror}; give a folder that can be written to: --folder", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
