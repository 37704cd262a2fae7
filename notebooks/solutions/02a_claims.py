"""The claims of appendix 02a, each with an experiment in which it is false."""

import sys
from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.exercises import BrokenClaim, cell, changed, nothing_left

PARCELS, UNGUARDED, RELATIVES, FROM_CELL, POOL, EXECUTOR, AGAIN, MORE = (
    cell("02a", name)
    for name in ("parcels", "unguarded", "relatives", "as_in_a_notebook", "pool", "executor", "again", "more")
)
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
_DEFAULT = """\
import multiprocessing, sys
from lab_support.notebook.script import emit

expected = "forkserver" if sys.version_info >= (3, 14) else "fork"
emit(default=multiprocessing.get_context().get_start_method(), expected=expected)
"""
_MORE_UNSET = changed(
    MORE,
    '    sys.path.append("/more")\n',
    "",
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


def _ends(result: ProcessResult) -> dict[str, str]:
    return {event.fields["parcel"]: event.fields["ends"] for event in result.events}


def _refused(result: ProcessResult) -> list[str]:
    return [name for name, end in _ends(result).items() if "refuses" in end]


def _stopped(result: ProcessResult) -> bool:
    return "bootstrapping phase" in result.output and result.spawned[0].exit_code == 1


def _relatives(result: ProcessResult) -> list[dict[str, Any]]:
    return list(result.by("program").values())


def _workers_replaced(result: ProcessResult) -> bool:
    workers = result.spawned
    return any(each.exit_code == 1 for each in workers) and len(workers) > 2


def _runs_of_the_top(result: ProcessResult) -> bool:
    times = sum("top" in event.fields for event in result.events)
    mended = sys.version_info >= (3, 14, 1) or (3, 13, 8) <= sys.version_info < (3, 14)
    return times == (2 if mended else 4)


BROKEN_CLAIMS = (
    BrokenClaim(
        "A lambda, an open file and a lock are refused before there is a child",
        PARCELS,
        _PARCELS_FORKED,
        lambda result: _refused(result) == ["a lambda to run", "an open file", "a lock"],
    ),
    BrokenClaim(
        "A function that only the parent has defined kills the child",
        PARCELS,
        _PARCELS_FORKED,
        lambda result: _ends(result)["a function from below the guard"].endswith("with 1"),
    ),
    BrokenClaim(
        "A socket arrives", PARCELS, _PARCELS_CLOSED, lambda result: _ends(result)["a socket"].endswith("with 0")
    ),
    BrokenClaim(
        "Without the guard there is one child, and no grandchild",
        UNGUARDED,
        _GRANDCHILD,
        lambda result: len(result.spawned) == 1,
    ),
    BrokenClaim("The child stops with a RuntimeError before it does its work", UNGUARDED, _GUARDED, _stopped),
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
        "The default start method is the documented one for this Python",
        _DEFAULT,
        changed(_DEFAULT, "\nexpected", '\nmultiprocessing.set_start_method("spawn")\nexpected'),
        lambda result: _fields(result)["default"] == _fields(result)["expected"],
    ),
    BrokenClaim(
        "Each of a fork server's children runs the script's top level, unless this Python has mended it",
        AGAIN,
        changed(AGAIN, '"forkserver"', '"fork"'),
        _runs_of_the_top,
    ),
    BrokenClaim(
        "sys.argv and sys.path are sent along",
        MORE,
        _MORE_UNSET,
        lambda result: _fields(result)["argv"] and _fields(result)["path"],
    ),
    BrokenClaim(
        "Priority and cores are inherited",
        MORE,
        _MORE_UNSET,
        lambda result: _fields(result)["nice"] and _fields(result)["core"],
    ),
    BrokenClaim(
        "Python's own flags are on the child's command line",
        MORE,
        _MORE_UNSET,
        lambda result: _fields(result)["dev"],
    ),
    BrokenClaim(
        "There is nothing to read from a child's sys.stdin",
        MORE,
        _MORE_NO_CHILD,
        lambda result: not _fields(result)["stdin"],
    ),
    BrokenClaim("Descriptor 0 itself is inherited", MORE, _MORE_UNSET, lambda result: _fields(result)["number_0"]),
    nothing_left("None of this notebook's processes is left", MORE),
)
