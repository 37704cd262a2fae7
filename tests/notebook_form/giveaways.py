"""Cells that tell the outcome of a prediction above them before the reader has answered it. A rule of thumb: it sees
bold letters of options outside `<details>`, and claims, figures and programs that wait for no prediction."""

import ast
import re
from collections.abc import Iterator, Sequence

from nbformat import NotebookNode

from lab_support.notebook.publishing.sections import first_line, is_exercise, is_program, without_code
from tests.notebook_form.questions import Asked, asked_by, syntax

MUST_WAIT = frozenset(
    f"lab.{name}"
    for name in (
        *("bars", "claim", "compare", "imports", "latency", "memory", "memory_over_time", "process_tree", "shares"),
        *("spans", "table", "timeline", "xray"),
    )
)
"""Calls that show a result, and wait for `prediction=`."""
_HELD_BACK = re.compile(r" --(after|quiet)\b")
_DETAILS = re.compile(r"<details\b.*?</details>", re.DOTALL)
_BOLD_LETTER = re.compile(r"\*\*\(?([a-h])\)?\*\*")


def in_loop(cells: Sequence[tuple[int, NotebookNode]]) -> Iterator[str]:
    """The code of one loop, each cell with its place in the notebook: all that doesn't wait for a prediction above."""
    asked: list[Asked] = []
    for place, cell in cells:
        if asked and is_program(cell) and not (is_exercise(cell) or _HELD_BACK.search(first_line(cell))):
            yield f"cell {place}: its program does not wait for {asked[-1].number} (--after)"
        if asked:
            yield from (f"cell {place}: {name} does not wait for {asked[-1].number}"
                        for name in dict.fromkeys(_not_waiting(syntax(cell))))  # fmt: skip
        asked += asked_by(cell)


def _not_waiting(tree: ast.Module) -> Iterator[str]:
    """Statements that show something at once: calls of `MUST_WAIT` without a prediction, and `print`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            name = ast.unparse(node.value.func)
            waits = any(keyword.arg == "prediction" for keyword in node.value.keywords)
            if name == "print" or (name in MUST_WAIT and not waits):
                yield name


def in_text(cells: Sequence[tuple[int, NotebookNode]]) -> Iterator[str]:
    """The text of a whole notebook: letters of the last prediction's options, in bold and unfolded."""
    asked: Asked | None = None
    for place, cell in cells:
        if asked and cell.cell_type == "markdown":
            bold = _BOLD_LETTER.findall(_DETAILS.sub("", without_code(cell.source)))
            yield from (f"cell {place}: says **{letter}** below {asked.number}, outside <details>"
                        for letter in dict.fromkeys(bold) if letter in asked.options)  # fmt: skip
        asked = next(iter(reversed(list(asked_by(cell)))), asked)
