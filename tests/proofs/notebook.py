"""All proofs of one notebook: `python -m tests.prove notebook 01`. Stopped at any time, it goes on where it was.

It executes the notebook: alone, on busy cores, as an ordinary user without strace, and in JupyterLab; it tries every
right and wrong answer and filling, every variant, and every claim with its experiment and with the broken one. Each
single measurement is kept in `build/proofs/`, as long as the code that it depends on (kept/keys.py) stays the same.
What others have measured, and when, stands in `tests/proofs/recorded/`; it is used with `--recorded` alone.
"""

import argparse
import inspect
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nbformat

from lab_support.notebook.moves.again import Again, variants
from lab_support.notebook.moves.answer_files import SOLUTIONS
from lab_support.notebook.moves.attempt import Verdict
from lab_support.notebook.moves.blanks import Blank
from lab_support.notebook.moves.exercises import BrokenClaim, Exercise
from lab_support.notebook.publishing import build
from tests.notebook.moves import solution_trials
from tests.notebook.moves.solution_trials import Trial
from tests.proofs import Row, notebooks, pytests, solutions
from tests.proofs.ended import busy_cores, run_to_its_end
from tests.proofs.kept.keys import key_of, key_of_program, prints
from tests.proofs.kept.measurements import NONE, Kept
from tests.proofs.kept.recorded import record, recorded
from tests.proofs.kept.resumable import Proof, run

# ---- the proofs ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Counts:
    """How often each kind is measured."""

    runs: int = notebooks.TIMES
    answers: int = solutions.TIMES
    claims: int = solutions.TIMES_CLAIMS


def proofs_of(number: str, counts: Counts) -> list[Proof]:
    """All proofs of the notebook `number`, such as "01" or "01a"; those that fail most easily come first."""
    return [
        *_executions(number, counts),
        *(_trial(trial, counts.answers) for trial in solution_trials.trials([number])),
        *(_variant(variant, counts.answers) for variant in variants(number)),
        *_claims(number, counts.claims),
    ]


def _executions(number: str, counts: Counts) -> Iterator[Proof]:
    depends = (_cells(number), prints(sorted(SOLUTIONS.glob(f"{number}[_.]*py"))))

    def proof(name: str, measure: Callable[[int], Any], row: Callable[[list[Any]], Row], **more: Any) -> Proof:
        return Proof(name, key_of(name, *depends), more.pop("times", 1), measure, lambda found: [row(found)], **more)

    yield proof(
        f"{number} alone",
        lambda _: asdict(notebooks.execute(number)),
        lambda found: notebooks.row_of_one(number, notebooks.Run(**found[0])),
    )
    yield proof(
        f"{number} as an ordinary user",
        lambda _: asdict(notebooks.execute(number, ["-m", "tests.as_ordinary_user"])),
        lambda found: _row_of_ordinary_user(number, notebooks.Run(**found[0])),
    )
    if number.isdecimal():  # appendices have no test there
        yield proof(f"{number} in JupyterLab", lambda _: _in_jupyterlab(number), lambda found: Row(*found[0]))
    yield proof(
        f"{number} on busy cores",
        lambda _: notebooks.execute(number).failure,
        lambda found: notebooks.row_under_load(number, found),
        times=counts.runs,
        meanwhile=busy_cores,
    )


def _cells(number: str) -> str:
    """The code of the notebook, without its outputs and its text."""
    (path,) = build.find([f"{number}_"])
    return "\0".join(cell.source for cell in build.code_cells(nbformat.read(path, as_version=4)))


def _row_of_ordinary_user(number: str, run: notebooks.Run) -> Row:
    who = "an ordinary user" if os.geteuid() == 0 else "this user"
    return Row(
        f"{number}: all cells run as {who} without strace", run.failure or f"{run.seconds:.0f} s", not run.failure
    )


def _in_jupyterlab(number: str) -> tuple[str, str, bool]:
    command = pytests.command(*notebooks.IN_JUPYTERLAB, f"jupyterlab and {number}_")
    ended = run_to_its_end(["env", f"{pytests.FULL}=1", *command])
    measured = pytests.tally(ended.output, ended.exit_code)
    met = ended.exit_code == 0 and "passed" in measured
    return f"{number}: Run All in JupyterLab: no error, a choice draws its figure", measured, met


def _trial(trial: Trial, times: int) -> Proof:
    files = _files_of(trial.exercise)
    return Proof(
        trial.name,
        key_of_program(
            _texts(trial.exercise.skeleton, *files, _TRIALS), trial.name, trial.exercise.skeleton, prints(files)
        ),
        times,
        lambda _: asdict(_of_use(trial, _marked(trial))),
        lambda found: [solutions.row_of(trial, [Verdict(**each) for each in found])],
    )


_NO_ANSWERS = ("_claims", "_verdicts", "_again")
_TRIALS = Path(solution_trials.__file__)


def _files_of(exercise: Exercise | Blank) -> list[Path]:
    """The file that defines the exercise, or all of its notebook's where its judge comes from elsewhere."""
    number = exercise.name.partition(".")[0]
    files = [path for path in SOLUTIONS.glob(f"{number}[_.]*py") if not path.stem.endswith(_NO_ANSWERS)]
    judge = inspect.unwrap(exercise.judge)
    own = [path for path in files if inspect.isfunction(judge) and path == Path(judge.__code__.co_filename)]
    return own or sorted(files)


