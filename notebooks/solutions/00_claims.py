"""The claims of notebook 00, each with an experiment in which it is false."""

from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.blanks import blank
from lab_support.notebook.moves.exercises import BrokenClaim, changed

_LOOK_AT_IT = """\
import lab_support.notebook as lab
from lab_support.notebook.script import emit

with lab.live_server(api_server_count=2, accept="shared") as server:
    views = lab.look(server)
emit(
    socket=[view.role for view in views if view.socket_numbers],
    torch=[view.role for view in views if view.maps_torch],
    all=[view.role for view in views],
)
"""
_WHEN_IT_IS_OVER = changed(_LOOK_AT_IT, "    views = lab.look(server)\n", "    pass\nviews = lab.look(server)\n")
_LIBTORCH_EVERYWHERE = changed(
    _LOOK_AT_IT,
    "import lab_support.notebook as lab\n",
    """\
import os, tempfile
from pathlib import Path
import lab_support.notebook as lab
folder = Path(tempfile.mkdtemp())
(folder / "sitecustomize.py").write_text(
    "import importlib.util, mmap, pathlib\\n"
    "for lib in pathlib.Path(importlib.util.find_spec('torch').origin).parent.glob('lib/libtorch.so'):\\n"
    "    with lib.open('rb') as file:\\n"
    "        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)\\n"
)
os.environ["PYTHONPATH"] = f"{folder}:{os.environ['PYTHONPATH']}"
""",
)
_STOP_ONE = """\
import os, requests, signal
import lab_support.notebook as lab
from lab_support.notebook.script import emit

def who_answers():
    try:
        return server.session.get(f"{server.url}/version", timeout=1).headers["x-served-by"]
    except requests.RequestException:
        return "nobody in time"

with lab.live_server(api_server_count=2, accept="shared") as server:
    os.kill(server.pids["api-0"], signal.SIGSTOP)
    emit(answered_by=[who_answers() for _ in range(10)])
    os.kill(server.pids["api-0"], signal.SIGCONT)
"""
_STOP_IT = """\
import lab_support.notebook as lab
from lab_support.notebook.script import emit

server = lab.live_server(api_server_count=2, accept="shared")
left = server.stop()
emit(left=repr(left) if left else "", running=server.survivors())
lab.cleanup()
"""
_KEPT, _HOLDERS, _STEPS, _KILLED = (blank(f"00.b{index}").reference for index in (1, 2, 3, 4))


def _told(result: ProcessResult) -> dict[str, Any]:
    return result.events[-1].fields


def _has(role: str, socket: bool, torch: bool) -> Any:
    """Whether the processes whose role begins with `role` have the two as said."""

    def holds(result: ProcessResult) -> bool:
        told = _told(result)
        there = [each for each in told["all"] if each.startswith(role)]
        found = [(each in told["socket"], each in told["torch"]) for each in there]
        return bool(found) and all(each == (socket, torch) for each in found)

    return holds


def _found(result: ProcessResult, what: str) -> list[str]:
    return sorted({event.fields[what] for event in result.events if "role" in event.fields})


def _in_a_step(result: ProcessResult, clients: int) -> float:
    of = next(event.fields for event in result.events if event.fields["clients"] == clients)
    return float(of["measured"])


_TWO_PORTS = changed(
    _HOLDERS,
    "server.pids.items():\n",
    "{**server.pids, 'other': other.pids['api-0']}.items():\n",
    'accept="shared") as server:',
    'accept="shared") as server, live_server(accept="reuseport") as other:',
    "if link == socket_link:",
    'if link == socket_link or (role == "other" and link.startswith("socket:")):',
)

BROKEN_CLAIMS = (
    BrokenClaim(
        "While one process stands still, the other answers all",
        _STOP_ONE,
        changed(_STOP_ONE, 'accept="shared"', 'accept="reuseport"'),
        lambda result: _told(result)["answered_by"] == ["api-1"] * 10,
    ),
    BrokenClaim(
        "On a connection whose process stands still, nobody answers",
        _KEPT,
        changed(_KEPT, "signal.SIGSTOP)", "signal.SIGCONT)"),
        lambda result: _told(result)["same"] == "TimeoutError",
    ),
    BrokenClaim(
        "A new connection is answered by the other process",
        _KEPT,
        changed(_KEPT, 'accept="shared"', 'accept="shared", api_server_count=1'),
        lambda result: _told(result)["new"].startswith("api-") and _told(result)["new"] != _told(result)["first"],
    ),
    BrokenClaim(
        "Of a listening socket and PyTorch, the launcher has only the socket",
        _LOOK_AT_IT,
        _LIBTORCH_EVERYWHERE,
        _has("launcher", socket=True, torch=False),
    ),
    BrokenClaim(
        "Of a listening socket and PyTorch, an API server has only the socket",
        _LOOK_AT_IT,
        _LIBTORCH_EVERYWHERE,
        _has("api-", socket=True, torch=False),
    ),
    BrokenClaim(
        "Of a listening socket and PyTorch, the engine core has only PyTorch",
        _LOOK_AT_IT,
        _WHEN_IT_IS_OVER,
        _has("engine-", socket=False, torch=True),
    ),
    BrokenClaim(
        "Of a listening socket and PyTorch, the resource tracker has neither",
        _LOOK_AT_IT,
        _LIBTORCH_EVERYWHERE,
        _has("resource-tracker", socket=False, torch=False),
    ),
    BrokenClaim(
        "The launcher and all four API servers hold a listening socket, and nobody else",
        _HOLDERS,
        changed(_HOLDERS, "api_server_count=4", "api_server_count=3"),
        lambda result: _found(result, "role") == ["api-0", "api-1", "api-2", "api-3", "launcher"],
    ),
    BrokenClaim(
        "All their descriptors lead to one and the same kernel object",
        _HOLDERS,
        _TWO_PORTS,
        lambda result: len(_found(result, "link")) == 1,
    ),
    BrokenClaim(
        "For one client, a step makes one token",
        _STEPS,
        changed(_STEPS, "drive(server, clients=clients,", "drive(server, clients=8,"),
        lambda result: _in_a_step(result, 1) < 2.5,
    ),
    BrokenClaim(
        "For eight clients, a step makes several tokens",
        _STEPS,
        changed(_STEPS, "live_server()", "live_server(max_num_seqs=1)"),
        lambda result: _in_a_step(result, 8) > 4,
    ),
    BrokenClaim(
        "When the launcher is killed, all its processes end",
        _KILLED,
        changed(_KILLED, "signal.SIGKILL", "signal.SIGSTOP"),
        lambda result: _told(result)["server_left"] == [],
    ),
    BrokenClaim(
        "A plain child outlives its parent",
        _KILLED,
        changed(_KILLED, 'os.kill(family["launcher"], ', 'unwatched.end(plain) or os.kill(server["launcher"], '),
        lambda result: _told(result)["plain_left"] == ["child"],
    ),
    BrokenClaim(
        "The pipe that only the launcher could write is then at its end",
        _KILLED,
        changed(_KILLED, "os.O_RDONLY", "os.O_RDWR"),
        lambda result: _told(result)["pipe_at_its_end"],
    ),
    BrokenClaim(
        "Nothing of the server is left",
        _STOP_IT,
        changed(_STOP_IT, "left = server.stop()", "left = None"),
        lambda result: not _told(result)["left"] and not _told(result)["running"],
    ),
)
