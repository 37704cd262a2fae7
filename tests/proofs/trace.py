"""What a trace tells, and what it costs: `python -m tests.proofs.trace [--pairs 20] [--before CHECKOUT]`.

- 200 requests of 16 clients: the stages of each add up to what its client saw, on the same clock.
- The file for trace viewers opens in Chromium's own (the Performance panel of its developer tools).
- Tokens/s with --trace-dir over those without, by turns on two servers that run side by side, and tokens for a second
  of their CPU time, which other programs disturb less. Twenty pairs; the interval is that of the median by order
  statistics (the 6th and the 15th of 20: 95.9 %).
- The same without --trace-dir over a checkout from before there were traces, if one is named.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from timeit import timeit

from lab_support.frontend.trace.request_trace import UNTRACED
from lab_support.instruments.load import http_stream
from lab_support.instruments.trace.chrome import chrome_json
from lab_support.instruments.trace.read import read_run
from lab_support.instruments.trace.requests import Request, requests_of, stages
from tests.in_jupyterlab import CHROMIUM
from tests.proofs import Row
from tests.proofs.ratios import cpu_seconds, load
from tests.running_server import RunningServer, running_server

REQUESTS, CLIENTS, TOKENS = 200, 16, 48
PAIRS, LOAD = 20, 160
WITHIN, WITHIN_MS = 0.05, 3.0
MOST_COST = 0.04
CPU_OF_A_REQUEST = 220e-6  # seconds of an API server, by tests.proofs.ratios


# ---- what the clients saw --------------------------------------------------------------------------------------------


def question(number: int, host: str) -> bytes:
    body = json.dumps({"prompt": "Once upon a time", "max_tokens": TOKENS, "ignore_eos": True, "stream": True}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nX-Request-Id: q{number}"
    return f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def ask_all(server: RunningServer, requests: int, clients: int) -> dict[str, float]:
    """Seconds that each request took for its client, by its id. A connection is kept, as browsers do."""
    host, port = server.url.removeprefix("http://").rsplit(":", 1)
    seconds, feed = {}, iter(range(requests))

    async def client() -> None:
        connection = await http_stream.connect(host, int(port))
        for number in feed:
            begun = time.monotonic()
            answer = await connection.ask(question(number, host), timeout=120)
            assert answer.outcome == "completed", answer.outcome
            seconds[f"q{number}"] = answer.ended_at - begun
        connection.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    return seconds


@contextlib.contextmanager
def traced_requests(requests: int = REQUESTS, clients: int = CLIENTS) -> Iterator[tuple[Path, dict[str, float]]]:
    """(folder of the trace, seconds of each request as its client saw them); the server has ended."""
    with tempfile.TemporaryDirectory() as folder:
        with running_server(trace_dir=folder, log_level="warning") as server:
            asyncio.run(ask_all(server, clients, clients))  # warm, with ids that come again
            seconds = asyncio.run(ask_all(server, requests, clients))
            server.stop()
        yield Path(folder), seconds


def latest(requests: list[Request]) -> dict[str, Request]:
    """By id, the last one with each."""
    return {request.id: request for request in requests}


def differences(folder: Path, seconds: dict[str, float]) -> list[tuple[float, float]]:
    """(as a share, in ms) by which the stages of each request differ from what its client saw."""
    requests, _ = requests_of(read_run(folder))
    found = latest(requests)
    made = []
    for name, seen in seconds.items():
        told = sum(stage.seconds for stage in stages(found[name]))
        made.append((abs(told - seen) / seen, abs(told - seen) * 1000))
    return made


def stages_row(folder: Path, seconds: dict[str, float]) -> Row:
    found = differences(folder, seconds)
    middle = statistics.median(share for share, _ in found)
    share, milliseconds = (statistics.quantiles(each, n=20)[-1] for each in zip(*found, strict=True))
    within = sum(share <= WITHIN or ms <= WITHIN_MS for share, ms in found) / len(found)
    told = (
        f"median {middle:.2%}, 95th percentile {share:.2%} and {milliseconds:.2f} ms; {within:.1%} of {len(found)} "
        f"requests within (median request {statistics.median(seconds.values()) * 1000:.0f} ms)"
    )
    return Row(
        f"{len(found)} requests of {CLIENTS} clients: stages add up to what the client saw: median within 5 %, 95th "
        "percentile within 5 % or 3 ms",
        told,
        middle <= WITHIN and within >= 0.95,
    )


# ---- a trace viewer --------------------------------------------------------------------------------------------------

_OPEN = """async (text) => {
    const ui = await import('./ui/legacy/legacy.js')
    await ui.ViewManager.ViewManager.instance().showView('timeline')
    const timeline = await import('./panels/timeline/timeline.js')
    await timeline.TimelinePanel.TimelinePanel.instance().loadFromFile(new File([text], 'trace.json'))
    const trace = await import('./models/trace/trace.js')
    const model = trace.TraceModel.Model.createWithAllHandlers()
    await model.parse(JSON.parse(text).traceEvents, {metadata: {}, isFreshRecording: false})
    const found = {}
    for (const [pid, process] of model.parsedTrace(0).data.Renderer.processes) {
        found[pid] = [...process.threads.values()].map(thread => thread.entries.length)
    }
    return found
}"""


def opened_in_chromium(text: str, picture: Path | None = None) -> dict[str, list[int]]:
    """The number of slices of each thread, by process, as Chromium's trace viewer reads them."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as browsers, tempfile.TemporaryDirectory() as profile:
        browser = browsers.chromium.launch_persistent_context(
            profile, executable_path=CHROMIUM, args=["--no-sandbox"], viewport={"width": 1500, "height": 900}
        )
        page = browser.new_page()
        page.goto("devtools://devtools/bundled/devtools_app.html", wait_until="commit")
        page.wait_for_function("() => document.querySelector('.root-view, .main-tabbed-pane, .tabbed-pane') !== null")
        found = page.evaluate(_OPEN, text)
        if picture:
            page.wait_for_timeout(3000)  # for the look of it only
            page.screenshot(path=picture)
        browser.close()
    return found


def viewer_row(folder: Path, picture: Path | None = None) -> Row:
    run = read_run(folder)
    text = chrome_json(run, requests_of(run)[0])
    slices: dict[str, int] = {}
    for event in json.loads(text)["traceEvents"]:
        if event["ph"] == "X":
            slices[str(event["pid"])] = slices.get(str(event["pid"]), 0) + 1
    found = opened_in_chromium(text, picture)
    shown = {pid: sum(threads) for pid, threads in found.items()}
    told = f"{len(found)} processes, {sum(shown.values())} of {sum(slices.values())} slices"
    return Row("the file opens in a trace viewer (Chromium's), with every slice", told, shown == slices)


# ---- what it costs ---------------------------------------------------------------------------------------------------


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


def prove(pairs: int = PAIRS, before: str | None = None) -> list[Row]:
    with traced_requests() as (folder, seconds):
        rows = [stages_row(folder, seconds)]
        if CHROMIUM:
            rows.append(viewer_row(folder))
    rows += [off_row(), *cost_rows(pairs)]
    return rows + (against_rows(before, pairs) if before else [])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--before", metavar="CHECKOUT")
    given = parser.parse_args()
    for row in prove(given.pairs, given.before):
        print(f"{'met' if row.met else 'NOT MET'}: {row.asked}: {row.measured}", flush=True)
