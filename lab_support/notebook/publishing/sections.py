"""The sections of a notebook, and the kinds of its cells, found in its source. Runs nothing."""

import re
from dataclasses import dataclass

from nbformat import NotebookNode

_HEADING = re.compile(r"^## (.+)$", re.MULTILINE)
_FENCED = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_TAG = re.compile(r"<[a-zA-Z/!][^>]*>")
_WORD = re.compile(r"\S*\w\S*")
_ASKS = re.compile(r"^lab\.(predict|again)\(", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Section:
    """heading: "" for the cells before the first `## `. cells: in order; the first carries the heading."""

    heading: str
    cells: tuple[NotebookNode, ...]


def sections(notebook: NotebookNode) -> list[Section]:
    """All sections in order. A cell belongs whole to the section whose heading it carries, also with text before it."""
    found: list[tuple[str, list[NotebookNode]]] = [("", [])]
    for cell in notebook.cells:
        if heading := heading_of(cell):
            found.append((heading, []))
        found[-1][1].append(cell)
    return [Section(heading, tuple(cells)) for heading, cells in found if cells]


def heading_of(cell: NotebookNode) -> str:
    """The words after `## ` in a markdown cell; "" if there are none."""
    found = _HEADING.search(without_code(cell.source)) if cell.cell_type == "markdown" else None
    return found[1].strip() if found else ""


def words_of(cell: NotebookNode) -> int:
    """The number of words of a markdown cell, code spans included, without fenced code and HTML tags; else 0."""
    return len(_WORD.findall(_TAG.sub(" ", without_code(cell.source)))) if cell.cell_type == "markdown" else 0


def code_words_of(cell: NotebookNode) -> int:
    """The number of words in the source of a code cell; 0 if its source is folded away."""
    return len(_WORD.findall(cell.source)) if cell.cell_type == "code" and not is_folded(cell) else 0


def is_folded(cell: NotebookNode) -> bool:
    """Whether JupyterLab hides the cell's source until the reader unfolds it."""
    return bool(cell.metadata.get("jupyter", {}).get("source_hidden"))


def without_code(markdown: str) -> str:
    """Markdown without its fenced code."""
    return _FENCED.sub("", markdown)


def questions_of(cell: NotebookNode) -> int:
    """The number of predictions that a cell asks for, variants included."""
    return len(_ASKS.findall(cell.source)) if cell.cell_type == "code" else 0


def is_exercise(cell: NotebookNode) -> bool:
    return has_tag(cell, "exercise")


def is_program(cell: NotebookNode) -> bool:
    """Whether it is a `%%python_process` cell."""
    return cell.cell_type == "code" and cell.source.startswith("%%python_process")


def is_blank(cell: NotebookNode) -> bool:
    """Whether the reader fills in blanks in it (`--blank 01.b1`)."""
    return is_program(cell) and " --blank " in f"{first_line(cell)} "


def first_line(cell: NotebookNode) -> str:
    return str(cell.source.partition("\n")[0])


def has_tag(cell: NotebookNode, tag: str) -> bool:
    return tag in cell.metadata.get("tags", [])
