"""`account`: a load on a live server, and the CPU time of every process that took part, the clients' included.

Runs in a cell's own process. It looks at /proc/PID/task/TID/schedstat when the load's window opens and closes.

Taught in: 08_does_another_api_server_help
"""

import dataclasses
import json
import os
import re
import subprocess
import sys
import time
from typing import Any

from lab_support.instruments.cpu_time import CpuTime, spent, thread_seconds
from lab_support.instruments.load.seldom import Seldom
from lab_support.notebook.servers.key_of_its_own import in_environment
from lab_support.notebook.servers.live_server import Server

CLIENT = "client"
_STAGE = re.compile(r'^lab_engine_stage_seconds_total\{.*stage="(\w+)".*\} (\S+)$', re.MULTILINE)


class LoadFailed(RuntimeError):
    """The clients ended without a report. The text is what they said last."""


def account(server: Server, *, clients: int = 96, tokens: int = 128, seconds: float = 2.0) -> dict[str, Any]:
    """Keep `clients` busy with answers of `tokens` each, and count for `seconds`. Returns plain data.

    tokens_per_second. us_per_token: microseconds of CPU time for each token, by role: "launcher", "api" (all API servers
    together), "engine" and "client". busy: the share of the time in which the busiest thread of each process was on a
    core. stepping: the share in which the engine core ran steps. answers: ended ones, by API server.
    Raises `LoadFailed`.
    """
    plan = Seldom(server.url, clients, tokens, seconds)
    command = [sys.executable, "-m", "lab_support.instruments.load.seldom", json.dumps(dataclasses.asdict(plan))]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, env=_environment(server.api_key), text=True, stdin=pipe, stdout=pipe, stderr=pipe
    ) as running:
        pids = {**server.pids, CLIENT: running.pid}
        _line(running)
        stages, begun = _stages(server), time.monotonic()
        before = {role: thread_seconds(pid) for role, pid in pids.items()}
        report = json.loads(_line(running))
        took = {role: spent(before[role], thread_seconds(pid)) for role, pid in pids.items()}
        wall = time.monotonic() - begun
        now = _stages(server)
        running.communicate()  # closes its stdin, which ends it
    return _accounts(report, took, wall) | {"stepping": _share_of_steps(stages, now)}


def _environment(key: str | None) -> dict[str, str]:
    wanted = {**os.environ, **in_environment(key)}
    return {name: value for name, value in wanted.items() if value is not None}


def _line(running: "subprocess.Popen[str]") -> str:
    assert running.stdout and running.stderr
    line = running.stdout.readline()
    if not line:
        raise LoadFailed(f"the clients ended: {running.stderr.read().strip().splitlines()[-1:]}")
    return line


def _stages(server: Server) -> dict[str, float]:
    """Seconds that the engine core has spent in each stage of its steps."""
    text = server.session.get(f"{server.url}/metrics", timeout=10).text
    return {stage: float(seconds) for stage, seconds in _STAGE.findall(text)}


def _share_of_steps(before: dict[str, float], after: dict[str, float]) -> float:
    spent_in = {stage: total - before.get(stage, 0.0) for stage, total in after.items()}
    return spent_in.get("run", 0.0) / (sum(spent_in.values()) or 1.0)


def _accounts(report: dict[str, Any], took: dict[str, CpuTime], wall: float) -> dict[str, Any]:
    rate = report["tokens"] / report["seconds"]
    by_kind: dict[str, float] = {}
    for role, each in took.items():
        kind = role.partition("-")[0]
        by_kind[kind] = by_kind.get(kind, 0.0) + each.all / wall / rate * 1e6
    return {
        "tokens_per_second": round(rate),
        "us_per_token": {kind: round(cost, 2) for kind, cost in by_kind.items()},
        "busy": {role: round(each.busiest / wall, 3) for role, each in took.items()},
        "cores_used": round(sum(each.all for each in took.values()) / wall, 2),
        "answers": report["answers"],
    }
