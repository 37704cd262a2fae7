"""The blanks of notebook 01."""

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.blanks import Blank, Verdict, WrongFilling, failed, passed, stopped_by

# ---- one file, two readers

SAME = "the child still reads through the open file description that it shares with its parent"
EMPTIED = "the mode with `w` empties the file as it is opened, so neither has anything to read"


def judge_opened_again(result: ProcessResult) -> Verdict:
    child, parent = (result.told[who] for who in ("child", "parent"))
    if "Error" in child:
        return stopped_by(child)
    measured = f"the child read {child!r}, then the parent {parent!r}"
    if (child, parent) == ("0123", "012"):
        return passed(measured)
    return failed(measured, "the child reads '0123', and then the parent '012'", SAME if child else EMPTIED)


OPENED_AGAIN = Blank(
    name="01.b1",
    cell="opened_again",
    task="let the child open the file itself, by its name",
    right=(
        ('open(file.name, "rb")',),
        ("io.FileIO(file.name)",),
        ('os.fdopen(os.open(file.name, os.O_RDONLY), "rb")',),
    ),
    wrong=(
        WrongFilling(SAME, ("file",)),
        WrongFilling(SAME, ('open(file.fileno(), "rb", closefd=False)',)),
        WrongFilling(SAME, ('os.fdopen(os.dup(file.fileno()), "rb")',)),
        WrongFilling(EMPTIED, ('open(file.name, "w+b")',)),
    ),
    hints=(
        "Which call makes a new open file description? Neither `fork` nor `dup` does.",
        "`open` makes one, if you give it a name. Given a number, it makes only a new Python object.",
        "The name is in `file.name`, and the child needs to read bytes only: mode `rb`.",
    ),
    judge=judge_opened_again,
)

# ---- memory

STILL_MARKED = (
    "the objects are still on the collector's lists, so `gc.collect()` in the child writes to each; it has to be told "
    "to leave alone the objects that there are"
)
NOTHING_LEFT = "the data is no longer there as it was: the child has to read the same 500,000 lists"


def judge_freezing(result: ProcessResult) -> Verdict:
    plain, frozen = result.by("when").values()
    for copied in (*plain.values(), *frozen.values()):
        if isinstance(copied, str) and "Error" in copied:
            return stopped_by(copied)
    measured = f"after the call the collector copies {frozen['collect']:.1f} MB, and reading {frozen['read']:.1f} MB"
    expected = f"the collector copies next to nothing, and reading about {plain['read']:.0f} MB, as before"
    if frozen["read"] < 0.5 * plain["read"]:
        return failed(measured, expected, NOTHING_LEFT)
    return passed(measured) if frozen["collect"] < 0.3 * plain["collect"] else failed(measured, expected, STILL_MARKED)


FREEZING = Blank(
    name="01.b2",
    cell="freezing",
    task="make the call of the module `gc` that servers make just before they fork",
    right=(("gc.freeze()",), ("gc.collect(); gc.freeze()",), ("gc.disable(), gc.freeze()",)),
    wrong=(
        WrongFilling(STILL_MARKED, ("gc.disable()",)),
        WrongFilling(STILL_MARKED, ("gc.collect()",)),
        WrongFilling(STILL_MARKED, ("gc.set_threshold(0)",)),
        WrongFilling(NOTHING_LEFT, ("data.clear()",)),
    ),
    hints=(
        "`gc.disable()` stops the runs that the collector begins by itself. Here, somebody calls `gc.collect()`.",
        "`help(gc)` has a call that moves all present objects to a permanent generation.",
        "It is the opposite of `gc.unfreeze()`.",
    ),
    judge=judge_freezing,
)

# ---- a lock, a thread, and a fork

CALLED_AT_ONCE = "with brackets, it is called at once, once; give the function itself, without brackets"
NOT_TAKEN = "the fork did not wait for the thread, so the child's copy is locked: take the lock before the fork"
HALF = (
    "the fork did not wait for the thread: the child got a lock, but the work that it protects is half done; "
    "take the lock before the fork"
)
LOCKED_IN_CHILD = "the child's copy was taken by the thread that forks, and nobody lets go of it in the child"
LOCKED_IN_PARENT = "the thread that forks has taken the lock, and nobody lets go of it in the parent"


