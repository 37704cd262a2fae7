"""The real HTTP side on a real socket, in a thread of the test, with a fake engine behind it."""

import asyncio
import contextlib
import dataclasses
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

import requests
import uvloop

from lab_support.boundary.accept import OpenConnections, SharedAccept
from lab_support.boundary.counters import Counters
from lab_support.config import ServerConfig
from lab_support.frontend.http.http_server import HttpServer
from lab_support.frontend.http.memory import MemoryBudget
from lab_support.frontend.routes import Identity, build_app
from lab_support.frontend.text.tokenizer import Tokenizer
from lab_support.model_folder import ModelFolder
from tests.fakes import FakeCounters, FakeEngine

T = TypeVar("T")


@dataclass
class FakeServer:
    """A running API server with `engine` behind it. Calls that touch the engine go through `call`."""

    config: ServerConfig
    engine: FakeEngine
    counters: FakeCounters = field(default_factory=FakeCounters)
    port: int = 0
    loop: asyncio.AbstractEventLoop | None = None
    http: HttpServer | None = None
    connections: OpenConnections | None = None
    memory: MemoryBudget = field(default_factory=lambda: MemoryBudget(0))
    thread: threading.Thread = field(default_factory=threading.Thread)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, **options: Any) -> requests.Response:
        return requests.get(self.url + path, timeout=30, **options)

    def post(self, path: str, body: object = None, **options: Any) -> requests.Response:
        return requests.post(self.url + path, json=body, timeout=30, **options)

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        return requests.request(method, self.url + path, timeout=30, **options)

    @property
    def begun(self) -> int:
        """Requests whose headers have come and whose answers are not whole."""
        assert self.http is not None
        return len(self.http.server_state.tasks)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def call(self, function: Callable[[], T]) -> T:
        """The result of `function`, run by the server's event loop."""
        answer: Future[T] = Future()

        def run() -> None:
            try:
                answer.set_result(function())
            except BaseException as error:
                answer.set_exception(error)

        assert self.loop is not None
        self.loop.call_soon_threadsafe(run)
        return answer.result(30)

    def settle(self) -> None:
        """Returns when the server has seen all connections end that the test has closed."""
        http = self.http
        assert http is not None
        self.until(lambda: not http.server_state.connections)

    def until(self, condition: Callable[[], bool]) -> None:
        """Returns when `condition` holds in the server's event loop, looked at every millisecond."""

        async def watch() -> None:
            async with asyncio.timeout(30):
                while not condition():
                    await asyncio.sleep(0.001)

        assert self.loop is not None
        asyncio.run_coroutine_threadsafe(watch(), self.loop).result(30)


@contextlib.contextmanager
def serving(engine: FakeEngine | None = None, *, api_server_index: int = 0, **choices: Any) -> Iterator[FakeServer]:
    """A server made by `build_app`; `choices` are fields of `ServerConfig`. It has stopped when the block ends."""
    config = dataclasses.replace(ServerConfig(), **choices)
    server = FakeServer(config, engine or FakeEngine())
    started = threading.Event()

    async def run() -> None:
        server.loop = asyncio.get_running_loop()
        folder = ModelFolder.open(config.model, "dummy")
        identity = Identity(api_server_index, "run-of-a-test", "0.0", 1_700_000_000, {"api-0": 1})
        app = build_app(config, folder, Tokenizer.open(folder), server.engine.client, server.counters, identity)
        server.memory = app.memory
        with socket.create_server(("127.0.0.1", 0)) as listening, Counters(1) as counters:
            server.port = listening.getsockname()[1]
            server.connections = OpenConnections(counters.claim(0))
            acceptor = SharedAccept(listening, config.backlog, server.connections)
            server.http = HttpServer(app, acceptor, server.connections, on_started=started.set)
            await server.http.run_to_end()

    thread = server.thread = threading.Thread(target=uvloop.run, args=(run(),))
    thread.start()
    try:
        assert started.wait(30)
        yield server
    finally:
        if server.http is not None:
            server.http.should_exit = True
        thread.join(30)
