"""A server as its operator sees it: the ready line, the ways of starting, several engine cores, a Unix socket."""

import http.client
import json
import os
import signal
import socket
from collections import Counter
from pathlib import Path

import pytest

from lab_support.instruments.address_space import is_copy
from tests.kill_trial import wait_until_gone
from tests.running_server import RunningServer, running_server

QUESTION = {"prompt": "Once upon a time", "max_tokens": 8, "temperature": 0}


def test_the_ready_line_names_the_server_that_was_started(server: RunningServer) -> None:
    assert server.get("/version").json()["run_id"] == server.facts["run_id"]
    assert set(server.pids) == {"launcher", "api-0", "api-1", "engine-0", "resource-tracker"}
    assert server.pids["launcher"] == server.process.pid
    assert all(Path(f"/proc/{pid}").exists() for pid in server.pids.values())


def test_every_answer_says_who_served_it(server: RunningServer) -> None:
    answer = server.post("/v1/completions", QUESTION)
    assert answer.headers["x-served-by"] in {"api-0", "api-1"}
    assert answer.headers["x-engine"] == "0"
    assert answer.headers["x-request-id"]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_engine_cores_start_by_every_method(method: str) -> None:
    with running_server(start_method=method, data_parallel_size=2, api_server_count=1) as server:
        assert server.post("/v1/completions", QUESTION).status_code == 200
        for name in ("engine-0", "engine-1"):
            held = {
                os.readlink(f"/proc/{server.pids[name]}/fd/{fd}") for fd in os.listdir(f"/proc/{server.pids[name]}/fd")
            }
            assert listening_inode(server) not in held
        os.kill(server.pids["launcher"], signal.SIGKILL)
        assert wait_until_gone(server.directory, 5.0).left == []


def test_the_variable_chooses_and_version_says_so() -> None:
    with running_server(env={"LAB_START_METHOD": "fork"}, api_server_count=1) as server:
        chosen = server.get("/version").json()["start_method"]
        assert chosen["engine_cores"] == chosen["asked"] == "fork"
        assert chosen["asked_by"] == "LAB_START_METHOD"
        assert chosen["api_servers"] == "spawn"
        assert "engine cores start by fork (LAB_START_METHOD), API servers by spawn" in server.said()
        assert is_copy(server.pids["engine-0"], server.pids["launcher"])
        assert not is_copy(server.pids["api-0"], server.pids["launcher"])


def test_a_launcher_with_a_second_thread_will_not_fork() -> None:
    """The server within a program that has a thread: fork is overridden, with the reason, and spawn happens."""
    program = ("-c", "import sys, threading; threading.Thread(target=threading.Event().wait, name='poller', "
               "daemon=True).start(); from lab_support.__main__ import main; sys.exit(main())")  # fmt: skip
    with running_server(program=program, start_method="fork", api_server_count=1) as server:
        chosen = server.get("/version").json()["start_method"]
        assert (chosen["asked"], chosen["asked_by"], chosen["engine_cores"]) == ("fork", "--start-method", "spawn")
        assert "1 other thread runs here, 1 of them Python's: poller" in chosen["reasons"][0]
        assert chosen["reasons"][0] in server.said()
        assert not is_copy(server.pids["engine-0"], server.pids["launcher"])


def listening_inode(server: RunningServer) -> str:
    pid, port = server.pids["launcher"], int(server.url.rsplit(":", 1)[1])
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        columns = line.split()
        if columns[1].endswith(f":{port:04X}") and columns[3] == "0A":
            return f"socket:[{columns[9]}]"
    raise AssertionError("nobody listens")


@pytest.mark.slow
def test_several_engine_cores_share_the_requests() -> None:
    with running_server(data_parallel_size=2, api_server_count=2) as server:
        engines: Counter[str] = Counter()
        answers = set()
        for _ in range(20):
            answer = server.post("/v1/completions", QUESTION)
            engines[answer.headers["x-engine"]] += 1
            answers.add(answer.json()["choices"][0]["text"])
        assert len(answers) == 1
        assert min(engines["0"], engines["1"]) >= 5


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def test_a_unix_socket_serves_and_its_name_goes(tmp_path: Path) -> None:
    path = tmp_path / "lab.sock"
    with running_server(uds=path) as server:
        assert server.url == f"unix:{path}"
        connection = UnixConnection(str(path))
        headers = {"content-type": "application/json"}
        connection.request("POST", "/v1/completions", json.dumps(QUESTION), headers)
        assert json.loads(connection.getresponse().read())["usage"]["completion_tokens"] == 8
        connection.close()
    assert not path.exists()


def test_random_weights_serve_without_a_weights_file(tmp_path: Path) -> None:
    from lab_support.config import MODEL_IN_THE_BOX

    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        (tmp_path / name).write_bytes((MODEL_IN_THE_BOX / name).read_bytes())
    with running_server(model=tmp_path, load_format="dummy", api_server_count=1) as server:
        assert server.post("/v1/completions", QUESTION).status_code == 200


def test_blocks_of_who_hangs_up_are_free_within_two_steps() -> None:
    with running_server(api_server_count=1) as server:
        for _ in range(10):
            body = QUESTION | {"max_tokens": 1900, "ignore_eos": True, "stream": True}
            with server.post("/v1/completions", body, stream=True) as answer:
                next(answer.iter_lines())
        while metric(server, "lab_engine_aborts_total") < 10:
            pass  # each look is a request
        assert metric(server, "lab_engine_abort_steps_max") <= 2
        assert metric(server, "lab_engine_abort_steps_total") >= 1  # a step was running at least once
        assert metric(server, "lab_engine_free_blocks") == metric(server, "lab_engine_total_blocks")


def metric(server: RunningServer, name: str) -> float:
    lines = server.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name + "{"))
