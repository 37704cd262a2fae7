"""Any process killed in any state: nothing keeps running, no file is left, and waiting clients get an error."""

import fcntl
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from lab_support.config import words_for
from tests.kill_trial import ROLES, Streams, find, living, wait_until_gone
from tests.running_server import PACED, RunningServer, launched, running_server
from tests.without_torch import WITH_TORCH

WITHIN = 5.0  # seconds; the figure that is promised is measured by `make prove`


def files(directory: Path) -> list[Path]:
    return list(directory.rglob("*"))


@pytest.mark.slow
@pytest.mark.parametrize("role", ROLES)
def test_a_kill_while_streaming_leaves_nothing(role: str) -> None:
    """Without replacement: what an API server's death does with it is in test_replacement.py."""
    with running_server(**PACED, data_parallel_size=2, restart_api_servers=False) as server:
        streams = Streams(server.url, 4)
        os.kill(server.pids[role], signal.SIGKILL)
        if role == "resource-tracker":  # Python's own: nobody here needs it
            assert server.get("/health").status_code == 200
            server.process.send_signal(signal.SIGTERM)
            server.process.send_signal(signal.SIGINT)
        outcome = wait_until_gone(server.directory, WITHIN)
        assert outcome.left == []
        assert "done" not in streams.join(), (streams, server.said())
        if role != "launcher":
            assert files(server.directory) == []
        if role not in {"launcher", "resource-tracker"}:
            assert server.process.wait() == 1
            assert f"lab serve: {role} was killed by SIGKILL, so the server ends" in server.said()


@pytest.mark.parametrize("role", ["launcher", "api-0", "engine-0"])
def test_a_kill_while_starting_leaves_nothing(role: str) -> None:
    with launched() as (process, ready, _, directory):
        pid = None
        while pid is None and process.poll() is None:
            pid = process.pid if role == "launcher" else find(role, directory)
            time.sleep(0.01)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert wait_until_gone(directory, WITHIN).left == []
        assert ready.read() == ""
        assert process.wait() == (-9 if role == "launcher" else 1)
        if role != "launcher":
            assert files(directory) == []


def test_the_next_start_sweeps_what_a_kill_of_everything_left() -> None:
    with running_server(**PACED) as killed:
        for pid in killed.pids.values():  # so that no process outlives another by the time that cleaning up takes
            os.kill(pid, signal.SIGSTOP)
        for pid in killed.pids.values():
            while "State:\tT" not in Path(f"/proc/{pid}/status").read_text():
                pass
        for pid in reversed(killed.pids.values()):  # the launcher is named first: it goes last
            os.kill(pid, signal.SIGKILL)
        assert wait_until_gone(killed.directory, WITHIN).left == []
        (left,) = killed.directory.iterdir()
        with launched(**PACED, env={"TMPDIR": str(killed.directory)}) as (_, ready, _, _):
            assert ready.readline()
            assert not left.exists()


def test_streams_of_the_living_get_an_error_event_when_an_engine_core_dies() -> None:
    with running_server() as server:
        streams = Streams(server.url, 4)
        os.kill(server.pids["engine-0"], signal.SIGKILL)
        assert streams.join() == ["error event"] * 4


@pytest.mark.slow
def test_sigterm_finishes_what_runs() -> None:
    with running_server(**PACED, shutdown_timeout=60) as server:
        streams = Streams(server.url, 2, tokens=600)
        assert server.stop() == 0
        assert streams.join() == ["done"] * 2
        assert files(server.directory) == []


def test_after_the_timeout_sigterm_ends_what_runs_with_an_error_event() -> None:
    with running_server(**PACED, shutdown_timeout=0) as server:
        streams = Streams(server.url, 2)
        assert server.stop() == 0
        assert streams.join() == ["error event"] * 2


def test_a_second_signal_stops_at_once() -> None:
    with running_server(**PACED, shutdown_timeout=600) as server:
        streams = Streams(server.url, 2)
        server.process.send_signal(signal.SIGINT)
        server.process.send_signal(signal.SIGTERM)  # the same one twice might reach it as one: signal(7)
        assert server.process.wait(10) == 0
        assert "done" not in streams.join()
        assert living(server.directory) == []
        assert files(server.directory) == []


def test_a_signal_while_starting_stops() -> None:
    with launched() as (process, ready, _, directory):
        while find("engine-0", directory) is None:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert ready.read() == ""
        assert living(directory) == []
        assert files(directory) == []


def found(role: str, directory: Path) -> int:
    """Its pid, once it is there."""
    while (pid := find(role, directory)) is None:
        time.sleep(0.01)
    return pid


@pytest.mark.parametrize("role", ["launcher", "engine-0", "api-1"])
def test_ctrl_c_while_starting_is_no_error(role: str) -> None:
    """A terminal sends it to the whole group, so also to processes that are only half made."""
    with launched(options={"start_new_session": True}) as (process, ready, log, directory):
        found(role, directory)
        os.killpg(process.pid, signal.SIGINT)
        ended = process.wait(20)
        assert ended == 0 or (role == "launcher" and ended == -signal.SIGINT)  # it may have no handler yet
        assert ready.read() == ""
        assert "Traceback" not in log.read_text()
        assert "lab serve:" not in log.read_text()
        assert living(directory) == files(directory) == []


