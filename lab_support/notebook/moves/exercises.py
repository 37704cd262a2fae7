"""The exercises and broken claims of a notebook, as data: the vocabulary of `notebooks/solutions/`.

The solutions of a notebook are `NN.py`, or several files `NN_….py`; each has a tuple `EXERCISES` or `BROKEN_CLAIMS`, or
both; `NN_claims.py` has claims alone, and a check does not read it, because it may look into the notebook itself. They
are loaded by path from beside the notebooks, also for the reader's copies in workspace/, and run nothing when loaded.
"""

import ast
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.answer_files import SOLUTIONS, load
from lab_support.notebook.moves.attempt import (
    UNTRIED,
    Attempt,
    NoMeasurement,
    Verdict,
    could_not_be_measured,
    failed,
    passed,
)
from lab_support.notebook.page.committed import NOTEBOOKS

__all__ = [
    "UNTRIED",
    "Attempt",
    "BrokenClaim",
    "Exercise",
    "NoMeasurement",
    "Verdict",
    "Wrong",
    "as_program",
    "cell",
    "changed",
    "could_not_be_measured",
    "exercise",
    "failed",
    "nothing_left",
    "numbers",
    "on_recording",
    "passed",
    "solutions",
]

KINDS = ("must", "should", "could")
_OTHERS = ("_claims", "_verdicts", "_blanks", "_again")  # files without exercises, of which some read the notebook


@dataclass(frozen=True, slots=True)
class Wrong:
    """A typical wrong answer. cause: the explanation that the check must give."""

    cause: str
    source: str


@dataclass(frozen=True, slots=True)
class Exercise:
    """One cell that the reader fills in.

    name: "04.2". kind: "must" (change something), "should" (find and fix a bug), "could" (open). skeleton: the whole
    cell as it stands in the notebook. also_right: right answers written differently. hints: in order, the last one
    almost the answer. judge: runs an attempt and says what it found.
    """

    name: str
    kind: str
    task: str
    skeleton: str
    reference: str
    also_right: tuple[str, ...]
    wrong: tuple[Wrong, ...]
    hints: tuple[str, ...]
    judge: Callable[[Attempt], Verdict]

    def is_untouched(self, source: str) -> bool:
        """Whether `source` is the skeleton or one of its functions; changed comments and spaces are no attempt."""
        return _meaning(source) in {_meaning(self.skeleton), *map(_meaning, _definitions(self.skeleton))}

    def mark(self, source: str, own: str = "") -> Verdict:
        """Judge the program `source` in fresh processes. own: the part that the reader wrote, if not all.

        A failure counts only if the reference then passes: if it fails too, the machine is at fault.
        """
        if self.is_untouched(own or source):
            return UNTRIED
        verdict = self._judge(source)
        if verdict.state != "failed":
            return verdict
        control = self._judge(self.reference)
        return verdict if control.state == "passed" else _machine_at_fault(control)

    def _judge(self, source: str) -> Verdict:
        try:
            return self.judge(Attempt(as_program(source)))
        except NoMeasurement as nothing:
            return nothing.verdict
        except OSError as error:
            return could_not_be_measured(f"this machine would not run it: {error}")
        except (LookupError, TypeError, ValueError) as error:
            # An error of the judge itself must not fail a reader's cell. The tests of the solutions see "unmeasured".
            return could_not_be_measured(f"the check met something that it does not know: {error!r}")


def _machine_at_fault(control: Verdict) -> Verdict:
    found = control.measured or control.cause
    return could_not_be_measured(f"the solution itself does not pass on this machine just now ({found}); try again")


@dataclass(frozen=True, slots=True)
class BrokenClaim:
    """A claim of the notebook, and an experiment in which it is false.

    words: the claim's own. experiment, broken: programs, the first as in the notebook, the second with the effect
    removed. holds: says whether the claim is true of a program's result. seconds: the deadline of each program.
    """

    words: str
    experiment: str
    broken: str
    holds: Callable[[ProcessResult], bool]
    seconds: float = 60.0


def nothing_left(words: str, experiment: str) -> BrokenClaim:
    """The last claim of a notebook, that none of its processes still runs. Broken: one process is not ended."""
    return BrokenClaim(words, experiment, _ONE_LEFT, lambda result: not result.told.get("running"))


_ONE_LEFT = """\
import subprocess
from lab_support.instruments import proc
from lab_support.notebook.script import emit
child = subprocess.Popen(["sleep", "60"])
emit(running=proc.read_process(child.pid) is not None)
child.kill()
child.wait()
"""


