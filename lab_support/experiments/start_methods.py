"""12. The cost of a child by start method: time until it can work, and memory, bare and with torch.

Needs no GPU: it runs on any Linux machine that has torch. Each method with each module is a case in a fresh process.
Cases run one after another, because two at once would measure each other, and the whole set `repeats` times, so that a
busy minute of the machine affects every method alike. started_child.py measures.
"""

import json
import os
import subprocess
import sys
import time

from lab_support.experiments.program import emit, start
from lab_support.experiments.started_child import METHODS

COUNTS = {"": (1, 2, 4, 8), "torch": (1, 2, 4)}
REPEATS = 5
LONGEST_ROUND = 60.0


def main() -> int:
    options = start(__doc__ or "", repeats=REPEATS)
    deadline = time.monotonic() + options.seconds
    for done in range(options.repeats):
        emit("machine", cores=len(os.sched_getaffinity(0)), load_average=os.getloadavg())
        if done and time.monotonic() + LONGEST_ROUND > deadline:
            emit("not run", rounds=options.repeats - done, reason="out of time")
            break
        for module, counts in COUNTS.items():
            for method in METHODS:
                one_case(method, module, counts)
    return 0


def one_case(method: str, module: str, counts: tuple[int, ...]) -> None:
    """Run one case. Raises `CalledProcessError`; the case's own errors stand above it."""
    # By -c, so that there is no main script, which each child would run again.
    program = (
        "import json; from lab_support.experiments.started_child import compare\n"
        f"for each in compare({counts!r}, 1, {module!r}, [{method!r}]): print(json.dumps(each), flush=True)"
    )
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True)
    for line in done.stdout.splitlines():
        emit("children", **json.loads(line))


if __name__ == "__main__":
    sys.exit(main())
