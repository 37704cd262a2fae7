"""Ways to send an answer through ASGI: whole from a coroutine, or piece by piece from a plain callback.

An ASGI `send` is a coroutine, but uvicorn's waits only while the client reads too slowly. So a callback can step it
once and it is done: a streamed token costs no task switch. Where it does wait, a task finishes it and what comes
meanwhile is queued; the queue is bounded by what one answer can hold.
"""

import asyncio
import logging
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from starlette.types import Message, Scope, Send

from lab_support.frontend.errors import ApiError

log = logging.getLogger("lab.api")

JSON = b"application/json"
EVENT_STREAM = b"text/event-stream; charset=utf-8"
Headers = list[tuple[bytes, bytes]]
LEFT = "lab.left"
"""In a request's scope once its client has left before the answer was whole: how that was seen."""


class RequestRecord:
    """What is noted of one request while it is answered: for its headers and its one line in the log."""

    __slots__ = ("completion_tokens", "prompt_tokens", "request_id", "send_body", "status")

    def __init__(self, request_id: str, send_body: Send) -> None:
        self.request_id = request_id
        self.send_body = send_body  # the server's own `send`, for messages that no middleware looks at
        self.status = 0
        self.prompt_tokens = 0
        self.completion_tokens = 0


def record_of(scope: Scope) -> RequestRecord:
    """The record that `middleware.Served` made for this request."""
    record: RequestRecord = scope["lab.record"]
    return record


async def respond(
    send: Send, status: int, body: bytes, content_type: bytes = JSON, headers: Headers | None = None
) -> None:
    """Send a whole answer."""
    await send(_start(status, body, content_type, headers or []))
    await send({"type": "http.response.body", "body": body})


async def respond_error(send: Send, error: ApiError) -> None:
    await respond(send, error.status, error.body(), JSON, error.headers)


def _start(status: int, body: bytes | None, content_type: bytes, headers: Headers) -> Message:
    own = [(b"content-type", content_type)] if body != b"" else []
    if body is not None:
        own.append((b"content-length", b"%d" % len(body)))
    return {"type": "http.response.start", "status": status, "headers": own + headers}


class CallbackWriter:
    """One request's answer, sent from callbacks of the event loop in which the request's task waits.

    Nothing here waits. `close` forgets what a slow client has not taken yet. The body goes past the middleware, which
    looks at status and headers alone: three coroutines less for each token.
    on_broken: called where sending raised, so that nothing will ever end this answer.
    """

    __slots__ = ("_drain", "_on_broken", "_queue", "_send_body", "_send_start", "started")

    def __init__(self, send_start: Send, send_body: Send, on_broken: Callable[[], object]) -> None:
        self._send_start = send_start
        self._send_body = send_body
        self._on_broken = on_broken
        self._drain: asyncio.Task[None] | None = None
        self._queue: list[Message] = []
        self.started = False

    def start(self, status: int, content_type: bytes, headers: Headers, body: bytes | None = None) -> None:
        """Status and headers; with a content-length if the whole `body` is known."""
        self.started = True
        self._step(self._send_start, _start(status, body, content_type, headers))

    def write(self, body: bytes) -> None:
        self._step(self._send_body, {"type": "http.response.body", "body": body, "more_body": True})

    def end(self, body: bytes) -> None:
        self._step(self._send_body, {"type": "http.response.body", "body": body, "more_body": False})

    def close(self) -> None:
        if self._drain is not None:
            self._drain.cancel()

    def _step(self, send: Send, message: Message) -> None:
        if self._drain is not None:
            self._queue.append(message)
            return
        sending: Coroutine[Any, None, None] = send(message)  # type: ignore[assignment]
        try:
            waiting_for = sending.send(None)
        except StopIteration:
            return
        except Exception:
            self._on_broken()
            raise
        self._drain = asyncio.get_running_loop().create_task(self._finish(sending, waiting_for))

    async def _finish(self, sending: Coroutine[Any, None, None], waiting_for: Any) -> None:
        try:
            await _resumed(sending, waiting_for)
            while self._queue:
                queued, self._queue = self._queue, []
                for message in queued:
                    await self._send_body(message)
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
