"""`live_servers`: several servers that start at the same time, and stop together. For a cell's own process.

Taught in: 08_does_another_api_server_help
"""

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from typing import Any

from lab_support.notebook.servers.live_server import Server, live_server


@contextmanager
def live_servers(*choices: Mapping[str, Any]) -> Iterator[list[Server]]:
    """A server for each of `choices`, the arguments of `live_server`, in that order. All are ready, and nobody asks.

    Raises what `live_server` raises. All else is as with `side_by_side`.
    """
    with side_by_side(*(partial(live_server, **each) for each in choices)) as servers:
        yield servers


@contextmanager
def side_by_side(*starts: Callable[[], Server]) -> Iterator[list[Server]]:
    """The servers that `starts` start, in that order. All are ready, and nobody asks.

    They start at the same time, because most of a start is waiting in turn for one core. If one does not come up, the
    others are stopped. Raises what `starts` raise. A line is printed once all are ready.
    """
    began = time.monotonic()
    with ThreadPoolExecutor(len(starts)) as starters:
        starting = [starters.submit(each) for each in starts]
        try:
            servers = [each.result() for each in starting]
            print(f"{len(servers)} servers are ready after {time.monotonic() - began:.1f} s", flush=True)
            yield servers
        finally:
            wait(starting)
            list(starters.map(_stop, starting))


def _stop(starting: "Future[Server]") -> None:
    if not starting.exception():
        starting.result().stop()
