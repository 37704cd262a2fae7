"""07.2, should: a launcher that counts the messages of its children instead of the children."""

from lab_support.notebook.moves.exercises import Attempt, Exercise, Verdict, Wrong, changed, failed, passed

READY = '''\
%%python_process --name launcher --timeout 15 --expect any --into launched
from multiprocessing import connection
from lab_support.notebook.stages.start_up import started

def await_ready(children):
    """Wait for all of them. Returns "ready", or the name of one that ends first, even after READY."""
    ready = 0
    while ready < len(children):
        ends = {child.sentinel: child.name for child in children}
        for came in connection.wait([*ends, *(child.pipe for child in children)]):
            if came in ends:
                return ends[came]
            came.recv()
            ready += 1
    return "ready"

if __name__ == "__main__":
    with started({"api-0": "slow", "api-1": "prompt", "api-2": "eager"}) as children:
        print("the launcher says:", await_ready(children))
        for child in children:
            print(child.name, "serves a client" if child.answers_health() else "refuses a client")
'''
_BEGIN = "    ready = 0\n    while ready < len(children):\n"
_COUNT = "            came.recv()\n            ready += 1\n"
_END = '    return "ready"\n\nif'
_LOOP = READY[READY.index(_BEGIN) : READY.index('    return "ready"')]

READY_SET = changed(
    READY,
    _BEGIN,
    "    awaited = {child.pipe for child in children}\n    while awaited:\n",
    _COUNT,
    "            came.recv()\n            awaited.discard(came)\n",
)
READY_NAMES = changed(
    READY,
    _BEGIN,
    "    ready = dict.fromkeys((child.pipe for child in children), False)\n    while not all(ready.values()):\n",
    _COUNT,
    '            ready[came] = came.recv() == "READY"\n',
)
READY_PIPES = changed(
    READY,
    _BEGIN,
    "    pipes = [child.pipe for child in children]\n    while pipes:\n",
    "connection.wait([*ends, *(child.pipe for child in children)])",
    "connection.wait([*ends, *pipes])",
    _COUNT,
    "            pipes.remove(came)\n",
)

COUNTED = (
    "two messages of one child count for two children: it says ready, and a child that has never said so refuses "
    "clients; keep account of who is ready, not of how often something was said"
)
FOR_EVER = "all children are ready, and it waits on: every child sends the same word, and the pipe says whose it is"
END_UNHEARD = "a child died while it loaded, and it waits on: nothing comes through the pipe of a dead child"
FORGOTTEN = "a child that was ready has been killed, and it says ready all the same: watch a ready child's end, too"
NAMED = "it names a child that has not ended"

READY_WRONG = (
    Wrong(COUNTED, changed(READY, _END, '    return "ready" if all(c.is_alive() for c in children) else "?"\n\nif')),
    Wrong(
        COUNTED,
        changed(
            READY,
            _COUNT,
            "            while came.poll():\n                came.recv()\n            ready += 1\n",
        ),
    ),
    Wrong(
        FOR_EVER,
        changed(
            READY,
            "    ready = 0\n    while ready < len",
            "    ready = set()\n    while len(ready) < len",
            _COUNT,
            "            ready.add(came.recv())\n",
        ),
    ),
    Wrong(END_UNHEARD, changed(READY, _LOOP, "    for child in children:\n        child.pipe.recv()\n")),
    Wrong(
        FORGOTTEN,
        changed(
            READY,
            _BEGIN,
            "    children = list(children)\n    while children:\n",
            _COUNT,
            "            children = [child for child in children if child.pipe != came]\n",
        ),
    ),
)

# What each launcher is to say of its three children.
_EXPECTED = {"slow": "ready", "raising": "api-1", "killed": "api-1", "leaving": "api-0"}
MEASURE_READY = """
import answer
from lab_support.notebook.script import emit
from lab_support.notebook.stages.start_up import at_the_same_time, started

CHILDREN = {
    "slow": ("slow", "prompt", "eager"),
    "raising": ("prompt", "raises", "slow"),
    "killed": ("prompt", "killed", "eager"),
    "leaving": ("leaves", "slow", "prompt"),
}

def launch(fates, all_here):
    named = {f"api-{place}": fate for place, fate in enumerate(fates)}
    with started(named, all_here=all_here) as children:
        said = answer.await_ready(children)
        return {"said": said, "served": sum(child.answers_health() for child in children)}

jobs = {name: lambda all_here, fates=fates: launch(fates, all_here) for name, fates in CHILDREN.items()}
answers = at_the_same_time(jobs)
emit(measured={name: each if isinstance(each, dict) else {"said": each, "served": 0} for name, each in answers.items()})
"""


def judge_ready(attempt: Attempt) -> Verdict:
    seen = attempt.measure(MEASURE_READY, timeout=40.0)
    said = {name: each["said"] for name, each in seen.items()}
    served = seen["slow"]["served"]
    measured = f"{_in_words(said)}; after the first, {served} of 3 serve clients"
    cause = _cause(said, served)
    return failed(measured, f"{_in_words(_EXPECTED)}; 3 of 3", cause) if cause else passed(measured)


def _in_words(said: dict[str, str]) -> str:
    return ", ".join(f"one is {name}: “{each}”" for name, each in said.items())


def _cause(said: dict[str, str], served: int) -> str:
    if error := next((each for each in said.values() if "Error" in each), ""):
        return f"it stops there: {error}"
    if said["slow"] == "no answer":
        return FOR_EVER
    if "no answer" in (said["raising"], said["killed"]):
        return END_UNHEARD
    if said["slow"] != "ready":
        return NAMED
    if served < 3 or said["killed"] == "ready":
        return COUNTED
    if said["leaving"] != "api-0":
        return FORGOTTEN
    return "" if said == _EXPECTED else NAMED


EXERCISES = (
    Exercise(
        name="07.2",
        kind="should",
        task="find out why the launcher says ready too early, and mend `await_ready`; it must still name one that ends",
        skeleton=READY,
        reference=READY_SET,
        also_right=(READY_NAMES, READY_PIPES),
        wrong=READY_WRONG,
        hints=(
            "Print in the loop which child each message is from. How many are there from api-2?",
            "What has to be true of every child when it returns? Which variable knows that of each?",
            "Begin with `awaited = {child.pipe for child in children}`, and take each pipe out as it says READY.",
        ),
        judge=judge_ready,
    ),
)
