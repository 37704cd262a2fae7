"""An API server that dies is replaced, and all are on SIGUSR1: what clients notice of it under each strategy."""

import http.client
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lab_support.config import MODEL_IN_THE_BOX
from lab_support.instruments.kernel import accept_queues
from tests.benchmarks.accept_strategies import Answers, address_of, answer_queued, open_at_once, request
from tests.kill_trial import Streams, command, find, living
from tests.running_server import RunningServer, running_server

pytestmark = pytest.mark.slow

ONE_SOCKET = ("shared", "exclusive", "least-loaded", "handoff")
QUEUED = 50
CLOSE = b"connection: close\r\n"


def until(holds: Callable[[], bool], within: float = 30.0) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline, "it never happened"
        os.sched_yield()


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    until(lambda: "State:\tT" in Path(f"/proc/{pid}/status").read_text())


def successor(server: RunningServer, name: str, before: int) -> int:
    """The pid of the one that has the title after `before`."""
    found: list[int | None] = []
    until(lambda: found.append(find(name, server.directory)) or found[-1] not in {None, before})
    pid = found[-1]
    assert pid is not None
    return pid


def until_served_by(server: RunningServer, pid: int) -> None:
    until(lambda: pid in server.get("/version", headers={"connection": "close"}).json()["pids"].values())


def metric(server: RunningServer, name: str) -> float:
    lines = server.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name + "{"))


def queue_connections(server: RunningServer) -> dict[socket.socket, float]:
    """`QUEUED` connections with their requests, while nobody accepts."""
    opened = open_at_once(server, QUEUED)
    for connection in opened:
        connection.setblocking(True)
        connection.sendall(request(CLOSE))
        connection.setblocking(False)
    return opened


def test_a_dead_api_server_is_replaced_and_the_others_go_on() -> None:
    with running_server(data_parallel_size=2) as server:
        streams = Streams(server.url, 6)
        before = server.pids["api-0"]
        os.kill(before, signal.SIGKILL)
        pid = successor(server, "api-0", before)
        until_served_by(server, pid)
        assert set(streams.join()) == {"cut", "done"}
        question = {"prompt": "Once upon a time", "max_tokens": 4}
        served = {server.post("/v1/completions", question).headers["x-served-by"] for _ in range(12)}
        assert served == {"api-0", "api-1"}
        # What the dead one had asked for was aborted: nobody waits for it.
        until(lambda: metric(server, "lab_engine_free_blocks") == metric(server, "lab_engine_total_blocks"))
        assert metric(server, "lab_engine_aborts_total") == streams.ended.count("cut")
        assert "api-0 was killed by SIGKILL; a new one starts" in server.said()
        assert [path for path in server.directory.rglob("api-*.sock")] == []


@pytest.mark.parametrize("strategy", ONE_SOCKET)
def test_what_waits_for_a_dead_api_server_is_served_by_the_others(strategy: str) -> None:
    with running_server(accept=strategy, api_server_count=2) as server:
        for name in ("api-0", "api-1"):
            stop(server.pids[name])
        opened = queue_connections(server)
        os.kill(server.pids["api-0"], signal.SIGKILL)
        os.kill(server.pids["api-1"], signal.SIGCONT)
        answers = Answers()
        answer_queued(opened, answers, time.monotonic())
        assert answers.failed == 0
        assert answers.served.total() == QUEUED


def test_under_reuseport_the_queue_of_a_dead_api_server_is_lost_but_where_the_kernel_moves_it() -> None:
    with running_server(accept="reuseport", api_server_count=2) as server:
        for name in ("api-0", "api-1"):
            stop(server.pids[name])
        opened = queue_connections(server)
        held = {
            os.readlink(f"/proc/{server.pids['api-0']}/fd/{fd}")
            for fd in os.listdir(f"/proc/{server.pids['api-0']}/fd")
        }
        queues = accept_queues(address_of(server)[1]).queues
        (waiting,) = [queue.waiting for queue in queues if f"socket:[{queue.inode}]" in held]
        os.kill(server.pids["api-0"], signal.SIGKILL)
        os.kill(server.pids["api-1"], signal.SIGCONT)
        answers = Answers()
        answer_queued(opened, answers, time.monotonic())
        migrates = Path("/proc/sys/net/ipv4/tcp_migrate_req").read_text().strip() != "0"
        assert answers.failed == (0 if migrates else waiting)
        assert 0 < waiting < QUEUED
        said = "tcp_migrate_req is 1: what waits" if migrates else "tcp_migrate_req is 0: connections that wait"
        assert said in server.said()


def test_a_single_one_is_replaced_and_whoever_came_meanwhile_is_served() -> None:
    with running_server(api_server_count=1) as server:
        stop(server.pids["api-0"])
        opened = queue_connections(server)
        os.kill(server.pids["api-0"], signal.SIGKILL)
        answers = Answers()
        answer_queued(opened, answers, time.monotonic())
        assert (answers.failed, answers.served["api-0"]) == (0, QUEUED)


