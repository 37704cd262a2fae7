"""`lab.quiz`: the questions of a notebook as buttons, or answered in code; each answer gets its feedback.

Runs in the kernel. One output has both: the widget, and the questions as text and HTML for front ends without widgets.
"""

from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets
from IPython import get_ipython
from IPython.display import display

from lab_support.notebook.moves import quiz_data
from lab_support.notebook.moves.quiz_data import Mark, Multiple, Numeric, Question
from lab_support.notebook.page import record
from lab_support.notebook.page.kept_widgets import kept
from lab_support.notebook.page.views import RIGHT, WIDGET_VIEW, WRONG, View, escaped


def quiz(number: str, answers: Sequence[object] | None = None) -> View | None:
    """Show the quiz of the notebook `number`; or mark `answers`, one for each question, as text.

    answers: keys ("b", or "ac" where several are right) and numbers; None leaves one out. Each answer is kept in the
    reader's record. Raises `LookupError` if there is no such quiz, `ValueError` for invalid answers.
    """
    questions = quiz_data.read(number)
    if answers is not None:
        return _marked(number, questions, answers)
    plain = _asked(number, questions)
    if get_ipython() is None:  # type: ignore[no-untyped-call]
        return plain
    # A published notebook has no kernel behind it, and a widget's number would change with each run.
    widget = {} if record.in_batch() else _as_mime(_widget(number, questions))
    display(widget | plain._repr_mimebundle_(), raw=True)
    return None


def _as_mime(widget: ipywidgets.Widget) -> dict[str, Any]:
    """The widget as MIME data. One output holds it and the plain view; a front end shows the best that it can."""
    return {WIDGET_VIEW: widget._repr_mimebundle_()[WIDGET_VIEW]}


# ---- in words --------------------------------------------------------------------------------------------------------


def _marked(number: str, questions: list[Question], answers: Sequence[object]) -> View:
    if isinstance(answers, str) or len(answers) != len(questions):
        raise ValueError(f"answers: got {answers!r}, expected a list of {len(questions)}, one for each question")
    pairs = zip(questions, answers, strict=True)
    marks = [None if answer is None else quiz_data.mark(question, answer) for question, answer in pairs]
    for index, each in enumerate(marks, 1):
        if each is not None:
            _keep(number, index, each)
    lines = [_line(index, each) for index, each in enumerate(marks, 1)]
    right = sum(each is not None and each.right for each in marks)
    lines.append(f"{right} of {len(questions)} right")
    return View("\n".join(lines), "".join(f"<div>{escaped(line)}</div>" for line in lines))


def _line(index: int, marked: Mark | None) -> str:
    if marked is None:
        return f"○ {index}. not answered"
    return f"{_sign(marked)} {index}. {marked.answer}: {marked.feedback}"


def _sign(marked: Mark) -> str:
    return "✔" if marked.right else "✘"


def _keep(number: str, index: int, marked: Mark) -> None:
    record.note("quiz", f"{number}.{index}", answer=marked.answer, right=marked.right)


def _asked(number: str, questions: list[Question]) -> View:
    """The questions alone, without answers."""
    how = f'To answer in code: `lab.quiz("{number}", answers=[{", ".join(map(_example, questions))}])`'
    text = "\n\n".join([*(f"{_head(i, q)}\n{_choices(q)}" for i, q in enumerate(questions, 1)), how])
    parts = [f"<div>{escaped(_head(i, q))}</div>{_choices_html(q)}" for i, q in enumerate(questions, 1)]
    return View(text, "".join(parts) + f"<div>{escaped(how)}</div>")


def _example(question: Question) -> str:
    return "…" if isinstance(question, Numeric) else '"…"'


def _head(index: int, question: Question) -> str:
    notes = [f"from notebook {question.from_notebook}"] if question.from_notebook else []
    notes += ["all that are right"] if isinstance(question, Multiple) else []
    return f"{index}. {question.question}" + (f" ({'; '.join(notes)})" if notes else "")


def _choices(question: Question) -> str:
    if isinstance(question, Numeric):
        return f"   a number{question.unit and f' ({question.unit})'}"
    return "\n".join(f"   {option.key}) {option.text}" for option in question.options)


