"""The cost of an API server's own code, step by step: `python -m tests.benchmarks.api_server_cost`.

The real HTTP protocol, application and messages run in this process; the engine core's messages are made beforehand,
and eight clients are answered at once. Four ways, CPU time in µs for a request and for each further token:

- warm: one step after the other, nothing is sent: what Python itself costs.
- cold: 64 MB are read before each step, as an engine core's matrices would push the code out of the caches.
- sent: cold, and each event goes down a TCP connection to a process that reads it.
- traced: the same under --trace-dir.

The rest of what `tests.proofs.ratios` measures is wake-ups, ZeroMQ's thread and the kernel's scheduling.

`--before CHECKOUT` measures another checkout's code, too, in a process of its own, round by round in turn with this
one's, so that both meet the same weather on a busy machine.
"""

import argparse
import asyncio
import ctypes
import json
import os
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy
import uvicorn
import uvloop
from uvicorn.server import ServerState

from lab_support.boundary.messages import (
    EngineReady,
    Generate,
    Loads,
    SequenceTokens,
    ToApiServer,
    ToEngineCore,
    Tokens,
    decoder,
    encode,
)
from lab_support.config import ServerConfig
from lab_support.frontend.http.http_connection import HttpConnection
from lab_support.frontend.http.traced_connection import traced
from lab_support.frontend.routes import Identity, build_app
from lab_support.frontend.routing.engine_client import EngineClient
from lab_support.frontend.text.tokenizer import Tokenizer
from lab_support.generation import FinishReason
from lab_support.model_folder import ModelFolder
from lab_support.tracing.files import MIB, TraceFiles
from lab_support.tracing.trace import NoTrace, Trace, make_trace
from tests.fakes import FakeCounters

CLIENTS, TOKENS, ROUNDS = 8, 34, 60
PR_SET_PDEATHSIG, SIGKILL = 1, 9
QUESTION = {"prompt": "Once upon a time there was a process", "max_tokens": TOKENS, "stream": True, "ignore_eos": True}