def judge_prepared(result: ProcessResult) -> Verdict:
    said = result.output_of("P0", "err")
    found = {who: fields["found"] for who, fields in result.by("who").items()}
    child, parent = found.get("child"), found.get("parent")
    expected = "both get the lock and find both halves"
    if not found and ("unlocked lock" in said or "callable" in said):
        return failed(said.strip().splitlines()[-1], expected, CALLED_AT_ONCE)
    measured = f"the child found {_halves(child)}, the parent {_halves(parent)}"
    if child == parent == ["first half", "second half"]:
        return passed(measured)
    return failed(measured, expected, _why(child, parent, waited=result.told["fork_waited"]))


def _why(child: list[str] | None, parent: list[str] | None, *, waited: bool) -> str:
    if not waited:
        return HALF if child else NOT_TAKEN
    return LOCKED_IN_CHILD if child is None and parent else LOCKED_IN_PARENT


def _halves(found: list[str] | None) -> str:
    return "nothing, because it did not get the lock" if found is None else " and ".join(found)


PREPARED = Blank(
    name="01.b3",
    cell="prepared",
    task="give the three hooks functions, so that the fork waits for the thread and both sides can go on",
    right=(
        ("lock.acquire", "lock.release", "lock.release"),
        ("lambda: lock.acquire()", "lambda: lock.release()", "lambda: lock.release()"),
        ("lock.__enter__", "lock.release", "lock._at_fork_reinit"),
    ),
    wrong=(
        WrongFilling(CALLED_AT_ONCE, ("lock.acquire()", "lock.release()", "lock.release()")),
        WrongFilling(NOT_TAKEN, ("print", "print", "print")),
        WrongFilling(HALF, ("print", "print", "lock.release")),
        WrongFilling(HALF, ("print", "print", "lock._at_fork_reinit")),
        WrongFilling(LOCKED_IN_CHILD, ("lock.acquire", "lock.release", "print")),
        WrongFilling(LOCKED_IN_PARENT, ("lock.acquire", "print", "lock.release")),
    ),
    hints=(
        "Who can make sure that the thread is not at work under the lock while the fork copies it?",
        "The one who has the lock. So the thread that forks takes it first, and then both processes have to let go.",
        "Give the methods themselves, without brackets: `lock.acquire` before, and after it …",
    ),
    judge=judge_prepared,
)

# ---- copied, shared, lost, or new

EMPTIES_PIPE = (
    "the pipe is empty now, and a pipe is shared whatever the set is; change something in the set itself, and leave "
    "the pipe alone"
)
SET_UNCHANGED = "nothing in the set has changed, so the parent could not notice anything; let the child change the set"


def judge_kernel_rows(result: ProcessResult) -> Verdict:
    row = result.by("row")["an epoll set that watches a pipe"]
    if "Error" in str(row["said"]):
        return stopped_by(row["said"])
    told = "reports the pipe" if row["child"] == "copied" else "reports nothing"
    measured = f"after it, the parent's set {told}, and the pipe is {'full' if row['in_pipe'] else 'empty'}"
    expected = "the parent's set reports nothing, although there is something in the pipe"
    if not row["in_pipe"]:
        return failed(measured, expected, EMPTIES_PIPE)
    return passed(measured) if row["child"] == "shared" else failed(measured, expected, SET_UNCHANGED)


KERNEL_ROWS = Blank(
    name="01.b4",
    cell="kernel_rows",
    task="let the child remove the pipe from the epoll set",
    right=(("poll.unregister(reads)",), ("poll.modify(reads, 0)",), ("poll.modify(reads, select.EPOLLOUT)",)),
    wrong=(
        WrongFilling(EMPTIES_PIPE, ("len(os.read(reads, 1))",)),
        WrongFilling(SET_UNCHANGED, ("poll.close()",)),
        WrongFilling(SET_UNCHANGED, ("poll.poll(0)",)),
        WrongFilling(SET_UNCHANGED, ("os.close(reads)",)),
        WrongFilling(SET_UNCHANGED, ("select.epoll().register(reads, select.EPOLLIN)",)),
    ),
    hints=(
        "The set has one entry, the pipe's end that is read. What could the child do to that entry?",
        "The last line asks the parent's set what is ready. It reports the pipe for as long as the entry is there.",
        "The opposite of `poll.register(reads, …)` is …",
    ),
    judge=judge_kernel_rows,
)

BLANKS = (OPENED_AGAIN, FREEZING, PREPARED, KERNEL_ROWS)
