"""A reader's program as a check runs it: in fresh processes, as often as needed, with what it did as data.

Runs in the kernel; the program and the check's own harness run in a process of their own, with a deadline.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from lab_support.notebook.cells.cell_result import CellProcess, ProcessResult
from lab_support.notebook.cells.cell_words import Limits, ending, in_words, line_of
from lab_support.notebook.cells.python_process import LEFTOVER_GRACE, MOST_OUTPUT, MOST_PROCESSES, run_process
from lab_support.notebook.cells.stacks import Frame, stacks
from lab_support.signal_names import signal_name

SECONDS = 10.0
"""The deadline of one run. The programs of exercises take well under one second."""

_FILE, _HARNESS = "answer.py", "harness.py"
# Processes that the program spawns run the main script again, which must do nothing in them.
_RUN_HARNESS = f"""
if __name__ == "__main__":
    import os, runpy
    runpy.run_path(os.path.join(os.path.dirname(__file__), {_HARNESS!r}))
"""
_NO_ERROR = "the program does its work without an error"
FAILED = "your line failed with this error"
_UNTOLD = "it did not get as far as that"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The finding of a check. state: "passed", "failed", "unmeasured" (the machine could not tell), "untried".

    measured: what the processes did, in words. expected: only if it failed. cause: if it failed or is unmeasured.
    """

    state: str
    measured: str = ""
    expected: str = ""
    cause: str = ""


def passed(measured: str) -> Verdict:
    return Verdict("passed", measured)


def failed(measured: str, expected: str, cause: str) -> Verdict:
    return Verdict("failed", measured, expected, cause)


def could_not_be_measured(reason: str) -> Verdict:
    return Verdict("unmeasured", cause=reason)


UNTRIED = Verdict("untried")


class NoMeasurement(Exception):
    """The program gave nothing to judge. `verdict` says why."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.cause)
        self.verdict = verdict


class Attempt:
    """One program under judgement. A judge can look at what it did, but not at its text.

    processes: those of the last run; the first is the program or the harness itself.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self.processes: tuple[CellProcess, ...] = ()

    def run(self, *, inputs: Mapping[str, Any] | None = None, timeout: float = SECONDS) -> ProcessResult:
        """Run the program itself in a fresh process; it may end in any way."""
        return replace(self._run(self._source, {}, inputs, timeout), source="")

    def measure(
        self, harness: str, *, inputs: Mapping[str, Any] | None = None, timeout: float = SECONDS
    ) -> dict[str, Any]:
        """Run `harness` in a fresh process, where it can `import answer`, the reader's program; return its measurement.

        It reports by `emit(measured={…})`; the last such event counts. Raises `NoMeasurement` if there is none, with
        a verdict that says why.
        """
        result = self._run(_RUN_HARNESS, {_HARNESS: harness, _FILE: self._source}, inputs, timeout)
        for event in reversed(result.events):
            if isinstance(event.fields.get("measured"), dict):
                return event.fields["measured"]
        raise NoMeasurement(why_nothing(result, timeout, self._source))

    def _run(
        self, program: str, files: Mapping[str, str], inputs: Mapping[str, Any] | None, timeout: float
    ) -> ProcessResult:
        choices: dict[str, Any] = {"timeout": timeout, "inputs": inputs, "files": files}
        result = run_process(program, name="check" if files else "answer", expect="any", quiet=True, **choices)
        self.processes = result.processes
        return result


# ---- why there is nothing to judge -----------------------------------------------------------------------------------


def why_nothing(result: ProcessResult, timeout: float, source: str, file: str = _FILE) -> Verdict:
    """The verdict on a program that gave nothing to judge. file: its name, as tracebacks show it."""
    if result.ended in ("supervisor", "interrupt"):
        return could_not_be_measured("the check was ended from outside; run it again")
    if result.ended == "finished" or result.exit_code not in (0, None, -9):
        return _stopped(result, source, file)
    limits = Limits(timeout, LEFTOVER_GRACE, MOST_PROCESSES, MOST_OUTPUT)
    expected = f"the program does its work within {timeout:g} s, with few processes and little output"
    return failed(ending(result, limits), expected, _what_it_waits_for(result, source, file))


def _stopped(result: ProcessResult, source: str, file: str) -> Verdict:
    """The program ended by an error (a traceback has the innermost line last) or a signal (faulthandler: first)."""
    code = result.exit_code or 0
    said = result.output_of(result.processes[0].name, "err").strip() if result.processes else ""
    places = re.findall(rf'File "(?:tmp/)?{re.escape(file)}", line (\d+)', said)
    if code < 0:
        error, places = f"ended by signal {signal_name(code)}", places[:1]
    else:
        error = said.splitlines()[-1] if said else f"exit code {code}, {_UNTOLD}"
    where = f", in {line_in_words(int(places[-1]), source)}" if places else ""
    return failed(error, _NO_ERROR, _cause_of(error) or f"it stops there{where}")


def stopped_by(error: str, where: str = "") -> Verdict:
    """The verdict on a program of which a process stopped with `error`, the text that `in_child` returns then.

    where: the line, in words. Without it, a blank's own `mark` adds the lines that the reader filled.
    """
    return failed(error, _NO_ERROR, _cause_of(error) or FAILED + (f", in {where}" if where else ""))


def _cause_of(error: str) -> str:
    if found := re.search(r"module 'answer' has no attribute '(\w+)'", error):
        return f"the check calls `{found[1]}`, so the program has to keep a function of that name"
    if found := re.search(r"NameError: name '(\w+)' is not defined(?:. Did you mean: '(\w+)')?", error):
        slip = f"; or you mean `{found[2]}`" if found[2] else ""
        return f"`{found[1]}` is known in the notebook, perhaps, but not in a fresh process: import or define it{slip}"
    if re.search(r"(PermissionError|FileNotFoundError|ProcessLookupError): .*'/proc/\d+", error):
        return "a process may be another user's, or end while you look at it: go on to the next one at an `OSError`"
    return ""


def _what_it_waits_for(result: ProcessResult, source: str, file: str) -> str:
    """The first process that was waiting in a line of the reader's."""
    for process in result.processes:
        if process.wait and (frame := _own_frame(stacks(process.stack), file)):
            return f"{process.name} {in_words(process.wait, process.name)}, in {line_in_words(frame.line, source)}"
    return "something that it started did not end by itself"


def line_in_words(line: int, source: str, of: str = "your program") -> str:
    quoted = re.split(r" +# ", line_of(source, line))[0]
    return f"line {line} of {of}" + (f": `{quoted}`" if quoted else "")


def _own_frame(threads: list[list[Frame]], file: str) -> Frame | None:
    frames = (frame for thread in threads for frame in thread)
    return next((frame for frame in frames if frame.file.endswith(file)), None)
