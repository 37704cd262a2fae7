"""The claims of notebook 06, each with an experiment in which it is false."""

from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.exercises import BrokenClaim, cell, changed, on_recording

POOL, OBEYED, WHOM = cell("06", "pool"), cell("06", "obeyed"), cell("06", "whom")
GHOST, ROWS = cell("06", "ghost"), cell("06", "rows")


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
from lab_support.supervision.start_rule import Seen, choose
from lab_support.notebook.script import emit

plain = Seen("linux", "Linux version 6.18", 0, (), 0, torch_has_cuda=False, ray_actor="", jupyter_kernel=False)
seen = [replace(plain, torch_has_cuda=True), replace(plain, device_mappings=3),
        replace(plain, ray_actor="d086"), replace(plain, proc_version="Linux version 5.4.72-microsoft-standard-WSL2"),
        replace(plain, platform="darwin")]
emit(forced=sum(choose("fork", each).method == "spawn" for each in seen),
     forkserver=[choose("forkserver", each).method for each in (seen[4], seen[2])])
"""
_NVML_ONLY = changed(CAPTURED, "device_mappings=3", "device_mappings=0")
_NO_MAC = changed(CAPTURED, "(seen[4], seen[2])", "(seen[3], seen[2])")

# ---- the server

SERVER = """\
from lab_support.instruments import address_space, proc
from lab_support.notebook.servers.live_server import live_server
from lab_support.notebook.servers.look import look
from lab_support.notebook.script import emit

for method in ("spawn", "forkserver", "fork"):
    with live_server(start_method=method, api_server_count=1) as server:
        engine = next(view for view in look(server) if view.role == "engine-0")
        copies = [address_space.is_copy(server.pids[role], server.pids["launcher"]) for role in ("engine-0", "api-0")]
        says = server.session.get(server.url + "/version").json()["start_method"]
        emit(method=method, seconds=proc.read_process(engine.pid).cpu_seconds, mb=engine.private_mb,
             engine=copies[0], api=copies[1], says=says["engine_cores"])
"""
# What a server would be whose launcher holds what its children need, or whose API servers were forked as well.
_HEAVY_LAUNCHER = """\
import os, time
import torch
from lab_support.instruments import address_space, proc
from lab_support.notebook.script import emit, in_child
from multiprocessing import get_context

def report(pipe):
    import torch
    pipe.send((time.process_time(), proc.read_memory(os.getpid()).uss / 1e6,
               address_space.is_copy(os.getpid(), os.getppid())))

if __name__ == "__main__":
    for method in ("spawn", "forkserver", "fork"):
        ours, theirs = get_context("fork").Pipe()
        get_context("spawn" if method == "spawn" else "fork").Process(target=report, args=(theirs,)).start()
        at, mb, copy = ours.recv()
        emit(method=method, seconds=at, mb=mb, engine=copy, api=copy, says="spawn")
"""


def _by_method(result: ProcessResult) -> dict[str, dict[str, Any]]:
    return {fields["method"]: fields for fields in _told(result)}


def _fork_to_spawn(result: ProcessResult, what: str) -> float:
    found = _by_method(result)
    return found["fork"][what] / found["spawn"][what]


RECORDED = """\
from lab_support.instruments.record import recordings
from lab_support.notebook.script import emit
from lab_support.notebook.figures.start_costs import start_costs

