"""Predictions of notebook 02, asked again with other numbers."""

from collections.abc import Mapping
from random import Random
from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.again import Again, Found
from lab_support.notebook.page.tables import Table

METHODS = ("fork", "spawn", "forkserver")

# ---- 02.5: four things before start() --------------------------------------------------------------------------------

THINGS = {
    "an environment variable is set": ('os.environ["COLOUR"] = "red"', 'os.environ.get("COLOUR") == "red"'),
    "the current folder is changed": ('os.chdir("/")', 'os.getcwd() == "/"'),
    "the umask is changed": ("os.umask(0o027)", "os.umask(0) == 0o027"),
    "the priority is lowered (nice)": ("os.nice(3)", "os.nice(0) == 3 + before"),
    "SIGHUP is ignored": (
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)",
        "signal.getsignal(signal.SIGHUP) == signal.SIG_IGN",
    ),
    "a Python function handles SIGUSR1": (
        "signal.signal(signal.SIGUSR1, print)",
        "callable(signal.getsignal(signal.SIGUSR1))",
    ),
    "a global variable is changed, below the guard": ('setting = "changed"', 'setting == "changed"'),
    "a global lock is taken": ("lock.acquire()", "lock.locked()"),
    "a second thread is started": (
        "threading.Thread(target=threading.Event().wait, daemon=True).start()",
        'len(os.listdir("/proc/self/task")) > 1',
    ),
    "a file is opened, and marked as inheritable": (
        "os.dup2(os.open(__file__, os.O_RDONLY), 150, inheritable=True)",
        'os.path.exists("/proc/self/fd/150")',
    ),
}


def draw_things(random: Random) -> dict[str, Any]:
    return {"method": random.choice(METHODS), "things": random.sample(sorted(THINGS), 4)}


def words_of_things(given: Mapping[str, Any]) -> str:
    return f"how many of these four a child by {given['method']} finds as in its parent: {'; '.join(given['things'])}"


def program_of_things(given: Mapping[str, Any]) -> str:
    set_up = "\n    ".join(THINGS[name][0] for name in given["things"])
    found = ", ".join(THINGS[name][1] for name in given["things"])
    return f"""\
import multiprocessing, os, signal, threading
from lab_support.notebook.script import emit

setting, lock = "as in the file", threading.Lock()

def work(before):
    emit(found=[{found}])

if __name__ == "__main__":
    before = os.nice(0)
    {set_up}
    child = multiprocessing.get_context("{given["method"]}").Process(target=work, args=(before,))
    child.start()
    child.join()
"""


def find_things(result: ProcessResult, given: Mapping[str, Any]) -> Found:
    found = result.events[-1].fields["found"]
    words = ["as in the parent" if there else "as if new, or not at all" for there in found]
    rows = tuple(zip(given["things"], words, strict=True))
    return Found(measured=sum(found), shown=Table((f"before start() by {given['method']}", "the child finds"), rows))


def letter_of_count(count: int, _given: Mapping[str, Any]) -> str:
    return {0: "a", 1: "a", 2: "b", 3: "c", 4: "d"}[count]


# ---- 02.6: who sets the variable, and when ---------------------------------------------------------------------------

FIRST, LAST, OWN, ALL = "the first one's GPU, all of them", "the last one's GPU", "its own GPU each", "all GPUs"


def draw_setting(random: Random) -> dict[str, Any]:
    return {
        "method": random.choice(METHODS),
        "count": random.choice((2, 3)),
        "by": random.choice(("launcher", "worker")),
        "asked": random.choice((True, False)),
    }


def words_of_setting(given: Mapping[str, Any]) -> str:
    asked = "the launcher has asked for its GPUs; then" if given["asked"] else "the launcher asks for no GPU;"
    setting = f"each of {given['count']} workers by {given['method']} sets the variable in its first line"
    if given["by"] == "launcher":
        setting = f"it sets the variable before each of {given['count']} starts by {given['method']}"
    return f"{asked} {setting}: what the workers see"


def program_of_setting(given: Mapping[str, Any]) -> str:
    set_it = 'os.environ["CUDA_VISIBLE_DEVICES"] = gpu'
    return f"""\
import functools, multiprocessing, os
from lab_support.notebook.script import emit

@functools.cache
def visible_gpus():
    return os.environ["CUDA_VISIBLE_DEVICES"]

def work(gpu):
    {set_it if given["by"] == "worker" else "pass"}
    emit(sees=visible_gpus())

if __name__ == "__main__":
    os.environ["CUDA_VISIBLE_DEVICES"] = "0,1,2,3"
    {"visible_gpus()" if given["asked"] else "pass"}
    for gpu in "0123"[:{given["count"]}]:
        {set_it if given["by"] == "launcher" else "pass"}
        child = multiprocessing.get_context("{given["method"]}").Process(target=work, args=(gpu,))
        child.start()
        child.join()
"""


def find_setting(result: ProcessResult, given: Mapping[str, Any]) -> Found:
    seen = [event.fields["sees"] for event in result.events]
    rows = tuple((f"worker {number}", sees) for number, sees in enumerate(seen))
    return Found(measured=seen, shown=Table((f"by {given['method']}", "sees"), rows))


def letter_of_setting(seen: list[str], given: Mapping[str, Any]) -> str:
    count = given["count"]
    by_finding = {
        tuple("0123"[:count]): "b",
        ("0",) * count: "a",
        (str(count - 1),) * count: "c",
        ("0,1,2,3",) * count: "d",
    }
    return by_finding.get(tuple(seen), "")


AGAIN = (
    Again(
        "02.5",
        draw=draw_things,
        words=words_of_things,
        options=lambda given: {"a": "at most one", "b": "two", "c": "three", "d": "all four"},
        program=program_of_things,
        find=find_things,
        letter=letter_of_count,
    ),
    Again(
        "02.6",
        draw=draw_setting,
        words=words_of_setting,
        options=lambda given: {"a": FIRST, "b": OWN, "c": LAST, "d": ALL},
        program=program_of_setting,
        find=find_setting,
        letter=letter_of_setting,
    ),
)
