"""The claims of notebook 02, each with an experiment in which it is false."""

from typing import Any

from lab_support.instruments import import_time
from lab_support.notebook.cell_result import ProcessResult
from lab_support.notebook.exercises import BrokenClaim, changed
from lab_support.notebook.spans import spans_of
from lab_support.notebook.start_costs import Costs, start_costs

_STEPS = """\
import multiprocessing
from lab_support.notebook.script import emit

emit(done="Python starts")
import numpy
emit(done="the script imports numpy")

def work(parcel=None):
    emit(done="the pipe brings the function")

if __name__ == "__main__":
    child = multiprocessing.get_context("spawn").Process(target=work)
    child.start()
    emit(done="start() returns")
    child.join()
    emit(done="join() returns")
"""
_STEPS_LIGHT = changed(
    _STEPS, 'import numpy\nemit(done="the script imports numpy")\n', "", 'main__":\n', 'main__":\n    import numpy\n'
)
_STEPS_LARGE_PARCEL = changed(_STEPS_LIGHT, "target=work)", "target=work, args=([0.5] * 8_000_000,))")
_STEPS_TOLD_LATE = changed(_STEPS, '    emit(done="start() returns")\n    child.join()\n',
                           '    child.join()\n    emit(done="start() returns")\n')  # fmt: skip
_STEPS_FORKED = changed(_STEPS, '"spawn"', '"fork"')
_IMPORTS = """\
import multiprocessing, os
import numpy

def work():
    pass

if __name__ == "__main__":
    os.environ["PYTHONPROFILEIMPORTTIME"] = "1"
    child = multiprocessing.get_context("spawn").Process(target=work)
    child.start()
    child.join()
"""
_IMPORTS_LIGHT = changed(_IMPORTS, "import numpy\n", "")

_BARE = """\
if __name__ == "__main__":
    from lab_support.experiments.started_child import compare
    from lab_support.notebook.script import emit

    for sample in compare((4,), 5, methods=("spawn", "forkserver", "fork")):
        emit({**sample, "method": sample["method"]})
"""
_BARE_EXCHANGED = changed(
    _BARE, 'sample["method"]})', '{"spawn": "forkserver", "fork": "spawn"}.get(sample["method"], "fork")})'
)
_BARE_ALL_FORKED = """\
if __name__ == "__main__":
    from lab_support.experiments.started_child import compare
    from lab_support.notebook.script import emit

    for sample in compare((4,), 5, methods=("fork",)):
        for name in ("spawn", "forkserver", "fork"):
            emit({**sample, "method": name})
"""
_TORCH = """\
if __name__ == "__main__":
    from lab_support.experiments.started_child import compare
    from lab_support.notebook.script import emit

    for sample in compare((2,), 1, "torch", methods=("spawn", "forkserver, preloaded", "fork")):
        emit({**sample, "method": sample["method"]})
"""
_TORCH_NOT_PRELOADED = changed(
    _TORCH,
    '"forkserver, preloaded"',
    '"forkserver"',
    'sample["method"]})',
    'sample["method"].replace("forkserver", "forkserver, preloaded")})',
)
_TORCH_NOT_FORKED = changed(
    _TORCH, '"spawn", "forkserver, preloaded", "fork"', '"spawn",', 'sample["method"]})', '"fork"})'
)
_ROLES = """\
if __name__ == "__main__":
    from lab_support.experiments.started_child import start_children
    from lab_support.notebook.script import emit

    for role in ("api_server", "engine_core"):
        emit(start_children("spawn", 1, f"lab_support.processes.{role}"), role=role)
"""
_ROLES_WITH_TORCH = changed(_ROLES, 'f"lab_support.processes.{role}"', '"torch"')