def test_before_there_is_a_handler_ctrl_c_ends_it_without_a_word(tmp_path: Path) -> None:
    """Earlier, while Python itself starts, the words are Python's."""
    press = "__getattr__ = lambda name: __import__('os').kill(__import__('os').getpid(), 2)"
    (tmp_path / "argparse.py").write_text(press)  # at the first look into the module that the command reads flags by
    with launched(env={"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}) as (process, _, log, _):
        assert process.wait(20) == -signal.SIGINT
        assert log.read_text() == ""


def test_signals_to_the_whole_group_are_the_launchers_alone() -> None:
    """Under nohup, which ignores SIGHUP: the terminal goes, and everybody serves on."""
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with launched(options={"start_new_session": True}) as (process, ready, log, directory):
            server = RunningServer(process, json.loads(ready.readline()), log, directory)
            os.killpg(process.pid, signal.SIGHUP)
            assert server.post("/v1/completions", {"prompt": "Once", "max_tokens": 3}).status_code == 200
            assert {find(name, directory) for name in server.pids} == set(server.pids.values())
            os.killpg(process.pid, signal.SIGINT)
            assert process.wait(20) == 0
            assert living(directory) == files(directory) == []
    finally:
        signal.signal(signal.SIGHUP, former)


def test_a_child_that_never_says_a_word_ends_the_start() -> None:
    with launched(ready_timeout=5) as (process, ready, log, directory):
        os.kill(found("engine-0", directory), signal.SIGSTOP)
        assert process.wait(40) == 1
        assert ready.read() == ""
        last = log.read_text().splitlines()[-1]
        assert last == "lab serve: not ready within --ready-timeout 5 s, so the server ends: engine-0"
        assert living(directory) == files(directory) == []


def test_a_defect_of_the_launcher_is_told_to_the_clients() -> None:
    """Its SIGUSR1 divides by zero here."""
    program = ("-m", "tests.server.launcher_with_a_defect")
    with launched(program=program) as (process, ready, log, directory):
        server = RunningServer(process, json.loads(ready.readline()), log, directory)
        streams = Streams(server.url, 4)
        process.send_signal(signal.SIGUSR1)
        assert streams.join() == ["error event"] * 4
        assert process.wait(20) == 1
        assert "ZeroDivisionError" in server.said()
        assert server.said().splitlines()[-1].startswith("lab serve: the launcher failed: ZeroDivisionError")
        assert living(directory) == files(directory) == []


def test_a_signal_without_a_name_of_its_own_is_named_and_the_server_goes_on() -> None:
    with running_server(**PACED) as server:
        os.kill(server.pids["api-0"], 40)
        while "a new one starts" not in server.said():
            assert server.process.poll() is None
        assert f"api-0 was killed by SIGRTMIN+{40 - signal.SIGRTMIN}" in server.said()
        assert server.stop() == 0


@WITH_TORCH
def test_nobody_reads_its_stderr_and_it_serves_and_ends() -> None:
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    with launched(options={"stderr": write}) as (process, ready, log, directory):
        server = RunningServer(process, json.loads(ready.readline()), log, directory)
        assert {server.get("/ping").status_code for _ in range(200)} == {200}
        assert server.stop() == 0
        assert living(directory) == files(directory) == []
    os.close(read)
    os.close(write)


def pipe_without_a_reader() -> int:
    read, write = os.pipe()
    os.close(read)
    return write


@pytest.mark.parametrize("what", ["stdout is full", "the ready line has no reader"])
def test_a_ready_line_that_nobody_takes_is_no_end(what: str, tmp_path: Path) -> None:
    """It listens on a path, so that it can be found without that line."""
    gone, full = pipe_without_a_reader(), os.open("/dev/full", os.O_WRONLY)
    options: dict = {"stdout": full}
    words: list[str] = []
    if what == "the ready line has no reader":
        options, words = {"pass_fds": (gone,)}, words_for({"ready_fd": gone})
    with launched(*words, **PACED, uds=tmp_path / "s", options=options) as (process, _, log, _):
        while "it still serves" not in log.read_text():
            assert process.poll() is None, log.read_text()
            time.sleep(0.01)
        curl = ["curl", "--silent", "--unix-socket", str(tmp_path / "s"), "http://lab/ping"]
        assert subprocess.run(curl, check=False).returncode == 0
        process.terminate()
        assert process.wait(20) == 0
        assert log.read_text().count("did not take the line that says that the server is ready") == 1
        assert "Traceback" not in log.read_text()
    os.close(gone)
    os.close(full)


def test_a_stopped_resource_tracker_does_not_hold_up_the_end() -> None:
    with running_server(**PACED) as server:
        os.kill(server.pids["resource-tracker"], signal.SIGSTOP)
        assert server.stop() == 0
        assert living(server.directory) == files(server.directory) == []


@pytest.mark.slow
def test_a_killed_launcher_of_a_fork_server_leaves_what_the_next_start_sweeps() -> None:
    with running_server(**PACED, start_method="forkserver") as server:
        (own,) = server.directory.iterdir()
        assert list(own.glob("listener-*"))
        server.process.kill()
        assert wait_until_gone(server.directory, WITHIN).left == []
        with launched(**PACED, env={"TMPDIR": str(server.directory)}, start_method="forkserver") as (
            process,
            ready,
            _,
            _,
        ):
            assert ready.readline()
            assert [path.name.split("-")[0] for path in server.directory.iterdir()] == ["lab"]
            process.terminate()
            assert process.wait(20) == 0
        assert files(server.directory) == []


def test_a_forked_engine_core_holds_nothing_of_the_launchers() -> None:
    with launched(start_method="fork") as (process, ready, _, _):
        engine_core = json.loads(ready.readline())["pids"]["engine-0"]
        assert ready.read() == ""  # a reader of the ready line sees its end
        both = sockets(engine_core) & sockets(process.pid)
        assert both == set()


def sockets(pid: int) -> set[str]:
    held = {os.readlink(f"/proc/{pid}/fd/{number}") for number in os.listdir(f"/proc/{pid}/fd")}
    return {target for target in held if target.startswith("socket:")}
