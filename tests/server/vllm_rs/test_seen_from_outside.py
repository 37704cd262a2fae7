"""vLLM's front end as an operator sees it: its title, its row of the process table, its X-ray, its lines in the log."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lab_support
from lab_support.processes import vllm_front_end
from tests.running_server import PACED, RunningServer, running_server
from tests.server.vllm_rs.needed import WITH_VLLM_RS

pytestmark = WITH_VLLM_RS


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(frontend="vllm-rs", data_parallel_size=2, api_server_count=2, **PACED) as made:
        yield made


def xray(server: RunningServer, *words: str) -> str:
    command = [sys.executable, "-m", "lab_support", "xray", str(server.pids["launcher"]), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_every_process_has_a_title_and_vllm_rs_its_own_name_too(server: RunningServer) -> None:
    titles = {name: Path(f"/proc/{pid}/cmdline").read_text().split("\0")[0] for name, pid in server.pids.items()}
    del titles["resource-tracker"]
    assert titles == {name: f"lab:{name}" for name in titles}
    assert {Path(f"/proc/{server.pids[name]}/comm").read_text() for name in ("api-0", "api-1")} == {"vllm-rs\n"}
    assert "Runs as:     lab:api-0, lab:api-1" in (vllm_front_end.__doc__ or "")


def test_it_holds_none_of_the_launcher_s_pipes(server: RunningServer) -> None:
    """So nothing but the parent-death signal ends it with the launcher, as its card says."""
    graph = json.loads(xray(server, "--json"))
    pipes = {each["id"] for each in graph["objects"] if each["kind"] == "pipe"}
    holders: dict[str, set[int]] = {}
    for hold in graph["holds"]:
        holders.setdefault(hold["object_id"], set()).add(hold["pid"])
    with_launcher = set[int]().union(
        *(pids for each, pids in holders.items() if each in pipes and server.pids["launcher"] in pids)
    )
    assert server.pids["engine-0"] in with_launcher
    assert not with_launcher & {server.pids["api-0"], server.pids["api-1"]}


def test_its_x_ray_draws_it_under_its_role_with_the_port_and_both_channels(
    server: RunningServer, tmp_path: Path
) -> None:
    told = xray(server, "--svg", str(tmp_path / "picture.svg"))
    assert re.search(rf"{server.pids['api-0']}\s+lab:api-0 \(vllm-rs\) ", told)
    port = told[told.index("listening socket") :].splitlines()[1]
    assert re.findall(r"(lab:\S+(?: \(vllm-rs\))?): \d+", port) == [
        "lab:launcher",
        "lab:api-0 (vllm-rs)",
        "lab:api-1 (vllm-rs)",
    ]
    for name in ("api-0-in", "api-0-out"):
        holders = told[told.index(f"to {name}.sock") :].splitlines()[1]
        assert re.search(r"lab:engine-0: .*lab:engine-1: .*lab:api-0 \(vllm-rs\): \d+ listens", holders)
    picture = (tmp_path / "picture.svg").read_text()
    assert "lab:api-0" in picture and "vllm-rs" in picture


def test_its_version_names_vllm_s_and_ours(server: RunningServer) -> None:
    told = server.get("/version").json()
    assert told["version"] == f"0.33.0+lab.{lab_support.__version__}"
    assert told["rust_frontend_version"]


def test_a_line_of_the_log_says_whose_role_a_pid_has(server: RunningServer) -> None:
    for name in ("api-0", "api-1"):
        pid = server.pids[name]
        assert f"{name} is ready {{'program': 'vllm-rs', 'pid': {pid}}}" in server.said()
        assert f"(RustFrontend pid={pid}) INFO" in server.said()


def test_it_logs_at_the_level_that_is_asked_for() -> None:
    with running_server(frontend="vllm-rs", api_server_count=1, log_level="error", **PACED) as server:
        assert "(RustFrontend" not in server.said()
