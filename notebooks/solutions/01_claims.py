"""The claims of notebook 01, each with an experiment in which it is false."""

from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.blanks import blank, filled
from lab_support.notebook.moves.exercises import BrokenClaim, cell, changed, nothing_left

ONE_FILE, READING, HELD_LOCK = (cell("01", name) for name in ("one_file", "reading", "held_lock"))
MEMORY_ROWS = cell("01", "memory_rows")
OPENED_AGAIN, FREEZING, PREPARED, KERNEL_ROWS = (blank(f"01.b{number}").reference for number in range(1, 5))

# ---- one file, two readers

_OWN_PLACE = changed(
    ONE_FILE,
    "    emit(child=",
    "    os.dup2(os.open(file.name, os.O_RDONLY), file.fileno())\n    emit(child=",
)
_SAME_PLACE = filled(blank("01.b1").skeleton, ("file",))


def _moves(result: ProcessResult) -> bool:
    before, after = result.told["places"]
    return after > before


# ---- memory

_BY_LENGTH = changed(READING, "    for _ in data:\n        pass\n", "    len(data)\n")
_NUMBERS_AS_OBJECTS = changed(READING, 'array.array("d", range(7_500_000))', "[float(n) for n in range(1_500_000)]")
_FAULTS_OF_ANOTHER = changed(
    READING, "    before = look()\n", "    before = look()\n    held = bytearray(60_000_000)\n    del held\n"
)
_NEVER_FROZEN = filled(blank("01.b2").skeleton, ("gc.disable()",))
_ONE_OBJECT_THEN = filled(blank("01.b2").skeleton, ("gc.freeze(); data = [0] * 500_000",))


def _growth(kind: dict[str, Any]) -> float:
    return kind["end"] - kind["start"]


def _lists_and_no_array(result: ProcessResult) -> bool:
    lists, an_array = (result.by("kind")[kind] for kind in ("lists", "an array"))
    return _growth(lists) > 0.25 * lists["size"] and _growth(an_array) < 0.1 * an_array["size"]


def _faults_account(result: ProcessResult) -> bool:
    lists = result.by("kind")["lists"]
    return 0.7 < lists["faults"] * lists["page"] / 1e6 / max(_growth(lists), 0.001) < 1.5


def _saves_one_of_two(result: ProcessResult) -> bool:
    plain, frozen = result.by("when").values()
    return frozen["collect"] < 0.3 * plain["collect"] and frozen["read"] > 0.7 * plain["read"]


# ---- threads

_LET_GO_FIRST = changed(
    HELD_LOCK, "        forked.wait()\n        time.sleep(0.5)                       # it works a little longer\n", ""
)
_NEVER_LETS_GO = changed(HELD_LOCK, "forked.set()\n", "")
_TWO_THREADS_IN_CHILD = changed(
    HELD_LOCK,
    "if os.fork() == 0:\n",
    "if os.fork() == 0:\n    threading.Thread(target=threading.Event().wait, daemon=True).start()\n",
)
_WAITS_FOR_A_PIPE = changed(
    HELD_LOCK,
    '    with lock:\n        emit(moment="has the lock")',
    "    os.read(os.pipe()[0], 1)\n    with lock:\n        pass",
)
_NOT_PREPARED = filled(blank("01.b3").skeleton, ("print", "print", "print"))
_RENEWED_IN_CHILD = filled(blank("01.b3").skeleton, ("print", "print", "lock._at_fork_reinit"))


def _waits_although_free(result: ProcessResult) -> bool:
    moments = result.by("moment")
    return result.process("P1").killed and "has the lock" not in moments and "has let go" in moments


def _in_futex(result: ProcessResult) -> bool:
    wait = result.process("P1").wait
    return wait is not None and wait.threads == 1 and "futex" in wait.call


def _whole_in_child(result: ProcessResult) -> bool:
    return result.by("who").get("child", {}).get("found") == ["first half", "second half"]


# ---- copied, shared, lost, or new

