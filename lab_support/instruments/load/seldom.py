"""Clients that look seldom: they keep a server busy, and cost the machine almost nothing.

Clients of a real server run on other machines. Here they share the cores with it, and `lab load`, which notes when
each token comes, costs more CPU for each than an API server does. These take what has gathered every few milliseconds,
and count bytes: the server writes every event as for any other client. So they tell tokens per second, and no latency.

They run in the process that calls `ask_and_count`, in one thread. No other machine is asked, as with `lab load`.
"""

import json
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from lab_support.instruments.cpu_time import busy_seconds, spent, thread_seconds
from lab_support.instruments.load.plan import address_of

CLIENT = "client"
_SPACE = 1 << 18  # bytes that are taken at once
PATIENCE = 30.0  # seconds more, on a busy machine
_END = b"\r\n0\r\n\r\n"  # the last chunk of a body


class NotAnswered(RuntimeError):
    """The server refused, closed or said nothing. The text says what it did."""


@dataclass(frozen=True, slots=True)
class Seldom:
    """The plan: each of `clients` asks for answers of `tokens`, one after the other, and looks every `every` seconds.

    They run for `warm` seconds, and until an answer has ended; then for `seconds`, the window in which all is counted,
    and until something has come. words: of each prompt, which is another one for each client. fields: further ones of
    each request. pids: of the processes whose CPU time is counted, too, by role.
    """

    url: str
    clients: int
    tokens: int
    seconds: float
    warm: float = 0.7
    every: float = 0.02
    words: int = 3
    fields: dict[str, Any] = field(default_factory=dict)
    pids: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Client:
    """One connection with one request at a time. head, tail: the first and the last bytes of its answer so far."""

    connection: socket.socket
    request: bytes
    head: bytes = b""
    tail: bytes = b""
    bytes: int = 0

    def ask(self) -> None:
        self.head, self.tail, self.bytes = b"", b"", 0
        self.connection.sendall(self.request)

    def take(self, space: memoryview) -> int:
        """Bytes that had gathered, by way of `space`; 0 if none. Raises `NotAnswered`."""
        try:
            count = self.connection.recv_into(space)
        except BlockingIOError:
            return 0
        piece = bytes(space[:count])
        self.head = self.head or piece[:2048]
        if not count or not self.head.startswith(b"HTTP/1.1 200"):
            raise NotAnswered(f"got {self.head[:300]!r}, expected a streamed answer")
        self.tail = (self.tail + piece[-len(_END) :])[-len(_END) :]
        self.bytes += count
        return count

    @property
    def ended(self) -> bool:
        return self.tail == _END

    @property
    def served_by(self) -> str:
        """The API server that the head of the answer names."""
        lines = self.head.partition(b"\r\n\r\n")[0].split(b"\r\n")
        found = (line.partition(b":")[2] for line in lines if line.lower().startswith(b"x-served-by:"))
        return next(found, b"").strip().decode("latin-1")


@dataclass(slots=True)
class _Tally:
    """Counts so far. bytes: all that came; of_answers: those of ended answers; answers: ended ones by API server."""

    bytes: int = 0
    of_answers: int = 0
    answers: Counter[str] = field(default_factory=Counter)


def ask_and_count(plan: Seldom, key: str | None) -> dict[str, Any]:
    """Carry out the plan. Returns tokens, seconds, answers by API server, and the CPU time of all processes.

    cpu, loop: seconds by role, of all threads of a process and of its busiest one; "client" is this process. machine:
    of all programs together, on the cores on which this process may run. Raises `NotAnswered`, `OSError`, and
    `WorkloadError` for a server on another machine.
    """
    with _clients_of(plan, key) as clients:
        return _measure(plan, clients)


@contextmanager
def _clients_of(plan: Seldom, key: str | None) -> Iterator[list[_Client]]:
    """They are connected, and have asked. Their connections are closed at the end of the block."""
    host, port = address_of(plan.url)
    made = []
    with ExitStack() as connections:
        for number in range(plan.clients):
            connection = connections.enter_context(socket.create_connection((host, port)))
            made.append(_Client(connection, _request(plan, number, f"{host}:{port}", key)))
            made[-1].ask()
            connection.setblocking(False)
        yield made


def _request(plan: Seldom, number: int, host: str, key: str | None) -> bytes:
    prompt = " ".join([f"Client {number}", *["asks"] * (plan.words - 2)])
    asked = {"prompt": prompt, "max_tokens": plan.tokens, "ignore_eos": True, "stream": True}
    body = json.dumps(asked | plan.fields).encode()
    lines = ["POST /v1/completions HTTP/1.1", f"Host: {host}", "Content-Type: application/json"]
    lines += [f"Content-Length: {len(body)}", *([f"Authorization: Bearer {key}"] if key else [])]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def _run(clients: list[_Client], every: float, seconds: float, tally: _Tally, enough: Callable[[_Tally], bool]) -> None:
    """Take what has gathered, again and again, for `seconds`, and until that is enough: a busy machine may be slow."""
    space = memoryview(bytearray(_SPACE))
    begun = due = time.monotonic()
    while due < begun + seconds or not enough(tally):
        if time.monotonic() > begun + seconds + PATIENCE:
            raise NotAnswered(f"got no whole answer in {seconds + PATIENCE:g} s, expected some")
        due += every
        time.sleep(max(0.0, due - time.monotonic()))
        _take(clients, space, tally)


def _take(clients: list[_Client], space: memoryview, tally: _Tally) -> None:
    for client in clients:
        tally.bytes += client.take(space)
        if client.ended:
            tally.of_answers += client.bytes
            tally.answers[client.served_by] += 1
            client.ask()


def _measure(plan: Seldom, clients: list[_Client]) -> dict[str, Any]:
    """Warm up, then count."""
    tally, pids = _Tally(), plan.pids | {CLIENT: os.getpid()}
    _run(clients, plan.every, plan.warm, tally, lambda so_far: bool(so_far.answers))
    counted, ended, begun = tally.bytes, tally.answers.copy(), time.monotonic()
    cores = os.sched_getaffinity(0)
    before, machine = {role: thread_seconds(pid) for role, pid in pids.items()}, busy_seconds(cores)
    _run(clients, plan.every, plan.seconds, tally, lambda so_far: so_far.bytes > counted)
    took = {role: spent(before[role], thread_seconds(pid)) for role, pid in pids.items()}
    return {
        "seconds": time.monotonic() - begun,
        "tokens": (tally.bytes - counted) * tally.answers.total() * plan.tokens / tally.of_answers,
        "answers": dict(tally.answers - ended),
        "cpu": {role: each.all for role, each in took.items()},
        "loop": {role: each.busiest for role, each in took.items()},
        "machine": busy_seconds(cores) - machine,
    }
