"""`lab.again("04.1")`: the same question with other numbers, drawn by a seed: predicted, run and scored.

Runs in the kernel; the program runs in a fresh process. The variants of a notebook are data: `solutions/NN_again.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.cells.python_process import TIMEOUT, run_process
from lab_support.notebook.moves.answer_files import modules_of, named
from lab_support.notebook.moves.exercises import as_program
from lab_support.notebook.moves.predict import predict
from lab_support.notebook.moves.verdicts import Found, Judge, show
from lab_support.notebook.page import record

__all__ = ["Again", "Found", "again", "variant", "variants"]

Given = Mapping[str, Any]
"""The numbers of one variant, by name."""


@dataclass(frozen=True, slots=True)
class Again:
    """A prediction that can be asked again.

    number: the prediction's, "04.1". draw: the numbers of one variant. words, options: the question. program: its
    source. find: the finding in the program's result. letter: the option that `Found.measured` supports.
    timeout: seconds.
    """

    number: str
    draw: Callable[[Random], Given]
    words: Callable[[Given], str]
    options: Callable[[Given], Mapping[str, str]]
    program: Callable[[Given], str]
    find: Callable[[ProcessResult, Given], Found]
    letter: Callable[[Any, Given], str]
    timeout: float = TIMEOUT

    def given(self, seed: int) -> Given:
        """The numbers that `seed` stands for, on every machine."""
        return self.draw(Random(f"{self.number}/{seed}"))

    def run(self, given: Given) -> ProcessResult:
        """The result of the program, in a fresh process, which may end in any way."""
        return run_process(
            as_program(self.program(given)), name="again", timeout=self.timeout, expect="any", quiet=True
        )


def again(number: str, *, seed: int | None = None) -> None:
    """Ask prediction `number` again with other numbers, and show what then happens once it is predicted.

    seed: the numbers of this variant; a class that gives one has the same. By default each variant is a new one.
    Raises `LookupError` if that prediction has no variants.
    """
    each = variant(number)
    chosen = _next(number) if seed is None else seed
    name, given = f"{number}#{chosen}", each.given(chosen)
    predict(name, each.words(given), options=each.options(given))
    found = each.find(each.run(given), given)
    show(name, Judge(name, find=each.find, letter=lambda measured: each.letter(measured, given)), found)


def _next(number: str) -> int:
    """One more than the seeds of this prediction that the reader has answered or seen; 1 for the first."""
    names = {entry.name for entry in record.entries("prediction")}
    return 1 + sum(name.startswith(f"{number}#") for name in names)


def variants(number: str) -> tuple[Again, ...]:
    """All variants of the notebook `number`, such as "01" or "01a"."""
    return tuple(each for module in modules_of(number, "again") for each in getattr(module, "AGAIN", ()))


def variant(number: str) -> Again:
    """The variant of that prediction. Raises `LookupError` that lists the known ones."""
    return named("variant", number, {each.number: each for each in variants(number.partition(".")[0])})