costs = start_costs(recordings.load("start_methods"), "torch")
emit(saved=costs.ms("fork", 1) / costs.ms("spawn", 1))
"""

# ---- the pool

_STARTS_ITS_OWN = changed(POOL, 'emit(who="parent", gets=ask(), **look())', 'emit(who="parent", gets="", **look())')
_NO_FORK = changed(POOL, "**in_child(look))", "**look())")
_NO_POOL_HERE = changed(POOL, "emit(rule=", "workers.shutdown()\nemit(rule=")
_NOT_OBEYED = changed(OBEYED, "get_context(choice.method)", 'get_context("fork")', "poll(10)", "poll(1)")
_NEVER_USED = changed(OBEYED, "    workers.submit(int).result()\n", "")
_NEVER_SHUT = changed(OBEYED, "        workers.shutdown()\n        workers = ThreadPoolExecutor(1)\n", "")
_BY_PYTHON = changed(
    WHOM,
    "sock = zmq.Context.instance().socket(zmq.PUSH)",
    "threading.Thread(target=threading.Event().wait, daemon=True).start()",
)

# ---- the kernel

_ENDS_AT_ONCE = changed(GHOST, '("sys.exit(3)", ', '("os._exit(3) or sys.exit(3)", ')
_BOTH_ASK = changed(GHOST, '"os._exit(3)")', '"raise SystemExit(3)")')
_RULE_ELSEWHERE = changed(GHOST, "\"choose('fork', Seen.here()).warning\"", "\"choose('spawn', Seen.here()).warning\"")

# ---- the rows


def _row(result: ProcessResult, row: str) -> str:
    found = {fields["row"]: fields for fields in _told(result)}
    return f"{found[row]['child']} {found[row]['rule']}"


def _is(row: str, outcome: str) -> Any:
    return lambda result: _row(result, row) == outcome


_EDITS = {
    "a plain process": (
        'row("a plain process",',
        'threading.Thread(target=threading.Event().wait, daemon=True).start()\nrow("a plain process",',
    ),
    "a lock that a thread holds": ("in_child(lock.acquire, 1)", "in_child(lambda: lock.locked(), 1)"),
    "NumPy's own threads": (
        "in_child(lambda: float((square @ square)[0, 0]), 2)",
        "in_child(lambda: lock.acquire() and float((square @ square)[0, 0]), 1)",
    ),
    "logging, beside a thread": (
        'in_child(lambda: logging.warning("from the child"), 1)',
        'in_child(lambda: lock.acquire() and logging.warning("from the child"), 1)',
    ),
    "a half-read file": ("len(file.read(2))", 'len(open(f"/proc/self/fd/{file.fileno()}", "rb").read(2))'),
    "a random.Random(7)": ("own = random.Random(7)", "own = random.SystemRandom()"),
}
_OUTCOMES = {
    "A plain process may fork, and its child works": ("a plain process", "w fork"),
    "A child that wants a lock held by a thread waits for ever": ("a lock that a thread holds", "s spawn"),
    "NumPy works in the child, though the rule says spawn": ("NumPy's own threads", "w spawn"),
    "So does logging": ("logging, beside a thread", "w spawn"),
    "Half-read files are shared, and the rule sees no reason": ("a half-read file", "d fork"),
    "Two children draw the same number, and the rule sees no reason": ("a random.Random(7)", "d fork"),
}

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
    BrokenClaim(
        "A forked child that uses its parent's thread pool waits for ever",
        POOL,
        _STARTS_ITS_OWN,
        lambda result: _told(result)[1]["gets"] == "stuck",
    ),
    BrokenClaim(
        "Its memory says that the pool has a thread",
        POOL,
        _STARTS_ITS_OWN,
        lambda result: _told(result)[1]["memory says"] == 1,
    ),
    BrokenClaim("The kernel counts none", POOL, _NO_FORK, lambda result: _told(result)[1]["the kernel counts"] == 0),
    BrokenClaim(
        "The rule would have refused this fork",
        POOL,
        _NO_POOL_HERE,
        lambda result: "1 other thread runs here" in _told(result)[2]["rule"],
    ),
    BrokenClaim(
        "A child by the method that the rule chose gets its answer",
        OBEYED,
        _NOT_OBEYED,
        lambda result: _told(result)[0]["child"] == "an answer",
    ),
    BrokenClaim(
        "While the pool is in use, the rule chooses spawn",
        OBEYED,
        _NEVER_USED,
        lambda result: _told(result)[0]["method"] == "spawn",
    ),
    BrokenClaim(
        "Once its threads have ended, the rule allows fork, and the child works",
        OBEYED,
        _NEVER_SHUT,
        lambda result: (_told(result)[1]["method"], _told(result)[1]["child"]) == ("fork", "an answer"),
    ),
    BrokenClaim(
        "Python knows of no thread of ZeroMQ's", WHOM, _BY_PYTHON, lambda result: _told(result)[0]["python"] == 0
    ),
    BrokenClaim("The kernel counts two", WHOM, _BY_PYTHON, lambda result: _told(result)[0]["kernel"] == 2),
    BrokenClaim(
        "A child forked in a cell does not end by sys.exit()",
        GHOST,
        _ENDS_AT_ONCE,
        lambda result: not _told(result)[0]["ended"],
    ),
    BrokenClaim("It holds the kernel's sockets", GHOST, _ENDS_AT_ONCE, lambda result: _told(result)[0]["sockets"] > 5),
    BrokenClaim("It ends by os._exit(), which asks nobody", GHOST, _BOTH_ASK, lambda result: _told(result)[1]["ended"]),
    BrokenClaim(
        "The rule names the kernel as a reason",
        GHOST,
        _RULE_ELSEWHERE,
        lambda result: "this is a Jupyter kernel" in _told(result)[0]["warning"],
    ),
    *(BrokenClaim(words, ROWS, changed(ROWS, *_EDITS[row]), _is(row, how)) for words, (row, how) in _OUTCOMES.items()),
    on_recording(
        "Files of the device are mapped where the child is barred, and only there",
        "what_a_touch_leaves",
        "mappings_tell",
        '"device_mappings": 3,',
        '"device_mappings": 0,',
        module="touch_signs",
    ),
    on_recording(
        "NVML opens them and maps none",
        "what_a_touch_leaves",
        "nvml_maps_nothing",
        '"device_mappings": 0,',
        '"device_mappings": 1,',
        module="touch_signs",
    ),
    BrokenClaim(
        "Each of these five alone turns fork into spawn",
        CAPTURED,
        _NVML_ONLY,
        lambda result: _told(result)[0]["forced"] == 5,
    ),
    BrokenClaim(
        "A fork server stays allowed where only this process is the trouble",
        CAPTURED,
        _NO_MAC,
        lambda result: _told(result)[0]["forkserver"] == ["spawn", "forkserver"],
    ),
    BrokenClaim(
        "With fork, our engine core needs about as much processor time as with spawn",
        SERVER,
        _HEAVY_LAUNCHER,
        lambda result: 0.5 < _fork_to_spawn(result, "seconds") < 1.7,
    ),
    BrokenClaim(
        "It has about as much memory of its own",
        SERVER,
        _HEAVY_LAUNCHER,
        lambda result: _fork_to_spawn(result, "mb") > 0.6,
    ),
    BrokenClaim(
        "Where the parent has loaded PyTorch, fork takes a small part of the time (recorded)",
        RECORDED,
        changed(RECORDED, 'costs.ms("fork", 1)', 'costs.ms("forkserver", 1)'),
        lambda result: _told(result)[0]["saved"] < 0.2,
    ),
    BrokenClaim(
        "Only the engine core by fork has the launcher's addresses",
        SERVER,
        _HEAVY_LAUNCHER,
        lambda result: [each["engine"] for each in _by_method(result).values()] == [False, False, True],
    ),
    BrokenClaim(
        "No API server is ever a copy, whatever is asked for",
        SERVER,
        _HEAVY_LAUNCHER,
        lambda result: [each["api"] for each in _by_method(result).values()] == [False] * 3,
    ),
    BrokenClaim(
        "/version says fork where the engine core is a copy, and only there",
        SERVER,
        _HEAVY_LAUNCHER,
        lambda result: all((each["says"] == "fork") == each["engine"] for each in _by_method(result).values()),
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
