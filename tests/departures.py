"""Clients that leave in every way that there is, and neighbours whose answers must be the reference's all the same.

Used by tests/frontend/test_hang_ups.py, tests/server/test_departures.py and tests/proofs/departures.py.
"""

import contextlib
import fcntl
import itertools
import json
import os
import random
import re
import select
import socket
import struct
import termios
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.running_server import RunningServer

Address = tuple[str, int]

HEALTH = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"
RECEIVE_BUFFER = 4096  # of a client that does not read: what it does not take has to wait in the server
TIMEOUT = 20.0


def completion(*headers: str, **fields: object) -> bytes:
    """A request for a completion, as bytes."""
    body = json.dumps({"prompt": "Once upon a time", "temperature": 0, "ignore_eos": True, "stream": True} | fields)
    head = ["POST /v1/completions HTTP/1.1", "host: x", "content-type: application/json"]
    lines = [*head, f"content-length: {len(body)}", *headers, "", body]
    return "\r\n".join(lines).encode()


BEHIND = {  # what a client has pipelined behind its request
    "nothing": b"",
    "a question": HEALTH,
    "a completion": completion(max_tokens=20),
    "half a request": HEALTH[:20],
    "more than is read": completion(prompt="x" * 1_000_000),  # the rest waits in the kernel, and the FIN behind it
}
LEAVING = ("close", "half close", "reset")
MOMENTS = ("at once", "at the first token", "in mid-stream", "at the last", "unread", "slow")


@dataclass(frozen=True)
class Departure:
    """A client's departure: the bytes behind its request, the call, and the moment."""

    behind: str
    leaving: str
    moment: str
    stream: bool
    tokens: int = 40

    def __str__(self) -> str:
        kind = "streamed" if self.stream else "whole"
        return f"{self.leaving} {self.moment}, {kind}, {self.behind} behind it"


def kinds() -> list[Departure]:
    """Every way; of an answer that is not streamed there is no token to wait for."""
    found = []
    for behind, leaving, moment, stream in itertools.product(BEHIND, LEAVING, MOMENTS, (True, False)):
        if stream or moment in {"at once", "unread"}:
            found.append(Departure(behind, leaving, moment, stream))
    return found


class Client:
    """One that asks for a completion and leaves as `how` says."""

    def __init__(self, address: Address, how: Departure) -> None:
        self._how = how
        self._socket = socket.socket()
        self._socket.settimeout(TIMEOUT)
        fields: dict[str, Any] = {"max_tokens": how.tokens, "stream": how.stream}
        if how.moment == "unread":  # so much that it fits no buffer on the way
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            fields |= {"n": 4, "logprobs": 20}
        self._socket.connect(address)
        self._request = completion(**fields) + BEHIND[how.behind]

    def leave(self) -> None:
        """Ask, wait for the moment, leave. Raises `TimeoutError` where the moment never comes."""
        with self._socket:
            self._ask()
            self._wait_for_moment()
            self._end()

    def _ask(self) -> None:
        """Send as much as the kernel takes at once: the server does not read all that some of them send."""
        self._socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while self._request:
                self._request = self._request[self._socket.send(self._request) :]
        self._socket.settimeout(TIMEOUT)

    def _wait_for_moment(self) -> None:
        tokens = self._how.tokens
        events = {"at the first token": 1, "in mid-stream": tokens // 2, "slow": tokens // 3}
        if self._how.moment == "unread":
            self._wait_for_full_buffer()
        elif self._how.moment == "at the last":
            self._read_until(lambda got: b'"finish_reason":"length"' in got)
        elif self._how.moment in events:
            least = events[self._how.moment]
            size = 64 if self._how.moment == "slow" else 65536
            self._read_until(lambda got: got.count(b"data: ") >= least, size)

    def _wait_for_full_buffer(self) -> None:
        """Until the kernel holds for us about what it will hold: the rest waits in the server."""
        waiting = 0
        while waiting < RECEIVE_BUFFER // 2:
            assert self._socket.recv(1, socket.MSG_PEEK), "the server closed before it had said much"
            waiting = struct.unpack("i", fcntl.ioctl(self._socket, termios.FIONREAD, bytes(4)))[0]

    def _read_until(self, enough: Callable[[bytes], bool], size: int = 65536) -> None:
        got = b""
        while not enough(got):
            more = self._socket.recv(size)
            assert more, f"the server closed after {got[-200:]!r}"
            got += more

    def _end(self) -> None:
        """Up to the close, which comes next."""
        if self._how.leaving == "reset":
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif self._how.leaving == "half close":
            self._socket.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):
                while self._socket.recv(65536):  # the server closes, too: it takes this for an end
                    pass


def leave(address: Address, how: Departure) -> None:
    Client(address, how).leave()


# ---- neighbours -----------------------------------------------------------------------------------------------------


