"""Reads a request's whole body within a deadline and a size limit: 415, 408 and 413 are decided here.

When the server's memory is full the answer is 503, for a body whose announced length does not fit, and for the largest
one (http/memory.py).

A client that is still sending when it is refused gets its answer: the rest is read and dropped, up to a bound, because
closing a connection with unread bytes resets it, and the client may never see the answer. A client that waits for
`100 Continue` before it sends (`Expect`) is answered at once.
"""

import asyncio
from collections.abc import AsyncIterator

from starlette.types import Receive, Scope

from lab_support.frontend.http.density import weight
from lab_support.frontend.http.errors import ApiError
from lab_support.frontend.http.memory import Lease, no_room

DISCARD_AT_MOST = 256 * 1024 * 1024  # bytes read and dropped before a refused client is cut off
_CLOSE = [(b"connection", b"close")]


class ClientGone(Exception):
    """The client hung up before its request was complete, so there is no client to answer."""


class BodyReader:
    """Reads bodies of at most `most` bytes that arrive within `timeout` seconds."""

    def __init__(self, most: int, timeout: float) -> None:
        self._most = most
        self._timeout = timeout

    async def read(self, scope: Scope, receive: Receive, lease: Lease) -> bytes:
        """The body; `lease` counts it, and everything made from it.

        Raises `ApiError` (408, 413, 415, 503), or `ClientGone`.
        """
        headers = dict(scope["headers"])
        _check_content_type(headers.get(b"content-type", b""))
        _check_content_encoding(headers.get(b"content-encoding", b""))
        announced = headers.get(b"content-length", b"")
        length = int(announced) if announced.isdigit() else 0
        fits = length > self._most or lease.has_room_for(length)
        if headers.get(b"expect"):
            self._check_announced(length, fits)
        try:
            async with asyncio.timeout(self._timeout):
                body = await self._collect(receive, lease, fits)
        except TimeoutError:
            error = no_room() if lease.revoked else self._too_slow()
            error.headers += _CLOSE
            raise error from None
        lease.set_held(weight(body))
        return body

    def _check_announced(self, length: int, fits: bool) -> None:
        if length > self._most:
            raise self._too_large(f"{length} bytes", finished=False)
        if not fits:
            raise no_room()

    async def _collect(self, receive: Receive, lease: Lease, fits: bool) -> bytes:
        """The body. A body that does not fit, or has been given up, is dropped as it arrives."""
        parts: list[bytes] = []
        lease.on_revoke = parts.clear
        if not fits:
            lease.revoke()
        size = 0
        async for piece in _pieces(receive):
            size += len(piece)
            if size > DISCARD_AT_MOST:
                raise self._too_large(f"more than {DISCARD_AT_MOST} bytes", finished=False)
            if size > self._most:
                parts.clear()
                lease.give_back(lease.held)
            elif lease.take(len(piece)):
                parts.append(piece)
        if size > self._most:
            raise self._too_large(f"{size} bytes", finished=True)
        if lease.revoked:
            raise no_room()
        lease.on_revoke = None
        return b"".join(parts)

    def _too_slow(self) -> ApiError:
        return ApiError(
            408, f"the body did not arrive completely within {self._timeout:g} seconds", code="body_timeout"
        )

    def _too_large(self, got: str, finished: bool) -> ApiError:
        return ApiError(
            413,
            f"the body is too large: got {got}, allowed are {self._most} bytes",
            code="body_too_large",
            headers=[] if finished else _CLOSE,
        )


async def _pieces(receive: Receive) -> AsyncIterator[bytes]:
    """The body's pieces as they arrive. Raises `ClientGone`."""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        yield message["body"]
        more = message["more_body"]


def _check_content_type(content_type: bytes) -> None:
    """Refuse a missing content type too, as vLLM does: a web page may send that, or text, to any server unasked."""
    kind = content_type.decode("latin-1").split(";")[0].strip().lower()
    if kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json")):
        return
    got = f"{kind!r:.80}" if kind else "none"
    raise ApiError(
        415, f"content-type: got {got}, allowed is application/json", "content-type", "unsupported_media_type"
    )


def _check_content_encoding(encoding: bytes) -> None:
    kind = encoding.decode("latin-1").strip().lower()
    if kind not in ("", "identity"):
        message = f"content-encoding: got {kind!r:.80}, allowed is none: send the JSON uncompressed"
        headers = [(b"accept-encoding", b"identity")]  # RFC 9110, 15.5.16
        raise ApiError(415, message, "content-encoding", "unsupported_content_encoding", headers=headers)
