"""The matrix of fates: each role killed in each state, again and again, and what came of it: `experiments/fates`.

`python -m tests.proofs.fates --times 2 --others 0` for less.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

from lab_support.experiments.fates import fate as fates
from tests.proofs import Row

TIMES, TIMES_OTHERS = 20, 2
OTHERS = ("shared", "exclusive", "reuseport", "handoff")
SOON = 300.0  # ms within which a death is noticed, on an otherwise idle machine

ENDS = {"server": "ended", "left": 0}
GOES_ON = {"server": "goes on", "left": 0}
TOLD: Mapping[tuple[str, str], tuple[dict[str, Any], set[str]]] = {
    ("launcher", fates.STREAMING): (ENDS, {"cut off"}),
    ("launcher", fates.IDLE): (ENDS, {"refused"}),
    ("launcher", fates.STARTING): (ENDS, {"cut off"}),
    ("coordinator", fates.STREAMING): (ENDS, {"error event"}),
    ("coordinator", fates.IDLE): (ENDS, {"refused"}),
    ("coordinator", fates.STARTING): (ENDS, {"cut off"}),
    ("api-0", fates.STREAMING): (GOES_ON, {"cut off", "done"}),
    ("api-0", fates.IDLE): (GOES_ON, {"done"}),
    ("api-0", fates.STARTING): (ENDS, {"cut off"}),
    ("engine-0", fates.STREAMING): (ENDS, {"error event"}),
    ("engine-0", fates.IDLE): (ENDS, {"refused"}),
    ("engine-0", fates.STARTING): (ENDS, {"cut off"}),
}
"""By role and state: the server's fate, and how its clients' answers can end."""


def is_as_told(found: Mapping[str, Any]) -> bool:
    """Whether server and clients fared as the table says, and whoever noticed did so by the means that it should."""
    server, clients = TOLD[found["role"], found["state"]]
    means = {means for means, _ in found["noticed"].values()}
    by_themselves = found["role"] == "launcher"
    return (
        server.items() <= found.items()
        and found["clients"].keys() <= clients
        and bool(means)
        and means <= ({fates.EOF, fates.DEATH_SIGNAL} if by_themselves else {fates.END})
    )


def rows(accept: str, times: int) -> Iterator[Row]:
    for role, state in TOLD:
        found = [fates.fate(role, state, accept=accept) for _ in range(times)]
        for each in found:
            if not is_as_told(each):
                print(f"  {accept}: {each}", file=sys.stderr, flush=True)
        right = sum(map(is_as_told, found))
        latest = [max(ms for _, ms in each["noticed"].values()) for each in found if each["noticed"]]
        means = Counter(means for each in found for means, _ in each["noticed"].values())
        late = f"{median(latest):.0f} ms (at most {max(latest):.0f})" if latest else "never"
        told = ", ".join(f"{name} {count}" for name, count in means.items())
        yield Row(
            f"{role} killed while {state}, {accept}: {times} of {times} as told, noticed within {SOON:g} ms",
            f"{right} of {times}; {late}; {told}",
            right == times and bool(latest) and median(latest) <= SOON,
        )


def prove(times: int = TIMES, others: int = TIMES_OTHERS) -> list[Row]:
    found = [*rows("least-loaded", times)] if times else []
    for accept in OTHERS if others else ():
        found += rows(accept, others)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--times", type=int, default=TIMES)
    parser.add_argument("--others", type=int, default=TIMES_OTHERS)
    given = parser.parse_args()
    for row in prove(given.times, given.others):
        print(row, flush=True)
