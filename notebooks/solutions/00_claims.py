"""The claims of notebook 00, each with an experiment in which it is false."""

from typing import Any

from lab_support.notebook.cells.cell_result import ProcessResult
from lab_support.notebook.moves.exercises import BrokenClaim, changed

_LOOK_AT_IT = """\
import lab_support.notebook as lab
from lab_support.notebook.script import emit

with lab.live_server(api_server_count=2, accept="shared") as server:
    views = lab.look(server)
emit(
    holders=sorted(view.role for view in views if view.socket_numbers),
    objects=len({view.socket_inode for view in views if view.socket_numbers}),
    with_torch=[view.role for view in views if view.maps_torch],
)
"""
_WITH_FOUR = changed(_LOOK_AT_IT, "api_server_count=2", "api_server_count=4")
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
_GIVE_IT_WORK = """\
import lab_support.notebook as lab
from lab_support.notebook.script import emit

with lab.live_server() as server:
    before = lab.metric(server, "lab_engine_steps_total")
    one = lab.drive(server, brief=True, clients=1, requests=8, output_tokens="8-24")
    between = lab.metric(server, "lab_engine_steps_total")
    eight = lab.drive(server, brief=True, clients=8, requests=40, output_tokens="8-24")
    after = lab.metric(server, "lab_engine_steps_total")
emit(
    asked=eight.asked,
    completed=eight.completed,
    one=one.tokens / max(1, between - before),
    eight=eight.tokens / max(1, after - between),
)
"""
_STOP_IT = """\
import lab_support.notebook as lab
from lab_support.notebook.script import emit

server = lab.live_server(api_server_count=2, accept="shared")
left = server.stop()
emit(left=repr(left) if left else "", running=server.survivors())
lab.cleanup()
"""


def _told(result: ProcessResult) -> dict[str, Any]:
    return result.events[-1].fields


def _of_two(program: str) -> str:
    """The same of two servers with one API server each: two ports, each bound by its own launcher."""
    return changed(
        program,
        'with lab.live_server(api_server_count=2, accept="shared") as server:\n    views = lab.look(server)\n',
        """\
with lab.live_server(api_server_count=1) as server, lab.live_server(api_server_count=1) as other:
    views = lab.look(server) + lab.look(other)
""",
    )


def _with_torch_everywhere(program: str) -> str:
    """The same where every process of the server imports PyTorch as it starts."""
    return changed(
        program,
        "import lab_support.notebook as lab\n",
        """\
import os, tempfile
from pathlib import Path
import lab_support.notebook as lab
folder = Path(tempfile.mkdtemp())
(folder / "sitecustomize.py").write_text("import torch")
os.environ["PYTHONPATH"] = f"{folder}:{os.environ['PYTHONPATH']}"
""",
    )


def _one_sequence_at_a_time(program: str) -> str:
    return changed(program, "lab.live_server()", "lab.live_server(max_num_seqs=1)")


def _all_clients_at_once(program: str) -> str:
    return changed(program, "clients=1, requests=8", "clients=8, requests=8")


def _one_waits_and_more_are_refused(program: str) -> str:
    return changed(program, "lab.live_server()", "lab.live_server(max_num_queued_reqs=1)")


BROKEN_CLAIMS = (
    BrokenClaim(
        "While one process stands still, the other answers all",
        _STOP_ONE,
        changed(_STOP_ONE, 'accept="shared"', 'accept="reuseport"'),
        lambda result: _told(result)["answered_by"] == ["api-1"] * 10,
    ),
    BrokenClaim(
        "The launcher and both API servers hold the listening socket, and nobody else",
        _LOOK_AT_IT,
        changed(_LOOK_AT_IT, "api_server_count=2", "api_server_count=1"),
        lambda result: _told(result)["holders"] == ["api-0", "api-1", "launcher"],
    ),
    BrokenClaim(
        "All of them hold one and the same kernel object",
        _LOOK_AT_IT,
        _of_two(_LOOK_AT_IT),
        lambda result: _told(result)["objects"] == 1,
    ),
    BrokenClaim(
        "Only the engine core loads PyTorch",
        _LOOK_AT_IT,
        _with_torch_everywhere(_LOOK_AT_IT),
        lambda result: _told(result)["with_torch"] == ["engine-0"],
    ),
    BrokenClaim(
        "With four API servers, five processes hold the listening socket",
        _WITH_FOUR,
        _LOOK_AT_IT,
        lambda result: len(_told(result)["holders"]) == 5,
    ),
    BrokenClaim(
        "Every request is answered",
        _GIVE_IT_WORK,
        _one_waits_and_more_are_refused(_GIVE_IT_WORK),
        lambda result: _told(result)["completed"] == _told(result)["asked"],
    ),
    BrokenClaim(
        "For one client, a step makes one token",
        _GIVE_IT_WORK,
        _all_clients_at_once(_GIVE_IT_WORK),
        lambda result: _told(result)["one"] < 2.5,
    ),
    BrokenClaim(
        "For eight clients, a step makes several tokens",
        _GIVE_IT_WORK,
        _one_sequence_at_a_time(_GIVE_IT_WORK),
        lambda result: _told(result)["eight"] > 3.5,
    ),
    BrokenClaim(
        "Nothing of the server is left",
        _STOP_IT,
        changed(_STOP_IT, "left = server.stop()", "left = None"),
        lambda result: not _told(result)["left"] and not _told(result)["running"],
    ),
)
