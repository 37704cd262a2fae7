"""API server: speaks HTTP, owns no GPU, never loads torch.

Runs as:     lab:api-0, lab:api-1, …; lab:api-0-retiring once another has its place
Started by:  launcher, by spawn, with what its connections come out of (--accept: boundary/accept.py)
Receives:    connections; Tokens, EngineStats, EngineReady from every engine core; Loads from the coordinator;
             Addresses, Retire, Fatal from the launcher
Sends:       Generate, Abort to one engine core; Hello, Ready, Fatal to the launcher
Holds:       the listening socket (the launcher's own, by inheritance; reuseport: one of its own; handoff: a channel
             to the launcher instead), one ZeroMQ socket per direction, the counters
Dies when:   SIGTERM (running requests finish first, within --shutdown-timeout), launcher gone, any Fatal, Retire
             (SIGUSR1 to the launcher: once its last connection has ended)
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

import uvicorn
import uvloop
from setproctitle import setproctitle
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from lab_support import __version__
from lab_support.boundary.accept import Acceptor, make_acceptor
from lab_support.boundary.channels import ApiServerChannels
from lab_support.boundary.inheritance import ApiServerInheritance
from lab_support.boundary.lifeline import ExitCode
from lab_support.boundary.messages import Addresses, Fatal, FromLauncher, Hello, Ready, Retire, decoder, encode
from lab_support.boundary.open_connections import OpenConnections
from lab_support.boundary.room import NoRoom
from lab_support.boundary.start_method import RETIRING, TITLE_PREFIX
from lab_support.config import ConfigError, ServerConfig
from lab_support.frontend.engine_client import EngineClient
from lab_support.frontend.tokenizer import Tokenizer
from lab_support.log import set_up_log
from lab_support.model_folder import ModelFolder

if TYPE_CHECKING:
    from lab_support.frontend.middleware import Served

log = logging.getLogger("lab.api")

KEEP_ALIVE = 5  # seconds that an idle connection stays open, as in vLLM
FAREWELL = 0.5  # seconds that open streams get to carry away their error event


def main(name: str, control: Connection, config: ServerConfig, given: ApiServerInheritance) -> int:
    """Runs in the API server."""
    set_up_log(config.log_level, name)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    # Before prometheus_client is imported: it reads the variable once.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = given.metrics_directory
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one text at a time needs no pool of threads
    control.send_bytes(encode(Hello()))
    try:
        uvloop.run(ApiServer(name, control, config, given).run())
    except ConfigError as error:
        control.send_bytes(encode(Fatal(name, str(error), ExitCode.REFUSED)))
        return ExitCode.REFUSED
    except NoRoom as error:  # another one may find some later
        control.send_bytes(encode(Fatal(name, str(error))))
        return ExitCode.FAILED
    except Exception as error:
        log.exception("the API server failed")
        control.send_bytes(encode(Fatal(name, f"{type(error).__name__}: {error}")))
        return ExitCode.FAILED
    return ExitCode.STOPPED


class ApiServer:
    """One API server, from its first address to its last connection. All of it runs in one event loop."""

    def __init__(self, name: str, control: Connection, config: ServerConfig, given: ApiServerInheritance) -> None:
        self.name = name
        self.control = control
        self.config = config
        self.given = given
        self.folder = ModelFolder.open(config.model, config.load_format)
        self.tokenizer = Tokenizer.open(self.folder)
        self.engines_ready = asyncio.Event()
        self.http: HttpServer | None = None

    async def run(self) -> None:
        """Returns when the last connection is closed."""
        loop = asyncio.get_running_loop()
        addresses = decoder(FromLauncher).decode(await asyncio.to_thread(self.control.recv_bytes))
        assert isinstance(addresses, Addresses), addresses
        given, config = self.given, self.config
        with ApiServerChannels(given.inputs, given.outputs, addresses.loads) as channels:
            self.client = EngineClient(
                channels,
                given.entrance.slot,
                config.api_server_count,
                config.data_parallel_size,
                on_ready=self.engines_ready.set,
            )
            channels.watch(loop, self.client.on_message)
            loop.add_reader(self.control.fileno(), self.on_control)
            loop.add_signal_handler(signal.SIGTERM, self.drain)
            app = self.build_app()
            await self.engines_ready.wait()
            if self.client.fatal is None:
                await self.serve(app)

    def build_app(self) -> "Served":
        # Imported here, not above: prometheus_client wants PROMETHEUS_MULTIPROC_DIR to be set when it is imported.
        from lab_support.frontend.routes import Identity, build_app

        counters = self.given.counters.own(self.given.entrance.slot)
        identity = Identity(
            self.given.index,
            self.given.run_id,
            __version__,
            int(time.time()),
            {self.name: os.getpid()},
            engine_cores_started_by=self.given.engine_cores_started_by,
        )
        return build_app(self.config, self.folder, self.tokenizer, self.client, counters, identity)

    async def serve(self, app: "Served") -> None:
        self.app = app
        config = uvicorn.Config(
            app,  # type: ignore[arg-type]
            http=HttpConnection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE,
        )
        connections = OpenConnections(self.given.counters)
        acceptor = make_acceptor(self.config.accept, self.given.entrance, connections, self.config.backlog)
        self.http = HttpServer(config, acceptor, connections, on_started=self.tell_ready)
        await self.http.serve(sockets=[])
        app.publish()

    def tell_ready(self) -> None:
        self.control.send_bytes(encode(Ready({})))

    def on_control(self) -> None:
        """From the launcher. The end of the connection is the lifeline's matter."""
        try:
            message = decoder(FromLauncher).decode(self.control.recv_bytes())
        except (EOFError, ConnectionResetError):
            asyncio.get_running_loop().remove_reader(self.control.fileno())
            return
        if isinstance(message, Fatal):
            self.give_up(message)
        elif isinstance(message, Retire):
            self.retire()

    def retire(self) -> None:
        """Another API server has this one's place: finish all that runs, however long it takes, and cut nobody."""
        setproctitle(TITLE_PREFIX + self.name + RETIRING)
        assert self.http is not None
        self.app.close_connections()
        self.http.retire()

    def drain(self) -> None:
        """SIGTERM: take no more connections, finish what runs, and after --shutdown-timeout give it up."""
        timeout = self.config.shutdown_timeout
        if self.http is None:  # nobody has been accepted yet
            self.engines_ready.set()
            self.client.fatal = Fatal(self.name, "it was stopped before it was ready")
            return
        self.http.should_exit = True
        asyncio.get_running_loop().call_later(timeout, self.give_up, Fatal(self.name, "the server is shutting down"))

    def give_up(self, fatal: Fatal) -> None:
        """Tell all open streams why they end, then end."""
        self.client.fail(fatal)
        self.engines_ready.set()
        if self.http:
            self.http.should_exit = True
            asyncio.get_running_loop().call_later(FAREWELL, self.http.stop_waiting)


