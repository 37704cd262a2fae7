"""`account`: a load on a live server, and the CPU time of every process that took part, the clients' included.

All of it runs in a cell's own process: clients in another one would have to start anew for each measurement.

Taught in: 08_does_another_api_server_help
"""

import os
from typing import Any

from lab_support.instruments.load.seldom import NotAnswered, Seldom, ask_and_count
from lab_support.instruments.load.workload import WorkloadError
from lab_support.notebook.servers.live_server import Server
from lab_support.plural import counted


class LoadFailed(RuntimeError):
    """The server refused the clients, or did not answer them. The text says what it did."""


def account(
    server: Server, *, clients: int = 192, tokens: int = 16, seconds: float = 1.5, say: bool = True, **more: Any
) -> dict[str, Any]:
    """Keep `clients` busy with answers of `tokens` each, and count for `seconds`. Returns plain data.

    api_servers: their number. seconds, tokens: what was counted. cpu: seconds on a core, by role. tokens_per_second.
    us_per_token: microseconds of CPU time for each token, by kind of process: launcher, api (all API servers together),
    engine and client; loop: of the API servers' busiest threads alone. busy: the share of the time that each process's
    busiest thread was on a core. cores: of this machine. cores_used, cores_left: by these processes, and by all other
    programs for them; the cores are those on which this process may run. answers: ended ones, by API server.
    say: print a line with the tokens per second. more: other fields of `Seldom`. Raises `LoadFailed`.
    """
    plan = Seldom(server.url, clients, tokens, seconds, pids=server.pids, **more)
    try:
        report = ask_and_count(plan, server.api_key)
    except (NotAnswered, WorkloadError, OSError) as error:
        raise LoadFailed(f"{server.url}: {error}") from error
    found = accounts_of(report, len(os.sched_getaffinity(0)))
    if say:
        print(f"{counted(found['api_servers'], 'API server')}: {found['tokens_per_second']:,} tokens/s", flush=True)
    return found


def accounts_of(report: dict[str, Any], cores: int) -> dict[str, Any]:
    """The figures of `account`, from what the clients report."""
    seconds, tokens, used = report["seconds"], report["tokens"], sum(report["cpu"].values())
    kinds = dict.fromkeys(_kind(role) for role in report["cpu"])
    cpu = {kind: sum(each for role, each in report["cpu"].items() if _kind(role) == kind) for kind in kinds}
    cpu["loop"] = sum(each for role, each in report["loop"].items() if _kind(role) == "api")
    return {
        **{name: report[name] for name in ("seconds", "tokens", "cpu")},
        "api_servers": sum(_kind(role) == "api" for role in report["cpu"]),
        "tokens_per_second": round(tokens / seconds),
        "us_per_token": {kind: round(each / tokens * 1e6, 2) for kind, each in cpu.items()},
        "busy": {role: round(each / seconds, 3) for role, each in report["loop"].items()},
        "cores": cores,
        "cores_used": round(used / seconds, 2),
        "cores_left": round(cores - max(0.0, report["machine"] - used) / seconds, 2),
        "answers": report["answers"],
    }


def _kind(role: str) -> str:
    return role.partition("-")[0]
