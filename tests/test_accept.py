"""The strategies of `--accept` as an operator meets them: what they have in common, and what each does alone."""

import os
from pathlib import Path

import pytest

from lab_support.instruments.kernel import accept_queues
from tests.running_server import RunningServer, running_server

STRATEGIES = ("shared",)
O_CLOEXEC = 0o2000000


def port_of(server: RunningServer) -> int:
    return int(server.url.rsplit(":", 1)[1])


def flags_of(pid: int, number: str) -> int:
    status = Path(f"/proc/{pid}/fdinfo/{number}").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("flags:")), 8)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_server_says_how_it_accepts_and_every_queue_is_as_long_as_asked(strategy: str) -> None:
    with running_server(accept=strategy, backlog=77) as server:
        assert server.get("/version").json()["accept"] == strategy
        found = accept_queues(port_of(server))
        assert found.queues, found
        assert {queue.limit for queue in found.queues} == {77}


def test_no_child_passes_a_descriptor_on_to_a_program_that_it_starts(server: RunningServer) -> None:
    for name, pid in server.pids.items():
        if name in {"launcher", "resource-tracker"}:
            continue  # what the launcher passes on is said in boundary/inheritance.py
        kept = {
            number: os.readlink(f"/proc/{pid}/fd/{number}")
            for number in os.listdir(f"/proc/{pid}/fd")
            if int(number) > 2 and not flags_of(pid, number) & O_CLOEXEC
        }
        assert kept == {}, name
