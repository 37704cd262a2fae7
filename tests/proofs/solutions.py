"""Every answer of every exercise, 20 times: right ones pass 20 of 20, wrong ones 0 of 20; and so with the claims.

`python -m tests.proofs.solutions 00.2 --times 3` for one exercise, or less.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.attempt import Verdict
from lab_support.notebook.moves.exercises import BrokenClaim
from tests.notebook.moves import solution_trials
from tests.notebook.moves.solution_trials import Trial
from tests.proofs import Row

TIMES, TIMES_CLAIMS = 20, 5


def row_of(trial: Trial, verdicts: Sequence[Verdict]) -> Row:
    """Passed how often; and of wrong ones and the skeleton, whether each time for the reason that it should."""
    times = len(verdicts)
    passed = sum(verdict.state == "passed" for verdict in verdicts)
    as_meant = sum(trial.is_met_by(verdict) for verdict in verdicts)
    wanted = times if trial.state == "passed" else 0
    for verdict in verdicts:
        if not trial.is_met_by(verdict):
            print(f"  {trial.name}: {verdict}", file=sys.stderr, flush=True)
    why = {"failed": ", with its cause", "untried": ', "not attempted yet"'}.get(trial.state, "")
    asked = f"{trial.name}: passes {wanted} of {times}{why}"
    return Row(asked, f"{passed} of {times}, as meant {as_meant}", as_meant == times)


def rows_of_claims(times: int) -> Iterable[Row]:
    """Several claims look at one run of one program, as in the notebook."""
    claims = solution_trials.claims()
    sources = {source: claim for _, claim in claims for source in (claim.experiment, claim.broken)}
    results = {
        source: [solution_trials.result_of(claim, source) for _ in range(times)] for source, claim in sources.items()
    }
    for number, claim in claims:
        for source in (claim.experiment, claim.broken):
            yield row_of_claim(number, claim, source, [held(claim, result) for result in results[source]])


def held(claim: BrokenClaim, result: ProcessResult) -> bool | str:
    """Whether the claim holds of a result; the words of an error, or why that can't be told."""
    try:
        return bool(claim.holds(result))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def row_of_claim(number: str, claim: BrokenClaim, source: str, held: Sequence[object]) -> Row:
    """held: of each run of the claim's experiment, or of its broken one, True or False, or the words of an error."""
    broken = source == claim.broken
    wanted = 0 if broken else len(held)
    errors = "".join(f"; {each}" for each in held if not isinstance(each, bool))
    asked = f"{number} “{claim.words}”: {'broken, ' * broken}holds {wanted} of {len(held)}"
    return Row(
        asked, f"{held.count(True)} of {len(held)}{errors}", all(each is not broken for each in held) and not errors
    )


def rows_of_exercises(times: int, only: Sequence[str] = ()) -> Iterable[Row]:
    for trial in solution_trials.trials():
        if not only or trial.exercise.name in only:
            row = row_of(trial, [trial.mark() for _ in range(times)])
            print(f"  {row.asked}: {row.measured}", file=sys.stderr, flush=True)
            yield row


def prove(times: int = TIMES, times_claims: int = TIMES_CLAIMS) -> list[Row]:
    return [*rows_of_exercises(times), *rows_of_claims(times_claims)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("only", nargs="*", help="exercises by name; all, and the claims, by default")
    parser.add_argument("--times", type=int, default=TIMES)
    given = parser.parse_args()
    rows = [*rows_of_exercises(given.times, given.only)] if given.only else prove(given.times, given.times)
    for row in rows:
        print(row)
