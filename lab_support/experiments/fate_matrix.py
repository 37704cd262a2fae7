"""16. Each kind of process killed in each state, and stopped: who notices, by what, when, and what do clients get?

Needs no GPU: the engine core is the stand-in that takes a recorded GPU's time (`--device paced:8B`). Two API servers,
two engine cores. One sample for each server; fate.py says what it holds. Servers run one after another, because two at
once would measure each other, and the whole set `repeats` times, so that a busy minute affects all alike.

By a stop (SIGSTOP) nothing ends: each role is stopped without a deadline and with one, and, because a stopped process
can hold connections that no sibling takes, an API server and the launcher also under the ways of accepting.
"""

import os
import signal
import sys
import time
from typing import Any

from lab_support.experiments.fates.fate import IDLE, ROLES, STATES, STREAMING, fate
from lab_support.experiments.program import emit, start

REPEATS, REPEATS_BY_ACCEPT = 5, 3
STOPPED = (("launcher", IDLE), ("coordinator", STREAMING), ("api-0", STREAMING), ("engine-0", STREAMING))
DEADLINES = (0.0, 2.0)
BY_ACCEPT = (
    *(("api-0", accept) for accept in ("least-loaded", "shared", "reuseport", "handoff")),
    ("launcher", "handoff"),
)
WATCH, LONG_WATCH = 2.0, 10.0
"""Seconds for which a process stays stopped if nobody notices: without a deadline, and with one."""
LONGEST = 15.0


def main() -> int:
    options = start(__doc__ or "", repeats=REPEATS, cells=0)
    deadline = time.monotonic() + options.seconds
    for done in range(options.repeats):
        emit("machine", cores=len(os.sched_getaffinity(0)), load_average=os.getloadavg())
        for cell in cells(done)[: options.cells or None]:
            if time.monotonic() + LONGEST > deadline:
                emit("not run", round=done, reason="out of time")
                return 0
            one(**cell)
    return 0


def cells(done: int) -> list[dict[str, Any]]:
    """The arguments of `fate` for each server of a round; `done`: rounds before it."""
    killed = [{"role": role, "state": state, "number": signal.SIGKILL} for role in ROLES for state in STATES]
    stopped = [
        {"role": role, "state": state, "liveness_timeout": limit, "watch": _watch(role, limit)}
        for role, state in STOPPED
        for limit in DEADLINES
    ]
    by_accept = [{"role": role, "state": IDLE, "accept": accept, "watch": WATCH} for role, accept in BY_ACCEPT]
    stops = stopped + (by_accept if done < REPEATS_BY_ACCEPT else [])
    return killed + [{"number": signal.SIGSTOP, **each} for each in stops]


def _watch(role: str, limit: float) -> float:
    """Nobody finds a stopped launcher, so there is no need to wait long for that."""
    return LONG_WATCH if limit and role != "launcher" else WATCH


def one(**cell: Any) -> None:
    """Run one server and write its sample. A server that could not be struck is one, too."""
    said = {"accept": cell.get("accept", ""), "deadline": cell.get("liveness_timeout", 0.0)}
    try:
        emit("fate", **said, **fate(**cell))
    except (LookupError, RuntimeError) as error:
        emit("no fate", **said, role=cell["role"], state=cell["state"], error=str(error))


if __name__ == "__main__":
    sys.exit(main())
