"""`lab.check`, `lab.hint`, `lab.reveal`: marking an exercise, helping with it, and showing its solution.

Run in the kernel; the reader's program runs in fresh processes. None of them makes a cell fail, whatever the
reader wrote or did not write, so a notebook with open exercises runs to its end.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from types import FunctionType
from typing import Any

from IPython import get_ipython
from IPython.display import display

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.cells.function_source import own_source, standalone
from lab_support.notebook.moves.attempt import UNTRIED, Verdict, could_not_be_measured
from lab_support.notebook.moves.exercises import Exercise, exercise
from lab_support.notebook.page import record
from lab_support.notebook.page.views import NEITHER, RIGHT, WRONG, View, aligned, escaped, highlighted, two_columns

_LOOKS = {
    "passed": ("✔", RIGHT, "passed"),
    "failed": ("✘", WRONG, "not yet"),
    "unmeasured": ("?", NEITHER, "could not be measured"),
    "untried": ("○", NEITHER, "not attempted yet"),
}
_OUTCOMES = {"passed": True, "failed": False}


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The outcome of checking one attempt. A notebook displays it."""

    name: str
    kind: str
    task: str
    verdict: Verdict

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
            said = [("to do", self.task), ("then", "run the exercise's cell, and this one again")]
        return [row for row in said if row[1]]

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
        _keep(name, **asdict(verdict), outcome=_OUTCOMES.get(verdict.state))
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


# ---- help ------------------------------------------------------------------------------------------------------------


def hint(name: str) -> View:
    """The next hint for the exercise `name`; after the last, the last again."""
    task = exercise(name)
    number = min(_standing(name).get("hints", 0) + 1, len(task.hints))
    _keep(name, hints=number)
    head = f"Hint {number} of {len(task.hints)} for {name}"
    more = "" if number < len(task.hints) else f'There is no further hint: `lab.reveal("{name}")` shows a solution.'
    text = "\n".join(filter(None, (f"{head}: {task.hints[number - 1]}", more)))
    html = "".join(f"<div>{escaped(line)}</div>" for line in text.splitlines())
    return View(text, html)


def reveal(name: str, anyway: bool = False) -> View:
    """A solution of the exercise `name`, folded. It is refused before an attempt, unless `anyway`."""
    task = exercise(name)
    if not anyway and "state" not in _standing(name):
        text = (
            f'{name} has not been checked yet. Try it first: {task.task}\nIf you are stuck: `lab.hint("{name}")`. '
            f'To see the solution all the same: `lab.reveal("{name}", anyway=True)`.'
        )
        return View(text, "".join(f"<div>{escaped(line)}</div>" for line in text.splitlines()))
    _keep(name, revealed=True)
    return _solution(task)


def _solution(task: Exercise) -> View:
    titles = [f"A solution of {task.name}", *("Another one" for _ in task.also_right)]
    parts = list(zip(titles, (task.reference, *task.also_right), strict=True))
    text = "\n\n".join(f"{title}:\n\n{source.strip()}" for title, source in parts)
    html = "".join(
        f"<details{' open' if not index else ''}><summary>{title}</summary>"
        f"{highlighted(source.strip(), _new_lines(task.skeleton, source))}</details>"
        for index, (title, source) in enumerate(parts)
    )
    return View(text, html)


def _new_lines(skeleton: str, source: str) -> list[int]:
    """The lines of `source`, from 1, that the reader's cell did not have; none if nearly all are new."""
    before, after = skeleton.strip().splitlines(), source.strip().splitlines()
    blocks = SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    new = [line for kind, _, _, start, end in blocks if kind != "equal" for line in range(start + 1, end + 1)]
    return new if len(new) < 0.7 * len(after) else []


# ---- the record ------------------------------------------------------------------------------------------------------


def _standing(name: str) -> dict[str, Any]:
    """The reader's record of an exercise: the last verdict's fields, hints seen, whether the solution was seen."""
    kept = record.entries("check", name)
    return kept[-1].fields if kept else {}


def _keep(name: str, **news: Any) -> None:
    """Append an entry that repeats all that is known so far, so that a summary needs only the last one."""
    record.note("check", name, **(_standing(name) | news))
