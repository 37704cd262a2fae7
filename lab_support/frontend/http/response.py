"""Two ways to send an answer through ASGI: whole from a coroutine, or piece by piece from a plain callback.

An ASGI `send` is a coroutine, but uvicorn's waits only while the client reads too slowly. So a callback can step it
once and it is done: a streamed token costs no task switch. If it does wait, a task finishes it, and later pieces are
queued and counted in the request's lease (http/memory.py).

A body is sent in pieces, so that uvicorn's own buffer, which no lease counts, holds no more than one of them.
"""

import asyncio
import logging
import os
import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterator
from typing import Any

from starlette.types import Message, Scope, Send

from lab_support.frontend.http.errors import ApiError
from lab_support.frontend.http.memory import Lease
from lab_support.frontend.trace.request_trace import UNTRACED

log = logging.getLogger("lab.api")

JSON = b"application/json"
EVENT_STREAM = b"text/event-stream; charset=utf-8"
Headers = list[tuple[bytes, bytes]]
LEFT = "lab.left"
"""In a request's scope, once its client has left before the answer was complete: the sign of it, in words."""
CUT_OFF = "lab.cut-off"
"""In a request's scope: `f(reason)` ends its connection as if its client had left."""
SEND_CHUNK = "lab.send-chunk"
"""In a request's scope: `f(body) -> bool` sends a chunk of its answer at once; False: it can't, so `send` must."""
GIVEN_UP = "cut off: the server's memory was full, and this request held most of it"
PIECE = 65536  # most bytes of an answer that are sent at once


class RequestRecord:
    """Notes about one request while it is answered, for its headers and its line in the log."""

    __slots__ = ("completion_tokens", "named_by_header", "prompt_tokens", "request_id", "send_body", "status", "trace")

    def __init__(self, request_id: str | None, send_body: Send) -> None:
        """request_id: the client's own, from its header."""
        self.named_by_header = request_id is not None
        self.request_id = request_id or os.urandom(12).hex()
        self.send_body = send_body  # the server's own `send`, for messages that no middleware needs to see
        self.status = 0
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.trace = UNTRACED


def record_of(scope: Scope) -> RequestRecord:
    """The record that `middleware.Served` made for this request."""
    record: RequestRecord = scope["lab.record"]
    return record


async def respond(
    send: Send, status: int, body: bytes, content_type: bytes = JSON, headers: Headers | None = None
) -> None:
    """Send a whole answer."""
    await send(_start(status, body, content_type, headers or []))
    for piece, more in pieces_of(body):
        await send({"type": "http.response.body", "body": piece, "more_body": more})


async def respond_leased(scope: Scope, send: Send, body: bytes, lease: Lease) -> None:
    """Send a whole answer that may be large; the lease counts it while it waits for its client.

    If it has to be given up in the middle, its client is cut off, because an error can't be sent any more.
    """
    lease.demand(len(body))
    lease.on_revoke = lambda: scope[CUT_OFF](GIVEN_UP)
    await respond(send, 200, body)


def pieces_of(body: bytes) -> Iterator[tuple[bytes, bool]]:
    """(piece, does another follow?) for each piece of a body, at least one."""
    for start in range(0, len(body) or 1, PIECE):
        yield body[start : start + PIECE], start + PIECE < len(body)


async def respond_error(send: Send, error: ApiError) -> None:
    await respond(send, error.status, error.body(), JSON, error.headers)


def _start(status: int, body: bytes | None, content_type: bytes, headers: Headers) -> Message:
    own = [(b"content-type", content_type)] if body != b"" else []
    if body is not None:
        own.append((b"content-length", b"%d" % len(body)))
    return {"type": "http.response.start", "status": status, "headers": own + headers}


