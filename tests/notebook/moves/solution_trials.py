"""The promises of `notebooks/solutions/` as trials: each answer with the verdict that its check must give."""

from collections.abc import Iterator
from dataclasses import dataclass

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.cells.magic import options_of
from lab_support.notebook.cells.python_process import run_process
from lab_support.notebook.moves.attempt import Verdict
from lab_support.notebook.moves.exercises import BrokenClaim, Exercise, as_program, numbers, solutions

NUMBERS = numbers()


@dataclass(frozen=True)
class Trial:
    """One answer to one exercise. cause: of a wrong one, as its check must name it."""

    exercise: Exercise
    what: str
    source: str
    state: str
    cause: str = ""

    @property
    def name(self) -> str:
        return f"{self.exercise.name} {self.what}"

    def mark(self) -> Verdict:
        return self.exercise.mark(self.source)

    def is_met_by(self, verdict: Verdict) -> bool:
        return verdict.state == self.state and (verdict.state != "failed" or verdict.cause == self.cause)


def exercises() -> list[Exercise]:
    return [exercise for number in NUMBERS for exercise in solutions(number).exercises]


def trials() -> list[Trial]:
    return [trial for exercise in exercises() for trial in _of(exercise)]


def _of(exercise: Exercise) -> Iterator[Trial]:
    yield Trial(exercise, "skeleton", exercise.skeleton, "untried")
    yield Trial(exercise, "reference", exercise.reference, "passed")
    for index, source in enumerate(exercise.also_right, 1):
        yield Trial(exercise, f"right {index}", source, "passed")
    for index, wrong in enumerate(exercise.wrong, 1):
        yield Trial(exercise, f"wrong {index}", wrong.source, "failed", wrong.cause)


def claims() -> list[tuple[str, BrokenClaim]]:
    return [(number, claim) for number in NUMBERS for claim in solutions(number).broken_claims]


def result_of(claim: BrokenClaim, source: str) -> ProcessResult:
    """The result of `source` as a process of its own; a notebook's cell runs as its first line asks."""
    choices = options_of(source) if source.startswith("%%") else {"timeout": claim.seconds}
    return run_process(as_program(source), **{**choices, "quiet": True})
