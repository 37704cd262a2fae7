"""06.1, must: a program that could fork, had it tidied up before it asked."""

from lab_support.notebook.moves.exercises import Attempt, Exercise, Verdict, Wrong, changed, failed, passed

ORDER = '''\
%%python_process --name order --timeout 10 --expect any --into order
import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from lab_support.supervision.start_rule import Seen, choose
TABLE, pool = {n: n * n for n in range(1000)}, ThreadPoolExecutor(4)

def prepare():
    """Look up eight numbers, by a pool of threads. Returns their sum."""
    return sum(pool.map(TABLE.get, range(8)))

def work(pipe):
    pipe.send(sum(TABLE.values()))

def run():
    """Prepare, and let a child work, as the rule allows. Returns both sums."""
    prepared = prepare()
    choice = choose("fork", Seen.here())
    print(choice.method, choice.warning)
    ours, theirs = multiprocessing.Pipe()
    multiprocessing.get_context(choice.method).Process(target=work, args=(theirs,)).start()
    return prepared, ours.recv()

if __name__ == "__main__":
    print(run())
'''
_POOL = """\
    return sum(pool.map(TABLE.get, range(8)))
"""
_ASK = '    choice = choose("fork", Seen.here())\n'
_PREPARED = "    prepared = prepare()\n"
ORDER_WITH = changed(
    ORDER,
    _POOL,
    """\
    with pool:
        return sum(pool.map(TABLE.get, range(8)))
""",
)
ORDER_SHUT_DOWN = changed(
    ORDER,
    _POOL,
    """\
    found = sum(pool.map(TABLE.get, range(8)))
    pool.shutdown()
    return found
""",
)
ORDER_FIRST = changed(ORDER, _PREPARED, "", "    return prepared, ours.recv()", "    return prepare(), ours.recv()")

NOT_FORKED = "the child was not forked: the rule still finds a reason when it is asked, or another method was asked for"
WITH_THREADS = "it forked while other threads were alive, so the rule was overridden, not satisfied"
NO_THREADS = "the preparation is to use threads all the same; they need only be gone when the fork comes"
WRONG_SUMS = "the preparation or the child's work is missing, or gives something else"

ORDER_WRONG = (
    Wrong(NOT_FORKED, changed(ORDER, "ThreadPoolExecutor(4)", "ThreadPoolExecutor(1)")),
    Wrong(NOT_FORKED, changed(ORDER_WITH, 'choose("fork"', 'choose("forkserver"')),
    Wrong(WITH_THREADS, changed(ORDER, "get_context(choice.method)", 'get_context("fork")')),
    Wrong(
        WITH_THREADS,
        changed(
            ORDER,
            _ASK,
            '    choice = choose("fork", Seen("linux", "", 0, (), (), False, "", False))\n',
        ),
    ),
    Wrong(NO_THREADS, changed(ORDER, _POOL, "    return sum(map(TABLE.get, range(8)))\n")),
    Wrong(WRONG_SUMS, changed(ORDER_WITH, "range(8)", "range(4)")),
)

WATCH_FORKS = """
import os, threading
import answer
from lab_support.notebook.script import emit

at_fork, threads = [], []
os.register_at_fork(before=lambda: at_fork.append(len(os.listdir("/proc/self/task")) - 1))
start = threading.Thread.start
threading.Thread.start = lambda thread: (threads.append(thread.name), start(thread))[1]
sums = answer.run()
emit(measured={"at_fork": at_fork, "threads": len(threads), "sums": [int(each) for each in sums]})
"""


def judge_order(attempt: Attempt) -> Verdict:
    seen = attempt.measure(WATCH_FORKS, timeout=8.0)
    expected = "one fork, with no other thread alive, and both sums, the first one by threads"
    forks = ", ".join(f"one with {count} other threads alive" for count in seen["at_fork"]) or "none"
    measured = f"threads started: {seen['threads']}; forks: {forks}; sums {seen['sums']}"
    if not seen["at_fork"]:
        return failed(measured, expected, NOT_FORKED)
    if any(seen["at_fork"]):
        return failed(measured, expected, WITH_THREADS)
    if not seen["threads"]:
        return failed(measured, expected, NO_THREADS)
    if seen["sums"] != [140, 332_833_500]:
        return failed(measured, expected, WRONG_SUMS)
    return passed(measured)


EXERCISES = (
    Exercise(
        name="06.1",
        kind="must",
        task="change the program so that the rule lets it fork; the preparation goes on using threads",
        skeleton=ORDER,
        reference=ORDER_WITH,
        also_right=(ORDER_SHUT_DOWN, ORDER_FIRST),
        wrong=ORDER_WRONG,
        hints=(
            "Read the warning: which reason is it? When does that reason come into the world, and when does it go?",
            "A thread pool keeps its threads until it is shut down, even when nobody uses it any more.",
            "`with pool:` ends its threads at the end of the block. Or let the child be made first.",
        ),
        judge=judge_order,
    ),
)
