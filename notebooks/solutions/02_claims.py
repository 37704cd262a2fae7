"""The claims of notebook 02, each with an experiment in which it is false."""

from typing import Any

from lab_support.instruments import import_time
from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.figures.spans import spans_of
from lab_support.notebook.figures.start_costs import Costs, start_costs
from lab_support.notebook.moves.exercises import BrokenClaim, cell, changed, nothing_left

STEPS, IMPORTS, BARE, TORCH, ROLES, KERNEL_SIDE, PYTHON_SIDE, LATE = (
    cell("02", name)
    for name in ("steps", "imports", "bare", "with_torch", "roles", "kernel_side", "python_side", "late")
)
_STEPS_LIGHT = changed(
    STEPS,
    'import numpy\nemit(done="the script imports numpy", version=numpy.__version__)\n',
    "",
    'main__":\n',
    'main__":\n    import numpy\n',
)
_STEPS_LARGE_PARCEL = changed(
    _STEPS_LIGHT, "def work():", "def work(parcel):", "target=work)", "target=work, args=([0.5] * 8_000_000,))"
)
_STEPS_TOLD_LATE = changed(STEPS, '    emit(done="start() returns")\n    child.join()\n',
                           '    child.join()\n    emit(done="start() returns")\n')  # fmt: skip
_STEPS_FORKED = changed(STEPS, '"spawn"', '"fork"')
_IMPORTS_LIGHT = changed(IMPORTS, "import numpy\n", "", 'main__":\n', 'main__":\n    import numpy\n')

# Four children each, which is what the claims are about: the cell's other counts take longer than they tell.
_BARE = changed(
    BARE, "counts=(1, 2, 4, 8), repeats=5", 'counts=(4,), repeats=5, methods=("spawn", "forkserver", "fork")'
)
_BARE_EXCHANGED = changed(
    _BARE,
    "        emit(sample)\n",
    '        emit({**sample, "method": {"spawn": "forkserver", "fork": "spawn"}.get(sample["method"], "fork")})\n',
)
_BARE_ALL_FORKED = changed(
    _BARE,
    '("spawn", "forkserver", "fork")',
    '("fork",)',
    "        emit(sample)\n",
    '        for name in ("spawn", "forkserver", "fork"):\n            emit({**sample, "method": name})\n',
)
# Two in place of four: each costs seconds, and the relation is the same.
_TORCH = changed(TORCH, "compare((1, 2, 4), 1", "compare((1, 2), 1")
_TORCH_NOT_PRELOADED = changed(
    _TORCH,
    'methods = ("spawn", "forkserver, preloaded", "fork")',
    'methods = ("spawn", "forkserver", "fork")',
    "        emit(sample)\n",
    '        emit({**sample, "method": sample["method"].replace("forkserver", "forkserver, preloaded")})\n',
)
_TORCH_NOT_FORKED = changed(
    _TORCH,
    'methods = ("spawn", "forkserver, preloaded", "fork")',
    'methods = ("spawn",)',
    "        emit(sample)\n",
    '        emit({**sample, "method": "fork"})\n',
)
_FORKED_AT_LAST = changed(_TORCH, 'start_children("spawn", 1', 'start_children("fork", 1')
_ROLES_WITH_TORCH = changed(ROLES, 'f"lab_support.processes.{role}"', '"torch"')

_KERNEL_SIDE_UNSET = changed(
    KERNEL_SIDE,
    '    os.environ["COLOUR"] = "red"\n',
    "",
    '    os.chdir("/")\n',
    "",
    "    os.umask(0o027)\n",
    "",
    "    resource.setrlimit(resource.RLIMIT_NOFILE, (200, most))\n",
    "",
    "    signal.signal(signal.SIGHUP, signal.SIG_IGN)\n",
    "",
    'socket.create_server(("127.0.0.1", 0))',
    "socket.socket()",
)
_PYTHON_SIDE_FORKED = changed(PYTHON_SIDE, '"spawn"', '"fork"')
_PYTHON_SIDE_ON_TOP = changed(
    PYTHON_SIDE,
    "    threading.Thread(target=threading.Event().wait, daemon=True).start()\n    random.seed(7)\n",
    "",
    "def work",
    "threading.Thread(target=threading.Event().wait, daemon=True).start()\nrandom.seed(7)\n\ndef work",
)


def _fields(result: ProcessResult) -> dict[str, Any]:
    return result.events[-1].fields


def _told(result: ProcessResult) -> list[str]:
    return [event.fields["done"] for event in result.events]


def _share_of_imports(result: ProcessResult) -> float:
    child = {span.done: span.ms for span in spans_of(result) if span.process == result.spawned[0].name}
    return 1 - child["the pipe brings the function"] / sum(child.values())


def _modules(result: ProcessResult) -> list[str]:
    return [each.name for top in import_time.parse(result.output_of(result.spawned[0].name, "err")) for each in top]


def _torch(result: ProcessResult) -> Costs:
    return start_costs(result, "torch")


def _ms(costs: Costs, slow: str, fast: str, count: int) -> float:
    return costs.ms(slow, count) / costs.ms(fast, count)


def _engine_beside_api_server(result: ProcessResult) -> float:
    api, engine = (event.fields["uss"][0] for event in result.events)
    return engine / api


