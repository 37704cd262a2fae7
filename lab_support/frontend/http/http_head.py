"""What a client may send before an answer begins: one framing for one request, within limits. Runs in API servers.

uvicorn leaves this to a proxy in front of it. Here there is none, so the protocol class below it gets:

- Limits: the head of a request, its fields and its time; more is answered with 431 or 408. Requests behind one that
  is being answered, and bytes that belong to nothing, are counted, too.
- What can't be read in one way alone, or is not spoken here, is refused before anybody begins to answer it.
- An offer to upgrade is ignored, as RFC 9110, 7.8 allows, and the body stays the body. llhttp takes the offer for
  accepted: it ends the message at its head, so that the body would be read as the next request (uvicorn#2722).
- An error behind a request that is being answered waits until that answer is whole. In the middle of it, it would be
  taken for a part of it.
- Fields behind the body (trailers) are not fields of the request: who checked its head has seen none of them.
- HTTP/1.0 knows no chunks (unchunked.py).
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
HEAD_SECONDS = 10.0  # from its first byte, or from the connection's first moment, to its last
PIPELINED, PIPELINED_BYTES = 64, 256 * 1024  # requests, and what their bodies hold, behind one that is being answered
DROPPED_BYTES = 16 * 1024 * 1024  # read and dropped behind a refusal, before its sender is cut off
UNASKED_BYTES, UNASKED_SECONDS = 1024 * 1024, 10.0  # of a body that still comes although its request is answered
LINGER_SECONDS = 2.0  # after a refusal what still comes is read and dropped, so that a reset does not destroy it
_TOO_MUCH_WAITS = (
    f"got more behind a request that is being answered than {PIPELINED} requests with {PIPELINED_BYTES} bytes in their "
    "bodies; wait for answers"
)
_OFFER = {b"upgrade", b"http2-settings"}


log = logging.getLogger("lab.api")


class Refused(Exception):
    """Raised within the parser's callbacks, to make it stop. `error` is what the client is to hear."""

    def __init__(self, error: ApiError) -> None:
        self.error = error


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with these guards. `refuse` ends a connection with an answer of our own."""

    _head_since: float | None = None  # loop.time() at which the head began that is not whole yet
    _head_bytes = 0  # of that head, or of the trailers, as far as they were understood
    _body_since: float | None = None  # … and of the request whose head was whole last
    _answered_at: float | None = None  # when the last answer was whole
    _idle_bytes = 0  # that came since the parser last understood something
    _in_head = True
    _waiting_bytes = 0  # of bodies behind the request that is being answered
    _unasked_since: float | None = None  # when a request was answered whose body still comes
    _unasked_bytes = 0
    _ending = False  # nothing more is read, but dropped
    _refusal: ApiError | None = None  # to be sent once what is being answered is whole
    _dropped_bytes = 0
    _drop_until: float | None = None  # all has been said: when it closes at last

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
            self._on_nonsense(ApiError(400, f"got bytes that are no HTTP request ({error})", None, "invalid_http"))
        else:
            if self._idle_bytes > HEAD_BYTES + len(data):
                self._on_nonsense(_too_large())

    def _on_error_in_callback(self, error: BaseException | None) -> None:
        if isinstance(error, Refused):
            self._on_nonsense(error.error)
            return
        if not isinstance(error, httptools.HttpParserInvalidURLError | UnicodeDecodeError):
            log.error("a request could not be read", exc_info=error)
        self._on_nonsense(ApiError(400, "got a target that is no path", None, "invalid_http"))

    def _drop(self, size: int) -> None:
        """It is read all the same: behind the last byte stands the client's FIN, and a reset destroys what we said."""
        self._dropped_bytes += size
        if self._dropped_bytes > DROPPED_BYTES:
            self.transport.abort()

    def _on_nonsense(self, error: ApiError) -> None:
        """Of the request that is being read. If it is half read it gets this answer, and no other."""
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
            self.cycle.waiting_for_100_continue = False  # that version has no such answer
        elif self.expect_100_continue:
            self.cycle.keep_alive = False  # if it is answered without its body, the body may or may not come

    def _check(self, version: str) -> None:
        """Before anybody begins to answer. llhttp finds some of this itself, but only afterwards."""
        if version not in ("1.0", "1.1"):
            raise Refused(ApiError(505, f"got HTTP/{version}, allowed are 1.0 and 1.1", None, "http_version"))
        codings = [value for name, value in self.headers if name == b"transfer-encoding"]
        if codings and (len(codings) > 1 or codings[0].strip().lower() != b"chunked" or version == "1.0"):
            got = b", ".join(codings).decode("latin-1")
            message = f"transfer-encoding: got {got!r:.80} in HTTP/{version}, allowed is chunked in HTTP/1.1"
            raise Refused(ApiError(501, message, "transfer-encoding", "not_implemented"))
        if sum(name == b"host" for name, _ in self.headers) > 1:  # RFC 9112, 3.2; a proxy may have believed the other
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
        """Read nothing more, answer so once all that came before is answered, and close."""
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
        """Called about once a second: has its client had time enough? `now` is the event loop's."""
        if self._drop_until is not None:
            if now >= self._drop_until:
                self.transport.abort()
        elif self._unasked_since is not None and now - self._unasked_since > UNASKED_SECONDS:
            self.transport.close()
        elif self._head_since is not None and now - self._head_since > HEAD_SECONDS and not self._unanswered():
            self._on_slow_head()

    def _on_slow_head(self) -> None:
        if self._idle_bytes or self._head_bytes:
            message = f"the head of a request did not arrive whole within {HEAD_SECONDS:g} seconds"
            self.refuse(ApiError(408, message, None, "head_timeout"))
        else:
            self.transport.close()  # it never said a word, so there is nothing to answer

    @property
    def idle_since(self) -> float | None:
        """When its last request was answered, where no byte of another has come; loop.time()."""
        return self._answered_at if self._head_since is None and not self._unanswered() else None

    @property
    def unfinished_since(self) -> float | None:
        """When the request began that is not whole, or the connection on which nothing was ever said; loop.time()."""
        unanswered = self._unanswered()
        if not unanswered:
            return self._head_since
        return self._body_since if len(unanswered) == 1 and self.cycle.more_body else None

    def _unanswered(self) -> list[Any]:
        """Requests on this connection whose answers are not whole, oldest first."""
        raise NotImplementedError


class _Flow(FlowControl):
    """Reads on while requests wait, which uvicorn does not: only a reader comes to the client's FIN.

    Where the client's own kernel still holds bytes that nobody reads, the FIN is behind them and has not even been
    sent. So what waits is bounded by dropping it (`PIPELINED_BYTES`), and not by leaving it unread.
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
    """A target may be `http://host`, without the slash that uvicorn looks for (RFC 9112, 3.2.2)."""
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
