"""The claims of notebook 02, each with an experiment in which it is false."""

import sys
from collections.abc import Callable
from pathlib import Path

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.figures.start_costs import Costs, start_costs
from lab_support.notebook.moves.answer_files import load
from lab_support.notebook.moves.blanks import blank
from lab_support.notebook.moves.exercises import BrokenClaim, cell, changed, nothing_left

verdicts = load(Path(__file__).with_name("02_verdicts.py"))

THREE_WORKERS, STEPS, TORCH, BROUGHT = (
    cell("02", name) for name in ("three_workers", "steps", "with_torch", "brought")
)
READY, PRELOADED, OWN_GPU = (blank(name).reference for name in ("02.b1", "02.b2", "02.b3"))

# ---- the puzzle ------------------------------------------------------------------------------------------------------

_SERVER_BEFORE = """\
        stop = multiprocessing.forkserver._forkserver._stop if method == "forkserver" else print
        for number in range(3):
            stop()
"""
_NEW_SERVER_FOR_EACH = changed(
    THREE_WORKERS, "import multiprocessing, os\n", "import multiprocessing.forkserver, os\n",
    "        for number in range(3):\n", _SERVER_BEFORE,
)  # fmt: skip
_ANOTHER_DEFAULT = changed(
    THREE_WORKERS, "    emit(default=", '    multiprocessing.set_start_method("spawn")\n    emit(default='
)
_DEFAULT = "forkserver" if sys.version_info >= (3, 14) else "fork"

# ---- before the first line -------------------------------------------------------------------------------------------

_STEPS_GUARDED = changed(
    STEPS,
    'import torch\nemit(done="the script imports torch", version=torch.__version__)\n',
    "",
    'main__":\n',
    'main__":\n    import torch\n    emit(done="the script imports torch", version=torch.__version__)\n',
)
_STEPS_FORKED = changed(STEPS, '"spawn"', '"fork"')
_READY_BOTH_TIMES = changed(
    READY, "        if waits:\n            from_worker.recv()\n", "        from_worker.recv()\n"
)

# ---- torch -----------------------------------------------------------------------------------------------------------

# Only the methods that a claim is about, because each import of torch takes seconds.
_METHODS = '(("spawn", 1), ("forkserver", 2), ("forkserver, preloaded", 2), ("fork", 2))'
_SERVER_PRELOADED = changed(
    TORCH,
    _METHODS,
    '(("spawn", 1), ("forkserver, preloaded", 2))',
    "            emit(sample)\n",
    '            emit({**sample, "method": method.removesuffix(", preloaded")})\n',
)
_PRELOADED_ALL = changed(
    TORCH,
    _METHODS,
    '(("forkserver, preloaded", 2),)',
    "            emit(sample)\n",
    '            for name in ("spawn", "forkserver", "forkserver, preloaded", "fork"):\n'
    '                emit({**sample, "method": name})\n',
)
_NOT_PRELOADED = changed(PRELOADED, '    context.set_forkserver_preload(["torch"])\n', "")

# ---- what it brings along --------------------------------------------------------------------------------------------

_BROUGHT_UNSET = changed(
    BROUGHT,
    '    os.environ["COLOUR"], setting = "red", "changed"\n    os.chdir("/")\n',
    '    setting = "changed"\n',
    "    resource.setrlimit(resource.RLIMIT_NOFILE, (200, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))\n",
    "",
    "    signal.signal(signal.SIGHUP, signal.SIG_IGN)\n",
    "",
    'socket.create_server(("127.0.0.1", 0))',
    "socket.socket()",
)
_BROUGHT_FORKED = changed(BROUGHT, '"spawn"', '"fork"')
_BROUGHT_ON_TOP = changed(
    BROUGHT,
    "    threading.Thread(target=threading.Event().wait, daemon=True).start()\n",
    "",
    "def work",
    "threading.Thread(target=threading.Event().wait, daemon=True).start()\n\ndef work",
)
_ASKS_FIRST = changed(OWN_GPU, "def work(method, gpu):\n", "def work(method, gpu):\n    visible_gpus()\n")
_NEVER_ASKED = changed(OWN_GPU, "launcher_sees=visible_gpus()", 'launcher_sees=""')


