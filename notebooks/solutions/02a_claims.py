"""The claims of appendix 02a, each with an experiment in which it is false."""

from pathlib import Path
from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.figures.start_costs import start_costs
from lab_support.notebook.moves.answer_files import load
from lab_support.notebook.moves.exercises import BrokenClaim, cell, changed, nothing_left

verdicts = load(Path(__file__).with_name("02a_verdicts.py"))

PARCELS, UNGUARDED, RELATIVES, FROM_CELL, POOL, EXECUTOR = (
    cell("02a", name) for name in ("parcels", "unguarded", "relatives", "as_in_a_notebook", "pool", "executor")
)
BARE, IMPORTS, ROLES, AGAIN, MORE = (cell("02a", name) for name in ("bare", "imports", "roles", "again", "more"))

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
_IMPORTS_LIGHT = changed(IMPORTS, "import numpy\n", "", 'main__":\n', 'main__":\n    import numpy\n')
_ROLES_WITH_TORCH = changed(ROLES, '"spawn", 1, module', '"spawn", 1, "torch"')

_PARCELS_FORKED = changed(PARCELS, '"spawn"', '"fork"')
_PARCELS_CLOSED = changed(
    PARCELS,
    '    send("a socket", work, socket.create_server(("127.0.0.1", 0)))\n',
    '    door = socket.create_server(("127.0.0.1", 0))\n    door.close()\n    send("a socket", work, door)\n',
)

_GUARDED = changed(
    UNGUARDED,
    """\
child = multiprocessing.get_context("spawn").Process(target=work)
child.start()
child.join()
print("the child ended with exit code", child.exitcode)
""",
    """\
if __name__ == "__main__":
    child = multiprocessing.get_context("spawn").Process(target=work)
    child.start()
    child.join()
""",
)
_GRANDCHILD = changed(
    _GUARDED,
    '    print("the work is done")\n',
    """\
    child = multiprocessing.get_context("spawn").Process(target=print)
    child.start()
    child.join()
""",
)
_EXIT_CODE_READ = UNGUARDED + 'if child.exitcode:\n    print("failed")\n'

_METHOD_GUARDED = changed(RELATIVES, "file.write(METHOD + GUARDED)", "file.write(GUARDED)")
_METHOD_GUARDED_AND_A_FILE = changed(_METHOD_GUARDED, '"it comes from standard input", "-"', '"it is in a file", path')
_MORE_UNSET = changed(
    MORE,
    '    sys.path.append("/more")\n',
    "    sys.argv.pop()\n",
    "    core = min(os.sched_getaffinity(0))\n    os.sched_setaffinity(0, {core})\n",
    "    core = -1\n",
    "os.nice(1)",
    "os.nice(0) + 1",
    ', "-X", "dev"',
    "",
    'input=b"more"',
    'input=b""',
)
_MORE_NO_CHILD = changed(
    MORE,
    """\
    child = multiprocessing.get_context("spawn").Process(target=work, args=(core, nice))
    child.start()
    child.join()
""",
    "    work(core, nice)\n",
    "import multiprocessing, os",
    "import os",
)


def _forked(program: str) -> str:
    return changed(program, '"spawn"', '"fork"')


def _fields(result: ProcessResult) -> dict[str, Any]:
    return result.events[-1].fields


def _relatives(result: ProcessResult) -> list[dict[str, Any]]:
    return list(result.by("program").values())


def _workers_replaced(result: ProcessResult) -> bool:
    workers = result.spawned
    return any(each.exit_code == 1 for each in workers) and len(workers) > 2


def _sent(parcel: str, option: str) -> BrokenClaim:
    """One row of the table of 02a.1. By fork nothing is sent, so all five arrive; a closed socket does not."""
    broken = _PARCELS_CLOSED if parcel == "a socket" else _PARCELS_FORKED
    return BrokenClaim(
        f"Sent to a spawned child, {parcel}: {option}",
        PARCELS,
        broken,
        lambda result: verdicts.parcels_sent(result).rows[parcel] == option,
    )


def _row(row: str, option: str) -> BrokenClaim:
    """One row of the table of 02a.5."""
    return BrokenClaim(
        f"To a spawned child, {row}: {option}",
        MORE,
        _MORE_UNSET if option == verdicts.KEPT else _MORE_NO_CHILD,
        lambda result: verdicts.more_along(result).rows[row] == option,
    )


