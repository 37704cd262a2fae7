"""An ASGI application under aiohttp's low-level server: as little between the two as there can be."""

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import unquote

from aiohttp import web
from starlette.types import ASGIApp, Message, Scope

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def handler_for(app: ASGIApp) -> Handler:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        exchange = Exchange(request)
        await app(scope_of(request), exchange.receive, exchange.send)
        return exchange.response

    return handle


def scope_of(request: web.BaseRequest) -> Scope:
    path, _, query = request.raw_path.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": f"{request.version.major}.{request.version.minor}",
        "method": request.method,
        "scheme": "http",
        "path": unquote(path) if "%" in path else path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.raw_headers],
        "client": request.transport and request.transport.get_extra_info("peername"),
        "server": request.transport and request.transport.get_extra_info("sockname"),
        "state": {},
    }


class Exchange:
    """`receive` and `send` of one request. A client that leaves cancels the handler, so no message is needed."""

    def __init__(self, request: web.BaseRequest) -> None:
        self._request = request
        self._read = False
        self._whole = asyncio.Event()
        self.response = web.StreamResponse()

    async def receive(self) -> Message:
        if not self._read:
            self._read = True
            return {"type": "http.request", "body": await self._request.read(), "more_body": False}
        await self._whole.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.response = web.StreamResponse(status=message["status"])
            for name, value in message["headers"]:
                self.response.headers.add(name.decode("latin-1"), value.decode("latin-1"))
            await self.response.prepare(self._request)
            return
        if body := message.get("body"):
            await self.response.write(body)
        if not message.get("more_body"):
            await self.response.write_eof()
            self._whole.set()
