"""Every notebook: how long a run takes, ten runs while both cores are busy, and Run All in JupyterLab.

`python -m tests.proofs.notebooks 01 --times 3` for some, or less.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lab_support.notebook.publishing import build
from tests.proofs import Row
from tests.proofs.pytests import run

TIMES = 10
PROMISED = 60.0  # seconds for all cells, on 2 cores


def names(only: Sequence[str] = ()) -> list[str]:
    """01, 01a, …: of all, or of those asked for."""
    found = [path.name.partition("_")[0] for path in build.find([])]
    return [name for name in found if not only or name in only]


def prove(only: Sequence[str] = (), times: int = TIMES) -> list[Row]:
    rows = [_alone(name) for name in names(only)]
    with _busy_cores():
        rows += [_under_load(name, times) for name in names(only)]
    chosen = " or ".join(f"{name}_" for name in names(only))
    return rows + run("Run All in JupyterLab: no error, a choice draws its figure", "tests/test_notebooks.py", "-k",
                      f"jupyterlab and ({chosen})")  # fmt: skip


def _alone(name: str) -> Row:
    seconds, failure = _execute(name)
    return Row(
        f"{name}: all cells run, in under {PROMISED:g} s",
        failure or f"{seconds:.0f} s",
        not failure and seconds < PROMISED,
    )


def _under_load(name: str, times: int) -> Row:
    failures = [failure for _, failure in (_execute(name) for _ in range(times)) if failure]
    told = f"{len(failures)} of {times}" + "".join(f"; {failure}" for failure in failures[:2])
    return Row(f"{name}: failed claims and errors in {times} runs with every core kept busy: 0", told, not failures)


def _execute(name: str) -> tuple[float, str]:
    """Seconds, and the last lines of what went wrong, or ""."""
    begun = time.monotonic()
    command = [sys.executable, "-m", "lab_support.notebook.publishing.build", "--try", f"{name}_"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    told = [line for line in done.stdout.splitlines() if line.strip()]
    print(f"  {name}: {time.monotonic() - begun:.0f} s, exit code {done.returncode}", file=sys.stderr, flush=True)
    return time.monotonic() - begun, " / ".join(told[-1:]) if done.returncode else ""


@contextmanager
def _busy_cores() -> Iterator[None]:
    """A process for each core that never rests; they end with the block."""
    spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("only", nargs="*", help="notebooks by number; all by default")
    parser.add_argument("--times", type=int, default=TIMES)
    given = parser.parse_args()
    for row in prove(given.only, given.times):
        print(row)
