"""The claims of appendix 02a, each with an experiment in which it is false."""

from typing import Any

from lab_support.notebook.cell_result import CellProcess, ProcessResult
from lab_support.notebook.exercises import BrokenClaim, changed

_PARCELS = """\
import multiprocessing, socket, threading
from lab_support.notebook.script import emit

def work(parcel=None):
    pass

def send(name, target=work, *parcels):
    child = multiprocessing.get_context("spawn").Process(target=target, args=parcels)
    try:
        child.start()
        child.join()
        emit(parcel=name, ends=f"a child starts, and ends with {child.exitcode}")
    except Exception as error:
        emit(parcel=name, ends=f"start() refuses: {error}".split(" at 0x")[0])

if __name__ == "__main__":
    def below_the_guard():
        pass
    send("a lambda to run", lambda: None)
    send("a function from below the guard", below_the_guard)
    send("an open file", work, open(__file__))
    send("a lock", work, threading.Lock())
    door = socket.create_server(("127.0.0.1", 0))
    send("a socket", work, door)
"""
_PARCELS_FORKED = changed(_PARCELS, '"spawn"', '"fork"')
_PARCELS_CLOSED = changed(_PARCELS, '    send("a socket"', '    door.close()\n    send("a socket"')

_UNGUARDED = """\
import multiprocessing

def work():
    print("the work is done")

child = multiprocessing.get_context("spawn").Process(target=work)
child.start()
child.join()
print("the child ended with exit code", child.exitcode)
"""
_GUARDED = changed(
    _UNGUARDED,
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
_EXIT_CODE_READ = _UNGUARDED + 'if child.exitcode:\n    print("failed")\n'

_AS_IN_A_NOTEBOOK = '''\
import os
from IPython.core.interactiveshell import InteractiveShell

cell = """
CELL"""

if __name__ == "__main__":
    os.environ["IPYTHONDIR"] = os.path.dirname(__file__)
    InteractiveShell.instance().run_cell(cell)
'''
_CELL = changed(
    _AS_IN_A_NOTEBOOK,
    "CELL",
    """\
import multiprocessing
def work():
    print("the work is done")
child = multiprocessing.get_context("spawn").Process(target=work)
child.start()
child.join()
print("the child ended with exit code", child.exitcode)
""",
)
# With a time limit of its own, because an experiment has to end by itself.
_POOL = changed(
    _AS_IN_A_NOTEBOOK,
    "CELL",
    """\
import multiprocessing
from lab_support.notebook.script import emit
def work(number):
    return number * number
pool = multiprocessing.get_context("spawn").Pool(2)
try:
    emit(returned=pool.map_async(work, range(2)).get(timeout=6))
except multiprocessing.TimeoutError:
    emit(returned=None)
pool.terminate()
""",
)
_EXECUTOR = changed(
    _AS_IN_A_NOTEBOOK,
    "CELL",
    """\
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
def work(number):
    return number * number
with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as workers:
    try:
        print(list(workers.map(work, range(2))))
    except Exception as error:
        print("noticed:", type(error).__name__)
""",
)
_DEFAULT = """\
import multiprocessing, sys
from lab_support.notebook.script import emit

expected = "forkserver" if sys.version_info >= (3, 14) else "fork"
emit(default=multiprocessing.get_context().get_start_method(), expected=expected)
"""
_AGAIN = """\
import multiprocessing, sys
from lab_support.notebook.script import emit

emit(top="of the script", mended=sys.version_info >= (3, 14, 1) or (3, 13, 8) <= sys.version_info < (3, 14))

def work():
    pass

if __name__ == "__main__":
    for _ in range(3):
        child = multiprocessing.get_context("forkserver").Process(target=work)
        child.start()
        child.join()
"""
_MORE = """\
import multiprocessing, os, subprocess, sys
from lab_support.notebook.script import emit

def work(core, nice):
    emit(argv=sys.argv[-1] == "more", path=sys.path[-1] == "/more", nice=os.nice(0) == nice,
         core=os.sched_getaffinity(0) == {core}, stdin=sys.stdin.read(4) == "more", number_0=os.read(0, 4) == b"more",
         dev=sys.flags.dev_mode)

if __name__ == "__main__" and sys.argv[-1] == "more":
    sys.path.append("/more")
    nice = os.nice(1)
    core = min(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    child = multiprocessing.get_context("spawn").Process(target=work, args=(core, nice))
    child.start()
    child.join()
elif __name__ == "__main__":
    subprocess.run([sys.executable, "-X", "dev", __file__, "more"], input=b"more")
"""
_MORE_UNSET = changed(
    _MORE,
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
    _MORE,
    """\
    child = multiprocessing.get_context("spawn").Process(target=work, args=(core, nice))
    child.start()
    child.join()
""",
    "    work(core, nice)\n",
    "import multiprocessing, os",
    "import os",
)
_LEFT = """\
import subprocess, sys
from lab_support.instruments import proc
from lab_support.notebook.script import emit

child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
identity = proc.read_process(child.pid).identity
child.kill()
child.wait()
emit(left=proc.is_running(identity))
"""
_LEFT_RUNNING = changed(_LEFT, "child.kill()\nchild.wait()\nemit", "emit", "identity))", "identity))\nchild.kill()")


def _forked(program: str) -> str:
    return changed(program, '"spawn"', '"fork"')


def _fields(result: ProcessResult) -> dict[str, Any]:
    return result.events[-1].fields


def _ends(result: ProcessResult) -> dict[str, str]:
    return {event.fields["parcel"]: event.fields["ends"] for event in result.events}


def _refused(result: ProcessResult) -> list[str]:
    return [name for name, end in _ends(result).items() if "refuses" in end]


def _children(result: ProcessResult) -> list[CellProcess]:
    return [each for each in result.processes if "spawn_main" in str(each.execs)]


def _stopped(result: ProcessResult) -> bool:
    return "bootstrapping phase" in result.output and _children(result)[0].exit_code == 1


def _workers_replaced(result: ProcessResult) -> bool:
    workers = _children(result)
    return any(each.exit_code == 1 for each in workers) and len(workers) > 2


def _runs_of_the_top(result: ProcessResult) -> bool:
    times = sum("top" in event.fields for event in result.events)
    return times == (2 if _fields(result)["mended"] else 4)


BROKEN_CLAIMS = (
    BrokenClaim(
        "A lambda, an open file and a lock are refused before there is a child",
        _PARCELS,
        _PARCELS_FORKED,
        lambda result: _refused(result) == ["a lambda to run", "an open file", "a lock"],
    ),
    BrokenClaim(
        "A function that only the parent has defined kills the child",
        _PARCELS,
        _PARCELS_FORKED,
        lambda result: _ends(result)["a function from below the guard"].endswith("with 1"),
    ),
    BrokenClaim(
        "A socket arrives", _PARCELS, _PARCELS_CLOSED, lambda result: _ends(result)["a socket"].endswith("with 0")
    ),
    BrokenClaim(
        "Without the guard there is one child, and no grandchild",
        _UNGUARDED,
        _GRANDCHILD,
        lambda result: len(_children(result)) == 1,
    ),
    BrokenClaim("The child stops with a RuntimeError before it does its work", _UNGUARDED, _GUARDED, _stopped),
    BrokenClaim(
        "The parent ends as if all were well",
        _UNGUARDED,
        _EXIT_CODE_READ,
        lambda result: result.exit_code == 0 and "failed" not in result.output,
    ),
    BrokenClaim(
        "A child can't find a function that a notebook's cell defines",
        _CELL,
        _forked(_CELL),
        lambda result: "AttributeError" in result.output and result.process("P1").exit_code == 1,
    ),
    BrokenClaim(
        "Pool.map does not return: the deadline ended it",
        _POOL,
        _forked(_POOL),
        lambda result: _fields(result)["returned"] is None,
    ),
    BrokenClaim("Workers died, and others took their place", _POOL, _forked(_POOL), _workers_replaced),
    BrokenClaim(
        "ProcessPoolExecutor notices that a worker died",
        _EXECUTOR,
        _forked(_EXECUTOR),
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
        _AGAIN,
        changed(_AGAIN, '"forkserver"', '"fork"'),
        _runs_of_the_top,
    ),
    BrokenClaim(
        "sys.argv and sys.path are sent along",
        _MORE,
        _MORE_UNSET,
        lambda result: _fields(result)["argv"] and _fields(result)["path"],
    ),
    BrokenClaim(
        "Priority and cores are inherited",
        _MORE,
        _MORE_UNSET,
        lambda result: _fields(result)["nice"] and _fields(result)["core"],
    ),
    BrokenClaim(
        "Python's own flags are on the child's command line",
        _MORE,
        _MORE_UNSET,
        lambda result: _fields(result)["dev"],
    ),
    BrokenClaim(
        "There is nothing to read from a child's sys.stdin",
        _MORE,
        _MORE_NO_CHILD,
        lambda result: not _fields(result)["stdin"],
    ),
    BrokenClaim("Descriptor 0 itself is inherited", _MORE, _MORE_UNSET, lambda result: _fields(result)["number_0"]),
    BrokenClaim(
        "None of this notebook's processes is left", _LEFT, _LEFT_RUNNING, lambda result: not _fields(result)["left"]
    ),
)
