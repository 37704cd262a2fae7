"""200,000 fuzzed requests at 200 a second: the server says nothing that it should not, and others notice nothing.

`python -m tests.proofs.fuzz [--count N] [--rate N] [--seed N]`. Beside them one client asks `/health` 20 times a second
and another reads one stream after the other. Alternately the same clients send correct requests, a tenth as many, so
that one run compares the two. About 20 minutes.
"""

import argparse
import asyncio
import concurrent.futures
import contextlib
import logging
import multiprocessing
import random
import re
import socket
import statistics
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.departures import Address
from tests.proofs import Row
from tests.running_server import RunningServer, running_server
from tests.server.limits.fuzzed_requests import CLOSES, HALF_CLOSES, RESETS, STAYS, Fuzzed, fuzzed, right
from tests.server.limits.test_limits import address
from tests.stream_readers import Readers

COUNT, RATE, ROUNDS = 200_000, 200, 10
HEALTH_RATE = 20
DOCUMENTED = {501, 503, 505}
PATIENCE = 2.0  # seconds that a client of ours waits for the next byte of an answer
HEALTH = b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
MAKERS: dict[str, Callable[[random.Random], Fuzzed]] = {"right": right, "fuzzed": fuzzed}


@dataclass
class Sent:
    """Of one run. `odd` holds the first requests that got a status they should not, with their answers."""

    statuses: Counter[int] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    odd: list[str] = field(default_factory=list)
    late: float = 0.0  # seconds that the last one was sent after its time

    def add(self, other: "Sent") -> None:
        self.statuses += other.statuses
        self.kinds += other.kinds
        self.odd += other.odd


async def send_all(where: Address, which: str, count: int, rate: float, seed: int) -> Sent:
    chance, sent, running = random.Random(seed), Sent(), set()
    begun = time.monotonic()
    for number in range(count):
        due = begun + number / rate - time.monotonic()
        if due > 0:
            await asyncio.sleep(due)
        sent.late = max(sent.late, -due)
        request = MAKERS[which](chance)
        task = asyncio.create_task(_send(where, request, sent))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)
    return sent


async def _send(where: Address, request: Fuzzed, sent: Sent) -> None:
    got = b""
    with contextlib.suppress(OSError, asyncio.TimeoutError):
        reader, writer = await asyncio.wait_for(asyncio.open_connection(*where), 30)
        try:
            got = await _talk(reader, writer, request)
        finally:
            writer.transport.abort()
    found = [int(status) for status in _STATUS.findall(got)]
    sent.kinds[request.kind] += 1
    sent.statuses.update(found or [0])
    if any(status >= 500 and status not in DOCUMENTED for status in found) and len(sent.odd) < 20:
        sent.odd.append(f"{request}: {got[:600]!r}")


async def _talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Fuzzed) -> bytes:
    for piece in request.pieces:
        writer.write(piece)
        if request.pause:
            await asyncio.sleep(request.pause)
    got = b""
    with contextlib.suppress(OSError, asyncio.TimeoutError):
        if request.then == RESETS:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        elif request.then == HALF_CLOSES:
            writer.write_eof()
        if request.then in (STAYS, HALF_CLOSES):
            while more := await asyncio.wait_for(reader.read(65536), PATIENCE):
                got += more
        elif request.then == CLOSES:
            await asyncio.wait_for(writer.drain(), PATIENCE)
    return got


def in_a_process(where: Address, which: str, count: int, rate: float, seed: int) -> Sent:
    """Runs in a process of its own, so that the clients that are timed don't wait for it."""
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # it warns of each piece that comes too late
    return asyncio.run(send_all(where, which, count, rate, seed))


class Watch:
    """Asks /health at a steady rate, and looks once a second at memory and descriptors of the server's processes."""

    def __init__(self, server: RunningServer) -> None:
        self._address = address(server)
        self._pids = server.pids
        self.seconds: list[float] = []
        self.wrong: list[bytes] = []
        self.held: list[tuple[float, int]] = []  # MiB and descriptors, of all processes together
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._ask), threading.Thread(target=self._look)]

    def __enter__(self) -> "Watch":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        due = time.monotonic()
        while not self._stopping.wait(max(0.0, due - time.monotonic())):
            due += 1 / HEALTH_RATE
            begun, answer = time.monotonic(), b""
            with contextlib.suppress(OSError), socket.create_connection(self._address, timeout=30) as client:
                client.sendall(HEALTH)
                answer = client.recv(12)
            self.seconds.append(time.monotonic() - begun)
            if answer[9:] != b"200":
                self.wrong.append(answer)

    def _look(self) -> None:
        while not self._stopping.wait(1.0):
            self.held.append((sum(map(_memory, self._pids.values())), sum(map(_descriptors, self._pids.values()))))