def _more_than(few: float, figure: Callable[[ProcessResult], float]) -> Callable[[ProcessResult], bool]:
    return lambda result: figure(result) > few


def _costs(result: ProcessResult) -> Costs:
    return start_costs(result, "torch")


def _sooner(result: ProcessResult) -> float:
    return _costs(result).ms("spawn", 1) / verdicts.copied(_costs(result))


def _rss_by_uss(result: ProcessResult) -> float:
    memory = verdicts.memory_of_workers(result)
    return memory["rss"] / memory["uss"]


def _row(row: str, name: str, option: str) -> BrokenClaim:
    """One row of the table of 02.5."""
    broken = _BROUGHT_UNSET if option == verdicts.KEPT else _BROUGHT_ON_TOP if name == "thread" else _BROUGHT_FORKED
    return BrokenClaim(
        f"To a spawned child, {row}: {option}",
        BROUGHT,
        broken,
        lambda result: verdicts.brought_along(result).rows[row] == option,
    )


def _gpus(method: str, option: str, broken: str) -> BrokenClaim:
    """One row of the table of 02.6."""
    return BrokenClaim(
        f"By {method}, a worker that sets the variable itself sees {option}",
        OWN_GPU,
        broken,
        lambda result: verdicts.gpus_seen(result).rows[method] == option,
    )


BROKEN_CLAIMS = (
    BrokenClaim(
        "Started by forkserver, all three workers find the first one's GPU",
        THREE_WORKERS,
        _NEW_SERVER_FOR_EACH,
        lambda result: verdicts.gpus_by_method(result)["forkserver"] == ["0", "0", "0"],
    ),
    BrokenClaim(
        "The default start method is the documented one for this Python and Linux",
        THREE_WORKERS,
        _ANOTHER_DEFAULT,
        lambda result: result.told["default"] == _DEFAULT,
    ),
    BrokenClaim(
        "The child ran the top of the script once more",
        STEPS,
        _STEPS_GUARDED,
        lambda result: verdicts.runs_of_the_top(result) == 2,
    ),
    BrokenClaim(
        "The kernel has another command line for the child than for its parent",
        STEPS,
        _STEPS_FORKED,
        lambda result: len(result.spawned) == 1,
    ),
    BrokenClaim(
        "When start() returns, the worker does not listen yet",
        READY,
        _READY_BOTH_TIMES,
        lambda result: verdicts.knock(result) == verdicts.REFUSED,
    ),
    BrokenClaim(
        "The fork server's second worker takes over a third of a spawned one's time: it imports torch anew",
        TORCH,
        _SERVER_PRELOADED,
        lambda result: verdicts.next_by_spawned(_costs(result)) > 1 / 3,
        seconds=120,
    ),
    BrokenClaim(
        "A fork of a process that has torch is ready over 8 times sooner than a spawned worker",
        TORCH,
        _PRELOADED_ALL,
        _more_than(8, _sooner),
        seconds=120,
    ),
    BrokenClaim(
        "RSS shows over 10 times what such a worker has of its own",
        PRELOADED,
        _NOT_PRELOADED,
        _more_than(10, _rss_by_uss),
    ),
    *(_row(row, name, option) for row, (name, option) in verdicts.ROWS.items()),
    _gpus("fork", verdicts.ALL, _NEVER_ASKED),
    _gpus("spawn", verdicts.OWN, _ASKS_FIRST),
    _gpus("forkserver", verdicts.OWN, _ASKS_FIRST),
    nothing_left("None of this notebook's processes is left", THREE_WORKERS),
)
