"""The blanks of notebook 06."""

import random

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.blanks import (
    Blank,
    Verdict,
    WrongFilling,
    could_not_be_measured,
    failed,
    passed,
    stopped_by,
)

# ---- b1 --------------------------------------------------------------------------------------------------------------

COPIED = "this value is the same in both children, because it is copied or the same for both: take what differs"
SAME_PARENT = "both children have the same parent, so its pid is the same in both: take what differs"
MOVES = "the child reads through the open file description that it shares with its parent, so the parent's place moves"
OTHER_BYTES = "these are not the first four bytes of the file"


def judge_repaired(result: ProcessResult) -> Verdict:
    told = result.events[-1].fields
    numbers, read, place = told["numbers"], told["read"], told["place"]
    for error in (numbers[0], read):
        if isinstance(error, str) and "Error" in error:
            return stopped_by(error)
    same = numbers[0] == numbers[1]
    measured = f"the children drew {'the same' if same else 'different'}; one read {read!r}, the parent is at {place}"
    expected = "the children drew different; one read '0123', the parent is at 0"
    if same:
        of_parent = numbers[0] == random.Random(told["parent"]).random()
        return failed(measured, expected, SAME_PARENT if of_parent else COPIED)
    if place:
        return failed(measured, expected, MOVES)
    return passed(measured) if read == "0123" else failed(measured, expected, OTHER_BYTES)


# ---- b2 --------------------------------------------------------------------------------------------------------------

NOT_THREADS = "that folder has something else than one entry for each thread"
NOT_THE_WAIT = "that file does not say in which kernel function the process waits"


def judge_stuck(result: ProcessResult) -> Verdict:
    told = result.events[-1].fields
    threads, wanted, waits_in = told["threads"], told["facts"]["threads"], told["waits_in"]
    measured = f"{threads} threads; {waits_in[:40]!r}"
    expected = f"{wanted} threads, and the name of a function of the kernel"
    if threads != wanted:
        return failed(measured, expected, NOT_THREADS)
    if waits_in == "0":
        return could_not_be_measured("this kernel does not say where a process waits")
    return passed(measured) if "futex" in waits_in else failed(measured, expected, NOT_THE_WAIT)


# ---- b3 --------------------------------------------------------------------------------------------------------------

TOO_MANY = "the sign is there after NVML alone, too, and its children can use the GPU"
MISSED = "the sign is missing in a process whose child is barred: cuInit maps few files, but it maps some"


def judge_signs(result: ProcessResult) -> Verdict:
    told = [event.fields for event in result.events]
    wrong = [each["touch"] for each in told if each["sign"] != each["barred"]]
    measured = f"right for {len(told) - len(wrong)} of {len(told)}" + (f", not for {', '.join(wrong)}" if wrong else "")
    if not wrong:
        return passed(measured)
    missed = all(each["barred"] for each in told if each["touch"] in wrong)
    return failed(measured, f"right for {len(told)} of {len(told)}", MISSED if missed else TOO_MANY)


# ---- b4 --------------------------------------------------------------------------------------------------------------

SAME = "the two are always the same process: compare each role with the launcher"
OTHER = "no process is like this one: compare each role with the launcher, by `server.pids`"


def judge_starts(result: ProcessResult) -> Verdict:
    told = {event.fields["method"]: event.fields for event in result.events}
    copies = {f"{role} by {method}" for method, each in told.items() for role, copy in each["copies"].items() if copy}
    measured = f"copies: {', '.join(sorted(copies)) or 'none'}"
    if told["fork"]["says"]["engine_cores"] != "fork":
        return could_not_be_measured("the rule has refused the fork on this machine")
    if copies == {"engine-0 by fork"}:
        return passed(measured)
    return failed(measured, "copies: engine-0 by fork", SAME if len(copies) == 6 else OTHER)


BLANKS = (
    Blank(
        name="06.b1",
        cell="repaired",
        task="give each child another seed, and let it read without moving the place",
        right=(
            ("os.getpid()", "os.pread(file.fileno(), 4, 0)"),
            ("os.urandom(8)", "os.pread(file.fileno(), 4, 0)"),
            ("random.SystemRandom().random()", 'open(f"/proc/self/fd/{file.fileno()}", "rb").read(4)'),
        ),
        wrong=(
            WrongFilling(COPIED, ("id(own)", "os.pread(file.fileno(), 4, 0)")),
            WrongFilling(SAME_PARENT, ("os.getppid()", "os.pread(file.fileno(), 4, 0)")),
            WrongFilling(MOVES, ("os.getpid()", "file.read(4)")),
            WrongFilling(MOVES, ("os.getpid()", "os.read(os.dup(file.fileno()), 4)")),
            WrongFilling(OTHER_BYTES, ("os.getpid()", "os.pread(file.fileno(), 4, 4)")),
        ),
        hints=(
            "What does the kernel give to each process, and to no two at once? And which call reads at a place?",
            "A process has a pid. `os.pread(descriptor, count, place)` does not use the place that is shared.",
            "`os.getpid()` and `os.pread(file.fileno(), 4, 0)`.",
        ),
        judge=judge_repaired,
    ),
    Blank(
        name="06.b2",
        cell="stuck",
        task="name the folder with its threads, and the file with the function in which it waits",
        right=(('"task"', '"wchan"'), ('"task/"', 'f"task/{core.pid}/wchan"')),
        wrong=(
            WrongFilling(NOT_THREADS, ('"fd"', '"wchan"')),
            WrongFilling(NOT_THE_WAIT, ('"task"', '"cmdline"')),
            WrongFilling(NOT_THE_WAIT, ('"task"', '"stat"')),
        ),
        hints=(
            "`ls /proc/self` in a terminal shows what there is. What does the kernel call a thread?",
            "The kernel calls it a task. A process that waits is on a channel: w…chan.",
            '`"task"` and `"wchan"`.',
        ),
        judge=judge_stuck,
    ),
    Blank(
        name="06.b3",
        cell="signs",
        task="write the sign: true where the child is barred, and only there",
        right=(('held["files_mapped"] > 0',), ('bool(held["files_mapped"])',)),
        wrong=(
            WrongFilling(TOO_MANY, ('held["files_open"] > 0',)),
            WrongFilling(TOO_MANY, ('held["threads"] > 1',)),
            WrongFilling(MISSED, ('held["files_mapped"] > 3',)),
        ),
        hints=(
            "Print `held` and `barred` in the loop. Which count is 0 wherever the child can use the GPU?",
            "NVML opens files and starts a thread. What does it not do?",
            '`held["files_mapped"] > 0`',
        ),
        judge=judge_signs,
    ),
    Blank(
        name="06.b4",
        cell="starts",
        task="compare where the stacks begin: that of each role, and that of the launcher",
        right=(("server.pids[role]", 'server.pids["launcher"]'), ('server.pids["launcher"]', "server.pids[role]")),
        wrong=(
            WrongFilling(SAME, ("server.pids[role]", "server.pids[role]")),
            WrongFilling(OTHER, ("server.pids[role]", '"self"')),
            WrongFilling(OTHER, ('server.pids["launcher"]', '"self"')),
        ),
        hints=(
            "Whose copy would it be? `server.pids` has the pid of each role.",
            "The launcher's role is called launcher.",
            '`server.pids[role]` and `server.pids["launcher"]`.',
        ),
        judge=judge_starts,
    ),
)
