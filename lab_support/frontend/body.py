"""A request's body, whole, within a deadline and a size: 415, 408 and 413 are decided here.

A client that is still sending when it is refused gets its answer: what it sends is read and dropped, up to a bound,
because closing a connection with unread bytes resets it and the answer may never be seen.
"""

import asyncio

from starlette.types import Receive, Scope

from lab_support.frontend.errors import ApiError

DISCARD_AT_MOST = 256 * 1024 * 1024  # bytes read and dropped before a refused client is cut off
_CLOSE = [(b"connection", b"close")]


class ClientGone(Exception):
    """The client hung up before its request was whole: there is nobody to answer."""


class BodyReader:
    """Reads bodies of at most `most` bytes that arrive within `timeout` seconds."""

    def __init__(self, most: int, timeout: float) -> None:
        self._most = most
        self._timeout = timeout

    async def read(self, scope: Scope, receive: Receive) -> bytes:
        """The body. Raises `ApiError` (408, 413, 415), or `ClientGone`."""
        headers = dict(scope["headers"])
        _check_content_type(headers.get(b"content-type", b""))
        _check_content_encoding(headers.get(b"content-encoding", b""))
        announced = headers.get(b"content-length", b"")
        if headers.get(b"expect") and announced.isdigit() and int(announced) > self._most:
            raise self._too_large(f"{int(announced)} bytes", finished=False)  # it waits for our word before it sends
        try:
            async with asyncio.timeout(self._timeout):
                return await self._collect(receive)
        except TimeoutError:
            raise ApiError(
                408,
                f"the body did not arrive whole within {self._timeout:g} seconds",
                code="body_timeout",
                headers=_CLOSE,
            ) from None

    async def _collect(self, receive: Receive) -> bytes:
        parts: list[bytes] = []
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            size += len(message["body"])
            more = message["more_body"]
            if size <= self._most:
                parts.append(message["body"])
            elif size > DISCARD_AT_MOST:
                raise self._too_large(f"more than {DISCARD_AT_MOST} bytes", finished=False)
            else:
                parts.clear()
        if size > self._most:
            raise self._too_large(f"{size} bytes", finished=True)
        return b"".join(parts)

    def _too_large(self, got: str, finished: bool) -> ApiError:
        return ApiError(
            413,
            f"the body is too large: got {got}, allowed are {self._most} bytes",
            code="body_too_large",
            headers=[] if finished else _CLOSE,
        )


def _check_content_type(content_type: bytes) -> None:
    """None at all is refused too, as in vLLM: a web page can send that, or text, to any server without asking it."""
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
        message = f"content-encoding: got {kind!r:.80}, allowed is none: send the JSON as it is"
        headers = [(b"accept-encoding", b"identity")]  # RFC 9110, 15.5.16
        raise ApiError(415, message, "content-encoding", "unsupported_content_encoding", headers=headers)
