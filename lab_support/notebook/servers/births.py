"""A server whose API servers start by fork, beside the usual one; and the cost of a process so far.

No flag of the server makes API servers by fork, so a program replaces the function that starts its children. Its
launcher first imports all that its API servers need: so a fork saves as much as it can.

Taught in: 08_does_another_api_server_help
"""

from typing import Any

from lab_support.instruments.cpu_time import thread_seconds
from lab_support.instruments.proc import PROC, read_memory
from lab_support.notebook.servers.live_server import Server, start

# Text, because a process of its own imports all of the server, and nothing of it is imported here. The listening socket
# and the channels that a forked API server needs are its launcher's own objects. So no object is closed in the child,
# only the descriptors that were not given to it.
_BY_FORK = """\
import sys
from lab_support.frontend import routes
from lab_support.processes import api_server, launcher
from lab_support.serve_command import read_words
from lab_support.supervision import api_server_slots, children

started = children.start

def start(method, birth, arguments, close_after_fork):
    if birth.module != api_server_slots.MODULE:
        return started(method, birth, arguments, close_after_fork)
    return started("fork", birth, arguments, lambda: None)

children.start = start
sys.exit(launcher.main(*read_words(sys.argv[1:])))
"""
_PROGRAMS = {"spawn": ("-m", "lab_support", "serve"), "fork": ("-c", _BY_FORK)}


def server_by(method: str, **choices: Any) -> Server:
    """`live_server(**choices)` whose API servers start by `method`, "spawn" or "fork". It stops no other server."""
    return start(_PROGRAMS[method], choices)


def spent_so_far(server: Server, role: str = "api-0") -> dict[str, Any]:
    """What a process of `server` has cost since its start, as plain data. Raises `LookupError` if it has ended.

    cpu: seconds on a core. faults: page faults that needed no disk. own: bytes that it shares with no other process.
    launcher: seconds on a core of the launcher. ready: seconds until the server was.
    """
    pid, launcher = server.pids[role], server.pids["launcher"]
    memory = read_memory(pid)
    if memory is None:
        raise LookupError(f"got {role}, which has ended, expected a process that runs")
    return {
        "cpu": sum(thread_seconds(pid).values()),
        "faults": _faults(pid),
        "own": memory.uss,
        "launcher": sum(thread_seconds(launcher).values()),
        "ready": round(server.seconds_to_ready, 3),
    }


def _faults(pid: int) -> int:
    """proc(5): minflt is the tenth field of `stat`, and the eighth after the name."""
    return int((PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[7])
