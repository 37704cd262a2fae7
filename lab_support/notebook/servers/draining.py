"""A live server that gets SIGTERM while clients of every kind are connected, and what becomes of each.

It runs in a cell's own process.

Taught in: 09a_what_if_one_end_leaves
"""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lab_support.instruments import proc
from lab_support.notebook.servers.askers import stopped
from lab_support.notebook.servers.live_server import Server, live_server
from lab_support.notebook.servers.plain_client import PlainClient

STREAM, IDLE, QUEUED, LATE = (
    "it reads a stream",
    "it is idle after an answer",
    "it waits in the accept queue, with its request",
    "it connects while streams are finished",
)
SERVED, ERROR, CLOSED, REFUSED, NEVER = (
    "served to the end",
    "an error, then the end",
    "closed without a word",
    "refused at once",
    "connected, then reset",
)
_TOKENS = 200
_PATIENCE = 20.0


def drain(shutdown_timeout: float, *, idle_asks: int = 0, late_is_early: bool = False) -> dict[str, Any]:
    """Start a server, send SIGTERM to its launcher, and tell what each client got; for `emit`.

    ends: by kind of connection. seconds: from the signal to the end of each.
    The API server is stopped while it happens, so that a connection is in the accept queue for certain.
    idle_asks: tokens for which the idle client asks just before. late_is_early: the last one comes before the signal.
    """
    with live_server(device="paced:8B", api_server_count=1, shutdown_timeout=shutdown_timeout) as server:
        idle, stream = PlainClient(server), PlainClient(server)
        with idle, stream:
            idle.get("/health")
            idle.read_head()
            if idle_asks:
                idle.ask(idle_asks)
                idle.read_events(1)
            stream.ask(_TOKENS)
            stream.read_events(2)
            early = _late(server) if late_is_early else None
            with stopped(server, "api-0"):
                queued = PlainClient(server)
                queued.ask(_TOKENS // 2)
                begun = time.monotonic()
                os.kill(server.pids["launcher"], signal.SIGTERM)
                _await_signal(server.pids["api-0"])
            with ThreadPoolExecutor() as pool, queued:
                ends = {name: pool.submit(_end, each) for name, each in ((STREAM, stream), (QUEUED, queued))}
                found = {IDLE: _end(idle)}
                _await_closed(server.port, server.pids["api-0"])
                found |= {LATE: early or _late(server)} | {name: each.result() for name, each in ends.items()}
    seconds = {name: round(at - begun, 3) for name, (_, at) in found.items()}
    return {"ends": {name: end for name, (end, _) in found.items()}, "seconds": seconds}


def _await_closed(port: int, pid: int) -> None:
    """Until that process holds the listening socket no more, or has ended."""
    deadline = time.monotonic() + _PATIENCE
    while proc.holders_of_listening_socket(port, [pid]):
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {pid} still held the listening socket after {_PATIENCE:g} s")
        time.sleep(0.001)


def _await_signal(pid: int) -> None:
    """Until SIGTERM waits for a stopped process: the launcher has passed it on."""
    deadline = time.monotonic() + _PATIENCE
    while not _pending(pid) >> (signal.SIGTERM - 1) & 1:
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {pid} got no SIGTERM in {_PATIENCE:g} s")
        time.sleep(0.001)


def _pending(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1], 16) for line in lines if line.startswith("ShdPnd:"))


def _end(client: PlainClient) -> tuple[str, float]:
    """How a connection ended for its client, and when."""
    how, at = client.read_to_end(), time.monotonic()
    if b"[DONE]" in client.got:
        return SERVED, at
    if b'{"error"' in client.got:
        return ERROR, at
    return (NEVER if how == "reset" else CLOSED), at


def _late(server: Server) -> tuple[str, float]:
    """A client that connects once the API server has closed the listening socket, and so takes no more."""
    try:
        with PlainClient(server) as late:
            late.ask(1)
            return _end(late)
    except ConnectionRefusedError:
        return REFUSED, time.monotonic()
    except ConnectionResetError:
        return NEVER, time.monotonic()
