"""The files of the metrics over an API server's lifetime: successors continue them, a full disk kills no process."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.frontend.test_metrics import value
from tests.kill_trial import find
from tests.running_server import PACED, RunningServer, running_server
from tests.server.test_replacement import successor, until, until_served_by

NOT_ALLOWED = 77

# `lab` with a small disk of its own in TMPDIR, which ends with the processes that see it.
ON_A_SMALL_DISK = f"""
import ctypes, os, runpy, subprocess, sys

def mount(*words):
    if subprocess.run(["mount", *words, os.environ["TMPDIR"]], capture_output=True).returncode:
        sys.exit({NOT_ALLOWED})

if ctypes.CDLL(None).unshare(0x00020000):  # CLONE_NEWNS
    sys.exit({NOT_ALLOWED})
if subprocess.run(["mount", "--make-rprivate", "/"], capture_output=True).returncode:
    sys.exit({NOT_ALLOWED})
mount("-t", "tmpfs", "-o", "size=1m", "tmpfs")
runpy.run_module("lab_support", run_name="__main__", alter_sys=True)
"""


def metrics_files(server: RunningServer) -> dict[str, int]:
    """Their sizes, as the server sees them."""
    folder = Path(f"/proc/{server.process.pid}/root{server.directory}")
    return {path.name: path.stat().st_size for path in folder.glob("lab-serve-*/metrics/*")}


def ask(server: RunningServer, tokens: int) -> None:
    answer = server.post("/v1/completions", {"prompt": [5, 6, 7], "max_tokens": tokens, "ignore_eos": True})
    assert answer.json()["usage"]["completion_tokens"] == tokens


def until_counted(server: RunningServer, totals: dict[str, int]) -> None:
    """Each API server publishes within a moment, each engine core's stats come with the next step or at its end."""

    def counted() -> bool:
        text = server.get("/metrics").text
        return {name: value(text, name) for name in totals} == totals

    until(counted)


@pytest.mark.slow
def test_rolls_and_deaths_leave_no_file_more_and_every_count_exact() -> None:
    with running_server(**PACED, api_server_count=1, api_server_restart_limit=100) as server:
        files = metrics_files(server)
        for life in range(1, 9):
            ask(server, 10)
            until_counted(
                server,
                {
                    "vllm:generation_tokens_total": 10 * life,
                    "lab_engine_generation_tokens_total": 10 * life,
                    "vllm:request_success_total": life,
                    "vllm:request_generation_tokens_sum": 10 * life,
                },
            )
            replace(server, by_death=bool(life % 2))
        assert metrics_files(server) == files
        assert len(files) == 2 * 3  # two slots


def replace(server: RunningServer, by_death: bool) -> None:
    before = find("api-0", server.directory)
    assert before is not None
    if by_death:
        os.kill(before, signal.SIGKILL)
    else:
        server.process.send_signal(signal.SIGUSR1)
    until_served_by(server, successor(server, "api-0", before))
    until(lambda: not Path(f"/proc/{before}").exists())


def fill(server: RunningServer) -> None:
    """Take all that the disk has left."""
    with open(f"/proc/{server.process.pid}/root{server.directory}/filling", "wb", buffering=0) as filling:
        for size in (65536, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    filling.write(bytes(size))


@pytest.mark.slow
def test_a_disk_that_fills_up_after_the_start_kills_nobody() -> None:
    """A new client then writes into untouched pages, and so does a count of a new kind."""
    with server_on_a_small_disk(**PACED, data_parallel_size=2) as server:
        fill(server)
        server.process.send_signal(signal.SIGUSR1)
        until(lambda: "all API servers have been replaced" in server.said() or "was killed" in server.said())
        for path in ("/health", "/no-such-path", "/v1/completions", "/v1/models/none"):
            server.get(path)
        for tokens in (1, 20):
            ask(server, tokens)
        until_counted(server, {"vllm:generation_tokens_total": 21, "lab_engine_generation_tokens_total": 21})
        text = server.get("/metrics").text
        assert {"200", "404", "405"} <= {status for status in map(str, range(600)) if f'status="{status}"' in text}
        assert server.stop() == 0
        assert "SIGBUS" not in server.said()


@contextlib.contextmanager
def server_on_a_small_disk(**choices: object) -> Iterator[RunningServer]:
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(running_server(program=("-c", ON_A_SMALL_DISK), **choices))
        except RuntimeError as error:
            if f"exit code {NOT_ALLOWED}" in str(error):
                pytest.skip("this user may not mount a small file system in a namespace of its own")
            raise
        yield server
