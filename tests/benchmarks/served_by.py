"""One process that serves the real application by one of several HTTP servers, with a fake engine behind it.

`python -m tests.benchmarks.served_by SERVER PORT STEP_SECONDS`; it ends when the process that started it ends. All but
granian take a listening socket that was made elsewhere, and all run in this process's one uvloop. Only the chosen
server's packages are imported; the others need not be installed.
"""

import asyncio
import ctypes
import logging
import socket
import sys
from collections.abc import Awaitable, Callable

import uvloop
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lab_support.config import ServerConfig
from lab_support.frontend.http.middleware import Served
from lab_support.frontend.routes import Identity, build_app
from lab_support.frontend.text.tokenizer import Tokenizer
from lab_support.model_folder import ModelFolder
from tests.fakes import FakeCounters, FakeEngine

PR_SET_PDEATHSIG, SIGKILL = 1, 9
Serve = Callable[[Served, int], Awaitable[None]]


def make_app(step_seconds: float) -> Served:
    """To be called in the event loop that will serve it."""
    config = ServerConfig()
    folder = ModelFolder.open(config.model, "dummy")
    engine = FakeEngine(step_seconds=step_seconds)
    identity = Identity(0, "run-of-a-benchmark", "0.0", 0)
    return build_app(config, folder, Tokenizer.open(folder), engine.client, FakeCounters(), identity)


async def serve_own(app: Served, port: int) -> None:
    """uvicorn and httptools with the project's own server and connection class."""
    from lab_support.boundary.accept import OpenConnections, SharedAccept
    from lab_support.boundary.counters import Counters
    from lab_support.frontend.http.http_server import HttpServer

    with _listening(port) as listening, Counters(1) as counters:
        connections = OpenConnections(counters.claim(0))
        acceptor = SharedAccept(listening, 2048, connections)
        await HttpServer(app, acceptor, connections, on_started=lambda: None).run_to_end()


async def serve_httptools(app: Served, port: int) -> None:
    await _serve_by_uvicorn(app, port, "httptools")


async def serve_h11(app: Served, port: int) -> None:
    await _serve_by_uvicorn(app, port, "h11")


async def _serve_by_uvicorn(app: ASGIApp, port: int, http: str) -> None:
    import uvicorn

    config = uvicorn.Config(
        app, http=http, ws="none", lifespan="off", log_config=None, access_log=False, proxy_headers=False,
        server_header=False, timeout_keep_alive=5,
    )  # type: ignore[arg-type]  # fmt: skip
    with _listening(port) as listening:
        await uvicorn.Server(config).serve(sockets=[listening])


async def serve_hypercorn(app: Served, port: int) -> None:
    import hypercorn
    from hypercorn.app_wrappers import ASGIWrapper
    from hypercorn.asyncio.run import worker_serve
    from hypercorn.config import Sockets

    config = hypercorn.Config()
    config.include_server_header, config.errorlog = False, None
    config.keep_alive_max_requests = 1 << 60
    with _listening(port) as listening:
        sockets = Sockets([], [listening], [])
        await worker_serve(ASGIWrapper(without_lifespan(app)), config, sockets=sockets)  # type: ignore[arg-type]


async def serve_granian(app: Served, port: int) -> None:
    """In this event loop by its embedded server; its sockets and its parser live in threads of its own."""
    from granian.constants import HTTPModes, Interfaces
    from granian.server.embed import Server

    server = Server(
        coroutine_send(app), address="127.0.0.1", port=port, interface=Interfaces.ASGINL,
        http=HTTPModes.http1, websockets=False, log_enabled=False,
    )  # fmt: skip
    await server.serve()


async def serve_aiohttp(app: Served, port: int) -> None:
    from aiohttp import web

    from tests.benchmarks.asgi_on_aiohttp import handler_for

    server = web.Server(handler_for(app), access_log=None, keepalive_timeout=5, handler_cancellation=True)
    with _listening(port) as listening:
        running = await asyncio.get_running_loop().create_server(server, sock=listening)
        await running.serve_forever()


def without_lifespan(app: ASGIApp) -> ASGIApp:
    """For servers that insist on asking: an application that raises is taken for one without a lifespan."""

    async def http_only(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        await app(scope, receive, send)

    return http_only


def coroutine_send(app: ASGIApp) -> ASGIApp:
    """Each message in a coroutine: granian's own awaitable has no `send`, by which our callbacks step it."""

    async def stepped(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_one(message: Message) -> None:
            await send(message)

        await app(scope, receive, send_one)

    return stepped


def _listening(port: int) -> socket.socket:
    return socket.create_server(("127.0.0.1", port), backlog=2048)


SERVERS: dict[str, tuple[str, Serve]] = {  # by name: the package it needs, and how it serves
    "own": ("uvicorn", serve_own),
    "httptools": ("uvicorn", serve_httptools),
    "h11": ("h11", serve_h11),
    "hypercorn": ("hypercorn", serve_hypercorn),
    "granian": ("granian", serve_granian),
    "aiohttp": ("aiohttp", serve_aiohttp),
}


async def main() -> None:
    name, port, step_seconds = sys.argv[1:]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGKILL)
    logging.getLogger().setLevel(logging.WARNING)
    await SERVERS[name][1](make_app(float(step_seconds)), int(port))


if __name__ == "__main__":
    uvloop.run(main())
