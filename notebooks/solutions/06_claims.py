"""The claims of notebook 06, each with an experiment in which it is false."""

from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.answer_files import modules_of
from lab_support.notebook.moves.blanks import blank
from lab_support.notebook.moves.exercises import BrokenClaim, cell, changed, on_recording

ROWS, GHOST = cell("06", "rows"), cell("06", "ghost")
REPAIRED, STUCK, STARTS = (blank(f"06.b{index}").reference for index in (1, 2, 4))


def _told(result: ProcessResult) -> list[dict[str, Any]]:
    return [event.fields for event in result.events]


# ---- what runs in the kernel of the notebook, as a program

IN_A_KERNEL = """\
from dataclasses import asdict, replace
from jupyter_client.manager import start_new_kernel
from lab_support.notebook.script import emit

kernel, client = start_new_kernel()
client.execute_interactive("from lab_support.supervision.start_rule import *; choice = choose('fork', Seen.here())")
asked = {"method": "choice.method", "reasons": "choice.warning"}
told = client.execute_interactive("", user_expressions=asked)["content"]["user_expressions"]
kernel.shutdown_kernel(now=True)
emit({name: told[name]["data"]["text/plain"] for name in asked})
"""
_OF_A_PLAIN_PROGRAM = """\
from lab_support.supervision.start_rule import Seen, choose
from lab_support.notebook.script import emit
choice = choose("fork", Seen.here())
emit(method=repr(choice.method), reasons=choice.warning)
"""
CAPTURED = """\
from dataclasses import replace
from lab_support.supervision.seen_elsewhere import PLAIN, seen_elsewhere
from lab_support.supervision.start_rule import choose
from lab_support.notebook.script import emit

seen = {name: each.seen for name, each in seen_elsewhere().items()}
emit(forced=[choose("fork", each).method for each in seen.values()],
     forkserver=[choose("forkserver", seen[name]).method for name in ("macOS", "an actor of Ray 2.60")])
"""
_NVML_ONLY = changed(CAPTURED, "emit(forced=", 'seen["cuInit without PyTorch"] = PLAIN\nemit(forced=')
_NO_MAC = changed(CAPTURED, "emit(forced=", 'seen["macOS"] = replace(seen["macOS"], platform="linux")\nemit(forced=')

RECORDED = """\
from lab_support.instruments.record import recordings
from lab_support.notebook.script import emit
from lab_support.notebook.figures.start_costs import start_costs

costs = start_costs(recordings.load("start_methods"), "torch")
emit(saved=costs.ms("fork", 1) / costs.ms("spawn", 1))
"""

# ---- what the child meets

_ROW_WORDS = "A forked child that uses {row} {option}"
_EXPECTED = {
    "a thread pool that the parent has used": (
        "waits for ever",
        ("lambda: pool.submit(int).result())", "lambda: ThreadPoolExecutor(1).submit(int).result())"),
    ),
    "NumPy's own threads": (
        "works",
        ("lambda: float((square @ square)[0, 0])", "__import__('signal').pause"),
    ),
    "logging, beside a thread": (
        "works",
        ('lambda: logging.warning("from the child")', "lambda: pool.submit(int).result()"),
    ),
    "a half-read file": (
        "disturbs its parent",
        ("len(file.read(2))", 'len(open(f"/proc/self/fd/{file.fileno()}", "rb").read(2))'),
    ),
    "a random.Random(7)": ("gets the same as its sibling", ("own = random.Random(7)", "own = random.SystemRandom()")),
}


def _verdicts() -> Any:
    (module,) = modules_of("06", "verdicts")
    return module


def _meets(row: str, option: str) -> Any:
    def holds(result: ProcessResult) -> bool:
        told = {fields["row"]: fields for fields in _told(result)}
        return bool(_verdicts().met(told[row]) == option)

    return holds


def _only_left_behind(result: ProcessResult) -> bool:
    verdicts, told = _verdicts(), {fields["row"]: fields for fields in _told(result)}
    harmed = [row for row in verdicts.WAYS if verdicts.met(told[row]) != verdicts.WORKS]
    return {verdicts.WAYS[row] for row in harmed if told[row]["rule"] == "spawn"} == {verdicts.LEFT_BEHIND}


def _helped(result: ProcessResult) -> bool:
    [told] = _told(result)
    return told["numbers"][0] != told["numbers"][1] and (told["read"], told["place"]) == ("0123", 0)


_A_THREAD_FROM_THE_START = changed(
    ROWS, "own = random.Random(7)", "early = ThreadPoolExecutor(1)\nearly.submit(int)\nown = random.Random(7)"
)

# ---- the cost of being wrong

WRONG = cell("06", "wrong")
_ONE_THREAD = changed(WRONG, "ready_timeout=8", "ready_timeout=90, threads=1")
_OBEYED = changed(WRONG, "override=True, ready_timeout=8", "override=False, ready_timeout=1")
_AT_WORK = changed(
    STUCK,
    "with forced_fork.late_engine_core() as core:",
    "import signal\nif (child := os.fork()) == 0:\n    signal.pause()\ncore = forced_fork.EngineCore(child)\nif True:",
    "facts=core.facts())\n",
    "facts=core.facts())\nos.kill(child, signal.SIGKILL)\n",
)

# ---- the cost of the choice. What a server would be whose launcher holds what its children need, and forks them all

