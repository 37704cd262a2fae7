"""Servers with one fault each, or none, under one load, and the figures that an operator can measure of them.

Their engines are paced by tables: no GPU, and nothing computed. All else is the real server. `python -m
lab_support.notebook.servers.misconfigured FILE` measures 20 of them for exercise 08.1 (data/exhibits).

Taught in: 08_does_another_api_server_help
"""

import json
import os
import platform
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import requests

from lab_support.notebook.servers.accounts import account
from lab_support.notebook.servers.live_server import Server, live_server
from lab_support.notebook.servers.look import by_name
from lab_support.notebook.servers.server_session import session_for
from lab_support.notebook.servers.several import side_by_side

FAULTS = ("api", "rows", "cache", "static")
"""api: the one API server is full. rows: too few sequences in a step. cache: a KV cache for too few of them. static:
no sequence joins a batch that runs. "none" stands for a server without a fault."""

CLIENTS = 48  # in all
_LOADS = {36: 16, 12: 40}
"""Clients, and the length of their answers: not all the same, so that a batch can shrink."""
_EACH: dict[str, Any] = {"words": 40, "every": 0.005, "warm": 0.3, "fields": {"stop": ["zebra", "crossing", "?!"]}}
_ROWS = 64  # of a step, more than there are clients
_MOMENTS, _ENOUGH, _EVERY = 8, 4, 0.07  # looks: the most, the fewest that tell something, and seconds between them
_SERIES = {
    "running": "vllm:num_requests_running",
    "waiting": "vllm:num_requests_waiting",
    "cache_usage": "vllm:kv_cache_usage_perc",
    "preemptions": "vllm:num_preemptions_total",
    "tokens": "lab_engine_generation_tokens_total",
}


Look = tuple[float, dict[str, float]]
"""Seconds of a clock, and counts by the names of `_SERIES`."""


@dataclass(frozen=True, slots=True)
class Setup:
    """One server: milliseconds of a step at its pace, and its flags."""

    milliseconds: float
    flags: dict[str, Any]

    @property
    def pace(self) -> int:
        """Tokens per second with a row for every client."""
        return round(CLIENTS / self.milliseconds * 1000)


def setup(fault: str, chance: random.Random) -> Setup:
    """A server with `fault`, drawn from several."""
    flags: dict[str, Any] = {"api_server_count": 1, "max_num_seqs": _ROWS, "max_model_len": 256}
    if fault == "api":
        return Setup(chance.choice((0.5, 0.6, 0.8)), flags)
    if fault == "rows":
        flags["max_num_seqs"] = chance.choice((8, 12, 16, 20))
    elif fault == "cache":
        flags["num_gpu_blocks_override"] = chance.choice((50, 60, 75, 90))
    elif fault == "static":
        flags["batching"] = "static"
    return Setup(chance.choice((7.0, 8.0, 9.0, 10.0)), flags)


def running(chosen: Setup) -> Server:
    """Start the server of a setup."""
    with tempfile.TemporaryDirectory() as folder:  # the engine core has read the table once the server is ready
        table = Path(folder) / "table.txt"
        table.write_text(f"1 1 {chosen.milliseconds}\n{_ROWS} 1 {chosen.milliseconds}\n")
        return live_server(device=f"paced:{table}", **chosen.flags)


def figures(server: Server, chosen: Setup, seconds: float = 1.0) -> dict[str, Any]:
    """What can be measured of a loaded server, as plain data.

    tokens_per_second. pace: those of the GPU with all clients' sequences in each step. busy: by process, the share of
    the time for which its busiest thread was on a core. running, waiting, cache_usage: sequences in the batch and
    before it, and the share of the KV cache's blocks in use, at the same moments, at most eight. preemptions: sequences
    that lost their place, in a second.
    """
    with suppress(LookupError):
        found = _figures(server, chosen, seconds)
        if len(found["running"]) >= _ENOUGH:
            return found
    return _figures(server, chosen, 4 * seconds)  # on a busy machine a second may be too short


