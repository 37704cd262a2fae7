"""`lab.predict`: a question before the result, with buttons or sliders where there are widgets, and calls everywhere.

Runs in the kernel. It never blocks: results that take `prediction=` wait in its place (gate.py). The right option is
given to the result, not here, so that reading the cell gives nothing away.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from IPython import get_ipython
from IPython.display import display

from lab_support.notebook.moves.status import status
from lab_support.notebook.page import predictions, record
from lab_support.notebook.page.gate import bundle_of
from lab_support.notebook.page.predictions import PredictionError, Question
from lab_support.notebook.page.views import escaped


def predict(
    number: str,
    words: str,
    *,
    options: Mapping[str, str] | None = None,
    rows: Sequence[str] = (),
    sketch: Sequence[str] = (),
    answer: str | Sequence[float] | None = None,
) -> None:
    """Ask the reader to predict `words`. The answer is kept in their record, and shown when the cell runs again.

    number: such as "04.1". options: text by letter. rows: labels of a table's rows; the reader chooses an option for
    each, so an answer is a letter for each row, as in "abca". sketch: labels of bars; the reader sets their heights,
    shares of a whole. answer: given in this call, for readers without widgets; a letter, or one height for each bar in
    any unit. An answer may be changed until the result is seen. Raises `PredictionError`.
    """
    if bool(options) == bool(sketch) or (rows and not options):
        raise PredictionError('got options and sketch, or neither; expected options={"a": …} or sketch=["P1", …]')
    asked = Question(number, words, dict(options or {}), tuple(sketch), tuple(rows))
    predictions.ask(asked)
    if answer is not None:
        predictions.give(number, answer)
    _show(asked)


def answer(number: str, answer: str | Sequence[float]) -> None:
    """Answer prediction `number` by a call, and draw the results that wait for it. Raises `PredictionError`."""
    now = predictions.give(number, answer)
    print(status(predictions.question(number), now))


def skip(number: str | None = None) -> None:
    """Draw the results that wait for prediction `number`, by default for any, without an answer."""
    waiting = predictions.unanswered() if number is None else [number]
    for each in waiting:
        predictions.skip(each)
    if not waiting:
        print('Nothing waits for a prediction. To skip one beforehand: lab.skip("04.1")')


# ---- showing it ------------------------------------------------------------------------------------------------------


def _show(asked: Question) -> None:
    """Show one output: the widget for front ends that have widgets, and its twin for all others."""
    shell = get_ipython()  # type: ignore[no-untyped-call]
    data, metadata = twin(asked)
    if shell is None:
        print(data["text/plain"])
        return
    if hasattr(shell, "kernel") and not record.in_batch():
        from lab_support.notebook.moves.predict_widgets import panel

        data |= panel(asked)._repr_mimebundle_()
        data["text/plain"] = in_text(asked)
    display(data, metadata=metadata, raw=True)


def twin(asked: Question) -> tuple[dict[str, Any], dict[str, Any]]:
    """The question as it stands, without widgets: a list of options, or the picture of the sketch."""
    now = predictions.standing(asked.number)
    if asked.sketch:
        from lab_support.notebook.figures.shares import sketch_picture

        data, metadata = bundle_of(sketch_picture(asked, now.latest))
    else:
        data, metadata = {"text/html": _in_html(asked)}, {}
    return {**data, "text/plain": in_text(asked)}, metadata


def in_text(asked: Question) -> str:
    heading = f"Predict {asked.number}: {asked.words}"
    rows = [f"  {letter}  {text}" for letter, text in asked.options.items()]
    rows += ["one of them for each of", *(f"  - {row}" for row in asked.rows)] if asked.rows else []
    rows += ["  a share of the whole for each of " + ", ".join(asked.sketch)] if asked.sketch else []
    return "\n".join([heading, *rows, _status_line(asked)])


def _in_html(asked: Question) -> str:
    rows = "".join(f"<li><b>{escaped(letter)}</b>&ensp;{escaped(text)}</li>" for letter, text in asked.options.items())
    of_each = "".join(f"<li>{escaped(row)}</li>" for row in asked.rows)
    rows += f'<li style="margin-top:0.4em">for each of<ul>{of_each}</ul></li>' if asked.rows else ""
    return (
        f"<p><b>Predict {escaped(asked.number)}:</b> {escaped(asked.words)}</p>"
        f'<ul style="list-style:none">{rows}</ul><p><i>{escaped(_status_line(asked))}</i></p>'
    )


def _status_line(asked: Question) -> str:
    now = predictions.standing(asked.number)
    if record.in_batch() and now.latest is None:
        return "In your own copy of the notebook you choose here, and the result waits for you: lab open"
    return status(asked, now)
