"""A limit that is too low is named in one sentence at the start; with the least that is named, a server lives."""

import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from lab_support.config import ServerConfig
from lab_support.limits import ENOUGH, descriptors_needed, threads_needed
from tests.proofs.pytests import in_full
from tests.running_server import PACED, RunningServer, running_server
from tests.server.test_replacement import until
from tests.server.test_serve_refusals import refusal

OTHER_USER = 54321  # a uid that nobody has


def limited(kind: int, soft: int, hard: int | None = None) -> tuple[str, ...]:
    """Python's arguments in place of the `lab` command: the same command under a limit."""
    program = (
        f"import resource, runpy; resource.setrlimit({kind}, ({soft}, {hard or soft})); "
        "runpy.run_module('lab_support', run_name='__main__', alter_sys=True)"
    )
    return "-c", program


def descriptors(most: int) -> tuple[str, ...]:
    return limited(resource.RLIMIT_NOFILE, most)


def test_too_few_descriptors_are_refused() -> None:
    least = descriptors_needed(ServerConfig())
    for most in (least - 1, 16):
        said = refusal(program=descriptors(most))
        assert said.startswith(
            f"lab serve: open files: got a limit of {most} for each process, expected at least {least}"
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    "choices",
    [
        pytest.param({"api_server_count": 1}, marks=in_full),
        {"api_server_count": 6, "accept": "handoff", **PACED},
        pytest.param({"api_server_count": 3, "data_parallel_size": 2}, marks=in_full),
        {"api_server_count": 1, "data_parallel_size": 4, "start_method": "fork", **PACED},
        {"api_server_count": 2, "start_method": "forkserver", "accept": "reuseport"},
    ],
)
def test_with_the_least_that_is_named_a_server_answers_and_replaces_its_api_servers(choices: dict) -> None:
    choices = {"device": "cpu", "load_format": "dummy"} | choices
    least = descriptors_needed(ServerConfig(**choices))
    with running_server(program=descriptors(least), **choices) as server:
        with ExitStack() as clients:
            for _ in range(8):
                clients.enter_context(socket.create_connection(address(server), 5))
            assert server.get("/health").status_code == 200
        roll(server)
        assert server.get("/health").status_code == 200
        assert server.stop() == 0
        assert "Traceback" not in server.said()


def roll(server: RunningServer) -> None:
    def ended() -> bool:
        said = server.said()
        return "all API servers have been replaced" in said or "while it was replacing another" in said

    server.process.send_signal(signal.SIGUSR1)
    until(ended, within=60)
    assert "all API servers have been replaced" in server.said(), server.said()


def address(server: RunningServer) -> tuple[str, int]:
    host, port = server.url.removeprefix("http://").split(":")
    return host, int(port)


def test_a_low_soft_limit_is_raised_for_all_processes() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    goal = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    program = limited(resource.RLIMIT_NOFILE, 40, hard)
    with running_server(program=program, api_server_count=1, load_format="dummy") as server:
        assert f"open files: raised the limit from 40 to {goal} for this server's processes" in server.said()
        for name in ("launcher", "api-0", "engine-0"):
            assert resource.prlimit(server.pids[name], resource.RLIMIT_NOFILE)[0] == goal, name


def test_files_that_may_not_be_large_enough_are_refused() -> None:
    said = refusal(program=limited(resource.RLIMIT_FSIZE, 4096))
    assert said.startswith("lab serve: file size: got a limit of 4096 bytes, expected at least")


