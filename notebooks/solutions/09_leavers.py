"""09.1, must: four workers with a precaution, of which three can outlive their parent."""

from lab_support.notebook.moves.exercises import Attempt, Exercise, Verdict, Wrong, changed, failed, passed

LEAVERS = """\
%%python_process --name four --timeout 30 --expect any --into four
import ctypes, os, select, signal, threading
from lab_support.notebook.stages.orphans import EVENTS, fate

def a(parent, pipe):  # runs in the worker, as the others do
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() == 1:
        os._exit(3)

def b(parent, pipe):
    threading.Thread(target=lambda: (os.read(pipe, 1), exit(3)), daemon=True).start()

def c(parent, pipe):
    ended = os.pidfd_open(os.getppid())
    threading.Thread(target=lambda: (select.select([ended], [], []), os._exit(3)), daemon=True).start()

def d(parent, pipe):
    threading.Thread(target=lambda: (os.read(pipe, 1), os.kill(os.getpid(), signal.SIGKILL)), daemon=True).start()

if __name__ == "__main__":
    for precaution in (a, b, c, d):
        for event in EVENTS[:2]:
            print(f"{precaution.__name__}: {event}: {fate(precaution, event)['fate']}")
"""
_A, _B, _C = "os.getppid() == 1", "1), exit(3)", "os.pidfd_open(os.getppid())"
_MENDED = ("os.getppid() != parent", "1), os._exit(3)", "os.pidfd_open(parent)")
_OPEN = "    ended = os.pidfd_open(os.getppid())\n"


def _mended(*pairs: str) -> str:
    return changed(LEAVERS, *pairs)


LEAVERS_RIGHT = _mended(_A, _MENDED[0], _B, _MENDED[1], _C, _MENDED[2])
LEAVERS_LOOK = _mended(
    _A,
    "parent != os.getppid()",
    _B,
    "1), os.kill(os.getpid(), signal.SIGTERM)",
    _OPEN,
    _OPEN + "    if os.getppid() != parent:\n        os._exit(3)\n",
)
LEAVERS_BY_PIPE = _mended(
    "    if os.getppid() == 1:\n",
    "    if select.select([pipe], [], [], 0)[0]:  # its end\n",
    _B,
    "1), signal.pthread_kill(threading.main_thread().ident, 9)",
    _OPEN,
    "    if select.select([pipe], [], [], 0)[0]:\n        os._exit(3)\n" + _OPEN,
)

NOT_ONE = (
    "a outlives a parent that ends before the precaution is taken: its parent is then not process 1 here, but a "
    "subreaper, as under systemd; compare with `parent`"
)
A_THREAD = "b outlives its parent: that exit is an exception, which ends the thread that raises it, and not the process"
ANOTHERS = (
    "c outlives a parent that ends before the precaution is taken: it then waits for the end of whoever has adopted it"
)
TOO_EARLY = "it ends while its parent lives"
D_TOO = "d was right as it was, and now its worker outlives its parent"

LEAVERS_WRONG = (
    Wrong(NOT_ONE, _mended(_B, _MENDED[1], _C, _MENDED[2])),
    Wrong(A_THREAD, _mended(_A, _MENDED[0], _B, "1), quit(3)", _C, _MENDED[2])),
    Wrong(A_THREAD, _mended(_A, _MENDED[0], _C, _MENDED[2])),
    Wrong(ANOTHERS, _mended(_A, _MENDED[0], _B, _MENDED[1])),
    Wrong(
        ANOTHERS,
        _mended(_A, _MENDED[0], _B, _MENDED[1], _OPEN, _OPEN + "    if os.getppid() == 1:\n        os._exit(3)\n"),
    ),
    Wrong(f"a: {TOO_EARLY}", _mended(_A, "os.getppid() != 1", _B, _MENDED[1], _C, _MENDED[2])),
)

MEASURE_LEAVERS = """
import answer
from lab_support.notebook.script import emit
from lab_support.notebook.stages.orphans import KILLED, KILLED_EARLY, THREAD_ENDED, fate

events = {"killed": KILLED, "early": KILLED_EARLY, "lives": THREAD_ENDED}
emit(measured={
    name: {what: fate(getattr(answer, name), event) for what, event in events.items()} for name in ("a", "b", "c", "d")
})
"""


def judge_leavers(attempt: Attempt) -> Verdict:
    seen = attempt.measure(MEASURE_LEAVERS, timeout=30.0)
    left = [name for name, each in seen.items() if not _ends(each)]
    early = [name for name, each in seen.items() if _too_early(each)]
    measured = f"outlive their parent: {', '.join(left) or 'none'}"
    expected = "outlive their parent: none, whenever it ends; and each lives as long as its parent does"
    if early:
        return failed(f"{measured}; end before it: {', '.join(early)}", expected, f"{early[0]}: {TOO_EARLY}")
    if left:
        causes = {"a": NOT_ONE, "b": A_THREAD, "c": ANOTHERS, "d": D_TOO}
        return failed(measured, expected, causes[left[0]])
    return passed(measured)


def _ends(told: dict[str, dict[str, str]]) -> bool:
    return all(told[when]["fate"] == "it ends" for when in ("killed", "early"))


def _too_early(told: dict[str, dict[str, str]]) -> bool:
    """By itself; the kernel's signal at the end of the thread is another matter, and 09.b1's."""
    return told["lives"]["how"].startswith("exit code")


EXERCISES = (
    Exercise(
        name="09.1",
        kind="must",
        task="find out which of the four workers can outlive their parent, and mend them",
        skeleton=LEAVERS,
        reference=LEAVERS_RIGHT,
        also_right=(LEAVERS_LOOK, LEAVERS_BY_PIPE),
        wrong=LEAVERS_WRONG,
        hints=(
            "Three of them can live on. Who is the parent of a process whose parent has ended?",
            "`exit` raises SystemExit. Where does an exception of a thread end?",
            "a: compare `os.getppid()` with `parent`. b: `os._exit(3)`. c: open the pidfd of `parent`, and "
            "then compare as in a, because that pid may be another's by now.",
        ),
        judge=judge_leavers,
    ),
)
