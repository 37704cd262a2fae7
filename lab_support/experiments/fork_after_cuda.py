"""1. A parent makes a CUDA tensor; what happens when a child does the same?

Samples: `parent` (its first operation), `forked child` (guard, then the operation: type and text of the error),
`started child` (spawn and forkserver, with the time to their first operation), `parent afterwards`.
"""

import sys

from lab_support.experiments.child import in_forked_child, in_started_child
from lab_support.experiments.first_operation import first_operation, guard, guarded_operation
from lab_support.experiments.program import attempt, emit, start

REPEATS = 3


def main() -> int:
    options = start(__doc__ or "", repeats=REPEATS)
    device = options.device
    emit("parent", before=guard(), **attempt(lambda: first_operation(device)), after=guard())
    emit("forked child", asks="the guard", **in_forked_child(guard))
    emit("forked child", asks="first operation", **in_forked_child(lambda: first_operation(device)))
    for method in ("spawn", "forkserver"):
        for repeat in range(options.repeats):
            emit("started child", method=method, repeat=repeat, **in_started_child(method, guarded_operation, device))
    emit("parent afterwards", **attempt(lambda: first_operation(device)), after=guard())
    return 0


if __name__ == "__main__":
    sys.exit(main())
