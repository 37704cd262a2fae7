"""The running processes match the code: a kind for each file in `processes/`, and torch only where it belongs."""

import os
from pathlib import Path

import lab_support.processes
from tests.running_server import RunningServer, running_server

OF_VLLM = {"vllm_front_end", "vllm_engine_core", "vllm_rank"}  # in place of our own ones, or beside vLLM's
KINDS = {path.stem for path in Path(lab_support.processes.__file__).parent.glob("[a-z]*.py")} - OF_VLLM
PYTHONS_OWN = {"resource-tracker"}
FILE_OF = {"launcher": "launcher", "api": "api_server", "engine": "engine_core", "coordinator": "coordinator"}


def title(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[0]


def descendants(pid: int) -> list[int]:
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return children + [below for child in children for below in descendants(child)]


def maps_libtorch(pid: int) -> bool:
    return "libtorch" in Path(f"/proc/{pid}/maps").read_text()


def test_titles_name_the_files_in_processes() -> None:
    with running_server(data_parallel_size=2) as server:
        launcher = server.pids["launcher"]
        known = {pid for name, pid in server.pids.items() if name not in PYTHONS_OWN}
        assert {launcher, *descendants(launcher)} - set(server.pids.values()) == set()
        roles = {title(pid).removeprefix("lab:") for pid in known}
        assert roles == {"launcher", "api-0", "api-1", "engine-0", "engine-1", "coordinator"}
        assert {FILE_OF[role.split("-")[0]] for role in roles} == KINDS


def test_only_engine_cores_map_libtorch(server: RunningServer) -> None:
    assert {name for name, pid in server.pids.items() if maps_libtorch(pid)} == {"engine-0"}


def test_the_listening_socket_is_one_object_with_launcher_and_api_servers_as_holders(server: RunningServer) -> None:
    port = int(server.url.rsplit(":", 1)[1])
    (inode,) = {
        line.split()[9]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A"
    }
    holders = {
        name
        for name, pid in server.pids.items()
        for fd in os.listdir(f"/proc/{pid}/fd")
        if os.readlink(f"/proc/{pid}/fd/{fd}") == f"socket:[{inode}]"
    }
    assert holders == {"launcher", "api-0", "api-1"}


def test_no_socket_has_a_name_once_everyone_is_connected(server: RunningServer) -> None:
    assert [path for path in server.directory.rglob("*") if path.is_socket()] == []