def on_recording(words: str, experiment: str, finding: str, *edits: str, module: str = "cuda_findings") -> BrokenClaim:
    """A claim about the recording of `experiment`: `finding`, a function of recordings/cuda_findings.py or of another
    module there, is true of it.

    Broken: the same recording with its text changed. edits: old and new text in turn, replaced everywhere.
    """
    pairs = list(zip(edits[::2], edits[1::2], strict=True))
    as_it_is, otherwise = (
        _ON_RECORDING.format(name=experiment, module=module, finding=finding, edits=each) for each in ([], pairs)
    )
    return BrokenClaim(words, as_it_is, otherwise, lambda result: bool(result.told["holds"]))


_ON_RECORDING = """\
from lab_support.instruments.record import recordings
from lab_support.notebook.recordings import {module}
from lab_support.notebook.script import emit
text = (recordings.FOLDER / "{name}.json").read_text()
for old, new in {edits!r}:
    assert old in text, f"not in the recording: {{old}}"
    text = text.replace(old, new)
emit(holds={module}.{finding}(recordings.from_json(text)))
"""


def as_program(cell: str) -> str:
    """A cell as a Python program; its magic's line stays as a comment, so that line numbers are the cell's."""
    return f"# {cell}" if cell.startswith("%%") else cell


def changed(source: str, *edits: str) -> str:
    """`source` with `edits` made: old and new text in turn. Each old text must occur exactly once."""
    for old, new in zip(edits[::2], edits[1::2], strict=True):
        if source.count(old) != 1:
            raise ValueError(f"changed: got {old!r} {source.count(old)} times, expected it once in:\n{source}")
        source = source.replace(old, new)
    return source


def cell(number: str, name: str) -> str:
    """The `%%python_process` cell of the notebook `number` with `--name NAME`, unchanged, with its first line.

    So a claim is tried on the very program that the reader runs. Raises `LookupError`.
    """
    for path in sorted(NOTEBOOKS.glob(f"{number}_*.ipynb")):
        for each in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            source = "".join(each["source"])
            first = source.partition("\n")[0]
            if first.startswith("%%python_process") and f"--name {name} " in f"{first} ":
                return source if source.endswith("\n") else source + "\n"
    raise LookupError(f"got cell {name!r} of notebook {number!r}, expected a %%python_process cell with that --name")


def _meaning(source: str) -> str:
    try:
        return ast.dump(ast.parse(as_program(source)))
    except SyntaxError:
        return source.strip()


def _definitions(source: str) -> list[str]:
    tree = ast.parse(as_program(source))
    return [ast.unparse(node) for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]


# ---- finding them ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Solutions:
    """The exercises and broken claims of one notebook."""

    exercises: tuple[Exercise, ...]
    broken_claims: tuple[BrokenClaim, ...]


def numbers() -> list[str]:
    """The numbers of the notebooks that have solutions."""
    return sorted({path.stem.partition("_")[0] for path in SOLUTIONS.glob("[0-9]*.py")})


def solutions(number: str) -> Solutions:
    """The solutions of the notebook `number`, such as "00", read afresh. Raises `LookupError`."""
    modules = [load(path) for path in _files(number)]
    claims = [each for module in modules for each in getattr(module, "BROKEN_CLAIMS", ())]
    return Solutions(_exercises_in(modules), tuple(claims))


def _files(number: str) -> list[Path]:
    paths = sorted([*SOLUTIONS.glob(f"{number}.py"), *SOLUTIONS.glob(f"{number}_*.py")])
    if not number or not paths:
        raise LookupError(f"got notebook {number!r}, expected one with exercises: {', '.join(numbers())}")
    return paths


def _exercises_in(modules: list[ModuleType]) -> tuple[Exercise, ...]:
    exercises = [each for module in modules for each in getattr(module, "EXERCISES", ())]
    return tuple(sorted(exercises, key=lambda each: each.name))


def exercise(name: str) -> Exercise:
    """The exercise of that name, "04.2". Raises `LookupError` that lists the known ones."""
    number, dot, _ = name.partition(".")
    if not dot:
        raise LookupError(f'got exercise {name!r}, expected notebook and number, such as "00.1"')
    found = _exercises_in([load(path) for path in _files(number) if not path.stem.endswith(_OTHERS)])
    for each in found:
        if each.name == name:
            return each
    raise LookupError(f"got exercise {name!r}, expected one of {', '.join(each.name for each in found)}")
