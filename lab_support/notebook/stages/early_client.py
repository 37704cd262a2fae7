"""A client that connects once, as soon as a server's port is open, and waits for its answer.

`EarlyClient().connect` is for `lab.live_server(at_port_open=…)`. It never tries again.

Taught in: 07_how_do_strangers_find_each_other
"""

import json
import socket
import time
from typing import Any

from lab_support.instruments.kernel import accept_queues

_SECONDS = 60.0


class EarlyClient:
    """One connection with one request for four tokens. Times are seconds of CLOCK_MONOTONIC."""

    def __init__(self) -> None:
        self._told: dict[str, Any] = {"connections": 0}
        self._connection: socket.socket | None = None

    def connect(self, address: tuple[str, int], key: str | None) -> None:
        """Connect, send the request, and look how many connections wait in the accept queue. Does not wait."""
        self._told["connections"] += 1
        self._connection = socket.create_connection(address)
        self._told["connected"] = time.monotonic()
        self._connection.sendall(_completion(key))
        queues = accept_queues(address[1]).queues or ()
        self._told["waiting"] = sum(queue.waiting for queue in queues)

    def answer(self) -> dict[str, Any]:
        """Wait for it. Returns `connections`, `connected`, `waiting`, `answered`, and its `status`, 0 for none."""
        assert self._connection is not None, "got no call of connect(), expected one from at_port_open"
        self._connection.settimeout(_SECONDS)
        with self._connection, self._connection.makefile("rb") as lines:
            words = lines.readline().split()
            self._told |= {"answered": time.monotonic(), "status": int(words[1]) if words else 0}
            lines.read()
        return self._told


def _completion(key: str | None) -> bytes:
    body = json.dumps({"prompt": "Once upon a time", "max_tokens": 4, "ignore_eos": True}).encode()
    head = [
        "POST /v1/completions HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *([f"Authorization: Bearer {key}"] if key else []),
    ]
    return "\r\n".join([*head, "", ""]).encode() + body