class KeptConnections:
    """Clients that each ask one thing after the other on a connection for as long as the server lets them.

    An answer with `connection: close` makes them open a new one. `broken`: connections that ended in any other way.
    """

    def __init__(self, url: str, count: int) -> None:
        self.answered = self.closed_by_answer = 0
        self.broken: list[str] = []
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._go_on, args=(url,)) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _go_on(self, url: str) -> None:
        while not self._stopping.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", int(url.rsplit(":", 1)[1]), timeout=30)
            try:
                self._ask_until_closed(connection)
            except (OSError, http.client.HTTPException) as error:
                self.broken.append(repr(error))
            connection.close()

    def _ask_until_closed(self, connection: http.client.HTTPConnection) -> None:
        while not self._stopping.is_set():
            connection.request("GET", "/ping")
            answer = connection.getresponse()
            answer.read()
            self.answered += 1
            if answer.headers.get("connection") == "close":
                self.closed_by_answer += 1
                return
            self._stopping.wait(0.01)


@pytest.mark.parametrize("strategy", ONE_SOCKET)
def test_sigusr1_replaces_all_without_cutting_anybody(strategy: str) -> None:
    """`python -m tests.proofs.replacements` does it twenty times with more clients."""
    with running_server(accept=strategy, api_server_count=2) as server:
        before = {name: pid for name, pid in server.pids.items() if name.startswith("api-")}
        kept, streams = KeptConnections(server.url, 4), Streams(server.url, 4)
        server.process.send_signal(signal.SIGUSR1)
        # While the old one finishes it says in its title what it is.
        until(lambda: find("api-0-retiring", server.directory) == before["api-0"])
        assert streams.join() == ["done"] * 4
        until(lambda: "all API servers have been replaced" in server.said())
        kept.stop()
        assert kept.broken == []
        assert kept.closed_by_answer > 0
        after = {name: find(name, server.directory) for name in before}
        assert all(after.values())
        assert set(after.values()).isdisjoint(before.values())
        served = {server.get("/ping", headers={"connection": "close"}).headers["x-served-by"] for _ in range(12)}
        assert served == set(before)


@pytest.mark.parametrize("strategy", ["least-loaded", "handoff"])
def test_one_that_retires_while_its_successors_die_finishes_in_peace(strategy: str) -> None:
    """Each successor that is ready asks it again to retire."""
    with running_server(accept=strategy, api_server_count=1) as server:
        streams = Streams(server.url, 2)
        server.process.send_signal(signal.SIGUSR1)
        ready = "api-0: the new one is ready"
        until(lambda: ready in server.said())
        until(lambda: find("api-0-retiring", server.directory) == server.pids["api-0"])
        (second,) = {pid for pid in living(server.directory) if command(pid) == "lab:api-0"}
        os.kill(second, signal.SIGKILL)
        until(lambda: server.said().count(ready) == 2)
        assert streams.ended == []
        assert streams.join() == ["done"] * 2
        until(lambda: "all API servers have been replaced" in server.said())
        assert "Traceback" not in server.said()


def test_the_engine_cores_totals_go_on_over_a_replacement() -> None:
    with running_server(api_server_count=1) as server:
        for _ in range(2):
            for _ in range(3):
                server.post("/v1/completions", {"prompt": "Once", "max_tokens": 5, "ignore_eos": True})
            server.process.send_signal(signal.SIGUSR1)
            until(lambda: find("api-0-retiring", server.directory) is not None)
            until(lambda: find("api-0-retiring", server.directory) is None)
        until(lambda: metric(server, "lab_engine_generation_tokens_total") >= 30)
        assert metric(server, "lab_engine_generation_tokens_total") == 30
        assert metric(server, "vllm:generation_tokens_total") == 30


def test_a_replacement_that_fails_leaves_the_old_one_in_its_place(tmp_path: Path) -> None:
    model = Path(shutil.copytree(MODEL_IN_THE_BOX, tmp_path / "copy", ignore=shutil.ignore_patterns("make")))
    with running_server(model=model) as server:
        tokenizer = (model / "tokenizer.json").read_bytes()
        (model / "tokenizer.json").write_text("{}")
        server.process.send_signal(signal.SIGUSR1)
        until(lambda: "the old one goes on" in server.said())
        assert any("tokenizer.json" in line and "the old one goes on" in line for line in server.said().splitlines())
        assert server.get("/ping").status_code == 200
        (model / "tokenizer.json").write_bytes(tokenizer)
        server.process.send_signal(signal.SIGUSR1)
        until(lambda: "all API servers have been replaced" in server.said())


def test_one_that_dies_again_and_again_ends_the_server() -> None:
    with running_server(api_server_restart_limit=2) as server:
        pid = server.pids["api-0"]
        for _ in range(2):
            os.kill(pid, signal.SIGKILL)
            pid = successor(server, "api-0", pid)
        os.kill(pid, signal.SIGKILL)
        assert server.process.wait(30) == 1
        assert (
            "lab serve: api-0 was killed by SIGKILL; that is more than --api-server-restart-limit 2 within 60 s"
            in server.said()
        )
        assert list(server.directory.iterdir()) == []


def test_without_replacement_a_death_ends_the_server() -> None:
    with running_server(restart_api_servers=False) as server:
        os.kill(server.pids["api-1"], signal.SIGKILL)
        assert server.process.wait(30) == 1
        assert "lab serve: api-1 was killed by SIGKILL, so the server ends" in server.said()


def test_one_whose_successor_is_refused_ends_the_server(tmp_path: Path) -> None:
    model = Path(shutil.copytree(MODEL_IN_THE_BOX, tmp_path / "copy", ignore=shutil.ignore_patterns("make")))
    with running_server(model=model) as server:
        (model / "tokenizer.json").write_text("{}")
        os.kill(server.pids["api-0"], signal.SIGKILL)
        assert server.process.wait(30) == 2
        assert "tokenizer.json" in server.said().splitlines()[-1]