def _figures(server: Server, chosen: Setup, seconds: float) -> dict[str, Any]:
    with _Looks(server) as looks, ThreadPoolExecutor(len(_LOADS)) as loads:
        jobs = [
            loads.submit(account, server, clients=clients, tokens=tokens, seconds=seconds, say=False, **_EACH)
            for clients, tokens in _LOADS.items()
        ]
        found = [job.result() for job in jobs]
    return {
        "tokens_per_second": sum(each["tokens_per_second"] for each in found),
        "pace": chosen.pace,
        "busy": {role: round(mean(each["busy"][role] for each in found), 2) for role in ("api-0", "engine-0")},
        **over_time(looks.seen),
    }


class _Looks:
    """A context that looks at /metrics from a thread, as often as `_EVERY` says."""

    def __init__(self, server: Server) -> None:
        self._server, self._over = server, threading.Event()
        self.seen: list[Look] = []
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "_Looks":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join(20)

    def _look(self) -> None:
        with session_for(self._server.url, self._server.api_key) as session:
            session.headers.pop("Connection")  # one connection for all looks, because a full server accepts late
            while not self._over.wait(_EVERY):
                self.seen.append((time.monotonic(), _counts(session, self._server.url)))


def over_time(looks: Sequence[Look]) -> dict[str, Any]:
    """All that looks tell, of at most eight of them under load. Raises `LookupError` if there is none.

    A look is under load if tokens have come since the one before. Where there are enough, the first and the last ones
    are left out, because the clients come and go then.
    """
    grown = [at for at in range(1, len(looks)) if looks[at][1]["tokens"] > looks[at - 1][1]["tokens"]]
    if not grown:
        raise LookupError(f"got {len(looks)} looks, none of them at a loaded server, expected some; run it again")
    (begun, first), *under_load = looks[grown[0] - 1 : grown[-1] + 1]
    ended, final = under_load[-1]
    kept = under_load[2:-2][:_MOMENTS] or under_load
    gauges: dict[str, Any] = {name: [round(counts[name]) for _, counts in kept] for name in ("running", "waiting")}
    gauges["cache_usage"] = [round(counts["cache_usage"], 2) for _, counts in kept]
    return gauges | {"preemptions": round((final["preemptions"] - first["preemptions"]) / (ended - begun), 1)}


def _counts(session: requests.Session, url: str) -> dict[str, float]:
    answer = session.get(f"{url}/metrics", timeout=20)
    answer.raise_for_status()
    values = by_name(answer.text)
    return {name: values.get(series, 0.0) for name, series in _SERIES.items()}


def four_servers() -> Iterator[tuple[str, dict[str, Any]]]:
    """Names, A to D, and the figures of servers that run at the same time: one with each fault, in an order by chance.

    The load goes to one after the other.
    """
    chance = random.Random()
    chosen = [setup(fault, chance) for fault in chance.sample(FAULTS, len(FAULTS))]
    with side_by_side(*(partial(running, one) for one in chosen)) as servers:
        for name, server, one in zip("ABCD", servers, chosen, strict=True):
            yield name, figures(server, one, seconds=0.8)


# ---- for the exercise ------------------------------------------------------------------------------------------------


def measure(chosen: Setup) -> dict[str, Any]:
    with running(chosen) as server:
        return figures(server, chosen)


def exhibit(times: int, seed: int = 11) -> dict[str, Any]:
    """`times` servers with each fault and without one, and the machine."""
    chance = random.Random(seed)
    drawn = [(fault, setup(fault, chance)) for fault in (*FAULTS, "none") for _ in range(times)]
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"
    return {
        "machine": machine,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "servers": [{"fault": fault} | measure(chosen) for fault, chosen in drawn],
    }


def as_text(measured: dict[str, Any]) -> str:
    """JSON with a line for each server."""
    servers = ",\n".join(f"  {json.dumps(each)}" for each in measured["servers"])
    about = ", ".join(f'"{name}": {json.dumps(measured[name])}' for name in ("machine", "date"))
    return f'{{{about},\n "servers": [\n{servers}\n ]}}\n'


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(as_text(exhibit(times=4)))
