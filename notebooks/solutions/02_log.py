"""02.2, should: a child that is to write into its parent's log, and an open file that can't be pickled."""

from typing import Any

from lab_support.notebook.moves.exercises import Attempt, Exercise, Verdict, Wrong, changed, failed, passed

LOG = '''\
%%python_process --name log --timeout 20 --expect any --into logged
import multiprocessing, os

def work(log):
    """Runs in the child: writes its line into the log."""
    log.write(f"child {os.getpid()} works\\n")

def run(path):
    """Runs in the parent. The log is to have its line, the child's, and its own again."""
    context = multiprocessing.get_context("spawn")
    with open(path, "w") as log:
        log.write(f"parent {os.getpid()} begins\\n")
        child = context.Process(target=work, args=(log,))
        child.start()
        child.join()
        log.write(f"parent {os.getpid()} has ended\\n")

if __name__ == "__main__":
    run(f"{__file__}.log")
    print(open(f"{__file__}.log").read(), end="")
'''

_WORK = """\
def work(log):
    \"\"\"Runs in the child: writes its line into the log.\"\"\"
    log.write(f"child {os.getpid()} works\\n")
"""
_APPENDS = """\
def work(path):
    \"\"\"Runs in the child: writes its line into the log.\"\"\"
    with open(path, "a") as log:
        log.write(f"child {os.getpid()} works\\n")
"""
_BEGINS = 'log.write(f"parent {os.getpid()} begins\\n")\n'
_FLUSHES = _BEGINS + "        log.flush()\n"
LOG_RIGHT = changed(
    LOG, _WORK, _APPENDS, 'open(path, "w")', 'open(path, "a")', _BEGINS, _FLUSHES, "args=(log,)", "args=(path,)"
)
LOG_BY_DESCRIPTOR = changed(
    LOG,
    _WORK,
    """\
def work(descriptor):
    \"\"\"Runs in the child: writes its line into the log, at the place that it shares with its parent.\"\"\"
    os.write(descriptor.detach(), f"child {os.getpid()} works\\n".encode())
""",
    "import multiprocessing, os\n",
    "import multiprocessing, os\nfrom multiprocessing import reduction\n",
    _BEGINS,
    _FLUSHES,
    "args=(log,)",
    "args=(reduction.DupFd(log.fileno()),)",
)
LOG_BY_PIPE = changed(
    LOG,
    _WORK,
    """\
def work(answer):
    \"\"\"Runs in the child: says its line; the one who has the log writes it.\"\"\"
    answer.send(f"child {os.getpid()} works\\n")
""",
    """\
        child = context.Process(target=work, args=(log,))
        child.start()
""",
    """\
        ours, theirs = context.Pipe()
        child = context.Process(target=work, args=(theirs,))
        child.start()
        log.write(ours.recv())
""",
)

NOT_PICKLED = (
    "an open file can't be pickled, so `start()` refuses it before there is a child: send something else by which the "
    "child comes to the file"
)
NOT_SPAWNED = "the child is to be made by spawn"
NO_CHILD = "the second line is not from a child: its pid is the parent's, or nobody's that was spawned"
NUMBER = (
    "a descriptor's number means nothing in a spawned child: it has only the descriptors that multiprocessing passes on"
)
EMPTIED = 'the child opened the file with "w", which empties it: what the parent had written is gone'
BUFFER = (
    "the parent's first line was still in its buffer when the child wrote: it came after the child's, or over it; "
    "flush before `start()`"
)
OVER = (
    "the parent's last line stands over the child's: each has a place of its own in the file, and the parent's did not "
    'move when the child wrote; open it with "a", which writes at the end'
)
OTHER = "the log has other lines than the three that it is to have"

