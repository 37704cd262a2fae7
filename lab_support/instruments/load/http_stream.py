"""One HTTP/1.1 connection of a client that records when each piece of the answer arrives. It copies few bytes.

It supports keep-alive, bodies with a length, in chunks or until close, and server-sent events; no TLS, redirects,
compression or pipelining. Nothing that a server sends is trusted: an invalid number, or a head without an end, is
"not HTTP".
"""

import asyncio
import re
import time
from array import array
from collections.abc import Mapping

from lab_support.instruments.foreign_text import visible_bytes
from lab_support.instruments.load.completion_events import completion_tokens, is_last, parsed, read_event
from lab_support.instruments.load.event_stream import EventReader

ASKED = "asked"
"""`Answer.outcome` until the answer has ended."""

_READ_BYTES = 16 * 1024
"""Most bytes of one read. asyncio's plain Protocol allocates 256 KiB for each read of some 200 bytes."""

_LONGEST_HEAD = 64 * 1024
_STATUS = re.compile(rb"HTTP/1\.([01]) (\d{3})(?: |$)")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?", re.DOTALL)
_LENGTH = re.compile(rb"\d{1,18}")


class Answer:
    """The answer to one request while it arrives. Times are `time.monotonic()` seconds."""

    __slots__ = (
        *("body", "done_event", "ended_at", "error", "finished", "headers", "outcome", "status", "token_times"),
        "tokens",
    )

    def __init__(self) -> None:
        self.outcome = ASKED
        self.status = 0
        self.headers: Mapping[bytes, bytes] = {}
        self.token_times: array[float] = array("d")
        self.tokens = 0
        self.body = bytearray()
        self.done_event = self.finished = False
        self.error = ""
        self.ended_at = 0.0

    def header(self, name: bytes) -> str:
        """The header's value, with control characters escaped; "" if the server sent none."""
        return visible_bytes(self.headers.get(name, b""))