def _texts(*sources: str | Path) -> list[str]:
    return [source.read_text() if isinstance(source, Path) else source for source in sources]


def _marked(trial: Trial) -> Verdict:
    try:
        return trial.mark()
    except Exception as error:  # it is a finding too, and the other trials go on
        return Verdict("raised", cause=f"{type(error).__name__}: {error}")


def _of_use(trial: Trial, verdict: Verdict) -> Verdict:
    """Without the figures of a verdict that is as it should be: nobody reads them."""
    return Verdict(verdict.state, cause=verdict.cause) if trial.is_met_by(verdict) else verdict


def _variant(variant: Again, times: int) -> Proof:
    file = SOLUTIONS / f"{variant.number.partition('.')[0]}_again.py"
    programs = [variant.program(variant.given(seed)) for seed in range(1, 21)]
    return Proof(
        f"{variant.number} again",
        key_of_program([*programs, *_texts(file, _TRIALS)], variant.number, *programs, prints([file])),
        times,
        lambda index: _letter(variant, index + 1),
        lambda found: [_row_of_variant(variant, found)],
    )


def _letter(variant: Again, seed: int) -> str:
    """The option that the result of this seed supports; the words of an error, or "" for none."""
    given = variant.given(seed)
    try:
        letter = variant.letter(variant.find(variant.run(given), given).measured, given)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return letter if letter in variant.options(given) else ""


def _row_of_variant(variant: Again, letters: Sequence[str]) -> Row:
    supported = sum(len(letter) == 1 for letter in letters)
    by_letter = ", ".join(f"{letter or 'none'} {count}" for letter, count in sorted(Counter(letters).items()))
    asked = f"{variant.number} again: the results of {len(letters)} seeds support an option each"
    return Row(asked, f"{supported} of {len(letters)}: {by_letter}", supported == len(letters))


def _claims(number: str, times: int) -> Iterator[Proof]:
    """One proof for each program, because several claims look at one run, as in the notebook."""
    claims = [claim for _, claim in solution_trials.claims([number])]
    files = sorted(SOLUTIONS.glob(f"{number}_claims.py"))
    for source in dict.fromkeys(source for claim in claims for source in (claim.experiment, claim.broken)):
        using = [claim for claim in claims if source in (claim.experiment, claim.broken)]
        yield Proof(
            f"{number} claims: {using[0].words}",
            key_of_program([source, *_texts(*files, _TRIALS)], source, prints(files)),
            times,
            lambda _, using=using, source=source: _held(using, source),  # type: ignore[misc]
            lambda found, using=using, source=source: _rows_of_claims(number, using, source, found),  # type: ignore[misc]
        )


def _held(claims: Sequence[BrokenClaim], source: str) -> dict[str, bool | str]:
    """By the words of each claim: whether it holds in one run of `source`, or the words of an error."""
    try:
        result = solution_trials.result_of(claims[0], source)
    except Exception as error:
        return {claim.words: f"{type(error).__name__}: {error}" for claim in claims}
    return {claim.words: solutions.held(claim, result) for claim in claims}


def _rows_of_claims(
    number: str, claims: Sequence[BrokenClaim], source: str, found: list[dict[str, bool | str]]
) -> Iterator[Row]:
    for claim in claims:
        yield solutions.row_of_claim(number, claim, source, [each[claim.words] for each in found])


def main(words: list[str]) -> int:
    """`python -m tests.prove notebook NN`: the exit code of `run`, or 2 for an unknown number."""
    parser = argparse.ArgumentParser(prog="python -m tests.prove notebook", description=__doc__)
    parser.add_argument("number", help="01, or 01a for an appendix")
    parser.add_argument("--again", action="store_true", help="forget what is kept, and measure everything")
    parser.add_argument(
        "--recorded", action="store_true", help="do not repeat what tests/proofs/recorded has of the same code"
    )
    parser.add_argument("--record", action="store_true", help="write there what was measured")
    parser.add_argument("--runs", type=int, default=notebooks.TIMES, help="on busy cores (default: %(default)s)")
    parser.add_argument("--answers", type=int, default=solutions.TIMES, help="of each answer (default: %(default)s)")
    parser.add_argument(
        "--claims", type=int, default=solutions.TIMES_CLAIMS, help="of each claim (default: %(default)s)"
    )
    given = parser.parse_args(words)
    if given.number not in notebooks.names():
        print(f"got {given.number!r}, expected one of {', '.join(notebooks.names())}", file=sys.stderr)
        return 2
    counts = Counts(given.runs, given.answers, given.claims)
    proofs = proofs_of(given.number, counts)

    def at_end(kept: Kept) -> None:
        if given.record:
            found = ((proof.name, proof.key, kept.of(proof.key)) for proof in proofs)
            record(given.number, (each for each in found if each[-1]))

    before = recorded(given.number) if given.recorded else NONE
    return run(given.number, proofs, again=given.again, before=before, at_end=at_end)
