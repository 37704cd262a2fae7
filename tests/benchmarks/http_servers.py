"""Five HTTP servers under the one application, side by side: `python -m tests.benchmarks.http_servers`.

own         uvicorn and httptools with the project's own connection class, as the server has it
httptools   the same without that class
h11, hypercorn, granian, aiohttp   (aiohttp by an adapter; granian in our event loop, its sockets in threads of its own)
alone       no server at all: what the application and the fake engine cost by themselves. It is part of every row.

Each round starts one after the other in a process of its own and ends it again. CPU is that of the server's process
with all its threads, user and system, in µs for a request or for a streamed token: medians of the rounds, with the
lowest and the highest. Start: until the first answer. Memory: of the process after its first answer, in MiB, resident
(RSS), and what is its own alone (USS). Wall figures say more about the machine's other work.

Servers that are not installed are named as such; they are in no list of requirements:
`pip install h11 hypercorn granian aiohttp`.
"""

import argparse
import asyncio
import importlib.util
import json
import re
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import uvloop
from starlette.types import Message, Scope

from lab_support.frontend.http.middleware import Served
from tests.benchmarks.served_by import SERVERS, make_app

PINGS, COMPLETIONS, CLIENTS, TOKENS, STREAMS = 2000, 50, 8, 300, 2
STEP = 0.005  # seconds between two tokens of the fake engine
PING = b"GET /ping HTTP/1.1\r\nhost: lab\r\n\r\n"
Figures = dict[str, float]


def completion(**fields: object) -> bytes:
    body = json.dumps({"prompt": "Once upon a time there was a process", "ignore_eos": True, **fields}).encode()
    head = b"POST /v1/completions HTTP/1.1\r\nhost: lab\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


ONE_TOKEN = completion(max_tokens=1)
STREAM = completion(max_tokens=TOKENS, stream=True)


@dataclass
class Running:
    """A server's process, by the kernel's figures."""

    pid: int
    port: int

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    @property
    def cpu_seconds(self) -> float:
        return time.clock_gettime(~self.pid << 3 | 2)  # clock_getcpuclockid(3), which Python does not have

    def kilobytes(self, *names: str) -> int:
        lines = Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.split(":")[0] in names)

    @property
    def threads(self) -> int:
        return sum(1 for _ in Path(f"/proc/{self.pid}/task").iterdir())


