"""12. What does a child cost, by start method: the time until it can work and its memory, bare and with torch.

Needs no GPU: it runs on any Linux machine that has torch. Each method with each module is a case, a fresh process;
one after the other, because two at once would measure each other; and all of them `repeats` times over, so that a
busy minute of the machine hits every method alike. What is measured is started_child.py's matter.
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
    """Raises `CalledProcessError`, with what the case said in its own errors above."""
    # By -c, so that there is no main script that each child would have to run again.
    program = (
        "import json; from lab_support.experiments.started_child import compare\n"
        f"for each in compare({counts!r}, 1, {module!r}, [{method!r}]): print(json.dumps(each), flush=True)"
    )
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True)
    for line in done.stdout.splitlines():
        emit("children", **json.loads(line))


if __name__ == "__main__":
    sys.exit(main())
