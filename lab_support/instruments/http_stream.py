"""One HTTP/1.1 connection that asks and notes when each piece of the answer arrives: raw bytes, no copies to spare.

It knows keep-alive, bodies with a length, in chunks or until close, and server-sent events. It knows no
TLS, redirects, compression or pipelining. No event is parsed as JSON but the one with the token count,
because the load generator must cost far less than the server that it measures.
"""

import asyncio
import json
import time
from array import array
from collections.abc import Mapping

ASKED = "asked"
"""What `Answer.outcome` says until the answer has ended."""

_READ_BYTES = 16 * 1024
"""One read of a socket at most. asyncio's plain Protocol allocates 256 KiB for each read of some 200 bytes."""

_NO_TEXT = (b'"text":""', b'"content":""', b'"delta":{}', b'"choices":[]')


class Answer:
    """The answer to one request while it arrives. Times are `time.monotonic()` seconds."""

    __slots__ = ("body", "done_event", "ended_at", "error", "headers", "outcome", "status", "token_times", "tokens")

    def __init__(self) -> None:
        self.outcome = ASKED
        self.status = 0
        self.headers: Mapping[bytes, bytes] = {}
        self.token_times: array[float] = array("d")
        self.tokens = 0
        self.body = b""
        self.done_event = False
        self.error = ""
        self.ended_at = 0.0

    def header(self, name: bytes) -> str:
        return self.headers.get(name, b"").decode("latin-1")


