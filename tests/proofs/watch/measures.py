"""Measures what `lab watch` costs, and how soon its page shows a kill and a birth.

The CPU time is that of the watching process, by the kernel's clock for it, as a share of one core. The delays are from
kill(2), or from the birth of a process, to the moment at which the sentence is in the page, by the page's own clock.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from lab_support.instruments import proc
from tests.in_jupyterlab import chromium
from tests.running_server import PACED, RunningServer, running_server
from tests.watch.watching import Watching, watched

_SECONDS_OF_LOAD = 6.0  # the clients ask for longer
API_SERVERS, KEY = 7, "a-key-for-this-benchmark"
WATCH_LOG = """(words) => new Promise((seen) => {
    const look = () => { if (document.querySelector('#log').textContent.includes(words)) seen(Date.now()) }
    new MutationObserver(look).observe(document.querySelector('#log'), {childList: true})
    look()
})"""
KEEP_BIRTHS = """() => {
    window.births = {}
    new MutationObserver((records) => {
        for (const record of records) for (const node of record.addedNodes) {
            const found = node.textContent.match(/\\((\\d+)\\) was born/)
            if (found) births[found[1]] = Date.now()
        }
    }).observe(document.querySelector('#log'), {childList: true})
}"""


@contextlib.contextmanager
def shown() -> Iterator[tuple[RunningServer, Watching, Any]]:
    """Our server with 12 processes, `lab watch`, and its page in a browser."""
    with (
        pytest.MonkeyPatch.context() as patch,
        chromium() as browser,
    ):
        patch.setenv("LAB_API_KEY", KEY)
        with (
            running_server(api_server_count=API_SERVERS, data_parallel_size=2, **PACED) as server,
            watched(server.url, "--allow-signals", key=KEY) as watching,
        ):
            page = browser.new_page(viewport={"width": 1600, "height": 1000})
            page.goto(f"{watching.url}?token={watching.token}")
            page.wait_for_selector("#xray svg")
            yield server, watching, page


def cost(watching: Watching, seconds: float) -> float:
    """Its share of a core over some seconds."""
    clock, began = ~watching.process.pid << 3 | 2, time.monotonic()
    before = time.clock_gettime(clock)
    time.sleep(seconds)
    return (time.clock_gettime(clock) - before) / (time.monotonic() - began)


def cost_under_load(page: Any, watching: Watching) -> float:
    """The same while the 16 clients of the page's button ask."""
    page.click("#clients")
    page.click("#yes")
    page.wait_for_selector("#log:has-text('16 clients have begun')")
    return cost(watching, _SECONDS_OF_LOAD)


def kill_and_see(page: Any, server: RunningServer, index: int) -> float:
    """Milliseconds. It returns once the successor is called by its name."""
    pid = server.pids[f"api-{index}"]
    at = time.time()
    os.kill(pid, signal.SIGKILL)
    seen = page.evaluate(WATCH_LOG, f"({pid}) ended by SIGKILL")
    page.wait_for_selector(f"#log:has-text('takes the place of {pid}')")
    return seen - at * 1000


def roll_and_see(page: Any, server: RunningServer) -> list[float]:
    """Milliseconds from the start of each new API server, as the kernel has it, to its line in the page."""
    page.evaluate(KEEP_BIRTHS)
    os.kill(server.pids["launcher"], signal.SIGUSR1)
    births: dict[str, float] = {}
    while len(births) < API_SERVERS:
        page.wait_for_timeout(100)
        births = page.evaluate("births")
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    found = {seen: proc.read_process(int(pid)) for pid, seen in births.items()}
    ticks = os.sysconf("SC_CLK_TCK")
    return [seen - 1000 * (booted + one.identity.start_ticks / ticks) for seen, one in found.items() if one]