LOG_WRONG = (
    Wrong(NOT_SPAWNED, changed(LOG, '"spawn"', '"fork"', _BEGINS, _FLUSHES)),
    Wrong(
        NUMBER,
        changed(LOG, _WORK, """\
def work(number):
    os.write(number, f"child {os.getpid()} works\\n".encode())
""", _BEGINS, _FLUSHES, "args=(log,)", "args=(os.dup(log.fileno()),)"),
    ),
    Wrong(EMPTIED, changed(LOG_RIGHT, _APPENDS, _APPENDS.replace('"a"', '"w"'))),
    Wrong(BUFFER, changed(LOG_RIGHT, _FLUSHES, _BEGINS)),
    Wrong(OVER, changed(LOG_RIGHT, 'with open(path, "a") as log:\n        log.write(f"parent',
                        'with open(path, "w") as log:\n        log.write(f"parent')),
    Wrong(NO_CHILD, changed(LOG, """\
        child = context.Process(target=work, args=(log,))
        child.start()
        child.join()
""", "        work(log)\n", '    context = multiprocessing.get_context("spawn")\n', "")),
    Wrong(NOT_PICKLED, changed(LOG, "args=(log,)", "args=(log.buffer,)", _BEGINS, _FLUSHES)),
)  # fmt: skip

MEASURE_LOG = """
import os
from pathlib import Path
from lab_support.notebook.script import emit
import answer

cell = Path(os.environ["LAB_CELL"])
said = os.open(cell / "said", os.O_RDWR | os.O_CREAT)
before = os.dup(2)
os.dup2(said, 2)            # what a child says of its end goes there too
refused = ""
try:
    answer.run(str(cell / "log.txt"))
except TypeError as error:
    refused = str(error)
os.dup2(before, 2)
text = (cell / "log.txt").read_bytes().decode(errors="replace") if (cell / "log.txt").exists() else ""
emit(measured={
    "lines": text.splitlines(), "parent": os.getpid(), "refused": refused, "said": (cell / "said").read_text()[-2000:]
})
"""


def judge_log(attempt: Attempt) -> Verdict:
    seen = attempt.measure(MEASURE_LOG)
    spawned = [
        each.identity.pid for each in attempt.processes if any("spawn_main" in one.command for one in each.execs)
    ]
    names = [_in_words(line, seen["parent"], spawned) for line in seen["lines"]]
    measured = f"{len(names)} lines: {', '.join(names) or 'none'}; processes spawned: {len(spawned)}"
    cause = _cause(seen, names, spawned)
    expected = "3 lines: parent begins, child works, parent has ended; the child spawned"
    return failed(measured, expected, cause) if cause else passed(measured)


def _in_words(line: str, parent: int, spawned: list[int]) -> str:
    who, _, rest = line.partition(" ")
    pid, _, does = rest.partition(" ")
    if who == "parent" and pid == str(parent):
        return f"parent {does}"
    if who == "child" and pid.isdigit():
        return f"child {does}" if int(pid) in spawned else f"not a spawned child {does}"
    return "something else"


def _cause(seen: dict[str, Any], names: list[str], spawned: list[int]) -> str:
    right = names == ["parent begins", "child works", "parent has ended"]
    child = "child works" in names
    findings = (
        ("pickle" in seen["refused"] or "serialize" in seen["refused"], NOT_PICKLED),
        (right, ""),
        (not spawned and "not a spawned child works" in names and len(names) == 3, _who(seen)),
        (not spawned, NOT_SPAWNED),
        ("Bad file descriptor" in seen["said"], NUMBER),
        (child and names[0] != "child works" and "parent begins" not in names, EMPTIED),
        (child and names.index("child works") == 0 and "parent begins" not in names, EMPTIED),
        (names[:2] == ["parent begins", "parent has ended"], OVER),
        (child and names.index("child works") == 0, BUFFER),
    )
    return next((cause for found, cause in findings if found), OTHER)


def _who(seen: dict[str, Any]) -> str:
    """Of three good lines without a spawned process: forked, or nobody's but the parent's."""
    pids = {line.split()[1] for line in seen["lines"]}
    return NO_CHILD if len(pids) == 1 else NOT_SPAWNED


EXERCISES = (
    Exercise(
        name="02.2",
        kind="should",
        task="`start()` refuses the log; find out why, and mend the program so that the log gets its three lines",
        skeleton=LOG,
        reference=LOG_RIGHT,
        also_right=(LOG_BY_DESCRIPTOR, LOG_BY_PIPE),
        wrong=LOG_WRONG,
        hints=(
            "What has to happen to the arguments before they go through the pipe? And what is an open file made of?",
            "Send the path, or a pipe's end. If both processes write into one file, think of two places in it, and of "
            "text that still waits in a buffer.",
            'Open the log with "a" in both processes, `log.flush()` before `start()`, and send `path`.',
        ),
        judge=judge_log,
    ),
)
