"""Cells with blanks: `%%python_process --blank 01.b1 …`, in which the reader fills each `____`.

Runs in the kernel; the programs run in fresh processes. An unfilled or wrong blank fails no cell: the notebook goes on
with what the solution does on this machine, and says so. The blanks of a notebook are data: `solutions/NN_blanks.py`.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.cells.cell_words import line_of
from lab_support.notebook.cells.magic import options_of
from lab_support.notebook.cells.python_process import run_process
from lab_support.notebook.moves.answer_files import modules_of, named
from lab_support.notebook.moves.attempt import (
    FAILED,
    Verdict,
    could_not_be_measured,
    failed,
    line_in_words,
    passed,
    stopped_by,
    why_nothing,
)
from lab_support.notebook.moves.checks import BLANK, CheckResult, keep
from lab_support.notebook.moves.exercises import as_program, cell

__all__ = [
    "Blank", "Verdict", "WrongFilling", "blank", "blanks", "could_not_be_measured", "failed", "fill", "line_in_words",
    "passed", "stopped_by",
]  # fmt: skip

BLANK_NAME = re.compile(r"\d\d[a-z]?\.[bs]\d+")
"""07.s1 is a step of the reader's server (steps.py)."""
_OPEN = re.compile(r"(?<!\w)____(?!\w)")
_GOES_ON = "goes on with what the solution has done on this machine, in place of yours"
_SOLVED: dict[str, ProcessResult] = {}
"""This kernel's runs of solutions that passed, by program and options, so that a wrong filling waits for none."""


@dataclass(frozen=True, slots=True)
class WrongFilling:
    """A typical wrong filling. cause: the explanation that the judge must give. fillings: a text for each blank."""

    cause: str
    fillings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Blank:
    """One cell with one to three blanks.

    name: "01.b1". cell: the `--name` of the cell, which stands in the committed notebook. right, wrong: each has a text
    for every blank, in order; the first right one is the solution. hints: in order, the last one almost the answer.
    judge: says what the reader's very run did; None or a `LookupError` means that it did nothing that can be judged.
    """

    name: str
    cell: str
    task: str
    right: tuple[tuple[str, ...], ...]
    wrong: tuple[WrongFilling, ...]
    hints: tuple[str, ...]
    judge: Callable[[ProcessResult], Verdict | None]
    kind: str = BLANK

    @property
    def skeleton(self) -> str:
        """The cell as committed, with its first line. Raises `LookupError` if the notebook has none of that name."""
        return cell(self.name.partition(".")[0], self.cell)

    @property
    def reference(self) -> str:
        return filled(self.skeleton, self.right[0])

    @property
    def also_right(self) -> tuple[str, ...]:
        return tuple(filled(self.skeleton, fillings) for fillings in self.right[1:])

    def mark(self, result: ProcessResult, options: dict[str, Any]) -> Verdict:
        """The verdict on a run of the cell. options: those that it ran with."""
        nothing = why_nothing(result, options["timeout"], result.source, f"{options['name']}.py")
        if nothing.state == "unmeasured":
            return nothing
        try:
            verdict = self.judge(result)
        except (LookupError, AttributeError, TypeError, ValueError):
            verdict = None
        as_meant = str(options["expect"]) in ("any", result.outcome)
        if verdict is None or (verdict.state == "passed" and not as_meant):
            return nothing
        return self._with_its_line(verdict, result.source)

    def _with_its_line(self, verdict: Verdict, source: str) -> Verdict:
        """An error that was told without its line: `source` and the skeleton tell which lines the reader filled."""
        lines = " or in ".join(line_in_words(line, source) for line in _filled_lines(self.skeleton, source))
        if verdict.cause != FAILED or not lines:
            return verdict
        return replace(verdict, cause=f"{verdict.cause}, in {lines}")

    def run(self, source: str, options: dict[str, Any]) -> ProcessResult:
        """The result of the reader's cell; it may end in any way."""
        return run_process(source, **options | {"expect": "any"})

    def solve(self, options: dict[str, Any]) -> ProcessResult:
        """The solution's result, from a run of its own."""
        return run_process(as_program(self.reference), **options | {"quiet": True, "expect": "any"})

    def solved(self, options: dict[str, Any], *, again: bool = True) -> ProcessResult:
        """The solution's result. again: from a run of its own, even if this kernel keeps one that passed."""
        what = repr((self.reference, sorted(options.items())))
        if not again and what in _SOLVED:
            return _SOLVED[what]
        result = self.solve(options)
        if self.mark(result, options).state == "passed":
            _SOLVED[what] = result
        return result

    def found(self, result: ProcessResult, options: dict[str, Any]) -> str:
        """What the solution's result shows, in words for a reader who has not filled the blanks; "" to keep it back."""
        return ""

    def keep(self, source: str) -> str:
        """Called when the reader's cell has passed. Returns words for the reader, if there is something to say."""
        return ""

    def attempt(self, fillings: Sequence[str], run: Callable[..., ProcessResult] = run_process) -> Verdict:
        """The verdict on these fillings, in a fresh process and without a reader.

        run: takes the arguments of `run_process`.
        """
        options = options_of(self.skeleton)
        source = as_program(filled(self.skeleton, fillings))
        return self.mark(run(source, **options | {"quiet": True, "expect": "any"}), options)


