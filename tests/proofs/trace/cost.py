"""The cost of a trace: two servers side by side, and the calls that are left without --trace-dir."""

import contextlib
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from timeit import timeit

from lab_support.frontend.trace.request_trace import UNTRACED
from tests.proofs import Row
from tests.proofs.ratios import cpu_seconds, load
from tests.running_server import RunningServer, running_server

PAIRS, LOAD = 20, 160
MOST_COST = 0.04
CPU_OF_A_REQUEST = 220e-6  # seconds of an API server, by tests.proofs.ratios


def cost(server: RunningServer) -> tuple[float, float]:
    """(seconds, seconds of CPU time of all its processes) for a token, over a load of LOAD requests."""
    words = ("--output-tokens", "48", "--prompt-words", "8", "--timeout", "120")
    before = cpu_seconds(list(server.pids.values()))
    report = load(server, *words, requests=LOAD)
    return 1 / report["tokens_per_second"], (cpu_seconds(list(server.pids.values())) - before) / report["tokens"]


def ratios(first: RunningServer, second: RunningServer, pairs: int) -> list[tuple[float, float]]:
    """(tokens/s, tokens for a second of CPU time) of `first` over those of `second`; who begins alternates."""
    found = []
    for number in range(pairs):
        costs = {}
        for server in (first, second) if number % 2 else (second, first):
            costs[server.url] = cost(server)
        speed, share = (other / own for own, other in zip(costs[first.url], costs[second.url], strict=True))
        found.append((speed, share))
        print(f"  pair {number + 1}: {speed:.3f}, by CPU time {share:.3f}", file=sys.stderr, flush=True)
    return found


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Of the median, with about 95 %: distribution-free, by order statistics."""
    ordered, count = sorted(values), len(values)
    rank = max(0, round(count / 2 - 0.98 * count**0.5) - 1)
    return ordered[rank], ordered[count - 1 - rank]


def cost_rows(pairs: int = PAIRS) -> list[Row]:
    with (
        tempfile.TemporaryDirectory() as folder,
        running_server(trace_dir=folder, log_level="warning") as on,
        running_server(log_level="warning") as off,
    ):
        for server in (on, off):
            cost(server)
        found = ratios(on, off, pairs)
    return _rows(f"with --trace-dir over without, {pairs} pairs: ≥ 0.96", found, 1 - MOST_COST)


def _rows(asked: str, found: list[tuple[float, float]], least: float) -> list[Row]:
    made = []
    for what, values in zip(("tokens/s", "tokens for a second of CPU time"), zip(*found, strict=True), strict=True):
        low, high = interval(values)
        middle = statistics.median(values)
        told = f"median {middle:.3f}, 95 % interval {low:.3f} to {high:.3f}"
        made.append(Row(f"{what} {asked}", told, middle >= least))
    return made


def off_row() -> Row:
    """The calls that a request makes without --trace-dir; a token makes none."""

    def request() -> None:
        UNTRACED.parsed("")
        UNTRACED.tokenised(1)
        UNTRACED.sent(UNTRACED.sending(), 1, 0, None)  # type: ignore[arg-type]
        UNTRACED.closed(200, "")

    seconds = min(timeit(request, number=20000) for _ in range(5)) / 20000
    share = seconds / CPU_OF_A_REQUEST
    told = f"{seconds * 1e6:.2f} µs, {share:.2%} of a request's CPU time; a token makes no call"
    return Row("without --trace-dir: no measurable cost in an API server", told, share < 0.01)


@contextlib.contextmanager
def server_of(checkout: str | None) -> Iterator[RunningServer]:
    """A server from another checkout, which needs no installation."""
    before = os.environ.get("PYTHONPATH")
    if checkout:
        os.environ["PYTHONPATH"] = checkout
    try:
        with running_server(log_level="warning") as server:
            yield server
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before


def against_rows(checkout: str, pairs: int = PAIRS) -> list[Row]:
    with server_of(checkout) as old, running_server(log_level="warning") as new:
        for server in (old, new):
            cost(server)
        found = ratios(new, old, pairs)
    return _rows(f"without --trace-dir over {checkout}, {pairs} pairs: ≥ 0.99", found, 0.99)