class CallbackWriter:
    """One request's answer, sent from callbacks of the event loop in which the request's task waits.

    Nothing here waits. `close` drops whatever a slow client has not taken yet. The body bypasses the middleware, which
    needs only status and headers: this saves three coroutines for each token.
    send_chunk: `SEND_CHUNK` of the request's scope. lease: counts the queue. on_broken: called if sending raised,
    because then nothing will ever end this answer.
    """

    __slots__ = (
        "_drain",
        "_ending",
        "_lease",
        "_on_broken",
        "_queue",
        "_queued",
        "_send_body",
        "_send_chunk",
        "_send_start",
        "started",
    )

    def __init__(
        self,
        send_start: Send,
        send_body: Send,
        send_chunk: Callable[[bytes], bool],
        lease: Lease,
        on_broken: Callable[[], object],
    ) -> None:
        self._send_start = send_start
        self._send_body = send_body
        self._send_chunk = send_chunk
        self._lease = lease
        self._on_broken = on_broken
        self._drain: asyncio.Task[None] | None = None
        self._queue: deque[tuple[Send, Message]] = deque()  # its bodies are bytearrays, so that they can grow
        self._ending = False
        self.started = False

    def start(self, status: int, content_type: bytes, headers: Headers, body: bytes | None = None) -> None:
        """Send status and headers, with a content-length if `body`, the whole one, is given."""
        self.started = True
        self._step(self._send_start, _start(status, body, content_type, headers))

    def write(self, body: bytes) -> None:
        if self._sent_at_once(body):
            return
        if len(body) > PIECE:
            for piece, _ in pieces_of(body):
                self.write(piece)
            return
        self._step(self._send_body, {"type": "http.response.body", "body": body, "more_body": True})

    def _sent_at_once(self, body: bytes) -> bool:
        """Sent as one chunk, if nothing waits before it. An empty chunk would end the body."""
        if self._drain is not None or not 0 < len(body) <= PIECE:
            return False
        try:
            return self._send_chunk(body)
        except Exception:
            self._on_broken()
            raise

    def end(self, body: bytes) -> None:
        for piece, more in pieces_of(body):
            self._step(self._send_body, {"type": "http.response.body", "body": piece, "more_body": more})

    @property
    def ending(self) -> bool:
        """Is the last piece on its way, so that nothing more can be said?"""
        return self._ending

    def close(self) -> None:
        if self._drain is not None:
            self._drain.cancel()

    def forget_queued(self) -> None:
        """Drop the queued part of the body. Only whole messages are dropped, so the HTTP framing stays valid."""
        self._queue = deque(each for each in self._queue if "body" not in each[1])

    def _step(self, send: Send, message: Message) -> None:
        if self._drain is not None:
            self._put_off(send, message)
            return
        self._ending = not message.get("more_body", True)
        sending: Coroutine[Any, None, None] = send(message)  # type: ignore[assignment]
        try:
            waiting_for = sending.send(None)
        except StopIteration:
            return
        except Exception:
            self._on_broken()
            raise
        self._drain = asyncio.get_running_loop().create_task(self._finish(sending, waiting_for))

    def _put_off(self, send: Send, message: Message) -> None:
        """Queue a message, merged with the one before it if both together make no more than a piece."""
        body = message.get("body")
        last = self._queue[-1][1] if self._queue else {}
        if body is not None and "body" in last and len(last["body"]) + len(body) <= PIECE:
            last["body"] += body
            last["more_body"] = message["more_body"]
        else:
            self._queue.append((send, message if body is None else dict(message, body=bytearray(body))))
        self._lease.take(len(body or b""))  # if there is no room, this has already dropped the queue

    async def _finish(self, sending: Coroutine[Any, None, None], waiting_for: Any) -> None:
        try:
            await _resumed(sending, waiting_for)
            while self._queue:
                send, message = self._queue.popleft()
                self._lease.give_back(len(message.get("body", b"")))
                self._ending = not message.get("more_body", True)
                await send(message)
            self._drain = None
        except Exception:
            log.exception("an answer could not be sent")
            self._on_broken()


@types.coroutine
def _resumed(sending: Coroutine[Any, None, None], waiting_for: Any) -> Generator[Any, None, None]:
    """The rest of a coroutine that was stepped outside any task and stopped at the future `waiting_for`."""
    try:
        while True:
            yield waiting_for
            try:
                waiting_for = sending.send(None)
            except StopIteration:
                return
    finally:
        sending.close()