def _times(result: ProcessResult, slow: str, quick: str) -> float:
    return start_costs(result).ms(slow, 4) / start_costs(result).ms(quick, 4)


BROKEN_CLAIMS = (
    *(_sent(parcel, option) for parcel, option in verdicts.PARCELS.items()),
    BrokenClaim(
        "Without the guard there is one child, and no grandchild",
        UNGUARDED,
        _GRANDCHILD,
        lambda result: len(result.spawned) == 1,
    ),
    BrokenClaim(
        "The child stops with a RuntimeError before it does its work",
        UNGUARDED,
        _GUARDED,
        verdicts.stopped_in_bootstrap,
    ),
    BrokenClaim(
        "The parent ends as if all were well",
        UNGUARDED,
        _EXIT_CODE_READ,
        lambda result: result.exit_code == 0 and "failed" not in result.output,
    ),
    BrokenClaim(
        "Set outside the guard, the start method is set once more in the child",
        RELATIVES,
        _METHOD_GUARDED,
        lambda result: "already been set" in str(_relatives(result)[0]["said"]),
    ),
    BrokenClaim(
        "A program from standard input has no file that its child could run",
        RELATIVES,
        _METHOD_GUARDED_AND_A_FILE,
        lambda result: "<stdin>" in str(_relatives(result)[1]["said"]),
    ),
    BrokenClaim(
        "Neither does its work, and both end with 0",
        RELATIVES,
        _METHOD_GUARDED,
        lambda result: not any(each["worked"] or each["code"] for each in _relatives(result)),
    ),
    BrokenClaim(
        "A child can't find a function that a notebook's cell defines",
        FROM_CELL,
        _forked(FROM_CELL),
        lambda result: "AttributeError" in result.output and result.spawned[0].exit_code == 1,
    ),
    BrokenClaim(
        "Pool.map does not return: the deadline ended it",
        POOL,
        _forked(POOL),
        lambda result: result.ended == "timeout",
    ),
    BrokenClaim("Workers died, and others took their place", POOL, _forked(POOL), _workers_replaced),
    BrokenClaim(
        "ProcessPoolExecutor notices that a worker died",
        EXECUTOR,
        _forked(EXECUTOR),
        lambda result: "noticed: BrokenProcessPool" in result.output,
    ),
    BrokenClaim(
        "Four spawned children take over 5 times as long as four forked ones",
        _BARE,
        _BARE_ALL_FORKED,
        lambda result: _times(result, "spawn", "fork") > 5,
    ),
    BrokenClaim(
        "A running fork server is over 1.5 times as fast as spawn",
        _BARE,
        _BARE_EXCHANGED,
        lambda result: _times(result, "spawn", "forkserver") > 1.5,
    ),
    BrokenClaim(
        "A spawned child has over 2.5 times the memory of its own that a forked one has",
        _BARE,
        _BARE_ALL_FORKED,
        lambda result: start_costs(result).mb("spawn", 4) / start_costs(result).mb("fork", 4) > 2.5,
    ),
    BrokenClaim(
        "A child that does nothing imported over 140 modules first",
        IMPORTS,
        _IMPORTS_LIGHT,
        lambda result: len(verdicts.modules_imported(result)) > 140,
    ),
    BrokenClaim(
        "Dozens of them are parts of numpy, which nobody used",
        IMPORTS,
        _IMPORTS_LIGHT,
        lambda result: sum(name.startswith("numpy") for name in verdicts.modules_imported(result)) > 40,
    ),
    BrokenClaim(
        "A spawned engine core has over 2.5 times an API server's memory: it needs torch",
        ROLES,
        _ROLES_WITH_TORCH,
        lambda result: verdicts.engine_by_api_server(result) > 2.5,
    ),
    BrokenClaim(
        "Each of a fork server's children runs the script's top level, unless this Python has mended it",
        AGAIN,
        changed(AGAIN, '"forkserver"', '"fork"'),
        lambda result: verdicts.runs_of_top(result) == (2 if verdicts.mended() else 4),
    ),
    *(_row(row, option) for row, (_, option) in verdicts.ROWS.items()),
    BrokenClaim("Descriptor 0 itself is inherited", MORE, _MORE_UNSET, lambda result: _fields(result)["number_0"]),
    nothing_left("None of this notebook's processes is left", MORE),
)