class Wire(asyncio.Transport):
    """A connection of a client. Without a peer, what is written is dropped."""

    def __init__(self, peer: socket.socket | None) -> None:
        super().__init__(
            {"sockname": ("127.0.0.1", 1), "peername": ("127.0.0.1", 2), "socket": peer or socket.socket()}
        )
        self._peer = peer

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._peer:
            self._peer.send(data)

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Outbox:
    """The way to the engine core: packs as the real one does, and keeps who asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def send(self, engine_index: int, message: ToEngineCore) -> None:
        encode(message)
        if isinstance(message, Generate):
            self.asked.append(message.request_id)


@contextmanager
def reader() -> Iterator[tuple[str, int]]:
    """A process that reads whatever comes; its address."""
    with socket.create_server(("127.0.0.1", 0)) as listening_socket:
        if not os.fork():
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGKILL)
            _read_all(listening_socket)
        yield listening_socket.getsockname()


def _read_all(listening_socket: socket.socket) -> None:
    selector = selectors.DefaultSelector()
    selector.register(listening_socket, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is listening_socket:
                selector.register(listening_socket.accept()[0], selectors.EVENT_READ)
            else:
                key.fileobj.recv(65536)  # type: ignore[union-attr]


@dataclass
class Bench:
    """An application with clients that are answered step by step. `evict`: read 64 MB before each step.

    trace: of this process, as under --trace-dir; each round also writes what it has to the file.
    """

    evict: bool
    address: tuple[str, int] | None
    trace: Trace = field(default_factory=NoTrace)

    def __post_init__(self) -> None:
        self._outbox = Outbox()
        self._client = EngineClient(self._outbox, 0, 1, 1)
        self._client.on_message(EngineReady(0, 2048, 1024))
        config = ServerConfig(port=0)
        folder = ModelFolder.open(config.model, config.load_format)
        identity = Identity(0, "run-of-a-benchmark", "0.0", 0)
        app = build_app(config, folder, Tokenizer.open(folder), self._client, FakeCounters(), identity, self.trace)
        http = uvicorn.Config(app, http="httptools", lifespan="off", ws="none", log_config=None, access_log=False)
        http.timeout_keep_alive = 3600
        http.load()
        connection = traced(self.trace) if self.trace.on else HttpConnection
        self._protocols = [connection(http, ServerState(), {}) for _ in range(CLIENTS)]
        for protocol in self._protocols:
            protocol.connection_made(Wire(socket.create_connection(self.address) if self.address else None))
        self._decode = decoder(ToApiServer | Loads).decode
        self._in_the_way = numpy.ones(8_000_000)

    async def round(self) -> tuple[float, float]:
        """CPU seconds for all requests without their further tokens, and for these."""
        begun = time.thread_time()
        for protocol in self._protocols:
            protocol.data_received(_http_request())
        await _turns()
        *steps, last = self._steps()
        asked = time.thread_time() - begun
        streamed = sum(map(self._step, steps))
        begun = time.thread_time()
        self.trace.close()  # writes it
        streamed += time.thread_time() - begun
        begun = time.thread_time()
        self._client.on_message(self._decode(last))
        await _turns()
        return asked + time.thread_time() - begun, streamed

    def _steps(self) -> list[bytes]:
        """One message a step, which brings a token to each client."""
        asked, self._outbox.asked = self._outbox.asked, []
        assert len(asked) == CLIENTS, f"{len(asked)} of {CLIENTS} requests came through"
        ends = [None] * (TOKENS - 1) + [FinishReason.LENGTH]
        return [
            encode(Tokens(0, [SequenceTokens(each, [500 + number], end) for each in asked]))
            for number, end in enumerate(ends)
        ]

    def _step(self, message: bytes) -> float:
        if self.evict:
            self._in_the_way.sum()
        begun = time.thread_time()
        self._client.on_message(self._decode(message))
        return time.thread_time() - begun


async def _turns() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


def _http_request() -> bytes:
    body = json.dumps(QUESTION).encode()
    head = b"POST /v1/completions HTTP/1.1\r\nhost: lab\r\ncontent-type: application/json\r\n"
    return head + b"content-length: %d\r\n\r\n%s" % (len(body), body)


async def answer_rounds(address: tuple[str, int]) -> None:
    """The measured process: for each line of input, one round of each way, and its figures as a line of JSON."""
    with tempfile.TemporaryDirectory() as folder:
        trace = make_trace(TraceFiles(folder, "0" * 8, 64 * MIB), "api-0", 0)
        ways = {
            "warm": Bench(False, None),
            "cold": Bench(True, None),
            "sent": Bench(True, address),
            "traced": Bench(True, address, trace),
        }
        for bench in ways.values():
            await bench.round()
        for _ in sys.stdin:
            print(json.dumps({name: await second_round(bench) for name, bench in ways.items()}), flush=True)


async def second_round(bench: Bench) -> tuple[float, float]:
    """Of two, because the first finds the caches as another way, or another process, has left them."""
    await bench.round()
    return await bench.round()


class Measured:
    """A process that measures the code of one checkout. A context manager."""

    def __init__(self, checkout: Path, address: tuple[str, int]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--reader", str(address[1])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(checkout)},
        )
        self._rounds: list[dict[str, tuple[float, float]]] = []

    def __enter__(self) -> "Measured":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def round(self) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        self._rounds.append(json.loads(self._process.stdout.readline()))

    def medians(self, way: str) -> tuple[float, float]:
        """µs for a request and for a further token."""
        requests, tokens = (statistics.median(each) * 1e6 for each in zip(*(r[way] for r in self._rounds), strict=True))
        return requests / CLIENTS, tokens / CLIENTS / (TOKENS - 1)


def compare(checkouts: dict[str, Path], rounds: int) -> None:
    with reader() as address, ExitStack() as stack:
        measured = {name: stack.enter_context(Measured(path, address)) for name, path in checkouts.items()}
        for _ in range(rounds):
            for each in measured.values():
                each.round()
        for way in ("warm", "cold", "sent", "traced"):
            for name, each in measured.items():
                request, token = each.medians(way)
                told = f"a request {request:.0f} µs, a token {token:.1f} µs"
                print(f"{way}{name}: {told}; together {token + request / TOKENS:.1f} µs a token")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, metavar="CHECKOUT", help="measure this checkout's code in turn")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--reader", type=int, metavar="PORT", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.reader:
        uvloop.run(answer_rounds(("127.0.0.1", given.reader)))
        return 0
    here = Path(__file__).resolve().parents[2]
    compare({" before": given.before.resolve(), "  after": here} if given.before else {"": here}, given.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