def filled(source: str, fillings: Sequence[str]) -> str:
    """`source` with its blanks filled in, in order. Raises `ValueError` if there are more or fewer blanks."""
    parts = _OPEN.split(source)
    if len(parts) != len(fillings) + 1:
        raise ValueError(f"got {len(fillings)} fillings, expected {len(parts) - 1}, one for each blank")
    return "".join(part + filling for part, filling in zip(parts, (*fillings, ""), strict=True))


def _filled_lines(skeleton: str, source: str) -> list[int]:
    """The numbers of the lines of `source` that stand, filled, where those with a blank stand in `skeleton`."""
    pairs = zip(as_program(skeleton).splitlines(), source.splitlines(), strict=False)
    return [
        number
        for number, (open_line, line) in enumerate(pairs, 1)
        if (found := _OPEN.search(open_line)) and line.startswith(open_line[: found.start()])
    ]


def fill(name: str, source: str, options: dict[str, Any]) -> tuple[ProcessResult, CheckResult, bool]:
    """Run a cell with the blank `name` for a reader.

    Returns the result that the notebook goes on with, the verdict, and whether the verdict says nothing of the outcome.
    """
    task = blank(name)
    if open_lines := [line for line, text in enumerate(source.splitlines(), 1) if _OPEN.search(text)]:
        solution = task.solved(options)
        goes_on = ": ".join(filter(None, (_GOES_ON, task.found(solution, options))))
        return solution, CheckResult(name, task.kind, _to_do(source, open_lines), Verdict("untried"), goes_on), True
    result = task.run(source, options)
    verdict = task.mark(result, options)
    if verdict.state == "passed":
        return result, _kept(task, verdict, task.keep(source)), False
    solution = task.solved(options, again=False)
    control = task.mark(solution, options)
    if control.state != "passed":
        found = control.measured or control.cause
        verdict = could_not_be_measured(
            f"the solution itself does not pass on this machine just now ({found}); try again"
        )
    return solution, _kept(task, verdict, _GOES_ON), False


def _to_do(source: str, lines: Sequence[int]) -> str:
    return "fill the blank in " + "; and in ".join(f"line {line}: `{line_of(source, line)}`" for line in lines)


def _kept(task: Blank, verdict: Verdict, goes_on: str) -> CheckResult:
    keep(task.name, **asdict(verdict), outcome={"passed": True, "failed": False}.get(verdict.state))
    return CheckResult(task.name, task.kind, task.task, verdict, goes_on)


# ---- finding them ----------------------------------------------------------------------------------------------------


def blanks(number: str) -> tuple[Blank, ...]:
    """All blanks of the notebook `number`, such as "01" or "01a"."""
    return tuple(each for module in modules_of(number, "blanks") for each in getattr(module, "BLANKS", ()))


def blank(name: str) -> Blank:
    """The blank of that name, "01.b1". Raises `LookupError` that lists the known ones."""
    return named("blank", name, {each.name: each for each in blanks(name.partition(".")[0])})
