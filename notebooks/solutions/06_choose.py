"""06.3, could: a rule of one's own, judged by what becomes of the children."""

from lab_support.notebook.moves.exercises import Attempt, Exercise, Verdict, Wrong, changed, failed, passed

CHOOSE = '''\
def choose_method(facts):
    """ "fork", "forkserver" or "spawn" for the children of a process of which these facts are known:

    facts["threads"]: how many others run in it
    facts["connections"]: clients that wait for the end of their connection, which it holds
    facts["needs_copy"]: whether the children need objects of it that can't be pickled
    facts["children"]: how many are to be made
    facts["slow_import"]: whether each child needs a module that is slow to import (a fork server preloads it)
    """
    return "spawn"
'''
_SPAWN = '    return "spawn"\n'


def _rule(text: str) -> str:
    return changed(CHOOSE, _SPAWN, text)


CHOOSE_BY_CASE = _rule(
    """\
    if facts["needs_copy"]:
        return "fork"
    if facts["slow_import"] and facts["children"] > 1:
        return "forkserver"
    return "spawn"
"""
)
CHOOSE_SHORT = _rule('    return "fork" if facts["needs_copy"] else "forkserver"\n')
CHOOSE_FORK_WHERE_SAFE = _rule(
    """\
    outside = facts["threads"] + facts["connections"]
    if not outside:
        return "fork"
    return "spawn" if facts["children"] == 1 else "forkserver"
"""
)

COPY = "the children need an object that can't be pickled: only a copy of the memory brings it along"
THREADS = "a forked child has the memory of a thread pool and none of its threads, so it waits for ever"
LEAK = "a forked child holds a copy of every connection, so closing it in the parent does not end it"
IMPORTS = "each spawned child imports the slow module again; a fork server imports it once for all"
UNKNOWN = 'it is to return "fork", "forkserver" or "spawn"'

CHOOSE_WRONG = (
    Wrong(THREADS, _rule('    return "fork"\n')),
    Wrong(COPY, _rule('    return "forkserver"\n')),
    Wrong(LEAK, _rule('    return "spawn" if facts["threads"] else "fork"\n')),
    Wrong(IMPORTS, _rule('    return "fork" if facts["needs_copy"] else "spawn"\n')),
    Wrong(UNKNOWN, _rule('    return "fork" if facts["needs_copy"] else None\n')),
)

# Each situation is real, and so are its children. Those with a thread come last: it stays.
SITUATIONS = '''
import multiprocessing, os, select, socket, sys, time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import wait

folder = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(folder, "slow.py"), "w") as module:
    module.write(f"import os, time\\ntime.sleep(0.1)\\n"
                 f"with open({folder + '/imports'!r}, 'a') as log:\\n    log.write('!')\\n")
with open(os.path.join(folder, "situation.py"), "w") as module:
    module.write("""
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(1)
def by_pool(pipe):
    pipe.send(pool.submit(int).result())
def stay(pipe):
    pipe.send("here")
    pipe.recv()
def by_slow(pipe):
    import slow
    pipe.send("imported")
def by_slow_and_pool(pipe):
    import slow
    by_pool(pipe)
""")
import answer, situation
from lab_support.notebook.script import emit

os.environ["PYTHONPATH"] = folder               # Python 3.11's fork server does not take sys.path over
multiprocessing.set_forkserver_preload(["slow"])

def children(target, count, seconds=1.5, **facts):
    """How the children by the chosen method end: "works" or what was wrong."""
    known = dict(threads=len(os.listdir("/proc/self/task")) - 1, connections=0, needs_copy=False, children=count,
                 slow_import=False) | facts
    method = answer.choose_method(known)
    if method not in ("fork", "forkserver", "spawn"):
        return "unknown", None
    pipes = [multiprocessing.Pipe() for _ in range(count)]
    made = [multiprocessing.get_context(method).Process(target=target, args=(theirs,), daemon=True)
            for _, theirs in pipes]
    try:
        for each in made:
            each.start()
    except Exception as error:
        return "not picklable", pipes
    deadline, waiting = time.monotonic() + (seconds if method == "fork" else 20), {ours for ours, _ in pipes}
    while waiting and time.monotonic() < deadline:
        waiting -= set(wait(list(waiting), max(0, deadline - time.monotonic())))
    for each in made:
        if waiting:
            each.kill()
    return ("stuck" if waiting else "works"), pipes

def imports():
    try:
        return len(open(folder + "/imports").read())
    except FileNotFoundError:
        return 0

def copy():
    return children(lambda pipe: pipe.send("a copy"), 1, needs_copy=True)[0]

def connection():
    here, client = socket.socketpair()
    outcome, pipes = children(situation.stay, 1, connections=1)
    for end in (pipes or []):
        end[0].recv() if outcome == "works" else None
    here.close()
    ended = bool(select.select([client], [], [], 0.3)[0])
    for end in (pipes or []):
        end[0].send("go")
    return outcome if outcome != "works" or ended else "leak"

def slow(target):
    before = imports()
    outcome, _ = children(target, 4, slow_import=True)
    return outcome if outcome != "works" or imports() - before <= 1 else "imports"

import slow as loaded_here
found = {"an object that can't be pickled": copy(), "four children, a slow module": slow(situation.by_slow),
         "a client's connection": connection()}
situation.pool.submit(int).result()
found["a thread pool"] = children(situation.by_pool, 1)[0]
found["a thread pool, four children, a slow module"] = slow(situation.by_slow_and_pool)
emit(measured=found)
'''
_CAUSES = {"not picklable": COPY, "stuck": THREADS, "leak": LEAK, "imports": IMPORTS, "unknown": UNKNOWN}
_WORDS = {
    "not picklable": "could not be made",
    "stuck": "waited for ever",
    "leak": "kept the client waiting",
    "imports": "all imported the module",
    "unknown": "no method",
}


def judge_choose(attempt: Attempt) -> Verdict:
    seen = attempt.measure(SITUATIONS, timeout=40.0)
    wrong = {situation: outcome for situation, outcome in seen.items() if outcome != "works"}
    expected = f"in all {len(seen)} situations, children that work, at no needless cost"
    if not wrong:
        return passed(f"{len(seen)} of {len(seen)} situations are well: {', '.join(seen)}")
    told = "; ".join(f"{situation}: {_WORDS[outcome]}" for situation, outcome in wrong.items())
    first = next(each for each in ("unknown", *_CAUSES) if each in wrong.values())
    return failed(told, expected, _CAUSES[first])


EXERCISES = (
    Exercise(
        name="06.3",
        kind="could",
        task="write a rule of your own: the check puts it into five real situations and looks at the children",
        skeleton=CHOOSE,
        reference=CHOOSE_BY_CASE,
        also_right=(CHOOSE_SHORT, CHOOSE_FORK_WHERE_SAFE),
        wrong=CHOOSE_WRONG,
        hints=(
            "Which method brings along an object that can't be pickled? What must not be there for it to be safe?",
            "A fork server forks, but from a process with nothing in it: what does it save where spawn is slow?",
            "Fork only where `needs_copy`, and a fork server where many children need the slow module.",
        ),
        judge=judge_choose,
    ),
)
