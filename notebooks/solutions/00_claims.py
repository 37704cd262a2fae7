"""The claims of notebook 00, each with an experiment in which it is false."""

from typing import Any

from lab_support.notebook.cell_result import ProcessResult
from lab_support.notebook.exercises import BrokenClaim, changed

_LOOK_AT_IT = """\
import lab_support.notebook as lab
from lab_support.notebook.script import emit

with lab.live_server(api_server_count=2) as server:
    views = lab.look(server)
emit(
    holders=sorted(view.role for view in views if view.socket_numbers),
    objects=len({view.socket_inode for view in views if view.socket_numbers}),
    with_torch=[view.role for view in views if view.maps_torch],
)
"""
_IN_ONE_STEP = """\
import lab_support.notebook as lab
from lab_support.notebook.script import emit

with lab.live_server() as server:
    load = lab.drive(server, brief=True, clients=8, requests=40, output_tokens="8-24")
    steps = lab.metric(server, "lab_engine_steps_total")
emit(tokens_in_one_step=load.tokens / steps)
"""


def _told(result: ProcessResult) -> dict[str, Any]:
    return result.events[-1].fields


BROKEN_CLAIMS = (
    BrokenClaim(
        "All of them hold one and the same kernel object",
        _LOOK_AT_IT,
        # Two servers, each with a port that it bound itself.
        changed(
            _LOOK_AT_IT,
            "with lab.live_server(api_server_count=2) as server:\n    views = lab.look(server)\n",
            """\
with lab.live_server(api_server_count=1) as server, lab.live_server(api_server_count=1) as other:
    views = lab.look(server) + lab.look(other)
""",
        ),
        lambda result: _told(result)["objects"] == 1,
    ),
    BrokenClaim(
        "Only the engine core loads PyTorch",
        _LOOK_AT_IT,
        # Every process of the server imports PyTorch as it starts.
        changed(
            _LOOK_AT_IT,
            "import lab_support.notebook as lab\n",
            """\
import os, tempfile
from pathlib import Path
import lab_support.notebook as lab
folder = Path(tempfile.mkdtemp())
(folder / "sitecustomize.py").write_text("import torch")
os.environ["PYTHONPATH"] = f"{folder}:{os.environ['PYTHONPATH']}"
""",
        ),
        lambda result: _told(result)["with_torch"] == ["engine-0"],
    ),
    BrokenClaim(
        "For eight clients, a step makes several tokens",
        _IN_ONE_STEP,
        # One sequence at a time: no batching.
        changed(_IN_ONE_STEP, "lab.live_server()", "lab.live_server(max_num_seqs=1)"),
        lambda result: _told(result)["tokens_in_one_step"] > 2,
    ),
)
