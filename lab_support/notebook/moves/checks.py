"""`lab.check`: marking an exercise.

Runs in the kernel; the reader's program runs in fresh processes. It makes no cell fail, whatever the reader wrote or
did not write, so a notebook with open exercises runs to its end.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from types import FunctionType
from typing import Any

from IPython import get_ipython
from IPython.display import display

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.cells.function_source import own_source, standalone
from lab_support.notebook.moves.attempt import UNTRIED, Verdict, could_not_be_measured
from lab_support.notebook.moves.exercises import Exercise, exercise
from lab_support.notebook.page import record
from lab_support.notebook.page.views import NEITHER, RIGHT, WRONG, aligned, two_columns

_LOOKS = {
    "passed": ("✔", RIGHT, "passed"),
    "failed": ("✘", WRONG, "not yet"),
    "unmeasured": ("?", NEITHER, "could not be measured"),
    "untried": ("○", NEITHER, "not attempted yet"),
}
BLANK = "your turn"
"""The kind of a cell with blanks, beside the kinds of exercises."""
_OUTCOMES = {"passed": True, "failed": False}


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The outcome of checking one attempt. A notebook displays it. goes_on: what the notebook goes on with instead."""

    name: str
    kind: str
    task: str
    verdict: Verdict
    goes_on: str = ""

    @property
    def passed(self) -> bool:
        return self.verdict.state == "passed"

    def _rows(self) -> list[tuple[str, str]]:
        verdict = self.verdict
        said = [("measured", verdict.measured), ("expected", verdict.expected)]
        said += [("likely cause" if verdict.state == "failed" else "because", verdict.cause)]
        if verdict.state == "failed":
            said += [("stuck?", f'`lab.hint("{self.name}")`')]
        if verdict.state == "untried":
            said = [("to do", self.task), ("then", self._next_step)]
        return [row for row in [*said, ("the notebook", self.goes_on)] if row[1]]

    @property
    def _next_step(self) -> str:
        if self.kind == BLANK:
            return f'run this cell again; if you are stuck: `lab.hint("{self.name}")`'
        return "run the exercise's cell, and this one again"

    def __repr__(self) -> str:
        sign, _, word = _LOOKS[self.verdict.state]
        return f"{sign} {self.name} ({self.kind}): {word}\n{aligned(self._rows())}"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        sign, colour, word = _LOOKS[self.verdict.state]
        head = f'<b style="color:{colour}">{sign} {self.name} ({self.kind}): {word}</b>'
        box = f'<div style="border-left:4px solid {colour};padding:.2em .8em">{head}{two_columns(self._rows())}</div>'
        return {"text/plain": repr(self), "text/html": box}


def check(name: str, answer: object = None) -> CheckResult:
    """Mark the exercise `name`: run `answer` in fresh processes and say what they did.

    answer: the result of the exercise's `%%python_process` cell (`--into`), a function of the notebook, or a program
    as text; None if it is not attempted yet. Raises `LookupError` for an unknown exercise, and nothing else.
    """
    task = exercise(name)
    with _busy(f"{name}: your program runs, in fresh processes …"):
        verdict = _mark(task, answer)
    if verdict is not UNTRIED:
        keep(name, **asdict(verdict), outcome=_OUTCOMES.get(verdict.state))
    return CheckResult(name, task.kind, task.task, verdict)


@contextmanager
def _busy(words: str) -> Iterator[None]:
    """Show `words` meanwhile if a reader waits, because a program that hangs is watched for up to 10 s."""
    if get_ipython() is None or record.in_batch():
        yield
        return
    shown = display({"text/plain": words}, raw=True, display_id=True)
    try:
        yield
    finally:
        shown.update({"text/plain": ""}, raw=True)


def _mark(task: Exercise, answer: object) -> Verdict:
    if answer is None:
        return UNTRIED
    if isinstance(answer, str):
        return task.mark(answer)
    if isinstance(answer, ProcessResult) and answer.source:
        return task.mark(answer.source)
    if isinstance(function := getattr(answer, "__wrapped__", answer), FunctionType):
        try:
            return task.mark(standalone(function), own_source(function))
        except OSError:
            return could_not_be_measured(f"nobody kept the source of `{function.__name__}`: run its cell again")
    return could_not_be_measured(
        f"got {type(answer).__name__}, expected the result of the exercise's cell (`--into NAME`), or your function"
    )


# ---- the record ------------------------------------------------------------------------------------------------------


def standing(name: str) -> dict[str, Any]:
    """The reader's record of an exercise: the last verdict's fields, hints seen, whether the solution was seen."""
    kept = record.entries("check", name)
    return kept[-1].fields if kept else {}


def keep(name: str, **news: Any) -> None:
    """Append an entry that repeats all that is known so far, so that a summary needs only the last one."""
    record.note("check", name, **(standing(name) | news))
