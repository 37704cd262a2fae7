"""Clients that leave a live server, and what each of its processes does from then on, by its trace.

They run in a cell's own process.

Taught in: 09a_what_if_one_end_leaves
"""

import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from statistics import median
from typing import Any

from lab_support.instruments.trace.requests import Request
from lab_support.notebook.servers.live_server import Server
from lab_support.notebook.servers.look import read_metrics
from lab_support.notebook.servers.plain_client import PlainClient

_ASKED = 300  # tokens
_OTHER = 60  # tokens of the answer for which a request in the queue waits
_PATIENCE = 30.0
_IN_USE = ("vllm:kv_cache_usage_perc", "vllm:num_requests_running", "vllm:num_requests_waiting")


def leave_in_the_stream(
    server: Server, leave: Callable[[PlainClient], object], *, times: int = 1, copied: bool = False
) -> dict[str, Any]:
    """A client asks for 300 tokens, reads two, and calls `leave`; what came of it, for `emit`.

    copied: meanwhile a child lives that was forked before, and has a copy of the connection.
    The median over so many times: computed: its tokens that were computed after it had left. api_ms, engine_ms: when
    the API server had ended the request, and the engine core had given it up (None if it did not), since then.
    free_ms: when /metrics had first shown that no block is in use. end: the API server's words for the end.
    """
    return _typical([_leave(server, leave, copied) for _ in range(times)])


def leave_in_the_queue(server: Server, leave: Callable[[PlainClient], object]) -> dict[str, Any]:
    """The same for a client that leaves while it waits for another one's answer, on a server with one row."""
    with PlainClient(server) as other, PlainClient(server) as client:
        other.ask(_OTHER)
        other.read_events(2)
        name = _new_name()
        client.ask(_ASKED, name=name)
        _await(server, lambda seen: seen[_IN_USE[2]] == 1)
        left = time.monotonic()
        leave(client)
        other.read_events(_OTHER + 1)
        return _told(server, name, left)


@contextmanager
def _forked_copies() -> Iterator[None]:
    """While the block runs, a forked child has a copy of every descriptor that this process has now."""
    if (child := os.fork()) == 0:
        while True:
            signal.pause()
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _leave(server: Server, leave: Callable[[PlainClient], object], copied: bool) -> dict[str, Any]:
    name = _new_name()
    with PlainClient(server) as client:
        client.ask(_ASKED, name=name)
        client.read_events(2)
        with _forked_copies() if copied else nullcontext():
            left = time.monotonic()
            leave(client)
            return _told(server, name, left)


def _told(server: Server, name: str, left: float) -> dict[str, Any]:
    _await(server, lambda seen: not any(seen.values()))
    free = time.monotonic()
    request, given_up = _traced(server, name)
    assert request.closed
    [sequence] = request.sequences
    return {
        "computed": sum(share.step.ran_at > left for share in sequence.steps),
        "api_ms": 1000 * (request.closed.at - left),
        "engine_ms": None if given_up is None else 1000 * (given_up - left),
        "free_ms": 1000 * (free - left),
        "end": request.end,
        "asked": _ASKED,
    }


def _traced(server: Server, name: str) -> tuple[Request, float | None]:
    """The request, and when its engine core gave it up, which that process may write a little later."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        request = server.trace.request(name)
        given_up = request.sequences[0].abandoned_at
        if given_up or not (request.closed and request.closed.left) or time.monotonic() > deadline:
            return request, given_up
        time.sleep(0.05)


def _await(server: Server, holds: Callable[[dict[str, float]], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not holds({name: (found := read_metrics(server)).get(name, 0.0) for name in _IN_USE}):
        if time.monotonic() > deadline:
            raise TimeoutError(f"/metrics did not show it within {_PATIENCE:g} s: {found}")


def _typical(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The medians of numbers that all have; of the rest, the last one's."""
    last = found[-1]
    numbers = [name for name in last if all(isinstance(each[name], int | float) for each in found)]
    return last | {name: median(each[name] for each in found) for name in numbers}


def _new_name() -> str:
    return f"departed-{secrets.token_hex(8)}"
