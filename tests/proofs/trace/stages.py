"""The stages of each request against the time that its client saw."""

import asyncio
import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from lab_support.instruments.load import http_stream
from lab_support.instruments.trace.read import read_run
from lab_support.instruments.trace.requests import Request, requests_of, stages
from tests.proofs import Row
from tests.running_server import RunningServer, running_server

REQUESTS, CLIENTS, TOKENS = 200, 16, 48
WITHIN, WITHIN_MS = 0.05, 3.0


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
