"""The place of each cell in a slide show, by a rule, for its `slideshow` metadata.

A section begins a slide; what the class does (predict, run, judge, fill in, solve) and every further text begin one
below it; a folded explanation and a claim appear on the slide that is there; plumbing that is folded away shows its
outputs, if it has any.
"""

import re

from nbformat import NotebookNode

from lab_support.notebook.publishing.sections import heading_of, is_folded, is_program

_BEGINS = re.compile(r"^lab\.(predict|verdict|again|check|ledger|quiz)\(", re.MULTILINE)
_APPEARS = re.compile(r"^lab\.claim\(", re.MULTILINE)


def slide_type(cell: NotebookNode, *, is_first: bool) -> str:
    """ "slide", "subslide", "fragment", "-" (on the slide that is there) or "skip"."""
    if is_first or heading_of(cell):
        return "slide"
    return _of_text(cell) if cell.cell_type == "markdown" else _of_code(cell)


def _of_text(cell: NotebookNode) -> str:
    return "fragment" if cell.source.lstrip().startswith("<details") else "subslide"


def _of_code(cell: NotebookNode) -> str:
    if is_folded(cell):
        return "-" if cell.outputs else "skip"
    if is_program(cell) or _BEGINS.search(cell.source):
        return "subslide"
    return "fragment" if _APPEARS.search(cell.source) else "-"
