"""Allows requests of this server's own web page and of `--allowed-origins`; others get 403, and so do preflights.

A browser sends the requests of any page that it shows, also to this machine, and only adds the page's origin. It keeps
the answer from a foreign page, but the server has handled the request by then. So the server checks the origin first.
Programs other than browsers send no Origin. `Host` is not checked, because proxies set it.
"""

import re
from collections.abc import Awaitable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lab_support.frontend.http.errors import ApiError
from lab_support.frontend.http.response import Headers, respond, respond_error

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_METHODS = b"GET, HEAD, POST, OPTIONS"
_EXPOSED = b"x-served-by, x-engine, x-stand-in, x-request-id, retry-after"
_HEADER_NAMES = re.compile(rb"[A-Za-z0-9_, -]+")


class Origins:
    """Passes requests without an origin, and those of an allowed one; their answers get CORS headers.

    host: from `--host`; allowed: from `--allowed-origins`, where '*' means all.
    """

    def __init__(self, app: ASGIApp, host: str, allowed: tuple[str, ...]) -> None:
        self._app = app
        self._host = host
        self._allowed = frozenset(allowed)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Not a coroutine itself, because nearly all requests have no Origin."""
        given = [value.decode("latin-1") for name, value in scope.get("headers", ()) if name == b"origin"]
        return self._judge(given, scope, receive, send) if given else self._app(scope, receive, send)

    async def _judge(self, given: list[str], scope: Scope, receive: Receive, send: Send) -> None:
        own = own_origins(self._host, scope.get("server"))
        if "*" not in self._allowed and not self._allowed.issuperset(set(given) - set(own)):
            return await respond_error(send, _refused(given, own))
        headers = self._cors_headers(given[0])
        asked = dict(scope["headers"])
        if scope["method"] == "OPTIONS" and b"access-control-request-method" in asked:
            headers += _preflight_headers(asked.get(b"access-control-request-headers", b""))
            return await respond(send, 200, b"", headers=headers)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += headers
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def _cors_headers(self, origin: str) -> Headers:
        shared = [(b"access-control-expose-headers", _EXPOSED)]
        if "*" in self._allowed:
            return [(b"access-control-allow-origin", b"*"), *shared]
        return [(b"access-control-allow-origin", origin.encode("latin-1")), (b"vary", b"origin"), *shared]


def own_origins(host: str, server: tuple[str, int | None] | None) -> list[str]:
    """The origins of this server's own page. server: the server's end of the connection, which has the bound port."""
    address, port = server or ("", None)
    if port is None:  # a Unix socket, which browsers can't use
        return []
    names = dict.fromkeys((*LOOPBACK, host.lower(), address.removeprefix("::ffff:")))
    suffix = "" if port == 80 else f":{port}"
    return [f"http://{f'[{name}]' if ':' in name else name}{suffix}" for name in names]


def _preflight_headers(wanted: bytes) -> Headers:
    """`wanted`: names of headers that the page wants to send; all are allowed."""
    allowed = [(b"access-control-allow-headers", wanted)] if _HEADER_NAMES.fullmatch(wanted) else []
    return [(b"access-control-allow-methods", _METHODS), *allowed, (b"access-control-max-age", b"600")]


def _refused(given: list[str], own: list[str]) -> ApiError:
    allowed = f"{', '.join(own)} and those of --allowed-origins" if own else "one of --allowed-origins"
    message = f"origin: got {', '.join(given)!r:.200}, allowed is {allowed}"
    return ApiError(403, message, "origin", "origin_not_allowed")
