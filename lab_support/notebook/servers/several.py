"""`live_servers`: several servers that start at the same time, and stop together. For a cell's own process.

Taught in: 08_does_another_api_server_help
"""

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

from lab_support.notebook.servers.live_server import Server, live_server


@contextmanager
def live_servers(*choices: Mapping[str, Any]) -> Iterator[list[Server]]:
    """A server for each of `choices`, the arguments of `live_server`, in that order. All are ready, and nobody asks.

    They start side by side, because most of a start is waiting in turn for one core. If one does not come up, the
    others are stopped. Raises what `live_server` raises. A line is printed once all are ready.
    """
    began = time.monotonic()
    with ThreadPoolExecutor(len(choices)) as starters:
        starting = [starters.submit(_start, each) for each in choices]
        try:
            servers = [each.result() for each in starting]
            print(f"{len(servers)} servers are ready after {time.monotonic() - began:.1f} s", flush=True)
            yield servers
        finally:
            wait(starting)
            list(starters.map(_stop, starting))


def _start(choices: Mapping[str, Any]) -> Server:
    return live_server(**choices)


def _stop(starting: "Future[Server]") -> None:
    if not starting.exception():
        starting.result().stop()
