"""--liveness-timeout: a process that stands still is found, described, and killed; one that works or waits is not."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from lab_support import own_stack
from tests.kill_trial import Streams, find, living, wait_until_gone
from tests.proofs.pytests import in_full
from tests.running_server import PACED, RunningServer, launched, running_server

TIMEOUT = 6.0  # seconds: on a busy machine a process may take several to start
pytestmark = pytest.mark.slow
OF_THE_SERVER = ("launcher", "api-0", "api-1", "coordinator", "engine-0", "engine-1")


def wait_for(server: RunningServer, words: str) -> str:
    """What the server has said, once it has said these words."""
    while words not in (said := server.said()):
        assert server.process.poll() is None, said
    return said


def test_a_stopped_api_server_is_named_killed_and_replaced() -> None:
    with running_server(**PACED, api_server_count=2, liveness_timeout=TIMEOUT) as server:
        os.kill(server.pids["api-1"], signal.SIGSTOP)
        said = wait_for(server, "a new one starts")
        assert f"api-1 showed no sign of life for {TIMEOUT:g} s (--liveness-timeout)" in said
        assert "it is stopped by a signal (SIGSTOP, or Ctrl-Z)" in said
        wait_for(server, "api-1 is ready")
        assert find("api-1", server.directory) != server.pids["api-1"]
        assert find("api-0", server.directory) == server.pids["api-0"]
        assert server.stop() == 0


@pytest.mark.parametrize("role", ["engine-0", "coordinator"])
def test_a_stopped_process_without_which_there_is_no_server_ends_it(role: str) -> None:
    with running_server(**PACED, data_parallel_size=2, liveness_timeout=TIMEOUT) as server:
        streams = Streams(server.url, 2)
        os.kill(server.pids[role], signal.SIGSTOP)
        assert wait_until_gone(server.directory, 30).left == []
        assert server.process.wait() == 1
        assert "error event" in streams.join()
        last = server.said().splitlines()[-1]
        assert last.startswith(f"lab serve: {role} showed no sign of life for {TIMEOUT:g} s")
        assert last.endswith("it was killed, so the server ends")


def test_an_engine_core_that_hangs_in_a_step_is_killed_with_the_stacks_of_its_threads(tmp_path: Path) -> None:
    endless = tmp_path / "pace.txt"
    endless.write_text("1 1 60000\n")  # a minute for one row
    with running_server(device=f"paced:{endless}", max_num_seqs=1, liveness_timeout=TIMEOUT) as server:
        reply = server.post("/v1/completions", {"prompt": "Once", "max_tokens": 5})
        assert reply.status_code == 503 and "no sign of life" in reply.text
        assert server.process.wait(30) == 1
        said = server.said()
        assert "step_clock.py" in said and "in busy_loop" in said and "it waits in" in said
        assert said.count("Thread 0x") >= 3  # the loop, and those that read and write its sockets


def test_a_child_that_stands_still_while_it_starts_is_found() -> None:
    with launched(liveness_timeout=TIMEOUT) as (process, ready, log, directory):
        while (pid := find("engine-0", directory)) is None:
            assert process.poll() is None
        os.kill(pid, signal.SIGSTOP)
        assert process.wait(40) == 1
        assert ready.read() == ""
        assert "lab serve: engine-0 showed no sign of life" in log.read_text()
        assert living(directory) == []


def test_all_who_wait_or_work_live() -> None:
    """Several times the timeout, idle and then under load; every kind of process."""
    with running_server(**PACED, api_server_count=2, data_parallel_size=2, liveness_timeout=TIMEOUT) as server:
        time.sleep(1.5 * TIMEOUT)  # that nothing happens meanwhile is what is tested
        assert Streams(server.url, 6, tokens=300).join() == ["done"] * 6
        assert {name: find(name, server.directory) for name in OF_THE_SERVER} == {
            name: server.pids[name] for name in OF_THE_SERVER
        }
        assert "sign of life" not in server.said()
        assert server.stop() == 0


@pytest.mark.parametrize("stopped", ["all", pytest.param("launcher", marks=in_full)])
def test_ctrl_z_and_fg_kill_nobody(stopped: str) -> None:
    with launched(options={"start_new_session": True}, **PACED, liveness_timeout=TIMEOUT) as (
        process,
        ready,
        log,
        directory,
    ):
        server = RunningServer(process, json.loads(ready.readline()), log, directory)
        tell = os.killpg if stopped == "all" else os.kill
        tell(process.pid, signal.SIGSTOP)
        time.sleep(TIMEOUT + 2)  # longer than any deadline
        tell(process.pid, signal.SIGCONT)
        assert server.post("/v1/completions", {"prompt": "Once", "max_tokens": 3}).status_code == 200
        time.sleep(TIMEOUT + 1)  # the deadlines that began again
        assert {find(name, directory) for name in server.pids} == set(server.pids.values())
        assert "sign of life" not in server.said()
        assert server.stop() == 0


def test_without_the_flag_no_process_has_the_means() -> None:
    with running_server(**PACED) as server:
        assert not any(map(own_stack.can_be_asked, server.pids.values()))
        assert server.stop() == 0