class Connection(asyncio.BufferedProtocol):
    """One connection, one request at a time. Made by `connect`; `ask` may be called again once it returned."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._space = memoryview(bytearray(_READ_BYTES))
        self._answer: Answer | None = None
        self._done: asyncio.Future[None] | None = None
        self._rest = b""
        self._event_rest = b""
        self._body_mode = ""
        self._missing = 0
        self._hang_up_after: int | None = None
        self.answers = 0

    @property
    def usable(self) -> bool:
        """Whether another request can be sent on it, as far as is known here."""
        return self._transport is not None and not self._transport.is_closing() and self._done is None

    @property
    def arrivals(self) -> "array[float]":
        """When each piece of the answer under way came, so far; it grows. Empty where none is."""
        return self._answer.token_times if self._answer else array("d")

    def close(self) -> None:
        """Close at once, unsent and unread bytes thrown away; the kernel tells the peer."""
        if self._transport is not None:
            self._transport.abort()

    async def ask(self, request: bytes, *, timeout: float, hang_up_after: int | None = None) -> Answer:
        """Send `request` and wait for its answer to end. Never raises for what the server does: see `outcome`.

        hang_up_after: close the connection once so many pieces of text have come; 0 is right after sending.
        outcome: "completed", "hung up", "status 503", "error event", "timeout", "cut off" (the connection
        ended first), "no [DONE]" (the stream's last event is missing), "not HTTP", or "stale" (a kept
        connection ended before a byte of the answer came).
        """
        assert self.usable and self._transport is not None, "ask() on a connection that is closed or busy"
        loop = asyncio.get_running_loop()
        answer = self._answer = Answer()
        self._done = loop.create_future()
        self._body_mode = "head"
        self._rest = self._event_rest = b""
        self._hang_up_after = hang_up_after
        timer = loop.call_later(timeout, self._give_up, "timeout")
        self._transport.write(request)
        if hang_up_after == 0:
            self._give_up("hung up")
        try:
            await self._done
        finally:
            timer.cancel()
            self._done = self._answer = None
        self.answers += 1
        return answer

    # ---- called by the event loop ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer is None or self._answer.outcome != ASKED:
            return
        if self._body_mode == "until close" and error is None:
            self._finish(time.monotonic())
        elif self._body_mode == "head" and not self._rest and self.answers:
            self._end("stale")
        else:
            self._end("cut off")

    def get_buffer(self, size_hint: int) -> memoryview:
        return self._space

    def buffer_updated(self, size: int) -> None:
        self.data_received(bytes(self._space[:size]))

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None or answer.outcome != ASKED:
            self.close()
            return
        now = time.monotonic()
        if self._rest:
            data = self._rest + data
            self._rest = b""
        try:
            if self._body_mode == "head":
                data = self._read_head(data)
            if self._body_mode == "chunked":
                self._read_chunks(data, now)
            elif self._body_mode != "head":
                self._read_plain(data, now)
        except ValueError as error:
            answer.error = str(error)
            self._give_up("not HTTP")

    # ---- reading ---------------------------------------------------------------------------------------------------

    def _read_head(self, data: bytes) -> bytes:
        """Take status and headers off `data`; what is left of it, or nothing while the head is incomplete."""
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._rest = data
            return b""
        assert self._answer is not None
        first, *lines = data[:end].split(b"\r\n")
        if not first.startswith(b"HTTP/1.1 "):
            raise ValueError(f"got {first[:40]!r}, expected HTTP/1.1 and a status")
        self._answer.status = int(first[9:12])
        pairs = (line.partition(b":") for line in lines)
        headers = self._answer.headers = {name.lower(): value.strip() for name, _, value in pairs}
        self._missing = int(headers.get(b"content-length", b"0"))
        if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
            self._body_mode = "chunked"
        else:
            self._body_mode = "length" if b"content-length" in headers else "until close"
        return data[end + 4 :]

    def _read_chunks(self, data: bytes, now: float) -> None:
        position = 0
        while (end := data.find(b"\r\n", position)) >= 0:
            size = int(data[position:end].partition(b";")[0], 16)
            following = end + 2 + size + 2
            if following > len(data):
                break
            if size == 0:
                self._finish(now)
                return
            self._read_piece(data[end + 2 : end + 2 + size], now)
            position = following
        self._rest = data[position:]

    def _read_plain(self, data: bytes, now: float) -> None:
        if data:
            self._read_piece(data, now)
        self._missing -= len(data)
        if self._body_mode == "length" and self._missing <= 0:
            self._finish(now)

    def _read_piece(self, piece: bytes, now: float) -> None:
        answer = self._answer
        assert answer is not None
        if self._streamed():
            self._read_events(self._event_rest + piece if self._event_rest else piece, now)
        else:
            answer.body += piece

    def _streamed(self) -> bool:
        assert self._answer is not None
        return self._answer.headers.get(b"content-type", b"").startswith(b"text/event-stream")

    def _read_events(self, piece: bytes, now: float) -> None:
        if b"\r" in piece:
            piece = piece.replace(b"\r\n", b"\n")
        start = 0
        while (end := piece.find(b"\n\n", start)) >= 0:
            self._read_event(piece[start:end], now)
            start = end + 2
        self._event_rest = piece[start:]

    def _read_event(self, event: bytes, now: float) -> None:
        answer = self._answer
        if answer is None or answer.outcome != ASKED:
            return
        if not event.startswith(b"data: {"):
            answer.done_event |= event == b"data: [DONE]"
            return
        if event.startswith(b'data: {"error"'):
            answer.error = event[6:].decode("utf-8", "replace")
            return
        if b'"usage":{' in event:
            answer.tokens = _completion_tokens(event[6:])
        for mark in _NO_TEXT:
            if mark in event:
                return
        answer.token_times.append(now)
        if self._hang_up_after is not None and len(answer.token_times) >= self._hang_up_after:
            self._give_up("hung up")

    # ---- ending ----------------------------------------------------------------------------------------------------

    def _finish(self, now: float) -> None:
        """The answer is complete as far as HTTP goes."""
        answer = self._answer
        assert answer is not None and self._transport is not None
        if answer.outcome != ASKED:
            return
        if answer.headers.get(b"connection", b"").lower() == b"close" or self._body_mode == "until close":
            self._transport.close()
        answer.tokens = answer.tokens or _completion_tokens(answer.body) or len(answer.token_times)
        if answer.status != 200:
            answer.error = answer.body[:500].decode("utf-8", "replace")
            self._end(f"status {answer.status}", now)
        elif answer.error:
            self._end("error event", now)
        elif self._streamed() and not answer.done_event:
            self._end("no [DONE]", now)
        else:
            self._end("completed", now)

    def _give_up(self, outcome: str) -> None:
        self._end(outcome)
        self.close()

    def _end(self, outcome: str, now: float | None = None) -> None:
        answer, done = self._answer, self._done
        if answer is None or answer.outcome != ASKED or done is None:
            return
        answer.outcome = outcome
        answer.ended_at = time.monotonic() if now is None else now
        answer.tokens = answer.tokens or len(answer.token_times)
        if not done.done():  # the asking task may have been cancelled
            done.set_result(None)


async def connect(host: str, port: int) -> Connection:
    """A new TCP connection to `host`:`port`. Raises OSError as the kernel says it."""
    _, connection = await asyncio.get_running_loop().create_connection(Connection, host, port)
    return connection


def _completion_tokens(body: bytes) -> int:
    """The server's own count in an answer or in the event that ends a stream; 0 where it gave none."""
    try:
        usage = json.loads(body).get("usage") or {}
        return int(usage.get("completion_tokens", 0))
    except (ValueError, AttributeError, TypeError):
        return 0  # not JSON, or JSON of another shape: then pieces of text are counted
