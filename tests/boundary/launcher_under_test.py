"""A launcher to be killed: `python -m tests.boundary.launcher_under_test METHOD WHAT…` starts children, prints pids."""

import sys
import tempfile

from lab_support.boundary.messages import Hello
from tests.boundary.conftest import CHILDREN_UNDER_TEST, family_of


def main() -> None:
    method, *whats = sys.argv[1:]
    with family_of(tempfile.gettempdir() + "/never-made") as (children, signals):
        for i, what in enumerate(whats):
            children.start(method, f"{what}-{i}", CHILDREN_UNDER_TEST, what)
        awaited = len(whats)
        for event in children.events(signals):
            awaited -= isinstance(getattr(event, "message", None), Hello)
            if not awaited:
                break
        print(*children.pids.values(), flush=True)
        next(children.events(signals))


if __name__ == "__main__":
    main()
