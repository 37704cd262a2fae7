"""The layers that every request passes, outermost first: `Served` (headers, a log line), `Origins`, `ApiKey`, `Errors`.

`Origins` is in `http/origins.py`. All are plain ASGI around Starlette's router, because each of Starlette's own three
layers wraps `send`, and a streamed answer would pay for that.
"""

import hashlib
import hmac
import logging
import re
from collections.abc import Callable, Sequence
from time import monotonic

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lab_support.frontend.http.errors import ApiError, defect
from lab_support.frontend.http.memory import MemoryBudget
from lab_support.frontend.http.response import LEFT, RequestRecord, record_of, respond, respond_error

_GIVEN_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
MOST_SHOWN = 200  # characters of a path, in the log
_log = logging.getLogger("lab.api")


class Served:
    """Puts `x-served-by` and `x-request-id` on every answer and logs one line for each request.

    A client's own `x-request-id` is kept if it is short and plain, so that the client's logs and ours use the same id.
    publish: make this process's counts visible to all API servers, now. memory: the budget of all requests together.
    """

    def __init__(
        self,
        app: ASGIApp,
        served_by: str,
        on_answered: Callable[[int], None],
        publish: Callable[[], None],
        memory: MemoryBudget,
    ) -> None:
        self._app = app
        self._own = [(b"x-served-by", served_by.encode())]
        self._on_answered = on_answered
        self.publish = publish
        self.memory = memory

    def close_connections(self) -> None:
        """From now on, make each answer the last one on its connection, by `connection: close`."""
        self._own.append((b"connection", b"close"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        scope["path"] = scope["path"].removesuffix("/") or "/"  # no redirect, because it would lose a body
        record = scope["lab.record"] = RequestRecord(_request_id(scope), send)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                message["headers"] += [*self._own, (b"x-request-id", record.request_id.encode())]
            await send(message)

        started = monotonic()
        try:
            await self._app(scope, receive, send_with_headers)
        finally:
            self._note(scope, record, (monotonic() - started) * 1000)

    def _note(self, scope: Scope, record: RequestRecord, milliseconds: float) -> None:
        status = record.status or 499  # nginx's number for a client that left before its answer
        self._on_answered(status)
        record.trace.closed(status, scope.get(LEFT, ""))
        _log.info(
            "%s %s %d %.1f ms, tokens %d in %d out, %s%s",
            scope["method"],
            _shown(scope),
            status,
            milliseconds,
            record.prompt_tokens,
            record.completion_tokens,
            record.request_id,
            f", its client left ({scope[LEFT]})" if LEFT in scope else "",
        )


def _shown(scope: Scope) -> str:
    """The path as the client sent it: once decoded, a line feed in it could forge lines of our log."""
    path: str = scope.get("raw_path", b"").decode("latin-1") or scope["path"]
    path = path if len(path) <= MOST_SHOWN else path[:MOST_SHOWN] + "…"
    return path if path.isprintable() else ascii(path)


def _request_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _GIVEN_ID.fullmatch(value):
            return value.decode()
    return None


class ApiKey:
    """Requires `Authorization: Bearer` with one of the keys on every path but `open_paths`, even on unknown paths."""

    def __init__(self, app: ASGIApp, keys: Sequence[str], open_paths: frozenset[str]) -> None:
        self._app = app
        self._digests = [hashlib.sha256(key.encode()).digest() for key in keys]
        self._open_paths = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self._open_paths or self._admits(scope):
            await self._app(scope, receive, send)
        else:
            await respond_error(send, _unauthorized(scope))

    def _admits(self, scope: Scope) -> bool:
        kind, _, key = _authorization(scope).partition(b" ")
        # Digests have one length, so that comparing them tells nothing about the keys, not even their length.
        given = hashlib.sha256(key.strip()).digest()
        same = [hmac.compare_digest(given, each) for each in self._digests]  # all, so that time tells no index either
        return any(same) and kind.lower() == b"bearer"


def _authorization(scope: Scope) -> bytes:
    return next((value for name, value in scope["headers"] if name == b"authorization"), b"")


def _unauthorized(scope: Scope) -> ApiError:
    given = "another value" if _authorization(scope) else "none"
    return ApiError(
        401,
        f"authorization: got {given}, allowed is `Bearer` and this server's API key",
        "authorization",
        "invalid_api_key",
        headers=[(b"www-authenticate", b'Bearer realm="lab"')],
    )


class Errors:
    """Turns exceptions of the layers below into answers: our own errors, the router's 404 and 405, and defects."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self  # makes the router raise instead of sending its own error body
        try:
            await self._app(scope, receive, send)
        except ApiError as error:
            await respond_error(send, error)
        except HTTPException as error:
            await _respond_in_our_words(error, scope, send)
        except Exception as error:  # raised again, so that uvicorn logs it
            if not record_of(scope).status:
                await respond_error(send, defect(error))
            raise


async def _respond_in_our_words(error: HTTPException, scope: Scope, send: Send) -> None:
    path, method = scope["path"], scope["method"]
    if method == "OPTIONS" and path == "*":  # a question about the server as a whole
        return await respond(send, 200, b"", headers=[(b"allow", b"GET, HEAD, OPTIONS, POST")])
    if error.status_code != 405:
        message = f"got {path!r:.200}, which is not a route; /openapi.json lists all routes"
        return await respond_error(send, ApiError(error.status_code, message, None, "not_found"))
    allowed = _allowed_methods(error)
    headers = [(b"allow", allowed.encode())]
    if method == "OPTIONS":
        return await respond(send, 200, b"", headers=headers)
    message = f"{path!r:.200}: got {method}, allowed is {allowed}"
    await respond_error(send, ApiError(405, message, None, "method_not_allowed", headers=headers))


def _allowed_methods(error: HTTPException) -> str:
    """The router's own methods and OPTIONS, which is answered here for all routes."""
    known = (error.headers or {}).get("Allow", "").split(", ")
    return ", ".join(sorted({*known, "OPTIONS"}))
