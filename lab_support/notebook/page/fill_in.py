"""`lab.filled_in`: a table that the reader filled in beforehand, next to the measurement. It measures nothing.

The question is `lab.predict(…, options=…, rows=…)`: one of the options for each row.
"""

from collections.abc import Callable, Mapping
from typing import Any

from lab_support.notebook.page import predictions
from lab_support.notebook.page.gate import Gated
from lab_support.notebook.page.predictions import Comparison, PredictionError, Question
from lab_support.notebook.page.tables import Table


def filled_in(
    number: str,
    measured: Mapping[str, str],
    seen: Mapping[str, object] | None = None,
    *,
    signs: Mapping[str, str] | None = None,
    frame: Callable[[Table], Any] = lambda table: table,
) -> Gated:
    """The table of prediction `number`, once it is filled in or skipped.

    measured: for each row, the option that the measurement supports, by its letter or its text. seen: for each row,
    the figure or words that it was judged by, as a further column. signs: for each row, ✔ or ✘ of its claim, as a
    last column. frame: turns the table into the thing that is shown.
    Raises `PredictionError` if the rows or options are not those of the question.
    """
    asked = predictions.question(number)
    if not asked.rows:
        raise PredictionError(f"got no table {number!r}, expected one that was asked: run its lab.predict cell first")
    if set(asked.rows) != set(measured):
        missing, unknown = set(asked.rows) - set(measured), set(measured) - set(asked.rows)
        raise PredictionError(f"got other rows than {number} asks for: {unknown=}, {missing=}")
    letters = "".join(_letter(asked, measured[row]) for row in asked.rows)
    return Gated(number, lambda comparison: frame(_table(asked, letters, seen or {}, signs or {}, comparison)), letters)


def _letter(asked: Question, option: str) -> str:
    by_text = {text: letter for letter, text in asked.options.items()}
    if option not in asked.options and option not in by_text:
        raise PredictionError(f"got {option!r}, expected one of {', '.join(by_text)}")
    return by_text.get(option, option)


def _table(
    asked: Question, letters: str, seen: Mapping[str, object], signs: Mapping[str, str], comparison: Comparison
) -> Table:
    columns: dict[str, list[str]] = {"what": list(asked.rows)}
    if comparison.answer:
        pairs = list(zip(str(comparison.answer), letters, strict=True))
        columns["yours"] = [f"{'✔' if mine == found else '✘'} {asked.options[mine]}" for mine, found in pairs]
    columns["measured"] = [asked.options[letter] for letter in letters]
    if seen:
        columns["seen"] = [str(seen.get(row, "")) for row in asked.rows]
    if signs:
        columns["claim"] = [signs.get(row, "") for row in asked.rows]
    return Table(tuple(columns), tuple(zip(*columns.values(), strict=True)), comparison.words)