_HEAVY_LAUNCHER = """\
import os, time
import torch
from lab_support.instruments import address_space
from lab_support.notebook.script import emit
from multiprocessing import get_context

def report(pipe):
    import torch
    pipe.send((time.process_time(), address_space.is_copy(os.getpid(), os.getppid())))

if __name__ == "__main__":
    for method in ("spawn", "fork"):
        ours, theirs = get_context("fork").Pipe()
        get_context(method).Process(target=report, args=(theirs,)).start()
        seconds, copy = ours.recv()
        emit(method=method, seconds=seconds, copies={"engine-0": copy, "api-0": copy}, says={"engine_cores": method})
"""


def _by_method(result: ProcessResult) -> dict[str, dict[str, Any]]:
    return {fields["method"]: fields for fields in _told(result)}


def _fork_to_spawn(result: ProcessResult) -> float:
    found = _by_method(result)
    return float(found["fork"]["seconds"] / found["spawn"]["seconds"])


def _copies(result: ProcessResult) -> set[str]:
    found = _by_method(result).items()
    return {f"{role} by {method}" for method, each in found for role, copy in each["copies"].items() if copy}


_ENDS_AT_ONCE = changed(GHOST, '("sys.exit(3)", ', '("os._exit(3) or sys.exit(3)", ')

BROKEN_CLAIMS = (
    BrokenClaim(
        "Asked for fork in this notebook's kernel, the rule answers spawn",
        IN_A_KERNEL,
        _OF_A_PLAIN_PROGRAM,
        lambda result: _told(result)[0]["method"] == "'spawn'",
    ),
    BrokenClaim(
        "One of its reasons is the Jupyter kernel",
        IN_A_KERNEL,
        _OF_A_PLAIN_PROGRAM,
        lambda result: "Jupyter kernel" in _told(result)[0]["reasons"],
    ),
    *(
        BrokenClaim(_ROW_WORDS.format(row=row, option=option), ROWS, changed(ROWS, *edit), _meets(row, option))
        for row, (option, edit) in _EXPECTED.items()
    ),
    BrokenClaim(
        "For what is left behind the rule finds a reason, for what is shared or doubled none",
        ROWS,
        _A_THREAD_FROM_THE_START,
        _only_left_behind,
    ),
    BrokenClaim(
        "A child that helps itself draws its own number, and leaves its parent's place alone",
        REPAIRED,
        changed(REPAIRED, "own.seed(os.getpid())", "own.seed(7)"),
        _helped,
    ),
    BrokenClaim(
        "A child forked in a cell does not end by sys.exit(), but by os._exit()",
        GHOST,
        _ENDS_AT_ONCE,
        lambda result: [fields["ended"] for fields in _told(result)[:2]] == [False, True],
    ),
    BrokenClaim("It holds the kernel's sockets", GHOST, _ENDS_AT_ONCE, lambda result: _told(result)[0]["sockets"] > 5),
    BrokenClaim(
        "With the rule overridden, the server is not ready at the end of the limit, and ends",
        WRONG,
        _ONE_THREAD,
        lambda result: _told(result)[0]["launcher"] == 1 and _told(result)[0]["seconds"] >= _told(result)[0]["limit"],
    ),
    BrokenClaim(
        "The log names no cause",
        WRONG,
        _OBEYED,
        lambda result: not any("thread" in line for line in _told(result)[0]["log"]),
    ),
    BrokenClaim(
        "The late engine core waits in a futex",
        STUCK,
        _AT_WORK,
        lambda result: "futex" in _told(result)[0]["waits_in"],
    ),
    on_recording(
        "Files of the device are mapped where the child is barred, and only there",
        "what_a_touch_leaves",
        "mappings_tell",
        '"device_mappings": 3,',
        '"device_mappings": 0,',
        module="touch_signs",
    ),
    BrokenClaim(
        "Each of these processes turns fork into spawn",
        CAPTURED,
        _NVML_ONLY,
        lambda result: _told(result)[0]["forced"] == ["spawn"] * 6,
    ),
    BrokenClaim(
        "A fork server is refused on macOS, and not in the actor",
        CAPTURED,
        _NO_MAC,
        lambda result: _told(result)[0]["forkserver"] == ["spawn", "forkserver"],
    ),
    BrokenClaim(
        "With fork, our engine core needs about as much processor time as with spawn",
        STARTS,
        _HEAVY_LAUNCHER,
        lambda result: 0.5 < _fork_to_spawn(result) < 1.7,
    ),
    BrokenClaim(
        "Where the parent has loaded PyTorch, fork takes a small part of the time (recorded)",
        RECORDED,
        changed(RECORDED, 'costs.ms("fork", 1)', 'costs.ms("forkserver", 1)'),
        lambda result: _told(result)[0]["saved"] < 0.2,
    ),
    BrokenClaim(
        "Only the engine core by fork is a copy of the launcher, and /version says so",
        STARTS,
        _HEAVY_LAUNCHER,
        lambda result: _copies(result) == {"engine-0 by fork"},
    ),
    BrokenClaim(
        "Nothing that this notebook started is running",
        """\
import os
from lab_support.instruments import proc
from lab_support.notebook.script import emit
if (child := os.fork()) == 0:
    os._exit(0)
identity = proc.read_process(child).identity
os.waitpid(child, 0)
emit(left=proc.is_running(identity))
""",
        """\
import os, signal
from lab_support.instruments import proc
from lab_support.notebook.script import emit
if (child := os.fork()) == 0:
    signal.pause()
emit(left=proc.is_running(proc.read_process(child).identity))
os.kill(child, signal.SIGKILL)
""",
        lambda result: not _told(result)[0]["left"],
    ),
)