class Connection(asyncio.BufferedProtocol):
    """One connection, one request at a time. Made by `connect`; `ask` may be called again once it has returned."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._space = memoryview(bytearray(_READ_BYTES))
        self._answer: Answer | None = None
        self._done: asyncio.Future[None] | None = None
        self._rest = b""
        self._last_text = b""
        self._events = EventReader()
        self._body_mode = ""
        self._missing = 0
        self._closes = self._streamed = False
        self._hang_up_after: int | None = None
        self.answers = 0

    @property
    def usable(self) -> bool:
        """Whether another request can be sent on it, as far as this side knows."""
        return self._transport is not None and not self._transport.is_closing() and self._done is None

    @property
    def arrivals(self) -> "array[float]":
        """Arrival times of the current answer's pieces so far, in an array that grows; empty between answers."""
        return self._answer.token_times if self._answer else array("d")

    def close(self) -> None:
        """Close at once and discard unsent and unread bytes; the kernel tells the peer."""
        if self._transport is not None:
            self._transport.abort()

    async def ask(self, request: bytes, *, timeout: float, hang_up_after: int | None = None) -> Answer:
        """Send `request` and wait for its answer to end. Never raises for what the server does: see `outcome`.

        hang_up_after: close the connection once so many pieces of text have arrived; 0 is right after sending.
        outcome: "completed", "hung up", "status 503", "error event", "error answer" (200, and an error in its JSON),
        "timeout", "cut off" (the connection ended first), "no [DONE]" (and no finish_reason), "not HTTP", or
        "stale" (a reused connection ended before the first byte of the answer).
        """
        assert self.usable and self._transport is not None, "ask() on a connection that is closed or busy"
        loop = asyncio.get_running_loop()
        answer = self._answer = Answer()
        self._done = loop.create_future()
        self._body_mode = "head"
        self._rest, self._last_text, self._events = b"", b"", EventReader()
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
            elif self._body_mode == "trailer":
                self._read_trailer(data, now)
            elif self._body_mode != "head":
                self._read_plain(data, now)
        except ValueError as error:
            answer.error = str(error)
            self._give_up("not HTTP")

    # ---- reading ---------------------------------------------------------------------------------------------------

    def _read_head(self, data: bytes) -> bytes:
        """Take status and headers off `data`; returns the rest, or nothing while the head is incomplete."""
        while (end := data.find(b"\r\n\r\n")) >= 0:
            first, *lines = data[:end].split(b"\r\n")
            status = _STATUS.match(first)
            if not status:
                raise ValueError(f"got {first[:40]!r}, expected HTTP/1.1 and a status")
            data = data[end + 4 :]
            if status[2].startswith(b"1"):  # such as 100 Continue or 103 Early Hints: the final head follows
                continue
            self._take_head(status, lines)
            return data
        self._keep(data)
        return b""

    def _take_head(self, status: re.Match[bytes], lines: list[bytes]) -> None:
        assert self._answer is not None
        self._answer.status = int(status[2])
        pairs = (line.partition(b":") for line in lines)
        headers = self._answer.headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        self._closes = _closes(headers, old=status[1] == b"0")
        self._streamed = headers.get(b"content-type", b"").lower().startswith(b"text/event-stream")
        self._begin_body(headers)

    def _begin_body(self, headers: Mapping[bytes, bytes]) -> None:
        self._missing = 0
        if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
            self._body_mode = "chunked"
        elif b"content-length" in headers:
            self._body_mode, self._missing = "length", _number(_LENGTH, headers[b"content-length"], 10)
        else:
            self._body_mode = "until close"

    def _read_chunks(self, data: bytes, now: float) -> None:
        """Each chunk as far as it has arrived. `_missing`: remaining bytes of the current one and its line feed."""
        position = 0
        while position < len(data):
            if self._missing == 0:
                end = data.find(b"\r\n", position)
                if end < 0:
                    self._keep(data[position:])
                    return
                size = _number(_CHUNK_SIZE, data[position:end], 16)
                position = end + 2
                if size == 0:
                    self._body_mode = "trailer"
                    self._read_trailer(data[position:], now)
                    return
                self._missing = size + 2
            if self._missing > 2:
                piece = data[position : position + self._missing - 2]
                self._read_piece(piece, now)
                position += len(piece)
                self._missing -= len(piece)
            if self._missing <= 2:
                skipped = data[position : position + self._missing]
                position += len(skipped)
                self._missing -= len(skipped)

    def _read_trailer(self, data: bytes, now: float) -> None:
        """Header lines after the last chunk, usually none; an empty line ends the answer."""
        if data.startswith(b"\r\n") or b"\r\n\r\n" in data:
            self._finish(now)
        else:
            self._keep(data)

    def _keep(self, data: bytes) -> None:
        if len(data) > _LONGEST_HEAD:
            raise ValueError(f"got {len(data)} bytes without an end, expected a head or the size of a chunk")
        self._rest = data

    def _read_plain(self, data: bytes, now: float) -> None:
        if self._body_mode == "length":
            data = data[: self._missing]
        if data:
            self._read_piece(data, now)
        self._missing -= len(data)
        if self._body_mode == "length" and self._missing <= 0:
            self._finish(now)

    def _read_piece(self, piece: bytes, now: float) -> None:
        answer = self._answer
        assert answer is not None
        if not self._streamed:
            answer.body += piece
            return
        for kind, data in self._events.feed(piece):
            self._read_event(kind, data, now)

    def _read_event(self, kind: bytes, data: bytes, now: float) -> None:
        answer = self._answer
        if answer is None or answer.outcome != ASKED:
            return
        said = read_event(kind, data)
        answer.done_event |= said.done
        answer.error = answer.error or said.error
        answer.tokens = said.tokens or answer.tokens
        answer.finished |= said.finished
        if said.text:
            self._last_text = data
            answer.token_times.append(now)
            if self._hang_up_after is not None and len(answer.token_times) >= self._hang_up_after:
                self._give_up("hung up")

    # ---- ending ----------------------------------------------------------------------------------------------------

    def _finish(self, now: float) -> None:
        """Called when the answer is complete by HTTP."""
        answer = self._answer
        assert answer is not None and self._transport is not None
        for kind, data in self._events.end():
            self._read_event(kind, data, now)
        if answer.outcome != ASKED:
            return
        if self._closes or self._body_mode == "until close":
            self._transport.close()
        self._end(self._outcome(answer), now)

    def _outcome(self, answer: Answer) -> str:
        """The outcome of a whole answer."""
        if answer.status != 200:
            answer.error = answer.body[:500].decode("utf-8", "replace")
            return f"status {answer.status}"
        if self._streamed:
            return "error event" if answer.error else "completed" if self._ended_well(answer) else "no [DONE]"
        whole = parsed(answer.body)
        answer.tokens = completion_tokens(whole)
        return "error answer" if isinstance(whole, dict) and whole.get("error") else "completed"

    def _ended_well(self, answer: Answer) -> bool:
        """By [DONE], or by a finish_reason, as transformers ends its streams."""
        return answer.done_event or answer.finished or is_last(self._last_text)

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
    """A new TCP connection to `host`:`port`. Raises the kernel's OSError."""
    _, connection = await asyncio.get_running_loop().create_connection(Connection, host, port)
    return connection


def _closes(headers: Mapping[bytes, bytes], *, old: bool) -> bool:
    """Whether the server closes the connection after this answer. old: HTTP/1.0, which closes unless told otherwise."""
    words = {word.strip() for word in headers.get(b"connection", b"").lower().split(b",")}
    return b"close" in words or (old and b"keep-alive" not in words)


def _number(pattern: re.Pattern[bytes], text: bytes, base: int) -> int:
    """Digits and nothing else: `int` would also accept -1f, 5_0 and spaces."""
    found = pattern.fullmatch(text)
    if not found:
        raise ValueError(f"got {text[:40]!r}, expected a number of bytes")
    return int(found[found.re.groups], base)
