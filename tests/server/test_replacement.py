"""An API server that dies is replaced, and all are on SIGUSR1: what clients notice of it under each strategy."""

import contextlib
import http.client
import itertools
import json
import os
import resource
import shutil
import signal
import socket
import stat
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab_support.config import MODEL_IN_THE_BOX
from lab_support.instruments.kernel import accept_queues
from lab_support.supervision.runtime_directory import sweep
from tests.benchmarks.accept_strategies import Answers, address_of, answer_queued, open_at_once, request
from tests.kill_trial import Streams, command, find, living
from tests.proofs.pytests import in_full
from tests.running_server import PACED, RunningServer, launched, running_server

pytestmark = pytest.mark.slow

ONE_SOCKET = ("shared", "exclusive", "least-loaded", "handoff")
IN_SHORT = [*(pytest.param(each, marks=in_full) for each in ONE_SOCKET[:3]), ONE_SOCKET[3]]
"""All four; `make test` runs the last, whose API servers have no listening socket."""
QUEUED = 50
CLOSE = b"connection: close\r\n"


def until(holds: Callable[[], bool], within: float = 30.0, every: float = 0.001) -> None:
    """Wait for something that another process does. every: seconds from one look to the next."""
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(every)


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


def titled(title: str, server: RunningServer) -> set[int]:
    return {pid for pid in living(server.directory) if command(pid) == title}


def until_served_by(server: RunningServer, pid: int) -> None:
    until(lambda: pid in server.get("/version", headers={"connection": "close"}).json()["pids"].values())


def metric(server: RunningServer, name: str) -> float:
    lines = server.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name + "{"))


def queue_connections(server: RunningServer) -> dict[socket.socket, float]:
    """`QUEUED` connections with their requests, while no process accepts."""
    opened = open_at_once(server, QUEUED)
    for connection in opened:
        connection.setblocking(True)
        connection.sendall(request(CLOSE))
        connection.setblocking(False)
    return opened


def test_a_dead_api_server_is_replaced_and_the_others_go_on() -> None:
    with running_server(**PACED, data_parallel_size=2) as server:
        streams = Streams(server.url, 6, tokens=600)
        before = server.pids["api-0"]
        os.kill(before, signal.SIGKILL)
        pid = successor(server, "api-0", before)
        until_served_by(server, pid)
        assert set(streams.join()) == {"cut", "done"}
        question = {"prompt": "Once upon a time", "max_tokens": 4}
        served = {server.post("/v1/completions", question).headers["x-served-by"] for _ in range(12)}
        assert served == {"api-0", "api-1"}
        # The dead one's requests were aborted, because nobody waits for their answers.
        until(lambda: metric(server, "lab_engine_free_blocks") == metric(server, "lab_engine_total_blocks"))
        assert metric(server, "lab_engine_aborts_total") == streams.ended.count("cut")
        assert "api-0 was killed by SIGKILL; a new one starts" in server.said()
        assert [path for path in server.directory.rglob("api-*.sock")] == []


@pytest.mark.parametrize("strategy", ONE_SOCKET)
def test_what_waits_for_a_dead_api_server_is_served_by_the_others(strategy: str) -> None:
    with running_server(**PACED, accept=strategy, api_server_count=2) as server:
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
    with running_server(**PACED, accept="reuseport", api_server_count=2) as server:
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
        said = f"tcp_migrate_req is {int(migrates)}: connections that wait"
        assert said in server.said()


def test_a_single_one_is_replaced_and_whoever_came_meanwhile_is_served() -> None:
    with running_server(**PACED, api_server_count=1) as server:
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


@pytest.mark.parametrize("strategy", IN_SHORT)
def test_sigusr1_replaces_all_without_cutting_anybody(strategy: str) -> None:
    """`python -m tests.proofs.replacements` does it twenty times with more clients."""
    with running_server(**PACED, accept=strategy, api_server_count=2) as server:
        before = {name: pid for name, pid in server.pids.items() if name.startswith("api-")}
        kept, streams = KeptConnections(server.url, 4), Streams(server.url, 4, tokens=600)
        server.process.send_signal(signal.SIGUSR1)
        # While the old one finishes it says in its title what it is.
        until(lambda: find("api-0-retiring", server.directory) == before["api-0"], every=0.02)
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


