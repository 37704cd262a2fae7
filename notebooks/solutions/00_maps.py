"""00.1, must: which processes have PyTorch in their memory, by /proc/PID/maps."""

from lab_support.notebook.moves.exercises import Attempt, Exercise, Verdict, Wrong, changed, failed, passed

MAPS = '''\
def maps_torch(pid):
    """Whether the process `pid` has PyTorch's library, libtorch, in its memory; False if it has ended."""
    with open(f"/proc/{pid}/cmdline") as text:
        return "libtorch" in text.read()


{role: maps_torch(pid) for role, pid in server.pids.items()}
'''
MAPS_RIGHT = '''\
def maps_torch(pid):
    """Whether the process `pid` has PyTorch's library, libtorch, in its memory; False if it has ended."""
    try:
        with open(f"/proc/{pid}/maps") as text:
            return "libtorch" in text.read()
    except OSError:
        return False
'''
MAPS_BY_LINE = """\
import os
from pathlib import Path


def maps_torch(pid):
    maps = Path("/proc", str(pid), "maps")
    lines = maps.read_text().splitlines() if maps.exists() else []
    names = [os.path.basename(line.split(maxsplit=5)[-1]) for line in lines]
    return any(name.startswith("libtorch") for name in names)
"""
MAPS_WITH_INSTRUMENTS = """\
from lab_support.instruments import proc


def maps_torch(pid):
    return any(name.startswith("libtorch") for name in proc.mapped_libraries(pid))
"""

ELSEWHERE = "the command line says how a process was started, not what is in its memory: read /proc/PID/maps"
ONLY_ITSELF = "that is the memory of the process that asks (/proc/self): use the pid"
NO_SUCH_PROCESS = "a process that has ended has no /proc/PID any more: answer False at an OSError"
ONLY_OPEN = "an open file is not in memory: /proc/PID/fd has open files, /proc/PID/maps those that are mapped"
OTHER_FILE = "a file with torch in its name is not yet the library: look for libtorch"
NOT_A_BOOL = "`maps_torch` is to answer True or False"

MAPS_WRONG = (
    Wrong(ELSEWHERE, changed(MAPS_RIGHT, "/maps", "/comm")),
    Wrong(ONLY_ITSELF, changed(MAPS_RIGHT, "/proc/{pid}/maps", "/proc/self/maps")),
    Wrong(
        NO_SUCH_PROCESS,
        changed(
            MAPS_RIGHT,
            """\
    try:
        with open(f"/proc/{pid}/maps") as text:
            return "libtorch" in text.read()
    except OSError:
        return False
""",
            """\
    with open(f"/proc/{pid}/maps") as text:
        return "libtorch" in text.read()
""",
        ),
    ),
    Wrong(
        ONLY_OPEN,
        changed(
            MAPS_RIGHT,
            """\
        with open(f"/proc/{pid}/maps") as text:
            return "libtorch" in text.read()
""",
            """\
        import os
        folder = f"/proc/{pid}/fd"
        return any("libtorch" in os.readlink(f"{folder}/{number}") for number in os.listdir(folder))
""",
        ),
    ),
    Wrong(OTHER_FILE, changed(MAPS_RIGHT, '"libtorch" in', '"torch" in')),
    Wrong(NOT_A_BOOL, changed(MAPS_RIGHT, 'return "libtorch" in text.read()', "return text.read()")),
)

# Files of one page stand for the library: what counts is the name of a file that is mapped.
MEASURE_MAPS = """
import mmap, os, signal, sys, tempfile
from pathlib import Path
from lab_support.notebook.script import emit
import answer

folder = Path(tempfile.mkdtemp())
library, notes = folder / "libtorch_cpu.so", folder / "torch_notes.txt"
for path in (library, notes):
    path.write_bytes(bytes(4096))
ready, told = os.pipe()
pids = {}

def start(name, keep):
    pid = os.fork()
    if pid == 0:
        kept = keep()
        os.write(told, b"!")
        signal.pause()
    pids[name] = pid
    os.read(ready, 1)

def mapped(path):
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 4096, prot=mmap.PROT_READ)

start("engine-0", lambda: mapped(library))
start("api-0", lambda: None)
start("one that has the library open", lambda: open(library, "rb"))
start("one that maps another file", lambda: mapped(notes))
pids["one that has ended"] = os.fork() or os._exit(0)
os.waitpid(pids["one that has ended"], 0)
own = mapped(library)                   # after the forks: only the process that asks has it, besides engine-0

def asked(pid):
    try:
        return answer.maps_torch(pid)
    except OSError as error:
        return type(error).__name__

found = {name: asked(pid) for name, pid in pids.items()}
known = (True, False, "FileNotFoundError", "ProcessLookupError", "PermissionError")
emit(measured={name: each if each in known else type(each).__name__ for name, each in found.items()})
for name, pid in pids.items():
    if name != "one that has ended":
        os.kill(pid, signal.SIGKILL)
"""


def judge_maps(attempt: Attempt) -> Verdict:
    seen = attempt.measure(MEASURE_MAPS)
    true = [name for name, answer in seen.items() if answer is True]
    errors = [f"{name}: {answer}" for name, answer in seen.items() if not isinstance(answer, bool)]
    measured = f"True for {', '.join(true) or 'none'}" + "".join(f"; {each}" for each in errors)
    if true == ["engine-0"] and not errors:
        return passed(f"{measured}, and False for {len(seen) - 1} others")
    return failed(measured, "True for engine-0, False for all others", _cause_of_maps(seen, true))


def _cause_of_maps(seen: dict[str, object], true: list[str]) -> str:
    findings = (
        (isinstance(seen["engine-0"], str) and not str(seen["engine-0"]).endswith("Error"), NOT_A_BOOL),
        ("api-0" in true, ONLY_ITSELF),
        ("one that maps another file" in true, OTHER_FILE),
        ("one that has the library open" in true, ONLY_OPEN),
        (true == ["engine-0"] and isinstance(seen["one that has ended"], str), NO_SUCH_PROCESS),
    )
    return next((cause for holds, cause in findings if holds), ELSEWHERE)


EXERCISES = (
    Exercise(
        name="00.1",
        kind="must",
        task="let `maps_torch` look at the memory of the process",
        skeleton=MAPS,
        reference=MAPS_RIGHT,
        also_right=(MAPS_BY_LINE, MAPS_WITH_INSTRUMENTS),
        wrong=MAPS_WRONG,
        hints=(
            "`cat /proc/self/maps` in a terminal: each line is a part of the memory, and its last word is a file.",
            "Put `maps` in place of `cmdline`. What happens if there is no such process any more?",
            "`try:` … `except OSError: return False`",
        ),
        judge=judge_maps,
    ),
)
