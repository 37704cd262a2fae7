"""Guards for the bytes that clients send: limits, and only unambiguous requests. Runs in API servers.

uvicorn leaves this to a proxy in front of it. Here there is none, so `GuardedProtocol` adds to uvicorn's protocol:

- Limits on a request's head: its bytes, its fields and its time; beyond them the answer is 431 or 408. Limits also on
  requests that wait behind one being answered, and on bytes that belong to no request.
- A request that can be read in two ways, or that uses a protocol not spoken here, is refused before anything answers
  it.
- An offer to upgrade is ignored, as RFC 9110, 7.8 allows, and the body stays the body. llhttp treats the offer as
  accepted: it ends the message after the head, so that the body would be read as the next request (uvicorn#2722).
- An error that follows a request being answered waits until that answer is complete, because in the middle it would be
  taken for a part of the answer.
- Fields behind the body (trailers) are not added to the request, because no check of its head has seen them.
- HTTP/1.0 has no chunks (http/unchunked.py).
"""

import asyncio
import logging
from typing import Any, cast

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from lab_support.frontend.http.errors import ApiError
from lab_support.frontend.http.unchunked import Unchunked

HEAD_BYTES = 64 * 1024  # of one request's line and fields; h11, nginx and Node.js allow 16 to 64 KiB
HEAD_FIELDS = 256  # as vLLM (--h11-max-header-count)
HEAD_SECONDS = 10.0  # from its first byte, or from the start of the connection, to its last byte
PIPELINED, PIPELINED_BYTES = 64, 256 * 1024  # requests, and bytes of their bodies, behind one being answered
DROPPED_BYTES = 16 * 1024 * 1024  # read and dropped after a refusal, before the client is cut off
UNASKED_BYTES, UNASKED_SECONDS = 1024 * 1024, 10.0  # of a body that still arrives after its request was answered
LINGER_SECONDS = 2.0  # further input is read and dropped after a refusal, so that no reset destroys the refusal
_TOO_MUCH_WAITS = (
    f"got too much behind a request that is being answered, allowed are {PIPELINED} requests with {PIPELINED_BYTES} "
    "bytes in their bodies; wait for answers"
)
_OFFER = {b"upgrade", b"http2-settings"}


log = logging.getLogger("lab.api")


