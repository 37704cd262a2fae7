"""The claims of notebook 01, each with an experiment in which it is false."""

from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.blanks import blank, filled
from lab_support.notebook.moves.exercises import BrokenClaim, cell, changed, nothing_left

TWICE, ONE_FILE = cell("01", "twice"), cell("01", "one_file")
OPENED_AGAIN = blank("01.b1").reference
READING, FREEZING = cell("01", "reading"), cell("01", "freezing")
HELD_LOCK, PREPARED = cell("01", "held_lock"), cell("01", "prepared")
MEMORY_ROWS, KERNEL_ROWS = cell("01", "memory_rows"), cell("01", "kernel_rows")

# ---- one file, two readers

_FLUSHED = changed(TWICE, 'print("hello")\n', 'print("hello", flush=True)\n')
_OWN_PLACE = changed(
    ONE_FILE,
    '    emit(reader="child"',
    '    os.dup2(os.open(file.name, os.O_RDONLY), file.fileno())\n    emit(reader="child"',
)
_SAME_PLACE = filled(blank("01.b1").skeleton, ("file",))


def _told(result: ProcessResult) -> list[dict[str, Any]]:
    return [event.fields for event in result.events if "xray" not in event.fields]


# ---- memory

_WRITTEN_FIRST = changed(READING, "    before = look()\n", "    for _ in data:\n        pass\n    before = look()\n")
_NUMBERS_AS_OBJECTS = changed(READING, 'array.array("d", range(7_500_000))', "[float(n) for n in range(1_500_000)]")
_BY_LENGTH = changed(READING, "    for _ in data:\n        pass\n", "    len(data)\n")
_COUNTED_IN_FULL = changed(READING, "memory.uss / 1e6, memory.rss / 1e6", "memory.uss / 1e6, memory.uss / 1e6")
_FAULTS_OF_ANOTHER = changed(
    READING, "    before = look()\n", "    before = look()\n    held = bytearray(60_000_000)\n    del held\n"
)
_NEVER_FROZEN = changed(FREEZING, "    gc.freeze()\n", "")
_ONE_OBJECT_THEN = changed(FREEZING, "    gc.freeze()\n", "    gc.freeze()\n    data = [0] * 500_000\n")


def _kind(result: ProcessResult, kind: str) -> dict[str, Any]:
    return next(fields for fields in _told(result) if fields["kind"] == kind)


def _growth(result: ProcessResult, kind: str = "lists") -> float:
    found = _kind(result, kind)
    return found["end"] - found["start"]


def _part(result: ProcessResult, kind: str = "lists") -> float:
    return _growth(result, kind) / _kind(result, kind)["size"]


def _frozen_to_plain(result: ProcessResult, what: str) -> float:
    plain, frozen = _told(result)
    return frozen[what] / max(plain[what], 0.001)


# ---- threads

_LET_GO_FIRST = changed(HELD_LOCK, "        forked.wait()\n", "")
_NEVER_LETS_GO = changed(HELD_LOCK, "forked.set()\n", "")
_TWO_THREADS_IN_CHILD = changed(
    HELD_LOCK,
    "if os.fork() == 0:\n",
    "if os.fork() == 0:\n    threading.Thread(target=threading.Event().wait, daemon=True).start()\n",
)
_WAITS_FOR_A_PIPE = changed(
    HELD_LOCK, "    with lock:\n        print", "    os.read(os.pipe()[0], 1)\n    with lock:\n        print"
)
_NOT_PREPARED = changed(
    PREPARED,
    "--timeout 10",
    "--timeout 2 --expect any",
    "os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)\n",
    "",
)


def _child_waits(result: ProcessResult) -> bool:
    return result.process("P1").killed and "the child has the lock" not in result.output


def _wait(result: ProcessResult) -> Any:
    """What the child waited for; it is None where it did not."""
    return result.process("P1").wait


# ---- copied, shared, lost, or new