def _memory(pid: int) -> float:
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@dataclass
class Run:
    """Of one kind of request, over all rounds."""

    sent: Sent = field(default_factory=Sent)
    p99: list[float] = field(default_factory=list)  # of /health, ms, one a round
    wrong: list[bytes] = field(default_factory=list)  # answers to /health
    streams: Counter[str] = field(default_factory=Counter)
    held: list[tuple[float, int]] = field(default_factory=list)


def go_on(run: Run, server: RunningServer, which: str, count: int, rate: float, seed: int) -> None:
    readers = Readers(server.url, 1)
    spawn = multiprocessing.get_context("spawn")
    with Watch(server) as watch, concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
        sent = pool.submit(in_a_process, address(server), which, count, rate, seed).result()
    run.streams.update(read.how for read in readers.stop())
    run.sent.add(sent)
    run.p99.append(1000 * statistics.quantiles(watch.seconds, n=100)[98])
    run.wrong += watch.wrong
    run.held += watch.held
    late = f", {sent.late:.1f} s late" if sent.late > 1 else ""
    told = f"p99 of /health {run.p99[-1]:.1f} ms; {dict(sorted(sent.statuses.items()))}{late}"
    print(f"  {count} {which} requests: {told}", file=sys.stderr, flush=True)


def prove(count: int = COUNT, rate: float = RATE, seed: int | None = None) -> list[Row]:
    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    usual, odd = Run(), Run()
    with running_server(log_level="warning") as server:
        for number in range(ROUNDS):
            go_on(usual, server, "right", count // ROUNDS // 10, rate, seed + number)
            go_on(odd, server, "fuzzed", count // ROUNDS, rate, seed + number)
        code, said = server.stop(), server.said()
    for each in odd.sent.odd:
        print(f"  {each}", file=sys.stderr)
    tracebacks = said.split("Traceback")
    if len(tracebacks) > 1:
        print(tracebacks[0][-500:], *tracebacks[1:4], sep="Traceback", file=sys.stderr)
    what = f"{count} fuzzed requests at {rate:g}/s (seed {seed})"
    undocumented = {s: n for s, n in odd.sent.statuses.items() if s >= 500 and s not in DOCUMENTED}
    ratio = statistics.median(odd.p99) / statistics.median(usual.p99)
    return [
        Row(f"{what}: no 5xx but 501, 503, 505", f"{undocumented or 'none'}; {dict(odd.sent.kinds)}", not undocumented),
        Row(f"{what}: p99 of /health at most twice that beside right requests, medians of {ROUNDS} rounds in turn",
            f"{statistics.median(odd.p99):.1f} and {statistics.median(usual.p99):.1f} ms: {ratio:.2f}; "
            f"{len(odd.wrong)} without 200", ratio <= 2 and not odd.wrong),
        Row(f"{what}: every stream is the reference's", str(dict(odd.streams)), set(odd.streams) == {"whole"}),
        *_flat(what, odd.held),
        Row(f"{what}: no traceback, exit code 0", f"{len(tracebacks) - 1}, {code}", not code and len(tracebacks) == 1),
    ]  # fmt: skip


def _flat(what: str, held: list[tuple[float, int]]) -> list[Row]:
    """Medians of the third and of the last quarter."""
    half, last = len(held) // 2, 3 * len(held) // 4
    memory, descriptors = zip(*held, strict=True)
    m1, m2 = statistics.median(memory[half:last]), statistics.median(memory[last:])
    d1, d2 = statistics.median(descriptors[half:last]), statistics.median(descriptors[last:])
    return [
        Row(f"{what}: memory is flat over the second half", f"{m1:.1f}, then {m2:.1f} MiB", m2 <= 1.02 * m1),
        Row(f"{what}: so are descriptors", f"{d1:g}, then {d2:g}", d2 <= 1.1 * d1 + 2),
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--rate", type=float, default=RATE)
    parser.add_argument("--seed", type=int)
    given = parser.parse_args()
    rows = prove(given.count, given.rate, given.seed)
    for row in rows:
        print(f"{'met' if row.met else 'NOT MET'}: {row.asked}: {row.measured}")
    sys.exit(0 if all(row.met for row in rows) else 1)