@pytest.mark.parametrize("strategy", IN_SHORT[-2:])
def test_one_that_retires_while_its_successors_die_finishes_in_peace(strategy: str) -> None:
    """It is asked to retire once, and each further successor that is ready finds it asked already."""
    with running_server(**PACED, accept=strategy, api_server_count=1) as server:
        streams = Streams(server.url, 2)
        server.process.send_signal(signal.SIGUSR1)
        ready = "api-0: the new one is ready"
        until(lambda: ready in server.said())
        until(lambda: find("api-0-retiring", server.directory) == server.pids["api-0"], every=0.02)
        (second,) = {pid for pid in living(server.directory) if command(pid) == "lab:api-0"}
        os.kill(second, signal.SIGKILL)
        until(lambda: server.said().count("INFO api-0 is ready") == 3)
        assert server.said().count(ready) == 1
        assert streams.ended == []
        assert streams.join() == ["done"] * 2
        until(lambda: "all API servers have been replaced" in server.said())
        assert "Traceback" not in server.said()


def test_the_engine_cores_totals_go_on_over_a_replacement() -> None:
    with running_server(**PACED, api_server_count=1) as server:
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
    with running_server(**PACED, model=model) as server:
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
    with running_server(**PACED, api_server_restart_limit=2) as server:
        pid = server.pids["api-0"]
        for _ in range(2):
            os.kill(pid, signal.SIGKILL)
            pid = successor(server, "api-0", pid)
            until_served_by(server, pid)
        os.kill(pid, signal.SIGKILL)
        assert server.process.wait(30) == 1
        assert (
            "lab serve: api-0 was killed by SIGKILL; that is more than --api-server-restart-limit 2 within 60 s"
            in server.said()
        )
        assert list(server.directory.iterdir()) == []


def test_without_replacement_a_death_ends_the_server() -> None:
    with running_server(**PACED, restart_api_servers=False) as server:
        os.kill(server.pids["api-1"], signal.SIGKILL)
        assert server.process.wait(30) == 1
        assert "lab serve: api-1 was killed by SIGKILL, so the server ends" in server.said()


def test_where_none_serves_a_successor_that_is_refused_ends_the_server(tmp_path: Path) -> None:
    model = Path(shutil.copytree(MODEL_IN_THE_BOX, tmp_path / "copy", ignore=shutil.ignore_patterns("make")))
    with running_server(**PACED, model=model, api_server_count=1) as server:
        (model / "tokenizer.json").write_text("{}")
        os.kill(server.pids["api-0"], signal.SIGKILL)
        assert server.process.wait(30) == 2
        assert "tokenizer.json" in server.said().splitlines()[-1]


def test_where_others_serve_a_successor_that_is_refused_is_tried_again_until_it_comes(tmp_path: Path) -> None:
    model = Path(shutil.copytree(MODEL_IN_THE_BOX, tmp_path / "copy", ignore=shutil.ignore_patterns("make")))
    with running_server(**PACED, model=model, api_server_restart_limit=1) as server:
        tokenizer = (model / "tokenizer.json").read_bytes()
        (model / "tokenizer.json").write_text("{}")
        os.kill(server.pids["api-0"], signal.SIGKILL)
        until(lambda: server.said().count("the others serve on, next try in") == 2)  # more than the limit of deaths
        assert served_by(server) == {"api-1"}
        (model / "tokenizer.json").write_bytes(tokenizer)
        until(lambda: served_by(server) == {"api-0", "api-1"})
        tries = [line.rpartition(" in ")[2] for line in server.said().splitlines() if "next try in" in line]
        assert tries[:2] == ["0.25 s", "0.50 s"]


def served_by(server: RunningServer) -> set[str]:
    return {server.get("/ping", headers={"connection": "close"}).headers["x-served-by"] for _ in range(12)}


@contextlib.contextmanager
def no_descriptor_free(pid: int) -> Iterator[None]:
    """Inside, the process gets two more descriptors, and then EMFILE."""
    used = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    free = (number for number in itertools.count() if number not in used)
    former = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    limit = max(12, next(itertools.islice(free, 2, None)))  # poll(2) refuses more entries than that
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, former[1]))
    yield
    resource.prlimit(pid, resource.RLIMIT_NOFILE, former)


def descriptors(pid: int) -> Counter[str]:
    """The count of each kind and file."""
    held = [os.readlink(f"/proc/{pid}/fd/{number}") for number in os.listdir(f"/proc/{pid}/fd")]
    return Counter(target.partition("[")[0] for target in held)


