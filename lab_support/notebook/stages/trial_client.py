"""A client of the reader's server, in a thread: it knows which tokens its own prompt must give.

Runs in the process of a check. Its seconds are only a limit.
"""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from lab_support.notebook.stages.server_parts import token_after

LIMIT = 20.0
"""Seconds that anything of a trial may take."""


@dataclass(slots=True)
class Client:
    """A client that asks for a stream, in a thread.

    times: of each token. empty: how many tokens without a text it got besides. ended: it got [DONE] and the end.
    """

    prompt: str
    count: int
    tokens: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    empty: int = 0
    ended: bool = False
    first: threading.Event = field(default_factory=threading.Event)
    connection: socket.socket | None = None
    thread: threading.Thread | None = None

    @property
    def own(self) -> bool:
        """Whether it got its own tokens, all of them and no others."""
        return self.tokens == list(tokens_of(self.prompt, self.count))

    @property
    def repeats(self) -> bool:
        return len(self.tokens) > 1 and len(set(self.tokens)) == 1

    def ask(self, port: int) -> None:
        self.connection = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
        body = json.dumps({"prompt": self.prompt, "max_tokens": self.count, "stream": True}).encode()
        head = f"POST /v1/completions HTTP/1.1\r\nHost: lab\r\nContent-Length: {len(body)}\r\n\r\n"
        self.connection.sendall(head.encode() + body)
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def hang_up(self) -> None:
        if self.connection:
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            self.connection.close()

    def _read(self) -> None:
        assert self.connection
        with suppress(OSError, ValueError):
            for line in self.connection.makefile("rb"):
                if line == b"data: [DONE]\n":
                    self.ended = True
                elif line.startswith(b"data: {"):
                    self._take(**json.loads(line[6:])["choices"][0])
        self.first.set()

    def _take(self, text: str, finish_reason: str | None, **_: Any) -> None:
        if not text:
            self.empty += finish_reason is None
            return
        self.tokens.append(text)
        self.times.append(time.monotonic())
        self.first.set()


def tokens_of(prompt: str, count: int) -> Iterator[str]:
    text = prompt.encode()
    for _ in range(count):
        token = token_after(text)
        text += token
        yield token.decode()
