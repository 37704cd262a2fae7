"""A program in the place of vllm-rs that sends broken messages to the engine core, and right requests in between.

The launcher starts it like vllm-rs, through a script that names this file. What it has found goes as JSON into the file
that BREAKER_REPORT names: how many messages of each kind were sent, how many right requests were answered right, what
was not as it should be, and the share of the KV cache in use once all is aborted. BREAKER_COUNT and BREAKER_SEED say
the rest.
"""

import argparse
import json
import os
import random
import select
import signal
import socket
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import zmq

from lab_support.boundary.vllm.layouts import ABORT
from tests.server.vllm_rs.frames import KINDS, Sent, add, pack

AT_ONCE = 25  # broken messages between two right requests
WITHIN = 60.0  # seconds; an answer later than that is a hang


@dataclass
class Report:
    sent: Counter[str] = field(default_factory=Counter)
    right: int = 0
    wrong: list[str] = field(default_factory=list)
    in_use: float = -1.0


class EngineCoreLost(Exception):
    """No answer within `WITHIN`."""


class Peer:
    """An engine core at the other end of both sockets."""

    def __init__(self, inputs: int, outputs: int) -> None:
        context = zmq.Context()
        self._router, self._pull = adopt(context, zmq.ROUTER, inputs), adopt(context, zmq.PULL, outputs)
        self._identity, _ = self._router.recv_multipart()
        self.first: set[str] = set()  # requests of which something has come
        self.tokens: dict[str, list[int]] = {}
        self.ended: dict[str, int] = {}
        self.calls: set[int] = set()
        self.stats: dict[str, Any] = {}

    def send(self, frames: list[bytes]) -> None:
        self._router.send_multipart([self._identity, *frames])

    def read_until(self, holds: Any) -> None:
        """Read answers until that holds. Raises `EngineCoreLost`."""
        deadline = time.monotonic() + WITHIN
        while not holds():
            if not self._pull.poll(max(0, round((deadline - time.monotonic()) * 1000))):
                raise EngineCoreLost
            self._read(msgspec.msgpack.decode(self._pull.recv()))

    def _read(self, answer: list[Any]) -> None:
        _, outputs, stats, _, call, *_ = answer
        for name, token_ids, *rest in outputs:
            self.first.add(name)
            self.tokens.setdefault(name, []).extend(token_ids)
            if len(rest) > 3 and rest[3] is not None:
                self.ended[name] = rest[3]
        if call:
            self.calls.add(call[0])
        self.stats = stats or self.stats


def adopt(context: zmq.Context, kind: int, descriptor: int) -> zmq.Socket:
    made = context.socket(kind)
    address = socket.socket(fileno=os.dup(descriptor)).getsockname()
    made.setsockopt(zmq.USE_FD, descriptor)
    made.bind(f"ipc://{address}")
    return made


def break_it(peer: Peer, count: int, seed: int) -> Report:
    dice, report = random.Random(seed), Report()
    expected = ask(peer, "reference")
    for begun in range(0, count, AT_ONCE):
        sent = [broken(dice, f"r{number}", report) for number in range(begun, min(count, begun + AT_ONCE))]
        try:
            for each in sent:
                peer.send(each.frames)
            found = ask(peer, f"right {begun}")
            peer.read_until(lambda: {each.request for each in sent} - {None} <= peer.first)  # noqa: B023
            peer.read_until(lambda: {each.call for each in sent} - {None} <= peer.calls)  # noqa: B023
        except EngineCoreLost:
            report.wrong.append(f"no answer after messages {begun} to {begun + AT_ONCE}, seed {seed}")
            return report
        peer.send([ABORT, pack([f"r{begun + place}" for place in range(AT_ONCE)] + ["of many", "never heard of"])])
        if found != expected:
            report.wrong.append(f"after message {begun}: got {found}, expected {expected}")
        report.right += found == expected
    peer.stats = {}
    ask(peer, "last")
    peer.read_until(lambda: peer.stats.get("num_running_reqs") == peer.stats.get("num_waiting_reqs") == 0)
    report.in_use = peer.stats["kv_cache_usage"]
    return report


def broken(dice: random.Random, name: str, report: Report) -> Sent:
    kind = dice.choice(KINDS)
    report.sent[kind.__name__] += 1
    return kind(dice, name)


def ask(peer: Peer, name: str) -> list[int]:
    """A right request's tokens."""
    peer.send(add(name, (5, 6, 7)))
    peer.read_until(lambda: name in peer.ended)
    return peer.tokens[name]


def main() -> None:
    if sys.argv[1:] == ["--version"]:
        print("vllm-rs 0.33.0")
        return
    parser = argparse.ArgumentParser()
    for flag in ("--listen-fd", "--input-listener-fd", "--output-listener-fd"):
        parser.add_argument(flag, type=int)
    given, _ = parser.parse_known_args(sys.argv[2:])
    peer = Peer(given.input_listener_fd, given.output_listener_fd)
    accepting = select.epoll()
    accepting.register(given.listen_fd)  # by this the launcher knows that it is ready
    found = break_it(peer, int(os.environ["BREAKER_COUNT"]), int(os.environ["BREAKER_SEED"]))
    report = Path(os.environ["BREAKER_REPORT"])
    whole = report.with_suffix(".whole")
    whole.write_text(json.dumps([found.sent, found.right, found.wrong, found.in_use]))
    whole.rename(report)
    signal.pause()


if __name__ == "__main__":
    main()
