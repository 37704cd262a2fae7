"""The claims of appendix 04a, each with an experiment in which it is false."""

import shutil

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.blanks import blank
from lab_support.notebook.moves.exercises import BrokenClaim, cell, changed, nothing_left
from lab_support.notebook.moves.verdicts import broken_claim, judge_of

LOCKED, COUNTED, WATCHED, FULL, HASHED, NESTED, MIGRATED = (
    cell("04a", name) for name in ("locked", "counted", "watched", "full", "hashed", "nested", "migrated")
)
HOLDERS, SPOKEN = (blank(f"04a.b{number}").reference for number in (1, 2))

# ---- a lock of your own

_HERD_IN_ACCEPT = changed(LOCKED, "setblocking(True)", "settimeout(30)")
_WITHOUT_THE_LOCK = changed(LOCKED, "        with lock: ", "        if True: ")
_LOCK = "        lock = make_lock()\n"
_SEMAPHORE_FOR_ALL, _NO_LOCK_FOR_ALL = (
    changed(HOLDERS, _LOCK, f"        lock = {made}\n")
    for made in ("multiprocessing.Lock()", "contextlib.nullcontext()")
)

# ---- what can be counted

_NO_PAUSE = changed(COUNTED, "            time.sleep(pause)", "            pass")
_NOT_WATCHED = changed(WATCHED, "--strace ", "")
if not shutil.which("strace"):  # what strace does: it makes the winner late
    WATCHED = changed(
        _NOT_WATCHED,
        "import select\n",
        "import select, time\n",
        "        poll.poll()\n",
        "        poll.poll()\n        time.sleep(0.005)\n",
    )

# ---- a full queue

_LONG_FIRST = changed(FULL, "for backlog in (8, 512):", "for backlog in (512, 512):")
_LONGER_THAN_SAID = changed(FULL, "backlog=backlog) as workers", "backlog=8 * backlog) as workers")
_ROOM = changed(SPOKEN, "backlog=4", "backlog=64")
_NEVER_SPEAKS = changed(SPOKEN, "        if speaks:\n", "        if False:\n")

# ---- a hash, and sets

_MANY, _FEW = (
    changed(HASHED, "workers.connect(clients)", f"workers.connect({n})", "most=max(got.values())", scaled)
    for n, scaled in ((400, "most=max(got.values()) * clients / 400"), (8, "most=max(got.values()) * clients / 8"))
)
_DIRECT = changed(
    NESTED,
    "        outer.poll()\n        if inner.poll(0):\n            take(listening_socket)\n",
    "        inner.poll()\n        take(listening_socket)\n",
)
_ASLEEP_IN_ACCEPT = changed(
    NESTED,
    "    while True:\n        inherited.poll()\n        take(listening_socket)\n",
    "    listening_socket.setblocking(True)\n    while True:\n        take(listening_socket)\n",
)
_NOT_MIGRATED = changed(MIGRATED, "tcp_migrate_req=1", "tcp_migrate_req=0")


def _of_row(row: str, option: str, broken: str) -> BrokenClaim:
    def holds(result: ProcessResult) -> bool:
        return judge_of("04a.2").find(result).rows[row] == option

    return BrokenClaim(f"{row}: {option}", HOLDERS, broken, holds)


def _failed(result: ProcessResult) -> int:
    """In the last run of the cell."""
    return sum(row["accept() failed"] for row in result.measured["processes"])


_ALL, _NONE = "all are answered", "none has an answer after 2 seconds"

BROKEN_CLAIMS = (
    broken_claim("04a.1", "In the kernel's queue, a connection wakes one process", LOCKED, _HERD_IN_ACCEPT),
    broken_claim(
        "04a.1", "Behind a lock, it wakes two: one for the client, one for the lock", LOCKED, _WITHOUT_THE_LOCK
    ),
    _of_row("no lock, worker 1 hangs", _ALL, _SEMAPHORE_FOR_ALL),
    _of_row("no lock, worker 1 is killed", _ALL, _SEMAPHORE_FOR_ALL),
    _of_row("a semaphore, worker 1 hangs", _NONE, _NO_LOCK_FOR_ALL),
    _of_row("a semaphore, worker 1 is killed", _NONE, _NO_LOCK_FOR_ALL),
    _of_row("a lock on a file, worker 1 hangs", _NONE, _NO_LOCK_FOR_ALL),
    _of_row("a lock on a file, worker 1 is killed", _ALL, _SEMAPHORE_FOR_ALL),
    BrokenClaim(
        "With a pause before accept(), most losers fail in it", COUNTED, _NO_PAUSE, lambda result: _failed(result) > 150
    ),
    BrokenClaim(
        "Under strace, losers fail in accept() by the dozen",
        WATCHED,
        _NOT_WATCHED,
        lambda result: _failed(result) > 150,
    ),
    broken_claim("04a.4", "The queue holds at most its backlog and one", FULL, _LONGER_THAN_SAID),
    broken_claim(
        "04a.4", "With a backlog of 8, some have no answer after 3 seconds; with 512, all have", FULL, _LONG_FIRST
    ),
    broken_claim("04a.4", "For most of the first second, the queue is empty", FULL, _LONG_FIRST),
    broken_claim("04a.5", "Clients without an answer are in no queue", SPOKEN, _ROOM),
    broken_claim("04a.5", "For them the kernel had sent SYN cookies", SPOKEN, _ROOM),
    broken_claim("04a.5", "If they say a word, all get an answer", SPOKEN, _NEVER_SPEAKS),
    broken_claim("04a.hash", "Of eight clients, a hash gives one worker far more than an even share", HASHED, _MANY),
    broken_claim("04a.hash", "Of 400, it does not", HASHED, _FEW),
    broken_claim("04a.hash", "A draw by lot does no better", HASHED, _MANY),
    broken_claim("04a.6", "Within another set, EPOLLEXCLUSIVE wakes everybody", NESTED, _DIRECT),
    broken_claim("04a.6", "On one inherited set, about two are woken", NESTED, _ASLEEP_IN_ACCEPT),
    broken_claim(
        "04a.migrated", "With tcp_migrate_req, the dead worker's queue is served by others", MIGRATED, _NOT_MIGRATED
    ),
    nothing_left("No process of this appendix is left", LOCKED),
)