_ROWS = (
    # row, how, the cell, and the edit that makes it otherwise
    ("a variable", "copied", MEMORY_ROWS, ("in_child(lambda: numbers.append(1))", "numbers.append(1)")),
    ("memory mapped as shared", "shared", MEMORY_ROWS, ("mmap.mmap(-1, 1)", "mmap.mmap(-1, 1, mmap.MAP_PRIVATE)")),
    (
        "the module random",
        "new",
        MEMORY_ROWS,
        ("in_child(random.random) ==", "in_child(lambda: random.seed(7) or random.random()) =="),
    ),
    ("a random.Random(7)", "copied", MEMORY_ROWS, ("own = random.Random(7)", "own = random.SystemRandom(7)")),
    (
        "the running event loop",
        "lost",
        MEMORY_ROWS,
        ("in_child(lambda: str(asyncio.get_running_loop()))", "str(asyncio.get_running_loop())"),
    ),
    (
        "a signal handler",
        "copied",
        KERNEL_ROWS,
        (
            "signal.getsignal(signal.SIGALRM) is print)",
            "signal.signal(signal.SIGALRM, signal.SIG_DFL) and signal.getsignal(signal.SIGALRM) is print)",
        ),
    ),
    ("an alarm that is set", "lost", KERNEL_ROWS, ("in_child(lambda: signal.alarm(0))", "signal.alarm(0)")),
    (
        "a lock by flock",
        "shared",
        KERNEL_ROWS,
        (
            "in_child(lambda: lock(file, at_once))",
            'in_child(lambda: lock(open(f"/proc/self/fd/{file.fileno()}"), at_once))',
        ),
    ),
    ("a lock by lockf", "lost", KERNEL_ROWS, ("in_child(lambda: lock(file, at_once))", "lock(file, at_once)")),
    (
        "an epoll set",
        "shared",
        KERNEL_ROWS,
        ("in_child(lambda: poll.unregister(reads))", "in_child(lambda: select.epoll().register(reads))"),
    ),
)


def _row_is(row: str, how: str) -> Any:
    return lambda result: {fields["row"]: fields["child"] for fields in _told(result)}[row] == how


BROKEN_CLAIMS = (
    BrokenClaim(
        "The first line is written by both processes", TWICE, _FLUSHED, lambda result: result.output.count("hello") == 2
    ),
    BrokenClaim(
        "The parent goes on where the child stopped",
        ONE_FILE,
        _OWN_PLACE,
        lambda result: _told(result)[1]["bytes"] == "456",
    ),
    BrokenClaim(
        "A stopped child moves in the file when its parent reads",
        ONE_FILE,
        _OWN_PLACE,
        lambda result: _told(result)[2]["places"] == [4, 7],
    ),
    BrokenClaim(
        "Both descriptors lead to one open file description",
        ONE_FILE,
        _OWN_PLACE,
        lambda result: bool(_told(result)[2]["same"]),
    ),
    BrokenClaim(
        "A child that opens the file itself does not move the parent",
        OPENED_AGAIN,
        _SAME_PLACE,
        lambda result: _told(result)[-1]["parent"] == "012",
    ),
    BrokenClaim(
        "A child that has just been forked has next to nothing of its own",
        READING,
        _WRITTEN_FIRST,
        lambda result: _kind(result, "lists")["start"] < 0.1 * _kind(result, "lists")["size"],
    ),
    BrokenClaim("Reading lists copies a large part of them", READING, _BY_LENGTH, lambda result: _part(result) > 0.25),
    BrokenClaim(
        "Reading an array copies next to nothing of it",
        READING,
        _NUMBERS_AS_OBJECTS,
        lambda result: _part(result, "an array") < 0.1,
    ),
    BrokenClaim(
        "The kernel's page faults account for the growth",
        READING,
        _FAULTS_OF_ANOTHER,
        lambda result: 0.7 < _kind(result, "lists")["faults"] * 4096 / 1e6 / _growth(result) < 1.5,
    ),
    BrokenClaim(
        "Resident memory counts the parent's pages as the child's, too",
        READING,
        _COUNTED_IN_FULL,
        lambda result: _kind(result, "lists")["resident"] > 10 * _kind(result, "lists")["start"],
    ),
    BrokenClaim(
        "gc.freeze() saves what the collector would copy",
        FREEZING,
        _NEVER_FROZEN,
        lambda result: _frozen_to_plain(result, "collect") < 0.3,
    ),
    BrokenClaim(
        "It does not save what reading copies",
        FREEZING,
        _ONE_OBJECT_THEN,
        lambda result: _frozen_to_plain(result, "read") > 0.7,
    ),
    BrokenClaim(
        "The parent's thread lets go of its lock",
        HELD_LOCK,
        _NEVER_LETS_GO,
        lambda result: "the thread has let go of the lock" in result.output,
    ),
    BrokenClaim("The child waits for ever all the same", HELD_LOCK, _LET_GO_FIRST, _child_waits),
    BrokenClaim(
        "The child has one thread", HELD_LOCK, _TWO_THREADS_IN_CHILD, lambda result: _wait(result).threads == 1
    ),
    BrokenClaim(
        "The kernel shows it waiting for a word in memory",
        HELD_LOCK,
        _WAITS_FOR_A_PIPE,
        lambda result: "futex" in _wait(result).call,
    ),
    BrokenClaim(
        "A lock that is taken around the fork can be used in the child",
        PREPARED,
        _NOT_PREPARED,
        lambda result: "the child has the lock" in result.output,
    ),
    *(
        BrokenClaim(f"To a forked child, {row} is {how}", source, changed(source, *edit), _row_is(row, how))
        for row, how, source, edit in _ROWS
    ),
    nothing_left("Nothing that this notebook started is running", OPENED_AGAIN),
)
