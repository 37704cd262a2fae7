"""What clients notice when an API server is replaced, under each strategy: `python -m tests.proofs.replacements`.

- deaths: 200 connections wait with their requests while both API servers are stopped; one gets SIGKILL, the other goes
  on. Who of the 200 gets no answer, does anything stay in a queue, and after how long does the successor answer?
- rolls: SIGUSR1 to the launcher under 16 streaming clients that keep their connections. Is any answer cut?
"""

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time

from lab_support.config import ServerConfig
from lab_support.instruments.kernel import accept_queues
from tests.benchmarks.accept_strategies import CLOSE, Answers, address_of, answer_queued, open_at_once, request
from tests.kill_trial import find
from tests.proofs import Row
from tests.running_server import RunningServer, running_server
from tests.server.test_replacement import stop, successor, until, until_served_by

STRATEGIES = tuple(ServerConfig.__dataclass_fields__["accept"].metadata["choices"])
TRIALS, QUEUED = 20, 200


def queued(server: RunningServer) -> dict[socket.socket, float]:
    opened = open_at_once(server, QUEUED)
    for connection in opened:
        connection.setblocking(True)
        connection.sendall(request(CLOSE))
        connection.setblocking(False)
    return opened


def one_death(server: RunningServer) -> tuple[int, int, float]:
    """Connections without an answer, connections left in a queue, and seconds until the successor answers."""
    pids = {name: find(name, server.directory) for name in ("api-0", "api-1")}
    for pid in pids.values():
        assert pid
        stop(pid)
    opened = queued(server)
    begun = time.monotonic()
    os.kill(pids["api-0"] or 0, signal.SIGKILL)
    os.kill(pids["api-1"] or 0, signal.SIGCONT)
    answers = Answers()
    answer_queued(opened, answers, begun)
    until_served_by(server, successor(server, "api-0", pids["api-0"] or 0))
    return answers.failed, accept_queues(address_of(server)[1]).waiting, time.monotonic() - begun


def deaths(strategy: str, trials: int) -> list[Row]:
    """Each on a server of its own, because a second death in one slot within a minute is replaced more slowly."""
    outcomes = []
    for _ in range(trials):
        with running_server(accept=strategy, api_server_count=2) as server:
            outcomes.append(one_death(server))
    lost, lying, seconds = zip(*outcomes, strict=True)
    told = f"{sum(lost)} of {trials * QUEUED} ({min(lost)} to {max(lost)} a time), {sum(lying)} left lying"
    expected = sum(lost) == 0 if strategy != "reuseport" else 0 < statistics.mean(lost) < QUEUED
    asked = "its own queue is lost" if strategy == "reuseport" else "none is lost"
    slow = f"median {statistics.median(seconds):.2f} s, slowest {max(seconds):.2f} s"
    return [
        Row(f"--accept {strategy}: {QUEUED} queued, one API server killed: {asked}", told, expected and not sum(lying)),
        Row(f"--accept {strategy}: the successor answers within 1 s", slow, max(seconds) <= 1.0),
    ]


def one_roll(server: RunningServer, rolls_before: int) -> dict:
    """The report of the load during which all API servers were replaced."""
    command = [
        sys.executable, "-m", "lab_support", "load", server.url, "--clients", "16", "--requests", "500",
        "--output-tokens", "24", "--prompt-words", "5", "--ignore-eos", "--duration", "60",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as load:
        until(lambda: server.get("/load").json()["server_load"] >= 8)
        server.process.send_signal(signal.SIGUSR1)
        assert load.stdout
        report = json.loads(load.stdout.read().splitlines()[-1])
    until(lambda: server.said().count("all API servers have been replaced") > rolls_before, within=60)
    return report


def rolls(strategy: str, trials: int) -> Row:
    with running_server(accept=strategy, api_server_count=2) as server:
        reports = [one_roll(server, trial) for trial in range(trials)]
    asked = sum(report["asked"] for report in reports)
    errors = [report["errors"] for report in reports if report["errors"]]
    stale = sum(report["stale_connections"] for report in reports)
    cut = asked - sum(report["completed"] for report in reports)
    told = f"{cut} of {asked} failed {errors or ''}; {stale} kept connections had ended before they were asked on"
    what = "printed" if strategy == "reuseport" else "0 failed or cut streams"
    return Row(f"--accept {strategy}: SIGUSR1 under 16 streaming clients, {trials} times: {what}", told,
               strategy == "reuseport" or cut == 0)  # fmt: skip


def prove(trials: int = TRIALS, strategies: tuple[str, ...] = STRATEGIES) -> list[Row]:
    rows = []
    for strategy in strategies:
        rows += [*deaths(strategy, trials), rolls(strategy, trials)]
        for row in rows[-3:]:
            print(f"  {row.asked}: {row.measured}", file=sys.stderr, flush=True)
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--strategies", default=",".join(STRATEGIES))
    given = parser.parse_args()
    unmet = [row for row in prove(given.trials, tuple(given.strategies.split(","))) if not row.met]
    for row in unmet:
        print(f"NOT MET: {row.asked}: {row.measured}")
    sys.exit(1 if unmet else 0)