_ROWS = (
    # row, how, the cell, and the edit that makes it otherwise
    (
        "a page of memory from mmap.mmap(-1, 4096)",
        "shared",
        MEMORY_ROWS,
        ("= mmap.mmap(-1, 4096)", "= mmap.mmap(-1, 4096, mmap.MAP_PRIVATE)"),
    ),
    (
        "the sequence of random.random()",
        "new",
        MEMORY_ROWS,
        ("in_child(random.random) ==", "in_child(lambda: random.seed(7) or random.random()) =="),
    ),
    (
        "the sequence of a random.Random(7)",
        "copied",
        MEMORY_ROWS,
        ("own = random.Random(7)", "own = random.SystemRandom(7)"),
    ),
    (
        "asyncio's running event loop",
        "lost",
        MEMORY_ROWS,
        ("in_child(lambda: str(asyncio.get_running_loop()))", "str(asyncio.get_running_loop())"),
    ),
    (
        "a handler set by signal.signal()",
        "copied",
        KERNEL_ROWS,
        (
            "signal.getsignal(signal.SIGALRM) is print)",
            "signal.signal(signal.SIGALRM, signal.SIG_DFL) and signal.getsignal(signal.SIGALRM) is print)",
        ),
    ),
    ("an alarm set by signal.alarm(60)", "lost", KERNEL_ROWS, ("in_child(lambda: signal.alarm(0))", "signal.alarm(0)")),
    (
        "a lock on a file, by fcntl.flock()",
        "shared",
        KERNEL_ROWS,
        (
            "in_child(lambda: lock(file, at_once))",
            'in_child(lambda: lock(open(f"/proc/self/fd/{file.fileno()}"), at_once))',
        ),
    ),
    (
        "a lock on a file, by fcntl.lockf()",
        "lost",
        KERNEL_ROWS,
        ("in_child(lambda: lock(file, at_once))", "lock(file, at_once)"),
    ),
    (
        "an epoll set that watches a pipe",
        "shared",
        KERNEL_ROWS,
        ("in_child(lambda: poll.unregister(reads))", "in_child(lambda: select.epoll().register(reads))"),
    ),
)


def _row_is(row: str, how: str) -> Any:
    return lambda result: result.by("row")[row]["child"] == how


BROKEN_CLAIMS = (
    BrokenClaim("A stopped child moves in the file when its parent reads", ONE_FILE, _OWN_PLACE, _moves),
    BrokenClaim(
        "Both descriptors lead to one open file description",
        ONE_FILE,
        _OWN_PLACE,
        lambda result: bool(result.told["same"]),
    ),
    BrokenClaim(
        "A child that opens the file itself does not move its parent",
        OPENED_AGAIN,
        _SAME_PLACE,
        lambda result: result.told["parent"] == "012",
    ),
    *(
        BrokenClaim(
            "Reading copies a large part of the lists, and next to nothing of the array",
            READING,
            broken,
            _lists_and_no_array,
        )
        for broken in (_BY_LENGTH, _NUMBERS_AS_OBJECTS)
    ),
    BrokenClaim("The kernel's page faults account for the growth", READING, _FAULTS_OF_ANOTHER, _faults_account),
    *(
        BrokenClaim(
            "The call saves what the collector would copy, and not what reading copies",
            FREEZING,
            broken,
            _saves_one_of_two,
        )
        for broken in (_NEVER_FROZEN, _ONE_OBJECT_THEN)
    ),
    *(
        BrokenClaim("The child waits to its end, although the thread lets go", HELD_LOCK, broken, _waits_although_free)
        for broken in (_LET_GO_FIRST, _NEVER_LETS_GO)
    ),
    *(
        BrokenClaim("The child has one thread, and it waits for a word in memory (futex)", HELD_LOCK, broken, _in_futex)
        for broken in (_TWO_THREADS_IN_CHILD, _WAITS_FOR_A_PIPE)
    ),
    *(
        BrokenClaim(
            "A lock that is taken around the fork can be used in the child, and what it protects is whole",
            PREPARED,
            broken,
            _whole_in_child,
        )
        for broken in (_NOT_PREPARED, _RENEWED_IN_CHILD)
    ),
    *(
        BrokenClaim(f"To a forked child, {row} is {how}", source, changed(source, *edit), _row_is(row, how))
        for row, how, source, edit in _ROWS
    ),
    nothing_left("Nothing that this notebook started is running", OPENED_AGAIN),
)
