"""A client of a live server that speaks HTTP by hand, so that a cell decides when it reads, and how it leaves.

It runs in a cell's own process.

Taught in: 09a_what_if_one_end_leaves
"""

import json
import socket
from typing import Any, Self

from lab_support.notebook.servers.live_server import Server

PATIENCE = 30.0  # seconds without a byte


class PlainClient:
    """One connection to a server, and what has come on it. A context manager: leaving it closes the connection.

    Raises `OSError` if the connection is refused, or if nothing comes for 30 s.
    """

    def __init__(self, server: Server) -> None:
        self._key = server.api_key
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
        self.got = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.socket.close()

    @property
    def port(self) -> int:
        """Its own port, by which the server's end of the connection is found."""
        return int(self.socket.getsockname()[1])

    def ask(self, tokens: int, *, name: str = "", **fields: Any) -> None:
        """Ask for a stream of so many tokens, and read nothing.

        name: its x-request-id. fields: more of the request's body.
        """
        body = {"prompt": "Once upon a time", "max_tokens": tokens, "ignore_eos": True, "stream": True} | fields
        self._send("POST /v1/completions", json.dumps(body).encode(), name)

    def get(self, path: str) -> None:
        """Ask for something short, and read nothing."""
        self._send(f"GET {path}", b"", "")

    def _send(self, line: str, body: bytes, name: str) -> None:
        head = [f"{line} HTTP/1.1", "host: lab", f"content-length: {len(body)}"]
        head += ["content-type: application/json"] * bool(body) + [f"x-request-id: {name}"] * bool(name)
        head += [f"authorization: Bearer {self._key}"] * bool(self._key)
        self.socket.sendall("\r\n".join([*head, "", ""]).encode() + body)

    def read_events(self, count: int) -> None:
        """Read until there are so many events, or the connection's end."""
        while self.got.count(b"\ndata: ") < count and self._read():
            pass

    def read_head(self) -> None:
        """Read until an answer without a body has come."""
        while b"\r\n\r\n" not in self.got and self._read():
            pass

    def read_to_end(self) -> str:
        """How the connection ended: "closed" in good order, or "reset"."""
        try:
            while self._read():
                pass
        except ConnectionResetError:
            return "reset"
        return "closed"

    def read_to_last_chunk(self) -> None:
        """Read until a streamed answer has ended, or the connection has."""
        while not self.got.endswith(b"\r\n0\r\n\r\n") and self._read():
            pass

    def _read(self) -> bool:
        more = self.socket.recv(65536)
        self.got += more
        return bool(more)
