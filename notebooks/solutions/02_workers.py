"""02.3, could: new children that are ready five times sooner, and nobody forks a parent that has grown."""

from statistics import median
from typing import Any

from lab_support.notebook.moves.exercises import Attempt, Exercise, Verdict, Wrong, changed, failed, passed

WORKERS = '''\
%%python_process --name workers --timeout 30 --expect any --into workers
import multiprocessing, os, time
import numpy

def work(answer, size):
    """Runs in the child, which needs numpy."""
    answer.send((int(numpy.arange(size).sum()), os.getpid()))

def ask_new_child(size):
    """Runs in the parent: a new child for each piece of work. Returns the sum, and its pid."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=work, args=(theirs, size))
    child.start()
    said = ours.recv()
    child.join()
    return said

if __name__ == "__main__":
    for size in (10, 100, 1000, 10_000):
        began = time.monotonic()
        total, pid = ask_new_child(size)
        print(f"{total} after {1000 * (time.monotonic() - began):.0f} ms")
'''

_CONTEXT = '    context = multiprocessing.get_context("spawn")\n'
WORKERS_PRELOADED = changed(
    WORKERS,
    _CONTEXT,
    '    multiprocessing.set_forkserver_preload(["numpy"])\n    context = multiprocessing.get_context("forkserver")\n',
    "import numpy\n",
    "",
    '    """Runs in the child, which needs numpy."""\n',
    '    """Runs in the child, which needs numpy, and finds it there."""\n    import numpy\n',
)
WORKERS_PRELOADED_BY_CONTEXT = changed(
    WORKERS,
    "def work",
    """\
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["numpy"])

def work""",
    _CONTEXT,
    "",
)
WORKERS_OWN_FORK_SERVER = changed(
    WORKERS,
    "def ask_new_child",
    '''\
def fork_server(requests):
    """Runs in one spawned child, which stays small: it has numpy and one thread, and forks itself for each piece."""
    while True:
        size, answer = requests.recv()
        if os.fork() == 0:
            work(answer, size)
            os._exit(0)
        answer.close()
        os.wait()

server = None

def ask_new_child''',
    """\
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=work, args=(theirs, size))
    child.start()
    said = ours.recv()
    child.join()
    return said
""",
    """\
    global server
    context = multiprocessing.get_context("spawn")
    if server is None:
        server, its_end = context.Pipe()
        context.Process(target=fork_server, args=(its_end,), daemon=True).start()
    ours, theirs = context.Pipe()
    server.send((size, theirs))
    return ours.recv()
""",
)

FORKED = "the parent itself is forked: it has threads, or will have, and their locks; what forks has to be small"
SAME_CHILD = "several pieces of work were done by one and the same process: each is to have a child of its own"
NOT_LOADED = (
    "a fork server makes the children, but each of them still imports numpy: the server has to have it before it forks "
    "(is the name right, and set before the server starts? it passes over what it can't import)"
)
TOO_SLOW = "each child still starts Python anew and imports numpy: let somebody have it ready who may be forked"
WRONG_SUM = "a child's answer is not the sum"

WORKERS_WRONG = (
    Wrong(FORKED, changed(WORKERS, '"spawn"', '"fork"')),
    Wrong(NOT_LOADED, changed(WORKERS, '"spawn"', '"forkserver"')),
    Wrong(NOT_LOADED, changed(WORKERS_PRELOADED, '["numpy"]', '["nunpy"]')),
    Wrong(TOO_SLOW, changed(WORKERS, "import numpy\n", "", '    """Runs in the child, which needs numpy."""\n',
                            '    """Runs in the child."""\n    import numpy\n')),
    Wrong(SAME_CHILD, changed(WORKERS, "def ask_new_child", "pool = None\n\ndef piece(size):\n"
                              "    return int(numpy.arange(size).sum()), os.getpid()\n\ndef ask_new_child",
                              """\
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=work, args=(theirs, size))
    child.start()
    said = ours.recv()
    child.join()
    return said
""", """\
    global pool
    pool = pool or multiprocessing.get_context("spawn").Pool(1)
    return pool.apply(piece, (size,))
""")),
    Wrong(WRONG_SUM, changed(WORKERS_PRELOADED, "int(numpy.arange(size).sum())", "size")),
)  # fmt: skip

MEASURE_WORKERS = """
import os, sys, time
from pathlib import Path
from lab_support.notebook.script import emit, inputs
sys.path.insert(0, os.environ["LAB_CELL"])
(Path(os.environ["LAB_CELL"]) / "original.py").write_text(inputs()["original"])
import answer, original

def timed(ask, size):
    began = time.monotonic()
    said = ask(size)
    return time.monotonic() - began, said

answer.ask_new_child(10)        # what is paid once is not counted, for neither of the two
original.ask_new_child(10)
rounds = []
for size in inputs()["sizes"]:
    before, _ = timed(original.ask_new_child, size)
    now, said = timed(answer.ask_new_child, size)
    rounds.append({"before": before, "now": now, "sum": said[0] == size * (size - 1) // 2, "pid": said[1]})
emit(measured={"rounds": rounds, "parent": os.getpid()})
"""
_SIZES = (100, 1000, 5000, 200, 300)
_TIMES = 5.0


def judge_workers(attempt: Attempt) -> Verdict:
    seen = attempt.measure(MEASURE_WORKERS, inputs={"original": "# " + WORKERS, "sizes": _SIZES}, timeout=30)
    ratio = median(one["before"] / one["now"] for one in seen["rounds"])
    pids = {one["pid"] for one in seen["rounds"]}
    measured = (
        f"a new child answers {ratio:.1f} times as fast as before (median of {len(_SIZES)}, side by side); "
        f"{len(pids)} processes did {len(_SIZES)} pieces of work"
    )
    cause = _cause(attempt, seen, pids, ratio)
    expected = f"over {_TIMES:g} times as fast, each piece in a new process, and the parent not forked"
    return failed(measured, expected, cause) if cause else passed(measured)


def _cause(attempt: Attempt, seen: dict[str, Any], pids: set[int], ratio: float) -> str:
    by_pid = {each.identity.pid: each for each in attempt.processes}
    parent, workers = attempt.processes[0].name, [by_pid[pid] for pid in pids if pid in by_pid]
    forked = [each for each in workers if each.parent == parent and not each.execs]
    serving = any(each.name == "fork server" for each in attempt.processes)
    findings = (
        (not all(one["sum"] for one in seen["rounds"]), WRONG_SUM),
        (len(pids) < len(_SIZES), SAME_CHILD),
        (bool(forked), FORKED),
        (ratio <= _TIMES and serving, NOT_LOADED),
        (ratio <= _TIMES, TOO_SLOW),
    )
    return next((cause for found, cause in findings if found), "")


EXERCISES = (
    Exercise(
        name="02.3",
        kind="could",
        task="a new child needs a long time until it answers; make it five times as fast without forking the parent",
        skeleton=WORKERS,
        reference=WORKERS_PRELOADED,
        also_right=(WORKERS_PRELOADED_BY_CONTEXT, WORKERS_OWN_FORK_SERVER),
        wrong=WORKERS_WRONG,
        hints=(
            "Where does a child's time go: into the kernel, into Python, or into numpy? Who could do that beforehand?",
            "A fork is fast, and it is unsafe only where the process has threads or has grown. Which process has not?",
            'Use the start method "forkserver", and `multiprocessing.set_forkserver_preload(["numpy"])` before the '
            "first child.",
        ),
        judge=judge_workers,
    ),
)
