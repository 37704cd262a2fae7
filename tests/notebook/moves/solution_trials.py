"""The promises of `notebooks/solutions/` as trials: each answer with the verdict that its check must give."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.cells.magic import options_of
from lab_support.notebook.cells.python_process import run_process
from lab_support.notebook.moves.answer_files import SOLUTIONS
from lab_support.notebook.moves.attempt import Verdict
from lab_support.notebook.moves.blanks import Blank, blanks
from lab_support.notebook.moves.exercises import BrokenClaim, Exercise, as_program, numbers, solutions
from tests.notebook.kept_runs import Run

NUMBERS = numbers()


@dataclass(frozen=True)
class Trial:
    """One answer to one exercise or blank. state: the verdict that it must get. cause: of a wrong one, as named.

    judged: its verdict, from runs by the given function. An exercise runs its own programs, several for one verdict.
    """

    exercise: Exercise | Blank
    what: str
    judged: Callable[[Run], Verdict]
    state: str
    cause: str = ""

    @property
    def name(self) -> str:
        return f"{self.exercise.name} {self.what}"

    def mark(self, run: Run = run_process) -> Verdict:
        return self.judged(run)

    def is_met_by(self, verdict: Verdict) -> bool:
        return verdict.state == self.state and (verdict.state != "failed" or verdict.cause == self.cause)


def exercises(only: Sequence[str] = NUMBERS) -> list[Exercise]:
    """Of the notebooks with these numbers; here and below, by default of all."""
    return [exercise for number in only for exercise in solutions(number).exercises]


def all_blanks(only: Sequence[str] = NUMBERS) -> list[Blank]:
    return [blank for number in only for blank in blanks(number)]


def trials(only: Sequence[str] = NUMBERS) -> list[Trial]:
    of_exercises = [trial for exercise in exercises(only) for trial in _of(exercise)]
    return of_exercises + [trial for blank in all_blanks(only) for trial in _of_blank(blank)]


def _of(exercise: Exercise) -> Iterator[Trial]:
    def trial(what: str, source: str, state: str, cause: str = "") -> Trial:
        return Trial(exercise, what, lambda run: exercise.mark(source), state, cause)

    yield trial("skeleton", exercise.skeleton, "untried")
    yield trial("reference", exercise.reference, "passed")
    for index, source in enumerate(exercise.also_right, 1):
        yield trial(f"right {index}", source, "passed")
    for index, wrong in enumerate(exercise.wrong, 1):
        yield trial(f"wrong {index}", wrong.source, "failed", wrong.cause)


def _of_blank(blank: Blank) -> Iterator[Trial]:
    for index, fillings in enumerate(blank.right):
        what = f"right {index}" if index else "solution"
        yield Trial(blank, what, partial(blank.attempt, fillings), "passed")
    for index, wrong in enumerate(blank.wrong, 1):
        yield Trial(blank, f"wrong {index}", partial(blank.attempt, wrong.fillings), "failed", wrong.cause)


def claims(only: Sequence[str] = NUMBERS) -> list[tuple[str, BrokenClaim]]:
    return [(number, claim) for number in only for claim in solutions(number).broken_claims]


def result_of(claim: BrokenClaim, source: str, run: Run = run_process) -> ProcessResult:
    """The result of `source` as a process of its own; a notebook's cell runs as its first line asks.

    Raises `CellFailed` or `AssertionError` if it ends otherwise than expected there.
    """
    choices = options_of(source) if source.startswith("%%") else {"timeout": claim.seconds}
    result = run(as_program(source), **choices | {"quiet": True})
    assert choices.get("expect", "0") in ("any", result.outcome), f"{result!r}:\n{result.output}"
    return result


def files(number: str, kind: str) -> list[Path]:
    """`NN_KIND.py` in the folder of the solutions, if it is there."""
    path = SOLUTIONS / f"{number}_{kind}.py"
    return [path] if path.exists() else []
