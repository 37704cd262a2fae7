"""3. Fork first, touch CUDA afterwards, in the child: does it work, and which process may still fork then?

Samples: `clean parent`, `forked child` (of the clean parent, twice), `parent` (its own first operation, later),
`forked child after that` (for contrast).
"""

import sys

from lab_support.experiments.child import in_forked_child
from lab_support.experiments.first_operation import first_operation, guard, guarded_operation
from lab_support.experiments.program import attempt, emit, start


def main() -> int:
    options = start(__doc__ or "")
    device = options.device
    emit("clean parent", **guard())
    for repeat in range(2):
        emit("forked child", repeat=repeat, **in_forked_child(lambda: guarded_operation(device), 30))
    emit("parent", **attempt(lambda: guarded_operation(device)))
    emit("forked child after that", **in_forked_child(lambda: first_operation(device)))
    emit("parent afterwards", **attempt(lambda: first_operation(device)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