_KERNEL_SIDE = """\
import multiprocessing, os, resource, signal, socket
from lab_support.notebook.script import emit

def work(door):
    emit(variable=os.environ.get("COLOUR") == "red", folder=os.getcwd() == "/", umask=os.umask(0) == 0o027,
         limit=resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 200, door=door.getsockname()[1] > 0,
         ignored=signal.getsignal(signal.SIGHUP) == signal.SIG_IGN)

if __name__ == "__main__":
    os.environ["COLOUR"] = "red"
    os.chdir("/")
    os.umask(0o027)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    door = socket.create_server(("127.0.0.1", 0))
    child = multiprocessing.get_context("spawn").Process(target=work, args=(door,))
    child.start()
    child.join()
"""
_KERNEL_SIDE_UNSET = changed(
    _KERNEL_SIDE,
    '    os.environ["COLOUR"] = "red"\n',
    "",
    '    os.chdir("/")\n',
    "",
    "    os.umask(0o027)\n",
    "",
    "    resource.setrlimit(resource.RLIMIT_NOFILE, (200, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))\n",
    "",
    "    signal.signal(signal.SIGHUP, signal.SIG_IGN)\n",
    "",
    'socket.create_server(("127.0.0.1", 0))',
    "socket.socket()",
)
_PYTHON_SIDE = """\
import multiprocessing, os, random, signal, threading
from lab_support.notebook.script import emit

setting, lock = "as in the file", threading.Lock()

def work():
    emit(handler=callable(signal.getsignal(signal.SIGUSR1)), setting=setting == "changed", lock=lock.locked(),
         threads=len(os.listdir("/proc/self/task")) > 1, seeded=random.random() == random.Random(7).random(),
         file=os.path.exists("/proc/self/fd/150"))

if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, lambda number, frame: None)
    setting = "changed"
    lock.acquire()
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    random.seed(7)
    os.dup2(os.open(__file__, os.O_RDONLY), 150, inheritable=True)
    child = multiprocessing.get_context("spawn").Process(target=work)
    child.start()
    child.join()
"""
_PYTHON_SIDE_FORKED = changed(_PYTHON_SIDE, '"spawn"', '"fork"')
_PYTHON_SIDE_ON_TOP = changed(
    _PYTHON_SIDE,
    "    threading.Thread(target=threading.Event().wait, daemon=True).start()\n    random.seed(7)\n",
    "",
    "def work",
    "threading.Thread(target=threading.Event().wait, daemon=True).start()\nrandom.seed(7)\n\ndef work",
)
_LATE = """\
import multiprocessing, os
from lab_support.notebook.script import emit

def work():
    emit(colour=os.environ.get("COLOUR", ""))

if __name__ == "__main__":
    for colour in ("red", "blue"):
        os.environ["COLOUR"] = colour
        child = multiprocessing.get_context("forkserver").Process(target=work)
        child.start()
        child.join()
"""
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


def _fields(result: ProcessResult) -> dict[str, Any]:
    return result.events[-1].fields


def _told(result: ProcessResult) -> list[str]:
    return [event.fields["done"] for event in result.events]


def _share_of_imports(result: ProcessResult) -> float:
    child = {span.done: span.ms for span in spans_of(result) if span.process == "P1"}
    return 1 - child["the pipe brings the function"] / sum(child.values())


def _modules(result: ProcessResult) -> list[str]:
    return [each.name for top in import_time.parse(result.output_of("P1", "err")) for each in top]


def _torch(result: ProcessResult) -> Costs:
    return start_costs(result, "torch")


def _ms(costs: Costs, slow: str, fast: str, count: int) -> float:
    return costs.ms(slow, count) / costs.ms(fast, count)


def _engine_beside_api_server(result: ProcessResult) -> float:
    api, engine = (event.fields["uss"][0] for event in result.events)
    return engine / api


def _inherits(words: str, name: str) -> BrokenClaim:
    return BrokenClaim(words, _KERNEL_SIDE, _KERNEL_SIDE_UNSET, lambda result: _fields(result)[name])


def _starts_without(words: str, name: str, broken: str = _PYTHON_SIDE_FORKED) -> BrokenClaim:
    return BrokenClaim(words, _PYTHON_SIDE, broken, lambda result: not _fields(result)[name])


BROKEN_CLAIMS = (
    BrokenClaim(
        "The child ran the script's imports once more",
        _STEPS,
        _STEPS_LIGHT,
        lambda result: _told(result).count("the script imports numpy") == 2,
    ),
    BrokenClaim(
        "Python's start and the imports are nearly all of the child's time",
        _STEPS,
        _STEPS_LARGE_PARCEL,
        lambda result: _share_of_imports(result) > 0.6,
    ),
    BrokenClaim(
        "start() returned before the child ran its function",
        _STEPS,
        _STEPS_TOLD_LATE,
        lambda result: _told(result).index("start() returns") < _told(result).index("the pipe brings the function"),
    ),
    BrokenClaim(
        "A child that does nothing imported over 140 modules first",
        _IMPORTS,
        _IMPORTS_LIGHT,
        lambda result: len(_modules(result)) > 140,
    ),
    BrokenClaim(
        "Dozens of them are parts of numpy, which nobody used",
        _IMPORTS,
        _IMPORTS_LIGHT,
        lambda result: sum(name.startswith("numpy") for name in _modules(result)) > 40,
    ),
    BrokenClaim(
        "One start() by spawn made two processes",
        _STEPS,
        _STEPS_FORKED,
        lambda result: len(result.processes) - 1 == 2,
    ),
    BrokenClaim(
        "The kernel calls the child by another command line than its parent",
        _STEPS,
        _STEPS_FORKED,
        lambda result: "spawn_main" in str(result.process("P1").execs),
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
        "RSS shows over 10 times what a forked child has of its own",
        _TORCH,
        _TORCH_NOT_FORKED,
        lambda result: _torch(result).mb("fork", 2, "rss") / _torch(result).mb("fork", 2) > 10,
        seconds=120,
    ),
    BrokenClaim(
        "A spawned engine core has over 2.5 times an API server's memory: it needs torch",
        _ROLES,
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
        _LATE,
        changed(_LATE, '"forkserver"', '"spawn"'),
        lambda result: [event.fields["colour"] for event in result.events] == ["red", "red"],
    ),
    BrokenClaim(
        "None of this notebook's processes is left",
        _LEFT,
        _LEFT_RUNNING,
        lambda result: not _fields(result)["left"],
    ),
)
