"""Answers for HTTP/1.0, which has no chunks: one of unknown length ends with its connection (RFC 9112, 6.1)."""

import asyncio
from typing import Any


class Unchunked:
    """A transport for HTTP/1.0: removes the chunk framing that uvicorn adds to an answer of unknown length."""

    _FIELD = b"transfer-encoding: chunked\r\n"

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._chunked: bool | None = None  # None until the head is written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if self._chunked is None:
            self._chunked = self._FIELD in data
            data = data.replace(self._FIELD, b"", 1)
        elif self._chunked:
            size, _, rest = data.partition(b"\r\n")
            data = rest[: int(size or b"0", 16)]
        self._transport.write(data)