@contextmanager
def running(name: str) -> Iterator[Running]:
    port = _free_port()
    command = [sys.executable, "-m", "tests.benchmarks.served_by", name, str(port), str(STEP)]
    process = subprocess.Popen(command)
    try:
        server = Running(process.pid, port)
        _wait_until_it_answers(server, process)
        yield server
    finally:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def _wait_until_it_answers(server: Running, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        with suppress(ConnectionRefusedError), server.connect() as connection:
            ask(connection, PING)
            return
        time.sleep(0.005)
    raise RuntimeError(f"the server ended with code {process.returncode} before it answered")


def ask(connection: socket.socket, request: bytes) -> bytes:
    """One request, and its whole answer. Raises `RuntimeError` where that is no 200."""
    connection.sendall(request)
    answer = b""
    while not _whole(answer):
        piece = connection.recv(65536)
        if not piece:
            raise RuntimeError(f"the connection ended after {answer[-200:]!r}")
        answer += piece
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(f"the answer is {answer[:200]!r}")
    return answer


def _whole(answer: bytes) -> bool:
    head, found, body = answer.partition(b"\r\n\r\n")
    if not found:
        return False
    length = re.search(rb"(?i)\ncontent-length: *(\d+)", head)
    return len(body) >= int(length[1]) if length else body.endswith(b"0\r\n\r\n")


def ping(server: Running) -> int:
    with server.connect() as connection:
        for _ in range(PINGS):
            ask(connection, PING)
    return PINGS


def one_token(server: Running) -> int:
    return by_all_clients(server, lambda connection: [ask(connection, ONE_TOKEN) for _ in range(COMPLETIONS)])


def stream(server: Running) -> int:
    """The number of tokens; an event for each, and one for `[DONE]`."""

    def read(connection: socket.socket) -> list[bytes]:
        answers = [ask(connection, STREAM) for _ in range(STREAMS)]
        assert all(answer.count(b"data: ") == TOKENS + 1 for answer in answers), answers[0].count(b"data: ")
        return answers

    return by_all_clients(server, read) * TOKENS


def by_all_clients(server: Running, work: Callable[[socket.socket], list[bytes]]) -> int:
    def client(_: int) -> int:
        with server.connect() as connection:
            return len(work(connection))

    with ThreadPoolExecutor(CLIENTS) as clients:
        return sum(clients.map(client, range(CLIENTS)))


LOADS: dict[str, Callable[[Running], int]] = {"ping": ping, "one token": one_token, "streamed token": stream}


def measure(name: str) -> Figures:
    """One round of one server."""
    with running(name) as server:
        figures: Figures = {
            "start": server.cpu_seconds * 1000,
            "RSS": server.kilobytes("Rss") / 1024,
            "PSS": server.kilobytes("Pss") / 1024,
            "USS": server.kilobytes("Private_Clean", "Private_Dirty") / 1024,
        }
        for load, work in LOADS.items():
            cpu, wall = server.cpu_seconds, time.monotonic()
            count = work(server)
            figures[load] = (server.cpu_seconds - cpu) / count * 1e6
            figures[f"{load}, wall"] = (time.monotonic() - wall) / count * 1e6
        return figures | {"threads": server.threads}


class Alone:
    """The application without a server: each request is a call."""

    def __init__(self, app: Served) -> None:
        self._app = app

    async def measure(self) -> Figures:
        one, many = ONE_TOKEN.partition(b"\r\n\r\n")[2], STREAM.partition(b"\r\n\r\n")[2]
        return {
            "ping": await self._cost(PINGS, 1, "GET", "/ping", b""),
            "one token": await self._cost(COMPLETIONS, CLIENTS, "POST", "/v1/completions", one),
            "streamed token": await self._cost(STREAMS, CLIENTS, "POST", "/v1/completions", many) / TOKENS,
        }

    async def _cost(self, requests: int, clients: int, method: str, path: str, body: bytes) -> float:
        async def client() -> None:
            for _ in range(requests):
                await self._ask(method, path, body)

        begun = time.process_time()
        await asyncio.gather(*(client() for _ in range(clients)))
        return (time.process_time() - begun) / requests / clients * 1e6

    async def _ask(self, method: str, path: str, body: bytes) -> None:
        scope: Scope = {
            "type": "http", "http_version": "1.1", "method": method, "scheme": "http", "path": path, "root_path": "",
            "query_string": b"", "headers": [], "state": {},
        }  # fmt: skip
        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        whole = asyncio.Event()

        async def receive() -> Message:
            if messages:
                return messages.pop()
            await whole.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body"):
                whole.set()

        await self._app(scope, receive, send)


async def measure_alone() -> Figures:
    return await Alone(make_app(STEP)).measure()


def row(name: str, rounds: list[Figures], columns: list[str]) -> str:
    return f"| {name} | " + " | ".join(cell([each[column] for each in rounds if column in each]) for column in columns)


def cell(values: list[float]) -> str:
    if not values:
        return "–"
    return f"{statistics.median(values):.4g} ({min(values):.4g}–{max(values):.4g})"


COLUMNS = [*LOADS, "start", "RSS", "PSS", "USS", "threads", "ping, wall", "one token, wall"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", default=",".join(SERVERS))
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    asked = given.servers.split(",")
    installed = [name for name in asked if importlib.util.find_spec(SERVERS[name][0])]
    rounds: dict[str, list[Figures]] = {name: [] for name in ["alone", *installed]}
    for _ in range(given.rounds):
        rounds["alone"].append(uvloop.run(measure_alone()))
        for name in installed:
            rounds[name].append(measure(name))
    print("| server | " + " | ".join(COLUMNS) + " |\n" + "| --- " * (len(COLUMNS) + 1) + "|")
    for name, figures in rounds.items():
        print(row(name, figures, COLUMNS) + " |")
    for name in sorted(set(asked) - set(installed)):
        print(f"| {name} | not installed |")
    print(json.dumps(rounds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