@pytest.mark.parametrize("strategy", [*IN_SHORT[-2:], pytest.param("reuseport", marks=in_full)])
def test_a_launcher_without_descriptors_tries_again_and_leaks_none(strategy: str) -> None:
    with running_server(**PACED, accept=strategy) as server:
        launcher = server.process.pid
        server.process.send_signal(signal.SIGUSR1)
        until(lambda: "all API servers have been replaced" in server.said())
        before = descriptors(launcher)
        with no_descriptor_free(launcher):
            server.process.send_signal(signal.SIGUSR1)
            until(lambda: "the old one goes on, and SIGUSR1 may be sent again" in server.said())
            assert descriptors(launcher) == before
            (api_server,) = titled("lab:api-0", server)
            os.kill(api_server, signal.SIGKILL)
            until(lambda: server.said().count("Too many open files; the others serve on, next try in") == 2)
            assert served_by(server) == {"api-1"}
        until(lambda: served_by(server) == {"api-0", "api-1"})
        assert descriptors(launcher) == before
        server.process.send_signal(signal.SIGUSR1)
        until(lambda: server.said().count("all API servers have been replaced") == 2)
        assert descriptors(launcher) == before
        assert served_by(server) == {"api-0", "api-1"}
        assert "Traceback" not in server.said()


def test_a_runtime_directory_that_was_removed_is_made_again() -> None:
    with running_server(**PACED) as server:
        (directory,) = server.directory.glob("lab-serve-*")
        shutil.rmtree(directory)
        os.kill(server.pids["api-0"], signal.SIGKILL)
        until_served_by(server, successor(server, "api-0", server.pids["api-0"]))
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert sweep(server.directory) == []  # it is locked, as it was
        shutil.rmtree(directory)
        server.process.send_signal(signal.SIGUSR1)
        until(lambda: "all API servers have been replaced" in server.said())
        assert server.stop() == 0
        assert list(server.directory.iterdir()) == []


def test_one_that_does_not_become_ready_in_time_is_killed_and_another_comes() -> None:
    """Stopped as soon as it has a title, it never says a word."""
    with running_server(**PACED, ready_timeout=12) as server:
        os.kill(server.pids["api-0"], signal.SIGKILL)
        stopped = successor(server, "api-0", server.pids["api-0"])
        stop(stopped)
        assert served_by(server) == {"api-1"}
        until(lambda: "api-0 failed: it was not ready within 12 s; the others serve on" in server.said(), within=60)
        until_served_by(server, successor(server, "api-0", stopped))


def test_sigusr1_waits_for_one_that_is_not_ready_yet_and_replaces_it_too() -> None:
    with running_server(**PACED) as server:
        os.kill(server.pids["api-0"], signal.SIGKILL)
        starting = successor(server, "api-0", server.pids["api-0"])
        stop(starting)
        server.process.send_signal(signal.SIGUSR1)
        until(lambda: "SIGUSR1: the API servers are replaced" in server.said())
        assert served_by(server) == {"api-1"}
        os.kill(starting, signal.SIGCONT)
        until(lambda: "all API servers have been replaced" in server.said())
        assert find("api-0", server.directory) not in {starting, None}
        assert "Traceback" not in server.said()
        assert served_by(server) == {"api-0", "api-1"}


def test_one_that_dies_while_another_is_to_take_its_place_has_its_successor_already() -> None:
    with running_server(**PACED) as server:
        server.process.send_signal(signal.SIGUSR1)
        until(lambda: len(titled("lab:api-0", server)) == 2)
        (starting,) = titled("lab:api-0", server) - {server.pids["api-0"]}
        stop(starting)
        os.kill(server.pids["api-0"], signal.SIGKILL)
        until(lambda: "its replacement is already starting" in server.said())
        os.kill(starting, signal.SIGCONT)
        until(lambda: "all API servers have been replaced" in server.said())
        assert find("api-0", server.directory) == starting
        assert served_by(server) == {"api-0", "api-1"}


def test_the_folder_that_it_was_started_in_may_be_removed() -> None:
    """Its temporary files lie elsewhere here, under a short name: the address of a socket has room for 107 bytes."""
    with (
        tempfile.TemporaryDirectory(prefix="lt-") as temporary,
        launched(**PACED, env={"TMPDIR": temporary}) as (process, ready, log, folder),
    ):
        server = RunningServer(process, json.loads(ready.readline()), log, folder)
        folder.rmdir()
        os.kill(server.pids["api-0"], signal.SIGKILL)
        until(lambda: "has been removed; it goes on in /" in server.said())
        until(lambda: served_by(server) == {"api-0", "api-1"})
        process.send_signal(signal.SIGUSR1)
        until(lambda: "all API servers have been replaced" in server.said())
        assert server.said().count("it goes on in /") == 1
        assert server.stop() == 0
        assert os.listdir(temporary) == []