@dataclass
class Neighbours:
    """Clients that each read one streamed answer after another, and compare each with the reference.

    wrong: what was said in place of the reference. A context manager: they begin with it, and at its end each finishes
    the answer that it reads.
    """

    address: Address
    count: int
    tokens: int = 120
    whole: int = 0
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stopping = threading.Event()
        prompts = [f"Once upon a time there were {number} cats" for number in range(4)]
        self._references = {prompt: text_of(self._ask(prompt)) for prompt in prompts}
        assert all(text.endswith("[DONE]") for text in self._references.values()), self._references
        self._lock = threading.Lock()

    def __enter__(self) -> "Neighbours":
        self._threads = [threading.Thread(target=self._read, args=(number,)) for number in range(self.count)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _read(self, number: int) -> None:
        prompts = list(self._references)
        for turn in itertools.count(number):
            prompt = prompts[turn % len(prompts)]
            try:
                said = text_of(self._ask(prompt))
            except OSError as error:
                said = repr(error)
            with self._lock:
                if said == self._references[prompt]:
                    self.whole += 1
                else:
                    self.wrong.append(f"{said!r} instead of {self._references[prompt]!r}")
            if self._stopping.is_set():
                return

    def _ask(self, prompt: str) -> bytes:
        answer = b""
        with socket.create_connection(self.address, timeout=TIMEOUT) as connection:
            connection.sendall(completion("connection: close", prompt=prompt, max_tokens=self.tokens))
            while more := connection.recv(65536):
                answer += more
        return answer


def text_of(answer: bytes) -> str:
    """All that a streamed answer said, and how it ended: `… [DONE]`, `… (cut)`, or the error in its last event."""
    events = re.findall(rb"^data: (.*?)\r?$", answer, re.MULTILINE)
    text, last = "", " (cut)"
    for event in events:
        if event == b"[DONE]":
            last = " [DONE]"
        elif "error" in (parsed := json.loads(event)):
            last = f" ({parsed['error']['message']})"
        else:
            text += "".join(choice["text"] for choice in parsed["choices"])
    return text + last if events else answer[:300].decode(errors="replace")


def leave_all(address: Address, departures: list[Departure], at_once: int) -> Counter[str]:
    """Let all of these leave, so many at once, in random order; what came of them, counted."""
    ends: Counter[str] = Counter()
    waiting = iter(departures)
    lock = threading.Lock()

    def go_on() -> None:
        while True:
            with lock:
                how = next(waiting, None)
            if how is None:
                return
            try:
                leave(address, how)
                end = "left"
            except (OSError, AssertionError) as error:
                end = f"{type(error).__name__} {error}: {how}"
            with lock:
                ends[end] += 1

    threads = [threading.Thread(target=go_on) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ends


def shuffled(count: int, seed: int) -> list[Departure]:
    """So many departures, every kind as often as any other, give or take one."""
    chance = random.Random(seed)
    all_kinds = kinds()
    chosen: list[Departure] = []
    while len(chosen) < count:
        chosen += chance.sample(all_kinds, len(all_kinds))
    return chosen[:count]


# ---- what is left ---------------------------------------------------------------------------------------------------


def descriptors(server: RunningServer) -> int:
    """The total that the present API servers hold."""
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for name, pid in server.pids.items() if name.startswith("api-"))


def settled(server: RunningServer, descriptors_before: int, within: float = 30.0) -> dict[str, object]:
    """The remaining requests, blocks and connections, once there are none or `within` seconds are over. All are 0."""
    deadline = time.monotonic() + within
    while True:
        metrics = server.get("/metrics", headers={"connection": "close"}).text
        blocks = [
            float(number) for number in re.findall(r"^lab_engine_(?:free|total)_blocks\{.*\} (\S+)$", metrics, re.M)
        ]
        left = {
            "requests": server.get("/load", headers={"connection": "close"}).json()["server_load"],
            "blocks": max(blocks) - min(blocks),
            "connections": descriptors(server) - descriptors_before,
            "tracebacks": server.said().count("Traceback"),
        }
        if not any(left.values()) or time.monotonic() > deadline:
            return left
        select.select([], [], [], 0.05)


@dataclass
class Trial:
    """left: what is left, each 0 where nothing is."""

    ends: Counter[str]
    neighbours: Neighbours
    left: dict[str, object]


def trial(server: RunningServer, departures: list[Departure], readers: int, at_once: int) -> Trial:
    """These departures among so many neighbours; what came of both, and what is left afterwards."""
    host, port = server.url.removeprefix("http://").rsplit(":", 1)
    address = (host, int(port))
    neighbours = Neighbours(address, readers)  # which has asked for the references by now
    before = descriptors(server)
    with neighbours:
        ends = leave_all(address, departures, at_once)
    return Trial(ends, neighbours, settled(server, before))