@pytest.mark.parametrize("program", [descriptors(60), limited(resource.RLIMIT_FSIZE, 4096)])
def test_the_doctor_says_beforehand_what_the_server_would_say(program: tuple[str, ...]) -> None:
    said = refusal(program=program).removeprefix("lab serve: ")
    done = subprocess.run([sys.executable, *program, "doctor"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and f"✘ {said}\n" in done.stdout
    assert "The server can't run here." in done.stdout


def test_the_doctor_knows_a_low_soft_limit_that_a_server_raises() -> None:
    program = limited(resource.RLIMIT_NOFILE, 40, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    done = subprocess.run([sys.executable, *program, "doctor"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def as_other_user(user: int = OTHER_USER) -> list[str]:
    """root is exempt from limits on processes. The other user may still read what the interpreter needs."""
    if os.getuid() != 0:
        return []
    if not shutil.which("setpriv"):
        pytest.skip("needs setpriv(1), to run as another user than root")
    may_read = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    return ["setpriv", f"--reuid={user}", "--clear-groups", *may_read]


@pytest.mark.parametrize("room", ["none", "a thread too few"])
def test_too_few_processes_are_refused(tmp_path: Path, room: str) -> None:
    least = threads_needed(ServerConfig())
    if room != "none" and os.getuid() != 0:
        pytest.skip("only of a user who has no other process is it known how many there are")
    if os.getuid() == 0:
        os.chown(tmp_path, OTHER_USER, OTHER_USER)
    most = 1 if room == "none" else least  # the launcher counts too
    command = [*as_other_user(), sys.executable, "-B", *limited(resource.RLIMIT_NPROC, most), "serve", "--port", "0"]
    ended = subprocess.run(
        command, env=os.environ | {"TMPDIR": str(tmp_path)}, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 2, ended.stderr
    said = [line for line in ended.stderr.splitlines() if " INFO " not in line]
    assert said == [
        f"lab serve: processes and threads: got room for {most - 1} more, expected at least {least}; "
        "raise the limit (`ulimit -u`, or pids.max of the control group)"
    ]
    assert list(tmp_path.iterdir()) == []


def test_the_doctor_says_when_there_is_room_for_too_few_processes() -> None:
    user = as_other_user(OTHER_USER + 1)  # another test may count the processes of the first one meanwhile
    command = [*user, sys.executable, "-B", *limited(resource.RLIMIT_NPROC, 1), "doctor"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    assert "✘ processes and threads: got room for 0 more, expected at least" in done.stdout


@pytest.mark.slow
def test_with_the_least_threads_a_server_becomes_ready() -> None:
    if os.getuid() != 0:
        pytest.skip("only of a user who has no other process is it known how many there are")
    with tempfile.TemporaryDirectory(prefix="lt-") as folder:  # a short name, for the sockets in it
        os.chown(folder, OTHER_USER, OTHER_USER)
        line, said = start_with_least_threads(folder)
    assert line, said


def start_with_least_threads(folder: str) -> tuple[str, str]:
    """Its ready line, and what it has said by its end."""
    read, write = os.pipe()
    words = ["serve", "--port", "0", "--ready-fd", str(write), "--load-format", "dummy", "--device", "cpu"]
    most = threads_needed(ServerConfig()) + 1
    command = [*as_other_user(), sys.executable, "-B", *limited(resource.RLIMIT_NPROC, most), *words]
    env = os.environ | {"TMPDIR": folder}
    with subprocess.Popen(command, env=env, pass_fds=(write,), stderr=subprocess.PIPE, text=True) as process:
        os.close(write)
        with open(read) as ready:
            line = ready.readline()
        process.terminate()
        return line, process.communicate()[1]


def test_descriptors_beyond_those_that_select_knows() -> None:
    """A server that inherits a thousand open files has all of its own above 1,023."""
    fill = (
        "import os, runpy, resource; resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(7)[1])); "
        "[os.dup(0) for _ in range(1100)]; runpy.run_module('lab_support', run_name='__main__', alter_sys=True)"
    )
    with running_server(program=("-c", fill), load_format="dummy") as server:
        with ExitStack() as clients:
            for _ in range(20):  # who has more than the other pokes it, which then looks whether anybody waits
                clients.enter_context(socket.create_connection(address(server), 5))
            assert server.get("/health").status_code == 200
        assert server.stop() == 0
        assert "Traceback" not in server.said()
