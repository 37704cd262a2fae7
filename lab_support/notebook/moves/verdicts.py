"""`lab.verdict("01.1", result)`: one call that judges a prediction, draws the finding and tests the claims about it.

Runs in the kernel. Everything it shows waits for the prediction. How a verdict is reached stands beside the notebooks,
in `solutions/NN_verdicts.py`, so that no cell of a notebook shows the answer key.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from IPython import get_ipython
from IPython.display import display

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves import claims
from lab_support.notebook.moves.answer_files import modules_of, named
from lab_support.notebook.moves.claims import Claim
from lab_support.notebook.moves.exercises import BrokenClaim
from lab_support.notebook.page import record
from lab_support.notebook.page.fill_in import filled_in
from lab_support.notebook.page.gate import Gated, bundle_of, with_note
from lab_support.notebook.page.predictions import Comparison
from lab_support.notebook.page.tables import Table
from lab_support.notebook.page.views import View, escaped

__all__ = ["Claim", "Found", "Judge", "broken_claim", "judge_of", "judges", "verdict"]

_PREDICTION = re.compile(r"\d\d[a-z]?\.\d+(#\d+)?")


@dataclass(frozen=True, slots=True)
class Found:
    """The finding of an experiment.

    measured: plain data, from which the letter is computed. shown: the thing to show, or a function without arguments
    that draws it. claims: shown below it. shares: for a sketch, in the order of its bars. rows: for a table, the option
    of each row, by its text. seen: for each row, the words or figure that it was judged by. frame: turns that table
    into the thing that is shown, such as one under the line that names a recording. untestable: why no row can be told
    on this machine; then `shown` is shown instead.
    """

    measured: Any = None
    shown: Any = None
    claims: tuple[Claim, ...] = ()
    shares: tuple[float, ...] = ()
    rows: Mapping[str, str] = field(default_factory=dict)
    seen: Mapping[str, object] = field(default_factory=dict)
    frame: Callable[[Table], Any] = lambda table: table
    untestable: str = ""


@dataclass(frozen=True, slots=True)
class Judge:
    """The way to the verdict on one prediction.

    number: the prediction's, or another name for cells that only draw. find: makes a `Found` of the results that
    `lab.verdict` was given. letter: the option that `Found.measured` supports, "" for none. reached: for each option, a
    measurement that supports it; a test tries each. expected, row_words: for a table, the option of each row that
    the text relies on, and the words of its claim, such as "To a forked child, {row} is {option}".
    """

    number: str
    find: Callable[..., Found]
    letter: Callable[[Any], str] | None = None
    reached: Mapping[str, Any] = field(default_factory=dict)
    expected: Mapping[str, str] = field(default_factory=dict)
    row_words: str = ""

    def row_claims(self, found: Mapping[str, str], untestable: str = "") -> list[Claim]:
        """A claim for each row: that it was found as the text says. untestable: why none can be told."""
        return [
            Claim(
                self.row_words.format(row=row, option=option),
                found.get(row) == option,
                found.get(row, "nothing"),
                untestable,
            )
            for row, option in self.expected.items()
        ]


def verdict(number: str, *results: Any) -> None:
    """Judge prediction `number` by `results`, those of its cells; show the finding and the claims once it is settled.

    If the reader has changed a cell so that its result lacks what the verdict needs, it says so. Raises `LookupError`
    for an unknown number, and `ClaimFailed` as `lab.claim` does.
    """
    judge = judge_of(number)
    try:
        found = judge.find(*results)
    except (LookupError, AttributeError, TypeError, ValueError) as error:
        if record.in_batch():
            raise
        _say(f"No verdict on {number}: the cell's result lacks what it needs ({type(error).__name__}: {error}). "
             "If you have changed the cell, undo that, run it and this one again.")  # fmt: skip
        return
    show(number, judge, found)


def show(number: str, judge: Judge, found: Found) -> None:
    """Show a finding and its claims, as soon as prediction `number` is settled. Raises `ClaimFailed`."""
    prediction = number if _PREDICTION.fullmatch(number) else ""
    rows = judge.row_claims(found.rows, found.untestable)
    if prediction:
        display(_gated(number, judge, found, rows))
    elif found.shown is not None:
        display(_drawn(found))
    claims.make(rows, prediction, shown=False)
    claims.make(found.claims, prediction)


def _gated(number: str, judge: Judge, found: Found, rows: list[Claim]) -> Gated:
    if found.rows:
        signs = {row: each.sign for row, each in zip(judge.expected, rows, strict=True)}
        return filled_in(number, found.rows, found.seen, signs=signs, frame=found.frame)
    letter = judge.letter(found.measured) if judge.letter else ""
    if isinstance(found.shown, Gated):  # a figure that draws the prediction itself
        found.shown.support(letter)
        return found.shown

    def draw(comparison: Comparison) -> Any:
        return with_note(_drawn(found), comparison.words) if found.shown is not None else _only_words(comparison)

    return Gated(number, draw, letter, found.shares)


def _drawn(found: Found) -> Any:
    return found.shown() if callable(found.shown) else found.shown


def _only_words(comparison: Comparison) -> View:
    return View(comparison.words, f"<p>{escaped(comparison.words)}</p>")


def _say(words: str) -> None:
    if get_ipython() is None:
        print(words)
    else:
        display(bundle_of(View(words, f"<p>{escaped(words)}</p>"))[0], raw=True)


# ---- finding them ----------------------------------------------------------------------------------------------------


def judges(number: str) -> tuple[Judge, ...]:
    """All judges of the notebook `number`, such as "01" or "01a"."""
    found = [each for module in modules_of(number, "verdicts") for each in getattr(module, "JUDGES", ())]
    return tuple(found)


def judge_of(number: str) -> Judge:
    """The judge of that number. Raises `LookupError` that lists the known ones."""
    return named("verdict", number, {each.number: each for each in judges(number.partition(".")[0])})


class CannotTell(Exception):
    """The claim can neither hold nor fail on this run. The text says why."""


def broken_claim(
    number: str,
    words: str,
    experiment: str,
    broken: str,
    *,
    given: Callable[[ProcessResult], Iterable[Any]] = lambda result: [result],
) -> BrokenClaim:
    """The claim `words` of verdict `number`, and an experiment in which the verdict itself finds it false.

    given: what the verdict is given, from the program's result. Where a cell of the kernel measures, the program emits
    that cell's variables.
    """

    def holds(result: ProcessResult) -> bool:
        claims = judge_of(number).find(*given(result)).claims
        found = next(each for each in claims if each.words == words)
        if found.untestable:
            raise CannotTell(found.untestable)
        return bool(found.holds)

    return BrokenClaim(words, experiment, broken, holds)


def broken_rows(number: str, experiment: str, broken: str) -> Iterator[BrokenClaim]:
    """For each row of a table, its claim, and an experiment in which the row comes out otherwise."""
    judge = judge_of(number)
    for row, option in judge.expected.items():
        words = judge.row_words.format(row=row, option=option)
        yield BrokenClaim(words, experiment, broken, partial(_has, number, row, option))


def _has(number: str, row: str, option: str, result: ProcessResult) -> bool:
    return judge_of(number).find(result).rows[row] == option
