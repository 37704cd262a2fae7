"""12. What does a child cost, by start method: the time until it can work and its memory, bare and with torch.

Needs no GPU: it runs on any Linux machine that has torch. Each method with each module is a case, a fresh process;
one after the other, because two at once would measure each other; and all of them `repeats` times over, so that a
busy minute of the machine hits every method alike. What is measured is started_child.py's matter.
"""

import os
import subprocess
import sys
import time

from lab_support.experiments.program import emit, start
from lab_support.experiments.started_child import METHODS, compare

COUNTS = {"": (1, 2, 4, 8), "torch": (1, 2, 4)}
REPEATS = 5
LONGEST_ROUND = 60.0


def main() -> int:
    options = start(__doc__ or "", repeats=REPEATS)
    if options.case:
        return one_case(*options.case.split("/"))
    deadline = time.monotonic() + options.seconds
    codes = []
    for done in range(options.repeats):
        emit("machine", cores=len(os.sched_getaffinity(0)), load_average=os.getloadavg())
        if time.monotonic() + LONGEST_ROUND > deadline and done:
            emit("not run", rounds=options.repeats - done, reason="out of time")
            break
        codes += [_run(f"{method}/{module}") for module in COUNTS for method in METHODS]
    return max(codes)


def one_case(method: str, module: str) -> int:
    """Runs in a case's own process."""
    for sample in compare(COUNTS[module], 1, module, (method,)):
        emit("children", **sample)
    return 0


def _run(case: str) -> int:
    return subprocess.run([sys.executable, "-m", "lab_support.experiments.start_methods", "--case", case]).returncode


if __name__ == "__main__":
    sys.exit(main())