class HttpServer(uvicorn.Server):
    """uvicorn without signal handlers and without listeners of its own: `acceptor` brings the connections."""

    def __init__(
        self,
        config: uvicorn.Config,
        acceptor: Acceptor,
        connections: OpenConnections,
        on_started: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._acceptor = acceptor
        self._connections = connections
        self._on_started = on_started
        self._retiring = False

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The event loop has the handlers: a signal to the launcher means the whole server, not this process alone."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        await self._acceptor.start(self._make_protocol)
        self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if not self._retiring:
            self._acceptor.stop()
        await super().shutdown(sockets)

    def retire(self) -> None:
        """Take no more connections, and end when the last one has.

        A connection that is between two requests stays open, because its client may be sending just now: it ends with
        the next answer, which says so, or by the keep-alive timeout. uvicorn's own shutdown closes it at once.
        """
        self._acceptor.stop()
        self._retiring = True
        asyncio.get_running_loop().call_later(KEEP_ALIVE, self._close_silent)

    def _close_silent(self) -> None:
        """Connections on which nothing was ever asked have no keep-alive timeout that would end them."""
        for connection in list(self.server_state.connections):
            if connection.cycle is None:  # type: ignore[union-attr]
                connection.transport.close()

    async def on_tick(self, counter: int) -> bool:
        """uvicorn's, ten times a second. True: end."""
        return await super().on_tick(counter) or (self._retiring and not self._connections.count)

    def stop_waiting(self) -> None:
        """Leave clients that don't read their farewell."""
        self.force_exit = True

    def _make_protocol(self, on_lost: Callable[[], None]) -> asyncio.Protocol:
        connection = HttpConnection(self.config, self.server_state, self.lifespan.state)
        connection.on_lost = on_lost
        return connection


class HttpConnection(HttpToolsProtocol):
    """One connection of a client, which says when it has ended."""

    on_lost: Callable[[], None]

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.on_lost()
