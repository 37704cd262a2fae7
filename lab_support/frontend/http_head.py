"""What a client may send before an answer begins: one framing for one request, within limits. Runs in API servers.

uvicorn leaves this to a proxy in front of it. Here there is none, so the protocol class below it gets:

- Limits: the head of a request, its lines and its time; more is answered with 431 or 408.
- An offer to upgrade is ignored, as RFC 9110, 7.8 allows, and the body stays the body. llhttp takes the offer for
  accepted: it ends the message at its head, so that the body would be read as the next request (uvicorn#2722).
- An error behind a request that is being answered waits until that answer is whole. In the middle of it, it would be
  taken for a part of it.
- Fields behind the body (trailers) are not fields of the request: who checked its head has seen none of them.
- HTTP/1.0 knows no chunks: an answer of unknown length ends with the connection.
"""

import asyncio
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from lab_support.frontend.errors import ApiError

HEAD_BYTES = 64 * 1024  # of one request's line and fields; h11, nginx and Node.js allow 16 to 64 KiB
HEAD_FIELDS = 256  # as vLLM (--h11-max-header-count)
HEAD_SECONDS = 10.0  # from its first byte, or from the connection's first moment, to its last
LINGER_SECONDS = 2.0  # after a refusal what still comes is read and dropped, so that a reset does not destroy it
_OFFER = {b"upgrade", b"http2-settings"}


class HeadTooLarge(Exception):
    """Raised within the parser's callbacks, to make it stop."""


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with these guards. `refuse` ends a connection with an answer of our own."""

    _head_since: float | None = None  # loop.time() at which the head began that is not whole yet
    _unfinished_bytes = 0  # of that head, in earlier pieces
    _head_bytes = 0
    _in_head = True
    _refusal: ApiError | None = None  # to be sent once what is being answered is whole
    _drop_until: float | None = None  # refused: when it closes at last

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_since = self.loop.time()

    # ---- bytes in ---------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._refusal is not None or self._drop_until is not None:
            return
        self._unset_keepalive_if_required()
        begun_before = self._in_head and self._head_since is not None
        if self._in_head and self._head_since is None:
            self._head_since = self.loop.time()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._go_on_without_offer(data[offer.args[0] :])
        except httptools.HttpParserCallbackError as error:
            if not isinstance(error.__context__, HeadTooLarge):
                raise
            self.refuse(_too_large())
        except httptools.HttpParserError as error:
            self.refuse(ApiError(400, f"got bytes that are no HTTP request ({error})", None, "invalid_http"))
        else:
            if self._in_head and begun_before:
                self._unfinished_bytes += len(data)
                if self._unfinished_bytes > HEAD_BYTES:
                    self.refuse(_too_large())

    def _go_on_without_offer(self, rest: bytes) -> None:
        """Read the same head again without the offer, by a new parser, and then what follows it."""
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        if method == b"CONNECT":
            self.refuse(ApiError(501, "got CONNECT, which this server is no proxy for", None, "not_implemented"))
            return
        lines = [b"%s %s HTTP/%s" % (method, self.url, version), *_without_offer(self.headers), b"", b""]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.data_received(b"\r\n".join(lines) + rest)

    # ---- the parser's callbacks -------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0
        if self._head_since is None:  # behind another request, in the same piece
            self._head_since = self.loop.time()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        if not self._in_head:
            return
        if len(self.headers) >= HEAD_FIELDS:
            raise HeadTooLarge
        super().on_header(name, value)

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES:
            raise HeadTooLarge

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # `HttpParserUpgrade` comes next
        self._in_head, self._head_since, self._unfinished_bytes = False, None, 0
        super().on_headers_complete()
        if self.scope["http_version"] == "1.0":
            self.cycle.transport = cast(asyncio.Transport, Unchunked(self.transport))

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._in_head, self._head_bytes = True, 0
        super().on_message_complete()

    # ---- refusals ---------------------------------------------------------------------------------------------------

    def refuse(self, error: ApiError) -> None:
        """Read nothing more, answer so once all that came before is answered, and close."""
        self._refusal = error
        if not self._unanswered():
            self._send_refusal()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._refusal is not None and not self._unanswered() and not self.transport.is_closing():
            self._send_refusal()

    def _send_refusal(self) -> None:
        error, self._refusal = self._refusal, None
        assert error is not None
        self._unset_keepalive_if_required()
        body = error.body()
        fields = [b"content-type: application/json", b"content-length: %d" % len(body), b"connection: close"]
        self.transport.write(STATUS_LINE[error.status] + b"\r\n".join([*fields, b"", body]))
        self.transport.write_eof()
        self._drop_until = self.loop.time() + LINGER_SECONDS

    def look_at_time(self, now: float) -> None:
        """Called about once a second: has its client had time enough? `now` is the event loop's."""
        if self._drop_until is not None:
            if now >= self._drop_until:
                self.transport.abort()
        elif self._head_since is not None and now - self._head_since > HEAD_SECONDS and not self._unanswered():
            self._on_slow_head()

    def _on_slow_head(self) -> None:
        if self._begun():
            message = f"the head of a request did not arrive whole within {HEAD_SECONDS:g} seconds"
            self.refuse(ApiError(408, message, None, "head_timeout"))
        else:
            self.transport.close()  # it never said a word, so there is nothing to answer

    def _begun(self) -> bool:
        return bool(self._unfinished_bytes or self._head_bytes or getattr(self, "url", b""))

    def _unanswered(self) -> list[Any]:
        """Requests on this connection whose answers are not whole, oldest first."""
        newest = [self.cycle] if self.cycle is not None else []
        return [each for each in newest if not each.response_complete]


class Unchunked:
    """A transport for HTTP/1.0: takes off what uvicorn puts around each piece of an answer of unknown length."""

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
            data = rest[: int(size, 16)]
        self._transport.write(data)


def _too_large() -> ApiError:
    message = f"the head of the request is too large: allowed are {HEAD_BYTES} bytes in {HEAD_FIELDS} fields"
    return ApiError(431, message, None, "head_too_large")


def _without_offer(headers: list[tuple[bytes, bytes]]) -> list[bytes]:
    lines = []
    for name, value in headers:
        if name == b"connection":
            value = b", ".join(token for token in value.split(b",") if token.strip().lower() not in _OFFER)
        if name not in _OFFER and (value or name != b"connection"):
            lines.append(name + b": " + value)
    return lines