def _inherits(words: str, name: str) -> BrokenClaim:
    return BrokenClaim(words, KERNEL_SIDE, _KERNEL_SIDE_UNSET, lambda result: _fields(result)[name])


def _starts_without(words: str, name: str, broken: str = _PYTHON_SIDE_FORKED) -> BrokenClaim:
    return BrokenClaim(words, PYTHON_SIDE, broken, lambda result: not _fields(result)[name])


BROKEN_CLAIMS = (
    BrokenClaim(
        "The child ran the script's imports once more",
        STEPS,
        _STEPS_LIGHT,
        lambda result: _told(result).count("the script imports numpy") == 2,
    ),
    BrokenClaim(
        "Python's start and the imports are nearly all of the child's time",
        STEPS,
        _STEPS_LARGE_PARCEL,
        lambda result: _share_of_imports(result) > 0.6,
    ),
    BrokenClaim(
        "start() returned before the child ran its function",
        STEPS,
        _STEPS_TOLD_LATE,
        lambda result: _told(result).index("start() returns") < _told(result).index("the pipe brings the function"),
    ),
    BrokenClaim(
        "A child that does nothing imported over 140 modules first",
        IMPORTS,
        _IMPORTS_LIGHT,
        lambda result: len(_modules(result)) > 140,
    ),
    BrokenClaim(
        "Dozens of them are parts of numpy, which nobody used",
        IMPORTS,
        _IMPORTS_LIGHT,
        lambda result: sum(name.startswith("numpy") for name in _modules(result)) > 40,
    ),
    BrokenClaim(
        "One start() by spawn made two processes",
        STEPS,
        _STEPS_FORKED,
        lambda result: len(result.processes) - 1 == 2,
    ),
    BrokenClaim(
        "The kernel calls the child by another command line than its parent",
        STEPS,
        _STEPS_FORKED,
        lambda result: len(result.spawned) == 1,
    ),
    BrokenClaim(
        "Four spawned children take over 5 times as long as four forked ones",
        _BARE,
        _BARE_ALL_FORKED,
        lambda result: _ms(start_costs(result), "spawn", "fork", 4) > 5,
    ),
    BrokenClaim(
        "A running fork server is over 1.5 times as fast as spawn",
        _BARE,
        _BARE_EXCHANGED,
        lambda result: _ms(start_costs(result), "spawn", "forkserver", 4) > 1.5,
    ),
    BrokenClaim(
        "A spawned child has over 2.5 times the memory of its own that a forked one has",
        _BARE,
        _BARE_ALL_FORKED,
        lambda result: start_costs(result).mb("spawn", 4) / start_costs(result).mb("fork", 4) > 2.5,
    ),
    BrokenClaim(
        "A preloaded fork server has four children with torch ready over 8 times sooner",
        _TORCH,
        _TORCH_NOT_PRELOADED,
        lambda result: _ms(_torch(result), "spawn", "forkserver, preloaded", 2) > 8,
        seconds=120,
    ),
    BrokenClaim(
        "And each has under a tenth of the memory of its own",
        _TORCH,
        _TORCH_NOT_PRELOADED,
        lambda result: _torch(result).mb("spawn", 2) / _torch(result).mb("forkserver, preloaded", 2) > 10,
        seconds=120,
    ),
    BrokenClaim(
        "A spawned child is not even three times sooner when its parent has torch",
        _TORCH,
        _FORKED_AT_LAST,
        lambda result: _ms(_torch(result), "spawn, as the parent has it", "spawn", 1) > 1 / 3,
        seconds=120,
    ),
    BrokenClaim(
        "RSS shows over 10 times what a forked child has of its own",
        _TORCH,
        _TORCH_NOT_FORKED,
        lambda result: _torch(result).mb("fork", 2, "rss") / _torch(result).mb("fork", 2) > 10,
        seconds=120,
    ),
    BrokenClaim(
        "A spawned engine core has over 2.5 times an API server's memory: it needs torch",
        ROLES,
        _ROLES_WITH_TORCH,
        lambda result: _engine_beside_api_server(result) > 2.5,
    ),
    _inherits("A spawned child inherits the environment", "variable"),
    _inherits("It inherits the current folder", "folder"),
    _inherits("It inherits the umask", "umask"),
    _inherits("It inherits resource limits", "limit"),
    _inherits("It goes on ignoring what its parent ignores", "ignored"),
    _inherits("A socket among its arguments arrives", "door"),
    _starts_without("A signal handler is not inherited", "handler"),
    _starts_without("A global variable is as in the file again", "setting"),
    _starts_without("A lock that the parent holds is free in the child", "lock"),
    _starts_without("No thread comes along", "threads", _PYTHON_SIDE_ON_TOP),
    _starts_without("The state of random does not come along", "seeded", _PYTHON_SIDE_ON_TOP),
    _starts_without("An open file that is no argument is not there, not even an inheritable one", "file"),
    BrokenClaim(
        "A fork server's children have the environment of the time when it started",
        LATE,
        changed(LATE, '"forkserver"', '"spawn"'),
        lambda result: [event.fields["colour"] for event in result.events] == ["red", "red"],
    ),
    nothing_left("None of this notebook's processes is left", LATE),
)