def _choices_html(question: Question) -> str:
    if isinstance(question, Numeric):
        return f'<ul style="list-style:none"><li>{escaped(_choices(question).strip())}</li></ul>'
    rows = "".join(f"<li><b>{option.key}</b> {escaped(option.text)}</li>" for option in question.options)
    return f'<ul style="list-style:none">{rows}</ul>'


# ---- as a widget -----------------------------------------------------------------------------------------------------


def _widget(number: str, questions: list[Question]) -> ipywidgets.Widget:
    cards = [_Card(number, index, question).box for index, question in enumerate(questions, 1)]
    return kept(ipywidgets.VBox([ipywidgets.HTML(_STYLE, layout={"height": "0", "margin": "0"}), *cards]))


class _Card:
    """One question on the page: its choices, and below them the feedback on the last answer."""

    def __init__(self, number: str, index: int, question: Question) -> None:
        self._question, self._place = question, (number, index)
        self._feedback = ipywidgets.HTML()
        self._buttons: dict[str, ipywidgets.Widget] = {}
        self._number = ipywidgets.FloatText(layout={"width": "9em"})
        title = ipywidgets.HTML(f"<b>{escaped(_head(index, question))}</b>")
        self.box = ipywidgets.VBox([title, *self._rows(), self._feedback], layout={"margin": "0 0 1.2em 0"})

    def _rows(self) -> list[ipywidgets.Widget]:
        if isinstance(self._question, Numeric):
            unit = ipywidgets.Label(self._question.unit)
            return [ipywidgets.HBox([self._number, unit, _button("answer", self._answer_number)])]
        rows: list[ipywidgets.Widget] = [self._row(option) for option in self._question.options]
        if isinstance(self._question, Multiple):
            rows.append(_button("answer", self._answer_chosen))
        return rows

    def _row(self, option: quiz_data.Option) -> ipywidgets.Widget:
        """A button with the key, and the option's text beside it, because that may be too long for a button."""
        if isinstance(self._question, Multiple):
            button = ipywidgets.ToggleButton(description=option.key, layout=_NARROW, tooltip=option.text)
        else:
            button = _button(option.key, lambda: self._answer_key(option.key), layout=_NARROW, tooltip=option.text)
        self._buttons[option.key] = button
        text = ipywidgets.HTML(escaped(option.text), layout={"flex": "1 1 auto"})
        row = ipywidgets.HBox([button, text])
        row.add_class("lab-choice")
        return row

    def _answer_number(self) -> None:
        self._show(self._number.value)

    def _answer_key(self, key: str) -> None:
        for each, button in self._buttons.items():
            button.button_style = "info" if each == key else ""
        self._show(key)

    def _answer_chosen(self) -> None:
        keys = [key for key, button in self._buttons.items() if button.value]
        if keys:
            self._show(keys)

    def _show(self, answer: object) -> None:
        marked = quiz_data.mark(self._question, answer)
        _keep(*self._place, marked)
        colour = RIGHT if marked.right else WRONG
        self._feedback.value = (
            f'<div style="border-left:4px solid {colour};padding:.1em .8em;line-height:1.4">'
            f'<b style="color:{colour}">{_sign(marked)} {marked.answer}</b> {escaped(marked.feedback)}</div>'
        )


# The button's clickable surface covers its whole row, so that a click on the text chooses as well.
_STYLE = """<style>
.lab-choice { position: relative; border-radius: 3px; max-width: 60em; }
.lab-choice:hover { background: rgba(0, 114, 178, 0.1); }
.lab-choice .jupyter-button { position: static; }
.lab-choice .jupyter-button::after { content: ""; position: absolute; inset: 0; z-index: 1;
  cursor: pointer; }
</style>"""
_NARROW = {"width": "3em", "flex": "0 0 auto"}


def _button(words: str, act: Callable[[], None], **choices: Any) -> ipywidgets.Button:
    button = ipywidgets.Button(description=words, **choices)
    button.on_click(lambda _: act())
    return button
