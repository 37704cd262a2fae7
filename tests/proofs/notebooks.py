"""Every notebook: how long a run takes, ten runs while both cores are busy, and Run All in JupyterLab.

`python -m tests.proofs.notebooks 01 --times 3` for some, or less.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from lab_support.notebook.publishing import build
from tests.proofs import Row
from tests.proofs.ended import busy_cores, run_to_its_end
from tests.proofs.pytests import run

TIMES = 10
IN_JUPYTERLAB = ("tests/test_notebooks.py", "-k")
PROMISED = 60.0  # seconds for all cells, on 2 cores


def names(only: Sequence[str] = ()) -> list[str]:
    """01, 01a, …: of all, or of those asked for."""
    found = [path.name.partition("_")[0] for path in build.find([])]
    return [name for name in found if not only or name in only]


def prove(only: Sequence[str] = (), times: int = TIMES) -> list[Row]:
    rows = [row_of_one(name, execute(name)) for name in names(only)]
    with busy_cores():
        rows += [row_under_load(name, [execute(name).failure for _ in range(times)]) for name in names(only)]
    chosen = " or ".join(f"{name}_" for name in names(only))
    return rows + run("Run All in JupyterLab: no error, a choice draws its figure", *IN_JUPYTERLAB,
                      f"jupyterlab and ({chosen})")  # fmt: skip


def row_of_one(name: str, run: "Run") -> Row:
    return Row(
        f"{name}: all cells run, in under {PROMISED:g} s",
        run.failure or f"{run.seconds:.0f} s",
        not run.failure and run.seconds < PROMISED,
    )


def row_under_load(name: str, told: Sequence[str]) -> Row:
    """told: of each run, what went wrong, or ""."""
    failures = [failure for failure in told if failure]
    measured = f"{len(failures)} of {len(told)}" + "".join(f"; {failure}" for failure in failures[:2])
    asked = f"{name}: failed claims and errors in {len(told)} runs with every core kept busy: 0"
    return Row(asked, measured, not failures)


@dataclass(frozen=True)
class Run:
    """One run of a notebook. failure: the last line of what went wrong, or ""."""

    seconds: float
    failure: str


def execute(name: str, program: Sequence[str] = ()) -> Run:
    """Run all cells of a notebook. program: Python's words before those of the build."""
    build_words = ["-m", "lab_support.notebook.publishing.build", "--try", f"{name}_"]
    ended = run_to_its_end([sys.executable, *program, *build_words])
    told = [line for line in (ended.output or ended.errors).splitlines() if line.strip()]
    print(f"  {name}: {ended.seconds:.0f} s, exit code {ended.exit_code}", file=sys.stderr, flush=True)
    return Run(ended.seconds, " / ".join(told[-1:]) if ended.exit_code else "")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("only", nargs="*", help="notebooks by number; all by default")
    parser.add_argument("--times", type=int, default=TIMES)
    given = parser.parse_args()
    for row in prove(given.only, given.times):
        print(row)
