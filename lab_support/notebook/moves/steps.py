"""The five steps of the reader's server: `%%python_process --blank 07.s1 …`, a cell that is a part of `my_server.py`.

Runs in the kernel. The cell and the steps before it become one program, and a trial in a fresh process starts that and
looks at what it does (`stages/server_trial.py`). A cell that passes goes into the reader's `my_server.py`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.cells.magic import options_of
from lab_support.notebook.cells.python_process import run_process
from lab_support.notebook.moves.attempt import (
    FAILED,
    Verdict,
    line_in_words,
    stopped_by,
    why_nothing,
)
from lab_support.notebook.moves.blanks import Blank, blanks, filled
from lab_support.notebook.moves.composed import Part, compose
from lab_support.notebook.moves.exercises import as_program
from lab_support.notebook.page import own_server, record

_FILE = "my_server.py"
_CAN_BE_STARTED = 3
"""The first step whose launcher stays, and ends its children."""
_TRIAL = "trial"
"""The name of the program that tries it. Not the cell's: a line of the trial is none of the reader's."""
_DRIVER = """\
if __name__ == "__main__":
    import os
    from lab_support.notebook.script import emit
    from lab_support.notebook.stages import server_trial
    emit(measured=server_trial.{trial}(os.path.join(os.path.dirname(__file__), "my_server.py")))
"""
_FRAME = re.compile(r'File "[^"\n]*my_server\.py", line \d+, in .*\n +(.+)\n')
_ERROR = re.compile(r"^([\w.]*(?:[Ee]rror|Exception|Interrupt|Exit)\b.*)$", re.MULTILINE)
"""As a traceback ends: with the name of the error, and that of its module, such as zmq.error.Again."""


@dataclass(frozen=True, slots=True)
class Step(Blank):
    """A step's cell. number: 1 to 5; the function `step_NUMBER` of stages/server_trial.py tries the server.

    The judge gets the trial's result, whose last event is `measured`.
    """

    number: int = 0

    def run(self, source: str, options: dict[str, Any]) -> ProcessResult:
        if taken := _taken_from_the_reference(self.number):
            print(f"── {_in_words(taken)} from the reference here, because yours {_are(taken)} not there yet")
        return self._tried(source, {step: _own(step) for step in range(1, self.number)}, options)

    def solve(self, options: dict[str, Any]) -> ProcessResult:
        return self._tried(as_program(self.reference), {}, options | {"quiet": True})

    def found(self, result: ProcessResult, options: dict[str, Any]) -> str:
        return self.mark(result, options).measured

    def attempt(self, fillings: Sequence[str], run: Callable[..., ProcessResult] = run_process) -> Verdict:
        options = options_of(self.skeleton) | {"quiet": True}
        return self.mark(self._tried(as_program(filled(self.skeleton, fillings)), {}, options, run), options)

    def mark(self, result: ProcessResult, options: dict[str, Any]) -> Verdict:
        nothing = why_nothing(result, options["timeout"], result.source, f"{options['name']}.py")
        if nothing.state == "unmeasured":
            return nothing
        try:
            verdict = self.judge(result)
        except (LookupError, TypeError, ValueError):
            verdict = None
        if verdict and verdict.state == "passed":
            return verdict
        return _stopped_by_an_error(result) or verdict or nothing

    def keep(self, source: str) -> str:
        """Put the reader's step into `my_server.py`; in batch runs, nowhere."""
        if record.in_batch():
            return ""
        try:
            own_server.keep_step(self.number, source)
            aside = own_server.write(compose(parts_of_reader(self.number)))
        except OSError as error:
            return f"your step can't be kept in {own_server.path().name}: {error.strerror}"
        file = own_server.path().name
        kept = f"step {self.number} is in {file} now, beside your notebooks"
        start = f"; start it: `python {file}`" if self.number >= _CAN_BE_STARTED else ""
        taken = _taken_from_the_reference(self.number)
        labelled = f"; {_in_words(taken)} the reference's there" if taken else ""
        edited = f"; you had changed that file by hand: as you left it, it is {aside.name}" if aside else ""
        return kept + labelled + edited + start

    def _tried(
        self,
        source: str,
        own: Mapping[int, str | None],
        options: dict[str, Any],
        run: Callable[..., ProcessResult] = run_process,
    ) -> ProcessResult:
        """The trial of `source` as this step. own: the reader's earlier steps; where there is none, the reference."""
        parts = [_part(step, own.get(step)) for step in range(1, self.number)]
        try:
            program = compose([*parts, Part(own_server.heading(self.number), source)])
        except SyntaxError:
            return run(source, **options | {"expect": "any"})
        driver = _DRIVER.format(trial=f"step_{self.number}")
        result = run(driver, **options | {"name": _TRIAL, "expect": "any", "files": {_FILE: program}})
        return replace(result, name=options["name"], source=source)


def _stopped_by_an_error(result: ProcessResult) -> Verdict | None:
    """The first error of the reader's program, with its line in the cell; None if it had none."""
    said = result.output
    if not (frames := _FRAME.search(said)):
        return None
    error = _ERROR.search(said, frames.end())
    if error is None:
        return None
    quoted = _FRAME.findall(said[: error.start()])[-1].strip()
    verdict = stopped_by(error[1])
    if verdict.cause != FAILED:
        return verdict
    lines = [number for number, line in enumerate(result.source.splitlines(), 1) if line.strip() == quoted]
    where = line_in_words(lines[0], result.source, "this cell") if lines else f"my_server.py: `{quoted}`"
    return replace(verdict, cause=f"it stops there, in {where}")


# ---- the parts -------------------------------------------------------------------------------------------------------


def step(number: int) -> Blank:
    """The step of that number."""
    return next(each for notebook in ("07", "07a") for each in blanks(notebook) if each.name.endswith(f".s{number}"))


def parts_of_reader(last: int = own_server.STEPS) -> list[Part]:
    """The steps up to the last one that the reader has, at least to `last`; the reference where one is missing."""
    own = {number: _own(number) for number in range(1, own_server.STEPS + 1)}
    until = max([last, *(number for number in own if own[number] is not None)])
    return [_part(number, own[number]) for number in range(1, until + 1)]


def _own(number: int) -> str | None:
    """The reader's cell of that step; None if there is none, or if it is damaged."""
    kept = own_server.kept_step(number)
    try:
        compose([Part("", kept or "")])
    except SyntaxError:
        return None
    return kept


def reference_program(last: int = own_server.STEPS) -> str:
    """The reference server as it is after the step `last`."""
    return compose(
        [Part(own_server.heading(number), as_program(step(number).reference)) for number in range(1, last + 1)]
    )


def _part(number: int, own: str | None) -> Part:
    if own is not None:
        return Part(own_server.heading(number), own)
    whose = "" if record.in_batch() else own_server.REFERENCES
    return Part(own_server.heading(number, whose), as_program(step(number).reference))


def _taken_from_the_reference(number: int) -> list[int]:
    """The steps before this one that the reader has not got; in batch runs there is no reader."""
    if record.in_batch():
        return []
    return [earlier for earlier in range(1, number) if _own(earlier) is None]


def _in_words(numbers: list[int]) -> str:
    return f"step{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))} {_are(numbers)}"


def _are(numbers: list[int]) -> str:
    return "are" if len(numbers) > 1 else "is"


if __name__ == "__main__":
    own_server.REFERENCE.write_text(reference_program(), encoding="utf-8")
