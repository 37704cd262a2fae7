"""01.2, should: workers that wait for ever for a lock that the reporter held when they were forked."""

from lab_support.notebook.moves.exercises import Attempt, Exercise, Verdict, Wrong, changed, failed, passed
from lab_support.plural import counted

WORKERS = '''\
%%python_process --name workers --timeout 3 --expect any --into workers
import os, threading
lock, stop, done = threading.Lock(), threading.Event(), []

def report():
    """Runs in a thread of the parent: writes down what is done, and holds the lock meanwhile."""
    with lock:
        stop.wait()

def work(number):
    """Runs in a child: takes its job into the list, and ends with the length of the list."""
    with lock:
        done.append(number)
    os._exit(len(done))

def run(jobs):
    """Start the reporter and a child for each job. Returns the children's exit codes."""
    threading.Thread(target=report).start()
    children = [os.fork() or work(number) for number in range(jobs)]
    ends = [os.waitpid(child, 0)[1] for child in children]
    stop.set()
    return [os.waitstatus_to_exitcode(end) for end in ends]

if __name__ == "__main__":
    print("exit codes:", run(3))
'''
_APPENDED = """\
    with lock:
        done.append(number)
"""
_START = "    threading.Thread(target=report).start()\n"
_FORKS = "    children = [os.fork() or work(number) for number in range(jobs)]\n"
_WAITS = "    ends = [os.waitpid(child, 0)[1] for child in children]\n"
_LOCK = "lock, stop, done = threading.Lock(), threading.Event(), []\n"

WORKERS_FRESH_LOCK = changed(WORKERS, _APPENDED, "    global lock\n    lock = threading.Lock()\n" + _APPENDED)
WORKERS_AT_FORK = changed(
    WORKERS,
    "def report():",
    """\
def new_lock():
    global lock
    lock = threading.Lock()

os.register_at_fork(after_in_child=new_lock)

def report():""",
)
WORKERS_FORK_FIRST = changed(WORKERS, _START, "", _FORKS, _FORKS + _START)
WORKERS_NO_LOCK = changed(WORKERS, _APPENDED, "    done.append(number)  # there is one thread in a forked child\n")

STILL_LOCKED = (
    "the child's copy of the lock was locked when it was made, by a thread that the child does not have; nobody lets "
    "go of it, so the child needs a lock of its own"
)
GAVE_UP = "the child gave up on the lock and did not do its job"
NO_REPORTER = "the reporter has not run while the children worked: it belongs to the program"
NO_CHILD = "the jobs are to be done by children, one each"

WORKERS_WRONG = (
    Wrong(STILL_LOCKED, changed(WORKERS, "threading.Lock()", "threading.RLock()")),
    Wrong(STILL_LOCKED, changed(WORKERS, "target=report)", "target=report, daemon=True)")),
    Wrong(
        STILL_LOCKED,
        changed(
            WORKERS,
            "import os, threading\n",
            "import multiprocessing, os, threading\n",
            "threading.Lock()",
            "multiprocessing.Lock()",
        ),
    ),
    Wrong(
        GAVE_UP,
        changed(
            WORKERS,
            _APPENDED,
            """\
    if lock.acquire(timeout=0.2):
        done.append(number)
""",
        ),
    ),
    Wrong(NO_REPORTER, changed(WORKERS, _START, "")),
    Wrong(
        NO_CHILD,
        changed(
            WORKERS,
            _APPENDED + "    os._exit(len(done))\n",
            "    return 1\n",
            _FORKS + _WAITS,
            "    codes = [work(number) for number in range(jobs)]\n",
            "    return [os.waitstatus_to_exitcode(end) for end in ends]\n",
            "    return codes\n",
        ),
    ),
)

SEE_REPORTER = """
import threading
from lab_support.notebook.script import emit
import answer

reported = threading.Event()
as_written = answer.report

def report():
    reported.set()
    as_written()

answer.report = report
codes = answer.run(3)
emit(measured={"reported": reported.is_set(), "codes": codes})
"""


def judge_workers(attempt: Attempt) -> Verdict:
    run = attempt.run(timeout=5.0)
    children = run.processes[1:]
    expected = "three children end with 1, as each has one job in its list, while the reporter holds its own lock"
    if stuck := sum(child.killed for child in children):
        return failed(
            f"{stuck} of {counted(len(children), 'child process')} waited without end", expected, STILL_LOCKED
        )
    codes = [child.exit_code for child in children]
    measured = f"exit codes of the children: {', '.join(map(str, codes)) or 'none, as there was no child'}"
    if len(children) < 3:
        return failed(measured, expected, NO_CHILD)
    again = attempt.measure(SEE_REPORTER)
    # A child that ends at once may be gone before its code was seen; then what the program's own waitpid(2) got counts.
    if (again["codes"] if None in codes else codes) != [1, 1, 1]:
        return failed(measured, expected, GAVE_UP)
    if not again["reported"]:
        return failed(f"{measured}; the reporter did not run", expected, NO_REPORTER)
    return passed(measured)


EXERCISES = (
    Exercise(
        name="01.2",
        kind="should",
        task="find out what the children wait for, and mend the program; the reporter stays",
        skeleton=WORKERS,
        reference=WORKERS_FRESH_LOCK,
        also_right=(WORKERS_AT_FORK, WORKERS_FORK_FIRST, WORKERS_NO_LOCK),
        wrong=WORKERS_WRONG,
        hints=(
            "Read the report below the cell: in which line does each child stand, and how many threads does it have?",
            "The lock is memory, and the child has a copy of it as it was at the fork. Who could unlock that copy?",
            "Give each child a new lock, as its first step: `global lock; lock = threading.Lock()`. Or fork before "
            "there is a thread.",
        ),
        judge=judge_workers,
    ),
)
