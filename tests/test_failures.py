"""Whatever is killed, in whatever state: nothing runs on, nothing lies about, and who waits is told."""

import os
import signal
from pathlib import Path

import pytest

from tests.kill_trial import ROLES, Streams, find, living, wait_until_gone
from tests.running_server import launched, running_server

WITHIN = 5.0  # seconds; the figure that is promised is measured by `make prove`


def files(directory: Path) -> list[Path]:
    return list(directory.rglob("*"))


@pytest.mark.slow
@pytest.mark.parametrize("role", ROLES)
def test_a_kill_while_streaming_leaves_nothing(role: str) -> None:
    """Without replacement: what an API server's death does with it is in test_replacement.py."""
    with running_server(data_parallel_size=2, restart_api_servers=False) as server:
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
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert wait_until_gone(directory, WITHIN).left == []
        assert ready.read() == ""
        assert process.wait() == (-9 if role == "launcher" else 1)
        if role != "launcher":
            assert files(directory) == []


def test_the_next_start_sweeps_what_a_kill_of_everything_left() -> None:
    with running_server() as killed:
        for pid in killed.pids.values():  # so that nobody outlives anybody for the time that cleaning up takes
            os.kill(pid, signal.SIGSTOP)
        for pid in killed.pids.values():
            while "State:\tT" not in Path(f"/proc/{pid}/status").read_text():
                pass
        for pid in reversed(killed.pids.values()):  # the launcher is named first: it goes last
            os.kill(pid, signal.SIGKILL)
        assert wait_until_gone(killed.directory, WITHIN).left == []
        (left,) = killed.directory.iterdir()
        with launched(env={"TMPDIR": str(killed.directory)}) as (_, ready, _, _):
            assert ready.readline()
            assert not left.exists()


def test_streams_of_the_living_get_an_error_event_when_an_engine_core_dies() -> None:
    with running_server() as server:
        streams = Streams(server.url, 4)
        os.kill(server.pids["engine-0"], signal.SIGKILL)
        assert streams.join() == ["error event"] * 4


@pytest.mark.slow
def test_sigterm_finishes_what_runs() -> None:
    with running_server(shutdown_timeout=60) as server:
        streams = Streams(server.url, 2)
        assert server.stop() == 0
        assert streams.join() == ["done"] * 2
        assert files(server.directory) == []


def test_after_the_timeout_sigterm_ends_what_runs_with_an_error_event() -> None:
    with running_server(shutdown_timeout=0) as server:
        streams = Streams(server.url, 2)
        assert server.stop() == 0
        assert streams.join() == ["error event"] * 2


def test_a_second_signal_stops_at_once() -> None:
    with running_server(shutdown_timeout=600) as server:
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
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert ready.read() == ""
        assert living(directory) == []
        assert files(directory) == []
