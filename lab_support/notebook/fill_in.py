"""`lab.filled_in`: a table that the reader filled in beforehand, beside what was measured. It measures nothing.

The question is `lab.predict(…, options=…, rows=…)`: one of the options for each row.
"""

from collections.abc import Mapping

from lab_support.notebook import predictions
from lab_support.notebook.gate import Gated
from lab_support.notebook.predictions import Comparison, PredictionError, Question
from lab_support.notebook.tables import Table


def filled_in(number: str, measured: Mapping[str, tuple[str, object]]) -> Gated:
    """The table of prediction `number`, once it is filled in or skipped.

    measured: for each row, the letter of the option that the measurement supports, and the figure or words that it
    was judged by. Raises `PredictionError` for other rows than were asked.
    """
    asked = predictions.question(number)
    rows = asked.rows or tuple(measured)
    if set(rows) != set(measured):
        missing, unknown = set(rows) - set(measured), set(measured) - set(rows)
        raise PredictionError(f"got rows {sorted(measured)}, expected those of {number}; {missing=}, {unknown=}")
    letters = "".join(measured[row][0] for row in rows)
    return Gated(number, lambda comparison: _table(asked, rows, measured, comparison), letters if asked.rows else "")


def _table(
    asked: Question, rows: tuple[str, ...], measured: Mapping[str, tuple[str, object]], comparison: Comparison
) -> Table:
    yours = str(comparison.answer) if comparison.answer else ""
    lines: list[tuple[str, ...]] = []
    for index, row in enumerate(rows):
        letter, seen = measured[row]
        mine = yours[index : index + 1]
        sign = ("✔ " if mine == letter else "✘ ") if mine else ""
        mark = f"{sign}{asked.options[mine]}" if mine else ""
        lines.append((row, mark, asked.options.get(letter, letter), str(seen)))
    if not yours:
        lines = [(row, found, seen) for row, _, found, seen in lines]
    heads = ("what", "yours", "measured", "seen") if yours else ("what", "measured", "seen")
    return Table(heads, tuple(lines), comparison.words)