class Refused(Exception):
    """Raised in the parser's callbacks to stop the parser. `error` is the client's answer."""

    def __init__(self, error: ApiError) -> None:
        self.error = error


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with these guards. `refuse` ends a connection with an error answer."""

    _head_since: float | None = None  # loop.time() at which the incomplete head began
    _head_bytes = 0  # parsed bytes of that head, or of the trailers
    _body_since: float | None = None  # loop.time() at which the last complete head began
    _answered_at: float | None = None  # loop.time() at which the last answer was complete
    _idle_bytes = 0  # received since the parser last recognised something
    _in_head = True
    _waiting_bytes = 0  # of bodies behind the request being answered
    _unasked_since: float | None = None  # when a request was answered whose body still arrives
    _unasked_bytes = 0
    _ending = False  # further input is dropped
    _refusal: ApiError | None = None  # sent once the answers before it are complete
    _dropped_bytes = 0
    _drop_until: float | None = None  # everything has been sent: loop.time() at which the connection closes

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = _Flow(self, transport)
        self._head_since = self.loop.time()

    # ---- bytes in ---------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._ending:
            self._drop(len(data))
            return
        self._unset_keepalive_if_required()
        if self._in_head and self._head_since is None:
            self._head_since = self.loop.time()
        self._idle_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._go_on_without_offer(data[offer.args[0] :])
        except httptools.HttpParserCallbackError as error:
            self._on_error_in_callback(error.__context__)
        except httptools.HttpParserError as error:
            self._on_nonsense(ApiError(400, f"got bytes that are not an HTTP request ({error})", None, "invalid_http"))
        else:
            if self._idle_bytes > HEAD_BYTES + len(data):
                self._on_nonsense(_too_large())

    def _on_error_in_callback(self, error: BaseException | None) -> None:
        if isinstance(error, Refused):
            self._on_nonsense(error.error)
            return
        if not isinstance(error, httptools.HttpParserInvalidURLError | UnicodeDecodeError):
            log.error("a request could not be read", exc_info=error)
        self._on_nonsense(ApiError(400, "got a target that is not a path", None, "invalid_http"))

    def _drop(self, size: int) -> None:
        """Drop input, but read it: the client's FIN follows it, and a reset would destroy our last answer."""
        self._dropped_bytes += size
        if self._dropped_bytes > DROPPED_BYTES:
            self.transport.abort()

    def _on_nonsense(self, error: ApiError) -> None:
        """Refuse the request being read. If its body is incomplete, this is its only answer."""
        if not self._in_head:
            if self.cycle.response_started:
                self._end(None)  # one request, one answer
                return
            if self.pipeline and self.pipeline[0][0] is self.cycle:
                self.pipeline.popleft()
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.refuse(error)

    def _go_on_without_offer(self, rest: bytes) -> None:
        """Read the same head again without the offer, by a new parser, and then what follows it."""
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        if method == b"CONNECT":
            self.refuse(ApiError(501, "got CONNECT, but this server is not a proxy", None, "not_implemented"))
            return
        lines = [b"%s %s HTTP/%s" % (method, self.url, version), *_without_offer(self.headers), b"", b""]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.data_received(b"\r\n".join(lines) + rest)

    # ---- the parser's callbacks -------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0
        if self._head_since is None:  # it follows another request in the same piece
            self._head_since = self.loop.time()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        if not self._in_head:
            return
        if len(self.headers) >= HEAD_FIELDS:
            raise Refused(_too_large())
        super().on_header(name, value)

    def _count(self, size: int) -> None:
        self._idle_bytes = 0
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES:
            raise Refused(_too_large())

    def on_headers_complete(self) -> None:
        version = self.parser.get_http_version()
        self._check(version)
        self.url = _with_path(self.url)
        if self.parser.should_upgrade():
            return  # `HttpParserUpgrade` comes next
        super().on_headers_complete()
        self._body_since = self._head_since
        self._in_head, self._head_since, self._idle_bytes = False, None, 0
        if version == "1.0":
            self.cycle.transport = cast(asyncio.Transport, Unchunked(self.transport))
            self.cycle.waiting_for_100_continue = False  # HTTP/1.0 has no such answer
        elif self.expect_100_continue:
            self.cycle.keep_alive = False  # if it is answered before its body, the body may or may not follow

    def _check(self, version: str) -> None:
        """Check the head before anything answers it. llhttp checks some of this itself, but only afterwards."""
        if version not in ("1.0", "1.1"):
            raise Refused(ApiError(505, f"got HTTP/{version}, allowed are 1.0 and 1.1", None, "http_version"))
        codings = [value for name, value in self.headers if name == b"transfer-encoding"]
        if codings and (len(codings) > 1 or codings[0].strip().lower() != b"chunked" or version == "1.0"):
            got = b", ".join(codings).decode("latin-1")
            message = f"transfer-encoding: got {got!r:.80} in HTTP/{version}, allowed is chunked in HTTP/1.1"
            raise Refused(ApiError(501, message, "transfer-encoding", "not_implemented"))
        if sum(name == b"host" for name, _ in self.headers) > 1:  # RFC 9112, 3.2; a proxy may have used the other one
            raise Refused(ApiError(400, "got more than one Host field, allowed is one", "host", "invalid_http"))
        if len(self.pipeline) >= PIPELINED:
            raise Refused(ApiError(400, _TOO_MUCH_WAITS, None, "too_many_pipelined"))

    def on_body(self, body: bytes) -> None:
        self._idle_bytes = 0
        if self.pipeline:
            self._waiting_bytes += len(body)
            if self._waiting_bytes > PIPELINED_BYTES:
                raise Refused(ApiError(413, _TOO_MUCH_WAITS, None, "too_many_pipelined"))
        if self.cycle.response_complete:
            self._unasked_bytes += len(body)
            if self._unasked_bytes > UNASKED_BYTES:
                self._end(None)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._in_head, self._head_bytes, self._idle_bytes = True, 0, 0
        self._unasked_since, self._unasked_bytes = None, 0
        super().on_message_complete()

    # ---- refusals ---------------------------------------------------------------------------------------------------

    def refuse(self, error: ApiError) -> None:
        """Read nothing more, send this error once all earlier requests are answered, and close."""
        self._end(error)

    def _end(self, error: ApiError | None) -> None:
        if self._ending or self.transport.is_closing():
            return
        self._ending, self._refusal = True, error
        if not self._unanswered():
            self._say_last()

    def on_response_complete(self) -> None:
        self._answered_at = self.loop.time()
        if not self.pipeline:
            self._waiting_bytes = 0
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if self._ending and not self._unanswered():
            self._say_last()
        elif not self._in_head and self.cycle.response_complete:
            self._unasked_since = self._answered_at

    def _say_last(self) -> None:
        self._unset_keepalive_if_required()
        if error := self._refusal:
            body = error.body()
            fields = [b"content-type: application/json", b"content-length: %d" % len(body), b"connection: close"]
            self.transport.write(STATUS_LINE[error.status] + b"\r\n".join([*fields, b"", body]))
        self.transport.write_eof()
        self._drop_until = self.loop.time() + LINGER_SECONDS

    def look_at_time(self, now: float) -> None:
        """End the connection if its client is too slow. Called about once a second; `now` is the event loop's time."""
        if self._drop_until is not None:
            if now >= self._drop_until:
                self.transport.abort()
        elif self._unasked_since is not None and now - self._unasked_since > UNASKED_SECONDS:
            self.transport.close()
        elif self._head_since is not None and now - self._head_since > HEAD_SECONDS and not self._unanswered():
            self._on_slow_head()

    def _on_slow_head(self) -> None:
        if self._idle_bytes or self._head_bytes:
            message = f"the head of a request did not arrive completely within {HEAD_SECONDS:g} seconds"
            self.refuse(ApiError(408, message, None, "head_timeout"))
        else:
            self.transport.close()  # its client never sent a byte, so there is nothing to answer

    @property
    def idle_since(self) -> float | None:
        """loop.time() at which its last request was answered; None if bytes of another have come."""
        return self._answered_at if self._head_since is None and not self._unanswered() else None

    @property
    def unfinished_since(self) -> float | None:
        """loop.time() at which its incomplete request began, or the connection itself if no byte ever came."""
        unanswered = self._unanswered()
        if not unanswered:
            return self._head_since
        return self._body_since if len(unanswered) == 1 and self.cycle.more_body else None

    def _unanswered(self) -> list[Any]:
        """Requests on this connection whose answers are incomplete, oldest first."""
        raise NotImplementedError


class _Flow(FlowControl):
    """Keeps reading while requests wait, which uvicorn does not, because only reading reaches the client's FIN.

    While the client's own kernel still holds unsent bytes, the FIN is behind them and has not been sent either. So
    waiting requests are bounded by a refusal (`PIPELINED_BYTES`), and not by leaving them unread.
    """

    def __init__(self, connection: GuardedProtocol, transport: asyncio.Transport) -> None:
        super().__init__(transport)
        self._connection = connection

    def pause_reading(self) -> None:
        if not self._connection.pipeline:
            super().pause_reading()


def _too_large() -> ApiError:
    message = f"the head of the request is too large: allowed are {HEAD_BYTES} bytes in {HEAD_FIELDS} fields"
    return ApiError(431, message, None, "head_too_large")


def _with_path(url: bytes) -> bytes:
    """Add the slash that uvicorn expects: a target may be `http://host` without one (RFC 9112, 3.2.2)."""
    scheme, separator, rest = url.partition(b"://")
    if separator and scheme.lower() in (b"http", b"https") and b"/" not in rest:
        host, question, query = rest.partition(b"?")
        return b"%s://%s/%s%s" % (scheme, host, question, query)
    return url


def _without_offer(headers: list[tuple[bytes, bytes]]) -> list[bytes]:
    lines = []
    for name, value in headers:
        if name == b"connection":
            value = b", ".join(token for token in value.split(b",") if token.strip().lower() not in _OFFER)
        if name not in _OFFER and (value or name != b"connection"):
            lines.append(name + b": " + value)
    return lines
